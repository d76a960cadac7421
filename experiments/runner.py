"""Runs a sweep: one compiled program per static group, its points in chunks over all local devices.

A chunk advances from record to record under the host's control, so progress can be shown and an interrupt loses only
the chunk that it falls into.
"""

import dataclasses
import functools
import itertools
import operator
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dynamics.errors import PlasticodeError
from dynamics.simulate import all_finite, record_marks
from experiments.assemble import Plan, build, plan
from experiments.labels import Table
from experiments.probes import PROBES
from experiments.spec import Spec
from experiments.sweep import Group, Sweep, expand
from experiments.tasks import Data
from experiments.windows import refined

COMPILE_AHEAD = 8  # jobs
SHORT_WORK = 20_000  # steps times points: such a job runs faster than the compiler optimises
CHUNK_POINTS, CHUNK_BYTES = 256, 512 * 2**20
BLOCK_STEPS = 500_000  # steps times points between two looks at the clock and at the keyboard: about a second
# Points that one CPU core advances together: enough to share the cost of a program's step, few enough that their
# weights stay in its cache.
CACHE_BLOCK, CACHE_BYTES = 8, 3 * 2**19

OnProgress = Callable[[float, float], None]


class Results(NamedTuple):
    """One labelled data set per part of the spec ("" when it has none); `complete` is false after an interrupt."""

    datasets: dict[str, xr.Dataset]
    complete: bool


def configure(dtype: str, devices: int | None = None) -> None:
    """Sets up jax for runs in `dtype`; call it before anything is computed. Results depend on these settings.

    Matrix products are at full precision everywhere (no TF32); on CPU there is one device per core.
    """
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        jax.config.update("jax_num_cpu_devices", devices or os.cpu_count() or 1)
    except RuntimeError:  # jax has started already and keeps the devices that it has
        pass


class Job(NamedTuple):
    """One static group, ready to run."""

    group: Group
    plan: Plan
    data: dict[str, np.ndarray]

    @property
    def work(self) -> float:
        """Steps times points, the unit of progress."""
        return float(self.group.size) * self.plan.spec.stimulus.presentations * self.plan.steps


def check(spec: Spec) -> dict[str, list[Job]]:
    """The jobs of every part, after everything that can be refused has been: data loaded, rules wired on their task."""
    return {name: _jobs(expand(part)) for name, part in spec.parts().items()}


def _jobs(sweep: Sweep) -> list[Job]:
    jobs, loaded = [], {}
    for group in sweep.groups:
        task = group.static.task
        key = task.model_dump_json()
        if key not in loaded:
            loaded[key] = task.load()
        data = loaded[key]
        job = Job(group, plan(group, data), _arrays(data, group.static.dtype))
        _check_wiring(job, data)
        jobs.append(job)
    return jobs


def _arrays(data: Data, dtype: str) -> dict[str, np.ndarray]:
    fields = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    return {name: getattr(data, name).astype(dtype) for name in fields if getattr(data, name) is not None}


def _check_wiring(job: Job, data: Data) -> None:
    """Builds the first point without computing anything: a rule that does not fit its task is refused here."""
    for name in job.plan.spec.probes:
        if PROBES[name].supervised and data.train_targets is None:
            raise PlasticodeError(
                f"record.probes has '{name}', which needs targets, but task '{job.plan.spec.task.name}' is unsupervised"
            )
    rule = job.plan.spec.rule.name
    try:
        state, *point = _first_point(job)
        jax.eval_shape(functools.partial(_measure_point, job.plan), state, *point, job.data)
        if ":" in rule:
            now = jnp.int32(0)
            jax.eval_shape(functools.partial(_advance_point, job.plan), state, *point, job.data, now, now)
    except PlasticodeError:
        raise
    except Exception as error:
        if ":" not in rule:
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0]  # a mistake in the user's own rule, whatever it is
        raise PlasticodeError(f"rule '{rule}' cannot be run: its circuit must wire this network ({why})") from error


def _first_point(job: Job) -> tuple[Any, dict[str, Any], np.integer]:
    """The shapes of the first point's state, without computing it; its values and its seed."""
    values, seeds = _points(job, slice(0, 1))
    point = {path: value[0] for path, value in values.items()}
    return jax.eval_shape(functools.partial(_init_point, job.plan), point, seeds[0], job.data), point, seeds[0]


