"""From which fraction of flips on a clamped student leaves its teacher: in training, by matrices, in large networks."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.predictions.curl.learning import VARIANCE, Teachers, divided, teachers, train
from experiments.predictions.curl.matrices import clamped_error_matrix, error_matrix, most_inputs, most_units
from experiments.results.verdicts import Verdict, close, matches

PERTURBATION, DEPARTED = 1e-6, 1e-8  # of W2 at the start; a run whose loss ever is higher has left its teacher
GROWTH = 10.0  # ln of a growth that is certainly seen: from the perturbation to DEPARTED it is less than 5
SAMPLED = 200  # matrices for the expectation at finite size
LARGE, EACH = (200, 800), 40  # neurons of the networks that are extrapolated to infinitely many, and how many networks

TOLERANCE = (
    "The 99.9 % interval of the mean over teachers and half a neuron, against 200 other teachers' matrices of the same "
    "size that grow by e^5 or more. None for each teacher's own matrix: the jump lies where its growth is between 1 "
    "and e^10, which is certainly seen. For the closed form what is left open by matrices of 200 and 800 neurons, "
    "extrapolated as M^(-2/3): "
)


class Onsets(NamedTuple):
    """The runs of a bisection for one c, (teachers, runs); the onsets, and what matrices say of them and of others.

    `size` neurons can be flipped. `fractions`, order parameter `wander` and highest loss `peak` of every run;
    `measured` flips at the onset; `earliest` and `latest` by the own matrix; `sampled` fractions of other teachers.
    """

    c: float
    size: int
    fractions: np.ndarray
    wander: np.ndarray
    peak: np.ndarray
    measured: np.ndarray
    earliest: np.ndarray
    latest: np.ndarray
    sampled: np.ndarray

    @property
    def located(self) -> np.ndarray:
        """The fraction of flips at every teacher's onset."""
        return located(self.measured, self.size)

    @property
    def beyond(self) -> np.ndarray:
        """Which runs have at least as many flips as their teacher's onset."""
        return self.fractions * self.size > self.measured[:, None] - 0.5


def search(seed: int, count: int, units: int, c: float, layer: int, time: float) -> Onsets:
    """The onsets of `count` teachers of `units` neurons in `time` seconds. Layer 0 flips inputs, 1 hidden units."""
    widths = divided(units, c)
    given, size = teachers(seed, count, *widths), widths[layer]
    runs: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def unstable(numbers: np.ndarray) -> np.ndarray:
        flips = np.zeros((count, 2))
        flips[:, layer] = numbers / size
        course = train(given, flips, PERTURBATION, time)
        runs.append((numbers / size, course.wander, course.peak))
        return ~(course.peak < DEPARTED)

    measured, slowest = onsets(unstable, count, size), GROWTH / (VARIANCE * time)
    fractions, wander, peak = (np.stack(column, 1) for column in zip(*runs, strict=True))
    own = matrix_onsets(given, layer), matrix_onsets(given, layer, slowest)
    others = matrix_onsets(teachers(seed + 2**31, SAMPLED, *widths), layer, slowest / 2)
    return Onsets(c, size, fractions, wander, peak, measured, *own, located(others, size))


def judged(found: Onsets, star: float, limit: float, tolerance: float) -> list[Verdict]:
    """The onsets against matrices, and the `limit` of large matrices against the closed form `star`."""
    at, expected = f"at c = {found.c:g}", float(found.sampled.mean())
    outside = np.maximum(found.earliest - found.measured, found.measured - found.latest).clip(0)
    note = f"infinite network {star:.3f}, finite-size correction {expected - star:+.3f}"
    quantity = "fraction flipped where the student leaves its teacher"
    return [
        matches(f"jump {at}", quantity, expected, found.located, 0.5 / found.size, note),
        close(f"jump {at}, teacher by teacher", "neurons off its matrix's onset", 0.0, float(outside.max()), 0.0),
        close(f"closed form {at}", "onset of matrices, extrapolated in size", star, limit, tolerance),
    ]


def onsets(unstable: Callable[[np.ndarray], np.ndarray], runs: int, size: int) -> np.ndarray:
    """The fewest of `size` neurons that must be flipped for each run to be unstable, size + 1 where all do not suffice.

    `unstable` takes a number per run. By bisection: what is unstable stays so with more flips.
    """
    low, high = np.zeros(runs, int), np.full(runs, size + 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        answer = unstable(middle)
        high = np.where(answer & (middle > low), middle, high)
        low = np.where(~answer & (middle > low), middle, low)
    return high


def located(counts: np.ndarray, size: int) -> np.ndarray:
    """The fraction at the middle of the last flip before the onset; 1 where there is none."""
    return np.minimum((counts - 0.5) / size, 1.0)


def matrix_onsets(given: Teachers, layer: int, slowest: float = 0.0) -> np.ndarray:
    """`onsets` by the eigenvalues of every teacher's `clamped_error_matrix`: one lies below -`slowest`.

    Layer 0 flips inputs, layer 1 hidden units.
    """
    size = given.hidden.shape[2 - layer]

    def unstable(numbers: np.ndarray) -> np.ndarray:
        flips = [(n, 0) if layer == 0 else (0, n) for n in numbers.tolist()]
        pairs = zip(given.hidden, given.readout[:, 0], flips, strict=True)
        matrices = np.stack([clamped_error_matrix(w1, w2, *flip) for w1, w2, flip in pairs])
        return np.linalg.eigvals(matrices).real.min(1) < -slowest

    return onsets(unstable, len(given.hidden), size)


def large_network_onset(seed: int, c: float, layer: int) -> float:
    """The mean onset in networks of `LARGE` neurons by their matrices A, extrapolated to infinitely many.

    The edge of a spectrum tends to its limit as M^(-2/3).
    """
    means, scales = [], []
    for units in LARGE:
        inputs, hidden = divided(units, c)
        given = teachers(seed, EACH, inputs, hidden)
        pairs = zip(given.hidden, given.readout[:, 0], strict=True)
        if layer == 0:
            most = [most_inputs(w1.T @ w1) for w1, _ in pairs]
        else:
            most = [most_units(w1, error_matrix(w1, w2, 0, 0)) for w1, w2 in pairs]
        means.append(located(np.array(most) + 1, (inputs, hidden)[layer]).mean())
        scales.append(inputs ** (-2 / 3))
    slope = (means[0] - means[1]) / (scales[0] - scales[1])
    return float(means[1] - slope * scales[1])
