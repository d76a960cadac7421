"""T4.8: a linear neuron learns a teacher under weight decay and a penalty on the size of its activity."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import AbstractFactor, Circuit, Error, Gaussian, Layer, Local, Projection, TwoFactor, Variable
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegative, Positive, Seeds, Size
from experiments.predictions.drawing import against, plotted
from experiments.predictions.hebbian.setting import balance
from experiments.predictions.kit import f64, keys_from, weight_flow, weights_after
from experiments.results.verdicts import matches, stays_below

STEP, RELAXATIONS = 0.2, 40.0  # in units of the fastest, and of the slowest relaxation
Penalties = Annotated[tuple[NonNegative, ...], Field(min_length=2)]


class Penalized(AbstractFactor):
    """y - h - lambda sign(h): the error with that of a penalty lambda |h|."""

    penalty: Float[Array, ""]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.inputs["modulatory"] - self.penalty * jnp.sign(local.activity)


class HebbianSparsity(AbstractPrediction):
    number = "T4.8"
    title = "Sparsity pushes anti-Hebbian, and what remains is as Hebbian as decay makes it"
    source = "koplow2025emergence, sparsity penalties; closed forms derived for gaussian inputs"
    equation = """(s + gamma) |w| = s |w*| - lambda (2 s / pi)^(1/2) along w*; <g_penalty, H> = -lambda s (2 s /
        pi)^(1/2) |w|, <g, H> = gamma s |w|^2"""
    claim = """With loss (y - h)^2 / 2 + lambda |h| the penalty's part of the learning signal is anti-Hebbian, as
        lambda |w|; the task's part becomes more Hebbian by as much, so that their sum stays what weight decay
        makes it. Beyond lambda = |w*| (pi s / 2)^(1/2) the neuron is silent."""
    method = """The weight flow on gaussian samples until it rests; E[g] and E[H] from the engine's factors, the
        penalty's part as the difference to the factors of the same weights without a penalty."""
    tolerance = """99.9 % intervals over seeds, each with its own samples and teacher; allowed beyond them is the bias
        of a finite sample, inputs / samples of the value."""
    quick = {"seeds": 6, "samples": 1000, "penalties": (0.0, 0.3)}

    inputs: Size = 8
    samples: Size = 4000
    variance: Positive = 1.0  # s
    teacher_norm: Positive = 1.0  # |w*|
    gamma: Positive = 0.1
    penalties: Penalties = (0.0, 0.2, 0.4, 0.8)
    seeds: Seeds = 12

    def misfit(self) -> str | None:
        if max(self.penalties) >= 0.9 * self.silent:
            return f"penalties must be below {0.9 * self.silent:.3g}, 0.9 of that which silences the neuron"

    @property
    def silent(self) -> float:
        """The penalty beyond which nothing is learned."""
        return self.teacher_norm * (np.pi * self.variance / 2) ** 0.5

    def expected(self, penalty: float | np.ndarray) -> np.ndarray:
        """|w|, <g_penalty, H> and <g, H> at rest."""
        s, pull = self.variance, np.asarray(penalty) * (2 * self.variance / np.pi) ** 0.5
        norm = np.maximum(s * self.teacher_norm - pull, 0) / (s + self.gamma)
        return np.stack([norm, -pull * s * norm, self.gamma * s * norm**2])

    def measure(self) -> Finding:
        found = self._simulated()
        verdicts = []
        bias = self.inputs / self.samples
        names = ("|w|", "<g_penalty, H>", "<g, H>")
        for row, penalty in zip(found, self.penalties, strict=True):
            for quantity, samples, wanted in zip(names, row, self.expected(penalty), strict=True):
                if penalty or quantity != names[1]:
                    name = f"{quantity} at lambda = {penalty:g}"
                    verdicts.append(matches(name, quantity, float(wanted), samples, bias * abs(float(wanted))))
        last = found[-1]
        verdicts.append(stays_below("the penalty is anti-Hebbian", names[1], 0.0, last[1]))
        return Finding(verdicts, self._drawn(found))

    def _simulated(self) -> np.ndarray:
        """|w|, <g_penalty, H>, <g, H>: (penalties, 3, seeds)."""
        slowest, fastest = self.gamma + 0.5 * self.variance, 3 * self.variance + self.gamma
        dt = STEP / fastest
        steps = round(RELAXATIONS / slowest / dt)

        def one(key: Array, penalty: Array) -> Array:
            for_x, for_w = jax.random.split(key)
            x = self.variance**0.5 * jax.random.normal(for_x, (self.samples, self.inputs), jnp.float64)
            teacher = jax.random.normal(for_w, (1, self.inputs), jnp.float64)
            y = x @ (self.teacher_norm * teacher / jnp.linalg.norm(teacher)).T
            flow = weight_flow(_neuron(self.inputs, penalty), x, y, dt, 1 / f64(self.gamma))
            start = {"W1": 0.1 * jnp.ones((1, self.inputs), jnp.float64)}
            weights = weights_after(flow, start, steps)
            drives, hebb, _ = balance(flow.circuit, weights, x, y)
            plain, _, _ = balance(_neuron(self.inputs, jnp.zeros_like(penalty)), weights, x, y)
            part = jnp.sum((drives["W1"] - plain["W1"]) * hebb["W1"])
            return jnp.stack([jnp.linalg.norm(weights["W1"]), part, jnp.sum(drives["W1"] * hebb["W1"])])

        run = jax.jit(jax.vmap(jax.vmap(one, (0, None), -1), (None, 0)))
        return np.asarray(run(keys_from(self.seed, self.seeds), f64(self.penalties)))

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, found: np.ndarray) -> None:
        fine = np.linspace(0, max(self.penalties) * 1.1, 100)
        for i, (label, curve) in enumerate(
            zip(("|w|", "<g$_{penalty}$, H>", "<g, H>"), self.expected(fine), strict=True)
        ):
            against(panel, i, (fine, curve), (self.penalties, found[:, i]), label)
        panel.axhline(0, color="0.6", linewidth=0.6)
        panel.set(xlabel=r"penalty $\lambda$", ylabel="at rest (activity units)")
        panel.legend(title="lines: theory")


def _neuron(inputs: int, penalty: Float[Array, ""]) -> Circuit:
    layers = (
        Layer("z0", inputs, role="input", level=0),
        Layer("z1", 1, role="output", variables=(Variable("error", Penalized(penalty)),)),
    )
    start = Gaussian(jnp.ones_like(penalty))
    return Circuit(layers, (Projection("W1", "z0", "activity", "z1", "forward", start, TwoFactor(Error())),))
