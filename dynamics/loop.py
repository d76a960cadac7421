"""Loops over presentations: any number of them in one program, or a number that reverse mode goes through."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

Carry = TypeVar("Carry")


class UpTo(eqx.Module):
    """A number of repetitions that is computed, and `most`, which it never exceeds."""

    count: Int[Array, ""]
    most: int = eqx.field(static=True)


Count = int | Int[Array, ""] | UpTo


def repeat(count: Count, body: Callable[[Int[Array, ""], Carry], Carry], carry: Carry) -> Carry:
    """`carry` after body(i, carry) for i = 0 .. count - 1.

    A count that is computed is a loop that reverse mode cannot go through. With an integer or a bound it can: it keeps
    the carry of every repetition, and computes each once more.
    """
    if isinstance(count, UpTo):

        def bounded(i: Int[Array, ""], carry: Carry) -> Carry:
            return jax.lax.cond(i < count.count, lambda c: body(i, c), lambda c: c, carry)

        return repeat(count.most, bounded, carry)
    if isinstance(count, int):
        body = jax.checkpoint(body, prevent_cse=False)  # a loop's body is safe from what that prevents
    return jax.lax.fori_loop(0, count, body, carry)


def first(
    count: Int[Array, ""], body: Callable[[Carry, PyTree], tuple[Carry, PyTree]], carry: Carry, rows: PyTree
) -> tuple[Carry, PyTree]:
    """`carry` after body(carry, row) -> (carry, numbers) for the first `count` of `rows`, and the sums of numbers."""
    none = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: body(carry, jax.tree.map(lambda row: row[0], rows))[1]))

    def one(i: Int[Array, ""], so_far: tuple[Carry, PyTree]) -> tuple[Carry, PyTree]:
        after, numbers = body(so_far[0], jax.tree.map(lambda row: row[i], rows))
        return after, jax.tree.map(jnp.add, so_far[1], numbers)

    return jax.lax.fori_loop(0, count, one, (carry, none))
