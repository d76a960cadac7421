"""The coupled regime: the coupled field of a circuit (dynamics.field), shown a stream of presentations."""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics.activations import activation
from dynamics.circuit import Circuit, Weights
from dynamics.collocation import nodes
from dynamics.delays import Delays, History
from dynamics.doubling import difference, order_of, twin_steps
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, Signals, State
from dynamics.integrators import Adaptive, FixedStep, Point, check_calculus, solver_named
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime, Quality, Slow, check_dtypes
from dynamics.rounding import add, nothing
from dynamics.simulate import all_finite
from dynamics.stimulus import Clock, Held, Stream, held
from dynamics.timescales import Timescales
from dynamics.waveforms import Relaxation, Waves
from dynamics.window import Carry, Past, Window
from dynamics.window_solver import Accuracy


class CoupledProgress(NamedTuple):
    """How far a coupled run has come: the state, the fixed matrices, the past that delays look back at, what the
    estimates of the error say, and whether adaptive steps have always arrived; what rounding has taken from the state;
    and of every twin that judges fixed steps (dynamics.doubling) all but its weights."""

    state: State
    fixed: Weights
    history: History | Past | None
    accuracy: Accuracy | None = None
    arrived: Bool[Array, ""] | None = None
    low: PyTree = None
    twins: tuple[Point, ...] = ()


