"""The geometry of vector fields: linear fields with a known Jacobian, weight flows whose Jacobian is a Hessian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dynamics.jacobian import (
    antisymmetric_part,
    curl_index,
    divergence,
    eigenvalues,
    estimated_divergence,
    flat_flow,
    jacobian,
    symmetric_part,
)
from rules import FA, SGD
from tests import oracles
from tests.dynamics.systems import two_layers
from tests.problems import f64, flow, random_weights, timescales

MATRIX = np.random.default_rng(0).normal(size=(6, 6))


def field(y):
    """F_i = sum_j M_ij y_j + y_i^3, so that J = M + 3 diag(y^2)."""
    return f64(MATRIX) @ y + y**3


POINT = np.linspace(-1, 2, 6)
EXACT = MATRIX + 3 * np.diag(POINT**2)


def test_the_jacobian_of_a_known_field():
    np.testing.assert_allclose(jacobian(field, f64(POINT)), EXACT, rtol=1e-13)


def test_the_parts_add_up_and_have_their_symmetry():
    matrix = f64(EXACT)
    symmetric, antisymmetric = symmetric_part(matrix), antisymmetric_part(matrix)
    np.testing.assert_allclose(symmetric + antisymmetric, EXACT, rtol=1e-14)
    np.testing.assert_array_equal(symmetric, symmetric.T)
    np.testing.assert_array_equal(antisymmetric, -antisymmetric.T)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2])
def test_the_curl_index_of_a_rotating_source_is_the_tangent_of_its_angle(angle):
    """J = cos(angle) 1 + sin(angle) R with R a quarter turn."""
    matrix = np.cos(angle) * np.eye(2) + np.sin(angle) * np.array([[0.0, -1.0], [1.0, 0.0]])
    assert abs(curl_index(f64(matrix)) - np.tan(angle)) < 1e-14


def test_divergence_exact_and_estimated():
    exact = divergence(field, f64(POINT))
    assert abs(exact - np.trace(EXACT)) < 1e-12
    mean, standard_error = estimated_divergence(field, f64(POINT), jax.random.key(1), 400)
    assert abs(mean - exact) < 4 * standard_error
    # var(v.Jv) = sum over i != j of J_ij (J_ij + J_ji) for v_i = +-1
    off = EXACT - np.diag(np.diag(EXACT))
    assert standard_error * 20 == pytest.approx(np.sqrt(np.sum(off * (off + off.T))), rel=0.2)


def test_the_estimate_is_exact_for_a_diagonal_jacobian():
    mean, standard_error = estimated_divergence(lambda y: y**3, f64(POINT), jax.random.key(1), 3)
    assert abs(mean - 3 * np.sum(POINT**2)) < 1e-12 and standard_error < 1e-12


def test_eigenvalues_are_sorted_by_real_part():
    blocks = np.zeros((4, 4))
    blocks[0, 0], blocks[3, 3] = -5.0, 2.0
    blocks[1:3, 1:3] = [[-1.0, 3.0], [-3.0, -1.0]]
    np.testing.assert_allclose(eigenvalues(f64(blocks)), [2, -1 + 3j, -1 - 3j, -5], atol=1e-12)


def weight_flow(rule):
    problem = two_layers(activation="tanh", bias=True)
    circuit = rule.wire(problem.network)
    weights = random_weights(circuit)
    regime = flow(circuit, problem, timescales(plasticity=2.0))
    return problem, weights, *flat_flow(regime, regime.init(weights))


def test_the_jacobian_of_a_gradient_flow_is_minus_the_hessian():
    problem, weights, field, vector = weight_flow(SGD())
    flat, restore = ravel_pytree(weights)
    np.testing.assert_array_equal(flat, vector)
    matrix = jax.jit(lambda y: jacobian(field, y))(vector)

    def loss(flat):
        return oracles.loss(problem.network, restore(flat), problem.inputs, problem.targets)

    np.testing.assert_allclose(matrix, -jax.jit(jax.hessian(loss))(flat) / 2, atol=1e-13)  # tau_plast = 2
    assert curl_index(matrix) < 1e-13


def test_feedback_alignment_is_not_a_gradient():
    _, _, field, vector = weight_flow(FA(f64(1.0)))
    matrix = jax.jit(lambda y: jacobian(field, y))(vector)
    assert curl_index(matrix) > 0.05
    assert abs(divergence(field, vector) - jnp.trace(matrix)) < 1e-12
