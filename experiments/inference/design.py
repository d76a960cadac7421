"""Which experiment would tell: the errors that a fit would have, over a sweep of protocols, from the model alone."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats
from scipy.stats import qmc

from dynamics.regime import REFINEMENTS
from experiments.inference.coordinates import Coordinate, coordinates
from experiments.inference.expected import BATCH, LONG_NAME, Informer
from experiments.inference.model import doubled, widened
from experiments.inference.table import Fit, check_double, read_fit
from experiments.inference.verdicts import certainty, direction_text
from experiments.points.assemble import refined
from experiments.points.jobs import Job, prepare
from experiments.results.labels import long_name
from experiments.spec.grid import Sweep, expand
from experiments.spec.loading import make_spec, spec_of
from experiments.spec.spec import Spec


@dataclass(frozen=True)
class Design:
    """What each protocol would tell.

    errors   (axes, free) standard errors of the free numbers: relative ones of those on a log scale, infinite where
             nothing would be known, NaN where the run has not converged or diverges; geometric means over the truths,
             which `data` has one by one as "error_at_truth". Axes are those of the sweep, then those of what is
             observed (fit.sweep)
    seconds  (axes) how long each protocol takes
    blind    by protocol, how numbers may change there together without a trace in the data
    """

    data: xr.Dataset
    free: tuple[Coordinate, ...]
    blind: dict[str, str]

    @property
    def errors(self) -> xr.DataArray:
        return self.data["error"]

    @property
    def seconds(self) -> xr.DataArray:
        return self.data["seconds"]


def design(
    spec: Spec | str | Path | Mapping[str, Any], *, on_progress: Callable[[int, int], None] | None = None
) -> Design:
    """The standard errors that fits of the spec's free numbers would have at each point of its sweep, and with each
    choice of what is observed in fit.sweep.

    They follow from the Fisher information (the Cramer-Rao bound), without data, at the spec's own numbers; or on
    average over `fit.truths` places that priors draw, or ranges where numbers have no prior.

    Raises:
        PlasticodeError: the spec or its table cannot be used, told in one sentence.
    """
    made = spec_of(spec)
    check_double("a design")
    table = read_fit(made)
    grid = _grid(made, table)
    choices = [*itertools.product(*(range(len(values)) for values in table.sweep.values()))]
    shape = (*grid.shape, *map(len, table.sweep.values()))
    errors = np.full((*shape, table.truths, len(grid.free)), np.nan)
    seconds, blind, done = np.zeros(shape), {}, 0
    for choice, job in itertools.product(choices, grid.jobs):
        told = table.chosen({path: values[i] for (path, values), i in zip(table.sweep.items(), choice, strict=True)})
        for at, lasting, informations, converged in _informations(told, grid, job):
            at = (*at, *choice)
            known = [certainty(information) for information in informations]
            errors[at] = np.array([one.errors for one in known]) * [one.width for one in grid.free]
            errors[at][~converged] = np.nan
            seconds[at] = lasting
            null = next((one.null[0] for one, good in zip(known, converged, strict=True) if good and one.null), None)
            if null is not None:
                blind[_place_text(grid, table, at)] = direction_text(grid.free, null)
            done += 1
            if on_progress:
                on_progress(done, seconds.size)
    return Design(_dataset(grid, table, errors, seconds), grid.free, blind)


class _Grid(NamedTuple):
    """The protocols of a sweep, what is free, and the places that are taken for the truth; None: the spec's own."""

    sweep: Sweep
    jobs: list[Job]
    free: tuple[Coordinate, ...]
    truths: np.ndarray | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the protocols: programs that suit all truths are those of a further axis, of their ends."""
        return tuple(axis.size for axis in self.axes)

    @property
    def axes(self) -> list[Any]:
        return [axis for axis in self.sweep.axes if not {one.path for one in self.free} & set(axis.paths)]


def _grid(spec: Spec, table: Fit) -> _Grid:
    double = make_spec(doubled(spec) | {"sweep": spec.table()["sweep"]})
    free = coordinates(spec, table, expand(double).groups[0].values)
    if table.truths == 1:
        return _Grid(expand(double), prepare(double)[""], free, None)
    truths = _drawn(free, table.truths, spec.seed)
    ends = [
        dataclasses.replace(one, low=float(one.number(low)), high=float(one.number(high)))
        for one, low, high in zip(free, truths.min(axis=0), truths.max(axis=0), strict=True)
    ]
    wide = make_spec(widened(double, ends))
    return _Grid(expand(wide), prepare(wide)[""], free, truths)


def _drawn(free: tuple[Coordinate, ...], truths: int, seed: int) -> np.ndarray:
    """Places in the ranges, (truths, free), that spread as the priors do."""
    share = qmc.LatinHypercube(len(free), rng=np.random.default_rng(seed)).random(truths)
    for i, one in enumerate(free):
        if one.prior is not None:
            normal, (low, high) = stats.norm(*one.prior), one.ends
            inside = normal.cdf(low) + share[:, i] * (normal.cdf(high) - normal.cdf(low))
            share[:, i] = np.clip((normal.ppf(inside) - low) / one.width, 0, 1)
    return share


def _informations(table: Fit, grid: _Grid, job: Job) -> Iterator[tuple[tuple[int, ...], float, np.ndarray, np.ndarray]]:
    """Of every protocol of a job its place in the grid, how long it takes, the information at each truth, and whether
    the run has converged there, with finer windows or steps where its own are too coarse."""
    levels = [Informer(job, grid.free, table.observe)]
    own = [number for number, axis in enumerate(grid.sweep.axes) if axis in grid.axes]
    others = [number for number in range(len(grid.sweep.axes)) if number not in own]
    wanted = np.flatnonzero((job.group.index[:, others] == 0).all(axis=1))
    for first in range(0, len(wanted), BATCH):
        points = wanted[first : first + BATCH]
        drawn = [] if grid.truths is None else [np.broadcast_to(one, (len(points), len(one))) for one in grid.truths]
        truths = np.stack(drawn or [levels[0].truths(points)], axis=1)
        found, converged = _known(levels[0], points, truths)
        for level in range(1, REFINEMENTS + 1):
            again = np.flatnonzero(~(converged & np.isfinite(found).all(axis=(2, 3))).all(axis=1))
            if not len(again):
                break
            if level == len(levels) and (plan := refined(levels[-1].job.plan)) is not None:
                levels.append(Informer(job._replace(plan=plan), grid.free, table.observe))
            if level == len(levels):  # there is nothing finer
                break
            found[again], converged[again] = _known(levels[level], points[again], truths[again])
        for point, informations, settled in zip(points, found, converged, strict=True):
            yield tuple(job.group.index[point, own]), levels[0].seconds(point), informations, settled


def _known(informer: Informer, points: np.ndarray, truths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The information at each truth of each point, (points, truths, free, free), and whether the run has converged."""
    each = range(truths.shape[1])
    found = np.stack([informer(points, truths[:, i]) for i in each], axis=1)
    return found, np.stack([informer.converged(points, truths[:, i]) for i in each], axis=1)


