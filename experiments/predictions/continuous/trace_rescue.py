"""T1.8: an eligibility trace lets a synapse learn from errors that come after the stimulus has gone."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.coupled import Coupled
from dynamics.stimulus import Stream
from dynamics.theory import lagged_overlap
from experiments.predictions.continuous.closed_forms import traced_overlap
from experiments.predictions.contract import AbstractPrediction, Duration, Finding
from experiments.predictions.kit import all_close, coupled, f64, legend_outside, look, plotted, wired
from experiments.predictions.study.single_synapse import SingleSynapse
from experiments.report.figures import LINES
from experiments.results.verdicts import Verdict, close
from experiments.spec.units import Time

WEAK = 1e6  # tau_plast / T of a run that measures a strength
STEPS_PER_LAG = 20
Delay = Annotated[float, Field(strict=True, ge=0, le=10)]
Trace = Annotated[float, Field(strict=True, ge=0.2, le=5)]


class TraceRescue(AbstractPrediction):
    """Learning strength against the delay of the error, with and without an eligibility trace."""

    number = "T1.8"
    title = "An eligibility trace rescues learning beyond the stimulus"
    source = "bacvanski2025continuous, abstract: seconds-scale eligibility traces; derived for a trace of unit gain"
    equation = """S(d) = tau_e (exp(T/tau_e) - 1) (1 - exp(-T/tau_e)) exp(-d/tau_e) for d >= T, where tau_e p' = -p + x;
        the factor 1 / (1 + tau_prop/tau_e) is that of the error's own filter"""
    claim = """Behind a trace, learning falls exponentially with the delay, with time constant tau_e, where without one
        there is none from d = T on; a synapse with a trace learns from errors as late as that, at the rate S(d)."""
    method = """|W| after one presentation in a long gap, weak plasticity; the slope of log S against d; and the weight
        after many presentations with faster plasticity, late errors and gaps that outlast the traces."""
    tolerance = """Strength: 1e-4 T, five times the error of Heun steps of tau_prop / 20 at jumps; T / tau_plast = 1e-6.
        Slope: twice that, relative to the strength at the latest delay, over the range of delays. Learned weight: 1e-4,
        by the same error. What must be zero: 1e-6, what is left of the error in the filter at the end of a gap."""
    quick = {"delays": (0.5, 1.0, 1.5, 2.0), "traces": (0.5, 1.0)}

    duration: Duration = Time(0.05)
    propagation: Annotated[float, Field(strict=True, ge=0.01, le=0.2)] = 0.05  # in units of T, as all that follow
    traces: Annotated[tuple[Trace, ...], Field(min_length=1, max_length=6)] = (0.5, 1.0, 2.0)
    delays: Annotated[tuple[Delay, ...], Field(min_length=1)] = tuple(np.linspace(0, 3, 13).tolist())
    late: Annotated[float, Field(strict=True, ge=1, le=10)] = 1.5
    plasticity: Annotated[float, Field(strict=True, ge=10)] = 20.0
    presentations: Annotated[int, Field(strict=True, gt=0, le=1000)] = 60

    def measure(self) -> Finding:
        delays = np.array(self.delays)
        strengths, without = self._strengths()
        expected = np.stack([traced_overlap(delays, trace, self.propagation) for trace in self.traces])
        plain = lagged_overlap(delays, 1.0, 0, 1, self.propagation)
        law, plain_law = "the closed form, of all traces and delays", "the overlap law with one stage of lag"
        off = "largest deviation of S / T from"
        verdicts = [
            all_close("strength behind a trace", f"{off} {law}", 0.0, np.abs(strengths - expected), 1e-4),
            all_close("strength without a trace", f"{off} {plain_law}", 0.0, np.abs(without - plain), 1e-4),
        ]
        beyond = delays >= 1
        if beyond.any():
            name, most = "nothing beyond T without a trace", np.abs(without[beyond])
            verdicts.append(all_close(name, "largest S / T for d >= T", 0.0, most, 1e-6))
        if np.unique(delays[beyond]).size > 1:
            pairs = zip(strengths, self.traces, strict=True)
            verdicts += [self._slope(delays[beyond], values[beyond], trace) for values, trace in pairs]
        learned, alone = self._learned()
        name, quantity = "weight learned from late errors", "W against that of full learning"
        verdicts += [
            close(f"{name}, tau_e = {trace:g} T", quantity, self._recursion(trace), weight, 1e-4)
            for weight, trace in zip(learned, self.traces, strict=True)
        ]
        verdicts.append(close(f"{name}, without a trace", quantity, 0.0, float(alone), 1e-6))
        return Finding(verdicts, self._drawn(strengths, without, plain))

    def _slope(self, delays: np.ndarray, strengths: np.ndarray, trace: float) -> Verdict:
        slope = np.polyfit(delays, np.log(np.maximum(strengths, 1e-300)), 1)[0] * trace
        weakest = float(traced_overlap(delays, trace, self.propagation).min())
        tolerance = 2e-4 / weakest / np.ptp(delays) * trace
        name, quantity = f"exponential decay, tau_e = {trace:g} T", "slope of log S against d, times tau_e"
        return close(name, quantity, -1.0, slope, tolerance)

    def _run(self, gap: float, late: jax.Array, trace: jax.Array | None, plasticity: float, latest: float) -> Coupled:
        """A synapse whose input and target are 1, held for T; gap, plasticity and the latest delay in T."""
        duration = self.duration.seconds(1.0)
        steps = math.ceil((1 + gap) * STEPS_PER_LAG / self.propagation)
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(self.seed))
        circuit, history = wired(SingleSynapse(), (1, 1)), math.ceil(latest / (1 + gap) * steps) + 3
        times = self.propagation * duration, plasticity * duration, duration
        more = {"gap": gap * duration, "trace": trace, "late": late, "history": history}
        return coupled(circuit, stream, *times, steps, **more)

    def _strengths(self) -> tuple[np.ndarray, np.ndarray]:
        """S / T by (trace, delay), and without a trace by delay."""
        duration, latest = self.duration.seconds(1.0), max(self.delays)

        def strength(late: jax.Array, trace: jax.Array | None) -> jax.Array:
            return WEAK * self._weight(self._run(latest + 15 * self.propagation, late, trace, WEAK, latest), 1)

        late, traces = duration * f64(self.delays), duration * f64(self.traces)
        traced = jax.jit(jax.vmap(jax.vmap(strength, (0, None)), (None, 0)))(late, traces)
        return np.asarray(traced), np.asarray(jax.jit(jax.vmap(lambda d: strength(d, None)))(late))

    def _learned(self) -> tuple[np.ndarray, np.ndarray]:
        """The weight after all presentations, for every trace, and without one."""
        duration = self.duration.seconds(1.0)
        late = f64(self.late * duration)

        def weight(trace: jax.Array | None) -> jax.Array:
            return self._weight(self._run(self._gap, late, trace, self.plasticity, self.late), self.presentations)

        traced = jax.jit(jax.vmap(weight))(duration * f64(self.traces))
        return np.asarray(traced), np.asarray(jax.jit(lambda: weight(None))())

    @staticmethod
    def _weight(run: Coupled, presentations: int) -> jax.Array:
        start = {"W1": jnp.zeros((1, 1), jnp.float64)}
        return run.weights(run.advance(run.init(start), jnp.int32(0), presentations))["W1"][0, 0]

    @property
    def _gap(self) -> float:
        return self.late + 15 * self.propagation

    def _recursion(self, trace: float) -> float:
        """W after all presentations: W += (S y - S' W x) / tau_plast, every error being later than its stimulus.

        The prediction needs tau_prop to rise and is compared while the target is on, so its S' is a little smaller than
        S. Traces of earlier presentations have decayed with their age and add up.
        """
        target = float(traced_overlap(self.late, trace, self.propagation))
        both = 1 / trace + 1 / self.propagation
        risen = 1 - (-np.expm1(-both) / both) / (-np.expm1(-1 / trace) * trace)
        weight, age = 0.0, np.exp(-(1 + self._gap) / trace)
        for n in range(self.presentations):
            traces = (1 - age ** (n + 1)) / (1 - age)
            weight += traces * target * (1 - risen * weight) / self.plasticity
        return weight

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, strengths: np.ndarray, without: np.ndarray, plain: np.ndarray) -> None:
        fine = np.linspace(0, max(*self.delays, 1.0), 300)
        lines = [traced_overlap(fine, trace, self.propagation) for trace in self.traces]
        lines.append(lagged_overlap(fine, 1.0, 0, 1, self.propagation))
        names = [rf"$\tau_e$ = {trace:g} T" for trace in self.traces] + ["no trace"]
        for i, (line, points, name) in enumerate(zip(lines, [*strengths, without], names, strict=True)):
            panel.plot(fine, np.where(line > 1e-4, line, np.nan), color=look(i)["color"], linestyle=LINES[i])
            shown = np.where(points > 1e-4, points, np.nan)
            panel.plot(self.delays, shown, linestyle="", label=name, **look(i))
        panel.axvline(1.0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(yscale="log", xlabel="error delay d (stimulus durations T)", ylabel="learning strength S / T")
        lowest = min(float(line.min()) for line in lines[:-1])
        panel.set_ylim(bottom=min(1e-3, lowest / 2))
        legend_outside(panel, 2, title="lines: theory, points: simulation")
