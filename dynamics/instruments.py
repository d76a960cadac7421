"""Instruments: what is measured on a network's weights. All are pure functions of weights and data.

Batches have a leading sample dimension; results are dimensionless unless stated. NumPy arrays are converted; inputs and
targets that do not fit the circuit are refused.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Local, Outer, Projection, Signed, Weights
from dynamics.errors import PlasticodeError
from dynamics.flow import batch_factors
from dynamics.maps import AbstractMap, Theta
from dynamics.moment import Product
from dynamics.norms import cosine as cosine
from dynamics.norms import norm, scale, scaled
from dynamics.plasticity import Slow, depended, product
from dynamics.samples import Rows, check_inputs, check_samples, check_width, rows
from dynamics.settle import Outside, settle

Products = dict[str, Product]  # by term


def predict(circuit: Circuit, weights: Weights, inputs: Rows) -> Float[Array, "n outputs"]:
    """The settled activity of the output layer for each input, with weights frozen and errors silent."""

    inputs = rows("inputs")(inputs)
    check_inputs(circuit, inputs)
    circuit.check_weights(weights)
    output, slow = output_layer(circuit), circuit.initial_slow(inputs.dtype)

    def one(x: Array) -> Array:
        moment = settle(circuit, weights, slow, Outside(x, None))
        return moment.value(moment.circuit.layer(output), "activity")

    return jax.vmap(one)(inputs)


def output_layer(circuit: Circuit) -> str:
    """The name of the layer that predicts: the circuit's readout, the one with an error, or the last one."""
    if circuit.readout is not None:
        return circuit.readout
    outputs = [layer.name for layer in circuit.layers if layer.role == "output"]
    return outputs[0] if outputs else [layer.name for layer in circuit.layers if not layer.given][-1]


