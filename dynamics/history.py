"""How far a coupled run looks back: the length of the past that its lags need, and whether it has that much."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree

from dynamics.coupled_run import AbstractCoupled
from dynamics.errors import PlasticodeError


def _late(run: AbstractCoupled) -> dict[str, Float[Array, ""]]:
    """Constant lags that look back at the past of signals, by what a user calls them."""
    if run.delays.stages > 0:
        return {}
    lags = {"delays.error": run.delays.error, "delays.hop": run.delays.hop}
    lags |= {f"the lag of '{p.name}'": p.lag for p in run.circuit.projections}
    return {name: lag for name, lag in lags.items() if lag is not None}


def needed_history(run: AbstractCoupled) -> int:
    """The length of the ring buffer that the lags need, which must be known."""
    needed = 0
    for name, lag in _late(run).items():
        late = _steps_late(run, lag)
        if late is None:
            raise PlasticodeError(
                f"{name} is traced, so that nothing here can tell how long it is: history must be given, its largest "
                "value in steps of the clock, rounded up, + 2"
            )
        needed = max(needed, _buffer(name, lag, late))
    return needed


def check_history(run: AbstractCoupled) -> None:
    """Refuses a ring buffer that is too short for the lags (for those that are known while tracing)."""
    for name, lag in _late(run).items():
        late = _steps_late(run, lag)
        needed = 2 if late is None else _buffer(name, lag, late)
        if run.history < needed:
            raise PlasticodeError(f"history is {run.history} steps, but {name} needs at least {needed}")


def check_late_error(run: AbstractCoupled) -> None:
    """Refuses a late error of several output layers, where only one can be late."""
    outputs = [layer.name for layer in run.circuit.layers if layer.role == "output"]
    if run.delays.error is not None and len(outputs) > 1:
        raise PlasticodeError(
            f"delays.error is not allowed with output layers {', '.join(outputs)} and the window integrator or "
            "delays.stages: it must be 0, or integrator.name euler, heun, tsit5 or dopri5"
        )


def check_next(before: object, after: object, what: str) -> None:
    """Refuses a stage of a run, told of as `what`, that would change what is still on its way, where lags are constant.

    A buffer remembers steps, which would last longer or shorter than they did, and late samples are those of one
    stream. Windows remember waveforms at nodes that lie where their lags, and all that settles, have put them.
    """
    if not (isinstance(before, AbstractCoupled) and isinstance(after, AbstractCoupled)):
        return
    if not any(run.delayed and run.delays.stages == 0 for run in (before, after)):
        return
    kept = [("stream", before.stream, after.stream), ("clock", before.clock, after.clock)]
    if not after.integrator.explicit:
        lags = [[p.lag for p in run.circuit.projections] for run in (before, after)]
        kept += [("lags", (before.delays, lags[0]), (after.delays, lags[1]))]
        kept += [("timescales.propagation", before.timescales.propagation, after.timescales.propagation)]
        kept += [("integrator", before.integrator, after.integrator)]
    for name, one, other in kept:
        if not _alike(one, other):
            raise PlasticodeError(
                f"{what} has another {name} than the one before, and constant lags remember the time before: it must "
                "be the same, the same object where it is traced; Delays(stages=...) gives lags that need no memory"
            )


def _alike(one: PyTree, other: PyTree) -> bool:
    """Whether two trees are known to be the same."""
    pairs = [jax.tree.flatten(tree) for tree in (one, other)]
    return pairs[0][1] == pairs[1][1] and all(map(_equal, pairs[0][0], pairs[1][0]))


def _equal(one: Array, other: Array) -> bool:
    if one is other or isinstance(one, Tracer) or isinstance(other, Tracer):
        return one is other
    with jax.ensure_compile_time_eval():  # also in a traced function
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        return np.array_equal(one, other)


def misled(run: AbstractCoupled) -> Bool[Array, ""]:
    """Whether the run rests on a promise that its lags break, which no one can see where they are traced."""
    broken = [jnp.zeros((), bool)]
    for lag in _late(run).values():
        steps = lag / run.clock.dt
        broken.append((steps < 0) | (steps * (1 - 1e-6) > max(run.history - 2, 0)))
    return functools.reduce(jnp.logical_or, broken)


def _steps_late(run: AbstractCoupled, lag: Float[Array, ""]) -> np.ndarray | None:
    """A lag in steps; None where it, or the clock, is traced."""
    numbers = lag, run.clock.duration, run.clock.gap
    if any(isinstance(number, Tracer) for number in numbers):
        return None
    late, duration, gap = (np.asarray(number, float) for number in numbers)
    return np.asarray(late / (duration + gap) * run.clock.steps)


def _buffer(name: str, lag: Float[Array, ""], late: np.ndarray) -> int:
    """The length of a ring buffer that a lag of `late` steps needs."""
    if not (np.isfinite(late) & (late >= 0)).all():
        raise PlasticodeError(f"{name} is {lag} s: it must be at least 0, and finite")
    return math.ceil(float(late.max()) * (1 - 1e-6)) + 2
