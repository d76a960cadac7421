"""T1.12: maps of accuracy over the delay of the error and the duration of a sample, for one to three hidden layers.

Both are in units of tau_prop, and tau_plast is a fixed time: a synapse of layer l then learns, per presentation, for
the time T S_l(d, T) for which its input and its error overlap (see `accuracies`). A presentation without a delay that
lasts T' and leaves all layers the same times teaches the same. For T and d far above tau_prop that is T' = T - d.
"""

import functools
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.theory import lagged_overlap
from experiments.predictions.continuous.accuracies import (
    Folder,
    Replicates,
    chance_of,
    diverged_note,
    final_accuracies,
    handwritten,
    stages_of,
    trained,
)
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, NonNegatives, Positive, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.study.plasticity_figure import NAMES
from experiments.report.figures import OKABE_ITO
from experiments.report.places import edges
from experiments.results.verdicts import Verdict, bracketed, exceeds, matches
from experiments.spec.units import Time

NOTHING = 0.01  # tau_plast of overlap in a whole run: less than a tenth of the time constant of the fastest mode
TOLERANCE = 0.01  # of the weights' change, which no accuracy shows
FARTHEST = 2.0  # T: longer delays are left out, as they only make every program slower (it remembers for so long)
STREAMS = "without gaps", "with gaps of d"


