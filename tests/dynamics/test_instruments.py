"""Instruments, each against another way to compute the same number."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from rules import FA, KP, SGD, Curl, Heterosynaptic
from tests import oracles
from tests.dynamics.systems import two_layers
from tests.problems import PROBLEMS, TINY, clock, f64, flow, random_problem, random_weights, run, timescales

CIRCUIT = FA(f64(1.0)).wire(TINY.network)
WEIGHTS = random_weights(CIRCUIT)


def measure(instrument, circuit, weights, problem, slow=None):
    """An instrument of (circuit, weights, slow, inputs, targets), compiled."""
    return eqx.filter_jit(instrument)(circuit, weights, slow or {}, problem.inputs, problem.targets)


def by_hand():
    """Signals of TINY (3-4-2, tanh then linear) under feedback alignment: x, a1, z1, a2, e1, e2, one row per sample."""
    w = {name: np.asarray(value) for name, value in WEIGHTS.items()}
    x, y = np.asarray(TINY.inputs), np.asarray(TINY.targets)
    a1 = x @ w["W1"].T + w["b1"].T
    z1 = np.tanh(a1)
    a2 = z1 @ w["W2"].T + w["b2"].T
    e2 = y - a2
    return x, a1, z1, a2, (1 - z1**2) * (e2 @ w["V2"].T), e2


def cosine(u, v):
    return np.sum(u * v) / np.sqrt(np.sum(u**2) * np.sum(v**2))


@pytest.mark.parametrize("name", PROBLEMS)
def test_predictions_and_loss(name):
    problem = PROBLEMS[name]
    circuit = SGD().wire(problem.network)
    weights = random_weights(circuit)

    @jax.jit
    def both(weights, x, y):
        expected = oracles.forward(problem.network, weights, x), oracles.loss(problem.network, weights, x, y)
        return (instruments.predict(circuit, weights, x), instruments.loss(circuit, weights, x, y)), expected

    measured, expected = both(weights, problem.inputs, problem.targets)
    np.testing.assert_allclose(measured[0], expected[0], atol=1e-13)
    assert abs(measured[1] - expected[1]) < 1e-13


def test_predictions_pass_over_the_feedback_population():
    """Its activity is made of errors, which are silent when weights are frozen."""
    circuit = Heterosynaptic(f64(1.0), feedback_units=5).wire(TINY.network)
    weights = random_weights(circuit)
    expected = oracles.forward(TINY.network, weights, TINY.inputs)
    np.testing.assert_allclose(instruments.predict(circuit, weights, TINY.inputs), expected, atol=1e-13)


def test_accuracy_counts_and_does_not_hide_a_divergence():
    outputs = np.asarray(oracles.forward(TINY.network, WEIGHTS, TINY.inputs))
    labels = np.array([0, 1, 1, 0])
    targets = f64(np.eye(2)[labels])
    expected = sum(int(np.argmax(row) == label) for row, label in zip(outputs, labels, strict=True)) / 4
    assert instruments.accuracy(CIRCUIT, WEIGHTS, TINY.inputs, targets) == expected
    for bad in (np.nan, np.inf):
        broken = WEIGHTS | {"b2": f64([[bad], [0.0]])}
        assert jnp.isnan(instruments.accuracy(CIRCUIT, broken, TINY.inputs, targets))


def test_the_gradient_is_that_of_finite_differences():
    gradient = eqx.filter_jit(instruments.gradient)(CIRCUIT, WEIGHTS, TINY.inputs, TINY.targets)
    assert not gradient["V2"].any()
    h = 1e-6
    for name in ("W1", "b1", "W2"):
        for entry in ((0, 0), (1, -1)):
            up, down = ({**WEIGHTS, name: WEIGHTS[name].at[entry].add(sign * h)} for sign in (1, -1))
            change = [oracles.loss(TINY.network, w, TINY.inputs, TINY.targets) for w in (up, down)]
            assert abs(gradient[name][entry] - (change[0] - change[1]) / (2 * h)) < 1e-8


def test_drive_alignments_and_norms_by_hand():
    x, a1, z1, a2, e1, e2 = by_hand()
    drives = {"W1": e1.T @ x / 4, "W2": e2.T @ z1 / 4, "b1": e1.mean(0)[:, None], "b2": e2.mean(0)[:, None]}
    measured = measure(instruments.drive, CIRCUIT, WEIGHTS, TINY)
    assert set(measured) == set(drives)
    for name, expected in drives.items():
        np.testing.assert_allclose(measured[name], expected, atol=1e-13)
    credit = (e2 @ np.asarray(WEIGHTS["W2"])) * (1 - z1**2)  # what backpropagation would have brought
    alignment = measure(instruments.alignment, CIRCUIT, WEIGHTS, TINY)
    assert list(alignment) == ["W1", "W2"]
    assert abs(alignment["W1"] - cosine(drives["W1"], credit.T @ x)) < 1e-13
    assert abs(alignment["W2"] - 1) < 1e-13
    hebbian = measure(instruments.hebbian_alignment, CIRCUIT, WEIGHTS, TINY)
    assert abs(hebbian["W1"] - cosine(drives["W1"], a1.T @ x)) < 1e-13
    assert abs(hebbian["W2"] - cosine(drives["W2"], a2.T @ z1)) < 1e-13
    norms = instruments.weight_norms(WEIGHTS)
    assert all(abs(norms[name] - np.sqrt(np.sum(np.asarray(w) ** 2))) < 1e-13 for name, w in WEIGHTS.items())


@pytest.mark.parametrize("name", ["depth-2-relu", "depth-3-tanh"])
def test_the_alignment_of_gradient_descent_is_one(name):
    problem = PROBLEMS[name]
    circuit = SGD().wire(problem.network)
    alignment = measure(instruments.alignment, circuit, random_weights(circuit), problem)
    assert set(alignment) == {edge[2] for edge in problem.network.edges()}
    assert all(abs(value - 1) < 1e-12 for value in alignment.values())


def test_a_cosine_with_nothing_is_zero():
    assert instruments.cosine(f64([0.0, 0.0]), f64([1.0, 2.0])) == 0
    assert abs(instruments.cosine(f64([1.0, 0.0]), f64([-1.0, 1.0])) + np.sqrt(0.5)) < 1e-15


def test_feedback_mismatch_pairs_each_feedback_with_its_forward_matrix():
    problem = random_problem((3, 4, 3, 2), bias=True, skips=((1, 3),))
    circuit = KP(f64(1.0)).wire(problem.network)
    weights = random_weights(circuit)
    pairs = {"V2": "W2", "V3": "W3", "V1_3": "S1_3"}
    expected = {v: np.linalg.norm(np.asarray(weights[v]) - np.asarray(weights[w]).T) for v, w in pairs.items()}
    measured = instruments.feedback_mismatch(circuit, weights)
    assert set(measured) == set(pairs) and all(abs(measured[v] - expected[v]) < 1e-13 for v in pairs)
    assert instruments.feedback_mismatch(SGD().wire(problem.network), weights) == {}


# Conserved charges


def test_charges_by_hand():
    problem = random_problem((2, 3, 2), activation="linear", bias=True)
    circuit = Curl(SGD(), f64(0.5)).wire(problem.network)
    weights = {name: np.asarray(w) for name, w in random_weights(circuit).items()}
    signs = np.array([-1, 1]), np.array([-1, -1, 1])  # half of 2 and of 3 (rounded to even) neurons are flipped
    expected = []
    for i in range(3):
        incoming = sum(signs[0][j] * weights["W1"][i, j] ** 2 for j in range(2)) + weights["b1"][i, 0] ** 2
        expected.append(incoming - signs[1][i] * sum(weights["W2"][k, i] ** 2 for k in range(2)))
    measured = instruments.charges(circuit, random_weights(circuit))
    assert list(measured) == ["z1"]
    np.testing.assert_allclose(measured["z1"], expected, atol=1e-14)


@pytest.mark.parametrize("rule", [SGD(), Curl(SGD(), f64(0.5))], ids=["sgd", "curl"])
def test_the_flow_conserves_the_charges_of_relu_units(rule):
    problem = random_problem((2, 3, 3, 2), activation="relu", bias=True, skips=((0, 2),))
    circuit = rule.wire(problem.network)
    before = random_weights(circuit)
    after = run(flow(circuit, problem, timescales(plasticity=1.0), clock(0.1, 0.0, 100), "heun"), before, 10)
    charges = [instruments.charges(circuit, weights) for weights in (before, after)]
    assert set(charges[0]) == {"z1", "z2"}
    for name in charges[0]:
        np.testing.assert_allclose(charges[0][name], charges[1][name], atol=1e-5)
    assert np.abs(after["W1"] - before["W1"]).max() > 0.05


def test_feedback_alignment_does_not_conserve_them():
    problem = random_problem((2, 3, 2), activation="linear", bias=False)
    circuit = FA(f64(1.0)).wire(problem.network)
    before = random_weights(circuit)
    after = run(flow(circuit, problem, timescales(plasticity=1.0), clock(0.1, 0.0, 20)), before, 10)
    change = instruments.charges(circuit, after)["z1"] - instruments.charges(circuit, before)["z1"]
    assert np.abs(change).max() > 1e-2


# The tangent kernel


@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_the_tangent_kernel_is_the_rate_at_which_a_sample_removes_its_error(loss):
    """Against a short Euler step on one sample: e . (e_before - e_after) / (h |e|^2)."""
    problem = two_layers(bias=True, loss=loss)
    targets = jax.nn.one_hot(problem.targets.argmax(-1), 2, dtype=jnp.float64) if loss == "softmax" else problem.targets
    circuit, h = FA(f64(1.0)).wire(problem.network), 1e-6
    weights = random_weights(circuit)
    kernel = measure(instruments.tangent_kernel, circuit, weights, problem._replace(targets=targets))
    drive = jax.vmap(lambda x, y: instruments.drive(circuit, weights, {}, x[None], y[None]))
    drives = jax.jit(drive)(problem.inputs, targets)

    def error(w, x, y):
        z = oracles.forward(problem.network, w, x[None])[0]
        return y - (jax.nn.softmax(z) if loss == "softmax" else z)

    @jax.jit
    @jax.vmap
    def rate(x, y, drive):
        before = error(weights, x, y)
        after = error(weights | {name: weights[name] + h * d for name, d in drive.items()}, x, y)
        return jnp.sum(before * (before - after)) / (h * jnp.sum(before**2))

    np.testing.assert_allclose(kernel, rate(problem.inputs, targets, drives), rtol=1e-4, atol=1e-5)


def test_the_tangent_kernel_of_a_linear_unit_is_the_squared_input():
    """e' = -(|x|^2 + 1) e / tau_plast with a bias."""
    problem = random_problem((3, 2), activation="linear", bias=True)
    circuit = SGD().wire(problem.network)
    kernel = measure(instruments.tangent_kernel, circuit, random_weights(circuit), problem)
    np.testing.assert_allclose(kernel, np.sum(np.asarray(problem.inputs) ** 2, axis=1) + 1, rtol=1e-12)
