"""Results on disk: one netCDF file, its summary as JSON, and a directory that is whole or not there."""

import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr
from xarray.backends import H5NetCDFStore

from dynamics.errors import PlasticodeError, printable, reason
from experiments.machine.reading import checked_hdf5, is_texts, parse_json
from experiments.results import ownership
from experiments.results.intervals import axes, count, finals
from experiments.results.labels import STATUS, Results, other_format, root_attributes
from experiments.results.schema import check_dimensions, check_values

ATTRIBUTES = ("seconds", "device", "dtype", "spec_hash")  # that summary.json repeats
MOST_FINALS = 200_000  # rows in summary.json: some 100 MB
ROWS_AT_ONCE = 1000


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Results]:
    """What a run has written, to be read as needed: only axes and status are in memory, probes are read at each use.

    The file may be moved or replaced inside the `with` block: what is read stays the same. A file that is no result
    raises `PlasticodeError`.
    """
    with contextlib.ExitStack() as stack:
        with readable(path):
            with checked_hdf5(path):
                pass
            # One handle of our own for all parts: xarray's would be closed and opened again by name at its pleasure.
            file = stack.enter_context(h5netcdf.File(path, "r", decode_vlen_strings=True))
            groups = dict(file.groups) or {"": file}
            datasets = {part: _opened_part(path, part, group) for part, group in groups.items()}
        missing = STATUS.index("missing")
        yield Results(datasets, not any(bool((data["status"] == missing).any()) for data in datasets.values()))


def load(path: Path) -> Results:
    """Read what a run has written, into memory. A file that is no result raises `PlasticodeError`."""
    with opened(path) as results, readable(path):
        return results._replace(datasets={part: data.load() for part, data in results.datasets.items()})


def open_results(source: str | Path) -> xr.Dataset | xr.DataTree:
    """The results of a run, read into memory: `source` is its directory, or its results.nc.

    One data set, or where the spec has parts a tree of one each, whose root says so. What is no result, and results of
    another version's format, raise `PlasticodeError`.
    """
    path = Path(source)
    for name in ownership.ANALYSES:
        if (path / name).is_file() and not (path / "results.nc").exists():
            how = f"xarray.open_dataset reads '{path / name}', of a fit with the name of a group"
            raise PlasticodeError(f"'{printable(str(path))}' holds no results of a run: {how}")
    return together(load(path / "results.nc" if path.is_dir() else path).datasets)


def together(datasets: dict[str, xr.Dataset]) -> xr.Dataset | xr.DataTree:
    """The data set of a spec without parts, or the tree of those of all parts."""
    if "" in datasets:
        return datasets[""]
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root_attributes(datasets)), **datasets})


def _opened_part(path: Path, part: str, group: h5netcdf.Group) -> xr.Dataset:
    # Values as they stand: a run masks, scales and dates nothing.
    data = xr.open_dataset(H5NetCDFStore(group), cache=False, mask_and_scale=False, decode_times=False)
    for name, what in (("status", "status"), ("presentation", "records")):
        if name not in data:
            where = f"part '{printable(part)}'"
            raise PlasticodeError(f"results file '{path}' has no {what} in {where}: it must be written by `run`")
    versions = parse_json(data.attrs.get("versions", "{}"))
    other = other_format(data.attrs.get("format"), versions if is_texts(versions) else {})
    if other:
        raise PlasticodeError(f"results file '{path}' has {other}: use that one, or run the spec anew")
    check_dimensions(data)
    for name in ("status", *data.coords):
        data.variables[name].load()
    check_values(data)
    return data


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """What is wrong with a file, as a sentence; whatever its readers make of it, it is the file that is wrong."""
    try:
        yield
    except PlasticodeError:
        raise
    except Exception as error:
        raise PlasticodeError(f"results file '{path}' cannot be read: {reason(error)}") from None


def summary(results: Results) -> dict[str, Any]:
    """What summary.json says of results: of each part its axes, how its points ended, the final value of every probe.

    A final value is the mean over seeds, its 95 % interval (null for fewer than two), the number `n` of seeds in it and
    the number `excluded` from it because they diverged or never ran. The rows, `FinalValues`, are for `write_json`.
    """
    return {
        "complete": results.complete,
        "parts": {part: _part_summary(data) for part, data in results.datasets.items()},
    }


def status_counts(data: xr.Dataset) -> dict[str, int]:
    """How many points ended in each status."""
    status = data["status"].values
    return {name: int((status == code).sum()) for code, name in enumerate(STATUS)}


class FinalValues:
    """A row of summary.json for each of the first `MOST_FINALS` positions of the grid, made when it is asked for.

    As Python's own numbers, all rows of a large sweep together would need more memory than its results.
    """

    def __init__(self, data: xr.Dataset):
        self.names = axes(data)
        self.total = count(data, self.names)
        self.places = [data[name].values.tolist() for name in self.names]
        self.columns = {
            name: [field.transpose(*self.names).values.reshape(-1) for field in one]
            for name, one in finals(data).items()
        }

    def __len__(self) -> int:
        return min(self.total, MOST_FINALS)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        places = itertools.product(*self.places)
        for start in range(0, len(self), ROWS_AT_ONCE):
            part = slice(start, min(start + ROWS_AT_ONCE, len(self)))
            columns = [_final_values([field[part] for field in one]) for one in self.columns.values()]
            for place, *values in zip(itertools.islice(places, part.stop - start), *columns, strict=True):
                at = dict(zip(self.names, place, strict=True))
                yield {"at": at} | {name: one for name, one in zip(self.columns, values, strict=True) if one}


