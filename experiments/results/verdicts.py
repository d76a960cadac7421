"""Verdicts: what is expected, what was measured, and whether they agree, with the statistics that decide it.

What is random is judged at 99.9 %: of a hundred true claims one then fails in ten runs, by chance. What is shown is the
usual 95 % interval.

A claim has passed where its whole interval lies where the claim says, it has failed where the whole interval lies
elsewhere, and where the interval crosses a bound it is undecided: more seeds would tell. A claim of equality has failed
where the interval leaves out what is expected. One that contains it is compatible with the claim, and says something as
long as it is narrower than the numbers in question: with a half width above them it would contain nothing at all, or
twice as much, as well, and the claim is undecided. What is not finite is no measurement, and fails.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import experiments.machine.drawing  # noqa: F401 - before matplotlib

# isort: split
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy.special import stdtrit

JUDGED, SHOWN = 0.999, 0.95
MOST_SEEDS = 1_000_000  # that are told; where more would be needed, that is all there is to say

Decision = Literal["passed", "failed", "undecided"]
WORDS: dict[Decision, str] = {"passed": "pass", "failed": "FAIL", "undecided": "undecided"}  # as tables show them


@dataclass(frozen=True)
class Verdict:
    """A claim about a result: what the literature expects, what was measured, and whether they agree."""

    name: str
    source: str
    quantity: str
    expected: float | str
    measured: float | str
    tolerance: float | str
    outcome: Decision
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the claim holds beyond doubt: neither failed nor undecided."""
        return self.outcome == "passed"


def decided(holds: bool) -> Decision:
    """The outcome of what is not random."""
    return "passed" if holds else "failed"


def together(outcomes: Iterable[Decision]) -> Decision:
    """The outcome of several claims: failed where one is, else undecided where one is."""
    found = set(outcomes)
    return "failed" if "failed" in found else "undecided" if "undecided" in found else "passed"


class Mean(NamedTuple):
    """The mean of `n` independent samples and the half width of its interval, by Student's t; NaN for one sample."""

    value: float
    half: float
    n: int


def mean_of(samples: ArrayLike, level: float = SHOWN) -> Mean:
    """The mean and its interval at `level`. One sample that is not finite makes both NaN: none is left out silently."""
    x = np.asarray(samples, float).ravel()
    if not np.isfinite(x).all() or not x.size:
        return Mean(np.nan, np.nan, x.size)
    if x.size == 1:
        return Mean(float(x[0]), np.nan, 1)
    half = stdtrit(x.size - 1, (1 + level) / 2) * x.std(ddof=1) / np.sqrt(x.size)
    return Mean(float(x.mean()), float(half), x.size)


def seeds_for(half: float, n: int, target: float, level: float = JUDGED) -> int | None:
    """The least number of seeds whose half width is below `target`, by that of `n` seeds; None above `MOST_SEEDS`.

    The half width is t(m - 1) s / sqrt(m) for m seeds of spread s, which is taken to stay as it is.
    """
    if n < 2 or not half > 0:
        return None

    def width(m: int) -> float:
        return float(stdtrit(m - 1, (1 + level) / 2)) / math.sqrt(m)

    needed = target * width(n) / half
    enough = bisect.bisect_left(range(MOST_SEEDS + 1), True, lo=n + 1, key=lambda m: width(m) < needed)
    return enough if enough <= MOST_SEEDS else None


def in_range(mean: Mean, low: float, high: float, level: float = JUDGED) -> tuple[Decision, str]:
    """Whether a mean lies between two bounds, by its whole interval; where that is undecided, what would decide it."""
    if math.isnan(mean.value + low + high):
        return "failed", ""
    if mean.n < 2:
        return "undecided", "undecided: one seed has no interval, at least 2 are needed"
    if mean.value - mean.half > low and mean.value + mean.half < high:
        return "passed", ""
    if mean.value + mean.half <= low or mean.value - mean.half >= high:
        return "failed", ""
    gap = min(abs(mean.value - low), abs(mean.value - high))
    return "undecided", f"undecided: its interval crosses a bound, {_needed(mean, gap, level)}"


def _narrow_enough(mean: Mean, scale: float, level: float = JUDGED) -> tuple[Decision, str]:
    """Whether the interval of a mean that is compatible with a claim is narrower than the `scale` of what it claims."""
    if mean.n < 2:
        return "undecided", "undecided: one seed has no interval, at least 2 are needed"
    if mean.half <= scale or not scale:
        return "passed", ""
    said = "its interval is wider than the numbers in question"
    return "undecided", f"undecided: {said}, {_needed(mean, scale, level)}"


def _needed(mean: Mean, target: float, level: float) -> str:
    enough = seeds_for(mean.half, mean.n, target, level)
    if enough is None:
        return f"and more than {MOST_SEEDS:,} seeds would be needed to decide".replace(",", " ")
    return f"about {enough} seeds would decide (these are {mean.n})"


def close(name: str, quantity: str, expected: float, measured: float, tolerance: float, note: str = "") -> Verdict:
    """Whether a number that is not random lies within `tolerance` (absolute) of what is expected."""
    outcome = decided(bool(abs(measured - expected) <= tolerance))
    return Verdict(name, "", quantity, float(expected), float(measured), float(tolerance), outcome, note)


