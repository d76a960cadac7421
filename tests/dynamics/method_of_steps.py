"""Kolen-Pollack learning of two layers whose projections are all late, by the method of steps in NumPy.

Time is cut where anything has a kink: at the ends of presentations, and whole numbers of lags after them. On each piece
what is late is known, and the rest follows from fixed-point iteration of its integrals on Chebyshev points. Nothing is
shared with the engine, and all is exact to rounding.
"""

import functools
import itertools

import numpy as np
from numpy.polynomial import chebyshev

POINTS = 10
LONGEST = 5e-3  # seconds of a piece: shorter than the lag, and far shorter than any time constant


@functools.cache
def collocation() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chebyshev points on [0, 1], with the ends; of what has values there its integrals up to them, and its series."""
    x = -np.cos(np.pi * np.arange(POINTS) / (POINTS - 1))
    series = np.linalg.inv(chebyshev.chebvander(x, POINTS - 1))
    integrals = [chebyshev.chebval(x, chebyshev.chebint(column, lbnd=-1)) / 2 for column in series.T]
    return (x + 1) / 2, np.stack(integrals, axis=1), series


def integral(values: np.ndarray) -> np.ndarray:
    """The integrals from 0 to the points of what has `values` (points, ...) there."""
    return (collocation()[1] @ values.reshape(POINTS, -1)).reshape(values.shape)


def interpolated(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What has `values` (points, n) at the points, at x in [0, 1]."""
    return chebyshev.chebvander(2 * x - 1, POINTS - 1) @ (collocation()[2] @ values)


def edges(numbers: dict, presentations: int) -> np.ndarray:
    """The ends of all pieces."""
    period = numbers["duration"] + numbers["gap"]
    end, lags = presentations * period, range(int(presentations * period / numbers["lag"]) + 1)
    shown = [k * period + x for k in range(presentations) for x in (0.0, numbers["duration"])]
    cuts = np.unique(np.add.outer(shown, numbers["lag"] * np.array(lags)))
    cuts = np.concatenate([cuts[cuts < end - 1e-15], [end]])
    cuts = cuts[np.diff(cuts, prepend=-1.0) > 1e-15]
    inner = [np.linspace(a, b, int(np.ceil((b - a) / LONGEST)), endpoint=False) for a, b in itertools.pairwise(cuts)]
    return np.concatenate([*inner, [end]])


class Past:
    """The waveforms of all pieces so far. Before the first everything was 0."""

    def __init__(self, ends: np.ndarray):
        self.ends, self.pieces = ends, []

    def ago(self, name: str, times: np.ndarray, lag: float, size: int) -> np.ndarray:
        """The signal `lag` before `times`, those of a piece."""
        middle, result = (times[0] + times[-1]) / 2, np.zeros((POINTS, size))
        inside = times + 1e-6 * (middle - times) - lag  # not on the border of another piece
        piece = np.searchsorted(self.ends, inside, side="right") - 1
        for i in np.unique(piece[piece >= 0]):
            start, end = self.ends[i : i + 2]
            at = (times[piece == i] - lag - start) / (end - start)
            result[piece == i] = interpolated(at, self.pieces[i][name])
        return result


def learned(weights: dict, inputs: np.ndarray, targets: np.ndarray, numbers: dict) -> dict:
    """W1, W2 and V2 after presentations of the rows of inputs and targets, one after the other.

    The hidden layer is tanh, the output linear. `numbers` are in seconds: duration, gap, propagation, plasticity, and
    the lag of all projections.
    """
    period, lag, presentations = numbers["duration"] + numbers["gap"], numbers["lag"], len(inputs)
    y = {name: np.array(weights[name], float) for name in ("W1", "W2", "V2")}
    hidden, outputs = y["V2"].shape
    y |= {"z1": np.zeros(hidden), "e1": np.zeros(hidden), "z2": np.zeros(outputs), "e2": np.zeros(outputs)}
    ends = edges(numbers, presentations)
    past, points = Past(ends), collocation()[0]

    def given(time: float, rows: np.ndarray) -> tuple[np.ndarray, float]:
        k = int(np.floor(time / period))
        on = 0 <= k < presentations and time - k * period < numbers["duration"]
        return (rows[k], 1.0) if on else (np.zeros(rows.shape[1]), 0.0)

    for start, end in itertools.pairwise(ends):
        times, middle = start + (end - start) * points, (start + end) / 2
        x, (target, on) = given(middle - lag, inputs)[0], given(middle, targets)
        late = past.ago("z1", times, lag, hidden), past.ago("e2", times, lag, outputs)
        waves = {name: np.broadcast_to(value, (POINTS, *value.shape)) for name, value in y.items()}
        moved = np.inf
        while moved > 1e-15:
            slopes = drift(waves, x, target, on, *late, numbers)
            new = {name: y[name] + (end - start) * integral(slopes[name]) for name in y}
            moved, waves = max(np.abs(new[name] - waves[name]).max() for name in y), new
        past.pieces.append(waves)
        y = {name: wave[-1] for name, wave in waves.items()}
    return {name: y[name] for name in ("W1", "W2", "V2")}


def drift(
    waves: dict, x: np.ndarray, target: np.ndarray, on: float, z1: np.ndarray, e2: np.ndarray, numbers: dict
) -> dict:
    """The time derivatives of all waveforms, arrays (points, ...), where x, z1 and e2 are what arrives of them."""
    activity = np.tanh(waves["W1"] @ x)

    def product(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        return (matrices @ vectors[..., None])[..., 0]

    drives = {
        "z1": activity,
        "z2": product(waves["W2"], z1),
        "e2": target - on * waves["z2"],
        "e1": (1 - activity**2) * product(waves["V2"], e2),
    }
    learns = {
        "W1": waves["e1"][..., None] * x,
        "W2": waves["e2"][..., None] * z1[..., None, :],
        "V2": waves["z1"][..., None] * e2[..., None, :],
    }
    fast = {name: (drive - waves[name]) / numbers["propagation"] for name, drive in drives.items()}
    return fast | {name: outer / numbers["plasticity"] for name, outer in learns.items()}
