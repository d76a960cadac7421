"""T2.2c: how many hidden units may be flipped as well where a fraction of the inputs is flipped already."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.predictions.contract import AbstractPrediction, Finding, Fractions, Positives, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.boundaries import AbstractBoundary
from experiments.predictions.curl.matrices import Inputs, hidden_units, linked, most_units, signs, teachers
from experiments.predictions.kit import marked, plotted
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, matches


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
