"""T1.5b: accuracy against tau_plast, rule by rule."""

from typing import Annotated, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.continuous.accuracies import (
    AbstractDigitsPrediction,
    diverged_note,
    final_accuracies,
    in_t,
    knee,
    overlaps,
    trained,
)
from experiments.predictions.contract import Finding, Positive, Size
from experiments.predictions.drawing import drawn, legend_outside, look, marked
from experiments.predictions.kit import jackknifed
from experiments.predictions.study.plasticity_figure import NAMES
from experiments.predictions.study.plasticity_window import KERNEL_FACTOR, PAPER_EDGES, WINDOW_DROP, window_of
from experiments.predictions.study.window import Window
from experiments.results.verdicts import Verdict, between, exceeds, matches, stays_below

FLOW_STEPS = 20  # steps of the weight flow per tau_plast: enough for tangent kernels up to 40
SESSION, LATEST = 30, 2  # records of a run, and how many before the last are averaged with it: single ones swing
FLOW_TIME = 16  # tau_plast that the weight flow lasts: beyond the edge on digits, which is reached at about 10


class Measured(NamedTuple):
    """Of one rule, after so many `presentations`: accuracies (seeds, timescales), the window, and where it is lost.

    `lost` are pseudo-values of the log of the tau_plast / T above which accuracy is less than half way from chance to
    its best, over that by the weight flow; `limit` is the latter.
    """

    presentations: float
    accuracy: np.ndarray
    window: Window
    lost: np.ndarray
    limit: float


