"""Chunks on dask workers: processes of this machine, or those of a cluster. One worker is one device.

A worker gets the spec and the name of a chunk, and sends back the records; files are written by the process that asked.
"""

import asyncio
import collections
import contextlib
import functools
import gc
import importlib
import json
import logging
import os
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from dynamics.errors import PlasticodeError, printable, reason
from dynamics.plugins import look_in, looked_in, own_folders
from experiments.execution import runner
from experiments.execution.keeping import How
from experiments.execution.programs import JobRunner
from experiments.execution.runner import ATTEMPTS, Assignment, Executor, Outcome, local
from experiments.machine.compilation import are_wanted, kept_here
from experiments.machine.processes import deaf, one_core_each
from experiments.machine.progress import Meter
from experiments.points.jobs import Chunking, ChunkKey, Job, job_of, share_data
from experiments.results.labels import versions
from experiments.spec.loading import make_spec
from experiments.spec.spec import Spec
from experiments.storage.chunks import ChunkStore, Record
from experiments.storage.rundir import RunDirectory, code_of

GONE = "the dask scheduler is gone: finished chunks are kept, and the same command goes on from there"
NO_WORKERS = "the workers have ended, and none has come back: finished chunks are kept, and the same command goes on"
UNKNOWN_SIZE = 32  # workers that a cluster may come to have
MOST_IN_FLIGHT = 10_000  # chunks that the scheduler knows of
MOST_JOBS = 8  # whose programs a worker keeps
CONNECT_SECONDS = 10
ABSENT_SECONDS = 120  # without any worker of this machine, though dask starts those again that end
CLOSE_SECONDS = 30  # that workers take to end; those that do not end with this process
ALONE = {
    # A worker has one chunk, so that its death is nobody else's fault; the attempts are counted here. One that is
    # started again stays a worker, however long that takes on a busy machine.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 0,
    "distributed.deploy.lost-worker-timeout": "1 day",
    # Without a dashboard dask still serves pages about the run, to anybody and without a certificate.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
GPUS = Path("/proc/driver/nvidia/gpus")


class Request(NamedTuple):
    """What a worker needs to run chunks of a job; `places` are the folders of a user's own modules."""

    spec: str
    part: str
    number: int
    chunking: Chunking
    directory: str
    identity: str  # of the run, which has the versions and the code that it needs
    places: tuple[str, ...]
    workers: int | None  # of this machine; None on a cluster
    keeps: bool  # compiled programs
    data: str  # the folder that the processes of a machine have the data in
    make: Callable[["Request", int, ChunkStore | None], Any]  # what makes a runner of it
    packed: bytes  # what that needs besides


def size(workers: int | None, scheduler: str | None) -> tuple[int, int | None]:
    """How many processes share the work, as far as that is known, and the devices of each; None: all there are."""
    if scheduler is not None:
        return UNKNOWN_SIZE, 1
    return (1, None) if workers is None else (workers, 1)


def of_job(request: Request, size: int, store: ChunkStore | None) -> JobRunner:
    """The runner of a job of the spec."""
    job = job_of(make_spec(json.loads(request.spec)), request.part, request.number, _shared(request.data))
    job = job._replace(beside_runs=pickle.loads(request.packed))
    return JobRunner(job, size, store, request.workers or 1)


def executor(
    spec: Spec,
    directory: RunDirectory,
    how: How,
    make: Callable[..., Any] = JobRunner,
    remote: Callable[[Request, int, ChunkStore | None], Any] = of_job,
    pack: Callable[[Any], bytes] = lambda job: pickle.dumps(job.beside_runs),
) -> AbstractContextManager[Executor]:
    """Where chunks run: in this process, by runners that `make` makes, or on workers, by those of `remote`: see
    `connected`."""
    if how.workers is None and how.scheduler is None:
        return contextlib.nullcontext(functools.partial(local, store=directory.store, make=make))
    return connected(spec, directory.store, directory.chunking, how.workers, how.scheduler, remote, pack)


@contextlib.contextmanager
def connected(
    spec: Spec,
    store: ChunkStore,
    chunking: Chunking,
    workers: int | None,
    scheduler: str | None,
    make: Callable[[Request, int, ChunkStore | None], Any],
    pack: Callable[[Any], bytes],
) -> Iterator[Executor]:
    """An executor on the `scheduler` of a cluster, or on so many `workers` of this machine.

    `make` makes a runner on a worker, and `pack` what it needs besides the spec.
    """
    try:
        import cryptography  # noqa: F401  which dask makes certificates with
        import distributed  # noqa: F401
    except ImportError:
        raise PlasticodeError(
            "--workers and --scheduler need dask.distributed and cryptography, and one of them is not installed: "
            "pip install 'plasticode[cluster]'"
        ) from None
    request = Request(
        json.dumps(spec.table()), "", 0, chunking, str(store.directory.absolute()), store.identity, tuple(looked_in()),
        workers, are_wanted(), "", make, b"",
    )  # fmt: skip
    for name in ("distributed", "distributed.client"):  # what matters is said here, in a sentence
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        here = None if workers is None else _of_this_machine(stack, workers)
        client = stack.enter_context(_client(scheduler if here is None else here))
        request = request._replace(data=stack.enter_context(_folder()))
        if here is None:
            stack.callback(_forget, client, Path(request.data).name)
        yield functools.partial(_execute, client, request, here, pack)


def _client(address: Any) -> Any:
    """A client of the scheduler at an address, or of a cluster of this machine."""
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError, AssertionError) as error:  # a TypeError where certificates are missing
        said = reason(error)
    gc.collect()  # a failed client, collected while dask starts the loop of another one, would wait for itself
    raise PlasticodeError(
        f"--scheduler '{printable(str(address))}' does not answer ({said}): it must be the address of a dask "
        "scheduler, such as tcp://host:8786, or tls://host:8786 with the certificates in dask's configuration "
        "(distributed.comm.tls)"
    )


