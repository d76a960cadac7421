"""What the main job measures, and its figure shows: a plasticity window, and the response of a synapse."""

from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """The plasticity window of one rule, tau_plast in units of T.

    `interval` is the 95 % interval of the lower edge; an edge at the end of the sweep is a bound, not a measurement. It
    is over so many `seeds`.
    """

    lower: float
    upper: float
    interval: tuple[float, float]
    lower_is_bound: bool
    upper_is_bound: bool
    seeds: int


class Synapse(NamedTuple):
    """S/S0 of one synapse against the delay (seconds), measured and by the closed form; its numbers of lag stages."""

    delays: np.ndarray
    measured: np.ndarray
    expected: np.ndarray
    stages: tuple[int, int]
