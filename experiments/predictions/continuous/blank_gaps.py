"""T1.7: blank gaps keep late errors off the next stimulus."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.predictions.continuous.accuracies import AbstractDigitsPrediction, Replicates, Rules, in_t
from experiments.predictions.continuous.interference import weight_changes
from experiments.predictions.contract import Finding, NonNegatives, Positive
from experiments.predictions.kit import all_close, legend_outside, look, marked, plotted
from experiments.results.verdicts import Verdict, bracketed, exceeds, matches


class BlankGaps(AbstractDigitsPrediction):
    """Accuracy against the gap between stimuli, at a delay shorter and one longer than a stimulus."""

    number = "T1.7"
    title = "Blank gaps as long as the delay rescue learning from late errors, but not beyond T"
    source = "bacvanski2025continuous, delays; what gaps do is derived from its model"
    equation = """tau_plast dW = (T - d) e_k x_k^T + max(0, d - g) e_k x_(k+1)^T;  with g >= d: accuracy(d, tau_plast)
        is about accuracy(0, tau_plast / S_l(d))"""
    claim = """In a dense stream an error that is late by d < T meets its own stimulus for T - d and the next one for d.
        A gap g >= d takes away the second part: accuracy rises, to that of a prompt network slowed to the same overlap.
        At d > T there is no first part, and gaps do not help."""
    method = """Test accuracy on digits with and without gaps, in pairs of equal seeds. For the equation: a linear layer
        that starts at 0 and learns little, against the sum over its stimuli, with the error unit's filter in the
        overlaps."""
    tolerance = """The 99.9 % interval over seeds. The slowed network is a bracket, as the two parts of the error,
        target and output, pass different numbers of filters. The equation: 0.2 %, five times the error of Heun steps of
        tau_prop / 8."""
    quick = {"rules": ("fa",), "gaps": (0.0, 1.2), "presentations": 400, "plasticity": 25.0, "seeds": 10}

    rules: Rules = ("fa", "dfa")  # SGD diverges in the stream without gaps
    plasticity: Positive = 40.0
    gaps: NonNegatives = (0.0, 0.3, 0.6, 0.9, 1.2)  # in units of T
    delay: Positive = 0.9
    late: Positive = 1.1
    seeds: Replicates = 14

    def misfit(self) -> str | None:
        if self.gaps[0] != 0 or any(np.diff(self.gaps) <= 0) or self.gaps[-1] < self.late:
            return f"gaps must start at 0, increase, and reach late = {self.late:g} (in units of T)"
        if not self.delay < 1 <= self.late:
            return f"delay = {self.delay:g} must be below 1 and late = {self.late:g} at least 1 (units of T)"

    def measure(self) -> Finding:
        (accuracies, notes), n = self.learned(self._points), len(self.gaps)
        found = {name: (each[:, :n], each[:, n:-2], each[:, -2:]) for name, each in accuracies.items()}
        verdicts = [verdict for name, parts in found.items() for verdict in self._verdicts(name, *parts)]
        return Finding([self._equation(), *verdicts], self._drawn(found), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every gap at the shorter delay, at the longer one, and prompt networks slowed to the shorter's overlap."""
        n = len(self.gaps)
        slow = [self.slowed(rule, self.delay, self.propagation, self.propagation, loop) for loop in (False, True)]
        return {
            "delays.error": [in_t(self.delay)] * n + [in_t(self.late)] * n + ["0 T"] * 2,
            "stimulus.gap": [in_t(gap) for gap in (*self.gaps, *self.gaps, *self.gaps[-1:] * 2)],
            "timescales.plasticity": [self.usual] * (2 * n) + slow,
        }

    def _equation(self) -> Verdict:
        measured, expected = weight_changes(self.seed, self.delay, self.gaps, self.propagation)
        error = np.linalg.norm(measured - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))
        quantity = "largest deviation of dW from the sum over stimuli, relative to its norm, of all gaps"
        return all_close("what a late error teaches", quantity, 0.0, error, 2e-3)

    def _verdicts(self, name: str, short: np.ndarray, late: np.ndarray, prompt: np.ndarray) -> list[Verdict]:
        d, beyond, gap = f"d = {self.delay:g} T", f"d = {self.late:g} T", f"a gap of {self.gaps[-1]:g} T"
        gain = short[:, -1] - short[:, 0]
        return [
            exceeds(f"gaps rescue late errors ({name})", f"accuracy with {gap} less that without, {d}", 0.0,
                    gain, f"with gaps {short[:, -1].mean():.3f}"),
            bracketed(f"with gaps a delay only slows ({name})",
                      f"accuracy with {gap}, {d}, between those of prompt networks slowed to the overlap with "
                      "the output and with the target", prompt[:, 1].mean(), prompt[:, 0].mean(), short[:, -1]),
            matches(f"beyond T gaps do not help ({name})", f"accuracy with {gap} less that without, {beyond}", 0.0,
                    late[:, -1] - late[:, 0], note=f"with gaps {late[:, -1].mean():.3f}", scale=abs(gain.mean())),
        ]  # fmt: skip

    @plotted(3.4, 2.9)
    def _drawn(self, panel: Axes, found: dict[str, tuple[np.ndarray, ...]]) -> None:
        for i, (name, (short, late, prompt)) in enumerate(found.items()):
            panel.axhline(prompt[:, 0].mean(), color=look(i)["color"], linewidth=1)
            marked(panel, self.gaps, short.T, label=f"{name}, d = {self.delay:g} T", **look(i))
            hollow = look(i, markerfacecolor="white", label=f"{name}, d = {self.late:g} T")
            marked(panel, self.gaps, late.T, **hollow)
        panel.plot([], [], color="0.3", linewidth=1, label=f"slowed to the overlap at {self.delay:g} T")
        panel.axvline(self.delay, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        panel.text(self.delay, 0.99, " g = d", color="0.35", fontsize=7, va="top")
        self.chance.draw(panel, 0.3)
        panel.set(xlabel="gap g between stimuli (stimulus durations T)", ylabel="test accuracy", ylim=(0, 1))
        legend_outside(panel, 2)
