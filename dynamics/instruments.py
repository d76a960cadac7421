"""Instruments: what is measured on a network's weights. All are pure functions of weights and data.

Batches have a leading sample dimension; results are dimensionless unless stated. NumPy arrays are converted; inputs and
targets that do not fit the circuit are refused.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Local, Weights
from dynamics.errors import PlasticodeError
from dynamics.flow import batch_factors
from dynamics.norms import cosine as cosine
from dynamics.norms import norm, scale, scaled
from dynamics.plasticity import Factors, mean_drive
from dynamics.regime import Slow
from dynamics.samples import Rows, check_inputs, check_samples, check_width, rows
from dynamics.settle import settle


def predict(circuit: Circuit, weights: Weights, inputs: Rows) -> Float[Array, "n outputs"]:
    """The settled activity of the output layer for each input, with weights frozen and errors silent."""

    inputs = rows("inputs")(inputs)
    check_inputs(circuit, inputs)
    output = output_layer(circuit), "activity"
    return jax.vmap(lambda x: settle(circuit, weights, x, None)[1][output])(inputs)


def output_layer(circuit: Circuit) -> str:
    """The name of the output layer: the one with a target, or the last layer of an unsupervised network."""
    outputs = [layer.name for layer in circuit.layers if layer.role == "output"]
    return outputs[0] if outputs else [layer.name for layer in circuit.layers if not layer.clamped][-1]


def accuracy(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Float[Array, ""]:
    """The fraction of samples whose largest output is at the target's class; NaN where an output is not finite."""
    inputs, targets = _labelled(circuit, inputs, targets)
    if targets.shape[1] == 1:
        raise PlasticodeError("accuracy compares outputs, one per class: there is one output, and there must be two")
    outputs = predict(circuit, weights, inputs)
    right = (outputs.argmax(-1) == targets.argmax(-1)).astype(outputs.dtype)
    return jnp.where(jnp.isfinite(outputs).all(), right.mean(), jnp.nan)


def loss(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Float[Array, ""]:
    """The mean loss whose negative gradient is the output error: |y - z|^2 / 2, or the cross-entropy of softmax(z)."""
    inputs, targets = _labelled(circuit, inputs, targets)
    return _loss(circuit, predict(circuit, weights, inputs), targets)


def _labelled(circuit: Circuit, inputs: Rows, targets: Rows) -> tuple[Array, Array]:
    """Samples as arrays, their targets as wide as the output layer is."""
    inputs, targets = rows("inputs")(inputs), rows("targets")(targets)
    check_samples(circuit, inputs, targets)
    output = circuit.layer(output_layer(circuit))
    check_width(output.name, output.size, targets)
    return inputs, targets


def _factors(
    circuit: Circuit, weights: Weights, slow: Mapping, inputs: Rows, targets: Rows
) -> tuple[dict[str, Local], dict[str, Factors]]:
    """Local variables and law factors of every sample; targets matter only where there is an error."""
    inputs, targets = rows("inputs")(inputs), rows("targets")(targets)
    check_samples(circuit, inputs, targets)
    return batch_factors(circuit, weights, slow, inputs, targets)


def _loss(circuit: Circuit, outputs: Float[Array, "n outputs"], targets: Float[Array, "n outputs"]) -> Array:
    if circuit.layer(output_layer(circuit)).loss == "softmax":
        return -(targets * jax.nn.log_softmax(outputs)).sum(-1).mean()
    return 0.5 * jnp.square(targets - outputs).sum(-1).mean()


def gradient(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Weights:
    """dLoss/dW of every matrix, by automatic differentiation of the forward network: it knows nothing of any rule."""
    return jax.grad(lambda w: loss(circuit, w, inputs, targets))(weights)


def drive(circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows) -> Weights:
    """<m p^T> of every plastic matrix over the batch: the weight drift times tau_plast, without decays."""
    _, factors = _factors(circuit, weights, slow, inputs, targets)
    return {name: mean_drive(f) for name, f in factors.items()}


def alignment(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows
) -> dict[str, Float[Array, ""]]:
    """cos(weight drift, -gradient) of every plastic forward matrix (biases apart): 1 is gradient descent.

    Only directions count, so what is multiplied is scaled first: products of small numbers would vanish in float32.
    """
    inputs, targets = _labelled(circuit, inputs, targets)
    outputs, back = jax.vjp(lambda w: predict(circuit, w, inputs), weights)
    uphill = scaled(jax.grad(lambda z: _loss(circuit, z, targets))(outputs))
    (downhill,) = back(-uphill)
    _, factors = _factors(circuit, weights, slow, inputs, targets)
    return {name: cosine(_drive_direction(factors[name]), downhill[name]) for name in forward_matrices(circuit)}


def _drive_direction(f: Factors) -> Array:
    """<m p^T> times a positive number that brings its entries near 1."""
    return mean_drive(f._replace(post=scaled(f.post), pre=scaled(f.pre)))


def hebbian_alignment(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows
) -> dict[str, Float[Array, ""]]:
    """cos(<m p^T>, <a_l z_{l-1}^T>) of every plastic forward matrix: > 0 is Hebbian (bibtex: koplow2025emergence)."""
    locals_, factors = _factors(circuit, weights, slow, inputs, targets)
    found = {}
    for name in forward_matrices(circuit):
        f = factors[name]
        hebb = f._replace(post=locals_[circuit.projection(name).target].preactivation)
        found[name] = cosine(_drive_direction(f), _drive_direction(hebb))
    return found


def weight_norms(weights: Weights) -> dict[str, Float[Array, ""]]:
    """The Frobenius norm of every matrix."""
    return {name: norm(w) for name, w in weights.items()}


def feedback_mismatch(circuit: Circuit, weights: Weights) -> dict[str, Float[Array, ""]]:
    """|V - W^T|_F of every feedback matrix V that runs opposite to a forward matrix W; {} where none does."""
    forward = {(p.source, p.target): p for p in circuit.projections if p.port == "forward" and p.init is not None}
    pairs = {
        p.name: forward[p.target, p.source].name
        for p in circuit.projections
        if p.port == "modulatory" and p.init is not None and (p.target, p.source) in forward
    }
    return {v: norm(weights[v] - weights[w].T) for v, w in pairs.items()}


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
    inputs: Rows,
    targets: Rows,
) -> Float[Array, " n"]:
    """K of each sample: how fast its own presentation removes its output error e, in units of 1/tau_plast.

    K = -e . de / |e|^2, de the change of the settled output error along the sample's own <m p^T>, so that
    e' = -K e / tau_plast during one presentation. By a forward derivative, so it holds for any rule. Dimensionless; 0
    where e is exactly zero, for there is nothing to remove.
    """
    inputs, targets = _labelled(circuit, inputs, targets)
    softmax = circuit.layer(output_layer(circuit)).loss == "softmax"

    def one(x: Array, y: Array) -> Array:
        def error(w: Weights) -> Array:
            outputs = predict(circuit, w, x[None])[0]
            return y - (jax.nn.softmax(outputs) if softmax else outputs)

        step = drive(circuit, weights, dict(slow), x[None], y[None])
        still = {name: jnp.zeros_like(w) for name, w in weights.items()}
        e, change = jax.jvp(error, (weights,), ({**still, **step},))
        size = scale(e)
        square = jnp.sum(jnp.square(e / size))
        return -jnp.sum((e / size) * (change / size)) / jnp.where(square == 0, 1, square)

    return jax.vmap(one)(inputs, targets)
