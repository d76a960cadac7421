"""T1.5c: the accuracy of a network that learns in a dense stream, against the propagation time constant."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from experiments.predictions.continuous.accuracies import AbstractDigitsPrediction, in_t, knees
from experiments.predictions.contract import Finding, Positives
from experiments.predictions.kit import legend_outside, look, marked, plotted
from experiments.results.verdicts import Verdict, exceeds, stays_below


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

    def misfit(self) -> str | None:
        if any(np.diff(self.lags) <= 0) or 8 * self.layers * self.lags[0] > 1:
            return f"lags must increase, and start at most at {1 / (8 * self.layers):.3g}, a prompt one"

    def measure(self) -> Finding:
        (found, notes), n, curves, verdicts = self.learned(self._points), len(self.lags), {}, []
        for name, accuracy in found.items():
            slowed = accuracy[:, n : 2 * n - 1], accuracy[:, 2 * n - 1 :]
            bounds = (np.concatenate([accuracy[:, :1], rest], axis=1) for rest in slowed)
            curves[name] = Curves(accuracy[:, :n], *bounds)
            verdicts += self._verdicts(name, curves[name], notes)
        return Finding(verdicts, self._drawn(curves), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every lag; then networks slowed to the overlap with the target at each but the first, and with the loop."""
        first, later = self.lags[0], self.lags[1:]
        slow = [self.slowed(rule, 0.0, lag, first, loop) for loop in (False, True) for lag in later]
        return {
            "timescales.propagation": [in_t(lag) for lag in self.lags] + [in_t(first)] * len(slow),
            "timescales.plasticity": [self.usual] * len(self.lags) + slow,
        }

    def _verdicts(self, name: str, curves: Curves, notes: list[str]) -> list[Verdict]:
        late, target, loop = (knees(curve, np.log(self.lags), self.chance.level) for curve in curves)
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

    @plotted(3.4, 2.9)
    def _drawn(self, panel: Axes, curves: dict[str, Curves]) -> None:
        for i, (name, each) in enumerate(curves.items()):
            panel.plot(self.lags, each.target.mean(axis=0), color=look(i)["color"], linewidth=1)
            panel.plot(self.lags, each.loop.mean(axis=0), color=look(i)["color"], linewidth=1, linestyle="--")
            marked(panel, self.lags, each.late.T, label=name, **look(i))
        for line, text in (("-", "target"), ("--", "loop")):
            panel.plot([], [], color="0.3", linewidth=1, linestyle=line, label=f"slowed: {text}")
        critical = 1 / (2 * self.layers)
        panel.axvline(critical, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        panel.text(critical, 0.02, "$2L\\tau=T$ ", color="0.35", fontsize=7, ha="right")
        self.chance.draw(panel)
        panel.set(xscale="log", xlabel="propagation time constant (stimulus durations T)", ylim=(0, 1))
        panel.set_ylabel("test accuracy")
        legend_outside(panel, 2)
