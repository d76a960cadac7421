"""Whether a device is right: every rule by windows on it in float32, against float64 on the CPU; its products; shards.

Both sides solve the same windows by the same sweeps, so that what they differ by is rounding. Rules that draw numbers
draw other ones in float64: they are compared with float32 on the CPU.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads import TAU_PROP, Problem, T, Workload
from dynamics import Clock, Coupled, Network, Stream, Timescales, Window
from dynamics.circuit import Circuit, Weights
from dynamics.layers import Draw
from experiments.execution import programs
from experiments.points.jobs import advance_point, init_point, points_of, prepare
from experiments.spec.loading import make_spec
from rules.contract import AbstractRule
from rules.registry import RULES, make_rule

# Parts in which sweeps of circuits with cycles converge, too.
NODES, PARTS, SWEEPS, PRESENTATIONS, CONFIGURATIONS = 6, 8, 6, 4, 2
# Of the weights' change, relative, half of a spec's tolerance: CPUs are within 1e-4, and 2e-4 where weights hardly
# move. That nothing rounds to TF32, which keeps 10 bits, the product tells.
ROUNDING, PRODUCT = 5e-4, 1e-6
HASTY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # the CPU's compiler
FIRST = ("fa", "sgd", "kp", "dfa", "curl", "oja")  # of which an answer is wanted first


class Check(NamedTuple):
    """What was compared, how far it was off, relative, and how far it may be; `against` says with what."""

    name: str
    against: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


def rules() -> list[str]:
    """All rules, those first that matter most."""
    return [*FIRST, *(name for name in RULES if name not in FIRST)]


def product() -> Check:
    """A product of matrices, which must not be rounded to TF32 or bfloat16 on the way."""
    a, b = np.random.default_rng(0).standard_normal((2, 256, 256), np.float32)
    exact = a.astype(float) @ b.astype(float)
    error = np.linalg.norm(np.asarray(jnp.asarray(a) @ jnp.asarray(b)) - exact) / np.linalg.norm(exact)
    return Check("product of 256 x 256 matrices", "float64 on the host", float(error), PRODUCT)


def rule(name: str, workload: Workload) -> Check:
    """A few presentations by windows, the change of all plastic matrices, the worst of a few configurations."""
    count = min(CONFIGURATIONS, workload.configurations)
    problem, cpu = workload.problem(list(range(count))), jax.devices("cpu")[0]
    circuit = _circuit(name, workload.sizes, jnp.float32)
    draws = bool(circuit.drawn) or any(isinstance(layer.source, Draw) for layer in circuit.layers)
    there = _changes(name, problem, np.float32, jax.local_devices()[0])
    with jax.enable_x64(True):
        here = _changes(name, problem, np.float32 if draws else np.float64, cpu)
    against = "float32 on the CPU" if draws else "float64 on the CPU"
    return Check(f"{workload.name}: {name}", against, apart(there, here), ROUNDING)


def _circuit(name: str, sizes: tuple[int, ...], dtype: Any) -> Circuit:
    def cast(tree: Any) -> Any:
        def one(leaf: Any) -> Any:
            floating = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
            return leaf.astype(dtype) if floating else leaf

        return jax.tree.map(one, tree)

    made: AbstractRule = cast(make_rule(name, {}))
    needed = getattr(made, "activation", None)
    network = Network(sizes, bias=False, gain=jnp.asarray(1.0, dtype))
    if needed is not None:
        network = replace(network, activation=needed, output_activation=needed)
    return cast(made.wire(network))


def _changes(name: str, problem: Problem, dtype: Any, device: Any) -> dict[str, np.ndarray]:
    """What the plastic matrices have moved by, in float64."""
    circuit = _circuit(name, problem.workload.sizes, np.float32)
    keys = jax.vmap(jax.random.key)(jnp.asarray(problem.seeds))
    start = jax.tree.map(np.asarray, jax.vmap(circuit.initial_weights)(keys))  # drawn once, in float32
    longest = max((float(p.lag) for p in circuit.projections if p.lag is not None), default=0.0)
    with jax.default_device(device):
        number = functools.partial(jnp.asarray, dtype=dtype)

        def run(weights: Weights, tau: jax.Array, seed: jax.Array, samples: tuple, shown: jax.Array) -> Weights:
            regime = Coupled(
                _circuit(name, problem.workload.sizes, dtype),
                Timescales(number(TAU_PROP), tau),
                Stream(samples[0], samples[1], jax.random.key(seed)),
                Clock(number(T), number(0.0), 1),
                integrator=Window(nodes=NODES, parts=PARTS, gaps=False, sweeps=SWEEPS),
                history=math.ceil(longest / T) + 2,
            )
            end = regime.weights(regime.advance(regime.init(weights), jnp.int32(0), shown))
            return {p.name: end[p.name] - weights[p.name] for p in regime.circuit.plastic}

        weights, taus, samples = jax.tree.map(number, (start, problem.taus, (problem.inputs, problem.targets)))
        hasty = HASTY if device.platform == "cpu" else None
        mapped = jax.jit(jax.vmap(run, (0, 0, 0, None, None)), compiler_options=hasty)
        moved = mapped(weights, taus, jnp.asarray(problem.seeds), samples, jnp.int32(PRESENTATIONS))
        return {name: np.asarray(change, float) for name, change in moved.items()}


def apart(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> float:
    """|left - right| / |right| over all matrices, of the worst configuration; infinite where it is not a number."""

    def norms(changes: dict[str, np.ndarray]) -> np.ndarray:
        return np.sqrt(sum(np.square(change).reshape(len(change), -1).sum(1) for change in changes.values()))

    with np.errstate(all="ignore"):
        worst = np.max(norms({name: left[name] - right[name] for name in right}) / norms(right))
    return float(worst) if np.isfinite(worst) else float("inf")


def sharded(presentations: int, points: int) -> Check:
    """A job of a spec as the project's runner has it, its points spread over all local devices, against one vmap."""
    table = {
        "task": {"name": "digits"},
        "network": {"hidden": [64], "bias": False},
        "stimulus": {"presentations": presentations},
        "timescales": {"plasticity": "100 T"},
        "rule": "fa",
        "sweep": {"seeds": points},
    }
    (job,) = prepare(make_spec(table))[""]
    ready = programs.compiled(job, points)
    values, seeds = points_of(job, np.resize(np.arange(points), ready.padded))
    counts = jnp.int32(0), jnp.int32(presentations)
    data = {name: jnp.asarray(array) for name, array in job.data.items()}
    spread = ready.advance(ready.init(values, seeds, data), values, seeds, data, *counts)

    def alone(values: dict, seed: jax.Array) -> tuple[Any, Any]:
        start = init_point(job.plan, values, seed, data)
        return start.state.weights, advance_point(job.plan, start, values, seed, data, *counts).state.weights

    start, end = jax.tree.map(lambda a: np.asarray(a, float), jax.jit(jax.vmap(alone))(values, seeds))
    there = {name: np.asarray(w, float) - start[name] for name, w in spread.state.weights.items()}
    error = apart(there, {name: w - start[name] for name, w in end.items()})
    return Check(f"{points} points over {len(jax.local_devices())} devices", "one vmap", error, ROUNDING)


def all_checks(workloads: list[Workload], names: list[str]) -> Iterator[tuple[str, Callable[[], Check]]]:
    """Everything to be compared, by name, what matters most first."""
    yield "products", product
    yield "shards", functools.partial(sharded, 20, 16)
    for name in names:
        for workload in workloads:
            yield f"{workload.name}: {name}", functools.partial(rule, name, workload)
