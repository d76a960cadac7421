"""T1.5c: the accuracy of a network that learns in a dense stream, against the propagation time constant."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import model_validator

from experiments.predictions.continuous.accuracies import (
    NAMES,
    AbstractDigitsPrediction,
    Chance,
    chance_line,
    chance_of,
    diverged_note,
    final_accuracies,
    in_t,
    knees,
    legend_above,
    marked,
)
from experiments.predictions.contract import Finding, Positives
from experiments.report.figures import looks, style
from experiments.results.verdicts import Verdict, exceeds, stays_below
from experiments.tasks.real import Digits


class Curves(NamedTuple):
    """Accuracies (seeds, lags): of the late network, and of those slowed to the overlap with target and with loop."""

    late: np.ndarray
    target: np.ndarray
    loop: np.ndarray


class AccuracyPropagation(AbstractDigitsPrediction):
    """Accuracy against tau_prop, rule by rule."""

    number = "T1.5c"
    title = "Propagation lags cost accuracy as they use up the overlap of input and error"
    source = "bacvanski2025continuous, abstract (propagation is fast); bounds derived from its overlap"
    equation = """tau_loop < tau_knee < tau_target, where accuracy(tau_prop -> 0, tau_plast / S_l(tau)) is half way to
        chance;  S_l(tau) = E max(0, 1 - |V - U| / T), U ~ Gamma(l - 1), V ~ Gamma(n + 1 + L - l), in tau;  n = 0 for
        the target, n = L for the loop"""
    claim = """Of the error, the target passes 1 + L - l filters on its way to layer l, and the network's output, which
        goes round the loop, L more. The lag at which accuracy has fallen half way to chance lies between those at which
        prompt networks do that are slowed to the overlap with the one and with the other."""
    method = """Test accuracy on digits after a dense stream; knees of mean curves over seeds, in log tau_prop, with
        jackknife intervals. The slowed networks have the shortest lag, and tau_plast / S_l(tau) in each layer."""
    tolerance = "The 99.9 % interval over seeds of the distance to a bound lies on the claimed side."
    quick = {"rules": ("fa",), "lags": (0.02, 0.2, 0.5, 1.0, 2.0, 5.0), "presentations": 600, "plasticity": 50.0}

    lags: Positives = (0.02, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)  # tau_prop in units of T

    @model_validator(mode="after")
    def _starts_prompt(self) -> "AccuracyPropagation":
        if any(np.diff(self.lags) <= 0) or 8 * self.layers * self.lags[0] > 1:
            raise ValueError(f"lags must increase, and start at most at {1 / (8 * self.layers):.3g}, a prompt one")
        return self

    def measure(self) -> Finding:
        chance, curves, verdicts, notes = chance_of(Digits(seed=self.seed)), {}, [], []
        for rule in self.rules:
            data = self.trained(rule, self._points(rule))
            notes += [f"{NAMES[rule]}: {note}" for note in diverged_note(data)]
            accuracy, n = final_accuracies(data, chance.level), len(self.lags)
            first, slowed = accuracy[:, :1], (accuracy[:, n : 2 * n - 1], accuracy[:, 2 * n - 1 :])
            curves[rule] = Curves(accuracy[:, :n], *(np.concatenate([first, rest], axis=1) for rest in slowed))
            verdicts += self._verdicts(NAMES[rule], curves[rule], chance, notes)
        return Finding(verdicts, self._drawn(curves, chance), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every lag; then networks slowed to the overlap with the target at each but the first, and with the loop."""
        first, later = self.lags[0], self.lags[1:]
        slow = [self.slowed(rule, 0.0, lag, first, loop) for loop in (False, True) for lag in later]
        return {
            "timescales.propagation": [in_t(lag) for lag in self.lags] + [in_t(first)] * len(slow),
            "timescales.plasticity": [[in_t(self.plasticity)] * self.layers] * len(self.lags) + slow,
        }

    def _verdicts(self, name: str, curves: Curves, chance: Chance, notes: list[str]) -> list[Verdict]:
        late, target, loop = (knees(curve, np.log(self.lags), chance.level) for curve in curves)
        at, around = np.exp(late.mean()), 2 * self.layers
        notes.append(
            f"{name}: half accuracy at tau_prop = {at:.3g} T, where 2 L tau_prop = {around * at:.3g} T. Learning of "
            "the whole network does not end at 2 L tau_prop = T, as the lag around the loop to the first layer has "
            "it: the target comes by a shorter way, and the output layer goes on learning from the features there are."
        )
        bounds = f"knees of the bounds at {np.exp(loop.mean()):.3g} T and {np.exp(target.mean()):.3g} T"
        quantity = "log of tau_prop at the knee over that of the network slowed to the overlap with the"
        return [
            exceeds(f"the target comes before the loop closes ({name})", f"{quantity} loop", 0.0, late - loop, bounds),
            stays_below(f"other stimuli interfere ({name})", f"{quantity} target", 0.0, late - target, bounds),
        ]

    def _drawn(self, curves: dict[str, Curves], chance: Chance) -> Figure:
        with style():
            figure = Figure((3.4, 2.9), layout="constrained")
            panel = figure.subplots()
            for (rule, each), look in zip(curves.items(), looks(len(curves), marks=True), strict=True):
                panel.plot(self.lags, each.target.mean(axis=0), color=look["color"], linewidth=1)
                panel.plot(self.lags, each.loop.mean(axis=0), color=look["color"], linewidth=1, linestyle="--")
                marked(panel, self.lags, each.late, look, NAMES[rule])
            for line, text in (("-", "target"), ("--", "loop")):
                panel.plot([], [], color="0.3", linewidth=1, linestyle=line, label=f"slowed: {text}")
            critical = 1 / (2 * self.layers)
            panel.axvline(critical, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
            panel.text(critical, 0.02, "$2L\\tau=T$ ", color="0.35", fontsize=7, ha="right")
            chance_line(panel, chance.level)
            panel.set(xscale="log", xlabel="propagation time constant (stimulus durations T)", ylim=(0, 1))
            panel.set_ylabel("test accuracy")
            legend_above(figure, panel, 2)
        return figure
