"""BT.2: one plateau moves weights towards what was active around it, up or down."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field
from scipy.integrate import cumulative_trapezoid

from dynamics.coupled import Coupled
from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, NonNegatives, Positive
from experiments.predictions.kit import HEUN, all_close, f64, legend_outside, look, plotted, wired
from experiments.predictions.traces.overlaps import filtered_overlap, traced_box
from experiments.predictions.traces.plateau_kernel import Interval, lags_of
from experiments.report.figures import LINES
from experiments.results.verdicts import close
from experiments.spec.units import Time
from rules import BehaviouralTimescale

STEPS = 15  # per tau_prop
INPUT = 1e-4  # so weak that the neuron's own activity does not change the error
GRID = 200_001


class BTSPWeights(AbstractPrediction):
    """What one plateau does to synapses of different weights, against when their input came."""

    number = "BT.2"
    title = "A plateau potentiates weak synapses and depresses strong ones, around the kernel that it writes"
    source = "milstein2021bidirectional, on the weight dependence; of the linear law of this rule it is derived"
    equation = """W+ = exp(-k) W + int P E exp(-k int_t^inf P / int P) dt / tau_plast, k = depression int P dt /
        tau_plast, int P dt = T; no change at W* = <E> / depression for small k, <E> = int P E / int P"""
    claim = """The change of a weight is linear in it and falls: what a plateau finds below W*(s) grows, what it finds
        above it shrinks, and W* has the shape of the kernel. Every plateau forgets a share 1 - exp(-k) of what was
        there before, wherever in time its input was."""
    method = """The weight of one synapse before and after a plateau, for several weights and intervals; an input so
        weak that the neuron stays silent. By windows and by steps, against the integral of the law's own linear
        equation."""
    tolerance = """2e-5 of the largest change; the share that is left: 1e-5. W*: 1e-3 of its peak, and of its kernel k
        / (1 - exp(-k)) - 1, the most that forgetting during the plateau can shift it."""
    quick = {"intervals": (-1.5, -0.5, 0.5, 1.5)}

    duration: Duration = Time(0.2)
    propagation: Duration = Time(0.04)
    eligibility: Duration = Time(1.31)
    instruction: Duration = Time(0.69)
    plasticity: Duration = Time(0.05)
    depression: Positive = 0.1
    weights: Annotated[NonNegatives, Field(min_length=2)] = (0.0, 0.5, 1.0, 2.0)  # in units of the input / depression
    intervals: Annotated[tuple[Interval, ...], Field(min_length=2)] = tuple(np.linspace(-3, 4, 15).tolist())

    def measure(self) -> Finding:
        expected, (start, kept) = self.expected(), (np.array(self.weights), math.exp(-self.forgotten))
        windows = self._simulated(Window(nodes=16, parts=1, gaps=True, settling=12.0))
        largest, quantity = np.abs(expected - start).max(), "largest deviation of the weight, over its largest change"
        verdicts = [
            all_close(f"weights by {name}", quantity, 0.0, np.abs(found - expected) / largest, 2e-5)
            for name, found in (("windows", windows), ("steps", self._simulated(HEUN)))
        ]
        lines = np.array([np.polyfit(start, row, 1) for row in windows])
        quantity = "share of the weight that is left"
        verdicts.append(all_close("forgetting does not ask when", quantity, kept, lines[:, 0], 1e-5))
        still, exact = lines[:, 1] / (1 - lines[:, 0]), self.still(expected)
        name, quantity = "potentiation below W*, depression above", "largest deviation of W*, over its peak"
        verdicts.append(all_close(name, quantity, 0.0, (still - exact) / exact.max(), 1e-3))
        kernel = self.kernel(self.intervals)
        ratio = still / kernel
        quantity = "W* over <E> / depression, of all intervals"
        allowed = self.forgotten / -math.expm1(-self.forgotten) - 1
        verdicts.append(all_close("W* has the shape of the kernel", quantity, 1.0, ratio, allowed))
        sign = np.sign(windows - start) == np.sign(exact[:, None] - start)
        verdicts.append(close("both signs", "share of changes that point to W*", 1.0, float(sign.mean()), 0.0))
        return Finding(verdicts, self._drawn(windows - start))

    @property
    def forgotten(self) -> float:
        """k: what a plateau forgets, as an exponent."""
        return self.depression * self.duration.value / self.plasticity.value

    def kernel(self, intervals: object) -> np.ndarray:
        """<E> / depression in units of the input / depression, by interval."""
        late = [self.instruction.value, self.propagation.value]
        span = self.duration.value
        return filtered_overlap(np.asarray(intervals, float), span, [self.eligibility.value], late) / span

    def expected(self) -> np.ndarray:
        """Weights after the plateau, in units of the input / depression, by (interval, weight)."""
        found = []
        for s in self.intervals:
            t = np.linspace(0, self._gap + self.duration.value, GRID)
            plateau = self._rise(t - max(s, 0)) - self._rise(t - max(s, 0) - self.duration.value)
            trace = traced_box(t - max(-s, 0), self.eligibility.value, self.duration.value)
            left = cumulative_trapezoid(plateau[::-1], t, initial=0)[::-1] * self.depression / self.plasticity.value
            moved = self.depression / self.plasticity.value * np.trapezoid(plateau * trace * np.exp(-left), t)
            found.append(moved + math.exp(-left[0]) * np.array(self.weights))
        return np.array(found)

    def still(self, after: np.ndarray) -> np.ndarray:
        """W* from weights after a plateau, of which the first two will do."""
        slope = (after[:, 1] - after[:, 0]) / (self.weights[1] - self.weights[0])
        return (after[:, 0] - slope * self.weights[0]) / (1 - slope)

    def _rise(self, t: np.ndarray) -> np.ndarray:
        """A step behind the filters of the error and of the plateau."""
        slow, fast, t = self.instruction.value, self.propagation.value, np.maximum(t, 0)
        return 1 - (slow * np.exp(-t / slow) - fast * np.exp(-t / fast)) / (slow - fast)

    @property
    def _gap(self) -> float:
        return 13 * max(self.eligibility.value, self.instruction.value) + float(np.abs(self.intervals).max())

    def _simulated(self, by: FixedStep | Window) -> np.ndarray:
        """As `expected`."""
        period = self.duration.value + self._gap
        steps = 16 if isinstance(by, Window) else math.ceil(period / self.propagation.value * STEPS)
        stream = Stream(f64([[INPUT]]), f64([[1.0]]), jax.random.key(self.seed))
        times = Timescales(f64(self.propagation.value), f64(self.plasticity.value))
        clock = Clock(f64(self.duration.value), f64(self._gap), steps)
        traces = {name: f64(getattr(self, name).value) for name in ("eligibility", "instruction")}
        circuit = wired(BehaviouralTimescale(**traces, depression=f64(self.depression)), (1, 1))
        history, unit = math.ceil(max(*self.intervals, 0.0) / period * steps) + 3, INPUT / self.depression

        def after(weight: Array, interval: Array) -> Array:
            run = Coupled(circuit, times, stream, clock, lags_of(interval), integrator=by, history=history)
            start = run.init({"W1": jnp.full((1, 1), unit * weight)})
            return run.weights(run.advance(start, jnp.int32(0), 1))["W1"][0, 0] / unit

        each = jax.vmap(jax.vmap(after, (0, None)), (None, 0))
        return np.asarray(jax.jit(each)(f64(self.weights), f64(self.intervals)))

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, changes: np.ndarray) -> None:
        fine = self.model_copy(update={"intervals": tuple(np.linspace(min(self.intervals), max(self.intervals), 80))})
        lines = fine.expected() - np.array(self.weights)
        for i, weight in enumerate(self.weights):
            panel.plot(fine.intervals, lines[:, i], color=look(i)["color"], linestyle=LINES[i % len(LINES)])
            panel.plot(self.intervals, changes[:, i], linestyle="", label=f"{weight:g}", **look(i))
        panel.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(xlabel="plateau after the input (s)", ylabel="change (input / depression)")
        legend_outside(panel, 4, title="weight before, in input / depression; lines: theory")
