"""BT: behavioural-timescale plasticity: its kernel of seconds, and how one plateau moves weights up or down."""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field
from scipy.integrate import cumulative_trapezoid

from dynamics.circuit import Circuit
from dynamics.delays import Delays
from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, NonNegatives, Positive
from experiments.predictions.drawing import legend_outside, look, plotted
from experiments.predictions.kit import HEUN, all_close, coupled, f64, on_grid, weights_after, wired
from experiments.predictions.traces.overlaps import filtered_overlap, traced_box
from experiments.report.figures import LINES
from experiments.results.verdicts import Verdict, close
from experiments.spec.units import Time
from rules import BehaviouralTimescale

WEAK = 1e12  # tau_plast in seconds: weights hardly change
STEPS = 20  # per tau_prop
Interval = Annotated[float, Field(strict=True, ge=-6, le=6)]
Scale = Annotated[float, Field(strict=True, ge=0.5, le=3)]
FINE_STEPS = 15  # per tau_prop, of different weights
INPUT = 1e-4  # so weak that the neuron's own activity does not change the error
GRID = 200_001


def lags_of(interval: Array) -> Delays:
    """The lags that bring a plateau's error so many seconds after the input: of the error, or of the input."""
    return Delays(error=jnp.maximum(interval, 0), input=jnp.maximum(-interval, 0))


