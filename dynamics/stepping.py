"""Coupled runs in steps: fixed ones with the twins that judge them (integrators.doubling), and adaptive ones."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.delays import History
from dynamics.errors import PlasticodeError
from dynamics.field import Inputs, State
from dynamics.integrators.adaptive import Adaptive
from dynamics.integrators.doubling import difference, order_of, twin_steps
from dynamics.integrators.fixed_step import FixedStep, Point
from dynamics.integrators.solvers import solver_named
from dynamics.loop import Count, repeat
from dynamics.regime import Slow
from dynamics.rounding import add
from dynamics.stimulus import Clock

Sums = tuple[Weights, Slow]


def begin(run: AbstractCoupled, fixed: Weights, weights: Weights) -> Point:
    """The start of fixed steps."""
    system = run.system(fixed)
    state = system.with_paths(system.initial_state(weights))
    silent = Inputs(
        jnp.zeros(run.stream.inputs.shape[1], run.clock.dt.dtype),
        jnp.zeros_like(run.targets()[0]),
        jnp.zeros_like(run.clock.dt),
    )
    signals = system.signals(state, silent)
    assert isinstance(run.integrator, FixedStep)
    return run.integrator.begin(state, History.of(signals, run.history) if signals else None)


def twins_at_start(run: AbstractCoupled, fixed: Weights, weights: Weights) -> tuple[Point, ...]:
    """All but the weights of the twins of a run, which take those from the run."""
    return tuple(_without_weights(begin(twin, fixed, weights)) for twin in _twins(run))


def advance_by_steps(
    run: AbstractCoupled, progress: CoupledProgress, first: Int[Array, ""], count: Count
) -> CoupledProgress:
    """Shows presentations first .. first + count - 1 in fixed steps."""
    fixed, twins = progress.fixed, jax.lax.stop_gradient(_twins(run))

    def present(i: Int[Array, ""], carry: tuple) -> tuple:
        (start, others, accuracy), k = carry, first + jnp.asarray(i, jnp.int32)
        end = _presented(run, start, fixed, k)
        before, given, after = jax.lax.stop_gradient((start, fixed, end))  # estimates have no derivatives
        ends = [after]
        for twin, other in zip(twins, others, strict=True):
            joined = max(run.clock.steps // twin.clock.steps, 1)
            ends.append(_presented(twin, _with_weights(other, *_weights_of(before)), given, k, joined))
        was, now, then = map(_weights_of, (before, *ends[-2:]))
        judged = difference(was, now, then, (run.clock.steps, twins[-1].clock.steps), _order(run))
        accuracy = jax.tree.map(jnp.add, accuracy, jax.lax.stop_gradient(judged))
        return end, tuple(map(_without_weights, ends[1:])), accuracy

    history = progress.history
    assert history is None or isinstance(history, History)
    start = Point(progress.state, progress.low, history)
    end, others, accuracy = repeat(count, present, (start, progress.twins, progress.accuracy))
    return progress._replace(state=end.y, history=end.history, low=end.low, twins=others, accuracy=accuracy)


def _presented(run: AbstractCoupled, at: Point, fixed: Weights, k: Int[Array, ""], joined: int = 1) -> Point:
    """Presentation k in fixed steps, each with the noise of `joined` steps of the run that this is a twin of."""
    assert isinstance(run.integrator, FixedStep)
    steps = run.clock.steps
    return run.integrator.run(run.system(fixed), at, run.inputs_at(k), k * steps, steps, run.key, joined)


def _twins(run: AbstractCoupled) -> tuple[AbstractCoupled, ...]:
    """The runs that judge this one, in fixed steps: the last two differ in the length of their steps alone."""
    steps, noise = twin_steps(run.clock.steps), dataclasses.replace(run.noise, activity=None, error=None)
    if noise.present and run.clock.steps % 2:
        raise PlasticodeError(f"clock.steps is {run.clock.steps}: with noise of the weights it must be even")
    longest = -(-(run.history - 2) * steps // run.clock.steps) + 2 if run.history else 0
    # Milstein's method is Euler's where nothing multiplies the noise, and refuses to run without any.
    integrator = run.integrator
    assert isinstance(integrator, FixedStep)
    if integrator.name == "milstein" and not noise.present:
        integrator = dataclasses.replace(integrator, name="euler")
    quiet = dataclasses.replace(run, noise=noise, integrator=integrator)
    time = Clock(run.clock.duration, run.clock.gap, steps)
    coarse = dataclasses.replace(quiet, clock=time, history=longest)
    return (coarse,) if run.noise.activity is None and run.noise.error is None else (quiet, coarse)


def _order(run: AbstractCoupled) -> Float[Array, ""]:
    """The order of the error of fixed steps."""
    lags = run.delays.stages == 0 and run.delayed
    inside = jnp.abs(run.clock.on_steps - jnp.round(run.clock.on_steps)) > 1e-3  # the stimulus ends in a step
    strong = 1.0 if run.noise.on_synapses else None
    assert isinstance(run.integrator, FixedStep)
    if run.noise.synaptic_multiplicative is not None and run.integrator.name == "euler":
        strong = 0.5
    return order_of(solver_named(run.integrator.name), run.circuit.has_kinks, inside | lags, strong)


def advance_adaptively(
    run: AbstractCoupled, solver: Adaptive, progress: CoupledProgress, first: Int[Array, ""], count: Count
) -> CoupledProgress:
    """Shows presentations first .. first + count - 1 in adaptive steps, and each again with ten times the tolerance."""
    on, off = jnp.ones_like(run.clock.dt), jnp.zeros_like(run.clock.dt)
    looser = dataclasses.replace(solver, rtol=10 * solver.rtol, atol=10 * solver.atol)
    system = run.system(progress.fixed)

    def through(solver: Adaptive, state: State, x: Array, y: Array) -> tuple[State, Array]:
        """A presentation and its gap, with the change of weights and slow variables in place of these."""
        still = jax.tree.map(jnp.zeros_like, state)
        base, start = _with_sums(still, sums(state)), _with_sums(state, sums(still))
        middle, one = solver.run(system, start, Inputs(x, y, on), run.clock.on_steps, base)
        blank = Inputs(jnp.zeros_like(x), jnp.zeros_like(y), off)
        end, other = solver.run(system, middle, blank, run.clock.steps - run.clock.on_steps, base)
        return end, one & other

    def present(i: Int[Array, ""], carry: tuple) -> tuple:
        state, low, arrived, accuracy = carry
        shown = [held.values[0] for held in run.shown(first + jnp.asarray(i, jnp.int32))]
        end, ok = through(solver, state, *shown)
        other = through(looser, state, *shown)[0]
        still = jax.tree.map(jnp.zeros_like, state.weights), None
        judged = difference(still, (end.weights, None), (other.weights, None), None, on)
        total, low = add(sums(state), low, sums(end))
        return _with_sums(end, total), low, arrived & ok, jax.tree.map(jnp.add, accuracy, judged)

    start = progress.state, progress.low, progress.arrived, progress.accuracy
    state, low, arrived, accuracy = repeat(count, present, start)
    return progress._replace(state=state, low=low, arrived=arrived, accuracy=accuracy)


def sums(state: State) -> Sums:
    """What grows by small changes: weights and slow variables."""
    return state.weights, state.slow


def _with_sums(state: State, total: Sums) -> State:
    return dataclasses.replace(state, weights=total[0], slow=total[1])


def _weights_of(point: Point) -> tuple[Weights, Weights | None]:
    return point.y.weights, None if point.low is None else point.low.weights


def _with_weights(point: Point, weights: Weights, low: Weights | None) -> Point:
    """The point with other weights."""
    lost = None if point.low is None else dataclasses.replace(point.low, weights=low)
    return Point(dataclasses.replace(point.y, weights=weights), lost, point.history)


def _without_weights(point: Point) -> Point:
    return _with_weights(point, {}, {})
