"""Merges finished chunks into one results file, a slab of the grid at a time: memory does not grow with the sweep."""

import contextlib
import errno
import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from dynamics.errors import PlasticodeError
from experiments.machine.interrupts import raise_if_interrupted
from experiments.points.jobs import Chunking, ChunkKey, Job, classes_of, layout_of, marks_of
from experiments.results.labels import (
    STATUS,
    Table,
    attributes,
    coordinates,
    dims_of,
    part_attributes,
    provenance,
    root_attributes,
    rows_of,
    shape_of,
    slabs,
    stack,
)
from experiments.spec.extents import HELD, are_held
from experiments.spec.spec import Spec
from experiments.storage.chunks import ChunkStore, Record

SLAB_BYTES = 24 * 2**20


def merge(
    spec: Spec, jobs: dict[str, list[Job]], chunking: Chunking, store: ChunkStore, path: Path
) -> dict[str, float]:
    """Write what the store has of all parts to `path`, each part a group (the part "" is the root).

    The file follows from the records alone, byte by byte; what differs from run to run is returned, the seconds that
    each part took. Raises `OSError` where the file cannot be written.
    """
    seconds, missing = {}, False
    with _written(path) as (file, disk):
        if "" not in jobs:
            file.attrs.update(root_attributes(jobs))
        for name, part in spec.parts().items():
            source = _Source(part, jobs[name], chunking, store)
            group = file.create_group(name) if name else file
            source.labels().dump_to_store(H5NetCDFStore(group), encoding=source.encoding())
            missing |= _fill(group, source, disk)
            seconds[name] = sum(source.seconds.values(), 0.0)
        file.attrs["run"] = store.identity
        file.attrs["complete"] = int(not missing)
    return seconds


