"""Which rule families have a plasticity window, and where: learning against the delay of the error and tau_plast."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.coupled import Coupled
from dynamics.instruments import predict
from dynamics.integrators import FixedStep
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positives, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import all_close, coupled, f64, keys_from, wired
from experiments.predictions.limits.families import FAMILIES, Family
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, stays_below
from experiments.spec.units import Time

Program = Callable[[np.ndarray, np.ndarray, int, float], tuple[np.ndarray, np.ndarray]]
WEAK = 1e6  # tau_plast / T where strengths are measured
GAP = 1.0  # T, after the only presentation of a run that measures strengths
BEYOND = 1.25  # T: from here on filters and loops have forgotten a stimulus
RECORDS = 4  # in the last quarter of the presentations
DEPTH = 2
LEARNED = 0.5  # R^2 from which on, half of the variance, a teacher counts as learned
Lag = Annotated[float, Field(strict=True, ge=0.01, le=0.06)]
Delay = Annotated[float, Field(strict=True, ge=0, le=1.4)]


class Measured(NamedTuple):
    """What is measured of a family: S(d) / S(0) by delay; R^2 by (tau_plast, seed) without a delay, and by (delay,
    seed) at the best tau_plast, 0 where it is negative."""

    strength: np.ndarray
    learned: np.ndarray
    late: np.ndarray

    @property
    def best(self) -> int:
        """The place of the best tau_plast."""
        return int(self.learned.mean(1).argmax())


class PlasticityFamilies(AbstractPrediction):
    """A tanh student of a tanh teacher, taught by every family of rules in turn."""

    number = "F1"
    title = "Families that are taught have a plasticity window, families that follow activity alone have none"
    source = "bacvanski2025continuous, for gradients and feedback alignment; asked here of every family"
    equation = """S(d) / S(0) = max(0, 1 - d / T) where a product of input and error is learned, its filtered form
        behind a trace, 1 where no error is"""
    claim = """The window in the delay of the error belongs to the product of input and error, not to how the error gets
        to a synapse: gradients, random, direct, learned and heterosynaptic feedback, flipped signs, multiplicative
        steps and nudged twins share one of half width T / 2. Eligibility traces widen it, also those of recurrent
        layers that learn by e-prop. Hebbian families have none: their learning does not depend on it, and does not find
        the teacher. A taught family has a best tau_plast: slower than a stimulus, as else the last samples are all it
        knows, and faster than the run. (What late targets of other energies, rewards, plateaus and perturbations do:
        A2.8, 3F.1, BT.1, A3.6.)"""
    method = """The coupled regime. Strength: the weights' change by one presentation in a gap, weak plasticity,
        projected on that without a delay; all matrices and seeds, each with a sample of its own, together. Learning:
        explained variance R^2 = 1 - MSE / Var(y) of the settled network on all samples after a dense stream, mean of
        the last quarter; against tau_plast without a delay, and against the delay at the best tau_plast. A window is
        where R^2 is at least half of the best."""
    tolerance = """Curves: 4 tau_prop / T, as a signal has passed at most one filter before a synapse and an error at
        most four. Half widths: half of that. Beyond T: 1e-3, what filters hold that long. No error, no dependence:
        1e-9. R^2: 99.9 % intervals over seeds; 0 where a run is worse than the mean of the targets, or diverges; from
        half of the variance on a teacher counts as learned."""
    quick = {
        "families": ("sgd", "hebbian"), "seeds": 6, "presentations": 96, "delays": (0.0, 0.25, 0.5, 0.75, 1.3),
        "timescales": (0.2, 2.0, 16.0, 100.0, 1000.0),
    }  # fmt: skip

    families: Annotated[tuple[str, ...], Field(min_length=1)] = tuple(FAMILIES)
    delays: Annotated[tuple[Delay, ...], Field(min_length=3)] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.4)  # d / T
    timescales: Positives = (0.2, 0.6, 2.0, 6.0, 20.0, 60.0, 200.0, 600.0, 3000.0)  # tau_plast / T
    duration: Duration = Time(0.05)  # T
    propagation: Lag = 0.03  # tau_prop / T
    inputs: Size = 5
    hidden: Size = 8
    outputs: Size = 2
    samples: Size = 30
    presentations: Annotated[int, Field(strict=True, ge=32, le=100_000)] = 200
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown:
            return f"there is no family '{unknown[0]}': it must be one of {', '.join(FAMILIES)}"
        for name in ("delays", "timescales"):
            if list(getattr(self, name)) != sorted(set(getattr(self, name))) or len(getattr(self, name)) < 3:
                return f"{name} must be 3 or more, in increasing order"
        if self.delays[0] != 0 or self.delays[-1] <= BEYOND:
            return f"delays must begin at 0 and end beyond {BEYOND:g}"

    def measure(self) -> Finding:
        found = {name: self._measured(FAMILIES[name]) for name in self.families}
        taught = {name: one for name, one in found.items() if FAMILIES[name].taught}
        alone = {name: one for name, one in found.items() if not FAMILIES[name].taught}
        verdicts = self._delays(taught) + self._timescales(taught) if taught else []
        if alone:
            flat = np.concatenate([one.strength for one in alone.values()])
            best = np.max([one.learned[one.best] for one in alone.values()], axis=0)
            quantity = f"S(d) / S(0) of {', '.join(alone)}: the farthest from 1"
            verdicts += [
                all_close("no error, no window", quantity, 1.0, flat, 1e-9),
                stays_below("no error, no teacher", "best R^2 of all tau_plast and of these families", LEARNED, best),
            ]
        return Finding(verdicts, self._drawn(found), [self._sentence(name, one) for name, one in found.items()])

    def _delays(self, taught: dict[str, Measured]) -> list[Verdict]:
        """Claims about the delay of the error, of all families that are taught."""
        d, allowed = np.array(self.delays), 2 * DEPTH * self.propagation
        off, widths = [], []
        for name, one in taught.items():
            curve = FAMILIES[name].curve
            off.append(one.strength - curve(d))
            widths.append(half_width(d, one.strength) - half_width(d, curve(d)))
        boxes = [one.strength[d > BEYOND] for name, one in taught.items() if FAMILIES[name].trace is None]
        names = f"of {len(taught)} families"
        verdicts = [
            all_close("curves", f"largest deviation of S(d) / S(0) from theory, {names}", 0.0, np.array(off), allowed),
            all_close("half widths", f"d / T where S halves, less theory, {names}", 0.0, np.array(widths), allowed / 2),
        ]
        if boxes:
            quantity = f"largest |S(d) / S(0)| from {BEYOND:g} T on, of {len(boxes)} families without traces"
            verdicts.append(all_close("nothing beyond T", quantity, 0.0, np.array(boxes), 1e-3))
        return verdicts

    def _timescales(self, taught: dict[str, Measured]) -> list[Verdict]:
        """Claims about tau_plast, of all families that are taught: the one that comes nearest to failing."""
        inside = {n: one.learned[one.best] - np.maximum(one.learned[0], one.learned[-1]) for n, one in taught.items()}
        least = min(inside, key=lambda name: inside[name].mean())
        quantity = f"best R^2 less that at the ends of tau_plast, of {least}, where it is least"
        verdicts = [exceeds("best tau_plast", quantity, 0.0, inside[least])]
        late = np.array(self.delays) > BEYOND
        boxes = {name: one.late[late].mean(0) for name, one in taught.items() if FAMILIES[name].trace is None}
        if boxes:
            most = max(boxes, key=lambda name: boxes[name].mean())
            quantity = f"R^2 at delays from {BEYOND:g} T on and the best tau_plast, of {most}, where it is largest"
            verdicts.append(stays_below("no overlap, no learning", quantity, LEARNED, boxes[most]))
        return verdicts

    def window(self, one: Measured) -> tuple[float, float] | None:
        """The tau_plast / T between which R^2 is at least half of its best, interpolated in its logarithm."""
        curve, x = one.learned.mean(1), np.log(self.timescales)
        if curve.max() < LEARNED:
            return None
        level, best = curve.max() / 2, one.best
        low = next((i for i in range(best, -1, -1) if curve[i] < level), None)
        high = next((i for i in range(best, len(x)) if curve[i] < level), None)
        ends = [x[0], x[-1]]
        for n, (out, into) in enumerate(((low, 1), (high, -1))):
            if out is not None:
                share = (level - curve[out]) / (curve[out + into] - curve[out])
                ends[n] = x[out] + share * (x[out + into] - x[out])
        return float(np.exp(ends[0])), float(np.exp(ends[1]))

    def _sentence(self, name: str, one: Measured) -> str:
        """The row of the table."""
        d, curve, window = np.array(self.delays), FAMILIES[name].curve, self.window(one)
        if FAMILIES[name].taught:
            width, law = half_width(d, one.strength), half_width(FINE, curve(FINE))
            said = f"a window in the error's delay, half width {width:.2f} T (theory {law:.2f} T)"
        else:
            said = "no window in the error's delay, which it does not see"
        best = one.learned[one.best].mean()
        if window is None:
            return f"{name}: {said}; no tau_plast at which it learns the teacher (best R^2 {best:.2f})."
        span = f"{window[0]:.2g} T to {window[1]:.2g} T, best {self.timescales[one.best]:g} T (R^2 {best:.2f})"
        return f"{name}: {said}; in tau_plast from {span}."

    def _measured(self, family: Family) -> Measured:
        size = max(len(self.delays), len(self.timescales))  # one program for all three runs
        delays, taus = (np.resize(values, size) for values in (self.delays, self.timescales))
        run = self._program(family)
        change = run(np.full(size, WEAK), delays, 1, GAP)[0][: len(self.delays)]
        strength = (change * change[0]).sum((1, 2)) / (change[0] ** 2).sum()
        learned = run(taus, np.zeros(size), self.presentations, 0.0)[1][: len(self.timescales)]
        found = Measured(strength, learned, np.zeros((0, self.seeds)))
        if not family.taught:
            return found
        best = np.full(size, self.timescales[found.best])
        return found._replace(late=run(best, delays, self.presentations, 0.0)[1][: len(self.delays)])

    def _program(self, family: Family) -> Program:
        """(change of all plastic maps, R^2) by (point, seed), of points tau_plast and delay in T."""
        network, duration = (self.inputs, self.hidden, self.outputs), self.duration.value
        keys = keys_from(self.seed, self.seeds)

        def one(key: PRNGKeyArray, plasticity: Array, late: Array, counts: Array, gap: Array) -> tuple[Array, Array]:
            seconds = late * duration
            rule = family.rule
            if family.late != "error":
                rule, seconds = dataclasses.replace(rule, **{family.late: seconds}), 0 * seconds
            if family.twice is not None:
                rule = dataclasses.replace(rule, trace=f64(family.twice * duration))
            circuit = wired(rule, network, activation="tanh")
            for_data, for_weights, for_order, for_noise = jax.random.split(key, 4)
            x, y = teacher(for_data, self.samples, network)
            run = coupled(
                circuit, Stream(x, y, for_order), self.propagation * duration, plasticity * duration, duration,
                family.steps, gap=gap * duration, late=seconds,
                trace=None if family.trace is None else family.trace * duration,
                history=int(1.4 * family.steps) + 4, key=for_noise,
                integrator=FixedStep(family.solver, compensated=False),
            )  # fmt: skip
            return learn(run, circuit, circuit.initial_weights(for_weights), x, y, counts)

        every = jax.jit(jax.vmap(jax.vmap(one, (0, None, None, None, None)), (None, 0, 0, None, None)))

        def program(plasticity: np.ndarray, late: np.ndarray, count: int, gap: float) -> tuple[np.ndarray, np.ndarray]:
            block = count // (4 * RECORDS)
            counts = jnp.asarray([count - (RECORDS - 1) * block, *[block] * (RECORDS - 1)], jnp.int32)
            change, learned = every(keys, f64(plasticity), f64(late), counts, f64(gap))
            return np.asarray(change), np.asarray(learned)

        return program

    @drawn(7.2, 3.0)
    def _drawn(self, figure: Figure, found: dict[str, Measured]) -> None:
        strength, learned, table = figure.subplots(1, 3, width_ratios=(1, 1, 1.2))
        looks = {name: self._look(i) for i, name in enumerate(found)}
        for name, one in found.items():
            strength.plot(FINE, FAMILIES[name].curve(FINE), color="0.6", linewidth=0.8, zorder=0)
            strength.plot(self.delays, one.strength, linestyle="", **looks[name])
            marked(learned, self.timescales, one.learned, **(looks[name] | {"linestyle": "-", "linewidth": 0.7}))
        strength.set(xlabel="delay of the error d / T", ylabel="learning strength S(d) / S(0)")
        strength.set(xlim=(-0.05, self.delays[-1] + 0.05), ylim=(-0.05, 1.3))
        learned.set(xscale="log", xlabel=r"$\tau_{plast}$ / T", ylabel="explained variance $R^2$", ylim=(-0.05, 1.05))
        learned.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        self._table(table, found, looks)

    @staticmethod
    def _look(i: int) -> dict:
        """Of the i-th family: filled markers first, then open ones."""
        return look(i) | {"fillstyle": "full" if i < len(OKABE_ITO) else "none"}

    def _table(self, panel: Axes, found: dict[str, Measured], looks: dict[str, dict]) -> None:
        """One row per family: its window in tau_plast as a bar, the best one, its half width in the delay."""
        for row, (name, one) in enumerate(found.items()):
            window, style = self.window(one), looks[name]
            width = half_width(np.array(self.delays), one.strength)
            said = f"{width:.2f} T" if np.isfinite(width) else "none"
            panel.text(1.02, row, said, transform=panel.get_yaxis_transform(), va="center")
            if window is not None:
                panel.plot(window, [row, row], color=style["color"], linewidth=4, alpha=0.4, solid_capstyle="butt")
                panel.plot(self.timescales[one.best], row, **style)
            else:
                panel.plot(self.timescales[0], row, **style)
                panel.text(self.timescales[0] * 1.6, row, "learns no teacher", va="center", color="0.4")
        panel.text(1.02, -1, "half width", transform=panel.get_yaxis_transform(), va="center")
        panel.set(xscale="log", xlabel=r"window in $\tau_{plast}$ / T", ylim=(len(found) - 0.5, -1.4))
        panel.set_xlim(self.timescales[0] / 1.5, self.timescales[-1])
        panel.set_yticks(range(len(found)), list(found))


FINE = np.linspace(0, 6, 601)


def half_width(delays: np.ndarray, curve: np.ndarray) -> float:
    """The delay at which a curve has fallen to half of its first value, interpolated; infinite where it has not."""
    low = np.flatnonzero(curve < curve[0] / 2)
    if not low.size:
        return float("inf")
    i = low[0]
    share = (curve[i - 1] - curve[0] / 2) / (curve[i - 1] - curve[i])
    return float(delays[i - 1] + share * (delays[i] - delays[i - 1]))


def teacher(key: PRNGKeyArray, samples: int, sizes: tuple[int, ...]) -> tuple[Array, Array]:
    """Inputs, and what a random tanh network makes of them; outputs of mean 0 and variance 1."""
    for_x, first, second = jax.random.split(key, 3)
    x = jax.random.normal(for_x, (samples, sizes[0]), jnp.float64)
    w1 = jax.random.normal(first, (sizes[0], sizes[1]), jnp.float64) / sizes[0] ** 0.5
    y = jnp.tanh(x @ w1) @ jax.random.normal(second, (sizes[1], sizes[2]), jnp.float64)
    y = y - y.mean(0, keepdims=True)
    return x, y / y.std(0, keepdims=True)


def learn(run: Coupled, circuit: Circuit, weights: Weights, x: Array, y: Array, counts: Array) -> tuple[Array, Array]:
    """The change of all plastic maps, and the mean R^2 after each of `counts` presentations in a row."""

    def block(carry: tuple, count: Array) -> tuple[tuple, Array]:
        progress, first = carry
        progress = run.advance(progress, first, count)
        error = jnp.mean((predict(circuit, run.weights(progress), x) - y) ** 2)
        score = jnp.where(jnp.isfinite(error), 1 - error, 0.0)  # the variance is 1
        return (progress, first + count), jnp.maximum(score, 0.0)

    (progress, _), scores = jax.lax.scan(block, (run.init(weights), jnp.int32(0)), counts)
    after = run.weights(progress)
    changes = [(after[p.name] - weights[p.name]).ravel() for p in circuit.plastic]
    return jnp.concatenate(changes), scores.mean()
