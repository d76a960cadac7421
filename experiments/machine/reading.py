"""Files that may come from anybody: what is no plain file is refused before it is opened, and all that is read is
bounded. What cannot be read raises `OSError` or `ValueError`, whose text says why in a few words."""

import contextlib
import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]

LARGEST_JSON = 2**26  # bytes; run.json has a spec, and a few bytes for each job
DEEPEST_JSON = 20  # levels
MOST_OBJECTS = 5_000  # groups and arrays of a results file
DEEPEST_GROUP = 3
MOST_ATTRIBUTES = 64  # of one object
LARGEST_ATTRIBUTE = 2**23  # bytes; a spec is one
LINKS_OF_DIMENSIONS = ("DIMENSION_LIST", "REFERENCE_LIST")  # by which netCDF says which dimensions an array has
ONLY_A_DIMENSION = b"This is a netCDF dimension but not a netCDF variable"
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_PLAIN = (h5t.INTEGER, h5t.FLOAT, h5t.STRING)


def check_regular(path: Path, inside: Path | None = None) -> os.stat_result:
    """Raise `OSError` unless `path` is a plain file, or a link to one; where there is an `inside`, one in that folder.

    A pipe would wait for its other end, and a device may never end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "no plain file"
        raise OSError(errno.EINVAL, f"it is {kind}", str(path))
    if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
        raise OSError(errno.EINVAL, "it is a link to a file elsewhere", str(path))
    return found


def read_bytes(path: Path, most: int, inside: Path | None = None) -> bytes:
    """The content of a plain file of at most so many bytes, else `OSError`."""
    check_regular(path, inside)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # so that not even a file that was just replaced blocks
    with open(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size  # a sparse file may be larger than any disk
        content = file.read(most + 1) if size <= most else b""
    if size > most or len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
    return content


def read_json(path: Path, most: int = LARGEST_JSON, inside: Path | None = None) -> Any:
    """The content of a JSON file; `OSError` or `ValueError` where it is none, or too large or too deep."""
    return parse_json(read_bytes(path, most, inside).decode("utf-8"))


def parse_json(text: str) -> Any:
    """What a JSON text says; `ValueError` where it says nothing, or is nested too deeply."""
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > DEEPEST_JSON:
            raise ValueError("it is nested too deeply")
    return json.loads(text)


def is_count(value: object, most: int = 2**53) -> bool:
    """Whether a value from a file is an integer that counts something."""
    return type(value) is int and 0 <= value <= most


def is_texts(value: object) -> bool:
    """Whether a value from a file is a table of texts."""
    return isinstance(value, dict) and all(type(key) is str and type(text) is str for key, text in value.items())


def is_run(value: object) -> bool:
    """Whether a value from a file says which run made it, see `rundir.header_of`."""
    return (
        isinstance(value, dict)
        and all(type(value.get(key)) is str for key in ("spec_hash", "spec"))
        and is_texts(value.get("versions"))
        and is_texts(value.get("code", {}))
        and is_texts(value.get("data", {}))
    )


# ----------------------------------------------------------------------------------------------------------------- HDF5


@contextlib.contextmanager
def checked_hdf5(path: Path, inside: Path | None = None) -> Iterator[h5py.File]:
    """An HDF5 file that holds arrays of numbers and texts, and nothing else; `OSError` or `ValueError` for any other.

    It follows no link and reads no array. Refused are: links to names or to other files, data that lie in other files,
    types that no run writes (objects, references, compounds), compressed data, and arrays that declare more than the
    file has: a file of 2 kB could ask for all memory.
    """
    with opened_hdf5(path, inside) as file:
        _check_group(file, set(), 0, check_regular(path).st_size)
        yield file


@contextlib.contextmanager
def opened_hdf5(path: Path, inside: Path | None = None) -> Iterator[h5py.File]:
    """A plain file that begins as HDF5 does, opened; nothing of it has been looked at."""
    check_regular(path, inside)
    with h5py.File(path, "r") as file:
        yield file


def text_attribute(file: h5py.File, name: str) -> str:
    """A text that belongs to a file; `ValueError` where it has none."""
    value = _attribute(file, name)
    if not isinstance(value, str):
        raise ValueError(f"its '{name}' is no text")
    return value


def number_attribute(file: h5py.File, name: str) -> float:
    """A number that belongs to a file; `ValueError` where it has none."""
    value = np.asarray(_attribute(file, name))
    if value.dtype.kind not in "iuf" or value.size != 1:
        raise ValueError(f"its '{name}' is no number")
    return float(value.item())


def _attribute(file: h5py.File, name: str) -> Any:
    if name not in file.attrs:
        raise ValueError(f"it has no '{name}'")
    _check_attribute(h5a.open(file.id, name.encode()), name)
    return file.attrs[name]


def _check_group(group: h5py.Group, seen: set[int], depth: int, left: int) -> int:
    """Check all that is in a group; of the `left` bytes that arrays may have, returns what is left."""
    if depth > DEEPEST_GROUP:
        raise ValueError("its groups are nested too deeply")
    _check_attributes(group.id)
    for name in map(str, group):
        if group.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
            raise ValueError("it has a link to another place")
        identity = h5o.open(group.id, name.encode())
        address = h5o.get_info(identity).addr
        if address in seen or len(seen) >= MOST_OBJECTS:
            raise ValueError("it has an object twice, or too many of them")
        seen.add(address)
        if isinstance(identity, h5g.GroupID):
            left = _check_group(h5py.Group(identity), seen, depth + 1, left)
        elif isinstance(identity, h5d.DatasetID):
            left -= _check_array(identity)
        else:
            raise ValueError("it has an object that is no array")
        if left < 0:
            raise ValueError("its arrays declare more bytes than the file has")
        if isinstance(identity, h5d.DatasetID):
            _check_dimensions(identity)
    return left


def _check_array(array: h5d.DatasetID) -> int:
    """Check an array; returns the bytes that it has in the file."""
    _check_attributes(array)
    properties, kind = array.get_create_plist(), array.get_type()
    if properties.get_layout() == h5d.CHUNKED:  # of which few bytes can declare any size
        raise ValueError("its data are packed or in pieces, which no run does")
    if properties.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS) or properties.get_external_count():
        raise ValueError("it has data that lie in other files")
    _check_type(kind)
    if array.get_space().get_simple_extent_type() == h5s.NULL:
        raise ValueError("it has an array without values")
    if h5a.exists(array, b"NAME") and np.bytes_(h5py.Dataset(array).attrs["NAME"]).startswith(ONLY_A_DIMENSION):
        return 0  # it has a length and no data
    return _size(array)


def _check_dimensions(array: h5d.DatasetID) -> None:
    """An array names as many dimensions as it has, or is what names one: readers would guess them."""
    if h5a.exists(array, b"DIMENSION_LIST"):
        fits = h5a.open(array, b"DIMENSION_LIST").shape == (array.rank,)
    else:
        fits = array.rank == 0 or (array.rank == 1 and h5a.exists(array, b"CLASS"))
    if not fits:
        raise ValueError("it has an array with more or fewer dimensions than it names")


def _check_type(kind: h5t.TypeID) -> None:
    if kind.get_class() not in _PLAIN or (kind.get_class() != h5t.STRING and kind.get_size() > 8):
        raise ValueError("it has values that are neither numbers nor texts")


def _check_attributes(item: Any) -> None:
    if h5a.get_num_attrs(item) > MOST_ATTRIBUTES:
        raise ValueError("it has too many attributes")
    for number in range(h5a.get_num_attrs(item)):
        attribute = h5a.open(item, index=number)
        _check_attribute(attribute, attribute.name.decode("utf-8", "replace"))


def _check_attribute(attribute: h5a.AttrID, name: str) -> None:
    kind = attribute.get_type()
    if name not in LINKS_OF_DIMENSIONS:
        _check_type(kind)
    if attribute.get_space().get_simple_extent_type() == h5s.NULL:
        raise ValueError("it has an attribute without a value")
    if _size(attribute) > LARGEST_ATTRIBUTE:
        raise ValueError("it has an attribute that is too large")


def _size(item: Any) -> int:
    """The bytes that an array or attribute declares, as a product that cannot overflow; HDF5's own may wrap to zero."""
    return math.prod(item.get_space().get_simple_extent_dims()) * item.get_type().get_size()
