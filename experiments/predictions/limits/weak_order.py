"""3.10b: how noise in long steps differs from the process: the moments of each scheme in closed form, their order."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Activity, Circuit, Given, Layer, Projection, TwoFactor
from dynamics.flow import WeightFlow
from dynamics.integrators import FixedStep
from dynamics.noise import Noise
from dynamics.stimulus import Clock
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import drawn, f64, keys_from, look, marked
from experiments.results.verdicts import Verdict, all_match, matches

Steps = Annotated[int, Field(strict=True, ge=1, le=32)]
Moment = Callable[[np.ndarray, float, float], np.ndarray]  # of steps h / tau, s^2 tau and time t / tau


class Scheme(NamedTuple):
    """A solver on a kind of noise: its own moment after t, and the weak order in which it comes to the process's."""

    solver: str
    kind: Literal["synaptic", "synaptic_multiplicative"]
    moment: Moment
    order: int


def _iterated(factor: np.ndarray, source: np.ndarray, steps: np.ndarray, start: float) -> np.ndarray:
    """v after so many v <- factor v + source."""
    return start * factor**steps + source * (1 - factor**steps) / (1 - factor)


def _euler(h: np.ndarray, power: float, t: float) -> np.ndarray:
    return _iterated((1 - h) ** 2, power * h, t / h, 0.0)


def _heun(h: np.ndarray, power: float, t: float) -> np.ndarray:
    return _iterated((1 - h + h**2 / 2) ** 2, power * h * (1 - h / 2) ** 2, t / h, 0.0)


def _euler_multiplied(h: np.ndarray, power: float, t: float) -> np.ndarray:
    return ((1 - h) ** 2 + power * h) ** (t / h)


def _milstein(h: np.ndarray, power: float, t: float) -> np.ndarray:
    return ((1 - h) ** 2 + power * h + power**2 * h**2 / 2) ** (t / h)


SCHEMES = {
    "Euler, additive": Scheme("euler", "synaptic", _euler, 1),
    "Heun, additive": Scheme("heun", "synaptic", _heun, 2),
    "Euler, multiplicative": Scheme("euler", "synaptic_multiplicative", _euler_multiplied, 1),
    "Milstein, multiplicative": Scheme("milstein", "synaptic_multiplicative", _milstein, 1),
}


