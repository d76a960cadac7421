"""Linear students at the solution: sampled matrices A of the error dynamics, and the engine's weight flow there."""

from collections.abc import Callable, Iterator
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.flow import WeightFlow
from experiments.predictions.curl.learning import curl_flow
from experiments.predictions.kit import all_close, drift_of
from experiments.results.verdicts import Verdict
from rules.curl import Curl

Numbers = np.ndarray | Array
Inputs = Annotated[int, Field(strict=True, ge=20, le=2_000)]  # the closed forms are those of large matrices
CHECKED = (30, 60)  # inputs and hidden units of the network that links sampled matrices to the engine
MOST_WEIGHTS = 20_000_000  # of a sampled student: 160 MB


def hidden_units(inputs: int, ratio: float) -> int:
    """The number N of hidden units of a student with c = M / N = `ratio`; PlasticodeError where there is no such."""
    hidden = round(inputs / ratio)
    if hidden < 1 or inputs * hidden > MOST_WEIGHTS:
        wrong = "leaves no hidden unit" if hidden < 1 else f"asks for {inputs * hidden:.2g} weights"
        raise PlasticodeError(
            f"a ratio c = {ratio:g} with {inputs} inputs {wrong}: c must lie between {inputs**2 / MOST_WEIGHTS:.2g} "
            f"and {2 * inputs}"
        )
    return hidden


def teacher(rng: np.random.Generator, inputs: int, hidden: int) -> tuple[np.ndarray, np.ndarray]:
    """(W1, W2) with independent entries of variance 1 / inputs, (hidden, inputs), and |W2| = 1, (hidden,)."""
    w2 = rng.normal(size=hidden)
    return rng.normal(size=(hidden, inputs)) / inputs**0.5, w2 / np.linalg.norm(w2)


