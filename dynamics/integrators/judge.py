"""How wrong a run by windows is: finer ones show some of its presentations again, and every sweep tells what is left.

The error of the weights' change is relative to the distance that the weights have moved, the sum over presentations of
|W(end) - W(start)|, Frobenius norms over all plastic matrices. It has three parts:

    sweeps    what further sweeps would change, known in every window of every presentation
    windows   |W - W_finer|: a companion of the run, by windows of more nodes, is shown the first presentations in a
              row, so that what it differs by may grow as errors do where learning is unstable; then one in so many,
              each from the start that it has in the run, for all that it stands for: there growth is not seen
    rounding  of the weights themselves to their dtype

In a circuit with cycles what is wrong in the state lives on and may grow, and where an activation has a kink some
presentations are far worse than others. There the companion is shown everything.
"""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import Weights
from dynamics.field import CoupledSystem
from dynamics.integrators.collocation import interpolation, nodes, others
from dynamics.integrators.window_parts import Course, Doubt, Layout, Past, Shown, distance
from dynamics.integrators.windows import AbstractWindow as Window
from dynamics.noise import Noise
from dynamics.rounding import rounded
from dynamics.settle import is_cyclic

# Presentations that a companion is shown: so many at first, then one in so many. Of 2000 random draws four were `ok`
# and wrong when the first were 16: chaotic ones of 29 presentations.
FIRST, ONE_IN = 48, 64
STRICTER = 64  # how much smaller the tolerance of finer windows is
# Where a window meets kinks, what it and the finer one get wrong is of one size and of either sign, and may nearly
# cancel in their difference: of 107 random relu circuits that was less than half of the error for five, and 1.35 times
# the error in the median.
AT_KINKS = 2


class Accuracy(NamedTuple):
    """Sums over presentations, in distances of the weights (the root of the sum of squares over all matrices).

    moved      how far the weights have moved
    left       what sweeps, and the splitting of synaptic noise, have left of it
    judged     `moved` of the presentations that the companion was shown, and of those that they stand for
    missed     how far it has ended from the run in those
    companion  the run by finer windows; None beside noise, when every presentation is judged from its own start
    """

    moved: Float[Array, ""]
    left: Float[Array, ""]
    judged: Float[Array, ""]
    missed: Float[Array, ""]
    companion: Course | None

    def relative(self, weights: Weights) -> Float[Array, ""]:
        """The estimated relative error of the change of the plastic `weights`; 0 where they have not moved at all."""
        tiny = jnp.finfo(self.moved.dtype).tiny
        error = (self.left + rounded(weights, self.moved)) / jnp.maximum(self.moved, tiny)
        error = error + self.missed / jnp.maximum(self.judged, tiny)
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
    first = k < FIRST
    circuit = judge.system.circuit
    always = accuracy.companion is not None and (is_cyclic(circuit) or circuit.has_kinks)
    chained = accuracy.companion is not None and (first | always)

    def shown_again() -> Accuracy:
        start = before._replace(past=_resampled(before.past, judge.window, judge.finer))
        if accuracy.companion is not None:
            start = jax.tree.map(functools.partial(jnp.where, chained), accuracy.companion, start)
        exact, _, _ = judge.finer.present(judge.system, judge.finer_layout, start, shown, k, None)
        end, size = after, doubt.moved
        if judge.noisy:
            end, plain, _ = judge.window.present(judge.system, judge.layout, before, shown, k, None)
            size = plain.moved
        missed = distance(end.state.weights, exact.state.weights, jnp.zeros_like(size))
        missed = AT_KINKS * missed if circuit.has_kinks else missed
        stands_for = jnp.where(first | always, 1, ONE_IN).astype(size.dtype)
        missed = jnp.where(chained, missed, accuracy.missed + stands_for * missed)
        companion = None if accuracy.companion is None else exact
        return accuracy._replace(judged=accuracy.judged + stands_for * size, missed=missed, companion=companion)

    if always:
        return shown_again()
    return jax.lax.cond(first | (k % ONE_IN == 0), shown_again, lambda: accuracy)


def accuracy_at_start(window: Window, system: CoupledSystem, course: Course) -> Accuracy:
    """Nothing has moved, nothing is wrong."""
    zero = jnp.zeros_like(system.dt)
    companion = course._replace(past=_resampled(course.past, window, finer_than(window)))
    companion = None if system.noise.present else companion
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
