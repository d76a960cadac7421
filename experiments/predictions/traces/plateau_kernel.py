"""BT.1: behavioural-timescale plasticity has a kernel of seconds, whose two sides are the two traces."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import Circuit
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive
from experiments.predictions.kit import HEUN, all_close, f64, legend_outside, look, plotted, wired
from experiments.predictions.traces.overlaps import filtered_overlap
from experiments.report.figures import LINES
from experiments.results.verdicts import Verdict
from experiments.spec.units import Time
from rules import BehaviouralTimescale

WEAK = 1e12  # tau_plast in seconds: weights hardly change
STEPS = 20  # per tau_prop
Interval = Annotated[float, Field(strict=True, ge=-6, le=6)]
Scale = Annotated[float, Field(strict=True, ge=0.5, le=3)]


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
        times = Timescales(f64(self.propagation.value), f64(WEAK))
        clock = Clock(f64(self.duration.value), f64(gap), steps)
        history = math.ceil(max(*intervals, 0.0) / period * steps) + 3

        def strength(interval: Array, scale: Array) -> Array:
            run = Coupled(self.circuit(scale), times, stream, clock, lags_of(interval), integrator=by, history=history)
            start = {"W1": jnp.zeros((1, 1), jnp.float64)}
            return WEAK * run.weights(run.advance(run.init(start), jnp.int32(0), 1))["W1"][0, 0]

        each = jax.vmap(jax.vmap(strength, (0, None)), (None, 0))
        return np.asarray(jax.jit(each)(f64(intervals), f64(scales)))

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
