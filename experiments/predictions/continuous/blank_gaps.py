"""T1.7: blank gaps keep late errors off the next stimulus."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import model_validator

from experiments.predictions.continuous.accuracies import (
    NAMES,
    AbstractDigitsPrediction,
    Chance,
    Replicates,
    Rules,
    chance_line,
    chance_of,
    diverged_note,
    final_accuracies,
    in_t,
    legend_above,
    marked,
)
from experiments.predictions.continuous.interference import weight_changes
from experiments.predictions.contract import Finding, NonNegatives, Positive
from experiments.report.figures import looks, style
from experiments.results.verdicts import Verdict, bracketed, close, exceeds, matches
from experiments.tasks.real import Digits


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
    quick = {"rules": ("fa",), "gaps": (0.0, 1.2)}

    rules: Rules = ("fa", "dfa")  # SGD diverges in the stream without gaps
    plasticity: Positive = 40.0
    gaps: NonNegatives = (0.0, 0.3, 0.6, 0.9, 1.2)  # in units of T
    delay: Positive = 0.9
    late: Positive = 1.1
    seeds: Replicates = 14

    @model_validator(mode="after")
    def _compares(self) -> "BlankGaps":
        if self.gaps[0] != 0 or any(np.diff(self.gaps) <= 0) or self.gaps[-1] < self.late:
            raise ValueError(f"gaps must start at 0, increase, and reach late = {self.late:g} (in units of T)")
        if not self.delay < 1 <= self.late:
            raise ValueError(f"delay = {self.delay:g} must be below 1 and late = {self.late:g} at least 1 (units of T)")
        return self

    def measure(self) -> Finding:
        chance, verdicts, notes, found = chance_of(Digits(seed=self.seed)), [self._equation()], [], {}
        for rule in self.rules:
            data = self.trained(rule, self._points(rule))
            notes += [f"{NAMES[rule]}: {note}" for note in diverged_note(data)]
            accuracy = final_accuracies(data, chance.level)
            n = len(self.gaps)
            found[rule] = accuracy[:, :n], accuracy[:, n:-2], accuracy[:, -2:]
            verdicts += self._verdicts(NAMES[rule], *found[rule])
        return Finding(verdicts, self._drawn(found, chance), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every gap at the shorter delay, at the longer one, and prompt networks slowed to the shorter's overlap."""
        n = len(self.gaps)
        slow = [self.slowed(rule, self.delay, self.propagation, self.propagation, loop) for loop in (False, True)]
        return {
            "delays.error": [in_t(self.delay)] * n + [in_t(self.late)] * n + ["0 T"] * 2,
            "stimulus.gap": [in_t(gap) for gap in (*self.gaps, *self.gaps, *self.gaps[-1:] * 2)],
            "timescales.plasticity": [[in_t(self.plasticity)] * self.layers] * (2 * n) + slow,
        }

    def _equation(self) -> Verdict:
        measured, expected = weight_changes(self.seed, self.delay, self.gaps, self.propagation)
        error = np.linalg.norm(measured - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))
        quantity = "largest deviation of dW from the sum over stimuli, relative to its norm, of all gaps"
        return close("what a late error teaches", quantity, 0.0, float(error.max()), 2e-3)

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

    def _drawn(self, found: dict[str, tuple[np.ndarray, ...]], chance: Chance) -> Figure:
        with style():
            figure = Figure((3.4, 2.9), layout="constrained")
            panel = figure.subplots()
            for (rule, (short, late, prompt)), look in zip(found.items(), looks(len(found), marks=True), strict=True):
                panel.axhline(prompt[:, 0].mean(), color=look["color"], linewidth=1)
                marked(panel, self.gaps, short, look, f"{NAMES[rule]}, d = {self.delay:g} T")
                hollow = look | {"markerfacecolor": "white"}
                marked(panel, self.gaps, late, hollow, f"{NAMES[rule]}, d = {self.late:g} T")
            panel.plot([], [], color="0.3", linewidth=1, label=f"slowed to the overlap at {self.delay:g} T")
            panel.axvline(self.delay, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
            panel.text(self.delay, 0.99, " g = d", color="0.35", fontsize=7, va="top")
            chance_line(panel, chance.level, 0.3)
            panel.set(xlabel="gap g between stimuli (stimulus durations T)", ylabel="test accuracy", ylim=(0, 1))
            legend_above(figure, panel, 2)
        return figure
