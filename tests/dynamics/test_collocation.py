"""Collocation in stretched time: quadrature, interpolation and filters against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import pade
from scipy.special import eval_legendre, factorial

from dynamics.integrators import collocation
from dynamics.integrators.collocation import MAX_NODES, STRETCH, abscissae, integration, nodes, times
from tests.problems import f64

# A program per number of nodes, as windows have them, in place of one per operation.
interpolation = jax.jit(collocation.interpolation, static_argnums=1)
leak = jax.jit(collocation.leak, static_argnums=1)
matrix_of = jax.jit(lambda ratio, s: collocation.leak(ratio, s).matrix, static_argnums=1)
ornstein_uhlenbeck = jax.jit(collocation.ornstein_uhlenbeck, static_argnums=1)
lagging = jax.jit(collocation.lagging, static_argnums=2)
filtered, weighted = jax.jit(collocation.filtered), jax.jit(collocation.weighted)

COUNTS = (1, 2, 3, 4, 8, 13, MAX_NODES)
NONE = 0.0  # a stretch that leaves time as it is


def stretched(t):
    """x at a time in [0, 1]."""
    return (np.sqrt((1 - STRETCH) ** 2 + 4 * STRETCH * np.asarray(t)) - (1 - STRETCH)) / (2 * STRETCH)


def test_the_textbook_nodes_and_tableau_without_stretch():
    """Radau IIA of 1, 2 and 3 stages (bibtex: hairer1996solving, table IV.5.6)."""
    np.testing.assert_allclose(integration(1), [[1]])
    np.testing.assert_allclose(abscissae(2, NONE), [1 / 3, 1])
    np.testing.assert_allclose(integration(2, NONE), [[5 / 12, -1 / 12], [3 / 4, 1 / 4]])
    np.testing.assert_allclose(abscissae(3, NONE), [(4 - 6**0.5) / 10, (4 + 6**0.5) / 10, 1])


@pytest.mark.parametrize("s", COUNTS)
def test_nodes_are_stretched_and_constants_are_integrated_up_to_them(s):
    np.testing.assert_allclose(stretched(nodes(s)), abscissae(s), rtol=1e-13)
    np.testing.assert_allclose(integration(s).sum(1), nodes(s), atol=1e-13)


@pytest.mark.parametrize("s", [0, MAX_NODES + 1])
def test_the_number_of_nodes_is_bounded(s):
    with pytest.raises(ValueError, match=f"a window has {s} nodes"):
        nodes(s)


@pytest.mark.parametrize("s", COUNTS)
def test_the_quadrature_is_exact_up_to_degree_2s_minus_2_and_not_beyond(s):
    """Of the stretched time, in Legendre polynomials, as powers are all alike in floating point."""
    weights, x = integration(s)[-1], 2 * abscissae(s) - 1
    found = np.array([weights @ eval_legendre(degree, x) for degree in range(2 * s)])
    exact = [quad(lambda t, d=d: eval_legendre(d, 2 * stretched(t) - 1), 0, 1, epsabs=1e-12)[0] for d in range(2 * s)]
    np.testing.assert_allclose(found[:-1], exact[:-1], atol=1e-12)
    assert abs(found[-1] - exact[-1]) > 0.03


@pytest.mark.parametrize("s", COUNTS)
def test_integrals_up_to_the_nodes_are_exact_for_polynomials_of_degree_s_minus_1(s):
    x, few = abscissae(s), sorted({0, s // 2, s - 1})

    def exact(degree: int, node: int) -> float:
        return quad(lambda t: eval_legendre(degree, 2 * stretched(t) - 1), 0, nodes(s)[node], epsabs=1e-12)[0]

    for degree in (*few, s):
        errors = [integration(s)[i] @ eval_legendre(degree, 2 * x - 1) - exact(degree, i) for i in few]
        assert np.abs(errors).max() < 1e-12 if degree < s else np.abs(errors).max() > 1e-3


@pytest.mark.parametrize("s", COUNTS)
def test_interpolation_is_exact_for_polynomials_of_degree_s(s):
    times = np.random.default_rng(0).uniform(0, 1, 50)
    points, matrix, x = np.concatenate([[0], abscissae(s)]), np.asarray(interpolation(f64(times), s)), stretched(times)
    for degree in range(s + 1):
        values = eval_legendre(degree, 2 * points - 1)
        np.testing.assert_allclose(matrix @ values, eval_legendre(degree, 2 * x - 1), atol=1e-11)
    too_high = matrix @ eval_legendre(s + 1, 2 * points - 1) - eval_legendre(s + 1, 2 * x - 1)
    assert np.abs(too_high).max() > 0.1


@pytest.mark.parametrize("s", COUNTS)
def test_interpolation_at_a_point_picks_that_point(s):
    points = np.concatenate([[0], nodes(s)])
    np.testing.assert_allclose(interpolation(f64(points), s), np.eye(s + 1), atol=1e-12)


# Leaky filters


@pytest.mark.parametrize("s", [1, 2, 3, 5])
@pytest.mark.parametrize("ratio", [0.0, 0.01, 1.0, 30.0, 1e4])
def test_without_stretch_a_leaky_unit_decays_by_the_pade_approximant_of_the_exponential(s, ratio):
    """The stability function of Radau IIA, of degree (s - 1, s)."""
    taylor = 1 / factorial(np.arange(2 * s))
    numerator, denominator = pade(taylor, s, s - 1)
    end = np.linalg.solve(np.eye(s) + ratio * integration(s, NONE), np.ones(s))[-1]
    np.testing.assert_allclose(end, numerator(-ratio) / denominator(-ratio), rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize(("s", "ratio", "tolerance"), [(3, 1.0, 4e-4), (4, 1.0, 1e-5), (6, 1.0, 1e-8), (8, 1.0, 1e-11)])
def test_the_end_of_a_decay_is_right_to_more_digits_with_every_node(s, ratio, tolerance):
    end = np.asarray(filtered(leak(f64(ratio), s), f64([1.0]), f64([[0.0]])))[-1, 0]
    assert abs(end - np.exp(-ratio)) < tolerance


@pytest.mark.parametrize("s", COUNTS)
def test_a_leaky_unit_decays_whatever_its_time_constant(s):
    ends = [np.linalg.solve(np.eye(s) + r * integration(s), np.ones(s))[-1] for r in np.geomspace(1e-3, 1e10, 60)]
    assert np.abs(ends).max() < 1 and abs(ends[-1]) < 1e-8


@pytest.mark.parametrize(
    ("s", "ratio", "tolerance"), [(4, 0.1, 3e-6), (8, 1.0, 1e-9), (12, 5.0, 2e-8), (16, 20.0, 1e-7)]
)
def test_a_leaky_unit_follows_the_exponential(s, ratio, tolerance):
    """z = u + (z0 - u) exp(-t/tau) at all nodes for a constant drive, given in one row or in s rows."""
    start, drive = np.array([0.7, -2.0]), np.array([[1.5, 0.3]])
    exact = drive + (start - drive[0])[None] * np.exp(-ratio * nodes(s))[:, None]
    k = leak(f64(ratio), s)
    for rows in (drive, np.repeat(drive, s, axis=0)):
        np.testing.assert_allclose(filtered(k, f64(start), f64(rows)), exact, atol=tolerance)


def test_a_leaky_unit_follows_a_drive_that_changes():
    """tau z' = -z + t^2 from 0: z = t^2 - 2 tau t + 2 tau^2 (1 - exp(-t/tau))."""
    s, ratio = 12, 3.0
    c, tau = nodes(s), 1 / ratio
    wave = np.asarray(filtered(leak(f64(ratio), s), f64([0.0]), f64(c[:, None] ** 2)))[:, 0]
    np.testing.assert_allclose(wave, c**2 - 2 * tau * c + 2 * tau**2 * (1 - np.exp(-c / tau)), atol=1e-10)


