"""The time steps of the reference of `benchmarks.trust`: the same in every period, short after every jump.

Inputs jump, and late signals have kinks, only between steps: each of these times is a point of the mesh. Everything
here is numpy in float64, for one draw.
"""

import itertools
from typing import NamedTuple

import numpy as np

STEP, LONGEST = 0.5, 2.0  # of the fastest time constant: steps after a jump, steps where all has settled
HARD, SETTLED = 4.0, 14.0  # fastest time constants after a jump: until then the shortest steps, from then the longest
FEWEST = 24  # steps of a period
PASSES = 3  # a kink is smoother by one order after every lag; so many are on the mesh


class Timing(NamedTuple):
    """What places the steps of one draw. Times in seconds.

    fastest    the shortest time constant of what jumps excite
    longest    no step is longer: weights change or decay as fast as that
    swinging   angular frequency in units of 1/fastest of what may go on oscillating; 0: steps grow once all has settled
    arrivals   by name the lags after which something shown arrives
    lags       by name the lags of signals that the circuit itself makes
    """

    duration: float
    gap: float
    fastest: float
    longest: float
    swinging: float
    arrivals: dict[str, float]
    lags: dict[str, float]

    @property
    def period(self) -> float:
        """T + g."""
        return self.duration + self.gap


class Mesh(NamedTuple):
    """Steps of one period, padded: their lengths, and for each step and stage where everything late comes from.

    step     (N,)
    shown    by arrival, (N,): how many presentations ago what arrives was shown; `on` whether it is on (0 or 1)
    back     by lag, (N, 3): how many steps ago, at the start, the middle and the end of each step
    place    by lag, (N, 3): where within that step, from 0 to 1
    """

    step: np.ndarray
    shown: dict[str, np.ndarray]
    on: dict[str, np.ndarray]
    back: dict[str, np.ndarray]
    place: dict[str, np.ndarray]


def _breaks(timing: Timing) -> tuple[np.ndarray, np.ndarray]:
    """All times of a period at which something has a kink, and whether it is a jump or its first echo."""
    starts = {lag + part for lag in timing.arrivals.values() for part in (0.0, timing.duration)} | {0.0}
    echoes = [c for n in range(PASSES + 1) for c in itertools.combinations_with_replacement(timing.lags.values(), n)]
    found = sorted(
        ((start + sum(c)) % timing.period, len(c) > 1) for start, c in itertools.product(sorted(starts), echoes)
    )
    times, weak = [0.0], [False]
    for time, is_weak in found:
        if time - times[-1] < 1e-9 * timing.period or timing.period - time < 1e-9 * timing.period:
            if time - times[-1] < 1e-9 * timing.period:
                weak[-1] &= is_weak
            continue
        times.append(time)
        weak.append(is_weak)
    return np.array(times), np.array(weak)


def _densities(timing: Timing) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Of every segment between breaks: fine times, the cumulated number of steps until them, and the steps it takes."""
    times, weak = _breaks(timing)
    ends = np.append(times[1:], timing.period)
    tau, fine, cumulated, needs, hard = timing.fastest, [], [], [], 0.0
    shortest = min([lag for lag in timing.lags.values() if lag > 0], default=np.inf)
    most = min(shortest * 0.9, timing.period / FEWEST, timing.longest)
    even = STEP / timing.swinging if timing.swinging else np.inf
    for start, end, is_weak in zip(times, ends, weak, strict=True):
        hard = hard if is_weak else start
        ages = np.linspace(start - hard, end - hard, 400)
        share = np.clip((ages / tau - HARD) / (SETTLED - HARD), 0, 1)
        size = tau * np.minimum(STEP + share * (LONGEST - STEP), even)
        rate = 1 / np.minimum(size, most)
        total = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(ages))])
        fine.append(start + (ages - ages[0]))
        cumulated.append(total)
        needs.append(total[-1])
    return fine, cumulated, needs


def count(timing: Timing) -> int:
    """The steps that a period needs."""
    return int(sum(np.ceil(n) for n in _densities(timing)[2]))


def mesh(timing: Timing, least: int, finer: int, padded: int) -> Mesh:
    """A mesh of `least` steps (at least what is needed), each cut into `finer`; arrays of length `padded`."""
    fine, cumulated, needs = _densities(timing)
    steps = np.ceil(needs).astype(int)
    while steps.sum() < least:
        steps[np.argmax(np.array(needs) / steps)] += 1
    points = [
        np.interp(np.arange(n * finer) / (n * finer) * total[-1], total, times)
        for times, total, n in zip(fine, cumulated, steps, strict=True)
    ]
    t = np.append(np.concatenate(points), timing.period)
    n, period = len(t) - 1, timing.period
    middle = (t[1:] + t[:-1]) / 2
    shown, on, back, place = {}, {}, {}, {}
    for name, lag in timing.arrivals.items():
        periods = np.floor((middle - lag) / period)
        shown[name] = _pad(-periods.astype(np.int32), padded)
        on[name] = _pad(((middle - lag - periods * period) < timing.duration).astype(float), padded)
    for name, lag in timing.lags.items():
        at = np.stack([t[:-1], middle, t[1:]], axis=1) - lag
        periods = np.floor(at / period)
        rest = np.clip(at - periods * period, 0, period)
        j = np.clip(np.searchsorted(t, rest, side="right") - 1, 0, n - 1)
        ago = np.arange(n)[:, None] - j - periods.astype(int) * n
        within = (rest - t[j]) / (t[j + 1] - t[j])
        early = ago < 1  # by rounding: the end of the step before
        back[name] = _pad(np.where(early, 1, ago).astype(np.int32), padded)
        place[name] = _pad(np.where(early, 1.0, np.clip(within, 0, 1)), padded)
    return Mesh(_pad(np.diff(t), padded), shown, on, back, place)


def _pad(rows: np.ndarray, length: int) -> np.ndarray:
    assert len(rows) <= length
    return np.concatenate([rows, np.zeros((length - len(rows), *rows.shape[1:]), rows.dtype)])
