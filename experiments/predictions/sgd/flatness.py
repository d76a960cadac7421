"""B3.2: SGD leaves minima that are too sharp for it, and gradient descent stays."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from dynamics.circuit import Circuit, Weights
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from dynamics.instruments import loss, predict
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import drawn, keys_from, look, wired
from experiments.predictions.sgd.setting import sample_flow, updates, whole_batch
from experiments.predictions.sgd.stability import leading, moment_map
from experiments.results.verdicts import exceeds, matches, stays_below
from rules import SGD

RECORDS = 40


class Path(NamedTuple):
    """A run of every seed: eta Tr H / 2 and the loss at the records, and the gradients of the outputs at the end."""

    trace: Float[Array, "seeds records"]
    loss: Float[Array, "seeds records"]
    features: Float[Array, "seeds samples weights"]


class Flatness(AbstractPrediction):
    """Tr H of a two-layer network along updates by single samples and by all, from the same sharp minimum."""

    number = "B3.2"
    title = "SGD ends where eta Tr H is below 2"
    source = "wu2023implicit, flatness from dynamical stability; setting derived"
    equation = (
        "at the end of SGD eta Tr H / 2 <= 1; of gradient descent only eta lam_max / 2 <= 1. H = <grad f grad f^T>"
    )
    claim = """From beside a minimum that interpolates all samples, and at which eta Tr H / 2 is above 1 and eta lam_max
        / 2 below, gradient descent returns to it; updates by single samples leave it and come to rest at another one
        that is flat enough, where the map of second moments has a spectral radius of at most 1."""
    method = """Tanh networks with one output and more weights than samples: the weight flow to a minimum, a small
        random step beside it, then both kinds of updates with the same eta. H from automatic differentiation of
        predictions."""
    tolerance = """99.9 % intervals over seeds; gradient descent keeps the trace within 2 %; a loss below 1e-6 is rest,
        and runs without rest count for nothing."""
    quick = {"seeds": 8, "updates": 2000}

    inputs: Size = 6
    hidden: Size = 12
    samples: Size = 8
    sharpness: Positive = 1.3  # eta Tr H / 2 at the first minimum
    step: Positive = 0.01  # beside it
    updates: Size = 4000
    seeds: Seeds = 16

    def misfit(self) -> str | None:
        if self.sharpness <= 1:
            return "sgd-flatness.sharpness must be above 1: SGD stays at flatter minima"
        if self.hidden * (self.inputs + 1) < 2 * self.samples:
            return "sgd-flatness needs twice as many weights as samples, hidden (inputs + 1), to interpolate"
        return None

    def measure(self) -> Finding:
        at, eta, descent, single = jax.tree.map(np.asarray, self._simulated())
        largest = np.array([np.linalg.eigvalsh(a @ a.T / self.samples)[-1] for a in at]) * eta / 2
        rests = np.isfinite(single.features).all((1, 2)) & (single.loss[:, -1] < 1e-6)
        before, after = self._radii(at, eta), self._radii(single.features[rests], eta[rests])
        verdicts = [
            exceeds("too sharp for SGD", "log of the spectral radius of the second moments", 0.0, np.log(before)),
            stays_below("and not for gradient descent", "eta lam_max / 2", 1.0, largest),
            matches(
                "gradient descent returns", "eta Tr H / 2", self.sharpness, descent.trace[:, -1], 0.02 * self.sharpness
            ),
            exceeds(
                "SGD leaves",
                "eta Tr H / 2 at the start over that at rest",
                1.0,
                self.sharpness / single.trace[rests, -1],
            ),
            stays_below("SGD rests at a flat minimum", "eta Tr H / 2", 1.0, single.trace[rests, -1]),
            stays_below("which it bears", "spectral radius of the second moments", 1.0 + 1e-9, after),
        ]
        told = f"{rests.sum()} of {len(rests)} runs of SGD came to rest, by a loss below 1e-6"
        notes = [f"{told}; the others ran away from the first minimum for good, and the claim is about rest alone."]
        return Finding(verdicts, self._drawn(descent, single), [] if rests.all() else notes)

    def _radii(self, features: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """The spectral radius of the map of second moments, in the space that the gradients of the outputs span."""
        reduced = [np.linalg.qr(a.T)[1].T for a in features]
        return np.array([leading(moment_map(a, float(e)))[0] for a, e in zip(reduced, eta, strict=True)])

    def _simulated(self) -> tuple[Array, Array, Path, Path]:
        """Gradients at the first minimum, eta, and both runs."""
        circuit = wired(SGD(), (self.inputs, self.hidden, 1))
        each = max(1, self.updates // RECORDS)

        def one(key: Array) -> tuple:
            for_x, for_y, for_w, for_order, for_step = jax.random.split(key, 5)
            x = jax.random.normal(for_x, (self.samples, self.inputs), jnp.float64)
            x = x * (self.inputs**0.5 / jnp.linalg.norm(x, axis=1, keepdims=True))
            y = jax.random.normal(for_y, (self.samples, 1), jnp.float64)
            flow = sample_flow(circuit, x, y, 20.0, 100)
            minimum = flow.weights(flow.advance(flow.init(circuit.initial_weights(for_w)), jnp.int32(0), 20))
            features = gradients(circuit, minimum, x)
            eta = 2 * self.sharpness / (jnp.sum(features**2) / self.samples)
            flat, restore = ravel_pytree(minimum)
            start = restore(flat + self.step * jax.random.normal(for_step, flat.shape, flat.dtype))
            runs = whole_batch(circuit, x, y, eta), updates(circuit, Stream(x, y, for_order), eta)
            return features, eta, *(_path(run, start, x, y, eta, each) for run in runs)

        return eqx.filter_jit(jax.vmap(one))(keys_from(self.seed, self.seeds))

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, descent: Path, single: Path) -> None:
        left, right = figure.subplots(1, 2)
        k = np.linspace(0, self.updates, descent.trace.shape[1])
        for i, (path, label) in enumerate(((descent, "all samples"), (single, "single samples"))):
            for panel, values in ((left, path.trace), (right, np.maximum(path.loss, 1e-30))):
                values = np.where(np.isfinite(values) & (values < 1e3), values, np.nan)
                panel.plot(k, values.T, color=look(i)["color"], lw=0.6, alpha=0.6)
                panel.plot([], [], color=look(i)["color"], label=label)
        left.axhline(1.0, color="0.3", linestyle="--", label="theory: SGD's bound")
        left.set(xlabel="updates", ylabel="eta Tr H / 2", ylim=(0, 2.5 * self.sharpness))
        right.set(xlabel="updates", ylabel="loss", yscale="log")
        left.legend()


def gradients(circuit: Circuit, weights: Weights, x: Float[Array, "n i"]) -> Float[Array, "n weights"]:
    """The gradient of each sample's output by all weights."""
    flat, restore = ravel_pytree(weights)
    return jax.jacrev(lambda v: predict(circuit, restore(v), x)[:, 0])(flat)


def _path(run: WeightFlow | Discrete, start: Weights, x: Array, y: Array, eta: Array, each: int) -> Path:
    def record(state: object, k: Array) -> tuple:
        weights = run.weights(state)  # pyright: ignore[reportArgumentType]
        trace = jnp.sum(gradients(run.circuit, weights, x) ** 2) / len(x)
        seen = eta * trace / 2, loss(run.circuit, weights, x, y)
        return run.advance(state, k * each, each), seen  # pyright: ignore[reportArgumentType]

    marks = jnp.arange(RECORDS + 1, dtype=jnp.int32)
    end, (trace, losses) = jax.lax.scan(record, run.init(start), marks)
    return Path(trace, losses, gradients(run.circuit, run.weights(end), x))  # pyright: ignore[reportArgumentType]
