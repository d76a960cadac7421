"""What predictions of energy-based rules share: samples, updates of settled networks, how fast errors vanish."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from dynamics import instruments
from dynamics.circuit import Circuit, Weights
from dynamics.network import Network
from experiments.predictions.kit import drift_of, f64, weight_flow
from rules.contract import AbstractRule

Trees = Mapping[str, Array | np.ndarray]


def network(inputs: int, hidden: tuple[int, ...], outputs: int, gain: float, **more: Any) -> Network:
    """A network without biases in float64."""
    return Network((inputs, *hidden, outputs), bias=False, gain=f64(gain), **more)


def samples(key: Key[Array, ""], net: Network, count: int) -> tuple[Float[Array, "n i"], Float[Array, "n o"]]:
    """Normal inputs, and normal targets: one-hot ones of the largest where the loss is that of softmax."""
    for_inputs, for_targets = jax.random.split(key)
    x = jax.random.normal(for_inputs, (count, net.sizes[0]), jnp.float64)
    y = jax.random.normal(for_targets, (count, net.sizes[-1]), jnp.float64)
    return x, jax.nn.one_hot(y.argmax(-1), net.sizes[-1], dtype=jnp.float64) if net.loss == "softmax" else y


def update(circuit: Circuit, weights: Weights, x: Float[Array, "n i"], y: Float[Array, "n o"]) -> Weights:
    """tau_plast W' of the weight flow on these samples."""
    return drift_of(weight_flow(circuit, x, y, 1.0), weights)


def updates(
    make: Callable[[Array], AbstractRule],
    net: Network,
    numbers: tuple[float, ...],
    keys: Key[Array, " seeds"],
    count: int,
) -> Trees:
    """The updates of a rule at each of `numbers` (seeds, numbers, ...), with weights and samples of each key."""

    def one(key: Key[Array, ""]) -> Weights:
        weights, x, y = drawn_from(key, make(f64(numbers[0])).wire(net), net, count)
        return jax.vmap(lambda number: update(make(number).wire(net), weights, x, y))(f64(numbers))

    return jax.jit(jax.vmap(one))(keys)


def slopes(circuit: Circuit, net: Network, keys: Key[Array, " seeds"], count: int) -> Trees:
    """-dLoss/dW (seeds, ...) of the circuit's own prediction, by automatic differentiation through its fixed point."""

    def one(key: Key[Array, ""]) -> Weights:
        return jax.tree.map(jnp.negative, instruments.gradient(circuit, *drawn_from(key, circuit, net, count)))

    return jax.jit(jax.vmap(one))(keys)


def drawn_from(key: Key[Array, ""], circuit: Circuit, net: Network, count: int) -> tuple[Weights, Array, Array]:
    """Weights and samples."""
    for_weights, for_samples = jax.random.split(key)
    return circuit.initial_weights(for_weights), *samples(for_samples, net, count)


def flat(trees: Trees, axes: int, names: tuple[str, ...] | None = None) -> np.ndarray:
    """All matrices as one vector behind the first `axes` axes."""
    chosen = sorted(trees) if names is None else names
    return np.concatenate([np.reshape(trees[n], (*np.shape(trees[n])[:axes], -1)) for n in chosen], -1)


def distances(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|found - truth| / |truth| (seeds, numbers) of vectors (seeds, numbers, n) and (seeds, n)."""
    return np.linalg.norm(found - truth[:, None], axis=-1) / np.linalg.norm(truth, axis=-1)[:, None]


def angles(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """1 - cosine, shaped as `distances`."""
    dot = np.einsum("snk,sk->sn", found, truth)
    return 1 - dot / np.linalg.norm(found, axis=-1) / np.linalg.norm(truth, axis=-1)[:, None]


def extrapolated(found: np.ndarray) -> np.ndarray:
    """Richardson's 2 u(h/2) - u(h) of updates (seeds, numbers, n) whose numbers are halved each time."""
    return 2 * found[:, 1:] - found[:, :-1]


def halved(numbers: tuple[float, ...], name: str) -> str | None:
    """A sentence about numbers that are not each half of the one before, or fewer than three."""
    if len(numbers) < 3 or not np.allclose(np.array(numbers[:-1]) / 2, numbers[1:]):
        return f"{name} must be at least three numbers, each half of the one before"
