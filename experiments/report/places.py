"""Where coordinates are drawn: each on the scale that suits them all, infinite ones a step beyond the others."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.axis import XAxis, YAxis
from matplotlib.ticker import NullLocator

LARGEST_DRAWN = 1e300  # in size; above it the arithmetic of axes overflows
LARGEST_PLACED = 1e60  # of coordinates; there must be room for steps beyond them


class Places(NamedTuple):
    """Where values are drawn, in their order; those `within` the axis, and the ticks of those beyond its ends."""

    at: np.ndarray
    within: np.ndarray
    beyond: dict[float, str]


def places(values: np.ndarray) -> Places:
    """Finite values where they belong; infinite ones, and those that no axis can show, a step each beyond the ends."""
    numbers = np.asarray(values, float)
    small = np.abs(numbers) <= LARGEST_PLACED
    within = np.unique(numbers[small])
    there, back = scale(within)
    centres = there(within) if len(within) else np.zeros(1)
    step = (centres[-1] - centres[0]) / (len(centres) - 1) if len(centres) > 1 else abs(centres[0]) or 1.0
    step = step if back is not np.exp else min(step, np.log(LARGEST_PLACED))
    at, beyond = numbers.copy(), {}
    for side, end in ((1, centres[-1]), (-1, centres[0])):
        for count, extreme in enumerate(sorted({*numbers[~small & (side * numbers > 0)]}, key=abs), start=1):
            place = float(back(end + side * count * step))
            at[numbers == extreme] = place
            beyond[place] = f"{extreme:g}"
    return Places(at, within, beyond)


def edges(values: np.ndarray) -> np.ndarray:
    """Cell edges halfway between neighbouring values, on the scale that suits them; infinite ones are placed before."""
    there, back = scale(np.asarray(values, float))
    centres = there(np.sort(values).astype(float))
    if len(centres) == 1:
        width = abs(centres[0]) or 1.0
        return back(centres[0] + np.array([-width / 2, width / 2]))
    middle = (centres[1:] + centres[:-1]) / 2
    return back(np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]]))


def scale(values: np.ndarray) -> tuple[Callable, Callable]:
    """The logarithm and its inverse where that suits the values, else nothing."""
    return (np.log, np.exp) if is_logarithmic(values) else (lambda x: x, lambda x: x)


def is_logarithmic(values: np.ndarray) -> bool:
    """Whether positive values are more evenly spaced on a logarithmic scale than on a linear one."""
    values = np.asarray(values, float)[np.isfinite(values)]
    if len(values) < 3 or values.min() <= 0:
        return False

    def unevenness(steps: np.ndarray) -> float:
        return float(np.std(steps) / np.abs(np.mean(steps))) if np.mean(steps) else np.inf

    ordered = np.sort(values)
    with np.errstate(over="ignore", under="ignore"):
        return unevenness(np.diff(np.log(ordered))) < unevenness(np.diff(ordered))


def add_ticks(axis: XAxis | YAxis, where: Places) -> None:
    """Ticks of the values beyond the ends, beside those that the axis has between them."""
    if not where.beyond:
        return
    ticks = np.zeros(0)
    if len(where.within):
        low, high = where.within[[0, -1]]
        ticks = np.asarray(axis.get_major_locator().tick_values(low, high))
        ticks = ticks[(low <= ticks) & (ticks <= high)] if low < high else where.within
    labels = axis.get_major_formatter().format_ticks(list(ticks))
    axis.set_minor_locator(NullLocator())  # the scale does not go on to infinity
    axis.set_ticks([*ticks, *where.beyond], labels=[*labels, *where.beyond.values()])
