"""Recordings: what was observed in each presentation, and which sample it showed; from files or arrays."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError, printable, refused
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.table import Fit, Observation
from experiments.machine.names import hint
from experiments.tasks.contract import AbstractTask
from experiments.tasks.files import opened
from experiments.tasks.places import found
from experiments.tasks.recorded import Recorded

SAMPLE = "sample"  # the variable that says which sample of the task a presentation showed
FEWEST = 2  # presentations


class Recording(NamedTuple):
    """`seen` by name: (presentations, data), NaN where nothing was recorded; `sample` (presentations,), the number of
    the sample that each showed (None: those of the spec's own order); `shown` are the inputs and targets that it has
    itself, by name; `start` the initial weights, by map."""

    presentations: int
    seen: dict[str, np.ndarray]
    sample: np.ndarray | None
    shown: Mapping[str, np.ndarray] = MappingProxyType({})
    start: Mapping[str, np.ndarray] = MappingProxyType({})


def read(source: str | Path | Mapping[str, Any] | xr.Dataset, fit: Fit, task: AbstractTask | None = None) -> Recording:
    """The recording of a fit: a file (netCDF, .npz, NWB and other HDF5, MATLAB, .csv, .parquet), a dataset, or arrays
    by name. Of a table the variable "choice" is a column of that name, or the columns choice_0, choice_1, ...; in files
    with folders it is also "intervals/trials/choice", or "processing/behavior/choice/data". Of a recorded `task` the
    recording may have inputs and targets too.

    Raises:
        PlasticodeError: something is missing, has other dimensions, or nothing of it was recorded.
    """
    shown = (task.inputs, task.targets) if isinstance(task, Recorded) else ()
    if isinstance(source, str | Path):
        place = found("fit.data", str(source))
        with opened(place) as contents:
            wanted = [SAMPLE, *shown, fit.initial_weights, *(one.name for one in fit.observe)]
            names = _named(list(contents.entries), wanted, printable(str(place)))
            arrays = {name: contents.read(place) for name, place in names.items()}
        what = f"the recording '{printable(str(place))}'"
    else:
        arrays = {str(name): np.asarray(values) for name, values in source.items()}
        what = "the recording"
    seen = {one.name: _observed(arrays, one, what) for one in fit.observe}
    sample = _column(arrays, SAMPLE)
    rows = {name: len(values) for name, values in seen.items()} | ({} if sample is None else {SAMPLE: len(sample)})
    first = next(iter(rows))
    for name, count in rows.items():
        if count != rows[first]:
            raise PlasticodeError(
                f"{what} has {rows[first]} presentations of '{first}' and {count} of '{name}': all must have as many"
            )
    if rows[first] < FEWEST:
        raise PlasticodeError(f"{what} has {rows[first]} presentations: at least {FEWEST} are needed")
    own = {name: _numbers(values, name, what) for name in shown if (values := _column(arrays, name)) is not None}
    prefix = f"{fit.initial_weights}_"
    start = {
        name.removeprefix(prefix): _numbers(a, name, what) for name, a in arrays.items() if name.startswith(prefix)
    }
    return Recording(rows[first], seen, None if sample is None else _whole(sample, what), own, start)


def _named(entries: list[str], wanted: list[str], file: str) -> dict[str, str]:
    """The entries of a file that are wanted, or whose columns are, by their names without folders."""
    found = {}
    for name in wanted:
        # In its folder, which of a time series of NWB is what it is called.
        inner = [entry for entry in entries if entry.removesuffix("/data").rpartition("/")[2] == name]
        own = [name] if name in entries else inner
        if len(own) > 1:
            raise PlasticodeError(f"the recording '{file}' has {' and '.join(own)}: one of them must be '{name}'")
        columns = [entry for entry in entries if entry.rpartition("_")[0] == name]
        found |= {name: own[0]} if own else dict(zip(columns, columns, strict=True))
    return found


def _column(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """A variable, or the columns of a table that are called by it and a number."""
    if name in arrays:
        return arrays[name]
    parted = {key: key.rpartition("_") for key in arrays}
    columns = {int(end): key for key, (head, _, end) in parted.items() if head == name and end.isdigit()}
    if not columns:
        return None
    if sorted(columns) != list(range(len(columns))):
        there = ", ".join(columns.values())
        raise PlasticodeError(f"the recording has the columns {there}: they must be counted from 0")
    return np.stack([arrays[columns[i]] for i in range(len(columns))], axis=1)


def _numbers(values: np.ndarray, name: str, what: str) -> np.ndarray:
    """Numbers, NaN where a cell of a table is empty."""
    if values.dtype.kind == "U":
        try:
            values = np.where(np.char.strip(values) == "", "nan", values).astype(float)
        except ValueError:
            raise PlasticodeError(f"{what} has texts in '{name}': it must have numbers, or empty cells") from None
    if values.dtype.kind not in "biuf":
        raise PlasticodeError(f"{what} has values of the type {values.dtype} in '{name}': it must have real numbers")
    return values.astype(np.float64)


def _observed(arrays: Mapping[str, np.ndarray], one: Observation, what: str) -> np.ndarray:
    """The data of an observation, (presentations, data)."""
    values = _column(arrays, one.name)
    if values is None:
        near = hint(one.name, list(arrays))
        raise PlasticodeError(f"{what} has no variable '{one.name}': fit.observe needs one of each name{near}")
    values = _numbers(values, one.name, what)
    if values.ndim == 0:
        raise PlasticodeError(f"{what} has a single number as '{one.name}': its first axis must be presentations")
    values = values.reshape(len(values), -1)
    seen = values[~np.isnan(values)]
    if not seen.size:
        raise PlasticodeError(f"{what} has nothing but NaN in '{one.name}': something must have been recorded")
    if not np.isfinite(seen).all():
        raise PlasticodeError(f"{what} has infinite values in '{one.name}': what was not recorded is NaN")
    allowed = {"bernoulli": "0 or 1", "categorical": "a whole number from 0 on", "poisson": "a whole number from 0 on"}
    fits = {"bernoulli": np.isin(seen, (0, 1)), "gaussian": np.ones(seen.shape, bool)}
    fit = fits.get(one.noise, (seen >= 0) & (seen == np.round(seen)))
    if not fit.all():
        why = f"with noise = '{one.noise}' it must be {allowed[one.noise]}, or NaN"
        raise refused(f"{one.name} in the recording", float(seen[~fit][0]), why)
    return values


def _whole(sample: np.ndarray, what: str) -> np.ndarray:
    numbers = _numbers(sample, SAMPLE, what).ravel()
    if len(numbers) != len(sample) or not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise PlasticodeError(f"{what} has a '{SAMPLE}' that is not one whole number per presentation")
    return numbers.astype(np.int64)


def check_widths(recording: Recording, fit: Fit, shown: Mapping[str, int]) -> None:
    """Refuse data of another number of neurons than is `shown`, and choices that there are not."""
    for one in fit.observe:
        values, width = recording.seen[one.name], LIKELIHOODS[one.noise].width(shown[one.name])
        if values.shape[1] != width:
            raise PlasticodeError(
                f"the recording has {values.shape[1]} values of '{one.name}' per presentation, and fit.observe has "
                f"{width} of '{one.of}': both must be the same"
            )
        if one.noise == "categorical" and np.nanmax(values) >= shown[one.name]:
            why = f"there are {shown[one.name]} neurons to choose from, numbered from 0"
            raise refused(f"{one.name} in the recording", float(np.nanmax(values)), why)


def dataset(recording: Recording, fit: Fit) -> xr.Dataset:
    """The recording in the layout that `read` reads."""
    variables: dict[str, Any] = {
        name: (("presentation", f"{name}_number"), values) for name, values in recording.seen.items()
    }
    if recording.sample is not None:
        variables[SAMPLE] = (("presentation",), recording.sample)
    for name, values in recording.start.items():
        variables[f"{fit.initial_weights}_{name}"] = ([f"{name}_{axis}" for axis in range(values.ndim)], values)
    return xr.Dataset(variables)
