"""What the predictions about test accuracy share: training, chance, knees, and statistics over seeds.

The law behind them: a synapse of layer l sees the target through 1 + L - l error units one after the other (two, if the
output error goes straight to a hidden layer), its own input through l - 1 layers, and a delay of the error on top. The
time for which the two overlap, divided by T, is how much of its speed learning keeps: S_l = lagged_overlap(d, T, l - 1,
1 + L - l, tau_prop). A late network is then one without lags whose tau_plast is 1 / S_l times as long, as long as
nothing but this synapse's own stimulus overlaps with its error. (The network's output, the other part of the error,
comes through L more filters: it overlaps less, which the law neglects.)
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.theory import lagged_overlap
from experiments.predictions.contract import AbstractPrediction, Duration, Positive, Size
from experiments.predictions.kit import jackknifed, swept
from experiments.predictions.study.plasticity_figure import NAMES
from experiments.predictions.study.plasticity_window import accuracies
from experiments.spec.units import Time
from experiments.tasks.contract import AbstractTask
from experiments.tasks.real import Digits, Mnist

Rules = Annotated[tuple[Literal["sgd", "fa", "dfa", "kp"], ...], Field(min_length=1)]
Replicates = Annotated[int, Field(strict=True, ge=3, le=1000)]  # an interval over fewer seeds says nothing
Folder = Annotated[str, Field(strict=True, max_length=4096)]
RECORDS = 12  # those of the last quarter are averaged: single ones swing with the last few samples
Axis = Sequence[float] | np.ndarray
Points = Mapping[str, Sequence[Any]]


class Chance(NamedTuple):
    """The accuracy of guessing, and how far that of one constant guess may lie from it (unequal classes)."""

    level: float
    imbalance: float

    def draw(self, panel: Axes, x: float = 0.02) -> None:
        """A dotted line, labelled at the relative position x."""
        panel.axhline(self.level, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
        look: dict[str, Any] = {"color": "0.35", "fontsize": 7, "va": "top"}
        panel.text(x, self.level - 0.012, "chance", transform=panel.get_yaxis_transform(), **look)


def handwritten(mnist: str, seed: int) -> Digits | Mnist:
    """Handwritten digits: the bundled ones, or MNIST's from a folder, averaged to 7x7 pixels."""
    return Mnist(path=mnist, pool=4) if mnist else Digits(seed=seed)


def chance_of(task: AbstractTask) -> Chance:
    """Chance on the test set of a classification."""
    targets = task.load().test_targets
    assert targets is not None
    shares = targets.mean(axis=0)
    level = 1 / len(shares)
    return Chance(level, float(np.abs(shares - level).max()))


