"""SKA: its field is that of each layer's entropy, by automatic differentiation; windows, skips, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.network import Network
from rules import SKA
from tests.dynamics.pieces import apart, both, drift, normal
from tests.problems import f64, random_weights, timescales

NETWORK = Network((3, 4, 3, 2), "sigmoid", "sigmoid", skips=((0, 2), (1, 3)), gain=f64(1.0))
INPUTS, TARGETS = normal(5, 3), normal(5, 2)


def entropies(layer, weights, fixed):
    """The mean over samples of the summed entropy of a layer's units, in bits; what the layers before it pass on is
    taken as it is."""
    z, before = [INPUTS], {**fixed}
    for level in range(1, layer + 1):
        w = weights if level == layer else before
        a = z[-1] @ w[f"W{level}"].T + w[f"b{level}"].T
        for source, target in NETWORK.skips:
            a = a + (z[source] @ w[f"S{source}_{target}"].T if target == level else 0)
        z.append(jax.nn.sigmoid(a))
    p = z[layer]
    return -jnp.mean(jnp.sum(p * jnp.log2(p) + (1 - p) * jnp.log2(1 - p), axis=1))


def test_every_layer_descends_the_entropy_of_its_own_units():
    circuit = SKA().wire(NETWORK)
    weights = random_weights(circuit)
    found = drift(circuit, weights, INPUTS, TARGETS, timescales(plasticity=2.0))
    owned = {1: ("W1", "b1"), 2: ("W2", "b2", "S0_2"), 3: ("W3", "b3", "S1_3")}
    for layer, names in owned.items():
        own = {name: weights[name] for name in names}
        downhill = jax.grad(lambda own, layer=layer: -entropies(layer, {**weights, **own}, weights))(own)
        for name in names:
            np.testing.assert_allclose(found[name], downhill[name] / 2, atol=1e-13)
    other = drift(circuit, weights, INPUTS, 3 - TARGETS, timescales(plasticity=2.0))
    assert all((found[name] == other[name]).all() for name in found)  # no labels


def test_windows_are_the_limit_of_steps():
    circuit = SKA().wire(NETWORK)
    weights = random_weights(circuit)
    ends = both(circuit, timescales(0.01, 1.0), INPUTS, TARGETS, weights, steps=450, gap=0.05)
    assert apart(ends[0].state.weights, ends[1].state.weights, weights) < 1e-5


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Network((3, 4, 2), output_activation="sigmoid"), "network.activation = 'tanh' is not allowed for rule 'ska'"),
        (Network((3, 2)), "network.output_activation = 'linear' is not allowed.*it must be sigmoid"),
    ],
)
def test_units_that_are_no_probabilities_are_refused(network, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        SKA().wire(network)
