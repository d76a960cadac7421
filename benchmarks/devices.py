"""How every JAX competitor is spread over the machine: configurations over the devices, on each in blocks."""

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.contract import Cost, Setting
from benchmarks.workloads import Problem

BLOCK = 8  # configurations that one core advances together, fewer where their weights would not stay in its cache
CACHE_BYTES = 3 * 2**19
ALL = 2**31 - 1  # a block that holds every configuration of a device

# advance((W, V, tau_plast, seed), (inputs, targets), setting, presentations) -> W_1 .. W_L
Advance = Callable[[tuple, tuple, Any, Array], tuple[Array, ...]]


def configure() -> None:
    """Float32, matrix products at full precision, one CPU device per core: as the project's own runner."""
    from experiments.execution.runner import configure

    configure("float32")


def devices_for(configurations: int) -> int:
    """How many local devices share this many configurations equally."""
    return math.gcd(configurations, jax.local_device_count())


def blocks_differ(configurations: int) -> bool:
    """Whether blocks are anything else than all configurations of a device at once."""
    return jax.default_backend() == "cpu" and configurations // devices_for(configurations) > BLOCK


def over_devices(function: Callable, mesh: Mesh, block: int) -> Callable:
    """`function(configuration, *shared)` over configurations: sharded over `mesh`, on each device `block` at a time."""

    def local(configurations: Any, *shared: Any) -> Any:
        count = jax.tree.leaves(configurations)[0].shape[0]
        if block >= count:
            return jax.vmap(lambda configuration: function(configuration, *shared))(configurations)
        return jax.lax.map(lambda configuration: function(configuration, *shared), configurations, batch_size=block)

    def sharded(configurations: Any, *shared: Any) -> Any:
        specs = (PartitionSpec("points"),) + (PartitionSpec(),) * len(shared)
        mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("points"), check_vma=False)
        return mapped(configurations, *shared)

    return sharded


def fits(problem: Problem) -> int:
    """How many configurations' weights fit into a core's cache; at least one."""
    weights = sum(a.size for a in jax.tree.leaves((problem.weights, problem.feedback))) / problem.configurations
    return max(int(CACHE_BYTES / (4 * weights)), 1)


class JaxProgram:
    """A competitor that is one compiled program; the number of presentations is an argument of it.

    So is the setting, unless `static`: then each setting is a program of its own.
    """

    def __init__(
        self, problem: Problem, advance: Advance, block: int = BLOCK, static: bool = False, dtype: Any = np.float32
    ):
        self._advance, self._static = advance, static
        self._block = min(block, fits(problem)) if jax.default_backend() == "cpu" and block != ALL else ALL
        self._mesh = Mesh(np.array(jax.local_devices()[: devices_for(problem.configurations)]), ("points",))
        spread, whole = (NamedSharding(self._mesh, PartitionSpec(*axes)) for axes in (("points",), ()))
        points = jax.tree.map(lambda a: a.astype(dtype), (problem.weights, problem.feedback, problem.taus))
        samples = jax.tree.map(lambda a: a.astype(dtype), (problem.inputs, problem.targets))
        self._points = jax.device_put((*points, problem.seeds), spread)
        self._samples = jax.device_put(samples, whole)
        self._compiled: dict[Setting | None, tuple[Any, Cost]] = {}

    def compile(self, setting: Setting) -> Cost:
        key = setting if self._static else None
        if key not in self._compiled:
            self._compiled[key] = self._make(setting)
        return self._compiled[key][1]

    def text(self, setting: Setting) -> str:
        """The compiled program (benchmarks.kernels)."""
        self.compile(setting)
        return self._compiled[setting if self._static else None][0].as_text()

    def run(self, setting: Setting, presentations: int) -> tuple[Array, ...]:
        self.compile(setting)
        compiled = self._compiled[setting if self._static else None][0]
        return jax.block_until_ready(compiled(self._points, self._samples, *self._numbers(setting, presentations)))

    def _numbers(self, setting: Setting, presentations: int) -> tuple[Array, ...]:
        shown = jnp.int32(presentations)
        return (shown,) if self._static else (jnp.int32(setting), shown)

    def _make(self, setting: Setting) -> tuple[Any, Cost]:
        def run(point: tuple, samples: tuple, *numbers: Array) -> tuple[Array, ...]:
            return (
                self._advance(point, samples, setting, *numbers)
                if self._static
                else self._advance(point, samples, *numbers)
            )

        began = time.perf_counter()
        mapped = jax.jit(over_devices(run, self._mesh, self._block))
        compiled = mapped.lower(self._points, self._samples, *self._numbers(setting, 1)).compile()
        return compiled, Cost(time.perf_counter() - began, _memory(compiled) * self._mesh.size)


def _memory(compiled: Any) -> int:
    """Bytes on one device: arguments, results and the compiler's temporary buffers."""
    needs = compiled.memory_analysis()
    return needs.argument_size_in_bytes + needs.output_size_in_bytes + needs.temp_size_in_bytes
