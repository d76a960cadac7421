"""Results as small tables of text, for the terminal and for the report."""

import itertools
import math
from dataclasses import dataclass, replace

import xarray as xr

from experiments.results.intervals import Interval, axes, count, finals, interval, positions, probes
from experiments.results.labels import Results
from experiments.results.netcdf import MOST_FINALS

MOST_ROWS = 30
MOST_COLUMNS = 6  # of the axis that is preferred across
MOST_ACROSS = 12
SECONDS = ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True)
class TextTable:
    """A title, a header, rows of as many cells, and sentences to print below."""

    title: str
    header: list[str]
    rows: list[list[str]]
    note: str = ""


def final_tables(results: Results) -> list[TextTable]:
    """The last record of every part, means over seeds.

    With one axis or none, all probes by its values; with more, the first probe, one axis across.
    """
    return [_final_table(part, data) for part, data in results.datasets.items()]


def value_text(data: xr.Dataset, axis: str, index: int) -> str:
    """The value at one position of an axis, with its unit: "50 ms", "0.5 T", "sgd"."""
    value, units = data[axis].values[index], data[axis].attrs.get("units", "")
    if data[axis].dtype.kind not in "if":
        return str(value)
    if not math.isfinite(value):
        return f"{value:g}"
    value = value + 0  # no "-0"
    if units != "s":
        return f"{value:g} {units}".strip() if units != "1" else f"{value:g}"
    return seconds_text(value)


def seconds_text(value: float) -> str:
    """A time in the largest unit of which it is one or more: 0.05 s as "50 ms"."""
    scale, unit = next(((s, u) for s, u in SECONDS if abs(value) >= s), (1, "s"))
    return f"{value / scale:.4g} {unit}"


def path_text(data: xr.Dataset, axis: str) -> str:
    """What the spec calls an axis: "delays.error"."""
    return data[axis].attrs.get("path", axis)


def interval_text(one: Interval) -> str:
    """A mean and the half width of its interval, as "0.912 ± 0.008"; seeds that do not count are told."""
    mean, half, n, excluded = (field.item() for field in one)
    counted = f" ({n} of {n + excluded})" if excluded else ""
    if n == 0:
        return f"–{counted}"
    if not math.isfinite(half):
        return f"{mean:.4g}" + counted
    if half < 5e-5 * abs(mean) or half == 0:
        return f"{mean:.4g} ± {half:.1g}" + counted
    if not 1e-4 <= max(abs(mean), half) < 1e6:
        return f"{mean:.3g} ± {half:.1g}" + counted
    decimals = min(max(1 - math.floor(math.log10(half)), 0), 6)
    return f"{mean:.{decimals}f} ± {half:.{decimals}f}" + counted


def title_of(data: xr.Dataset, probe: str) -> str:
    """The full name of a probe, with its unit."""
    units = data[probe].attrs.get("units", "1")
    name = data[probe].attrs.get("long_name", probe)
    return name if units in ("", "1") else f"{name} ({units})"


def _final_table(part: str, data: xr.Dataset) -> TextTable:
    names, title = axes(data), f"{part}: " if part else ""
    scalar = [name for name in probes(data) if "matrix" not in data[name].dims]
    if len(names) < 2 or not scalar:
        final = finals(data)
        header = [*(path_text(data, name) for name in names), *final]
        rows = [
            [value_text(data, name, index) for name, index in position.items()]
            + [interval_text(one.at(**position)) for one in final.values()]
            for position in itertools.islice(positions(data, names), MOST_ROWS)
        ]
        return _noted(TextTable(f"{title}{_end(data)}", header, rows), data)
    across = _across(data, names)
    down = [name for name in names if name != across]
    one, columns = interval(data.isel(record=-1), scalar[0]), range(min(data.sizes[across], MOST_ACROSS))
    rows = [
        [value_text(data, name, index) for name, index in position.items()]
        + [interval_text(one.at(**position, **{across: index})) for index in columns]
        for position in itertools.islice(positions(data, down), MOST_ROWS)
    ]
    header = [*(path_text(data, name) for name in down), *(value_text(data, across, index) for index in columns)]
    title += f"{title_of(data, scalar[0])} {_end(data)}, by {path_text(data, across)}"
    return _noted(TextTable(title, header, rows), data, across)


def _end(data: xr.Dataset) -> str:
    """When the last record was made."""
    time = f" ({float(data['time'][-1]):.4g} s)" if "time" in data.coords else ""
    return f"after {int(data['presentation'][-1])} presentations{time}"


def _across(data: xr.Dataset, names: list[str]) -> str:
    """The axis whose values head the columns: one of names rather than numbers, or else the shortest."""
    narrow = [name for name in names if data.sizes[name] <= MOST_COLUMNS] or names
    return min(narrow, key=lambda name: (data[name].dtype.kind in "if", data.sizes[name]))


def _noted(table: TextTable, data: xr.Dataset, across: str = "") -> TextTable:
    """The table with what its reader must know: what the cells mean, and what is left out."""
    notes, names = [], axes(data)
    seeds = data.sizes.get("seed", 1)
    if seeds > 1:
        notes.append(f"Mean ± half the 95 % interval (Student t) over {seeds} seeds.")
        if any(" of " in cell for row in table.rows for cell in row):
            notes.append("(n of N): only n seeds count, the others diverged, are not-converged or did not run.")
    rows = count(data, [name for name in names if name != across])
    parts = [f"{MOST_ROWS} of {rows} rows"] if rows > MOST_ROWS else []
    if across and data.sizes[across] > MOST_ACROSS:
        parts.append(f"{MOST_ACROSS} of {data.sizes[across]} columns")
    if parts:
        file = "summary.json" if count(data, names) <= MOST_FINALS else "results.nc"
        notes.append(f"The first {' and '.join(parts)}: all are in {file}.")
    return replace(table, note=" ".join(notes))
