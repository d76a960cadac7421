"""Step doubling: what fixed steps get wrong, from the same presentation in steps twice as long.

A *twin* of a run shows every presentation in half as many steps. It starts each with the weights of the run, but has
activities, errors, slow variables and a past of its own: what the steps get wrong in these is handed on from one
presentation to the next, as it is in the run. Where the method is of order p, the weights' change of the run is then
wrong by |change - change of the twin| / (r^p - 1), r being the ratio of the steps. Every presentation is judged, since
a single one, of a rare large sample, may be all that is wrong; twins add half of the cost of a run.

Brownian increments of a twin are those of the run, two at a time. Noise of activities and errors is left out, of a
second twin with the steps of the run as well: its paths are rough on every scale, and no two step sizes agree in them.
"""

import math
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.norms import whole
from dynamics.rounding import rounded

Parts = tuple[Weights, Weights | None]  # weights, and what rounding has taken from them, where that is known
ROUNDED = 0.2  # of a unit in the last place, as a share of a weight: the standard deviation of one rounding
AT_KINKS = 1.7
MAX_STEPS, MAX_REFINED = 1_000_000, 100_000  # steps per presentation: at first, and made finer
COUNTED = 3  # an order beyond it is not relied on: steps may still be too long for it


class Accuracy(NamedTuple):
    """Sums over presentations of the estimated error of the weights' change and of its size."""

    error: Float[Array, ""]
    change: Float[Array, ""]

    def relative(self, weights: Weights) -> Float[Array, ""]:
        """The estimated error relative to the distance that the `weights` have moved; 0 where they have not moved."""
        tiny = jnp.finfo(self.change.dtype).tiny
        error = (self.error + rounded(weights, self.change)) / jnp.maximum(self.change, tiny)
        return jnp.where(self.change == 0, jnp.zeros_like(error), error)


def finer(steps: int, history: int = 0) -> tuple[int, int] | None:
    """Four times as many steps, for a run that has not converged, and the past values that lags then need.

    None beyond `MAX_REFINED`: steps that small are not what such a run lacks.
    """
    return None if 4 * steps > MAX_REFINED else (4 * steps, 4 * (history - 2) + 2 if history else 0)


def steps_within(period: float, dt: float, even: bool) -> int:
    """Steps of at most `dt` seconds per presentation; `even` where a twin shares the noise of each two."""
    steps = period / dt * (1 - 1e-9) if dt > 0 else math.inf
    if steps > MAX_STEPS:
        raise PlasticodeError(
            f"integrator.dt = {dt:g} s gives {steps:.7g} steps per presentation: at most {MAX_STEPS} are allowed"
        )
    number = max(math.ceil(steps), 1)
    return number + number % 2 if even else number


def twin_steps(steps: int) -> int:
    """The steps of a twin: half as many, rounded up. A single step is judged by two."""
    return 2 if steps == 1 else -(-steps // 2)


def order_of(
    solver: diffrax.AbstractSolver, kinks: bool, rough: Bool[Array, ""], strong: float | None
) -> Float[Array, ""]:
    """The order p in dt to count on: that of the solver; 1 where something is `rough` (jumps inside steps, interpolated
    pasts); at most the `strong` order of the solver where Brownian motion drives the weights.

    At the kinks of an activation errors are of the first order but of any sign, e of a run and r e of its twin: they
    differ by (1 + r^2)^(1/2) |e|, which is what an order of 1.7 stands for.
    """
    smooth = min(solver.order(None) or 1, AT_KINKS if kinks else COUNTED, COUNTED if strong is None else strong)
    return jnp.where(rough, min(smooth, 1.0), float(smooth))


def difference(
    before: Parts, run: Parts, twin: Parts, steps: tuple[int, int] | None, order: Float[Array, ""]
) -> Accuracy:
    """The estimated error of the weights' change in one presentation, and its size (Frobenius norms over all matrices).

    `before` is the start of both; `steps` are those of the run and of the twin. Without them the steps are adaptive,
    and the twin has 10 times the tolerance, which makes its error at least 10^(2/3) times that of the run. Sums that
    are not compensated add a random unit in the last place at every step, of which two runs that stand still know
    nothing.
    """

    def moved(after: Parts) -> Weights:
        # First the high parts: their difference is exact.
        change = jax.tree.map(jnp.subtract, after[0], before[0])
        if after[1] is None:
            return change
        return jax.tree.map(lambda c, low, was: c + (low - was), change, after[1], before[1])

    change, other = moved(run), moved(twin)
    if not change:  # nothing learns
        nothing = jnp.zeros_like(order)
        return Accuracy(nothing, nothing)
    apart, size = (whole(list(w.values())) for w in (jax.tree.map(jnp.subtract, change, other), change))
    if steps is None:
        return Accuracy(apart / (10 ** (2 / 3) - 1), size)
    error = apart / jnp.abs((steps[0] / steps[1]) ** order.astype(size.dtype) - 1)
    if run[1] is None:
        error = error + ROUNDED * jnp.finfo(size.dtype).eps * steps[0] ** 0.5 * whole(list(run[0].values()))
    return Accuracy(error, size)
