"""Results as one tidy table, CSV or Parquet, for pandas and its like: read and written slab by slab."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from dynamics.errors import PlasticodeError, printable, reason, unknown
from experiments.machine import files
from experiments.machine.lock import has_ended, this_process
from experiments.machine.reading import check_regular
from experiments.results.intervals import numbers_over_records
from experiments.results.labels import STATUS, shape_of, slabs
from experiments.results.netcdf import opened, readable
from experiments.results.ownership import is_file

VALUES = 2**21  # of a slab, which bounds the memory, whatever the size of the results
FIXED = ("status", "phase", "presentation", "time")

Block = dict[str, np.ndarray]
Writer = Callable[[Path, list[str], list[Block], Iterable[Block]], None]


def export_table(source: Path, target: Path, part: str | None = None) -> int:
    """Write a results file, or the results.nc of a directory, as a table; return its number of rows.

    A row is a point at a record. Its columns are the swept paths, the status as text, the `phase` of a run that has
    some, `presentation`, `time` in seconds where all points share it, and the probes; "alignment_W1" is a probe of one
    matrix. All parts make one table, with a first column `part`, where none is named. What does not exist is empty. The
    suffix of `target`, .csv or .parquet, decides the format; a CSV file has the shortest text of every number that
    reads back as the same number.
    """
    write, path = _writer(target), source / "results.nc" if source.is_dir() else source
    if not path.exists():
        raise PlasticodeError(f"'{path}' does not exist: a run writes it at its end, see `plasticode status DIR`")
    if target.exists() and os.path.samefile(path, target):
        raise PlasticodeError(f"the table '{target}' is the results file: it must be another file")
    with readable(path):
        check_regular(path, source if source.is_dir() else None)
    with _opened(path, part) as parts:
        empty = [one.block((slice(0, 0),) * len(one.shape)) for one in parts]
        header = _header(parts, empty)
        rows = max(1, VALUES // len(header))
        with _replacing(target) as partial:
            write(partial, header, empty, (one.block(slab) for one in parts for slab in slabs(one.shape, rows)))
        return sum(math.prod(one.shape) for one in parts)


@dataclass(frozen=True)
class _Part:
    """A part of a results file, whose values stay on disk; `label` is its value in the column `part`, if there is one.

    Rows are in the order of the grid, records varying fastest.
    """

    path: Path
    label: str | None
    data: xr.Dataset

    @property
    def dims(self) -> list[str]:
        return [*map(str, self.data["status"].dims), "record"]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.sizes[dim] for dim in self.dims)

    @property
    def coordinates(self) -> list[str]:
        """The swept paths by axis, the one that names the axis before those that are tied to it."""
        of_axis = {axis: [str(name) for name, c in self.data.coords.items() if c.dims == (axis,)] for axis in self.dims}
        return [name for axis in self.dims[:-1] for name in sorted(of_axis[axis], key=lambda name: name != axis)]

    def block(self, slab: tuple[slice, ...]) -> Block:
        """The columns of the rows in a slab of the grid."""
        sizes = dict(zip(self.dims, shape_of(slab), strict=True))
        rows = math.prod(sizes.values())
        block: Block = {} if self.label is None else {"part": np.full(rows, self.label, object)}
        probes = numbers_over_records(self.data)
        for name in [*self.coordinates, *(name for name in FIXED if name in self.data), *probes]:
            variable = self.data[name].variable
            per_matrix = {"matrix": self.data.sizes["matrix"]} if "matrix" in variable.dims else {}
            at = {dim: extent for dim, extent in zip(self.dims, slab, strict=True) if dim in variable.dims}
            with readable(self.path):  # it may be damaged there
                values = variable.isel(at).set_dims(sizes | per_matrix).values
            if per_matrix:
                for index, matrix in enumerate(self.data["matrix"].values):
                    block[f"{name}_{matrix}"] = values[..., index].ravel()
            else:
                block[name] = _texts(values.ravel(), name)
        return block


def _texts(values: np.ndarray, name: str) -> np.ndarray:
    """Numbers as they are, all else as Python's texts."""
    if name == "status":
        return np.array(STATUS, object)[values]
    return values if values.dtype.kind in "iuf" else values.astype(object)


