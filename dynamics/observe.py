"""Looks inside presentations: activities, errors, factors of laws and weights in the course of time."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dynamics.circuit import Weights
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.errors import NotOkWarning, PlasticodeError, refused
from dynamics.inside import Seen, Sight
from dynamics.loop import UpTo
from dynamics.regime import REFINEMENTS, AbstractRegime
from dynamics.simulate import all_finite

TIMES = 101


class Observed(NamedTuple):
    """What `observe` returns: the numbers of the presentations, the times in seconds from the start of each, and what
    was seen there, by name: arrays (presentations, times, neurons), of matrices (presentations, times, targets,
    sources).

    finite          whether all of it, and all weights and slow variables at the end, are finite
    converged       whether the integrator's estimate is within its tolerance
    error_estimate  of the change of the weights, relative to the distance that they have moved
    """

    presentations: Int[Array, " presentations"]
    time: Float[Array, " times"]
    seen: Seen
    finite: Bool[Array, ""]
    converged: Bool[Array, ""]
    error_estimate: Float[Array, ""]


def observe(
    run: AbstractRegime,
    names: Sequence[str],
    presentations: Sequence[int],
    times: int | Float[np.ndarray | Array, " times"] = TIMES,
    weights: Weights | None = None,
    key: PRNGKeyArray | None = None,
    neurons: Mapping[str, Sequence[int]] | None = None,
) -> Observed:
    """Shows presentations 0, 1, ... to a coupled run and looks at what `names` stand for inside some of them.

    names          "z1", "e1", "W1", ...: all of them are in `dynamics.inside`
    presentations  which ones, counted from 0, in ascending order
    times          seconds from the start of a presentation, ascending, up to its end after the gap; or a number of
                   times, evenly spread over all of that. Where presentations last differently that is the longest, and
                   what is seen after a shorter one is its end
    neurons        of which neurons of a layer, by the layer's name: {"z1": [0, 3]}; matrices are cut alike. None: all

    Starts from `weights`, or from those that `key` draws. Where inputs jump, what comes after the jump is seen (at the
    end of a presentation what was before). Derivatives with respect to every number of `run`, to `weights` and `times`
    go through it, as they do through `simulate`; in reverse mode by steps where `times` are known.

    A run that has not converged is tried again, finer, and what is then not ok is warned of, as by `simulate`.
    """
    if not isinstance(run, Coupled):
        raise PlasticodeError(
            f"a {type(run).__name__} has no inside of presentations, as its activities are settled: observe a Coupled "
            "run"
        )
    _check_presentations(presentations)
    if weights is None:
        weights = run.circuit.initial_weights(jax.random.key(0) if key is None else key)
    sight = run.sight(names, neurons or {})
    shares = _shares(run, times)
    observed = _observed(run, weights, tuple(presentations), shares, sight)
    if isinstance(observed.finite, Tracer):
        return observed
    for _ in range(REFINEMENTS):
        finer = run.refined()
        if (observed.finite and observed.converged) or finer is None:
            break
        run = finer
        observed = _observed(run, weights, tuple(presentations), shares, sight)
    if not (observed.finite and observed.converged):
        what = "not converged" if observed.finite else "diverged"
        warnings.warn(f"the run that was observed has {what}", NotOkWarning, stacklevel=2)
    return observed


def _check_presentations(presentations: Sequence[int]) -> None:
    numbers = list(presentations)
    if not numbers or numbers != sorted(set(numbers)) or numbers[0] < 0:
        raise refused("presentations", numbers, "it must be numbers of presentations from 0 on, in ascending order")


def _shares(run: Coupled, times: int | Float[np.ndarray | Array, " times"]) -> tuple[float, ...] | Array:
    """The times as shares of the longest period; where they are known as Python's numbers, on which a program may
    depend."""
    if isinstance(times, int):
        if times < 2:
            raise refused("times", times, "there must be at least 2, the start and the end of a presentation")
        return tuple(np.linspace(0, 1, times).tolist())
    period = sum(run.stream.longest(run.clock))
    if isinstance(times, Tracer) or isinstance(period, Tracer):
        return jnp.asarray(times, run.clock.dt.dtype) / period
    shares = np.asarray(times, float) / float(period)
    eps = float(jnp.finfo(run.clock.dt.dtype).eps)
    if shares.ndim != 1 or not len(shares) or (np.diff(shares) < 0).any() or not (-eps < shares).all():
        raise refused("times", np.asarray(times).tolist(), "it must be seconds from 0 on, in ascending order")
    if shares[-1] > 1 + 16 * eps:
        told = f"the last one must be within a presentation and its gap, {float(period):g} s"
        raise refused("times", np.asarray(times).tolist(), told)
    return tuple(np.clip(shares, 0, 1).tolist())


@eqx.filter_jit
def _observed(
    run: Coupled, weights: Weights, presentations: tuple[int, ...], shares: tuple[float, ...] | Array, sight: Sight
) -> Observed:
    """The run as it is, once: up to each presentation in a loop, then the presentation itself."""
    at = np.asarray(shares) if isinstance(shares, tuple) else shares
    seconds = jnp.asarray(at, run.clock.dt.dtype) * sum(run.stream.longest(run.clock))
    first = [0, *(k + 1 for k in presentations[:-1])]
    counts = [k - before for before, k in zip(first, presentations, strict=True)]
    even = all(a == b for a, b in itertools.pairwise(counts))

    def block(progress: CoupledProgress, now: tuple[Array, Array]) -> tuple[CoupledProgress, Seen]:
        begun, k = now
        progress = run.advance(progress, begun, counts[0] if even else UpTo(k - begun, max(counts)))
        own = jnp.minimum(seconds / run.stream.clock_at(run.clock, k).period, 1) if run.stream.timed else at
        return run.watch(progress, k, own, sight)

    shown = jnp.asarray(presentations, jnp.int32)
    end, seen = jax.lax.scan(block, run.init(weights), (jnp.asarray(first, jnp.int32), shown))
    quality = run.quality(end)
    assert quality is not None
    finite = all_finite((run.weights(end), run.slow(end), seen))
    return Observed(shown, seconds, seen, finite, quality.converged, quality.error)
