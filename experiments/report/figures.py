"""Figures: the style they share, and those that any result has.

What a result looks like follows from its axes. Without a swept number: every probe against time. With one: the last
record of every probe against it. With two: a heat map. Lines are means over seeds, bands their 95 % intervals.
What would be too many lines or maps to tell apart is represented by some of them, and the figure says so.
"""

import contextlib
import errno
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from dynamics.errors import printable
from experiments.machine.interrupts import raise_if_interrupted
from experiments.report.places import LARGEST_DRAWN, Places, add_ticks, edges, is_logarithmic, places
from experiments.results.intervals import Interval, axes, count, interval, measured, position, positions, probes, spread
from experiments.results.labels import Results
from experiments.results.text_tables import path_text, title_of, value_text

# The palette of Okabe and Ito, told apart with every kind of colour vision; its yellow is too faint for lines.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "savefig.dpi": 300,
    "text.usetex": False,
    "figure.constrained_layout.use": True,
}
LINES = ("-", (0, (4, 1)), (0, (1, 0.8)), (0, (5, 1, 1, 1)), (0, (8, 1.5)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 2)))
PANEL_WIDTH, PANEL_HEIGHT = 2.4, 2.1  # inches: one panel with a short legend fits a journal's column
LONGEST_LABEL = 26  # characters of a vertical label's line
MOST_PANELS = 8
MOST_TICKS = 5  # cells of a map that get a tick each
MOST_LEGEND = 11  # as many as fit beside one row of panels
MOST_LINES = 30
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what the system says of a disk
MOST_MARKS = 60  # on a line
MOST_NAMED = 6  # phases that get their names

Positions = dict[str, dict[str, int]]


def style() -> AbstractContextManager[None]:
    """The context in which to make a figure, so that it looks like the others: 8 point text, thin frames."""
    return matplotlib.rc_context(STYLE)


