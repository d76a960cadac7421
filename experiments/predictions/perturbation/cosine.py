"""A3.2: how well one perturbation points along the gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from scipy.special import gammaln

from dynamics.circuit import Circuit
from dynamics.instruments import loss
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.kit import keys_from, look, marked, plotted, wired
from experiments.predictions.perturbation.setting import node, updating, weight
from experiments.results.verdicts import all_match, close


class Steps(NamedTuple):
    """One step of every replica: its cosine to minus the gradient, and its part along it over that of the gradient."""

    cosine: np.ndarray
    along: np.ndarray


class PerturbationCosine(AbstractPrediction):
    """The angle between one step of perturbation learning and the gradient, by the number of what is perturbed."""

    number = "A3.2"
    title = "One perturbation points along the gradient by 1 / sqrt(N)"
    source = "werfel2005learning, for the setting; the law of a uniform direction, exact at any N: derived"
    equation = """cos(dw, -g) = |u|, u a coordinate of a uniform direction in N dimensions: E cos = Gamma(N/2) /
        (sqrt(pi) Gamma((N+1)/2)), about sqrt(2 / (pi N)); E cos^2 = 1 / N"""
    claim = """A step dw = -(g . xi) xi of weight perturbation has the cosine of a random direction in as many
        dimensions as there are weights, and is never uphill. Node perturbation of a layer has that of its M neurons,
        however many inputs they have. On average both are the gradient."""
    method = """One discrete update per replica, with weights, sample and noise of its own, against minus the gradient
        of the loss by automatic differentiation: weight perturbation in tanh networks with biases and a softmax, node
        perturbation in linear layers."""
    tolerance = (
        "99.9 % intervals over replicas, for all sizes together; the perturbation is small enough not to matter."
    )
    quick = {"replicas": 800, "hidden": (2, 20), "layers": (2, 12)}

    inputs: Size = 4
    outputs: Size = 3
    hidden: Sizes = (2, 6, 20)  # neurons of the networks whose weights are perturbed
    layers: Sizes = (2, 4, 12)  # M of the layers whose neurons are perturbed
    size: Positive = 1e-4
    replicas: Seeds = 4000

    @property
    def weights(self) -> np.ndarray:
        """N: the number of weights and biases of each network."""
        return np.array([(self.inputs + 1) * n + (n + 1) * self.outputs for n in self.hidden])

    def measure(self) -> Finding:
        shapes = [(self.inputs, n, self.outputs) for n in self.hidden]
        of_weights = [self._steps(wired(weight(self.size), s, bias=True, loss="softmax")) for s in shapes]
        single = [(self.inputs, m) for m in self.layers]
        of_nodes = [self._steps(wired(node(self.size), s, activation="linear")) for s in single]
        n, m = self.weights, np.array(self.layers)
        cosines, others = (np.stack([s.cosine for s in steps], -1) for steps in (of_weights, of_nodes))
        along = np.stack([s.along for s in (*of_weights, *of_nodes)], -1)
        uphill = float(np.mean(np.concatenate([cosines.ravel(), others.ravel()]) < 0))
        approximate = ", ".join(f"{value:.4f}" for value in np.sqrt(2 / (np.pi * n)))
        note = f"sqrt(2 / (pi N)), the limit of large N, is {approximate}"
        verdicts = [
            all_match("weights: mean", "mean cos", mean_cosine(n), cosines, note),
            all_match("weights: square", "mean cos^2", 1 / n, cosines**2),
            all_match("neurons: square", "mean cos^2", 1 / m, others**2),
            close("never uphill", "share of steps with cos < 0", 0.0, uphill, 0.0),
            all_match("on average the gradient", "mean of dw . (-g) / |g|^2", np.ones(along.shape[1]), along),
        ]
        return Finding(verdicts, self._drawn(cosines.T, others.T))

    def _steps(self, circuit: Circuit) -> Steps:
        sizes = circuit.layer("z0").size, circuit.layer("y").size

        def one(key: PRNGKeyArray) -> tuple[Array, Array]:
            for_x, for_y, for_w, draw = jax.random.split(key, 4)
            x = jax.random.normal(for_x, sizes[:1], jnp.float64)
            label = jax.random.randint(for_y, (), 0, sizes[1])
            y = jax.nn.one_hot(label, sizes[1], dtype=jnp.float64)
            weights = circuit.initial_weights(for_w)
            after = updating(circuit, 1.0)(weights, x, y, draw)
            gradient = jax.grad(lambda w: loss(circuit, {**weights, **w}, x[None], y[None]))(
                {p.name: weights[p.name] for p in circuit.plastic}
            )
            g = jnp.concatenate([gradient[name].ravel() for name in sorted(gradient)])
            dw = jnp.concatenate([(after[name] - weights[name]).ravel() for name in sorted(gradient)])
            dot = -jnp.sum(dw * g)
            return dot / jnp.sqrt(jnp.sum(dw**2) * jnp.sum(g**2)), dot / jnp.sum(g**2)

        return Steps(*map(np.asarray, jax.jit(jax.vmap(one))(keys_from(self.seed, self.replicas))))

    @plotted(3.6, 2.8)
    def _drawn(self, panel: Axes, cosines: np.ndarray, others: np.ndarray) -> None:
        largest = max(self.weights.max(), max(self.layers))
        fine = np.geomspace(min(*self.layers, self.weights.min()) / 1.3, largest * 1.3, 200)
        panel.plot(fine, mean_cosine(fine), color="0.3", label="theory, mean")
        panel.plot(fine, np.sqrt(2 / (np.pi * fine)), color="0.6", linestyle=":", label="sqrt(2 / ($\\pi$ N))")
        marked(panel, self.weights, cosines, **look(0), label="weight perturbation, N weights")
        marked(panel, self.layers, others, **look(1), label="node perturbation, N neurons")
        panel.set(
            xscale="log", yscale="log", xlabel="number N of what is perturbed", ylabel="cosine of step and descent"
        )
        panel.legend()


def mean_cosine(n: np.ndarray) -> np.ndarray:
    """E |u| of a coordinate of a uniform direction in n dimensions."""
    return np.exp(gammaln(n / 2) - gammaln((n + 1) / 2)) / np.sqrt(np.pi)
