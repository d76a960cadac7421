"""A function of one point, compiled for many: taken a block at a time, spread over the local devices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dynamics.kept import Kept
from experiments.machine.compilation import known_options

LATELY = Kept(12)  # what was compiled for the last few jobs, by its text


class Program(NamedTuple):
    """A compiled program that knows its arguments by their order alone, so that jobs whose trees have other names share
    it; `like` is what it gives, as shapes."""

    compiled: Any
    like: Any

    def __call__(self, *args: Any) -> Any:
        return jax.tree.unflatten(jax.tree.structure(self.like), self.compiled(*jax.tree.leaves(args)))


def made(function: Callable, points: tuple, common: tuple, options: dict | None, block: int, name: str) -> Program:
    """`function` over `points`, compiled now, or as a job before has compiled it that comes to the same operations,
    such as one of a rule that is another one in deeper networks only."""
    leaves, tree = jax.tree.flatten((*points, *common))
    over, gives = batched(function, len(points), len(common), block), []

    def flat(*leaves: Any) -> list[Any]:
        given, structure = jax.tree.flatten(over(*jax.tree.unflatten(tree, leaves)))
        gives.append(structure)
        return given

    flat.__name__ = name
    lowered = jax.jit(flat, compiler_options=options).lower(*leaves)
    shapes = tuple((np.shape(leaf), leaf.dtype) for leaf in leaves)  # the text has only those that are used
    key = lowered.as_text().replace(name, ""), _used(lowered), shapes, str(options)
    program = LATELY.made(key, lowered.compile)
    out = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in lowered.out_info]
    return Program(program, jax.tree.unflatten(gives[0], out))


def _used(lowered: Any) -> Any:
    """Which arguments a program uses, of which its text has only those; a key that nothing else has, where jax does not
    tell."""
    try:
        return tuple(sorted(lowered._lowering.compile_args["kept_var_idx"]))
    except (AttributeError, KeyError, TypeError):
        return object()


def batched(function: Callable, arguments: int, shared: int, block: int, options: dict | None = None) -> Any:
    """`function` over a leading dimension of its first `arguments` arguments, the other `shared` ones being common.

    Sharded over the local devices; on each, points are taken `block` at a time. No device talks to another.
    """

    def local(*args: Any) -> Any:
        points, common = args[:arguments], args[arguments:]
        return jax.lax.map(lambda point: function(*point, *common), points, batch_size=block)

    specs = (PartitionSpec("points"),) * arguments + (PartitionSpec(),) * shared
    mesh = sharding().mesh
    sharded = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("points"), check_vma=False)
    sharded.__name__ = "local"
    return jax.jit(sharded, compiler_options=options)


def sharding() -> NamedSharding:
    """Of arrays over points."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), ("points",)), PartitionSpec("points"))


def hasty(level: int, fused: bool = False) -> dict[str, Any] | None:
    """Options for programs that run rarely: on a CPU they are not worth the compiler's expensive passes, and at `level`
    0 not even being cut into pieces."""
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_llvm_disable_expensive_passes": True, "xla_backend_optimization_level": level}
    options |= {} if fused else {"xla_cpu_use_fusion_emitters": False}
    options |= {} if level else {"xla_cpu_parallel_codegen_split_count": 1}
    return known_options(options)
