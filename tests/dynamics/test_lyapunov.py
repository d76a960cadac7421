"""Lyapunov exponents of systems that have known ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.lyapunov import flow_map, lyapunov_exponents
from tests.problems import f64

RATES = np.array([0.7, 0.1, -0.5, -2.0])
BASIS = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
LINEAR = BASIS @ np.diag(RATES) @ BASIS.T


def exponents(step, start, dt, steps, count, transient):
    find = jax.jit(lambda y: lyapunov_exponents(step, y, f64(dt), steps, count, jax.random.key(5), transient))
    return find(f64(start))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_symmetric_linear_map_has_the_logarithms_of_its_eigenvalues(count):
    matrix = f64(BASIS @ np.diag(np.exp(0.1 * RATES)) @ BASIS.T)
    found = exponents(lambda y: matrix @ y, np.zeros(4), 0.1, 200, count, transient=1000)
    np.testing.assert_allclose(found, RATES[:count], atol=1e-12)


def test_a_linear_field_has_its_eigenvalues_to_fourth_order():
    """A Runge-Kutta step multiplies mode i by the Taylor polynomial of exp(rate dt): the error is rate^5 dt^4 / 120."""
    errors = []
    for dt in (0.2, 0.1):
        step = flow_map(lambda y: f64(LINEAR) @ y, f64(dt))
        errors.append(np.abs(exponents(step, np.zeros(4), dt, 200, 4, transient=int(100 / dt)) - RATES).max())
    assert errors[1] < 2 * 2**5 * 0.1**4 / 120 and 12 < errors[0] / errors[1] < 22


def test_a_shrinking_rotation_shrinks_all_directions_alike():
    turn = f64([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    found = exponents(lambda y: 0.9 * turn @ y, np.ones(2), 2.0, 100, 2, transient=0)
    np.testing.assert_allclose(found, np.log(0.9) / 2, atol=1e-12)


def test_lorenz():
    """sigma = 10, rho = 28, beta = 8/3: (0.906, 0, -14.57); the sum is -(sigma + 1 + beta), the field's divergence."""

    def lorenz(v):
        x, y, z = v
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    found = exponents(flow_map(lorenz, f64(0.01)), [1.0, 1.0, 20.0], 0.01, 30_000, 3, transient=1000)
    np.testing.assert_allclose(found, [0.906, 0.0, -14.57], atol=0.04)
    assert abs(found.sum() + 10 + 1 + 8 / 3) < 1e-3


def henon(y):
    return jnp.stack([1 - 1.4 * y[0] ** 2 + y[1], 0.3 * y[0]])


def test_the_average_goes_on_where_the_transient_ended():
    """Steps 1 to 7 and, after a transient of 7, steps 8 to 20 make up steps 1 to 20: one trajectory, one frame."""
    first, rest, whole = (
        exponents(henon, [0.3, -0.2], 0.5, steps, 2, transient) for steps, transient in ((7, 0), (13, 7), (20, 0))
    )
    np.testing.assert_allclose((7 * first + 13 * rest) / 20, whole, atol=1e-10)
    assert np.abs(first - rest).max() > 0.1


def test_the_transient_leads_to_the_state_that_is_averaged_at():
    """y -> sqrt(y) ends at 1, where its slope is 1/2, from wherever it starts."""
    found = exponents(jnp.sqrt, [1e4], 2.0, 10, 1, transient=60)
    np.testing.assert_allclose(found, np.log(0.5) / 2, atol=1e-12)


@pytest.mark.parametrize("count", [0, 4])
def test_an_impossible_count_is_refused(count):
    with pytest.raises(PlasticodeError, match=f"count = {count}: it must be between 1 and 3"):
        lyapunov_exponents(lambda y: y, f64(np.ones(3)), f64(1.0), 1, count, jax.random.key(0))
