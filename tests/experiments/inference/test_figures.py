"""Figures of designs, of errors that were made up."""

import numpy as np
import xarray as xr

from experiments.inference.coordinates import Coordinate
from experiments.inference.design import Design
from experiments.inference.figures import design_figures

LAG = Coordinate("delays.error", 0.0, 0.04, is_log=False, is_time=True, prior=None, value=None)
NEURONS = ("neurons", ["[0]", "[0, 2]"], {"path": "fit.observe.0.neurons", "long_name": "observe.0.neurons"})
GAP = ("gap", [0.01, 0.02], {"path": "stimulus.gap", "long_name": "gap", "units": "s"})
EVERY = ("every", [1, 5, 10], {"path": "fit.observe.0.every"})


def panel_of(errors: np.ndarray, *axes: tuple):
    dims = [name for name, _, _ in axes]
    numbers = {"error": ([*dims, "free"], errors[..., None]), "seconds": (dims, np.ones(errors.shape))}
    drawn = design_figures(Design(xr.Dataset(numbers, {one[0]: one for one in axes}), (LAG,), {}))
    return drawn["design"].axes[0]


def texts(ticks):
    return [tick.get_text() for tick in ticks]


def test_which_neurons_are_seen_is_an_axis_of_texts():
    panel = panel_of(np.array([0.003, 0.002]), NEURONS)
    assert texts(panel.get_xticklabels()) == ["[0]", "[0, 2]"] and panel.get_xlabel() == "observe.0.neurons"
    assert panel.get_title() == "standard error of\ndelays.error (s)"
    assert [line.get_linestyle() for line in panel.lines] == ["None"]  # there is nothing between two texts


def test_a_map_is_at_the_best_of_further_axes():
    errors = np.arange(1.0, 13).reshape(2, 2, 3)
    errors[0, 0, 0] = np.inf  # where nothing would be known
    panel = panel_of(errors, GAP, NEURONS, EVERY)
    np.testing.assert_array_equal(panel.images[0].get_array(), [[2, 7], [4, 10]])
    assert texts(panel.get_yticklabels()) == ["[0]", "[0, 2]"] and panel.get_xlabel() == "gap (s)"
    assert panel.figure.get_suptitle() == "at the best fit.observe.0.every"


def test_an_axis_of_one_place_is_none():
    panel = panel_of(np.ones((1, 3)), ("gap", [0.01], {}), EVERY)
    np.testing.assert_array_equal(panel.lines[0].get_xdata(), [1, 5, 10])
