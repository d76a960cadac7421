"""EP: e-prop: how far it is the gradient through time, and its window in the delay of the learning signal."""

import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from dynamics.theory import overlap_law
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Seeds, Size
from experiments.predictions.drawing import legend_outside, look, marked, plotted
from experiments.predictions.kit import HEUN, all_close, coupled, f64, keys_from, weights_after, wired
from experiments.predictions.traces.overlaps import filtered_overlap
from experiments.report.figures import LINES
from experiments.results.verdicts import Verdict, close, exceeds, matches
from rules import EProp

WEAK = 1e7  # tau_plast / T
STEPS = 300  # of the fifth order, and of the reference, per presentation
LEARNED = ("W1", "R1", "W2")
WEAKER = 1e9  # tau_plast / T of the window
STEPS_PER_LAG = 40  # of the window
Delay = Annotated[float, Field(strict=True, ge=0, le=6)]
Trace = Annotated[float, Field(strict=True, ge=0.05, le=2)]


class Updates(NamedTuple):
    """The matrices that learn by (seeds, recurrent scales): what e-prop does, and minus the gradient through time."""

    eprop: dict[str, np.ndarray]
    gradient: dict[str, np.ndarray]


class EPropGradient(AbstractPrediction):
    """e-prop's update of a recurrent network after one presentation, beside that of backpropagation through time."""

    number = "EP.1"
    title = "e-prop is the gradient through time without recurrence, and drifts from it as the square of the recurrence"
    source = """bellec2020solution, symmetric e-prop, for rate neurons tau u' = -u + W x + R f(u) and a leaky readout;
        derived"""
    equation = """dL/dW = -int L_j E_ji dt, L = int |y - z|^2 dt / 2, E = F[f'(u_j) F[z_i]] where R = 0; 1 - cos =
        O(R^2), since what e-prop leaves out is O(R)"""
    claim = """With symmetric feedback and traces of tau_prop, e-prop's update of input, recurrent and output weights
        is that of backpropagation through time where R = 0. The readout's stays so; for the others the cosine falls
        with the recurrent weights, first as their square."""
    method = """One sample is shown for a few tau_prop from silence, at weak plasticity, by windows and by steps. The
        gradient: automatic differentiation of the loss through Runge-Kutta steps of the network alone."""
    tolerance = """Equality: 1e-5 of the gradient. The cosine must fall beyond its 99.9 % interval from one scale to
        the next. The exponent, between the two smallest scales: 2, with 0.2 allowed for the next order."""
    quick = {"seeds": 20, "scales": (0.0, 0.1, 0.2, 1.0)}

    inputs: Size = 4
    hidden: Size = 12
    outputs: Size = 2
    span: Annotated[float, Field(strict=True, ge=1, le=20)] = 6.0  # T / tau_prop
    scales: NonNegatives = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)  # of the recurrent weights
    seeds: Seeds = 30

    def misfit(self) -> str | None:
        rising = list(self.scales) == sorted(set(self.scales)) and len(self.scales) >= 4
        return None if rising and min(self.scales) == 0 else "scales must be four or more, rise, and begin with 0"

    def measure(self) -> Finding:
        window = Window(nodes=20, parts=1, gaps=False)
        runs = {"windows": self._simulated(window, 20), "steps": self._simulated(FixedStep("dopri5"), STEPS)}
        verdicts = [self._equal(f"the gradient without recurrence, by {name}", run, 0) for name, run in runs.items()]
        found = runs["steps"]
        last = len(self.scales) - 1
        verdicts.append(self._equal("the readout's gradient, with the strongest recurrence", found, last, ("W2",)))
        away = 1 - self._cosines(found)
        for i in range(1, len(self.scales)):
            name = f"falls from scale {self.scales[i - 1]:g} to {self.scales[i]:g}"
            verdicts.append(exceeds(name, "fall of the cosine of W1 and R1", 0.0, away[:, i] - away[:, i - 1]))
        exponents = np.log(away[:, 2] / away[:, 1]) / math.log(self.scales[2] / self.scales[1])
        quantity = f"log ratio of 1 - cos at scales {self.scales[2]:g} and {self.scales[1]:g} over that of the scales"
        verdicts.append(matches("first as the square", quantity, 2.0, exponents, 0.2, "0.2 allowed for the next order"))
        return Finding(verdicts, self._drawn(1 - away))

    def _simulated(self, by: FixedStep | Window, steps: int) -> Updates:
        def one(key: PRNGKeyArray, scale: Array) -> tuple[Weights, Weights]:
            for_weights, for_x, for_y = jax.random.split(key, 3)
            rule = EProp(trace=f64(1.0), recurrent_scale=scale, feedback="symmetric")
            circuit = wired(rule, (self.inputs, self.hidden, self.outputs))
            x = jax.random.normal(for_x, (1, self.inputs), jnp.float64)
            y = jax.random.normal(for_y, (1, self.outputs), jnp.float64)
            run = coupled(circuit, Stream(x, y, key), 1.0, WEAK * self.span, self.span, steps, integrator=by)
            start = circuit.initial_weights(for_weights)
            end = circuit.matrices(weights_after(run, start, 1))
            before = circuit.matrices(start)
            moved = {name: WEAK * self.span * (end[name] - before[name]) for name in LEARNED}
            slopes = jax.grad(self.loss)(before, x[0], y[0])
            apart = {"R1": 1 - jnp.eye(self.hidden)}  # no neuron drives itself
            return moved, {name: -slopes[name] * apart.get(name, 1.0) for name in LEARNED}

        each = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
        return Updates(*jax.tree.map(np.asarray, each(keys_from(self.seed, self.seeds), f64(self.scales))))

    def loss(self, weights: Weights, x: Array, y: Array) -> Array:
        """int |y - z|^2 dt / 2 over the presentation, by Runge-Kutta steps of the fourth order; tau_prop is 1."""
        dt = self.span / STEPS

        def drift(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            u, z, _ = state
            rate = jnp.tanh(u)
            driven = weights["W1"] @ x + weights["R1"] @ rate - u
            return driven, weights["W2"] @ rate - z, 0.5 * jnp.sum((y - z) ** 2)

        def along(state: tuple, by: tuple, h: float) -> tuple:
            return jax.tree.map(lambda a, b: a + h * b, state, by)

        def step(state: tuple, _: None) -> tuple[tuple, None]:
            a = drift(state)
            b = drift(along(state, a, dt / 2))
            c = drift(along(state, b, dt / 2))
            d = drift(along(state, c, dt))
            mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, a, b, c, d)
            return along(state, mean, dt), None

        start = jnp.zeros(self.hidden, jnp.float64), jnp.zeros(self.outputs, jnp.float64), jnp.zeros((), jnp.float64)
        return jax.lax.scan(step, start, None, length=STEPS)[0][2]

    def _equal(self, name: str, run: Updates, scale: int, of: tuple[str, ...] = LEARNED) -> Verdict:
        """Whether updates are the gradient at the scale of that number, for the matrices in `of`, seed by seed."""
        off = [np.linalg.norm(run.eprop[n][:, scale] - run.gradient[n][:, scale], axis=(1, 2)) for n in of]
        size = [np.linalg.norm(run.gradient[n][:, scale], axis=(1, 2)) for n in of]
        quantity = "largest |update - gradient| / |gradient|, of " + ", ".join(of)
        return all_close(name, quantity, 0.0, np.array(off) / np.array(size), 1e-5)

    def _cosines(self, run: Updates) -> np.ndarray:
        """Between the updates of W1 and R1 together and their gradient, by (seeds, scales)."""

        def dot(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> np.ndarray:
            first, second = ((one[n] * other[n]).sum(axis=(2, 3)) for n in ("W1", "R1"))
            return first + second

        return dot(*run) / np.sqrt(dot(run.eprop, run.eprop) * dot(run.gradient, run.gradient))

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, cosines: np.ndarray) -> None:
        away, scales = 1 - cosines[:, 1:], np.array(self.scales[1:])
        fine = np.geomspace(scales[0], scales[-1], 50)
        panel.plot(fine, away[:, 0].mean() * (fine / scales[0]) ** 2, color=look(0)["color"], label="square law")
        marked(panel, scales, away.T, label="e-prop", **look(0))
        panel.set(xscale="log", yscale="log", xlabel="scale of the recurrent weights")
        panel.set_ylabel("1 - cosine with the gradient through time")
        legend_outside(panel, 2)


