"""Which experiment would tell: the errors that a fit would have, over a sweep of protocols, from the model alone."""

import dataclasses
import functools
import itertools
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats
from scipy.stats import qmc

from dynamics.errors import refused
from dynamics.regime import REFINEMENTS
from experiments.execution.keeping import share
from experiments.execution.runner import local, meter_of
from experiments.inference import labelling
from experiments.inference.coordinates import Coordinate, coordinates
from experiments.inference.expected import BATCH, Informer
from experiments.inference.model import doubled, widened
from experiments.inference.searching import Seeker
from experiments.inference.table import Fit, Observation, check_double, read_fit
from experiments.inference.verdicts import certainty, direction_text
from experiments.machine.progress import Meter
from experiments.points.assemble import refined
from experiments.points.jobs import Chunking, ChunkKey, Job, group_stem, prepare
from experiments.results.labels import long_name
from experiments.spec.extents import HELD
from experiments.spec.grid import Sweep, expand
from experiments.spec.loading import make_spec, spec_of
from experiments.spec.spec import Spec
from experiments.storage.chunks import ChunkStore, Record
from experiments.tasks.recorded import Recorded

PART = "protocols"  # what the names of chunks begin with


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
    plans, report = Plans(made, read_fit(made)), on_progress and (lambda now: on_progress(now.points, now.of))
    chunking = plans.chunking(1)
    tasks = share(plans.works, chunking)
    return plans.found(Seeker(meter_of(tasks, tasks, report), chunking, functools.partial(local, make=Designer)))


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


class Protocols(NamedTuple):
    """Protocols of a job with one choice of what is observed, each at every truth: what is cut into chunks, as a job
    is. `points` are those of the job, `places` the truths in the ranges, `at` says where in the grid each is, its
    axes of protocols first, then those of choices, then the truth."""

    number: int
    job: Job
    free: tuple[Coordinate, ...]
    observe: tuple[Observation, ...]
    points: np.ndarray
    places: np.ndarray
    at: np.ndarray

    @property
    def stem(self) -> str:
        """What the names of its chunks begin with."""
        return group_stem(PART, self.number)

    @property
    def point_work(self) -> float:
        """Of a protocol at a truth: a run and, of each free number, its slope."""
        return self.job.point_work * (1 + len(self.free))

    def chunks(self, chunking: Chunking) -> dict[ChunkKey, np.ndarray]:
        """The protocols of every chunk."""
        size = min(max(int(chunking.work / self.point_work), chunking.least), chunking.most)
        pieces = np.array_split(np.arange(len(self.points)), -(-len(self.points) // size))
        return {ChunkKey(PART, self.number, number): points for number, points in enumerate(pieces)}

    def informer(self, job: Job) -> Informer:
        """The information at its protocols, by the program of the job as it is, or with finer windows or steps."""
        return Informer(job, self.free, self.observe, len(self.points))


class Designer:
    """Runs chunks of protocols, with finer windows or steps where their own are too coarse."""

    def __init__(self, job: Protocols, size: int, store: ChunkStore | None = None, neighbours: int = 1):
        self.job, self.store, self.levels = job, store, [job.informer(job.job)]

    def prepare(self) -> None:
        """Compile."""
        self.levels[0].prepare()

    def run(self, key: ChunkKey, points: np.ndarray, meter: Meter) -> Record:
        """The information of some protocols at a truth, NaN where the run has not converged there."""
        found = []
        for batch in np.split(points, range(BATCH, len(points), BATCH)):
            found.append(self._informations(batch))
            meter.advance(self.job.point_work * len(batch), len(batch))
        information = np.concatenate(found)
        seconds = np.array([self.levels[0].seconds(point) for point in self.job.points[points]])
        finite = np.isfinite(information).all(axis=(1, 2))
        return {"finite": finite.reshape(-1, 1), "seconds": seconds[:, None], HELD: {"information": information}}

    def _informations(self, rows: np.ndarray) -> np.ndarray:
        found = np.full((len(rows), len(self.job.free), len(self.job.free)), np.nan)
        for level in range(REFINEMENTS + 1):
            if level == len(self.levels):
                if (plan := refined(self.levels[-1].job.plan)) is None:  # there is nothing finer
                    break
                self.levels.append(self.job.informer(self.job.job._replace(plan=plan)))
            left = np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))
            if not len(left):
                break
            of = self.job.points[rows[left]], self.job.places[rows[left]]
            informer = self.levels[level]
            found[left] = np.where(informer.converged(*of)[:, None, None], informer(*of), np.nan)
        return found


