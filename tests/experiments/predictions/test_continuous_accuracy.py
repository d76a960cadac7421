"""Accuracy under delays, lags, gaps and noise: the closed forms, small runs of the predictions, defects they catch."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.integrators import Window, windows
from experiments.points import assemble
from experiments.predictions import configured
from experiments.predictions.continuous import accuracies
from experiments.predictions.continuous.accuracy_limits import ActivityNoise, BlankGaps
from experiments.predictions.continuous.interference import weight_changes
from experiments.predictions.continuous.plasticity_window import FLOW_TIME, PlasticityWindow, reached
from experiments.predictions.kit import jackknifed
from experiments.predictions.reproduce import measure
from experiments.results.verdicts import between, bracketed, mean_of
from experiments.tasks.circles import Circles
from experiments.tasks.real import Digits

DELAY = {"rules": ["fa"], "hidden": [16], "delays": [0.0, 0.6, 1.2], "presentations": 300, "seeds": 12}
DELAY |= {"plasticity": 20.0}
CIRCLES = {"rules": ["sgd"], "depths": [1, 3], "lags": [0.125, 0.25, 0.5], "width": 12, "seeds": 16}
CIRCLES |= {"presentations": 600}


def outcome(name, settings):
    found = measure(configured([name], settings)[name])
    assert not found.failure, found.failure
    return found


def failed(name, settings):
    return [verdict.name for verdict in outcome(name, settings).verdicts if not verdict.passed]


# Closed forms


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_overlaps_are_means_over_random_lags(seed):
    """S_l = E max(0, 1 - |d + V - U|/T): l - 1 exponential lags before the synapse, so many error units after it."""
    rng = np.random.default_rng(seed)
    layers, around = int(rng.integers(2, 5)), int(rng.integers(0, 3))
    delay, tau = rng.uniform(0, 1), rng.uniform(0.02, 0.5)
    for rule in ("sgd", "dfa"):
        found = accuracies.overlaps(rule, layers, delay, tau, around)
        for layer, strength in enumerate(found, start=1):
            behind = layers - layer if rule != "dfa" else min(1, layers - layer)
            stages = (layer - 1, 1 + behind + around)
            u, v = (tau * rng.standard_exponential((100_000, n)).sum(axis=1) for n in stages)
            drawn = np.maximum(0, 1 - np.abs(delay + v - u))
            assert strength == pytest.approx(drawn.mean(), abs=5 * drawn.std() / np.sqrt(drawn.size) + 1e-6)


def test_slowed_networks_make_up_for_their_own_lag():
    small = ActivityNoise(hidden=(5,), plasticity=30.0)
    assert small.slowed("fa", 0.0, 0.04, 0.04) == ["30.0 T", "30.0 T"]
    assert small.slowed("fa", 3.0, 1e-3, 1e-3) == ["inf", "inf"]
    (first, last), slower = (small.slowed("fa", d, 1e-4, 1e-4) for d in (0.5, 0.75))
    assert [float(time[:-2]) for time in (first, last, *slower)] == pytest.approx([60, 60, 120, 120], rel=2e-3)


def test_knee_is_where_a_curve_is_half_way_to_chance():
    x = np.linspace(0, 2, 21)
    assert accuracies.knee(0.9 - 0.4 * x, x, 0.1) == pytest.approx(1.0)
    assert accuracies.knee(np.maximum(0.9 - 0.8 * x**2, 0.1), x, 0.1) == pytest.approx(np.sqrt(0.5), abs=2e-3)
    assert np.isnan(accuracies.knee(0.9 - 0.1 * x, x, 0.1))  # not within the sweep
    assert np.isnan(accuracies.knee(0.05 - 0.01 * x, x, 0.1))  # never above chance


def test_jackknife_of_a_mean_is_its_interval_and_of_a_square_has_no_bias():
    samples = np.random.default_rng(0).standard_normal(9)
    found = mean_of(jackknifed(lambda seeds: float(samples[seeds].mean()), 9))
    assert found.value == pytest.approx(samples.mean())
    assert found.half == pytest.approx(stdtrit(8, 0.975) * samples.std(ddof=1) / 3)
    squares = jackknifed(lambda seeds: float(samples[seeds].mean() ** 2), 9)
    assert squares.mean() == pytest.approx(samples.mean() ** 2 - samples.var(ddof=1) / 9)


def test_flow_reaches_a_level_between_records():
    times = np.linspace(0, FLOW_TIME, 9)
    assert reached(times / FLOW_TIME, 0.3) == pytest.approx(0.3 * FLOW_TIME)
    assert np.isnan(reached(times / FLOW_TIME, 1.1))


def test_chance_follows_from_the_task():
    for task, classes in ((Digits(seed=3), 10), (Circles(samples=101), 2)):
        chance = accuracies.chance_of(task)
        guesses = task.load().test_targets.mean(axis=0)
        assert chance.level == 1 / classes
        assert chance.imbalance == pytest.approx(max(guesses.max() - 1 / classes, 1 / classes - guesses.min()))


def test_verdicts_about_ranges():
    samples = np.random.default_rng(1).normal(0.5, 0.1, 50)
    assert between("", "", 0.4, 0.6, samples).passed
    assert between("", "", 0.5, 0.6, samples).outcome == "undecided"
    assert between("", "", 0.6, 0.7, samples).outcome == between("", "", 0.3, 0.4, samples).outcome == "failed"
    assert bracketed("", "", 0.5, 0.6, samples).passed
    assert bracketed("", "", 0.6, 0.7, samples).outcome == "failed"
    assert bracketed("", "", 0.5, 0.6, 100 * (samples - 0.5)).outcome == "undecided"
    assert between("", "", 0.4, 0.6, np.full(5, np.nan)).outcome == "failed"


# Predictions at small parameters


def test_what_late_errors_teach_is_the_sum_over_stimuli():
    rng = np.random.default_rng(0)
    delay, gaps = float(rng.uniform(0.2, 1.5)), (0.0, float(rng.uniform(0.1, 1.5)))
    measured, expected = weight_changes(7, delay, gaps, float(rng.uniform(0.08, 0.3)))
    assert np.abs(measured - expected).max() < 2e-3 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01


@pytest.mark.parametrize("propagation", [0.04, 0.7])
def test_noise_has_the_moments_of_its_process_whatever_its_time_constant(propagation):
    found = ActivityNoise(propagation=propagation, harmless=0.8, seed=5)._moments()
    assert all(verdict.passed for verdict in found), found
    assert found[1].expected == pytest.approx(np.exp(-1 / propagation))


def test_nothing_is_learned_beyond_the_overlap():
    """A small network that has not learned for long has its knee early: less overlap, and time is too short."""
    knee, _, beyond = outcome("accuracy-delay", DELAY).verdicts
    assert beyond.passed and beyond.expected == pytest.approx(0.1)
    assert 0.2 < float(knee.measured) < 0.6


def test_depth_makes_lags_worse():
    first, *_ = outcome("circles-depth", CIRCLES).verdicts
    assert first.passed, first
    assert "0.25 T" in first.quantity


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("accuracy-delay", {"delays": [0.1, 0.5, 1.2]}),
        ("accuracy-delay", {"delays": [0.0, 0.3, 1.2]}),
        ("accuracy-delay", {"seeds": 2}),
        ("accuracy-delay", {"rules": ["oja"]}),
        ("accuracy-propagation", {"lags": [0.5, 1.0]}),
        ("blank-gaps", {"gaps": [0.0, 0.5]}),
        ("blank-gaps", {"delay": 1.0}),
        ("activity-noise", {"noises": [0.0, 1.0]}),
        ("activity-noise", {"noises": [0.1, 1.0]}),
        ("circles-depth", {"depths": [2, 1]}),
        ("circles-depth", {"lags": [0.2, 1.0]}),
        ("accuracy-timescale", {"longest": 50.0}),
        ("accuracy-timescale", {"presentations": 10}),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name, settings):
    with pytest.raises(PlasticodeError, match=name):
        configured([name], settings)


def test_the_window_reads_its_sweep_from_its_parameters():
    small = PlasticityWindow(shortest=2.0, longest=200.0, steps=5)
    np.testing.assert_allclose(small.timescales, [2, 2 * 10**0.5, 20, 20 * 10**0.5, 200])


# Planted defects


def test_a_delay_that_is_halved_is_noticed(monkeypatch):
    """Without overlap nothing should be learned; with half of the delay there is some left."""
    monkeypatch.setattr(assemble, "Delays", lambda **lags: Delays(**(lags | {"error": lags["error"] / 2})))
    assert "no overlap, no learning (FA)" in failed("accuracy-delay", DELAY)


def test_targets_that_come_early_are_noticed(monkeypatch):
    total: Any = Window._total
    early = lambda window, system, names: (  # noqa: E731
        total(window, system, names) if names != ("error",) else 0.95 * total(window, system, names)
    )
    monkeypatch.setattr(Window, "_total", early)
    assert not BlankGaps(gaps=(0.0, 1.2), propagation=0.2)._equation().passed


def test_noise_of_another_strength_is_noticed(monkeypatch):
    paths = windows.ornstein_uhlenbeck
    monkeypatch.setattr(windows, "ornstein_uhlenbeck", lambda ratio, s: paths(ratio, s) / 2**0.5)
    verdicts = ActivityNoise()._moments()
    assert [verdict.passed for verdict in verdicts] == [False, True]
