"""The coupled regime: the coupled field of a circuit (dynamics.field), shown a stream of presentations."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics import rounding
from dynamics.circuit import Circuit, Weights
from dynamics.collocation import nodes
from dynamics.delays import Delays, History
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, Signals, State
from dynamics.integrators import Adaptive, FixedStep, check_calculus
from dynamics.judge import Accuracy, Judge, accuracy_at_start
from dynamics.loop import Count, repeat
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime, Quality, Slow, check_circuit, check_dtypes
from dynamics.simulate import all_finite
from dynamics.stimulus import Clock, Held, Stream, held
from dynamics.timescales import Timescales
from dynamics.waveforms import Relaxation, Waves
from dynamics.window import Course, Past, Shown, Window
from dynamics.window_choice import Demands, choose, refined


class CoupledProgress(NamedTuple):
    """How far a coupled run has come: the state, the fixed matrices, the past that delays look back at, what rounding
    has left out of the weights, what is known of the error, and whether adaptive steps have always arrived."""

    state: State
    fixed: Weights
    history: History | Past | None
    low: Weights | None = None
    accuracy: Accuracy | None = None
    arrived: Bool[Array, ""] | None = None


class Coupled(AbstractRegime[CoupledProgress]):
    """A coupled run: a circuit that a stream of presentations is shown to. One period is `clock.steps` steps.

    `history` is the length of the delays' ring buffer, the largest lag in steps + 2; None: as long as the lags need,
    which must then be known and not traced. What windows leave open follows from the numbers of the run too. `key`
    drives the noise.
    """

    circuit: Circuit
    timescales: Timescales
    stream: Stream
    clock: Clock
    delays: Delays = Delays()
    noise: Noise = Noise()
    integrator: FixedStep | Adaptive | Window = FixedStep()
    key: PRNGKeyArray | None = None
    history: int = eqx.field(static=True, default=None)  # type: ignore[assignment]

    def __post_init__(self):
        if isinstance(self.integrator, Window):
            self.integrator = self._fitted(self.integrator)
        if self.history is None:
            self.history = self._needed_history()

    def __check_init__(self):
        check_circuit(self.circuit, self.timescales, self.stream.inputs, self.stream.targets)
        outputs = [layer.name for layer in self.circuit.layers if layer.role == "output"]
        alone = isinstance(self.integrator, Window) or self.delays.stages > 0
        if self.delays.error is not None and len(outputs) > 1 and alone:
            raise PlasticodeError(
                f"delays.error is not allowed with output layers {', '.join(outputs)} and the window integrator or "
                "delays.stages: it must be 0, or integrator.name euler, heun, tsit5 or dopri5"
            )
        delayed = any(lag is not None for lag in (self.delays.error, self.delays.hop, self.delays.input))
        delayed = delayed or any(p.lag is not None for p in self.circuit.projections)
        if isinstance(self.integrator, Adaptive):
            if delayed or self.noise.present:
                raise PlasticodeError(
                    "adaptive integration knows no delays and no noise: integrator.adaptive must be false"
                )
        else:
            self._check_history()
        if isinstance(self.integrator, FixedStep):
            if self.integrator.name == "milstein" and None not in (
                self.noise.synaptic,
                self.noise.synaptic_multiplicative,
            ):
                raise PlasticodeError(
                    "integrator 'milstein' allows one of noise.synaptic and noise.synaptic_multiplicative, not both"
                )
            check_calculus(self.integrator.name, self.noise.calculus, self.noise.synaptic_multiplicative is not None)
        if isinstance(self.integrator, Window) and not self.integrator.gaps and not isinstance(self.clock.gap, Tracer):
            if self.clock.gap > 0:
                raise PlasticodeError(
                    f"the windows have gaps = False, but the clock has a gap of {self.clock.gap:g} s: leave gaps out"
                )

    def _fitted(self, window: Window) -> Window:
        """The window with what it leaves open; where the numbers of the run are traced, a cautious choice."""
        times, x = self.timescales, self.stream.inputs
        if None not in (window.nodes, window.parts, window.gaps):
            return window
        decay = jnp.asarray(jnp.inf) if times.decay is None else times.decay
        numbers = self.clock.duration, self.clock.gap, times.propagation, times.plasticity, decay, x
        if any(isinstance(number, Tracer) for number in numbers):
            open_ = {"nodes": 12, "parts": 1, "gaps": True}
            return dataclasses.replace(window, **{k: v for k, v in open_.items() if getattr(window, k) is None})
        duration, gap, prop, plast, dec = (np.atleast_1d(np.min(number)).astype(float) for number in numbers[:-1])
        square = float(np.max(np.sum(np.square(np.asarray(x, float)), axis=1)))
        spacing = float(prop[0]) / 2 if self.noise.present else None
        return choose(window, Demands(duration, gap, prop, plast, dec, square, spacing))

    def _late(self) -> dict[str, Float[Array, ""]]:
        """Constant lags that look back at the past of signals, by what a user calls them."""
        if self.delays.stages > 0:
            return {}
        lags = {"delays.error": self.delays.error, "delays.hop": self.delays.hop}
        lags |= {f"the lag of '{p.name}'": p.lag for p in self.circuit.projections}
        return {name: lag for name, lag in lags.items() if lag is not None}

    def _needed_history(self) -> int:
        needed = 0
        for name, lag in self._late().items():
            late = lag / self.clock.dt
            if isinstance(late, Tracer):
                raise PlasticodeError(f"{name} is traced, so that nothing here can tell how long it is: give history")
            needed = max(needed, _steps_back(late))
        return needed

    def _check_history(self) -> None:
        """Refuses a ring buffer that is too short for the lags (for those that are known while tracing)."""
        for name, lag in self._late().items():
            late = lag / self.clock.dt
            known = not isinstance(late, Tracer)
            if known and late.min() < 0:
                raise PlasticodeError(f"{name} is {lag} s: it must be at least 0")
            needed = _steps_back(late) if known else 2
            if self.history < needed:
                raise PlasticodeError(f"history is {self.history} steps, but {name} needs at least {needed}")

    def _misled(self) -> Bool[Array, ""]:
        """Whether the run rests on a promise that its numbers break, which no one can see where they are traced."""
        broken = [jnp.zeros((), bool)]
        for lag in self._late().values():
            steps = lag / self.clock.dt
            broken.append((steps < 0) | (steps * (1 - 1e-6) > max(self.history - 2, 0)))
        if isinstance(self.integrator, Window) and not self.integrator.gaps:
            broken.append(self.clock.gap > 0)
        return functools.reduce(jnp.logical_or, broken)

    def init(self, weights: Weights) -> CoupledProgress:
        """The start: silent activities, given matrices (see `Circuit.initial_weights`)."""
        check_dtypes(self.clock.dt.dtype, weights, self.stream.inputs)
        fixed = {p.name for p in self.circuit.projections if p.init is not None and p.law is None}
        fixed = {name: weights[name] for name in sorted(fixed)}
        system = self.system(fixed)
        state = system.initial_state(weights)
        if isinstance(self.integrator, Window):
            past = self.integrator.start(system, state, max(-(-(self.history - 2) // self.clock.steps), 1))
            course = Course(state, rounding.nothing(state.weights), past)
            accuracy = accuracy_at_start(self.integrator, system, course)
            return CoupledProgress(state, fixed, past, course.low, accuracy)
        silent = Inputs(
            jnp.zeros(self.stream.inputs.shape[1], self.clock.dt.dtype),
            jnp.zeros_like(self._targets()[0]),
            jnp.zeros_like(self.clock.dt),
        )
        signals = system.signals(state, silent)
        past = History.of(signals, self.history) if signals else None
        arrived = jnp.asarray(True) if isinstance(self.integrator, Adaptive) else None
        return CoupledProgress(state, system.fixed, past, arrived=arrived)

    def advance(self, progress: CoupledProgress, first: Int[Array, ""], count: Count) -> CoupledProgress:
        """Shows presentations first .. first + count - 1."""
        system = self.system(progress.fixed)
        if isinstance(self.integrator, Window):
            return self._advance_by_windows(self.integrator, system, progress, first, count)
        if isinstance(self.integrator, Adaptive):
            return self._advance_adaptively(self.integrator, system, progress, first, count)
        solver = self.integrator

        def present(i: Int[Array, ""], carry: tuple[State, History | None]) -> tuple[State, History | None]:
            k, steps = first + jnp.asarray(i, jnp.int32), self.clock.steps
            return solver.run(system, *carry, self.inputs_at(k), k * steps, steps, self.key)

        state, history = repeat(count, present, (progress.state, progress.history))
        return CoupledProgress(state, progress.fixed, history)

    def _advance_adaptively(
        self, solver: Adaptive, system: CoupledSystem, progress: CoupledProgress, first: Array, count: Count
    ) -> CoupledProgress:
        def present(i: Int[Array, ""], carry: tuple) -> tuple:
            state, arrived = carry
            stimulus, target = self._shown(first + jnp.asarray(i, jnp.int32))
            on, off = jnp.ones_like(self.clock.dt), jnp.zeros_like(self.clock.dt)
            shown = Inputs(stimulus.values[0], target.values[0], on)
            blank = Inputs(jnp.zeros_like(stimulus.values[0]), jnp.zeros_like(target.values[0]), off)
            state, through = solver.run(system, state, shown, self.clock.on_steps)
            state, end = solver.run(system, state, blank, self.clock.steps - self.clock.on_steps)
            return state, arrived & through & end

        state, arrived = repeat(count, present, (progress.state, progress.arrived))
        return progress._replace(state=state, arrived=arrived)

    def _advance_by_windows(
        self, window: Window, system: CoupledSystem, progress: CoupledProgress, first: Array, count: Count
    ) -> CoupledProgress:
        assert not isinstance(progress.history, History) and progress.low is not None
        layout, judge = window.layout(system, progress.history), Judge.of(window, system, progress.history)

        def present(i: Int[Array, ""], carry: tuple[Course, Accuracy]) -> tuple[Course, Accuracy]:
            course, accuracy = carry
            k = first + jnp.asarray(i, jnp.int32)
            shown = self._arriving(window, system, k)
            after, doubt, _ = window.present(system, layout, course, shown, k, self.key)
            return after, judge.add(accuracy, course, after, doubt, shown, k)

        assert progress.accuracy is not None
        course = Course(progress.state, progress.low, progress.history)
        (state, low, past), accuracy = repeat(count, present, (course, progress.accuracy))
        return CoupledProgress(state, progress.fixed, past, low, accuracy)

    def _arriving(self, window: Window, system: CoupledSystem, k: Int[Array, ""]) -> dict[str, Shown]:
        return window.arrivals(system, self.stream, self._targets(), k)

    def probe_inside(
        self, progress: CoupledProgress, k: Int[Array, ""], probe: Callable[[Weights, Slow], PyTree[Array]]
    ) -> tuple[CoupledProgress, Float[Array, " times"], PyTree[Array]]:
        """Shows presentation k by windows and evaluates `probe(weights, slow)` at all of their nodes.

        Gives the progress after it, the times of the nodes in seconds from its start, and the probes, stacked.
        """
        window, past, system = self.integrator, progress.history, self.system(progress.fixed)
        if not isinstance(window, Window) or isinstance(past, History):
            raise PlasticodeError("probes inside a presentation need its waveforms: the integrator must be Window")
        assert progress.low is not None and progress.accuracy is not None
        layout, judge = window.layout(system, past), Judge.of(window, system, past)

        def report(solved: Relaxation, waves: Waves) -> PyTree[Array]:
            def at(node: Int[Array, ""]) -> PyTree[Array]:
                slow = jax.tree.map(lambda wave: wave[node], waves.slow)
                return probe({**progress.fixed, **solved.weights_at(waves.drive, node)}, slow)

            return jax.lax.map(at, jnp.arange(window.nodes))

        course, shown = Course(progress.state, progress.low, past), self._arriving(window, system, k)
        after, doubt, probes = window.present(system, layout, course, shown, k, self.key, report)
        accuracy = judge.add(progress.accuracy, course, after, doubt, shown, k)
        c = jnp.asarray(nodes(window.nodes), layout.start.dtype)
        times = layout.start[:, None] + layout.filters.length[:, None] * c[None]
        probes = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), probes)
        return CoupledProgress(after.state, progress.fixed, after.past, after.low, accuracy), times.ravel(), probes

    def weights(self, progress: CoupledProgress) -> Weights:
        """All matrices."""
        return {**progress.fixed, **progress.state.weights}

    def slow(self, progress: CoupledProgress) -> dict[str, Signals]:
        """All slow variables."""
        return progress.state.slow

    def quality(self, progress: CoupledProgress) -> Quality | None:
        """The window integrator's estimate against its tolerance; of adaptive steps, whether they have arrived."""
        if isinstance(self.integrator, Window):
            assert progress.accuracy is not None
            error, diverged = progress.accuracy.error(progress.state.weights), ~all_finite(progress.state.weights)
            error = jnp.where(self._misled(), jnp.inf, error)
            return Quality(error, (error <= self.integrator.tolerance) | diverged)
        if progress.arrived is not None:
            return Quality(jnp.full_like(self.clock.dt, jnp.nan), progress.arrived)
        return None

    def refined(self) -> "Coupled | None":
        """The same run by finer windows; None where there are none."""
        finer = refined(self.integrator) if isinstance(self.integrator, Window) else None
        return None if finer is None else dataclasses.replace(self, integrator=finer)

    def system(self, fixed: Weights) -> CoupledSystem:
        """The coupled field with the given fixed matrices."""
        return CoupledSystem(self.circuit, self.timescales, self.clock, self.delays, self.noise, fixed)

    def _targets(self) -> Float[Array, "samples outputs"]:
        targets = self.stream.targets
        return jnp.zeros((self.stream.inputs.shape[0], 1), self.clock.dt.dtype) if targets is None else targets

    def _shown(self, k: Int[Array, ""]) -> tuple[Held, Held]:
        """Stimulus and target during presentation k, late by the constant lags."""
        gamma = self.delays.stages > 0  # gamma lags are filters inside the field: the signals enter them at once
        signals = (self.stream.inputs, self.delays.input), (self._targets(), self.delays.error)
        stimulus, target = held([(v, None if gamma else lag) for v, lag in signals], self.stream, self.clock, k)
        return stimulus, target

    def inputs_at(self, k: Int[Array, ""]) -> Callable[[Float[Array, ""]], Inputs]:
        """The inputs during step j of presentation k, as a function of j."""
        stimulus, target = self._shown(k)
        return lambda j: Inputs(stimulus.over(j)[0], *target.over(j))


def _steps_back(late: Float[Array, ""]) -> int:
    """The length of a ring buffer that a lag of `late` steps needs."""
    return math.ceil(float(late.max()) * (1 - 1e-6)) + 2
