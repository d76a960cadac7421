"""Processes that share a machine: each worker has one core to itself."""

import contextlib
import os
from collections.abc import Iterator

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
