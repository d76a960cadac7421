"""Arrays in a pickle, of which nothing is executed: it may come from anybody."""

import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.tasks.entries import Unfit

MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")  # what NumPy 1 and 2 call it
NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
DEEPEST = 5  # dicts in dicts


class _Type:
    """Stands for the type of an array's numbers: what a pickle says of it, and no more."""

    def __init__(self, name: str, *_: Any) -> None:
        self.dtype = np.dtype(name) if type(name) is str and name[:1] in "biuf" and name[1:].isdigit() else None
        if self.dtype is None:
            raise Unfit("it has an array of something that is no number")

    def __setstate__(self, state: tuple) -> None:
        assert self.dtype is not None
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array, until its numbers come."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, by_columns, numbers = state
        self.values = _filled(numbers, kind, shape, "F" if by_columns else "C").values


def _filled(numbers: Any, kind: _Type, shape: tuple, order: str) -> _Array:
    found = _Array()
    found.values = np.frombuffer(numbers, kind.dtype).reshape(shape, order=order)  # pyright: ignore[reportCallIssue,reportArgumentType]
    return found


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if encoding != "latin1":
        raise Unfit("it has text in an encoding that no array has")
    return text.encode(encoding)


KNOWN: dict[tuple[str, str], Callable] = {
    **{(module, "_reconstruct"): lambda kind, shape, code: _Array() for module in MULTIARRAY},
    **{(module, "scalar"): lambda kind, number: _filled(number, kind, (), "C") for module in MULTIARRAY},
    **{(module, "_frombuffer"): _filled for module in NUMERIC},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): lambda: b"",
}


class _Called:
    """One of `KNOWN`, made for each mention of it: a pickle that sets an attribute changes no function of ours."""

    __slots__ = ("_made_by",)

    def __init__(self, made_by: Callable) -> None:
        self._made_by = made_by

    def __call__(self, *arguments: Any) -> Any:
        return self._made_by(*arguments)


class _Reader(pickle.Unpickler):
    """Knows no name but those by which NumPy writes arrays, and for each a stand-in of ours, which it calls instead."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise Unfit(f"it has a Python object, {module}.{name}, which is not read from a pickle")
        return _Called(KNOWN[module, name])


def arrays_in(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of numbers in a pickled dict by name, those in dicts inside it by their paths.

    Whatever else the pickle has raises an exception, or is left out if it is plain data.
    """
    held = _Reader(io.BytesIO(content)).load()
    if not isinstance(held, dict):
        raise Unfit("it must be a dict of arrays")
    return dict(_named(held, "", DEEPEST))


def _named(held: dict, path: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    for name, one in held.items():
        here = f"{path}{name}"
        if isinstance(one, dict) and depth:
            yield from _named(one, f"{here}/", depth - 1)
        if isinstance(one, _Array) and isinstance(one.values, np.ndarray):
            yield here, one.values
