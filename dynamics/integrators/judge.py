"""How wrong a run by windows is: finer ones show some of its presentations again, and every sweep tells what is left.

The error of the weights' change is relative to the distance that the weights have moved, the sum over presentations of
|W(end) - W(start)|, Frobenius norms over all plastic matrices. It has three parts:

    sweeps    what further sweeps would change, known in every window of every presentation
    windows   |W - W_finer|: a companion of the run, by windows of more nodes, is shown the first presentations in a
              row, so that what it differs by may grow as errors do where learning is unstable; then one in so many,
              each from the start that it has in the run, for all that it stands for
    rounding  of the weights themselves to their dtype

In a circuit with cycles what is wrong in the state lives on and may grow, and where an activation has a kink some
presentations are far worse than others. There the companion is shown everything. So it is where `Window.whole` asks for
it: what has grown in the first presentations may go on to grow, so that a run that goes on for longer has no estimate,
and is tried again with a companion that is shown everything; so is learning that speeds up later. Growth that begins
later at the same speed is not seen.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dynamics.circuit import Weights
from dynamics.field import CoupledSystem
from dynamics.integrators.collocation import interpolation, nodes, others
from dynamics.integrators.owed import NOTHING
from dynamics.integrators.window_parts import Course, Doubt, Layout, Past, Shown, distance
from dynamics.integrators.windows import AbstractWindow as Window
from dynamics.noise import Noise
from dynamics.rounding import rounded
from dynamics.settle import is_cyclic

# Presentations that a companion is shown: so many at first, then one in so many. Of 2000 random draws four were `ok`
# and wrong when the first were 16: chaotic ones of 29 presentations.
FIRST, ONE_IN = 48, 64
STRICTER = 64  # how much smaller the tolerance of finer windows is
# What a window and the finer one get wrong may be nearly the same, so that their difference says too little: it counts
# twice where that happens. At kinks: of 107 random relu circuits the difference was less than half of the error for
# five, and 1.35 times the error in the median. Where learning is chaotic: what both have in common grows as their
# difference does. That has grown where it ends at so many times its mean over the presentations in a row: 2 times is
# what errors that add up make, 3 times a growth by e^2, 4 times one by e^3.6. At 4 times curl descent was let go at
# 3.8, and a Kolen-Pollack network at 3.7: their errors grew to 31 and 2.8 times a tolerance that they seemed to meet.
DOUBTED, GROWTH = 2, 3
# Learning that speeds up is not what the first presentations have shown: where the mean distance of later ones (over at
# least as many) is so many times theirs, growth may have begun; first ones that learn nothing say nothing. Networks of
# Kolen-Pollack and of feedback alignment reach 1.3 times, curl descent that turns chaotic passes 3 with errors of a
# tenth of the tolerance.
FASTER = 3


class Accuracy(NamedTuple):
    """Sums over presentations, in distances of the weights (the root of the sum of squares over all matrices).

    moved      how far the weights have moved
    early      the same in the first presentations, where not all are in a row
    left       what sweeps, and the splitting of synaptic noise, have left of it
    judged     `moved` of the presentations that the companion was shown, and of those that they stand for
    missed     how far it has ended from the run in those
    in_a_row   the sum of how far it was from the run after each of the presentations in a row
    times      how often `missed` counts
    unseen     whether errors have grown or learning has sped up, and the companion was not shown all that followed
    companion  the run by finer windows; beside noise, where every presentation is judged from its own start, that start
    """

    moved: Float[Array, ""]
    early: Float[Array, ""]
    left: Float[Array, ""]
    judged: Float[Array, ""]
    missed: Float[Array, ""]
    in_a_row: Float[Array, ""]
    times: Float[Array, ""]
    unseen: Bool[Array, ""]
    companion: Course | None

    def relative(self, weights: Weights) -> Float[Array, ""]:
        """The estimated relative error of the change of the plastic `weights`; 0 where they have not moved at all,
        infinite where nothing is known of it."""
        tiny = jnp.finfo(self.moved.dtype).tiny
        error = (self.left + rounded(weights, self.moved)) / jnp.maximum(self.moved, tiny)
        error = error + self.times * self.missed / jnp.maximum(self.judged, tiny)
        error = jnp.where(self.unseen, jnp.inf, error)
        return jnp.where(self.moved == 0, jnp.zeros_like(error), error)


class Judge(eqx.Module):
    """The windows of a run beside finer ones, and how both lie in a presentation.

    Without noise, which hides what nodes miss. Where the run itself has any, a presentation is shown twice more, by
    both and without noise; `layout` is then that of its windows.
    """

    system: CoupledSystem
    window: Window
    layout: Layout | None
    finer: Window
    finer_layout: Layout

    @classmethod
    def of(cls, window: Window, system: CoupledSystem, past: Past | None) -> "Judge":
        """The judge of a run of `system` by `window`."""
        plain = dataclasses.replace(system, noise=Noise())
        finer = finer_than(window)
        resampled = _resampled(past, window, finer)
        layout = window.layout(plain, past) if system.noise.present else None
        return cls(plain, window, layout, finer, finer.layout(plain, resampled))

    def add(
        self,
        accuracy: Accuracy,
        after: Course,
        doubt: Doubt,
        shown: dict[str, Shown],
        k: Int[Array, ""],
    ) -> Accuracy:
        """The sums after presentation k, which has led to `after`. No gradient goes through them."""
        still = jax.lax.stop_gradient((self, after, doubt, shown))
        return jax.lax.stop_gradient(_added(*still, accuracy, k))


def _added(
    judge: Judge,
    after: Course,
    doubt: Doubt,
    shown: dict[str, Shown],
    accuracy: Accuracy,
    k: Int[Array, ""],
) -> Accuracy:
    left = doubt.left + doubt.weak * doubt.moved
    accuracy = accuracy._replace(moved=accuracy.moved + doubt.moved, left=accuracy.left + left)
    first, circuit = k < FIRST, judge.system.circuit
    noisy = judge.layout is not None
    always = not noisy and (judge.window.whole or is_cyclic(circuit) or circuit.has_kinks)
    chained = not noisy and (first | always)
    if not noisy and not always:
        early = jnp.where(first, accuracy.moved, accuracy.early)
        least = jnp.maximum(k + 1 - FIRST, FIRST).astype(early.dtype) / FIRST * early
        grown = (accuracy.times > 1) | ((early > 0) & (accuracy.moved - early > FASTER * least))
        accuracy = accuracy._replace(early=early, unseen=accuracy.unseen | (grown & jnp.logical_not(first)))

    def shown_again() -> Accuracy:
        assert accuracy.companion is not None
        start = _by_finer(accuracy.companion, judge.window, judge.finer) if noisy else accuracy.companion
        exact, _, _ = judge.finer.present(judge.system, judge.finer_layout, start, shown, k, None)
        end, size = after, doubt.moved
        if judge.layout is not None:
            end, plain, _ = judge.window.present(judge.system, judge.layout, accuracy.companion, shown, k, None)
            size = plain.moved
        missed = distance(end.weights, exact.weights, jnp.zeros_like(size))
        in_a_row = accuracy.in_a_row + jnp.where(chained, missed, 0)
        grows = circuit.has_kinks | (missed * (k + 1).astype(missed.dtype) > GROWTH * in_a_row)
        times = jnp.where(chained, jnp.where(grows, DOUBTED, 1).astype(missed.dtype), accuracy.times)
        stands_for = jnp.where(first | always, 1, ONE_IN).astype(size.dtype)
        missed = jnp.where(chained, missed, accuracy.missed + stands_for * missed)
        companion = after if noisy else exact
        judged = accuracy.judged + stands_for * size
        return accuracy._replace(judged=judged, missed=missed, in_a_row=in_a_row, times=times, companion=companion)

    def from_here() -> Accuracy:
        return accuracy._replace(companion=after if noisy else _by_finer(after, judge.window, judge.finer))

    if always:
        return shown_again()
    # The start of what is judged next is kept where it is one: kept for all, to be looked at later, it would be copied.
    what = jnp.where(first | (k % ONE_IN == 0), 1, jnp.where((k + 1) % ONE_IN == 0, 2, 0))
    return jax.lax.switch(what, [lambda: accuracy, shown_again, from_here])


def accuracy_at_start(window: Window, system: CoupledSystem, course: Course) -> Accuracy:
    """Nothing has moved, nothing is wrong."""
    zero = jnp.zeros_like(system.dt)
    companion = course if window.judged else None
    if window.judged and not system.noise.present:
        companion = _by_finer(course, window, finer_than(window))
    times = jnp.full_like(zero, DOUBTED if system.circuit.has_kinks else 1)
    return Accuracy(zero, zero, zero, zero, zero, zero, times, jnp.asarray(False), companion)


def finer_than(window: Window) -> Window:
    """Windows that others are judged by: more nodes, and sweeps that go on for longer."""
    return dataclasses.replace(window, nodes=others(window.nodes), tolerance=window.tolerance / STRICTER, sweeps=None)


def _by_finer(course: Course, window: Window, finer: Window) -> Course:
    """A course by windows, which owes nothing, as one by finer windows, which never do."""
    return course._replace(past=_resampled(course.past, window, finer), owed=NOTHING)


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
