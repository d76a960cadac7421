"""The weight flow: population moments, the gap's share of time, and its own closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Activity, Circuit, Given, Layer, Projection, TwoFactor
from dynamics.flow import WeightFlow, samples_with_moments
from dynamics.integrators import FixedStep
from dynamics.network import Network
from dynamics.settle import is_cyclic
from rules import SGD
from tests.dynamics.systems import two_layers
from tests.problems import NO_LOOK, Problem, clock, f64, flow, flow_drift, random_weights, run, timescales

RNG = np.random.default_rng(1)


def moments(inputs=3, outputs=2):
    """A joint covariance of inputs and targets of full rank."""
    root = RNG.normal(size=(inputs + outputs, inputs + outputs))
    return root @ root.T


@pytest.mark.parametrize("rank_deficient", [False, True])
def test_samples_have_the_moments_exactly(rank_deficient):
    joint = moments()
    if rank_deficient:  # noiseless linear targets y = A x
        teacher = RNG.normal(size=(2, 3))
        joint[3:, :3] = teacher @ joint[:3, :3]
        joint[:3, 3:] = joint[3:, :3].T
        joint[3:, 3:] = teacher @ joint[:3, :3] @ teacher.T
    x, y = samples_with_moments(f64(joint[:3, :3]), f64(joint[3:, :3]), f64(joint[3:, 3:]))
    together = np.concatenate([x, y], axis=1)
    np.testing.assert_allclose(together.T @ together / len(together), joint, atol=1e-12)
    np.testing.assert_allclose(together.mean(0), 0, atol=1e-12)


def test_the_linear_flow_on_moments_is_that_of_the_population():
    """W1' = W2^T R, W2' = R W1^T with R = S_yx - W2 W1 S_xx; a large gaussian sample agrees within its error."""
    joint = moments()
    network = Network((3, 4, 2), activation="linear", bias=False, gain=f64(1.0))
    circuit = SGD().wire(network)
    weights = random_weights(circuit)
    w1, w2 = np.asarray(weights["W1"]), np.asarray(weights["W2"])
    rest = joint[3:, :3] - w2 @ w1 @ joint[:3, :3]
    x, y = samples_with_moments(f64(joint[:3, :3]), f64(joint[3:, :3]), f64(joint[3:, 3:]))
    drift = flow_drift(circuit, weights, Problem(network, x, y))
    np.testing.assert_allclose(drift["W1"], w2.T @ rest, atol=1e-12)
    np.testing.assert_allclose(drift["W2"], rest @ w1.T, atol=1e-12)
    size = 100_000
    drawn = RNG.multivariate_normal(np.zeros(5), joint, size)
    sampled = flow_drift(circuit, weights, Problem(network, f64(drawn[:, :3]), f64(drawn[:, 3:])))
    error = (drawn[:, 3:] - drawn[:, :3] @ (w2 @ w1).T) @ w2
    for name, post, pre in (("W1", error, drawn[:, :3]),):
        spread = (post[:, :, None] * pre[:, None, :]).std(0) / np.sqrt(size)
        assert (np.abs(sampled[name] - drift[name]) < 5 * spread).all()


def test_a_gap_slows_learning_but_not_decay():
    """W' = T/(T+g) <m p^T>/tau_plast - W/tau_dec."""
    problem = two_layers(bias=False)
    circuit = SGD().wire(problem.network)
    weights = random_weights(circuit)
    drive = flow_drift(circuit, weights, problem)
    regime = flow(circuit, problem, timescales(plasticity=0.5, decay=7.0), clock(0.1, 0.3, 4))
    drift = regime.system({}).drift(regime.init(weights)[:3], None, NO_LOOK)[0]
    for name in drift:
        np.testing.assert_allclose(drift[name], drive[name] / 4 / 0.5 - weights[name] / 7.0, atol=1e-14)


def test_one_presentation_is_one_period_of_time():
    """Decay alone: W shrinks by e^{-(T+g)/tau_dec} per presentation."""
    network = Network((1, 1), activation="linear", bias=False, gain=f64(1.0))
    zeros = jnp.zeros((1, 1), jnp.float64)
    times = timescales(decay=2.0)
    still = flow(SGD().wire(network), Problem(network, zeros, zeros), times, clock(0.1, 0.3, 4), "tsit5")
    end = run(still, {"W1": f64([[3.0]])}, 5)
    assert abs(end["W1"][0, 0] - 3 * np.exp(-5 * 0.4 / 2.0)) < 1e-8


def test_a_flow_in_two_pieces_is_the_flow_in_one():
    problem = two_layers(bias=True)
    circuit = SGD().wire(problem.network)
    regime = WeightFlow(
        circuit, timescales(), problem.inputs, problem.targets, clock(0.1, 0.0, 3), FixedStep(), jax.random.key(1), True
    )
    advance = jax.jit(lambda *arguments: regime.advance(*arguments))
    start = regime.init(random_weights(circuit))
    straight = advance(start, jnp.int32(0), jnp.int32(5))
    resumed = advance(advance(start, jnp.int32(0), jnp.int32(2)), jnp.int32(2), jnp.int32(3))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), straight, resumed))


def test_every_presentation_of_a_flow_has_noise_of_its_own():
    """Nothing is learned at the fixed point: what moves the weights is the noise of each presentation."""
    x = np.random.default_rng(0).normal(size=(40, 2))
    problem = Problem(Network((2, 1), bias=False), f64(x), f64(x @ [[1.0], [-2.0]] + np.cos(9 * x[:, :1])))
    start = f64(np.linalg.lstsq(x, problem.targets, rcond=None)[0].T)
    regime = WeightFlow(
        SGD().wire(problem.network), timescales(plasticity=10.0), problem.inputs, problem.targets, clock(0.1, 0.0, 1),
        FixedStep(), jax.random.key(1), True,
    )  # fmt: skip
    run, weights = regime.init({"W1": start}), [start]
    for k in range(3):
        run = regime.advance(run, jnp.int32(k), jnp.int32(1))
        weights.append(regime.weights(run)["W1"])
    first, second, third = np.diff(np.stack(weights), axis=0)
    for one, other in ((first, second), (second, third), (first, third)):
        assert np.abs(one - other).min() > 0.05 * np.abs(one).max() > 0


def test_a_circuit_with_a_cycle_flows_along_its_fixed_point():
    """u = x w + r v, v = u: with r = 1/2 both settle at 2 w x, so that Hebb's W' = <u x> = 2 W <x^2>."""
    layers = (Layer("z0", 1, role="input", level=0), Layer("u", 1), Layer("v", 1))
    law = TwoFactor(Activity())
    wires = (("W", "z0", "u", 1.0, law), ("forth", "u", "v", 1.0, ()), ("back", "v", "u", 0.5, ()))
    one = f64([[1.0]])
    circuit = Circuit(
        layers, tuple(Projection(n, s, "activity", t, "forward", Given(g * one), rule) for n, s, t, g, rule in wires)
    )
    inputs = f64([[0.5], [-1.5], [1.0]])
    regime = WeightFlow(circuit, timescales(plasticity=1.0), inputs, None, clock(0.05, 0.0, 60), FixedStep("heun"))
    end = regime.advance(regime.init(circuit.initial_weights(jax.random.key(0))), jnp.int32(0), jnp.int32(4))
    assert abs(float(end.weights["W"][0, 0]) / np.exp(2 * float(np.mean(inputs**2)) * 0.2) - 1) < 1e-6
    assert is_cyclic(circuit)