class Coupled(AbstractRegime[CoupledProgress]):
    """A coupled run: a circuit that a stream of presentations is shown to. One period is `clock.steps` steps.

    `history` is the length of the delays' ring buffer: at least the largest lag in steps + 2. `key` drives the noise.
    """

    circuit: Circuit
    timescales: Timescales
    stream: Stream
    clock: Clock
    delays: Delays = Delays()
    noise: Noise = Noise()
    integrator: FixedStep | Adaptive | Window = FixedStep()
    key: PRNGKeyArray | None = None
    history: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        outputs = [layer.name for layer in self.circuit.layers if layer.role == "output"]
        alone = isinstance(self.integrator, Window) or self.delays.stages > 0
        if self.delays.error is not None and len(outputs) > 1 and alone:
            raise PlasticodeError(
                f"delays.error is not allowed with output layers {', '.join(outputs)} and the window integrator or "
                "delays.stages: it must be 0, or integrator.name euler, heun, tsit5 or dopri5"
            )
        if isinstance(self.integrator, Adaptive):
            if self._delayed or self.noise.present:
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
            self._check_steps()
            check_calculus(self.integrator.name, self.noise.calculus, self.noise.synaptic_multiplicative is not None)

    def _check_steps(self) -> None:
        """Refuses steps that are seen to be unstable."""
        dt, tau = self.clock.dt, self.timescales.propagation
        # Twice as much would do, but a twin of what is still stable is a run too.
        if isinstance(dt, Tracer) or isinstance(tau, Tracer) or bool(dt.max() <= 4 * tau.min() * (1 + 1e-6)):
            return
        raise PlasticodeError(
            f"clock.steps is {self.clock.steps}, which gives steps of {float(dt.max()):g} s, with "
            f"timescales.propagation = {float(tau.min()):g} s: explicit steps are unstable above twice that, so there must be more steps"
        )

    def _check_history(self) -> None:
        """Refuses a ring buffer that is too short for the lags (for those that are known while tracing)."""
        lags = {"delays.error": self.delays.error, "delays.hop": self.delays.hop}
        lags |= {f"the lag of '{p.name}'": p.lag for p in self.circuit.projections}
        for name, lag in lags.items():
            if lag is None or self.delays.stages > 0:
                continue
            late = lag / self.clock.dt
            known = not isinstance(late, Tracer)
            if known and late.min() < 0:
                raise PlasticodeError(f"{name} is {lag} s: it must be at least 0")
            needed = math.ceil(float(late.max()) * (1 - 1e-6)) + 2 if known else 2
            if self.history < needed:
                raise PlasticodeError(f"history is {self.history} steps, but {name} needs at least {needed}")

    def init(self, weights: Weights) -> CoupledProgress:
        """The start: silent activities, given matrices (see `Circuit.initial_weights`)."""
        check_dtypes(self.clock.dt.dtype, weights, self.stream.inputs)
        fixed = {p.name for p in self.circuit.projections if p.init is not None and p.law is None}
        fixed = {name: weights[name] for name in sorted(fixed)}
        system = self.system(fixed)
        state = system.initial_state(weights)
        if isinstance(self.integrator, Window):
            periods = -(-(self.history - 2) // self.clock.steps)
            zero = jnp.zeros_like(self.clock.dt)
            return CoupledProgress(state, fixed, self.integrator.start(system, state, periods), Accuracy(zero, zero))
        zero = jnp.zeros_like(self.clock.dt)
        if isinstance(self.integrator, Adaptive):
            low = nothing(_sums(state))
            return CoupledProgress(state, fixed, None, Accuracy(zero, zero), jnp.asarray(True), low)
        start, twins = self._begin(fixed, weights), self._twins()
        others = tuple(_without_weights(twin._begin(fixed, weights)) for twin in twins)
        return CoupledProgress(start.y, fixed, start.history, Accuracy(zero, zero), None, start.low, others)

    def _begin(self, fixed: Weights, weights: Weights) -> Point:
        """The start of fixed steps."""
        system = self.system(fixed)
        state = system.with_paths(system.initial_state(weights))
        silent = Inputs(
            jnp.zeros(self.stream.inputs.shape[1], self.clock.dt.dtype),
            jnp.zeros_like(self._targets()[0]),
            jnp.zeros_like(self.clock.dt),
        )
        signals = system.signals(state, silent)
        assert isinstance(self.integrator, FixedStep)
        return self.integrator.begin(state, History.of(signals, self.history) if signals else None)

    def advance(self, progress: CoupledProgress, first: Int[Array, ""], count: int | Int[Array, ""]) -> CoupledProgress:
        """Shows presentations first .. first + count - 1."""
        system = self.system(progress.fixed)
        if isinstance(self.integrator, Window):
            return self._advance_by_windows(self.integrator, system, progress, first, count)
        if isinstance(self.integrator, Adaptive):
            return self._advance_adaptively(self.integrator, system, progress, first, count)
        return self._advance_by_steps(progress, first, count)

    def _advance_by_steps(
        self, progress: CoupledProgress, first: Int[Array, ""], count: int | Int[Array, ""]
    ) -> CoupledProgress:
        fixed, twins = progress.fixed, jax.lax.stop_gradient(self._twins())

        def present(i: Int[Array, ""], carry: tuple) -> tuple:
            (start, others, accuracy), k = carry, first + jnp.asarray(i, jnp.int32)
            end = self._presented(start, fixed, k)
            before, given, after = jax.lax.stop_gradient((start, fixed, end))  # estimates have no derivatives
            ends = [after]
            for twin, other in zip(twins, others, strict=True):
                joined = max(self.clock.steps // twin.clock.steps, 1)
                ends.append(twin._presented(_with_weights(other, *_weights_of(before)), given, k, joined))
            parts = map(_weights_of, (before, *ends[-2:]))
            judged = difference(*parts, (self.clock.steps, twins[-1].clock.steps), self._order())
            accuracy = jax.tree.map(jnp.add, accuracy, judged)
            return end, tuple(map(_without_weights, ends[1:])), accuracy

        start = Point(progress.state, progress.low, cast("History | None", progress.history))
        end, others, accuracy = jax.lax.fori_loop(0, count, present, (start, progress.twins, progress.accuracy))
        return CoupledProgress(end.y, fixed, end.history, accuracy, None, end.low, others)

    def _presented(self, at: Point, fixed: Weights, k: Int[Array, ""], joined: int = 1) -> Point:
        """Presentation k in fixed steps, each with the noise of `joined` steps of the run that this is a twin of."""
        assert isinstance(self.integrator, FixedStep)
        steps = self.clock.steps
        return self.integrator.run(self.system(fixed), at, self.inputs_at(k), k * steps, steps, self.key, joined)

    def _twins(self) -> tuple["Coupled", ...]:
        """The runs that judge this one, in fixed steps: the last two differ in the length of their steps alone."""
        steps, noise = twin_steps(self.clock.steps), dataclasses.replace(self.noise, activity=None, error=None)
        if noise.present and self.clock.steps % 2:
            raise PlasticodeError(f"clock.steps is {self.clock.steps}: with noise of the weights it must be even")
        longest = -(-(self.history - 2) * steps // self.clock.steps) + 2 if self.history else 0
        # Milstein's method is Euler's where nothing multiplies the noise, and refuses to run without any.
        integrator = self.integrator
        if integrator.name == "milstein" and not noise.present:
            integrator = dataclasses.replace(integrator, name="euler")
        quiet = dataclasses.replace(self, noise=noise, integrator=integrator)
        time = Clock(self.clock.duration, self.clock.gap, steps)
        coarse = dataclasses.replace(quiet, clock=time, history=longest)
        return (coarse,) if self.noise.activity is None and self.noise.error is None else (quiet, coarse)

    def _order(self) -> Float[Array, ""]:
        """The order of the error of fixed steps."""
        kinks = not all(activation(layer.activation).smooth for layer in self.circuit.layers if not layer.clamped)
        lags = self.delays.stages == 0 and self._delayed
        inside = jnp.abs(self.clock.on_steps - jnp.round(self.clock.on_steps)) > 1e-3  # the stimulus ends in a step
        strong = None
        if self.noise.synaptic is not None or self.noise.synaptic_multiplicative is not None:
            strong = 1.0
        if self.noise.synaptic_multiplicative is not None and self.integrator.name == "euler":
            strong = 0.5
        return order_of(solver_named(self.integrator.name), kinks, inside | lags, strong)

    @property
    def _delayed(self) -> bool:
        """Whether anything is late."""
        delayed = any(lag is not None for lag in (self.delays.error, self.delays.hop, self.delays.input))
        return delayed or any(p.lag is not None for p in self.circuit.projections)

    def _advance_adaptively(
        self, solver: Adaptive, system: CoupledSystem, progress: CoupledProgress, first: Array, count: int | Array
    ) -> CoupledProgress:
        on, off = jnp.ones_like(self.clock.dt), jnp.zeros_like(self.clock.dt)
        looser = dataclasses.replace(solver, rtol=10 * solver.rtol, atol=10 * solver.atol)

        def through(solver: Adaptive, state: State, x: Array, y: Array) -> tuple[State, Array]:
            """A presentation and its gap, with the change of weights and slow variables in place of these."""
            still = jax.tree.map(jnp.zeros_like, state)
            base, start = _with_sums(still, _sums(state)), _with_sums(state, _sums(still))
            middle, first = solver.run(system, start, Inputs(x, y, on), self.clock.on_steps, base)
            blank = Inputs(jnp.zeros_like(x), jnp.zeros_like(y), off)
            end, second = solver.run(system, middle, blank, self.clock.steps - self.clock.on_steps, base)
            return end, first & second

        def present(i: Int[Array, ""], carry: tuple) -> tuple:
            state, low, arrived, accuracy = carry
            shown = [held.values[0] for held in self._shown(first + jnp.asarray(i, jnp.int32))]
            end, ok = through(solver, state, *shown)
            other = through(looser, state, *shown)[0]
            still = jax.tree.map(jnp.zeros_like, state.weights), None
            judged = difference(still, (end.weights, None), (other.weights, None), None, on)
            sums, low = add(_sums(state), low, _sums(end))
            return _with_sums(end, sums), low, arrived & ok, jax.tree.map(jnp.add, accuracy, judged)

        start = progress.state, progress.low, progress.arrived, progress.accuracy
        state, low, arrived, accuracy = jax.lax.fori_loop(0, count, present, start)
        return progress._replace(state=state, low=low, arrived=arrived, accuracy=accuracy)

    def _advance_by_windows(
        self, window: Window, system: CoupledSystem, progress: CoupledProgress, first: Array, count: int | Array
    ) -> CoupledProgress:
        assert not isinstance(progress.history, History)
        layout = window.layout(system, progress.history)

        def present(i: Int[Array, ""], carry: Carry) -> Carry:
            k = first + jnp.asarray(i, jnp.int32)
            return window.present(system, layout, carry, self._arriving(window, system, k), k, self.key)[0]

        assert progress.accuracy is not None
        carry = (progress.state, progress.history, progress.accuracy)
        state, history, accuracy = jax.lax.fori_loop(0, count, present, carry)
        return CoupledProgress(state, progress.fixed, history, accuracy)

    def _arriving(self, window: Window, system: CoupledSystem, k: Int[Array, ""]) -> dict[str, Held]:
        return window.arrivals(system, self.stream, self._targets(), k)

    def probe_inside(
        self, progress: CoupledProgress, k: Int[Array, ""], probe: Callable[[Weights, Slow], PyTree[Array]]
    ) -> tuple[CoupledProgress, Float[Array, " times"], PyTree[Array]]:
        """Shows presentation k by windows and evaluates `probe(weights, slow)` at all of their nodes.

        Gives the progress after it, the times of the nodes in seconds from its start, and the probes, stacked.
        """
        window, past, system = self.integrator, progress.history, self.system(progress.fixed)
        if not isinstance(window, Window) or isinstance(past, History) or progress.accuracy is None:
            raise PlasticodeError("probes inside a presentation need its waveforms: the integrator must be Window")
        layout = window.layout(system, past)

        def report(solved: Relaxation, waves: Waves) -> PyTree[Array]:
            def at(node: Int[Array, ""]) -> PyTree[Array]:
                slow = jax.tree.map(lambda wave: wave[node], waves.slow)
                return probe({**progress.fixed, **solved.weights_at(waves.drive, node)}, slow)

            return jax.lax.map(at, jnp.arange(window.nodes))

        carry, shown = (progress.state, past, progress.accuracy), self._arriving(window, system, k)
        (state, past, accuracy), probes = window.present(system, layout, carry, shown, k, self.key, report)
        c = jnp.asarray(nodes(window.nodes), layout.start.dtype)
        times = layout.start[:, None] + layout.filters.length[:, None] * c[None]
        probes = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), probes)
        return CoupledProgress(state, progress.fixed, past, accuracy), times.ravel(), probes

    def weights(self, progress: CoupledProgress) -> Weights:
        """All matrices."""
        return {**progress.fixed, **progress.state.weights}

    def slow(self, progress: CoupledProgress) -> dict[str, Signals]:
        """All slow variables."""
        return progress.state.slow

    def quality(self, progress: CoupledProgress) -> Quality | None:
        """The estimate of the error against the tolerance; of adaptive steps also whether they have arrived."""
        assert progress.accuracy is not None
        error, diverged = progress.accuracy.relative, ~all_finite(progress.state.weights)
        if isinstance(self.integrator, Adaptive):  # its weights are NaN where it has not arrived
            return Quality(error, (error <= self.integrator.tolerance) & progress.arrived)
        return Quality(error, (error <= self.integrator.tolerance) | diverged)

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


def _sums(state: State) -> tuple[Weights, Slow]:
    """What grows by small changes: weights and slow variables."""
    return state.weights, state.slow


def _with_sums(state: State, sums: tuple[Weights, Slow]) -> State:
    return dataclasses.replace(state, weights=sums[0], slow=sums[1])


def _weights_of(point: Point) -> tuple[Weights, Weights | None]:
    return point.y.weights, None if point.low is None else point.low.weights


def _with_weights(point: Point, weights: Weights, low: Weights | None) -> Point:
    """The point with other weights."""
    lost = None if point.low is None else dataclasses.replace(point.low, weights=low)
    return Point(dataclasses.replace(point.y, weights=weights), lost, point.history)


def _without_weights(point: Point) -> Point:
    return _with_weights(point, {}, {})
