"""The figure of the plasticity-window study: overlap law, accuracy against delay, accuracy against timescale."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.predictions.study.window import Synapse, Window
from experiments.report.figures import OKABE_ITO, band, looks, style
from experiments.results.intervals import interval

NAMES = {"sgd": "SGD", "fa": "FA", "dfa": "DFA", "kp": "KP"}


def draw(
    synapses: Sequence[Synapse],
    data: Mapping[str, xr.Dataset],
    delays: Mapping[str, np.ndarray],
    timescales: np.ndarray,
    windows: Mapping[str, Window],
    kernels: Mapping[str, float],
    duration: float,
) -> Figure:
    """The three panels. `delays` (by part) and `timescales` are in units of the stimulus duration (seconds)."""
    with style():
        figure = Figure((7.2, 2.7), layout="constrained")
        strength, delay, timescale = figure.subplots(1, 3)
        _strengths(strength, synapses, duration)
        _against_delay(delay, data, delays)
        _against_timescale(timescale, data["window"], timescales, windows, kernels, duration)
        for panel, letter in zip((strength, delay, timescale), "abc", strict=True):
            panel.text(-0.02, 1.03, letter, transform=panel.transAxes, ha="right", fontweight="bold")
    return figure


def _strengths(panel: Axes, synapses: Sequence[Synapse], duration: float) -> None:
    for synapse, colour, marker in zip(synapses, OKABE_ITO, "os^D", strict=False):
        x = synapse.delays / duration
        pre, error = synapse.stages
        label = "no lag" if (pre, error) == (0, 0) else f"{pre} pre, {error} error stages"
        panel.plot(x, synapse.expected, color=colour, linewidth=1)
        panel.plot(x, synapse.measured, color=colour, marker=marker, linestyle="", label=label)
    panel.plot([], [], color="0.3", linewidth=1, label="closed form")
    panel.set(xlabel="error delay\n(stimulus durations)", ylabel="learning strength S(d) / $S_0$", ylim=(0, 1.75))
    panel.set_yticks([0, 0.5, 1])
    panel.legend(loc="upper right", handletextpad=0.4, borderaxespad=0.1)


def _against_delay(panel: Axes, data: Mapping[str, xr.Dataset], delays: Mapping[str, np.ndarray]) -> None:
    rules = [str(rule) for rule in data["dense"]["rule"].values]
    for rule, look in zip(rules, looks(len(rules), marks=True), strict=True):
        for part, line in (("dense", "-"), ("gaps", "--")):
            if rule not in data[part]["rule"].values:
                continue
            one = interval(data[part].sel(rule=rule), "accuracy").at(record=-1)
            band(panel, delays[part], one, look | {"linestyle": line}, NAMES.get(rule, rule))
    chance = 1 / float(data["dense"].attrs["outputs"])
    panel.axhline(chance, color="0.5", linewidth=0.8, linestyle=":")
    panel.text(0.02, chance + 0.015, "chance", color="0.35", fontsize=7)
    panel.set(xlabel="error delay\n(stimulus durations)", ylabel="test accuracy", ylim=(0, 1.0))
    dense = Line2D([], [], color="0.3", linestyle="-", label="dense")
    gaps = Line2D([], [], color="0.3", linestyle="--", label="gaps")
    panel.legend(handles=[dense, gaps], loc="upper right", borderaxespad=0.1)


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda number: np.asarray(number) * factor


def _against_timescale(
    panel: Axes,
    data: xr.Dataset,
    timescales: np.ndarray,
    windows: Mapping[str, Window],
    kernels: Mapping[str, float],
    duration: float,
) -> None:
    """Accuracy against timescale; above it the window of each rule as a bar, its tangent kernel, and seconds.

    A cross at the bottom: no seed came through there without diverging.
    """
    for i, ((rule, window), look) in enumerate(zip(windows.items(), looks(len(windows), marks=True), strict=True)):
        one = interval(data.sel(rule=rule), "accuracy").at(record=-1)
        band(panel, timescales, one, look, NAMES.get(rule, rule))
        ends, height = [window.lower, window.upper], 1.16 - 0.04 * i
        panel.plot(ends, [height, height], color=look["color"], linewidth=2.5, solid_capstyle="butt")
        panel.plot(kernels[rule], height, "|", color="black", markersize=5, markeredgewidth=1.2)
        lost = timescales[one.n.values == 0]
        panel.plot(lost, np.full(len(lost), 0.03), "x", color=look["color"], markersize=4)
    first = min(window.lower for window in windows.values())
    panel.text(first / 1.4, 1.1, "window\n| K", ha="right", va="center", color="0.35", fontsize=7, linespacing=1)
    panel.set(xscale="log", xlabel="plasticity timescale\n(stimulus durations)", ylabel="test accuracy", ylim=(0, 1.2))
    panel.set_yticks([0, 0.25, 0.5, 0.75, 1])
    seconds = panel.secondary_xaxis("top", functions=(_times(duration), _times(1 / duration)))
    seconds.set_xlabel("seconds", labelpad=2)
    panel.legend(loc="lower left", borderaxespad=0.1)
