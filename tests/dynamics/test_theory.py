"""The closed forms of the overlap law against sampling, limits and an independent table."""

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.theory import lagged_overlap, overlap_law

# (pre stages, error stages, delay, duration): computed independently for the project, printed to three digits.
TABLE = [
    ((0, 0, 3, 10), 0.700),
    ((1, 3, 0, 10), 0.775),
    ((0, 6, 0, 10), 0.411),
    ((0, 6, 0, 5), 0.099),
    ((2, 8, 2, 20), 0.599),  # 0.59965, cut rather than rounded in the table
    ((3, 3, 0, 10), 0.813),
    ((0, 12, 0, 10), 0.053),
]


def test_two_boxes_overlap_linearly():
    """Against the length of the intersection of [0, T] and [d, d + T], computed by its ends."""
    delays = np.linspace(-3, 3, 61)
    for duration in (0.4, 1.0, 2.0):
        intersection = np.minimum(duration, delays + duration) - np.maximum(0, delays)
        np.testing.assert_allclose(overlap_law(delays, duration), np.maximum(intersection, 0) / duration, atol=1e-15)


@pytest.mark.parametrize(("case", "expected"), TABLE)
def test_lagged_overlap_agrees_with_the_table(case, expected):
    pre, error, delay, duration = case
    assert abs(lagged_overlap(delay, duration, pre, error, 1.0) - expected) < 1e-3


CASES = [(1, 3, 0.5, 4.0), (4, 2, -1.0, 3.0), (0, 5, 2.0, 6.0), (7, 0, 1.0, 5.0), (3, 3, 9.0, 4.0)]


@pytest.mark.parametrize("case", CASES)
def test_lagged_overlap_is_the_mean_over_random_lags(case):
    pre, error, delay, duration = case
    rng, tau, draws = np.random.default_rng(3), 0.7, 400_000
    late = delay + tau * (rng.standard_gamma(error, draws) - rng.standard_gamma(pre, draws))
    sampled = np.maximum(0, 1 - np.abs(late) / duration)
    standard_error = sampled.std() / np.sqrt(draws)
    assert abs(lagged_overlap(delay, duration, pre, error, tau) - sampled.mean()) < 4 * standard_error


def test_one_stage_has_its_elementary_integral():
    """E[max(0, 1 - V/T)] = 1 - (tau/T)(1 - e^{-T/tau}) for V ~ Exp(tau), by hand."""
    ratio = np.array([0.01, 0.3, 2.0, 50.0])
    expected = 1 - ratio * (1 - np.exp(-1 / ratio))
    np.testing.assert_allclose(lagged_overlap(0.0, 1.0, 0, 1, ratio), expected, atol=1e-12)
    np.testing.assert_allclose(lagged_overlap(0.0, 1.0, 1, 0, ratio), expected, atol=1e-12)


def test_limits_and_symmetry():
    delays = np.linspace(-2, 2, 41)
    no_stages = lagged_overlap(delays, 1.0, 0, 0, 0.1)
    np.testing.assert_allclose(no_stages, overlap_law(delays, 1.0), atol=1e-14)
    sharp = lagged_overlap(delays, 1.0, 2, 5, 1e-7)
    np.testing.assert_allclose(sharp, overlap_law(delays, 1.0), atol=1e-6)
    swapped = lagged_overlap(-delays, 1.0, 5, 2, 0.3)
    np.testing.assert_allclose(lagged_overlap(delays, 1.0, 2, 5, 0.3), swapped, atol=1e-12)
    many = lagged_overlap(delays, 1.0, 0, 400, 0.5 / 400)  # a sharp lag of 0.5 with a jitter of 0.5 / 20
    assert np.abs(many - overlap_law(delays + 0.5, 1.0)).max() < 0.025


def test_arguments_broadcast_to_arrays():
    assert lagged_overlap(np.zeros((4, 1)), np.ones(3), 1, 2, 0.1).shape == (4, 3)
    assert isinstance(overlap_law(0.1, 1.0), np.ndarray)


def test_impossible_arguments_are_told_in_a_sentence():
    with pytest.raises(PlasticodeError, match="got -1 presynaptic and 2 error stages"):
        lagged_overlap(0.0, 1.0, -1, 2, 0.1)
    with pytest.raises(PlasticodeError, match="tau = 0.0: it must be positive"):
        lagged_overlap(0.0, 1.0, 1, 2, 0.0)
