"""What a spec would take: points, programs, memory, disk and time, from running a fraction of a second of it."""

import operator
import time
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.execution.programs import JobRunner, Programs, program_key
from experiments.execution.runner import chunking
from experiments.machine.memory import peak_bytes
from experiments.machine.progress import Meter, OnProgress, span
from experiments.points import alike
from experiments.points.jobs import Chunking, Job, points_of
from experiments.results.labels import device_kind
from experiments.results.text_tables import TextTable
from experiments.spec.spec import Spec

CALIBRATION_SECONDS = 0.3  # of integration
WORK = operator.attrgetter("work")  # of a job: what all its points take
MOST_CALIBRATED = 6  # jobs, of different kinds; jobs of other kinds are taken to cost what the largest does
CHUNK_FILE_BYTES = 15_000  # of labels in each chunk
REPORT_BYTES = 400_000  # figures, report and labels
# What a run takes beside: imports, checks, reports; and for every point to be labelled, merged and summarised.
START_SECONDS, POINT_SECONDS = 5.0, 2e-4


class Cost(NamedTuple):
    """What a calibrated job costs: seconds per `Job.work`, processor seconds to compile, bytes of its program."""

    per_work: float
    compiling: float
    bytes: int


class Estimate(NamedTuple):
    """What all jobs together would take, on the devices of this process."""

    seconds: float
    table: TextTable


def estimate(spec: Spec, jobs: dict[str, list[Job]], on_progress: OnProgress | None = None) -> Estimate:
    """Compile and run a little of one job of each kind, and scale that up; jobs are of a kind if they differ in numbers
    and in widths of hidden layers only.

    Refinements of windows that turn out to be too coarse are not foreseen.
    """
    cuts = chunking(jobs)
    kinds: dict[Hashable, Job] = {}
    largest = {part: max(members, key=WORK) for part, members in jobs.items()}
    for job in sorted(largest.values(), key=WORK, reverse=True):
        kinds.setdefault(_kind(job), job)
    chosen = dict(list(kinds.items())[:MOST_CALIBRATED])
    meter = Meter(on_progress, float(len(chosen)))
    costs: dict[Hashable, Cost] = {}
    for kind, job in chosen.items():
        costs[kind] = _calibrated(job, cuts)
        meter.settle(1.0)
    rows, seconds, disk = [], 0.0, 0
    programs: set[Hashable] = set()
    for part, members in jobs.items():
        cost = costs.get(_kind(largest[part]), next(iter(costs.values())))
        fresh = {program_key(job, len(_first_chunk(job, cuts))) for job in members} - programs
        programs |= fresh
        integration = sum(map(WORK, members)) * cost.per_work
        part_seconds = integration + cost.compiling * len(fresh) / len(jax.local_devices())
        # Chunks and the merged file are there together at the end.
        part_bytes = sum(2 * job.group.size * (job.point_bytes - job.state_bytes) for job in members)
        part_bytes += sum(len(job.chunks(cuts)) for job in members) * CHUNK_FILE_BYTES
        rows.append([part or spec.name, *_facts(members), size_text(float(part_bytes)), f"about {span(part_seconds)}"])
        seconds, disk = seconds + part_seconds, disk + part_bytes
    header = ["part", "regime", "points", "programs", "presentations", "steps each", "synapse updates", "disk", "time"]
    points = sum(job.group.size for members in jobs.values() for job in members)
    seconds, disk = seconds + START_SECONDS + POINT_SECONDS * points, disk + REPORT_BYTES
    on_cpu = jax.default_backend() == "cpu"
    memory = peak_bytes() if on_cpu else max(cost.bytes for cost in costs.values())
    kind = "" if on_cpu else "device "
    note = (
        f"In all about {span(seconds)} on {device_kind()}, {size_text(float(memory))} of {kind}memory, "
        f"{size_text(float(disk))} on disk; calibrated on {len(chosen)} of {len(programs)} programs."
    )
    return Estimate(seconds, TextTable(f"{spec.name}: can be run", header, rows, note))


def _kind(job: Job) -> Hashable:
    """What its programs follow from, but for widths of hidden layers and how time is cut."""
    return alike.wiring(job.plan, job.group.values, job.data)


def _first_chunk(job: Job, cuts: Chunking) -> np.ndarray:
    """The points of a chunk than which none is larger."""
    return next(iter(job.chunks(cuts).values()))


def _calibrated(job: Job, cuts: Chunking) -> Cost:
    points = _first_chunk(job, cuts)
    started = time.process_time()
    programs = JobRunner(job, len(points)).prepare()
    compiling = time.process_time() - started
    seconds = _seconds_per_presentation(job, programs, points)
    # Padded points take as long as others.
    batches = len(job.chunks(cuts)) * -(-len(points) // programs.padded)
    share = batches * job.plan.spec.stimulus.presentations * seconds
    return Cost(share / job.work, compiling, programs.bytes)


def _seconds_per_presentation(job: Job, programs: Programs, points: np.ndarray) -> float:
    """Of a chunk: ever more presentations, until they take long enough to be timed."""
    values, seeds = points_of(job, np.resize(points, programs.padded))
    state = programs.init(values, seeds, job.data)
    jax.block_until_ready(programs.measure(state, values, seeds, job.data))
    shown, count, left = 0, 1, job.plan.spec.stimulus.presentations
    while True:
        started = time.perf_counter()
        state = programs.advance(state, values, seeds, job.data, jnp.int32(shown), jnp.int32(count))
        jax.block_until_ready(state)
        seconds = time.perf_counter() - started
        shown, left = shown + count, left - count
        if seconds > CALIBRATION_SECONDS or left <= 0:
            return seconds / count
        count = min(left, max(2 * count, int(1.2 * count * CALIBRATION_SECONDS / seconds)))


def _facts(members: Sequence[Job]) -> list[str]:
    points = sum(job.group.size for job in members)
    steps = sorted({job.plan.steps for job in members})
    presentations = sorted({job.plan.spec.stimulus.presentations for job in members})
    regime, amount = members[0].plan.spec.regime, f"{sum(job.steps * job.synapses for job in members):.2g}"
    return [regime, *map(str, (points, len(members), _range(presentations), _range(steps), amount))]


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def size_text(size: float) -> str:
    """A number of bytes to read."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
