"""A2.1, A2.5: how fast the updates of nudged and clamped networks tend to gradients."""

from typing import Literal

import numpy as np
from jaxtyping import Array, Key
from matplotlib.axes import Axes

from dynamics.network import Network
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.energy.setting import (
    Trees,
    angles,
    distances,
    extrapolated,
    flat,
    halved,
    network,
    slopes,
    ticked,
    updates,
)
from experiments.predictions.kit import all_close, f64, keys_from, look, order, plotted
from rules.contrastive_hebbian import ContrastiveHebbian
from rules.equilibrium_propagation import EquilibriumPropagation
from rules.gradient import SGD


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