def matches(
    name: str,
    quantity: str,
    expected: float,
    samples: ArrayLike,
    allowance: float = 0.0,
    note: str = "",
    scale: float | None = None,
) -> Verdict:
    """Whether the mean of independent samples is what is expected, up to the half width of its 99.9 % interval.

    `allowance` (absolute) is added to it: for a bias that theory bounds, such as a finite size, and that a note names.
    An interval whose half width is above `scale` decides nothing. By default that is the size of what is expected, or
    the allowance where that is larger; where both are 0, any width is compatible.
    """
    judged = mean_of(samples, JUDGED)
    tolerance = judged.half + allowance
    outcome, why = decided(False), ""
    if judged.n == 1 or abs(judged.value - expected) <= tolerance:
        outcome, why = _narrow_enough(judged, max(abs(expected), allowance) if scale is None else scale)
    note = _noted(note, mean_of(samples), why)
    return Verdict(name, "", quantity, float(expected), judged.value, tolerance, outcome, note)


def exceeds(name: str, quantity: str, bound: float, samples: ArrayLike, note: str = "") -> Verdict:
    """Whether samples have a mean above `bound` beyond doubt: the whole 99.9 % interval lies above it."""
    return _judged(name, quantity, f"above {bound:.4g}", (bound, math.inf), samples, note)


def stays_below(name: str, quantity: str, bound: float, samples: ArrayLike, note: str = "") -> Verdict:
    """Whether samples have a mean below `bound` beyond doubt: the whole 99.9 % interval lies below it."""
    return _judged(name, quantity, f"below {bound:.4g}", (-math.inf, bound), samples, note)


def between(name: str, quantity: str, low: float, high: float, samples: ArrayLike, note: str = "") -> Verdict:
    """Whether the mean of samples lies between two bounds beyond doubt: its whole 99.9 % interval does."""
    return _judged(name, quantity, f"{low:.4g} to {high:.4g}", (low, high), samples, note)


def bracketed(name: str, quantity: str, low: float, high: float, samples: ArrayLike, note: str = "") -> Verdict:
    """Whether the mean of samples agrees with lying between two bounds: its 99.9 % interval reaches into them.

    As with `matches`, a half width above the larger of the two decides nothing.
    """
    judged = mean_of(samples, JUDGED)
    outcome, why = decided(False), ""
    if judged.n == 1 or (judged.value + judged.half >= low and judged.value - judged.half <= high):
        outcome, why = _narrow_enough(judged, max(abs(low), abs(high)))
    note = _noted(note, mean_of(samples), why)
    return Verdict(name, "", quantity, f"{low:.4g} to {high:.4g}", judged.value, judged.half, outcome, note)


def all_match(name: str, quantity: str, expected: np.ndarray, samples: np.ndarray, note: str = "") -> Verdict:
    """Whether many means are all what is expected: the one that fails, or comes nearest to failing, is shown.

    `samples` has the seeds first, then the shape of `expected`. The 99.9 % interval is for all of them together (by
    Bonferroni): the more there are, the wider it is for each. Where one is wider than the largest of what is expected,
    nothing is decided, and that one is shown.
    """
    expected, samples = np.ravel(expected), np.reshape(samples, (len(samples), -1))
    level = 1 - 0.001 / expected.size
    means = [mean_of(column, level) for column in samples.T]
    half, values = np.array([mean.half for mean in means]), np.array([mean.value for mean in means])
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.nan_to_num(np.where(half == 0, np.inf, abs(values - expected) / half), nan=np.inf)
    shown, why = int(excess.argmax()), ""
    outcome = decided(bool(abs(values[shown] - expected[shown]) <= half[shown]))
    if outcome == "passed":
        widest = int(half.argmax())
        outcome, why = _narrow_enough(means[widest], float(np.abs(expected).max()), level)
        shown = shown if outcome == "passed" else widest
    largest = np.abs(samples.mean(0) - expected).max()
    said = f"the one of {expected.size} that comes nearest to failing; the largest deviation of all is {largest:.2g}"
    note = "; ".join(filter(None, (note, why or said)))
    return Verdict(name, "", quantity, float(expected[shown]), values[shown], half[shown], outcome, note)


def _judged(
    name: str, quantity: str, expected: str, bounds: tuple[float, float], samples: ArrayLike, note: str
) -> Verdict:
    judged = mean_of(samples, JUDGED)
    outcome, why = in_range(judged, *bounds)
    note = _noted(note, mean_of(samples), why)
    return Verdict(name, "", quantity, expected, judged.value, judged.half, outcome, note)


def _noted(note: str, shown: Mean, why: str) -> str:
    interval = ""
    if np.isfinite(shown.half):
        interval = f"mean of {shown.n}, 95 % interval {shown.value - shown.half:.4g} to {shown.value + shown.half:.4g}"
    return "; ".join(filter(None, (note, interval, why)))


@dataclass(frozen=True)
class StudyReport:
    """What a study makes of results: verdicts, figures by file stem, and sentences to print.

    `failed` says why files that should be there are not, by their name.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
