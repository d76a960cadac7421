"""Closed forms that simulations are held against: the temporal-overlap laws of plasticity. NumPy in, NumPy out.

A synapse learns from the product of an error and a presynaptic signal, so how much it learns from a stimulus held for
T is how long the two coincide. With signals that come D late relative to each other that is T - |D|, and nothing
beyond T (bibtex: bacvanski2025continuous).
"""

import math
from collections.abc import Iterator

import numpy as np

from dynamics.errors import PlasticodeError

Numbers = float | int | np.ndarray


def overlap_law(delay: Numbers, duration: Numbers) -> np.ndarray:
    """S(d)/S(0) = max(0, 1 - |d|/T) of two equal boxes of length T = `duration`, one `delay` = d later (seconds).

    Arguments broadcast; dimensionless.
    """
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(np.asarray(delay, float)) / np.asarray(duration, float)))


def lagged_overlap(delay: Numbers, duration: Numbers, pre_stages: int, error_stages: int, tau: Numbers) -> np.ndarray:
    """S/S0 = E[max(0, 1 - |D|/T)], D = d + V - U, U ~ Gamma(pre_stages, tau), V ~ Gamma(error_stages, tau).

    The overlap law where the presynaptic signal has passed `pre_stages` and the error `error_stages` first-order
    filters of time constant `tau`, and the error is another `delay` = d late; `duration` = T; seconds, broadcast.
    Exact: V - U is a mixture of one-sided gamma variables, and for those the mean is elementary. Dimensionless.
    Raises PlasticodeError for a negative number of stages or a tau that is not positive.
    """
    if min(pre_stages, error_stages) < 0:
        raise PlasticodeError(
            f"lagged_overlap got {pre_stages} presynaptic and {error_stages} error stages: both must be at least 0"
        )
    d, duration, tau = (np.asarray(a, float) for a in (delay, duration, tau))
    if not np.all(tau > 0):
        raise PlasticodeError(f"lagged_overlap got tau = {tau.min()}: it must be positive")
    total = np.zeros(np.broadcast_shapes(d.shape, duration.shape, tau.shape))
    for probability, side, stages in _races(pre_stages, error_stages):
        late = side * d  # the triangle is even, so that -Gamma at d is Gamma at -d
        for shift, coefficient in ((duration, 1), (0.0, -2), (-duration, 1)):
            total = total + probability * coefficient * _mean_ramp(late + shift, stages, tau)
    return np.asarray(np.clip(total / duration, 0.0, 1.0))


def _races(pre_stages: int, error_stages: int) -> Iterator[tuple[float, int, int]]:
    """(probability, side, n): V - U is side * Gamma(n, tau) with that probability.

    Run the two chains side by side: each next stage to finish belongs to either with probability 1/2, so the loser has
    n stages left when the winner is through (a negative binomial law), and those are the difference.
    """
    for side, winner, loser in ((1, pre_stages, error_stages), (-1, error_stages, pre_stages)):
        for done in range(loser):
            ways = math.comb(done + winner - 1, done) if winner else int(done == 0)
            yield ways / 2 ** (done + winner), side, loser - done
    if pre_stages == error_stages == 0:
        yield 1.0, 1, 0


def _mean_ramp(shift: Numbers, stages: int, tau: Numbers) -> np.ndarray:
    """E[max(0, c + X)] for X ~ Gamma(stages, tau) (0 where there are no stages) and c = `shift`."""
    wait = np.maximum(0.0, -shift) / tau  # X must exceed this many tau before the ramp starts
    beyond = tau * (stages * _survival(stages + 1, wait) - wait * _survival(stages, wait))
    return np.where(shift >= 0, shift + stages * tau, beyond)


def _survival(stages: int, wait: Numbers) -> Numbers:
    """P(Gamma(stages, 1) > wait)."""
    term, total = np.exp(-wait), np.zeros_like(wait)
    for i in range(stages):
        total = total + term
        term = term * wait / (i + 1)
    return total
