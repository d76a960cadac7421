"""B10.6: noise under a late restoring force: the variance grows with the delay, and diverges at the threshold."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.coupled_run import CoupledProgress
from dynamics.integrators import FixedStep
from dynamics.noise import Noise
from dynamics.stimulus import Clock
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import drawn, f64, keys_from, look, marked
from experiments.predictions.limits.delayed import follower, silent_run
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import all_match, exceeds

STEPS = 8  # in an interval between two looks, of tau / 4
LOOKS = 4  # intervals in a delay
QUICK = FixedStep("heun", compensated=False)
Level = Annotated[float, Field(strict=True, ge=0.05, le=1.35)]


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
            clock = Clock(delay / LOOKS, f64(0.0), STEPS)
            more = {"noise": noise, "key": key, "history": LOOKS * STEPS + 3, "integrator": QUICK}
            run = silent_run(circuit, delay / level, clock, **more)

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

        return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(f64(self.levels), keys))

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
