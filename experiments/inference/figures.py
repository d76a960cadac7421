"""Figures of a fit and of a design."""

import textwrap

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.inference.comparison import Compared
from experiments.inference.coordinates import Coordinate
from experiments.inference.design import Design
from experiments.inference.fitting import Fitted
from experiments.inference.verdicts import FALLEN, IDENTIFIED, number_text
from experiments.report.figures import LONGEST_LABEL, OKABE_ITO, axis_label, panels, style
from experiments.results.text_tables import path_text

SHOWN = 3  # of what a log-likelihood may lose in an interval: so much of a profile
MOST_DRAWN = 6  # data of one observation, or lines


def figures(found: Fitted) -> dict[str, Figure]:
    """Estimates in their ranges; the model beside the data; profiles."""
    with style():
        drawn = {"estimates": _estimates(found)}
        drawn |= {f"prediction-{name}": _prediction(found.predicted, name) for name in found.misfit}
        drawn |= {
            f"profile-{one.path}": _profile(one, found.profiles[one.path])
            for one in found.free
            if one.path in found.profiles
        }
    return drawn


def _estimates(found: Fitted) -> Figure:
    """Intervals, each in its range from left to right; the truth as a cross."""
    figure, (panel,) = panels(1, width=4.5, height=0.5 + 0.3 * len(found.free))
    for row, (one, free) in enumerate(zip(found.estimates.values(), found.free, strict=True)):
        with np.errstate(divide="ignore", invalid="ignore"):
            place, low, high = (free.place(x) if np.isfinite(x) else x for x in (one.value, one.low, one.high))
        low, high = np.clip(np.nan_to_num([low, high], posinf=1, neginf=0), 0, 1)
        colour = OKABE_ITO[0] if one.verdict == IDENTIFIED else OKABE_ITO[1]
        panel.plot([low, high], [row, row], color=colour, linewidth=2)
        panel.plot([place], [row], "o", color=colour)
        if one.truth is not None:
            panel.plot([free.place(one.truth)], [row], "x", color="black")
        panel.annotate(
            f"{number_text(free, one.value)}, {one.verdict}", (place, row), (0, 5), textcoords="offset points"
        )
    panel.set_yticks(range(len(found.free)), [one.path for one in found.free])
    panel.set_ylim(len(found.free) - 0.5, -0.7)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 1], ["low end", "high end"])
    panel.set_title("95 % intervals in the ranges of the fit")
    return figure


def _prediction(data: xr.Dataset, name: str) -> Figure:
    """Residuals against presentations, and the model against the data where it says a mean."""
    seen, residuals = data[f"{name}_data"].values, data[f"{name}_residual"].values
    mean = data.get(f"{name}_mean")
    figure, drawn = panels(2 if mean is not None else 1)
    for number in range(min(seen.shape[1], MOST_DRAWN)):
        colour = OKABE_ITO[number % len(OKABE_ITO)]
        drawn[0].plot(residuals[:, number], ".", color=colour, markersize=2)
        if mean is not None:
            drawn[1].plot(mean.values[:, number], seen[:, number], ".", color=colour, markersize=2)
    drawn[0].axhline(0, color="black", linewidth=0.6)
    drawn[0].set(xlabel="presentation", ylabel=f"{name}: residual (s.d.)")
    if mean is not None:
        ends = [np.nanmin(mean.values), np.nanmax(mean.values)]
        drawn[1].plot(ends, ends, color="black", linewidth=0.6)
        drawn[1].set(xlabel=f"{name}: model", ylabel="data")
    return figure


