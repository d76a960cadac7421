"""Feedback alignment of two layers in which everything is late, by the classical Runge-Kutta method in NumPy.

Nothing is shared with the engine. All lags and ends of stimuli are whole numbers of steps, so that inputs jump between
steps alone; the past between them is Hermite's cubic.
"""

import numpy as np

FAST = ("z1", "z2", "e1", "e2")


class Past:
    """States at all steps so far, slopes at the start and end of each. Before the first everything was silent."""

    def __init__(self, start: dict, dt: float):
        self.dt, self.states, self.slopes = dt, [start], []

    def ago(self, name: str, at: float) -> np.ndarray:
        """A signal at step `at`, which may lie between two."""
        n = int(np.floor(at + 1e-9))
        if at < 0:
            return np.zeros_like(self.states[0][name])
        share = at - n
        if share < 1e-9:
            return self.states[n][name]
        (a, b), (f, g) = (s[name] for s in self.states[n : n + 2]), (s[name] for s in self.slopes[n])
        rest = 1 - share
        bend = share * share * (3 - 2 * share)
        return a + bend * (b - a) + self.dt * share * rest * (rest * f - share * g)


def simulated(weights: dict, inputs: np.ndarray, targets: np.ndarray, steps: int, numbers: dict) -> list[dict]:
    """All that is seen at all steps of presentations of the rows of inputs and targets, one after the other.

    The hidden layer is tanh, the output linear. `numbers` are in seconds: duration, gap, propagation, plasticity, and
    the lags `input`, `hop` and `error`.
    """
    period = numbers["duration"] + numbers["gap"]
    dt, (lag_x, hop, late) = period / steps, (round(numbers[n] * steps / period) for n in ("input", "hop", "error"))
    on_steps = round(numbers["duration"] / dt)
    y = {name: np.array(w, float) for name, w in weights.items()}
    hidden, outputs = y["V2"].shape
    y |= {name: np.zeros(hidden if name[1] == "1" else outputs) for name in FAST}
    past, seen, last = Past(y, dt), [], len(inputs) * steps - 1

    def held(values: np.ndarray, n: int) -> tuple[np.ndarray, float]:
        on = 0 <= n < len(values) * steps and n % steps < on_steps
        return (values[n // steps], 1.0) if on else (np.zeros(values.shape[1]), 0.0)

    def moment(y: dict, n: int, share: float) -> dict:
        """Everything a `share` of step n later."""

        def ago(name: str, lag: int) -> np.ndarray:
            return y[name] if lag == 0 else past.ago(name, n + share - lag)

        x, (target, on) = held(inputs, n - lag_x - hop)[0], held(targets, n - late)
        p2, back = ago("z1", hop), ago("e2", hop)
        now = {"z0": held(inputs, n - lag_x)[0], "p1": x, "p2": p2, "a1": y["W1"] @ x, "a2": y["W2"] @ p2}
        now |= {"c1": y["V2"] @ back, "c2": target - on * ago("z2", late), "m1": y["e1"], "m2": y["e2"]}
        return now | y

    def drift(y: dict, n: int, share: float) -> dict:
        now = moment(y, n, share)
        z = np.tanh(now["a1"])
        drives = {"z1": z, "z2": now["a2"], "e1": (1 - z * z) * now["c1"], "e2": now["c2"]}
        slopes = {name: (drives[name] - y[name]) / numbers["propagation"] for name in FAST}
        slopes |= {f"W{i}": np.outer(now[f"m{i}"], now[f"p{i}"]) / numbers["plasticity"] for i in "12"}
        return slopes | {"V2": np.zeros_like(y["V2"])}

    for n in range(last + 1):
        seen.append(moment(y, n, 0.0))
        k1 = drift(y, n, 0.0)
        k2 = drift({name: y[name] + dt / 2 * k1[name] for name in y}, n, 0.5)
        k3 = drift({name: y[name] + dt / 2 * k2[name] for name in y}, n, 0.5)
        k4 = drift({name: y[name] + dt * k3[name] for name in y}, n, 1.0)
        y = {name: y[name] + dt / 6 * (k1[name] + 2 * k2[name] + 2 * k3[name] + k4[name]) for name in y}
        past.slopes.append((k1, drift(y, n, 1.0)))  # which may jump between steps
        past.states.append(y)
    return [*seen, moment(y, last, 1.0)]
