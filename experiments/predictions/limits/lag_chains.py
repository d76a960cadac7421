"""B10.2: a lag made of n filters has a threshold of its own, above that of a constant lag."""

import functools
from typing import Annotated

import jax
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.delays import Delays
from dynamics.stimulus import Clock
from experiments.predictions.contract import AbstractPrediction, Finding, Positive
from experiments.predictions.kit import all_close, f64, plotted
from experiments.predictions.limits.delayed import exponent, follower, records, silent_run, threshold
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close

STEPS, INTERVAL = 16, 0.25  # in an interval between two looks, of tau / 4
SETTLED, LAST = 40, 76  # looks
POINTS = 8
Stages = Annotated[int, Field(strict=True, ge=2, le=60)]


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
        if list(self.stages) != sorted(set(self.stages)):
            return "stages must be in increasing order"
        return None

    def _edge(self, stages: int) -> tuple[float, float]:
        """lam tau and omega tau at the threshold of a chain."""
        growth = functools.partial(self._growth, stages)
        edge = threshold(growth, np.array([1.0]), np.array([6.0]), POINTS, rounds=4)
        return float(edge[0]), abs(growth(np.repeat(edge[None], POINTS, 1))[0, 0].imag)

    def _growth(self, stages: int, levels: np.ndarray) -> np.ndarray:
        courses = np.asarray(_followed(f64(levels[0]), f64(self.delay), stages)) - 1
        return np.reshape([exponent(course[SETTLED:], INTERVAL) for course in courses], levels.shape)

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
def _followed(levels: Array, delay: Array, stages: int) -> Array:
    """w at every look, (levels, looks)."""

    def one(level: Array) -> Array:
        circuit = follower(delay)
        run = silent_run(circuit, delay / level, Clock(delay * INTERVAL, f64(0.0), STEPS), Delays(stages=stages))
        start = run.init(circuit.initial_weights(jax.random.key(0)))
        return records(run, start, LAST, 1, lambda progress: progress.state.activity["w"][0])

    return jax.vmap(one)(levels)
