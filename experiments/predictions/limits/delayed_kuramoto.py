"""B10.5: identical phase oscillators, each coupled to the mean of all as it was tau ago."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field
from scipy.optimize import root_scalar
from scipy.special import lambertw

from dynamics.circuit import AbstractFactor, Circuit, Given, Layer, Local, Projection, Variable
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from experiments.predictions.contract import AbstractPrediction, Finding, Positive
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, f64
from experiments.predictions.limits.delayed import silent_run
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close

STEPS = 32  # in an interval between two looks, which is one unit of time
NUDGE = 1e-3  # rad, the spread of phases beside a synchronous state
TURNED = 8  # units of time for which phases rotate freely at the frequency that is tried
Lag = Annotated[float, Field(strict=True, ge=0.1, le=6)]
Coupling = Annotated[float, Field(strict=True, gt=0, le=2)]


class Phase(AbstractFactor):
    """theta + omega + K (S cos theta - C sin theta), S and C the means of what arrives of sines and cosines; while
    `forced` is 1 not coupled, but turning at `nu` and its own little more.

    tau theta' = - theta + this, with tau = 1 unit of time.
    """

    omega: Array
    coupling: Array
    nu: Array
    own: Float[Array, " size"]
    forced: Array

    def __call__(self, local: Local) -> Float[Array, " size"]:
        theta = local.activity
        pull = local.inputs["sine"] * jnp.cos(theta) - local.inputs["cosine"] * jnp.sin(theta)
        free = self.omega + self.coupling * pull
        return theta + self.forced * (self.nu + self.own) + (1 - self.forced) * free


class Sine(AbstractFactor):
    """sin theta."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return jnp.sin(local.activity)


