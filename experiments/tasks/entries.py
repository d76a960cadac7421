"""One array of a file of a user's own: what it declares to be, and how it is read."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class Unfit(ValueError):
    """What is whole, and of a kind that cannot be used."""


class Source(NamedTuple):
    """An array of a file that may be larger than memory has room for: `blocks(count)` reads so many rows at a time."""

    shape: tuple[int, ...]
    blocks: Callable[[int], Iterator[np.ndarray]]

    def whole(self) -> np.ndarray:
        """All of it at once."""
        return np.concatenate([*self.blocks(self.shape[0])])


class Entry(NamedTuple):
    """One array of a file: what it declares to be, and what reads it; `blocks` as of a `Source`, where it has numbers
    that can be read so."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    blocks: Callable[[int], Iterator[np.ndarray]] | None = None


def in_memory(values: np.ndarray) -> Source:
    """An array that is read already."""
    return Source(values.shape, lambda count: (values[at] for at in steps(len(values), count)))


def steps(rows: int, count: int) -> Iterator[slice]:
    """So many rows after the other."""
    return (slice(start, min(start + count, rows)) for start in range(0, rows, count))


def is_plain(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether an array has numbers, and rows of them."""
    return dtype.kind in "biuf" and 0 not in (len(shape), *shape)
