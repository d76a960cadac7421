"""The jobs of a spec: one per static group, with data and chunks; what can be refused is refused here."""

import functools
import itertools
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.errors import PlasticodeError
from dynamics.simulate import all_finite, record_marks
from experiments.assemble import Plan, build, plan
from experiments.probes import PROBES
from experiments.spec import Spec
from experiments.sweep import Group, Sweep, expand
from experiments.tasks import Data

CACHE_BLOCK = 8  # points that one CPU core advances together
CHUNK_BYTES = 512 * 2**20  # of the states and records of a chunk


class Chunking(NamedTuple):
    """How a job's points are cut into chunks: from `least` to `most` points each, and between these so many that a
    chunk is about `work` steps times points."""

    least: int
    most: int
    work: int

    @classmethod
    def of(cls, devices: int, cpu: bool, points: int, workers: int = 1) -> "Chunking":
        """Chunks that fill the `devices` of a worker, take seconds rather than hours, and give all `workers` some."""
        share = points if workers == 1 else max(-(-points // (4 * workers)), min(CACHE_BLOCK, -(-points // workers)))
        if not cpu:  # an accelerator wants as many points at once as there are
            return cls(1, min(4096, share), 2**62)
        least = min(CACHE_BLOCK * devices, share)
        return cls(least, max(min(256, share), least), 4_000_000)


class ChunkKey(NamedTuple):
    """Which chunk: the part of the spec, the static group in it, the number in the group."""

    part: str
    group: int
    number: int

    @property
    def stem(self) -> str:
        """The beginning of its file's name."""
        return f"{group_stem(self.part, self.group)}-{self.number:06d}"


def group_stem(part: str, group: int) -> str:
    """What the names of all chunks of a job begin with."""
    return f"{part or 'all'}-{group:04d}"


class Job(NamedTuple):
    """One static group, ready to run: number `number` of the `part` of a spec; `point_bytes` of state and records."""

    part: str
    number: int
    group: Group
    plan: Plan
    data: dict[str, np.ndarray]
    state_bytes: int
    point_bytes: int

    @property
    def stem(self) -> str:
        """What the names of its chunks begin with."""
        return group_stem(self.part, self.number)

    @property
    def point_work(self) -> float:
        """The steps of one point."""
        return float(self.plan.spec.stimulus.presentations * self.plan.steps)

    @property
    def work(self) -> float:
        """Steps times points, the unit of progress."""
        return self.group.size * self.point_work

    def chunks(self, chunking: Chunking) -> dict[ChunkKey, np.ndarray]:
        """The points of every chunk. They follow from the spec and `chunking` alone."""
        size = min(max(int(chunking.work / self.point_work), chunking.least), chunking.most)
        size = max(min(size, CHUNK_BYTES // self.point_bytes), 1)
        pieces = np.array_split(np.arange(self.group.size), -(-self.group.size // size))
        return {ChunkKey(self.part, self.number, number): points for number, points in enumerate(pieces)}


def check(spec: Spec) -> dict[str, list[Job]]:
    """The jobs of every part, after everything that can be refused has been: data loaded, rules wired on their task."""
    return {name: list(_jobs(expand(part), name)) for name, part in spec.parts().items()}


def job_of(spec: Spec, part: str, number: int) -> Job:
    """One of the jobs of `check(spec)`."""
    return next(itertools.islice(_jobs(expand(spec.parts()[part]), part, number), 1))


def _jobs(sweep: Sweep, part: str, first: int = 0) -> Iterator[Job]:
    loaded: dict[str, Data] = {}
    for number, group in itertools.islice(enumerate(sweep.groups), first, None):
        task = group.static.task
        key = task.model_dump_json()
        if key not in loaded:
            loaded[key] = task.load()
        data = loaded[key]
        job = Job(part, number, group, plan(group, data), _arrays(data, group.static.dtype), 0, 0)
        state, record = _wired(job, data)
        records = job.plan.spec.record.points + 1
        yield job._replace(state_bytes=_bytes(state), point_bytes=_bytes(state) + records * _bytes(record))


def _arrays(data: Data, dtype: str) -> dict[str, np.ndarray]:
    fields = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    return {name: getattr(data, name).astype(dtype, copy=False) for name in fields if getattr(data, name) is not None}


def _wired(job: Job, data: Data) -> tuple[Any, Any]:
    """The shapes of the first point's state and record: a rule that does not fit its task is refused here."""
    for name in job.plan.spec.probes:
        if PROBES[name].supervised and data.train_targets is None:
            raise PlasticodeError(
                f"record.probes has '{name}', which needs targets, but task '{job.plan.spec.task.name}' is unsupervised"
            )
    rule = job.plan.spec.rule.name
    values, seeds = points_of(job, slice(0, 1))
    point = {path: value[0] for path, value in values.items()}
    try:
        state = jax.eval_shape(functools.partial(init_point, job.plan), point, seeds[0], job.data)
        record = jax.eval_shape(functools.partial(measure_point, job.plan), state, point, seeds[0], job.data)
        if ":" in rule:
            now = jnp.int32(0)
            jax.eval_shape(functools.partial(advance_point, job.plan), state, point, seeds[0], job.data, now, now)
    except PlasticodeError:
        raise
    except Exception as error:
        if ":" not in rule:
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]  # a mistake in the user's own rule, whatever it is
        raise PlasticodeError(f"rule '{rule}' cannot be run on this network ({why}){_place(rule, error)}") from error
    return state, record


def _place(rule: str, error: BaseException) -> str:
    """Where in the module of a user's rule an error arose; elsewhere it comes from what the rule has wired."""
    file = getattr(sys.modules.get(rule.partition(":")[0]), "__file__", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if not file or not frames:
        return ": its circuit must fit the layers"
    return f": see {os.path.basename(file)}, line {frames[-1].lineno}, in {frames[-1].name}"


def _bytes(shapes: Any) -> int:
    return max(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)), 1)


def points_of(job: Job, chunk: slice | np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The traced numbers of some points of a job, by path, and their seeds."""
    values = {path: value[chunk].astype(job.plan.spec.dtype) for path, value in job.group.values.items()}
    return values, job.group.seeds[chunk].astype(np.uint32)


def marks_of(spec: Spec) -> np.ndarray:
    """After how many presentations each record is made."""
    return np.asarray(record_marks(spec.stimulus.presentations, spec.record.points))


def init_point(plan: Plan, values: dict, seed: jax.Array, data: dict) -> Any:
    """The state of a point at the start."""
    regime, key = build(plan, values, seed, data)
    return regime.init(regime.circuit.initial_weights(key))


def advance_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict, first: Any, count: Any) -> Any:
    """The state of a point after `count` more presentations, the first of which has the number `first`."""
    return build(plan, values, seed, data)[0].advance(progress, first, count)


def measure_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict) -> dict[str, Any]:
    """The record of a point: its probes, what its integrator knows of its error, whether its weights are finite."""
    regime, _ = build(plan, values, seed, data)
    weights, slow = regime.weights(progress), regime.slow(progress)
    probes = {name: PROBES[name].measure(regime.circuit, weights, slow, data) for name in plan.spec.probes}
    quality = regime.quality(progress)
    if quality is not None:
        probes |= {"converged": quality.converged, "error_estimate": quality.error}
    return probes | {"finite": all_finite(weights)}
