"""Predictions on heterosynaptic learning: closed forms by other means, tiny parameters, and defects that they catch."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dynamics.flow
import rules.heterosynaptic
from dynamics.circuit import Activity, Negative
from dynamics.errors import PlasticodeError
from dynamics.plasticity import weight_drifts
from experiments.predictions import configured
from experiments.predictions.heterosynaptic.norms import common_norm
from experiments.predictions.heterosynaptic.training import consistency, last_crossing
from experiments.predictions.heterosynaptic.wiring import wiring_law
from experiments.predictions.kit import f64
from experiments.results.verdicts import Verdict

TINY = {
    "norm-law": {"first": (0.7, 1.6), "neurons": 3, "seeds": 2, "decay": 12.0, "strength": 1.7, "second": 1.3},
    "wrong-sign": {"first": 0.6, "neurons": 4, "seeds": 3, "decay": 17.0, "strength": 1.5},
    "sliding-threshold": {"experiences": (0.4, 1.1), "signal": 0.08, "decay": 7.0, "activities": (0.0, 1.5, 2.5, 3.5)},
}
TRAINING = {"inputs": 8, "hidden": (12,), "outputs": 3, "samples": 30, "units": 16, "step": 0.2, "records": 40}


def measured(name: str, **settings) -> dict[str, Verdict]:
    """The verdicts of a prediction by name, at tiny parameters."""
    finding = configured([name], {**TINY.get(name, TRAINING), **settings})[name].measure()
    return {verdict.name: verdict for verdict in finding.verdicts}


def failures(verdicts: dict[str, Verdict]) -> set[str]:
    return {name for name, verdict in verdicts.items() if not verdict.passed}


@pytest.mark.parametrize("neurons, units", [(30, 12), (30, 70)])
def test_wiring_law_is_that_of_random_matrices(neurons, units):
    """B = M^T M for gaussian M turns a random vector by the law, n + 1 standing for n."""
    generator = np.random.default_rng(neurons + units)
    wirings = generator.standard_normal((400, units, neurons)) / np.sqrt(units)
    errors = generator.standard_normal((400, neurons, 1))
    carried = wirings.swapaxes(1, 2) @ (wirings @ errors)
    along = np.mean(np.sum(carried * errors, axis=1))
    cosine = along / np.sqrt(np.mean(np.sum(carried**2, axis=1)) * np.mean(np.sum(errors**2, axis=1)))
    assert cosine == pytest.approx(float(wiring_law(neurons + 1, units)), rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_common_norm_is_where_three_scalar_weights_end(seed):
    generator = np.random.default_rng(seed)
    scores, strength, decay = generator.uniform(0.3, 3, 3), generator.uniform(1, 3), generator.uniform(10, 40)

    def drift(_, w):
        product = np.prod(w)
        return scores * (strength - product) * product / w - w / decay

    end = solve_ivp(drift, (0, 12 * decay), np.sqrt(scores), rtol=1e-9, atol=1e-12, method="LSODA").y[:, -1]
    expected = common_norm(tuple(scores), strength, decay)
    np.testing.assert_allclose(end**2 / scores, expected, rtol=1e-6)


def test_what_cannot_be_learned_is_refused_with_the_decay_that_can():
    with pytest.raises(PlasticodeError, match="decay must be above") as caught:
        common_norm((1.0, 1.0, 1.0), 0.5, 2.0)
    needed = float(str(caught.value).split("above ")[1].split()[0])
    assert common_norm((1.0, 1.0, 1.0), 0.5, 1.01 * needed) > 0


def test_consistency_is_a_regression_and_crossings_are_the_last():
    generator = np.random.default_rng(3)
    drive, gradient = generator.standard_normal((2, 4, 5))
    slope = np.linalg.lstsq(gradient.reshape(-1, 1), drive.ravel())[0][0]
    assert float(consistency(f64(drive), f64(gradient))) == pytest.approx(slope)
    times = np.linspace(0, 3, 3001)
    assert last_crossing(times, np.sin(times * np.pi), -0.5) == pytest.approx(11 / 6, abs=1e-5)
    assert last_crossing(times, times, -1.0) == 0
    assert np.isnan(last_crossing(times, -times, -1.0))


@pytest.mark.parametrize("name", TINY)
def test_closed_forms_hold_at_tiny_parameters(name):
    assert failures(measured(name)) == set()


def test_frozen_weights_align_by_the_wiring_law():
    settings = {"neurons": 12, "units": (5, 30), "inputs": 12, "samples": 30, "seeds": 100}
    law: Any = configured(["wiring-law"], settings)["wiring-law"]
    measured, finite = law._frozen()
    error = measured.std(0, ddof=1) / np.sqrt(100)
    assert (np.abs(measured.mean(0) - finite) < 4 * error + 0.01).all() and (error < 0.02).all()


def test_networks_that_learn_settle_align_and_turn_hebbian():
    assert failures(measured("feedback-settling", seeds=6)) == set()
    assert failures(measured("consistent-sign", seeds=6)) == set()
    hebbian = measured("hebbian-fraction", seeds=6)
    assert {"W1 Hebbian late", "W2 Hebbian late", "stationary value"} & failures(hebbian) == set()


def test_rewiring_is_measured():
    small = {"rewirings": (0, 6), "epochs": 3, "images": 60, "batch": 20, "seeds": 2, "neurons": 6, "units": 6}
    period: Any = configured(["critical-period"], small)["critical-period"]
    curves = period._trained()
    assert curves.shape == (2, 2, 2, 10)
    learned = curves[0, :, 1, 5]  # weak noise, before the rewiring: better than after it
    assert (curves[0, :, 1, 6] < learned).all() and (learned > 0.15).all()


def test_expectations_follow_the_parameters():
    one, other = (measured("sliding-threshold", signal=signal) for signal in (0.05, 0.2))
    for name in ("after a target of 0.4", "after a target of 1.1"):
        assert one[name].expected == pytest.approx(2 * other[name].expected)


@pytest.mark.parametrize(
    "name, settings",
    [
        ("consistent-sign", {"seeds": 1}),
        ("wiring-law", {"units": (10, 10)}),
        ("norm-law", {"first": (0.0,)}),
        ("norm-law", {"seeds": 1}),
        ("critical-period", {"rewirings": (5, 1)}),
        ("critical-period", {"rewirings": (5,)}),
        ("critical-period", {"batch": 60, "images": 50}),
        ("sliding-threshold", {"activities": (1.0, 1.0, 2.0)}),
        ("feedback-settling", {"settled": 1.5}),
    ],
)
def test_senseless_parameters_are_refused(name, settings):
    with pytest.raises(PlasticodeError, match=name):
        configured([name], settings)


def test_a_feedback_law_of_the_wrong_sign_is_noticed(monkeypatch):
    """V = -W^T M^T climbs the gradient."""
    monkeypatch.setattr(rules.heterosynaptic, "Activity", lambda: Negative(Activity()))
    assert "its value" in failures(measured("norm-law"))


def test_a_decay_of_half_the_rate_is_noticed(monkeypatch):
    def slow(circuit, timescales, *known):
        return weight_drifts(circuit, dataclasses.replace(timescales, decay=2 * timescales.decay), *known)

    monkeypatch.setattr(dynamics.flow, "weight_drifts", slow)
    assert "after a target of 1.1" in failures(measured("sliding-threshold"))
