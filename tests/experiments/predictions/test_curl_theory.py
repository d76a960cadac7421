"""Closed forms of curl descent against brute force; the predictions that use them; planted defects."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

import dynamics.plasticity
from dynamics.errors import PlasticodeError
from experiments.predictions import configured
from experiments.predictions.curl import matrices, theory
from rules.curl import Curl

RANDOM = [(0.3, 0.0, 0.0), (0.3, 0.3, 0.0), (0.6, 0.0, 0.2), (0.5, 0.5, 0.2), (2.0, 0.2, 0.1), (0.1, 0.8, 0.7)]
SMALL = {"inputs": 60, "seeds": 4}


def measured(name, **settings):
    return configured([name], {f"{name}.{key}": value for key, value in settings.items()}, quick=True)[name].measure()


def failed(finding):
    return [verdict.name for verdict in finding.verdicts if not verdict.passed]


# ------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("c", "alpha_h", "alpha_r"), RANDOM)
def test_the_density_has_the_free_cumulants(c, alpha_h, alpha_r):
    """Cumulants add: those of D1, and 1/c times the moments of the signs of the hidden units."""
    low, high = theory.lambda_min(c, alpha_h, alpha_r), theory.lambda_max(c, alpha_h, alpha_r)
    nodes = np.cos(np.pi * (np.arange(2000) + 0.5) / 2000)  # Gauss-Chebyshev: exact for square-root edges
    x, width = (low + high) / 2 + (high - low) / 2 * nodes, (high - low) / 2
    weights = theory.density(x, c, alpha_h, alpha_r) * np.sqrt(1 - nodes**2) * width * np.pi / 2000
    atoms = theory.atoms(c, alpha_h)
    first, second, third = (weights @ x**k + sum(m * at**k for at, m in atoms.items()) for k in (1, 2, 3))
    mean, sign = 1 - 2 * alpha_h, 1 - 2 * alpha_r
    assert_allclose(weights.sum() + sum(atoms.values()), 1, atol=2e-3)
    assert_allclose(first, mean + sign / c, atol=2e-3 / c)
    assert_allclose(second - first**2, 1 - mean**2 + 1 / c, rtol=3e-3)
    third = third - 3 * first * second + 2 * first**3
    assert_allclose(third, -2 * mean * (1 - mean**2) + sign / c, atol=0.01 / c**2)


@pytest.mark.parametrize(("c", "alpha_h", "alpha_r"), RANDOM)
def test_the_edges_and_their_shift_are_those_of_sampled_matrices(c, alpha_h, alpha_r):
    inputs, found = 150, []
    hidden = round(inputs / c)
    flips = round(alpha_h * inputs), round(alpha_r * hidden)
    shape = inputs / hidden, flips[0] / inputs, flips[1] / hidden
    for seed in range(8):
        w1, w2 = matrices.teacher(np.random.default_rng([7, seed]), inputs, hidden)
        found.append(np.linalg.eigvalsh(matrices.error_matrix(w1, w2, *flips))[[0, -1]])
    opposite = shape[0], 1 - shape[1], 1 - shape[2]
    smallest, largest = np.mean(found, 0)
    for measured_edge, parameters in ((smallest, shape), (-largest, opposite)):
        spread = theory.edge_scale(*parameters) / inputs ** (2 / 3)
        assert abs(measured_edge - theory.expected_smallest(inputs, *parameters)) < 2 * spread + 1e-9


@pytest.mark.parametrize(("c", "alpha_h", "alpha_r"), [row for row in RANDOM if row[0] < 1])
def test_the_edge_scale_is_that_of_the_density(c, alpha_h, alpha_r):
    low = theory.lambda_min(c, alpha_h, alpha_r)
    beyond = np.array([1e-4, 4e-4])
    scale = (np.pi * theory.density(low + beyond, c, alpha_h, alpha_r) / np.sqrt(beyond)) ** (-2 / 3)
    assert_allclose(scale, theory.edge_scale(c, alpha_h, alpha_r), rtol=1e-2)


def test_edges_without_flips_are_those_of_marchenko_and_pastur():
    for c in (0.1, 0.5, 0.9):
        assert_allclose(theory.lambda_min(c), 1 + (1 / c**0.5 - 1) ** 2)
        assert_allclose(theory.lambda_max(c), 1 + (1 / c**0.5 + 1) ** 2)
        assert_allclose(theory.lambda_min(c, 1.0), -1 + (1 / c**0.5 - 1) ** 2)
    assert_allclose(theory.lambda_min(3.0), 1, rtol=1e-6)  # what no hidden unit sees
    assert theory.edge_scale(3.0) == theory.edge_scale(3.0, 0.5) == 0
    assert theory.atoms(4.0, 0.5) == {1.0: 0.25, -1.0: 0.25}


def test_the_smallest_eigenvalue_vanishes_at_the_boundaries():
    for c in (0.27, 0.35, 0.5, 0.63):
        alpha_h, alpha_r = theory.hidden_boundary(c), theory.readout_boundary(c)
        assert 0 < alpha_h < 1 and 0 < alpha_r < 0.5
        assert_allclose(theory.lambda_min(c, alpha_h), 0, atol=1e-7)
        assert_allclose(theory.lambda_min(c, 0.0, alpha_r), 0, atol=1e-7)
        assert_allclose(theory.lambda_min(c, alpha_h / 3, theory.readout_boundary(c, alpha_h / 3)), 0, atol=1e-7)
        assert theory.readout_boundary(c, alpha_h) < 1e-9
    assert_allclose(theory.readout_boundary(200.0), 1 / 3200, rtol=0.02)
    assert_allclose(theory.readout_boundary(1e-6), 0.5, atol=0.002)
    assert [theory.hidden_boundary(c) for c in (0.2499, 0.67, 5.0)] == [1, 0, 0]


def test_the_hidden_boundary_has_its_parametric_form():
    s = np.linspace(1.05, 1.95, 10)
    alphas = (s - 1) ** 2 * ((s + 1) ** 2 + 1) / (2 * (s**2 + 1))
    ratios = 1 / (s + (1 - alphas) * s / (s + 1) + alphas * s / (s - 1))
    assert_allclose([theory.hidden_boundary(c) for c in ratios], alphas, rtol=1e-6)


def test_the_finite_boundary_tends_to_the_boundary():
    shifts = [theory.finite_boundary(m, lambda f: (0.4, f, 0.0)) - theory.hidden_boundary(0.4) for m in (10**5, 10**8)]
    assert_allclose(shifts[0] / shifts[1], 100, rtol=0.05)
    assert theory.finite_boundary(100, lambda f: (1.5, f, 0.0)) == pytest.approx(0, abs=1e-6)
    assert theory.finite_boundary(100, lambda f: (0.1, f, 0.0)) == 1


# ----------------------------------------------------------------------------------------------------------- matrices


def test_critical_flips_are_those_of_a_scan():
    w1, w2 = matrices.teacher(np.random.default_rng(3), 12, 30)

    def first_unstable(flips):
        return next(
            n for n, pair in enumerate(flips) if np.linalg.eigvalsh(matrices.error_matrix(w1, w2, *pair))[0] < 0
        )

    assert matrices.most_inputs(w1.T @ w1) == first_unstable((n, 0) for n in range(13)) - 1
    start = matrices.error_matrix(w1, w2, 2, 0)
    assert matrices.most_units(w1, start) == first_unstable((2, n) for n in range(31)) - 1
    assert matrices.most_stable(9, lambda n: True) == 9 and matrices.most_stable(9, lambda n: False) == 0


@pytest.mark.parametrize("clamp", [False, True])
def test_the_engine_has_these_error_dynamics_with_any_covariance(clamp):
    rng = np.random.default_rng(5)
    w1, w2 = matrices.teacher(rng, 7, 11)
    root = rng.normal(size=(7, 7))
    covariance = root @ root.T
    flow, weights = matrices.solution_flow(w1, 1.7 * w2, 3, 4, covariance, clamp)
    expected = (matrices.clamped_error_matrix if clamp else matrices.error_matrix)(w1, 1.7 * w2, 3, 4) @ covariance
    assert_allclose(matrices.engine_error_matrix(flow, weights), expected, atol=1e-10)


def test_a_ratio_without_hidden_units_or_with_too_many_is_refused():
    assert matrices.hidden_units(100, 0.4) == 250
    with pytest.raises(PlasticodeError, match="leaves no hidden unit"):
        matrices.hidden_units(100, 300.0)
    with pytest.raises(PlasticodeError, match="weights"):
        measured("curl-hidden-boundary", ratios=(1e-6,))


# -------------------------------------------------------------------------------------------------------- predictions


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("curl-spectrum", {"ratio": 0.63, "alpha_h": 0.45, "alpha_r": 0.1, "inputs": 80}),
        ("curl-hidden-boundary", {"ratios": (0.33, 0.47), "inputs": 120, "seeds": 8}),
        ("curl-readout-boundary", {"ratios": (0.25, 0.7), "inputs": 120, "seeds": 8}),
        ("curl-mixed-boundary", {"ratios": (0.22,), "flipped_inputs": (0.15, 0.5), "inputs": 120, "seeds": 8}),
        ("curl-size-limits", {"inputs": 60, "ratios": (0.3,), "seeds": 6}),
        ("curl-covariance", {"inputs": 9, "ratio": 0.5, "spread": 7.0, "beyond": (-1, 0, 1), "matrix_inputs": 30}),
    ],
)
def test_predictions_hold_with_other_parameters(name, settings):
    assert failed(measured(name, seed=11, **settings)) == []


def test_chaos_is_found_with_other_parameters():
    settings = {"inputs": 7, "ratio": 1.2, "flipped_inputs": (0.0, 1.0), "flipped_units": (0.0,), "seeds": 8}
    finding = measured("curl-lyapunov", span=150.0, **settings)
    assert failed(finding) == [] and len(finding.verdicts) == 4


def test_expectations_move_with_the_parameters():
    for name, key in (("curl-hidden-boundary", "alpha_h*"), ("curl-readout-boundary", "alpha_r*")):
        verdicts = measured(name, ratios=(0.35, 0.5), **SMALL).verdicts
        first, second = (float(verdict.expected) for verdict in verdicts if verdict.quantity == key)
        assert first > second + 0.02


def test_values_that_make_no_sense_are_refused():
    for setting in ({"seeds": 1}, {"inputs": 3}, {"ratios": ()}, {"ratios": (0.0,)}):
        with pytest.raises(PlasticodeError):
            measured("curl-hidden-boundary", **setting)
    for name, setting in (("curl-spectrum", {"alpha_h": 1.2}), ("curl-covariance", {"spread": 0.5})):
        with pytest.raises(PlasticodeError):
            measured(name, **setting)


# ---------------------------------------------------------------------------------------------------- planted defects


def test_a_sign_that_the_rule_forgets_is_found(monkeypatch):
    whole = Curl._signed

    def forgetful(self, p, circuit):
        projection = whole(self, p, circuit)
        if p.level == 2:
            return projection
        law = tuple(dataclasses.replace(term, pre=None) for term in projection.law)
        return dataclasses.replace(projection, law=law)

    monkeypatch.setattr(Curl, "_signed", forgetful)
    finding = measured("curl-covariance", inputs=8, ratio=0.5, seeds=2, beyond=(0, 1), matrix_inputs=20)
    assert "decay before the critical flip and growth with it" in failed(finding)
    assert failed(measured("curl-hidden-boundary", ratios=(0.4,), **SMALL)) == ["A governs the simulated weight flow"]


def test_a_wrong_time_constant_of_one_layer_is_found(monkeypatch):
    whole = dynamics.plasticity.at_level
    monkeypatch.setattr(dynamics.plasticity, "at_level", lambda values, level: whole(values, level) * level)
    assert failed(measured("curl-readout-boundary", ratios=(0.4,), **SMALL)) == ["A governs the simulated weight flow"]
    assert "the Jacobian has the eigenvalues of -A Sigma" in failed(measured("curl-spectrum", **SMALL))


def test_a_wrong_closed_form_is_found(monkeypatch):
    whole = theory.lambda_min
    monkeypatch.setattr(theory, "lambda_min", lambda *shape: whole(*shape) + 0.5)
    for name in ("curl-hidden-boundary", "curl-readout-boundary"):
        assert failed(measured(name, ratios=(0.3,), inputs=100, seeds=8))[0].startswith("boundary")