@pytest.mark.parametrize("s", COUNTS)
def test_limits_of_the_leaky_filter(s):
    """An empty window, or tau -> infinity, changes nothing; tau -> 0 lets the drive through, without ringing."""
    assert not np.asarray(matrix_of(f64(0.0), s)).any()
    np.testing.assert_allclose(matrix_of(f64(1e13), s), np.eye(s), atol=1e-8)
    slopes = jax.jacfwd(lambda ratio: matrix_of(ratio, s))(f64(0.0))
    np.testing.assert_allclose(slopes, integration(s), atol=1e-13)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("ratio", [1.3, [0.4, 2.0, 0.0]], ids=["one", "of-each"])
def test_derivatives_of_the_leaky_filter_are_those_of_its_matrix(ratio, rows):
    """K = (1 + ratio A)^-1 ratio A by a library, which differentiates it entry by entry; in both modes, and for several
    numbers at once."""
    rng, a = np.random.default_rng(2), f64(integration(4))
    at = f64(ratio), f64(rng.normal(size=3)), f64(rng.normal(size=(rows, 3)))

    def by_matrix(ratio, start, drive):
        ratios, drive = jnp.broadcast_to(ratio, 3), jnp.broadcast_to(drive, (4, 3))
        k = jnp.linalg.solve(jnp.eye(4)[None] + ratios[:, None, None] * a[None], ratios[:, None, None] * a[None])
        return start[None] + jnp.einsum("nij,jn->in", k, drive - start[None])

    def by_filter(ratio, start, drive):
        return filtered(leak(ratio, 4) if ratio.ndim == 0 else jax.vmap(lambda r: leak(r, 4))(ratio), start, drive)

    @jax.jit
    def all_of_them(*at):
        alone = [jax.jacfwd(by_filter, n)(*at) for n in range(3)]
        together = [mode(by_filter, (0, 1, 2))(*at) for mode in (jax.jacfwd, jax.jacrev)]
        return by_filter(*at), alone, *together, by_matrix(*at), jax.jacfwd(by_matrix, (0, 1, 2))(*at)

    value, *slopes, exact, expected = all_of_them(*at)
    np.testing.assert_allclose(value, exact, atol=1e-14)
    for found in slopes:
        for of, one in zip(found, expected, strict=True):
            np.testing.assert_allclose(of, one, atol=1e-13)


