"""How much memory is left, on the devices or, where these are CPUs, in the machine."""

import contextlib
import ctypes
import math
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import DTypeLike, Shaped

# Of a control group, in its two versions: the limit, what is used, how much of that is only cached files.
_VERSION_2 = "memory.max", "memory.current", "inactive_file"
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
ALIGNMENT = 64  # bytes: what begins at a multiple of them the devices of a CPU use where it is, without a copy
CGROUPS = Path("/sys/fs/cgroup")


def free_bytes() -> float:
    """The free memory of all local devices together; infinite where the system does not tell."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(one and "bytes_limit" in one for one in stats):
        return float(sum(one["bytes_limit"] - one["bytes_in_use"] for one in stats if one))
    free = math.inf
    with contextlib.suppress(OSError, ValueError, KeyError):
        free = 1024.0 * int(_table("/proc/meminfo")["MemAvailable:"])
    for group, (limit, used, cached) in _groups():
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such group, or no limit, which is the word "max"
            most, now = (int((group / name).read_text()) for name in (limit, used))
            free = min(free, float(most - now + int(_table(f"{group}/memory.stat")[cached])))
    return free


def _groups(membership: Path = Path("/proc/self/cgroup")) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """The control groups of this process, as a batch system or a container limits it, and those around them."""
    with contextlib.suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root, names = (CGROUPS, _VERSION_2) if not controllers else (CGROUPS / "memory", _VERSION_1)
            if not controllers or "memory" in controllers.split(","):
                inner = Path(path.lstrip("/"))
                yield from ((root / group, names) for group in (inner, *inner.parents))


def _table(path: str) -> dict[str, str]:
    """A file of names and numbers, line by line."""
    return dict(line.split()[:2] for line in Path(path).read_text().splitlines())


def aligned(rows: int, columns: int, dtype: DTypeLike = np.float32) -> Shaped[np.ndarray, "rows columns"]:
    """Memory for an array that all devices of a CPU can share; what is in it is not said."""
    size = np.dtype(dtype).itemsize * rows * columns
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(rows, columns)


def shareable(array: Shaped[np.ndarray, "..."], dtype: DTypeLike) -> Shaped[np.ndarray, "..."]:
    """The array in this dtype, where all devices of a CPU can share it: itself, if that is so already."""
    if array.dtype == dtype and array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0:
        return array
    copy = aligned(array.size, 1, dtype).reshape(array.shape)
    copy[...] = array
    return copy


def give_back() -> None:
    """Give the system what is free in this process's heap: GNU's library keeps the 200 MB that a compiler has used."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another library
        ctypes.CDLL(None).malloc_trim(0)


def peak_bytes() -> int:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
