"""Closed forms of how much of two signals coincides when each has passed filters of its own. NumPy in, NumPy out."""

from collections.abc import Sequence

import numpy as np

Numbers = Sequence[float] | np.ndarray | float
SPLIT = 1e-3  # equal time constants are told apart by so much, as partial fractions need it; errors are its square


def traced_box(time: Numbers, trace: float, duration: float = 1.0) -> np.ndarray:
    """A box of height 1 and length `duration` behind a filter of unit gain, `time` after its start."""
    t = np.asarray(time, float)
    rising = -np.expm1(-np.maximum(t, 0) / trace)
    falling = -np.expm1(-duration / trace) * np.exp(-np.maximum(t - duration, 0) / trace)
    return np.where(t < duration, rising, falling)


def filtered_overlap(delay: Numbers, duration: float, early: Sequence[float], late: Sequence[float]) -> np.ndarray:
    """int u v dt of two boxes of one length, u behind filters of time constants `early`, and v, `delay` later, behind
    those in `late`; each of unit gain.

    A filter delays by an exponential time, so it is E[max(0, T - |D|)], D = delay + sum of the late times - sum of the
    early ones, whose density is a sum of one-sided exponentials (partial fractions of its Laplace transform).
    """
    d, total = np.asarray(delay, float), 0.0
    mixture = _mixture(_apart(late), _apart(early), 1) + _mixture(_apart(early), _apart(late), -1)
    for shift, count in ((duration, 1), (0.0, -2), (-duration, 1)):
        for weight, side, tau in mixture:
            total = total + count * weight * _mean_ramp(d + shift, side, tau)
    return np.asarray(total)


def _apart(taus: Sequence[float]) -> list[float]:
    """Time constants of which no two are equal, their means unchanged."""
    taus = list(taus)
    places = [taus[:i].count(tau) - (taus.count(tau) - 1) / 2 for i, tau in enumerate(taus)]
    return [tau * (1 + SPLIT * place) for tau, place in zip(taus, places, strict=True)]


def _mixture(own: list[float], others: list[float], side: int) -> list[tuple[float, int, float]]:
    """(weight, side, tau) of the exponentials on one side of the density of sum(own times) - sum(other times)."""
    found = []
    for i, tau in enumerate(own):
        weight = np.prod([tau / (tau - t) for k, t in enumerate(own) if k != i] or [1.0])
        found.append((float(weight * np.prod([tau / (tau + t) for t in others] or [1.0])), side, tau))
    return found


def _mean_ramp(c: np.ndarray | float, side: int, tau: float) -> np.ndarray:
    """E[max(0, c + side * X)], X exponential with mean tau."""
    if side > 0:
        return np.where(c >= 0, c + tau, tau * np.exp(np.minimum(c, 0) / tau))
    return np.where(c > 0, c + tau * np.expm1(-np.maximum(c, 0) / tau), 0.0)


def best_delay(trace: float) -> float:
    """The delay, in T, at which a box meets most of one that left a trace: d = tau ln(2 - exp(-T/tau)).

    There the trace is as high at the end of the late box as at its start; T - d of it coincide, in units of T.
    """
    return trace * float(np.log(2 - np.exp(-1 / trace)))