def _axes(grid: _Grid, table: Fit) -> dict[str, list[str]]:
    """What each axis is called in texts, and its places."""
    swept = {axis.paths[0]: list(axis.members[0].labels) for axis in grid.axes}
    return swept | {f"fit.{path}": [str(value) for value in values] for path, values in table.sweep.items()}


def _place_text(grid: _Grid, table: Fit, at: tuple[int, ...]) -> str:
    """A protocol in words."""
    return ", ".join(f"{path} = {labels[i]}" for (path, labels), i in zip(_axes(grid, table).items(), at, strict=True))


def _dataset(grid: _Grid, table: Fit, errors: np.ndarray, seconds: np.ndarray) -> xr.Dataset:
    dims, places = [axis.name for axis in grid.axes], {}
    for axis in grid.axes:
        for member in axis.members:
            labels = {"long_name": long_name(member.path), "units": member.units or "1", "path": member.path}
            places[member.name] = (axis.name, np.asarray(member.values), labels)
    for path, values in table.sweep.items():
        of = {"long_name": path, "units": "1", "path": f"fit.{path}"}
        name, numbers = f"fit_{path.replace('.', '_')}", all(isinstance(value, int | float) for value in values)
        places[name] = (name, values if numbers else list(map(str, values)), of)
        dims.append(name)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(errors).mean(axis=-2))
    numbers = {"error": ([*dims, "free"], mean), "seconds": (dims, seconds)}
    if grid.truths is not None:
        numbers["error_at_truth"] = ([*dims, "truth", "free"], errors)
        truths = np.stack([one.number(grid.truths[:, i]) for i, one in enumerate(grid.free)], axis=1)
        places["true_number"] = (("truth", "free"), truths)
    data = xr.Dataset(numbers, places | {"free": [one.path for one in grid.free]})
    data["seconds"].attrs["units"] = "s"
    data["error"].attrs["long_name"] = LONG_NAME
    return data
