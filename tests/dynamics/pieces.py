"""What the tests of the contract's pieces share: short wirings, and a circuit run in every regime and integrator."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynamics.circuit import Circuit, Given, Layer, Projection, Shared, Weights
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from dynamics.settle import Outside, settle
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from tests.problems import f64
from tests.unjudged import PlainSteps, PlainWindow


def normal(*shape: int) -> Array:
    """Normal numbers, others for another shape."""
    return f64(np.random.default_rng([7, *shape]).normal(size=shape))


def to(
    name: str, source: str, target: str, matrix: Any, law: Any = (), port: str = "forward", **more: Any
) -> Projection:
    """A projection of the activity, or of what `carries` says; an array is a given matrix."""
    matrix = Given(f64(matrix)) if isinstance(matrix, jax.Array | np.ndarray) else matrix
    return Projection(name, source, more.pop("carries", "activity"), target, port, matrix, law, **more)


def given_input(name: str, size: int) -> Layer:
    """A layer that is given the stimulus."""
    return Layer(name, size, role="input", level=0)


def back(name: str) -> Shared:
    """The transpose of another projection's map."""
    return Shared(name, transposed=True)


@eqx.filter_jit
def advanced(regime: Any, weights: Weights, count: Array) -> Any:
    """How far a regime comes from its start."""
    return regime.advance(regime.init(weights), jnp.int32(0), count)


def coupled(
    circuit: Circuit, times: Timescales, inputs: Array, targets: Array | None, clock: Clock, by: Any, **more: Any
) -> Coupled:
    """A coupled run of samples in random order."""
    return Coupled(circuit, times, Stream(inputs, targets, jax.random.key(3)), clock, integrator=by, **more)


def both(
    circuit: Circuit,
    times: Timescales,
    inputs: Array,
    targets: Array | None,
    weights: Weights,
    steps: int = 400,
    shown: int = 2,
    duration: float = 0.1,
    gap: float = 0.0,
    delays: Delays | None = None,
    nodes: int = 14,
) -> tuple[Any, Any]:
    """The ends of a run by windows and by Runge-Kutta steps of the fourth order or better."""
    lags = {} if delays is None else {"delays": delays}
    window = PlainWindow(nodes=nodes, parts=1, gaps=gap > 0, tolerance=1e-9)
    ends = []
    for by, count in ((window, nodes), (PlainSteps("dopri5"), steps)):
        regime = coupled(circuit, times, inputs, targets, Clock(f64(duration), f64(gap), count), by, **lags)
        ends.append(advanced(regime, weights, jnp.int32(shown)))
    return ends[0], ends[1]


def apart(one: Weights, other: Weights, start: Weights) -> float:
    """How far apart two ends are, relative to the distance from the start."""
    moved = sum(float(jnp.sum((other[n] - start[n]) ** 2)) for n in other)
    return float(np.sqrt(sum(float(jnp.sum((one[n] - other[n]) ** 2)) for n in other) / moved))


@eqx.filter_jit
def drift(circuit: Circuit, weights: Weights, inputs: Array, targets: Array | None, times: Timescales) -> Weights:
    """W' of the weight flow."""
    regime = WeightFlow(circuit, times, inputs, targets, Clock(f64(0.1), f64(0.0), 1))
    state = regime.init(weights)
    return regime.system(state.fixed).drift((state.weights, state.slow, state.traces), None, None)[0]


def discrete(circuit: Circuit, times: Timescales, inputs: Array, targets: Array | None, duration: float) -> Discrete:
    """Discrete updates of samples in random order."""
    return Discrete(circuit, times, Stream(inputs, targets, jax.random.key(3)), Clock(f64(duration), f64(0.0), 1))


def relative(one: Weights, other: Weights) -> float:
    """|one - other| / |other| over all matrices."""
    size = np.sqrt(sum(float(jnp.sum(other[n] ** 2)) for n in other))
    return float(np.sqrt(sum(float(jnp.sum((one[n] - other[n]) ** 2)) for n in other)) / size)


def cosine(one: Weights, other: Weights) -> float:
    """The cosine between two sets of matrices."""
    dot = sum(float(jnp.sum(one[n] * other[n])) for n in other)
    return dot / np.sqrt(np.prod([sum(float(jnp.sum(w[n] ** 2)) for n in other) for w in (one, other)]))


@eqx.filter_jit
def settled(circuit: Circuit, weights: Weights, x: Array, y: Array | None, names: list[str]) -> list[Array]:
    """The activities of some layers for one sample."""
    moment = settle(circuit, weights, {}, Outside(x, y))
    return [moment.value(circuit.layer(name), "activity") for name in names]
