"""A2.7: what predictive coding has to do with backpropagation where the residual is small."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from dynamics.circuit import Weights
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.energy.setting import distances, extrapolated, flat, halved, network, ticked, update
from experiments.predictions.kit import all_close, f64, keys_from, look, order, plotted
from rules.predictive_coding import PredictiveCoding

Jacobians = Sequence[Float[Array, "outputs _n"]]


def forward(weights: Weights, x: Float[Array, " i"]) -> tuple[Float[Array, " o"], Jacobians]:
    """The output of a tanh network with linear outputs, and its derivatives by each hidden activity."""
    depth, z, slopes = len(weights), x, []
    for i in range(1, depth):
        z = jnp.tanh(weights[f"W{i}"] @ z)
        slopes.append(1 - z**2)
    slopes.append(jnp.ones_like(weights[f"W{depth}"][:, 0]))
    onward = [slopes[i - 1][:, None] * weights[f"W{i}"] for i in range(depth, 1, -1)]  # d z_i / d z_{i-1}
    return weights[f"W{depth}"] @ z, list(itertools.accumulate(onward, jnp.matmul))


def settled_error(weights: Weights, x: Float[Array, " i"], r: Float[Array, " o"]) -> Float[Array, " o"]:
    """S^-1 r, S = 1 + sum_l J_l J_l^T, J_l = d z_L / d z_l: the output error that is left to first order in r."""
    jacobians = forward(weights, x)[1]
    return jnp.linalg.solve(jnp.eye(r.shape[0]) + sum(j @ j.T for j in jacobians), r)


def backpropagated(weights: Weights, x: Float[Array, "n i"], e: Float[Array, "n o"]) -> Weights:
    """<(d z_L / d W)^T e>: backpropagation of output errors, by automatic differentiation."""

    def one(x: Array, e: Array) -> Weights:
        return jax.vjp(lambda w: forward(w, x)[0], weights)[1](e)[0]

    return jax.tree.map(lambda w: w.mean(0), jax.vmap(one)(x, e))


class PCBackprop(AbstractPrediction):
    """Updates of predictive coding against backpropagation, as the residual shrinks."""

    number = "A2.7"
    title = "Predictive coding is backpropagation of what is left of the error"
    source = "whittington2017approximation, section 2.3 (small residuals); S derived"
    equation = """W'(r) = BP(S^-1 r) + O(r^2), S = 1 + sum_l J_l J_l^T, J_l = dz_L/dz_l at the forward pass; for one
        output W'(r) = BP(r) / S + O(r^2)"""
    claim = """Where targets come near the predictions, updates of a settled predictive coding network become those of
        backpropagation, to the first order of the residual r, but not of r itself: of S^-1 r, what is left of it once
        hidden activities have given in. With several outputs the update so keeps another direction than
        backpropagation; with one it only is slower."""
    method = """Weight flow of random tanh networks whose targets are their predictions plus r, against Jacobians and
        backpropagation by automatic differentiation of the plain forward network. The slope is that of log error
        against log |r|."""
    tolerance = """0.1 for the first order, 0.2 for the second: the next order in r bends the line. What stays of the
        distance to backpropagation, within 1 % of what S says, by extrapolation."""
    quick = {"seeds": 3, "hidden": (5, 4)}

    inputs: Size = 4
    hidden: Sizes = (6, 5)
    outputs: Size = 3
    samples: Size = 4
    gain: Positive = 1.0
    residuals: Positives = (0.1, 0.05, 0.025, 0.0125)
    seeds: Seeds = 8

    def misfit(self) -> str | None:
        if len(self.hidden) < 2:
            return "hidden must have at least two layers: with one, nothing is left out beyond the second order of r"
        return halved(self.residuals, "residuals")

    def measure(self) -> Finding:
        found, ideal, plain = self._updates(self.outputs)
        errors = {"BP of what is left": distances(found, ideal), "BP of the residual": distances(found, plain)}
        name, quantity = "order", "slope of log |W' / |r| - BP(S^-1 r / |r|)| against log |r|"
        verdicts = [all_close(name, quantity, 1.0, order(self.residuals, errors["BP of what is left"].T), 0.1)]
        left = extrapolated(found)
        orders = order(self.residuals[1:], distances(left, ideal).T)
        verdicts.append(all_close("order, extrapolated", "the same slope, extrapolated once", 2.0, orders, 0.2))
        stays = np.linalg.norm(ideal - plain, axis=1) / np.linalg.norm(plain, axis=1)
        off = distances(left, plain)[:, -1] / stays - 1
        quantity = "relative error of |W' - BP(r)| / |BP(r)| as r -> 0, against |BP(S^-1 r) - BP(r)| / |BP(r)|"
        verdicts.append(all_close("distance to backpropagation", quantity, 0.0, off, 0.01))
        alone, _, plain = self._updates(1)
        unit = plain / np.linalg.norm(plain, axis=1)[:, None]
        along = np.einsum("snk,sk->sn", alone, unit)
        sideways = np.linalg.norm(alone - along[..., None] * unit[:, None], axis=-1) / along
        slopes = order(self.residuals, sideways.T)
        quantity = "slope of log tan(angle to backpropagation) against log |r|"
        verdicts.append(all_close("direction with one output, one sample", quantity, 1.0, slopes, 0.2))
        return Finding(verdicts, self._drawn(errors, stays))

    def _updates(self, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Updates over |r| (seeds, residuals, n), and backpropagation of S^-1 r and of r, over |r| (seeds, n).

        With one output there is one sample: S is another number for each.
        """
        net = network(self.inputs, self.hidden, outputs, self.gain)
        circuit, count = PredictiveCoding().wire(net), self.samples if outputs > 1 else 1

        def one(key: Key[Array, ""]) -> tuple[Weights, Weights, Weights]:
            keys = jax.random.split(key, 3)
            w = circuit.initial_weights(keys[0])
            x = jax.random.normal(keys[1], (count, net.sizes[0]), jnp.float64)
            r = jax.random.normal(keys[2], (count, outputs), jnp.float64)
            y = jax.vmap(lambda x: forward(w, x)[0])(x)
            each = jax.vmap(lambda s: jax.tree.map(lambda v: v / s, update(circuit, w, x, y + s * r)))
            left = jax.vmap(settled_error, (None, 0, 0))(w, x, r)
            return each(f64(self.residuals)), backpropagated(w, x, left), backpropagated(w, x, r)

        found, ideal, plain = jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds))
        return flat(found, 2), flat(ideal, 1), flat(plain, 1)

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, errors: dict[str, np.ndarray], stays: np.ndarray) -> None:
        r = np.array(self.residuals)
        for i, (name, rows) in enumerate(errors.items()):
            panel.plot(r, np.median(rows, 0), linestyle="", label=name, **look(i))
        last = np.median(errors["BP of what is left"], 0)[-1]
        panel.plot(r, last * r / r[-1], color=look(0)["color"], lw=0.8)
        panel.axhline(float(np.median(stays)), color=look(1)["color"], lw=0.8)
        panel.set(yscale="log", xlabel="residual |r|", ylabel="relative distance of the update")
        ticked(panel, self.residuals)
        panel.legend(title="lines: slope 1, and theory for r = 0")