def _header(parts: list[_Part], empty: list[Block]) -> list[str]:
    """The columns of all parts, seeds after all other coordinates."""
    named = ["part"] if "part" in empty[0] else []
    coordinates = sorted({name: None for one in parts for name in one.coordinates}, key=lambda name: name == "seed")
    fixed = [name for name in FIXED if any(name in block for block in empty)]
    return list(dict.fromkeys([*named, *coordinates, *fixed, *(name for block in empty for name in block)]))


# -------------------------------------------------------------------------------------------------------------- formats


def _writer(target: Path) -> Writer:
    """What writes the format that the suffix names."""
    if target.is_dir():
        raise PlasticodeError(f"the table '{target}' is a directory: it must be a file that ends in .csv or .parquet")
    if os.path.lexists(target) and not is_file(target):
        kind = "a link" if target.is_symlink() else "no file of data"
        raise PlasticodeError(f"the table '{target}' is {kind}: it must be a file, or nothing yet")
    if target.suffix == ".csv":
        return _write_csv
    if target.suffix != ".parquet":
        raise PlasticodeError(f"the table '{target}' has no known format: its name must end in .csv or .parquet")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise PlasticodeError(
            f"the table '{target}' needs pyarrow, which is not installed: pip install '.[parquet]', or use .csv"
        ) from None
    return _write_parquet


def _write_csv(path: Path, header: list[str], empty: list[Block], blocks: Iterable[Block]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(columns=header).to_csv(file, index=False, lineterminator="\n")
        for block in blocks:
            pd.DataFrame(block, columns=header).to_csv(file, header=False, index=False, lineterminator="\n")


def _write_parquet(path: Path, header: list[str], empty: list[Block], blocks: Iterable[Block]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    # Of a column that differs between parts, the type that holds both; texts where one has texts.
    dtypes = {name: np.result_type(*(block[name].dtype for block in empty if name in block)) for name in header}
    types = {name: pa.string() if dtype.kind == "O" else pa.from_numpy_dtype(dtype) for name, dtype in dtypes.items()}
    schema = pa.schema(list(types.items()))

    def array(block: Block, rows: int, name: str) -> Any:
        if name not in block:
            return pa.nulls(rows, types[name])
        values = block[name]
        if dtypes[name].kind == "O" and values.dtype.kind != "O":
            values = values.astype(str)
        return pa.array(values.astype(dtypes[name]), types[name], from_pandas=True)  # a NaN as an empty value

    repeated = header[: 1 + max(header.index(name) for name in FIXED if name in header)]
    # pyarrow takes a file of Python's, whose errors are the system's own words
    with path.open("wb") as file, parquet.ParquetWriter(file, schema, use_dictionary=repeated) as writer:  # pyright: ignore[reportArgumentType]
        for block in blocks:
            rows = len(block["status"])
            writer.write_table(pa.table([array(block, rows, name) for name in header], schema=schema))


# ---------------------------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def _opened(path: Path, part: str | None) -> Iterator[list[_Part]]:
    """The named part of a results file, or all of them. A file that is no result raises `PlasticodeError`."""
    with opened(path) as results:
        groups = [name for name in results.datasets if name]
        if part is None:
            yield [_Part(path, name or None, data) for name, data in results.datasets.items()]
        elif part in groups:
            yield [_Part(path, None, results.datasets[part])]
        elif groups:
            raise unknown("part", printable(part), groups)
        else:
            raise PlasticodeError(f"part = '{printable(part)}' is not allowed: results file '{path}' has no parts")


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """A hidden file beside `target`, which replaces it at the end; on any error it vanishes."""
    _remove_leftovers(target)
    try:
        with files.replacing(target, target.with_name(f".{target.name}.{files.writer()}.partial")) as partial:
            yield partial
    except OSError as error:
        why = f"{reason(error)}; it must be in a writable place"
        raise PlasticodeError(f"the table '{target}' cannot be written: {why}") from None


def _remove_leftovers(target: Path) -> None:
    """Remove what exports to the same file left half written that were killed: of processes here that have ended."""
    host = this_process()
    pattern = re.compile(rf"\.{re.escape(target.name)}\.{re.escape(os.uname().nodename)}-([0-9]+)\.partial")
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            match = pattern.fullmatch(path.name)
            if match and is_file(path) and has_ended(host | {"pid": match[1]}):
                path.unlink()
