"""T2.2: up to which fractions of sign-flipped inputs and hidden units a linear student's solution stays stable."""

from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Finding, Fractions, Positives, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.matrices import (
    Inputs,
    error_matrix,
    hidden_units,
    is_stable,
    linked,
    most_inputs,
    most_stable,
    most_units,
    signs,
    teachers,
)
from experiments.predictions.drawing import drawn, marked, marked_across, plotted
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, close, matches

WIDEST, NARROWEST = 0.15, 1.2  # c = inputs per hidden unit, between which the limits are looked for


class AbstractBoundary(AbstractPrediction):
    """The critical fraction of flipped neurons of one layer against the ratio of inputs to hidden units.

    layer     0 where inputs are flipped, 1 where hidden units are; `symbol` of that fraction
    checked   fractions of inputs and of hidden units that are flipped where matrices are linked to the engine
    shown     ratios that the figure has at least; `look` of its vertical axis; `stable`, where it says so
    """

    layer: ClassVar[int]
    symbol: ClassVar[str]
    checked: ClassVar[tuple[float, float]]
    shown: ClassVar[tuple[float, float]]
    look: ClassVar[dict[str, Any]]
    stable: ClassVar[float]
    tolerance = """The 99.9 % interval of the mean over teachers, and one neuron of the smaller layer: the boundary is
        expected at the given size, with the shift of the smallest of M eigenvalues by the law of Tracy and Widom, whose
        next order is 1/M."""

    inputs: Inputs
    ratios: Positives
    seeds: Seeds = 20

    def infinite(self, ratio: float) -> float:
        """The boundary of an infinitely large network."""
        return theory.hidden_boundary(ratio) if self.layer == 0 else theory.readout_boundary(ratio)

    def expected(self, ratio: float) -> float:
        """The boundary at so many inputs."""
        return theory.finite_boundary(self.inputs, lambda f: (ratio, f, 0.0) if self.layer == 0 else (ratio, 0.0, f))

    def critical(self, w1: np.ndarray) -> float:
        """Of a teacher: halfway between the largest stable and the smallest unstable fraction."""
        gram = w1.T @ w1
        most = most_inputs(gram) if self.layer == 0 else most_units(w1, np.eye(self.inputs) + gram)
        return min(1.0, (most + 0.5) / w1.shape[1 - self.layer])

    def measure(self) -> Finding:
        verdicts, sampled = [linked(self.seed, *self.checked)], {}
        for hidden in [hidden_units(self.inputs, ratio) for ratio in self.ratios]:
            ratio, neuron = self.inputs / hidden, 1 / min(self.inputs, hidden)
            drawn = teachers(self.seed, self.seeds, self.inputs, hidden)
            sampled[ratio] = np.array([self.critical(w1) for w1, _ in drawn])
            name, note = f"boundary at c = {ratio:.4g}", f"infinitely large: {self.infinite(ratio):.4f}"
            verdicts.append(matches(name, self.symbol, self.expected(ratio), sampled[ratio], neuron, note))
        return Finding(verdicts, self._drawn(sampled))

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, sampled: dict[float, np.ndarray]) -> None:
        """Both boundaries, the stable side shaded, and samples by ratio with their 95 % intervals."""
        low, high = min(self.shown[0], *self.ratios), max(self.shown[1], *self.ratios)
        fine = np.linspace(low, high, 61) if self.layer == 0 else np.geomspace(low, high, 61)
        closed = [self.infinite(c) for c in fine]
        panel.plot(fine, closed, color="0.2", label="infinitely large")
        panel.plot(fine, [self.expected(c) for c in fine], "--", color="0.5", label=f"{self.inputs} inputs")
        panel.fill_between(fine, closed, 0, color=OKABE_ITO[2], alpha=0.12, linewidth=0)
        look = {"marker": "o", "color": OKABE_ITO[0], "label": "sampled, 95 % interval"}
        marked(panel, list(sampled), list(sampled.values()), **look)
        panel.legend(loc="upper right")
        panel.text(0.05, self.stable, "stable", transform=panel.transAxes)
        panel.set(xlabel="inputs per hidden unit c", **self.look)


