"""T2.2b: up to which fraction of sign-flipped hidden units the solution of a linear student stays stable."""

import numpy as np
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Finding, Positives
from experiments.predictions.curl import boundary_figure, theory
from experiments.predictions.curl.matrices import Inputs, Replicates, hidden_units, linked, most_units, teacher
from experiments.report.figures import style
from experiments.results.verdicts import matches


class ReadoutBoundary(AbstractPrediction):
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
    tolerance = """The 99.9 % interval of the mean over teachers, and one neuron of the smaller layer: the boundary is
        expected at the given size, with the shift of the smallest of M eigenvalues by the law of Tracy and Widom, whose
        next order is 1/M."""
    quick = {"inputs": 200, "ratios": (0.1, 0.3, 1.0)}

    inputs: Inputs = 400
    ratios: Positives = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0)  # c = inputs per hidden unit
    seeds: Replicates = 20

    def measure(self) -> Finding:
        sizes = [hidden_units(self.inputs, ratio) for ratio in self.ratios]
        verdicts, critical = [linked(self.seed, 0.0, 0.2)], []
        for hidden in sizes:
            critical.append(self._critical(hidden))
            exact = self.inputs / hidden
            note = f"infinitely large: {theory.readout_boundary(exact):.4f}"
            name = f"boundary at c = {exact:.4g}"
            expected, neuron = self._expected(exact), 1 / min(self.inputs, hidden)
            verdicts.append(matches(name, "alpha_r*", expected, critical[-1], neuron, note))
        return Finding(verdicts, self._drawn(critical))

    def _expected(self, ratio: float) -> float:
        return theory.finite_boundary(self.inputs, lambda fraction: (ratio, 0.0, fraction))

    def _critical(self, hidden: int) -> np.ndarray:
        """Of every teacher: halfway between the largest stable and the smallest unstable fraction."""
        found = []
        for seed in range(self.seeds):
            w1, _ = teacher(np.random.default_rng([self.seed, seed]), self.inputs, hidden)
            found.append(min(1.0, (most_units(w1, np.eye(self.inputs) + w1.T @ w1) + 0.5) / hidden))
        return np.array(found)

    def _drawn(self, critical: list[np.ndarray]) -> Figure:
        fine = np.geomspace(min(0.05, *self.ratios), max(5.0, *self.ratios), 61)
        exact = [self.inputs / hidden_units(self.inputs, ratio) for ratio in self.ratios]
        sampled = dict(zip(exact, critical, strict=True))
        figure, panel = boundary_figure.draw(self.inputs, fine, theory.readout_boundary, self._expected, sampled)
        with style():
            panel.text(0.05, 0.2, "stable", transform=panel.transAxes)
            panel.set(ylabel=r"fraction of flipped hidden units $\alpha_r$", xscale="log", ylim=(0, 0.5))
        return figure
