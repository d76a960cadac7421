"""Energy-based rules: gradients by automatic differentiation, published updates by hand, windows against steps."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.circuit import Wave
from dynamics.errors import PlasticodeError
from dynamics.stimulus import Clock
from rules import SGD, ContrastiveHebbian, EquilibriumPropagation, OscillatingEP, PredictiveCoding
from tests.dynamics.pieces import advanced, apart, both, cosine, coupled, drift, relative, settled
from tests.problems import PROBLEMS, TINY, f64, random_problem, random_weights, timescales
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

FLOW = timescales(plasticity=1.0)
gradient, predict = eqx.filter_jit(instruments.gradient), eqx.filter_jit(instruments.predict)
SKIPS = PROBLEMS["depth-3-tanh"]  # softmax, skips, no biases
SHORT = random_problem((3, 4, 2), activation="tanh", output_activation="sigmoid", bias=True, samples=3)


def halved(circuit):
    """Weights with which recurrent networks settle well; one-to-one relays stay as they are."""
    weights = random_weights(circuit)
    return {n: w if n in ("C", "D") else 0.5 * w for n, w in weights.items()}


def only(problem, count=1):
    return problem._replace(inputs=problem.inputs[:count], targets=problem.targets[:count])


@pytest.mark.parametrize("problem", [SHORT, SKIPS], ids=["sigmoid outputs", "softmax and skips"])
def test_the_symmetric_nudge_finds_the_gradient_of_the_settled_network(problem):
    rule = EquilibriumPropagation(nudge=f64(1e-3), feedback=f64(0.4), symmetric=True)
    circuit = rule.wire(problem.network)
    weights, x, y = halved(circuit), problem.inputs, problem.targets
    expected = jax.tree.map(jnp.negative, gradient(circuit, weights, x, y))
    assert relative(drift(circuit, weights, x, y, FLOW), expected) < 1e-5


def test_the_gradient_that_it_finds_is_that_of_a_network_settled_by_hand():
    """Finite differences of the loss of z1 = tanh(W1 x + b1 + g W2^T z2), z2 = W2 z1 + b2, by numpy."""
    circuit = EquilibriumPropagation(nudge=f64(1e-4), feedback=f64(0.4), symmetric=True).wire(TINY.network)
    weights, one = halved(circuit), only(TINY)
    x, y = (np.asarray(v[0]) for v in (one.inputs, one.targets))

    def loss(w):
        z1, z2 = np.zeros(4), np.zeros(2)
        for _ in range(400):
            z1 = np.tanh(w["W1"] @ x + w["b1"][:, 0] + 0.4 * w["W2"].T @ z2)
            z2 = w["W2"] @ z1 + w["b2"][:, 0]
        return 0.5 * np.sum((y - z2) ** 2)

    start, found = {n: np.array(w) for n, w in weights.items()}, drift(circuit, weights, one.inputs, one.targets, FLOW)
    for name, at in (("W1", (1, 2)), ("W2", (0, 3)), ("b1", (2, 0))):
        sides = []
        for step in (1e-5, -1e-5):
            moved = {n: w.copy() for n, w in start.items()}
            moved[name][at] += step
            sides.append(loss(moved))
        assert abs(float(found[name][at]) + (sides[0] - sides[1]) / 2e-5) < 1e-6


def test_one_update_of_equilibrium_propagation_by_hand():
    """(z' z'^T - z z^T) gamma^(l-L) / beta of two networks settled by numpy, one of them free."""
    beta, gamma = 0.3, 0.4
    circuit = EquilibriumPropagation(nudge=f64(beta), feedback=f64(gamma)).wire(TINY.network)
    weights, one = halved(circuit), only(TINY)
    x, y = (np.asarray(v[0]) for v in (one.inputs, one.targets))
    w = {n: np.asarray(v) for n, v in weights.items()}
    ends = []
    for b in (beta, 0.0):
        z1, z2 = np.zeros(4), np.zeros(2)
        for _ in range(2000):
            z1 = np.tanh(w["W1"] @ x + w["b1"][:, 0] + gamma * w["W2"].T @ z2)
            z2 = z2 + 0.2 * (w["W2"] @ z1 + w["b2"][:, 0] + b * (y - z2) - z2)
        ends.append((np.outer(z1, x) / gamma, np.outer(z2, z1), z1[:, None] / gamma, z2[:, None]))
    found = drift(circuit, weights, one.inputs, one.targets, FLOW)
    for name, nudged, free in zip(("W1", "W2", "b1", "b2"), *ends, strict=True):
        np.testing.assert_allclose(found[name], (nudged - free) / beta, atol=1e-10)
    np.testing.assert_allclose(
        predict(circuit, weights, one.inputs)[0],
        ends[1][3][:, 0],
        atol=1e-10,
        err_msg="the free one predicts",
    )


@pytest.mark.parametrize("problem", [TINY, SKIPS], ids=["squared", "softmax and skips"])
def test_contrastive_hebbian_learning_becomes_backpropagation(problem):
    """Half the feedback, half the distance; the free copy predicts, with its feedback."""
    plain, errors = SGD().wire(problem.network), []
    for gamma in (0.01, 0.005):
        circuit = ContrastiveHebbian(feedback=f64(gamma)).wire(problem.network)
        weights = halved(circuit)
        own = {p.name: weights[p.name] for p in plain.plastic}
        expected = jax.tree.map(jnp.negative, gradient(plain, own, problem.inputs, problem.targets))
        errors.append(relative(drift(circuit, weights, problem.inputs, problem.targets, FLOW), expected))
    assert 1.8 < errors[0] / errors[1] < 2.2 and errors[1] < 0.05


def test_the_clamped_output_is_the_target():
    circuit = ContrastiveHebbian(feedback=f64(0.3)).wire(SHORT.network)
    weights, x, y = halved(circuit), SHORT.inputs[0], SHORT.targets[0]
    np.testing.assert_allclose(settled(circuit, weights, x, y, ["z2'"])[0], y, atol=1e-12)


def energy(network, w, x, y, z):
    """sum |z_l - f(a_l)|^2 / 2 of hidden layers, and the loss of the output; of a network with skips."""
    states, total = [x, *z], 0.0
    for i in range(1, network.depth + 1):
        a = sum(w[n] @ states[s] for s, t, n in network.edges() if t == i)
        a = a + w[f"b{i}"][:, 0] if network.bias else a
        if i < network.depth:
            total = total + 0.5 * jnp.sum((z[i - 1] - jnp.tanh(a)) ** 2)
        elif network.loss == "softmax":
            total = total - jnp.sum(y * jax.nn.log_softmax(a))
        else:
            total = total + 0.5 * jnp.sum((y - jax.nn.sigmoid(a)) ** 2)
    return total


@pytest.mark.parametrize("problem", [SHORT, SKIPS], ids=["sigmoid outputs", "softmax and skips"])
def test_predictive_coding_settles_at_its_energy_and_learns_down_it(problem):
    circuit, network = PredictiveCoding().wire(problem.network), problem.network
    weights, one = halved(circuit), only(problem)
    x, y = one.inputs[0], one.targets[0]
    z = settled(circuit, weights, x, y, [f"z{i}" for i in range(1, network.depth)])
    slope, uphill = jax.jit(jax.grad(lambda z, w: energy(network, w, x, y, z), (0, 1)))(z, weights)
    assert max(float(jnp.abs(s).max()) for s in slope) < 1e-13
    found = drift(circuit, weights, one.inputs, one.targets, FLOW)
    assert relative(found, jax.tree.map(jnp.negative, uphill)) < 1e-12


def test_without_a_target_predictive_coding_predicts_forward():
    circuit = PredictiveCoding().wire(TINY.network)
    weights = random_weights(circuit)
    w1, b1, w2, b2 = (np.asarray(weights[n]) for n in ("W1", "b1", "W2", "b2"))
    expected = np.tanh(np.asarray(TINY.inputs) @ w1.T + b1.T) @ w2.T + b2.T
    np.testing.assert_allclose(predict(circuit, weights, TINY.inputs), expected, atol=1e-12)


RULES = {
    "equilibrium propagation": EquilibriumPropagation(nudge=f64(0.2), feedback=f64(0.4)),
    "oscillating": OscillatingEP(nudge=f64(0.4), feedback=f64(0.4), period=f64(0.1)),
    "contrastive Hebbian": ContrastiveHebbian(feedback=f64(0.3)),
    "predictive coding": PredictiveCoding(),
}


@pytest.mark.parametrize("name", RULES)
def test_windows_and_steps_agree(name):
    circuit = RULES[name].wire(TINY.network)
    weights = halved(circuit)
    window, steps = both(circuit, timescales(0.02, 0.4), TINY.inputs, TINY.targets, weights, 480, gap=0.02, nodes=20)
    assert apart(window.state.weights, steps.state.weights, {p.name: weights[p.name] for p in circuit.plastic}) < 1e-5


@pytest.mark.parametrize("by", [Window(nodes=16, parts=8, gaps=False, tolerance=1e-4), FixedStep("dopri5")])
def test_an_oscillating_nudge_needs_no_phases(by):
    """Over a period, after one of transients: the gradient, though nothing but z z^T and a sine is measured."""
    tau, ratio = 0.002, 0.02
    period = 2 * np.pi * tau / ratio
    circuit = OscillatingEP(nudge=f64(0.05), feedback=f64(0.5), period=f64(period)).wire(TINY.network)
    free = EquilibriumPropagation(feedback=f64(0.5)).wire(TINY.network)
    one, weights = only(TINY), halved(circuit)
    steps = 128 if isinstance(by, Window) else 400
    run = coupled(circuit, timescales(tau, 1e6), one.inputs, one.targets, Clock(f64(period), f64(0.0), steps), by)
    before, after = (advanced(run, weights, jnp.int32(k)).state.weights for k in (1, 2))
    own = {p.name: weights[p.name] for p in free.plastic}
    expected = jax.tree.map(jnp.negative, gradient(free, own, one.inputs, one.targets))
    assert cosine({n: after[n] - before[n] for n in expected}, expected) > 0.999


def test_what_waves_has_no_flow_and_no_updates():
    circuit = OscillatingEP().wire(TINY.network)
    assert any(isinstance(layer.source, Wave) for layer in circuit.layers)
    with pytest.raises(PlasticodeError, match="this rule has a wave, .*: the regime must be coupled"):
        drift(circuit, random_weights(circuit), TINY.inputs, TINY.targets, FLOW)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_unsupervised_task_is_refused(rule):
    with pytest.raises(PlasticodeError, match="the task is unsupervised and gives no target"):
        rule.wire(dataclasses.replace(TINY.network, supervised=False))
