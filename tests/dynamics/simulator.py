"""An independent simulation of every rule on a network of three layers, in NumPy: nothing is shared with the engine.

Euler steps in float64; every layer has time constants of its own; past signals are kept in lists, and all lags are
whole numbers of steps.
"""

from typing import NamedTuple

import numpy as np

SIZES = (3, 4, 3, 2)  # tanh units and a linear output, with biases
LEVELS = (1, 2, 3)
CREDIT = {  # the matrix that brings the error back, by the names of ENGINE_RULES in tests.problems; without one: none
    **dict.fromkeys(("sgd", "curl", "curl-clamp"), "W"),
    **dict.fromkeys(("fa", "template", "kp", "curl-fa"), "V"),
    "dfa": "B",
    **dict.fromkeys(("heterosynaptic", "heterosynaptic-identity"), "h"),
}


class Times(NamedTuple):
    """Time constants by level, 1 to 3, then the stimulus and the lags, all in seconds; no trace is None."""

    propagation: tuple
    plasticity: tuple
    decay: tuple
    trace: tuple | None
    duration: float
    gap: float
    error: float = 0.0
    hop: float = 0.0
    input: float = 0.0


class Signals:
    """Signals by name, as lists of their values at the steps so far. Before the first they were silent."""

    def __init__(self):
        self.past = {}

    def push(self, values):
        for name, value in values.items():
            self.past.setdefault(name, []).append(value)

    def ago(self, name, steps):
        """The value so many steps before the newest."""
        past = self.past[name]
        return past[-1 - steps] if steps < len(past) else np.zeros_like(past[-1])


def start(name, weights):
    """Silent units, traces and thresholds, and the given matrices."""
    y = {key: np.array(value, float) for key, value in weights.items()}
    for level in LEVELS:
        y[f"z{level}"] = np.zeros(SIZES[level])
        if name in CREDIT or level == 3:  # the output has an error even where nothing learns from it
            y[f"e{level}"] = np.zeros(SIZES[level])
        if name == "bcm":
            y[f"theta{level}"] = np.zeros(SIZES[level])
        if CREDIT.get(name) == "h" and level > 1:
            y[f"h{level}"] = np.zeros(len(y[f"M{level}"]))
        y[f"trace W{level}"], y[f"trace b{level}"] = np.zeros(SIZES[level - 1]), np.zeros(1)
        if level > 1:
            y[f"trace V{level}"] = np.zeros(SIZES[level - 1])
    return y


def credit(name, y, late, level):
    """c of a hidden layer, from the late errors above it."""
    kind, above = CREDIT[name], level + 1
    if kind == "W":
        return y[f"W{above}"].T @ late(f"e{above}")
    if kind == "B":
        return y[f"B{level}"] @ late("e3")
    return y[f"V{above}"] @ late(f"h{above}" if kind == "h" else f"e{above}")


def factors(name, y, level):
    """m and r of the forward matrix and the bias of a layer."""
    z, nothing = y[f"z{level}"], np.zeros(SIZES[level])
    if name in CREDIT or (name == "hebbian-delta" and level == 3):
        return y[f"e{level}"], nothing
    if name == "anti-hebbian":
        return -z, nothing
    if name == "bcm":
        return z * (z - y[f"theta{level}"]), nothing
    return z, z**2 if name == "oja" else nothing


def drift(name, y, seen, target, on, times, lags, threshold):
    """The time derivative of everything, as a dictionary of the same names."""
    d = {}

    def late(signal):
        return seen.ago(signal, lags["hop"])

    for level in LEVELS:
        i, z, below = level - 1, y[f"z{level}"], late(f"z{level - 1}")
        a = y[f"W{level}"] @ below + y[f"b{level}"][:, 0]
        f, slope = (np.tanh(a), 1 - np.tanh(a) ** 2) if level < 3 else (a, 1.0)
        d[f"z{level}"] = (f - z) / times.propagation[i]
        if f"e{level}" in y:
            c = credit(name, y, late, level) if level < 3 else target - on * seen.ago("z3", lags["error"])
            d[f"e{level}"] = (slope * c - y[f"e{level}"]) / times.propagation[i]
        if f"h{level}" in y:
            d[f"h{level}"] = (y[f"M{level}"] @ late(f"e{level}") - y[f"h{level}"]) / times.propagation[i]
        if f"theta{level}" in y:
            d[f"theta{level}"] = (z**2 - y[f"theta{level}"]) / threshold
        m, r = factors(name, y, level)
        pre = below
        if name.startswith("curl"):
            pre = np.where(np.arange(len(below)) < round(len(below) / 2), -1, 1) * below
        for matrix, p, decay in ((f"W{level}", pre, times.decay[i]), (f"b{level}", np.ones(1), np.inf)):
            if times.trace is not None:
                d[f"trace {matrix}"] = (p - y[f"trace {matrix}"]) / times.trace[i]
                p = y[f"trace {matrix}"]
            w = y[matrix]
            learned = (np.outer(m, p) - r[:, None] * w) / times.plasticity[i]
            if name == "curl-clamp" and matrix[0] == "W":
                d[matrix] = learned - w * (learned * w).sum() / (w * w).sum()
            else:
                d[matrix] = learned - w / decay
        if level > 1 and (name == "kp" or CREDIT.get(name) == "h"):
            d |= mirrored(name, y, late, level, times)
    return d


def mirrored(name, y, late, level, times):
    """The feedback matrix into layer `level` - 1 learns with all time constants of the forward one that it mirrors."""
    i, matrix = level - 1, f"V{level}"
    post, pre = y[f"z{level - 1}"], late(f"h{level}" if CREDIT[name] == "h" else f"e{level}")
    d = {}
    if times.trace is not None:
        d[f"trace {matrix}"] = (post - y[f"trace {matrix}"]) / times.trace[i]
        post = y[f"trace {matrix}"]
    d[matrix] = np.outer(post, pre) / times.plasticity[i] - y[matrix] / times.decay[i]
    return d


def simulate(name, weights, inputs, targets, shown, times, steps, threshold=np.nan):
    """Everything after the samples `shown`, one per presentation of so many steps."""
    dt = (times.duration + times.gap) / steps
    lags = {lag: round(getattr(times, lag) / dt) for lag in ("error", "hop", "input")}
    on_steps = round(times.duration / dt)

    def held(values, n):
        """The sample at step n, and whether it is on."""
        on = n >= 0 and n % steps < on_steps
        return (values[shown[n // steps]] if on else np.zeros(values.shape[1])), float(on)

    y, seen = start(name, weights), Signals()
    for n in range(len(shown) * steps):
        x, _ = held(inputs, n - lags["input"])
        target, on = held(targets, n - lags["error"])
        seen.push({"z0": x} | {key: value for key, value in y.items() if key[0] in "zeh"})
        d = drift(name, y, seen, target, on, times, lags, threshold)
        y |= {key: y[key] + dt * slope for key, slope in d.items()}
    return y


def extrapolated(*arguments, steps, **options):
    """The limit of short steps, by Richardson's extrapolation of the first order of Euler's method."""
    coarse, fine = (simulate(*arguments, steps=n, **options) for n in (steps, 2 * steps))
    return {key: 2 * fine[key] - coarse[key] for key in fine}