@pytest.mark.parametrize("axes", [(None, 1), (2, None), (0, 2)])
def test_products_of_many_matrices_are_those_of_each(axes):
    rng = np.random.default_rng(3)
    a, b = (f64(rng.normal(size=(5, *shape))) for shape in ((2, 3), (3, 4)))
    given = [x[0] if axis is None else jnp.moveaxis(x, 0, axis) for x, axis in zip((a, b), axes, strict=True)]
    expected = [(a[0 if axes[0] is None else i] @ b[0 if axes[1] is None else i]) for i in range(5)]
    np.testing.assert_allclose(jax.vmap(times, axes)(*given), expected, atol=1e-14)


def test_a_constant_waveform_may_have_one_row():
    matrix, row = np.random.default_rng(1).normal(size=(5, 5)), np.array([[2.0, -1.0, 0.5]])
    np.testing.assert_allclose(weighted(f64(matrix), f64(row)), matrix @ np.repeat(row, 5, axis=0), atol=1e-14)


# Ornstein-Uhlenbeck paths


@pytest.mark.parametrize("s", [1, 4, 16])
@pytest.mark.parametrize("ratio", [1e-6, 0.3, 5.0, 200.0])
def test_ornstein_uhlenbeck_paths_have_the_exact_covariance(s, ratio):
    """exp(-|t - t'|/tau) - exp(-(t + t')/tau) of a path of unit stationary variance that starts at 0."""
    t = nodes(s) * ratio
    exact = np.exp(-np.abs(t[:, None] - t[None])) * -np.expm1(-2 * np.minimum(t[:, None], t[None]))
    root = np.asarray(ornstein_uhlenbeck(f64(ratio), s))
    np.testing.assert_allclose(root @ root.T, exact, rtol=1e-10, atol=1e-16)
    np.testing.assert_array_equal(root, np.tril(root))  # no node knows the draws of later ones


def test_an_ornstein_uhlenbeck_path_over_no_time_stays_at_0():
    assert not np.asarray(ornstein_uhlenbeck(f64(0.0), 6)).any()


def test_a_stage_of_a_lag_is_a_leaky_unit_and_of_a_lag_of_nothing_lets_everything_through():
    """Also in an empty window; that of any other lag does not change there."""
    np.testing.assert_allclose(lagging(f64(0.05), f64(0.02), 12), matrix_of(f64(2.5), 12), rtol=1e-10, atol=1e-14)
    for length in (0.05, 0.0):
        np.testing.assert_array_equal(lagging(f64(length), f64(0.0), 12), np.eye(12))
    np.testing.assert_array_equal(lagging(f64(0.0), f64(0.02), 12), np.zeros((12, 12)))


def test_a_stage_has_a_slope_at_a_lag_of_nothing():
    """K = (lag + H A)^-1 H A gives -(H A)^-1 there."""
    slope = jax.jacfwd(lambda lag: lagging(f64(0.05), lag, 5))(f64(0.0))
    np.testing.assert_allclose(slope, -np.linalg.inv(0.05 * integration(5)), rtol=1e-9)


def test_noise_of_an_empty_window_has_derivatives():
    """A window without length, whose ends move together, has none of either."""
    moved = jax.jacfwd(lambda time: ornstein_uhlenbeck(((time + 0.0) - time) / 0.1, 3))(f64(0.1))
    np.testing.assert_array_equal(moved, np.zeros((3, 3)))