class AbstractDigitsPrediction(AbstractPrediction):
    """A prediction about networks trained on handwritten digits; times other than `duration` are in units of it."""

    rules: Rules = ("sgd", "fa")
    hidden: Annotated[tuple[Size, ...], Field(min_length=1, max_length=20)] = (64,)
    duration: Duration = Time(0.05)
    propagation: Positive = 0.04
    plasticity: Positive = 75.0
    presentations: Size = 1000
    seeds: Replicates = 8

    @property
    def layers(self) -> int:
        """Layers of synapses."""
        return len(self.hidden) + 1

    @property
    def usual(self) -> list[str]:
        """tau_plast of each layer of a network that is not slowed."""
        return [in_t(self.plasticity)] * self.layers

    @functools.cached_property
    def chance(self) -> Chance:
        """Chance on digits."""
        return chance_of(Digits(seed=self.seed))

    def learned(
        self, points: Callable[[str], Points], **tables: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        """By name of the rule: accuracies late in the run, (seeds, points); sentences about what has diverged."""
        found, notes = {}, []
        for rule in self.rules:
            data = self.trained(rule, points(rule), **tables)
            found[NAMES[rule]] = final_accuracies(data, self.chance.level)
            notes += diverged_note(data, NAMES[rule])
        return found, notes

    def trained(self, rule: str, points: Points, **tables: Mapping[str, Any]) -> xr.Dataset:
        """The results of all seeds at `points`: a list of values for each path of a spec, all of one length.

        Without a bias, as it has no stimulus to overlap with: it would go on learning from late errors in the gaps.
        """
        base = {
            "task": {"name": "digits", "seed": self.seed},
            "network": {"hidden": list(self.hidden), "bias": False},
            "stimulus": {"duration": str(self.duration), "presentations": self.presentations},
            "timescales": {"propagation": in_t(self.propagation), "plasticity": in_t(self.plasticity)},
        }
        base = {name: base.get(name, {}) | dict(tables.get(name, {})) for name in base | tables}
        return trained(base | {"rule": rule, "seed": self.seed}, points, self.seeds)

    def slowed(self, rule: str, delay: float, propagation: float, own: float, loop: bool = False) -> list[str]:
        """tau_plast of each layer by which a prompt network whose tau_prop is `own` learns as slowly as a late one.

        By the overlap with the target, or with what goes round the `loop`, the network's own output.
        """
        around = self.layers if loop else 0
        late, prompt = (overlaps(rule, self.layers, *lags, around) for lags in ((delay, propagation), (0.0, own)))
        return [in_t(self.plasticity * p / s) if s > 1e-9 else "inf" for s, p in zip(late, prompt, strict=True)]


def in_t(number: float) -> str:
    """A time in units of the stimulus duration, as a spec has it."""
    return f"{float(number)!r} T"


def trained(table: Mapping[str, Any], points: Points, seeds: int) -> xr.Dataset:
    """The results of a spec at `points`, one program for all of them; float32 is ample for an accuracy.

    Points may be equal (two delays beyond any overlap): an axis has each of them once.
    """
    rows = list(zip(*points.values(), strict=True))
    distinct = {repr(row): row for row in rows}
    sweep: dict[str, Any] = dict(zip(points, map(list, zip(*distinct.values(), strict=True)), strict=True))
    if len(points) > 1:
        sweep["zip"] = [list(points)]
    recorded = {"dtype": "float32", "record": {"points": RECORDS, "probes": ["accuracy"]}}
    data = swept({**recorded, **table, "sweep": sweep | {"seeds": seeds}})
    at = [list(distinct).index(repr(row)) for row in rows]
    return data.isel({next(iter(points)).replace(".", "_"): at})


def final_accuracies(data: xr.Dataset, chance: float) -> np.ndarray:
    """Test accuracies (seeds, points), late in the run; a network that has diverged tells nothing, which is chance."""
    return np.nan_to_num(accuracies(data), nan=chance)


def overlaps(rule: str, layers: int, delay: float, propagation: float, around: int = 0) -> list[float]:
    """S_l of the module's law, first layer first, in units of T; `around` more filters come before the error units.

    They are 0 for the target's part of the error, and L for that of the network's output.
    """
    stages = stages_of(rule, layers, around)
    return [float(lagged_overlap(delay, 1.0, k, m, propagation)) for k, m in stages]


def stages_of(rule: str, layers: int, around: int = 0) -> list[tuple[int, int]]:
    """The filters that the input and the error of every layer's synapses have passed, first layer first."""
    behind = [1 + layers - layer for layer in range(1, layers + 1)]
    return [(k, around + (min(2, n) if rule == "dfa" else n)) for k, n in enumerate(behind)]


def knee(curve: np.ndarray, x: Axis, chance: float) -> float:
    """The first x at which a curve has fallen half way from its first value to chance (linear between points).

    NaN where it does not within the sweep, or does not start above chance.
    """
    x = np.asarray(x, float)
    level = (curve[0] + chance) / 2
    below = np.flatnonzero(curve < level)
    if curve[0] <= chance or not below.size:
        return np.nan
    i = int(below[0])
    return float(x[i - 1] + (curve[i - 1] - level) / (curve[i - 1] - curve[i]) * (x[i] - x[i - 1]))


def knees(accuracy: np.ndarray, x: Axis, chance: float) -> np.ndarray:
    """Pseudo-values of the knee of the mean curve; `accuracy` is (seeds, points)."""
    return jackknifed(lambda seeds: knee(accuracy[seeds].mean(axis=0), x, chance), len(accuracy))


def diverged_note(data: xr.Dataset, name: str) -> list[str]:
    """A sentence about networks that have diverged, if any has."""
    lost = int((data["status"] != 0).sum())
    return [f"{name}: {lost} networks diverged; they count as being at chance."] if lost else []