def run(spec: Spec, on_progress: OnProgress | None = None, jobs: dict[str, list[Job]] | None = None) -> Results:
    """Runs every part of `spec`. An interrupt between two blocks keeps the finished chunks; the rest is `missing`.

    `on_progress(done, total)` is called after every block, in steps times points. `jobs` are those of `check(spec)`,
    for who has checked already.
    """
    if spec.dtype == "float64" and not jax.config.values["jax_enable_x64"]:
        raise PlasticodeError("dtype = 'float64' is not possible yet: call runner.configure('float64') first")
    parts, jobs = spec.parts(), check(spec) if jobs is None else jobs
    tables = {name: Table(expand(part), _marks(part)) for name, part in parts.items()}
    seconds = dict.fromkeys(parts, 0.0)
    queue = [(name, job) for name in parts for job in jobs[name]]
    progress = _Progress(on_progress, sum(job.work for _, job in queue))
    complete, compiler = True, ThreadPoolExecutor(os.cpu_count())
    try:
        for (name, job), programs in zip(queue, _compiled(compiler, [job for _, job in queue]), strict=True):
            started = time.perf_counter()
            _run_job(job, programs, tables[name], progress)
            seconds[name] += time.perf_counter() - started
    except KeyboardInterrupt:
        complete = False
    finally:
        compiler.shutdown(wait=False, cancel_futures=True)
    datasets = {
        name: tables[name]
        .dataset(part)
        .assign_attrs(part=name, seconds=seconds[name], outputs=jobs[name][0].plan.sizes[-1])
        for name, part in parts.items()
    }
    return Results(datasets, complete)


def _compiled(compiler: ThreadPoolExecutor, jobs: list[Job]) -> Iterator["_Programs"]:
    """The programs of each job in turn; while one runs the next few are compiled, and those that ran are let go.

    A program holds memory maps of the process, and Linux allows 65530 of them.
    """
    waiting, ahead = iter(jobs), deque()
    while True:
        fresh = itertools.islice(waiting, COMPILE_AHEAD - len(ahead))
        ahead.extend(compiler.submit(_compile, job) for job in fresh)
        if not ahead:
            return
        yield ahead.popleft().result()


def _run_job(job: Job, programs: "_Programs", table: Table, progress: "_Progress", refinements: int = 2) -> None:
    """Runs a job and files its records; points whose windows were too coarse again with finer ones.

    Sweeps over too long a window may run off to infinity: only finer windows tell whether the point itself diverges.
    """
    window, again = job.plan.window, []
    for points, record in _execute(job, programs, progress):
        table.add(job.group, points, record)
        if window is not None:
            again.append(points[~(record["converged"][:, -1] & record["finite"].all(axis=1))])
    finer = None if window is None else refined(window)
    if finer is not None and refinements and sum(map(len, again)):
        plan = dataclasses.replace(job.plan, window=finer)
        retry = job._replace(group=job.group.subset(np.concatenate(again)), plan=plan)
        _run_job(retry, _compile(retry), table, _Progress(None, 1.0), refinements - 1)


def _marks(spec: Spec) -> np.ndarray:
    return np.asarray(record_marks(spec.stimulus.presentations, spec.record.points))


class _Progress:
    """Adds up finished work and tells it to whoever asked."""

    def __init__(self, report: OnProgress | None, total: float):
        self.report, self.total, self.done = report, total, 0.0

    def add(self, work: float) -> None:
        self.done += work
        if self.report is not None:
            self.report(min(self.done, self.total), self.total)


def _init_point(plan: Plan, values: dict, seed: jax.Array, data: dict) -> Any:
    regime, key = build(plan, values, seed, data)
    return regime.init(regime.circuit.initial_weights(key))


def _advance_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict, first: Any, count: Any) -> Any:
    return build(plan, values, seed, data)[0].advance(progress, first, count)


def _measure_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict) -> dict[str, Any]:
    regime, _ = build(plan, values, seed, data)
    weights, slow = regime.weights(progress), regime.slow(progress)
    probes = {name: PROBES[name].measure(regime.circuit, weights, slow, data) for name in plan.spec.probes}
    quality = regime.quality(progress)
    if quality is not None:
        probes |= {"converged": quality.converged}
        probes |= {"error_estimate": quality.error} if plan.window is not None else {}
    return probes | {"finite": all_finite(weights)}


class _Programs(NamedTuple):
    """The compiled programs of a job, for chunks padded to `padded` points, and the chunks themselves."""

    init: Callable
    advance: Callable
    measure: Callable
    chunks: list[np.ndarray]
    padded: int


