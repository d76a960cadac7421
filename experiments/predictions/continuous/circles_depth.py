"""T1.10: accuracy on two circles against tau_prop, for several depths."""

from typing import Annotated, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.continuous.accuracies import (
    Chance,
    Replicates,
    Rules,
    chance_of,
    diverged_note,
    final_accuracies,
    in_t,
    knees,
    trained,
)
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Positives, Size
from experiments.predictions.drawing import drawn, legend_outside, look, marked
from experiments.predictions.study.plasticity_figure import NAMES
from experiments.results.verdicts import Verdict, exceeds
from experiments.spec.units import Time
from experiments.tasks.circles import Circles

Depth = Annotated[int, Field(strict=True, ge=1, le=6)]


class Curve(NamedTuple):
    """Accuracies (seeds, lags) of networks with `depth` hidden layers, and the pseudo-values of their knee."""

    rule: str
    depth: int
    accuracy: np.ndarray
    knees: np.ndarray


class CirclesDepth(AbstractPrediction):
    number = "T1.10"
    title = "Deeper networks tolerate less propagation lag"
    source = "bacvanski2025continuous, figs. 5 and 7 (maps of accuracy, per depth); 1 / L is derived"
    equation = "2 L tau_prop = T where the lag around the loop of the first layer uses up the stimulus"
    claim = """At lags of at least T / 2 L of the shallowest, deeper networks learn less well. The lag that a network
        tolerates shrinks at least as fast as 1 / L: at a lag shorter by the ratio of layers the deepest is still below
        the shallowest."""
    method = """Test accuracy on two concentric circles after a dense stream, L - 1 equal hidden layers, tau_plast / T
        fixed; differences between pairs of equal seeds, over the lags of at least T / 2 L of the shallowest."""
    tolerance = "The 99.9 % interval over seeds lies on the claimed side: no other allowance."
    quick = {"rules": ("sgd",), "depths": (1, 3), "lags": (0.1, 0.25, 0.5, 1.0), "seeds": 16}

    rules: Rules = ("sgd", "fa")
    depths: Annotated[tuple[Depth, ...], Field(min_length=2)] = (1, 2, 3)
    width: Size = 16
    duration: Duration = Time(0.05)
    plasticity: Positive = 10.0  # in units of T
    lags: Positives = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # tau_prop in units of T
    presentations: Size = 1000
    seeds: Replicates = 24

    def misfit(self) -> str | None:
        for name, values in (("depths", self.depths), ("lags", self.lags)):
            if any(np.diff(values) <= 0):
                return f"{name} must increase"
        if not self.lags[0] <= 1 / (2 * (self.depths[-1] + 1)) < self.critical <= self.lags[-1]:
            return "lags must reach from T / 2 L of the deepest to beyond that of the shallowest network"

    @property
    def critical(self) -> float:
        """tau_prop / T at which 2 L tau_prop = T in the shallowest network."""
        return 1 / (2 * (self.depths[0] + 1))

    def measure(self) -> Finding:
        chance, curves, notes = chance_of(Circles(seed=self.seed)), [], []
        for rule in self.rules:
            for depth in self.depths:
                data = self._trained(rule, depth)
                notes += diverged_note(data, f"{NAMES[rule]}, {depth} hidden")
                accuracy = final_accuracies(data, chance.level)
                curves.append(Curve(rule, depth, accuracy, knees(accuracy, np.log(self.lags), chance.level)))
        verdicts = [verdict for rule in self.rules for verdict in self._verdicts([c for c in curves if c.rule == rule])]
        return Finding(verdicts, self._drawn(curves, chance), notes + self._sentences(curves))

    def _trained(self, rule: str, depth: int) -> Any:
        """Euler steps: on networks this small they are several times faster than windows, and as good for accuracy,
        which does not need weights to a tolerance of 1e-3: steps only have to be far from unstable."""
        duration = self.duration.seconds(1.0)
        table = {
            "task": {"name": "circles", "seed": self.seed},
            "network": {"hidden": [self.width] * depth, "loss": "softmax"},
            "stimulus": {"duration": str(self.duration), "presentations": self.presentations},
            "timescales": {"plasticity": in_t(self.plasticity)},
            "integrator": {"name": "euler", "dt": str(Time(duration * self.lags[0] / 2)), "tolerance": 0.5},
            "rule": rule,
            "seed": self.seed,
        }
        return trained(table, {"timescales.propagation": [in_t(lag) for lag in self.lags]}, self.seeds)

    def _verdicts(self, curves: list[Curve]) -> list[Verdict]:
        name, (shallow, *_, deep) = NAMES[curves[0].rule], curves
        beyond = np.array(self.lags) >= self.critical
        verdicts = []
        for one, other in zip(curves[:-1], curves[1:], strict=True):
            loss = (one.accuracy - other.accuracy)[:, beyond].mean(axis=1)
            quantity = f"loss of accuracy, mean over lags tau_prop of at least {self.critical:.3g} T"
            claim = f"{other.depth} hidden layers tolerate less lag than {one.depth} ({name})"
            verdicts.append(exceeds(claim, quantity, 0.0, loss))
        ratio = (shallow.depth + 1) / (deep.depth + 1)
        shorter = np.log(np.array(self.lags)[beyond] * ratio)
        scaled = np.array([np.interp(shorter, np.log(self.lags), one) for one in deep.accuracy])
        loss = (shallow.accuracy[:, beyond] - scaled).mean(axis=1)
        quantity = f"loss of accuracy of the deepest network, mean over the same lags times {ratio:.3g}"
        return [*verdicts, exceeds(f"a lag shorter by 1 / L is not short enough ({name})", quantity, 0.0, loss)]

    def _sentences(self, curves: list[Curve]) -> list[str]:
        return [
            f"{NAMES[c.rule]}, {c.depth} hidden: half accuracy at tau_prop = {np.exp(c.knees.mean()):.3g} T, where "
            f"2 L tau_prop = {2 * (c.depth + 1) * np.exp(c.knees.mean()):.2g} T; best accuracy "
            f"{c.accuracy.mean(axis=0).max():.3f}"
            for c in curves
        ]

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, curves: list[Curve], chance: Chance) -> None:
        figure.set_size_inches(3.4 * len(self.rules) ** 0.7, 2.7)
        panels = figure.subplots(1, len(self.rules), sharey=True, squeeze=False)[0]
        for rule, panel in zip(self.rules, panels, strict=True):
            mine = [c for c in curves if c.rule == rule]
            for i, curve in enumerate(mine):
                line = look(i, linestyle="-", linewidth=0.8, label=f"{curve.depth} hidden")
                marked(panel, self.lags, curve.accuracy.T, **line)
                limit = 1 / (2 * (curve.depth + 1))
                panel.plot([limit, limit], [0.98, 1.06], color=line["color"], linewidth=1.5)
            chance.draw(panel)
            panel.set(title=NAMES[rule], xscale="log", ylim=(0.35, 1.07))
            panel.set_xlabel("propagation time constant\n(stimulus durations T)")
        panels[0].set_ylabel("test accuracy")
        panels[0].plot([], [], color="0.3", linewidth=1.5, label="$2 L \\tau_{prop} = T$")
        legend_outside(panels[0], 4 if len(self.rules) > 1 else 2)
