"""Processes that share a machine: each worker has one core to itself."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

# Read by the libraries of a worker when it starts.
ONE_CORE = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def cores() -> int:
    """The processor cores that this process may use: a batch system or a container may allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_core_each() -> Iterator[None]:
    """The environment that tells a worker's libraries to use one core, unless the user has decided otherwise."""
    added = {name: value for name, value in ONE_CORE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Threads and processes that start in here, and those that they start, never hear of Ctrl-C, which a terminal sends
    to all: who has started them hears it, and ends them."""
    resource_tracker.ensure_running()  # which else would be started in there, and that ends the deafness of its thread
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def end_with_parent() -> None:
    """End this process as soon as that which has started it ends, be it killed: a pool would wait for work forever."""

    def watch() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
