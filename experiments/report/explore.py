"""What a page has for exploring a run: its numbers, packed, the library that draws them and the script that asks it to.

All three are in the page, compressed: it needs no other file and no network. Browsers since 2023 unpack it; older ones,
and those without JavaScript, show the rest of the page. Its numbers are of the precision of the run. Means and
intervals are made here, once, so that the page, tables and figures tell the same ones.
"""

import base64
import functools
import gzip
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.colors import to_hex

from dynamics.errors import visible
from experiments.report.figures import MOST_LINES, OKABE_ITO, axis_label, colours
from experiments.report.places import edges, is_logarithmic, places
from experiments.results.intervals import axes, interval, probes, spread
from experiments.results.labels import STATUS, Results
from experiments.results.text_tables import path_text, title_of, value_text

MOST_BYTES = 2**22  # of the numbers of all parts, before they are packed
FEW_RECORDS = 25  # a curve of so many is still one to read
MOST_TICKS = 8  # of names
ALIGNED = 8  # bytes at which the typed arrays of a browser may begin

Kept = dict[str, list[int]]  # by dimension, the positions that the page has


class _Bytes:
    """Arrays one after the other; `add` tells where in the whole each lies, as (first byte, count, type)."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, values: np.ndarray) -> tuple[int, int, str]:
        piece = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
        self.pieces.append(piece + bytes(-len(piece) % ALIGNED))
        start, self.size = self.size, self.size + len(self.pieces[-1])
        return start, values.size, f"{values.dtype.kind}{values.dtype.itemsize}"


def explorer(results: Results) -> str:
    """The part of the page, as HTML: hidden until it is drawn. Nothing where there is no probe of any point."""
    numbers, shown = _Bytes(), {name: data for name, data in results.datasets.items() if _shown(data)}
    if not shown:
        return ""
    parts = [_part(name, data, MOST_BYTES // len(shown), numbers) for name, data in shown.items()]
    largest = max(range(len(parts)), key=lambda index: parts[index]["size"])
    shades = [to_hex(colour) for colour in colours(MOST_LINES)]
    about = {"parts": parts, "first": largest, "status": STATUS, "colours": OKABE_ITO, "shades": shades}
    content = json.dumps(about, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<section id="explore" hidden></section>'
        f'<script type="application/json" id="explore-about">{content}</script>'
        f'<script type="text/plain" id="explore-numbers">{_packed(b"".join(numbers.pieces), 1)}</script>'
        f'<script type="text/plain" id="explore-library">{library()}</script>'
        f'<script id="explore-script">{_script()}</script>'
    )


@functools.cache
def library() -> str:
    """What draws in the browser, packed."""
    from plotly.offline import get_plotlyjs  # only who writes a page waits for it

    return _packed(get_plotlyjs().encode(), 6)


@functools.cache
def _script() -> str:
    parts = sorted(files("experiments.report").joinpath("explore_page").iterdir(), key=lambda part: part.name)
    text = "\n".join(part.read_text(encoding="utf-8") for part in parts)
    return f'(async () => {{\n"use strict";\n{text}}})();'


def _packed(content: bytes, level: int) -> str:
    return base64.b64encode(gzip.compress(content, level, mtime=0)).decode()


def _shown(data: xr.Dataset) -> list[str]:
    """The probes that have learning curves."""
    return [probe for probe in probes(data) if "record" in data[probe].dims]


def _part(name: str, data: xr.Dataset, most: int, numbers: _Bytes) -> dict[str, Any]:
    """A part of the results: what is said of it, in terms of JSON; its numbers go to `numbers`."""
    shown = _shown(data)
    kept = thinned(data, shown, most)
    grid, seeds = axes(data), data.sizes.get("seed", 1)
    status = data["status"].isel({axis: kept[axis] for axis in grid})
    status = status.expand_dims("seed", -1) if "seed" not in status.dims else status.transpose(*grid, "seed")
    counts = np.stack([(status == code).sum("seed").values for code in range(len(STATUS))], axis=-1)
    names = list(dict.fromkeys(str(dim) for probe in shown for dim in data[probe].dims if dim != "seed"))
    return {
        "name": visible(name),
        "size": int((status != STATUS.index("missing")).sum()) * data.sizes["record"],
        "axes": len(grid),
        "dims": [_dimension(data, dim, kept[dim]) for dim in names],
        "seeds": seeds,
        "seed_names": [f"seed {data['seed'].values[index]}" for index in kept["seed"]] if "seed" in data.dims else [""],
        "counts": numbers.add(counts.astype(np.min_scalar_type(seeds))),
        "statuses": numbers.add(status.values[..., kept["seed"]].astype(np.uint8)),
        "probes": [_probe(data, probe, kept, numbers) for probe in shown],
        "notes": _notes(data, kept),
    }


def _probe(data: xr.Dataset, probe: str, kept: Kept, numbers: _Bytes) -> dict[str, Any]:
    """A probe: the values of the seeds that are kept, and over all seeds, where there are several, the intervals."""
    order = [str(dim) for dim in data[probe].dims if dim != "seed"]
    here = data[[probe, "status"]].isel({dim: kept[dim] for dim in order}).load()
    values = here[probe].isel(seed=kept["seed"]) if "seed" in here.dims else here[probe].expand_dims("seed")
    kind = np.float32 if values.dtype.kind == "f" and values.dtype.itemsize <= 4 else np.float64
    result = {
        "title": visible(title_of(data, probe)),
        "dims": order,
        "bounds": [float(end) for end in data[probe].attrs.get("valid_range", ())],
        "values": numbers.add(values.transpose(*order, "seed").values.astype(kind)),
    }
    if data.sizes.get("seed", 1) > 1:
        one = interval(here, probe)
        counted = np.min_scalar_type(data.sizes["seed"])
        with np.errstate(over="ignore"):  # a half width may be wider than what float32 knows
            fields = {"mean": one.mean.values.astype(kind), "half": one.half.values.astype(kind)}
        result |= {key: numbers.add(field) for key, field in (fields | {"n": one.n.values.astype(counted)}).items()}
    return result


def _dimension(data: xr.Dataset, dim: str, kept: list[int]) -> dict[str, Any]:
    """What a dimension is called, where its values are drawn and how they read."""
    if dim == "record":
        return _records(data, kept)
    members = [str(name) for name in data.coords if data[name].dims == (dim,)] or [dim]
    texts = [visible(", ".join(value_text(data, member, index) for member in members)) for index in kept]
    values = data[dim].values[kept]
    numeric = values.dtype.kind in "if" and len(np.unique(values)) == len(values)
    where = places(values if numeric else np.arange(len(values)))
    at = [float(place) for place in where.at]
    return {
        "name": dim,
        "path": visible(", ".join(path_text(data, member) for member in members)),
        "label": visible(axis_label(data, dim)),
        "texts": texts,
        "at": at,
        "edges": [float(edge) for edge in edges(np.array(at))],
        "numeric": numeric,
        "log": numeric and is_logarithmic(where.within),
        "seconds": data[dim].attrs.get("units") == "s",
        "ticks": None if numeric and not where.beyond else [(at[i], texts[i]) for i in spread(len(at), MOST_TICKS)],
    }


def _records(data: xr.Dataset, kept: list[int]) -> dict[str, Any]:
    shown = data["presentation"].values
    texts = [f"{shown[index]} presentations" for index in kept]
    if "time" in data.coords:
        texts = [f"{text} ({data['time'].values[index]:.4g} s)" for text, index in zip(texts, kept, strict=True)]
    at = [int(shown[index]) for index in kept]
    result: dict[str, Any] = {"name": "record", "path": "presentations", "label": "presentations", "texts": texts}
    result |= {"at": at, "edges": [float(edge) for edge in edges(np.array(at))], "numeric": True}
    if "phase" in data.coords:
        phases = data["phase"].values
        starts = [0, *(index for index in range(1, len(phases)) if phases[index] != phases[index - 1])]
        result["phases"] = [(int(shown[max(start - 1, 0)]), visible(str(phases[start]))) for start in starts]
    return result


def thinned(data: xr.Dataset, shown: list[str], most: int) -> Kept:
    """The positions along every dimension of which the page has the numbers of the probes `shown`, in so many bytes.

    Records go first, evenly, down to a curve that can be read; then seeds by themselves, whose means stay those of all;
    then more records, but for the first and the last; then values of the longest axes.
    """
    number = {str(dim): size for dim, size in data.sizes.items()} | {"seed": data.sizes.get("seed", 1)}
    several = number["seed"] > 1

    def size() -> int:
        return sum(
            math.prod(number[str(dim)] for dim in data[probe].dims if dim != "seed")
            * (number["seed"] + 2 * several)
            * min(data[probe].dtype.itemsize, 8)
            for probe in shown
        )

    def cut(dim: str, least: int) -> None:
        while number[dim] > least and size() > most:
            number[dim] = max(least, number[dim] * 4 // 5)

    cut("record", FEW_RECORDS)
    cut("seed", 0 if several else 1)
    cut("record", 2)
    while size() > most and (long := [axis for axis in axes(data) if number[axis] > 2]):
        longest = max(long, key=lambda axis: number[axis])
        cut(longest, number[longest] - 1)
    sizes = {str(dim): size for dim, size in data.sizes.items()} | {"seed": data.sizes.get("seed", 1)}
    return {dim: spread(sizes[dim], count) for dim, count in number.items()}


def _notes(data: xr.Dataset, kept: Mapping[str, list[int]]) -> list[str]:
    """What a reader must know of what the page has not."""
    sizes = {str(dim): size for dim, size in data.sizes.items()}
    cut = [
        f"{len(kept[dim])} of {size} {'records' if dim == 'record' else 'values of ' + path_text(data, dim)}"
        for dim, size in sizes.items()
        if dim != "seed" and len(kept[dim]) < size
    ]
    notes = [f"To keep this page small it has {' and '.join(cut)}; all are in results.nc."] if cut else []
    if len(kept["seed"]) < sizes.get("seed", 1):
        seeds = f"{len(kept['seed'])} of {sizes['seed']} seeds"
        notes.append(f"By themselves {seeds} are in this page; means and intervals are of all.")
    return [visible(note) for note in notes]
