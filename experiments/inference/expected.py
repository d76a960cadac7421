"""What recordings of the points of a job would tell, from the model alone: of a design, and the probe `fisher`."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dynamics.errors import refused
from experiments.inference.coordinates import Coordinate, coordinates, value_at
from experiments.inference.labelling import LONG_NAME
from experiments.inference.model import Arrays, Model, Rows, check, doubled, in_order, truth_of
from experiments.inference.searching import Program
from experiments.inference.table import Observation, read_fit
from experiments.inference.verdicts import certainty
from experiments.machine.compilation import for_products
from experiments.points.jobs import Job, layout_of, prepare
from experiments.spec.extents import Extent
from experiments.spec.probes import FISHER
from experiments.spec.spec import Spec
from experiments.tasks.recorded import Recorded

BATCH = 8  # points that one call of the program computes


class Informer:
    """The Fisher information about free numbers at points of a job, by one program, of which so many are asked for."""

    def __init__(self, job: Job, free: tuple[Coordinate, ...], observe: tuple[Observation, ...], points: int):
        spec, self.job, self.size = job.plan.spec, job, min(BATCH, points)
        doubled(spec)  # refuses noise, and samples side by side
        values = {path: value[0] for path, value in job.group.values.items()}
        data = dict(job.data) | in_order(spec, len(job.data["train_inputs"]), spec.stimulus.presentations)
        self.made = Model(job.plan, free, observe, values, spec.seed, data)
        check(self.made, job.group.values)
        presentations = spec.stimulus.presentations
        seen = {name: np.where(over, np.nan, 0.0) for name, over in self.made.over(presentations).items()}
        for one in observe:
            seen[one.name][np.arange(presentations) % one.every != 0] = np.nan
        self.rows = Rows(np.arange(presentations, dtype=np.int32), seen)
        options = for_products(job.plan.sizes)
        self._program = Program(jax.jit(jax.vmap(self._information, (0, 0, 0, None, None)), compiler_options=options))
        self._judge = Program(jax.jit(jax.vmap(self._settled, (0, 0, 0, None)), compiler_options=options))

    def _information(
        self, values: dict, seed: Array, place: Array, rows: Rows, data: Arrays
    ) -> Float[Array, "free free"]:
        return dataclasses.replace(self.made, values=values, seed=seed).scored(place, rows, data).information

    def _settled(self, values: dict, seed: Array, place: Array, data: Arrays) -> Bool[Array, ""]:
        made = dataclasses.replace(self.made, values=values, seed=seed)
        quality = made.predicted(place, len(self.rows.k), data)[1]
        return jnp.array(True) if quality is None else quality.converged

    def truths(self, points: np.ndarray) -> np.ndarray:
        """Where in their ranges the numbers of each point are, (points, free): those in units of T differ."""
        return np.stack([truth_of(self._at(point)) for point in points])

    def _at(self, point: int) -> Model:
        values = {path: value[point : point + 1] for path, value in self.job.group.values.items()}
        own = {one.path: value_at(one.path, values, self.job.plan.spec.network.layers) for one in self.made.free}
        free = [
            one if own[one.path] is None else dataclasses.replace(one, value=own[one.path]) for one in self.made.free
        ]
        return dataclasses.replace(self.made, free=tuple(free), values={n: value[0] for n, value in values.items()})

    def prepare(self) -> None:
        """Compile, unless that is done."""
        (of,) = self._batches(np.zeros(1, int), np.zeros((1, len(self.made.free))))
        self._program.compiled(*of, self.rows, self.made.data)
        self._judge.compiled(*of, self.made.data)

    def __call__(self, points: np.ndarray, places: np.ndarray) -> np.ndarray:
        """At each of the points and at a place in the ranges for each of them, (points, free, free)."""
        found = [np.asarray(self._program(*of, self.rows, self.made.data)) for of in self._batches(points, places)]
        return np.concatenate(found)[: len(points)]

    def converged(self, points: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Whether the integrator's estimate of its own error is within its tolerance there, (points,)."""
        found = [np.asarray(self._judge(*of, self.made.data)) for of in self._batches(points, places)]
        return np.concatenate(found)[: len(points)]

    def _batches(self, points: np.ndarray, places: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """Values, seeds and places of some points at a time, the last of them again where they are fewer."""
        for first in range(0, len(points), self.size):
            rows = np.arange(first, first + self.size).clip(max=len(points) - 1)
            values = {path: value[points[rows]] for path, value in self.job.group.values.items()}
            yield values, self.job.group.seeds[points[rows]], places[rows]

    def seconds(self, point: int) -> float:
        """How long a point takes."""
        return float(self._at(point).lasting(len(self.rows.k)).sum())


@dataclass(frozen=True)
class Expected:
    """`Job.beside_runs` where the probe `fisher` is recorded."""

    free: tuple[Coordinate, ...]
    observe: tuple[Observation, ...]

    def __call__(self, job: Job) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """What gives the standard errors at points of a job, (points, free)."""
        informer = Informer(job, self.free, self.observe, job.group.size)
        informer.truths(np.arange(job.group.size))  # refuses those beyond their ranges
        widths = [one.width for one in self.free]

        def errors(points: np.ndarray) -> dict[str, np.ndarray]:
            told = informer(points, informer.truths(points))
            return {FISHER: np.array([certainty(one).errors * widths for one in told])}

        return errors

    @property
    def extent(self) -> Extent:
        """Of the array that a point keeps."""
        units = {"s" if one.is_time and not one.is_log else "1" for one in self.free}
        paths = tuple(one.path for one in self.free)
        return Extent(("free",), (len(paths),), False, LONG_NAME, units.pop() if len(units) == 1 else "", paths)


def prepared(spec: Spec) -> dict[str, list[Job]]:
    """The jobs of every part of a spec, as `prepare` makes them, with the probe `fisher` where it is recorded.

    Raises:
        PlasticodeError: the spec or its table [fit] is none of which it can be computed, told in one sentence.
    """
    if not spec.heeds_fit:
        return prepare(spec)
    table = read_fit(spec)
    doubled(spec)  # which refuses noise
    for key in ("sweep", "truths"):
        if getattr(table, key) != type(table).model_fields[key].default:
            told = "the probe 'fisher' is of the spec's own numbers and observations; `plasticode design` heeds it"
            raise refused(f"fit.{key}", getattr(table, key), told)
    if isinstance(spec.task, Recorded) and spec.stimulus.order != "sequential":
        told = "the probe 'fisher' is of what was shown in its order, 'sequential'"
        raise refused("stimulus.order", spec.stimulus.order, told)
    (jobs,) = prepare(spec).values()
    expected = Expected(coordinates(spec, table, jobs[0].sweep.groups[0].values), table.observe)
    for job in jobs:
        expected(job)  # refuses what cannot be observed of it
    jobs = [job._replace(arrays=job.arrays | {FISHER: expected.extent}, beside_runs=expected) for job in jobs]
    layout_of(jobs)
    return {"": jobs}
