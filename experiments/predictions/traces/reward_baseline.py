"""3F.2: what a running mean of the reward removes of the noise that other rewards make, and what gaps leave of it."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from pydantic import Field
from scipy.signal import lfilter

from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding
from experiments.predictions.kit import HEUN, all_close, coupled, f64, keys_from, legend_outside, look, plotted, wired
from experiments.predictions.traces.overlaps import traced_box
from experiments.predictions.traces.reward_window import NOISE, WEAK
from experiments.report.figures import LINES
from experiments.results.verdicts import close
from experiments.spec.units import Time
from rules import ThreeFactor

STEPS = 20  # per tau_prop
FINE = 400  # points of the reference per T
Gap = Annotated[float, Field(strict=True, ge=0, le=5)]
Delay = Annotated[float, Field(strict=True, ge=0, le=3)]


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
    delays: Annotated[tuple[Delay, ...], Field(min_length=1, max_length=6)] = (0.0, 0.5, 1.0, 1.5, 2.0)
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
                verdicts.append(
                    all_close("nothing is left without gaps", quantity, 0.0, np.abs(found[rows, j]), allowed)
                )
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
            moved = run.weights(run.advance(run.init(start), jnp.int32(0), n))["W1"][0, 0]
            noise = jax.vmap(lambda k: circuit.draws(key, k)["xi1"][0])(jnp.arange(n, dtype=jnp.int32))
            return moved * NOISE * WEAK / -0.5, noise

        moved, noise = jax.jit(jax.vmap(jax.vmap(weight, (0, None)), (None, 0)))(keys, f64(pairs))
        solved = [
            np.linalg.lstsq(np.asarray(x), np.asarray(w), rcond=None)[0] for x, w in zip(noise, moved, strict=True)
        ]
        return np.array(solved)

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, found: np.ndarray, expected: np.ndarray) -> None:
        n, numbers = len(self.delays), np.arange(self.presentations)
        rows = [0, *range(n, 2 * n)]
        names = ["no gap, d = 0"] + [f"gap {self.gap:g} T, d = {d:g} T" for d in self.delays]
        for i, (row, name) in enumerate(zip(rows, names, strict=True)):
            panel.plot(numbers, expected[row], color=look(i)["color"], linestyle=LINES[i % len(LINES)])
            panel.plot(numbers, found[row], linestyle="", label=name, **look(i))
        panel.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(xlabel="presentation", ylabel="effect of a constant reward C / (r T)")
        legend_outside(panel, 2, title="lines: theory, points: simulation")
