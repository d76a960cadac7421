"""Intervals of profiles, against parabolas."""

import numpy as np
import pytest
import xarray as xr

from experiments.inference.conclusions import ends_of_interval


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
