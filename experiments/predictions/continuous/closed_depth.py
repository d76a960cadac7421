"""What the layers of deep networks learn from a dense random stream in which every neuron is a lag."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.coupled_run import CoupledProgress
from dynamics.instruments import cosine, drive, forward_matrices, gradient
from dynamics.stimulus import Stream
from experiments.predictions.continuous.closed_forms import drives_of
from experiments.predictions.contract import AbstractPrediction, Duration, Positive, Seeds
from experiments.predictions.kit import coupled, f64, wired
from experiments.spec.units import Time
from rules.contract import AbstractRule

SMALL = 1e-3  # scale of inputs at which tanh is linear up to 3e-7
PARTS = {"prediction": 0.0, "target": 100.0}  # |target| / |prediction|: which part of the error is looked at
STEPS_PER_LAG = 10


class Case(NamedTuple):
    """One run: samples and targets (2 n, n), the matrices, the order of presentations, and tau_plast in seconds."""

    inputs: np.ndarray
    targets: np.ndarray
    weights: dict[str, np.ndarray]
    seed: int
    plasticity: float


class Learned(NamedTuple):
    """By plastic forward matrix, for every case: the strength of learning, and its alignment with the gradient.

    strength   <change, drive> / |drive|^2, drive being <m p^T> without lags: 1 where nothing is lost by lags
    cosine     of the change with -dLoss/dW
    """

    strength: dict[str, np.ndarray]
    cosine: dict[str, np.ndarray]


class AbstractDeepPrediction(AbstractPrediction):
    """A prediction about deep networks of one width, in a dense stream of random samples."""

    duration: Duration = Time(0.05)
    propagation: Annotated[float, Field(strict=True, ge=0.02, le=0.5)] = 0.1  # tau_prop / T
    width: Annotated[int, Field(strict=True, ge=2, le=100)] = 8
    presentations: Annotated[int, Field(strict=True, ge=10, le=10_000)] = 100
    scale: Positive = 0.5  # of the inputs where signals are of order one
    seeds: Seeds

    def circuit(self, rule: AbstractRule, depth: int, **more: Any) -> Circuit:
        """Tanh neurons in so many layers after the input."""
        return wired(rule, (self.width,) * (depth + 1), **more)

    def frozen(self, circuit: Circuit, target: float, dead: tuple[str, ...] = ()) -> list[Case]:
        """By seed: small signals, and weights that change by about a part in a million: frozen, but for float64."""
        plasticity = 1e6 * self.presentations * self.duration.seconds(1.0) * SMALL**2 * max(1.0, target)
        return [isotropic_case(circuit, self.width, seed, SMALL, target, plasticity, dead) for seed in self._all]

    def lively(self, circuit: Circuit, plasticity: float, dead: tuple[str, ...] = ()) -> list[Case]:
        """By seed: signals of order one; `plasticity` is tau_plast / T."""
        tau = plasticity * self.duration.seconds(1.0)
        return [isotropic_case(circuit, self.width, seed, self.scale, 1.0, tau, dead) for seed in self._all]

    @property
    def _all(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def learned(self, circuit: Circuit, cases: Sequence[Case]) -> Learned:
        """What coupled runs of the cases learn.

        Counted from when the stream has reached every synapse, so that its rate of change is stationary from the start.
        """
        stages, duration = 2 * len(forward_matrices(circuit)) + 2, self.duration.seconds(1.0)
        steps = math.ceil(STEPS_PER_LAG / self.propagation)
        before = math.ceil((stages + 4 * math.sqrt(stages)) * self.propagation)
        stacked = jax.tree.map(lambda *each: jnp.asarray(np.stack(each)), *cases)
        times = f64(duration), f64(self.propagation * duration)
        strength, aligned = _learned(circuit, *times, steps, stacked, before, self.presentations)
        return Learned(*(jax.tree.map(np.asarray, part) for part in (strength, aligned)))


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
    used = {p.name for p in circuit.projections if p.owner == p.name}
    return Case(inputs, targets, {name: w for name, w in weights.items() if name in used}, seed, plasticity)


@eqx.filter_jit
def _learned(
    circuit: Circuit, duration: jax.Array, propagation: jax.Array, steps: int, cases: Case, before: int, shown: int
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    def one(case: Case) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        x, y, weights, seed, plasticity = jax.tree.map(jnp.asarray, case)
        stream = Stream(x, y, jax.random.key(seed))
        run = coupled(circuit, stream, propagation, plasticity, duration, steps)

        def go(progress: CoupledProgress, part: tuple[jax.Array, jax.Array]) -> tuple[CoupledProgress, Weights]:
            return run.advance(progress, *part), run.weights(progress)

        parts = jnp.asarray([0, before], jnp.int32), jnp.asarray([before, shown], jnp.int32)
        progress, at_start = jax.lax.scan(go, run.init(weights), parts)  # a scan: the field is compiled once
        start, end = {name: w[1] for name, w in at_start.items()}, run.weights(progress)
        order = jax.vmap(stream.index)(before + jnp.arange(shown, dtype=jnp.int32))
        slope, settled = gradient(circuit, start, x[order], y[order]), drive(circuit, start, {}, x[order], y[order])
        strength, aligned = {}, {}
        for name in forward_matrices(circuit):
            step = (end[name] - start[name]) * (plasticity / (duration * shown))
            strength[name] = jnp.sum(step * settled[name]) / jnp.sum(settled[name] ** 2)
            aligned[name] = cosine(step, -slope[name])
        return strength, aligned

    return jax.vmap(one)(cases)


def expected_strengths(circuit: Circuit, case: Case, lag: float) -> dict[str, float]:
    """The strength of every plastic matrix by closed form, for small signals and frozen weights."""
    drives = drives_of(circuit, case.weights, case.inputs, case.targets, lag)
    return {name: drive.strength for name, drive in drives.items()}
