"""A2.1, A2.5, A2.7: how fast the updates of nudged, clamped and inferring networks tend to gradients."""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from dynamics.circuit import Weights
from dynamics.network import Network
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.drawing import look, plotted, ticked
from experiments.predictions.energy.setting import (
    Trees,
    angles,
    distances,
    extrapolated,
    flat,
    halved,
    network,
    slopes,
    update,
    updates,
)
from experiments.predictions.kit import all_close, f64, keys_from, order
from rules.contrastive_hebbian import ContrastiveHebbian
from rules.equilibrium_propagation import EquilibriumPropagation
from rules.gradient import SGD
from rules.predictive_coding import PredictiveCoding

Jacobians = Sequence[Float[Array, "outputs _n"]]


class EPOrders(AbstractPrediction):
    """Updates of equilibrium propagation at several betas against the gradient through the fixed point."""

    number = "A2.1"
    title = "Equilibrium propagation is the gradient, to first or second order in beta"
    source = "scellier2017equilibrium, theorem 1; the symmetric nudge: laborieux2021scaling, section 3.1"
    equation = "W'(beta) = -dLoss/dW + O(beta); nudged by +-beta: + O(beta^2)"
    claim = """The contrast of a nudged and a free network, over beta, is the gradient of the loss of the settled
        recurrent network, up to an error of the first order in beta; of two networks nudged by +-beta, of the
        second."""
    method = """Weight flow of random networks and samples, neurons settled up to rounding; the gradient by automatic
        differentiation through the fixed point. Orders are slopes of log error against log beta, seed by seed."""
    tolerance = """0.1 for the first order and 0.15 for the second: the next order in beta bends the line. 1 - cosine
        below 1e-4 at the largest beta."""
    quick = {"seeds": 3, "hidden": (5,)}

    inputs: Size = 4
    hidden: Sizes = (6, 5)
    outputs: Size = 3
    samples: Size = 4
    gain: Positive = 0.5
    feedback: Positive = 0.5
    loss: Literal["squared", "softmax"] = "squared"
    betas: Positives = (0.0125, 0.00625, 0.003125, 0.0015625)
    seeds: Seeds = 8

    def misfit(self) -> str | None:
        return halved(self.betas, "betas")

    def measure(self) -> Finding:
        net = network(self.inputs, self.hidden, self.outputs, self.gain, loss=self.loss)
        errors, verdicts = {}, []
        truth = flat(slopes(EquilibriumPropagation(feedback=f64(self.feedback)).wire(net), net, *self._drawn_from()), 1)
        for symmetric, slope, room in ((False, 1.0, 0.1), (True, 2.0, 0.15)):
            found = flat(self._updates(net, symmetric), 2)
            kind = "symmetric" if symmetric else "one-sided"
            errors[kind] = distances(found, truth)
            name, quantity = f"order, {kind}", "slope of log |W' + dLoss/dW| against log beta"
            verdicts.append(all_close(name, quantity, slope, order(self.betas, errors[kind].T), room))
            if symmetric:
                off = angles(found, truth)[:, 0]
                verdicts.append(all_close("direction", "1 - cosine with the gradient, symmetric", 0.0, off, 1e-4))
            else:
                errors["extrapolated"] = distances(extrapolated(found), truth)
                orders = order(self.betas[1:], errors["extrapolated"].T)
                quantity = "the same slope of 2 W'(beta/2) - W'(beta)"
                verdicts.append(all_close("order, extrapolated", quantity, 2.0, orders, 0.15))
        return Finding(verdicts, self._drawn(errors))

    def _drawn_from(self) -> tuple[Key[Array, " seeds"], int]:
        return keys_from(self.seed, self.seeds), self.samples

    def _updates(self, net: Network, symmetric: bool) -> Trees:
        def rule(beta: Array) -> EquilibriumPropagation:
            return EquilibriumPropagation(nudge=beta, feedback=f64(self.feedback), symmetric=symmetric)

        return updates(rule, net, self.betas, *self._drawn_from())

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, errors: dict[str, np.ndarray]) -> None:
        panel.set(xlabel=r"nudge $\beta$", ylabel="relative error of the update")
        draw_orders(panel, self.betas, errors, {"one-sided": 1, "extrapolated": 2, "symmetric": 2})


