"""Finished chunks on disk: one netCDF file each, which is whole and of this very run, or counts as not there.

The name of a file ends in a checksum of its content, keyed with the run and the chunk. A file that was cut, changed,
renamed or brought from another run does not match: it is removed and told about, and its chunk runs again.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np

from dynamics.errors import PlasticodeError, reason
from experiments.machine import files
from experiments.machine.reading import check_regular, checked_hdf5, read_bytes, read_json
from experiments.points.jobs import ChunkKey
from experiments.spec.extents import HELD

PARTIAL, CHECKPOINT, FAILED = ".partial", ".checkpoint", ".failed.json"
BLOCK = 2**22
LARGEST, LARGEST_FAILURE = 2**32, 2**20  # bytes of a chunk or checkpoint, of why a chunk failed
READERS = 8  # threads; reading and hashing need no interpreter
_STEM = r"(?P<stem>(?P<job>.+-\d{4,})-(?P<number>\d{6,}))"
NAME = re.compile(_STEM + r"\.(?P<checksum>[0-9a-f]{32})\.nc")
_PARTIAL = re.compile(_STEM + r"(-[^.]+\.checkpoint)?\..+" + re.escape(PARTIAL))
_OTHER = re.compile(_STEM + r"(\.failed\.json|-[^.]+\.checkpoint)")
_LENGTHS = re.compile(rf"(point|record)$|{HELD}\.")  # of dimensions, those of arrays called "arrays.NAME.AXIS"
_TRUTHS = ("finite", "converged")  # netCDF has no truth values

Record = dict[str, Any]  # arrays (points, records) by probe, or dicts of them by matrix


def is_of_store(name: str) -> bool:
    """Whether a store gives its files such a name: chunks, failures, checkpoints, and what is half written of them."""
    return any(pattern.fullmatch(name) for pattern in (NAME, _PARTIAL, _OTHER))


class ChunkStore:
    """The finished chunks in `directory` of the run `identity`, a text with all that may change a number."""

    def __init__(self, directory: Path, identity: str):
        self.directory, self.identity = directory, identity
        self.files: dict[str, Path] = {}
        self._checkpoints: dict[str, set[Path]] = {}
        self._leftovers: dict[str, set[Path]] = {}  # of a process that was killed as it wrote the same chunk

    def scan(self) -> list[str]:
        """Look which chunks are finished. Returns the names of files that are damaged or foreign, and removes them.

        Another process may be at work here: what it is writing is left alone.
        """
        found = os.scandir(self.directory) if self.directory.is_dir() else ()
        entries = sorted(entry.name for entry in found if entry.is_file(follow_symlinks=False))
        matches = [match for match in map(NAME.fullmatch, entries) if match]
        self._leftovers = {}
        for match in filter(None, map(_PARTIAL.fullmatch, entries)):
            self._leftovers.setdefault(match["stem"], set()).add(self.directory / match[0])
        with ThreadPoolExecutor(READERS) as pool:
            whole = dict(zip(matches, pool.map(self._is_whole, matches), strict=True))
        self.files = {match["stem"]: self.directory / match[0] for match, good in whole.items() if good}
        rejected = [match[0] for match, good in whole.items() if good is False]
        for name in rejected:
            (self.directory / name).unlink(missing_ok=True)
        return rejected

    def _is_whole(self, match: re.Match[str]) -> bool | None:
        """None where the file cannot be read now, or is gone: its chunk runs again, but it may well be good."""
        try:
            if check_regular(self.directory / match[0], self.directory).st_size > LARGEST:
                return False
            with (self.directory / match[0]).open("rb", buffering=0) as file:
                checksum = self._hash(match["stem"])
                while block := file.read(BLOCK):  # whole files of all threads might not fit into memory
                    checksum.update(block)
        except OSError:
            return None
        return checksum.hexdigest() == match["checksum"]

    def __contains__(self, key: ChunkKey) -> bool:
        return key.stem in self.files

    def write(self, key: ChunkKey, points: np.ndarray, record: Record, attributes: Mapping[str, Any]) -> None:
        """Keep a finished chunk. Raises `OSError` where that fails."""
        buffer = io.BytesIO()  # on a full disk HDF5 itself would crash the process
        with h5netcdf.File(buffer, "w") as file:
            file.attrs.update(attributes)
            _fill(file, points, record)
        content = buffer.getbuffer()
        final = self.directory / f"{key.stem}.{self._checksum(key.stem, content)}.nc"
        self._put(final, key.stem, content)
        self.files[key.stem] = final
        self.forget(key)
        for path in (self._failure(key), *self._leftovers.pop(key.stem, ())):
            with contextlib.suppress(OSError):  # a folder of the user's
                path.unlink(missing_ok=True)

    def forget(self, key: ChunkKey) -> None:
        """Remove the checkpoints of a chunk that is finished."""
        for path in self._checkpoints.pop(key.stem, ()):
            path.unlink(missing_ok=True)

    def read(self, key: ChunkKey) -> tuple[np.ndarray, Record, dict[str, Any]]:
        """The points of a finished chunk, their records, and the file's attributes."""
        match = NAME.fullmatch(self.files[key.stem].name)
        if match is None or not self._is_whole(match):
            raise PlasticodeError(
                f"chunk file '{self.files[key.stem]}' was changed while the run went on: the same command makes it anew"
            )
        try:
            with checked_hdf5(self.files[key.stem]) as file:  # in an eighth of the time that h5netcdf takes
                items: dict[str, Any] = dict(file.items())
                points: np.ndarray = items["point"][()]
                record: Record = {name: _arrays(item) for name, item in items.items() if not _LENGTHS.match(name)}
                attributes = {name: np.asarray(value).item() for name, value in file.attrs.items() if name[0] != "_"}
            _check_record(points, record)
        except Exception as error:  # whatever the reader makes of a file whose checksum is right, and is no chunk
            raise PlasticodeError(
                f"chunk file '{self.files[key.stem]}' is none of a run ({reason(error)}): remove it, it is made anew"
            ) from None
        return points, record | {name: record[name].astype(bool) for name in _TRUTHS if name in record}, attributes

    def write_failure(self, key: ChunkKey, points: int, error: str, traceback: str) -> None:
        """Keep why a chunk could not be computed."""
        content = {"points": points, "error": error, "traceback": traceback}
        self._put(self._failure(key), key.stem, json.dumps(content, indent=2))

    def failures(self) -> dict[str, dict[str, Any]]:
        """The chunks that could not be computed, by the stem of their name."""
        found = {}
        for path in sorted(self.directory.glob(f"*{FAILED}")):
            stem = path.name.removesuffix(FAILED)
            with contextlib.suppress(OSError, ValueError, RecursionError):  # one that another process is just removing
                content = read_json(path, LARGEST_FAILURE, self.directory)
                # One of a finished chunk outlived the process that finished it.
                if stem not in self.files and isinstance(content, dict) and type(content.get("error")) is str:
                    found[stem] = content
        return found

    def save_checkpoint(self, key: ChunkKey, name: str, content: bytes) -> None:
        """Keep how far an unfinished chunk is, in place of what was kept under this `name` before."""
        path = self._checkpoint(key, name)
        self._put(path, path.name, self._checksum(path.name, content).encode() + content)
        self._checkpoints.setdefault(key.stem, set()).add(path)

    def load_checkpoint(self, key: ChunkKey, name: str) -> bytes | None:
        """What `save_checkpoint` has kept, if it is whole and of this run."""
        path = self._checkpoint(key, name)
        try:
            content = read_bytes(path, LARGEST, self.directory)
        except OSError:
            return None
        self._checkpoints.setdefault(key.stem, set()).add(path)
        checksum, content = content[:32], content[32:]
        return content if checksum == self._checksum(path.name, content).encode() else None

    def begun(self) -> int:
        """How many checkpoints there are of chunks that are not finished."""
        return sum(1 for _ in self.directory.glob(f"*{CHECKPOINT}"))

    def _failure(self, key: ChunkKey) -> Path:
        return self.directory / f"{key.stem}{FAILED}"

    def _checkpoint(self, key: ChunkKey, name: str) -> Path:
        return self.directory / f"{key.stem}-{name}{CHECKPOINT}"

    def _put(self, path: Path, stem: str, content: str | bytes | memoryview) -> None:
        """Write a file whole, or leave what was there; while it is written, its name begins with `stem`."""
        if self.directory.is_symlink():  # it was replaced while the run went on
            raise OSError(errno.ELOOP, "chunks is a link")
        files.write(path, self.directory / f"{stem}.{files.writer()}{PARTIAL}", content)

    def _checksum(self, stem: str, content: bytes | memoryview) -> str:
        checksum = self._hash(stem)
        checksum.update(content)
        return checksum.hexdigest()

    def _hash(self, stem: str) -> Any:
        key = hashlib.blake2b(f"{self.identity}\n{stem}".encode(), digest_size=32).digest()
        return hashlib.blake2b(key=key, digest_size=16)


