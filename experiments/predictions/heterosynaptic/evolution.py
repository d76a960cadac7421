"""T3.10: selection for learning, blind to gradients, ends at the signs of plasticity that gradient learning needs."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from dynamics.circuit import Circuit, Outer, Times, Weights
from dynamics.instruments import alignment, loss
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.drawing import band, drawn, legend_outside, look
from experiments.predictions.heterosynaptic.training import Stacked, teachers
from experiments.predictions.kit import f64, weight_flow, weights_after, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import exceeds, matches, stays_below
from rules.heterosynaptic import Heterosynaptic


def consistent(genes: np.ndarray) -> np.ndarray:
    """Whether the rates of W1 .. WL, V2 .. VL (last axis) have signs with which every layer can descend the gradient.

    Feedback that comes to rest is V_l+1 = (b_l+1 / a_l+1) W_l+1^T M^T for rates a_l of W_l and b_l of V_l. So W_l
    changes along -gradient times a_l b_l+1 / a_l+1 times what its layer above has of it, and all layers descend where
    a_L > 0 and a_l b_l+1 > 0 for all l < L.
    """
    forward, feedback = np.split(genes, [(genes.shape[-1] + 1) // 2], -1)
    return (forward[..., -1] > 0) & (forward[..., :-1] * feedback > 0).all(-1)


class _Course(NamedTuple):
    """By generation, run and rule: `genes` (..., 2 L - 1), `loss` over that of an empty network, `cosine` of the hidden
    layers, after a life; `parents` (generations, runs, parents): which rules have offspring."""

    genes: np.ndarray
    loss: np.ndarray
    cosine: np.ndarray
    parents: np.ndarray

    def of_parents(self, values: np.ndarray) -> np.ndarray:
        """(generations, runs, parents, ...)."""
        return np.take_along_axis(values, self.parents.reshape(self.parents.shape + (1,) * (values.ndim - 3)), 2)


class Evolution(AbstractPrediction):
    """Rules whose rates of plasticity, signs included, evolve by mutation and selection.

    The paper says that gradient learning arises quickly from simple evolution. Its protocol is not known to us: this
    one is our own, and asks what the theory says of the end. A rule is a heterosynaptic circuit with one rate per
    matrix, its genes: tau_plast W_l' = a_l <e_l z^T> - ..., tau_plast V_l' = b_l <z h_l^T> - .... It lives in a
    network that is born random and learns a task that no ancestor knew; the rules with the least loss at the end are
    the parents of all of the next generation. The decay is the same for all: without it nothing would settle.

    With relu neurons and a layer of the wrong sign no network but an empty one is stationary (dynamical consistency):
    of 2^(2 L - 1) patterns of signs 2^(L - 1) can learn. Turning the signs of a_l, b_l+1 and V_l+1 together (and of
    V_l, if any) changes nothing else, so evolution finds their relation, and not the signs.
    """

    number = "T3.10"
    title = "Evolution for learning finds the signs of plasticity that descend the gradient"
    source = "ziyin2025heterosynaptic, abstract (c); protocol ours, the condition on signs is derived"
    equation = "selected: a_L > 0 and a_l b_l+1 > 0, a share 2^-L of random rules; sign(b_l) is free"
    claim = """Rules that are selected for what their networks learn end with plasticity of forward and feedback weights
        of one sign in every hidden layer, and with an output that follows its error. No others learn. Their weights
        change down the gradient, which nobody computed. Whether both signs are positive or negative is chance."""
    method = """Truncation selection among rules with gaussian genes and mutations; relu networks learn random teachers
        in the weight flow, one teacher and one birth per run and generation. Learned: the loss is below half that of
        an empty network. The cosine with the gradient is by automatic differentiation (0 where there is none)."""
    tolerance = """Shares at the beginning and of negative signs are exact: 99.9 % interval over runs. Of rules of
        other signs less than 1 % learn: theory excludes it at rest, and lives are finite. Share of consistent parents
        at the end above 1/2, cosine above 0, at 99.9 %: how fast evolution is, is not predicted."""
    quick = {"generations": 6, "population": 16, "samples": 12, "step": 0.3, "runs": 16}

    inputs: Size = 5
    hidden: Sizes = (6, 6)
    outputs: Size = 3
    samples: Size = 16
    units: Size = 6  # feedback neurons of each layer
    strength: Positive = 1.5  # of the teachers' outputs
    decay: Positive = 10.0  # tau_dec in units of tau_plast
    length: Positive = 5.0  # of a life, in units of tau_dec
    step: Positive = 0.2  # in units of tau_plast; rules of high rates outrun longer ones of Euler's method
    population: Size = 32
    parents: Size = 6
    mutation: Positive = 0.3  # standard deviation; that of the first rules is 1
    generations: Size = 15
    runs: Seeds = 24

    def misfit(self) -> str | None:
        if self.parents > self.population:
            return f"{self.parents} of {self.population} rules cannot be parents"

    def measure(self) -> Finding:
        course = self._course()
        right, learned = consistent(course.genes), course.loss < 0.5
        end, share = consistent(course.of_parents(course.genes)[-1]), 2.0 ** -(len(self.hidden) + 1)
        feedback = course.of_parents(course.genes)[-1][..., len(self.hidden) + 1 :]
        descent = course.of_parents(course.cosine)[-1].mean(1)
        lucky, tried = (learned & ~right).sum((0, 2)), (~right).sum((0, 2))
        verdicts = [
            matches("at random", "share of consistent rules", share, right[0].mean(1)),
            stays_below("others do not learn", "share of inconsistent rules that learned", 0.01, lucky / tried),
            exceeds("selected", "share of consistent parents at the end", 0.5, end.mean(1)),
            *(
                exceeds(f"W{i + 1} descends", "cos(dW, -gradient) of parents at the end", 0.0, descent[:, i])
                for i in range(len(self.hidden))
            ),
            matches("either sign", "share of negative rates of feedback", 0.5, (feedback < 0).mean((1, 2))),
        ]
        return Finding(verdicts, self._drawn(course, right), self._notes(course, right, learned))

    def _notes(self, course: _Course, right: np.ndarray, learned: np.ndarray) -> list[str]:
        sure = consistent(course.of_parents(course.genes)).mean((1, 2)) > 0.9
        notes = [f"Of rules with the right signs, {learned[right].mean():.0%} learned."]
        if sure.any():
            notes.append(f"More than 90 % of the parents are consistent from generation {sure.argmax()} on.")
        exceptions = np.abs(course.genes[learned & ~right])
        if len(exceptions):
            notes.append(
                f"{len(exceptions)} of {int((~right).sum())} other rules had learned when their lives ended, each with "
                f"a rate of at most {exceptions.min(1).max():.2g}: theory forbids it at rest, but lives are finite, "
                "and steps coarse where other rates are high."
            )
        return notes

    def _circuit(self, genes: Array) -> Circuit:
        """The heterosynaptic circuit whose laws are multiplied by genes."""
        rule = Heterosynaptic(feedback_scale=f64(1.0), feedback_units=self.units)
        circuit = wired(rule, (self.inputs, *self.hidden, self.outputs), activation="relu")
        rates = dict(zip(sorted((p.name for p in circuit.plastic), key=lambda n: (n[0] != "W", n)), genes, strict=True))

        def scaled(p):
            terms = (dataclasses.replace(t, post=Times(rates[p.name], t.post)) for t in p.law if isinstance(t, Outer))
            return dataclasses.replace(p, law=tuple(terms))

        return Circuit(circuit.layers, tuple(map(scaled, circuit.projections)))

    def _life(self, genes: Array, birth: Weights, x: Array, y: Array) -> tuple[Array, Array]:
        """The loss at the end over that of an empty network, and the cosines of the hidden layers."""
        circuit, presentations = self._circuit(genes), max(1, round(self.length * self.decay / self.step))
        flow = weight_flow(circuit, x, y, self.step, self.decay)
        end = weights_after(flow, birth, presentations)
        found = loss(circuit, end, x, y) / (0.5 * jnp.sum(y * y, 1).mean())
        cosines = alignment(circuit, end, {}, x, y)
        hidden = jnp.stack([cosines[f"W{i + 1}"] for i in range(len(self.hidden))])
        return jnp.where(jnp.isfinite(found), found, jnp.inf), jnp.nan_to_num(hidden)

    def _course(self) -> _Course:
        rng, many = np.random.default_rng(self.seed), (self.generations, self.runs)
        lives = jax.vmap(jax.vmap(self._life, (0, None, None, None)))

        def generation(genes: Array, fate: tuple) -> tuple[Array, tuple[Array, ...]]:
            birth, x, y, heirs, mutations = fate
            losses, cosines = lives(genes, birth, x, y)
            best = jnp.argsort(losses, 1)[:, : self.parents]
            parents = jnp.take_along_axis(genes, jnp.take_along_axis(best, heirs, 1)[..., None], 1)
            return parents + self.mutation * mutations, (genes, losses, cosines, best)

        seeds = range(self.seed, self.seed + self.generations * self.runs)
        x, y = (a.reshape(*many, *a.shape[1:]) for a in teachers(self.inputs, self.outputs, self.samples, seeds))
        heirs = jnp.asarray(rng.integers(0, self.parents, (*many, self.population)))
        shape = (self.runs, self.population, 2 * len(self.hidden) + 1)
        first, mutations = (f64(rng.standard_normal(s)) for s in (shape, (self.generations, *shape)))
        fates = (self._births(many), x, self.strength * y, heirs, mutations)
        evolve = jax.jit(lambda *known: jax.lax.scan(generation, *known)[1])
        return _Course(*map(np.asarray, evolve(first, fates)))

    def _births(self, many: tuple[int, int]) -> Stacked:
        """(generations, runs, ...): weights as the rule draws them, by NumPy, which needs no compiling."""
        rng, circuit = np.random.default_rng([self.seed, 1]), self._circuit(f64(np.ones(2 * len(self.hidden) + 1)))
        shapes = {p.name: circuit.shape(p) for p in circuit.projections}
        fans = {name: shape[name[0] == "W"] for name, shape in shapes.items()}
        return {name: f64(rng.standard_normal((*many, *s)) / fans[name] ** 0.5) for name, s in shapes.items()}

    @drawn(3.4, 5.0)
    def _drawn(self, figure: Figure, course: _Course, right: np.ndarray) -> None:
        top, bottom = figure.subplots(2, 1, height_ratios=(2, 3))
        x = np.arange(self.generations)
        band(top, x, right.mean(2), color=OKABE_ITO[0], label="consistent rules")
        cosine = course.of_parents(course.cosine).mean((2, 3))
        band(top, x, cosine, color=OKABE_ITO[1], label="parents: cos(dW, -gradient)")
        top.axhline(2.0 ** -(len(self.hidden) + 1), color="0.3", linestyle=":", label="random rules")
        top.set(xlabel="generation", ylabel="share, or cosine", ylim=(-0.1, 1.05))
        legend_outside(top, 2, loc="upper left")
        genes, depth = course.of_parents(course.genes)[-1].reshape(-1, 2 * len(self.hidden) + 1), len(self.hidden) + 1
        size = 1.05 * np.abs(genes).max()
        for low, high in ((0, size), (-size, 0)):
            bottom.fill_between([low, high], low, high, color="0.92", linewidth=0)
        for i in range(len(self.hidden)):
            style = look(i + 2, linestyle="", markersize=3, label=f"layer {i + 1}")
            bottom.plot(genes[:, i], genes[:, depth + i], **style)
        bottom.set(xlabel="rate a of forward weights", ylabel="rate b of their feedback")
        bottom.set(xlim=(-size, size), ylim=(-size, size))
        bottom.legend(title="parents at the end")
