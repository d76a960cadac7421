"""Chooses the windows of a group of points: what is static about the window integrator follows from the tolerance."""

import dataclasses
import math

import numpy as np

from dynamics.collocation import MAX_NODES
from dynamics.errors import PlasticodeError
from dynamics.window import Window
from experiments.spec import Spec

SETTLING = 20.0  # propagation time constants: after them, what a jump has excited is gone, through a few layers
CONTRACTION = 8.0  # H |x|^2 / tau_plast: sweeps still converge, in some 20
FORGETTING = 6.0  # H / tau_dec: integrating factors then span less than three decades
MAX_PARTS, MAX_NOISY_PARTS = 1000, 10_000
MOST_PARTS = 32  # beyond this learning is so fast that a point diverges, whatever the windows


def choose(spec: Spec, values: dict[str, np.ndarray], inputs: np.ndarray) -> Window:
    """The windows for the points with these `values`: few enough nodes to be fast, enough for the tolerance.

    A sweep contracts by about H |x|^2 / tau_plast, which sets the parts. None of this has to be right: the estimate
    tells of points that were not resolved, and the runner refines their windows.
    """
    longest = np.maximum(values["stimulus.duration"], values["stimulus.gap"])
    ratio = float((longest / _per_point(values["timescales.propagation"], "min")).max())
    settling = SETTLING if ratio > 1.5 * SETTLING else None
    nodes = nodes_for(spec.integrator.tolerance, ratio if settling is None else SETTLING)
    return Window(
        tolerance=spec.integrator.tolerance,
        nodes=nodes,
        parts=_parts(spec, values, inputs, nodes),
        settling=settling,
        gaps=bool((values["stimulus.gap"] > 0).any()),
    )


def nodes_for(tolerance: float, ratio: float) -> int:
    """The nodes that resolve what follows a jump over a window of `ratio` propagation time constants.

    Waveforms are then made of exponentials exp(-t/tau_prop); the nodes that they take grow like the root of the ratio
    and the logarithm of the tolerance. The factors were fitted to the estimate of `Relaxation.roughness` on networks of
    two to four layers, at tolerances from 1e-2 to 1e-5.
    """
    nodes = math.ceil(1 + (1.18 + 0.445 * math.log(1 / tolerance)) * (0.7 + 0.35 * math.sqrt(ratio)))
    return min(max(nodes, 3), MAX_NODES)


def _parts(spec: Spec, values: dict[str, np.ndarray], inputs: np.ndarray, nodes: int) -> int:
    """Parts of a presentation: sweeps contract, and nodes lie as dense as noise needs them."""
    duration = values["stimulus.duration"]
    strength = duration / _per_point(values["timescales.plasticity"], "min") * float(np.mean(np.sum(inputs**2, axis=1)))
    parts = min(max(math.ceil(float(strength.max()) / CONTRACTION), 1), MOST_PARTS)
    decay = _per_point(values["timescales.decay"], "min")
    parts = max(parts, math.ceil(float(((duration + values["stimulus.gap"]) / decay).max()) / FORGETTING))
    if parts > MAX_PARTS:
        raise PlasticodeError(
            f"timescales.decay = {decay.min():g} s is not allowed with the window integrator: it gives {parts} windows "
            f"per presentation, and at most {MAX_PARTS} are allowed"
        )
    if any(f"noise.{name}" in values for name in ("activity", "error", "synaptic", "synaptic_multiplicative")):
        dt = spec.integrator.dt.seconds(float(duration.min()))
        noisy = float((duration + values["stimulus.gap"]).max()) / (dt * nodes)
        if noisy > MAX_NOISY_PARTS:
            raise PlasticodeError(
                f"integrator.dt = {dt:g} s is not allowed with noise and the window integrator: it gives {noisy:.3g} "
                f"windows per presentation, and at most {MAX_NOISY_PARTS} are allowed"
            )
        parts = max(parts, math.ceil(noisy))
    return parts


def _per_point(values: np.ndarray, reduce: str) -> np.ndarray:
    """One number per point, of numbers that may be given per layer."""
    return values if values.ndim == 1 else getattr(values, reduce)(axis=1)


def refined(window: Window) -> Window | None:
    """The windows to try next for points that have not reached the tolerance; None where they are fine enough."""
    if window.parts >= MOST_PARTS:
        return None
    return dataclasses.replace(window, parts=4 * window.parts, nodes=min(window.nodes + 3, MAX_NODES))
