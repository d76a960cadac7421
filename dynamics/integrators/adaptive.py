"""Steps chosen by an error estimate, through `diffrax.diffeqsolve`: no delays, no noise."""

import dataclasses
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from dynamics import rounding
from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.inside import Seen, Sight
from dynamics.integrators.contract import AbstractIntegrator, Demands, Settings
from dynamics.integrators.doubling import Accuracy, difference, steps_within
from dynamics.integrators.solvers import SOLVERS, solver_named
from dynamics.integrators.terms import Base, Drift, Moment
from dynamics.regime import Quality, Slow
from dynamics.sides import mean
from dynamics.system import AbstractSystem

Sums = tuple[Weights, Slow]


class Adapted(NamedTuple):
    """What adaptive steps remember: the error so far, whether they have always arrived, and what rounding has taken
    from weights and slow variables."""

    accuracy: Accuracy
    arrived: Bool[Array, ""]
    low: Sums


class Adaptive(AbstractIntegrator):
    """Steps chosen by an error estimate (rtol, atol) with the embedded diffrax solver `name`. No delays, no noise.

    A presentation, or a gap, takes at most `max_steps`. Runs are `judged` by one with 10 times the rtol and atol,
    against the `tolerance` of the weights' change.
    """

    rtol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-6)
    atol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-8)
    name: str = eqx.field(static=True, default="tsit5")
    max_steps: int = eqx.field(static=True, default=4096)
    tolerance: float = eqx.field(static=True, default=1e-3)
    judged: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        fit = sorted(name for name, solver in SOLVERS.items() if solver.adaptive)
        if self.name not in fit:
            raise PlasticodeError(
                f"integrator '{self.name}' has no error estimate: with adaptive steps it must be one of "
                f"{', '.join(fit)}"
            )

    def init(self, run: AbstractCoupled, fixed: Weights, weights: Weights) -> CoupledProgress:
        state, zero = run.system(fixed).initial_state(weights), jnp.zeros_like(run.clock.dt)
        low = rounding.nothing(_sums(state))
        return CoupledProgress(state, fixed, Adapted(Accuracy(zero, zero), jnp.asarray(True), low))

    def ready(self, run: AbstractCoupled, progress: CoupledProgress) -> "Adaptive | None":
        """What judges a run: ten times the tolerance."""
        return dataclasses.replace(self, rtol=10 * self.rtol, atol=10 * self.atol) if self.judged else None

    def unjudged(self) -> "Adaptive":
        return dataclasses.replace(self, judged=False)

    def show(
        self, run: AbstractCoupled, ready: "Adaptive | None", progress: CoupledProgress, k: Int[Array, ""]
    ) -> CoupledProgress:
        """Presentation k, and once more with the tolerance of what judges it."""
        state, memory = progress.state, progress.memory
        phases = run.phases(k)
        end, ok = self._through(run, progress.fixed, state, phases)
        total, low = rounding.add(_sums(state), memory.low, _sums(end))
        accuracy = memory.accuracy
        if ready is not None:
            other = ready._through(run, progress.fixed, state, phases)[0]
            still = jax.tree.map(jnp.zeros_like, state.weights), None
            judged = difference(still, (end.weights, None), (other.weights, None), None, jnp.ones_like(run.clock.dt))
            accuracy = jax.tree.map(jnp.add, accuracy, judged)
        return progress._replace(state=_with_sums(end, total), memory=Adapted(accuracy, memory.arrived & ok, low))

    def watch(
        self,
        run: AbstractCoupled,
        ready: "Adaptive | None",
        progress: CoupledProgress,
        k: Int[Array, ""],
        shares: Float[np.ndarray | Array, " times"],
        sight: Sight,
    ) -> tuple[CoupledProgress, Seen]:
        """The presentation is integrated once more, to be looked at."""
        system, state, clock = run.system(progress.fixed), progress.state, run.clock
        still = jax.tree.map(jnp.zeros_like, state)
        base, start = _with_sums(still, _sums(state)), _with_sums(state, _sums(still))
        at, on, found = jnp.asarray(shares, clock.dt.dtype) * clock.steps, clock.on_steps, []
        spans = (jnp.zeros_like(on), on), (on, jnp.asarray(clock.steps, on.dtype))
        for inputs, (begin, end) in zip(run.phases(k), spans, strict=True):

            def see(t: Float[Array, ""], y: State, args: Moment) -> Seen:
                whole = jax.tree.map(jnp.add, base, y)
                return sight.of_field(system, whole, args.inputs, args.look(t, clock.dt))

            times = diffrax.SubSaveAt(ts=within(at, begin, end), fn=see)
            saved = diffrax.SaveAt(subs=[diffrax.SubSaveAt(t1=True), times])
            (last, seen), _ = self._solved(system, start, inputs, end - begin, base, saved)
            start = jax.tree.map(lambda leaf: leaf[-1], last)
            found.append(seen)
        late = (at >= on * (1 - 8 * jnp.finfo(on.dtype).eps)) & (clock.gap > 0)
        return self.show(run, ready, progress, k), jax.tree.map(
            lambda first, second: jnp.where(late.reshape(-1, *[1] * (first.ndim - 1)), second, first), *found
        )

    def _through(
        self, run: AbstractCoupled, fixed: Weights, state: State, phases: tuple[Inputs, Inputs]
    ) -> tuple[State, Bool[Array, ""]]:
        """A presentation and its gap, with the change of weights and slow variables in place of these."""
        system = run.system(fixed)
        still = jax.tree.map(jnp.zeros_like, state)
        base, start = _with_sums(still, _sums(state)), _with_sums(state, _sums(still))
        middle, one = self.run(system, start, phases[0], run.clock.on_steps, base)
        end, other = self.run(system, middle, phases[1], run.clock.steps - run.clock.on_steps, base)
        return end, one & other

    def quality(self, run: AbstractCoupled, progress: CoupledProgress) -> Quality:
        """Weights are NaN where steps have not arrived."""
        if not self.judged:
            return Quality.unknown(run.clock.dt.dtype)
        memory = progress.memory
        error = memory.accuracy.relative(progress.state.weights)
        return Quality(error, (error <= self.tolerance) & memory.arrived)

    def planned(self, settings: Settings, demands: Demands) -> tuple["Adaptive", int]:
        """The first step is at most integrator.dt."""
        steps = steps_within(float(demands.period.max()), settings.dt, even=False)
        numbers = jnp.asarray(settings.rtol), jnp.asarray(settings.atol)
        return Adaptive(*numbers, self.name, settings.max_steps, settings.tolerance), steps

    def run(
        self, system: AbstractSystem, y: PyTree, inputs: PyTree, steps: Float[Array, ""], base: PyTree | None = None
    ) -> tuple[PyTree, Bool[Array, ""]]:
        """Integrates over `steps` steps of `system.dt` with constant `inputs`: the end, and whether it was reached.

        Where it was not, the end is NaN. The state is `base` + y: a slow variable whose y starts from zero is not
        rounded to its own size, and its errors are measured by its change.
        """
        base = jax.tree.map(jnp.zeros_like, y) if base is None else base
        ends, arrived = self._solved(system, y, inputs, steps, base, diffrax.SaveAt(t1=True))
        return jax.tree.map(lambda leaf: leaf[-1], ends), arrived

    def _solved(
        self,
        system: AbstractSystem,
        y: PyTree,
        inputs: PyTree,
        steps: Float[Array, ""],
        base: PyTree,
        saved: diffrax.SaveAt,
    ) -> tuple[PyTree, Bool[Array, ""]]:
        """As `run`, with all that is `saved`."""
        controller = diffrax.PIDController(rtol=self.rtol, atol=self.atol)
        if isinstance(system, CoupledSystem) and system.sides > 1:  # all sides take the same steps
            one, sides = controller.norm, system.sides
            controller = dataclasses.replace(controller, norm=lambda y: jnp.sqrt(mean(jnp.square(one(y)), sides)))
        zero = jnp.zeros_like(system.dt)
        moment = Moment(inputs, None, jnp.int32(0), zero)
        solution = diffrax.diffeqsolve(
            Drift(system, Base(base)),
            solver_named(self.name),
            t0=zero,
            t1=steps.astype(zero.dtype),
            dt0=jnp.minimum(jnp.ones_like(zero), jnp.maximum(steps.astype(zero.dtype), jnp.finfo(zero.dtype).eps)),
            y0=y,
            args=moment,
            saveat=saved,
            stepsize_controller=controller,
            adjoint=diffrax.ForwardMode(),
            max_steps=self.max_steps,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        assert solution.ys is not None
        return jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf), solution.ys), ~failed


def within(at: Float[Array, " times"], begin: Float[Array, ""], end: Float[Array, ""]) -> Float[Array, " times"]:
    """Those of some times that lie in a span, from its start on; earlier and later ones as its ends.

    Its end is a rounding earlier: compiled, its length may be rounded elsewhere, and the solver then ends before it.
    """
    least = 4 * jnp.finfo(at.dtype).eps * end
    return jnp.clip(at - begin, 0, jnp.maximum(end - begin - least, 0))


def _sums(state: State) -> Sums:
    """What grows by small changes: weights and slow variables."""
    return state.weights, state.slow


def _with_sums(state: State, total: Sums) -> State:
    return dataclasses.replace(state, weights=total[0], slow=total[1])
