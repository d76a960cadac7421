"""What `benchmarks.trust` says of its draws."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np


class Judged(NamedTuple):
    """One draw: what it was, what the run said, and what is true. Errors are relative to the distance moved.

    `of_end` is the error relative to |W_end - W_0|; `growth` how many times a small change of the first weights has
    grown at the end; `reference` the reference's own error.
    """

    structure: int
    draw: int
    features: list[str]
    status: str
    python: str
    estimate: float
    error: float
    of_end: float
    growth: float
    reference: float
    values: dict[str, float]


def is_wrong(row: Judged, tolerance: float) -> bool:
    """A number that is called ok, and is not right: off by more than twice the tolerance, or finite where the truth is
    not."""
    return row.status == "ok" and is_judged(row) and not row.error <= 2 * tolerance


def is_judged(row: Judged) -> bool:
    """Whether the reference knows the truth."""
    return not math.isnan(row.reference) and not row.status.startswith("refused")


def is_false_alarm(row: Judged, tolerance: float) -> bool:
    """Marked, though the error is within the tolerance."""
    return row.status in ("not-converged", "diverged") and is_judged(row) and row.error <= tolerance


def markdown(rows: list[Judged], tolerance: float) -> str:
    """Counts, by what was drawn; the worst draws; how estimates compare with errors."""
    known = [row for row in rows if is_judged(row)]
    wrong = [row for row in known if is_wrong(row, tolerance)]
    alarms = [row for row in known if is_false_alarm(row, tolerance)]
    python = [row for row in rows if row.python]
    apart = [row for row in python if row.python != row.status]
    refused = Counter(row.status for row in rows if row.status.startswith("refused"))
    lines = [
        f"{len(rows)} draws at tolerance {tolerance:g}; {len(known)} with a reference, "
        f"{len(rows) - len(known) - refused.total()} set aside, {refused.total()} refused",
        f"status: {dict(Counter(row.status for row in known))}",
        f"ok with a true error above twice the tolerance: {len(wrong)} "
        f"({sum(row.growth > 1e3 for row in wrong)} where a small change of the start grows over a thousand-fold)",
        f"marked though right: {len(alarms)} ({len(alarms) / max(len(known), 1):.1%})",
        f"judged differently by a spec and by Python: {len(apart)} of {len(python)}",
        *(f"{count} times {text}" for text, count in refused.items()),
        "",
        *_ratios(known, tolerance),
        "",
        "| feature | draws | wrong | marked though right | marked |",
        "|---|---|---|---|---|",
    ]
    for name in sorted({name for row in known for name in row.features}):
        having = [row for row in known if name in row.features]
        marked = sum(row.status != "ok" for row in having)
        counts = [sum(test(row, tolerance) for row in having) for test in (is_wrong, is_false_alarm)]
        lines.append(f"| {name} | {len(having)} | {counts[0]} | {counts[1]} | {marked} |")
    lines += ["", "Worst first (python -m benchmarks.trust --only STRUCTURE:DRAW):", ""]
    worst = sorted(wrong, key=lambda row: -row.error if row.error == row.error else -math.inf)
    lines += [_line(row) for row in worst[:25]]
    lines += ["", "Marked though right:", "", *(_line(row) for row in alarms[:15])]
    return "\n".join(lines)


def _ratios(rows: list[Judged], tolerance: float) -> list[str]:
    """The distribution of estimate / true error, of draws whose error is not just rounding."""
    lines = []
    for name, words in (("all", set()), ("cycles", {"cycle"}), ("float32", {"float32"}), ("float64", {"float64"})):
        chosen = [r for r in rows if not words or any(f.split()[0] in words for f in r.features)]
        seen = [r for r in chosen if r.status == "ok" and r.error > max(1e-3 * tolerance, 3 * r.reference)]
        ratios = [r.estimate / r.error for r in seen if math.isfinite(r.estimate)]
        if ratios:
            told = ", ".join(f"{q:g} %: {np.percentile(ratios, q):.2g}" for q in (0, 1, 5, 25, 50, 75, 95, 99, 100))
            lines.append(f"estimate / error of {len(ratios)} ok draws with estimates ({name}): {told}")
    return lines


def _line(row: Judged) -> str:
    return (
        f"- {row.structure}:{row.draw} {row.status}, error {row.error:.2g} (of the end {row.of_end:.2g}), estimate "
        f"{row.estimate:.2g}, growth {row.growth:.2g}: {', '.join(row.features)}"
    )