def accuracy(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Float[Array, ""]:
    """The fraction of samples whose largest output is at the target's class; NaN where an output is not finite."""
    inputs, targets = _labelled(circuit, inputs, targets)
    if targets.shape[1] == 1:
        raise PlasticodeError("accuracy compares outputs, one per class: there is one output, and there must be two")
    return fraction_right(predict(circuit, weights, inputs), targets)


def fraction_right(
    outputs: Float[Array, "n outputs"], targets: Float[Array, "n outputs"], told: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """As `accuracy`, of outputs; only those count whose target is `told`."""
    right = (outputs.argmax(-1) == targets.argmax(-1)).astype(outputs.dtype)
    return jnp.where(jnp.isfinite(outputs).all(), _mean(right, told), jnp.nan)


def loss(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Float[Array, ""]:
    """The mean loss whose negative gradient is the output error: |y - z|^2 / 2, or the cross-entropy of softmax(z)."""
    inputs, targets = _labelled(circuit, inputs, targets)
    return mean_loss(circuit, predict(circuit, weights, inputs), targets)


def _labelled(circuit: Circuit, inputs: Rows, targets: Rows) -> tuple[Array, Array]:
    """Samples as arrays, their targets as wide as the output layer is."""
    inputs, targets = rows("inputs")(inputs), rows("targets")(targets)
    check_samples(circuit, inputs, targets)
    output = circuit.layer(output_layer(circuit))
    check_width(output, targets)
    return inputs, targets


def _factors(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows
) -> tuple[dict[str, Local], Products]:
    """Local variables and law factors of every sample; targets matter only where there is an error."""
    inputs, targets = rows("inputs")(inputs), rows("targets")(targets)
    check_samples(circuit, inputs, targets)
    return batch_factors(circuit, weights, slow, inputs, targets)


def mean_loss(
    circuit: Circuit,
    outputs: Float[Array, "n outputs"],
    targets: Float[Array, "n outputs"],
    told: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """As `loss`, of outputs; only those count whose target is `told`."""
    if circuit.layer(output_layer(circuit)).loss == "softmax":
        return _mean(-(targets * jax.nn.log_softmax(outputs)).sum(-1), told)
    return _mean(0.5 * jnp.square(targets - outputs).sum(-1), told)


def _mean(numbers: Float[Array, " n"], told: Float[Array, " n"] | None) -> Float[Array, ""]:
    return numbers.mean() if told is None else (numbers * told).sum() / told.sum()


def gradient(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Weights:
    """dLoss/dW of every matrix, by automatic differentiation of the forward network: it knows nothing of any rule."""
    return jax.grad(lambda w: loss(circuit, w, inputs, targets))(weights)


def drive(circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows) -> Weights:
    """<m p^T> of every plastic matrix over the batch, in its geometry: the drift times tau_plast, without decays."""
    _, factors = _factors(circuit, weights, slow, inputs, targets)
    return {p.name: _moved(circuit, p.name, weights, factors) for p in circuit.plastic}


def _moved(circuit: Circuit, name: str, weights: Weights, factors: Products) -> Theta:
    """The direction in which all <m p^T> move the map of projection `name`."""
    mirror, along = circuit.map_of(name).mirror, _drive(circuit, name, weights, factors)
    return along if mirror is None else mirror.metric(weights[name]) * along


def _drive(circuit: Circuit, name: str, weights: Weights, factors: Products) -> Theta:
    """The sum of all <m p^T> that change the map of projection `name`."""
    products = [
        depended(term, weights, product(circuit, term, weights[name], factors[term.name]))
        for term in circuit.terms_of(name)
        if term.name in factors
    ]
    return sum(products[1:], products[0]) if products else jnp.zeros_like(weights[name])


def alignment(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows
) -> dict[str, Float[Array, ""]]:
    """cos(weight drift, -gradient) of every plastic forward matrix (biases apart): 1 is gradient descent.

    Only directions count, so what is multiplied is scaled first: products of small numbers would vanish in float32.
    """
    inputs, targets = _labelled(circuit, inputs, targets)
    outputs, back = jax.vjp(lambda w: predict(circuit, w, inputs), weights)
    uphill = scaled(jax.grad(lambda z: mean_loss(circuit, z, targets))(outputs))
    (downhill,) = back(-uphill)
    _, factors = _factors(circuit, weights, slow, inputs, targets)
    found = {}
    for name in forward_matrices(circuit):
        direction = _moved(circuit, name, weights, _near_one(circuit, name, factors))
        found[name] = cosine(direction, downhill[name])
    return found


def _near_one(circuit: Circuit, name: str, factors: Products) -> Products:
    """The factors of a law, where it is one product times a positive number that brings their entries near 1."""
    products = [t.name for t in circuit.terms_of(name) if t.name in factors]
    if len(products) != 1:
        return factors
    f = factors[products[0]]
    return factors | {products[0]: f._replace(post=scaled(f.post), pre=scaled(f.pre))}


def hebbian_alignment(
    circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows
) -> dict[str, Float[Array, ""]]:
    """cos(<m p^T>, <a_l z_{l-1}^T>) of every plastic forward matrix: > 0 is Hebbian (bibtex: koplow2025emergence)."""
    locals_, factors = _factors(circuit, weights, slow, inputs, targets)
    found = {}
    for name in forward_matrices(circuit):
        own = [t for t in circuit.terms_of(name) if t.name in factors]
        hebb = factors | {t.name: factors[t.name]._replace(post=locals_[t.of.target].preactivation) for t in own}
        pair = (_drive(circuit, name, weights, _near_one(circuit, name, fs)) for fs in (factors, hebb))
        found[name] = cosine(*pair)
    return found


def weight_norms(weights: Weights) -> dict[str, Float[Array, ""]]:
    """The Frobenius norm of every matrix."""
    return {name: norm(w) for name, w in weights.items()}


def feedback_mismatch(circuit: Circuit, weights: Weights) -> dict[str, Float[Array, ""]]:
    """|V - W^T|_F of every feedback matrix V that runs opposite to a forward matrix W; {} where none does."""
    own = [p for p in circuit.projections if isinstance(p.matrix, AbstractMap) and p.name in weights]
    forward = {(p.source, p.target): p for p in own if p.port == "forward"}
    pairs = {
        p.name: forward[p.target, p.source].name
        for p in own
        if p.port == "modulatory" and (p.target, p.source) in forward
    }
    if not pairs:
        return {}
    matrices = circuit.matrices({name: weights[name] for name in {*pairs, *pairs.values()}})
    return {v: norm(matrices[v] - matrices[w].T) for v, w in pairs.items()}


def charges(circuit: Circuit, weights: Weights) -> dict[str, Float[Array, " _size"]]:
    """Q_i = sum_j d_j W_ij^2 - d_i sum_k W_ki^2 of each unit i of every hidden layer: incoming less outgoing weight.

    Both sums run over the plastic forward matrices and biases; d is the sign of the presynaptic neuron where the law
    has one (bibtex: ninou2025curl), otherwise 1. Where the gradient brings the credit, f is linear or relu and there is
    no decay, the flow conserves every Q_i; the drift of Q of another rule is its fingerprint. In weight squared.
    """
    ends = {layer.name for layer in circuit.layers if layer.given} | {output_layer(circuit)}
    charge: dict[str, Array] = {}
    matrices = circuit.matrices({p.name: weights[p.name] for p in circuit.plastic})
    size = scale(jnp.stack([scale(m) for m in matrices.values()])) if matrices else 1  # squares stay in range
    for p in circuit.plastic:
        if p.port == "forward":
            squares = (matrices[p.name] / size) ** 2
            sign = _sign(p, squares)
            charge[p.target] = charge.get(p.target, 0) + squares @ sign
            charge[p.source] = charge.get(p.source, 0) - sign * squares.sum(0)
    return {name: size * (size * q) for name, q in charge.items() if name not in ends}


def _sign(p: Projection, squares: Float[Array, "targets sources"]) -> Float[Array, " sources"]:
    """The sign of each presynaptic neuron in the law of `p`."""
    sign = jnp.ones(squares.shape[1], squares.dtype)
    for term in p.law:
        factor = term.pre if isinstance(term, Outer) else None
        while isinstance(factor, Signed):
            sign, factor = sign * factor.sign, factor.of
    return sign


def forward_matrices(circuit: Circuit) -> tuple[str, ...]:
    """Names of the plastic matrices between the network's layers, biases apart."""
    constant = {layer.name for layer in circuit.layers if layer.role == "constant"}
    return tuple(p.name for p in circuit.plastic if p.port == "forward" and p.source not in constant)


def tangent_kernel(circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows, targets: Rows) -> Float[Array, " n"]:
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
