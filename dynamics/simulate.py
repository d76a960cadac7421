"""Runs a regime from start to end and records probes on the way: the engine's Python entry point."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Weights
from dynamics.loop import UpTo
from dynamics.regime import AbstractRegime, Slow

Probe = Callable[[Weights, Slow], PyTree[Array]]


class Recording(NamedTuple):
    """What `simulate` returns: how many presentations had been shown at each record, the probes there, and the end."""

    presentations: Int[Array, " records"]
    probes: PyTree[Array]
    weights: Weights
    finite: Float[Array, ""]


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
    number of `sweeps` for the latter, and adaptive steps know only forward mode. `finite` is whether every weight
    stayed finite.
    """
    if weights is None:
        weights = regime.circuit.initial_weights(jax.random.key(0) if key is None else key)
    marks = record_marks(presentations, records)
    counts = [after - before for before, after in itertools.pairwise(_marks(presentations, records))]

    @jax.jit
    def run(regime: AbstractRegime, weights: Weights, marks: Int[Array, " marks"]) -> tuple:
        def block(progress: tuple, ends: tuple) -> tuple:
            # An integer and a bound, unlike a number that is computed, let derivatives in reverse mode through.
            count = counts[0] if len(set(counts)) == 1 else UpTo(ends[1] - ends[0], max(counts))
            progress = regime.advance(progress, ends[0], count)
            return progress, probe(regime.weights(progress), regime.slow(progress))

        start = regime.init(weights)
        first = probe(regime.weights(start), regime.slow(start))
        end, rest = jax.lax.scan(block, start, (marks[:-1], marks[1:]))
        probes = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
        return probes, regime.weights(end)

    probes, final = run(regime, weights, marks)
    return Recording(marks, probes, final, all_finite(final))


def record_marks(presentations: int, records: int) -> Int[Array, " marks"]:
    """After how many presentations each record is made: 0, then `records` nearly equal parts."""
    return jnp.asarray(_marks(presentations, records), jnp.int32)


def _marks(presentations: int, records: int) -> list[int]:
    return [round(i * presentations / records) for i in range(records + 1)]


def all_finite(tree: PyTree[Array]) -> Array:
    """Whether every number in `tree` is finite."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
