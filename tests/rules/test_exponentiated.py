"""Exponentiated gradient: the logistic, the published update, signs, Dale's law, windows against steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Circuit, Dense, Gaussian, OneToOne
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from dynamics.stimulus import Clock
from rules import FA, KP, SGD, AbstractRule, Exponentiated
from tests.dynamics.pieces import advanced, apart, both, discrete
from tests.problems import f64, random_problem, random_weights, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep


def network(*sizes: int, **more: Any) -> Network:
    more = {"bias": False} | more
    return Network(sizes, gain=f64(1.0), **more)


@pytest.mark.parametrize("start", [0.2, 3.0, -0.4])
def test_one_weight_is_logistic(start):
    """W' = W (2 - W) from a positive start; from a negative one W' = -W (2 - W), which never crosses zero."""
    circuit, x, y = Exponentiated().wire(network(1, 1)), f64([[1.0]]), f64([[2.0]])
    weights = {"W1": f64([[start]])}
    flow = WeightFlow(circuit, timescales(plasticity=1.0), x, y, Clock(f64(0.1), f64(0.0), 40), FixedStep("dopri5"))
    end = float(advanced(flow, weights, jnp.int32(8)).weights["W1"][0, 0])
    grown = np.exp(2 * 0.8 * np.sign(start))
    assert abs(end / (2 * start * grown / (2 + start * (grown - 1))) - 1) < 1e-9
    apart_by = []
    for count in (50, 100, 200):
        updates = discrete(circuit, timescales(plasticity=1.0), x, y, 0.8 / count)
        apart_by.append(abs(float(advanced(updates, weights, jnp.int32(count)).weights["W1"][0, 0]) - end))
    assert 1.8 < apart_by[0] / apart_by[1] < 2.2 and 1.8 < apart_by[1] / apart_by[2] < 2.2  # of the first order


def test_an_update_is_the_published_one_and_biases_and_feedback_learn_as_before():
    problem = random_problem((3, 4, 2), bias=True)
    plain, own = (rule.wire(problem.network) for rule in (KP(), Exponentiated(KP())))
    weights, times = random_weights(own), timescales(plasticity=2.0, decay=3.0)
    before, one, after = (
        jax.tree.map(np.asarray, advanced(discrete(c, times, *problem[1:], 0.3), weights, jnp.int32(n)).weights)
        for c, n in ((plain, 0), (plain, 1), (own, 1))
    )
    for name, w in before.items():
        moved = one[name] - w
        if name[0] != "W":
            np.testing.assert_array_equal(after[name], one[name])
            continue
        taught = moved + 0.3 / 3 * w
        expected = w * np.exp(np.sign(w) * taught) - 0.3 / 3 * w
        np.testing.assert_allclose(after[name], expected, atol=1e-15)


def test_signs_never_flip_and_windows_follow():
    problem = random_problem((6, 8, 3))
    circuit = Exponentiated(FA()).wire(problem.network)
    weights, data = random_weights(circuit), problem[1:]
    window, steps = both(circuit, timescales(0.02, 0.4, decay=3.0), *data, weights)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5
    far, plain = (
        advanced(discrete(each, timescales(plasticity=1.0), *data, 0.1), weights, jnp.int32(200)).weights
        for each in (circuit, FA().wire(problem.network))
    )
    for name in ("W1", "W2"):
        assert np.all(np.sign(far[name]) == np.sign(weights[name]))
    assert np.mean(np.sign(plain["W1"]) != np.sign(weights["W1"])) > 0.1  # which plain updates flip


def test_with_dale_a_neuron_has_one_sign_for_all_it_reaches():
    wide = network(5, 4, 3, 2, skips=((0, 2), (1, 3)))
    rule = Exponentiated(dale=True, excitatory=f64([0.4, 0.75, 0.0]))
    weights = rule.wire(wide).initial_weights(jax.random.key(0))
    sizes = SGD().wire(wide).initial_weights(jax.random.key(0))
    signs = [np.array([1, 1, -1, -1, -1]), np.array([1, 1, 1, -1]), -np.ones(3)]
    for name, source in (("W1", 0), ("S0_2", 0), ("W2", 1), ("S1_3", 1), ("W3", 2)):
        np.testing.assert_array_equal(np.sign(weights[name]), np.broadcast_to(signs[source], weights[name].shape))
        np.testing.assert_array_equal(np.abs(weights[name]), np.abs(sizes[name]))


class Diagonal(AbstractRule):
    """Weights one to one."""

    reference = "@misc{none, title={None}}"

    def wire(self, network: Network) -> Circuit:
        one = SGD().wire(network).projection("W1")
        own = OneToOne(f64(1.0)) if network.sizes[0] == network.sizes[1] else Dense(Gaussian(f64(1.0)))
        return Circuit(network.layers(), (one.__class__("W1", "z0", "activity", "z1", "forward", own, one.law),))


def test_what_does_not_fit_is_told_in_a_sentence():
    with pytest.raises(
        PlasticodeError, match=r"rule.excitatory has shape \(3,\): it must be one number, or a list of 2"
    ):
        Exponentiated(dale=True, excitatory=f64([1.0, 0.5, 0.5])).wire(network(2, 3, 1))
    with pytest.raises(PlasticodeError, match="'W1' has a OneToOne: it must be a dense matrix"):
        Exponentiated(Diagonal(), dale=True).wire(network(2, 2))
