"""Runs a sweep chunk by chunk: here, over all local devices, or wherever else an executor takes the chunks."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, get_args, runtime_checkable

import jax
import numpy as np

from dynamics.errors import PlasticodeError, unknown
from experiments.execution.programs import COMPILERS, JobRunner
from experiments.machine.processes import cores
from experiments.machine.progress import Meter, OnProgress
from experiments.points.jobs import Chunking, ChunkKey, Job, classes_of, layout_of, marks_of, prepare
from experiments.results.labels import Results, Table, device_kind
from experiments.spec.spec import Spec
from experiments.storage.chunks import ChunkStore, Record

AHEAD = 2  # jobs that are ready, beside those that are being compiled: each holds 35 MB
ATTEMPTS = 3  # at a chunk
DTYPES = get_args(Spec.model_fields["dtype"].annotation)
SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision")  # that results depend on


@runtime_checkable
class Work(Protocol):
    """What is cut into chunks: a job, or the starts of a fit. A point of it takes `point_work`."""

    @property
    def stem(self) -> str: ...

    @property
    def point_work(self) -> float: ...

    def chunks(self, chunking: Chunking) -> dict[ChunkKey, np.ndarray]: ...


class Assignment(NamedTuple):
    """A job, and those of its chunks that are to be run."""

    job: Any  # a `Work`: what makes its runner knows which
    chunks: dict[ChunkKey, np.ndarray]

    @property
    def points(self) -> int:
        """How many there are in these chunks."""
        return sum(map(len, self.chunks.values()))


class Outcome(NamedTuple):
    """What became of a chunk: its record, or the error that it ended in every time; where it ran, and for how long."""

    key: ChunkKey
    points: np.ndarray
    record: Record | None
    seconds: float
    device: str
    error: BaseException | None = None


Executor = Callable[[list[Assignment], Meter], Iterator[Outcome]]


def configure(dtype: str, devices: int | None = None) -> None:
    """Sets up jax for runs in `dtype`; call it before anything is computed. Results depend on these settings.

    Matrix products are at full precision everywhere (no TF32); on CPU there is one device per core.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    jax.config.update("jax_enable_x64", dtype == "float64")
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        jax.config.update("jax_num_cpu_devices", devices or cores())
    except RuntimeError:  # jax has started already and keeps the devices that it has
        pass


@contextlib.contextmanager
def configured(dtype: str) -> Iterator[None]:
    """The settings of `configure` for a while, in a process that may compute other things: in all of its threads, as
    programs are compiled in several. The devices stay."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    configure(dtype)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def run(spec: Spec, on_progress: OnProgress | None = None, jobs: dict[str, list[Job]] | None = None) -> Results:
    """Runs every part of `spec`, in memory. An interrupt between two blocks keeps the finished chunks; the rest is
    `missing`.

    `on_progress` is called after every block, with work as of `Job.work`. `jobs` are those of `prepare(spec)`, for
    who has checked already.
    """
    if spec.dtype == "float64" and not jax.config.values["jax_enable_x64"]:
        raise PlasticodeError("dtype = 'float64' is not possible yet: call runner.configure('float64') first")
    parts, jobs = spec.parts(), prepare(spec) if jobs is None else jobs
    tables = {
        name: Table(jobs[name][0].sweep, marks_of(part), layout=layout_of(jobs[name])) for name, part in parts.items()
    }
    seconds, complete = dict.fromkeys(parts, 0.0), True
    tasks = [Assignment(job, job.chunks(chunking(jobs))) for members in jobs.values() for job in members]
    try:
        for outcome in local(tasks, meter_of(tasks, tasks, on_progress)):
            if outcome.record is None:
                raise outcome.error or RuntimeError(f"no record of chunk {outcome.key.stem}")
            part, number, _ = outcome.key
            tables[part].add(jobs[part][number].group, outcome.points, outcome.record)
            seconds[part] += outcome.seconds
    except KeyboardInterrupt:
        complete = False
    datasets = {
        name: tables[name].dataset(part, name, jobs[name][0].outputs, classes_of(jobs[name]))
        for name, part in parts.items()
    }
    return Results({name: data.assign_attrs(seconds=seconds[name]) for name, data in datasets.items()}, complete)


def chunking(jobs: dict[str, list[Job]], workers: int = 1, devices: int | None = None) -> Chunking:
    """How the points of `jobs` are cut for so many workers, each with so many devices (by default the local ones)."""
    points = sum(job.group.size for members in jobs.values() for job in members)
    devices = len(jax.local_devices()) if devices is None else devices
    return Chunking.of(devices, jax.default_backend() == "cpu", points, workers)


def meter_of(everything: list[Assignment], left: list[Assignment], on_progress: OnProgress | None) -> Meter:
    """A meter of all that is to be done, of which only some is `left`."""
    total, work = (sum((task.job.point_work * task.points for task in tasks), 0.0) for tasks in (everything, left))
    of, points = (sum(task.points for task in tasks) for tasks in (everything, left))
    return Meter(on_progress, total, of, (total - work, of - points))


def local(
    tasks: list[Assignment], meter: Meter, store: ChunkStore | None = None, make: Callable[..., Any] = JobRunner
) -> Iterator[Outcome]:
    """Runs chunks in this process, over all local devices; long ones leave checkpoints in the `store`. `make` makes
    what runs those of a job."""
    compiler = ThreadPoolExecutor(COMPILERS)
    try:
        for task, runner in zip(tasks, _prepared(compiler, tasks, store, make), strict=True):
            for key, points in task.chunks.items():
                outcome = attempted(runner, key, points, meter)
                meter.settle(task.job.point_work * len(points), len(points), outcome.record is None)
                yield outcome
    finally:
        compiler.shutdown(wait=False, cancel_futures=True)


def _prepared(
    compiler: ThreadPoolExecutor, tasks: list[Assignment], store: ChunkStore | None, make: Callable[..., Any]
) -> Iterator[Any]:
    """The runners of each task in turn; while one runs the next few are compiled, and those that ran are let go.

    A program holds memory maps of the process, and Linux allows 65530 of them.
    """
    ahead: deque[tuple[Any, Future]] = deque()
    waiting = iter(tasks)
    while True:
        while len(ahead) < COMPILERS + AHEAD and (task := next(waiting, None)) is not None:
            runner = make(task.job, max(map(len, task.chunks.values())), store)
            ahead.append((runner, compiler.submit(runner.prepare)))
        if not ahead:
            return
        runner, compilation = ahead.popleft()
        compilation.exception()  # which a chunk meets again, and is told of
        yield runner


def attempted(runner: Any, key: ChunkKey, points: np.ndarray, meter: Meter) -> Outcome:
    """Run a chunk; what fails three times is an outcome too. A user's mistake and an interrupt are raised."""
    started, error = time.perf_counter(), None
    for _ in range(ATTEMPTS):
        try:
            record = runner.run(key, points, meter)
        except PlasticodeError:
            raise
        except Exception as failure:  # of the compiler, the device, the memory
            error = failure
            meter.restart()
        else:
            return Outcome(key, points, record, time.perf_counter() - started, device_kind())
    return Outcome(key, points, None, time.perf_counter() - started, device_kind(), error)
