"""What the predictions on perturbation learning share: updates of the engine on samples that are drawn as they come."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dynamics.circuit import Circuit, Weights
from dynamics.discrete import Discrete
from dynamics.settle import Outside
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.kit import f64
from rules import NodePerturbation, WeightPerturbation

Update = Callable[[Weights, Array, Array, PRNGKeyArray], Weights]


def node(size: object = 0.1, symmetric: bool = True) -> NodePerturbation:
    """Node perturbation with numbers in float64."""
    return NodePerturbation(f64(size), symmetric)


def weight(size: object = 0.1, symmetric: bool = True) -> WeightPerturbation:
    """Weight perturbation with numbers in float64."""
    return WeightPerturbation(f64(size), symmetric)


def updating(circuit: Circuit, eta: object) -> Update:
    """The discrete update of weights, given an input, a target and the key of what is drawn."""
    update = updating_given(circuit, eta)
    return lambda weights, x, y, key: update(weights, x, y, circuit.draws(key, jnp.int32(0)))


def updating_given(circuit: Circuit, eta: object) -> Callable[[Weights, Array, Array, Mapping[str, Array]], Weights]:
    """As `updating`, given what is drawn."""
    times, clock = Timescales(f64(1.0), 1 / f64(eta)), Clock(f64(1.0), f64(0.0), 1)

    def update(weights: Weights, x: Array, y: Array, drawn: Mapping[str, Array]) -> Weights:
        run = Discrete(circuit, times, Stream(x[None], y[None], jax.random.key(0)), clock)
        return run.weights(run.update(run.init(weights), Outside(x, y, drawn)))

    return update


def with_late_reward(circuit: Circuit, late: Array) -> Circuit:
    """The circuit with a reward that arrives so many seconds late."""
    late_ones = (dataclasses.replace(p, lag=late) if p.port == "reward" else p for p in circuit.projections)
    return Circuit(circuit.layers, tuple(late_ones), circuit.readout)
