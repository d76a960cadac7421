"""Instruments: what is measured on a network's weights. All are pure functions of weights and data.

Batches have a leading sample dimension; results are dimensionless unless stated.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Weights
from dynamics.flow import batch_factors
from dynamics.plasticity import mean_drive
from dynamics.regime import Slow
from dynamics.settle import settle


def predict(circuit: Circuit, weights: Weights, inputs: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
    """The settled activity of the output layer for each input, with weights frozen and errors silent."""

    output = output_layer(circuit), "activity"
    return jax.vmap(lambda x: settle(circuit, weights, x, None)[1][output])(inputs)


def output_layer(circuit: Circuit) -> str:
    """The name of the output layer: the one with a target, or the last layer of an unsupervised network."""
    outputs = [layer.name for layer in circuit.layers if layer.role == "output"]
    return outputs[0] if outputs else [layer.name for layer in circuit.layers if not layer.clamped][-1]


def accuracy(
    circuit: Circuit, weights: Weights, inputs: Float[Array, "n inputs"], targets: Float[Array, "n outputs"]
) -> Float[Array, ""]:
    """The fraction of samples whose largest output is at the target's class; NaN where an output is not finite."""
    outputs = predict(circuit, weights, inputs)
    right = (outputs.argmax(-1) == targets.argmax(-1)).astype(outputs.dtype)
    return jnp.where(jnp.isfinite(outputs).all(), right.mean(), jnp.nan)


def loss(
    circuit: Circuit, weights: Weights, inputs: Float[Array, "n inputs"], targets: Float[Array, "n outputs"]
) -> Float[Array, ""]:
    """The mean loss whose negative gradient is the output error: |y - z|^2 / 2, or the cross-entropy of softmax(z)."""
    outputs = predict(circuit, weights, inputs)
    if circuit.layer(output_layer(circuit)).loss == "softmax":
        return -(targets * jax.nn.log_softmax(outputs)).sum(-1).mean()
    return 0.5 * jnp.square(targets - outputs).sum(-1).mean()


def gradient(
    circuit: Circuit, weights: Weights, inputs: Float[Array, "n inputs"], targets: Float[Array, "n outputs"]
) -> Weights:
    """dLoss/dW of every matrix, by automatic differentiation of the forward network: it knows nothing of any rule."""
    return jax.grad(lambda w: loss(circuit, w, inputs, targets))(weights)


def drive(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Float[Array, "n inputs"], targets: Float[Array, "n outputs"]
) -> Weights:
    """<m p^T> of every plastic matrix over the batch: the weight drift times tau_plast, without decays."""
    _, factors = batch_factors(circuit, weights, slow, inputs, targets)
    return {name: mean_drive(f) for name, f in factors.items()}


def cosine(u: Float[Array, "..."], v: Float[Array, "..."]) -> Float[Array, ""]:
    """The cosine between two arrays of one shape; 0 where either is zero."""
    norm = jnp.sqrt(jnp.sum(u * u) * jnp.sum(v * v))
    return jnp.sum(u * v) / jnp.where(norm > 0, norm, 1)


def alignment(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Float[Array, "n inputs"], targets: Float[Array, "n outputs"]
) -> dict[str, Float[Array, ""]]:
    """cos(weight drift, -gradient) of every plastic forward matrix (biases apart): 1 is gradient descent."""
    downhill = gradient(circuit, weights, inputs, targets)
    drives = drive(circuit, weights, slow, inputs, targets)
    return {name: cosine(drives[name], -downhill[name]) for name in forward_matrices(circuit)}


def hebbian_alignment(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Float[Array, "n inputs"], targets: Float[Array, "n outputs"]
) -> dict[str, Float[Array, ""]]:
    """cos(<m p^T>, <a_l z_{l-1}^T>) of every plastic forward matrix: > 0 is Hebbian (bibtex: koplow2025emergence)."""
    locals_, factors = batch_factors(circuit, weights, slow, inputs, targets)
    hebb = {p.name: locals_[p.target].preactivation.T @ factors[p.name].pre for p in circuit.plastic}
    return {name: cosine(mean_drive(factors[name]), hebb[name]) for name in forward_matrices(circuit)}


def weight_norms(weights: Weights) -> dict[str, Float[Array, ""]]:
    """The Frobenius norm of every matrix."""
    return {name: jnp.linalg.norm(w) for name, w in weights.items()}


def feedback_mismatch(circuit: Circuit, weights: Weights) -> dict[str, Float[Array, ""]]:
    """|V - W^T|_F of every feedback matrix V that runs opposite to a forward matrix W; {} where none does."""
    forward = {(p.source, p.target): p for p in circuit.projections if p.port == "forward" and p.init is not None}
    pairs = {
        p.name: forward[p.target, p.source].name
        for p in circuit.projections
        if p.port == "modulatory" and p.init is not None and (p.target, p.source) in forward
    }
    return {v: jnp.linalg.norm(weights[v] - weights[w].T) for v, w in pairs.items()}


def charges(circuit: Circuit, weights: Weights) -> dict[str, Float[Array, " _size"]]:
    """Q_i = sum_j d_j W_ij^2 - d_i sum_k W_ki^2 of each unit i of every hidden layer: incoming less outgoing weight.

    Both sums run over the plastic forward matrices and biases; d is the sign of the presynaptic neuron where the law
    has one (bibtex: ninou2025curl), otherwise 1. Where the gradient brings the credit, f is linear or relu and there is
    no decay, the flow conserves every Q_i; the drift of Q of another rule is its fingerprint. In weight squared.
    """
    ends = {layer.name for layer in circuit.layers if layer.clamped} | {output_layer(circuit)}
    charge: dict[str, Array] = {}
    for p in circuit.plastic:
        if p.port == "forward" and p.law is not None:
            squares = weights[p.name] ** 2
            sign = jnp.ones(squares.shape[1], squares.dtype) if p.law.sign is None else p.law.sign
            charge[p.target] = charge.get(p.target, 0) + squares @ sign
            charge[p.source] = charge.get(p.source, 0) - sign * squares.sum(0)
    return {name: q for name, q in charge.items() if name not in ends}


def forward_matrices(circuit: Circuit) -> tuple[str, ...]:
    """Names of the plastic matrices between the network's layers, biases apart."""
    constant = {layer.name for layer in circuit.layers if layer.role == "constant"}
    return tuple(p.name for p in circuit.plastic if p.port == "forward" and p.source not in constant)


def tangent_kernel(
    circuit: Circuit,
    weights: Weights,
    slow: Mapping,
    inputs: Float[Array, "n inputs"],
    targets: Float[Array, "n outputs"],
) -> Float[Array, " n"]:
    """K of each sample: how fast its own presentation removes its output error e, in units of 1/tau_plast.

    K = -e . de / |e|^2, de the change of the settled output error along the sample's own <m p^T>, so that
    e' = -K e / tau_plast during one presentation. By a forward derivative, so it holds for any rule. Dimensionless.
    """
    softmax = circuit.layer(output_layer(circuit)).loss == "softmax"

    def one(x: Array, y: Array) -> Array:
        def error(w: Weights) -> Array:
            outputs = predict(circuit, w, x[None])[0]
            return y - (jax.nn.softmax(outputs) if softmax else outputs)

        step = drive(circuit, weights, dict(slow), x[None], y[None])
        still = {name: jnp.zeros_like(w) for name, w in weights.items()}
        e, change = jax.jvp(error, (weights,), ({**still, **step},))
        return -jnp.sum(e * change) / jnp.sum(e * e)

    return jax.vmap(one)(inputs, targets)
