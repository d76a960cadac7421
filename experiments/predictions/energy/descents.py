"""A2.2, A2.6: what settled networks descend: the loss, and an energy that leaves the saddle at zero at once."""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure

from dynamics import instruments
from dynamics.circuit import Circuit, Weights
from dynamics.network import Network
from dynamics.settle import Outside, settle
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.drawing import band, drawn, look, ticked
from experiments.predictions.energy.setting import Trees, flat, halved, network, samples, update
from experiments.predictions.kit import all_close, f64, keys_from, order, weight_flow
from experiments.results.verdicts import stays_below
from rules.equilibrium_propagation import EquilibriumPropagation
from rules.gradient import SGD
from rules.predictive_coding import PredictiveCoding

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
        label = f"EP, beta = {self.betas[0]:g}"
        course.plot(time, curves.one_sided[:, 0].mean(0), **look(0, linestyle="", label=label))
        course.set(xlabel=r"time ($\tau_{plast}$)", ylabel="loss / loss at the start")
        course.legend()
        both = ("one-sided", curves.one_sided, 1), ("symmetric", curves.symmetric, 2)
        for i, (name, found, slope) in enumerate(both):
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
        each = {"predictive coding: error": known.growth, "gradient descent: rate": known.flat}
        for i, (label, values) in enumerate(each.items()):
            saddle.semilogy(seeds, np.maximum(values, 1e-17), linestyle="", label=label, **look(i))
        saddle.axhline(1, color="0.3", lw=0.8, label=r"rate $\langle yy^T\rangle$ of predictive coding")
        saddle.set(xlabel="seed", ylabel=r"growth of $W_L$ at zero (relative)", ylim=(1e-12, 10))
        saddle.legend()


def _down(weights: Weights) -> list[Array]:
    """W_L, ..., W_1."""
    return [weights[f"W{i}"] for i in range(len(weights), 0, -1)]
