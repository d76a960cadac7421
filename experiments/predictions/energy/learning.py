"""A2.2: equilibrium propagation follows gradient flow through the fixed point, as closely as beta is small."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from dynamics import instruments
from dynamics.circuit import Circuit, Weights
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.energy.setting import halved, network, ticked
from experiments.predictions.kit import all_close, band, drawn, f64, keys_from, look, order, weight_flow
from experiments.results.verdicts import stays_below
from rules.equilibrium_propagation import EquilibriumPropagation

RECORDS = 20


class Curves(NamedTuple):
    """Losses over the loss at the start, (seeds, records) and (seeds, betas, records)."""

    gradient: np.ndarray
    one_sided: np.ndarray
    symmetric: np.ndarray


class EPLearning(AbstractPrediction):
    """Loss curves of a student of a small teacher, by equilibrium propagation and by the gradient itself."""

    number = "A2.2"
    title = "Equilibrium propagation learns as the gradient does"
    source = "scellier2017equilibrium, section 3; derived: flows whose fields differ by O(beta) end O(beta) apart"
    equation = "L(t; beta) = L(t; gradient flow) + O(beta); nudged by +-beta: + O(beta^2)"
    claim = """The loss of a network that learns by the contrast of nudged and free copies stays within O(beta) of that
        under gradient descent through the fixed point, within O(beta^2) with the symmetric nudge, and comes as far
        down."""
    method = """Weight flow of 4-3-1 students of a teacher of the same kind, the gradient by automatic differentiation
        through the fixed point, in the same steps of Euler. The order is that of the largest distance of two loss
        curves."""
    tolerance = """0.1 for the slope 1 and 0.2 for the slope 2: the next order in beta bends the line. The loss must
        fall below a fifth, at 99.9 % over seeds."""
    quick = {"seeds": 5, "betas": (0.1, 0.05, 0.025), "time": 20.0, "steps": 2}

    inputs: Size = 4
    hidden: Size = 3
    samples: Size = 6
    gain: Positive = 0.8
    feedback: Positive = 0.5
    betas: Positives = (0.1, 0.05, 0.025, 0.0125)
    time: Positive = 30.0  # in units of tau_plast
    steps: Size = 4  # of Euler, between two of the 20 records
    seeds: Seeds = 6

    def misfit(self) -> str | None:
        return halved(self.betas, "betas")

    def measure(self) -> Finding:
        curves, verdicts = self._curves(), []
        for name, found, slope, room in (
            ("one-sided", curves.one_sided, 1.0, 0.1),
            ("symmetric", curves.symmetric, 2.0, 0.2),
        ):
            apart = np.abs(found - curves.gradient[:, None]).max(-1)
            quantity = "slope of log max |L - L of the gradient flow| against log beta"
            verdicts.append(all_close(f"order, {name}", quantity, slope, order(self.betas, apart.T), room))
        for name, found in (("the gradient", curves.gradient), ("equilibrium propagation", curves.symmetric[:, -1])):
            quantity = f"loss at the end over that at the start, by {name}"
            verdicts.append(stays_below(f"learns by {name}", quantity, 0.2, found[:, -1]))
        return Finding(verdicts, self._drawn(curves))

    def _curves(self) -> Curves:
        net = network(self.inputs, (self.hidden,), 1, self.gain)
        dt = self.time / (RECORDS * self.steps)

        def rule(beta: object, symmetric: bool) -> Circuit:
            return EquilibriumPropagation(nudge=f64(beta), feedback=f64(self.feedback), symmetric=symmetric).wire(net)

        free = rule(1.0, False)

        def student(key: Key[Array, ""]) -> tuple[Weights, Array, Array]:
            teacher, start, data = jax.random.split(key, 3)
            x = jax.random.normal(data, (self.samples, self.inputs), jnp.float64)
            return free.initial_weights(start), x, instruments.predict(free, free.initial_weights(teacher), x)

        def loss(w: Weights, x: Array, y: Array) -> Float[Array, ""]:
            return instruments.loss(free, w, x, y)

        def descent(w: Weights, x: Array, y: Array) -> Weights:
            def euler(w: Weights, _: None) -> tuple[Weights, None]:
                return jax.tree.map(lambda v, g: v - dt * g, w, jax.grad(loss)(w, x, y)), None

            return recorded(lambda w: jax.lax.scan(euler, w, length=self.steps)[0], w, lambda w: w)

        def learned(beta: Array, symmetric: bool, w: Weights, x: Array, y: Array) -> Weights:
            flow = weight_flow(rule(beta, symmetric), x, y, dt)
            return recorded(lambda s: flow.advance(s, jnp.int32(0), self.steps), flow.init(w), lambda s: s.weights)

        def one(key: Key[Array, ""]) -> Float[Array, "runs records"]:
            known, betas = student(key), f64(self.betas)
            each = [jax.vmap(lambda b, s=s: learned(b, s, *known))(betas) for s in (False, True)]
            first = jax.tree.map(lambda w: w[None], descent(*known))
            runs = jax.tree.map(lambda *w: jnp.concatenate(w), first, *each)
            return jax.vmap(jax.vmap(lambda w: loss(w, *known[1:])))(runs)

        losses = np.asarray(jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds)))
        curves, count = losses / losses[:, :1, :1], 1 + len(self.betas)
        return Curves(curves[:, 0], curves[:, 1:count], curves[:, count:])

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, curves: Curves) -> None:
        course, apart = figure.subplots(1, 2)
        time = np.linspace(0, self.time, RECORDS + 1)
        band(course, time, curves.gradient.T, label="gradient flow", color="0.3")
        course.plot(
            time, curves.one_sided[:, 0].mean(0), **look(0, linestyle="", label=f"EP, beta = {self.betas[0]:g}")
        )
        course.set(xlabel=r"time ($\tau_{plast}$)", ylabel="loss / loss at the start")
        course.legend()
        for i, (name, found, slope) in enumerate(
            (("one-sided", curves.one_sided, 1), ("symmetric", curves.symmetric, 2))
        ):
            far = np.median(np.abs(found - curves.gradient[:, None]).max(-1), 0)
            betas = np.array(self.betas)
            apart.loglog(betas, far, linestyle="", label=name, **look(i))
            apart.loglog(betas, far[-1] * (betas / betas[-1]) ** slope, color=look(i)["color"], lw=0.8)
        apart.set(xlabel=r"nudge $\beta$", ylabel="largest distance of loss curves")
        ticked(apart, self.betas)
        apart.legend(title="lines: slopes 1 and 2")


def recorded(advance: Callable[[Any], Any], state: Any, weights: Callable[[Any], Weights]) -> Weights:
    """The weights at the start and after each of the records, along a leading axis."""

    def block(state: Any, _: None) -> tuple[Any, Weights]:
        after = advance(state)
        return after, weights(after)

    later = jax.lax.scan(block, state, length=RECORDS)[1]
    return jax.tree.map(lambda w, ws: jnp.concatenate([w[None], ws]), weights(state), later)