def _check_record(points: np.ndarray, record: Record) -> None:
    """Raise `ValueError` unless all arrays are numbers over (points, records); those in `HELD` go on from there."""
    if points.ndim != 1 or points.dtype.kind != "i" or "finite" not in record or np.ndim(record["finite"]) != 2:
        raise ValueError("it has no points")
    shape = (len(points), record["finite"].shape[1])
    for name, value in record.items():
        for numbers in value.values() if isinstance(value, dict) else (value,):
            if isinstance(numbers, dict) or numbers.dtype.kind not in "iuf":
                raise ValueError("it has arrays of another type")
            if numbers.shape != shape and not (name == HELD and numbers.ndim > 1 and len(numbers) == len(points)):
                raise ValueError("it has arrays of another shape")


def _arrays(item: Any) -> Any:
    return {name: _arrays(inner) for name, inner in item.items()} if isinstance(item, h5py.Group) else item[()]


def _fill(file: h5netcdf.File, points: np.ndarray, record: Record) -> None:
    file.dimensions = {"point": len(points), "record": np.shape(record["finite"])[1]}
    file.create_variable("point", ("point",), data=np.asarray(points, np.int64))
    for name, value in record.items():
        if isinstance(value, dict):
            group = file.create_group(name)
            for matrix, numbers in value.items():
                dims = ("point", "record") if name != HELD else ("point", *_own_dimensions(file, matrix, numbers))
                group.create_variable(matrix, dims, data=numbers)
        else:
            numbers = value.astype(np.int8) if name in _TRUTHS else value
            file.create_variable(name, ("point", "record"), data=numbers)


def _own_dimensions(file: h5netcdf.File, name: str, numbers: np.ndarray) -> list[str]:
    """Names for the dimensions of an array after the first."""
    sizes = {f"{HELD}.{name}.{axis}": size for axis, size in enumerate(numbers.shape[1:])}
    for dim, size in sizes.items():
        file.dimensions[dim] = size
    return list(sizes)
