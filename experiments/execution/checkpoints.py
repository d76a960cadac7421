"""Checkpoints: how far the points of a chunk have come, as bytes."""

import io
import json
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.machine.reading import is_count
from experiments.storage.chunks import Record


def frozen(state: Any, shown: int, seen: tuple, records: list[Record]) -> bytes:
    """A checkpoint: a line with the presentations shown, the number of records and of presentations that were seen
    inside, then all leaves."""
    file = io.BytesIO()
    file.write(json.dumps([int(shown), len(records), len(seen)]).encode() + b"\n")
    eqx.tree_serialise_leaves(file, (jax.device_get(jax.tree.map(_plain, state)), records, seen))
    return file.getvalue()


def thawed(content: bytes, state: Any, record: Any, seen: Any) -> tuple[Any, list[Record], int, tuple]:
    """The state, the records, the presentations shown and what was seen; the arguments have the shapes of one each."""
    header, _, leaves = content.partition(b"\n")
    shown, count, inside = json.loads(header)
    if not (all(map(is_count, (shown, count, inside))) and 0 < count <= len(leaves) and inside <= len(leaves)):
        raise ValueError("a checkpoint has more records than bytes")
    whole = state, [record] * count, (seen,) * inside
    shapes = jax.eval_shape(lambda tree: jax.tree.map(_plain, tree), whole)
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    numbers, records, found = eqx.tree_deserialise_leaves(io.BytesIO(leaves), like)
    return jax.tree.map(_keyed, numbers, state), records, shown, found


def _plain(leaf: Any) -> Any:
    """A random key as its numbers."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _keyed(leaf: np.ndarray, like: Any) -> Any:
    """The inverse of `_plain`."""
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.random.wrap_key_data(jnp.asarray(leaf))
