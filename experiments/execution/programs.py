"""The compiled programs of a job, and how they run a chunk of its points over all local devices.

A chunk advances from record to record under the host's control, so that progress can be shown, an interrupt is heard
and a long chunk leaves checkpoints.
"""

import contextlib
import functools
import math
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from dynamics.errors import PlasticodeError
from dynamics.kept import Kept
from dynamics.regime import REFINEMENTS
from experiments.execution import checkpoints, stored
from experiments.execution.batches import hasty, made, sharding
from experiments.machine.compilation import traced_folder
from experiments.machine.memory import free_bytes, give_back
from experiments.machine.processes import cores
from experiments.machine.progress import Meter
from experiments.points import alike
from experiments.points.abreast import abreast
from experiments.points.assemble import refined
from experiments.points.inside import watch_point
from experiments.points.jobs import (
    ChunkKey,
    Job,
    advance_point,
    bytes_of,
    init_point,
    marks_of,
    measure_point,
    points_of,
)
from experiments.points.weights import weights_of
from experiments.spec.extents import HELD
from experiments.storage.chunks import ChunkStore, Record

SHORT_WORK = 20_000  # steps times points: such a job runs faster than the compiler optimises
# As `Job.work`: fusion emitters save a tenth to a third of a run, and take the compiler 2 seconds and 300 MB.
BRIEF_WORK = 30_000_000
BLOCK_WORK, BLOCK_SECONDS = 250_000, 1.0  # between two looks at the clock and at the keyboard: the first one, others
KEPT, FEW = Kept(16), Kept(4)  # programs, for jobs that are alike; each takes 35 MB: few, where a disk has them too
MEMORY_SHARE = 0.8  # of the free memory that a program may ask for
# A compiler takes 300 MB for a while, and has threads of its own: half of the cores are left to what runs.
COMPILERS = max(cores() // 2, 1)
Samples = Mapping[str, np.ndarray | jax.Array]  # of a task, by name
_PLACING, _ON_DEVICES = threading.Lock(), weakref.WeakValueDictionary[int, jax.Array]()
_COMPILING = threading.BoundedSemaphore(COMPILERS)


class Programs(NamedTuple):
    """Programs for up to `padded` points at once, and the shapes of their states and records; `watch` shows one
    presentation and looks inside it, where that is asked for, and `seen` is the shape of what it sees."""

    init: Any
    advance: Any
    measure: Any
    padded: int
    state: Any
    record: Any
    watch: Any = None
    seen: Any = None

    @property
    def bytes(self) -> int:
        """What the compiler says that the largest of them needs beside the data, on all local devices together."""
        every = [one.programs.values() for one in (self.advance, self.measure, self.watch) if one is not None]
        needs = [program.compiled.memory_analysis() for programs in every for program in programs]
        largest = max(need.output_size_in_bytes + need.temp_size_in_bytes for need in needs)
        return bytes_of(self.state) + largest * len(jax.local_devices())


class ByData(NamedTuple):
    """A program for each phase of a job, by the shapes of its data; those of one shape share it."""

    programs: dict[Any, Any]

    def __call__(self, state: Any, values: dict, seeds: np.ndarray, data: Samples, *counts: Any) -> Any:
        return self.programs[_shapes(data)](state, values, seeds, data, *counts)


class JobRunner:
    """Runs chunks of one job. Where memory is short it takes their points in smaller batches.

    `neighbours` share the memory of the machine, this process among them.
    """

    def __init__(self, job: Job, size: int, store: ChunkStore | None = None, neighbours: int = 1):
        self.job, self.size, self.store, self.neighbours = job, size, store, neighbours
        self.checkpoints = checkpoints.Keeper(store)
        self.compiled: dict[tuple[str, int], Programs] = {}
        self.beside: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {}  # what else points have, by plan
        self.is_prepared = False
        self.data = [{name: _placed(array) for name, array in stage.data.items()} for stage in job.stages]

    def prepare(self) -> Programs:
        """Compile for batches that fit the free memory; `PlasticodeError` where none does."""
        programs = self._programs(self.job, self.size)
        free = free_bytes() / self.neighbours
        while not self.is_prepared and programs.bytes > MEMORY_SHARE * free:
            if not self._halved():
                if programs.bytes <= free:
                    break
                raise PlasticodeError(
                    f"{programs.padded} points at once need {programs.bytes / 1e9:.3g} GB of memory, and "
                    f"{free / 1e9:.3g} GB are free: the network, the stimulus, the delays or the task must be smaller"
                )
            programs = self._programs(self.job, self.size)
        self.is_prepared = True
        return programs

    def run(self, key: ChunkKey, points: np.ndarray, meter: Meter) -> Record:
        """The records of a chunk; points whose windows or steps were too coarse have run again with finer ones.

        Too long a window or step may run off to infinity: only finer ones tell whether the point itself diverges.
        """
        self.prepare()
        record, job = self._in_batches(self.job, key, points, meter), self.job
        for _ in range(REFINEMENTS):
            plan = refined(job.plan)
            if plan is None:
                break
            again = np.flatnonzero(~(record["converged"][:, -1] & record["finite"].all(axis=1)))
            if not len(again):
                break
            job = job._replace(plan=plan)
            better = self._in_batches(job, key, points[again], Meter(None, 1.0))
            for old, new in zip(jax.tree.leaves(record), jax.tree.leaves(better), strict=True):
                old[again] = new
        return record

    def _in_batches(self, job: Job, key: ChunkKey, points: np.ndarray, meter: Meter) -> Record:
        while True:
            pieces = np.array_split(points, -(-len(points) // self.size))
            # Few sizes, so that finer windows for other numbers of points need no programs of their own.
            size = self.size if job is self.job else min(2 ** math.ceil(math.log2(len(pieces[0]))), self.size)
            try:
                records = [self._execute(job, self._programs(job, size), key, piece, meter) for piece in pieces]
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error) or not self._halved():
                    raise
                meter.restart()
            else:
                return self._with_others(job, points, jax.tree.map(lambda *arrays: np.concatenate(arrays), *records))

    def _with_others(self, job: Job, points: np.ndarray, record: Record) -> Record:
        """The record, and what is computed beside the runs of its points."""
        if job.beside_runs is None:
            return record
        others = self.beside.get(job.plan.label) or self.beside.setdefault(job.plan.label, job.beside_runs(job))
        return record | {HELD: record.get(HELD, {}) | {n: a[:, None] for n, a in others(points).items()}}

    def _halved(self) -> bool:
        """Go on with batches of half the size, if that is possible."""
        if self.size <= len(jax.local_devices()):
            return False
        self.size = -(-self.size // 2)
        self.compiled.clear()
        return True

    def _programs(self, job: Job, size: int) -> Programs:
        name = job.plan.label, size
        if name not in self.compiled:
            points = job.group.size if job is self.job else size
            self.compiled[name] = _aside(job, size, points)
        return self.compiled[name]

    def _execute(self, job: Job, programs: Programs, key: ChunkKey, points: np.ndarray, meter: Meter) -> Record:
        """The records of up to `programs.padded` points; a long or interrupted run leaves checkpoints in the store.

        Presentations are advanced in blocks, which change no bit: their length follows the clock.
        """
        marks = marks_of(job.plan.spec)
        devices = len(jax.local_devices())
        order = abreast(job, points, programs.padded, _padding(job, programs.padded, devices)[1], devices)
        padded = points[order]  # which repeats points; their results are dropped
        inputs = [(*points_of(job, padded, number), data) for number, data in enumerate(self.data)]
        most = max(int(BLOCK_WORK / (job.presentation_work * programs.padded)), 1)
        work = job.presentation_work * len(points)
        name = f"{job.plan.label}-{zlib.crc32(padded.tobytes()):08x}"
        started = time.monotonic()
        state, records, shown, seen = self._begun(key, name, programs, inputs[0])
        reached = state, shown, seen  # in one piece: an interrupt may fall anywhere
        watched = job.plan.spec.record.inside_presentations
        meter.advance(work * shown)

        def keep(now: bool = False) -> None:
            self.checkpoints.keep(key, name, lambda: checkpoints.frozen(*reached, records), now)

        try:
            for last in marks[len(records) :]:
                stage = job.stage_of(int(last))
                while (shown := reached[1]) < last:
                    if shown in watched:
                        state, inside = programs.watch(reached[0], *inputs[stage], jnp.int32(shown))
                        reached = state, shown + 1, (*reached[2], jax.device_get(inside))
                        meter.advance(work)
                        continue
                    until = min((k for k in watched if k > shown), default=last)
                    count, begun = min(most, int(min(last, until)) - shown), time.monotonic()
                    state = programs.advance(reached[0], *inputs[stage], jnp.int32(shown), jnp.int32(count))
                    reached = jax.block_until_ready(state), shown + count, reached[2]
                    seconds = max(time.monotonic() - begun, 1e-6)
                    most = max(min(int(BLOCK_SECONDS * count / seconds), 2 * most), 1)
                    meter.advance(work * count)
                    keep()
                records.append(jax.device_get(programs.measure(reached[0], *inputs[stage])))
        except KeyboardInterrupt:
            if reached[1]:
                keep(now=True)
            raise
        if time.monotonic() - started > checkpoints.SECONDS:  # other batches of the chunk, or finer windows, may follow
            keep(now=True)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *records)
        ends = weights_of(reached[0]) if job.plan.spec.record.weights == "end" else {}
        if watched:
            ends = ends | jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *reached[2])
        if ends:
            ends = {name: np.asarray(one)[:, None] for name, one in jax.device_get(ends).items()}
            stacked[HELD] = stacked.get(HELD, {}) | ends
        back = np.unique(order, return_index=True)[1]
        return jax.tree.map(lambda leaf: leaf[back], stacked)

    def _begun(
        self, key: ChunkKey, name: str, programs: Programs, inputs: tuple
    ) -> tuple[Any, list[Record], int, tuple]:
        """Where to begin: the state, the records so far, the presentations shown, and what was seen inside them; at a
        checkpoint if there is one."""
        saved = self.store.load_checkpoint(key, name) if self.store is not None else None
        if saved is not None:
            with contextlib.suppress(Exception):  # whatever there is in a file whose checksum was made to fit
                state, records, shown, seen = checkpoints.thawed(saved, programs.state, programs.record, programs.seen)
                return jax.device_put(state, sharding()), records, shown, seen
        state = programs.init(*inputs)
        return state, [jax.device_get(programs.measure(state, *inputs))], 0, ()


def _aside(job: Job, size: int, points: int) -> Programs:
    """As `compiled`, in a thread, so that the main one hears of interrupts: a compiler may take minutes. Only so many
    compile at once."""

    def alone() -> Programs:
        with _COMPILING:
            programs = compiled(job, size, points)
            give_back()
            return programs

    if threading.current_thread() is not threading.main_thread():
        return alone()
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(alone).result()
    finally:
        pool.shutdown(wait=False)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error)


