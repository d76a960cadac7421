"""Students of a teacher of their own architecture that start anywhere: how their test error falls, rule by rule."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Input, Variable
from dynamics.flow import FlowState
from dynamics.instruments import loss
from experiments.predictions.curl.learning import VARIANCE, clamped_steps, norms_of
from experiments.predictions.kit import f64, weight_flow, wired
from rules.curl import Curl

PHI: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda a: a,
    "relu": lambda a: np.maximum(a, 0),
    "tanh": np.tanh,
}


class Setting(NamedTuple):
    """Samples to learn from, and the scales of the uniform weights, each times 1/sqrt(sources).

    Where `near` is not 0 the student starts at its teacher instead, with a readout that far beside it.
    """

    samples: int
    student: float
    teacher: float
    near: float = 0.0


class Protocol(NamedTuple):
    """What all students of a prediction share: sizes, units, whether matrices keep their norms, and how they are run.

    Steps are in seconds, tau_plast = 1 s; the test error is that of `tested` samples, looked at every `every` steps.
    """

    inputs: int
    hidden: int
    activation: str
    clamp: bool
    step: float
    time: float
    every: int
    tested: int


def error_courses(protocol: Protocol, settings: list[Setting], flips: np.ndarray, seed: int, seeds: int) -> np.ndarray:
    """The test error |y - z|^2 / 2 at every record: (settings, seeds, pairs, records).

    `flips` (pairs, 2) are the fractions of inputs and of hidden units that learn with the opposite sign.
    """
    most = max(setting.samples for setting in settings)
    drawn = [
        _problem(np.random.default_rng([seed, i]), protocol, setting, most)
        for setting in settings
        for i in range(seeds)
    ]
    arrays = [f64(np.stack(column)) for column in zip(*drawn, strict=True)]
    records = max(1, round(protocol.time / protocol.step / protocol.every))
    # A mean over samples of which some are zero is as much smaller, and so is each of the steps.
    steps = f64([protocol.step * most / setting.samples for setting in settings for _ in range(seeds)])
    errors = np.asarray(_test_errors(protocol, records, *arrays, steps, f64(flips)))
    return errors.reshape(len(settings), seeds, *errors.shape[1:])


def arrivals(errors: np.ndarray, threshold: float, protocol: Protocol) -> np.ndarray:
    """When the test error is first below the threshold, at the latest at the end (s): over the last axis."""
    below = errors < threshold
    first = np.where(below.any(-1), below.argmax(-1), errors.shape[-1] - 1)
    return (first + 1.0) * protocol.every * protocol.step


def _problem(rng: np.random.Generator, protocol: Protocol, setting: Setting, most: int) -> tuple[np.ndarray, ...]:
    """Inputs and targets to train on, zeros behind them up to `most`, and to test with; W1 and W2 of the student."""
    shapes = (protocol.hidden, protocol.inputs), (1, protocol.hidden)
    (t1, t2), student = (
        [scale * rng.uniform(-1, 1, shape) / shape[1] ** 0.5 for shape in shapes]
        for scale in (setting.teacher, setting.student)
    )
    phi = PHI[protocol.activation]
    x, tested = (rng.normal(0, VARIANCE**0.5, (n, protocol.inputs)) for n in (most, protocol.tested))
    x[setting.samples :] = 0
    y, wanted = (phi(phi(inputs @ t1.T) @ t2.T) for inputs in (x, tested))
    return (x, y, tested, wanted, t1, t2 + setting.near) if setting.near else (x, y, tested, wanted, *student)


def _circuit(protocol: Protocol, flips: Float[Array, "2"]) -> Circuit:
    """A student whose output learns by target - prediction as published, without the slope of its unit."""
    rule = Curl(flips=flips, clamp=protocol.clamp)
    units = {"activation": protocol.activation, "output_activation": protocol.activation}
    circuit = wired(rule, (protocol.inputs, protocol.hidden, 1), **units)
    plain = (Variable("error", Input("modulatory")),)
    layers = (
        dataclasses.replace(layer, variables=plain) if layer.role == "output" else layer for layer in circuit.layers
    )
    return Circuit(tuple(layers), circuit.projections)


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None) + (0,) * 7 + (None,))
@functools.partial(jax.vmap, in_axes=(None, None) + (None,) * 7 + (0,))
def _test_errors(
    protocol: Protocol,
    records: int,
    x: Float[Array, "samples inputs"],
    y: Float[Array, "samples 1"],
    tested: Float[Array, "test inputs"],
    wanted: Float[Array, "test 1"],
    w1: Float[Array, "hidden inputs"],
    w2: Float[Array, "1 hidden"],
    step: Float[Array, ""],
    flips: Float[Array, "2"],
) -> Float[Array, " records"]:
    flow = weight_flow(_circuit(protocol, flips), x, y, step)
    weights = {"W1": w1, "W2": w2}
    norms = norms_of(weights)

    def block(state: FlowState, _: None) -> tuple[FlowState, Float[Array, ""]]:
        if protocol.clamp:
            state = clamped_steps(flow, state, norms, protocol.every)
        else:
            state = flow.advance(state, jnp.int32(0), protocol.every)
        return state, loss(flow.circuit, flow.weights(state), tested, wanted)

    return jax.lax.scan(block, flow.init(weights), None, length=records)[1]
