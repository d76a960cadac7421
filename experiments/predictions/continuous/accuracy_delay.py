"""T1.5a: the accuracy of a network that learns in a dense stream, against the delay of its errors."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.predictions.continuous.accuracies import AbstractDigitsPrediction, Replicates, Rules, in_t, knees
from experiments.predictions.contract import Finding, NonNegatives
from experiments.predictions.kit import legend_outside, look, marked, plotted
from experiments.results.verdicts import Verdict, between, exceeds, matches

LATE = 1.1  # T: from here on no synapse's input and error overlap, lags included
KNEE = (0.5, 1.0)  # T: where half the overlap is left, and none


class AccuracyDelay(AbstractDigitsPrediction):
    """Accuracy against error delay, rule by rule."""

    number = "T1.5a"
    title = "In a dense stream accuracy collapses before the delay reaches the stimulus duration"
    source = "bacvanski2025continuous, abstract and delay maps; the slowing limit is derived"
    equation = """T/2 < d_knee < T;  accuracy(d, tau_plast) <= accuracy(0, tau_plast / S_l(d)), S_l(d) = E max(0, 1 - |d
        + V - U| / T), U ~ Gamma(l - 1), V ~ Gamma(1 + L - l), in tau_prop"""
    claim = """With errors that come d late in a stream without gaps, accuracy after long enough training has fallen
        half way to chance somewhere between d = T/2 and T, and is at chance beyond T. On the way it is below that of a
        prompt network which is slowed to the same overlap: late errors also meet the next stimulus."""
    method = """Test accuracy on digits after training; the knee of the mean curve over seeds, with its jackknife
        interval. The slowing limit is simulated without a delay, with tau_plast / S_l(d) in each layer."""
    tolerance = """Intervals over seeds at 99.9 % lie inside the bounds, or above 0. At chance: the 99.9 % interval over
        seeds plus the inequality of the classes in the test set."""
    quick = {
        "rules": ("fa",), "delays": (0.0, 0.5, 0.8, 1.1), "presentations": 400, "plasticity": 40.0,
        "seeds": 10,
    }  # fmt: skip

    rules: Rules = ("sgd", "fa", "dfa", "kp")
    seeds: Replicates = 12
    delays: NonNegatives = (0.0, 0.3, 0.5, 0.65, 0.75, 0.8, 0.9, 1.0, 1.1)  # in units of T

    def misfit(self) -> str | None:
        delays = np.array(self.delays)
        if delays[0] != 0 or (np.diff(delays) <= 0).any() or delays[-1] < LATE or not self._falling().any():
            return f"delays must start at 0, increase, have one from 0.5 to 1, and reach {LATE:g} (unit T)"

    def _falling(self) -> np.ndarray:
        """Which delays leave less than half of the overlap, but some."""
        return (np.array(self.delays) >= KNEE[0]) & (np.array(self.delays) < KNEE[1])

    def measure(self) -> Finding:
        (found, notes), n = self.learned(self._points), len(self.delays)
        late = {name: accuracy[:, :n] for name, accuracy in found.items()}
        prompt = {name: np.delete(accuracy, np.s_[1:n], axis=1) for name, accuracy in found.items()}
        verdicts = [verdict for name in found for verdict in self._verdicts(name, late[name], prompt[name])]
        return Finding(verdicts, self._drawn(late, prompt), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every delay; then prompt networks that are slowed to the overlap at each delay but the first, 0."""
        slow = [self.slowed(rule, delay, self.propagation, self.propagation) for delay in self.delays[1:]]
        return {
            "delays.error": [in_t(delay) for delay in self.delays] + ["0 T"] * len(slow),
            "timescales.plasticity": [self.usual] * len(self.delays) + slow,
        }

    def _verdicts(self, name: str, late: np.ndarray, prompt: np.ndarray) -> list[Verdict]:
        found = knees(late, self.delays, self.chance.level)
        cost = (prompt - late)[:, self._falling()].mean(axis=1)
        beyond = late[:, np.array(self.delays) >= LATE].mean(axis=1)
        return [
            between(f"knee before no overlap is left ({name})", "delay at half accuracy, d / T", *KNEE, found),
            exceeds(f"the next stimulus interferes ({name})",
                    "accuracy of the slowing limit less that in the stream, mean over delays from T/2 to T", 0.0, cost),
            matches(f"no overlap, no learning ({name})", f"test accuracy at delays of at least {LATE:g} T",
                    self.chance.level, beyond, self.chance.imbalance),
        ]  # fmt: skip

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, late: dict[str, np.ndarray], prompt: dict[str, np.ndarray]) -> None:
        for i, (name, accuracy) in enumerate(late.items()):
            panel.plot(self.delays, prompt[name].mean(axis=0), color=look(i)["color"], linewidth=1)
            marked(panel, self.delays, accuracy.T, label=name, **look(i))
        panel.plot([], [], color="0.3", linewidth=1, label="slowing limit")
        self.chance.draw(panel)
        panel.set(xlabel="error delay d (stimulus durations T)", ylabel="test accuracy", ylim=(0, 1))
        legend_outside(panel, 3)
