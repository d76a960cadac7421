"""Predictions of generalisation: integrals and sums against brute force, small networks, planted defects."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dynamics.flow
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.generalisation import quadratic
from experiments.predictions.generalisation.connectivity import ConnectivityRank, cosine, tangent
from experiments.predictions.generalisation.double_descent import EpochDoubleDescent, extrema, rise
from experiments.predictions.generalisation.regression import (
    Sizes,
    best_time,
    draws,
    expected_test,
    expected_train,
    padded,
    spectrum,
)
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL = {
    "generalisation-curves": {"inputs": 40, "alphas": (0.4, 1.0, 2.5), "draws": 40, "longest": 20.0, "times": 8},
    "frozen-subspace": {"inputs": 60, "few": 0.6, "draws": 40, "longest": 15.0, "times": 16, "start": 0.4},
    "epoch-double-descent": {
        "features": 24, "samples": 36, "large": 14, "conditions": (1.0, 30.0), "longest": 3.0, "draws": 80,
    },
    "grokking-loss": {
        "size": 10, "neurons": 16, "samples": 60, "seeds": 14, "steps": 1200, "fresh": 10_000, "looks": 3,
    },
    "grokking-delay": dict(prediction_class("grokking-delay").quick),
    "connectivity-rank": {"inputs": 8, "hidden": 16, "outputs": 2, "tasks": 2, "seeds": 8, "norm": 2.0},
}  # fmt: skip


def small(name, **settings):
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("alpha", [0.4, 1.0, 2.5])
def test_the_spectrum_has_the_mass_and_the_moments_of_its_law(alpha):
    values, shares = spectrum(alpha)
    moments = [(values**k * shares).sum() for k in range(4)]
    expected = [min(alpha, 1), alpha, alpha + alpha**2, alpha + 3 * alpha**2 + alpha**3]
    np.testing.assert_allclose(moments, expected, rtol=1e-3)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_learning_curves_are_those_of_a_large_draw(alpha):
    """Means over teachers, starts and noises of one X of 600 weights, in its own eigenvectors."""
    rng, n = np.random.default_rng(0), 400
    sizes, times = Sizes(*rng.uniform(0.2, 1, 3)), np.array([0.0, 0.4, 2.0, 15.0])
    x = rng.standard_normal((round(alpha * n), n)) / n**0.5
    values = np.linalg.eigvalsh(x.T @ x)[:, None]
    kept, both = np.exp(-values * times), sizes.teacher + sizes.start
    noise = np.where(values > 1e-9, (1 - kept) ** 2 / np.maximum(values, 1e-9), 0)
    exact = (both * kept**2 + sizes.noise * noise).mean(0)
    np.testing.assert_allclose(expected_test(alpha, sizes, times), exact, rtol=0.03)
    dual = np.linalg.eigvalsh(x @ x.T)[:, None]
    train = (np.exp(-2 * dual * times) * (dual * both + sizes.noise)).mean(0)
    np.testing.assert_allclose(expected_train(alpha, sizes, times), train, rtol=0.03, atol=0.01 * train[0])


def test_the_best_time_is_where_the_law_is_least_and_draws_have_the_variances_they_are_of():
    sizes = Sizes(0.7, 0.2, 0.4)
    at, least = best_time(1.0, sizes, 50.0)
    for near in (0.8 * at, 1.2 * at):
        assert expected_test(1.0, sizes, np.array([near]))[0] > least
    given = draws(range(3), 30, 12, sizes)
    np.testing.assert_allclose(np.square(given.teacher - given.start).mean(1), 0.9, rtol=1e-12)
    off = given.targets - np.einsum("spn,sn->sp", given.inputs, given.teacher)
    np.testing.assert_allclose(np.square(off).mean(1), 0.4, rtol=1e-12)
    assert padded(given, 20).inputs.shape == (3, 20, 30) and not padded(given, 20).targets[:, 12:].any()


def test_the_trace_formula_is_the_mean_over_teachers_and_noise():
    rng = np.random.default_rng(4)
    p = EpochDoubleDescent(features=12, samples=20, large=7, conditions=(1.0, 8.0), noise=0.5, longest=2.0)
    draw, marks = p.draw(8.0, 3), np.array([1, 7, 60])
    found = []
    for _ in range(4000):
        teacher = rng.standard_normal(12)
        teacher *= (12 / (teacher @ teacher)) ** 0.5
        targets = draw.inputs @ np.linalg.inv(draw.mixing) @ teacher + 0.5 * rng.standard_normal(20)
        found.append(p._one(draw._replace(teacher=teacher, targets=targets), marks))
    found = np.array(found)
    assert np.all(np.abs(found.mean(0) - p.trace(draw, marks)) < 5 * found.std(0) / len(found) ** 0.5)


def test_extrema_are_found():
    curve = np.array([1.0, 0.5, 0.3, 0.45, 0.6, 0.2])
    assert extrema(curve) == (2, 4) and rise(curve) == pytest.approx(0.3)
    assert extrema(np.linspace(1, 0, 5)) is None


def test_the_shape_that_is_expected_is_that_of_the_formula():
    """One that has no peak at a kappa, has one, or stays at it, is claimed there, whichever kappa comes first."""
    p, seen = EpochDoubleDescent(features=24, samples=36, large=14, conditions=(1.0, 2.0), draws=40), []
    marks = np.unique(np.geomspace(1, 1000, 30).round().astype(int))
    for kappa in (1.0, 2.0, 30.0, 1e5):
        formula = np.mean([p.trace(p.draw(kappa, seed), marks) for seed in range(8)], 0)
        verdicts = p._shape(kappa, marks, formula + np.array([[-1e-5], [1e-5]]), formula)
        assert all(verdict.passed for verdict in verdicts)
        seen.append({verdict.name.split(",")[0] for verdict in verdicts})
    assert seen == [{"one descent"}] * 2 + [{"rise", "second descent", "peak"}, {"rise", "no second descent"}]


def test_the_parts_of_the_loss_add_up_for_any_weights():
    rng = np.random.default_rng(1)
    given = quadratic.problem(2, 5, 7, 20, alpha=1.7, eps=0.4)
    w = given.start + rng.standard_normal((7, 5))
    x = rng.standard_normal((400_000, 5)) / 5**0.5
    off = quadratic.output(given, w, x) - quadratic.output(given, given.start, x) - quadratic.target(given, x)
    spread = np.square(off).std() / len(x) ** 0.5
    assert np.square(off).mean() == pytest.approx(float(quadratic.parts(given, w).loss), abs=5 * spread)


def test_the_scaled_network_descends_as_the_original_does():
    """Steps of w by hand, with phi(h) = h + eps h^2 / 2 and nothing of the engine."""
    given = quadratic.problem(0, 4, 6, 9, alpha=1.3, eps=0.3)
    w, x, rate = given.start.copy(), given.inputs, 0.7 * 6 / 1.3**2
    first = quadratic.output(given, w, x)
    for _ in range(5):
        error = quadratic.target(given, x) + first - quadratic.output(given, w, x)
        slope = 1 + given.eps * x @ w.T
        w = w + rate * (1.3 / 6) * np.einsum("p,pn,pd->nd", error, slope, x) / len(x)
    np.testing.assert_allclose(quadratic.descended([given], [0.7], np.array([2, 5]))[0, 1], w, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_moves_of_aligned_starts_solve_the_equations_of_a_mode(seed):
    rng = np.random.default_rng(seed)
    p, s = ConnectivityRank(norm=rng.uniform(1, 3)), rng.uniform(0.5, 2, 3)
    c, moves = p.norm / 3**0.5, []
    for one in s:
        run = solve_ivp(lambda _, w, s=one: [w[1] * (s - w[0] * w[1]), w[0] * (s - w[0] * w[1])], (0, 60), [c, 0],
                        rtol=1e-10, atol=1e-12)  # fmt: skip
        moves.append(run.y[0, -1] - c)
    assert p.closed(s, 3) == pytest.approx(np.linalg.norm(moves), rel=1e-6)


def test_the_tangent_kernel_is_that_of_the_jacobian():
    rng, kernels = np.random.default_rng(0), []
    matrices = [{"W1": rng.standard_normal((4, 3)), "W2": rng.standard_normal((2, 4))} for _ in range(2)]
    for w in matrices:
        jacobian = np.concatenate([np.kron(w["W2"], np.eye(3)), np.kron(np.eye(2), w["W1"].T)], 1)
        kernels.append(jacobian @ jacobian.T)
    a, b = kernels
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert cosine(*map(tangent, matrices)) == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------------------------------------ small networks


@pytest.mark.parametrize("name", SMALL)
def test_claims_hold_in_small_networks(name):
    assert failed(small(name).measure()) == set()


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("generalisation-curves", {"alphas": (1.0,)}, "alphas"),
        ("frozen-subspace", {"noisy": 7.0}, "noisy"),
        ("epoch-double-descent", {"large": 30}, "large"),
        ("epoch-double-descent", {"conditions": (50.0, 1.0)}, "conditions"),
        ("grokking-loss", {"samples": 200}, "samples"),
        ("grokking-loss", {"neurons": 5}, "neurons"),
        ("grokking-delay", {"alphas": (2.0, 1.0, 4.0)}, "alphas"),
        ("connectivity-rank", {"outputs": 5}, "outputs"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects


def test_a_little_weight_decay_moves_the_frozen_subspace_and_the_recursion(plant):
    right = dynamics.flow.weight_drifts

    def leaky(circuit, timescales, weights, *known):
        drifts = right(circuit, timescales, weights, *known)
        return {name: drift - 1e-6 * weights[name] for name, drift in drifts.items()}

    plant(dynamics.flow, "weight_drifts", leaky)
    assert "frozen subspace" in failed(small("frozen-subspace").measure())


def test_a_slow_learner_fails_the_recursion(plant):
    right = dynamics.flow.weight_drifts

    def slow(*known):
        return {name: (1 - 1e-5) * drift for name, drift in right(*known).items()}

    plant(dynamics.flow, "weight_drifts", slow)
    assert "recursion" in failed(small("epoch-double-descent", draws=10).measure())


def test_an_activation_without_its_curve_fails_the_decomposition(plant, monkeypatch):
    bent = quadratic.Activation(lambda g: g + 0.5 * g * g * 0.8)
    plant(quadratic, "quadratic", bent)
    names = failed(small("grokking-loss").measure())
    assert "misalignment falls late" in names or "linear part falls" in names
