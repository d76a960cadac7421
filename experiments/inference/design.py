"""Which experiment would tell: the errors that a fit would have, over a sweep of protocols, from the model alone."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from dynamics.errors import PlasticodeError
from experiments.inference.coordinates import Coordinate, coordinates
from experiments.inference.fitting import truth_of
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.model import Arrays, Model, Rows, check, doubled, in_order, sizes
from experiments.inference.table import Fit, read_fit
from experiments.inference.verdicts import certainty, direction_text
from experiments.points.jobs import Job, prepare
from experiments.results.labels import long_name
from experiments.spec.grid import Sweep, expand
from experiments.spec.loading import make_spec, spec_of
from experiments.spec.spec import Spec

BATCH = 8  # protocols that one call of the program computes


@dataclass(frozen=True)
class Design:
    """What each protocol of a sweep would tell.

    errors   (axes of the sweep, free) standard errors of the free numbers: relative ones of those on a log scale,
             infinite where nothing would be known
    seconds  (axes of the sweep) how long each protocol takes
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
    """The standard errors that fits of the spec's free numbers would have at each point of its sweep.

    They follow from the Fisher information at the spec's own numbers (the Cramer-Rao bound), without data: what is
    observed, how often, for how many presentations and by which protocol is what a sweep, or another spec, varies.

    Raises:
        PlasticodeError: the spec or its table cannot be used, told in one sentence.
    """
    made = spec_of(spec)
    if not jax.config.values["jax_enable_x64"]:
        raise PlasticodeError("a design computes in float64: call plasticode.configure('float64') first")
    table = read_fit(made)
    double = make_spec(doubled(made) | {"sweep": made.table()["sweep"]})
    sweep, jobs = expand(double), prepare(double)[""]
    free = coordinates(made, table, jobs[0].group.values)
    errors = np.full((*sweep.shape, len(free)), np.nan)
    seconds, blind, done = np.zeros(sweep.shape), {}, 0
    for job in jobs:
        for at, place, information in _informations(made, table, free, job):
            known = certainty(information)
            errors[at] = known.errors * np.array([one.width for one in free])
            values = job.group.values
            period = values["stimulus.duration"][place] + values["stimulus.gap"][place]
            seconds[at] = made.stimulus.presentations * period
            if known.null:
                blind[_place_text(sweep, at)] = direction_text(free, known.null[0])
            done += 1
            if on_progress:
                on_progress(done, sweep.size)
    return Design(_dataset(sweep, free, errors, seconds), free, blind)


def _informations(spec: Spec, table: Fit, free: tuple[Coordinate, ...], job: Job) -> Any:
    """Of every point of a job its place in the grid, its number in the job, and the information there."""
    values = {path: value[0] for path, value in job.group.values.items()}
    data = dict(job.data) | in_order(spec, len(job.data["train_inputs"]))
    made = Model(job.plan, free, table.observe, values, spec.seed, data)
    check(made, job.group.values)
    place, presentations = truth_of(made), spec.stimulus.presentations
    kinds = {one.name: LIKELIHOODS[one.noise] for one in table.observe}
    seen = {name: np.zeros((presentations, kinds[name].width(size))) for name, size in sizes(made).items()}
    for one in table.observe:
        seen[one.name][np.arange(presentations) % one.every != 0] = np.nan
    rows = Rows(np.arange(presentations, dtype=np.int32), seen)
    program = jax.jit(jax.vmap(functools.partial(_information, made), in_axes=(0, None, None, None)))
    size = min(BATCH, job.group.size)
    for first in range(0, job.group.size, size):
        points = np.arange(first, first + size).clip(max=job.group.size - 1)
        found = program({path: value[points] for path, value in job.group.values.items()}, place, rows, made.data)
        for point, one in list(zip(points, np.asarray(found), strict=True))[: job.group.size - first]:
            yield tuple(job.group.index[point]), point, one


def _information(made: Model, values: dict, place: Array, rows: Rows, data: Arrays) -> Float[Array, "free free"]:
    return dataclasses.replace(made, values=values).scored(place, rows, data).information


def _place_text(sweep: Sweep, at: tuple[int, ...]) -> str:
    """A point of the grid in words."""
    return ", ".join(f"{axis.paths[0]} = {axis.members[0].labels[i]}" for axis, i in zip(sweep.axes, at, strict=True))


def _dataset(sweep: Sweep, free: tuple[Coordinate, ...], errors: np.ndarray, seconds: np.ndarray) -> xr.Dataset:
    dims, places = [axis.name for axis in sweep.axes], {}
    for axis in sweep.axes:
        for member in axis.members:
            labels = {"long_name": long_name(member.path), "units": member.units or "1", "path": member.path}
            places[member.name] = (axis.name, np.asarray(member.values), labels)
    numbers = {"error": ([*dims, "free"], errors), "seconds": (dims, seconds)}
    data = xr.Dataset(numbers, places | {"free": [one.path for one in free]})
    data["seconds"].attrs["units"] = "s"
    data["error"].attrs["long_name"] = "standard error, relative on a log scale"
    return data
