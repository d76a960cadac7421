"""3F: the three-factor rule: how late a reward may come, and what a running mean of it removes of the noise."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from pydantic import Field
from scipy.signal import lfilter

from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding
from experiments.predictions.drawing import against, legend_outside, look, plotted
from experiments.predictions.kit import HEUN, all_close, coupled, f64, keys_from, weights_after, wired
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
STEPS = 20  # per tau_prop
FINE = 400  # points of the reference per T
Gap = Annotated[float, Field(strict=True, ge=0, le=5)]
LateBy = Annotated[float, Field(strict=True, ge=0, le=3)]


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
            moved = weights_after(run, start, 1)["W1"][0, 0]
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


class ThreeFactorBaseline(AbstractPrediction):
    """How much of a constant reward, which teaches nothing, still moves a synapse along the noise of a presentation."""

    number = "3F.2"
    title = "A running mean cancels a constant reward at every delay without gaps, and with gaps only on average"
    source = (
        "fremaux2016neuromodulated, on the mean reward; what is left of it is derived, for any delay, trace and gap"
    )
    equation = """C = r (sum over k of S(d + k P) - T^2 / P), S the window of the reward's delay, P = T + g; C = 0 for
        g = 0, as the sum is then int E = T; the mean of C over delays d is 0 for every g"""
    claim = """The noise of one presentation meets the rewards of others, and a constant reward makes weights wander.
        The running mean removes that without gaps, as exp(-t / baseline); with gaps the reward comes in pulses, the
        mean does not, and what is left depends on the delay."""
    method = """The weight of a linear synapse after some presentations, over seeds: linear in the noise drawn for
        each, whose coefficients C are solved for. Weak plasticity; Heun steps. The closed form: the reward's pulses
        behind their filters, less their running mean, integrated against the trace of each presentation."""
    tolerance = """1e-4 T of every coefficient (steps of tau_prop / 20, and 400 points per T of the integrals). Limits
        of quick neurons and a settled mean: 3 tau_prop and what is left of the mean's start."""
    quick = {"delays": (0.0, 5 / 6, 5 / 3), "presentations": 16}

    duration: Duration = Time(0.1)
    propagation: Annotated[float, Field(strict=True, ge=0.03, le=0.1)] = 0.08  # in units of T, as all that follow
    eligibility: Annotated[float, Field(strict=True, ge=0.2, le=2)] = 0.4
    baseline: Annotated[float, Field(strict=True, ge=1, le=20)] = 3.0
    gap: Gap = 1.5
    delays: Annotated[tuple[LateBy, ...], Field(min_length=1, max_length=6)] = (0.0, 0.5, 1.0, 1.5, 2.0)
    presentations: Annotated[int, Field(strict=True, ge=12, le=100)] = 24

    def misfit(self) -> str | None:
        least = 12 * self.propagation
        if self.gap < least:
            return f"gap must be at least 12 propagation = {least:g}, so that rewards are pulses"
        return None if self._settled(0.0) > 2 else "presentations are too few for the traces and delays"

    def measure(self) -> Finding:
        quantity = "largest deviation of a coefficient C / (r T) from the closed form"
        pairs, verdicts = [(gap, d) for gap in (0.0, self.gap) for d in self.delays], []
        expected = np.array([self.expected(*pair) for pair in pairs])
        found = self._simulated(np.array(pairs))
        n, ideal = len(self.delays), self.left(np.array(self.delays))
        for name, rows in (("without gaps", slice(None, n)), (f"gaps of {self.gap:g} T", slice(n, None))):
            off = np.abs(found[rows] - expected[rows])
            verdicts.append(all_close(f"every coefficient, {name}", quantity, 0.0, off, 1e-4))
        for rows, gap in ((slice(None, n), 0.0), (slice(n, None), self.gap)):
            j = self._settled(gap)
            allowed = 3 * self.propagation + math.exp(-j * (1 + gap) / self.baseline)
            if gap == 0:
                quantity = f"largest C / (r T) of presentation {j}, where it would be 1 without a baseline"
                left = np.abs(found[rows, j])
                verdicts.append(all_close("nothing is left without gaps", quantity, 0.0, left, allowed))
                continue
            quantity = f"largest deviation of C / (r T) of presentation {j} from sum S - T^2 / P"
            verdicts.append(all_close("what gaps leave", quantity, 0.0, found[rows, j] - ideal, allowed))
        if n > 2 and np.allclose(self.delays, (1 + self.gap) * np.arange(n) / n):
            j = self._settled(self.gap)
            quantity, mean = f"mean over delays of C / (r T) of presentation {j}", float(found[n:, j].mean())
            verdicts.append(close("nothing on average over delays", quantity, 0.0, mean, 0.01))
        return Finding(verdicts, self._drawn(found, expected))

    def left(self, delays: np.ndarray) -> np.ndarray:
        """sum over k of S(d + k P) - T^2 / P for quick neurons and a settled mean, in T, by delay."""
        u, period = (np.arange(FINE) + 0.5) / FINE, 1 + self.gap
        k = np.arange(-math.ceil((max(delays) + 2) / period), math.ceil(15 * self.eligibility / period) + 2)
        late = np.asarray(delays)[:, None, None] + period * k[None, :, None] + u
        return traced_box(late, self.eligibility).mean(-1).sum(-1) - 1 / period

    def _settled(self, gap: float) -> int:
        """The last presentation whose trace has met all that it will."""
        return self.presentations - 1 - math.ceil((1 + max(self.delays) + 7 * self.eligibility) / (1 + gap))

    def expected(self, gap: float, delay: float) -> np.ndarray:
        """C / (r T) of every presentation."""
        t = np.arange(round(self.presentations * (1 + gap) * FINE) + 1) / FINE
        since = np.mod(t, 1 + gap) if gap else t
        on, off = since / self.propagation, np.maximum(since - 1, 0) / self.propagation
        rising, falling = 1 - 2 * on * np.exp(-on) - np.exp(-2 * on), 2 * np.exp(-off) - np.exp(-2 * off)
        reward = np.where((since < 1) | (gap == 0), rising, falling)
        keep = math.exp(-1 / FINE / self.baseline)
        mean = lfilter([(1 - keep) / 2, (1 - keep) / 2], [1, -keep], reward)
        surprise = np.interp(t - delay, t, reward - mean, left=0.0)
        traces = traced_box(t - (1 + gap) * np.arange(self.presentations)[:, None], self.eligibility)
        return np.asarray(np.trapezoid(traces * surprise, t, axis=-1))

    def _simulated(self, pairs: np.ndarray) -> np.ndarray:
        """As `expected`, by (gap, delay)."""
        duration, n = self.duration.seconds(1.0), self.presentations
        keys, longest = keys_from(self.seed, n + 4), max(self.delays)
        steps = math.ceil((1 + self.gap) * STEPS / self.propagation)
        times = self.propagation * duration, WEAK * duration, duration

        def weight(key: PRNGKeyArray, pair: Array) -> tuple[Array, Array]:
            gap, late = duration * pair[0], duration * pair[1]
            trace, mean = f64(self.eligibility * duration), f64(self.baseline * duration)
            rule = ThreeFactor(noise=f64(NOISE), eligibility=trace, reward_delay=late, baseline=mean)
            circuit = wired(rule, (1, 1))
            stream = Stream(f64([[1.0]]), f64([[1.0]]), key)
            run = coupled(circuit, stream, *times, steps, gap, history=math.ceil(longest * steps) + 3, integrator=HEUN)
            start = {**circuit.initial_weights(key), "W1": jnp.zeros((1, 1), jnp.float64)}
            moved = weights_after(run, start, n)["W1"][0, 0]
            noise = jax.vmap(lambda k: circuit.draws(key, k)["xi1"][0])(jnp.arange(n, dtype=jnp.int32))
            return moved * NOISE * WEAK / -0.5, noise

        moved, noise = jax.jit(jax.vmap(jax.vmap(weight, (0, None)), (None, 0)))(keys, f64(pairs))
        both = zip(np.asarray(noise), np.asarray(moved), strict=True)
        return np.array([np.linalg.lstsq(x, w, rcond=None)[0] for x, w in both])

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, found: np.ndarray, expected: np.ndarray) -> None:
        n, numbers = len(self.delays), np.arange(self.presentations)
        rows = [0, *range(n, 2 * n)]
        names = ["no gap, d = 0"] + [f"gap {self.gap:g} T, d = {d:g} T" for d in self.delays]
        for i, (row, name) in enumerate(zip(rows, names, strict=True)):
            against(panel, i, (numbers, expected[row]), (numbers, found[row]), name, linestyle=LINES[i % len(LINES)])
        panel.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(xlabel="presentation", ylabel="effect of a constant reward C / (r T)")
        legend_outside(panel, 2, title="lines: theory, points: simulation")
