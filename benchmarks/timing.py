"""Timing: everything in one process, repeats interleaved, so that a load on the machine hits every competitor alike."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.contract import Competitor, Cost, Program, Setting
from benchmarks.devices import ALL, BLOCK, devices_for, over_devices
from benchmarks.matching import Accepted
from benchmarks.workloads import Problem, T, Workload

CAP = 20.0  # seconds that one timing may take
MOST = 4096  # presentations of one timing
SLOW, SLOW_REPEATS = 5.0, 3  # what takes longer than SLOW seconds is repeated less
SIZES = (512, 1024, 2048)  # of the square products whose rate is measured
PACKAGES = ("jax", "jaxlib", "diffrax", "equinox", "torch", "brainpy", "numpy")


@dataclass
class Timed:
    """A competitor at one setting on one problem; `seconds` of every repeat, each of `presentations`."""

    competitor: Competitor
    setting: Setting
    problem: Problem
    program: Program
    cost: Cost
    presentations: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def each(self) -> float:
        """Seconds per presentation and configuration."""
        return self.median / self.presentations / self.problem.configurations

    @property
    def simulated_rate(self) -> float:
        """Configurations x simulated seconds per second."""
        return T / self.each

    @property
    def flops(self) -> float | None:
        """Operations of the matrix products per second."""
        count = self.competitor.flops(self.problem.workload, self.setting)
        return None if count is None else count / self.each


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def fitting(workload: Workload, seconds_each: float, cap: float) -> int:
    """How many configurations show one presentation in about half of `cap`: all, or fewer in the same call shape.

    Fewer are whole blocks on every device. The estimate comes from few configurations, hence the half.
    """
    most = int(cap / 2 / seconds_each)
    if most >= workload.configurations:
        return workload.configurations
    shape = BLOCK * devices_for(workload.configurations)
    return min(max(most // shape, 1) * shape, workload.configurations)


def prepare(competitor: Competitor, workload: Workload, found: Accepted, seconds: float, programs: dict) -> Timed:
    """Compiles, warms up, and chooses how many presentations take about `seconds`. `programs` are reused by size."""
    count = fitting(workload, found.seconds, CAP)
    key = competitor.name, count
    if key not in programs:
        full = count == workload.configurations
        spread = np.linspace(0, workload.configurations - 1, count).round().astype(int).tolist()
        problem = workload.problem(None if full else spread)
        programs[key] = problem, competitor.prepare(problem)
    problem, program = programs[key]
    cost = program.compile(found.setting)
    duration = _clock(program, found.setting, 1)
    if duration < seconds:  # the first run touches fresh memory
        duration = min(_clock(program, found.setting, 1) for _ in range(3))
    presentations = min(max(competitor.least, int(seconds / duration)), MOST)
    return Timed(competitor, found.setting, problem, program, cost, presentations)


def measure(entries: list[Timed], repeats: int) -> None:
    """`repeats` rounds over all entries; slow ones sit out the last rounds."""
    for round_ in range(repeats):
        for entry in entries:
            if round_ >= SLOW_REPEATS and entry.median > SLOW:
                continue
            entry.seconds.append(_clock(entry.program, entry.setting, entry.presentations))


def _clock(program: Program, setting: Setting, presentations: int) -> float:
    began = time.perf_counter()
    program.run(setting, presentations)
    return time.perf_counter() - began


def product_rates(repeats: int, sizes: tuple[int, ...] = SIZES) -> dict[str, float]:
    """Operations per second of float32 matrix products, medians by way of computing and by size.

    jax: one product on one device, which uses all cores; sharded: one product on every device at once; torch: one
    product with as many threads as cores.
    """
    calls: dict[str, tuple[float, Callable]] = {}
    devices = jax.local_device_count()
    mesh = Mesh(np.array(jax.local_devices()), ("points",))
    for n in sizes:
        a = np.random.default_rng(n).standard_normal((n, n), np.float32)
        here = jnp.asarray(a)
        calls[f"jax {n}"] = 2 * n**3, _ready(jax.jit(jnp.matmul), here, here)
        many = jax.device_put(np.stack([a] * devices), NamedSharding(mesh, PartitionSpec("points")))
        calls[f"sharded {n}"] = 2 * n**3 * devices, _ready(jax.jit(over_devices(lambda x: x @ x, mesh, ALL)), many)
        if "torch" in sys.modules:
            calls[f"torch {n}"] = 2 * n**3, _torch_product(a)
    for _, call in calls.values():
        call()
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, (operations, call) in calls.items():
            began = time.perf_counter()
            call()
            rates[name].append(operations / (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in rates.items()}


def _ready(function: Callable, *args: Any) -> Callable:
    return lambda: jax.block_until_ready(function(*args))


def _torch_product(a: np.ndarray) -> Callable:
    import torch  # pyright: ignore[reportMissingImports]

    matrix = torch.from_numpy(a)
    return lambda: matrix @ matrix


def machine() -> dict[str, Any]:
    """Where and with what this runs."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "backend": jax.default_backend(),
        "devices": [device.device_kind for device in jax.local_devices()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "dtype": "float32",
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
        "load": os.getloadavg(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
