"""Whether intervals hold that are read off the curvature at the estimates: the likelihood at their ends tells.

It falls by t^2 / 2 within t standard errors, if it is a parabola along the way on which all other numbers follow.
"""

import numpy as np

from experiments.inference.scoring import End, may_move, newton
from experiments.inference.verdicts import NORMAL

BENT = 1.2  # by what factor an interval may be too long or too short, to one side
SURE = 0.1  # of the fall, which the other numbers may still make less
LEAST = 1.0  # standard errors to the end of a range, below which there is nothing to look at


def sides(best: End, errors: np.ndarray, looked_at: list[int]) -> np.ndarray:
    """The places of the lower and the upper end of the interval of each of some numbers, or of the range, where that
    is sooner; the other numbers are where a parabola has them."""
    found = np.tile(best.place, (2 * len(looked_at), 1))
    for row, (i, side) in enumerate((i, side) for i in looked_at for side in (-1, 1)):
        if not np.isfinite(errors[i]):
            continue
        others = np.arange(len(best.place)) != i
        found[row, i] = np.clip(best.place[i] + side * NORMAL * errors[i], 0, 1)
        along = best.information[others, i] * (found[row, i] - best.place[i])
        found[row, others] += newton(along, best.information[np.ix_(others, others)])[1]
    return np.clip(found, 0, 1)


def bent(best: End, errors: np.ndarray, looked_at: list[int], ends: list[End]) -> tuple[dict[int, str], list[int]]:
    """What is wrong with intervals whose ends are so likely, by number; the rows of ends that leave it open, as the
    other numbers are too far from where they are most likely."""
    told, left = {}, []
    for row, end in enumerate(ends):
        i, side = looked_at[row // 2], ("below", "above")[row % 2]
        reach = abs(end.place[i] - best.place[i]) / errors[i]
        if not (np.isfinite(errors[i]) and reach >= LEAST):
            continue
        others = may_move(end.place, end.gradient) & (np.arange(len(end.place)) != i)
        more = newton(end.gradient[others], end.information[np.ix_(others, others)])[0]  # what they still gain
        risen, expected = end.loss - best.loss, reach**2 / 2
        least = max(risen - more, 0.0)
        if 1 / BENT < np.sqrt(least / expected) < BENT:
            continue
        if risen >= expected and more > SURE * risen:
            left.append(row)
            continue
        size = "narrow" if risen < expected else "wide"
        fallen = f"the likelihood falls by {least:.2g} log units to its end, and not by {expected:.2g}"
        why = f"it is too {size} {side} the estimate, as {fallen}: the profile that fit.profile asks for follows it"
        told.setdefault(i, why)
    return told, left