def _folder() -> tempfile.TemporaryDirectory[str]:
    """A private folder; dask may have another place for such than the system."""
    import dask.config

    place = dask.config.get("temporary-directory", None)
    return tempfile.TemporaryDirectory(prefix="plasticode-", dir=place, ignore_cleanup_errors=True)


def _of_this_machine(stack: contextlib.ExitStack, workers: int) -> Any:
    """A scheduler and workers, as long as the `stack`."""
    import dask.config
    from distributed import LocalCluster, Security
    from distributed.utils import LoopRunner

    stack.enter_context(one_core_each())
    # In the folder that dask takes of itself anybody on this machine could hold its locks, and let workers wait.
    stack.enter_context(dask.config.set(ALONE | {"temporary-directory": stack.enter_context(_folder())}))
    settings: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": True}
    settings |= {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    settings |= {"scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    try:
        loop = LoopRunner()
        with deaf():  # its thread starts the workers, now and later
            loop.start()
        stack.callback(loop.stop)
        # Whoever reaches a scheduler can have code run: only those with this run's certificate may speak to it.
        cluster = LocalCluster(**settings, loop=loop.loop, security=Security.temporary())
    except (OSError, RuntimeError, AssertionError) as error:  # the last where the machine is too busy for its threads
        raise PlasticodeError(
            f"--workers {workers} cannot be started ({reason(error)}): it must be as many as fit this machine"
        ) from None
    stack.callback(_close, cluster)
    return cluster


def _close(cluster: Any) -> None:
    with contextlib.suppress(TimeoutError):
        cluster.close(timeout=CLOSE_SECONDS)


def _execute(
    client: Any, request: Request, here: Any, pack: Callable[[Any], bytes], tasks: list[Assignment], meter: Meter
) -> Iterator[Outcome]:
    """Hand out chunks, and collect what becomes of them; a chunk that fails is handed out again.

    `here` are the scheduler and workers of this machine, if they are of this run.
    """
    from distributed import as_completed

    share_data((task.job for task in tasks if isinstance(task.job, Job)), Path(request.data))
    packed = {task.job.stem: pack(task.job) for task in tasks}
    waiting = ((task, key, points) for task in tasks for key, points in task.chunks.items())
    failed: collections.Counter[ChunkKey] = collections.Counter()
    handed: dict[Any, tuple[Assignment, ChunkKey, np.ndarray]] = {}
    finished = as_completed()

    def hand_out(task: Assignment, key: ChunkKey, points: np.ndarray) -> None:
        mine = request._replace(part=key.part, number=key.group, packed=packed[task.job.stem])
        future = client.submit(_chunk, mine, key, max(map(len, task.chunks.values())), pure=False)
        handed[future] = task, key, points
        finished.add(future)

    try:
        for item, _ in zip(waiting, range(MOST_IN_FLIGHT), strict=False):
            hand_out(*item)
        while handed:
            future = _next(finished, here)
            task, key, points = handed.pop(future)
            if future.cancelled():
                raise PlasticodeError(GONE)
            found, error = _ended(client, future)
            failed[key] += error is not None
            if error is not None and failed[key] < ATTEMPTS and not isinstance(error, PlasticodeError):
                hand_out(task, key, points)
                continue
            if (item := next(waiting, None)) is not None:
                hand_out(*item)
            meter.settle(task.job.point_work * len(points), len(points), error is not None)
            if found is not None:
                record, seconds, device = found
                yield Outcome(key, points, record, seconds, device)
            else:
                yield Outcome(key, points, None, 0.0, "", error)
            future.release()
    except (OSError, RuntimeError, CancelledError, asyncio.CancelledError):
        if client.status == "running":
            raise
        raise PlasticodeError(GONE) from None  # at whatever moment that was
    finally:
        with contextlib.suppress(OSError, RuntimeError, CancelledError, asyncio.CancelledError):
            client.cancel(list(handed))


def _next(finished: Any, here: Any) -> Any:
    """The next future that has ended; `PlasticodeError` where there is nobody on this machine who would end one."""
    seen = time.monotonic()
    while not finished.has_ready():
        if here is None or here.scheduler.workers:  # those of a cluster may come later
            seen = time.monotonic()
        if time.monotonic() - seen > ABSENT_SECONDS:
            raise PlasticodeError(NO_WORKERS)
        time.sleep(0.01)
    return next(finished)


def _ended(client: Any, future: Any) -> tuple[Any, BaseException | None]:
    """What `_chunk` has returned, or else its error."""
    if (error := future.exception()) is not None:
        return None, error
    try:
        return future.result(), None
    except Exception as lost:  # the worker that held it has died since
        if client.status != "running":
            raise
        return None, lost


_BUSY = threading.Lock()  # a worker with several threads runs one chunk after the other all the same
_IMPORTED: dict[str, str] = {}  # checksums of a user's own modules, when a worker imported them


def _chunk(request: Request, key: ChunkKey, size: int) -> tuple[Record, float, str]:
    """On a worker: the records of a chunk, the seconds they took, and the device."""
    with _BUSY:
        started = time.perf_counter()
        if request.workers is not None and GPUS.is_dir():
            _choose_gpu()
        kept_here(request.keeps)
        look_in(*request.places)
        spec = make_spec(json.loads(request.spec))
        runner.configure(spec.dtype, devices=1)
        job_runner = _runner(request, size)
        points = job_runner.job.chunks(request.chunking)[key]
        record = job_runner.run(key, points, Meter(None, 0.0))
        if job_runner.store is not None:
            job_runner.store.forget(key)
        return record, time.perf_counter() - started, runner.device_kind()


@functools.lru_cache(maxsize=MOST_JOBS)  # programs hold memory maps of the process
def _runner(request: Request, size: int) -> Any:
    run, here = json.loads(request.identity)["run"], versions()
    if here != run["versions"]:
        raise PlasticodeError(f"the worker has other versions than the run: {here} instead of {run['versions']}")
    _import_code(run["code"])
    directory = Path(request.directory)
    store = ChunkStore(directory, request.identity) if directory.is_dir() else None  # for checkpoints
    return request.make(request, size, store)


def _shared(data: str) -> Path | None:
    """The folder of data: of the process that asked, if that is on this machine, or else this machine's own."""
    if os.access(data, os.W_OK):
        return Path(data)
    folder = Path(tempfile.gettempdir()) / Path(data).name
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid == os.getuid():
            return folder
    return None


def _forget(client: Any, name: str) -> None:
    """Remove the folders that machines of a cluster have made; what they have mapped stays until they end."""
    with contextlib.suppress(Exception):  # of a scheduler that is gone
        client.run(lambda: shutil.rmtree(Path(tempfile.gettempdir()) / name, ignore_errors=True), on_error="ignore")


def _import_code(code: dict[str, str]) -> None:
    """Import a user's own modules, again where they have changed since; they must be those of the run."""
    for name, expected in code.items():
        with own_folders():
            module = importlib.import_module(name)
            if _IMPORTED.setdefault(name, expected) != expected:
                importlib.reload(module)
        _IMPORTED[name] = expected
        if code_of([name]).get(name) != expected:
            raise PlasticodeError(f"the worker has another module '{name}' than the run: {module.__file__}")


def _choose_gpu() -> None:
    """Of this machine's GPUs a worker sees one; it must choose before jax starts."""
    from distributed import get_worker

    with contextlib.suppress(RuntimeError, ValueError):
        number = int(get_worker().name) % len(os.listdir(GPUS))
        jax.config.update("jax_cuda_visible_devices", str(number))