class HiddenBoundary(AbstractBoundary):
    """The critical fraction of flipped inputs against the ratio of inputs to hidden units."""

    number = "T2.2a"
    title = "Flipped inputs destabilise the solution beyond a closed-form boundary"
    source = "ninou2025curl, fig. 2 (hidden layer); closed form derived by free convolution"
    equation = """alpha_h* = max_{s>1} (1/c - s - s/(s+1)) (s^2 - 1) / (2 s), between 0 and 1; at M inputs where
        lambda_min(alpha_h) + 1.2065 gamma M^(-2/3) = 0"""
    claim = """A linear student with c inputs per hidden unit keeps a stable solution while fewer than a fraction
        alpha_h*(c) of its inputs learn with the opposite sign."""
    method = """Inputs of a random teacher are flipped one more at a time (by bisection, since flips only ever
        destabilise) until A = |W2|^2 D1 + W1^T W1 is no longer positive definite. That A governs the engine's weight
        flow is a claim of its own."""
    quick = {"inputs": 200, "ratios": (0.28, 0.3, 0.4, 0.5)}
    layer, symbol, checked, shown, stable = 0, "alpha_h*", (0.3, 0.0), (0.2, 0.75), 0.3
    look = {"ylabel": r"fraction of flipped inputs $\alpha_h$", "ylim": (0, 1.05)}

    inputs: Inputs = 500
    ratios: Positives = (0.26, 0.28, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)  # c = inputs per hidden unit


class ReadoutBoundary(AbstractBoundary):
    """The critical fraction of flipped hidden units against the ratio of inputs to hidden units."""

    number = "T2.2b"
    title = "Flipped hidden units destabilise the solution beyond a closed-form boundary"
    source = "ninou2025curl, fig. 2 (readout); closed form derived by free convolution"
    equation = """alpha_r* = max_{0<t<1} [1 - t - c (1 - t)^2 (1 + t) / t] / 2: 1/2 as c -> 0, 1 / (16 c) for large c;
        at M inputs where lambda_min(alpha_r) + 1.2065 gamma M^(-2/3) = 0"""
    claim = """A linear student with c inputs per hidden unit keeps a stable solution while fewer than a fraction
        alpha_r*(c) of its hidden units learn with the opposite sign: expansive networks are robust, compressive ones
        fragile."""
    method = """Hidden units of a random teacher are flipped one more at a time (by bisection, since flips only ever
        destabilise) until A = |W2|^2 + W1^T D2 W1 is no longer positive definite. That A governs the engine's weight
        flow is a claim of its own."""
    quick = {"inputs": 200, "ratios": (0.1, 0.3, 1.0)}
    layer, symbol, checked, shown, stable = 1, "alpha_r*", (0.0, 0.2), (0.05, 5.0), 0.2
    look = {"ylabel": r"fraction of flipped hidden units $\alpha_r$", "xscale": "log", "ylim": (0, 0.5)}

    inputs: Inputs = 400
    ratios: Positives = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # c = inputs per hidden unit