def _compile(job: Job) -> _Programs:
    chunks, padded, block = _chunks(job, len(jax.local_devices()))
    batched = functools.partial(_batched, block=block)
    values, seeds = _points(job, np.resize(chunks[0], padded))
    init = batched(functools.partial(_init_point, job.plan), 2, 1, options=_effort(0)).lower(values, seeds, job.data)
    sharding = NamedSharding(_mesh(), PartitionSpec("points"))
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), init.out_info)
    # The window integrator spends its time in matrix products, which the compiler's last passes do not touch.
    effort = _effort(0) if job.work < SHORT_WORK else None if job.plan.window is None else _effort(1, fused=True)
    advance = batched(functools.partial(_advance_point, job.plan), 3, 3, options=effort)
    measure = batched(functools.partial(_measure_point, job.plan), 3, 1, options=_effort(1))
    now = jnp.int32(0)
    return _Programs(
        init.compile(),
        advance.lower(state, values, seeds, job.data, now, now).compile(),
        measure.lower(state, values, seeds, job.data).compile(),
        chunks,
        padded,
    )


def _effort(level: int, fused: bool = False) -> dict[str, Any] | None:
    """Options for programs that run rarely: on a CPU they are not worth the compiler's expensive passes."""
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_llvm_disable_expensive_passes": True, "xla_backend_optimization_level": level}
    options |= {} if fused else {"xla_cpu_use_fusion_emitters": False}
    return {name: value for name, value in options.items() if _known(name, value)}


@functools.cache
def _known(option: str, value: bool | int) -> bool:
    """Whether this version of the compiler has the option."""
    try:
        jax.jit(lambda x: x, compiler_options={option: value}).lower(0.0).compile()
    except Exception:  # jaxlib's own, of several types
        return False
    return True


def _points(job: Job, chunk: slice | np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    values = {path: value[chunk].astype(job.plan.spec.dtype) for path, value in job.group.values.items()}
    return values, job.group.seeds[chunk].astype(np.uint32)


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("points",))


def _batched(function: Callable, arguments: int, shared: int, block: int, options: dict | None = None) -> Any:
    """`function` over a leading dimension of its first `arguments` arguments, the other `shared` ones being common.

    Sharded over the local devices; on each, points are taken `block` at a time. No device talks to another.
    """

    def local(*args: Any) -> Any:
        points, common = args[:arguments], args[arguments:]
        return jax.lax.map(lambda point: function(*point, *common), points, batch_size=block)

    specs = (PartitionSpec("points"),) * arguments + (PartitionSpec(),) * shared
    sharded = jax.shard_map(local, mesh=_mesh(), in_specs=specs, out_specs=PartitionSpec("points"), check_vma=False)
    return jax.jit(sharded, compiler_options=options)


def _chunks(job: Job, devices: int) -> tuple[list[np.ndarray], int, int]:
    """The group's points in chunks; the padded size of a chunk and how many points a device takes at a time."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(_first_point(job)[0]))
    cpu = jax.default_backend() == "cpu"
    most = max(min(CHUNK_POINTS if cpu else job.group.size, CHUNK_BYTES // max(size, 1)), 1)
    chunks = np.array_split(np.arange(job.group.size), -(-job.group.size // most))
    per_device = -(-len(chunks[0]) // devices)
    blocks = -(-per_device // min(CACHE_BLOCK, max(CACHE_BYTES // max(size, 1), 1))) if cpu else 1
    block = -(-per_device // blocks)
    return chunks, block * blocks * devices, block


def _execute(job: Job, programs: _Programs, progress: _Progress) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yields (points, records) of each finished chunk; every record has a leading (points, record) shape."""
    marks = _marks(job.plan.spec)
    for chunk in programs.chunks:
        # Padding repeats points; their results are dropped.
        values, seeds = _points(job, np.resize(chunk, programs.padded))
        state = programs.init(values, seeds, job.data)
        records = [jax.device_get(programs.measure(state, values, seeds, job.data))]
        most = max(int(BLOCK_STEPS / (job.plan.steps * programs.padded)), 1)
        for first, last in zip(marks[:-1], marks[1:], strict=True):
            for start in range(first, last, most):
                count = min(most, last - start)
                state = programs.advance(state, values, seeds, job.data, jnp.int32(start), jnp.int32(count))
                jax.block_until_ready(state)
                progress.add(job.work * len(chunk) / job.group.size * count / marks[-1])
            records.append(jax.device_get(programs.measure(state, values, seeds, job.data)))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *records)
        yield chunk, jax.tree.map(operator.itemgetter(slice(len(chunk))), stacked)
