"""A2.6: the energy at which a linear predictive coding network settles, and what it makes of the saddle at zero."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.network import Network
from dynamics.settle import Outside, settle
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.energy.setting import Trees, flat, network, samples, update
from experiments.predictions.kit import all_close, drawn, f64, keys_from, look
from rules.gradient import SGD
from rules.predictive_coding import PredictiveCoding


def equilibrated(weights: Weights, x: Float[Array, "n i"], y: Float[Array, "n o"]) -> Float[Array, ""]:
    """F* = <r^T S^-1 r> / 2, r = y - W_L .. W_1 x, S = 1 + sum over l > 1 of (W_L .. W_l)(W_L .. W_l)^T."""
    chain = [weights[f"W{i}"] for i in range(len(weights), 0, -1)]
    products = list(itertools.accumulate(chain, jnp.matmul))  # W_L, W_L W_{L-1}, ..., all
    spread = jnp.eye(y.shape[1]) + sum(p @ p.T for p in products[:-1])
    residual = y - x @ products[-1].T
    return 0.5 * jnp.mean(jnp.sum(residual * jnp.linalg.solve(spread, residual.T).T, -1))


class Settled(NamedTuple):
    """Of each seed: settled energy, its closed form and the loss; drifts of the weights and slopes of the closed form;
    the error of the growth at the saddle, and the rate of gradient descent there."""

    energy: Any
    closed: Any
    loss: Any
    drift: Trees
    slope: Trees
    growth: Any
    flat: Any


class PCEnergy(AbstractPrediction):
    """Settled energies, weight drifts and the growth of tiny weights of linear predictive coding networks."""

    number = "A2.6"
    title = "Predictive coding descends a rescaled loss, which leaves the saddle at zero at once"
    source = "innocenti2024strict, theorems 1 and 2; whittington2017approximation has the energy"
    equation = """F* = <r^T S^-1 r> / 2, r = y - W_L .. W_1 x, S = 1 + sum_{l=2}^L (W_L .. W_l)(W_L .. W_l)^T; near W =
        0: tau_plast W_L' = <y y^T> W_L"""
    claim = """The energy of a settled linear network is the squared residual in the metric S of its weights, and its
        weights go straight down that. At zero the energy has a direction of negative curvature whatever the depth: the
        last matrix grows at the rate of <y y^T>, where the gradient of the loss vanishes with the other matrices."""
    method = """Random deep linear networks and samples: activities settled up to rounding, the drift of the weight
        flow; the closed form by automatic differentiation. For the saddle all weights are scaled to a norm of 1e-4
        each."""
    tolerance = """1e-9 relative for energy and drift: rounding, which settling amplifies by the spread of S. 1e-3
        relative for the growth at a scale of 1e-4: products of all other matrices are left out, relative 1e-4 with
        three."""
    quick = {"seeds": 3, "hidden": (4, 5)}

    inputs: Size = 4
    hidden: Sizes = (6, 5, 4)
    outputs: Size = 3
    samples: Size = 5
    gain: Positive = 0.8
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if len(self.hidden) < 2:
            return "hidden must have at least two layers, so that the gradient vanishes to second order at zero"

    def measure(self) -> Finding:
        net = network(self.inputs, self.hidden, self.outputs, self.gain, activation="linear")
        known = self._runs(net)
        off = known.energy / known.closed - 1
        verdicts = [all_close("settled energy", "largest relative error of the closed form", 0.0, off, 1e-9)]
        drift, slope = flat(known.drift, 1), flat(known.slope, 1)
        off = np.linalg.norm(drift + slope, axis=1) / np.linalg.norm(slope, axis=1)
        verdicts.append(all_close("weights descend it", "|W' + dF*/dW| / |dF*/dW|, largest", 0.0, off, 1e-9))
        name, quantity = "growth at the saddle", "|W_L' - <y y^T> W_L| / |<y y^T> W_L|, largest"
        verdicts.append(all_close(name, quantity, 0.0, known.growth, 1e-3))
        quantity = "largest |W'| / |W| of gradient descent on the loss there, over the largest rate of <y y^T>"
        verdicts.append(all_close("none by gradient descent", quantity, 0.0, known.flat, 1e-3))
        return Finding(verdicts, self._drawn(known))

    def _runs(self, net: Network) -> Settled:
        circuit, plain = PredictiveCoding().wire(net), SGD().wire(net)

        def one(key: Key[Array, ""]) -> Settled:
            for_weights, for_samples = jax.random.split(key)
            w, (x, y) = circuit.initial_weights(for_weights), samples(for_samples, net, self.samples)
            drifts = functools.partial(update, x=x, y=y)
            tiny = jax.tree.map(lambda v: 1e-4 * v / jnp.linalg.norm(v), w)
            last, moments = f"W{net.depth}", y.T @ y / self.samples
            ideal = moments @ tiny[last]
            growth = jnp.linalg.norm(drifts(circuit, tiny)[last] - ideal) / jnp.linalg.norm(ideal)
            still = jnp.stack([jnp.linalg.norm(v) for v in drifts(plain, tiny).values()]).max() / 1e-4
            return Settled(
                energy=jax.vmap(lambda x, y: self._energy(net, w, x, y))(x, y).mean(),
                closed=equilibrated(w, x, y),
                drift=drifts(circuit, w),
                slope=jax.grad(equilibrated)(w, x, y),
                growth=growth,
                flat=still / jnp.linalg.eigvalsh(moments)[-1],
                loss=0.5 * jnp.mean(jnp.sum((y - x @ functools.reduce(jnp.matmul, _down(w)).T) ** 2, -1)),
            )

        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds)))

    def _energy(self, net: Network, w: Weights, x: Float[Array, " i"], y: Float[Array, " o"]) -> Float[Array, ""]:
        """|z_l - W_l z_{l-1}|^2 / 2, summed over layers, of the settled network; z_L is the target."""
        circuit = PredictiveCoding().wire(net)
        moment, last = settle(circuit, w, {}, Outside(x, y)), net.depth
        z = [x, *(moment.value(circuit.layer(f"z{i}"), "activity") for i in range(1, last)), y]
        return sum((0.5 * jnp.sum((z[i] - w[f"W{i}"] @ z[i - 1]) ** 2) for i in range(1, last + 1)), f64(0.0))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, known: Settled) -> None:
        energy, saddle = figure.subplots(1, 2)
        ends = np.array([0.6 * known.closed.min(), 1.2 * known.closed.max()])
        energy.plot(ends, ends, color="0.3", lw=0.8, label="equal")
        energy.plot(known.closed, known.energy, linestyle="", label="settled energy F", **look(0))
        energy.plot(known.closed, known.loss, linestyle="", label="loss of the forward network", **look(1))
        energy.set(xlabel="closed form F*", ylabel="energy, loss")
        energy.legend()
        seeds = np.arange(len(known.growth))
        saddle.semilogy(
            seeds, np.maximum(known.growth, 1e-17), linestyle="", label="predictive coding: error", **look(0)
        )
        saddle.semilogy(seeds, np.maximum(known.flat, 1e-17), linestyle="", label="gradient descent: rate", **look(1))
        saddle.axhline(1, color="0.3", lw=0.8, label=r"rate $\langle yy^T\rangle$ of predictive coding")
        saddle.set(xlabel="seed", ylabel=r"growth of $W_L$ at zero (relative)", ylim=(1e-12, 10))
        saddle.legend()


def _down(weights: Weights) -> list[Array]:
    """W_L, ..., W_1."""
    return [weights[f"W{i}"] for i in range(len(weights), 0, -1)]
