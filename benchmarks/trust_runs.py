"""How `benchmarks.trust` runs its draws: through a spec as `plasticode run` does, and through Python."""

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.trust_draws import Structure
from benchmarks.trust_reference import plastic
from dynamics.errors import NotOkWarning
from dynamics.simulate import simulate
from experiments.execution.programs import JobRunner
from experiments.machine.progress import Meter
from experiments.points.assemble import build, plan
from experiments.points.heeded import NOTHING
from experiments.points.jobs import ChunkKey, Job, Stage, bytes_of, init_point, points_of
from experiments.spec.extents import HELD
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.spec.probes import PROBES, Probe
from experiments.tasks.contract import Data

WEIGHTS = "plastic weights"
PLASTIC = Probe(
    lambda c, w, s, d: plastic({p.name: w[p.name] for p in c.plastic}), "all plastic matrices", supervised=False
)


class Outcome(NamedTuple):
    """What a run says of its draws: a status each, the estimate of its error, and all plastic matrices at the end."""

    status: list[str]
    estimate: np.ndarray
    weights: np.ndarray


def assembled(drawn: Structure, values: dict[str, np.ndarray]) -> Job:
    """The job of a spec that sweeps over the draws, on the structure's own data; it records the final weights."""
    sweep: dict[str, Any] = {path: _axis(path, column) for path, column in values.items()}
    spec = make_spec(drawn.spec | {"sweep": sweep | {"zip": [list(sweep)]}})
    grid = expand(spec)
    (group,) = grid.groups
    data = Data(drawn.inputs, drawn.targets, drawn.inputs[:1], drawn.targets[:1], "classification")
    record = group.static.record.model_copy(update={"probes": (WEIGHTS,)})
    group = dataclasses.replace(group, static=group.static.model_copy(update={"record": record}))
    made = plan(group, data)
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    arrays = {name: getattr(data, name).astype(spec.dtype) for name in names}
    stages = (Stage(group.static.stimulus.presentations, group.values, arrays),)
    job = Job("", 0, grid, group, made, stages, NOTHING, 1, 1, 1)
    points, seeds = points_of(job, slice(0, 1))
    point = {path: column[0] for path, column in points.items()}
    state = jax.eval_shape(functools.partial(init_point, made), point, seeds[0], arrays)
    return job._replace(state_bytes=bytes_of(state), weight_bytes=bytes_of(state))


def _axis(path: str, column: np.ndarray) -> list[Any]:
    """A column of numbers as a spec has it."""
    values = column.tolist()
    return [_text(value) for value in values] if path.startswith("timescales.") else values


def _text(value: Any) -> Any:
    return [_text(item) for item in value] if isinstance(value, list) else "inf" if np.isinf(value) else value


def through_spec(job: Job) -> Outcome:
    """What `plasticode run` would say: coarse windows are tried again with finer ones."""
    points = np.arange(job.group.size)
    with mock.patch.dict(PROBES, {WEIGHTS: PLASTIC}):
        record = JobRunner(job, len(points)).run(ChunkKey("", 0, 0), points, Meter(None, 1.0))
    finite = record["finite"].all(axis=1)
    settled = record["converged"][:, -1] if "converged" in record else np.ones(len(points), bool)
    estimate = record["error_estimate"][:, -1] if "error_estimate" in record else np.full(len(points), np.nan)
    return Outcome(_status(settled, finite), estimate.astype(float), record[HELD][WEIGHTS][:, -1].astype(float))


def _status(settled: np.ndarray, finite: np.ndarray) -> list[str]:
    """As results name it (experiments.labels)."""
    return ["not-converged" if not s else "ok" if f else "diverged" for s, f in zip(settled, finite, strict=True)]


def through_python(job: Job, most: int) -> list[str]:
    """The status of the first draws, at most so many, through `simulate`, which compiles each of them anew."""
    values, seeds = points_of(job, slice(0, most))
    return [_simulated(job, {path: column[i] for path, column in values.items()}, seeds[i]) for i in range(len(seeds))]


def _simulated(job: Job, values: dict[str, np.ndarray], seed: np.ndarray) -> str:
    numbers, data = {path: jnp.asarray(value) for path, value in values.items()}, jax.tree.map(jnp.asarray, job.data)
    run, key = build(job.plan, numbers, jnp.asarray(seed), data)
    with warnings.catch_warnings(action="ignore", category=NotOkWarning):
        start = run.circuit.initial_weights(key)
        shown = job.plan.spec.stimulus.presentations
        return simulate(run, shown, lambda weights, slow: weights, records=1, weights=start).status
