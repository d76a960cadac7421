"""The workloads: feedback alignment on tanh networks, many configurations of one shape, each with its own plasticity.

    tau_prop z_l' = -z_l + f(W_l z_{l-1})            tau_prop e_L' = -e_L + y - z_L
    tau_plast W_l' = e_l z_{l-1}^T                   tau_prop e_l' = -e_l + f'(W_l z_{l-1}) * (V_{l+1} e_{l+1})

No biases, no gaps. Each configuration has its own initial weights, plasticity timescale and order of presentations.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

T, TAU_PROP = 0.05, 0.002  # seconds
SAMPLES = 512  # of random inputs


@dataclass(frozen=True)
class Workload:
    """A network, how many configurations of it there are, and the small problem on which accuracy is measured.

    `plasticity` is the range of tau_plast in seconds, log-spaced over the configurations. `input_norm` is the Euclidean
    norm of the random inputs; without one the inputs are the digits. The small problem shows `reference_presentations`
    presentations to `reference_configurations` configurations that span the range, and is solved by float64 RK4 with
    `reference_steps` steps per presentation. `lag` is that of the output error in seconds, which only the engine's own
    competitors know of.
    """

    name: str
    sizes: tuple[int, ...]
    configurations: int
    plasticity: tuple[float, float] = (0.5, 5.0)
    input_norm: float | None = 2.0
    reference_configurations: int = 4
    reference_presentations: int = 4
    reference_steps: int = 2000
    lag: float | None = None

    @property
    def forward_sizes(self) -> list[tuple[int, int]]:
        """(targets, sources) of W_1 .. W_L."""
        return list(zip(self.sizes[1:], self.sizes[:-1], strict=True))

    @property
    def feedback_sizes(self) -> list[tuple[int, int]]:
        """(targets, sources) of V_2 .. V_L."""
        return [(sources, targets) for targets, sources in self.forward_sizes[1:]]

    @property
    def flops_per_stage(self) -> int:
        """2 x the multiply-adds of one evaluation of the equations: W z, e z^T, V e."""
        forward = sum(rows * columns for rows, columns in self.forward_sizes)
        return 2 * (2 * forward + sum(rows * columns for rows, columns in self.feedback_sizes))

    def problem(self, indices: Sequence[int] | None = None) -> "Problem":
        """The configurations with these indices (absent: all); a configuration does not depend on the others."""
        indices = range(self.configurations) if indices is None else indices
        taus = np.geomspace(*self.plasticity, self.configurations).astype(np.float32)
        drawn = [_draw(self.forward_sizes, self.feedback_sizes, i) for i in indices]
        inputs, targets = _digits() if self.input_norm is None else _random_samples(self)
        return Problem(
            self,
            inputs,
            targets,
            tuple(np.stack(matrices) for matrices in zip(*(forward for forward, _ in drawn), strict=True)),
            tuple(np.stack(matrices) for matrices in zip(*(feedback for _, feedback in drawn), strict=True)),
            taus[list(indices)],
            np.asarray(indices, np.uint32),
        )

    def small_problem(self) -> "Problem":
        """The few configurations on which accuracy is measured."""
        count = min(self.reference_configurations, self.configurations)
        return self.problem(np.linspace(0, self.configurations - 1, count).round().astype(int).tolist())


class Problem(NamedTuple):
    """Arrays, float32: samples, and by configuration (leading axis) W_l, V_l, tau_plast and the seed of the order."""

    workload: Workload
    inputs: np.ndarray
    targets: np.ndarray
    weights: tuple[np.ndarray, ...]
    feedback: tuple[np.ndarray, ...]
    taus: np.ndarray
    seeds: np.ndarray

    @property
    def configurations(self) -> int:
        return len(self.taus)

    def order(self, presentations: int) -> np.ndarray:
        """(configurations, presentations): which sample each presentation shows."""
        shown = jax.vmap(jax.vmap(sample, (None, 0, None)), (0, None, None))
        ks = jnp.arange(presentations, dtype=jnp.int32)
        return np.asarray(jax.jit(shown, static_argnums=2)(jnp.asarray(self.seeds), ks, len(self.inputs)))


def sample(seed: Array, k: Array, samples: int) -> Array:
    """Which of `samples` presentation k shows: as `dynamics.Stream` draws it, so that all see the same."""
    return jax.random.bits(jax.random.fold_in(jax.random.key(seed), k), (), jnp.uint32) % jnp.uint32(samples)


def _draw(forward: list[tuple[int, int]], feedback: list[tuple[int, int]], index: int) -> tuple[list, list]:
    """W ~ N(0, 1/sources) and V ~ N(0, 1/targets), as the project's FA has them."""
    generator = np.random.default_rng([index, *forward[0]])
    w = [generator.standard_normal(size, np.float32) / np.float32(np.sqrt(size[1])) for size in forward]
    v = [generator.standard_normal(size, np.float32) / np.float32(np.sqrt(size[0])) for size in feedback]
    return w, v


def _random_samples(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(workload.sizes[0])
    inputs = generator.standard_normal((SAMPLES, workload.sizes[0]), np.float32)
    inputs *= np.float32(workload.input_norm) / np.linalg.norm(inputs, axis=1, keepdims=True)
    return inputs, np.eye(workload.sizes[-1], dtype=np.float32)[generator.integers(workload.sizes[-1], size=SAMPLES)]


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from experiments.tasks.real import Digits

    data = Digits().load()
    assert data.train_targets is not None
    return data.train_inputs, data.train_targets


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("A", (64, 128, 128, 10), 64),
        Workload("B", (784, 256, 256, 10), 32, reference_presentations=2),
        Workload("C", (64, 64, 10), 1024, plasticity=(10 * T, 1000 * T), input_norm=None),
        Workload("D", (784, 1000, 1000, 1000, 10), 1, (1.0, 1.0), reference_presentations=1, reference_steps=500),
    )
}


def quick(workload: Workload) -> Workload:
    """A workload cut to 8 configurations, two presentations of the small problem and a reference of 400 steps."""
    return replace(
        workload, configurations=8, reference_configurations=8, reference_presentations=2, reference_steps=400
    )
