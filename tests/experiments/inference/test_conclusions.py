"""Intervals of profiles, against parabolas."""

import numpy as np
import pytest
import xarray as xr

from experiments.inference.conclusions import ends_of_interval
from experiments.inference.coordinates import Coordinate
from experiments.inference.fitting import _cut, _estimate, _missed
from experiments.inference.verdicts import AT_BOUND, FALLEN, IDENTIFIED, Verdict


def profile(at: list[float], loss: list[float]) -> xr.Dataset:
    return xr.Dataset({"place": ("at", at), "loss": ("at", loss)})


@pytest.mark.parametrize("far", [1.0, 5.0])
def test_of_a_parabola_two_points_of_each_side_are_enough(far):
    at = np.array([-far, 0, 0.5, 0.5 + far])
    told = ends_of_interval(0.5, 0.001, profile(list(at), list(7 + ((at - 0.5) / 0.2) ** 2 / 2)), 7.0)
    np.testing.assert_allclose(told, 0.5 + 0.2 * 1.959964 * np.array([-1, 1]), rtol=1e-6)


def test_what_does_not_fall_has_no_end():
    loss = [8.0, 7.0, 7.5, np.nan]  # what diverges has fallen
    assert ends_of_interval(0.5, 0.001, profile([0, 0.5, 0.8, 1], loss), 7.0) == (-np.inf, pytest.approx(0.8))
    assert ends_of_interval(0.5, 0.001, profile([0, 0.5, 0.8, 1], [8, 7, 7.5, 8]), 7.0) == (-np.inf, np.inf)


def test_an_interval_reaches_over_all_valleys_that_are_deep_enough():
    """It has fallen by 3 on the way to places where it has by 0.5 only, on one side the end of the range."""
    at = [0, 0.2, 0.4, 0.5, 0.6, 0.8, 1]
    low, high = ends_of_interval(0.5, 0.001, profile(at, [12, 7.5, 10, 7, 10, 12, 7.5]), 7.0)
    fallen = np.sqrt(FALLEN)
    share = (fallen - np.sqrt(0.5)) / (np.sqrt(5) - np.sqrt(0.5))
    assert np.isclose(low, 0.2 - 0.2 * share) and high == np.inf
    assert ends_of_interval(0.5, 0.001, profile([0, 1], [9, 9]), 7.0)[0] == pytest.approx(0.5 * (1 - fallen / 2**0.5))


def test_a_profile_that_is_better_than_the_estimates_is_told():
    profiles = {"a": profile([0, 1], [7.5, np.nan]), "b": profile([0, 1], [7.95, 9])}
    (told,) = _missed(profiles, 8.0)
    assert told.startswith("A point of the profile of a fits better than the estimates, by 0.5 log units")


@pytest.mark.parametrize(
    ("ends", "verdict", "followed", "told"),
    [
        ((-0.1, 0.2), IDENTIFIED, [], ["profile that fit.profile asks for"]),
        ((0.9, 1.2), IDENTIFIED, [], ["profile that fit.profile asks for"]),
        ((0.1, 0.3), IDENTIFIED, [], []),
        ((-0.1, 0.2), AT_BOUND, [], []),
        ((-0.1, 0.2), IDENTIFIED, ["delays.error"], ["no other number was looked at"]),
    ],
)
def test_an_interval_that_its_range_cuts_asks_for_a_profile(ends, verdict, followed, told):
    lag = Coordinate("delays.error", 0.0, 0.04, is_log=False, is_time=True, prior=None, value=None)
    estimates = {lag.path: _estimate(lag, 0.1, ends, Verdict(verdict, ""), None)}
    said = _cut(estimates, (lag,), followed)
    assert len(said) == len(told) and all(text in one for text, one in zip(told, said, strict=True))
