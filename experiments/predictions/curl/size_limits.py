"""T2.2d: networks so wide that any inputs may be flipped, and so narrow that none may."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Finding, Positives, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.matrices import (
    Inputs,
    error_matrix,
    hidden_units,
    is_stable,
    linked,
    most_stable,
    teachers,
)
from experiments.predictions.kit import drawn, marked, marked_across
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, close, matches

WIDEST, NARROWEST = 0.15, 1.2  # c = inputs per hidden unit, between which the limits are looked for


class SizeLimits(AbstractPrediction):
    """The ratios of inputs to hidden units at which flipping all inputs, or a single one, becomes unstable."""

    number = "T2.2d"
    title = "Stable for any flipped inputs below c = 1/4, for none above c = 2/3"
    source = "ninou2025curl, fig. 2 (hidden layer); the two limits derived"
    equation = """alpha_h = 1: lambda_min = (1 / sqrt(c) - 1)^2 - 1 > 0 iff c < 1/4; one flipped input i: stable iff [(1
        + W1^T W1)^-1]_ii < 1/2, whose mean over i, g with c (1 - g^2) = g, is 1/2 at c = 2/3"""
    claim = """With more than four hidden units per input a linear student's solution is stable even if every input
        learns with the opposite sign; with fewer than 1.5 a single flipped input makes it unstable."""
    method = """Hidden units of a random teacher are removed one by one (by bisection, since fewer of them only ever
        destabilise) until A with all inputs flipped is no longer positive definite, and until the mean of the diagonal
        of (1 + W1^T W1)^-1 exceeds 1/2. That this diagonal decides is a claim of its own, tested input by input, and so
        is that A governs the engine's weight flow."""
    tolerance = """The 99.9 % interval of the mean over teachers, and 1 / inputs. The limit at 1/4 is expected at the
        given size, with the shift of the smallest of M eigenvalues by the law of Tracy and Widom, whose next order is
        1/M; the mean of a diagonal is off its limit by order 1/M."""
    quick = {"inputs": 150, "ratios": (0.2, 0.3, 0.5, 0.8), "seeds": 10}

    inputs: Inputs = 400
    ratios: Positives = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)  # c, for the figure
    seeds: Seeds = 20

    def measure(self) -> Finding:
        drawn = teachers(self.seed, self.seeds, self.inputs, hidden_units(self.inputs, WIDEST))
        limits = np.array([self._limits(w1) for w1, _ in drawn])
        verdicts = [
            linked(self.seed, 1.0, 0.0),
            matches("all inputs", "c below which all may be flipped", self._expected(), limits[:, 0], 1 / self.inputs),
            matches("one input", "c above which none may", theory.NEVER_STABLE, limits[:, 1], 1 / self.inputs),
            self._decided(),
        ]
        return Finding(verdicts, self._drawn(limits))

    def _expected(self) -> float:
        """The c at which the expected smallest eigenvalue with all inputs flipped is 0."""
        return theory.root(lambda c: theory.expected_smallest(self.inputs, c, 1.0), 0.01, 0.9)

    def _limits(self, w1: np.ndarray) -> tuple[float, float]:
        """Both limits of one teacher, halfway between the ratios on either side."""
        size, most, least = self.inputs, len(w1), hidden_units(self.inputs, NARROWEST)

        def all_flipped(removed: int) -> bool:
            units = w1[: most - removed]
            return is_stable(units.T @ units - np.eye(size))

        def one_flipped(removed: int) -> bool:
            return bool(_diagonal(w1[: most - removed]).mean() < 1 / 2)

        first, second = (size / (most - most_stable(most - least, f) - 0.5) for f in (all_flipped, one_flipped))
        return first, second

    def _decided(self) -> Verdict:
        """How many of the decisions by the diagonal differ from those by A, over all inputs of a small teacher."""
        size, wrong = min(self.inputs, 60), 0
        for w1, w2 in teachers(self.seed, self.seeds, size, round(size / theory.NEVER_STABLE)):
            gram, diagonal = error_matrix(w1, w2, 0, 0), _diagonal(w1)
            for i in range(size):
                flipped = gram.copy()
                flipped[i, i] -= 2 * (w2 @ w2)
                wrong += is_stable(flipped) != (diagonal[i] < 1 / 2)
        quantity = f"wrong decisions of {self.seeds * size}, at c = 2/3"
        return close("the diagonal decides whether one flip is unstable", quantity, 0.0, float(wrong), 0.0)

    def _curves(self, ratio: float) -> np.ndarray:
        """The smallest eigenvalue with all inputs flipped, and the mean of the diagonal: (2, teachers)."""
        drawn = teachers(self.seed, self.seeds, self.inputs, hidden_units(self.inputs, ratio))
        spectra = np.array([np.linalg.eigvalsh(w1.T @ w1) for w1, _ in drawn])
        return np.stack([spectra[:, 0] - 1, (1 / (1 + spectra)).mean(1)])

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, limits: np.ndarray) -> None:
        found = np.stack([self._curves(ratio) for ratio in self.ratios], 1)
        exact = [self.inputs / hidden_units(self.inputs, ratio) for ratio in self.ratios]
        fine = np.linspace(min(self.ratios), max(self.ratios), 61)
        edges = [theory.lambda_min(c, 1.0) for c in fine]
        diagonals = (np.sqrt(1 + 4 * fine**2) - 1) / (2 * fine)
        left, right = figure.subplots(1, 2)
        _panel(left, (fine, np.array(edges)), exact, found[0], theory.ALWAYS_STABLE, 0.0)
        shifted = [theory.expected_smallest(self.inputs, c, 1.0) for c in fine]
        left.plot(fine, shifted, "--", color="0.5", label=f"{self.inputs} inputs")
        _panel(right, (fine, diagonals), exact, found[1], theory.NEVER_STABLE, 0.5)
        for panel, samples, level in ((left, limits[:, 0], 0.0), (right, limits[:, 1], 0.5)):
            marked_across(panel, samples, level, marker="D", color=OKABE_ITO[1], label="measured limit")
            panel.set_xlabel("inputs per hidden unit c")
        left.set(ylabel=r"$\lambda_{\min}(A)$, all inputs flipped", ylim=(-1.2, max(edges[0], 1) * 1.05))
        right.set_ylabel(r"mean of $[(1 + W_1^T W_1)^{-1}]_{ii}$")
        left.legend(loc="upper right")
        right.legend(loc="lower right")


def _diagonal(w1: np.ndarray) -> np.ndarray:
    """The diagonal of (1 + W1^T W1)^-1: a flip of input i alone subtracts 2 there, which its entry must not reach."""
    return np.diag(np.linalg.inv(np.eye(w1.shape[1]) + w1.T @ w1))


def _panel(
    panel: Axes, line: tuple[np.ndarray, np.ndarray], exact: list[float], found: np.ndarray, limit: float, level: float
) -> None:
    panel.axhline(level, color="0.8", linewidth=0.6)
    panel.axvline(limit, color="0.8", linewidth=0.6)
    panel.plot(*line, color="0.2", label="infinitely large")
    marked(panel, exact, found, marker="o", color=OKABE_ITO[0], label="sampled, 95 % interval")
