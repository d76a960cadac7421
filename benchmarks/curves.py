"""Cost curves: time per presentation and configuration against configurations, depth, width, presentations and delays.

The window integrator at tolerance 1e-3 against the best hand-written scan, at the settings that workload A (for
configurations, presentations and delays: C) was accepted with. The scan knows of no delays.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.contract import TARGETS, Competitor
from benchmarks.matching import Accepted
from benchmarks.report import best
from benchmarks.timing import Timed, prepare, say
from benchmarks.timing import measure as measure_all
from benchmarks.workloads import WORKLOADS, Workload

CONFIGURATIONS = 16  # of the sweeps over depth and width
SHAPES = {
    "configurations": ("C", (8, 32, 128, 512, 1024)),
    "width": ("A", (32, 64, 128, 256, 512)),
    "depth": ("A", (1, 2, 3, 4, 6)),
    "presentations": ("C", (10, 30, 100, 300)),
    "delays": ("C", (10, 25, 50, 100, 200, 400)),  # of the output error, in ms
}


def workloads() -> Iterator[tuple[str, int, Workload]]:
    """(axis, value, workload) of every point of every curve."""
    for axis, (name, values) in SHAPES.items():
        base = WORKLOADS[name]
        for value in values:
            if axis == "configurations":
                yield axis, value, replace(base, configurations=value)
            elif axis == "width":
                yield axis, value, replace(base, configurations=CONFIGURATIONS, sizes=(64, value, value, 10))
            elif axis == "depth":
                yield axis, value, replace(base, configurations=CONFIGURATIONS, sizes=(64, *(128,) * (value - 1), 10))
            elif axis == "delays":
                yield axis, value, replace(base, configurations=CONFIGURATIONS, lag=value / 1000)
            else:
                yield axis, value, replace(base, configurations=CONFIGURATIONS)


def measure(rows: list[dict], competitors: list[Competitor], repeats: int, seconds: float) -> list[dict[str, Any]]:
    """The points of the curves: axis, value, method, microseconds per presentation and configuration."""
    by_name, points = {competitor.name: competitor for competitor in competitors}, []
    programs: dict[Workload, dict] = {}
    for axis, value, workload in workloads():
        entries = []
        for family in ("window", "scan"):
            line = best(rows, workload.name, min(TARGETS), family)
            if line is None or (family == "scan" and workload.lag is not None):
                continue
            competitor = by_name[line["method"]]
            if not competitor.applies(workload.configurations):
                competitor = by_name[competitor.like or competitor.name]
            setting = Accepted(line["accepted_setting"], 0.0, 0.0, line["microseconds_each"] * 1e-6)
            entry = prepare(competitor, workload, setting, seconds, programs.setdefault(workload, {}))
            if axis == "presentations":
                entry.presentations = value
            entries.append(entry)
        say(f"curves: {axis} {value}")
        measure_all(entries, repeats)
        points += [_point(axis, value, entry) for entry in entries]
    return points


def _point(axis: str, value: int, entry: Timed) -> dict[str, Any]:
    return {
        "axis": axis,
        "value": value,
        "method": entry.competitor.name,
        "family": entry.competitor.family,
        "setting": entry.competitor.label(entry.setting),
        "microseconds_each": entry.each * 1e6,
        "memory_bytes": entry.cost.memory_bytes,
    }