class Cosine(AbstractFactor):
    """cos theta."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return jnp.cos(local.activity)


class DelayedKuramoto(AbstractPrediction):
    number = "B10.5"
    title = "Oscillators with late coupling share a frequency where K cos(Omega tau) > 0"
    source = "yeung1999time, disagreement of phases decays at the rate K cos(Omega tau), derived"
    equation = """theta_i' = w + K < sin(theta_j(t - tau) - theta_i) >; together: Omega = w - K sin(Omega tau), stable
        iff K cos(Omega tau) > 0"""
    claim = """The common frequency solves Omega = w - K sin(Omega tau), and phases that differ a little meet again at
        the rate K cos(Omega tau), or part at it. Where there are several solutions, each stable one is kept by
        oscillators that have turned at it: the past decides. A stable common frequency need not be reached: from a
        past at w, phases can end spread out evenly."""
    method = """A layer of phases whose sines and cosines it gets back late, by Heun steps of 1/32. Phases first turn
        freely at a frequency for longer than tau, a little apart, then they are coupled; two runs of one circuit.
        Frequency from the last tenth, rates from the spread of phases."""
    tolerance = """Frequencies: 1e-3, the error of the steps (Omega dt)^2 is at most that. Rates: 1e-2 K, as the past
        has to settle, and spreads are small but not infinitely so. Order of the phases r: 1e-3 from 1, or below
        0.05."""
    quick = {"time": 60}

    couplings: Annotated[tuple[Coupling, ...], Field(min_length=1, max_length=12)] = (0.5, 0.5, 0.8, 0.3, 0.5, 1.0)
    lags: Annotated[tuple[Lag, ...], Field(min_length=1, max_length=12)] = (0.5, 1.0, 2.5, 2.2, 3.0, 5.0)
    frequency: Positive = 1.0  # w
    neurons: Annotated[int, Field(strict=True, ge=4, le=200)] = 12
    time: Annotated[int, Field(strict=True, ge=30, le=1000)] = 120

    def measure(self) -> Finding:
        points, omegas, rates = self._branches()
        together = self._courses(points, omegas, NUDGE * np.cos(2 * np.pi * np.arange(self.neurons) / self.neurons))
        spread = together.std(-1)
        stable = rates < 0
        late = self.time // 10
        found = (together[:, -1] - together[:, -1 - late]).mean(-1) / late
        kept = (np.abs(np.exp(1j * together[:, -1]).mean(-1)) > 1 - 1e-3) & (np.abs(found - omegas) < 1e-3)
        measured = np.array([_slope(row, 1e-9, 0.03) for row in spread])
        ends, growth = self._evenly()
        quantity = f"of {stable.sum()} stable solutions, and {(~stable).sum()} that are not"
        wrong = float((kept != stable).sum())
        off = (measured - rates) / points[:, 0]
        verdicts = [
            all_close("common frequency", "largest deviation from Omega", 0.0, (found - omegas)[stable], 1e-3),
            all_close("rates", "largest deviation from -K cos(Omega tau), over K", 0.0, off, 1e-2),
            close("kept or left", f"wrong ones {quantity}", 0.0, wrong, 0.0),
            all_close("out of step", "largest deviation of the growth of r from theory, over K", 0.0, growth, 1e-2),
        ]
        notes = self._notes(points, omegas, stable, ends)
        return Finding(verdicts, self._drawn(points[kept], found[kept], rates, measured), notes)

    def misfit(self) -> str | None:
        if len(self.couplings) != len(self.lags):
            return "couplings and lags must be as many, a pair for each system"

    def _branches(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(K, tau) of every solution Omega, the solutions, and how fast phases beside each part: -K cos(Omega tau)."""
        points, omegas = [], []
        for k, tau in zip(self.couplings, self.lags, strict=True):
            for omega in self.solutions(k, tau):
                points.append((k, tau))
                omegas.append(omega)
        points, omegas = np.array(points), np.array(omegas)
        return points, omegas, -points[:, 0] * np.cos(omegas * points[:, 1])

    def solutions(self, k: float, tau: float) -> list[float]:
        """All Omega = w - K sin(Omega tau)."""
        w = self.frequency
        grid = np.linspace(w - k - 1e-9, w + k + 1e-9, 2000)
        left = lambda omega: omega - w + k * np.sin(omega * tau)  # noqa: E731  a function is wanted
        signs = np.sign(left(grid))
        turns = np.flatnonzero(np.diff(signs) != 0)
        return [root_scalar(left, bracket=(grid[i], grid[i + 1]), xtol=1e-13).root for i in turns]

    @staticmethod
    def growth_of_order(points: np.ndarray, frequency: float) -> np.ndarray:
        """How fast r grows beside phases spread evenly: s = (K/2) e^(-i w tau) e^(-s tau), the largest real part."""
        k, tau = points.T
        turned = k * tau / 2 * np.exp(-1j * frequency * tau)
        return np.max([lambertw(turned, branch).real for branch in range(-3, 4)], axis=0) / tau

    def _evenly(self) -> tuple[np.ndarray, np.ndarray]:
        """From phases spread evenly, for every (K, tau): r at the end, deviation of its growth from theory over K."""
        points = np.array([self.couplings, self.lags]).T
        angles = 2 * np.pi * np.arange(self.neurons) / self.neurons
        courses = self._courses(points, np.full(len(points), self.frequency), angles + NUDGE * np.cos(angles))
        r = np.abs(np.exp(1j * courses).mean(-1))
        expected = self.growth_of_order(points, self.frequency)
        found = np.array([_slope(row, 1e-9, 0.05) for row in r])
        return r[:, -1], (found - expected) / points[:, 0]

    def _courses(self, points: np.ndarray, turned: np.ndarray, apart: np.ndarray) -> np.ndarray:
        """Phases at every look once coupled, (points, looks, neurons), after turning at `turned` (points,)."""
        looks = 2 * TURNED + self.time
        forced = np.arange(looks) < 2 * TURNED
        own = np.where(np.arange(looks)[:, None] < TURNED, apart / TURNED, 0.0)
        size = max(len(points), 3 * len(self.couplings))  # mostly one program for all
        padded = np.resize(np.column_stack([points, turned]), (size, 3))
        courses = _turned(f64(padded), f64(forced), f64(own), f64(self.frequency))
        return np.asarray(courses)[: len(points), 2 * TURNED :]

    def _notes(self, points: np.ndarray, omegas: np.ndarray, stable: np.ndarray, ends: np.ndarray) -> list[str]:
        """Which pairs have several stable solutions, and what is reached from phases spread evenly."""
        pairs = np.array([self.couplings, self.lags]).T
        notes = []
        for (k, tau), r in zip(pairs, ends, strict=True):
            own = omegas[stable & (points == [k, tau]).all(1)]
            if len(own) > 1:
                several = ", ".join(f"{omega:.4f}" for omega in own)
                notes.append(f"K = {k:g}, tau = {tau:g} keeps {len(own)} frequencies: {several}.")
            if len(own) and r < 0.05:
                notes.append(
                    f"K = {k:g}, tau = {tau:g}: phases spread evenly stay so (r = {r:.1g}), although Omega = "
                    f"{own[0]:.4f} is stable: the common frequency is not reached from everywhere."
                )
        return notes

    @drawn(7.0, 2.5)
    def _drawn(
        self, figure: Figure, points: np.ndarray, found: np.ndarray, rates: np.ndarray, measured: np.ndarray
    ) -> None:
        left, right = figure.subplots(1, 2)
        shown = sorted(set(self.couplings))[:4]
        for i, k in enumerate(shown):
            omega = np.linspace(self.frequency - k, self.frequency + k, 4000)[1:-1]
            for turn in range(3):  # tau of a frequency, on each way round
                for side in (np.arcsin((self.frequency - omega) / k), np.pi - np.arcsin((self.frequency - omega) / k)):
                    tau = (side + 2 * np.pi * turn) / omega
                    ok = (tau > 0) & (tau < 1.1 * max(self.lags))
                    firm = np.cos(omega * tau) > 0
                    for where, line in ((ok & firm, "-"), (ok & ~firm, ":")):
                        left.plot(np.where(where, tau, np.nan), omega, line, color=OKABE_ITO[i], linewidth=0.9)
            at = points[:, 0] == k
            left.plot(points[at, 1], found[at], linestyle="", label=f"K = {k:g}", **look(i))
        left.set(xlabel=r"delay $\tau$ (1/w)", ylabel=r"common frequency $\Omega$ (w)")
        said = "points: simulation\nlines: theory\n(dotted: unstable)"
        left.legend(title=said, loc="upper left", bbox_to_anchor=(1, 1))
        expected = np.array([-1.0, 1.0])
        right.plot(expected, expected, color="0.3", label=r"$-K\cos(\Omega\tau)$")
        right.plot(rates, measured, "o", color=OKABE_ITO[0], label="simulation")
        right.set(xlabel="theory (w)", ylabel="growth of disagreement (w)")
        right.legend()


