"""T2.2a: up to which fraction of sign-flipped inputs the solution of a linear student stays stable."""

import numpy as np
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Finding, Positives
from experiments.predictions.curl import boundary_figure, theory
from experiments.predictions.curl.matrices import Inputs, Replicates, hidden_units, linked, most_inputs, teacher
from experiments.report.figures import style
from experiments.results.verdicts import matches


class HiddenBoundary(AbstractPrediction):
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
    tolerance = """The 99.9 % interval of the mean over teachers, and one neuron of the smaller layer: the boundary is
        expected at the given size, with the shift of the smallest of M eigenvalues by the law of Tracy and Widom, whose
        next order is 1/M."""
    quick = {"inputs": 200, "ratios": (0.28, 0.3, 0.4, 0.5)}

    inputs: Inputs = 500
    ratios: Positives = (0.26, 0.28, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)  # c = inputs per hidden unit
    seeds: Replicates = 20

    def measure(self) -> Finding:
        sizes = [hidden_units(self.inputs, ratio) for ratio in self.ratios]
        verdicts, critical = [linked(self.seed, 0.3, 0.0)], []
        for hidden in sizes:
            critical.append(self._critical(hidden))
            exact = self.inputs / hidden
            note = f"infinitely large: {theory.hidden_boundary(exact):.4f}"
            name = f"boundary at c = {exact:.4g}"
            expected, neuron = self._expected(exact), 1 / min(self.inputs, hidden)
            verdicts.append(matches(name, "alpha_h*", expected, critical[-1], neuron, note))
        return Finding(verdicts, self._drawn(critical))

    def _expected(self, ratio: float) -> float:
        return theory.finite_boundary(self.inputs, lambda fraction: (ratio, fraction, 0.0))

    def _critical(self, hidden: int) -> np.ndarray:
        """Of every teacher: halfway between the largest stable and the smallest unstable fraction."""
        found = []
        for seed in range(self.seeds):
            w1, _ = teacher(np.random.default_rng([self.seed, seed]), self.inputs, hidden)
            found.append(min(1.0, (most_inputs(w1.T @ w1) + 0.5) / self.inputs))
        return np.array(found)

    def _drawn(self, critical: list[np.ndarray]) -> Figure:
        fine = np.linspace(min(0.2, *self.ratios), max(0.75, *self.ratios), 61)
        exact = [self.inputs / hidden_units(self.inputs, ratio) for ratio in self.ratios]
        sampled = dict(zip(exact, critical, strict=True))
        figure, panel = boundary_figure.draw(self.inputs, fine, theory.hidden_boundary, self._expected, sampled)
        with style():
            panel.text(0.05, 0.3, "stable", transform=panel.transAxes)
            panel.set(ylabel=r"fraction of flipped inputs $\alpha_h$", ylim=(0, 1.05))
        return figure
