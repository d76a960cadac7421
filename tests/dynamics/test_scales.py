"""Probes of very small and very large networks: float32 at scales of 1e-30 to 1e30 against float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.circuit import Circuit, Dense, Error, Given, Layer, Projection, TwoFactor
from dynamics.jacobian import curl_index
from dynamics.lyapunov import lyapunov_exponents
from dynamics.moment import Factors, Product
from dynamics.network import Network
from dynamics.norms import cosine, norm, scale, scaled
from dynamics.overlap import overlap
from dynamics.plasticity import weight_drifts
from dynamics.timescales import Timescales
from rules import FA, KP, SGD, Curl
from tests.problems import TINY, clock, discrete, f64, random_problem, random_weights, run, timescales

SCALES = [1e-30, 1e-22, 1.0, 1e22, 1e30]
RANDOM = np.random.default_rng(5)
U, V = RANDOM.normal(size=(2, 6, 6))


def f32(value) -> jax.Array:
    return jnp.asarray(value, jnp.float32)


def single(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


@pytest.mark.parametrize("size", SCALES)
def test_norms_and_cosines_know_no_scale(size):
    assert abs(float(norm(f32(size * U))) / size / np.linalg.norm(U) - 1) < 1e-6
    expected = np.sum(U * V) / np.linalg.norm(U) / np.linalg.norm(V)
    for other in (size, 1 / size):
        assert abs(float(cosine(f32(size * U), f32(other * V))) - expected) < 1e-6
    antisymmetric, symmetric = (np.linalg.norm(U - U.T), np.linalg.norm(U + U.T))
    assert abs(float(curl_index(f32(size * U))) - antisymmetric / symmetric) < 1e-6


def test_scaling_rounds_nothing():
    """So that all that lies in the usual range keeps its last digit."""
    for x in (U, 1e-3 * U, 1e7 * U):
        power = float(scale(f64(x)))
        assert np.log2(power) == round(np.log2(power)) and 1 <= np.abs(x).max() / power < 2
        assert (np.asarray(scaled(f64(x))) * power == x).all()


@pytest.mark.parametrize("measure", [norm, lambda x: cosine(x, f32([1.0, 2.0])), lambda x: cosine(x, x)])
def test_nothing_has_a_norm_of_zero_and_a_gradient_of_zero(measure):
    value, slope = jax.value_and_grad(measure)(f32([0.0, 0.0]))
    assert value == 0 and not slope.any()


def test_the_gradients_of_norm_and_cosine():
    for size in (1e-30, 1.0, 1e30):
        np.testing.assert_allclose(jax.grad(norm)(f32(size * U)), U / np.linalg.norm(U), rtol=1e-5, atol=1e-6)
        truth = jax.grad(lambda u: jnp.sum(u * f64(V)) / jnp.linalg.norm(u) / jnp.linalg.norm(f64(V)))(f64(U))
        measured = size * jax.grad(lambda u: cosine(u, f32(V)))(f32(size * U))
        np.testing.assert_allclose(measured, truth, rtol=1e-4, atol=1e-6)


def test_what_is_not_finite_stays_so():
    assert np.isinf(norm(f32([1.0, np.inf]))) and np.isnan(norm(f32([1.0, np.nan])))
    assert np.isnan(cosine(f32([1.0, np.nan]), f32([1.0, 1.0])))


@pytest.mark.parametrize("gain", [1e-3, 0.03, 1.0])
@pytest.mark.parametrize("loss", ["squared", "softmax"])
def test_the_alignment_of_gradient_descent_is_one_in_deep_networks_of_any_gain(gain, loss):
    """The squared norm of the first layer's gradient is about gain^16 squared: 1e-96 here."""
    network = Network((5, *8 * (6,), 3), bias=False, loss=loss, gain=f64(gain))
    problem = random_problem((5, 3), loss=loss)
    circuit = SGD().wire(network)
    weights, inputs, targets = single((circuit.initial_weights(jax.random.key(1)), problem.inputs, problem.targets))
    aligned = eqx.filter_jit(instruments.alignment)(circuit, weights, {}, inputs, targets)
    assert len(aligned) == 9
    assert all(abs(value - 1) < 1e-4 for value in aligned.values()), aligned


