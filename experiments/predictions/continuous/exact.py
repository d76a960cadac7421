"""T1.4, T1.6: what is exact of learning in continuous time: that it tends to SGD, and how fast feedback aligns."""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field, field_validator

from dynamics.circuit import Circuit, Weights
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.discrete import Discrete, DiscreteState
from dynamics.instruments import feedback_mismatch
from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.simulate import simulate
from dynamics.stimulus import Clock, Stream
from dynamics.theory import lagged_overlap
from dynamics.timescales import Timescales
from experiments.predictions.contract import (
    AbstractPrediction,
    Duration,
    Finding,
    NonNegative,
    Positive,
    Seeds,
    Size,
    Sizes,
)
from experiments.predictions.drawing import drawn, legend_outside, look, marked
from experiments.predictions.kit import all_close, coupled, f64, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, matches
from experiments.spec.units import Time
from rules import KP, SGD

RECORDS = 4  # of a trajectory
LIMIT = 1e-7  # tau_prop / T, or T / tau_plast, that stands for zero
FALLING = (0.08, 0.02, 0.005, 0.00125, 0.0003125)
Ratio = Annotated[float, Field(strict=True, ge=1e-4, le=0.2)]
Ratios = Annotated[tuple[Ratio, ...], Field(min_length=3)]
LOOKS = 8
STEPS = 50  # per presentation
CASES = ("plain run", "late error and noise")


class Path(NamedTuple):
    """One coupled run beside its discrete one: tau_prop / T and T / tau_plast."""

    propagation: float
    rate: float


class Problem(NamedTuple):
    """What a seed draws, on the device."""

    inputs: jax.Array
    targets: jax.Array
    weights: Weights
    order: jax.Array


