"""What a results file must be for the rest to rely on it: the dimensions, types and codes that `labels` writes."""

import math

import numpy as np
import xarray as xr

from experiments.machine.reading import is_texts, parse_json
from experiments.results.labels import STATUS
from experiments.spec.axes import MOST_POINTS

RECORD, MATRIX = "record", "matrix"
TEXT = "OUT"  # kinds of dtypes
TEXTS = (
    "spec", "spec_hash", "versions", "device", "dtype", "matmul_precision", "part", "classes", "units", "long_name",
    "path",
)  # fmt: skip


def check_dimensions(data: xr.Dataset) -> None:
    """Raise `ValueError` unless the variables of a part have the types and dimensions of a result; it reads no values.

    `status` is integer over the axes, probes are numbers over (*axes, record) or (*axes, record, matrix), arrays such
    as weights over (*axes, ...), and all others are coordinates along one dimension; every axis has one of its name.
    """
    status = data.variables["status"]
    axes = tuple(map(str, status.dims))
    if max(status.size, *data.sizes.values()) > MOST_POINTS:  # of a sparse file, which is larger than the disk
        raise ValueError("it has more points or records than a run may have")
    if status.dtype.kind not in "iu" or {RECORD, MATRIX} & set(axes) or 0 in data.sizes.values():
        raise ValueError("its status is not that of points of a grid")
    for name, values in data.variables.items():
        if name in data.coords:
            if len(values.dims) != 1 or not (values.dtype.kind in "biuf" or values.dtype.kind in TEXT):
                raise ValueError("it has a coordinate that is no list of numbers or texts")
        elif name != "status" and (values.dims[: len(axes)] != axes or values.dtype.kind not in "iuf"):
            raise ValueError("it has a probe with other dimensions or another type than a run writes")
    for axis in axes:
        if axis not in data.coords or data.coords[axis].dims != (axis,):
            raise ValueError("it has an axis without values")
    kinds: dict[str, str] = {"presentation": "iu", "time": "f", MATRIX: TEXT}
    for name, kind in kinds.items():
        dims = (MATRIX if name == MATRIX else RECORD,)
        if name in data.variables and (data[name].dtype.kind not in kind or data[name].dims != dims):
            raise ValueError(f"its {name} is not that of a run")
    if MATRIX in data.dims and MATRIX not in data.coords or RECORD in data.variables:
        raise ValueError("it has dimensions that no run writes")
    _check_attributes(data)


def check_values(data: xr.Dataset) -> None:
    """Raise `ValueError` unless the status of every point is one that there is, and texts are texts."""
    codes = data["status"].values
    if codes.min() < 0 or codes.max() >= len(STATUS):
        raise ValueError("it has a status that does not exist")
    for values in data.coords.values():
        if values.dtype.kind in TEXT and not all(isinstance(text, str) for text in values.values.tolist()):
            raise ValueError("it has a coordinate that is no list of numbers or texts")


def _check_attributes(data: xr.Dataset) -> None:
    for attributes in (data.attrs, *(values.attrs for values in data.variables.values())):
        for name, value in attributes.items():
            if name in TEXTS and not isinstance(value, str):
                raise ValueError(f"its {name} is no text")
    seconds = data.attrs.get("seconds", 0.0)
    if not isinstance(seconds, float | int | np.number) or not math.isfinite(seconds):
        raise ValueError("its seconds are no number")
    if not is_texts(parse_json(data.attrs.get("versions", "{}"))):
        raise ValueError("its versions are no table of texts")