class EPropWindow(AbstractPrediction):
    """What one presentation does to an input weight of a linear e-prop network, against the delay of the error."""

    number = "EP.2"
    title = "e-prop learns best from a learning signal that is as late as its traces"
    source = "bellec2020solution, on traces of neuron and readout; the window is derived from the overlap law"
    equation = """S(d) = E max(0, T - |d - U|), U the sum of two exponential times of mean tau, those of the traces
        F[z] and F[f' F[z]]; tau << T: the overlap law max(0, T - d)"""
    claim = """Traces as short as tau_prop tolerate a learning signal that is late by less than T. Longer ones let
        later signals teach, beyond T too, and the best signal is then one that comes late."""
    method = """The input weight of a chain of two linear neurons with random feedback, after one presentation in a
        long gap; W2 = 0, so that the error is the target, and weak plasticity. By windows and by steps."""
    tolerance = """Strength: 1e-4 T, by Heun steps of tau_prop / 40 and windows of 16 nodes; equal time constants are
        split by 1e-3 in the closed form. Best delay: the spacing of the delays. The overlap law: 2 tau, by which
        traces are late."""
    quick = {"delays": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), "traces": (0.05, 0.5)}

    propagation: Annotated[float, Field(strict=True, ge=0.02, le=0.1)] = 0.05  # in units of T, as all that follow
    traces: Annotated[tuple[Trace, ...], Field(min_length=2, max_length=6)] = (0.05, 0.25, 0.5, 1.0)
    delays: Annotated[tuple[Delay, ...], Field(min_length=4)] = tuple(np.linspace(0, 3, 25).tolist())

    def misfit(self) -> str | None:
        d = np.array(self.delays)
        if list(d) != sorted(set(d)) or d[0] != 0 or d[-1] <= 1:
            return "delays must rise from 0 to above 1"
        return None if list(self.traces) == sorted(set(self.traces)) else "traces must rise"

    def measure(self) -> Finding:
        expected = np.stack([self.expected(trace) for trace in self.traces])
        windows = self._strengths(Window(nodes=16, parts=1, gaps=True, settling=12.0), 16)
        steps = self._strengths(HEUN, math.ceil((1 + self._gap) * STEPS_PER_LAG / self.propagation))
        quantity = "largest deviation of S / T from the closed form, of all traces and delays"
        verdicts = [
            all_close(f"strength by {name}", quantity, 0.0, np.abs(found - expected), 1e-4)
            for name, found in (("windows", windows), ("steps", steps))
        ]
        verdicts += [self._best(*row) for row in zip(windows, expected, self.traces, strict=True)]
        off, d = windows[0] - overlap_law(np.array(self.delays), 1.0), np.array(self.delays)
        quantity = "largest deviation of S / T from the overlap law max(0, 1 - d / T)"
        name = f"the overlap law of short traces, tau = {self.traces[0]:g} T"
        verdicts.append(all_close(name, quantity, 0.0, np.abs(off), 2 * self.traces[0] + 1e-4))
        beyond = windows[:, d > 1].sum(axis=1) / windows.sum(axis=1)
        quantity = "least increase of the share of learning with d > T, from trace to trace"
        least = float(np.diff(beyond).min())
        said = float(np.diff(expected[:, d > 1].sum(axis=1) / expected.sum(axis=1)).min())
        verdicts.append(close("longer traces reach beyond T", quantity, said, least, min(1e-3, said)))
        return Finding(verdicts, self._drawn(windows))

    def expected(self, trace: float, delays: np.ndarray | None = None) -> np.ndarray:
        """S / T at each delay."""
        return filtered_overlap(self.delays if delays is None else delays, 1.0, [trace, trace], [])

    @property
    def _gap(self) -> float:
        return max(self.delays) + 1

    def _strengths(self, by: FixedStep | Window, steps: int) -> np.ndarray:
        """The same, simulated, by (trace, delay)."""
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(self.seed))
        history = math.ceil(max(self.delays) / (1 + self._gap) * steps) + 3

        def strength(late: Array, trace: Array) -> Array:
            circuit = wired(EProp(trace=trace, recurrent_scale=f64(0.0)), (1, 1, 1), activation="linear")
            run = coupled(
                circuit, stream, self.propagation, WEAKER, 1.0, steps, self._gap, late=late, history=history,
                integrator=by,
            )  # fmt: skip
            start = circuit.initial_weights(jax.random.key(self.seed))
            start |= {name: jnp.zeros_like(start[name]) for name in ("W1", "W2")}
            moved = weights_after(run, start, 1)["W1"][0, 0]
            return WEAKER * moved / start["B1"][0, 0]

        each = jax.vmap(jax.vmap(strength, (0, None)), (None, 0))
        return np.asarray(jax.jit(each)(f64(self.delays), f64(self.traces)))

    def _best(self, found: np.ndarray, expected: np.ndarray, trace: float) -> Verdict:
        fine = np.linspace(0, self.delays[-1], 4001)
        best = float(fine[self.expected(trace, fine).argmax()])
        spacing = float(np.diff(self.delays).max())
        name, quantity = f"best delay, tau = {trace:g} T", "d / T where S is largest"
        return close(name, quantity, best, float(self.delays[int(found.argmax())]), spacing)

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, strengths: np.ndarray) -> None:
        fine = np.linspace(0, self.delays[-1], 200)
        for i, (points, trace) in enumerate(zip(strengths, self.traces, strict=True)):
            panel.plot(fine, self.expected(trace, fine), color=look(i)["color"], linestyle=LINES[i % len(LINES)])
            panel.plot(self.delays, points, linestyle="", label=rf"$\tau$ = {trace:g} T", **look(i))
        panel.axvline(1.0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(xlabel="delay of the error d (stimulus durations T)", ylabel="learning strength S / T")
        legend_outside(panel, 2, title="lines: theory, points: simulation")
