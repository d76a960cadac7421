"""Limits of delays, lazy training, solvers and features: claims at small settings, closed forms, planted defects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import dynamics.field
import dynamics.system
from dynamics.delays import History
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.kit import f64, wired
from experiments.predictions.limits import LIMITS
from experiments.predictions.limits.delayed import exponent, threshold
from experiments.predictions.limits.delayed_kuramoto import DelayedKuramoto
from experiments.predictions.limits.feature_energy import additions, energy, purity_of
from experiments.predictions.limits.known import LTCSolver
from experiments.predictions.limits.late_feedback import DelayedNoise, LateErrors
from experiments.predictions.limits.lazy_limit import LazyLimit
from experiments.predictions.limits.noise import SCHEMES, ProbabilityFlow, WeakOrder
from experiments.predictions.limits.old_gradients import INTERVAL, DelayedGradient, DelayedUpdates, LagChains
from rules import SGD
from tests.experiments.predictions.verdicts import failed

SMALL = {
    "delayed-gradient": {"levels": (0.2, 1.2)},
    "lag-chains": {"stages": (3,)},
    "late-errors": {"ratios": (0.05, 0.4), "integrators": ("heun",)},
    "delayed-updates": {"late": (0, 2)},
    "delayed-kuramoto": {"couplings": (0.5, 0.5), "lags": (1.0, 3.0), "neurons": 6, "time": 40},
    "delayed-noise": {"levels": (0.3, 1.0), "seeds": 6, "averaged": 40, "neurons": 30},
    "lazy-limit": {"rules": ("fa",), "seeds": 5, "hidden": 12, "alphas": (16.0, 64.0, 256.0)},
    "lyapunov-known": {"time": 30.0, "seeds": 5, "updates": 1000, "inputs": 3, "outputs": 1, "rho": 29.0},
    "probability-flow": {"seeds": 6, "looks": 4, "neurons": 300},
    "weak-order": {"seeds": 6, "weights": 1600, "steps": (1, 2)},
    "feature-energy": {"sizes": (5,), "even": 4, "starts": 6},
    "ltc-solver": {"integrators": ("dopri5",), "leaks": (0.8,), "presentations": 6},
}
EXPECTED_TO_FAIL = {"ltc-solver": {"published bound, as quoted"}}


def small(name, **settings):
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


@pytest.mark.parametrize("name", SMALL)
def test_claims_hold_at_small_settings(name):
    assert failed(small(name).measure()) == EXPECTED_TO_FAIL.get(name, set())


def test_every_prediction_of_the_folder_has_small_settings():
    assert set(SMALL) | {"plasticity-families", "spherical-langevin", "oja-temperature"} == set(LIMITS)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exponents_of_a_delay_solve_its_equation_and_are_the_slowest(seed):
    level = np.random.default_rng(seed).uniform(0.1, 2)
    s = DelayedGradient.expected(np.array([level]))[0]
    assert abs(s + level * np.exp(-s)) < 1e-12
    grid = s.real + 1e-3 + np.linspace(0, 6, 400)[:, None] + 1j * np.linspace(0, 8, 400)[None]
    assert np.abs(grid + level * np.exp(-grid)).min() > 1e-3  # no root to the right of it


def test_the_method_of_steps_is_the_delay_equation():
    levels, exact = np.array([0.7]), DelayedGradient.exact(np.array([0.7]))[0]
    count = 1000  # steps in a delay
    u = np.concatenate([-np.ones(count + 1), np.zeros(5 * count)])
    for i in range(count, 6 * count):  # trapezoids, as the right side is known
        u[i + 1] = u[i] - levels[0] / count * (u[i - count] + u[i - count + 1]) / 2
    looks = count + np.arange(1, int(5 / INTERVAL) + 1) * int(count * INTERVAL)
    np.testing.assert_allclose(exact[: len(looks)], u[looks], atol=1e-6)


@pytest.mark.parametrize("n", [2, 5, 17])
def test_a_chain_of_filters_has_imaginary_eigenvalues_at_its_threshold(n):
    a = -n * np.eye(n + 1) + n * np.eye(n + 1, k=-1)
    a[0], a[0, -1] = 0, -LagChains.expected(np.array([n]))[0]
    values = np.linalg.eigvals(a)
    top = values[values.real.argmax()]
    assert abs(top.real) < 1e-9 and abs(top.imag) == pytest.approx(n * np.tan(np.pi / 2 / n))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_late_errors_are_at_their_threshold_on_the_imaginary_axis(seed):
    ratio = np.random.default_rng(seed).uniform(0.02, 3)
    tau, omega = LateErrors.expected(np.array([ratio]))[0]
    s = 1j * omega
    assert abs(tau * s * (1 + ratio * s) ** 2 + np.exp(-s)) < 1e-9


@pytest.mark.parametrize("m", [0, 1, 4, 19])
def test_old_updates_have_roots_on_the_circle_at_their_threshold(m):
    eta = DelayedUpdates.expected(np.array([m]))[0]
    polynomial = np.zeros(m + 2)
    polynomial[0] += 1
    polynomial[1] -= 1
    polynomial[-1] += eta
    assert np.abs(np.roots(polynomial)).max() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_order_beside_evenly_spread_phases_grows_as_a_delay_equation_says(seed):
    rng = np.random.default_rng(seed)
    k, tau, count = rng.uniform(0.3, 1), rng.uniform(0.5, 3), 200
    z = np.ones(80 * count + 1, complex)  # z' = (K/2) e^(-i w tau) z(t - tau), w = 1, in steps of tau / count
    turned = k / 2 * np.exp(-1j * tau) * tau / count
    for i in range(count, 80 * count):
        z[i + 1] = z[i] + turned * (z[i - count] + z[i - count + 1]) / 2
    slope = np.log(abs(z[-1]) / abs(z[40 * count])) / (40 * tau)
    found = DelayedKuramoto.growth_of_order(np.array([[k, tau]]), 1.0)[0]
    assert slope == pytest.approx(found, abs=0.02 * k)
    for omega in DelayedKuramoto().solutions(k, tau):
        assert omega == pytest.approx(1 - k * np.sin(omega * tau), abs=1e-10)


@pytest.mark.parametrize("level", [0.2, 0.9])
def test_the_variance_under_a_late_force_is_the_integral_of_its_spectrum(level):
    """sigma^2 / |i w + lam e^(-i w tau)|^2, with sigma^2 = 2 lam s^2, tau = s = 1."""
    for t in (0.0, 0.5, 1.0):
        density = lambda w, t=t: np.cos(w * t) * 2 * level / abs(1j * w + level * np.exp(-1j * w)) ** 2 / np.pi  # noqa: E731
        inside = quad(density, 0, 400, limit=4000)[0]
        tail = 2 * level / np.pi / 400 if t == 0 else 0.0
        assert DelayedNoise.expected(np.array([level]), np.array([t]))[0, 0] == pytest.approx(inside + tail, rel=5e-3)


def test_the_kernel_of_gradient_descent_is_that_of_its_jacobian():
    p = LazyLimit(inputs=3, hidden=4, outputs=2, samples=3)
    circuit = wired(SGD(), (3, 4, 2), activation="tanh")
    weights = circuit.initial_weights(jax.random.key(0))
    rng = np.random.default_rng(0)
    x, y = f64(rng.standard_normal((3, 3))), f64(rng.standard_normal((3, 2)))

    def f(w):
        return (jnp.tanh(x @ w["W1"].T) @ w["W2"].T).ravel()

    jacobian = jax.jacobian(f)({n: weights[n] for n in ("W1", "W2")})
    flat = np.concatenate([np.asarray(j).reshape(6, -1) for j in jacobian.values()], 1)
    values, vectors = np.linalg.eigh(flat @ flat.T / 3)
    h = 0.1
    for look in (1, 12):
        kept = (1 - h * values + (h * values) ** 2 / 2) ** (p._steps * look)
        left = vectors @ (kept * (vectors.T @ np.asarray(y).ravel()))
        found = jax.jit(lambda x, y: p._linear(circuit, weights, x, y))(x, y)[look - 1]
        np.testing.assert_allclose(np.asarray(found).ravel(), np.asarray(y).ravel() - left, atol=1e-9)


@pytest.mark.parametrize("to_end", [False, True])
def test_liquid_time_constants_are_solved_exactly(to_end):
    p, leak = LTCSolver(neurons=2, presentations=4, seed=3), 0.4
    gates = np.random.default_rng(0).uniform(0, 1, (4, 2))
    x = np.zeros(2)
    for f, found in zip(gates, p.exact(gates, leak, to_end), strict=True):
        rate = lambda t, x, f=f: (leak + f) * (p._ends - x) if to_end else -(leak + f) * x + f * p._ends  # noqa: E731
        x = solve_ivp(rate, (0, p.duration), x, rtol=1e-11, atol=1e-12).y[:, -1]
        np.testing.assert_allclose(found, x, atol=1e-9)


@pytest.mark.parametrize("name", SCHEMES)
def test_moments_of_schemes_come_to_the_process_with_their_order(name):
    p = WeakOrder(time=1.0, additive=0.8, multiplicative=0.5)
    off = np.abs(p.expected(name, np.array([1 / 64, 1 / 128])) - p.expected(name, np.zeros(1)))
    assert np.log2(off[0] / off[1]) == pytest.approx(SCHEMES[name].order, abs=0.1)


def test_mean_and_variance_of_the_process_solve_their_equations():
    p, h = ProbabilityFlow(deviation=0.4, goal=0.9), 1e-5
    (m, m1), (v, v1) = p.expected(np.array([2.0, 2.0 + h]))
    assert (m1 - m) / (h * INTERVAL) == pytest.approx(0.9 - m, rel=1e-4)
    assert (v1 - v) / (h * INTERVAL) == pytest.approx(2 * 0.4**2 - 2 * v, rel=1e-4)


@pytest.mark.parametrize("m", [5, 6, 9])
def test_a_feature_of_one_frequency_has_the_energy_of_all(m):
    rng = np.random.default_rng(m)
    t, phases = np.arange(m), rng.uniform(0, 2 * np.pi, 2)
    w = np.concatenate([np.cos(2 * np.pi * 2 * t / m + phase) for phase in phases])[None] / m**0.5
    x, y = additions(m)
    assert np.linalg.norm(w) == pytest.approx(1)
    by_hand = sum(sum((w[0, a] + w[0, m + (c - a) % m]) ** 2 for a in range(m)) ** 2 for c in range(m))
    by_hand -= sum(sum((w[0, a] + w[0, m + b]) ** 2 for a in range(m)) for b in range(m)) ** 2 / m
    assert energy(w, m)[0] == pytest.approx(by_hand / 2) == pytest.approx(m / 4)
    assert purity_of(w, m)[0] == pytest.approx(1)
    assert purity_of(rng.standard_normal((1, 2 * m)), m)[0] < 0.999
    if m % 2 == 0:
        nyquist = np.tile((-1.0) ** t, 2)[None] / (2 * m) ** 0.5
        assert energy(nyquist, m)[0] == pytest.approx(m / 2) and purity_of(nyquist, m)[0] == pytest.approx(1)


@pytest.mark.parametrize("s", [-0.3 + 0.9j, 0.2 + 2j, -0.5 + 0j])
def test_an_exponent_is_found_from_samples(s):
    t = 0.25 * np.arange(40)
    found = exponent((np.exp(s * t) * (2 - 1j)).real, 0.25)
    assert found == pytest.approx(s, abs=1e-6)


def test_a_threshold_is_found_in_its_bracket_or_not_at_all():
    growth = lambda x: (x - np.array([[1.234], [5.0]])) * (1 + x) + 0j  # noqa: E731
    found = threshold(growth, np.array([0.5, 0.5]), np.array([2.0, 2.0]))
    assert found[0] == pytest.approx(1.234, abs=1e-4) and np.isnan(found[1])


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("lag-chains", {"stages": (4, 2)}, "stages"),
        ("delayed-updates", {"late": (2, 1)}, "late"),
        ("delayed-kuramoto", {"lags": (1.0,)}, "lags"),
        ("lazy-limit", {"rules": ("oja",)}, "oja"),
        ("lazy-limit", {"alphas": (4.0, 2.0, 1.0)}, "alphas"),
        ("probability-flow", {"start": 5}, "start"),
        ("weak-order", {"steps": (2, 1)}, "steps"),
        ("feature-energy", {"sizes": (6,)}, "sizes"),
        ("delayed-noise", {"levels": (1.6,)}, "levels"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects


def test_a_past_that_is_too_recent_fails_the_threshold_of_a_delay(plant):
    right = History.at

    def at(self, name, step, fraction, lag, *rest):
        return right(self, name, step, fraction, 0.97 * lag, *rest)

    plant(History, "at", at)
    assert {"threshold", "exponents", "order"} <= failed(small("delayed-gradient").measure())


def test_filters_that_are_too_quick_fail_the_thresholds_of_chains(plant):
    right = dynamics.field.chain_drift
    plant(dynamics.field, "chain_drift", lambda stages, source, lag: right(stages, source, 0.99 * lag))
    assert "thresholds" in failed(small("lag-chains").measure())


def test_noise_of_the_wrong_variance_fails_the_moments_of_schemes(plant):
    right = dynamics.system.brownian_increments
    wrong = lambda key, like, dt: right(key, like, 1.3 * dt)  # noqa: E731
    plant(dynamics.system, "brownian_increments", wrong)
    assert {"Euler, additive", "Euler, multiplicative"} <= failed(small("weak-order").measure())
