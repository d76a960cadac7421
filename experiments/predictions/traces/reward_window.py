"""3F.1: how late a reward may come is set by the eligibility trace, and it is best when it comes late."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding
from experiments.predictions.kit import HEUN, all_close, coupled, f64, legend_outside, look, plotted, wired
from experiments.predictions.traces.overlaps import best_delay, traced_box
from experiments.report.figures import LINES
from experiments.results.verdicts import Verdict, close
from experiments.spec.units import Time
from rules import ThreeFactor

WEAK = 1e14  # tau_plast / T: weights hardly change
NOISE = 1e-6  # so weak that the reward is that of the noiseless network
GRID = 20_001
Delay = Annotated[float, Field(strict=True, ge=0, le=6)]
Trace = Annotated[float, Field(strict=True, ge=0.2, le=5)]
Delays = Annotated[tuple[Delay, ...], Field(min_length=2)]


class ThreeFactorWindow(AbstractPrediction):
    """What one presentation does to a synapse under the three-factor rule, against the delay of its reward."""

    number = "3F.1"
    title = "The window of the reward's delay is that of the eligibility trace, and its best delay is not zero"
    source = (
        "fremaux2016neuromodulated, on eligibility traces; derived for a trace of unit gain and a reward as long as T"
    )
    equation = """S(d) = int E(t) r(t - d) dt: 1 + tau - d - tau (2 - exp(-1/tau)) exp(-d/tau) for d < T, tau
        (exp(1/tau) - 1) (1 - exp(-1/tau)) exp(-d/tau) for d >= T, in T; largest at d* = tau ln(2 - exp(-1/tau)), where
        S = 1 - d*"""
    claim = """A trace lets rewards teach that come after the stimulus, with a strength that falls as exp(-d/tau) from
        d = T on. A reward at once is not the best: that comes d* later, tau ln 2 for short traces and T for long ones,
        when what is remembered is as much at its end as at its start."""
    method = """The weight of a linear synapse after one presentation in a long gap, over the noise drawn for it; weak
        plasticity, no baseline. The reward passes three filters of tau_prop and a square on its way: with s = t /
        tau_prop it is 1 - 2 s exp(-s) - exp(-2 s) on, and 2 exp(-s) - exp(-2 s) off; integrated against the trace."""
    tolerance = """Strength: 2e-5 T, of Heun steps of tau_prop / 20 and windows of 16 nodes. Best delay: filters make
        the reward itself 1.5 to 2.5 tau_prop late, so d* - 2 tau_prop, with half a tau_prop and 0.01 T of a fit of the
        fourth order allowed. Slope: 1 %, as the strength falls to a few per cent."""
    quick = {"traces": (0.5, 1.5), "delays": (0.0, 0.5, 1.0, 1.5, 2.0)}

    duration: Duration = Time(0.1)
    propagation: Annotated[float, Field(strict=True, ge=0.01, le=0.06)] = 0.04  # in units of T, as all that follow
    traces: Annotated[tuple[Trace, ...], Field(min_length=1, max_length=6)] = (0.5, 1.0, 2.0)
    delays: Delays = tuple(np.linspace(0, 3, 13).tolist())

    def measure(self) -> Finding:
        around = np.stack([self._around(trace) for trace in self.traces])
        every = np.concatenate([np.tile(self.delays, (len(self.traces), 1)), around], axis=1)
        n, pairs = len(self.delays), zip(every, self.traces, strict=True)
        expected = np.stack([self.expected(*pair) for pair in pairs])
        found = {"windows": self._strengths(every, Window(nodes=16, parts=1, gaps=True, settling=12.0), 16)}
        found["steps"] = self._strengths(every, HEUN, round((1 + self._gap) * self._fine))
        quantity = "largest deviation of S / T from the closed form, of all traces and delays"
        verdicts = [
            all_close(f"strength by {name}", quantity, 0.0, np.abs(s - expected), 2e-5) for name, s in found.items()
        ]
        strengths = found["windows"]
        verdicts += [self._best(*row) for row in zip(around, strengths[:, n:], self.traces, strict=True)]
        late = np.array(self.delays) >= 1 + 5 * self.propagation
        if np.unique(np.array(self.delays)[late]).size > 1:
            rows = zip(strengths[:, :n], self.traces, strict=True)
            slopes = [np.polyfit(np.array(self.delays)[late], np.log(s[late]), 1)[0] * trace for s, trace in rows]
            verdicts.append(all_close("decay", "slope of log S against d, times tau", -1.0, np.array(slopes), 0.01))
        return Finding(verdicts, self._drawn(strengths[:, :n]))

    @property
    def _gap(self) -> float:
        """In whole steps, so that no signal jumps within one."""
        least = max(*self.delays, *(best_delay(trace) + 0.3 for trace in self.traces)) + 15 * self.propagation
        return math.ceil(least * self._fine) / self._fine

    @property
    def _fine(self) -> int:
        """Heun steps per T."""
        return math.ceil(20 / self.propagation)

    @staticmethod
    def _around(trace: float) -> np.ndarray:
        """Nine delays around the best one."""
        return best_delay(trace) + np.linspace(-0.2, 0.2, 9) * min(1.0, trace)

    def expected(self, delays: np.ndarray, trace: float) -> np.ndarray:
        """S/T at each delay, by the trapezoidal rule over the time since the reward began."""
        u = np.linspace(0, 1 + 25 * self.propagation, GRID)
        on, off = u / self.propagation, np.maximum(u - 1, 0) / self.propagation
        rising, falling = 1 - 2 * on * np.exp(-on) - np.exp(-2 * on), 2 * np.exp(-off) - np.exp(-2 * off)
        reward = np.where(u < 1, rising, falling)
        return np.trapezoid(traced_box(u + np.asarray(delays, float)[:, None], trace) * reward, u, axis=-1)

    def _strengths(self, delays: np.ndarray, by: FixedStep | Window, steps: int) -> np.ndarray:
        """S / T by (trace, delay)."""
        duration = self.duration.seconds(1.0)
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(self.seed))
        history = math.ceil(delays.max() / (1 + self._gap) * steps) + 3
        times = self.propagation * duration, WEAK * duration, duration

        def strength(late: Array, trace: Array) -> Array:
            rule = ThreeFactor(noise=f64(NOISE), eligibility=trace, reward_delay=late, baseline=f64(1e8 * duration))
            circuit = wired(rule, (1, 1))
            run = coupled(circuit, stream, *times, steps, self._gap * duration, history=history, integrator=by)
            start = {**circuit.initial_weights(jax.random.key(0)), "W1": jnp.zeros((1, 1), jnp.float64)}
            moved = run.weights(run.advance(run.init(start), jnp.int32(0), 1))["W1"][0, 0]
            return moved / circuit.draws(stream.key, jnp.int32(0))["xi1"][0] * NOISE * WEAK / -0.5

        lags, traces = duration * f64(delays), duration * f64(self.traces)
        return np.asarray(jax.jit(jax.vmap(jax.vmap(strength, (0, None))))(lags, traces))

    def _best(self, delays: np.ndarray, strengths: np.ndarray, trace: float) -> Verdict:
        away = delays - best_delay(trace)
        curve = np.polynomial.Polynomial.fit(away, strengths, 4)
        fine = np.linspace(away[0], away[-1], 4001)
        expected, tolerance = best_delay(trace) - 2 * self.propagation, 0.5 * self.propagation + 0.01
        found = best_delay(trace) + float(fine[curve(fine).argmax()])
        return close(f"best delay, tau = {trace:g} T", "d / T where S is largest", expected, found, tolerance)

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, strengths: np.ndarray) -> None:
        fine = np.linspace(0, max(*self.delays, 1.0), 200)
        for i, (points, trace) in enumerate(zip(strengths, self.traces, strict=True)):
            panel.plot(fine, self.expected(fine, trace), color=look(i)["color"], linestyle=LINES[i])
            panel.plot(self.delays, points, linestyle="", label=rf"$\tau_e$ = {trace:g} T", **look(i))
            panel.plot(best_delay(trace), 1 - best_delay(trace), "v", color=look(i)["color"], markersize=4)
        panel.plot([], [], "v", color="0.3", markersize=4, label="d*, 1 - d*")
        panel.set(xlabel="delay of the reward d (stimulus durations T)", ylabel="learning strength S / T")
        panel.set_ylim(bottom=0)
        legend_outside(panel, 2, title="lines: theory, points: simulation")