class MixedBoundary(AbstractPrediction):
    """The critical fraction of flipped hidden units against the fraction of flipped inputs."""

    number = "T2.2c"
    title = "Flips in both layers share one stability boundary"
    source = "ninou2025curl, fig. 2 has the two ends; derived in between by free convolution"
    equation = """alpha_r*(alpha_h) = max_{s: g < 1} (1 - g) [1 - c s (1 + g)] / 2, g(s) = (1 - alpha_h) / (s + 1) +
        alpha_h / (s - 1); at M inputs where lambda_min + 1.2065 gamma M^(-2/3) = 0"""
    claim = """The more inputs learn with the opposite sign, the fewer hidden units may: the boundary falls from
        alpha_r*(0) to 0 at alpha_h*(c), or not quite to 0 where c < 1/4."""
    method = """A fraction alpha_h of the inputs of a random teacher is flipped, then hidden units one more at a time
        (by bisection, since flips only ever destabilise) until A = |W2|^2 D1 + W1^T D2 W1 is no longer positive
        definite. That A governs the engine's weight flow is a claim of its own."""
    tolerance = AbstractBoundary.tolerance
    quick = {"inputs": 150, "seeds": 10, "flipped_inputs": (0.0, 0.3, 1.0), "ratios": (0.1, 0.3)}

    inputs: Inputs = 300
    ratios: Positives = (0.1, 0.2, 0.3)  # c = inputs per hidden unit
    flipped_inputs: Fractions = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    seeds: Seeds = 20

    def measure(self) -> Finding:
        critical = np.array([self._critical(hidden_units(self.inputs, ratio)) for ratio in self.ratios])
        judged = [
            self._verdict(hidden_units(self.inputs, ratio), flipped, samples)
            for ratio, rows in zip(self.ratios, critical, strict=True)
            for flipped, samples in zip(self._flipped(), rows, strict=True)
        ]
        return Finding([linked(self.seed, 0.3, 0.2), *judged], self._drawn(critical))

    def _verdict(self, hidden: int, flipped: int, samples: np.ndarray) -> Verdict:
        exact, alpha = self.inputs / hidden, flipped / self.inputs
        name = f"boundary at c = {exact:.4g}, alpha_h = {alpha:.4g}"
        note = f"infinitely large: {theory.readout_boundary(exact, alpha):.4f}"
        return matches(name, "alpha_r*", self._expected(exact, alpha), samples, 1 / min(self.inputs, hidden), note)

    def _flipped(self) -> list[int]:
        return [round(alpha * self.inputs) for alpha in self.flipped_inputs]

    def _expected(self, ratio: float, alpha_h: float) -> float:
        return theory.finite_boundary(self.inputs, lambda fraction: (ratio, alpha_h, fraction))

    def _critical(self, hidden: int) -> np.ndarray:
        """Critical fractions, (flipped inputs, seeds): 0 where none may be flipped, or too many inputs are."""
        found = np.zeros((len(self.flipped_inputs), self.seeds))
        for seed, (w1, _) in enumerate(teachers(self.seed, self.seeds, self.inputs, hidden)):
            for j, flipped in enumerate(self._flipped()):
                most = most_units(w1, w1.T @ w1 + np.diag(signs(self.inputs, flipped)))
                found[j, seed] = min(1.0, (most + 0.5) / hidden) if most else 0.0
        return found

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, critical: np.ndarray) -> None:
        fine = np.linspace(0, 1, 41) ** 2  # the boundary leaves its end steeply
        alphas = np.array(self._flipped()) / self.inputs
        for i, ratio in enumerate(self.ratios):
            look: dict[str, Any] = {"color": OKABE_ITO[i % 7]}
            exact = self.inputs / hidden_units(self.inputs, ratio)
            panel.plot(fine, [theory.readout_boundary(exact, alpha) for alpha in fine], **look)
            panel.plot(fine, [self._expected(exact, alpha) for alpha in fine], "--", linewidth=0.7, **look)
            marked(panel, alphas, critical[i], marker=MARKERS[i % 7], label=f"c = {exact:.3g}", **look)
        panel.plot([], [], color="0.2", label="infinitely large")
        panel.plot([], [], "--", color="0.2", linewidth=0.7, label=f"{self.inputs} inputs")
        panel.set(xlabel=r"fraction of flipped inputs $\alpha_h$", xlim=(-0.03, 1.03))
        panel.set_ylabel(r"fraction of flipped hidden units $\alpha_r$")
        panel.set_ylim(-0.005, max(0.02, 1.5 * critical.mean(-1).max()))
        panel.legend(loc="upper right", ncols=2)


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