def _final_values(fields: list[np.ndarray]) -> Iterator[dict[str, Any] | None]:
    """The entries of some rows for a probe, from the fields of its `Interval`; None where it does not exist."""
    for mean, half, n, excluded in zip(*(field.tolist() for field in fields), strict=True):
        content = {
            "mean": None if math.isnan(mean) else mean,
            "interval95": [mean - half, mean + half] if math.isfinite(half) else None,
            "n": n,
            "excluded": excluded,
        }
        yield content if n + excluded else None


def _part_summary(data: xr.Dataset) -> dict[str, Any]:
    rows = FinalValues(data)
    content: dict[str, Any] = {
        "axes": {
            name: {"units": data[name].attrs.get("units", ""), "values": data[name].values.tolist()}
            for name in map(str, data["status"].dims)
        },
        "status": status_counts(data),
    }
    if len(rows) < rows.total:
        content["note"] = f"final has the first {len(rows)} of {rows.total} rows: results.nc has all values"
    content["final"] = rows
    return content | {key: _plain(data.attrs[key]) for key in ATTRIBUTES if key in data.attrs}


def _plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _strict(value: Any) -> Any:
    """What JSON has words for: numbers that it does not know as texts, "inf", "-inf" and "nan"."""
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    value = _plain(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


_STRICT: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False}
_INDENTED, _ONE_LINE = json.JSONEncoder(indent=2, **_STRICT), json.JSONEncoder(**_STRICT)


def write_json(content: Any, path: Path) -> None:
    """Strict JSON, numbers that are not finite as texts, indented; `FinalValues` with one row per line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_json(content, "\n"))
        file.write("\n")


def _json(content: Any, newline: str) -> Iterator[str]:
    """The text in pieces. `newline` holds the margin too."""
    if isinstance(content, FinalValues):
        for index, row in enumerate(content):
            yield f"{',' if index else '['}{newline}  {_ONE_LINE.encode(_strict(row))}"
        yield f"{newline}]"
    elif isinstance(content, dict) and content:
        for index, (key, value) in enumerate(content.items()):
            yield f"{',' if index else '{'}{newline}  {_ONE_LINE.encode(key)}: "
            yield from _json(value, f"{newline}  ")
        yield f"{newline}}}"
    else:
        yield _INDENTED.encode(_strict(content)).replace("\n", newline)


def check_output(target: Path) -> None:
    """Refuse what no directory can be."""
    name = str(target)
    if not name.isprintable() or not name.strip() or any(len(part.encode()) > 200 for part in target.parts):
        raise PlasticodeError(f"--out = '{printable(name)}' is not allowed: it must be a path that can be read")
    with told(target):
        if target.exists() and not target.is_dir():
            raise PlasticodeError(f"the output '{target}' is a file: --out must name a directory, or nothing yet")


@contextlib.contextmanager
def output_directory(target: Path, writes: Sequence[str] = ownership.RUN) -> Iterator[Path]:
    """A hidden directory to write into; at the end it becomes `target`, on any error it vanishes.

    It lies beside a `target` that does not exist yet, and inside one that does, which may be a mounted volume. There,
    files that runs have written are replaced, their figures removed, all others stay; a file or link that no run made
    where one of the names in `writes` belongs, or what cannot be written, raises `PlasticodeError`.
    """
    check_output(target)
    ownership.refuse(target, writes)
    ownership.remove_leftovers(target.absolute(), alone=False)
    target = target.absolute()
    partial = (target if target.is_dir() else target.parent) / f".{target.name}.{os.getpid()}.partial"
    created = [path for path in (partial.parent, *partial.parent.parents) if not path.exists()]
    try:
        with told(target):
            partial.mkdir(parents=True)
            ownership.mark(partial)
        yield partial
        with told(target):
            _publish(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for directory in created:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _publish(source: Path, target: Path) -> None:
    """Move the files of `source`: at once where there is no `target` yet, otherwise one by one."""
    (source / ownership.MARK).lstat()  # another run that took over has removed it
    if not target.exists():
        source.rename(target)
        (target / ownership.MARK).unlink()
        return
    found = sorted(path for path in source.rglob("*") if path.name != ownership.MARK)
    names = [path.relative_to(source).as_posix() for path in found]
    ownership.refuse(target, names)
    made, figures = ownership.made_in(target).paths, f"{ownership.FIGURES}/"
    old = {path for path in made if path.startswith(figures) or path == ownership.RECORDED}
    ownership.claim(target, names)
    for name in old - set(names):
        is_there = name == ownership.RECORDED or ownership.is_directory(target / ownership.FIGURES)
        if is_there and ownership.is_file(target / name):
            (target / name).unlink(missing_ok=True)
    for name, path in zip(names, found, strict=True):
        if path.is_dir():
            (target / name).mkdir(exist_ok=True)
        else:
            path.replace(target / name)
    ownership.unclaim(target)


@contextlib.contextmanager
def told(target: Path) -> Iterator[None]:
    """The system's refusal as a sentence."""
    try:
        yield
    except OSError as error:
        why = reason(error) + (f": '{error.filename}'" if error.filename else "")
        allowed = "--out must name a directory in a writable place"
        raise PlasticodeError(f"the output '{target}' cannot be written ({why}): {allowed}") from None
