"""Steps of equal size: one compiled loop around `solver.step`, with the past that delays look back at in the carry."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.delays import History
from dynamics.errors import PlasticodeError
from dynamics.field import Inputs
from dynamics.history import misled
from dynamics.inside import Seen, Sight
from dynamics.integrators.contract import AbstractIntegrator, Demands, Finer, Settings
from dynamics.integrators.doubling import Accuracy, difference, finer, order_of, steps_within, twin_steps
from dynamics.integrators.solvers import SOLVERS, check_calculus, check_noise, solver_named
from dynamics.integrators.terms import Base, Diffusion, Drift, Moment, stepped, stirred_by
from dynamics.loop import UpTo, repeat
from dynamics.noise import required_key
from dynamics.regime import Quality
from dynamics.rounding import add, nothing
from dynamics.simulate import all_finite
from dynamics.stimulus import Clock
from dynamics.system import AbstractSystem

SHORT = 3000  # steps in a time constant of the weights: rounding then takes less than 1e-4 of their change in float32


class Point(NamedTuple):
    """Where an integration is: y, what rounding has taken from it so far (None: not known), and the past."""

    y: PyTree
    low: PyTree | None
    history: History | None


class Stepped(NamedTuple):
    """What fixed steps remember: the past, the error so far, what rounding has taken from the state (None: not known),
    and of every twin that judges them (integrators.doubling) all but its weights."""

    history: History | None
    accuracy: Accuracy
    low: PyTree
    twins: tuple[Point, ...]


class FixedStep(AbstractIntegrator):
    """Steps of equal size with the diffrax solver `name`; delays and noise are allowed.

    Noise of activities and errors has an exact update, and the solver sees its course during a step as a straight line:
    a variable that it drives has a variance of the solver's order in dt, at most the second (pathwise: the first).

    tolerance    what the regimes hold their estimates of the error against (integrators.doubling)
    compensated  sums lose nothing to rounding (dynamics.rounding): weights that hardly change in a step learn in
                 float32 what they learn in float64. An Euler step of large matrices takes twice as long; without it a
                 change of 1e-4 of the weights in a time constant of n steps is wrong by about 5e-9 n
    judged       whether a twin judges them, in half as many steps: where none does, nothing is known of the error
    """

    delays: ClassVar[bool] = True
    noise: ClassVar[bool] = True
    explicit: ClassVar[bool] = True
    flows: ClassVar[bool] = True

    name: str = eqx.field(static=True, default="euler")
    tolerance: float = eqx.field(static=True, default=1e-3)
    compensated: bool = eqx.field(static=True, default=True)
    judged: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        solver_named(self.name)

    @property
    def calculi(self) -> tuple[str, ...]:
        return (SOLVERS[self.name].calculus,)

    @property
    def for_noise(self) -> bool:
        return SOLVERS[self.name].noiseless is not None

    @property
    def sampling(self) -> bool:
        return SOLVERS[self.name].sampling

    @property
    def adaptive(self) -> bool:
        return SOLVERS[self.name].adaptive

    def check(self, run: AbstractCoupled) -> None:
        kinds = [f"noise.{name}" for name in run.noise.on_synapses]
        if len(kinds) > 1 and not SOLVERS[self.name].together:
            raise PlasticodeError(f"integrator '{self.name}' allows one of {' and '.join(kinds)}, not both")
        _check_steps(run)
        check_calculus(self.name, run.noise.calculus, run.noise.multiplied)
        super().check(run)

    def init(self, run: AbstractCoupled, fixed: Weights, weights: Weights) -> CoupledProgress:
        check_noise(self.name, run.noise.present)
        start, zero = self._start(run, fixed, weights), jnp.zeros_like(run.clock.dt)
        twins = tuple(_without_weights(self._start(twin, fixed, weights)) for twin in _twins(run))
        return CoupledProgress(start.y, fixed, Stepped(start.history, Accuracy(zero, zero), start.low, twins))

    def ready(self, run: AbstractCoupled, progress: CoupledProgress) -> tuple[AbstractCoupled, ...]:
        """The twins of the run: estimates have no derivatives."""
        return jax.lax.stop_gradient(_twins(run))

    def show(
        self,
        run: AbstractCoupled,
        ready: tuple[AbstractCoupled, ...],
        progress: CoupledProgress,
        k: Int[Array, ""],
    ) -> CoupledProgress:
        fixed, memory = progress.fixed, progress.memory
        start = Point(progress.state, memory.low, memory.history)
        end = self._presented(run, start, fixed, k)
        if not ready:
            return CoupledProgress(end.y, fixed, Stepped(end.history, memory.accuracy, end.low, ()))
        before, given, after, stream = jax.lax.stop_gradient((start, fixed, end, run.stream))
        ends = [after]
        for made, other in zip(ready, memory.twins, strict=True):
            twin = dataclasses.replace(made, stream=stream) if run.batch > 1 else made  # as this side sees it
            joined = max(run.clock.steps // twin.clock.steps, 1)
            ends.append(self._presented(twin, _with_weights(other, *_weights_of(before)), given, k, joined))
        was, now, then = map(_weights_of, (before, *ends[-2:]))
        judged = difference(was, now, then, (run.clock.steps, ready[-1].clock.steps), self._order(run))
        accuracy = jax.tree.map(jnp.add, memory.accuracy, jax.lax.stop_gradient(judged))
        twins = tuple(map(_without_weights, ends[1:]))
        return CoupledProgress(end.y, fixed, Stepped(end.history, accuracy, end.low, twins))

    def watch(
        self,
        run: AbstractCoupled,
        ready: tuple[AbstractCoupled, ...],
        progress: CoupledProgress,
        k: Int[Array, ""],
        shares: Float[np.ndarray | Array, " times"],
        sight: Sight,
    ) -> tuple[CoupledProgress, Seen]:
        """The presentation is integrated once more, to be looked at: what else is known of the run does not change."""
        system, inputs_at, dt = run.system(progress.fixed), run.inputs_at(k), run.clock.dt
        still = jax.tree.map(jnp.zeros_like, progress.state)
        drift = Drift(system, Base(still))
        step, share, most = samples_of(shares, run.clock.steps)

        def moved(at: Point, j: Int[Array, ""]) -> Point:
            start = jnp.asarray(j, dt.dtype)
            return self.run(system, at, lambda i: inputs_at(start + i), k * run.clock.steps + j, 1, run.key)

        def seen(carry: tuple[Point, Array], sample: tuple[Array, Array, Array]) -> tuple[tuple[Point, Array], Seen]:
            (at, done), (j, share, count) = carry, sample
            at = repeat(count if most is None else UpTo(count, most), lambda i, at: moved(at, done + i), at)
            after, start = moved(at, j), jnp.asarray(j, dt.dtype)
            now = Moment(inputs_at(start), after.history, k * run.clock.steps + j, start)
            slopes = None
            if not system.noise.present:  # whose course within a step is a straight line
                slopes = drift.vf(start, at.y, now), drift.vf(start + 1, after.y, now)
            y = between(at.y, after.y, slopes, share, dt)
            return (at, j), sight.of_field(system, y, now.inputs, now.look(share, dt))

        begin = Point(progress.state, progress.memory.low, progress.memory.history)
        counts = jnp.diff(step, prepend=0)
        _, found = jax.lax.scan(seen, (begin, jnp.int32(0)), (step, share.astype(dt.dtype), counts))
        return self.show(run, ready, progress, k), found

    def unjudged(self) -> "FixedStep":
        return dataclasses.replace(self, judged=False)

    def quality(self, run: AbstractCoupled, progress: CoupledProgress) -> Quality:
        if not self.judged:
            return Quality.unknown(run.clock.dt.dtype)
        weights = progress.state.weights
        error = jnp.where(misled(run), jnp.inf, progress.memory.accuracy.relative(weights))
        return Quality(error, (error <= self.tolerance) | ~all_finite(weights))

    def planned(self, settings: Settings, demands: Demands) -> tuple["FixedStep", int]:
        """Steps of at most integrator.dt; sums are compensated where weights change little in one."""
        period = demands.period
        steps = steps_within(float(period.max()), settings.dt, demands.shared)
        slow = settings.dtype == "float32" and demands.slowest * steps > SHORT * float(period.min())
        return FixedStep(self.name, settings.tolerance, slow), steps

    def finer(self, steps: int, history: int, dtype: np.dtype) -> Finer | None:
        """Four times as many steps. In float32 their sums have to be compensated."""
        number = finer(steps, history)
        if number is None:
            return None
        return Finer(dataclasses.replace(self, compensated=self.compensated or dtype == np.float32), *number)

    def _start(self, run: AbstractCoupled, fixed: Weights, weights: Weights) -> Point:
        """The start of a run."""
        system = run.system(fixed)
        state = system.with_paths(system.initial_state(weights))
        silent = Inputs(
            jnp.zeros(run.stream.inputs.shape[1], run.clock.dt.dtype),
            jnp.zeros_like(run.stream.lessons()[0]),
            jnp.zeros_like(run.clock.dt),
            {layer.name: jnp.zeros(layer.size, run.clock.dt.dtype) for layer in run.circuit.layers if layer.held},
            jnp.zeros_like(run.clock.dt),
        )
        signals = system.signals(state, silent)
        return self.begin(state, History.of(signals, run.history) if signals else None)

    def _presented(self, run: AbstractCoupled, at: Point, fixed: Weights, k: Int[Array, ""], joined: int = 1) -> Point:
        """Presentation k, each step with the noise of `joined` steps of the run that this is a twin of."""
        steps = run.clock.steps
        return self.run(run.system(fixed), at, run.inputs_at(k), k * steps, steps, run.key, joined)

    def _order(self, run: AbstractCoupled) -> Float[Array, ""]:
        """The order of the error."""
        rough = (run.delays.stages == 0 and run.delayed) or run.circuit.jumps
        inside = jnp.abs(run.clock.on_steps - jnp.round(run.clock.on_steps)) > 1e-3  # the stimulus ends in a step
        strong = 1.0 if run.noise.on_synapses else None
        if run.noise.multiplied:
            strong = SOLVERS[self.name].strong
        return order_of(solver_named(self.name), run.circuit.has_kinks, inside | rough, strong)

    def begin(self, y: PyTree, history: History | None = None) -> Point:
        """The start of an integration."""
        return Point(y, nothing(y) if self.compensated else None, history)

    def run(
        self,
        system: AbstractSystem,
        at: Point,
        inputs_at: Callable[[Float[Array, ""]], PyTree],
        first: Int[Array, ""],
        count: int | Int[Array, ""],
        key: PRNGKeyArray | None,
        joined: int = 1,
    ) -> Point:
        """`count` steps from absolute integer step `first`; `inputs_at(j)`: inputs during step j, 0 <= j < count.

        The noise of a step depends on `key` and the absolute step alone, so a resumed run equals a straight one. It is
        that of `joined` shorter steps taken together.
        """

        def step(j: Int[Array, ""], at: Point) -> Point:
            start, absolute = jnp.asarray(j, system.dt.dtype), first + jnp.asarray(j, jnp.int32)
            inputs, past = inputs_at(start), at.history
            if past is not None:
                past = past.push(absolute, system.signals(at.y, inputs))
            like, increments = system.brownian_shape(at.y), None
            if like is not None:
                numbers = [absolute * joined + i for i in range(joined)]
                keys = [jax.random.fold_in(required_key(key), number) for number in numbers]
                draws = [system.increments(k, like, system.dt / joined) for k in keys]
                increments = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *draws)
            change = self._step(system, at.y, Moment(inputs, past, absolute, start), increments)
            if at.low is None:
                return Point(jax.tree.map(jnp.add, at.y, change), None, past)
            return Point(*add(at.y, at.low, change), past)

        return jax.lax.fori_loop(0, count, step, at)

    def _step(self, system: AbstractSystem, y: PyTree, moment: Moment, increments: PyTree | None) -> PyTree:
        """The change of y over one step."""
        name, still = self.name, jax.tree.map(jnp.zeros_like, y)
        base = Base(y, None if increments is None else system.stir(y, increments))
        terms: diffrax.AbstractTerm = Drift(system, base)
        if system.amplitude(y) is not None:
            terms = diffrax.MultiTerm(terms, Diffusion(system, base, increments))
        else:
            name = SOLVERS[self.name].noiseless or self.name
        change = stepped(terms, still, moment, name=name)
        return change if base.stirred is None else stirred_by(change, base.stirred, jnp.ones_like(moment.start))


def _check_steps(run: AbstractCoupled) -> None:
    """Refuses steps that are seen to be unstable."""
    clock, tau = run.clock, run.timescales.propagation
    duration, gap = run.stream.longest(clock)
    if any(isinstance(x, Tracer) for x in (duration, gap, tau)):
        return
    dt, tau = (np.asarray(duration, float) + np.asarray(gap, float)) / clock.steps, np.asarray(tau)
    # Twice as much would do, but a twin of what is still stable is a run too.
    if dt.max() <= 4 * tau.min() * (1 + 1e-6):
        return
    raise PlasticodeError(
        f"clock.steps is {run.clock.steps}, which gives steps of {float(dt.max()):g} s, with timescales.propagation = "
        f"{float(tau.min()):g} s: explicit steps are unstable above twice that, so there must be more steps"
    )


def samples_of(
    shares: Float[np.ndarray | Array, " times"], steps: int
) -> tuple[Int[Array, " times"], Float[Array, " times"], int | None]:
    """The step that each sample lies in, how much of it is over by then, and the most steps between two samples; None
    where they are traced, and a loop over them has no derivatives in reverse mode."""
    xp = jnp if isinstance(shares, Tracer) else np
    at = xp.asarray(shares) * steps
    whole = xp.clip(xp.floor(at * (1 + 8 * xp.finfo(at.dtype).eps)), 0, steps - 1)
    step = whole.astype(xp.int32)
    most = None if isinstance(shares, Tracer) else int(np.max(np.diff(step, prepend=0)))
    return jnp.asarray(step), jnp.asarray(at - whole), most


def between(
    before: PyTree, after: PyTree, slopes: tuple[PyTree, PyTree] | None, share: Float[Array, ""], dt: Float[Array, ""]
) -> PyTree:
    """The state when a `share` of a step is over: Hermite's cubic through both ends and their slopes, per second; a
    straight line without."""
    if slopes is None:
        return jax.tree.map(lambda a, b: a + share * (b - a), before, after)
    rest = 1 - share
    bend, first, last = share * share * (3 - 2 * share), dt * share * rest * rest, -dt * share * share * rest
    return jax.tree.map(lambda a, b, f, g: a + bend * (b - a) + first * f + last * g, before, after, *slopes)


def _twins(run: AbstractCoupled) -> tuple[AbstractCoupled, ...]:
    """The runs that judge this one: the last two differ in the length of their steps alone."""
    if not run.integrator.judged:
        return ()
    steps, noise = twin_steps(run.clock.steps), run.noise.of_weights()
    if noise.present and run.clock.steps % 2:
        raise PlasticodeError(f"clock.steps is {run.clock.steps}: with noise of the weights it must be even")
    longest = -(-(run.history - 2) * steps // run.clock.steps) + 2 if run.history else 0
    quiet = dataclasses.replace(run, noise=noise)
    time = Clock(run.clock.duration, run.clock.gap, steps)
    coarse = dataclasses.replace(quiet, clock=time, history=longest)
    return (quiet, coarse) if run.noise.fluctuations else (coarse,)


def _weights_of(point: Point) -> tuple[Weights, Weights | None]:
    return point.y.weights, None if point.low is None else point.low.weights


def _with_weights(point: Point, weights: Weights, low: Weights | None) -> Point:
    """The point with other weights."""
    lost = None if point.low is None else dataclasses.replace(point.low, weights=low)
    return Point(dataclasses.replace(point.y, weights=weights), lost, point.history)


def _without_weights(point: Point) -> Point:
    return _with_weights(point, {}, {})
