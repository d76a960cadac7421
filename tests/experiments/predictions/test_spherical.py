"""Noisy weights on a sphere: integrals against points, updates by hand, planted defects."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import dynamics.circuit
import dynamics.discrete
import dynamics.system
import rules.hebbian
from dynamics.errors import PlasticodeError
from experiments.predictions import configured
from experiments.predictions.limits.spherical_langevin import (
    averaged,
    bessel_ratio,
    cubic_mean,
    overlap,
    third,
    updates,
)
from tests.experiments.predictions.verdicts import failed

# Cheap settings, with which the claims still hold.
SMALL: dict[str, Any] = {"dimension": 4, "eta": 0.04, "timescale": 12.0, "seeds": 64, "pulls": (0.4, 3.5)}


def small(**settings: Any) -> Any:
    """The prediction, cheap."""
    return configured(["spherical-langevin"], SMALL | settings)["spherical-langevin"]


def small_oja(**settings: Any) -> Any:
    """The prediction of Oja's rule, cheap."""
    given = {"dimension": 9, "noise": 0.12, "anisotropy": 0.5, "seeds": 300} | settings
    return configured(["oja-temperature"], given)["oja-temperature"]


def on_sphere(rng: np.random.Generator, count: int, d: int) -> np.ndarray:
    """Uniform points."""
    w = rng.standard_normal((count, d))
    return w / np.linalg.norm(w, axis=1, keepdims=True)


def test_the_claims_hold_at_small_settings():
    finding = small().measure()
    assert failed(finding) == set(), finding.verdicts
    finding = small_oja().measure()
    assert failed(finding) == set(), finding.verdicts


@pytest.mark.parametrize("seed", [0, 1])
def test_moments_of_laws_on_the_sphere_are_those_of_weighed_points(seed):
    rng = np.random.default_rng(seed)
    d, s = int(rng.integers(4, 8)), rng.uniform(0.5, 3)
    w = on_sphere(rng, 400_000, d)
    first = np.exp(s * w[:, 0])
    assert bessel_ratio(s, d) == pytest.approx((first * w[:, 0]).mean() / first.mean(), abs=5e-3)
    assert bessel_ratio(s, d) == pytest.approx(overlap(s, d, 1, 1), rel=1e-6)
    second = np.exp(s * w[:, 0] ** 2)
    assert overlap(s, d, 2) == pytest.approx((second * w[:, 0] ** 2).mean() / second.mean(), abs=5e-3)
    x, eps = rng.standard_normal((3, d)) + 1, 0.1
    cubic = np.exp(2 * eps * ((w @ x.T) ** 3).mean(1) / 3)
    expected = (cubic[:, None] * w).mean(0) / cubic.mean()
    np.testing.assert_allclose(cubic_mean(eps, x, seed), expected, atol=6e-3)
    weak = cubic_mean(1e-3, x, seed) / 1e-3
    np.testing.assert_allclose(weak, 2 * third(x) / (d * (d + 2)), rtol=1e-3)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_updates_keep_and_answer_is_that_of_many_updates_by_hand(seed):
    """<new w - new w without b>, from uniform w, over what an update forgets of a mean."""
    rng = np.random.default_rng(seed)
    d, eta, count, h = int(rng.integers(4, 7)), rng.uniform(0.03, 0.1), 1_000_000, 1e-3
    w = on_sphere(rng, count, d)
    moved = w + eta**0.5 * rng.standard_normal((count, d))
    kept, constant, cubic = updates(eta, d)
    new = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert kept == pytest.approx((new * w).sum(1).mean(), abs=1e-3)
    for power, factor, diffusion in ((1, constant, 2 / d), (3, cubic, 2 / (d * (d + 2)))):
        b = np.zeros((count, d))
        b[:, 0] = w[:, 0] ** (power - 1)
        other = moved + eta * h * b
        change = (other / np.linalg.norm(other, axis=1, keepdims=True) - new)[:, 0].mean() / h
        assert factor * diffusion == pytest.approx(change / (1 - kept), rel=0.01)