class WeakOrder(AbstractPrediction):
    """Many weights that decay under noise of their own, without learning, in few and long steps."""

    number = "3.10b"
    title = "Noise in long steps has the moments of its scheme, which come to the process's with its weak order"
    source = "kloeden1992numerical, the moments of each scheme derived, step by step"
    equation = """additive, v = Var w over s^2 tau: Euler v <- (1 - h)^2 v + h; Heun v <- (1 - h + h^2/2)^2 v + h (1 -
        h/2)^2; multiplicative, E w^2: Euler times (1 - h)^2 + s^2 h; Milstein s^4 h^2 / 2 more; the process: (1 -
        exp(-2t)) / 2 and exp((s^2 - 2) t); h and t in tau_dec"""
    claim = """The engine's noise is wrong at a finite step by what its scheme says, no more. With additive noise this
        comes to the process with the first order for Euler and with the second for Heun. With multiplicative noise
        Euler and Milstein have the moments of their own schemes; how fast these come to the process is not measured:
        it shows at short steps only, where samples are too few."""
    method = """The weight flow of weights without a drive, decay over tau_dec, Ito noise per weight; the mean square
        of all weights at t in steps of h. One sample per seed. The order is the slope of the log of the difference
        from the process."""
    tolerance = """Moments: 99.9 % intervals for all steps together. Orders, of additive noise: 99.9 % intervals
        around the slope that the scheme's own closed form has at these steps."""
    quick = {"seeds": 6, "weights": 2500}

    steps: Annotated[tuple[Steps, ...], Field(min_length=2)] = (1, 2, 4)  # of which t is made
    time: Annotated[float, Field(strict=True, ge=0.2, le=2)] = 0.8  # t, in tau_dec
    additive: Positive = 0.6  # s tau^(1/2)
    multiplicative: Annotated[float, Field(strict=True, ge=0.2, le=1.2)] = 0.8  # s tau^(1/2)
    decay: Positive = 0.5  # tau_dec (s)
    weights: Size = 10_000
    seeds: Seeds = 12

    def misfit(self) -> str | None:
        if list(self.steps) != sorted(set(self.steps)):
            return "steps must be in increasing order"
        return None

    def measure(self) -> Finding:
        found = {name: self._measured(scheme) for name, scheme in SCHEMES.items()}  # (steps, seeds) each
        verdicts = [self._moments(name, found[name]) for name in SCHEMES]
        verdicts += [self._order(name, found[name]) for name in ("Euler, additive", "Heun, additive")]
        return Finding(verdicts, self._drawn(found))

    @property
    def lengths(self) -> np.ndarray:
        """h."""
        return self.time / np.array(self.steps)

    def expected(self, name: str, h: np.ndarray) -> np.ndarray:
        """The moment of a scheme at steps h; at h = 0 that of the process."""
        scheme, h = SCHEMES[name], np.asarray(h, float)
        added = scheme.kind == "synaptic"
        power = (self.additive if added else self.multiplicative) ** 2
        process = power * -np.expm1(-2 * self.time) / 2 if added else np.exp((power - 2) * self.time)
        return np.where(h > 0, scheme.moment(np.where(h > 0, h, 1.0), power, self.time), process)

    def _moments(self, name: str, found: np.ndarray) -> Verdict:
        expected = self.expected(name, self.lengths)
        steps = ", ".join(f"{h:g}" for h in self.lengths)
        quantity = f"mean square over that of the scheme, h = {steps}"
        return all_match(name, quantity, np.ones(len(expected)), found.T / expected)

    def _order(self, name: str, found: np.ndarray) -> Verdict:
        """The slope between the two longest steps, as their difference from the process is seen best."""
        process = float(self.expected(name, np.zeros(1))[0])
        ratio = np.log(self.steps[1] / self.steps[0])

        def slope(moments: np.ndarray) -> np.ndarray:
            off = np.abs(moments[:2] - process)
            return np.log(off[0] / off[1]) / ratio

        own, order = float(slope(self.expected(name, self.lengths)[:, None])[0]), SCHEMES[name].order
        quantity = f"slope of log |moment - process| between h = {self.lengths[1]:g} and {self.lengths[0]:g}"
        note = f"expected of the scheme's own closed form at these steps; {order} for h to 0"
        return matches(f"order, {name}", quantity, own, slope(found), note=note)

    def _measured(self, scheme: Scheme) -> np.ndarray:
        """The mean square of the weights: (steps, seeds)."""
        side = max(1, round(self.weights**0.5))
        start = float(scheme.kind == "synaptic_multiplicative")
        layers = Layer("x", side, role="input", level=0), Layer("y", side)
        matrix = Given(jnp.full((side, side), start, jnp.float64))
        law = TwoFactor(Activity())  # of an input that is 0
        circuit = Circuit(layers, (Projection("W", "x", "activity", "y", "forward", matrix, law),))
        size = self.additive if scheme.kind == "synaptic" else self.multiplicative
        noise = Noise(**{scheme.kind: f64(size / self.decay**0.5)}, calculus="ito")
        times = Timescales(f64(1.0), f64(1.0), f64(self.decay))
        inputs = jnp.zeros((1, side), jnp.float64)

        def one(key: Array, count: Array) -> Array:
            clock = Clock(f64(self.time * self.decay) / count.astype(inputs.dtype), f64(0.0), 1)
            by = FixedStep(scheme.solver)
            flow = WeightFlow(circuit, times, inputs, None, clock, by, key=jax.random.fold_in(key, count), noise=noise)
            state = flow.init(circuit.initial_weights(key))
            return jnp.mean(flow.weights(flow.advance(state, jnp.int32(0), count))["W"] ** 2)

        every = jax.vmap(jax.vmap(one, (0, None)), (None, 0))
        return np.asarray(jax.jit(every)(keys_from(self.seed, self.seeds), jnp.asarray(self.steps, jnp.int32)))

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, found: dict[str, np.ndarray]) -> None:
        panels = figure.subplots(1, 2)
        fine = self.time / np.geomspace(min(self.steps), 4 * max(self.steps), 100)
        for i, (name, moments) in enumerate(found.items()):
            panel = panels[int(SCHEMES[name].kind != "synaptic")]
            panel.plot(fine, self.expected(name, fine), color=look(i)["color"])
            marked(panel, self.lengths, moments, label=name.split(",")[0], **look(i))
        kinds = ("Euler, additive", "Var w"), ("Euler, multiplicative", "E w$^2$")
        for panel, (name, ylabel) in zip(panels, kinds, strict=True):
            panel.axhline(self.expected(name, np.zeros(1))[0], color="0.3", linestyle="--", label="process")
            panel.set(xlabel=r"step h ($\tau_{dec}$)", ylabel=ylabel, title=name.split(", ")[1] + " noise")
            panel.legend(title="lines: the scheme")
