"""Fisher scoring, damped as by Levenberg and Marquardt, from many starts at once, in the box that the ranges are.

What costs time, the score of a batch of places, is one compiled program; the steps that follow from it are NumPy. A
start that has come to its end makes room in the batch for the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
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

ScoreMany = Callable[[np.ndarray], Scored]  # (batch, free) places


class End(NamedTuple):
    """Where a start has come to: its place, what is said there, how many scores it took, whether it has converged."""

    start: np.ndarray
    place: np.ndarray
    loss: float
    gradient: np.ndarray
    information: np.ndarray
    scores: int
    converged: bool


@dataclass
class _Walker:
    """A start on its way; `held` numbers stay where they are."""

    start: np.ndarray
    held: np.ndarray
    candidate: np.ndarray = field(init=False)
    place: np.ndarray = field(init=False)
    loss: float = np.inf
    gradient: np.ndarray | None = None
    information: np.ndarray | None = None
    damping: float = FIRST_DAMPING
    scores: int = 0
    converged: bool = False

    def __post_init__(self) -> None:
        self.candidate = self.place = self.start

    @property
    def done(self) -> bool:
        return self.converged or self.damping > MOST_DAMPING or self.scores >= MOST_ROUNDS

    def take(self, loss: float, gradient: np.ndarray, information: np.ndarray) -> None:
        """The score of the candidate, which is accepted if it is better; then the next one."""
        self.scores += 1
        finite = np.isfinite(loss) and np.isfinite(gradient).all() and np.isfinite(information).all()
        better = bool(finite and loss < self.loss)
        if better:
            self.place, self.loss, self.gradient, self.information = self.candidate, loss, gradient, information
        if self.gradient is None or self.information is None:
            self.damping = np.inf  # a start with no likelihood at all
            return
        self.damping = max(self.damping * (LESS if better else MORE), 1e-12)
        promised, step = self._step(self.gradient, self.information)
        self.converged = promised < (PROMISE if better else DOUBTFUL)
        self.candidate = np.clip(self.place + step, 0, 1)

    def _step(self, gradient: np.ndarray, information: np.ndarray) -> tuple[float, np.ndarray]:
        """What an undamped step promises, and the damped one; numbers that a bound holds do not move."""
        outwards = ((self.place <= 0) & (gradient > 0)) | ((self.place >= 1) & (gradient < 0))
        moves = ~(self.held | outwards)
        step = np.zeros_like(gradient)
        if not moves.any():
            return 0.0, step
        g, h = gradient[moves], information[np.ix_(moves, moves)]
        scale = np.sqrt(np.diag(h)) + 1e-150
        g, h = g / scale, h / np.outer(scale, scale)
        eye = np.eye(len(g))
        promised = float(g @ np.linalg.solve(h + 1e-9 * eye, g)) / 2
        step[moves] = -np.linalg.solve(h + self.damping * eye, g) / scale
        return promised, step * min(1.0, LONGEST / max(np.abs(step).max(), 1e-300))


def spread(starts: int, free: int, seed: int) -> np.ndarray:
    """Places in the box, (starts, free), that fill it evenly."""
    return qmc.LatinHypercube(free, rng=np.random.default_rng(seed)).random(starts)


def ascend(
    score: ScoreMany,
    starts: np.ndarray,
    batch: int,
    held: np.ndarray | None = None,
    tell: Callable[[int], None] = lambda done: None,
) -> list[End]:
    """The ends of all `starts`, (starts, free), in their order; `held`, of the same shape, says which numbers stay."""
    held = np.zeros(starts.shape, bool) if held is None else held
    walkers = [_Walker(start, stays) for start, stays in zip(starts, held, strict=True)]
    waiting = list(reversed(walkers))
    going: list[_Walker] = []
    while going or waiting:
        while waiting and len(going) < batch:
            going.append(waiting.pop())
        places = np.stack([walker.candidate for walker in going])
        said = score(np.concatenate([places, np.repeat(places[:1], batch - len(going), axis=0)]))
        for i, walker in enumerate(going):
            walker.take(float(said.loss[i]), np.asarray(said.gradient[i]), np.asarray(said.information[i]))
        going = [walker for walker in going if not walker.done]
        tell(len(walkers) - len(going) - len(waiting))
    return [_end(walker) for walker in walkers]


def _end(walker: _Walker) -> End:
    nan = np.full(len(walker.start), np.nan)
    gradient = nan if walker.gradient is None else walker.gradient
    information = np.outer(nan, nan) if walker.information is None else walker.information
    return End(walker.start, walker.place, walker.loss, gradient, information, walker.scores, walker.converged)