def _profile(one: Coordinate, data: xr.Dataset) -> Figure:
    figure, (panel,) = panels(1)
    lost = data["loss"].values - data["loss"].values.min()
    shown = lost < SHOWN * FALLEN
    close = np.convolve(shown, [1, 1, 1], "same") > 0  # and their neighbours: the rest is far below
    panel.plot(data["at"].values[close], lost[close], ".-", color=OKABE_ITO[0])
    panel.set_ylim(0, min(SHOWN * FALLEN, max(1.1 * lost.max(), 1.2 * FALLEN)))
    panel.axhline(FALLEN, color="black", linewidth=0.6)
    panel.set(xlabel=f"{one.path} (s)" if one.is_time else one.path, ylabel="log-likelihood lost")
    return figure


def rules_figure(found: Compared) -> Figure:
    """How far each rule is behind the best, with its interval: those that are not ruled out in the first colour."""
    with style():
        figure, (panel,) = panels(1, width=4.5, height=0.7 + 0.3 * len(found.rules))
        panel.set_xscale("symlog", linthresh=10)  # what is close matters
        for row, at in enumerate(found.behind):
            if np.isfinite(at.behind):
                colour = OKABE_ITO[1] if at.is_out else OKABE_ITO[0]
                panel.plot([at.low, at.high], [row, row], color=colour, linewidth=2)
                panel.plot([at.behind], [row], "o", color=colour)
        panel.axvline(0, color="black", linewidth=0.6)
        panel.set_yticks(range(len(found.rules)), [one.rule for one in found.rules])
        panel.set_ylim(len(found.rules) - 0.5, -0.5)
        panel.set(xlabel="behind the best, log units of what was left out", title=found.verdict)
    return figure


def design_figures(found: Design) -> dict[str, Figure]:
    """The errors of every free number over the first axis of the protocols, or as a map over the first two; at the best
    of all others."""
    sizes = {str(name): size for name, size in found.seconds.sizes.items() if size > 1}
    dims, others = list(sizes)[:2], list(sizes)[2:]
    if not dims:
        return {}
    with style():
        figure, drawn = panels(len(found.free))
        if others:
            figure.suptitle(f"at the best {', '.join(path_text(found.data, name) for name in others)}")
        for i, one in enumerate(found.free):
            errors = found.errors.isel(free=i).squeeze(drop=True)
            errors = errors.where(np.isfinite(errors))
            (_map if len(dims) > 1 else _along)(drawn[i], errors.min(others) if others else errors, dims)
            unit = " (relative)" if one.is_log else " (s)" if one.is_time else ""
            drawn[i].set_title(f"standard error of\n{one.path}{unit}")
    return {"design": figure}


def _along(panel: Axes, errors: xr.DataArray, dims: list[str]) -> None:
    places = errors[dims[0]].values
    if places.dtype.kind in "if":
        panel.plot(places, errors.values, "o-", color=OKABE_ITO[0])
    else:  # nothing lies between two texts
        panel.plot(range(len(places)), errors.values, "o", color=OKABE_ITO[0])
        panel.set_xticks(range(len(places)), _texts(places))
    panel.set(yscale="log", xlabel=axis_label(errors.coords.to_dataset(), dims[0]))


def _texts(places: np.ndarray) -> list[str]:
    """What ticks say."""
    return [f"{x:g}" if places.dtype.kind in "if" else str(x) for x in places]


def _map(panel: Axes, errors: xr.DataArray, dims: list[str]) -> None:
    values = errors.transpose(dims[1], dims[0]).values
    norm = LogNorm() if np.isfinite(values).any() and np.nanmin(values) > 0 else None
    image = panel.imshow(values, origin="lower", cmap="viridis_r", norm=norm, aspect="auto")
    panel.figure.colorbar(image, ax=panel)
    labels = errors.coords.to_dataset()
    panel.set_xticks(range(errors.sizes[dims[0]]), _texts(errors[dims[0]].values))
    panel.set_yticks(range(errors.sizes[dims[1]]), _texts(errors[dims[1]].values))
    panel.set_xlabel(axis_label(labels, dims[0]))
    panel.set_ylabel(textwrap.fill(axis_label(labels, dims[1]), LONGEST_LABEL))
