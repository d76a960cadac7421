"""A late negative feedback as a circuit, and how fast what obeys a linear equation with delays grows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Circuit, Given, Layer, Local, OneToOne, Projection, Variable
from dynamics.coupled import Coupled
from dynamics.stimulus import Stream
from experiments.predictions.kit import coupled, f64, records

Growth = Callable[[np.ndarray], np.ndarray]  # complex exponents of many settings


class Pulled(AbstractFactor):
    """z + what arrives at the port "pull": a neuron without a leak, tau z' = the pull."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.activity + local.inputs["pull"]


def follower(lag: object, neurons: int = 1) -> Circuit:
    """tau w' = 1 - w(t - lag): gradient descent on (w - 1)^2 / 2 by a gradient that is `lag` seconds old.

    tau is tau_prop.
    """
    layers = (
        Layer("one", 1, role="constant", level=0),
        Layer("w", neurons, variables=(Variable("activity", Pulled()),)),
    )
    goal = Given(jnp.ones((neurons, 1), jnp.float64))
    return Circuit(
        layers,
        (
            Projection("G", "one", "activity", "w", "pull", goal),
            Projection("L", "w", "activity", "w", "pull", OneToOne(f64(-1.0)), lag=f64(lag)),
        ),
    )


def silent_run(circuit: Circuit, tau: object, interval: object, steps: int, **more: Any) -> Coupled:
    """A coupled run without a task: presentations only say when to look."""
    return coupled(circuit, Stream(f64([[0.0]]), None, jax.random.key(0)), tau, 1.0, interval, steps, **more)


def activities(run: Coupled, layer: str, count: int, every: object) -> Float[Array, "count neurons"]:
    """Those of a layer after each of `count` times `every` presentations, from silence."""
    start = run.init(run.circuit.initial_weights(jax.random.key(0)))
    return records(run, start, count, every, lambda progress: progress.state.activity[layer])


def exponent(samples: np.ndarray, interval: float) -> complex:
    """s of a course that has become e^(s t), real or with its conjugate, from samples `interval` apart.

    Such samples obey w_(k+1) = a w_k - b w_(k-1): s is the log of the larger root of r^2 - a r + b. Samples of one
    real exponential leave a and b open, of which the smallest are taken; the root is the same.
    """
    scaled = samples / np.abs(samples).max()
    columns = np.stack([scaled[1:-1], -scaled[:-2]], 1)
    size = np.abs(columns).sum(1, keepdims=True)  # every sample counts alike, however small it has become
    a, b = np.linalg.lstsq(columns / size, scaled[2:] / size[:, 0], rcond=1e-5)[0]
    roots = np.roots([1, -a, b]).astype(complex)
    found = roots[np.argmax(np.abs(roots))]
    return complex(np.log(complex(found.real, abs(found.imag))) / interval)


def threshold(growth: Growth, low: np.ndarray, high: np.ndarray, points: int = 8, rounds: int = 3) -> np.ndarray:
    """Where growth changes its sign: bisection of many brackets, at `points` settings of each at once.

    `growth` takes settings (brackets, points) and gives exponents of that shape; it must be negative at `low` and
    positive at `high`, or the result is NaN. The last bracket is interpolated.
    """
    low, high = np.array(low, float), np.array(high, float)
    rows, above = np.arange(len(low)), np.zeros(len(low), int)
    below = over = np.zeros(len(low))
    for _ in range(rounds):
        tried = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, points)
        real = np.real(growth(tried))
        above = np.argmax(real > 0, axis=1)
        low, high = tried[rows, above - 1], tried[rows, above]
        below, over = real[rows, above - 1], real[rows, above]
    found = low - below * (high - low) / (over - below)
    return np.where((above > 0) & (below < 0), found, np.nan)
