"""Weights that come from files and go into results: where a run starts from, and what of it is kept.

A run that goes on from the weights of another has these alone: it begins with silent activities and errors, slow
variables and traces at zero, an optimiser without a past, the first presentation of its own order of samples and noise.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5netcdf
import jax
import numpy as np

from dynamics.circuit import Circuit, Weights
from dynamics.errors import PlasticodeError, printable, reason, refused
from experiments.machine.names import hint
from experiments.machine.reading import checked_hdf5
from experiments.points.assemble import Plan, circuit_of
from experiments.spec.extents import HELD, Extent, Layout
from experiments.spec.probes import probe_named, variable
from experiments.spec.spec import Spec
from experiments.tasks.files import opened
from experiments.tasks.places import found, place_of

KEY = "network.weights"
START = "start "  # what the names of the first weights begin with, among the arrays of a job
MOST_TOLD = 12


class Map(NamedTuple):
    """The parameters of a map: what their dimensions are called in results, and their lengths."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]


Maps = dict[str, Map]  # by projection


def maps_of(plan: Plan, point: dict[str, Any]) -> Maps:
    """The maps of the circuit of a plan, at the numbers of a point: matrices are over layers, targets first."""
    wired: list[Circuit] = []

    def start(point: dict[str, Any]) -> Weights:
        wired.append(circuit_of(plan, point))
        return wired[0].initial_weights(jax.random.key(0))

    shapes = jax.eval_shape(start, point)
    return {name: Map(_dims(wired[0], name, len(leaf.shape)), leaf.shape) for name, leaf in shapes.items()}


def _dims(circuit: Circuit, name: str, number: int) -> tuple[str, ...]:
    p = circuit.projection(name)
    if not circuit.map_of(name).is_matrix:
        return tuple(f"{name}_{axis}" for axis in range(number))
    return p.target, p.source if p.source != p.target else f"{p.source}_source"


# ----------------------------------------------------------------------------------------------------- what a run keeps


def keeps_arrays(spec: Spec) -> bool:
    """Whether the points of a spec keep arrays at every record, whose shapes are those of its layers."""
    return spec.record.weights == "records" or any(probe_named(name).arrays for name in spec.probes)


def weights_of(progress: Any) -> dict[str, Any]:
    """All maps of a point, or of many at once, from its state in any regime."""
    return {**progress.fixed, **getattr(progress, "state", progress).weights}


def kept(spec: Spec, maps: Maps, record: Mapping[str, Any]) -> Layout:
    """The arrays that a point keeps; `record` has the shapes of those of probes."""
    layout: Layout = {}
    if spec.record.weights is not None:
        every = spec.record.weights == "records"
        layout = {name: Extent(*one, every, f"weights {name}") for name, one in maps.items()}
    by_name = {variable(name): probe_named(name) for name in spec.probes}
    if both := sorted(by_name.keys() & layout.keys()):
        raise PlasticodeError(f"record.weights has '{both[0]}', which is the name of a probe too: rename the probe")
    for key, leaf in record.get(HELD, {}).items():
        name = max((one for one in by_name if key == one or key.startswith(f"{one}_")), key=len, default="")
        if name:
            probe, inner = by_name[name], key.removeprefix(name).removeprefix("_")
            dims = tuple(inner if dim == "units" else dim for dim in probe.arrays)
            dims = dims or tuple(f"{key}_{axis}" for axis in range(len(leaf.shape)))
            told = f"{probe.long_name}, {inner}" if inner else probe.long_name
            layout[key] = Extent(dims, leaf.shape, True, told, probe.units)
    return layout


# ---------------------------------------------------------------------------------------------- where a run starts from


def start_of(circuit: Circuit, key: jax.Array, data: Mapping[str, Any]) -> Weights:
    """The weights that a point starts from: those that a job was given, or else drawn ones."""
    given = {name.removeprefix(START): array for name, array in data.items() if name.startswith(START)}
    return given or circuit.initial_weights(key)


def given_start(spec: Spec, maps: Maps) -> dict[str, np.ndarray]:
    """What `network.weights` says, in the dtype of the run, as arrays of a job; {} where it is absent.

    A file that cannot be read, or lacks a map, or has one of another shape, or a number that is not finite, or biases
    where the network has none, raises `PlasticodeError`. What else a file has is left alone.
    """
    text = spec.network.weights
    if text is None:
        return {}
    path = place_of(KEY, text)
    if "#" in text and not path.is_file():
        directory, _, point = text.rpartition("#")
        values = _of_point(text, directory, point, maps)
    elif path.is_dir():
        values = _of_point(text, text, "", maps)
    else:
        values = _of_file(text, found(KEY, text), maps)
    return {START + name: _numbers(text, name, values[name], spec.dtype) for name in maps}


