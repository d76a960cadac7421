"""How `benchmarks.trust` runs its draws: through a spec as `plasticode run` does, and through Python."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.trust_draws import Structure
from benchmarks.trust_reference import plastic
from dynamics.coupled import Coupled
from dynamics.regime import REFINEMENTS
from dynamics.simulate import all_finite
from dynamics.window import Window
from dynamics.window_choice import refined
from experiments.assemble import build, plan
from experiments.jobs import ChunkKey, Job, init_point, points_of
from experiments.probes import PROBES, Probe
from experiments.programs import JobRunner
from experiments.progress import Meter
from experiments.spec import make_spec
from experiments.sweep import expand
from experiments.tasks import Data

WEIGHTS = "plastic weights"


class Outcome(NamedTuple):
    """What a run says of its draws: a status each, the estimate of its error, and all plastic matrices at the end."""

    status: list[str]
    estimate: np.ndarray
    weights: np.ndarray


def assembled(drawn: Structure, values: dict[str, np.ndarray]) -> Job:
    """The job of a spec that sweeps over the draws, on the structure's own data; it records the final weights."""
    sweep: dict[str, Any] = {path: _axis(path, column) for path, column in values.items()}
    spec = make_spec(drawn.spec | {"sweep": sweep | {"zip": [list(sweep)]}})
    (group,) = expand(spec).groups
    data = Data(drawn.inputs, drawn.targets, drawn.inputs[:1], drawn.targets[:1], "classification")
    PROBES[WEIGHTS] = Probe(
        lambda c, w, s, d: plastic({p.name: w[p.name] for p in c.plastic}), "all plastic matrices", supervised=False
    )
    record = group.static.record.model_copy(update={"probes": (WEIGHTS,)})
    group = dataclasses.replace(group, static=group.static.model_copy(update={"record": record}))
    made = plan(group, data)
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    arrays = {name: getattr(data, name).astype(spec.dtype) for name in names}
    job = Job("", 0, group, made, arrays, 1, 1)
    points, seeds = points_of(job, slice(0, 1))
    point = {path: column[0] for path, column in points.items()}
    state = jax.eval_shape(functools.partial(init_point, made), point, seeds[0], arrays)
    return job._replace(state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)))


def _axis(path: str, column: np.ndarray) -> list[Any]:
    """A column of numbers as a spec has it."""
    values = column.tolist()
    return [_text(value) for value in values] if path.startswith("timescales.") else values


def _text(value: Any) -> Any:
    return [_text(item) for item in value] if isinstance(value, list) else "inf" if np.isinf(value) else value


def through_spec(job: Job) -> Outcome:
    """What `plasticode run` would say: coarse windows are tried again with finer ones."""
    points = np.arange(job.group.size)
    record = JobRunner(job, len(points)).run(ChunkKey("", 0, 0), points, Meter(None, 1.0))
    finite = record["finite"].all(axis=1)
    settled = record["converged"][:, -1] if "converged" in record else np.ones(len(points), bool)
    estimate = record["error_estimate"][:, -1] if "error_estimate" in record else np.full(len(points), np.nan)
    return Outcome(_status(settled, finite), estimate.astype(float), record[WEIGHTS][:, -1].astype(float))


def _status(settled: np.ndarray, finite: np.ndarray) -> list[str]:
    """As results name it (experiments.labels)."""
    return ["not-converged" if not s else "ok" if f else "diverged" for s, f in zip(settled, finite, strict=True)]


def through_python(job: Job) -> Outcome:
    """The same draws as `dynamics.coupled.Coupled` with the windows that `experiments.windows` chooses, refined where
    they say that they have not converged."""
    values, seeds = points_of(job, slice(None))
    window, left = job.plan.window, np.arange(len(seeds))
    parts = [np.array(x) for x in _advanced(job, window, values, seeds)]
    for _ in range(REFINEMENTS):
        window = None if window is None else refined(window)
        left = left[~(parts[0][left] & parts[1][left])]
        if window is None or not len(left):
            break
        again = np.resize(left, len(seeds))  # one program for all of them
        better = _advanced(job, window, {path: column[again] for path, column in values.items()}, seeds[again])
        for old, new in zip(parts, better, strict=True):
            old[left] = np.asarray(new)[: len(left)]
    settled, finite, estimate, weights = parts
    return Outcome(_status(settled, finite), estimate.astype(float), weights.astype(float))


def _advanced(job: Job, window: Window | None, values: dict, seeds: np.ndarray) -> tuple:
    """By draw: whether it has converged, whether it is finite, its estimate, its plastic matrices at the end."""
    made = dataclasses.replace(job.plan, window=window)
    presentations = job.plan.spec.stimulus.presentations

    def of(values: dict, seed: jax.Array, data: dict) -> tuple:
        run, key = build(made, values, seed, data)
        assert isinstance(run, Coupled)
        end = run.advance(run.init(run.circuit.initial_weights(key)), jnp.int32(0), presentations)
        weights, quality = run.weights(end), run.quality(end)
        settled = jnp.asarray(True) if quality is None else quality.converged
        estimate = jnp.asarray(jnp.nan) if quality is None else quality.error
        flat = plastic({p.name: weights[p.name] for p in run.circuit.plastic})
        return settled, all_finite(weights), estimate, flat

    return jax.jit(jax.vmap(of, (0, 0, None)))(values, seeds, job.data)
