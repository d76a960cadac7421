"""The figure of `record.inside`: what is seen inside presentations, with the windows of input and error."""

import textwrap
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, MaxNLocator

from experiments.report.figures import OKABE_ITO, attempt, looks, style
from experiments.results.intervals import axes, count, position, positions, spread
from experiments.results.labels import Results
from experiments.results.text_tables import title_of, value_text
from experiments.spec.grid import Sweep
from experiments.spec.inside import PRESENTATION, TIME, TOLD

INSIDE = "inside"  # the name of the figure; no probe may be called so
MOST_COLUMNS, MOST_ROWS, MOST_NEURONS = 4, 12, 5
LONGEST_LABEL = 16  # characters of a vertical label's line
WIDTH, HEIGHT = 2.2, 1.25  # inches of a panel
INPUT, ERROR = "0.9", OKABE_ITO[1]


class Times(NamedTuple):
    """Of one presentation, in seconds from its start: the end, and when its input and its error arrive."""

    period: float
    input: tuple[float, float]
    error: tuple[float, float]


def inside_figures(
    sweeps: Mapping[str, Sweep], results: Results, failed: dict[str, str] | None = None
) -> dict[str, Figure]:
    """A figure for each part that has something to show: a column for each of some presentations, over some points of
    the sweep, and a row for each signal. `failed` as for `figures.save`."""
    found = {}
    for part, data in results.datasets.items():
        stem = f"{part}-{INSIDE}".strip("-")
        with style(), attempt(f"figures/{stem}.png", failed):
            if TIME in data.dims:
                found[stem] = _figure(data, sweeps[part])
    return found


def times(sweep: Sweep, at: tuple[int, ...], presentation: int, is_told: bool = True) -> Times:
    """When things happen in a presentation of the point at a position of the grid; there is no error where no target
    `is_told`."""
    group, row = next(
        (group, rows[0]) for group in sweep.groups if len(rows := np.flatnonzero((group.index == at).all(axis=1)))
    )
    phase = np.searchsorted(np.cumsum(group.static.stage_presentations()), presentation, side="right")
    known = {path: float(values[row]) for path, values in group.stages[phase].items() if np.ndim(values[row]) == 0}
    shown, lag = known["stimulus.duration"], known.get("delays.input", 0.0)
    late = known.get("delays.error", 0.0)
    error = (late, late + shown * is_told)
    return Times(shown + known["stimulus.gap"], (lag, lag + shown), error)


def _figure(data: xr.Dataset, sweep: Sweep) -> Figure:
    grid = [*map(str, data["status"].dims)]
    across = [*axes(data), PRESENTATION]  # of the seeds the first
    columns = list(positions(data, across, MOST_COLUMNS))
    names = [str(name) for name, values in data.data_vars.items() if TIME in values.dims]
    shown = names[:MOST_ROWS]
    figure = Figure((1.3 + len(columns) * WIDTH, 0.7 + len(shown) * HEIGHT), layout="constrained")
    rows = figure.subplots(len(shown), len(columns), sharex="col", sharey="row", squeeze=False)
    for column, place in enumerate(columns):
        at = tuple(place.get(axis, 0) for axis in grid)
        where = dict(zip(grid, at, strict=True)) | {PRESENTATION: place[PRESENTATION]}
        is_told = TOLD not in data or bool(data[TOLD].isel(where) != 0)
        when = times(sweep, at, int(data[PRESENTATION].values[place[PRESENTATION]]), is_told)
        seconds = data[TIME].values * (when.period if data[TIME].attrs["units"] == "period" else 1)
        one = data[shown].isel(where)
        for panel, name in zip(rows[:, column], shown, strict=True):
            _mark(panel, when)
            values = one[name] - one[name][0] if _is_map(data, name) else one[name]
            _lines(panel, seconds, values, legend=column == len(columns) - 1)
        rows[0, column].set_title("\n".join(_told(data, place)))
        rows[-1, column].set_xlabel("time in the presentation")
        rows[-1, column].xaxis.set_major_formatter(EngFormatter(unit="s"))
        rows[-1, column].xaxis.set_major_locator(MaxNLocator(3))
        rows[-1, column].set_xlim(0, when.period)
    for panel, name in zip(rows[:, 0], shown, strict=True):
        change = "change of " if _is_map(data, name) else ""
        panel.set_ylabel(textwrap.fill(change + title_of(data, name), LONGEST_LABEL))
    figure.align_ylabels(rows[:, 0])
    keys = [Patch(color=INPUT, label="input is shown"), Patch(color=ERROR, alpha=0.6, label="its error arrives")]
    counts = {"presentations": (len(columns), count(data, across)), "signals": (len(shown), len(names))}
    note = ", ".join(f"{few} of {all} {what}" for what, (few, all) in counts.items() if few < all)
    figure.legend(handles=keys, loc="outside upper left", ncols=2, title=note or None, alignment="left")
    return figure


def _is_map(data: xr.Dataset, name: str) -> bool:
    """Whether it is a matrix, of which a presentation changes little."""
    return data[name].attrs["long_name"].startswith("matrix ")


def _told(data: xr.Dataset, place: Mapping[str, int]) -> Iterator[str]:
    """What a column shows, in lines."""
    for axis, index in place.items():
        title = "presentation" if axis == PRESENTATION else data[axis].attrs.get("long_name", axis)
        yield f"{title} {value_text(data, axis, index)}"


def _mark(panel: Axes, when: Times) -> None:
    """The window of the input, grey, and that of the error, a bar at the top."""
    start, end = np.clip(when.input, 0, when.period)
    panel.axvspan(start, end, color=INPUT, linewidth=0, zorder=0)
    start, end = np.clip(when.error, 0, when.period)
    if end > start:
        panel.plot(
            [start, end],
            [1, 1],
            color=ERROR,
            alpha=0.6,
            linewidth=4,
            solid_capstyle="butt",
            transform=panel.get_xaxis_transform(),
            clip_on=False,
        )


def _lines(panel: Axes, seconds: np.ndarray, values: xr.DataArray, legend: bool) -> None:
    """Some of the neurons or synapses of a signal, with their numbers."""
    dims = [str(dim) for dim in values.dims if dim != TIME]
    data = values.to_dataset(name="shown")
    number = count(data, dims)
    chosen = spread(number, MOST_NEURONS)
    for index, look in zip(chosen, looks(len(chosen)), strict=True):
        place = position(data, dims, index)
        label = ", ".join(str(values[dim].values[at]) for dim, at in place.items())
        panel.plot(seconds, values.isel(place).values, label=label, **look)
    if legend:
        kinds = ", ".join(dim.removesuffix("_neuron") for dim in dims)
        title = f"{kinds} ({len(chosen)} of {number})" if number > len(chosen) else kinds
        panel.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)
