"""Thresholds of neurons in networks that learn: the law by an integration of its own, small, and with defects."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq

import dynamics.flow
import rules.heterosynaptic
from dynamics.circuit import Activity, Negative
from dynamics.errors import PlasticodeError
from dynamics.plasticity import weight_drifts
from experiments.predictions import configured

SMALL = {"inputs": 5, "neurons": 6, "outputs": 3, "samples": 30, "units": 4, "probed": 2, "decay": 7.0, "seeds": 12}
SMALL |= {"length": 9.0, "signal": 0.012, "activities": (0.0, 1.5, 2.5, 3.5)}


def failed(**settings) -> set[str]:
    finding = configured(["metaplasticity"], SMALL | settings)["metaplasticity"].measure()
    return {verdict.name for verdict in finding.verdicts if not verdict.passed}


@pytest.mark.parametrize("seed", [0, 1])
def test_thresholds_after_learning_follow_outgoing_weights_alone(seed):
    """The whole flow of a network by NumPy, and where the change of a synapse then vanishes."""
    rng = np.random.default_rng(seed)
    shapes, rate, signal = ((4, 3), (2, 4), (4, 5)), rng.uniform(0.1, 0.3), rng.uniform(0.01, 0.1)
    wiring, x, y = rng.normal(size=(5, 2)) / 5**0.5, rng.normal(size=(20, 3)), 2 * rng.normal(size=(20, 2))

    def drifts(weights, x, y):
        into, out, back = weights
        a = x @ into.T
        z = np.maximum(a, 0)
        error = y - z @ out.T
        learning = (a > 0) * (error @ wiring.T @ back.T)
        products = learning.T @ x, error.T @ z, z.T @ error @ wiring.T
        return [product / len(x) - rate * w for product, w in zip(products, weights, strict=True)]

    end = [rng.normal(size=s) for s in shapes]
    for _ in range(round(12 / rate / 0.02)):  # of Euler's method: adaptive steps creep along the kinks of relu
        end = [w + 0.02 * drift for w, drift in zip(end, drifts(end, x, y), strict=True)]
    into, out, back = end
    sizes = np.linalg.norm(out, axis=0)
    i = int(sizes.argmax())
    j = int(np.abs(into[i]).argmax())

    def change(h):
        shown = h * into[i] / (into[i] @ into[i])
        wanted = out @ np.maximum(into @ shown, 0) + signal * h * out[:, i] / sizes[i]
        return drifts(end, shown[None], wanted[None])[0][i, j]

    expected = np.sqrt(sizes[i] * rate / signal)
    assert brentq(change, expected / 3, 3 * expected) == pytest.approx(expected, rel=1e-3)
    assert np.linalg.norm(into[i]) == pytest.approx(np.linalg.norm(back[i]), rel=1e-3)


def test_thresholds_are_learned_and_slide():
    assert failed() == set()


@pytest.mark.parametrize("settings", [{"probed": 7}, {"experiences": (2.0, 2.0)}, {"activities": (0.0, 1.0)}])
def test_senseless_parameters_are_refused(settings):
    with pytest.raises(PlasticodeError, match="metaplasticity"):
        configured(["metaplasticity"], SMALL | settings)


def _of_half_the_rate(circuit, timescales, *known):
    return weight_drifts(circuit, dataclasses.replace(timescales, decay=2 * timescales.decay), *known)


DEFECTS = {
    "feedback of the wrong sign": (rules.heterosynaptic, "Activity", lambda: Negative(Activity()), "after learning"),
    "decay of half the rate": (dynamics.flow, "weight_drifts", _of_half_the_rate, "offset"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_noticed(plant, defect):
    target, name, planted, caught = DEFECTS[defect]
    plant(target, name, planted)
    assert caught in failed(length=4.0)