class Plans:
    """A design that is ready to be computed: what is wrong with a choice of what is observed is told before."""

    def __init__(self, spec: Spec, table: Fit):
        self.spec, self.table, self.grid = spec, table, _grid(spec, table)
        choices = itertools.product(*(range(len(values)) for values in table.sweep.values()))
        each = enumerate(itertools.product(choices, self.grid.jobs))
        self.works = [self._work(number, choice, job) for number, (choice, job) in each]

    def _work(self, number: int, choice: tuple[int, ...], job: Job) -> Protocols:
        grid, sweep = self.grid, self.table.sweep
        observe = self.table.chosen({path: values[i] for (path, values), i in zip(sweep.items(), choice, strict=True)})
        own = [number for number, axis in enumerate(grid.sweep.axes) if axis in grid.axes]
        others = [number for number in range(len(grid.sweep.axes)) if number not in own]
        points = np.flatnonzero((job.group.index[:, others] == 0).all(axis=1))
        _check_rows(job)
        informer = Informer(job, grid.free, observe.observe, len(points))
        places = informer.truths(points)[:, None] if grid.truths is None else np.tile(grid.truths, (len(points), 1, 1))
        truths = places.shape[1]
        at = np.column_stack([job.group.index[points][:, own], np.tile(choice, (len(points), 1))]).astype(int)
        at = np.column_stack([at.repeat(truths, axis=0), np.tile(np.arange(truths), len(points))])
        places = places.reshape(len(at), len(grid.free))
        return Protocols(number, job, grid.free, observe.observe, points.repeat(truths), places, at)

    @property
    def modules(self) -> set[str]:
        """Of a user's own code."""
        return set().union(*(job.plan.spec.modules for job in self.grid.jobs))

    def packed(self) -> bytes:
        """What a worker needs to go on."""
        return pickle.dumps((self.spec.table(), self.table.model_dump(mode="json", exclude_none=True)))

    @classmethod
    @functools.lru_cache(maxsize=1)
    def unpacked(cls, content: bytes) -> "Plans":
        """The inverse."""
        spec, table = pickle.loads(content)
        return cls(make_spec(spec), Fit.model_validate(table))

    def chunking(self, processes: int) -> Chunking:
        """How protocols are cut for so many processes."""
        return Chunking.of(1, True, sum(len(work.points) for work in self.works), processes)

    def found(self, seek: Seeker) -> Design:
        """What comes of it, where `seek` has the records of all protocols."""
        grid, table = self.grid, self.table
        shape = (*grid.shape, *map(len, table.sweep.values()))
        errors, seconds, blind = np.full((*shape, table.truths, len(grid.free)), np.nan), np.zeros(shape), {}
        widths = np.array([one.width for one in grid.free])
        for work, records in zip(self.works, seek.records(*self.works), strict=True):
            informations = np.concatenate([record[HELD]["information"] for record in records])
            lasting = np.concatenate([record["seconds"][:, 0] for record in records])
            for at, information, lasts in zip(map(tuple, work.at), informations, lasting, strict=True):
                known = certainty(information)
                errors[at], seconds[at[:-1]] = known.errors * widths, lasts
                if known.null:
                    blind.setdefault(_place_text(grid, table, at[:-1]), direction_text(grid.free, known.null[0]))
        return Design(_dataset(grid, table, errors, seconds), grid.free, blind)


def _check_rows(job: Job) -> None:
    """Refuses more presentations than a recorded experiment has, as a fit does."""
    spec, rows = job.plan.spec, len(job.data["train_inputs"])
    if isinstance(spec.task, Recorded) and spec.stimulus.presentations > rows:
        told = f"task.file has {rows} rows, each of which is shown once"
        raise refused("stimulus.presentations", spec.stimulus.presentations, told)


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
    lasting = {"long_name": "how long the protocol takes", "units": "s"}
    numbers = {"error": ([*dims, "free"], mean), "seconds": (dims, seconds, lasting)}
    if grid.truths is not None:
        numbers["error_at_truth"] = ([*dims, "truth", "free"], errors)
        truths = np.stack([one.number(grid.truths[:, i]) for i, one in enumerate(grid.free)], axis=1)
        places["true_number"] = (("truth", "free"), truths)
    return labelling.design(xr.Dataset(numbers, places | {"free": [one.path for one in grid.free]}), grid.free)