class _Disk(io.RawIOBase):
    """A file for HDF5, which crashes the process where it cannot write to the file that it closes: here every write
    succeeds. What the system refuses to take stays in memory, and `error` says why."""

    def __init__(self, descriptor: int):
        super().__init__()
        self.descriptor, self.at, self.size = descriptor, 0, 0
        self.error: BaseException | None = None
        self.kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise what a write has met."""
        if self.error is not None:
            raise self.error

    def _try(self, operation: Callable[..., int | None], *arguments: Any) -> int:
        try:
            return operation(self.descriptor, *arguments) or 0
        except BaseException as error:  # an interrupt too must wait until HDF5 is done
            self.error = self.error or error
            return 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self.at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.size}[whence]
        return self.at

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        total = len(left)
        while left and self.error is None and (count := self._try(os.pwrite, left, self.at)):
            left, self.at = left[count:], self.at + count
        if left:
            self.error = self.error or OSError(errno.EIO, os.strerror(errno.EIO))
            self.kept.append((self.at, bytes(left)))
            self.at += len(left)
        self.size = max(self.size, self.at)
        return total

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        first, last = self.at, self.at + len(view)
        view[:] = bytes(len(view))
        self._try(os.preadv, [view], first)
        for at, content in self.kept:
            low, high = max(at, first), min(at + len(content), last)
            if low < high:
                view[low - first : high - first] = content[low - at : high - at]
        self.at = last
        return len(view)

    def truncate(self, size: int | None = None, /) -> int:
        self.size = self.at if size is None else size
        if self.error is None:
            self._try(os.ftruncate, self.size)
        return self.size


@contextlib.contextmanager
def _written(path: Path) -> Iterator[tuple[h5netcdf.File, _Disk]]:
    """A netCDF file to fill; at the end it is on the disk, or `OSError` is raised."""
    with path.open("w+b", buffering=0) as raw:
        disk = _Disk(raw.fileno())
        try:
            with h5netcdf.File(disk, "w") as file:
                yield file, disk
        finally:
            disk.check()  # which says more than what HDF5 makes of it
        os.fsync(disk.descriptor)


class _Source:
    """The finished chunks of one part, and what can be known of their records before they are read: their shapes."""

    def __init__(self, spec: Spec, jobs: list[Job], chunking: Chunking, store: ChunkStore):
        self.spec, self.jobs, self.store = spec, jobs, store
        self.sweep = jobs[0].sweep
        self.marks, self.layout = marks_of(spec), layout_of(jobs)
        self.seconds: dict[ChunkKey, float] = {}
        self.devices: set[str] = set()
        self.rows: dict[ChunkKey, tuple[int, int]] = {}
        self.points: dict[ChunkKey, np.ndarray] = {}
        self.numbers: dict[str, np.dtype] = {}
        self.matrices: dict[str, tuple[np.dtype, set[str]]] = {}
        for job in jobs:
            finished = {key: points for key, points in job.chunks(chunking).items() if key in store}
            for key, points in finished.items():
                rows = rows_of(self.sweep, job.group, points)
                self.rows[key] = int(rows.min()), int(rows.max())
                self.points[key] = points
            if finished:
                self._note(self._read(next(iter(finished)))[0])
        # As jax orders the records, whichever of the jobs has chunks.
        self.numbers, self.matrices = dict(sorted(self.numbers.items())), dict(sorted(self.matrices.items()))

    def _read(self, key: ChunkKey) -> tuple[Record, dict[str, Any]]:
        """The records of a chunk, which must be of its points and of all marks."""
        points, record, told = self.store.read(key)
        whole = np.array_equal(points, self.points[key]) and record["finite"].shape[1] == len(self.marks)
        held = {name: array.shape for name, array in record.get(HELD, {}).items()}
        whole = whole and are_held(held, self.jobs[key.group].arrays, len(points), len(self.marks))
        if not whole or type(told.get("device")) is not str or type(told.get("seconds")) not in (int, float):
            raise PlasticodeError(
                f"chunk file '{self.store.files[key.stem]}' has other points or records than this run: remove it, and "
                "it is made anew"
            )
        return record, told

    def _note(self, record: Record) -> None:
        for name, value in record.items():
            if name == HELD:
                continue
            if isinstance(value, dict):
                for matrix, numbers in value.items():
                    self.matrices.setdefault(name, (numbers.dtype, set()))[1].add(matrix)
            elif name not in ("finite", "converged"):
                self.numbers[name] = value.dtype

    @property
    def matrix_names(self) -> list[str]:
        """All matrices of the part's circuits."""
        return sorted(set().union(*(names for _, names in self.matrices.values())))

    def labels(self) -> xr.Dataset:
        """The result without its data."""
        data = xr.Dataset(coords=coordinates(self.sweep, self.marks, self.matrix_names, self.layout))
        job = self.jobs[0]
        said = part_attributes(job.part, job.outputs, classes_of(self.jobs))
        return data.assign_attrs(provenance(self.spec, "") | said)

    def encoding(self) -> dict[str, Any]:
        """Missing values are NaN as they stand: a fill value would turn a coordinate into a masked one."""
        return {str(name): {"_FillValue": None} for name, c in self.labels().coords.items() if c.dtype.kind == "f"}

    def declare(self, file: Any) -> None:
        """Make the variables of the data, empty."""
        axes = tuple(axis.name for axis in self.sweep.axes)
        loose = {str(name): set(c.dims) for name, c in self.labels().coords.items() if name not in c.dims}
        wanted = {"status": (axes, np.dtype(np.int8))}
        wanted |= {name: ((*axes, "record"), dtype) for name, dtype in self.numbers.items()}
        wanted |= {name: ((*axes, "record", "matrix"), dtype) for name, (dtype, _) in self.matrices.items()}
        for name, (dimensions, dtype) in wanted.items():
            variable = file.create_variable(name, dimensions, dtype)
            variable.attrs.update(attributes(name, self.spec))
            here = [coordinate for coordinate, its in loose.items() if its <= set(dimensions)]
            if here:  # by the convention that tells a reader which variables are coordinates
                variable.attrs["coordinates"] = " ".join(here)

        for name, extent in self.layout.items():
            for dim, size in zip(extent.dims, extent.shape, strict=True):
                if dim not in file.dimensions:
                    file.dimensions[dim] = size
            variable = file.create_variable(name, dims_of(axes, extent), np.dtype(self.spec.dtype))
            variable.attrs.update(extent.attributes)

    def slabs(self) -> Iterator[tuple[tuple[slice, ...], Table]]:
        """Where in the grid, and all there is of the points there."""
        widths = [dtype.itemsize for dtype in self.numbers.values()]
        widths += [dtype.itemsize * len(self.matrix_names) for dtype, _ in self.matrices.values()]
        item = np.dtype(self.spec.dtype).itemsize
        arrays = [math.prod(one.shape) * item * (len(self.marks) if one.records else 1) for one in self.layout.values()]
        most = max(SLAB_BYTES // (max(sum(widths), 1) * len(self.marks) + sum(arrays)), 1)
        last = 0
        for slab in slabs(self.sweep.shape, most):
            first, last = last, last + math.prod(shape_of(slab))
            table = Table(self.sweep, self.marks, first, last, self.layout)
            for key, (lowest, highest) in self.rows.items():
                if lowest < last and highest >= first:
                    record, told = self._read(key)
                    table.add(self.jobs[key.group].group, self.points[key], record)
                    self.devices.add(str(told["device"]))
                    self.seconds[key] = float(told["seconds"])
            yield slab, table
            del table  # before there is another one


def _fill(file: Any, source: _Source, disk: _Disk) -> bool:
    """Add the data to a group that has its coordinates; returns whether points are missing."""
    source.declare(file)
    names, missing = source.matrix_names, False
    for slab, table in source.slabs():
        shape, at = shape_of(slab), slab or ...
        blank = (len(table.status), len(table.marks))
        missing |= bool((table.status == STATUS.index("missing")).any())
        file["status"][at] = table.status.reshape(shape)
        for name, dtype in source.numbers.items():
            numbers = table.numbers.get(name, np.full(blank, np.nan, dtype))
            file[name][at] = numbers.reshape(*shape, len(table.marks))
        for name, (dtype, _) in source.matrices.items():
            columns = table.matrices.get(name) or {"": np.full(blank, np.nan, dtype)}
            file[name][at] = stack(columns, names).reshape(*shape, len(table.marks), len(names))
        for name, extent in source.layout.items():
            numbers = table.whole(name, np.dtype(source.spec.dtype))
            file[name][at] = numbers.reshape(*shape, *numbers.shape[1 if extent.records else 2 :])
        disk.check()
        raise_if_interrupted()
        del table
    file.attrs["device"] = ", ".join(sorted(source.devices)) or "none"
    return missing
