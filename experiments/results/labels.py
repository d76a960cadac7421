"""Labels results: from arrays of finished points to one xarray Dataset with named dimensions and units."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from dynamics.errors import printable
from experiments.machine.versions import version_of
from experiments.spec import inside
from experiments.spec.extents import HELD, Extent, Layout
from experiments.spec.grid import Group, Sweep
from experiments.spec.paths import phase_path
from experiments.spec.probes import probe_named, variable
from experiments.spec.spec import Spec, dump_toml
from experiments.spec.tables import TABLES

STATUS = ("ok", "diverged", "not-converged", "missing")
FLAGS = {"flag_values": np.arange(len(STATUS), dtype=np.int8), "flag_meanings": " ".join(STATUS)}
FORMAT = 2  # of results.nc and of chunks; format 1, which said nothing of itself, had names like "delays.error"
FORMAT_1 = "0.1.0"  # the version that wrote it
DIGITS, ULPS = 14, 4  # a number that rounding errors have moved by so much is one of so many digits
VERSIONED = ("plasticode", "jax", "jaxlib", "diffrax", "equinox", "optax", "numpy")


class Results(NamedTuple):
    """One labelled data set per part of the spec ("" when it has none); `complete` is false after an interrupt."""

    datasets: dict[str, xr.Dataset]
    complete: bool


class Table:
    """Collects the records of finished points of one sweep; points that never come stay NaN and `missing`.

    Of the points in the order of the grid it holds those from `first` to before `last`. `layout` says what arrays they
    keep, which smaller ones fill from the start.
    """

    def __init__(
        self, sweep: Sweep, marks: np.ndarray, first: int = 0, last: int | None = None, layout: Layout | None = None
    ):
        self.sweep, self.marks, self.layout = sweep, marks, layout or {}
        self.first, self.last = first, sweep.size if last is None else last
        self.status = np.full(self.last - first, STATUS.index("missing"), np.int8)
        self.numbers: dict[str, np.ndarray] = {}
        self.matrices: dict[str, dict[str, np.ndarray]] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, group: Group, points: np.ndarray, record: dict[str, Any]) -> None:
        """Files the records of `points` of `group`: arrays (points, records), or a dict of them by matrix."""
        rows = rows_of(self.sweep, group, points) - self.first
        held = (rows >= 0) & (rows < len(self.status))
        rows = rows[held]
        finite = record["finite"].all(axis=1)[held]
        # Estimates are of all that came before, so the last record's counts.
        settled = record["converged"][held, -1] if "converged" in record else np.ones(len(rows), bool)
        self.status[rows] = np.where(settled, STATUS.index("ok"), STATUS.index("not-converged"))
        # Adaptive steps that give up leave NaN, which is no value of the weights.
        gave_up = ~settled & group.static.integrator.adaptive
        self.status[rows[~finite & ~gave_up]] = STATUS.index("diverged")
        for name, value in record.items():
            if name == HELD:
                for array, numbers in value.items():
                    own = (slice(size) for size in numbers.shape[2:])
                    self.whole(array, numbers.dtype)[(rows, slice(None), *own)] = numbers[held]
            elif isinstance(value, dict):
                columns = self.matrices.setdefault(name, {})
                for matrix, numbers in value.items():
                    columns.setdefault(matrix, self._empty(numbers))[rows] = numbers[held]
            elif name not in ("finite", "converged"):
                self.numbers.setdefault(name, self._empty(value))[rows] = value[held]

    def _empty(self, like: np.ndarray) -> np.ndarray:
        return np.full((len(self.status), len(self.marks)), np.nan, like.dtype)

    def whole(self, name: str, dtype: np.dtype) -> np.ndarray:
        """An array of all points (points, records, *shape), at first NaN."""
        if name not in self.arrays:
            extent = self.layout[name]
            records = len(self.marks) if extent.records else 1
            self.arrays[name] = np.full((len(self.status), records, *extent.shape), np.nan, dtype)
        return self.arrays[name]

    def dataset(self, spec: Spec, part: str, outputs: int, classes: tuple[str, ...] = ()) -> xr.Dataset:
        """Everything filed so far, over the grid of the sweep and the records; of a table of all points.

        `part` is the name of the part of a spec, `outputs` the number of outputs of its networks, `classes` names them.
        """
        names = sorted({matrix for columns in self.matrices.values() for matrix in columns})
        dataset = xr.Dataset(coords=coordinates(self.sweep, self.marks, names, self.layout))
        axes, shape = [axis.name for axis in self.sweep.axes], self.sweep.shape
        dataset["status"] = (axes, self.status.reshape(shape), attributes("status", spec))
        for name, numbers in self.numbers.items():
            dataset[name] = ([*axes, "record"], numbers.reshape(*shape, len(self.marks)), attributes(name, spec))
        for name, columns in self.matrices.items():
            if columns:  # else no circuit of this sweep has such a matrix
                stacked = stack(columns, names).reshape(*shape, len(self.marks), len(names))
                dataset[name] = ([*axes, "record", "matrix"], stacked, attributes(name, spec))
        for name, extent in self.layout.items():
            numbers = self.whole(name, np.dtype(spec.dtype))
            dims = dims_of(axes, extent)
            shaped = numbers.reshape(*shape, *numbers.shape[1 if extent.records else 2 :])
            dataset[name] = (dims, shaped, extent.attributes)
        return dataset.assign_attrs(provenance(spec, device_kind()) | part_attributes(part, outputs, classes))


def dims_of(axes: Iterable[str], extent: Extent) -> tuple[str, ...]:
    """The dimensions of an array in a result."""
    return (*axes, *(("record",) if extent.records else ()), *extent.dims)


def stack(columns: dict[str, np.ndarray], names: list[str]) -> np.ndarray:
    """The numbers by matrix as one array with a last dimension; NaN where there is no such matrix."""
    blank = np.full_like(next(iter(columns.values())), np.nan)
    return np.stack([columns.get(matrix, blank) for matrix in names], axis=-1)


def rows_of(sweep: Sweep, group: Group, points: np.ndarray) -> np.ndarray:
    """The positions of points of a group in the order of the grid."""
    if not sweep.shape:
        return np.zeros(1, int)
    return np.atleast_1d(np.ravel_multi_index(tuple(group.index[points].T), sweep.shape))


def slabs(shape: tuple[int, ...], most: int) -> Iterator[tuple[slice, ...]]:
    """Cuts a grid, in its order, into boxes of at most so many positions (1 or more), each in one piece."""
    if not shape:
        yield ()
        return
    cut = next(axis for axis in range(len(shape)) if math.prod(shape[axis + 1 :]) <= most)
    whole = [slice(0, size) for size in shape[cut + 1 :]]
    step = most // math.prod(shape[cut + 1 :])
    for outer in np.ndindex(shape[:cut]):
        for start in range(0, shape[cut], step):
            yield *(slice(i, i + 1) for i in outer), slice(start, min(start + step, shape[cut])), *whole


def shape_of(slab: tuple[slice, ...]) -> tuple[int, ...]:
    """The lengths of a box of `slabs`."""
    return tuple(extent.stop - extent.start for extent in slab)


def coordinates(sweep: Sweep, marks: np.ndarray, matrices: list[str], layout: Layout | None = None) -> dict[str, Any]:
    """The coordinates of a result: every swept path, the records' presentations and times, the names of matrices, and
    those of the places of arrays."""
    found: dict[str, Any] = {}
    for axis in sweep.axes:
        for member in axis.members:
            labels = {"long_name": long_name(member.path), "units": member.units or "1", "path": member.path}
            found[member.name] = (axis.name, np.asarray(member.values), labels)
    found["presentation"] = ("record", marks, {"units": "1", "long_name": "presentations shown"})
    spec = sweep.groups[0].static
    shown = np.array(spec.stage_presentations())
    ends = np.cumsum([0, *shown])
    if spec.phases:
        names = [phase.named(number) for number, phase in enumerate(spec.phases)]
        of_records = np.maximum(np.searchsorted(ends, marks) - 1, 0)  # a record between two phases is of the first
        found["phase"] = ("record", [names[i] for i in of_records], {"long_name": "phase of the run"})
    stages = zip(*(group.stages for group in sweep.groups), strict=True)
    times = [[v["stimulus.duration"] + v["stimulus.gap"] for v in values] for values in stages]
    periods = [np.unique(np.concatenate(seconds)) for seconds in times]
    varied = any(stage.task.timed for group in sweep.groups for stage in group.static.stages())
    if all(len(period) == 1 for period in periods) and not varied:
        seconds = [float(p[0]) * np.clip(marks - b, 0, n) for p, b, n in zip(periods, ends[:-1], shown, strict=True)]
        found["time"] = ("record", _as_written(np.sum(seconds, axis=0)), {"units": "s", "long_name": "simulated time"})
    if spec.record.samples is not None:
        found["sample"] = ("sample", list(spec.record.samples), {"long_name": "test sample", "units": "1"})
    if spec.record.inside:
        dims = {dim for extent in (layout or {}).values() for dim in extent.dims}
        found |= inside.coordinates(spec.record, np.unique(np.concatenate(periods)), dims)
        dimension, shown, told = found[inside.TIME]
        found[inside.TIME] = dimension, _as_written(shown), told
    if matrices:
        found["matrix"] = ("matrix", matrices, {"long_name": "matrix of the circuit"})
    for extent in (layout or {}).values():
        if extent.places:
            found[extent.dims[-1]] = (extent.dims[-1], list(extent.places))
    return found


def long_name(path: str) -> str:
    """What people call the values at a path of a spec, "plasticity timescale [1]" those of a list; else the path."""
    phase, path = phase_path(path)
    if phase:
        return f"{long_name(path)} in phase {phase}"
    head, _, rest = path.partition(".")
    key, *items = rest.split(".")
    fields = TABLES[head].model_fields if rest and head in TABLES else Spec.model_fields
    field = fields.get(key or head)
    if field is None or field.title is None:
        return path
    return " ".join([field.title, *(f"[{item}]" for item in items)])


def _as_written(numbers: np.ndarray) -> np.ndarray:
    """The numbers that were meant: 0.3 where three times 0.1 makes 0.30000000000000004, which nobody would select.

    Only what lies within the rounding errors of a sum and a product of a shorter number is taken for it.
    """
    short = np.array([float(f"{number:.{DIGITS}g}") for number in numbers.tolist()])
    return np.where(np.abs(short - numbers) <= ULPS * np.spacing(numbers), short, numbers)


def attributes(name: str, spec: Spec) -> dict[str, Any]:
    """What a variable of a result of `spec` says of itself."""
    if name == "status":
        return {"long_name": "status of the point", **FLAGS}
    if name == "error_estimate":
        return {"long_name": "estimated error of the weights' change, relative to it", "units": "1"}
    own = {variable(probe): probe for probe in spec.record.probes or ()}
    whole = max((one for one in own if name.startswith(f"{one}_")), key=len, default="")  # of a probe by layer
    probe = probe_named(own.get(name) or own.get(whole) or name)
    layer = f", {name.removeprefix(f'{whole}_')}" if probe.by_layer else ""
    bounds = {} if probe.bounds is None else {"valid_range": np.asarray(probe.bounds, float)}
    return {"long_name": probe.long_name + layer, "units": probe.units, **bounds}


def part_attributes(part: str, outputs: int, classes: tuple[str, ...]) -> dict[str, Any]:
    """What a part of a result says of itself; `classes`, a list in JSON, where they have names."""
    named = {"classes": json.dumps(classes, ensure_ascii=False)} if classes else {}
    return {"part": part, "outputs": outputs, **named}


def root_attributes(parts: Iterable[str]) -> dict[str, Any]:
    """What the root group of a file says that has a group for every part of a spec."""
    said = "each group has the results of one part of the spec: open the file with plasticode.open, all of its groups "
    said += "with xarray.open_datatree, or one with xarray.open_dataset(..., group=...)"
    return {"format": FORMAT, "parts": " ".join(parts), "comment": said}


def other_format(found: object, versions: Mapping[str, str]) -> str:
    """Of results in another format, what it is and which version reads it; "" for results in ours.

    `found` is what they say of their format, `versions` the packages that wrote them.
    """
    if found == FORMAT:
        return ""
    reader = FORMAT_1 if found is None else versions.get("plasticode", "of another version")
    number = "1" if found is None else printable(str(found))
    return f"results in format {number}, which plasticode {printable(reader)} reads; here is format {FORMAT}"


def provenance(spec: Spec, device: str) -> dict[str, Any]:
    """What made the numbers: the resolved spec and its hash, versions, device, precision."""
    return {
        "format": FORMAT,
        "spec": dump_toml(spec),
        "spec_hash": spec.hash(),
        "versions": json.dumps(versions()),
        "device": device,
        "dtype": spec.dtype,
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
    }


def device_kind() -> str:
    """The local devices, as "2 x cpu"."""
    return f"{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}"


def versions() -> dict[str, str]:
    """The packages that numbers depend on."""
    return {package: version_of(package) for package in VERSIONED}