class CHLBackprop(AbstractPrediction):
    """Updates of contrastive Hebbian learning at several feedback strengths against backpropagation."""

    number = "A2.5"
    title = "Contrastive Hebbian learning becomes backpropagation as its feedback becomes weak"
    source = "xie2003equivalence, section 3; the order derived from gamma^(l-L) (z_l' - z_l) = delta_l + O(gamma)"
    equation = "gamma^(l-L) <z_l' z_{l-1}'^T - z_l z_{l-1}^T> = <delta_l z_{l-1}^T> + O(gamma)"
    claim = """Clamping the output of a network with feedback gamma W^T moves layer l by gamma^(L-l) times the error of
        backpropagation, so that the contrast of clamped and free products, over that, is the gradient of the network
        without feedback, up to the first order in gamma, in every layer."""
    method = """Weight flow of random networks and samples; the gradient of the feedforward network by automatic
        differentiation. Orders are slopes of log error against log gamma, seed by seed."""
    tolerance = """0.1 for the first order of all weights, 0.2 of single layers, whose errors may nearly cancel, and
        for the second: the next order in gamma bends the line. 1 - cosine below 1e-4 at the smallest gamma."""
    quick = {"seeds": 3, "hidden": (5,)}

    inputs: Size = 4
    hidden: Sizes = (6, 5)
    outputs: Size = 3
    samples: Size = 4
    gain: Positive = 0.7
    loss: Literal["squared", "softmax"] = "squared"
    feedbacks: Positives = (0.02, 0.01, 0.005, 0.0025)
    seeds: Seeds = 8

    def misfit(self) -> str | None:
        return halved(self.feedbacks, "feedbacks")

    def measure(self) -> Finding:
        net = network(self.inputs, self.hidden, self.outputs, self.gain, loss=self.loss)
        known = keys_from(self.seed, self.seeds), self.samples
        trees = updates(lambda gamma: ContrastiveHebbian(feedback=gamma), net, self.feedbacks, *known)
        gradient = slopes(SGD().wire(net), net, *known)
        found, truth = flat(trees, 2), flat(gradient, 1)
        errors, gammas = {"all weights": distances(found, truth)}, self.feedbacks
        quantity = "slope of log |W' + dLoss/dW| against log gamma"
        verdicts = [all_close("order", quantity, 1.0, order(gammas, errors["all weights"].T), 0.1)]
        layers = {n: distances(flat(trees, 2, (n,)), flat(gradient, 1, (n,))) for n in sorted(trees)}
        each = np.concatenate([order(gammas, rows.T) for rows in layers.values()])
        verdicts.append(all_close("order in every layer", f"the same slope of {', '.join(layers)}", 1.0, each, 0.2))
        errors["extrapolated"] = distances(extrapolated(found), truth)
        orders = order(gammas[1:], errors["extrapolated"].T)
        quantity = "the same slope of 2 W'(gamma/2) - W'(gamma)"
        verdicts.append(all_close("order, extrapolated", quantity, 2.0, orders, 0.2))
        off = angles(found, truth)[:, -1]
        verdicts.append(all_close("direction", "1 - cosine with the gradient", 0.0, off, 1e-4))
        return Finding(verdicts, self._drawn(errors))

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, errors: dict[str, np.ndarray]) -> None:
        panel.set(xlabel=r"feedback $\gamma$", ylabel="relative error of the update")
        draw_orders(panel, self.feedbacks, errors, {"all weights": 1, "extrapolated": 2})


def draw_orders(panel: Axes, numbers: tuple[float, ...], errors: dict[str, np.ndarray], slopes: dict[str, int]) -> None:
    """Medians over seeds as markers, the ranges of all as bars, and lines of the slopes that theory has."""
    for i, (name, rows) in enumerate(errors.items()):
        x, middle = np.array(numbers[-rows.shape[1] :]), np.median(rows, 0)
        reach = np.abs(np.stack([rows.min(0), rows.max(0)]) - middle)
        panel.errorbar(x, middle, reach, linestyle="", label=name, elinewidth=0.8, capsize=1.5, **look(i))
        line = middle[-1] * (x / x[-1]) ** slopes[name]
        panel.plot(x, line, color=look(i)["color"], lw=0.8)
    panel.set_yscale("log")
    ticked(panel, numbers)
    panel.legend(title="lines: slopes 1 and 2")


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
