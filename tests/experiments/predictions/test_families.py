"""Plasticity windows of rule families: the table, what is read off curves, claims and a planted defect."""

from typing import Any

import numpy as np
import pytest

import experiments.predictions.limits.plasticity_families as module
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.limits.families import FAMILIES, Family, box, flat, traced, twice_traced
from experiments.predictions.limits.plasticity_families import Measured, PlasticityFamilies, half_width
from rules import FA
from tests.experiments.predictions.verdicts import failed

QUICK = {
    "families": ("fa", "oja"), "seeds": 10, "presentations": 80, "delays": (0.0, 0.4, 0.6, 1.3), "samples": 20,
    "timescales": (0.2, 8.0, 1000.0), "inputs": 4, "hidden": 6, "outputs": 3,
}  # fmt: skip


def quick(**settings) -> Any:
    """Cheap enough for a test."""
    return prediction_class("plasticity-families").configured("plasticity-families", QUICK | settings)


def test_what_a_taught_family_and_an_untaught_one_have_is_found():
    finding = quick().measure()
    assert failed(finding) == set()
    assert "no window" in finding.notes[1] and "half width 0.4" in finding.notes[0]


def test_the_table_has_more_than_ten_families_of_both_kinds():
    taught = [family.taught for family in FAMILIES.values()]
    assert len(taught) >= 11 and 4 <= sum(taught) <= len(taught) - 4


def test_a_family_is_one_line(monkeypatch):
    monkeypatch.setitem(FAMILIES, "quick traces", Family(FA(), traced(0.3), trace=0.3))
    found = quick(families=("quick traces",))._measured(FAMILIES["quick traces"])
    d = np.array(QUICK["delays"])
    np.testing.assert_allclose(found.strength, traced(0.3)(d), atol=0.12)
    assert np.abs(found.strength - box(d)).max() > 0.2


def test_curves_without_lags():
    d = np.array([0.0, 0.25, 1.0, 1.5])
    np.testing.assert_allclose(box(d), [1, 0.75, 0, 0])
    np.testing.assert_allclose(flat(d), 1)
    t = np.linspace(0, 3, 300_001)  # traces of a box, against the box d later
    trace = np.where(t < 1, 1 - np.exp(-t / 0.4), (1 - np.exp(-1 / 0.4)) * np.exp(-(t - 1) / 0.4))
    strength = [np.mean(trace * ((t >= late) & (t < late + 1))) for late in d]
    np.testing.assert_allclose(traced(0.4)(d), np.array(strength) / strength[0], atol=1e-4)
    second = np.zeros_like(t)  # another trace behind it, by exact steps for a mean of the first
    keep = np.exp(-(t[1] - t[0]) / 0.4)
    for i in range(1, len(t)):
        second[i] = keep * second[i - 1] + (1 - keep) * (trace[i - 1] + trace[i]) / 2
    strength = [np.mean(second * ((t >= late) & (t < late + 1))) for late in d]
    np.testing.assert_allclose(twice_traced(0.4)(d), np.array(strength) / strength[0], atol=1e-4)


@pytest.mark.parametrize(("curve", "expected"), [([1, 0.6, 0.2, 0], 1.25), ([2, 2, 2, 2], np.inf), ([1, 0, 0, 0], 0.5)])
def test_half_widths(curve, expected):
    assert half_width(np.arange(4.0), np.array(curve, float)) == pytest.approx(expected)


def test_the_window_is_where_half_of_the_best_is_learned():
    p = PlasticityFamilies(timescales=(1.0, 10.0, 100.0, 1000.0))
    learned = np.repeat(np.array([[0.0], [0.8], [0.8], [0.2]]), 2, axis=1)
    window = p.window(Measured(np.ones(3), learned, np.zeros((0, 2))))
    assert window == pytest.approx((10**0.5, 10 ** (2 + 2 / 3)))
    assert p.window(Measured(np.ones(3), learned / 4, np.zeros((0, 2)))) is None
    whole = p.window(Measured(np.ones(3), np.full((4, 2), 0.9), np.zeros((0, 2))))
    assert whole == pytest.approx((1.0, 1000.0))


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"families": ("nonsense",)}, "nonsense"),
        ({"delays": (0.1, 0.5, 1.3)}, "delays"),
        ({"timescales": (3.0, 2.0, 1.0)}, "timescales"),
    ],
)
def test_values_without_meaning_are_refused(settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        quick(**settings)


def test_an_error_that_comes_too_early_fails_the_curves(monkeypatch):
    right = module.coupled

    def early(*given, late, **more):
        return right(*given, late=0.6 * late, **more)

    monkeypatch.setattr(module, "coupled", early)
    assert {"curves", "half widths"} <= failed(quick(families=("fa",)).measure())
