"""What the predictions of learning by curl descent share: teachers, flows, clamped training near a solution.

A linear student starts at its teacher, a hair beside it, and learns by the published protocol (bibtex ninou2025curl):
full-batch steps, after each of which both matrices are rescaled to the Frobenius norms that they had.
"""

import functools
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.flow import FlowState, WeightFlow
from experiments.predictions.kit import f64, intervals, weight_flow, wired
from rules.contract import AbstractRule
from rules.curl import Curl

VARIANCE = 0.5  # of every input, as published
RATE = 0.1  # the published learning rate: a full-batch step over tau_plast
RECORDS = 100  # of the loss, and as many of the weights in the last tenth of a run

Units = Annotated[int, Field(strict=True, ge=10, le=400)]
# Inputs per hidden unit. The steps diverge where RATE * VARIANCE * lambda_max > 2, which is below c = 0.05.
Ratios = Annotated[tuple[Annotated[float, Field(strict=True, ge=0.1, le=10)], ...], Field(min_length=1)]

Norms = dict[str, Float[Array, ""]]


class Teachers(NamedTuple):
    """W1 (teachers, hidden, inputs) and W2 (teachers, 1, hidden), with |W1|^2 = hidden and |W2| = 1."""

    hidden: np.ndarray
    readout: np.ndarray


class Course(NamedTuple):
    """What came of each run: the order parameter q, the highest loss on the way, and the last one."""

    wander: np.ndarray
    peak: np.ndarray
    final: np.ndarray


def divided(units: int, c: float) -> tuple[int, int]:
    """How `units` neurons divide into inputs M and hidden units N with c = M / N; each has at least one."""
    inputs = min(max(round(units * c / (1 + c)), 1), units - 1)
    return inputs, units - inputs


def teachers(seed: int, count: int, inputs: int, hidden: int) -> Teachers:
    """Uniform random weights, scaled; the i-th teacher is the same however many there are."""
    drawn = []
    for i in range(count):
        rng = np.random.default_rng([seed, i, inputs, hidden])
        w1, w2 = rng.uniform(-1, 1, (hidden, inputs)), rng.uniform(-1, 1, (1, hidden))
        drawn.append((w1 * hidden**0.5 / np.linalg.norm(w1), w2 / np.linalg.norm(w2)))
    return Teachers(np.stack([w1 for w1, _ in drawn]), np.stack([w2 for _, w2 in drawn]))


def isotropic(inputs: int) -> np.ndarray:
    """Samples with <x x^T> = VARIANCE times the identity, as many as inputs: all that a linear flow knows of x."""
    return np.eye(inputs) * (VARIANCE * inputs) ** 0.5


def curl_flow(
    rule: AbstractRule, sizes: tuple[int, ...], x: Array, y: Array, step: object, integrator: str = "tsit5", **more: str
) -> WeightFlow:
    """The weight flow on samples of a linear network, unless `more` has other activations; steps in seconds."""
    return weight_flow(wired(rule, sizes, **({"activation": "linear"} | more)), x, y, step, integrator=integrator)


def clamped_steps(flow: WeightFlow, state: FlowState, norms: Norms, count: Int[Array, ""] | int) -> FlowState:
    """`count` steps of a flow of clamped matrices, each rescaled to its norm in `norms` after every step.

    The flow keeps the norms up to the square of the step; the published updates keep them altogether.
    """

    def step(_: Int[Array, ""], state: FlowState) -> FlowState:
        state = flow.advance(state, jnp.int32(0), 1)
        weights = {name: w * (norms[name] / jnp.linalg.norm(w)) for name, w in state.weights.items()}
        return state._replace(weights=weights)

    return jax.lax.fori_loop(0, count, step, state)


def norms_of(weights: Weights) -> Norms:
    """The Frobenius norm of every matrix."""
    return {name: jnp.linalg.norm(w) for name, w in weights.items()}


def train(given: Teachers, flips: np.ndarray, perturbation: float, time: float) -> Course:
    """Trains a clamped student of every teacher for `time` seconds, tau_plast = 1 s, in steps of `RATE` seconds.

    `flips` (teachers, 2): the fractions of inputs and of hidden units with the opposite sign. W2 starts `perturbation`
    beside the teacher's. q = mean over weights of Var_t w, over Var of their means: over the last tenth of the time.
    """
    late = max(1, round(0.1 * time / RATE / RECORDS))
    early = max(1, round(0.9 * time / RATE / RECORDS))
    arrays = f64(given.hidden), f64(given.readout), f64(flips)
    result = _train(*arrays, f64(perturbation), jnp.int32(early), jnp.int32(late))
    return Course(*map(np.asarray, result))


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, 0, None, None, None))
def _train(
    w1: Float[Array, "hidden inputs"],
    w2: Float[Array, "1 hidden"],
    flips: Float[Array, "2"],
    perturbation: Float[Array, ""],
    early: Int[Array, ""],
    late: Int[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    x = f64(isotropic(w1.shape[1]))
    sizes = (w1.shape[1], w1.shape[0], 1)
    flow = curl_flow(Curl(flips=flips, clamp=True), sizes, x, x @ (w2 @ w1).T, RATE, "euler")
    norms = norms_of({"W1": w1, "W2": w2})

    def block(state: FlowState, count: Int[Array, ""]) -> tuple[FlowState, Array]:
        state = clamped_steps(flow, state, norms, count)
        error = state.weights["W2"] @ state.weights["W1"] - w2 @ w1
        return state, VARIANCE / 2 * jnp.sum(error**2)

    def watched(state: FlowState, _: None) -> tuple[FlowState, tuple[Array, Array]]:
        state, loss = block(state, late)
        return state, (loss, jnp.concatenate([w.ravel() for w in state.weights.values()]))

    start = flow.init({"W1": w1, "W2": w2 + perturbation})
    state, before = jax.lax.scan(lambda s, _: block(s, early), start, None, length=RECORDS)
    _, (after, track) = jax.lax.scan(watched, state, None, length=RECORDS)
    wander = track.var(0).mean() / track.mean(0).var()
    return wander, jnp.maximum(before.max(), after.max()), after[-1]


def log_bars(samples: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """For logarithmic axes: the geometric mean of each of `samples`, and (2, n) how far its interval reaches."""
    values, halves = intervals(np.log10(samples))
    centre = 10**values
    return centre, np.array([centre - 10 ** (values - halves), 10 ** (values + halves) - centre])