class Equal(NamedTuple):
    """For the points (durations, delays) of a map: the shortest and the longest T' of any layer and part of its error.

    NaN without a delay, and where one of them lies outside of the durations that are measured.
    """

    shortest: np.ndarray
    longest: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Where they are numbers."""
        return np.isfinite(self.longest)


class AbstractDelayDuration(AbstractPrediction):
    """A map of one depth; all times other than tau_prop are in units of it."""

    depth: ClassVar[int]
    source = "bacvanski2025continuous, figs. 5 and 7 (maps of accuracy, per depth); lines of equal overlap: derived"
    equation = """accuracy(d, T) = accuracy(0, T'), T' S_l(0, T') = T S_l(d, T) for every layer l, S_l(d, T) = E max(0,
        1 - |d + V - U| / T), U ~ Gamma(l - 1), V ~ Gamma(n + 1 + L - l), in tau_prop; n = 0 for the target, L for the
        output; T' = T - d for tau_prop -> 0"""
    claim = """Long samples with prompt errors are learned. Where no synapse's input and error overlap, which is beyond
        d = T and the tails of the filters, nothing is. In between, with gaps that keep a late error off the next
        sample, the map has one number only: along lines of equal overlap, which run parallel to d = T, accuracy is
        equal. Without gaps other samples interfere, and it is lower."""
    method = """Test accuracy on handwritten digits late in the run; all points of the map, in a dense stream and, for d
        < T, with gaps as long as the delay, are one program. Overlap: a point is compared with the row without a delay
        at T', between measured durations by linear interpolation in log T."""
    tolerance = f"""99.9 % intervals over seeds. Layers and the two parts of the error (target and output) pass
        different numbers of filters: T' is an interval, and accuracy a bracket. Nothing overlaps where all layers
        together have less than {NOTHING:g} tau_plast of it in the whole run; chance is up to the inequality of the
        classes in the test set."""
    quick = {
        "durations": (10.0, 20.0), "delays": (0.0, 10.0, 15.0, 20.0), "presentations": 400, "seeds": 12,
    }  # fmt: skip

    rule: Literal["sgd", "fa", "dfa", "kp"] = "sgd"
    mnist: Folder = ""
    width: Size = 32
    propagation: Duration = Time(0.005)
    durations: Annotated[NonNegatives, Field(min_length=2)] = (6.0, 12.0, 18.0, 24.0)
    delays: Annotated[NonNegatives, Field(min_length=2)] = (0.0, 6.0, 12.0, 18.0, 24.0)
    plasticity: Positive = 1600.0
    presentations: Size = 1000
    seeds: Replicates = 8

    def misfit(self) -> str | None:
        for name, values in (("durations", self.durations), ("delays", self.delays)):
            if any(np.diff(values) <= 0):
                return f"{name} must increase"
        if self.durations[0] == 0 or self.delays[0] != 0:
            return "durations must be positive and delays start at 0"
        if not self.equal.known.any():
            return "durations and delays must have a point whose overlap lies between those of the durations alone"
        if not self.halfway.any():
            return "delays must have one that is at least half a duration, and shorter than it"
        if not self.silent.any():
            return f"delays must reach beyond a duration until nothing overlaps, but not beyond {FARTHEST:g} times that"

    def learned(self, delay: Any, duration: Any) -> np.ndarray:
        """T S_l(d, T) in tau_prop: its rows are layers, for the target and then for the output; arrays broadcast."""
        layers = self.depth + 1
        stages = [each for around in (0, layers) for each in stages_of(self.rule, layers, around)]
        return np.array([duration * lagged_overlap(delay, duration, k, m, 1.0) for k, m in stages])

    @property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Delays in a row and durations in a column."""
        return np.array(self.delays)[None], np.array(self.durations)[:, None]

    @functools.cached_property
    def equal(self) -> Equal:
        """The T' of all points."""
        fine = np.geomspace(0.99 * self.durations[0], self.durations[-1], 200)  # a little below: rounding
        rows = zip(self.learned(*self.grid), self.learned(0.0, fine), strict=True)
        alike = np.array([np.interp(late, prompt, fine, np.nan, np.nan) for late, prompt in rows])
        alike[..., 0] = np.nan
        return Equal(alike.min(axis=0), alike.max(axis=0))

    @property
    def late(self) -> np.ndarray:
        """The points (durations, delays) with 0 < d < T: those that are measured with gaps."""
        delays, durations = self.grid
        return (delays > 0) & (delays < durations)

    @property
    def halfway(self) -> np.ndarray:
        """Those of them with d >= T / 2, where an error meets other samples for as long as its own."""
        delays, durations = self.grid
        return self.late & (delays >= durations / 2)

    @property
    def shown(self) -> np.ndarray:
        """The points that are measured without gaps."""
        delays, durations = self.grid
        return delays <= FARTHEST * durations

    @functools.cached_property
    def silent(self) -> np.ndarray:
        """Those that are measured without gaps, and where nothing overlaps."""
        most = self.learned(*self.grid).max(axis=0) * self.presentations / self.plasticity
        return self.shown & (most < NOTHING)

    def measure(self) -> Finding:
        task, tau = handwritten(self.mnist, self.seed), self.propagation.seconds(1.0)
        chance = chance_of(task)
        masks = self.shown, self.late
        points = [(t, d, gap) for gap, mask in enumerate(masks) for t, row in zip(self.durations, mask, strict=True)
                  for d in np.array(self.delays)[row].tolist()]  # fmt: skip
        spec = {
            "task": task.model_dump(exclude_none=True),
            "network": {"hidden": [self.width] * self.depth, "bias": False},
            "stimulus": {"presentations": self.presentations},
            "timescales": {"propagation": tau, "plasticity": self.plasticity * tau},
            "integrator": {"tolerance": TOLERANCE},
            "rule": self.rule,
            "seed": self.seed,
        }
        swept: dict[str, list[Any]] = {
            "stimulus.duration": [t * tau for t, _, _ in points],
            "stimulus.gap": [gap * d * tau for _, d, gap in points],
            "delays.error": [d * tau for _, d, _ in points],
        }
        data = trained(spec, swept, self.seeds)
        found = final_accuracies(data, chance.level)
        dense = np.full((self.seeds, *self.shown.shape), np.nan)
        dense[:, self.shown] = found[:, : self.shown.sum()]
        gaps = np.where(self.grid[0] == 0, dense, np.nan)
        gaps[:, self.late] = found[:, self.shown.sum() :]
        verdicts = self._verdicts(dense, gaps, chance.level, chance.imbalance)
        return Finding(verdicts, self._drawn(dense, gaps), diverged_note(data, NAMES[self.rule]) + self._notes(gaps))

    def bounds(self, gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Accuracies (seeds, points) of the row without a delay at the T' of all known points."""
        equal = self.equal
        rows, x = gaps[:, :, 0], np.log(self.durations)
        low, high = (np.array([np.interp(np.log(t[equal.known]), x, row) for row in rows]) for t in equal)
        return np.minimum(low, high), np.maximum(low, high)

    def _verdicts(self, dense: np.ndarray, gaps: np.ndarray, chance: float, imbalance: float) -> list[Verdict]:
        silent, known = self.silent, self.equal.known
        low, high = (each.mean(axis=1) for each in self.bounds(gaps))
        off = gaps[:, known].mean(axis=1) - low + low.mean()
        said = f"test accuracy, mean over {silent.sum()} of {self.shown.sum()} points of the map"
        return [
            exceeds("full overlap is learned", f"test accuracy at d = 0 and T = {self.durations[-1]:g} tau_prop",
                    (1 + chance) / 2, dense[:, -1, 0]),
            matches("no overlap, no learning", said, chance, dense[:, silent].mean(axis=1), imbalance),
            bracketed("equal overlap, equal accuracy", "test accuracy with gaps, between those without a delay at the "
                      f"shortest and the longest T', mean over {known.sum()} points", low.mean(), high.mean(), off),
            exceeds("without gaps other samples interfere", "accuracy with gaps less that without, mean over T / 2 <= "
                    "d < T", 0.0, (gaps - dense)[:, self.halfway].mean(axis=1)),
        ]  # fmt: skip

    def _notes(self, gaps: np.ndarray) -> list[str]:
        low, high = (each.mean(axis=0) for each in self.bounds(gaps))
        means = gaps[:, self.equal.known].mean(axis=0)
        off = np.maximum(np.maximum(low - means, means - high), 0)
        return [f"Of {len(off)} points with gaps the farthest from its bracket is off by {off.max():.3f}."]

    @drawn(7.2, 2.6)
    def _drawn(self, figure: Figure, dense: np.ndarray, gaps: np.ndarray) -> None:
        *maps, curve = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
        x, y = edges(np.array(self.delays)), edges(np.array(self.durations))
        for panel, name, each in zip(maps, STREAMS, (dense, gaps), strict=True):
            cells = panel.pcolormesh(x, y, each.mean(axis=0), cmap="cividis", vmin=0, vmax=1)
            self._lines(panel, y[[0, -1]])
            panel.set(xlim=x[[0, -1]], ylim=y[[0, -1]], title=name, xlabel="error delay d (tau$_{prop}$)")
            panel.set_facecolor("0.92")
            if panel is maps[-1]:
                figure.colorbar(cells, ax=panel, label="test accuracy")
        maps[0].set_ylabel("sample duration T (tau$_{prop}$)")
        equal = self.equal
        curve.plot(self.durations, gaps[:, :, 0].mean(axis=0), color="0.3", label="no delay")
        middle = (equal.shortest[equal.known] + equal.longest[equal.known]) / 2
        reach = (equal.longest[equal.known] - equal.shortest[equal.known]) / 2
        for i, (name, each) in enumerate(zip(STREAMS, (dense, gaps), strict=True)):
            marked(curve, middle, each[:, equal.known].T, label=name, xerr=reach, **look(1 - i))
        curve.set(xlabel="T' of equal overlap (tau$_{prop}$)", ylabel="test accuracy", ylim=(0, 1))
        curve.legend(loc="lower right", handletextpad=0.4)

    def _lines(self, panel: Axes, span: np.ndarray) -> None:
        """Lines of equal overlap of the first layer with the target, by closed form, and d = T."""
        d, t = np.linspace(0, self.delays[-1], 60), np.linspace(span[0], span[1], 60)
        times = self.learned(d[None], t[:, None])
        panel.contour(d, t, times[0], levels=list(self.durations[:-1]), colors="white", linewidths=0.7)
        panel.plot(t, t, color=OKABE_ITO[1], linewidth=1.2, linestyle="--")
        panel.text(t[20] + 1, t[20], "d = T", color=OKABE_ITO[1], fontsize=7, va="center")
        panel.text(0.03, 0.97, "lines: equal overlap", transform=panel.transAxes, color="white", fontsize=6.5, va="top")


class OneHidden(AbstractDelayDuration):
    """The map of a network with one hidden layer."""

    depth = 1
    number = "T1.12a"
    title = "Accuracy over error delay and sample duration: one hidden layer"


class TwoHidden(AbstractDelayDuration):
    """The map of a network with two hidden layers."""

    depth = 2
    number = "T1.12b"
    title = "Accuracy over error delay and sample duration: two hidden layers"


class ThreeHidden(AbstractDelayDuration):
    """The map of a network with three hidden layers."""

    depth = 3
    number = "T1.12c"
    title = "Accuracy over error delay and sample duration: three hidden layers"