@pytest.mark.parametrize("size", SCALES)
@pytest.mark.parametrize("probe", ["alignment", "hebbian_alignment"])
def test_alignments_of_small_and_large_signals(probe, size):
    """Inputs and targets `size` times as large: all signals become so too, and directions stay."""
    problem = random_problem((5, 4, 3), activation="linear", bias=False)
    circuit = FA(f64(1.0)).wire(problem.network)
    weights = random_weights(circuit)
    measure = eqx.filter_jit(getattr(instruments, probe))
    expected = measure(circuit, weights, {}, problem.inputs, problem.targets)
    measured = measure(circuit, single(weights), {}, *single((size * problem.inputs, size * problem.targets)))
    for name, value in expected.items():
        assert abs(float(measured[name]) - float(value)) < 1e-5, name


@pytest.mark.parametrize("size", SCALES)
def test_the_tangent_kernel_of_small_and_large_errors(size):
    """Errors are `size` times as large where targets and weights are; K = |x|^2 of a linear unit does not see it."""
    problem = random_problem((3, 2), activation="linear", bias=False)
    circuit = SGD().wire(problem.network)
    weights = {name: size * w for name, w in random_weights(circuit).items()}
    measured = instruments.tangent_kernel(
        circuit, single(weights), {}, *single((problem.inputs, size * problem.targets))
    )
    np.testing.assert_allclose(measured, np.sum(np.asarray(problem.inputs) ** 2, axis=1), rtol=1e-5)


def test_a_sample_without_an_error_has_no_tangent_kernel():
    problem = random_problem((3, 2), activation="linear", bias=False)
    circuit = SGD().wire(problem.network)
    weights = random_weights(circuit)
    right = instruments.predict(circuit, weights, problem.inputs)
    assert not instruments.tangent_kernel(circuit, weights, {}, problem.inputs, right).any()


@pytest.mark.parametrize("size", SCALES)
def test_norms_and_mismatch_of_weights(size):
    circuit = KP(f64(1.0)).wire(TINY.network)
    weights = random_weights(circuit)
    small = {name: f32(size * np.asarray(w)) for name, w in weights.items()}
    for name, value in instruments.weight_norms(small).items():
        assert abs(float(value) / size / np.linalg.norm(weights[name]) - 1) < 1e-6
    expected = np.linalg.norm(np.asarray(weights["V2"]) - np.asarray(weights["W2"]).T)
    assert abs(float(instruments.feedback_mismatch(circuit, small)["V2"]) / size / expected - 1) < 1e-6


@pytest.mark.parametrize("size", SCALES)
def test_the_overlap_of_small_and_large_waveforms(size):
    post, pre = RANDOM.normal(size=(2, 40, 3))
    expected = np.linalg.norm(post.T @ pre) / np.linalg.norm(post) / np.linalg.norm(pre)
    assert abs(float(overlap(f32(size * post), f32(pre / size))) - expected) < 1e-6
    assert abs(float(overlap(f32(size * post), f32(size * pre))) - expected) < 1e-6
    assert overlap(f32(0 * post), f32(pre)) == 0


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_a_clamp_holds_matrices_of_any_size(size):
    post, pre, w = f32([1.0, -2.0]), f32([0.5, 1.0, 3.0]), RANDOM.normal(size=(2, 3))
    layers = Layer("x", 3, role="input", level=0), Layer("y", 2, role="output")
    held = Dense(Given(f32(w)), holds_norm=True)
    circuit = Circuit(layers, (Projection("W", "x", "activity", "y", "forward", held, TwoFactor(Error())),))
    times = Timescales(f32(1.0), f32(1.0))
    drift = weight_drifts(circuit, times, {"W": f32(size * w)}, Factors({"W": Product(post, pre)}, {}))["W"]
    free = np.outer(post, pre)
    np.testing.assert_allclose(drift, free - w * np.sum(free * w) / np.sum(w * w), rtol=1e-5, atol=1e-5)
    problem = random_problem((4, 5, 2))
    circuit = Curl(flips=f64(0.5), clamp=True).wire(problem.network)
    weights = {name: np.asarray(w) * size for name, w in random_weights(circuit).items()}
    end = run(discrete(circuit, problem, timescales(plasticity=100.0 / min(size, 1.0)), clock(0.1)), weights, 1)
    for name in ("W1", "W2"):
        assert abs(norm(f32(end[name])) / norm(f32(weights[name])) - 1) < 1e-5


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lyapunov_exponents_of_steep_maps(size):
    """x <- A x at rest, A diagonal: the exponents are the logarithms of its largest entries."""
    entries = f32(size * np.array([1.0, 0.5, 0.25]))
    rest, key = f32([0.0, 0.0, 0.0]), jax.random.key(0)
    measured = lyapunov_exponents(lambda x: entries * x, rest, f32(1.0), steps=20, count=2, key=key, transient=30)
    np.testing.assert_allclose(measured, np.log(size * np.array([1.0, 0.5])), rtol=1e-5)
