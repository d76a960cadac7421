"""What the layers of deep networks learn from a dense random stream in which every neuron is a lag."""

import math
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.instruments import cosine, drive, forward_matrices, gradient
from dynamics.integrators import FixedStep
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.continuous.closed_forms import drives_of, f64

SMALL = 1e-3  # scale of inputs at which tanh is linear up to 3e-7
STEPS_PER_LAG = 10
Lag = Annotated[float, Field(strict=True, ge=0.02, le=0.5)]  # tau_prop / T
Width = Annotated[int, Field(strict=True, ge=2, le=100)]
Repeats = Annotated[int, Field(strict=True, ge=2, le=1000)]  # an interval needs two


class Case(NamedTuple):
    """One run: samples and targets (2 n, n), the matrices, the order of presentations, and tau_plast in seconds."""

    inputs: np.ndarray
    targets: np.ndarray
    weights: dict[str, np.ndarray]
    seed: int
    plasticity: float


class Stacked(NamedTuple):
    """The arrays of several cases on the device."""

    inputs: jax.Array
    targets: jax.Array
    weights: Weights
    plasticity: jax.Array
    seed: jax.Array


class Learned(NamedTuple):
    """By plastic forward matrix, for every case: the strength of learning, and its alignment with the gradient.

    strength   <change, drive> / |drive|^2, drive being <m p^T> without lags: 1 where nothing is lost by lags
    cosine     of the change with -dLoss/dW
    """

    strength: dict[str, np.ndarray]
    cosine: dict[str, np.ndarray]


def orthogonal(generator: np.random.Generator, size: int) -> np.ndarray:
    """A random orthogonal matrix, uniformly distributed."""
    matrix, triangle = np.linalg.qr(generator.standard_normal((size, size)))
    return matrix * np.sign(np.diag(triangle))


def isotropic_case(
    circuit: Circuit, size: int, seed: int, scale: float, target: float, plasticity: float, dead: tuple[str, ...] = ()
) -> Case:
    """Orthogonal matrices (those of `dead` projections zero) and 2 n samples +- x with <x x^T> = `scale`^2 I.

    Targets are `target` times an orthogonal map of the inputs. Direct feedback from the output, where there is any,
    is the transposed product of the forward matrices above: without lags a linear network then follows the gradient.
    """
    generator = np.random.default_rng([seed, size])
    points = math.sqrt(size) * orthogonal(generator, size)
    inputs = scale * np.concatenate([points, -points])
    targets = target * inputs @ orthogonal(generator, size)
    forward = sorted(p.name for p in circuit.projections if p.port == "forward")
    weights = {name: orthogonal(generator, size) * (name not in dead) for name in forward}
    product = np.eye(size)
    for level in range(len([name for name in forward if name.startswith("W")]), 1, -1):
        product = weights[f"W{level}"].T @ product
        weights[f"B{level - 1}"] = product
    used = {p.name for p in circuit.projections if p.init is not None}
    return Case(inputs, targets, {name: w for name, w in weights.items() if name in used}, seed, plasticity)


def weak(presentations: int, duration: float, scale: float, target: float) -> float:
    """tau_plast in seconds for which the weights change by about one part in a million: frozen, but for float64."""
    return 1e6 * presentations * duration * scale**2 * max(1.0, target)


def learned(circuit: Circuit, cases: Sequence[Case], duration: float, lag: float, presentations: int) -> Learned:
    """What coupled runs of the cases learn in a dense stream; `lag` is tau_prop / T.

    Counted from when the stream has reached every synapse, so that its rate of change is stationary from the start.
    """
    stages = 2 * len(forward_matrices(circuit)) + 2
    steps, before = math.ceil(STEPS_PER_LAG / lag), math.ceil((stages + 4 * math.sqrt(stages)) * lag)
    clock = Clock(f64(duration), f64(0.0), steps)
    stacked = Stacked(
        f64(np.stack([case.inputs for case in cases])),
        f64(np.stack([case.targets for case in cases])),
        {name: f64(np.stack([case.weights[name] for case in cases])) for name in cases[0].weights},
        f64([case.plasticity for case in cases]),
        jnp.asarray([case.seed for case in cases]),
    )
    strength, aligned = _learned(circuit, clock, f64(lag * duration), stacked, before, presentations)
    return Learned(*(jax.tree.map(np.asarray, part) for part in (strength, aligned)))


@eqx.filter_jit
def _learned(
    circuit: Circuit, clock: Clock, propagation: jax.Array, cases: Stacked, before: int, shown: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    def one(case: Stacked) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        stream = Stream(case.inputs, case.targets, jax.random.key(case.seed))
        times = Timescales(propagation, case.plasticity)
        run = Coupled(circuit, times, stream, clock, integrator=FixedStep("heun"))

        def go(progress: CoupledProgress, part: tuple[jax.Array, jax.Array]) -> tuple[CoupledProgress, Weights]:
            return run.advance(progress, *part), run.weights(progress)

        parts = jnp.asarray([0, before], jnp.int32), jnp.asarray([before, shown], jnp.int32)
        progress, at_start = jax.lax.scan(go, run.init(case.weights), parts)  # a scan: the field is compiled once
        start, end = {name: w[1] for name, w in at_start.items()}, run.weights(progress)
        order = jax.vmap(stream.index)(before + jnp.arange(shown, dtype=jnp.int32))
        slope = gradient(circuit, start, case.inputs[order], case.targets[order])
        settled = drive(circuit, start, {}, case.inputs[order], case.targets[order])
        strength, aligned = {}, {}
        for name in forward_matrices(circuit):
            step = (end[name] - start[name]) * (case.plasticity / (clock.duration * shown))
            strength[name] = jnp.sum(step * settled[name]) / jnp.sum(settled[name] ** 2)
            aligned[name] = cosine(step, -slope[name])
        return strength, aligned

    return jax.vmap(one)(cases)


def expected_strengths(circuit: Circuit, case: Case, lag: float) -> dict[str, float]:
    """The strength of every plastic matrix by closed form, for small signals and frozen weights."""
    drives = drives_of(circuit, case.weights, case.inputs, case.targets, lag)
    return {name: drive.strength for name, drive in drives.items()}
