"""A network that groks and can be solved: quadratic neurons, fixed readout, quadratic teacher (kumar2024grokking).

    f(x) = (alpha/N) sum_i phi(w_i . x), phi(h) = h + (eps/2) h^2, y = (beta . x)^2 / 2, x ~ N(0, I/D)

With v = eps w it is f = alpha/(N eps) sum_i psi(v_i . x), psi(g) = g + g^2/2, and the gradient flow of w is that of v
at eps^2 times the rate: one activation, and eps is a number. Learned is f - f0, f0 the network at the start: its
targets are y + f0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics.activations import Activation
from dynamics.circuit import Circuit
from experiments.predictions.kit import f64, weight_flow, wired
from experiments.predictions.linear.setting import course, frozen
from rules import SGD

quadratic = Activation(lambda g: g + 0.5 * g * g)  # psi, named below as a spec names an activation of its own


class Problem(NamedTuple):
    """Samples (P, D), the teacher beta (D,), the start w (N, D), alpha and eps."""

    inputs: np.ndarray
    teacher: np.ndarray
    start: np.ndarray
    alpha: float
    eps: float


class Parts(NamedTuple):
    """The test loss E (f - f0 - y)^2 by its parts, which are exact: (..,) each.

    power         of the constant part: (|beta|^2 / D - alpha eps Tr dM / D)^2 / 4
    misalignment  |alpha eps dM - beta beta^T|^2 / (2 D^2), dM the change of mean w w^T
    linear        alpha^2 |dw|^2 / D, dw the change of mean w
    """

    power: np.ndarray
    misalignment: np.ndarray
    linear: np.ndarray

    @property
    def loss(self) -> np.ndarray:
        return np.asarray(self.power + self.misalignment + self.linear)


def problem(seed: int, size: int, neurons: int, samples: int, alpha: float, eps: float) -> Problem:
    """|beta|^2 = D, w ~ N(0, 1): the same random numbers at every alpha and eps."""
    rng = np.random.default_rng([seed, size])
    beta = rng.standard_normal(size)
    x = rng.standard_normal((samples, size)) / size**0.5
    return Problem(x, beta * (size / (beta @ beta)) ** 0.5, rng.standard_normal((neurons, size)), alpha, eps)


def target(given: Problem, x: np.ndarray) -> np.ndarray:
    """y of the samples x."""
    return (x @ given.teacher) ** 2 / 2


def output(given: Problem, w: np.ndarray, x: np.ndarray) -> np.ndarray:
    """f of the samples x: (..,) of w, then samples."""
    h = x @ w.swapaxes(-1, -2)
    return given.alpha * (h + given.eps / 2 * h * h).mean(-1)


def parts(given: Problem, w: np.ndarray) -> Parts:
    """The test loss of weights (.., N, D)."""
    size, beta = w.shape[-1], given.teacher
    mean, second = (np.asarray(each) for each in (w.mean(-2), np.einsum("...nd,...ne->...de", w, w) / w.shape[-2]))
    change = second - given.start.T @ given.start / len(given.start)
    moved, scale = mean - given.start.mean(0), given.alpha * given.eps
    trace = np.trace(change, axis1=-2, axis2=-1)
    return Parts(
        (beta @ beta / size - scale * trace / size) ** 2 / 4,
        np.square(scale * change - np.outer(beta, beta)).sum((-2, -1)) / (2 * size**2),
        given.alpha**2 * np.square(moved).sum(-1) / size,
    )


def circuit(size: int, neurons: int) -> Circuit:
    """W1 learns, the readout W2 is fixed; f' of the hidden layer follows from psi."""
    name = f"{__name__}:quadratic"
    return frozen(wired(SGD(), (size, neurons, 1), activation=name), ("W2",))


@eqx.filter_jit
def _descended(circuit: Circuit, given: tuple, counts: Array) -> Array:
    def one(x: Array, y: Array, start: Array, readout: Array, eps: Array, alpha: Array, step: Array) -> Array:
        # Of the flow in v: eps^2 for the rate of w, N / alpha^2 so that functions learn at a rate of order one.
        rate = eps**2 * start.shape[0] / alpha**2
        flow = weight_flow(circuit, x, y, step, plasticity=1 / rate, integrator="euler")
        return course(flow, {"W1": start, "W2": readout}, counts)["W1"]

    return jax.vmap(one)(*given)


def descended(problems: Sequence[Problem], steps: Sequence[float], marks: np.ndarray) -> np.ndarray:
    """w of full-batch gradient descent after so many steps: (problems, marks, N, D).

    A step of w is one of `steps`, for each problem, times N / alpha^2 and the gradient of <(f - f0 - y)^2> / 2.
    """
    rows = []
    for given, step in zip(problems, steps, strict=True):
        y = target(given, given.inputs) + output(given, given.start, given.inputs)
        n = len(given.start)
        readout = np.full((1, n), given.alpha / (n * given.eps))
        rows.append((given.inputs, y[:, None], given.eps * given.start, readout, given.eps, given.alpha, step))
    arrays = tuple(f64(np.stack(column)) for column in zip(*rows, strict=True))
    n, d = problems[0].start.shape
    counts = jnp.asarray(np.diff(marks, prepend=0), jnp.int32)
    found = np.asarray(_descended(circuit(d, n), arrays, counts))
    return found / np.array([given.eps for given in problems])[:, None, None, None]


def training_loss(given: Problem, w: np.ndarray) -> np.ndarray:
    """<(f - f0 - y)^2> over the samples that are learned: (marks,)."""
    x = given.inputs
    off = output(given, w, x) - output(given, given.start, x) - target(given, x)
    return np.square(off).mean(-1)


def fallen(marks: np.ndarray, curve: np.ndarray, level: float) -> float:
    """When a curve is first below a level, between records by its logarithm over that of time; NaN if it never is."""
    below = curve < level
    k = int(below.argmax())
    if not below.any() or k == 0:
        return float(marks[0]) if below.any() else float("nan")
    part = np.log(curve[k - 1] / level) / np.log(curve[k - 1] / curve[k])
    return float(marks[k - 1] * (marks[k] / marks[k - 1]) ** part)