def test_the_variance_of_an_average_is_that_of_a_walk_by_hand():
    p = small(eta=0.05)
    rng, taken = np.random.default_rng(0), 0.05 / p.timescale
    w = on_sphere(rng, 20_000, 4)
    m = np.zeros_like(w)
    for _ in range(150):
        m = (1 - taken) * m + taken * w
        w = w + 0.05**0.5 * rng.standard_normal(w.shape)
        w /= np.linalg.norm(w, axis=1, keepdims=True)
    assert p.variances()[150] == pytest.approx((m**2).sum(1).mean(), rel=0.03)
    assert p.variances()[-1] == pytest.approx(1 / (1 + p.timescale * p.rate), rel=0.05)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_slow_synapse_remembers_above_half_the_dimension(share):
    for d in (4, 9):
        end = averaged(share * d / 2, d, np.array([300.0]))[-1]
        assert (end > 0.1) == (share > 1)
        if share > 1:
            assert end == pytest.approx(bessel_ratio(share * d * end, d), abs=1e-5)


def test_lengths_and_directions_of_oja_are_those_of_paths_by_hand():
    p, rng, h = small_oja(), np.random.default_rng(0), 0.01
    w, variances = on_sphere(rng, 6000, 9), np.ones((2, 1, 9))
    variances[1, 0, 0] += p.anisotropy
    w = np.stack([w, w])
    for _ in range(800):
        field = variances * w
        w = (
            w
            + h * (field - (field * w).sum(-1, keepdims=True) * w)
            + (p.noise * h) ** 0.5 * rng.standard_normal(w.shape)
        )
    squares = (w**2).sum(-1)
    assert p.length(1.0, 2) == pytest.approx(squares[0].mean(), rel=0.02)
    assert p.length(1.0, -2) == pytest.approx((1 / squares[0]).mean(), rel=0.02)
    assert p.overlap(p.averaged()) == pytest.approx((w[1, :, 0] ** 2 / squares[1]).mean(), abs=p.noise**2)


@pytest.mark.parametrize("d", [6, 9])
def test_the_mean_of_the_inverse_length_has_its_expansion(d):
    off = [small_oja(dimension=d, noise=s).length(1.0, -2) - 1 + (d - 4) * s / 2 for s in (0.1, 0.05)]
    assert off[0] / off[1] == pytest.approx(4, rel=0.35)


@pytest.mark.parametrize(
    "settings", [{"pulls": (1.2, 2.0)}, {"pulls": (0.2, 0.9)}, {"timescale": 5.0}, {"eta": 0.2}, {"dimension": 2}]
)
def test_senseless_parameters_are_refused(settings):
    with pytest.raises(PlasticodeError, match="spherical-langevin"):
        small(**settings)


# ----------------------------------------------------------------------------------------------------- planted defects


def norms_held_in_part(self, weights, before):
    return {name: w / jnp.linalg.norm(w) ** 0.7 if name == "W" else w for name, w in weights.items()}


def same_noise(self, key, k, right=dynamics.circuit.Circuit.draws):
    return right(self, key, 0 * k)


def one_level(values, level):
    return values if values.ndim == 0 else values[0]


@pytest.mark.parametrize(
    ("where", "what", "defect", "claims"),
    [
        (dynamics.discrete.Discrete, "_norms_held", norms_held_in_part, {"norm"}),
        (dynamics.circuit.Circuit, "draws", same_noise, {"variance of the average"}),
        (dynamics.discrete, "at_level", one_level, {"variance of the average"}),
    ],
)
def test_defects_are_caught(plant, where, what, defect, claims):
    plant(where, what, defect)
    assert failed(small(seeds=24).measure()) >= claims


def stronger_noise(key, like, dt, right=dynamics.system.brownian_increments):
    return right(key, like, 1.15 * dt)


def stronger_decay(self, local):
    return 1.1 * local.activity**2


@pytest.mark.parametrize(
    ("where", "what", "defect"),
    [
        (dynamics.system, "brownian_increments", stronger_noise),
        (rules.hebbian.SquaredActivity, "__call__", stronger_decay),
    ],
)
def test_defects_of_noise_and_of_oja_change_lengths(plant, where, what, defect):
    plant(where, what, defect)
    assert failed(small_oja(seeds=200).measure()) & {"length", "inverse length"}
