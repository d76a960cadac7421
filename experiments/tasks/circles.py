"""Concentric circles: the smallest task that needs a hidden layer."""

from typing import ClassVar

import numpy as np

from experiments.tasks.classes import classification
from experiments.tasks.contract import AbstractTask, Count, Data, Deviation, Fraction, Kind, Seed, check_size, generator


class Circles(AbstractTask):
    """Two concentric circles in the plane, two classes that no line separates.

    Class 0 lies on the circle of radius 1, class 1 on the circle of radius `radius_ratio`, at uniformly random angles;
    gaussian noise of standard deviation `noise` is added to both coordinates. Half of the `samples` belong to each
    class (class 0 has the odd one).

    Inputs (samples, 2): coordinates, in units of the outer radius. Targets (samples, 2): one-hot. Of every class the
    same fraction, `test_fraction`, is kept for the test. Source: synthetic, after scikit-learn's `make_circles`.
    """

    kind: ClassVar[Kind] = "classification"
    name: str = "circles"
    samples: Count = 1000
    noise: Deviation = 0.05
    radius_ratio: Fraction = 0.5
    test_fraction: Fraction = 0.2
    seed: Seed = 0

    def load(self) -> Data:
        """The points, drawn and split at random by `seed`."""
        check_size("samples x 25, to draw and split them", self.samples, 25)
        labels = np.arange(self.samples) % 2
        angle = generator(self.seed, "angles").uniform(0, 2 * np.pi, self.samples)
        radius = np.where(labels == 0, 1.0, self.radius_ratio)
        points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        points += self.noise * generator(self.seed, "noise").standard_normal(points.shape)
        return classification(points, labels, self.test_fraction, self.seed)
