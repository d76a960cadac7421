"""Runs a regime from start to end and records probes on the way: the engine's Python entry point."""

import itertools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Weights
from dynamics.errors import NotOkWarning, PlasticodeError
from dynamics.loop import UpTo
from dynamics.regime import REFINEMENTS, AbstractRegime, Quality, Slow

Probe = Callable[[Weights, Slow], PyTree[Array]]


class Recording(NamedTuple):
    """What `simulate` returns: how many presentations had been shown at each record, the probes there, and the end.

    finite          whether all weights, slow variables and probes were finite at every record
    converged       whether the integrator's own estimate is within its tolerance; true where it makes none
    error_estimate  of the change of the weights, relative to the distance that they have moved; NaN where there is none
    """

    presentations: Int[Array, " records"]
    probes: PyTree[Array]
    weights: Weights
    finite: Bool[Array, ""]
    converged: Bool[Array, ""]
    error_estimate: Float[Array, ""]

    @property
    def status(self) -> str:
        """ "ok", "diverged" or "not-converged", as the results of a spec have it; of a single run."""
        if self.finite.ndim:
            raise PlasticodeError("the status is that of one run, and there are several: look at finite and converged")
        if not self.finite:
            return "diverged"
        return "ok" if self.converged else "not-converged"


def simulate(
    regime: AbstractRegime,
    presentations: int,
    probe: Probe,
    records: int = 10,
    weights: Weights | None = None,
    key: PRNGKeyArray | None = None,
) -> Recording:
    """Shows `presentations` presentations and evaluates `probe(weights, slow)` at the start and after each of `records`
    parts, as equal as integers allow.

    Starts from `weights`, or from those that `key` draws. One compiled program whose size does not depend on how long
    the run is; memory holds the records, never the presentations. Derivatives with respect to every number of `regime`
    and `weights` go through it, in forward mode at the same memory, in reverse mode with one state (all matrices, and
    the past that delays look back at) per presentation and all that one presentation computes; windows need a fixed
    number of `sweeps` for the latter, and adaptive steps know only forward mode.

    A run that has not converged, or not ended finite, is tried again with finer windows or steps, twice at most. What
    is then not ok is warned of (`NotOkWarning`). Where the run is traced, as under `vmap`, nothing is tried again, and
    `finite` and `converged` of the recording are all there is to look at.
    """
    if weights is None:
        weights = regime.circuit.initial_weights(jax.random.key(0) if key is None else key)
    if presentations < 0 or records < 1:
        raise PlasticodeError(
            f"simulate got presentations = {presentations} and records = {records}: there must be at least 0 "
            "presentations and 1 record"
        )
    marks = _marks(presentations, records)
    recording = _recorded(regime, weights, marks, probe)
    if any(isinstance(known, Tracer) for known in (recording.finite, recording.converged)):
        return recording
    for _ in range(REFINEMENTS):
        finer = regime.refined()
        if recording.status == "ok" or finer is None:
            break
        regime = finer
        recording = _recorded(regime, weights, marks, probe)
    if recording.status != "ok":
        warnings.warn(_told(recording), NotOkWarning, stacklevel=2)
    return recording


def _told(recording: Recording) -> str:
    if recording.status == "diverged":
        return "the run has diverged: a weight, a slow variable or a probe is not finite"
    return (
        "the run has not converged: the estimated error of the weights' change, "
        f"{float(recording.error_estimate):.2g} of it, is above the integrator's tolerance"
    )


def _recorded(regime: AbstractRegime, weights: Weights, marks: list[int], probe: Probe) -> Recording:
    """The run as it is, once, with records after so many presentations."""
    counts = [after - before for before, after in itertools.pairwise(marks)]

    @jax.jit
    def run(regime: AbstractRegime, weights: Weights, marks: Int[Array, " marks"]) -> Recording:
        def block(progress: tuple, ends: tuple) -> tuple:
            # An integer and a bound, unlike a number that is computed, let derivatives in reverse mode through.
            count = counts[0] if len(set(counts)) == 1 else UpTo(ends[1] - ends[0], max(counts))
            progress = regime.advance(progress, ends[0], count)
            return progress, record(progress)

        def record(progress: PyTree) -> tuple[PyTree, Array]:
            now = regime.weights(progress), regime.slow(progress)
            found = probe(*now)
            return found, all_finite((now, found))

        start = regime.init(weights)
        first = record(start)
        end, rest = jax.lax.scan(block, start, (marks[:-1], marks[1:]))
        probes, finite = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
        final, quality = regime.weights(end), regime.quality(end)
        dtype = jnp.result_type(*final.values()) if final else jnp.result_type(float)
        known = Quality(jnp.asarray(jnp.nan, dtype), jnp.asarray(True)) if quality is None else quality
        return Recording(marks, probes, final, finite.all(), known.converged, known.error)

    return run(regime, weights, jnp.asarray(marks, jnp.int32))


def record_marks(presentations: int, records: int) -> Int[Array, " marks"]:
    """After how many presentations each record is made: 0, then `records` nearly equal parts."""
    return jnp.asarray(_marks(presentations, records), jnp.int32)


def _marks(presentations: int, records: int) -> list[int]:
    return [round(i * presentations / records) for i in range(records + 1)]


def all_finite(tree: PyTree[Array]) -> Array:
    """Whether every number in `tree` is finite."""
    numbers = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    finite = [jnp.isfinite(x).all() for x in numbers if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.asarray(True), *finite]).all()
