"""Labels results: from arrays of finished points to one xarray Dataset with named dimensions and units."""

import json
from importlib import metadata
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments.probes import PROBES
from experiments.spec import Spec, dump_toml
from experiments.sweep import Group, Sweep

STATUS = ("ok", "diverged", "not-converged", "missing")
VERSIONED = ("plasticode", "jax", "jaxlib", "diffrax", "equinox", "optax", "numpy")


class Table:
    """Collects the records of finished points of one sweep; points that never come stay NaN and `missing`."""

    def __init__(self, sweep: Sweep, marks: np.ndarray):
        self.sweep, self.marks = sweep, marks
        self.status = np.full(sweep.size, STATUS.index("missing"), np.int8)
        self.numbers: dict[str, np.ndarray] = {}
        self.matrices: dict[str, dict[str, np.ndarray]] = {}

    def add(self, group: Group, points: np.ndarray, record: dict[str, Any]) -> None:
        """Files the records of `points` of `group`: arrays (points, records), or a dict of them by matrix."""
        shape = self.sweep.shape
        rows = np.atleast_1d(np.ravel_multi_index(tuple(group.index[points].T), shape)) if shape else np.zeros(1, int)
        finite = record["finite"].all(axis=1)
        # Estimates are of all that came before, so the last record's counts.
        settled = record["converged"][:, -1] if "converged" in record else np.ones(len(rows), bool)
        self.status[rows] = np.where(finite, STATUS.index("ok"), STATUS.index("diverged"))
        self.status[rows[~settled]] = STATUS.index("not-converged")
        for name, value in record.items():
            if isinstance(value, dict):
                columns = self.matrices.setdefault(name, {})
                for matrix, numbers in value.items():
                    columns.setdefault(matrix, self._empty(numbers))[rows] = numbers
            elif name not in ("finite", "converged"):
                self.numbers.setdefault(name, self._empty(value))[rows] = value

    def _empty(self, like: np.ndarray) -> np.ndarray:
        return np.full((self.sweep.size, len(self.marks)), np.nan, like.dtype)

    def dataset(self, spec: Spec) -> xr.Dataset:
        """Everything filed so far, over the grid of the sweep and the records."""
        axes = [axis.name for axis in self.sweep.axes]
        dataset = xr.Dataset(coords=self._coordinates())
        meanings = {"flag_values": np.arange(len(STATUS), dtype=np.int8), "flag_meanings": " ".join(STATUS)}
        status = self.status.reshape(self.sweep.shape)
        dataset["status"] = (axes, status, {"long_name": "status of the point", **meanings})
        for name, numbers in self.numbers.items():
            dataset[name] = ([*axes, "record"], self._grid(numbers), _attributes(name))
        names = sorted({matrix for columns in self.matrices.values() for matrix in columns})
        if names:
            dataset = dataset.assign_coords(matrix=("matrix", names, {"long_name": "matrix of the circuit"}))
        for name, columns in self.matrices.items():
            if not columns:  # no circuit of this sweep has such a matrix
                continue
            blank = np.full_like(next(iter(columns.values())), np.nan)
            stacked = np.stack([columns.get(matrix, blank) for matrix in names], axis=-1)
            dataset[name] = ([*axes, "record", "matrix"], self._grid(stacked), _attributes(name))
        return dataset.assign_attrs(_provenance(spec))

    def _grid(self, numbers: np.ndarray) -> np.ndarray:
        return numbers.reshape(*self.sweep.shape, *numbers.shape[1:])

    def _coordinates(self) -> dict[str, Any]:
        coordinates: dict[str, Any] = {}
        for axis in self.sweep.axes:
            for member in axis.members:
                coordinates[member.path] = (axis.name, np.asarray(member.values), {"units": member.units or "1"})
        coordinates["presentation"] = ("record", self.marks, {"units": "1", "long_name": "presentations shown"})
        periods = [g.values["stimulus.duration"] + g.values["stimulus.gap"] for g in self.sweep.groups]
        if len({float(period) for group in periods for period in group}) == 1:
            seconds = self.marks * float(periods[0][0])
            coordinates["time"] = ("record", seconds, {"units": "s", "long_name": "simulated time"})
        return coordinates


def _attributes(name: str) -> dict[str, str]:
    if name == "error_estimate":
        return {"long_name": "estimated error of the weights' change, relative to it", "units": "1"}
    return {"long_name": PROBES[name].long_name, "units": PROBES[name].units}


def _provenance(spec: Spec) -> dict[str, Any]:
    """What made the numbers: the resolved spec and its hash, versions, device, precision."""
    versions = {package: _version(package) for package in VERSIONED}
    return {
        "spec": dump_toml(spec),
        "spec_hash": spec.hash(),
        "versions": json.dumps(versions),
        "device": f"{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}",
        "dtype": spec.dtype,
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