class PlasticityWindow(AbstractDigitsPrediction):
    number = "T1.5b"
    title = "The plasticity window: slow against the stimulus, fast against the session"
    source = "bacvanski2025continuous, abstract (one to two orders of magnitude); K, lambda: derived"
    equation = """K < tau_plast / T < N lambda;  K = -e . de / |e|^2, how fast a presentation removes its own error;  1
        / lambda: the time, in tau_plast, in which the weight flow learns"""
    claim = """Plasticity is slow enough from about the tangent kernel on, which is one to two orders of magnitude; T
        itself is too fast. At the other end N presentations are too few: there learning is the weight flow, and
        accuracy depends on N T / tau_plast alone, so that the end grows with N."""
    method = f"""Digits; the window is where the accuracy, averaged over seeds, is within {WINDOW_DROP:.0%} of its best.
        K: at the best tau_plast, a median over samples. The end: accuracy half way to chance, after N / 3 and N
        presentations, with its jackknife interval. The weight flow averages over all samples; without lags, it is
        slowed to the overlap with the target that they leave."""
    tolerance = """99.9 % intervals over seeds, of the loss of accuracy on the claimed side of 5 %, of K inside its
        bounds. About K: a factor of 2, as an exponential has no sharp edge. The end: the interval, the next order of
        the flow limit, K T / tau_plast, and that the network's output, part of the error, comes later than the
        target."""
    quick = {"rules": ("fa",), "presentations": 500, "shortest": 3.0, "steps": 8}

    presentations: Size = 2000
    shortest: Positive = 1.0  # tau_plast in units of T
    longest: Positive = 10_000.0
    steps: Annotated[int, Field(strict=True, ge=5, le=50)] = 13

    def misfit(self) -> str | None:
        if self.shortest > PAPER_EDGES[0] / 2 or self.longest < PAPER_EDGES[1] * 2:
            return "shortest must be at most 5 and longest at least 200: the edges lie between them"
        if self.presentations < 30:
            return "presentations must be at least 30, for a network to learn anything"

    def measure(self) -> Finding:
        found, verdicts, notes = {}, [], []
        for rule in self.rules:
            points = {"timescales.plasticity": [in_t(tau) for tau in self.timescales]}
            data = self.trained(rule, points, record={"points": SESSION, "probes": ["accuracy", "tangent_kernel"]})
            notes += diverged_note(data, NAMES[rule])
            flow, kernels = self._flow(rule), kernels_of(data)
            ends = [data.isel(record=slice(n - LATEST, n + 1)) for n in (SESSION // 3, SESSION)]
            each = [self._measured(end, flow) for end in ends]
            found[rule], kernel = (each, flow, float(kernels.mean())), float(kernels.mean())
            verdicts += self._slow_enough(NAMES[rule], each[-1], kernels)
            verdicts += [self._end(rule, one, kernel) for one in each]
            notes += [self._sentence(NAMES[rule], one, kernel) for one in each]
        return Finding(verdicts, self._drawn(found), notes)

    @property
    def timescales(self) -> np.ndarray:
        """tau_plast / T."""
        return np.geomspace(self.shortest, self.longest, self.steps)

    def _measured(self, data: xr.Dataset, flow: np.ndarray) -> Measured:
        chance, shown = self.chance.level, float(data["presentation"].mean())
        accuracy = final_accuracies(data, chance)

        def limit(seeds: np.ndarray) -> float:
            return shown / reached(flow[seeds].mean(axis=0), (accuracy[seeds].mean(axis=0).max() + chance) / 2)

        def log_ratio(seeds: np.ndarray) -> float:
            curve = accuracy[seeds].mean(axis=0)
            best = int(curve.argmax())
            return knee(curve[best:], np.log(self.timescales[best:]), chance) - np.log(limit(seeds))

        window, lost = window_of(data, self.timescales), jackknifed(log_ratio, self.seeds)
        return Measured(shown, accuracy, window, lost, limit(np.arange(self.seeds)))

    def _flow(self, rule: str) -> np.ndarray:
        """Accuracies (seeds, times) of the weight flow from the same weights, over `FLOW_TIME` tau_plast.

        Each layer is slowed to the overlap that the lags leave it.
        """
        strengths = overlaps(rule, self.layers, 0.0, self.propagation)
        table = {
            "regime": "flow",
            "rule": rule,
            "seed": self.seed,
            "task": {"name": "digits", "seed": self.seed},
            "network": {"hidden": list(self.hidden), "bias": False},
            "stimulus": {"duration": str(self.duration), "presentations": FLOW_STEPS * FLOW_TIME},
            "timescales": {"plasticity": [in_t(FLOW_STEPS / s) for s in strengths]},
            "integrator": {"name": "heun", "dt": "1 T", "tolerance": 0.01},
            "record": {"points": 5 * FLOW_TIME, "probes": ["accuracy"]},
        }
        return trained(table, {}, self.seeds)["accuracy"].transpose("seed", "record").values.astype(float)

    def _slow_enough(self, name: str, found: Measured, kernels: np.ndarray) -> list[Verdict]:
        """What the loss of accuracy against the best timescale says about the window's lower part."""
        best, kernel = int(found.accuracy.mean(axis=0).argmax()), float(kernels.mean())
        drop = WINDOW_DROP * float(found.accuracy[:, best].mean())

        def loss(timescale: float) -> np.ndarray:
            at = [np.interp(np.log(timescale), np.log(self.timescales), one) for one in found.accuracy]
            return found.accuracy[:, best] - np.array(at)

        quantity, at = "accuracy lost against the best timescale, at tau_plast =", f"{KERNEL_FACTOR:g} K T"
        return [
            stays_below(f"slow enough from the tangent kernel on ({name})", f"{quantity} {at}", drop,
                        loss(KERNEL_FACTOR * kernel), f"K = {kernel:.3g}"),
            exceeds(f"T itself is too fast ({name})", f"{quantity} {self.shortest:g} T", drop, loss(self.shortest)),
            between(f"one to two orders of magnitude ({name})", "tangent kernel K", *PAPER_EDGES, kernels),
        ]  # fmt: skip

    def _end(self, rule: str, found: Measured, kernel: float) -> Verdict:
        claim = f"the window ends where the weight flow is too slow, N = {found.presentations:.0f} ({NAMES[rule]})"
        note = f"half accuracy by the weight flow at tau_plast = {found.limit:.3g} T"
        quantity = "log of tau_plast at half accuracy over that by the weight flow"
        late, later = (np.array(overlaps(rule, self.layers, 0.0, self.propagation, n)) for n in (0, self.layers))
        allowance = kernel / found.limit + float(np.log(late / later).max())
        return matches(claim, quantity, 0.0, found.lost, allowance, note, scale=1.0)

    def _sentence(self, name: str, found: Measured, kernel: float) -> str:
        window, (low, high) = found.window, found.window.interval
        seconds = [edge * self.duration.seconds(1.0) for edge in (window.lower, window.upper)]
        return (
            f"{name}, N = {found.presentations:.0f}: the window begins at {window.lower:.3g} T (95 % interval "
            f"{low:.3g} to {high:.3g} T), {window.lower / kernel:.2g} of the tangent kernel K = {kernel:.3g}, and "
            f"spans {np.log10(window.upper / window.lower):.2g} decades: {seconds[0]:.2g} s to {seconds[1]:.2g} s for "
            f"stimuli of {self.duration}."
        )

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, found: dict[str, tuple[list[Measured], np.ndarray, float]]) -> None:
        figure.set_size_inches(3.4 * len(found) ** 0.8, 2.9)
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for (rule, (each, flow, kernel)), panel in zip(found.items(), panels, strict=True):
            for i, one in enumerate(each):
                color = look(i)["color"]
                times = np.linspace(0, FLOW_TIME, flow.shape[1])[1:]
                ends = [one.window.lower, one.window.upper]
                panel.plot(one.presentations / times, flow[:, 1:].mean(axis=0), color=color, linewidth=1)
                marked(panel, self.timescales, one.accuracy.T, label=f"N = {one.presentations:.0f}", **look(i))
                panel.plot(ends, [1.0 + 0.04 * i] * 2, color=color, linewidth=2.5, solid_capstyle="butt")
            panel.plot(kernel, 1.02, "|", color="black", markersize=12)
            self.chance.draw(panel)
            panel.set(xscale="log", xlabel="plasticity time constant\n(stimulus durations T)", ylim=(0, 1.08))
            panel.set(xlim=(self.shortest / 1.3, self.longest * 1.3), title=NAMES[rule])
        panels[0].plot([], [], color="0.3", linewidth=1, label="weight flow")
        panels[0].plot([], [], "|", color="black", markersize=7, label="tangent kernel K")
        panels[0].plot([], [], color="0.3", linewidth=2.5, label="window")
        panels[0].set_ylabel("test accuracy")
        legend_outside(panels[0], 2 if len(found) == 1 else 5)


def kernels_of(data: xr.Dataset) -> np.ndarray:
    """K of every seed's network at the timescale that is best for all, at the end: medians over samples."""
    best = int(final_accuracies(data, 0.0).mean(axis=0).argmax())
    return data["tangent_kernel"].isel(record=-1).transpose("seed", ...).values[:, best].astype(float)


def reached(curve: np.ndarray, level: float) -> float:
    """The time, of `FLOW_TIME`, at which a curve first reaches a level (linear between records); NaN if never."""
    above = np.flatnonzero(curve >= level)
    if not above.size or above[0] == 0:
        return np.nan
    i = int(above[0])
    step = FLOW_TIME / (len(curve) - 1)
    return step * (i - 1 + (level - curve[i - 1]) / (curve[i] - curve[i - 1]))
