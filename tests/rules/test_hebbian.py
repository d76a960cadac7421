"""Fixed points of the Hebbian rules: Oja's principal component, BCM's selectivity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.errors import PlasticodeError
from rules import BCM, Hebbian, Oja
from tests.problems import TINY, Problem, clock, f64, flow, random_problem, random_weights, run, stream, timescales


def linear_units(inputs, outputs):
    """Linear units without biases on unsupervised data."""
    network = random_problem((inputs.shape[1], outputs), bias=False, supervised=False, activation="linear").network
    return Problem(network, inputs, jnp.zeros((len(inputs), 1)))


# ------------------------------------------------------------------------------------------------------------------ Oja


@pytest.fixture(scope="module")
def elongated():
    """40 samples of a Gaussian with standard deviations 2, 1, 0.5 along its axes, for two linear units."""
    samples = jax.random.normal(jax.random.key(5), (40, 3), jnp.float64) * f64([[2.0, 1.0, 0.5]])
    return linear_units(samples, outputs=2)


def leading_eigenvector(inputs):
    return np.linalg.eigh(np.asarray(inputs).T @ np.asarray(inputs) / len(inputs))[1][:, -1]


def test_oja_flows_to_the_leading_eigenvector_with_unit_norm(elongated):
    circuit = Oja().wire(elongated.network)
    end = run(flow(circuit, elongated, timescales(), clock(0.02)), random_weights(circuit), 2000)["W1"]
    np.testing.assert_allclose(jnp.linalg.norm(end, axis=1), 1, atol=1e-10)
    np.testing.assert_allclose(np.abs(end @ leading_eigenvector(elongated.inputs)), 1, atol=1e-10)


def test_oja_finds_the_leading_eigenvector_in_the_coupled_regime(elongated):
    """One sample after the other, at T/tau_plast = 1e-3: up to fluctuations of order sqrt(T/tau_plast) = 0.03."""
    circuit = Oja().wire(elongated.network)
    coupled = Coupled(circuit, timescales(0.002, plasticity=50.0), stream(elongated), clock(0.05, steps=50))
    end = run(coupled, random_weights(circuit), 10_000)["W1"]
    norms = jnp.linalg.norm(end, axis=1)
    np.testing.assert_allclose(norms, 1, atol=0.05)
    assert (np.abs(end @ leading_eigenvector(elongated.inputs)) / norms > 0.995).all()


# ------------------------------------------------------------------------------------------------------------------ BCM


def orthogonal_patterns(count):
    """Orthonormal patterns for one linear unit, and weights that prefer the first a little."""
    patterns = jnp.linalg.qr(jax.random.normal(jax.random.key(6), (count, count), jnp.float64))[0]
    preference = f64(np.linspace(0.6, 0.4, count))
    return linear_units(patterns, outputs=1), {"W1": (preference @ patterns)[None, :]}


@pytest.mark.parametrize("count", [2, 3])
def test_bcm_selects_one_of_orthogonal_patterns(count):
    """The response to pattern i, z_i = w . x_i, obeys tau z_i' = z_i (z_i - theta) / n, theta = sum_i z_i^2 / n.

    Selective fixed point: z_1 = theta = z_1^2 / n, so z_1 = n, and all other z_i = 0. It is stable: z_i decays at
    rate theta / n = 1 / tau_plast, and so does z_1 - n, as theta moves twice as fast as z_1.
    """
    problem, weights = orthogonal_patterns(count)
    circuit = BCM(threshold_timescale=f64(0.1)).wire(problem.network)
    end = run(flow(circuit, problem, timescales(), clock(0.02)), weights, 3000)["W1"][0]
    np.testing.assert_allclose(problem.inputs @ end, [count] + [0] * (count - 1), atol=1e-8)


def test_bcm_selects_a_pattern_in_the_coupled_regime():
    """T << threshold_timescale << tau_plast; up to corrections of order tau_prop/T = 0.05."""
    problem, weights = orthogonal_patterns(2)
    circuit = BCM(threshold_timescale=f64(0.5)).wire(problem.network)
    coupled = Coupled(circuit, timescales(0.0005, plasticity=20.0), stream(problem), clock(0.01, steps=40))
    end = run(coupled, weights, 30_000)["W1"][0]
    np.testing.assert_allclose(problem.inputs @ end, [2, 0], atol=0.2)


def test_an_unknown_readout_is_refused():
    with pytest.raises(PlasticodeError, match="rule.readout 'delt' is not known.*did you mean 'delta'"):
        Hebbian(readout="delt").wire(TINY.network)