def teachers(seed: int, count: int, inputs: int, hidden: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`count` of them; the i-th is the same however many there are."""
    return (teacher(np.random.default_rng([seed, i]), inputs, hidden) for i in range(count))


def signs(count: int, flipped: int) -> np.ndarray:
    """+-1 of each of `count` neurons: the first `flipped` learn with the opposite sign."""
    return np.where(np.arange(count) < flipped, -1.0, 1.0)


def error_matrix(w1: np.ndarray, w2: np.ndarray, flipped_inputs: int, flipped_units: int) -> np.ndarray:
    """A = |W2|^2 D1 + W1^T D2 W1, (inputs, inputs): at the solution v' = -A Sigma v / tau_plast (derived)."""
    hidden, inputs = w1.shape
    return np.diag((w2 @ w2) * signs(inputs, flipped_inputs)) + (w1.T * signs(hidden, flipped_units)) @ w1


def clamped_error_matrix(w1: np.ndarray, w2: np.ndarray, flipped_inputs: int, flipped_units: int) -> np.ndarray:
    """A of the flow that holds |W1| and |W2|: A - w_t (D1 w_t / |W1|^2 + W1^T D2 w2 / |W2|^2)^T (derived).

    The part of either drift along its own matrix is taken out, and both parts move the product along w_t. It differs
    from A in two directions of M, so it has the same spectrum in a large network.
    """
    hidden, inputs = w1.shape
    line = w2 @ w1
    first, second = signs(inputs, flipped_inputs) * line, (signs(hidden, flipped_units) * w2) @ w1
    along = first / (w1**2).sum() + second / (w2 @ w2)
    return error_matrix(w1, w2, flipped_inputs, flipped_units) - np.outer(line, along)


def is_stable(matrix: np.ndarray) -> bool:
    """Whether a symmetric matrix is positive definite."""
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


def most_stable(count: int, stable: Callable[[int], bool]) -> int:
    """The largest n in 0..count for which `stable`, which flips once from true to false and is true at 0 (not asked).

    Every flip of a sign subtracts a positive semidefinite matrix from A: what is unstable stays so with more flips.
    """
    low, high = 0, count + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def most_inputs(gram: np.ndarray) -> int:
    """How many inputs may be flipped before A = D1 + `gram`, with |W2| = 1, is no longer positive definite."""
    size = len(gram)
    return most_stable(size, lambda n: is_stable(gram + np.diag(signs(size, n))))


def most_units(w1: np.ndarray, matrix: np.ndarray) -> int:
    """How many hidden units may be flipped before A, which is `matrix` without, is no longer positive definite."""
    done, current = 0, matrix.copy()

    def stable(n: int) -> bool:
        nonlocal done, current
        between = w1[min(n, done) : max(n, done)]  # a bisection moves by ever smaller blocks
        current = current - np.sign(n - done) * 2 * between.T @ between
        done = n
        return is_stable(current)

    return most_stable(len(w1), stable) if is_stable(matrix) else 0


def solution_flow(
    w1: Numbers,
    w2: Numbers,
    flipped_inputs: int | Numbers,
    flipped_units: int | Numbers,
    covariance: Numbers | None = None,
    clamp: bool = False,
    dt: object = 0.01,
) -> tuple[WeightFlow, Weights]:
    """The weight flow of curl descent on the population that the teacher (W1, W2) labels, and the teacher's weights.

    Inputs have zero mean and `covariance` (identity where there is none); tau_plast is 1 s, and a step, of fifth
    order, `dt` seconds.
    """
    hidden, inputs = w1.shape
    # A linear flow without biases knows of its samples only <x x^T> and <y x^T>, and these are the fewest with them.
    root = jnp.eye(inputs) if covariance is None else jnp.linalg.cholesky(jnp.asarray(covariance)).T
    x = inputs**0.5 * root
    y = x @ jnp.asarray(w2 @ w1)[:, None]
    rule = Curl(flips=jnp.array([flipped_inputs / inputs, flipped_units / hidden]), clamp=clamp)
    return curl_flow(rule, (inputs, hidden, 1), x, y, dt), {"W1": jnp.asarray(w1), "W2": jnp.asarray(w2)[None]}


def engine_error_matrix(flow: WeightFlow, weights: Weights) -> np.ndarray:
    """K of v' = -K v, the linearised dynamics of the error row v = W2 W1 - w_t at a solution `weights` (1/s).

    Each unit error is lifted to the smallest change of weights that makes it, sent through the derivative of the
    engine's drift, and mapped back to the error.
    """
    w1, w2 = np.asarray(weights["W1"]), np.asarray(weights["W2"])[0]
    inverse = np.linalg.inv(w1.T @ w1 + (w2 @ w2) * np.eye(w1.shape[1]))
    lifts = {"W1": w2[None, :, None] * inverse[:, None], "W2": (inverse @ w1.T)[:, None]}
    changes = _pushed(flow, weights, jax.tree.map(jnp.asarray, lifts))
    first, second = np.asarray(changes["W1"]), np.asarray(changes["W2"])
    return -(second[:, 0] @ w1 + w2 @ first).T


@eqx.filter_jit
def _pushed(flow: WeightFlow, weights: Weights, lifts: dict[str, Array]) -> dict[str, Array]:
    """The derivative of the drift along every one of `lifts`, which are stacked along the first axis."""
    return jax.vmap(lambda lift: jax.jvp(lambda w: drift_of(flow, w), (weights,), (lift,))[1])(lifts)


def linked(seed: int, alpha_h: float, alpha_r: float) -> Verdict:
    """Whether the engine's error dynamics at a solution is that of A, in a network of `CHECKED` size."""
    w1, w2 = teacher(np.random.default_rng(seed), *CHECKED)
    flips = round(alpha_h * CHECKED[0]), round(alpha_r * CHECKED[1])
    flow, weights = solution_flow(w1, w2, *flips)
    measured, expected = engine_error_matrix(flow, weights), error_matrix(w1, w2, *flips)
    size = f"({CHECKED[0]} inputs, {CHECKED[1]} units)"
    quantity = f"largest difference of A and the flow's linearised error dynamics {size}"
    off = np.abs(measured - expected)
    return all_close("A governs the simulated weight flow", quantity, 0.0, off, 1e-9, "rounding only: both are exact")
