"""Chooses windows: what is static about the window integrator follows from the tolerance and from what is run.

None of this has to be right: estimates tell of runs that windows do not resolve, and those are tried again, finer.
"""

import dataclasses
import math
from typing import TypeVar

import numpy as np

from dynamics.errors import PlasticodeError
from dynamics.integrators.collocation import MAX_NODES, integration
from dynamics.integrators.contract import Demands
from dynamics.integrators.jumps import CALM
from dynamics.integrators.windows import AbstractWindow

SETTLING = 20.0  # propagation time constants: after them, what a jump has excited is gone, through a few layers
CONTRACTION = 8.0  # H |x|^2 / tau_plast: sweeps still converge, in some 20
FORGETTING = 6.0  # H / tau_dec: integrating factors then span less than three decades
MAX_PARTS, MAX_NOISY_PARTS = 1000, 10_000
MOST_PARTS = 32  # beyond this learning is so fast that a point diverges, whatever the windows


W = TypeVar("W", bound=AbstractWindow)


def choose(window: W, demands: Demands) -> W:
    """`window` with what is None of nodes, parts and gaps: few enough to be fast, enough for its tolerance."""
    gaps = bool((demands.gap > 0).any()) if window.gaps is None else window.gaps
    parts = _parts(demands) if window.parts is None else window.parts
    ratio = float((np.maximum(demands.duration, demands.gap) / demands.propagation).max())
    strength = float((demands.duration / demands.plasticity).max()) * demands.square / parts
    settling, nodes = window.settling, window.nodes
    if nodes is None:
        settling = SETTLING if settling is None and ratio > 1.5 * SETTLING else settling
        within = ratio if settling is None else min(ratio, settling)
        # What is late by most of a stimulus, before a gap, moves weights by little, and errors count relative to that.
        resolved = nodes_for(window.tolerance, within, demands.layers, strength) + gaps
        nodes = max(min(resolved, MAX_NODES), nodes_for_learning(window.tolerance, strength))
    if window.parts is None and demands.spacing is not None:
        parts = max(parts, _noisy_parts(demands, nodes))
    return dataclasses.replace(window, nodes=nodes, parts=parts, settling=settling, gaps=gaps)


def own_parts(window: W, demands: Demands) -> W:
    """`window` where points take as many parts as their own learning asks for, where that is why there are several."""
    strength = demands.duration / demands.plasticity * demands.square
    still = np.isinf(demands.decay).all() and demands.spacing is None
    if window.parts == 1 or not still or float(strength.min()) > CALM * (window.parts - 1):
        return window
    return dataclasses.replace(window, strongest=np.float64(demands.square))


def nodes_for(tolerance: float, ratio: float, layers: int, strength: float) -> int:
    """The nodes that resolve what follows a jump over a window of `ratio` propagation time constants.

    Waveforms are then made of exponentials exp(-t/tau_prop) and, behind several layers, of their products with powers
    of t; the nodes that they take grow with the root of the ratio (slowly in long windows, as they lie where a window
    begins), with the logarithm of the tolerance and with every layer; and in long windows with the `strength`
    H |x|^2 / tau_plast of learning, which goes on until a window ends. The factors were fitted to errors of feedback
    alignment (tanh, one to four layers, ratios from 1 to 30, strengths 0.2, 0.5 and 2) against windows of 24 nodes.
    """
    factor = 0.36 * layers - 0.26 + 0.445 * math.log(1 / tolerance)
    learning = min(max(0.5 * (strength - 0.5), 0.0), 1.5)
    short, long = 0.3 + factor * (0.7 + 0.35 * ratio**0.5), 0.8 + factor * (1.15 + 0.125 * ratio**0.5) + learning
    return min(max(math.ceil(min(short, long)), 3), MAX_NODES)


def nodes_for_learning(tolerance: float, strength: float) -> int:
    """The nodes at whose end a weight that learns at the rate `strength` per window is right, exp(-strength)."""
    rate = min(strength, 2 * CONTRACTION)
    for s in range(3, MAX_NODES):
        end = np.linalg.solve(np.eye(s) + rate * integration(s), np.ones(s))[-1]
        if abs(end - math.exp(-rate)) <= tolerance / 4:
            return s
    return MAX_NODES


def _parts(demands: Demands) -> int:
    """Parts of a presentation in which sweeps contract, and weights do not forget too much."""
    strength = demands.duration / demands.plasticity * demands.square
    parts = min(max(math.ceil(float(strength.max()) / CONTRACTION), 1), MOST_PARTS)
    parts = max(parts, math.ceil(float((demands.period / demands.decay).max()) / FORGETTING))
    if parts > MAX_PARTS:
        raise PlasticodeError(
            f"timescales.decay = {demands.decay.min():g} s is not allowed with the window integrator: it gives {parts} "
            f"windows per presentation, and at most {MAX_PARTS} are allowed"
        )
    return parts


def _noisy_parts(demands: Demands, nodes: int) -> int:
    """Parts in which nodes lie as dense as noise needs them."""
    assert demands.spacing is not None
    parts = float(demands.period.max()) / (demands.spacing * nodes)
    if parts > MAX_NOISY_PARTS:
        raise PlasticodeError(
            f"integrator.dt = {demands.spacing:g} s is not allowed with noise and the window integrator: it gives "
            f"{parts:.3g} windows per presentation, and at most {MAX_NOISY_PARTS} are allowed"
        )
    return math.ceil(parts * (1 - 1e-9))  # 100 parts are not 101 because of rounding


def refined(window: W) -> W | None:
    """The windows to try next for a run that has not reached the tolerance; None where they are fine enough."""
    if window.parts >= MOST_PARTS:
        return None
    finest = {"whole": True, "strongest": None}
    return dataclasses.replace(window, parts=4 * window.parts, nodes=min(window.nodes + 3, MAX_NODES), **finest)
