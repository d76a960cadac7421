"""Folds of a recording, and how sure a difference of held-out likelihoods is.

A recording is one sequence, through which weights change. What is left out of a fit is observations, never a
presentation: all are shown. A fold is several blocks of neighbouring presentations, spread over the whole recording, so
that every fit sees all stages of learning, and residuals that know the next one stay within a block, but for its ends.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from dynamics.errors import refused

BLOCKS = 4  # of each fold
UNSEEN = -1  # the block of presentations in which nothing was observed
# A rule is ruled out if 95 % of the differences that repetitions would give are above 0, and this one by so many log
# units, odds of 20 to 1: what two rules that say next to the same differ by may be sure, and still say nothing.
LEVEL, LEAST = 0.95, 3.0


def blocks(observed: np.ndarray, folds: int) -> np.ndarray:
    """The block of each presentation, (presentations,), of those with something `observed`; it is in fold block mod
    folds."""
    where = np.flatnonzero(observed)
    count = folds * BLOCKS
    if len(where) < count:
        why = f"something was observed in {len(where)} presentations, and {BLOCKS} of them are needed for each fold"
        raise refused("fit.folds", folds, why)
    found = np.full(len(observed), UNSEEN)
    for number, part in enumerate(np.array_split(where, count)):
        found[part] = number
    return found


class Difference(NamedTuple):
    """How far a rule is behind another, in log units of held-out likelihood, and the 95 % interval."""

    behind: float
    low: float
    high: float

    @property
    def is_out(self) -> bool:
        """Whether the rule that is behind is ruled out."""
        return self.low > 0 and self.behind > LEAST


def difference(better: np.ndarray, worse: np.ndarray, block: np.ndarray) -> Difference:
    """The difference of two held-out log-likelihoods of each presentation.

    Blocks are what is independent. How much their sums vary is read off neighbours, as that of all of them would take
    for chance what grows in the course of learning: half the mean square of successive differences (von Neumann). It
    has about two thirds of the degrees of freedom.
    """
    seen = block != UNSEEN
    sums = np.bincount(block[seen], (better - worse)[seen])
    if not np.isfinite(sums).all():
        return Difference(np.inf, np.inf, np.inf)  # a rule that what was left out has as good as no probability by
    count = len(sums)
    error = np.sqrt(count / (count - 1) * np.square(np.diff(sums)).sum() / 2)
    reach = stats.t.ppf((1 + LEVEL) / 2, 2 * (count - 1) / 3) * error
    behind = float(sums.sum())
    return Difference(behind, float(behind - reach), float(behind + reach))
