"""3.10: an Ornstein-Uhlenbeck process: by a flow without noise, and in long steps of every scheme."""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Given,
    Layer,
    Local,
    Projection,
    TwoFactor,
    Variable,
    Wave,
)
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.integrators import FixedStep
from dynamics.noise import Noise
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.drawing import against, drawn, look, marked
from experiments.predictions.kit import all_close, f64, keys_from, on_grid, weight_flow, weights_after
from experiments.predictions.limits.delayed import activities, silent_run
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, all_match, matches

STEPS, INTERVAL = 8, 0.25  # in an interval between two looks, of tau / 4
Steps = Annotated[int, Field(strict=True, ge=1, le=32)]
Moment = Callable[[np.ndarray, float, float], np.ndarray]  # of steps h / tau, s^2 tau and time t / tau


class Clockwork(eqx.Module):
    """(m, g) at t + offset: the mean of the process in units of mu, and s^2 over its variance; time in tau = 1 s."""

    offset: Array

    def __call__(self, t: Float[Array, ""]) -> Float[Array, "2"]:
        now = t + self.offset
        return jnp.stack([-jnp.expm1(-now), -1 / jnp.expm1(-2 * now)])


class Transported(AbstractFactor):
    """mu + g (x - m) once it flows, so that x' = -x + this; before, while `pulled` is 1, x + `goal` / t0."""

    pulled: Array
    goal: Float[Array, " size"]
    mu: Array

    def __call__(self, local: Local) -> Float[Array, " size"]:
        x, mean, gain = local.activity, self.mu * local.inputs["mean"], local.inputs["gain"]
        return self.pulled * (x + self.goal) + (1 - self.pulled) * (self.mu + gain * (x - mean))


