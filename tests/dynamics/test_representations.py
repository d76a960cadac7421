"""Ranks, dimensions and likeness of representations: known singular values, variances and subspaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.representations import activities, cka, cka_between, effective_rank, effective_ranks, participation_ratio
from dynamics.spectra import largest_eigenvalue, singular_values
from rules import FA
from tests import oracles
from tests.problems import TINY, f64, random_weights

DRAWN = np.random.default_rng(0)
ORTHOGONAL = np.linalg.qr(DRAWN.normal(size=(9, 9)))[0]
SIZES = {"float32": (1e-35, 1e-20, 1.0, 1e20, 1e35), "float64": (1e-300, 1.0, 1e300)}


@pytest.mark.parametrize("shape", [(5, 3), (3, 4), (7, 7), (1, 4), (1, 1)], ids=str)
def test_singular_values_are_those_of_numpy(shape):
    """Many at once; of low rank, of equal values, of none."""
    low = np.outer(DRAWN.normal(size=shape[0]), DRAWN.normal(size=shape[1]))
    matrices = np.stack([DRAWN.normal(size=shape), low, 0 * low, np.ones(shape), np.eye(*shape)])
    expected = np.linalg.svd(matrices, compute_uv=False)
    found = jax.jit(jax.vmap(singular_values))
    np.testing.assert_allclose(found(f64(matrices)), expected, atol=1e-13 * expected.max())
    np.testing.assert_allclose(found(jnp.asarray(matrices, jnp.float32)), expected, atol=3e-6 * expected.max())


@pytest.mark.parametrize("dtype", SIZES)
def test_the_effective_rank_of_known_singular_values(dtype):
    """exp of their entropy, for matrices of any size; 0 for none."""
    rank, few = jax.jit(effective_rank), np.array([4.0, 2.0, 1.0, 1.0])
    p = few / few.sum()
    turned = ORTHOGONAL[:, :4] * few @ ORTHOGONAL[:4, :4].T @ np.linalg.inv(ORTHOGONAL[:4, :4].T)
    close = 1e-5 if dtype == "float32" else 1e-12
    for size in SIZES[dtype]:
        for matrix, expected in ((turned, np.exp(-(p * np.log(p)).sum())), (ORTHOGONAL[:5], 5), (np.ones((3, 6)), 1)):
            assert abs(float(rank(jnp.asarray(size * matrix, dtype))) - expected) < close * expected
    assert rank(jnp.zeros((3, 4), dtype)) == 0


@pytest.mark.parametrize("dtype", SIZES)
def test_the_participation_ratio_of_known_variances(dtype):
    """Of c_i along orthogonal directions (sum c)^2 / sum c^2, wherever the mean is; more units than samples too."""
    n, c = 8, np.array([4.0, 1.0, 1.0])
    helmert = np.linalg.qr(np.column_stack([np.ones(n), DRAWN.normal(size=(n, 5))]))[0][:, 1:]
    spread = helmert[:, :3] * np.sqrt(c) @ ORTHOGONAL[:3]  # 8 samples of 9 units
    ratio = jax.jit(participation_ratio)
    for size in SIZES[dtype]:
        for activity, expected in ((spread, 36 / 18), (helmert[:, :4] + 3.0, 4), (helmert[:, :1], 1)):
            close = 1e-5 if dtype == "float32" else 1e-12
            assert abs(float(ratio(jnp.asarray(size * activity, dtype))) - expected) < close * expected
    assert ratio(jnp.full((4, 3), 0.3, dtype)) == 0


@pytest.mark.parametrize("dtype", SIZES)
def test_linear_cka_of_known_subspaces(dtype):
    """Of k orthonormal directions and j of them sqrt(j / k); 1 for what is rotated or scaled, 0 for what is apart."""
    u = np.linalg.qr(np.column_stack([np.ones(8), DRAWN.normal(size=(8, 5))]))[0][:, 1:]
    likeness = jax.jit(cka)
    close = 1e-5 if dtype == "float32" else 1e-12
    rotation = np.linalg.qr(DRAWN.normal(size=(3, 3)))[0]
    for size in SIZES[dtype]:
        for x, y, expected in (
            (u[:, :3], u[:, :2] + 1.0, np.sqrt(2 / 3)),
            (u[:, :3] * [1, 2, 3], u[:, :3] * [1, 2, 3] @ rotation, 1),
            (u[:, :2], u[:, 2:5], 0),
            (u[:, :2], np.ones((8, 2)), 0),
        ):
            measured = float(likeness(jnp.asarray(size * x, dtype), jnp.asarray(y, dtype)))
            assert abs(measured - expected) < close


def test_activities_ranks_and_pairs_of_a_network():
    circuit = FA(f64(1.0)).wire(TINY.network)
    weights = random_weights(circuit)
    found = jax.jit(lambda w: activities(circuit, w, {}, TINY.inputs))(weights)
    hidden = np.tanh(TINY.inputs @ weights["W1"].T + weights["b1"].T)
    np.testing.assert_allclose(found["z1"], hidden, atol=1e-14)
    np.testing.assert_allclose(found["z2"], oracles.forward(TINY.network, weights, TINY.inputs), atol=1e-14)
    assert list(found) == ["z1", "z2"] and list(cka_between(found)) == ["z1_z2"]
    assert set(effective_ranks(circuit, weights)) == {"W1", "W2", "V2"}


@pytest.mark.parametrize("dtype", SIZES)
def test_the_largest_eigenvalue_is_not_that_of_the_largest_modulus(dtype):
    found = jax.jit(lambda matrix: largest_eigenvalue(lambda v: matrix @ v, 3, matrix.dtype))
    basis = np.linalg.qr(DRAWN.normal(size=(3, 3)))[0]
    for values in ((-5.0, 1.0, 0.5), (3.0, -3.0, 1.0), (2.0, 1.9, -1.0), (-1.0, -2.0, -4.0)):
        for size in SIZES[dtype]:
            value = found(jnp.asarray(size * (basis * values @ basis.T), dtype))
            assert abs(float(value) / size - max(values)) < 1e-4
    assert found(jnp.zeros((3, 3), dtype)) == 0
