"""Rules with traces: by windows as by steps, their updates by hand, and what their options mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from dynamics.settle import Outside
from rules import STDP, BehaviouralTimescale, EProp, ThreeFactor
from tests.dynamics.pieces import apart, both, discrete
from tests.problems import TINY, f64, random_weights, timescales

RULES = {
    "three-factor": ThreeFactor(noise=f64(0.3), eligibility=f64(0.05), reward_delay=f64(0.0313), baseline=f64(0.3)),
    "e-prop": EProp(trace=f64(0.03), recurrent_scale=f64(0.8)),
    "stdp": STDP(potentiation_time=f64(0.03), depression_time=f64(0.06)),
    "behavioural-timescale": BehaviouralTimescale(eligibility=f64(0.2), instruction=f64(0.1), depression=f64(0.3)),
}


@pytest.mark.parametrize("name", RULES)
def test_windows_are_steps(name):
    """With gaps and a late error. A plateau has a kink, where an error changes its sign."""
    circuit = RULES[name].wire(TINY.network)
    weights, late = random_weights(circuit), Delays(error=f64(0.0317))
    times = timescales(0.02, 5.0)
    window, steps = both(
        circuit, times, TINY.inputs, TINY.targets, weights, 1040, gap=0.03, delays=late, nodes=18, shown=2
    )
    assert apart(window.state.weights, steps.state.weights, weights) < (3e-3 if "behavioural" in name else 2e-4)


def updated(rule, network=TINY.network, key=0):
    """Weights before and after one discrete update with eta = 0.1, and what was drawn for it, in numpy."""
    circuit = rule.wire(network)
    weights = random_weights(circuit)
    run = discrete(circuit, timescales(plasticity=1.0), TINY.inputs, TINY.targets, 0.1)
    drawn = circuit.draws(jax.random.key(key), jnp.int32(0))
    end = run.update(run.init(weights), Outside(TINY.inputs[0], TINY.targets[0], drawn))
    every = {**end.weights, **end.fixed}
    return [jax.tree.map(np.asarray, tree) for tree in (circuit.matrices(weights), circuit.matrices(every), drawn)]


X, Y, ONE = np.asarray(TINY.inputs[0]), np.asarray(TINY.targets[0]), np.ones(1)


def learned(before, after, directions):
    for name, direction in directions.items():
        np.testing.assert_allclose(after[name] - before[name], 0.1 * direction, atol=1e-14)


def test_a_reward_gates_noise_times_input():
    before, after, drawn = updated(ThreeFactor(noise=f64(0.3)))
    xi1, xi2 = drawn["xi1"], drawn["xi2"]
    z1 = np.tanh(before["W1"] @ X + before["b1"][:, 0] + 0.3 * xi1)
    z2 = before["W2"] @ z1 + before["b2"][:, 0] + 0.3 * xi2
    reward = -0.5 * ((Y - z2) ** 2).sum()
    first, second = reward * xi1 / 0.3, reward * xi2 / 0.3
    rows = {"W1": (first, X), "b1": (first, ONE), "W2": (second, z1), "b2": (second, ONE)}
    learned(before, after, {name: np.outer(*pair) for name, pair in rows.items()})


def test_noise_times_reward_is_the_gradient_on_average():
    """Of many draws, within 4 standard errors: (|e(xi)|^2 - |e(0)|^2) / 2 times xi / noise."""
    rule, count = ThreeFactor(noise=f64(1e-3)), 4000
    circuit = rule.wire(TINY.network)
    weights = random_weights(circuit)
    run = discrete(circuit, timescales(plasticity=1.0), TINY.inputs, TINY.targets, 1.0)
    x, y = TINY.inputs[0], TINY.targets[0]

    def error(w):
        z1 = jnp.tanh(w["W1"] @ x + w["b1"][:, 0])
        return 0.5 * jnp.sum((y - w["W2"] @ z1 - w["b2"][:, 0]) ** 2)

    def step(key):
        drawn, start = circuit.draws(key, jnp.int32(0)), run.init(weights)
        known = start._replace(slow={"reward": {"expected": -error(weights)[None]}})
        return run.update(known, Outside(x, y, drawn)).weights["W1"] - weights["W1"]

    steps = np.asarray(jax.jit(jax.vmap(step))(jax.random.split(jax.random.key(0), count)))
    gradient = np.asarray(jax.grad(error)(weights)["W1"])
    off = np.abs(steps.mean(0) + gradient) / (steps.std(0) / count**0.5)
    assert off.max() < 4.5 and steps.std(0).max() / count**0.5 < 0.1 * np.abs(gradient).max()


def test_eprop_is_direct_feedback_at_the_fixed_point_of_a_recurrent_layer():
    before, after, _ = updated(EProp())
    z1 = np.zeros(4)
    assert np.all(np.diag(before["R1"]) == 0) and np.abs(before["R1"]).max() > 0
    for _ in range(500):
        z1 = np.tanh(before["W1"] @ X + before["b1"][:, 0] + before["R1"] @ z1)
    error = Y - before["W2"] @ z1 - before["b2"][:, 0]
    signal = (1 - z1**2) * (before["B1"] @ error)
    apart = 1 - np.eye(4)
    rows = {"W1": (signal, X), "b1": (signal, ONE), "W2": (error, z1), "b2": (error, ONE)}
    learned(before, after, {n: np.outer(*pair) for n, pair in rows.items()} | {"R1": apart * np.outer(signal, z1)})


def test_symmetric_feedback_is_the_transpose_where_a_layer_reaches_the_output():
    network = Network((3, 4, 5, 2), skips=((1, 3),), gain=f64(1.0))
    tied = EProp(feedback="symmetric").wire(network)
    assert [getattr(tied.projection(f"B{i}").matrix, "name", None) for i in (1, 2)] == ["S1_3", "W3"]
    chain = EProp(feedback="symmetric").wire(Network((3, 4, 5, 2), gain=f64(1.0)))
    assert chain.owner(chain.projection("B1")).name == "B1" and not chain.is_local
    assert EProp().wire(network).is_local


def test_plateaus_follow_errors_that_ask_for_more_and_forget():
    before, after, _ = updated(BehaviouralTimescale(depression=f64(0.3)))
    z1 = np.tanh(before["W1"] @ X + before["b1"][:, 0])
    error = Y - before["W2"] @ z1 - before["b2"][:, 0]
    first, second = np.maximum((1 - z1**2) * (before["B1"] @ error), 0), np.maximum(error, 0)
    assert 0 < (first > 0).sum() + (second > 0).sum() < 6
    rows = {"W1": (first, X), "b1": (first, ONE), "W2": (second, z1), "b2": (second, ONE)}
    learned(before, after, {n: np.outer(p, z) - 0.3 * p[:, None] * before[n] for n, (p, z) in rows.items()})


def test_areas_in_balance_learn_nothing_of_what_settles():
    before, after, _ = updated(STDP(depression=f64(1.0)))
    z1 = np.tanh(before["W1"] @ X + before["b1"][:, 0])
    learned(before, after, {"W1": 0 * before["W1"], "W2": 0 * before["W2"]})
    before, after, _ = updated(STDP(potentiation=f64(0.7), depression=f64(0.2)))
    learned(before, after, {"W1": 0.5 * np.outer(z1, X)})


@pytest.mark.parametrize("rule", [EProp(feedback="x"), STDP(readout="x"), ThreeFactor(readout="x")])
def test_an_option_that_does_not_exist_is_told(rule):
    with pytest.raises(PlasticodeError, match="'x' is not known: it must be one of"):
        rule.wire(TINY.network)


def test_readouts_by_error_leave_reward_and_order_to_hidden_layers():
    reward, order = ThreeFactor(readout="delta").wire(TINY.network), STDP(readout="delta").wire(TINY.network)
    assert {layer.name for layer in reward.layers} >= {"xi1"} and "xi2" not in {layer.name for layer in reward.layers}
    assert len(order.projection("W1").law) == 2 and len(order.projection("W2").law) == 1
