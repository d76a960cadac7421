"""The coupled regime: the coupled field of a circuit (dynamics.field), shown a stream of presentations."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dynamics import rounding, stepping
from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.delays import History
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Signals
from dynamics.fitting import check_gaps, check_history, check_steps, fitted, misled, needed_history
from dynamics.integrators import doubling as steps
from dynamics.integrators import judge as windows
from dynamics.integrators.adaptive import Adaptive
from dynamics.integrators.collocation import nodes
from dynamics.integrators.fixed_step import FixedStep
from dynamics.integrators.judge import Judge, accuracy_at_start
from dynamics.integrators.solvers import check_calculus
from dynamics.integrators.waveforms import Relaxation, Waves
from dynamics.integrators.window import Course, Shown, Window
from dynamics.integrators.window_choice import refined
from dynamics.loop import Count, repeat
from dynamics.regime import Quality, Slow, check_circuit, check_dtypes
from dynamics.simulate import all_finite


class Coupled(AbstractCoupled):
    """A coupled run: a circuit that a stream of presentations is shown to, by `integrator`."""

    def __post_init__(self):
        if isinstance(self.integrator, Window):
            self.integrator = fitted(self, self.integrator)
        if self.history is None:
            self.history = needed_history(self)

    def __check_init__(self):
        check_circuit(self.circuit, self.timescales, self.stream.inputs, self.stream.targets)
        outputs = [layer.name for layer in self.circuit.layers if layer.role == "output"]
        alone = isinstance(self.integrator, Window) or self.delays.stages > 0
        if self.delays.error is not None and len(outputs) > 1 and alone:
            raise PlasticodeError(
                f"delays.error is not allowed with output layers {', '.join(outputs)} and the window integrator or "
                "delays.stages: it must be 0, or integrator.name euler, heun, tsit5 or dopri5"
            )
        if isinstance(self.integrator, Adaptive):
            if self.delayed or self.noise.present:
                raise PlasticodeError(
                    "adaptive integration knows no delays and no noise: integrator.adaptive must be false"
                )
        else:
            check_history(self)
        if isinstance(self.integrator, FixedStep):
            if self.integrator.name == "milstein" and None not in (
                self.noise.synaptic,
                self.noise.synaptic_multiplicative,
            ):
                raise PlasticodeError(
                    "integrator 'milstein' allows one of noise.synaptic and noise.synaptic_multiplicative, not both"
                )
            check_steps(self)
            check_calculus(self.integrator.name, self.noise.calculus, self.noise.synaptic_multiplicative is not None)
        check_gaps(self)

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
            return CoupledProgress(state, fixed, past, accuracy, None, course.low)
        zero = jnp.zeros_like(self.clock.dt)
        if isinstance(self.integrator, Adaptive):
            low = rounding.nothing(stepping.sums(state))
            return CoupledProgress(state, fixed, None, steps.Accuracy(zero, zero), jnp.asarray(True), low)
        start, twins = stepping.begin(self, fixed, weights), stepping.twins_at_start(self, fixed, weights)
        return CoupledProgress(start.y, fixed, start.history, steps.Accuracy(zero, zero), None, start.low, twins)

    def advance(self, progress: CoupledProgress, first: Int[Array, ""], count: Count) -> CoupledProgress:
        """Shows presentations first .. first + count - 1."""
        if isinstance(self.integrator, Window):
            system = self.system(progress.fixed)
            return self._advance_by_windows(self.integrator, system, progress, first, count)
        if isinstance(self.integrator, Adaptive):
            return stepping.advance_adaptively(self, self.integrator, progress, first, count)
        return stepping.advance_by_steps(self, progress, first, count)

    def _advance_by_windows(
        self, window: Window, system: CoupledSystem, progress: CoupledProgress, first: Array, count: Count
    ) -> CoupledProgress:
        assert not isinstance(progress.history, History) and progress.low is not None
        layout, judge = window.layout(system, progress.history), Judge.of(window, system, progress.history)

        def present(i: Int[Array, ""], carry: tuple[Course, windows.Accuracy]) -> tuple[Course, windows.Accuracy]:
            course, accuracy = carry
            k = first + jnp.asarray(i, jnp.int32)
            shown = self._arriving(window, system, k)
            after, doubt, _ = window.present(system, layout, course, shown, k, self.key)
            return after, judge.add(accuracy, course, after, doubt, shown, k)

        assert isinstance(progress.accuracy, windows.Accuracy)
        course = Course(progress.state, progress.low, progress.history)
        (state, low, past), accuracy = repeat(count, present, (course, progress.accuracy))
        return progress._replace(state=state, history=past, low=low, accuracy=accuracy)

    def _arriving(self, window: Window, system: CoupledSystem, k: Int[Array, ""]) -> dict[str, Shown]:
        return window.arrivals(system, self.stream, self.targets(), k)

    def probe_inside(
        self, progress: CoupledProgress, k: Int[Array, ""], probe: Callable[[Weights, Slow], PyTree[Array]]
    ) -> tuple[CoupledProgress, Float[Array, " times"], PyTree[Array]]:
        """Shows presentation k by windows and evaluates `probe(weights, slow)` at all of their nodes.

        Gives the progress after it, the times of the nodes in seconds from its start, and the probes, stacked.
        """
        window, past, system = self.integrator, progress.history, self.system(progress.fixed)
        if not isinstance(window, Window) or isinstance(past, History):
            raise PlasticodeError("probes inside a presentation need its waveforms: the integrator must be Window")
        assert progress.low is not None and isinstance(progress.accuracy, windows.Accuracy)
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
        end = progress._replace(state=after.state, history=after.past, low=after.low, accuracy=accuracy)
        return end, times.ravel(), probes

    def weights(self, progress: CoupledProgress) -> Weights:
        """All matrices."""
        return {**progress.fixed, **progress.state.weights}

    def slow(self, progress: CoupledProgress) -> dict[str, Signals]:
        """All slow variables."""
        return progress.state.slow

    def quality(self, progress: CoupledProgress) -> Quality | None:
        """The estimate of the error against the tolerance; of adaptive steps also whether they have arrived."""
        accuracy, weights = progress.accuracy, progress.state.weights
        assert accuracy is not None
        error = jnp.where(misled(self), jnp.inf, accuracy.relative(weights))
        if progress.arrived is not None:  # weights are NaN where adaptive steps have not arrived
            return Quality(error, (error <= self.integrator.tolerance) & progress.arrived)
        return Quality(error, (error <= self.integrator.tolerance) | ~all_finite(weights))

    def refined(self) -> "Coupled | None":
        """The same run by finer windows, or in four times as many steps; None where there is nothing finer."""
        if isinstance(self.integrator, Adaptive):
            return None
        if isinstance(self.integrator, Window):
            window = refined(self.integrator)
            return None if window is None else dataclasses.replace(self, integrator=window)
        number = steps.finer(self.clock.steps, self.history)
        if number is None:
            return None
        return dataclasses.replace(self, clock=dataclasses.replace(self.clock, steps=number[0]), history=number[1])
