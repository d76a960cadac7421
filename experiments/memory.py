"""How much memory is left, on the devices or, where these are CPUs, in the machine."""

import contextlib
import math
import resource
import sys
from pathlib import Path

import jax

_GROUPS = (  # control groups, in their two versions: the limit, what is used, how much of that is only cached files
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes() -> float:
    """The free memory of all local devices together; infinite where the system does not tell."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(one and "bytes_limit" in one for one in stats):
        return float(sum(one["bytes_limit"] - one["bytes_in_use"] for one in stats if one))
    free = math.inf
    with contextlib.suppress(OSError, ValueError, KeyError):
        free = 1024.0 * int(_table("/proc/meminfo")["MemAvailable:"])
    for group, limit, used, cached in _GROUPS:
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such group, or no limit, which is the word "max"
            most, now = (int(Path(group, name).read_text()) for name in (limit, used))
            free = min(free, float(most - now + int(_table(f"{group}/memory.stat")[cached])))
    return free


def _table(path: str) -> dict[str, str]:
    """A file of names and numbers, line by line."""
    return dict(line.split()[:2] for line in Path(path).read_text().splitlines())


def peak_bytes() -> int:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