class LearningRate(AbstractPrediction):
    """The distance between a coupled run and discrete SGD on the same samples in the same order."""

    number = "T1.4"
    title = "Learning in continuous time is SGD with learning rate T / tau_plast"
    source = "bacvanski2025continuous, SGD limit; derived: eta = T/tau_plast, lambda = tau_plast/tau_dec"
    equation = """|W(t) - W_sgd(t)| / |W_sgd(t) - W(0)| = O(T/tau_plast) + O(tau_prop/T), with W_sgd += (T/tau_plast) e
        z^T - (T/tau_dec) W after every presentation"""
    claim = """The trajectory of the weights approaches that of SGD with weight decay as tau_prop/T and T/tau_plast
        vanish: in first order in each, and along both at once."""
    method = """Coupled and discrete runs of one stream, distances root-mean-squared over four times. A linear layer has
        closed forms: exact flow during each presentation where tau_prop vanishes, overlap integrals with one and two
        stages where T/tau_plast does. A tanh network gives the orders, between its two smallest ratios."""
    tolerance = """Closed forms: 5e-6, ten times what the window integrator and the ratios of 1e-7 in the place of zero
        are off by. Orders: the 99.9 % interval over seeds, and twice what the order still moves by from one pair of
        ratios to the next, since the next term of the error shrinks with the ratio (and 4e-7 over the smallest ratio,
        for what stands for zero)."""
    quick = {"seeds": 5, "rates": FALLING[2:], "ratios": FALLING[2:]}

    duration: Duration = Time(0.05)
    rates: Ratios = FALLING  # T / tau_plast
    ratios: Ratios = FALLING  # tau_prop / T
    presentations: Annotated[int, Field(strict=True, ge=RECORDS, le=10_000)] = 50
    decay: NonNegative = 0.1  # tau_plast / tau_dec, the L2 coefficient
    inputs: Size = 4
    hidden: Size = 6
    outputs: Size = 3
    samples: Size = 20
    seeds: Seeds = 10

    @field_validator("rates", "ratios")
    @classmethod
    def _falling(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(after >= before for before, after in zip(value[:-1], value[1:], strict=True)):
            raise ValueError("the ratios must fall from each to the next")
        return value

    def measure(self) -> Finding:
        axes = self._axes()
        linear = wired(SGD(), (self.inputs, self.outputs))
        deep = wired(SGD(), (self.inputs, self.hidden, self.outputs))
        layer = {axis: self._distances(linear, axes[axis]) for axis in ("rate", "lag")}
        network = {axis: self._distances(deep, paths) for axis, paths in axes.items()}
        closed = {
            axis: np.array([[form(self, problem, path) for path in axes[axis]] for problem in self._problems(linear)])
            for axis, form in (("rate", _fast_neurons), ("lag", _slow_plasticity))
        }
        names = {"rate": "linear layer, tau_prop -> 0", "lag": "linear layer, T/tau_plast -> 0"}
        quantity = "largest deviation of the relative distance from the closed form"
        verdicts = [all_close(names[axis], quantity, 0.0, np.abs(layer[axis] - closed[axis]), 5e-6) for axis in closed]
        titles = {"rate": "T/tau_plast", "lag": "tau_prop/T", "both": "both ratios at once"}
        verdicts += [_order(f"order in {titles[axis]}, tanh network", axes[axis], network[axis]) for axis in titles]
        end = network["both"][:, -1].mean()
        note = (
            f"At T/tau_plast = {axes['both'][-1].rate:g} and tau_prop/T = {axes['both'][-1].propagation:g} the tanh "
            f"network is within {end:.2%} of SGD."
        )
        return Finding(verdicts, self._drawn(axes, layer, network, closed), [note])

    def _problems(self, circuit: Circuit) -> list[Problem]:
        return [_problem(self, circuit, seed) for seed in range(self.seed, self.seed + self.seeds)]

    def _axes(self) -> dict[str, list[Path]]:
        """By axis, the ratios that go to zero."""
        return {
            "rate": [Path(LIMIT, rate) for rate in self.rates],
            "lag": [Path(ratio, LIMIT) for ratio in self.ratios],
            "both": [Path(self.ratios[0] * rate / self.rates[0], rate) for rate in self.rates],
        }

    def _distances(self, circuit: Circuit, paths: Sequence[Path]) -> np.ndarray:
        """Relative distances of the trajectories: (seeds, paths)."""
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._problems(circuit))
        duration, found = self.duration.seconds(1.0), []
        marks = jnp.asarray(_marks(self.presentations), jnp.int32)
        for path in paths:
            tau = duration / path.rate
            times = Timescales(f64(path.propagation * duration), f64(tau), f64(tau / max(self.decay, 1e-12)))
            found.append(_distance(circuit, times, f64(duration), stacked, marks))
        return np.stack([np.asarray(one) for one in found], 1)

    @drawn(7.0, 2.7)
    def _drawn(self, figure: Figure, axes: Mapping, layer: Mapping, network: Mapping, closed: Mapping) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        labels = {"rate": r"T / $\tau_{plast}$", "lag": r"$\tau_{prop}$ / T"}
        titles = {"rate": r"$\tau_{prop} \to 0$", "lag": r"T / $\tau_{plast} \to 0$"}
        for panel, (axis, label) in zip(panels, labels.items(), strict=True):
            x = np.array([path.rate if axis == "rate" else path.propagation for path in axes[axis]])
            panel.loglog(x, closed[axis].mean(0), color=OKABE_ITO[0], label="linear layer, closed form")
            marked(panel, x, layer[axis].T, **look(0), label="linear layer, simulation")
            guide = network[axis][:, -1].mean() * x / x[-1]
            panel.loglog(x, guide, color=OKABE_ITO[1], linestyle="--", label="first order")
            marked(panel, x, network[axis].T, **look(1), label="tanh network, simulation")
            panel.set(xlabel=label, title=titles[axis])
        panels[0].set_ylabel("relative distance from SGD")
        legend_outside(panels[0], loc="right upper")


