"""Fisher scoring, damped as by Levenberg and Marquardt, from many starts at once, in the box that the ranges are.

What costs time, the score of a batch of places, is one compiled program; the steps that follow from it are NumPy. A
start that has come to its end makes room in the batch for the next one. All that is known of all starts is arrays, so
that it can be kept and gone on with: the next scores follow from them alone, bit for bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

from dynamics.information import Scored

MOST_ROUNDS = 60
# A start is at an optimum where the model of the likelihood promises less than so much more of it, in log units: 1e-6
# is a step of 0.0014 standard errors. What promised less than 1e-2 (0.14 standard errors) and was no better is as near
# as the error of the integrator lets anyone come.
PROMISE, DOUBTFUL = 1e-6, 1e-2
FIRST_DAMPING, LESS, MORE, MOST_DAMPING = 1e-2, 0.2, 5.0, 1e6
LONGEST = 0.4  # of a step, in the box


class End(NamedTuple):
    """Where a start has come to: its place, what is said there, how many scores it took, whether it has converged."""

    start: np.ndarray
    place: np.ndarray
    loss: float
    gradient: np.ndarray
    information: np.ndarray
    scores: int
    converged: bool


class Walk(NamedTuple):
    """How far all starts are, arrays by start: where each began, which of its numbers are `held` and stay, the best
    place so far and what is said there (a loss of infinity where nothing is), the place to be scored next."""

    start: np.ndarray
    held: np.ndarray
    place: np.ndarray
    candidate: np.ndarray
    loss: np.ndarray
    gradient: np.ndarray
    information: np.ndarray
    damping: np.ndarray
    scores: np.ndarray
    converged: np.ndarray

    @classmethod
    def begun(cls, starts: np.ndarray, held: np.ndarray | None = None) -> "Walk":
        """All `starts`, (starts, free), before the first score."""
        count, free = starts.shape
        held = np.zeros(starts.shape, bool) if held is None else held
        unknown = np.full(count, np.inf), np.zeros(starts.shape), np.zeros((count, free, free))
        damping, scores = np.full(count, FIRST_DAMPING), np.zeros(count, np.int64)
        return cls(starts, held, starts, starts, *unknown, damping, scores, np.zeros(count, bool))

    @property
    def done(self) -> np.ndarray:
        """Which starts have come to their end."""
        return self.converged | (self.damping > MOST_DAMPING) | (self.scores >= MOST_ROUNDS)

    def usual(self, scores: float) -> float:
        """How many scores a start takes, given how many those of such searches do."""
        return scores

    def ends(self) -> list[End]:
        """Where each start is."""
        rows = zip(self.start, self.place, self.loss, self.gradient, self.information, strict=True)
        counted = zip(self.scores, self.converged, strict=True)
        return [End(*row, int(scores), bool(there)) for row, (scores, there) in zip(rows, counted, strict=True)]


def spread(starts: int, free: int, seed: int) -> np.ndarray:
    """Places in the box, (starts, free), that fill it evenly."""
    return qmc.LatinHypercube(free, rng=np.random.default_rng(seed)).random(starts)


def advanced(walk: Walk, score: Callable[[np.ndarray], Scored], batch: int) -> Walk:
    """The walk after a score of each of the first `batch` starts that have not come to their end: `score` takes places,
    (batch, free)."""
    going = np.flatnonzero(~walk.done)[:batch]
    places = walk.candidate[going]
    said = score(np.concatenate([places, np.repeat(places[:1], batch - len(going), axis=0)]))
    after = Walk(*(array.copy() for array in walk))
    for row, i in enumerate(going.tolist()):
        _take(after, i, float(said.loss[row]), np.asarray(said.gradient[row]), np.asarray(said.information[row]))
    return after


def _take(walk: Walk, i: int, loss: float, gradient: np.ndarray, information: np.ndarray) -> None:
    """The score of the candidate of start i, which is accepted if it is better; then the next one."""
    walk.scores[i] += 1
    finite = np.isfinite(loss) and np.isfinite(gradient).all() and np.isfinite(information).all()
    better = bool(finite and loss < walk.loss[i])
    if better:
        walk.place[i], walk.loss[i] = walk.candidate[i], loss
        walk.gradient[i], walk.information[i] = gradient, information
    if not np.isfinite(walk.loss[i]):
        walk.damping[i] = np.inf  # a start with no likelihood at all
        return
    walk.damping[i] = max(walk.damping[i] * (LESS if better else MORE), 1e-12)
    promised, step = _step(walk, i)
    walk.converged[i] = promised < (PROMISE if better else DOUBTFUL)
    walk.candidate[i] = np.clip(walk.place[i] + step, 0, 1)


def _step(walk: Walk, i: int) -> tuple[float, np.ndarray]:
    """What an undamped step promises, and the damped one; numbers that a bound holds do not move."""
    place, gradient, information = walk.place[i], walk.gradient[i], walk.information[i]
    moves = may_move(place, gradient) & ~walk.held[i]
    step = np.zeros_like(gradient)
    if not moves.any():
        return 0.0, step
    promised, step[moves] = newton(gradient[moves], information[np.ix_(moves, moves)], walk.damping[i])
    return promised, step * min(1.0, LONGEST / max(np.abs(step).max(), 1e-300))


def may_move(place: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Which numbers no bound holds."""
    return ~(((place <= 0) & (gradient > 0)) | ((place >= 1) & (gradient < 0)))


def newton(gradient: np.ndarray, information: np.ndarray, damping: float = 1e-9) -> tuple[float, np.ndarray]:
    """What an undamped step promises, and the damped one."""
    scale = np.sqrt(np.diag(information)) + 1e-150
    g, h, eye = gradient / scale, information / np.outer(scale, scale), np.eye(len(scale))
    promised = float(g @ np.linalg.solve(h + 1e-9 * eye, g)) / 2
    return promised, -np.linalg.solve(h + damping * eye, g) / scale
