"""Predictions that end in every way, cheap enough to be measured in each test. Workers import this file."""

import os
import time

import numpy as np
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.results.verdicts import close, matches


class Line(AbstractPrediction):
    """A straight line and points beside it, `off` by so much."""

    number = "T0.1"
    title = "A line <with a slope>"
    source = "ninou2025curl, nowhere"
    equation = "y = slope x & nothing else"
    claim = "The points lie on the line."
    method = "By looking. " * 20
    tolerance = "None, since nothing is measured."
    quick = {"seeds": 6}

    slope: Positive = 2.0
    off: float = 0.0
    wide: Positive = 1.0
    seeds: Seeds = 8

    def measure(self) -> Finding:
        noise = 0.01 * self.wide * np.random.default_rng(self.seed).standard_normal(self.seeds)
        samples = self.slope + self.off + noise
        figure = Figure((3.4, 2.4))
        figure.subplots().plot([0, 1], [0, self.slope])
        verdicts = [
            matches("mean slope", "slope", self.slope, samples),
            close("exact slope", "slope", self.slope, self.slope + self.off, 1e-12),
        ]
        return Finding(verdicts, figure, ["Nothing was <simulated>."])


class Broken(AbstractPrediction):
    """Fails in the way that `how` says."""

    number = "T0.2"
    title = "A failure"
    source = "ziyin2025heterosynaptic, nowhere"
    equation = "1 / 0"
    claim = "It breaks."
    method = "Trying."
    tolerance = "None."

    how: str = "raises"

    def measure(self) -> Finding:
        if self.how == "dies":
            os._exit(1)
        if self.how == "sleeps":
            time.sleep(600)
        raise RuntimeError("the <first> line\nand a second one")
