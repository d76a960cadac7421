"""What the predictions on SKA share: networks of sigmoids, entropies, and updates by a whole batch as published.

Published updates compare the activity of every sample with its own one update ago. The engine shows a batch at once as
positions of convolutions of one, whose weights all samples share.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Convolution, Weights
from dynamics.discrete import Discrete, DiscreteState
from dynamics.flow import batch_factors
from dynamics.maps import Dense
from dynamics.network import Network
from dynamics.settle import Outside
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.kit import f64, records, weight_flow
from rules import SKA
from rules.knowledge_accumulation import repeated

SUBSTEPS = 4  # of the flow between two records


def sigmoids(sizes: tuple[int, ...], gain: float = 1.0) -> Circuit:
    """SKA on a network of sigmoids, with biases and without labels."""
    return SKA().wire(Network(sizes, "sigmoid", "sigmoid", supervised=False, gain=f64(gain)))


def problem(seed: int, samples: int, sizes: tuple[int, ...], gain: float = 1.0) -> tuple[Array, Weights]:
    """Inputs, uniform from 0 to 1, and weights at the start."""
    x = np.random.default_rng(seed).uniform(size=(samples, sizes[0]))
    return f64(x), sigmoids(sizes, gain).initial_weights(jax.random.key(seed))


def names(circuit: Circuit) -> list[str]:
    """The layers that learn, from the input on."""
    return [layer.name for layer in circuit.layers if not layer.given]


def on_batch(circuit: Circuit, samples: int) -> Circuit:
    """The circuit that a presentation shows a whole batch: layers are (neurons, samples), flattened."""

    def shared(matrix: Dense, shape: tuple[int, int]) -> Convolution:
        return Convolution(matrix.start, (shape[1], shape[0]), samples, 1, decays=matrix.decays)

    layers = [dataclasses.replace(layer, size=layer.size * samples) for layer in circuit.layers]
    wires = [
        dataclasses.replace(p, matrix=shared(p.matrix, circuit.shape(p)))  # pyright: ignore[reportArgumentType]
        for p in circuit.projections
    ]
    return Circuit(tuple(layers), tuple(wires))


class Run(NamedTuple):
    """Activities of every layer that learns at each record, (records, neurons, samples), and the weights at the end."""

    activities: dict[str, np.ndarray]
    weights: Weights


def settled(circuit: Circuit, weights: Weights, x: Float[Array, "n i"]) -> dict[str, Float[Array, "_neurons n"]]:
    """The activities of the layers that learn."""
    locals_ = batch_factors(circuit, weights, {}, x, jnp.zeros((len(x), 1)))[0]
    return {name: locals_[name].activity.T for name in names(circuit)}


@eqx.filter_jit
def published(circuit: Circuit, x: Float[Array, "n i"], weights: Weights, eta: Array, count: int) -> Run:
    """Updates as published, with a record before and after each; the first sees no difference."""
    n, plain = len(x), names(circuit)
    batch = on_batch(repeated(circuit, eta), n)
    stream = Stream(x.T.reshape(1, -1), None, jax.random.key(0))
    run = Discrete(batch, Timescales(f64(1.0), f64(n)), stream, Clock(eta, jnp.zeros(()), 1))  # a sum over samples
    before = {name: {"before": z.ravel()} for name, z in settled(circuit, weights, x).items()}
    start = run.init({name: w[..., None] for name, w in weights.items()})._replace(slow=before)

    def update(state: DiscreteState, _: None) -> tuple:
        state = run.update(state, Outside(stream.inputs[0], jnp.zeros(1)))
        return state, {name: state.slow[name]["before"].reshape(-1, n) for name in plain}

    end, seen = jax.lax.scan(update, start, None, count)
    last = update(end, None)[1]  # what an update sees are the activities before it
    seen = {name: jnp.concatenate([z, last[name][None]]) for name, z in seen.items()}
    plain = {name: w[..., 0] for name, w in run.weights(end).items()}
    return Run(seen, plain)  # pyright: ignore[reportArgumentType] - traced here, NumPy outside


@eqx.filter_jit
def flowing(circuit: Circuit, x: Float[Array, "n i"], weights: Weights, step: Array, count: int) -> Run:
    """The weight flow, with a record after each `step`."""
    flow = weight_flow(circuit, x, None, step, integrator="heun", parts=SUBSTEPS)

    look = lambda state: (settled(circuit, flow.weights(state), x), flow.weights(state))  # noqa: E731
    seen, courses = records(flow, flow.init(weights), count, 1, look, start=True)
    return Run(seen, {name: w[-1] for name, w in courses.items()})  # pyright: ignore[reportArgumentType]


def knowledge(z: np.ndarray) -> np.ndarray:
    """a of an activity z = sigmoid(a)."""
    return np.log(z) - np.log1p(-z)


def shannon(z: np.ndarray) -> np.ndarray:
    """The entropy of activities in bits, summed over the last two axes."""
    return np.asarray(-(z * np.log2(z) + (1 - z) * np.log2(1 - z)).sum((-2, -1)))


def accumulated(z: np.ndarray) -> np.ndarray:
    """H(k) = -(1/ln 2) sum a(k) dz(k) of each update, (records - 1,)."""
    return -(knowledge(z[1:]) * np.diff(z, axis=0)).sum((-2, -1)) / np.log(2)


def compared(circuit: Circuit, x: Array, weights: Weights, etas: np.ndarray, time: float) -> tuple[list[Run], Run]:
    """The published updates for each eta, and the flow, recorded as often as the finest of them."""
    counts = [round(time / eta) for eta in etas]
    runs = [published(circuit, x, weights, f64(time / count), count) for count in counts]
    return [_numpy(run) for run in runs], _numpy(flowing(circuit, x, weights, f64(time / counts[-1]), counts[-1]))


def _numpy(run: Run) -> Run:
    return run._replace(activities={name: np.asarray(z) for name, z in run.activities.items()})