def _slope(sizes: np.ndarray, low: float, high: float) -> float:
    """The slope of log `sizes` by look, over the second half of the looks at which they are between two bounds."""
    inside = np.flatnonzero((sizes > low) & (sizes < high))
    first = int(inside[0])
    broken = np.flatnonzero(np.diff(inside) > 1)
    last = int(inside[broken[0]] if broken.size else inside[-1])
    chosen = np.arange((first + last) // 2, last + 1)
    return float(np.polyfit(chosen, np.log(sizes[chosen]), 1)[0])


@jax.jit
def _turned(points: Array, forced: Array, own: Array, frequency: Array) -> Array:
    """Phases at every look, (points, looks, neurons); points are (K, tau, the frequency they turn at first)."""
    n = own.shape[1]
    mean = Given(jnp.full((n, n), 1 / n, jnp.float64))

    def run_of(point: Array, forced: Array, own: Array) -> Coupled:
        phase = Variable("activity", Phase(frequency, point[0], point[2], own, forced))
        wires = [
            Projection(port, "theta", of, "theta", port, mean, lag=point[1])
            for port, of in (("sine", Sine()), ("cosine", Cosine()))
        ]
        circuit = Circuit((Layer("theta", n, variables=(phase,)),), tuple(wires))
        return silent_run(circuit, 1.0, 1.0, STEPS, history=6 * STEPS + 3)

    def one(point: Array) -> Array:
        first = run_of(point, forced[0], own[0])

        def look(progress: CoupledProgress, now: tuple[Array, Array, Array]) -> tuple[CoupledProgress, Array]:
            progress = run_of(point, now[1], now[2]).advance(progress, now[0], 1)
            return progress, progress.state.activity["theta"]

        start = first.init(first.circuit.initial_weights(jax.random.key(0)))
        return jax.lax.scan(look, start, (jnp.arange(len(forced), dtype=jnp.int32), forced, own))[1]

    return jax.vmap(one)(points)
