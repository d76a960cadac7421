"""Means over seeds and their 95 % intervals; what did not finish never enters a mean silently.

Data sets may be read from a file as needed (`netcdf.opened`): nothing here holds more than one probe in memory.
"""

import math
from collections.abc import Hashable, Iterator
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import stdtrit

from experiments.results.labels import STATUS

OK = STATUS.index("ok")
PIECE_VALUES = 2**22  # numbers of a probe that a search through all records reads at once: 16 MiB in float32


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
    """The mean over seeds of a probe (in its units), and how far to trust it, at every point and record.

    It reads all of the probe: choose points and records before, with `data.isel`.
    """
    field, numbers, counts = _by_seed(data, probe)
    # One seed after the other: without a copy in float64 of all of them, and sums that do not depend on what else is
    # in the array. In units of a power of two near the largest: neither sums nor squares overflow.
    n, largest, total, squares = counts.sum(axis=0), *np.zeros((3, *field.shape))
    for one, counted in zip(numbers, counts, strict=True):
        largest = np.maximum(largest, np.where(counted, np.abs(one), 0))
    power, known = np.frexp(largest)[1], np.where(n > 0, n, np.nan)
    for one, counted in zip(numbers, counts, strict=True):
        total += np.ldexp(np.where(counted, one, 0), -power)
    mean = total / known
    for one, counted in zip(numbers, counts, strict=True):
        squares += (np.ldexp(np.where(counted, one, 0), -power) - np.where(counted, mean, 0)) ** 2
    error = np.sqrt(squares / np.where(n > 1, n - 1, np.nan) / known)
    quantile = stdtrit(np.maximum(np.arange(len(numbers) + 1.0) - 1, 0), 0.975)[n]  # NaN for n < 2
    with np.errstate(over="ignore"):  # an interval may be wider than float64
        mean, half = np.ldexp(mean, power), np.ldexp(quantile * error, power)
    parts = (mean, half, n, len(numbers) - n)
    return Interval(*(field.copy(deep=False, data=part) for part in parts))


def _by_seed(data: xr.Dataset, probe: str) -> tuple[xr.DataArray, np.ndarray, np.ndarray]:
    """A probe at one seed, its numbers (seeds, ...) and which of them count; a probe without seeds has one."""
    values, numbers = data[probe], data[probe].values
    field = values
    if "seed" in values.dims:
        field = values.isel(seed=0, drop=True)
        numbers = np.moveaxis(numbers, values.get_axis_num("seed"), 0)
    dims = ("seed", *field.dims)
    ok = (data["status"] == OK).transpose(*(dim for dim in dims if dim in data["status"].dims))
    numbers = numbers.reshape(values.sizes.get("seed", 1), *field.shape)
    counts = np.isfinite(numbers) & ok.values.reshape([ok.sizes.get(dim, 1) for dim in dims])
    return field, numbers, counts


def probes(data: xr.Dataset) -> list[str]:
    """The probes of a result, in the order of the spec, without those that are arrays."""
    return [name for name in numbers_over_records(data) if name != "error_estimate"]


def numbers_over_records(data: xr.Dataset) -> list[str]:
    """What has a number at each record of a point, or one for each matrix."""
    axes = data["status"].dims
    shapes = (*axes, "record"), (*axes, "record", "matrix")
    return [str(name) for name, values in data.data_vars.items() if values.dims in shapes]


def axes(data: xr.Dataset) -> list[str]:
    """The swept axes of a result, without the seeds."""
    return [str(name) for name in data["status"].dims if name != "seed"]


def count(data: xr.Dataset, names: list[str]) -> int:
    """The number of positions of the grid along the axes `names`."""
    return math.prod(data.sizes[name] for name in names)


def position(data: xr.Dataset, names: list[str], index: int) -> dict[str, int]:
    """One position of the grid along the axes `names`, the last varying fastest."""
    return dict(zip(names, map(int, np.unravel_index(index, [data.sizes[name] for name in names])), strict=True))


def positions(data: xr.Dataset, names: list[str], most: int | None = None) -> Iterator[dict[str, int]]:
    """Every position of the grid along the axes `names`, in order; or at most so many of them, evenly spread."""
    number = count(data, names)
    return (position(data, names, index) for index in (range(number) if most is None else spread(number, most)))


def spread(number: int, most: int) -> list[int]:
    """The indices of at most so many of a number of things, evenly spread, the first and the last among them."""
    return [round(at) for at in np.linspace(0, number - 1, min(number, most))]


def finals(data: xr.Dataset) -> dict[str, Interval]:
    """The interval of every probe at the last record, by name; one per matrix where it has them, as "alignment W1".

    A matrix that no finished point has, such as the feedback of a rule without feedback, is left out.
    """
    last = data.isel(record=-1)
    fine = data["status"] == OK
    fine = fine.any("seed") if "seed" in fine.dims else fine
    result = {}
    for probe in probes(data):
        over_seeds = interval(last, probe)
        if "matrix" not in over_seeds.mean.dims:
            result[probe] = over_seeds
            continue
        found = measured(data, probe)
        for index, matrix in enumerate(data["matrix"].values):
            one, has = over_seeds.at(matrix=index), found.isel(matrix=index)
            if bool(has.any()):
                result[f"{probe} {matrix}"] = one._replace(excluded=one.excluded.where(has | ~fine, 0))
    return result


def measured(data: xr.Dataset, probe: str) -> xr.DataArray:
    """Where a finished seed has a value of the probe at any record; by position, and by matrix where it has them."""
    last = _any_counts(data.isel(record=-1), probe)
    if bool(last.all()):
        return last
    result = last.copy(data=np.zeros(last.shape, bool))
    for piece in _pieces(data, probe):
        result[piece] = _any_counts(data.isel(piece), probe).values
    return result


def _any_counts(data: xr.Dataset, probe: str) -> xr.DataArray:
    field, _, counts = _by_seed(data, probe)
    result = field.copy(deep=False, data=counts.any(axis=0))
    return result.any("record") if "record" in result.dims else result


def _pieces(data: xr.Dataset, probe: str) -> Iterator[dict[Hashable, slice]]:
    """Slices along the longest axis, of about `PIECE_VALUES` numbers of the probe each."""
    names = axes(data)
    if not names:
        yield {}
        return
    longest = max(names, key=lambda name: data.sizes[name])
    step = max(1, PIECE_VALUES * data.sizes[longest] // max(1, data[probe].size))
    for start in range(0, data.sizes[longest], step):
        yield {longest: slice(start, start + step)}