def _order(name: str, paths: Sequence[Path], distances: np.ndarray) -> Verdict:
    """Whether the distance falls in proportion to the ratios."""
    falling = [path.rate if path.rate != LIMIT else path.propagation for path in paths[-3:]]
    slopes = np.diff(np.log(distances[:, -3:]), axis=1) / np.diff(np.log(falling))
    curvature = 2 * float(abs(np.diff(slopes.mean(0))[0])) + 4 * LIMIT / falling[-1]
    allowance = min(curvature, 0.2)  # beyond that no order is seen
    note = f"allowance for the next term {allowance:.2g}"
    return matches(name, "slope of log distance against log ratio", 1.0, slopes[:, -1], allowance, note)


def _marks(presentations: int) -> np.ndarray:
    return np.array([round(i * presentations / RECORDS) for i in range(RECORDS + 1)])


def _problem(settings: LearningRate, circuit: Circuit, seed: int) -> Problem:
    """Random samples, inputs of norm one on average; the order of presentations; initial weights."""
    for_x, for_y, for_w, order = jax.random.split(jax.random.key(seed), 4)
    x = jax.random.normal(for_x, (settings.samples, settings.inputs), jnp.float64) / settings.inputs**0.5
    y = jax.random.normal(for_y, (settings.samples, settings.outputs), jnp.float64)
    return Problem(x, y, circuit.initial_weights(for_w), order)


@eqx.filter_jit
def _distance(
    circuit: Circuit, times: Timescales, duration: jax.Array, problems: Problem, marks: jax.Array
) -> jax.Array:
    """By seed: the distance of coupled from discrete weights, relative to how far those have moved."""
    clock, starts, counts = Clock(duration, f64(0.0), 1), marks[:-1], marks[1:] - marks[:-1]

    def one(problem: Problem) -> jax.Array:
        stream = Stream(problem.inputs, problem.targets, problem.order)
        window = Window(1e-8, nodes=12, parts=1, settling=25.0, gaps=False)
        coupled = Coupled(circuit, times, stream, clock, integrator=window)
        discrete = Discrete(circuit, times, stream, clock)

        def go(states: tuple[CoupledProgress, DiscreteState], part: tuple[jax.Array, jax.Array]) -> tuple:
            states = coupled.advance(states[0], *part), discrete.advance(states[1], *part)
            slow, steps = coupled.weights(states[0]), discrete.weights(states[1])
            far = sum(jnp.sum((slow[name] - steps[name]) ** 2) for name in steps)
            return states, (far, sum(jnp.sum((steps[name] - problem.weights[name]) ** 2) for name in steps))

        both = coupled.init(problem.weights), discrete.init(problem.weights)
        _, (far, moved) = jax.lax.scan(go, both, (starts, counts))
        return jnp.sqrt(far.sum() / moved.sum())

    return jax.vmap(one)(problems)


