"""Closed forms of learning in continuous time that several predictions share, and what their runs have in common.

Every neuron of a linear circuit is a first-order filter, so a signal that has passed n neurons is the sum over the
ways that it can have taken, each late by a gamma-distributed time of n stages (bibtex: bacvanski2025continuous).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from dynamics.circuit import Circuit
from dynamics.settle import evaluation_order
from dynamics.theory import lagged_overlap

Paths = dict[tuple[str, int], np.ndarray]  # by ("stimulus" or "target", stages): the matrix from it to a layer


class Drives(NamedTuple):
    """<m p^T> of one projection: as it is in time, and as it would be without any lag."""

    lagged: np.ndarray
    settled: np.ndarray

    @property
    def strength(self) -> float:
        """The part of the settled drive that is left: <lagged, settled> / |settled|^2."""
        return float((self.lagged * self.settled).sum() / (self.settled**2).sum())


def paths_of(circuit: Circuit, weights: Mapping[str, np.ndarray]) -> dict[tuple[str, str], Paths]:
    """What every (layer, variable) of a linear circuit without lags and biases holds, path by path."""
    paths: dict[tuple[str, str], Paths] = {}
    for layer in circuit.layers:
        if layer.role == "input":
            paths[layer.name, "activity"] = {("stimulus", 0): np.eye(layer.size)}
    for name, variable in evaluation_order(circuit):
        layer, port = circuit.layer(name), "forward" if variable == "activity" else "modulatory"
        arriving: Paths = {}
        for p in circuit.into(layer, port):
            matrix, carried = weights[p.owner], (p.source, p.carried_name)
            matrix = matrix if p.owner == p.name else matrix.T
            for key, path in paths[carried].items():
                arriving[key] = arriving.get(key, 0) + matrix @ path
        if layer.role == "output" and variable == "error":
            arriving |= {key: -path for key, path in paths[name, "activity"].items()}
            arriving["target", 0] = np.eye(layer.size)
        paths[name, variable] = {(source, stages + 1): path for (source, stages), path in arriving.items()}
    return paths


def drives_of(
    circuit: Circuit, weights: Mapping[str, np.ndarray], inputs: np.ndarray, targets: np.ndarray, lag: float
) -> dict[str, Drives]:
    """The drives of the plastic matrices e z^T of a linear circuit whose weights hardly change.

    Samples, the rows of `inputs` and `targets`, have mean zero and are shown without gaps in random order; `lag` is
    tau_prop / T. Path by path: lagged_overlap(0, T, stages of z, stages of e, tau_prop) times the second moments.
    """
    paths, samples = paths_of(circuit, weights), {"stimulus": inputs, "target": targets}
    drives = {}
    for p in circuit.plastic:
        lagged = settled = np.zeros(circuit.shape(p))
        for (of_error, late), back in paths[p.target, "error"].items():
            for (of_activity, early), forth in paths[p.source, "activity"].items():
                moments = samples[of_error].T @ samples[of_activity] / len(inputs)
                drive = back @ moments @ forth.T
                settled = settled + drive
                lagged = lagged + lagged_overlap(0.0, 1.0, early, late, lag) * drive
        drives[p.name] = Drives(lagged, settled)
    return drives


def traced_overlap(delay: ArrayLike, trace: float, lag: float) -> np.ndarray:
    """S/T of a box input behind an eligibility trace of unit gain, and a box error `delay` later; all times in T.

    The trace is p = 1 - exp(-t/tau) until T and decays from there with tau = `trace`; a box that is d late gathers

        S0(d) = 1 + tau - d - tau (2 - exp(-1/tau)) exp(-d/tau)  (d < 1),
        S0(d) = tau (exp(1/tau) - 1) (1 - exp(-1/tau)) exp(-d/tau)  (d >= 1).

    An error that has passed one filter of time constant `lag` sees S = E[S0(d + V)], V exponential with that mean.
    """
    d = np.asarray(delay, float)
    fall = -np.expm1(-1 / trace)
    late = trace * np.expm1(1 / trace) * fall / (1 + lag / trace)  # times exp(-d / trace)
    left = np.maximum(1 - d, 0)  # V below this meets the trace while it rises
    missed = np.exp(-left / lag)
    rising = (1 + trace - d) * (1 - missed) - (lag * (1 - missed) - left * missed)
    decaying = trace * (1 + fall) * np.exp(-d / trace) * -np.expm1(-left / lag - left / trace) / (1 + lag / trace)
    return np.where(d >= 1, late * np.exp(-d / trace), rising - decaying + missed * late * np.exp(-1 / trace))
