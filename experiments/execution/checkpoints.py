"""Checkpoints: how far the points of a chunk have come, as bytes, and when they are left in a store."""

import contextlib
import io
import json
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.machine.reading import is_count
from experiments.points.jobs import ChunkKey
from experiments.storage.chunks import ChunkStore, Record

SECONDS = 10.0  # between two checkpoints of a chunk
WRITING_SHARE = 0.1  # of the time, at most, that goes into them


class Keeper:
    """Leaves checkpoints of chunks in a store, if there is one."""

    def __init__(self, store: ChunkStore | None):
        self.store = store
        self.saved, self.writing = time.monotonic(), 0.0  # when the last one was made, and how long it took

    def keep(self, key: ChunkKey, name: str, content: Callable[[], bytes], now: bool = False) -> None:
        """Leave what `content` makes: `now`, or where the last checkpoint is old."""
        begun = time.monotonic()
        due = begun - self.saved > max(SECONDS, self.writing / WRITING_SHARE)
        if self.store is None or not (due or now):
            return
        with contextlib.suppress(OSError):  # a full disk: the chunk itself may still find room
            self.store.save_checkpoint(key, name, content())
        self.saved = time.monotonic()
        self.writing = self.saved - begun


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
