"""Settled variables of circuits with cycles, against closed forms and against the coupled regime."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.circuit import Circuit, Error, Gaussian, Given, Layer, Projection, TwoFactor
from dynamics.discrete import Discrete
from dynamics.network import Network
from dynamics.settle import Outside, settle
from rules import FA, SGD, Heterosynaptic
from tests.problems import clock, f64, flow_drift, random_problem, random_weights, run, stream, timescales

PROBLEM = random_problem((3, 4, 2), activation="linear", bias=True)
predict = eqx.filter_jit(instruments.predict)


def with_lateral(matrix, problem=PROBLEM, rule=None):
    """A rule's circuit with lateral connections in its hidden layer, and random weights."""
    circuit = (rule or SGD()).wire(problem.network)
    lateral = Projection("L1", "z1", "activity", "z1", "forward", Given(f64(matrix)))
    circuit = Circuit(circuit.layers, (*circuit.projections, lateral))
    return circuit, random_weights(circuit)


def lateral(strength, dtype=np.float64):
    """`strength` times random connections with a spectral radius of 1."""
    matrix = np.random.default_rng(3).normal(size=(4, 4))
    return (strength * matrix / np.abs(np.linalg.eigvals(matrix)).max()).astype(dtype)


def closed_form(weights, matrix, x):
    """W2 (I - L)^-1 (W1 x + b1) + b2 for every row of x."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    hidden = np.linalg.solve(np.eye(len(matrix)) - matrix, w["W1"] @ np.asarray(x).T + w["b1"])
    return (w["W2"] @ hidden + w["b2"]).T


INHIBITION = -5.0 * (np.ones((4, 4)) - np.eye(4))  # eigenvalues -15 and 5: unstable
UNIFORM = -np.ones((4, 4))
ROTATION = 6.0 * np.kron(np.eye(2), [[0, -1], [1, 0]])  # an undamped oscillator beside the leak


SETTLING = {"0.97": 0.97 * np.eye(4), "0.9": lateral(0.9), "-40": 10 * UNIFORM, "-200": 50 * UNIFORM, "6i": ROTATION}


@pytest.mark.parametrize("matrix", SETTLING.values(), ids=SETTLING)
def test_a_linear_circuit_settles_at_its_closed_form(matrix):
    circuit, weights = with_lateral(matrix)
    measured = predict(circuit, weights, PROBLEM.inputs)
    np.testing.assert_allclose(measured, closed_form(weights, matrix, PROBLEM.inputs), rtol=1e-11, atol=1e-12)


def test_float32_settles_to_its_own_rounding():
    circuit, weights = with_lateral(lateral(0.9))
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (weights, PROBLEM.inputs))
    measured = np.asarray(predict(circuit, *single))
    expected = closed_form(weights, lateral(0.9), PROBLEM.inputs)
    assert measured.dtype == np.float32
    assert np.abs(measured - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("matrix", [INHIBITION, lateral(1.5) ** 2], ids=["unstable", "excitation"])
def test_what_does_not_settle_has_no_prediction(matrix):
    assert np.linalg.eigvals(matrix).real.max() > 1  # (I - L)^-1 exists, and the circuit leaves it
    circuit, weights = with_lateral(matrix)
    one = PROBLEM.inputs[:1], PROBLEM.targets[:1]
    assert np.isnan(predict(circuit, weights, one[0])).all()
    for instrument in (instruments.loss, instruments.accuracy):
        assert np.isnan(eqx.filter_jit(instrument)(circuit, weights, *one))


def test_an_unstable_cycle_of_two_layers_has_no_prediction_either():
    """The product of both matrices, s^2 = -5 + 12i with s = 2 + 3i, would settle if one layer waited for the other."""
    a, b = -5.0, 12.0
    layers = (Layer("x", 2, role="input", level=0), Layer("u", 2), Layer("v", 2))
    projections = (
        Projection("W", "x", "activity", "u", "forward", Given(f64(np.eye(2)))),
        Projection("A", "u", "activity", "v", "forward", Given(f64(np.eye(2)))),
        Projection("B", "v", "activity", "u", "forward", Given(f64([[a, -b], [b, a]]))),
    )
    circuit = Circuit(layers, projections)
    weights = circuit.initial_weights(jax.random.key(0))
    assert np.isnan(predict(circuit, weights, f64([[1.0, 0.0]]))).all()
    calm = weights | {"B": weights["B"] / 20}
    expected = np.linalg.solve(np.eye(2) - np.asarray(calm["B"]), [1.0, 0.0])
    np.testing.assert_allclose(predict(circuit, calm, f64([[1.0, 0.0]]))[0], expected, rtol=1e-12)


def test_a_nonlinear_circuit_settles_where_the_coupled_regime_does():
    """dz/dt = -z + tanh(...) by 4000 steps of Euler from silence."""
    problem = random_problem((3, 4, 2), activation="tanh", bias=True)
    matrix = lateral(2.0)
    circuit, weights = with_lateral(matrix, problem)
    w = {name: np.asarray(value) for name, value in weights.items()}
    z = np.zeros((4, len(problem.inputs)))
    for _ in range(4000):
        z = z + 0.05 * (-z + np.tanh(w["W1"] @ np.asarray(problem.inputs).T + w["b1"] + matrix @ z))
    settled = np.abs(-z + np.tanh(w["W1"] @ np.asarray(problem.inputs).T + w["b1"] + matrix @ z)).max(0) < 1e-12
    assert settled.any()
    measured = np.asarray(predict(circuit, weights, problem.inputs))
    np.testing.assert_allclose(measured[settled], (w["W2"] @ z + w["b2"]).T[settled], atol=1e-10)


def test_gradients_are_those_of_the_closed_form():
    matrix = lateral(0.8)
    circuit, weights = with_lateral(matrix)
    y = PROBLEM.targets

    def expected(w):
        hidden = jnp.linalg.solve(jnp.eye(4) - w["L1"], w["W1"] @ PROBLEM.inputs.T + w["b1"])
        return 0.5 * jnp.square(y - (w["W2"] @ hidden + w["b2"]).T).sum(-1).mean()

    def measured(w):
        return instruments.loss(circuit, w, PROBLEM.inputs, y)

    along = jax.tree.map(jnp.ones_like, weights)

    def slopes(of):
        """In reverse and in forward mode, and those of slopes."""
        forward = lambda w: jax.jvp(of, (w,), (along,))[1]  # noqa: E731
        return jax.jit(lambda w: (jax.grad(of)(w), forward(w), jax.jvp(jax.grad(of), (w,), (along,))[1]["L1"]))(weights)

    (reverse, forward, curvature), (truth, *rest) = slopes(measured), slopes(expected)
    for name in ("W1", "b1", "W2", "b2", "L1"):
        np.testing.assert_allclose(reverse[name], truth[name], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(forward, rest[0], rtol=1e-9)
    np.testing.assert_allclose(curvature, rest[1], rtol=1e-8, atol=1e-10)


def test_errors_settle_on_cycles_too():
    """e = V2 e2 + R e has the closed form (I - R)^-1 V2 e2."""
    circuit = FA(f64(1.0)).wire(PROBLEM.network)
    recurrent = lateral(0.7)
    loop = Projection("R", "z1", "error", "z1", "modulatory", Given(f64(recurrent)))
    circuit = Circuit(circuit.layers, (*circuit.projections, loop))
    weights = random_weights(circuit)
    drives = eqx.filter_jit(instruments.drive)(circuit, weights, {}, PROBLEM.inputs, PROBLEM.targets)
    e2 = PROBLEM.targets - predict(circuit, weights, PROBLEM.inputs)
    e1 = np.linalg.solve(np.eye(4) - recurrent, np.asarray(weights["V2"] @ e2.T)).T
    np.testing.assert_allclose(drives["W1"], e1.T @ np.asarray(PROBLEM.inputs) / len(e1), rtol=1e-11, atol=1e-12)


def test_every_instrument_runs_on_a_recurrent_circuit():
    circuit, weights = with_lateral(lateral(0.5))
    known = circuit, weights, {}, PROBLEM.inputs, PROBLEM.targets
    hebbian, aligned = (eqx.filter_jit(of)(*known) for of in (instruments.hebbian_alignment, instruments.alignment))
    kernel = eqx.filter_jit(instruments.tangent_kernel)(*known)
    assert set(hebbian) == {"W1", "W2"}
    assert abs(aligned["W2"] - 1) < 1e-12 and 0 < aligned["W1"] < 1 - 1e-6  # the credit does not pass the lateral path
    assert np.isfinite(kernel).all() and (kernel > 0).any()


def test_discrete_updates_of_a_circuit_with_a_cycle_are_euler_steps_of_its_flow():
    circuit, weights = with_lateral(lateral(0.5))
    one = PROBLEM._replace(inputs=PROBLEM.inputs[:1], targets=PROBLEM.targets[:1])
    drift = flow_drift(circuit, weights, one, timescales(plasticity=2.0))
    end = run(Discrete(circuit, timescales(plasticity=2.0), stream(one), clock(0.1)), weights, 1)
    for name, d in drift.items():
        np.testing.assert_allclose(end[name] - weights[name], 0.1 * d, rtol=1e-12, atol=1e-15)
    assert np.abs(drift["W1"]).max() > 1e-2


def test_an_output_that_depends_on_errors_is_predicted_with_silent_errors():
    """Errors that drive activities, as in predictive coding, used to leave the output without a value."""
    law, one = TwoFactor(Error()), Gaussian(f64(1.0))
    layers = (Layer("x", 3, role="input", level=0), Layer("h", 4), Layer("y", 2, role="output", level=2))
    projections = (
        Projection("W1", "x", "activity", "h", "forward", one, law),
        Projection("W2", "h", "activity", "y", "forward", one, law, level=2),
        Projection("V", "y", "error", "h", "modulatory", one),
        Projection("E", "y", "error", "h", "forward", one),
    )
    circuit = Circuit(layers, projections)
    weights = circuit.initial_weights(jax.random.key(0))
    expected = PROBLEM.inputs @ weights["W1"].T @ weights["W2"].T
    np.testing.assert_allclose(predict(circuit, weights, PROBLEM.inputs), expected, rtol=1e-12)


def test_a_feedforward_circuit_is_evaluated_once():
    circuit = Heterosynaptic(f64(1.0), feedback_units=5).wire(Network((3, 4, 2), gain=f64(1.0)))
    weights = random_weights(circuit)

    def errors(w, x, y):
        moment = settle(circuit, w, {}, Outside(x, y))
        return [moment.value(layer, "error") for layer in circuit.layers if layer.name in circuit.with_errors]

    program = str(jax.make_jaxpr(errors)(weights, f64(np.ones(3)), f64([0, 1])))
    assert "while" not in program and "custom_root" not in program and program.count("tanh") <= 2


def test_derivatives_ask_for_no_decomposition():
    """Of batches, on several CPU devices, jaxlib's can wait forever."""
    circuit, weights = with_lateral(lateral(0.5))

    def squares(w, x):
        return jnp.sum(instruments.predict(circuit, w, x) ** 2)

    program = jax.jit(jax.vmap(jax.grad(squares), in_axes=(None, 0))).lower(weights, PROBLEM.inputs[:, None])
    assert "lapack" not in program.as_text()


def test_a_deep_network_is_no_deep_recursion():
    """All weights are 1: x reaches the output, and its error every one of 40 layers."""
    circuit = SGD().wire(Network((1,) * 41, "linear", bias=False))
    weights = {p.name: f64([[1.0]]) for p in circuit.plastic}
    found = settle(circuit, weights, {}, Outside(f64([0.25]), f64([1.0]))).factors()
    assert {(float(m[0]), float(p[0])) for m, p, _ in found.products.values()} == {(0.75, 0.25)}
