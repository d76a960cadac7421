"""How wrong a run by windows is: finer ones show some of its presentations again, and every sweep tells what is left.

The error of the weights' change is relative to the distance that the weights have moved, the sum over presentations of
|W(end) - W(start)|, Frobenius norms over all plastic matrices. It has three parts:

    sweeps    what further sweeps would change, known in every window of every presentation
    windows   |W - W_finer| at the end of a presentation that windows of more nodes show again from the same start: the
              first few presentations, then one in so many
    rounding  of the weights themselves to their dtype

In a circuit with cycles what is wrong in the state lives on and may grow. There finer windows show every presentation,
from the same first start on, and the error is how far they end from the run.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import Weights
from dynamics.collocation import interpolation, nodes, others
from dynamics.field import CoupledSystem
from dynamics.noise import Noise
from dynamics.rounding import rounded
from dynamics.settle import is_cyclic
from dynamics.window import Course, Doubt, Layout, Past, Shown, Window, distance

# Presentations that are shown again: so many at first, then one in so many.
FIRST, ONE_IN = 8, 64
STRICTER = 8  # how much smaller the tolerance of finer windows is


class Accuracy(NamedTuple):
    """Sums over presentations, in distances of the weights (the root of the sum of squares over all matrices).

    moved      how far the weights have moved
    left       what sweeps, and the splitting of synaptic noise, have left of it
    judged     `moved` of the presentations that were shown again
    missed     how far finer windows have ended from the run in those
    companion  in circuits with cycles: the run by finer windows, from the start on
    """

    moved: Float[Array, ""]
    left: Float[Array, ""]
    judged: Float[Array, ""]
    missed: Float[Array, ""]
    companion: Course | None

    def relative(self, weights: Weights) -> Float[Array, ""]:
        """The estimated relative error of the change of the plastic `weights`; 0 where they have not moved at all."""
        missed, judged = self.missed, self.judged
        if self.companion is not None:
            missed, judged = distance(weights, self.companion.state.weights, jnp.zeros_like(self.moved)), self.moved
        tiny = jnp.finfo(self.moved.dtype).tiny
        error = (self.left + rounded(weights, self.moved)) / jnp.maximum(self.moved, tiny)
        error = error + missed / jnp.maximum(judged, tiny)
        return jnp.where(self.moved == 0, jnp.zeros_like(error), error)


class Judge(eqx.Module):
    """The windows of a run beside finer ones, and how both lie in a presentation.

    Without noise, which hides what nodes miss. `noisy` says whether the run itself has any: a presentation is then
    shown twice more, by both and without noise.
    """

    system: CoupledSystem
    window: Window
    layout: Layout
    finer: Window
    finer_layout: Layout
    noisy: bool = eqx.field(static=True)

    @classmethod
    def of(cls, window: Window, system: CoupledSystem, past: Past | None) -> "Judge":
        """The judge of a run of `system` by `window`."""
        plain = dataclasses.replace(system, noise=Noise())
        finer = finer_than(window)
        resampled = _resampled(past, window, finer)
        layouts = window.layout(plain, past), finer.layout(plain, resampled)
        return cls(plain, window, layouts[0], finer, layouts[1], system.noise.present)

    def add(
        self,
        accuracy: Accuracy,
        before: Course,
        after: Course,
        doubt: Doubt,
        shown: dict[str, Shown],
        k: Int[Array, ""],
    ) -> Accuracy:
        """The sums after presentation k, which has led from `before` to `after`. No gradient goes through them."""
        still = jax.lax.stop_gradient((self, before, after, doubt, shown))
        return jax.lax.stop_gradient(_added(*still, accuracy, k))


def _added(
    judge: Judge,
    before: Course,
    after: Course,
    doubt: Doubt,
    shown: dict[str, Shown],
    accuracy: Accuracy,
    k: Int[Array, ""],
) -> Accuracy:
    left = doubt.left + doubt.weak * doubt.moved
    accuracy = accuracy._replace(moved=accuracy.moved + doubt.moved, left=accuracy.left + left)
    if accuracy.companion is not None:
        again, _, _ = judge.finer.present(judge.system, judge.finer_layout, accuracy.companion, shown, k, None)
        return accuracy._replace(companion=again)

    def shown_again() -> tuple[Array, Array]:
        start = before._replace(past=_resampled(before.past, judge.window, judge.finer))
        exact, _, _ = judge.finer.present(judge.system, judge.finer_layout, start, shown, k, None)
        end, moved = after, doubt.moved
        if judge.noisy:
            end, plain, _ = judge.window.present(judge.system, judge.layout, before, shown, k, None)
            moved = plain.moved
        missed = distance(end.state.weights, exact.state.weights, jnp.zeros_like(moved))
        return accuracy.judged + moved, accuracy.missed + missed

    again = (k < FIRST) | (k % ONE_IN == 0)
    judged, missed = jax.lax.cond(again, shown_again, lambda: (accuracy.judged, accuracy.missed))
    return accuracy._replace(judged=judged, missed=missed)


def accuracy_at_start(window: Window, system: CoupledSystem, course: Course) -> Accuracy:
    """Nothing has moved, nothing is wrong."""
    zero = jnp.zeros_like(system.dt)
    alone = is_cyclic(system.circuit) and not system.noise.present
    companion = course._replace(past=_resampled(course.past, window, finer_than(window))) if alone else None
    return Accuracy(zero, zero, zero, zero, companion)


def finer_than(window: Window) -> Window:
    """Windows that others are judged by: more nodes, and sweeps that go on for longer."""
    return dataclasses.replace(window, nodes=others(window.nodes), tolerance=window.tolerance / STRICTER, sweeps=None)


def _resampled(past: Past | None, window: Window, finer: Window) -> Past | None:
    """The same waveforms of the past at the nodes of finer windows."""
    if past is None:
        return None
    to = interpolation(jnp.asarray(nodes(finer.nodes)), window.nodes)
    resampled = {}
    for name, rows in past.rows.items():
        later = jnp.einsum("sp,wpn->wsn", to.astype(rows.dtype), rows)
        resampled[name] = jnp.concatenate([rows[:, :1], later], axis=1)
    return Past(resampled)
