"""Processes that share a machine: each worker has one core to itself."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

# Read by the libraries of a worker when it starts.
ONE_CORE = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# Less than half the compiler's time, for programs that are up to twice as slow.
HASTY = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)


def cores() -> int:
    """The processor cores that this process may use: a batch system or a container may allow fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def one_core_each(hasty: bool = False) -> Iterator[None]:
    """The environment that tells a worker's libraries to use one core, unless the user has decided otherwise.

    `hasty` also has them compile hastily, where the installed compiler knows how to.
    """
    added = {name: value for name, value in ONE_CORE.items() if name not in os.environ}
    if hasty and "XLA_FLAGS" in added and _understood(HASTY):
        added["XLA_FLAGS"] += " " + HASTY
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _understood(flags: str) -> bool:
    """Whether the compiler knows all of these flags: one that does not ends its process at the first program."""
    program = [sys.executable, "-c", "import jax; jax.numpy.zeros(()).block_until_ready()"]
    return not subprocess.run(program, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True).returncode


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
