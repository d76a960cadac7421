"""B10.4: discrete updates by an old gradient are stable up to a rate that falls as one over the delay."""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.integrators import FixedStep
from dynamics.stimulus import Clock
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction
from experiments.predictions.kit import all_close, f64, plotted
from experiments.predictions.limits.delayed import exponent, follower, records, silent_run, threshold
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close

POINTS = 8
LAST = 120  # looks, one after each m + 1 updates
Late = Annotated[int, Field(strict=True, ge=0, le=60)]


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
        if list(self.late) != sorted(set(self.late)):
            return "late must be in increasing order"
        return None

    @staticmethod
    def expected(m: np.ndarray) -> np.ndarray:
        """eta lam at the threshold."""
        return 2 * np.sin(np.pi / (2 * (2 * np.asarray(m) + 1)))

    def _courses(self, etas: np.ndarray) -> np.ndarray:
        """w - 1 after each m + 1 updates: (late, points, looks)."""
        return np.asarray(_updated(f64(etas), f64(self.late), max(self.late))) - 1

    def _growth(self, etas: np.ndarray) -> np.ndarray:
        """Exponents per update: (late, points). Looks are m + 1 updates apart, which turn by less than pi."""
        courses = self._courses(etas)[..., LAST // 8 :]
        apart = [m + 1.0 for m in self.late]
        return np.array([[exponent(c, n) for c in row] for row, n in zip(courses, apart, strict=True)])

    def _recursion(self, etas: np.ndarray) -> list[np.ndarray]:
        """w - 1 at the same looks, by hand. Before the first update it is -1."""
        looks = []
        for m, eta in zip(self.late, etas, strict=True):
            w = [-1.0] * (m + 1)
            for _ in range(LAST * (m + 1)):
                w.append(w[-1] - eta * w[-1 - m])
            looks.append(np.array(w[2 * m + 1 :: m + 1][:LAST]))
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
        circuit, clock = follower(m), Clock(f64(1.0), f64(0.0), 1)  # one update a second
        run = silent_run(circuit, 1 / eta, clock, integrator=FixedStep("euler"), history=longest + 3)
        start = run.init(circuit.initial_weights(jax.random.key(0)))
        apart = jnp.round(m).astype(jnp.int32) + 1
        return records(run, start, LAST, apart, lambda progress: progress.state.activity["w"][0])

    return jax.vmap(jax.vmap(one, (0, None)))(etas, late)
