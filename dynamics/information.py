"""What a run shows while it learns, smooth in every number of it, and what that tells about those numbers."""

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int, PyTree

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.regime import AbstractRegime, Slow
from dynamics.settle import Outside, settle
from dynamics.stimulus import Stream, looked_up

Progressed = tuple[PyTree, PyTree]  # how far a run is, and what it has shown


def presented(start: PyTree, show: Callable[[PyTree, Int[Array, ""]], Progressed], presentations: int) -> Progressed:
    """The progress after so many presentations, and what show(progress, k) gives beside the progress after
    presentation k, stacked: (presentations, ...).

    Derivatives go through it as they go through `show`: in forward mode at the memory of a run, in reverse mode with
    2 sqrt(presentations) states, each presentation being computed twice more.
    """
    if presentations < 1:
        raise PlasticodeError(f"presented got presentations = {presentations}: there must be at least 1")
    block = math.isqrt(presentations - 1) + 1
    blocks = -(-presentations // block)

    def one(progress: PyTree, k: Int[Array, ""]) -> Progressed:
        nothing = jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), jax.eval_shape(show, progress, k)[1])
        return jax.lax.cond(k < presentations, show, lambda p, _: (p, nothing), progress, k)

    @jax.checkpoint
    def several(progress: PyTree, k: Int[Array, ""]) -> Progressed:
        return jax.lax.scan(one, progress, k + jnp.arange(block, dtype=jnp.int32))

    end, seen = jax.lax.scan(several, start, block * jnp.arange(blocks, dtype=jnp.int32))
    return end, jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:])[:presentations], seen)


def answers(
    regime: AbstractRegime, stream: Stream, weights: Weights, slow: Slow, k: Int[Array, ""]
) -> Callable[[str, str], Float[Array, " size"]]:
    """The settled fast variables for the sample that presentation k shows, by layer and variable ("activity", "error").

    That is what the coupled regime comes to before a stimulus ends if it lasts for some propagation time constants, and
    what the other two regimes learn from.
    """
    sample = stream.index(k)
    (target,), (told,) = stream.parted(looked_up(stream.marked_lessons(), sample[None]))
    drawn = regime.circuit.draws(stream.key, k)
    moment = settle(regime.circuit, weights, slow, Outside(stream.inputs[sample], target, drawn, told))
    return lambda layer, variable: moment.value(moment.circuit.layer(layer), variable)


class Scored(NamedTuple):
    """What observations say of P numbers: the negative log-likelihood, its gradient, the Fisher information."""

    loss: Float[Array, ""]
    gradient: Float[Array, " parameters"]
    information: Float[Array, "parameters parameters"]


Start = Callable[[Float[Array, " parameters"]], tuple[PyTree, PyTree]]
Show = Callable[[PyTree, PyTree, Any], tuple[PyTree, PyTree]]
Score = Callable[[PyTree, PyTree, Any], Scored]


def information(start: Start, show: Show, score: Score, theta: Float[Array, " parameters"], rows: PyTree) -> Scored:
    """The sum over all rows of what each says of the numbers `theta`.

    start(theta)                 what all rows share, such as the run itself, and how far it is as it begins
    show(shared, progress, row)  how far it is after a row (a slice of `rows`), and what that row shows
    score(shown, slopes, row)    what it says, given the slopes of what is shown, (parameters, ...)

    Forward mode: slopes are carried along beside the run, one for each number, and nothing is kept of any row, so that
    memory does not depend on how many there are. What rows share is made once, with its slopes; what cannot have any,
    such as fixed matrices, is carried along without.
    """
    every = jnp.eye(theta.shape[0], dtype=theta.dtype)
    moves = _moving(start, show, theta, jax.tree.map(lambda row: row[0], rows))
    begun = _pushed(lambda theta: eqx.partition(start(theta), moves), (theta,), (every,))
    (shared, began), (of_shared, of_began), (same, others) = begun

    def step(carry: tuple, row: Any) -> tuple[tuple, None]:
        progress, slopes, others, total = carry

        def moved(shared: PyTree, progress: PyTree) -> tuple[tuple, PyTree]:
            after, shown = show(eqx.combine(shared, same), eqx.combine(progress, others), row)
            after, rest = eqx.partition(after, moves[1])
            return (after, shown), rest

        (after, shown), (of_after, of_shown), others = _pushed(moved, (shared, progress), (of_shared, slopes))
        return (after, of_after, others, jax.tree.map(jnp.add, total, score(shown, of_shown, row))), None

    none = Scored(jnp.zeros_like(theta[0]), jnp.zeros_like(theta), jnp.zeros_like(every))
    return jax.lax.scan(step, (began, of_began, others, none), rows)[0][3]


def _moving(start: Start, show: Show, theta: Float[Array, " parameters"], row: PyTree) -> tuple[PyTree, PyTree]:
    """Of what rows share and of the progress, which numbers have slopes along `theta`, be it after some rows only."""
    (shared, progress), begun = _sloped(start, theta), start(theta)
    while True:
        smooth, rest = eqx.partition(begun, (shared, progress))

        def shown(at: PyTree, rest: PyTree = rest) -> PyTree:
            shared, before = eqx.combine(at, rest)
            return show(shared, before, row)[0]

        after = _sloped(shown, smooth)
        both = jax.tree.map(operator.or_, progress, after)
        if jax.tree.leaves(both) == jax.tree.leaves(progress):
            return shared, both
        progress = both


def _sloped(f: Callable[[PyTree], PyTree], at: PyTree) -> PyTree:
    """Which leaves of f(at) have slopes along any number of `at`: those for which JAX does not know them to be zero."""
    found: list[bool] = []

    @jax.custom_jvp
    def noted(numbers: list[Array]) -> list[Array]:
        return numbers

    def note(numbers: tuple, slopes: tuple) -> tuple[list[Array], list[Array]]:
        found[:] = [not isinstance(slope, SymbolicZero) for slope in slopes[0]]
        return numbers[0], numbers[0]

    noted.defjvp(note, symbolic_zeros=True)

    def smooth(at: PyTree) -> PyTree:
        numbers, rest = eqx.partition(f(at), eqx.is_inexact_array)
        leaves, tree = jax.tree.flatten(numbers)
        return eqx.combine(jax.tree.unflatten(tree, noted(leaves)), rest)

    whole = eqx.filter_eval_shape(lambda at: jax.jvp(smooth, (at,), (at,))[0], at)
    slopes = iter(found)  # of none, where nothing of f depends on `at`
    return jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact) and next(slopes, False), whole)


def _pushed(f: Callable, at: tuple, along: tuple) -> tuple[PyTree, PyTree, PyTree]:
    """The value of f, its slopes along several directions at once, and what it gives besides, which has none."""
    return jax.vmap(lambda v: jax.jvp(f, at, v, has_aux=True), out_axes=(None, 0, None))(along)
