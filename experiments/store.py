"""Results on disk: one netCDF file, its summary as JSON, and a directory that is whole or not there."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError
from experiments.intervals import Interval, axes, curves, positions
from experiments.labels import STATUS
from experiments.runner import Results
from experiments.units import printable

ENGINE = "h5netcdf"


def save(results: Results, path: Path) -> None:
    """Write all parts into one netCDF-4 file, each a group (the part "" is the root); a reader sees all of it or none.

    Raises `OSError` where the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with h5netcdf.File(partial, "w"):
            pass  # an empty file, to which groups are added
        for part, data in results.datasets.items():
            # Missing values are NaN as they stand: a fill value would turn a coordinate into a masked one.
            plain = {name: {"_FillValue": None} for name, values in data.variables.items() if values.dtype.kind == "f"}
            data.to_netcdf(partial, mode="a", group=part or None, engine=ENGINE, encoding=plain)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> Results:
    """Read what `save` wrote, into memory. A file that is no result raises `PlasticodeError`."""
    try:
        with h5netcdf.File(path, "r") as file:
            parts = list(file.groups) or [""]
        datasets = {part: xr.load_dataset(path, group=part or None, engine=ENGINE) for part in parts}
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PlasticodeError(f"results file '{path}' cannot be read: {printable(reason)}") from None
    for part, data in datasets.items():
        if "status" not in data:
            raise PlasticodeError(f"results file '{path}' has no status in part '{part}': it must be written by `run`")
    missing = STATUS.index("missing")
    return Results(datasets, not any(bool((data["status"] == missing).any()) for data in datasets.values()))


def summary(results: Results) -> dict[str, Any]:
    """What summary.json says of results: of each part its axes, how its points ended, the final value of every probe.

    A final value is the mean over seeds, its 95 % interval (null for fewer than two), the number `n` of seeds in it and
    the number `excluded` from it because they diverged or never ran.
    """
    return {
        "complete": results.complete,
        "parts": {part: _part_summary(data) for part, data in results.datasets.items()},
    }


def status_counts(data: xr.Dataset) -> dict[str, int]:
    """How many points ended in each status."""
    status = data["status"].values
    return {name: int((status == code).sum()) for code, name in enumerate(STATUS)}


def _part_summary(data: xr.Dataset) -> dict[str, Any]:
    names = axes(data)
    final = {name: over_seeds.at(record=-1) for name, over_seeds in curves(data).items()}
    rows = []
    for position in positions(data, names):
        at = {name: _plain(data[name].values[index]) for name, index in position.items()}
        here = {name: one.at(**position) for name, one in final.items()}
        rows.append({"at": at} | {name: _final_value(one) for name, one in here.items() if one.n + one.excluded > 0})
    return {
        "axes": {
            name: {"units": data[name].attrs.get("units", ""), "values": [_plain(v) for v in data[name].values]}
            for name in [str(name) for name in data["status"].dims]
        },
        "status": status_counts(data),
        "final": rows,
    } | {key: _plain(data.attrs[key]) for key in ("seconds", "device", "dtype", "spec_hash") if key in data.attrs}


def _final_value(one: Interval) -> dict[str, Any]:
    mean, half = float(one.mean), float(one.half)
    return {
        "mean": mean if np.isfinite(mean) else None,
        "interval95": [mean - half, mean + half] if np.isfinite(half) else None,
        "n": int(one.n),
        "excluded": int(one.excluded),
    }


def _plain(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value


def write_json(content: Any, path: Path) -> None:
    """Strict JSON (no NaN), indented."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def output_directory(target: Path) -> Iterator[Path]:
    """A hidden directory to write into; at the end it becomes `target`, on any error it vanishes.

    It lies beside a `target` that does not exist yet, and inside one that does, which may be a mounted volume. There,
    files of the same name are replaced, figures of an earlier run removed, all others stay. What cannot be written
    raises `PlasticodeError`.
    """
    target = target.absolute()
    partial = (target if target.is_dir() else target.parent) / f".{target.name}.{os.getpid()}.partial"
    if target.exists() and not target.is_dir():
        raise PlasticodeError(f"the output '{target}' is a file: --out must name a directory, or nothing yet")
    created: list[Path] = []
    try:
        with _told(target):
            _make(partial.parent, created)
            partial.mkdir()
        yield partial
        with _told(target):
            _publish(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for directory in reversed(created):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _make(directory: Path, created: list[Path]) -> None:
    """Make a directory and its parents, noting those that were not there."""
    if not directory.exists():
        _make(directory.parent, created)
        directory.mkdir()
        created.append(directory)


def _publish(source: Path, target: Path) -> None:
    """Move the files of `source`: at once where there is no `target` yet, otherwise one by one."""
    if not target.exists():
        source.rename(target)
        return
    for name in _figures(target) - _figures(source):
        (target / "figures" / name).unlink(missing_ok=True)
    for path in sorted(source.rglob("*")):
        moved = target / path.relative_to(source)
        if path.is_dir():
            moved.mkdir(exist_ok=True)
        else:
            path.replace(moved)


def _figures(directory: Path) -> set[str]:
    """The figures that an earlier run wrote there, by its summary."""
    try:
        figures = json.loads((directory / "summary.json").read_text(encoding="utf-8"))["figures"]
        return {Path(name).name for name in figures}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    """The system's refusal as a sentence."""
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}: '{error.filename}'"
        allowed = "--out must name a directory in a writable place"
        raise PlasticodeError(f"the output '{target}' cannot be written ({reason}): {allowed}") from None
