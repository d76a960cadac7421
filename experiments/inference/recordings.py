"""Recordings: what was observed in each presentation, and which sample it showed; from files or arrays."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError, printable, refused
from experiments.inference import labelling
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.table import Fit, Observation
from experiments.machine.names import hint
from experiments.spec.spec import Spec
from experiments.tasks.contract import AbstractTask
from experiments.tasks.files import opened
from experiments.tasks.places import found
from experiments.tasks.recorded import Recorded
from experiments.tasks.samples import numbers

SAMPLE = "sample"  # the variable that says which sample of the task a presentation showed
FEWEST = 2  # presentations
MOST_TOLD = 12  # names of what a recording has


class Recording(NamedTuple):
    """`seen` by name: (presentations, data), NaN where nothing was recorded; `sample` (presentations,), the number of
    the sample that each showed (None: those of the spec's own order); `shown` are the inputs and targets that it has
    itself, by name; `start` the initial weights, by map; `shapes` those of what a file has as matrices, by name."""

    presentations: int
    seen: dict[str, np.ndarray]
    sample: np.ndarray | None
    shown: Mapping[str, np.ndarray] = MappingProxyType({})
    start: Mapping[str, np.ndarray] = MappingProxyType({})
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})


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
            there = [_short(entry) for entry in contents.entries]
        what = f"the recording '{printable(str(place))}'"
    elif not hasattr(source, "items"):
        told = "it must be a file, or arrays by name: a dictionary, a Dataset or a DataFrame"
        raise PlasticodeError(f"the recording is a {type(source).__name__}: {told}")
    else:
        entries = source.variables if isinstance(source, xr.Dataset) else source  # coordinates too, as files have them
        arrays = {str(name): _array(str(name), values) for name, values in entries.items()}
        there = list(arrays)
        what = "the recording"
    seen = {one.name: _observed(arrays, one, what, there) for one in fit.observe}
    sample = _column(arrays, SAMPLE)
    own = {name: numbers(values, name, what) for name in shown if (values := _column(arrays, name)) is not None}
    rows = {name: len(values) for name, values in (seen | own).items()}
    rows |= {} if sample is None else {SAMPLE: len(sample)}
    first = next(iter(rows))
    for name, count in rows.items():
        if count != rows[first]:
            raise PlasticodeError(
                f"{what} has {rows[first]} presentations of '{first}' and {count} of '{name}': all must have as many"
            )
    if rows[first] < FEWEST:
        raise PlasticodeError(f"{what} has {rows[first]} presentations: at least {FEWEST} are needed")
    prefix = f"{fit.initial_weights}_"
    start = {name.removeprefix(prefix): numbers(a, name, what) for name, a in arrays.items() if name.startswith(prefix)}
    shapes = {
        one.name: arrays[one.name].shape[1 if one.times is None else 2 :] for one in fit.observe if one.name in arrays
    }
    return Recording(rows[first], seen, None if sample is None else _whole(sample, what), own, start, shapes)


def _array(name: str, values: Any) -> np.ndarray:
    """An array, NaN where a masked one has nothing."""
    try:
        return np.ma.filled(values.astype(float), np.nan) if np.ma.isMaskedArray(values) else np.asarray(values)
    except ValueError:
        told = f"the recording has lists of different lengths in '{printable(name)}'"
        raise PlasticodeError(f"{told}: each presentation must have as many numbers, NaN among them") from None


def _short(entry: str) -> str:
    """What an entry of a file is called in its folder, which of a time series of NWB is what it is called."""
    return entry.removesuffix("/data").rpartition("/")[2]


def _named(entries: list[str], wanted: list[str], file: str) -> dict[str, str]:
    """The entries of a file that are wanted, or whose columns are, by their names without folders."""
    found = {}
    for name in wanted:
        inner = [entry for entry in entries if _short(entry) == name]
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


def _observed(arrays: Mapping[str, np.ndarray], one: Observation, what: str, there: list[str]) -> np.ndarray:
    """The data of an observation, (presentations, data), of what is `there`."""
    values = _column(arrays, one.name)
    if values is None:
        has = ", ".join(map(printable, there[:MOST_TOLD])) + (", ..." if len(there) > MOST_TOLD else "") or "nothing"
        told = f"fit.observe needs one of each name, and it has {has}{hint(one.name, there)}"
        raise PlasticodeError(f"{what} has no variable '{one.name}': {told}")
    values = numbers(values, one.name, what)
    if values.ndim == 0:
        raise PlasticodeError(f"{what} has a single number as '{one.name}': its first axis must be presentations")
    if not values.size:
        raise PlasticodeError(
            f"{what} has '{one.name}' of shape {list(values.shape)}: something must have been recorded"
        )
    if one.times is not None and values.ndim > 2 and values.shape[1] != len(one.times):
        raise PlasticodeError(
            f"{what} has '{one.name}' of shape {list(values.shape)}, and fit.observe {len(one.times)} times of it: it "
            "must be (presentations, times, numbers)"
        )
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
    found = numbers(sample, SAMPLE, what).ravel()
    if len(found) != len(sample) or not np.isfinite(found).all() or (found != np.round(found)).any():
        raise PlasticodeError(f"{what} has a '{SAMPLE}' that is not one whole number per presentation")
    return found.astype(np.int64)


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


def check_shapes(recording: Recording, fit: Fit, maps: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse matrices of another shape than the `maps` that they are observations of, such as transposed ones."""
    for one in fit.observe:
        shape, of = recording.shapes.get(one.name, ()), maps.get(one.of, ())
        if one.neurons is None and len(shape) == len(of) and shape != of:
            raise PlasticodeError(
                f"the recording has '{one.name}' of shape {list(shape)} in each presentation, and '{one.of}' is "
                f"{list(of)}, targets first"
            )


def check_shown(task: Recorded, recording: Recording, data: Mapping[str, np.ndarray]) -> None:
    """Refuses a recording of other inputs or targets than the task has read from its own file."""
    for name, key in ((task.inputs, "train_inputs"), (task.targets, "train_targets")):
        if name in recording.shown and key in data:
            told = np.nan_to_num(recording.shown[name])
            known = np.asarray(data[key])[: len(told)]
            if known.size != told.size or not np.allclose(known.ravel(), told.ravel(), rtol=1e-5, atol=1e-6):
                raise PlasticodeError(
                    f"the recording has other '{name}' than task.file = '{printable(task.file)}', from which the task "
                    "reads what was shown: both must be of one experiment"
                )


def chosen(sample: np.ndarray, samples: int) -> np.ndarray:
    """The samples that presentations showed, of so many; others are refused."""
    if sample.min() < 0 or sample.max() >= samples:
        wrong = sample[(sample < 0) | (sample >= samples)][0]
        raise refused("sample in the recording", int(wrong), f"the task has {samples} samples, numbered from 0")
    return sample.astype(np.int32)


def unsaid(recording: Recording, spec: Spec, samples: int) -> list[str]:
    """What is taken for granted of a recording that does not say which of so many samples were shown."""
    if recording.sample is not None:
        return []
    if isinstance(spec.task, Recorded):
        shown = recording.presentations
        took = f"it was taken for the first {shown} of the {samples} rows of task.file"
        return [f"The recording has {shown} presentations: {took}."] if shown < samples else []
    if spec.regime == "flow" or spec.stimulus.order == "sequential":
        return []
    order = f"stimulus.order = '{spec.stimulus.order}' with seed = {spec.seed}"
    return [f"The recording has no variable '{SAMPLE}': samples were taken to be shown by {order}."]


def dataset(recording: Recording, fit: Fit) -> xr.Dataset:
    """The recording in the layout that `read` reads."""
    variables: dict[str, Any] = {
        name: (("presentation", f"{name}_number"), values) for name, values in recording.seen.items()
    }
    if recording.sample is not None:
        variables[SAMPLE] = (("presentation",), recording.sample)
    for name, values in recording.start.items():
        variables[f"{fit.initial_weights}_{name}"] = ([f"{name}_{axis}" for axis in range(values.ndim)], values)
    return labelling.recording(xr.Dataset(variables), fit.observe)
