"""B10.1: gradient descent with an old gradient oscillates beyond lam tau = 1/e and diverges beyond pi/2."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field
from scipy.special import lambertw

from dynamics.stimulus import Clock
from experiments.predictions.contract import AbstractPrediction, Finding, Positive
from experiments.predictions.kit import all_close, drawn, f64, look
from experiments.predictions.limits.delayed import exponent, follower, records, silent_run, threshold
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close

STEPS = 16  # in an interval between two looks, of tau / 4
INTERVAL = 0.25
SETTLED, LAST = 32, 72  # looks: what decays faster has decayed, and what is left is not yet lost in rounding
Level = Annotated[float, Field(strict=True, ge=0.05, le=3)]


class DelayedGradient(AbstractPrediction):
    """One number that follows a quadratic's gradient as it was tau ago, from silence."""

    number = "B10.1"
    title = "Descent along an old gradient is stable up to lam tau = pi / 2"
    source = "hayes1950roots, s e^(s tau) = -lam has the roots s tau = W(-lam tau)"
    equation = """w' = lam (1 - w(t - tau)): stable iff lam tau < pi / 2, with angular frequency lam there; fastest
        decay at lam tau = 1 / e, exp(-t / tau), where oscillations begin; w is a polynomial between multiples of
        tau"""
    claim = """A delay tau of the gradient allows curvatures up to pi / (2 tau). The weight decays as exp(s t) with s
        tau = W_0(-lam tau), oscillates from lam tau = 1 / e on, and decays fastest there."""
    method = """A neuron without a leak that a projection with a lag inhibits, by Heun steps of tau / 64. Exponents by
        a two-term recursion of looks tau / 4 apart; the threshold by bisection. The error against the method of steps
        with steps of tau / 64 and half of that."""
    tolerance = """Threshold, frequency, exponents: (lam dt)^2 at the threshold, 6e-4, as Heun steps with the past
        interpolated linearly are of second order. Where two roots meet, at 1 / e, an error of that size moves them by
        its root: dt / tau. Order: 2 within 0.1. Oscillations: none may be missed, or found where there are none."""
    quick = {"levels": (0.2, 0.6, 1.2)}

    levels: Annotated[tuple[Level, ...], Field(min_length=1, max_length=40)] = (
        0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0
    )  # lam tau  # fmt: skip
    delay: Positive = 1.0  # tau (s)

    def measure(self) -> Finding:
        levels = np.sort([*self.levels, 1 / math.e])
        courses, fine = self._courses(levels, 1), self._courses(levels, 2)
        found = np.array([exponent(course[SETTLED:], INTERVAL) for course in courses])
        edge = threshold(self._growth, np.array([1.2]), np.array([2.2]))
        frequency = abs(self._growth(edge[:, None])[0, 0].imag)
        errors = [np.abs(one - self.exact(levels)).max() for one in (courses, fine)]
        dt = INTERVAL / STEPS
        small = (math.pi / 2 * dt) ** 2
        meets = np.isclose(levels, 1 / math.e)
        swings = (np.diff(np.sign(courses), axis=1) != 0).any(1)
        wrong = float((swings != (levels > 1 / math.e * (1 + 1e-9))).sum())
        off = np.abs(found - self.expected(levels))
        quantity = f"largest deviation of s tau from W_0(-lam tau), of {(~meets).sum()} values of lam tau"
        verdicts = [
            close("threshold", "lam tau where oscillations neither grow nor decay", math.pi / 2, float(edge[0]), small),
            close("frequency", "angular frequency there, times tau", math.pi / 2, frequency, 2 * small),
            all_close("exponents", quantity, 0.0, off[~meets], small),
            close("fastest decay", "largest decay rate of all, times tau: that at 1/e", 1.0, -np.real(found).min(), dt),
            close("oscillations", "values of lam tau that oscillate below 1/e or do not above", 0.0, wrong, 0.0),
            close("order", "log2 of the error's ratio under halving", 2.0, math.log2(errors[0] / errors[1]), 0.1),
        ]  # fmt: skip
        return Finding(verdicts, self._drawn(levels, found, courses))

    @staticmethod
    def expected(levels: np.ndarray) -> np.ndarray:
        """s tau of the slowest mode, with a positive imaginary part."""
        s = lambertw(-np.asarray(levels) + 0j)
        return s.real + 1j * np.abs(s.imag)

    @staticmethod
    def exact(levels: np.ndarray) -> np.ndarray:
        """w - 1 at every look by the method of steps: (levels, looks). Before 0 it is -1.

        w(t) - 1 = -sum_k (-lam)^k max(t - (k - 1) tau, 0)^k / k!
        """
        t = INTERVAL * np.arange(1, LAST + 1)
        total = np.zeros((len(levels), LAST))
        for k in range(math.ceil(t[-1]) + 2):
            late = np.maximum(t - (k - 1), 0.0)
            total -= (-np.asarray(levels)[:, None]) ** k * late[None] ** k / math.factorial(k)
        return total

    def _courses(self, levels: np.ndarray, finer: int) -> np.ndarray:
        """w - 1 at every look: (levels, looks), by steps that are `finer` times as short."""
        padded = np.resize(levels, max(12, len(self.levels) + 1))  # one program for all
        return np.asarray(_followed(f64(padded), f64(self.delay), jnp.int32(finer)))[: len(levels)] - 1

    def _growth(self, levels: np.ndarray) -> np.ndarray:
        courses = self._courses(levels.ravel(), 1)
        found = [exponent(course[SETTLED:], INTERVAL) for course in courses]
        return np.reshape(found, levels.shape)

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, levels: np.ndarray, found: np.ndarray, courses: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.linspace(0.02, max(2.0, levels.max()), 400)
        theory = self.expected(fine)
        for i, (part, name) in enumerate((("real", "growth rate"), ("imag", "angular frequency"))):
            left.plot(fine, getattr(theory, part), color=OKABE_ITO[i])
            left.plot(levels, getattr(found, part), linestyle="", label=name, **look(i))
        left.axhline(0, color="0.7", linewidth=0.6)
        for x, text in ((1 / math.e, "1/e"), (math.pi / 2, r"$\pi/2$")):
            left.axvline(x, color="0.5", linestyle=":", linewidth=0.8)
            left.text(x, 2.05, text, ha="center")
        left.set(xlabel=r"$\lambda\tau$", ylabel=r"exponent s, times $\tau$", ylim=(-1.3, 2.0))
        left.legend(title="lines: theory", loc="lower right")
        t, shown = INTERVAL * np.arange(1, LAST + 1), np.unique([0, len(levels) // 2, len(levels) - 1])
        for i, row in enumerate(shown):
            right.plot(t, self.exact(levels[row : row + 1])[0], color=OKABE_ITO[i])
            label = rf"$\lambda\tau$ = {levels[row]:.3g}"
            right.plot(t[::2], courses[row][::2], linestyle="", label=label, **look(i))
        right.set(xlabel=r"time (delays $\tau$)", ylabel="w - 1", ylim=(-2.2, 2.2))
        right.legend(title="lines: method of steps", bbox_to_anchor=(1, 1), loc="upper left")


@jax.jit
def _followed(levels: Array, delay: Array, finer: Array) -> Array:
    """w at every look, (levels, looks)."""

    def one(level: Array) -> Array:
        circuit = follower(delay)
        clock = Clock(delay * INTERVAL / finer.astype(delay.dtype), f64(0.0), STEPS)
        run = silent_run(circuit, delay / level, clock, history=2 * math.ceil(STEPS / INTERVAL) + 3)
        start = run.init(circuit.initial_weights(jax.random.key(0)))
        return records(run, start, LAST, finer, lambda progress: progress.state.activity["w"][0])

    return jax.vmap(one)(levels)