def panels(
    count: int, legend: Sequence[str] = (), width: float = PANEL_WIDTH, height: float = PANEL_HEIGHT
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of a size in inches, at most four in a row, and room at the right for a legend."""
    columns = min(count, 4)
    rows = -(-count // columns)
    room = 0.55 + 0.06 * max(map(len, legend)) if legend else 0
    figure = Figure((columns * width + room, rows * height))
    drawn = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in drawn[count:]:
        spare.remove()
    return figure, drawn[:count]


def save(figures: dict[str, Figure], directory: Path, failed: dict[str, str] | None = None) -> dict[str, Path]:
    """Write each figure as a PNG file with 300 dots per inch; returns the files by figure.

    Where a figure cannot be drawn, `failed` gets the reason, and the others are drawn.
    """
    directory.mkdir(exist_ok=True)
    files = {}
    for stem, figure in figures.items():
        file = directory / f"{stem}.png"
        with style(), attempt(f"figures/{file.name}", failed):
            figure.savefig(file)
            files[stem] = file
    return files


def generic_figures(results: Results, failed: dict[str, str] | None = None) -> dict[str, Figure]:
    """The figures of any results: one per part and probe, by a name that is fit for a file. `failed` as for `save`."""
    figures = {}
    with style():
        for part, data in results.datasets.items():
            for probe in probes(data):
                stem = f"{part}-{probe}".strip("-")
                with attempt(f"figures/{stem}.png", failed):
                    figure = _figure(data, probe)
                    if figure is not None:
                        _as_it_is(figure)
                        figures[stem] = figure
    return figures


@contextlib.contextmanager
def attempt(what: str, failed: dict[str, str] | None) -> Iterator[None]:
    """What must not cost the rest: an error is noted in `failed` under the name `what`, where that is given.

    An interrupt is none, nor a full disk, which costs all that follows too.
    """
    try:
        yield
    except Exception as error:
        raise_if_interrupted()
        if failed is None or (isinstance(error, OSError) and error.errno in FULL):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        failed[what] = printable(textwrap.shorten(said, 200, placeholder="..."))


def _as_it_is(figure: Figure) -> None:
    """Draw titles, labels and legends as they are, without a language of formulas; ticks keep theirs."""
    texts = [text for legend in figure.legends for text in (legend.get_title(), *legend.get_texts())]
    for panel in figure.axes:
        texts += [panel.title, panel.xaxis.label, panel.yaxis.label]
    for text in texts:
        text.set_parse_math(False)


def band(panel: Axes, x: np.ndarray, one: Interval, look: dict[str, Any], label: str) -> None:
    """Draw the means as a line, and their intervals as a band in the same colour; `look` is one of `looks`.

    What is too large for an axis is left out.
    """
    mean, half = _drawable(one.mean.values), _drawable(one.half.values)
    panel.plot(x, mean, label=label, **look)
    if np.isfinite(half).any():
        panel.fill_between(x, mean - half, mean + half, color=look["color"], alpha=0.15, linewidth=0)


def looks(count: int, marks: bool = False) -> list[dict[str, Any]]:
    """How to draw each of so many lines: colours, and dashes (with `marks`: markers), so that none hides another."""
    if count > len(OKABE_ITO):
        return [{"color": colour} for colour in colours(count)]
    shapes = [{"marker": marker} for marker in MARKERS] if marks else [{"linestyle": line} for line in LINES]
    return [{"color": colour} | shape for colour, shape in zip(colours(count), shapes[:count], strict=True)]


def colours(count: int) -> list:
    """As many colours: those of Okabe and Ito, or shades from dark to light where they do not suffice."""
    if count <= len(OKABE_ITO):
        return list(OKABE_ITO[:count])
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 0.95, count)))


def axis_label(data: xr.Dataset, axis: str) -> str:
    """The name of an axis with its unit."""
    name, units = data[axis].attrs.get("long_name", axis), data[axis].attrs.get("units", "1")
    if units == "T":
        return f"{name} / stimulus duration"
    return name if units in ("", "1") else f"{name} ({units})"


def _figure(data: xr.Dataset, probe: str) -> Figure | None:
    numeric = [axis for axis in axes(data) if data[axis].dtype.kind in "if" and data.sizes[axis] > 1]
    each = _by_matrix(data, probe)
    if not each:
        return None
    if len(numeric) >= 2:
        return _heat_maps(data, probe, each, numeric)
    return _lines(data, probe, each, numeric[0] if numeric else None)


def _by_matrix(data: xr.Dataset, probe: str) -> Positions:
    """Where in the data every matrix is that any point has, by title; untitled for a probe of the whole network."""
    found = measured(data, probe)
    if "matrix" not in found.dims:
        return {"": {}} if found.any() else {}
    names = data["matrix"].values
    return {str(name): {"matrix": index} for index, name in enumerate(names) if found.isel(matrix=index).any()}


def _lines(data: xr.Dataset, probe: str, each: Positions, along: str | None) -> Figure:
    """One line for every position of the other axes, against time or, at the last record, against the axis `along`."""
    others = [axis for axis in axes(data) if axis != along]
    number, lines = count(data, others), list(positions(data, others, MOST_LINES))
    values, label = _time(data) if along is None else (data[along].values, axis_label(data, along))
    where = places(values)
    x = where.at
    shown = data if along is None else data.isel(record=-1)
    order = np.argsort(x)
    texts = [", ".join(value_text(data, axis, index) for axis, index in place.items()) for place in lines]
    styles = looks(len(lines), marks=along is not None and len(x) <= MOST_MARKS)
    figure, drawn = panels(len(each), texts if len(lines) > 1 else ())
    too_large = False
    for nth, (place, look) in enumerate(zip(lines, styles, strict=True)):
        over_seeds = interval(shown.isel(place), probe)  # of one line at a time: all may be more than memory holds
        for matrix, panel in zip(each.values(), drawn, strict=True):
            one = over_seeds.at(**matrix)
            one = one.at(**{str(one.mean.dims[0]): order})
            too_large |= bool((np.abs(one.mean) > LARGEST_DRAWN).any())
            if (one.n > 0).any():
                band(panel, x[order], one, look, str(nth))
    for title, panel in zip(each, drawn, strict=True):
        panel.set(title=title, xlabel=label)
        if along is None and "phase" in data.coords:
            _mark_phases(panel, x, data["phase"].values)
        _dress(panel.xaxis, where, along is not None and data[along].attrs.get("units") == "s", along is not None)
    heading = ", ".join(path_text(data, axis) for axis in others)
    heading += f" ({len(lines)} of {number})" if number > len(lines) else ""
    _finish(figure, drawn, title_of(data, probe) + _left_out(too_large), heading, texts)
    if (bounds := data[probe].attrs.get("valid_range")) is not None:  # which an interval may leave, a value may not
        for panel in drawn:
            panel.set_ylim(*bounds)
    return figure


def _mark_phases(panel: Axes, x: np.ndarray, names: np.ndarray) -> None:
    """A line where a phase ends, and the name of each at its beginning, where there is room for them."""
    ends = np.flatnonzero(names[1:] != names[:-1])
    for end in ends:
        panel.axvline(x[end], color="0.7", linewidth=0.6, linestyle=":", zorder=0)
    if len(ends) < MOST_NAMED:
        for start in (0, *ends):
            name = names[min(start + 1, len(names) - 1)]
            panel.text(x[start], 0.99, f" {name}", transform=panel.get_xaxis_transform(), va="top", color="0.4", size=6)


def _time(data: xr.Dataset) -> tuple[np.ndarray, str]:
    if "time" in data.coords:
        return data["time"].values, "simulated time (s)"
    return data["presentation"].values, "presentations"


def _drawable(values: np.ndarray) -> np.ndarray:
    """The values, without those that are too large for an axis."""
    return np.where(np.abs(values) <= LARGEST_DRAWN, values, np.nan)


def _left_out(too_large: bool) -> str:
    return f" (above {LARGEST_DRAWN:g}: not drawn)" if too_large else ""


def _dress(axis: XAxis | YAxis, where: Places, seconds: bool, may_be_logarithmic: bool = True) -> None:
    """A logarithmic scale where it suits the values, 50 ms rather than 0.05 s, and a tick for infinity."""
    values = where.within
    if may_be_logarithmic and is_logarithmic(values):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_locator(LogLocator(numticks=4))
    elif len(values) <= MOST_TICKS and not may_be_logarithmic:
        axis.set_ticks(values)
    else:
        axis.set_major_locator(MaxNLocator(3 if seconds else 5))  # "200 ms" is wide
    if seconds:
        axis.set_major_formatter(EngFormatter(unit="s"))
        axis.set_label_text(axis.get_label_text().removesuffix(" (s)"))
    add_ticks(axis, where)


def _finish(figure: Figure, drawn: Sequence[Axes], label: str, legend_title: str, texts: Sequence[str]) -> None:
    """One label for all vertical axes, on one scale, and one legend for all panels: lines are labelled by the index of
    their text, for one that begins with "_" would be hidden."""
    ends = [panel.get_ylim() for panel in drawn]
    for panel in drawn:
        if _is_leftmost(panel):
            panel.set_ylabel(textwrap.fill(label, LONGEST_LABEL))
        panel.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    if len(texts) == 1:
        return
    found: dict = {}
    for panel in drawn:
        for handle, index in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(index, handle)
    step = -(-len(found) // MOST_LEGEND)
    shown = dict(itertools.islice(found.items(), 0, None, step))
    place: dict[str, Any] = {"loc": "outside right upper", "alignment": "left"}
    legend = figure.legend(shown.values(), shown.keys(), title=legend_title, **place)
    for line, index in zip(legend.get_texts(), shown, strict=True):
        line.set_text(texts[int(index)])


def _heat_maps(data: xr.Dataset, probe: str, each: Positions, numeric: list[str]) -> Figure:
    """The last record over the two longest swept numbers: one map per position of the other axes, and per matrix."""
    down, along = sorted(numeric, key=lambda axis: data.sizes[axis])[-2:]
    others = [axis for axis in axes(data) if axis not in (down, along)]
    last = interval(data.isel(record=-1), probe)
    in_each = count(data, others)
    number = len(each) * in_each
    maps: list[tuple[str, np.ndarray]] = []
    for nth in spread(number, MOST_PANELS):
        matrix, place = list(each)[nth // in_each], position(data, others, nth % in_each)
        mean = last.at(**each[matrix], **place).mean.transpose(down, along)
        texts = [matrix, *(value_text(data, axis, index) for axis, index in place.items())]
        maps.append((", ".join(filter(None, texts)), mean.values))
    figure, drawn = panels(len(maps))
    means = [_drawable(mean) for _, mean in maps]
    too_large = any(bool((np.abs(mean) > LARGEST_DRAWN).any()) for _, mean in maps)
    norm = _norm(np.concatenate([mean[np.isfinite(mean)] for mean in means]))
    x, y = places(data[along].values), places(data[down].values)
    for (title, _), mean, panel in zip(maps, means, drawn, strict=True):
        panel.set_facecolor("0.8")  # what has no value: no seed finished
        cells = mean[np.ix_(np.argsort(y.at), np.argsort(x.at))]
        panel.pcolormesh(edges(x.at), edges(y.at), cells, norm=norm, cmap="viridis")
        panel.set(
            title=title, xlabel=axis_label(data, along), ylabel=axis_label(data, down) if _is_leftmost(panel) else ""
        )
        _dress(panel.xaxis, x, data[along].attrs.get("units") == "s", is_logarithmic(x.within))
        _dress(panel.yaxis, y, data[down].attrs.get("units") == "s", is_logarithmic(y.within))
    label = textwrap.fill(title_of(data, probe) + _left_out(too_large), LONGEST_LABEL)
    label += f"\n({len(maps)} of {number} maps)" if number > len(maps) else ""
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=drawn, label=label)
    return figure


def _is_leftmost(panel: Axes) -> bool:
    place = panel.get_subplotspec()
    return place is not None and place.is_first_col()


def _norm(values: np.ndarray) -> Normalize:
    """A common colour scale, logarithmic where positive values span more than two decades."""
    if not values.size:  # no point of these maps has finished
        return Normalize(0, 1)
    low, high = float(values.min()), float(values.max())
    return LogNorm(low, high) if low > 0 and high / low > 100 else Normalize(low, high)