def compiled(job: Job, size: int, points: int | None = None) -> Programs:
    """The programs of a job for batches of up to `size` points: those of a job that was alike, if they are kept. They
    will run so many `points` (None: all of the job), which says what compiling well is worth.

    A user's own code may have changed since, so it is traced again; what comes of that is compiled once.
    """
    cut, spec = _cut(job, size, points), job.plan.spec
    if alike.own_names(spec):
        return _compiled(job, *cut, "local")
    # The names of what has none of its own, such as a lambda.
    names = spec.rule.name, spec.probes, *spec.network.activations
    key, kept = program_key(job, size, points), KEPT if traced_folder() is None else FEW
    return kept.made(key, lambda: stored.made((key, names), lambda name: _compiled(job, *cut, name)))


def program_key(job: Job, size: int, points: int | None = None) -> Hashable:
    """What `compiled` programs follow from: jobs of one key share them."""
    data = tuple(_shapes(stage.data) for stage in job.stages)
    return alike.whole(job.plan, job.group.values, job.data), data, _cut(job, size, points)


def _cut(job: Job, size: int, points: int | None) -> tuple[int, int, int]:
    """Of programs for batches of up to `size` points: the padded size, how many points a device takes at a time, and
    how much compiling well is worth."""
    share = (job.group.size if points is None else points) / job.group.size
    effort = 0 if share * job.steps < SHORT_WORK else 1 if share * job.work < BRIEF_WORK else 2
    return *_padding(job, size, len(jax.local_devices())), effort


