"""B10.1, B10.2, B10.4: descent along an old gradient: a constant lag, a chain of filters, and discrete updates."""

import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from scipy.special import lambertw

from dynamics.delays import Delays
from dynamics.integrators import FixedStep
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Positive
from experiments.predictions.drawing import against, drawn, look, plotted
from experiments.predictions.kit import all_close, f64
from experiments.predictions.limits.delayed import activities, exponent, follower, silent_run, threshold
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close

STEPS, INTERVAL = 16, 0.25  # in an interval between two looks, of tau / 4
SETTLED, LAST = 32, 72  # looks: what decays faster has decayed, and what is left is not yet lost in rounding
Level = Annotated[float, Field(strict=True, ge=0.05, le=3)]
CHAIN_SETTLED, CHAIN_LAST = 40, 76  # the same of chains of filters
POINTS = 8
Stages = Annotated[int, Field(strict=True, ge=2, le=60)]
LOOKS = 120  # of updates, one after each m + 1
Late = Annotated[int, Field(strict=True, ge=0, le=60)]


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
            against(left, i, (fine, getattr(theory, part)), (levels, getattr(found, part)), name)
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
        interval, history = delay * INTERVAL / finer.astype(delay.dtype), 2 * math.ceil(STEPS / INTERVAL) + 3
        run = silent_run(follower(delay), delay / level, interval, STEPS, history=history)
        return activities(run, "w", LAST, finer)[:, 0]

    return jax.vmap(one)(levels)


class LagChains(AbstractPrediction):
    """One number that follows a quadratic's gradient through n first-order filters of tau / n each."""

    number = "B10.2"
    title = "A lag of n filters is stable up to lam tau = n tan(pi/2n) / cos(pi/2n)^n"
    source = "macdonald1978time, derived from s (1 + s tau / n)^n = -lam at s = i omega"
    equation = """omega tau = n tan(pi / 2n), lam tau = n tan(pi / 2n) / cos(pi / 2n)^n; n = 1 is stable at every lam;
        n -> infinity: (pi / 2)(1 + pi^2 / 8n)"""
    claim = """Gamma-distributed lags allow larger curvatures than a constant lag of the same mean: four times against
        pi / 2 for two filters, less the more there are. A chain is to be held against its own threshold, not against
        pi / 2."""
    method = """The neuron of B10.1 with `delays.stages` = n, by Heun steps of tau / 64; thresholds by bisection of
        the growth rate, from looks tau / 4 apart."""
    tolerance = """Threshold and frequency: 1e-3 of them; approach: its next order, 1.6 / n, and those after it, all
        within 4 / n from n = 2 on. Heun steps shift the growth rate of a mode by omega^4 dt^3 / 8 and its frequency
        by omega^3 dt^2 / 6, omega tau < 2: 1e-5 and 2e-4; modes that decay have decayed by exp(-10)."""
    quick = {"stages": (2, 8)}

    stages: Annotated[tuple[Stages, ...], Field(min_length=1, max_length=8)] = (2, 3, 4, 8, 30)
    delay: Positive = 1.0  # tau (s)
    steep: Annotated[float, Field(strict=True, ge=1, le=10)] = 10.0  # lam tau of the single filter

    def measure(self) -> Finding:
        n = np.array(self.stages)
        edges, frequencies = np.array([self._edge(stages) for stages in self.stages]).T
        expected = self.expected(n)
        quantity = f"of n = {', '.join(map(str, self.stages))}, over the closed form: the farthest"
        excess = n[-1] * (2 * edges[-1] / np.pi - 1)
        single = self._growth(1, np.full((1, POINTS), self.steep))[0, 0].real
        verdicts = [
            all_close("thresholds", f"lam tau {quantity}", 1.0, edges / expected, 1e-3),
            all_close("frequencies", f"omega tau {quantity}", 1.0, frequencies / (n * np.tan(np.pi / 2 / n)), 1e-3),
            close("one filter", f"growth rate of n = 1 at lam tau = {self.steep:g}, times tau", -0.5, single, 1e-3),
            close("approach to pi / 2", f"n (2 lam tau / pi - 1) at n = {n[-1]}", np.pi**2 / 8, excess, 4 / n[-1]),
        ]
        return Finding(verdicts, self._drawn(edges))

    @staticmethod
    def expected(n: np.ndarray) -> np.ndarray:
        """lam tau at the threshold."""
        return n * np.tan(np.pi / 2 / n) / np.cos(np.pi / 2 / n) ** n

    def misfit(self) -> str | None:
        return None if list(self.stages) == sorted(set(self.stages)) else "stages must be in increasing order"

    def _edge(self, stages: int) -> tuple[float, float]:
        """lam tau and omega tau at the threshold of a chain."""
        growth = functools.partial(self._growth, stages)
        edge = threshold(growth, np.array([1.0]), np.array([6.0]), POINTS, rounds=4)
        return float(edge[0]), abs(growth(np.repeat(edge[None], POINTS, 1))[0, 0].imag)

    def _growth(self, stages: int, levels: np.ndarray) -> np.ndarray:
        courses = np.asarray(_through_chain(f64(levels[0]), f64(self.delay), stages)) - 1
        return np.reshape([exponent(course[CHAIN_SETTLED:], INTERVAL) for course in courses], levels.shape)

    @plotted(3.4, 2.5)
    def _drawn(self, panel: Axes, edges: np.ndarray) -> None:
        fine = np.geomspace(2, max(40, *self.stages), 200)
        panel.plot(fine, self.expected(fine), color="0.3", label="theory")
        panel.plot(self.stages, edges, "o", color=OKABE_ITO[0], label="simulation")
        panel.axhline(np.pi / 2, color="0.5", linestyle=":", label=r"constant lag, $\pi/2$")
        panel.fill_between(fine, self.expected(fine), 4.4, color="0.92", linewidth=0)
        panel.text(12, 3.2, "diverges")
        ticks = [2, 4, 8, 16, 32]
        panel.set(xscale="log", xlabel="filters n of the lag", ylabel=r"$\lambda\tau$ at the threshold", ylim=(1, 4.4))
        panel.set_xticks(ticks, [str(n) for n in ticks])
        panel.set_xticks([], minor=True)
        panel.legend()


