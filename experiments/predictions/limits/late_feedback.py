"""B10.3, B10.6: feedback that is late: errors of a synapse, and the restoring force of neurons with noise."""

import functools
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from scipy.optimize import brentq

from dynamics.coupled_run import CoupledProgress
from dynamics.integrators import FixedStep, Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked, plotted
from experiments.predictions.kit import HEUN, all_close, coupled, f64, keys_from, on_grid, records, wired
from experiments.predictions.limits.delayed import exponent, follower, silent_run, threshold
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, all_match, close, exceeds
from experiments.spec.units import Time
from rules.gradient import SGD

STEPS, INTERVAL = 16, 0.25  # in an interval between two looks, of d / 4
SETTLED, LAST = 40, 80  # looks
POINTS, NODES = 8, 6
Ratio = Annotated[float, Field(strict=True, ge=0.02, le=3)]
NOISE_STEPS = 8  # in an interval between two looks, of tau / 4
LOOKS = 4  # intervals in a delay
QUICK = FixedStep("heun", compensated=False)
Level = Annotated[float, Field(strict=True, ge=0.05, le=1.35)]


class LateErrors(AbstractPrediction):
    """One synapse under SGD that is shown one stimulus for ever, with an error that is d late."""

    number = "B10.3"
    title = "Plasticity faster than 2 d / pi follows an error that is d late into oscillations that grow"
    source = "hayes1950roots, for tau_prop = 0; derived: tau_plast s (1 + s tau_prop)^2 = -x^2 e^(-s d) at s = i omega"
    equation = """omega d + 2 arctan(omega tau_prop) = pi / 2; tau_plast = x^2 / (omega (1 + omega^2 tau_prop^2)); 2
        x^2 d / pi at tau_prop = 0"""
    claim = """A weight that learns from errors d late and neurons of tau_prop is stable iff tau_plast exceeds a value
        that is 2 x^2 d / pi without lags of neurons, and more with them: about d + 2 tau_prop count, as long as they
        are short."""
    method = """SGD in a network of one synapse, the coupled regime: the output and its error are filters of tau_prop,
        the error is late by `delays.error`. Presentations of the same sample without gaps; the growth of the weight's
        deviation by a two-term recursion of looks d / 4 apart, by Heun steps and by windows; thresholds by
        bisection."""
    tolerance = """1e-3 of tau_plast: Heun steps of d / 64 with the past interpolated linearly are wrong by (omega
        dt)^2, 6e-4; windows of 6 nodes in d / 4 by less. Short lags: the next order, (tau_prop / d)^2 times pi^2 /
        2."""
    quick = {"ratios": (0.05, 0.5), "integrators": ("heun",)}

    ratios: Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=12)] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    delay: Duration = Time(0.02)  # d
    stimulus: Positive = 1.5  # x
    integrators: Annotated[tuple[Literal["heun", "window"], ...], Field(min_length=1)] = ("heun", "window")

    def measure(self) -> Finding:
        expected, omega = self.expected(np.array(self.ratios)).T
        verdicts, found = [], {}
        for name in self.integrators:
            growth = functools.partial(self._growth, name)
            edges = 1 / threshold(growth, 0.6 / expected, 1.6 / expected, POINTS)
            turns = np.abs(np.imag(growth(np.repeat(1 / edges[:, None], POINTS, 1))[:, 0]))
            quantity = f"of {len(edges)} tau_prop, over the closed form: the farthest"
            verdicts.append(all_close(f"threshold, {name}", f"tau_plast {quantity}", 1.0, edges / expected, 1e-3))
            verdicts.append(all_close(f"frequency, {name}", f"omega {quantity}", 1.0, turns / omega, 1e-3))
            found[name] = edges
        verdicts.append(self._short(found[self.integrators[0]]))
        return Finding(verdicts, self._drawn(found))

    def _short(self, edges: np.ndarray) -> Verdict:
        """Whether the least lag of neurons adds to the delay."""
        i = int(np.argmin(self.ratios))
        ratio = self.ratios[i]
        quantity = f"tau_plast pi / (2 x^2 (d + 2 tau_prop)) at tau_prop = {ratio:g} d"
        return close("lags add up", quantity, 1.0, edges[i] * np.pi / 2 / (1 + 2 * ratio), np.pi**2 / 2 * ratio**2)

    @staticmethod
    def expected(ratios: np.ndarray) -> np.ndarray:
        """tau_plast / (x^2 d) at the threshold, and omega d there, by tau_prop / d: (ratios, 2)."""
        found = []
        for ratio in np.ravel(ratios):
            phase = lambda w, ratio=ratio: w + 2 * np.arctan(w * ratio) - np.pi / 2  # noqa: E731  brentq wants one
            omega = brentq(phase, 1e-9, np.pi / 2, xtol=1e-14)
            found.append((1 / (omega * (1 + (omega * ratio) ** 2)), omega))
        return np.array(found)

    def _growth(self, name: str, rates: np.ndarray) -> np.ndarray:
        """Exponents times d, by (ratios, points) of x^2 d / tau_plast."""
        x, d = self.stimulus, self.delay.value
        courses = np.asarray(_learned(f64(x**2 * d / rates), f64(d * np.array(self.ratios)), f64(d), f64(x), name))
        return np.array([[exponent(c[SETTLED:], INTERVAL) for c in row] for row in courses])

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, found: dict[str, np.ndarray]) -> None:
        fine = np.geomspace(min(self.ratios) / 2, max(self.ratios) * 1.5, 100)
        law = self.expected(fine)[:, 0]
        panel.plot(fine, law, color="0.3", label="theory")
        panel.axhline(2 / np.pi, color="0.5", linestyle=":", label=r"$2/\pi$: no lag of neurons")
        for i, (name, edges) in enumerate(found.items()):
            look = {"color": OKABE_ITO[i], "fillstyle": "none" if i else "full", "markersize": 3 + 3 * i}
            panel.plot(self.ratios, edges, "os"[i], label=name, **look)
        panel.fill_between(fine, 0, law, color="0.92", linewidth=0)
        panel.text(0.95, 0.06, "diverges", transform=panel.transAxes, ha="right")
        panel.set(xscale="log", yscale="log", xlabel=r"$\tau_{prop}$ / d")
        panel.set_ylabel(r"$\tau_{plast}$ / (x$^2$ d) at the threshold")
        panel.legend()