def _compiled(job: Job, padded: int, block: int, effort: int, name: str) -> Programs:
    program = functools.partial(made, block=block, name=name)
    values, seeds = points_of(job, np.zeros(padded, int))
    init = program(functools.partial(init_point, job.plan), (values, seeds), (job.data,), hasty(0))
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding()), init.like)
    points, now = (state, values, seeds), jnp.int32(0)
    # A compiler's last passes do not touch the matrix products in which a dense integrator spends its time.
    options = hasty(0) if effort == 0 else hasty(1, fused=effort > 1) if job.plan.dense else None
    advances, measures, watches = {}, {}, {}
    for data in {_shapes(stage.data): stage.data for stage in job.stages}.values():
        shapes = _shapes(data)
        advances[shapes] = program(functools.partial(advance_point, job.plan), points, (data, now, now), options)
        measures[shapes] = program(functools.partial(measure_point, job.plan), points, (data,), hasty(1))
        if job.plan.spec.record.inside:
            watches[shapes] = program(functools.partial(watch_point, job.plan), points, (data, now), hasty(1))
    record, *others = (one.like for one in measures.values())
    if any(str(other) != str(record) for other in others):
        raise PlasticodeError(
            "record.probes has arrays that have other shapes in other phases, as their tasks have other numbers of "
            "samples: record.samples must name samples that all of them have, and a probe of your own give as many"
        )
    inside, seen = (ByData(watches), next(iter(watches.values())).like[1]) if watches else (None, None)
    return Programs(init, ByData(advances), ByData(measures), padded, state, record, inside, seen)


def _shapes(data: Samples) -> tuple:
    """What the programs of a phase depend on, beside what all phases of a job share."""
    return tuple((name, np.shape(array)) for name, array in data.items())


def _placed(array: np.ndarray) -> jax.Array:
    """An array on all local devices, once for all jobs at hand; those of a CPU use it where it is, if it is aligned."""
    with _PLACING:
        placed = _ON_DEVICES.get(id(array))
        if placed is None:
            placed = _ON_DEVICES[id(array)] = jax.device_put(array, NamedSharding(sharding().mesh, PartitionSpec()))
        return placed


def _padding(job: Job, size: int, devices: int) -> tuple[int, int]:
    """The padded size of a batch of `size` points, and how many points a device takes at a time."""
    per_device = -(-size // devices)
    cpu = jax.default_backend() == "cpu"
    blocks = -(-per_device // job.block) if cpu else 1
    block = -(-per_device // blocks)
    return block * blocks * devices, block