@functools.partial(jax.jit, static_argnums=2)
def _through_chain(levels: Array, delay: Array, stages: int) -> Array:
    """w at every look, (levels, looks)."""

    def one(level: Array) -> Array:
        run = silent_run(follower(delay), delay / level, delay * INTERVAL, STEPS, late=Delays(stages=stages))
        return activities(run, "w", CHAIN_LAST, 1)[:, 0]

    return jax.vmap(one)(levels)


class DelayedUpdates(AbstractPrediction):
    """w_(k+1) = w_k - eta lam (w_(k-m) - 1): Euler steps of the delayed descent, m steps late."""

    number = "B10.4"
    title = "Updates by a gradient m steps old are stable up to eta lam = 2 sin(pi / (2 (2m + 1)))"
    source = "levin1976note, derived from r^(m+1) = r^m - eta lam at |r| = 1"
    equation = """stable iff eta lam < 2 sin(pi / (2 (2m + 1))), where w turns by pi / (2m + 1) per update; m eta lam
        -> pi / 2"""
    claim = """Without a delay eta lam may come up to 2, with one update of delay up to 1, with two to 0.618; with m
        many to pi / (2m), the limit of continuous time."""
    method = """The neuron of B10.1 by Euler steps that are 1/m of the lag, which are these updates; each is compared
        with the recursion by hand. Thresholds by bisection of the growth, from looks m + 1 updates apart."""
    tolerance = """Threshold: 0.1 %, what the slower modes that are not yet gone leave of the bisection. Recursion:
        1e-11, rounding over all updates of a course that stays bounded. The limit: the next order, pi / (4m)."""
    quick = {"late": (0, 1, 5)}

    late: Annotated[tuple[Late, ...], Field(min_length=1, max_length=12)] = (0, 1, 2, 5, 10, 20)  # m
    share: Fraction = 0.9  # of the threshold, where the recursion is compared

    def measure(self) -> Finding:
        m = np.array(self.late)
        expected = self.expected(m)
        edges = threshold(self._growth, 0.92 * expected, 1.08 * expected, POINTS, rounds=2)
        turns = np.abs(np.imag(self._growth(np.repeat(edges[:, None], POINTS, 1))[:, 0]))
        etas = self.share * expected
        courses = self._courses(np.repeat(etas[:, None], POINTS, 1))[:, 0]
        off = [np.abs(a - b).max() for a, b in zip(courses, self._recursion(etas), strict=True)]
        last, ratio, of = int(m[-1]), edges / expected, f"of m = {', '.join(map(str, self.late))}"
        quantity = f"eta lam over the closed form, {of}: the farthest"
        turning = np.pi / (2 * m + 1)
        verdicts = [
            all_close("thresholds", quantity, 1.0, ratio, 1e-3),
            all_close("turns", f"angle per update over pi / (2m + 1), {of}: the farthest", 1.0, turns / turning, 1e-3),
            all_close("recursion", f"largest deviation of a course at {self.share:g} of it", 0.0, np.array(off), 1e-11),
        ]
        if last:
            limit = (np.pi / 2, last * float(edges[-1]), np.pi / 4 / last)
            verdicts.append(close("limit of continuous time", f"m eta lam at m = {last}", *limit))
        return Finding(verdicts, self._drawn(edges))

    def misfit(self) -> str | None:
        return None if list(self.late) == sorted(set(self.late)) else "late must be in increasing order"

    @staticmethod
    def expected(m: np.ndarray) -> np.ndarray:
        """eta lam at the threshold."""
        return 2 * np.sin(np.pi / (2 * (2 * np.asarray(m) + 1)))

    def _courses(self, etas: np.ndarray) -> np.ndarray:
        """w - 1 after each m + 1 updates: (late, points, looks)."""
        return np.asarray(_updated(f64(etas), f64(self.late), max(self.late))) - 1

    def _growth(self, etas: np.ndarray) -> np.ndarray:
        """Exponents per update: (late, points). Looks are m + 1 updates apart, which turn by less than pi."""
        courses = self._courses(etas)[..., LOOKS // 8 :]
        apart = [m + 1.0 for m in self.late]
        return np.array([[exponent(c, n) for c in row] for row, n in zip(courses, apart, strict=True)])

    def _recursion(self, etas: np.ndarray) -> list[np.ndarray]:
        """w - 1 at the same looks, by hand. Before the first update it is -1."""
        looks = []
        for m, eta in zip(self.late, etas, strict=True):
            w = [-1.0] * (m + 1)
            for _ in range(LOOKS * (m + 1)):
                w.append(w[-1] - eta * w[-1 - m])
            looks.append(np.array(w[2 * m + 1 :: m + 1][:LOOKS]))
        return looks

    @plotted(3.4, 2.5)
    def _drawn(self, panel: Axes, edges: np.ndarray) -> None:
        m = np.arange(max(self.late) + 1)
        panel.plot(m, self.expected(m), color="0.3", label=r"$2\sin(\pi/(4m+2))$")
        panel.plot(m[1:], np.pi / 2 / m[1:], color="0.5", linestyle=":", label=r"continuous time, $\pi/(2m)$")
        panel.plot(self.late, edges, "o", color=OKABE_ITO[0], label="simulation")
        panel.set(xlabel="delay m (updates)", ylabel=r"$\eta\lambda$ at the threshold", yscale="log")
        panel.legend()


@functools.partial(jax.jit, static_argnums=2)
def _updated(etas: Array, late: Array, longest: int) -> Array:
    """w after each m + 1 updates, (late, points, looks)."""

    def one(eta: Array, m: Array) -> Array:
        euler = FixedStep("euler")
        run = silent_run(follower(m), 1 / eta, 1.0, 1, integrator=euler, history=longest + 3)  # one update a second
        return activities(run, "w", LOOKS, jnp.round(m).astype(jnp.int32) + 1)[:, 0]

    return jax.vmap(jax.vmap(one, (0, None)))(etas, late)