class BTSPKernel(AbstractPrediction):
    """What an input and a plateau at different times do to a synapse."""

    number = "BT.1"
    title = "The plasticity kernel of a plateau is seconds wide, asymmetric, and as wide as its traces are long"
    source = """bittner2017behavioral, the kernel (1.31 s before the plateau, 0.69 s after it) and
        milstein2021bidirectional (two traces that must overlap); the kernel is derived"""
    equation = """S(s) = exp(-s / tau_E) / (tau_E + tau_I) for an input s before the plateau, exp(s / tau_I) / (tau_E +
        tau_I) after it; full width at half maximum (tau_E + tau_I) ln 2; with pulses of length T: E max(0, T - |D|)"""
    claim = """An input is credited for a plateau that comes seconds later, by its trace, and for one that was before
        it, by the trace of the plateau. The width of the kernel is proportional to the traces."""
    method = """The weight of a linear synapse after one pulse of input and one of an instructive error, whichever
        first: by the delay of the error, or of the input. Weak plasticity, and a gap that outlasts the traces. Slopes:
        fitted where |s| > T; widths: by linear interpolation of the simulated and of the exact kernel at the same
        intervals."""
    tolerance = """Kernel: 2e-5 of its peak by windows of 16 nodes; 1e-4 by Heun steps of tau_prop / 20 (at the shortest
        traces), (1 / 20)^2 / 24 by their order. Slopes and widths: 1 %. Width of pulses without length: what T and
        tau_prop add, (T + tau_prop) / width, is allowed."""
    quick = {"scales": (0.5, 1.0), "intervals": (-2.0, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0)}

    duration: Duration = Time(0.1)
    propagation: Duration = Time(0.04)
    eligibility: Duration = Time(1.31)
    instruction: Duration = Time(0.69)
    scales: Annotated[tuple[Scale, ...], Field(min_length=2, max_length=6)] = (0.5, 1.0, 1.5)
    intervals: Annotated[tuple[Interval, ...], Field(min_length=6)] = tuple(np.linspace(-3, 5, 41).tolist())
    longest: Positive = 12.0  # of the gap, in the longest trace

    def misfit(self) -> str | None:
        s = np.array(self.intervals)
        beyond = min((s > 1.2 * self.duration.value).sum(), (s < -1.2 * self.duration.value).sum())
        return "intervals need two beyond the duration on either side" if beyond < 2 or list(s) != sorted(s) else None

    def measure(self) -> Finding:
        expected = np.stack([self.expected(self.intervals, scale) for scale in self.scales])
        peak, few = expected.max(axis=1, keepdims=True), slice(None, None, 3)
        windows = self._strengths(Window(nodes=16, parts=1, gaps=True, settling=12.0))
        steps = self._strengths(HEUN, self.scales[:1], self.intervals[few])
        quantity = "largest deviation of the weight's change from the closed form, over its peak"
        off = np.abs(windows - expected) / peak, np.abs(steps - expected[:1, few]) / peak[:1]
        verdicts = [all_close("kernel by windows", quantity, 0.0, off[0], 2e-5)]
        verdicts.append(all_close("kernel by steps", quantity, 0.0, off[1], 1e-4))
        verdicts.append(self._slopes(windows, 1, self.eligibility.value))
        verdicts.append(self._slopes(windows, -1, self.instruction.value))
        widths = np.array([self._width(row) for row in windows])
        exact = np.array([self._width(row) for row in expected])
        quantity = "width at half maximum over that of the closed form"
        verdicts.append(all_close("width", quantity, 1.0, widths / exact, 0.01))
        pulses = np.array(self.scales) * (self.eligibility.value + self.instruction.value) * math.log(2)
        added = (self.duration.value + self.propagation.value) / pulses.min()
        quantity = "width at half maximum over (tau_E + tau_I) ln 2"
        verdicts.append(all_close("proportional to the traces", quantity, 1.0, widths / pulses, added))
        return Finding(verdicts, self._drawn(windows))

    def expected(self, intervals: object, scale: float) -> np.ndarray:
        """int P E dt in seconds, by the interval from input to plateau; the plateau's error has passed tau_prop."""
        late = [scale * self.instruction.value, self.propagation.value]
        early = [scale * self.eligibility.value]
        return filtered_overlap(np.asarray(intervals, float), self.duration.value, early, late)

    def _strengths(
        self, by: FixedStep | Window, scales: tuple[float, ...] = (), intervals: tuple[float, ...] = ()
    ) -> np.ndarray:
        """The same, simulated, by (scale, interval), of all where nothing is said."""
        scales, intervals = scales or self.scales, intervals or self.intervals
        longest = self.longest * max(scales) * max(self.eligibility.value, self.instruction.value)
        gap = longest + float(np.abs(intervals).max())
        period = self.duration.value + gap
        steps = 16 if isinstance(by, Window) else math.ceil(period / self.propagation.value * STEPS)
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(self.seed))
        times = self.propagation.value, WEAK, self.duration.value, steps, gap
        more: dict[str, Any] = {"integrator": by, "history": math.ceil(max(*intervals, 0.0) / period * steps) + 3}

        def strength(scale: Array, interval: Array) -> Array:
            run = coupled(self.circuit(scale), stream, *times, late=lags_of(interval), **more)
            return WEAK * weights_after(run, {"W1": jnp.zeros((1, 1), jnp.float64)}, 1)["W1"][0, 0]

        return on_grid(strength, f64(scales), f64(intervals))

    def circuit(self, scale: Array) -> Circuit:
        """One synapse of the rule, with traces times `scale`."""
        traces = {name: scale * f64(getattr(self, name).value) for name in ("eligibility", "instruction")}
        return wired(BehaviouralTimescale(**traces), (1, 1))

    def _slopes(self, strengths: np.ndarray, side: int, trace: float) -> Verdict:
        """Of log S where the input is before (side 1) or after the plateau, times the trace that makes it."""
        s = side * np.array(self.intervals)
        far = s > 1.2 * self.duration.value
        pairs = zip(strengths, self.scales, strict=True)
        slopes = [np.polyfit(s[far], np.log(row[far]), 1)[0] * trace * scale for row, scale in pairs]
        name, tau = ("input first", "tau_E") if side > 0 else ("plateau first", "tau_I")
        return all_close(name, f"slope of log S against the interval, times {tau}", -1.0, np.array(slopes), 0.01)

    def _width(self, kernel: np.ndarray) -> float:
        s, half = np.array(self.intervals), kernel.max() / 2
        i, above = int(kernel.argmax()), np.flatnonzero(kernel >= half)
        before = np.interp(half, kernel[: i + 1], s[: i + 1])
        after = -np.interp(half, kernel[i:][::-1], -s[i:][::-1])
        return float(after - before) if above[0] > 0 and above[-1] < len(s) - 1 else np.nan

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, strengths: np.ndarray) -> None:
        fine = np.linspace(min(self.intervals), max(self.intervals), 400)
        peak = self.expected(fine, min(self.scales)).max()
        for i, (points, scale) in enumerate(zip(strengths, self.scales, strict=True)):
            first, second = (scale * trace.value for trace in (self.eligibility, self.instruction))
            traces = rf"$\tau_E$ = {first:.2g} s, $\tau_I$ = {second:.2g} s"
            panel.plot(fine, self.expected(fine, scale) / peak, color=look(i)["color"], linestyle=LINES[i])
            panel.plot(self.intervals, points / peak, linestyle="", label=traces, **look(i))
        panel.axvline(0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(xlabel="plateau after the input (s)", ylabel="change of the weight (relative)", ylim=(0, None))
        legend_outside(panel, 1, title="lines: theory, points: simulation")


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
        steps = 16 if isinstance(by, Window) else math.ceil(period / self.propagation.value * FINE_STEPS)
        stream = Stream(f64([[INPUT]]), f64([[1.0]]), jax.random.key(self.seed))
        times = self.propagation.value, self.plasticity.value, self.duration.value, steps, self._gap
        traces = {name: f64(getattr(self, name).value) for name in ("eligibility", "instruction")}
        circuit = wired(BehaviouralTimescale(**traces, depression=f64(self.depression)), (1, 1))
        history, unit = math.ceil(max(*self.intervals, 0.0) / period * steps) + 3, INPUT / self.depression

        def after(weight: Array, interval: Array) -> Array:
            run = coupled(circuit, stream, *times, late=lags_of(interval), integrator=by, history=history)
            return weights_after(run, {"W1": jnp.full((1, 1), unit * weight)}, 1)["W1"][0, 0] / unit

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