def _shown(problem: Problem, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples of the first presentations, in order."""
    stream = Stream(problem.inputs, problem.targets, problem.order)
    order = np.asarray(jax.vmap(stream.index)(jnp.arange(count, dtype=jnp.int32)))
    return np.asarray(problem.inputs)[order], np.asarray(problem.targets)[order]


def _relative(slow: list[np.ndarray], steps: list[np.ndarray], start: np.ndarray) -> float:
    far = sum(float(((a - b) ** 2).sum()) for a, b in zip(slow, steps, strict=True))
    return float(np.sqrt(far / sum(float(((b - start) ** 2).sum()) for b in steps)))


def _fast_neurons(settings: LearningRate, problem: Problem, path: Path) -> float:
    """The distance for a linear layer where tau_prop -> 0: W' = ((y - W x) x^T - lambda W) / tau_plast, solved exactly.

    Along x the weights relax at the rate (|x|^2 + lambda) / tau_plast to y x^T / (|x|^2 + lambda), else at lambda.
    """
    eta, decay, marks = path.rate, settings.decay, set(_marks(settings.presentations)[1:])
    start = np.asarray(problem.weights["W1"])
    slow = steps = start
    at_slow, at_steps = [], []
    for k, (x, y) in enumerate(zip(*_shown(problem, settings.presentations), strict=True), 1):
        steps = steps + eta * (np.outer(y - steps @ x, x) - decay * steps)
        square = float(x @ x)
        along = np.outer(slow @ x, x) / square
        end = np.outer(y, x) / (square + decay)
        kept = np.exp(-eta * (square + decay))
        slow = (slow - along) * np.exp(-eta * decay) + end + (along - end) * kept
        if k in marks:
            at_slow, at_steps = [*at_slow, slow], [*at_steps, steps]
    return _relative(at_slow, at_steps, start)


def _slow_plasticity(settings: LearningRate, problem: Problem, path: Path) -> float:
    """The distance for a linear layer where T/tau_plast -> 0: the weights are frozen, and what they gather is linear.

    The error that presentation i makes has passed one neuron (the target) or two (the prediction), and overlaps with
    the stimuli j >= i: T times lagged_overlap at a delay of (i - j) T.
    """
    start = np.asarray(problem.weights["W1"])
    x, y = _shown(problem, settings.presentations)
    ages = np.arange(settings.presentations)
    target, prediction = (lagged_overlap(-ages.astype(float), 1.0, 0, m, path.propagation) for m in (1, 2))
    slow, steps = [], []
    for end in _marks(settings.presentations)[1:]:
        late = ages[None, :end] - ages[:end, None]  # by (i, j): how many presentations after i is j
        weights = [np.where(late >= 0, overlap[np.abs(late)], 0.0) for overlap in (target, prediction)]
        gathered = y[:end].T @ weights[0] @ x[:end] - start @ x[:end].T @ weights[1] @ x[:end]
        settled = (y[:end] - x[:end] @ start.T).T @ x[:end]
        slow.append(gathered - end * settings.decay * start)
        steps.append(settled - end * settings.decay * start)
    return _relative(slow, steps, np.zeros_like(start))


class KolenPollackRate(AbstractPrediction):
    """The decay of the mismatch between feedback and forward weights."""

    number = "T1.6"
    title = "Kolen-Pollack feedback aligns at exactly 1 / tau_dec"
    source = "bacvanski2025continuous, the Kolen-Pollack limit; derived: W and the transpose of V have the same drive"
    equation = "|V - W^T|(t) = |V - W^T|(0) exp(-t / tau_dec)"
    claim = """The mismatch of every feedback matrix decays at the rate 1 / tau_dec and no other, independently of
        tau_plast, of late errors and of noise in the activity: both synapses see the same."""
    method = """The norm of V - W^T at eight times in coupled runs over tau_plast and seeds, plain and with a late error
        and noise; the rate is that between start and end."""
    tolerance = """Not random: twice the error of Heun steps, which decay at a rate lower by (dt / tau_dec)^2 / 6 of it,
        and 1e-9 for rounding."""
    quick = {"seeds": 3, "hidden": (8,), "plasticity": (3.0, 100.0), "lifetimes": 2.0}

    hidden: Sizes = (8, 6)
    inputs: Size = 4
    outputs: Size = 3
    duration: Duration = Time(0.05)
    propagation: Annotated[float, Field(strict=True, ge=0.05, le=1)] = 0.1  # in units of T, as all times that follow
    plasticity: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=7)] = (3.0, 10.0, 30.0, 100.0, 1000.0)
    decay: Annotated[float, Field(strict=True, ge=1)] = 50.0
    delay: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.3
    noise: NonNegative = 0.2
    feedback_scale: Positive = 2.0
    lifetimes: Annotated[float, Field(strict=True, ge=0.5, le=10)] = 3.0  # how many tau_dec a run lasts
    seeds: Seeds = 10

    def measure(self) -> Finding:
        times, ratios = self._mismatch()
        solver = (1 / STEPS / self.decay) ** 2 / 6
        rates = -np.log(ratios[..., -1, :]) / times[-1]
        verdicts = []
        for case, rate in zip(CASES, rates, strict=True):
            quantity = "rate x tau_dec farthest from 1, of all tau_plast, seeds and matrices"
            verdicts.append(all_close(f"rate of alignment, {case}", quantity, 1.0, rate, 2 * solver + 1e-9))
        fastest = min(self.plasticity)
        driven = (
            f"The fastest plasticity, tau_plast = {fastest:g} T, is {self.decay / fastest:.3g} times faster than the "
            "decay: the weights themselves change much faster than the mismatch."
        )
        return Finding(verdicts, self._drawn(times, ratios, rates, solver), [driven])

    def _mismatch(self) -> tuple[np.ndarray, np.ndarray]:
        """Times in tau_dec, and |V - W^T| against that at the start: (case, tau_plast, seed, time, matrix)."""
        circuit = wired(KP(f64(self.feedback_scale)), (self.inputs, *self.hidden, self.outputs), bias=True)
        duration, shown = self.duration.seconds(1.0), max(LOOKS, round(self.lifetimes * self.decay))

        def one(seed: jax.Array, plasticity: jax.Array, disturbed: jax.Array) -> jax.Array:
            for_x, for_y, for_w, order, for_noise = jax.random.split(jax.random.key(seed), 5)
            x = jax.random.normal(for_x, (20, self.inputs), jnp.float64)
            y = jax.random.normal(for_y, (20, self.outputs), jnp.float64)
            run = coupled(
                circuit, Stream(x, y, order), self.propagation * duration, plasticity, duration, STEPS,
                decay=self.decay * duration, late=disturbed * self.delay * duration,
                noise=Noise(activity=disturbed * self.noise), key=for_noise, history=int(self.delay * STEPS) + 3,
            )  # fmt: skip
            start = circuit.initial_weights(for_w)
            recorded = simulate(run, shown, lambda w, _: feedback_mismatch(circuit, w), LOOKS, start)
            return jnp.stack(list(recorded.probes.values()), -1)

        seeds = jnp.arange(self.seed, self.seed + self.seeds)
        over = jax.vmap(jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, None)), (None, None, 0))
        norms = np.asarray(jax.jit(over)(seeds, duration * f64(self.plasticity), f64((0.0, 1.0))))
        times = np.array([round(i * shown / LOOKS) for i in range(LOOKS + 1)]) / self.decay
        return times, norms / norms[..., :1, :]

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, times: np.ndarray, ratios: np.ndarray, rates: np.ndarray, solver: float) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.linspace(0, times[-1], 50)
        left.semilogy(fine, np.exp(-fine), color="0.3", label=r"theory: $e^{-t/\tau_{dec}}$")
        means = ratios.mean((2, 4))
        for i, tau in enumerate(self.plasticity):
            rings = look(i, linestyle="none", fillstyle="none", markersize=9 - i)
            left.plot(times, means[0, i], label=rf"$\tau_{{plast}}$ = {tau:g} T", **rings)
        left.plot(times, means[1].mean(0), "k.", markersize=2, label="late error, noise")
        left.set(xlabel=r"time (decay times $\tau_{dec}$)", ylabel="mismatch (relative to start)")
        left.legend()
        right.axhline(0, color="0.3", label="theory")
        right.axhline(-solver * 1e8, color="0.3", linestyle=":", label="theory, Heun steps")
        for case, rate, marker, size in zip(CASES, rates, "os", (3, 7), strict=True):
            off = (rate - 1).reshape(len(self.plasticity), -1) * 1e8
            right.errorbar(
                self.plasticity, off.mean(1), np.abs(off - off.mean(1, keepdims=True)).max(1), fmt=marker,
                markersize=size, fillstyle="none", color=OKABE_ITO[marker == "s"], capsize=2, label=case,
            )  # fmt: skip
        right.set(xscale="log", xlabel=r"plasticity timescale $\tau_{plast}$ / T")
        right.set(ylabel=r"(rate $\times\ \tau_{dec}$ - 1) $\times\ 10^8$", ylim=(-1.5e8 * solver, 2e8 * solver))
        right.legend()
