"""T1.10, T1.13: networks of several depths: how much lag they tolerate, and how they fare against Adam."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.continuous.accuracies import (
    Chance,
    Folder,
    Points,
    Replicates,
    Rules,
    chance_of,
    diverged_note,
    final_accuracies,
    handwritten,
    in_t,
    knees,
    overlaps,
    trained,
)
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Positives, Size
from experiments.predictions.drawing import drawn, legend_outside, look, marked
from experiments.predictions.study.plasticity_figure import NAMES
from experiments.results.verdicts import Verdict, bracketed, exceeds, stays_below
from experiments.spec.units import Time
from experiments.tasks.circles import Circles

Depth = Annotated[int, Field(strict=True, ge=1, le=6)]
Depths = Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=6)], ...], Field(min_length=1)]
TOLERANCE = 0.01  # of the weights' change, which no accuracy shows
SLOW = 25.0  # T: about the tangent kernel of these networks, from which on a presentation hardly changes its own error
REMAINS = 0.25  # of the lead: what tuning is claimed to leave at most


class Curve(NamedTuple):
    """Accuracies (seeds, lags) of networks with `depth` hidden layers, and the pseudo-values of their knee."""

    rule: str
    depth: int
    accuracy: np.ndarray
    knees: np.ndarray


class CirclesDepth(AbstractPrediction):
    """Accuracy on two circles against tau_prop, for several depths."""

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


class Found(NamedTuple):
    """Accuracies (seeds, rates) of networks of one depth: in continuous time, of SGD at its rates (with the overlaps of
    the target, then of the output), and of Adam by batch."""

    depth: int
    late: np.ndarray
    sgd: tuple[np.ndarray, np.ndarray]
    adam: dict[int, np.ndarray]


class AdamComparison(AbstractPrediction):
    """Test accuracy in continuous time and under Adam, for several depths."""

    number = "T1.13"
    title = "Better than Adam, if Adam's rate is not tuned"
    source = "bacvanski2025continuous, table 2 (appendix), where Adam (kingma2015adam) has a rate that reviewers doubt"
    equation = """accuracy(tau_plast) = accuracy of SGD with eta_l = S_l T / tau_plast;  lead(rate) = accuracy at the
        best tau_plast - accuracy of Adam(rate)"""
    claim = f"""After as many samples, networks in continuous time are better than those of the same widths that Adam
        trains at its usual rate on mini-batches: so it is published. They are what SGD with an update for every sample
        is, at the rate that the overlap leaves, as long as tau_plast is longer than the tangent kernel. At Adam's best
        rate no more than {REMAINS:.0%} of the lead is left, whatever the batch: most of it is that of many updates, or
        large ones, over few small ones. Deeper networks are not better than the shallowest."""
    method = """Test accuracy on handwritten digits, cross-entropy, equal starts, the same number of samples. Adam is
        optax's, through the discrete regime. The best rate and tau_plast are chosen for each seed on all others. The
        published rate and batch are not known here: the usual ones of libraries are taken."""
    tolerance = """99.9 % intervals over seeds, of differences of pairs. SGD: a bracket, as target and output, the two
        parts of the error, pass different numbers of filters."""
    quick = {"depths": (1,), "batches": (32,), "rates": (1e-3, 1e-2, 3e-2), "timescales": (20.0, 60.0)}

    rule: Literal["sgd", "fa", "dfa", "kp"] = "sgd"
    mnist: Folder = ""
    depths: Depths = (1, 2, 3)
    width: Size = 32
    loss: Literal["softmax", "squared"] = "softmax"
    duration: Duration = Time(0.05)
    propagation: Positive = 0.04  # in units of T
    timescales: Positives = (15.0, 20.0, 30.0, 60.0)  # tau_plast in units of T
    usual: Positive = 1e-3
    rates: Positives = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    batches: Annotated[tuple[Size, ...], Field(min_length=1)] = (1, 32)
    samples: Annotated[int, Field(strict=True, ge=100, le=1_000_000)] = 2000
    seeds: Replicates = 10

    def misfit(self) -> str | None:
        for name, values in (("depths", self.depths), ("batches", self.batches), ("rates", self.rates)):
            if any(np.diff(values) <= 0):
                return f"{name} must increase"
        if self.usual not in self.rates or len(self.rates) < 2:
            return f"rates must have usual = {self.usual:g} and another one"
        if max(self.timescales) < SLOW:
            return f"timescales must have one of at least {SLOW:g} (unit T), for a presentation not to remove its error"
        if self.samples < 12 * self.batches[-1]:
            return f"samples must be at least 12 batches of {self.batches[-1]}"

    def measure(self) -> Finding:
        chance, notes = chance_of(handwritten(self.mnist, self.seed)), []
        found = [self._found(depth, chance, notes) for depth in self.depths]
        verdicts = [verdict for one in found for verdict in self._verdicts(one)]
        for deeper in found[1:]:
            gain = best_of_others(deeper.late) - best_of_others(found[0].late)
            quantity = f"accuracy in continuous time, best tau_plast, less that with {hidden(found[0].depth)}"
            verdicts.append(stays_below(f"{hidden(deeper.depth)} are not better", quantity, 0.0, gain))
        return Finding(verdicts, self._drawn(found, chance), notes + [self._sentence(one) for one in found])

    def _found(self, depth: int, chance: Chance, notes: list[str]) -> Found:
        def learned(points: Points, regime: str, batch: int = 1, **tables: Any) -> np.ndarray:
            stimulus = {"duration": str(self.duration), "presentations": self.samples // batch, "batch": batch}
            data = trained(self._table(depth) | {"regime": regime, "stimulus": stimulus} | tables, points, self.seeds)
            notes.extend(diverged_note(data, f"{regime}, {hidden(depth)}"))
            return final_accuracies(data, chance.level)

        coupled = {"timescales": {"propagation": in_t(self.propagation)}, "integrator": {"tolerance": TOLERANCE}}
        late = learned({"timescales.plasticity": [in_t(tau) for tau in self.timescales]}, "coupled", **coupled)
        slow = [[in_t(time) for time in self.slowed(depth, tau, n)] for n in (0, depth + 1) for tau in self.timescales]
        sgd = learned({"timescales.plasticity": slow}, "discrete")
        adam = {
            batch: learned({"timescales.plasticity": [in_t(1 / rate) for rate in self.rates]}, "discrete", batch,
                           rule="sgd", discrete={"optimiser": "adam"})
            for batch in self.batches
        }  # fmt: skip
        n = len(self.timescales)
        return Found(depth, late, (sgd[:, :n], sgd[:, n:]), adam)

    def _table(self, depth: int) -> dict[str, Any]:
        return {
            "task": handwritten(self.mnist, self.seed).model_dump(exclude_none=True),
            "network": {"hidden": [self.width] * depth, "bias": False, "loss": self.loss},
            "rule": self.rule,
            "seed": self.seed,
        }

    def slowed(self, depth: int, timescale: float, around: int) -> list[float]:
        """tau_plast / T of every layer without lags that learns as slowly as with them: 1 / eta_l."""
        return [timescale / s for s in overlaps(self.rule, depth + 1, 0.0, self.propagation, around)]

    def _verdicts(self, one: Found) -> list[Verdict]:
        late, name = best_of_others(one.late), hidden(one.depth)
        batch = self.batches[-1]
        lead = late - one.adam[batch][:, self.rates.index(self.usual)]
        left = {b: late - best_of_others(accuracy) for b, accuracy in one.adam.items()}
        slow = np.array(self.timescales) >= SLOW
        bounds = np.sort([each[:, slow].mean() for each in one.sgd])
        what = "accuracy in continuous time, best tau_plast, less that of Adam"
        bound = REMAINS * float(lead.mean())
        return [
            exceeds(f"better than Adam at its usual rate ({name})",
                    f"{what} at {self.usual:g}, batch {batch}", 0.0, lead),
            *(stays_below(f"tuning takes the lead away ({name}, batch {b})", f"{what} at its best rate", bound, rest)
              for b, rest in left.items()),
            bracketed(f"it is SGD at the rate that overlap leaves ({name})", "accuracy in continuous time, mean over "
                      f"tau_plast of at least {SLOW:g} T, between those of SGD at the rates of output and target",
                      bounds[0], bounds[1], one.late[:, slow].mean(axis=1)),
        ]  # fmt: skip

    def _sentence(self, one: Found) -> str:
        tau, late = self.timescales[int(one.late.mean(axis=0).argmax())], best_of_others(one.late).mean()
        each = []
        for batch, accuracy in one.adam.items():
            usual, best = accuracy[:, self.rates.index(self.usual)].mean(), best_of_others(accuracy).mean()
            rate = self.rates[int(accuracy.mean(axis=0).argmax())]
            each.append(f"{usual:.3f} at {self.usual:g} and {best:.3f} at the best, {rate:g}, in batches of {batch}")
        said = f"{NAMES[self.rule]}, {hidden(one.depth)}: {late:.3f} in continuous time (best tau_plast {tau:g} T)"
        return f"{said}; Adam: {'; '.join(each)}."

    @drawn(7.0, 2.7)
    def _drawn(self, figure: Figure, found: list[Found], chance: Chance) -> None:
        figure.set_size_inches(1.2 + 2.2 * len(found), 2.8)
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        rates = 1 / np.array(self.timescales)
        for one, panel in zip(found, panels, strict=True):
            low, high = np.sort([each.mean(axis=0) for each in one.sgd], axis=0)
            panel.fill_between(rates, low, high, color=look(0)["color"], alpha=0.35, linewidth=1, label="SGD (theory)")
            marked(panel, rates, one.late.T, label="continuous time", **look(0))
            for i, (batch, accuracy) in enumerate(one.adam.items(), start=1):
                line = look(i, linestyle="-", linewidth=0.8, label=f"Adam, batch {batch}")
                marked(panel, self.rates, accuracy.T, **line)
            panel.axvline(self.usual, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
            chance.draw(panel, 0.6)
            panel.set(xscale="log", ylim=(0, 1), title=hidden(one.depth), xlabel="rate (T / tau$_{plast}$)")
        panels[0].set_ylabel("test accuracy")
        legend_outside(panels[0], 4 if len(found) > 1 else 2)


def hidden(depth: int) -> str:
    """So many hidden layers, in words."""
    return f"{depth} hidden layer{'s' if depth > 1 else ''}"


def best_of_others(accuracy: np.ndarray) -> np.ndarray:
    """Of (seeds, rates), every seed's accuracy at the rate that is best for all others: none is its own choice."""
    others = (accuracy.sum(axis=0) - accuracy).argmax(axis=1)
    return accuracy[np.arange(len(accuracy)), others]