def _numbers(text: str, name: str, values: np.ndarray, dtype: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise refused(KEY, text, f"its '{name}' has texts, and must have numbers")
    with np.errstate(over="ignore"):
        numbers = values.astype(dtype)
    if not np.isfinite(numbers).all():
        at = tuple(map(int, np.argwhere(~np.isfinite(numbers))[0]))
        what = "NaN" if np.isnan(values[at]) else f"{values[at]:g}, which is no number of {dtype},"
        raise refused(KEY, text, f"its '{name}' has {what} at {list(at)} (counted from 0): all must be finite")
    return numbers


def _missing(text: str, name: str, there: Mapping[str, tuple[int, ...]]) -> PlasticodeError:
    told = ", ".join(f"{printable(one)} {list(shape)}" for one, shape in list(there.items())[:MOST_TOLD])
    more = f" and {len(there) - MOST_TOLD} more" if len(there) > MOST_TOLD else ""
    return refused(
        KEY, text, f"it has no '{name}', which the rule's network has, but {told}{more}{hint(name, list(there))}"
    )


def _check_shape(text: str, name: str, shape: tuple[int, ...], own: Map) -> None:
    if shape != own.shape:
        what = f"{list(own.shape)} for ({', '.join(own.dims)})"
        turned = ": transpose it" if shape == own.shape[::-1] else ""
        raise refused(KEY, text, f"its '{name}' has shape {list(shape)}, and must have {what}{turned}")


def _check_biases(text: str, there: Iterable[str], maps: Maps) -> None:
    """Refuses biases for a network without any: it would begin as another function, and nobody would know."""
    biases = [name for name in sorted(there) if re.fullmatch(r"b\d+", name) and name.replace("b", "W") in maps]
    if biases and not any(name in maps for name in biases):
        raise refused(KEY, text, f"it has '{biases[0]}', and this network has no biases: network.bias must be true")


def _of_file(text: str, path: Path, maps: Maps) -> dict[str, np.ndarray]:
    """The maps in a file with arrays by name."""
    with opened(path) as contents:
        there = {name: entry.shape for name, entry in contents.entries.items()}
        _check_biases(text, there, maps)
        for name, own in maps.items():
            if name not in there:
                raise _missing(text, name, there)
            _check_shape(text, name, there[name], own)
        return {name: contents.read(name) for name in maps}


def _of_point(text: str, directory: str, point: str, maps: Maps) -> dict[str, np.ndarray]:
    """The last maps that a point of a run has saved."""
    path = found(KEY, directory)
    path = path / "results.nc" if path.is_dir() else path
    try:
        with checked_hdf5(path):
            pass
        with h5netcdf.File(path, "r", decode_vlen_strings=True) as file:
            return _saved(text, file, point, maps)
    except PlasticodeError:
        raise
    except Exception as error:  # whatever its readers make of the file of a stranger
        raise refused(KEY, text, f"'{path}' cannot be read ({reason(error)})") from None


def _saved(text: str, file: Any, point: str, maps: Maps) -> dict[str, np.ndarray]:
    part, _, point = point.rpartition("/")
    groups = dict(file.groups) or {"": file}
    if part not in groups:
        raise refused(KEY, text, f"there must be DIR#PART/POINT, with a part among {', '.join(map(printable, groups))}")
    group = groups[part]
    axes, grid = group["status"].dimensions, group["status"].shape
    at = _position(text, point, {axis: group[axis][...] for axis in axes})
    names = {name for name, one in group.variables.items() if one.attrs.get("long_name") == f"weights {name}"}
    if not names:
        raise refused(KEY, text, "this run has saved no weights: it must have record.weights = 'end' or 'records'")
    if (status := int(group["status"][at])) not in (0, 2):
        raise refused(KEY, text, f"this point {'has diverged' if status == 1 else 'is not finished'}")
    _check_biases(text, names, maps)
    values = {}
    for name, own in maps.items():
        if name not in names:
            raise _missing(text, name, {one: group[one].shape[len(grid) :] for one in sorted(names)})
        last = (*at, group[name].shape[len(grid)] - 1) if "record" in group[name].dimensions else at
        values[name] = _whole(np.asarray(group[name][last]))
        _check_shape(text, name, values[name].shape, own)
    return values


def _whole(padded: np.ndarray) -> np.ndarray:
    """An array without the NaN at its ends that fill it up to the largest of its sweep."""
    there = np.argwhere(~np.isnan(padded))
    return padded[tuple(slice(0, end + 1) for end in there.max(axis=0))] if len(there) else padded


def _position(text: str, point: str, axes: dict[str, np.ndarray]) -> tuple[int, ...]:
    """Where in a grid a point is: its number in the order of the grid, or "axis=value,axis=value"."""
    sizes = tuple(len(values) for values in axes.values())
    count = math.prod(sizes)
    if point.isascii() and point.isdigit() and len(point) < 10 and int(point) < count:
        return tuple(map(int, np.unravel_index(int(point), sizes))) if sizes else ()
    if count == 1 and not point:
        return (0,) * len(sizes)
    pairs = [item.partition("=") for item in re.split(r",(?=\w+=)", point)] if "=" in point else []
    given = {axis: value for axis, _, value in pairs}
    if set(given) != {axis for axis, size in zip(axes, sizes, strict=True) if size > 1 or axis in given}:
        named = ",".join(f"{axis}=..." for axis in axes)
        raise refused(KEY, text, f"after # there must be a point of the run: 0 to {count - 1}, or {named}")
    return tuple(_index(text, axis, given.get(axis), values) for axis, values in axes.items())


def _index(text: str, axis: str, wanted: str | None, values: np.ndarray) -> int:
    if wanted is None:
        return 0
    if values.dtype.kind in "biuf":
        try:
            same: Any = np.isclose(values.astype(float), float(wanted), rtol=1e-9, atol=0)
        except ValueError:
            same = np.zeros(len(values), bool)
    else:
        same = np.array([str(value) == wanted for value in values])
    if same.sum() != 1:
        there = ", ".join(printable(f"{value:g}" if values.dtype.kind == "f" else str(value)) for value in values[:20])
        raise refused(KEY, text, f"{axis} = {printable(wanted)} is none of {there}")
    return int(same.argmax())
