"""T4.4: the cosine between learning signal and Hebbian update, on batches of several sizes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.instruments import hebbian_alignment
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.drawing import legend_outside, look, marked, plotted
from experiments.predictions.hebbian.setting import balance, rises, share_inside, stationary_flow, student
from experiments.predictions.kit import f64
from experiments.results.verdicts import close


class HebbianBatchSize(AbstractPrediction):
    number = "T4.4"
    title = "Small batches hide Hebbian alignment"
    source = """koplow2025emergence, experiments: alignment needs large batches; the formula is derived, with the
        covariance of g and H"""
    equation = """cos(B) = <g, H>_B / (|g|_B |H|_B) = [1 + kappa / (B + d + 1)]^(-1/2), kappa = nu^2 n d s / (gamma^2
        |V|^2)"""
    claim = """At rest under decay, label noise nu hides the alignment of a batch: the cosine rises with the batch size
        B and with gamma, and saturates from B ~ kappa on. Below B ~ d it does not fall further, as one sample's g and H
        share its input."""
    method = """The weight flow's rest V = s / (s + gamma) W* of linear regression; there, drives and Hebbian updates of
        independent batches. Held against the formula: the mean overlap over the root mean squares of |g| and |H|.
        Monotony: means of the cosine of every batch, as the instrument gives it."""
    tolerance = "Intervals over seeds so wide that all are right at 99.9 %; an increase must be beyond its."
    quick = {"seeds": 12, "samples": 1024, "batches": (1, 32, 256)}

    inputs: Size = 16
    outputs: Size = 16
    variance: Positive = 1.0  # s
    gammas: Positives = (0.03, 0.1, 0.3)
    label_noise: Positive = 0.5  # nu
    batches: Sizes = (1, 16, 64, 256, 1024)
    samples: Size = 4096  # per seed, cut into batches
    seeds: Seeds = 40

    def measure(self) -> Finding:
        self._check()
        pooled, mean = self._simulated()
        formula = self.expected(np.array(self.batches, float))
        quantity = "share of (gamma, B) whose interval has the predicted cosine"
        verdicts = [close("formula", quantity, 1.0, share_inside(formula, pooled), 0.0)]
        verdicts.append(rises("rises with the batch", "least increase of the cosine from one B to the next", mean, 1))
        if len(self.gammas) > 1:
            quantity = "least increase of the cosine from one gamma to the next"
            verdicts.append(rises("rises with the decay", quantity, mean))
        worst = np.abs(self.without_covariance(np.array(self.batches, float)) - formula).max()
        notes = [
            "The formula needs the covariance of g and H over samples, (d + 1) <E g, E H> / B: without it, as dashed "
            f"in the figure, the cosine would vanish for B far below d, and here be wrong by up to {worst:.2f}."
        ]
        return Finding(verdicts, self._drawn(pooled, mean), notes)

    def kappa(self) -> np.ndarray:
        """nu^2 n d s / (gamma^2 |V|^2) by decay, |V| = s / (s + gamma) |W*| and |W*|^2 = n."""
        gamma, s = np.array(self.gammas), self.variance
        power = self.outputs * (s / (s + gamma)) ** 2
        return self.label_noise**2 * self.outputs * self.inputs * s / (gamma**2 * power)

    def expected(self, sizes: np.ndarray) -> np.ndarray:
        """The cosine by (gammas, sizes)."""
        return 1 / np.sqrt(1 + self.kappa()[:, None] / (sizes + self.inputs + 1))

    def without_covariance(self, sizes: np.ndarray) -> np.ndarray:
        """The cosine if g and H of one sample were independent: only the norms are then those of a batch."""
        shared = (self.inputs + 1) / sizes
        return 1 / np.sqrt((1 + shared + self.kappa()[:, None] / sizes) * (1 + shared))

    def _check(self) -> None:
        for name, values in (("batches", self.batches), ("gammas", self.gammas)):
            if list(values) != sorted(set(values)):
                raise PlasticodeError(f"hebbian-batch-size.{name} is not allowed: its numbers must increase")
        if len(self.batches) < 2 or self.batches[-1] > self.samples:
            raise PlasticodeError(
                f"hebbian-batch-size needs 2 batch sizes or more, none above samples = {self.samples}"
            )

    def _simulated(self) -> tuple[np.ndarray, np.ndarray]:
        """The cosine of means and the mean of cosines: (gammas, batches, seeds) each."""
        circuit, s = student(self.inputs, self.outputs), self.variance
        covariance = f64(s * np.eye(self.inputs))
        rest = jax.jit(jax.vmap(lambda teacher, gamma: stationary_flow(circuit, covariance, teacher, gamma), (None, 0)))

        def batch(weights: Weights, x: Array, y: Array) -> tuple[Array, Array]:
            drives, hebbs, _ = balance(circuit, weights, x, y)
            g, h = drives["W1"], hebbs["W1"]
            moments = jnp.stack([jnp.sum(g * h), jnp.sum(g * g), jnp.sum(h * h)])
            return moments, hebbian_alignment(circuit, weights, {}, x, y)["W1"]

        measured = jax.jit(jax.vmap(batch, (None, 0, 0)))
        seeds = [
            [self._seed(seed, size, rest, measured) for size in self.batches]
            for seed in range(self.seed, self.seed + self.seeds)
        ]
        both = np.moveaxis(np.array(seeds), (2, 3, 1, 0), (0, 1, 2, 3))
        return both[0], both[1]

    def _seed(self, seed: int, size: int, rest: Callable, measured: Callable) -> np.ndarray:
        """Cosine of means and mean of cosines for one seed and batch size: (2, gammas)."""
        rng = np.random.default_rng(seed)
        teacher = rng.standard_normal((self.outputs, self.inputs))
        teacher *= np.sqrt(self.outputs) / np.linalg.norm(teacher)
        x = np.sqrt(self.variance) * rng.standard_normal((self.samples, self.inputs))
        y = x @ teacher.T + self.label_noise * rng.standard_normal((self.samples, self.outputs))
        count = self.samples // size
        weights = rest(f64(teacher), f64(np.array(self.gammas)))
        cut = [f64(a[: count * size].reshape(count, size, -1)) for a in (x, y)]
        cosines = []
        for row in range(len(self.gammas)):  # one by one, as all matrices of all batches take much memory
            moments, each = map(np.asarray, measured({"W1": weights["W1"][row]}, *cut))
            overlap, g, h = moments.mean(0)
            cosines.append([overlap / np.sqrt(g * h), each.mean()])
        return np.array(cosines).T

    @plotted(3.4, 3.0)
    def _drawn(self, panel: Axes, pooled: np.ndarray, mean: np.ndarray) -> None:
        fine = np.geomspace(self.batches[0], self.batches[-1], 200)
        lines, wrong = self.expected(fine), self.without_covariance(fine)
        for i, gamma in enumerate(self.gammas):
            panel.plot(fine, lines[i], color=look(i)["color"])
            panel.plot(fine, wrong[i], color=look(i)["color"], linestyle="--", linewidth=0.7)
            marked(panel, self.batches, pooled[i], **look(i), label=f"gamma = {gamma:g}")
            marked(panel, self.batches, mean[i], **look(i), fillstyle="none")
        panel.plot([], [], color="0.3", label="theory")
        panel.plot([], [], color="0.3", linestyle="--", linewidth=0.7, label="no covariance")
        panel.plot([], [], color="0.3", linestyle="", marker="o", fillstyle="none", label="mean of cosines")
        panel.set(xscale="log", xlabel="batch size B", ylabel="cosine of g and H", ylim=(0, 1.05))
        legend_outside(panel, 2, columnspacing=0.8)