@functools.partial(jax.jit, static_argnums=4)
def _learned(plasticity: Array, propagation: Array, delay: Array, x: Array, name: str) -> Array:
    """The weight at every look, (ratios, points, looks); its target is 0."""
    circuit = wired(SGD(), (1, 1))
    integrator, steps = (HEUN, STEPS) if name == "heun" else (Window(nodes=NODES, parts=1, gaps=False), NODES)
    history = int(np.ceil(steps / INTERVAL)) + 3

    def one(plasticity: Array, propagation: Array) -> Array:
        stream = Stream(x[None, None], f64([[0.0]]), jax.random.key(0))
        more = {"late": delay, "history": history, "integrator": integrator}
        run = coupled(circuit, stream, propagation, plasticity, delay * INTERVAL, steps, **more)
        start = run.init({"W1": f64([[1.0]])})
        return records(run, start, LAST, 1, lambda progress: progress.state.weights["W1"][0, 0])

    return jax.vmap(jax.vmap(one, (0, None)))(plasticity, propagation)


class DelayedNoise(AbstractPrediction):
    """Many neurons without a leak, each with noise and a late inhibition of itself: Ornstein-Uhlenbeck with a delay."""

    number = "B10.6"
    title = "A delay makes noise larger: the variance is s^2 (1 + sin(lam tau)) / cos(lam tau)"
    source = "kuchler1992langevins, covariance from K'(t) = -lam K(tau - t)"
    equation = """dw = -lam w(t - tau) dt + sigma dB: Var w = sigma^2 (1 + sin(lam tau)) / (2 lam cos(lam tau)), K(t)
        = Var w cos(lam t) - sigma^2 sin(lam t) / (2 lam) for t <= tau"""
    claim = """A late restoring force lets noise grow, without bound towards lam tau = pi / 2. The covariance over
        exactly one delay is sigma^2 / (2 lam), whatever the delay."""
    method = """The neuron of B10.1 with activity noise of deviation s, sigma^2 = 2 lam s^2, by Heun steps of tau /
        32. Variances and covariances over time and neurons, after 40 delays; one sample per seed."""
    tolerance = """99.9 % intervals over seeds, for all settings together. The steps' own error, which shifts the
        threshold by (lam dt)^2 / 12 of it, is below 2e-3 of the variance."""
    quick = {"levels": (0.4, 1.0), "seeds": 8, "averaged": 60}

    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=12)] = (0.1, 0.4, 0.8, 1.1, 1.3)  # lam tau
    deviation: Positive = 0.5  # s
    delay: Positive = 1.0  # tau (s)
    neurons: Size = 40
    averaged: Annotated[int, Field(strict=True, ge=20, le=10_000)] = 200  # delays
    settled: Annotated[int, Field(strict=True, ge=10, le=1000)] = 40
    seeds: Seeds = 10

    def measure(self) -> Finding:
        found = self._measured()
        expected = self.expected(np.array(self.levels), np.arange(LOOKS + 1) / LOOKS)
        last, unit = found[:, :, -1], self.deviation**2
        over = "over s^2, at all lam tau"
        verdicts = [
            all_match("variance", over, expected[:, 0], (found[:, :, 0] / unit).T),
            all_match("covariance over one delay", over, np.ones(len(last)), (last / unit).T),
            all_match("covariance", f"{over} and times up to tau", expected, np.moveaxis(found, 1, 0) / unit),
        ]
        high, low = np.argmax(self.levels), np.argmin(self.levels)
        if high != low:
            ratio = found[high, :, 0] / found[low, :, 0]
            names = f"variance at lam tau = {self.levels[high]:g} over that at {self.levels[low]:g}"
            verdicts.append(exceeds("delays amplify noise", names, 1.0, ratio))
        return Finding(verdicts, self._drawn(found / unit))

    @staticmethod
    def expected(levels: np.ndarray, times: np.ndarray) -> np.ndarray:
        """K(t) over s^2, by (lam tau, t / tau)."""
        level = np.asarray(levels, float)[:, None]
        variance = (1 + np.sin(level)) / np.cos(level)
        return variance * np.cos(level * times) - np.sin(level * times)

    def _measured(self) -> np.ndarray:
        """Covariances over 0, tau / 4 .. tau: (levels, seeds, times)."""
        delay, keys = f64(self.delay), keys_from(self.seed, self.seeds)
        settled, averaged = self.settled * LOOKS, self.averaged * LOOKS

        def one(level: Array, key: Array) -> Array:
            circuit = follower(delay, self.neurons)
            noise = Noise(activity=f64(self.deviation))
            more = {"noise": noise, "key": key, "history": LOOKS * NOISE_STEPS + 3, "integrator": QUICK}
            run = silent_run(circuit, delay / level, delay / LOOKS, NOISE_STEPS, **more)

            def look(carry: tuple, k: Array) -> tuple[tuple, None]:
                progress, past, total = carry
                progress = run.advance(progress, k, 1)
                w = progress.state.activity["w"] - 1
                past = jnp.concatenate([w[None], past[:-1]])
                return (progress, past, total + jnp.where(k >= settled, (past * w[None]).mean(1), 0)), None

            start = run.init(circuit.initial_weights(jax.random.key(0)))
            zeros = jnp.zeros((LOOKS + 1, self.neurons), jnp.float64)
            carry: tuple[CoupledProgress, Array, Array] = (start, zeros, jnp.zeros(LOOKS + 1, jnp.float64))
            count = jnp.arange(settled + averaged, dtype=jnp.int32)
            return jax.lax.scan(look, carry, count)[0][2] / averaged

        return on_grid(one, f64(self.levels), keys)

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, found: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.linspace(0, 1.4, 200)
        left.plot(fine, self.expected(fine, np.zeros(1))[:, 0], color="0.3", label="theory")
        marked(left, self.levels, found[:, :, 0], color=OKABE_ITO[0], marker="o", label="simulation")
        left.axvline(np.pi / 2, color="0.5", linestyle=":", label=r"threshold $\pi/2$")
        left.set(xlabel=r"$\lambda\tau$", ylabel="variance / s$^2$", yscale="log")
        left.legend()
        times, t = np.arange(LOOKS + 1) / LOOKS, np.linspace(0, 1, 100)
        for i, level in enumerate(self.levels):
            right.plot(t, self.expected(np.array([level]), t)[0], color=look(i)["color"])
            marked(right, times, found[i].T, label=rf"$\lambda\tau$ = {level:g}", **look(i))
        right.set(xlabel=r"time difference (delays $\tau$)", ylabel="covariance / s$^2$", yscale="log")
        right.legend(title="lines: theory", bbox_to_anchor=(1, 1), loc="upper left")
