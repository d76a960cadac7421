"""What the figures of all predictions share: their style, means over seeds with intervals, legends.

Samples have one number per seed along their last axis.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.predictions.kit import Numbers, intervals
from experiments.report.figures import MARKERS, OKABE_ITO, style
from experiments.results.verdicts import mean_of

P = ParamSpec("P")
Owner = TypeVar("Owner")


def drawn(
    width: float, height: float
) -> Callable[[Callable[Concatenate[Owner, Figure, P], None]], Callable[Concatenate[Owner, P], Figure]]:
    """Gives a method the figure to draw on, in the style that all share and of a size in inches, and returns it."""

    def decorate(draw: Callable[Concatenate[Owner, Figure, P], None]) -> Callable[Concatenate[Owner, P], Figure]:
        @functools.wraps(draw)
        def whole(self: Owner, *args: P.args, **kwargs: P.kwargs) -> Figure:
            with style():
                figure = Figure((width, height), layout="constrained")
                draw(self, figure, *args, **kwargs)
            return figure

        return whole

    return decorate


def plotted(
    width: float, height: float
) -> Callable[[Callable[Concatenate[Owner, Axes, P], None]], Callable[Concatenate[Owner, P], Figure]]:
    """As `drawn`, of one panel, which is what the method is given."""

    def decorate(draw: Callable[Concatenate[Owner, Axes, P], None]) -> Callable[Concatenate[Owner, P], Figure]:
        @drawn(width, height)
        @functools.wraps(draw)
        def whole(self: Owner, figure: Figure, *args: P.args, **kwargs: P.kwargs) -> None:
            draw(self, figure.subplots(), *args, **kwargs)

        return whole

    return decorate


def look(i: int, **more: Any) -> dict[str, Any]:
    """Colour and marker of the i-th of several curves, and what else is said of it."""
    return {"color": OKABE_ITO[i % len(OKABE_ITO)], "marker": MARKERS[i % len(MARKERS)]} | more


def marked(panel: Axes, x: Numbers, samples: np.ndarray | Sequence[np.ndarray], **look: Any) -> None:
    """Means over the last axis, seeds, as markers with their 95 % intervals."""
    means, half = intervals(samples)
    look = {"linestyle": "", "elinewidth": 0.8, "capsize": 1.5} | look
    panel.errorbar(np.asarray(x), means, np.nan_to_num(half), **look)


def against(panel: Axes, i: int, theory: tuple, found: tuple, label: str | None = None, **line: Any) -> None:
    """Theory as a line and what was found as markers in the i-th colour, each (x, y); of samples as `marked` does."""
    panel.plot(*theory, color=look(i)["color"], **line)
    if np.ndim(found[1]) > np.ndim(found[0]):
        marked(panel, *found, label=label, **look(i))
    else:
        panel.plot(*found, linestyle="", label=label, **look(i))


def marked_across(panel: Axes, samples: np.ndarray, height: float, **look: Any) -> None:
    """The mean of samples as a marker at a height, with its 95 % interval along the horizontal axis."""
    mean = mean_of(samples)
    panel.errorbar(mean.value, height, xerr=mean.half, linestyle="", elinewidth=0.8, capsize=1.5, **look)


def band(panel: Axes, x: np.ndarray, samples: np.ndarray, **look: Any) -> None:
    """The mean over the last axis, seeds, as a line with its 95 % interval as a band."""
    means, half = intervals(samples)
    panel.plot(x, means, **look)
    panel.fill_between(x, means - half, means + half, color=look["color"], alpha=0.2, linewidth=0)


def ticked(panel: Axes, values: Numbers, form: str = "g") -> None:
    """A logarithmic horizontal axis with a tick at each of `values`, and nowhere else."""
    panel.set_xscale("log")
    panel.set_xticks(list(values), [f"{value:{form}}" for value in values])
    panel.xaxis.set_minor_locator(NullLocator())


def legend_outside(panel: Axes, columns: int = 1, loc: str = "upper center", **look: Any) -> None:
    """The legend of one panel outside of all, where it covers no data."""
    look |= {"ncols": columns, "loc": f"outside {loc}"}
    panel.figure.legend(*panel.get_legend_handles_labels(), **look)
