"""T2.2a, b: up to which fraction of sign-flipped inputs, or hidden units, a linear student's solution stays stable."""

from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes

from experiments.predictions.contract import AbstractPrediction, Finding, Positives, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.matrices import Inputs, hidden_units, linked, most_inputs, most_units, teachers
from experiments.predictions.kit import marked, plotted
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import matches


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
