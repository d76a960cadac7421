"""Means over seeds and their 95 % intervals; what did not finish never enters a mean silently."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from experiments.labels import STATUS

OK = STATUS.index("ok")


class Interval(NamedTuple):
    """What the seeds say about a probe: one array per field, with the probe's dimensions but "seed".

    `mean` over the `n` seeds that count, and the half width of its 95 % interval: Student's t(n - 1) at 97.5 % times
    the standard error, NaN for fewer than two seeds. `excluded` seeds were not "ok", or have no finite value. Where the
    probe does not exist, such as the alignment of a matrix that a rule's circuit has not, both counts are zero.
    """

    mean: xr.DataArray
    half: xr.DataArray
    n: xr.DataArray
    excluded: xr.DataArray

    def at(self, **position: object) -> "Interval":
        """The interval at one position, given by dimension and index."""
        return Interval(*(field.isel(position) for field in self))  # pyright: ignore[reportArgumentType]


def interval(data: xr.Dataset, probe: str) -> Interval:
    """The mean over seeds of a probe (in its units), and how far to trust it, at every point and record."""
    values = data[probe].astype(np.float64)
    values = values.where((data["status"] == OK) & np.isfinite(values)).transpose(*values.dims)
    if "seed" not in values.dims:
        values = values.expand_dims("seed")
    n = values.count("seed")
    mean = values.sum("seed") / n.where(n > 0)
    variance = ((values - mean) ** 2).sum("seed") / (n - 1).where(n > 1)
    quantile = xr.apply_ufunc(stdtrit, (n - 1).where(n > 1), 0.975)
    return Interval(mean, quantile * np.sqrt(variance / n.where(n > 0)), n, values.sizes["seed"] - n)


def probes(data: xr.Dataset) -> list[str]:
    """The probes of a result, in the order of the spec."""
    return [str(name) for name in data.data_vars if name not in ("status", "error_estimate")]


def axes(data: xr.Dataset) -> list[str]:
    """The swept axes of a result, without the seeds."""
    return [str(name) for name in data["status"].dims if name != "seed"]


def positions(data: xr.Dataset, names: list[str]) -> Iterator[dict[str, int]]:
    """Every position of the grid along the axes `names`, the last varying fastest."""
    for index in np.ndindex(*(data.sizes[name] for name in names)):
        yield dict(zip(names, index, strict=True))


def curves(data: xr.Dataset) -> dict[str, Interval]:
    """The interval of every probe, by the probe's name; a per-matrix probe has one of each matrix, such as "loss W1".

    A matrix that no finished point has, such as the feedback of a rule without feedback, is left out.
    """
    result = {}
    for probe in probes(data):
        over_seeds = interval(data, probe)
        if "matrix" not in over_seeds.mean.dims:
            result[probe] = over_seeds
            continue
        for index, matrix in enumerate(data["matrix"].values):
            one = over_seeds.at(matrix=index)
            if bool((one.n > 0).any()):
                result[f"{probe} {matrix}"] = one._replace(excluded=one.excluded.where(~_absent(data, one), 0))
    return result


def _absent(data: xr.Dataset, one: Interval) -> xr.DataArray:
    """Where points are fine and yet have no value at any record."""
    fine = data["status"] == OK
    return (one.n == 0).all("record") & (fine.any("seed") if "seed" in fine.dims else fine)
