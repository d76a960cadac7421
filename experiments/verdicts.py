"""Verdicts: what is expected, what was measured, and whether they agree, with the statistics that decide it.

What is random is judged at 99.9 %: of a hundred true claims one then fails in ten runs, by chance. What is shown is the
usual 95 % interval.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

JUDGED, SHOWN = 0.999, 0.95


@dataclass(frozen=True)
class Verdict:
    """A claim about a result: what the literature expects, what was measured, and whether they agree."""

    name: str
    source: str
    quantity: str
    expected: float | str
    measured: float | str
    tolerance: float | str
    passed: bool
    note: str = ""


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


def close(name: str, quantity: str, expected: float, measured: float, tolerance: float, note: str = "") -> Verdict:
    """Whether a number that is not random lies within `tolerance` (absolute) of what is expected."""
    passed = bool(abs(measured - expected) <= tolerance)
    return Verdict(name, "", quantity, float(expected), float(measured), float(tolerance), passed, note)


def matches(
    name: str, quantity: str, expected: float, samples: ArrayLike, allowance: float = 0.0, note: str = ""
) -> Verdict:
    """Whether the mean of independent samples is what is expected, up to the half width of its 99.9 % interval.

    `allowance` (absolute) is added to it: for a bias that theory bounds, such as a finite size, and that a note names.
    """
    judged, shown = mean_of(samples, JUDGED), mean_of(samples)
    tolerance = judged.half + allowance
    passed = bool(abs(judged.value - expected) <= tolerance)
    return Verdict(name, "", quantity, float(expected), judged.value, tolerance, passed, _noted(note, shown))


def exceeds(name: str, quantity: str, bound: float, samples: ArrayLike, note: str = "") -> Verdict:
    """Whether samples have a mean above `bound` beyond doubt: the whole 99.9 % interval lies above it."""
    return _one_sided(name, quantity, bound, samples, note, 1)


def stays_below(name: str, quantity: str, bound: float, samples: ArrayLike, note: str = "") -> Verdict:
    """Whether samples have a mean below `bound` beyond doubt: the whole 99.9 % interval lies below it."""
    return _one_sided(name, quantity, bound, samples, note, -1)


def _one_sided(name: str, quantity: str, bound: float, samples: ArrayLike, note: str, side: int) -> Verdict:
    judged, shown = mean_of(samples, JUDGED), mean_of(samples)
    passed = bool(side * (judged.value - bound) > (judged.half if judged.n > 1 else 0))
    expected = f"{'above' if side > 0 else 'below'} {bound:.4g}"
    return Verdict(name, "", quantity, expected, judged.value, judged.half, passed, _noted(note, shown))


def _noted(note: str, shown: Mean) -> str:
    if not np.isfinite(shown.half):
        return note
    interval = f"mean of {shown.n}, 95 % interval {shown.value - shown.half:.4g} to {shown.value + shown.half:.4g}"
    return f"{note}; {interval}" if note else interval