class ProbabilityFlow(AbstractPrediction):
    """Many neurons with noise that relax to an input, and as many without that the score of their density moves."""

    number = "3.10a"
    title = "A flow without noise has the marginals of the Ornstein-Uhlenbeck process"
    source = "maoutsa2020interacting, closed form for a Gaussian derived"
    equation = """tau dx = (mu - x) dt + s sqrt(2 tau) dB and tau x' = mu - x + s^2 (x - m) / v have the same mean m =
        mu (1 - exp(-t/tau)) and variance v = s^2 (1 - exp(-2t/tau)); the flow is x = m + (x0 - m0) sqrt(v / v0)"""
    claim = """The deterministic flow along the score moves every point by its quantile, so that mean and variance are
        those of the noisy process at all times, while its points stay in order for ever and those of the process
        forget where they began."""
    method = """Neurons with activity noise in the coupled regime, from silence; and neurons without, brought to
        normal quantities of the same mean and variance at t0 and moved from there by a wave that carries m and 1 / v,
        by Dormand-Prince steps of tau / 32. One sample per seed, mean and variance over neurons."""
    tolerance = """Means and variances: 99.9 % intervals for all times together. The flow against its closed form:
        1e-6, its steps' error. Correlation with the start: 99.9 % intervals."""
    quick = {"seeds": 8, "looks": 6}

    deviation: Positive = 0.7  # s
    goal: Positive = 1.5  # mu
    start: Annotated[int, Field(strict=True, ge=1, le=8)] = 1  # t0, in looks of tau / 4
    looks: Annotated[int, Field(strict=True, ge=3, le=100)] = 12
    neurons: Size = 400
    seeds: Seeds = 12

    def measure(self) -> Finding:
        noisy, flowing = self._noisy(), self._flowing()  # (seeds, looks, neurons)
        mean, variance = self.expected(1 + np.arange(self.looks))
        m0, v0 = mean[self.start - 1], variance[self.start - 1]
        mean, variance = mean[self.start - 1 :], variance[self.start - 1 :]
        noisy = noisy[:, self.start - 1 :]
        mapped = mean[:, None] + (flowing[:, :1] - m0) * np.sqrt(variance / v0)[:, None]
        spread = [((x - mean[:, None]) ** 2).mean(-1) / variance for x in (noisy, flowing)]
        at_end = [_correlations(x[:, 0], x[:, -1]) for x in (noisy, flowing)]
        left = float(np.exp(-(len(mean) - 1) * INTERVAL) * np.sqrt(v0 / variance[-1]))
        ones = np.ones(len(mean))
        verdicts = [
            all_match("mean of the process", "mean over m, all times", ones, noisy.mean(-1) / mean),
            all_match("variance of the process", "variance over v, all times", ones, spread[0]),
            all_match("variance of the flow", "variance over v, all times", ones, spread[1]),
            all_close("the flow", "largest deviation from m + (x0 - m0) sqrt(v / v0), over s", 0.0,
                      (flowing - mapped) / self.deviation, 1e-6),
            matches("the process forgets", "correlation of points at t0 and at the end", left, at_end[0], scale=0.2),
            all_close("the flow does not", "correlation of points at t0 and at the end", 1.0, at_end[1], 1e-9),
        ]  # fmt: skip
        return Finding(verdicts, self._drawn(noisy, flowing))

    def misfit(self) -> str | None:
        return "start must be before the last look" if self.start >= self.looks else None

    def expected(self, looks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """m and v after so many looks."""
        t = INTERVAL * np.asarray(looks, float)
        return self.goal * -np.expm1(-t), self.deviation**2 * -np.expm1(-2 * t)

    def _noisy(self) -> np.ndarray:
        """The process at every look: (seeds, looks, neurons)."""
        layers = Layer("one", 1, role="constant", level=0), Layer("x", self.neurons)
        goal = Given(jnp.full((self.neurons, 1), self.goal, jnp.float64))
        circuit = Circuit(layers, (Projection("G", "one", "activity", "x", "forward", goal),))
        noise = Noise(activity=f64(self.deviation))

        def one(key: Array) -> Array:
            return activities(silent_run(circuit, 1.0, INTERVAL, STEPS, noise=noise, key=key), "x", self.looks, 1)

        return np.asarray(jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds)))

    def _flowing(self) -> np.ndarray:
        """The flow at the looks from t0 on: (seeds, looks, neurons)."""
        n, (m0, v0) = self.neurons, self.expected(np.array([self.start]))
        pulled = f64(np.arange(self.looks) < self.start)
        numbers = jnp.arange(self.looks, dtype=jnp.int32)

        def run_of(pulled: Array, offset: Array, goal: Array) -> Coupled:
            own = Variable("activity", Transported(pulled, goal, f64(self.goal)))
            layers = Layer("w", 2, source=Wave(Clockwork(offset)), level=0), Layer("x", n, variables=(own,))
            wires = [
                Projection(port, "w", "activity", "x", port, Given(jnp.zeros((n, 2), jnp.float64).at[:, i].set(1.0)))
                for i, port in enumerate(("mean", "gain"))
            ]
            return silent_run(Circuit(layers, tuple(wires)), 1.0, INTERVAL, STEPS, integrator=FixedStep("dopri5"))

        def one(key: Array) -> Array:
            x0 = float(m0[0]) + float(v0[0]) ** 0.5 * jax.random.normal(key, (n,), jnp.float64)
            goal = x0 / (INTERVAL * self.start)
            offsets = INTERVAL * jnp.maximum(numbers.astype(x0.dtype), INTERVAL)  # while it is pulled any will do

            def look(progress: CoupledProgress, now: tuple[Array, Array, Array]) -> tuple[CoupledProgress, Array]:
                progress = run_of(now[1], now[2], goal).advance(progress, now[0], 1)
                return progress, progress.state.activity["x"]

            first = run_of(pulled[0], offsets[0], goal)
            start = first.init(first.circuit.initial_weights(jax.random.key(0)))
            return jax.lax.scan(look, start, (numbers, pulled, offsets))[1][self.start - 1 :]

        return np.asarray(jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds)))

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, noisy: np.ndarray, flowing: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        t = INTERVAL * np.arange(self.start, self.looks + 1)
        fine = np.linspace(t[0], t[-1], 200)
        mean, variance = self.expected(fine / INTERVAL)
        for i, (name, x) in enumerate((("process", noisy), ("flow", flowing))):
            left.plot(t, x[0, :, :6], color=OKABE_ITO[i], linewidth=0.6, alpha=0.8)
            left.plot([], [], color=OKABE_ITO[i], label=f"{name}: six neurons")
            marked(right, t, x.var(-1).T, label=name, **look(i))
        for sign in (-1, 1):
            left.plot(fine, mean + sign * np.sqrt(variance), color="0.3", linestyle="--", linewidth=0.8)
        left.plot([], [], color="0.3", linestyle="--", label="mean, one deviation off")
        left.set(xlabel=r"time ($\tau$)", ylabel="x")
        left.legend()
        right.plot(fine, variance, color="0.3", label="theory")
        right.set(xlabel=r"time ($\tau$)", ylabel="variance over neurons")
        right.legend()


def _correlations(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Over neurons, by seed."""
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first, last, strict=True)])


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
        return None if list(self.steps) == sorted(set(self.steps)) else "steps must be in increasing order"

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
        inputs = jnp.zeros((1, side), jnp.float64)

        def one(count: Array, key: Array) -> Array:
            step, own = f64(self.time * self.decay) / count.astype(inputs.dtype), jax.random.fold_in(key, count)
            flow = weight_flow(circuit, inputs, None, step, self.decay, 1.0, scheme.solver, key=own, noise=noise)
            return jnp.mean(weights_after(flow, circuit.initial_weights(key), count)["W"] ** 2)

        return on_grid(one, jnp.asarray(self.steps, jnp.int32), keys_from(self.seed, self.seeds))

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, found: dict[str, np.ndarray]) -> None:
        panels = figure.subplots(1, 2)
        fine = self.time / np.geomspace(min(self.steps), 4 * max(self.steps), 100)
        for i, (name, moments) in enumerate(found.items()):
            panel = panels[int(SCHEMES[name].kind != "synaptic")]
            against(panel, i, (fine, self.expected(name, fine)), (self.lengths, moments), name.split(",")[0])
        kinds = ("Euler, additive", "Var w"), ("Euler, multiplicative", "E w$^2$")
        for panel, (name, ylabel) in zip(panels, kinds, strict=True):
            panel.axhline(self.expected(name, np.zeros(1))[0], color="0.3", linestyle="--", label="process")
            panel.set(xlabel=r"step h ($\tau_{dec}$)", ylabel=ylabel, title=name.split(", ")[1] + " noise")
            panel.legend(title="lines: the scheme")
