"""Sums that lose nothing to rounding: a number that grows by many small changes is kept as two, a high and a low part.

A change below half a unit in the last place of the number that it is added to would vanish: in float32 a weight never
moves by less than 6e-8 of itself. What rounding takes away is kept in the low part instead, and comes back with the
next change (Kahan's compensated summation).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from dynamics.norms import whole


def nothing(high: PyTree[Array]) -> PyTree[Array]:
    """The low part of numbers that nothing has been added to yet."""
    return jax.tree.map(jnp.zeros_like, high)


def add(high: PyTree[Array], low: PyTree[Array], change: PyTree[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
    """`high` + `low` + `change` as a new (high, low); all three have one structure and one dtype.

    `high` alone is the sum to half a unit in its last place. An addition still loses half an eps of its change, as much
    as the change has lost when it was rounded itself: nothing that it loses grows with the sum.
    """
    due = jax.tree.map(jnp.add, low, change)
    total = jax.tree.map(jnp.add, high, due)
    return total, jax.lax.stop_gradient(jax.tree.map(lambda new, old, whole: whole - (new - old), total, high, due))


class Sums(NamedTuple):
    """The same for numbers that every presentation adds to, at fewer passes over them: what they were a while ago, and
    what has been added since, which is small, so that little is lost when it grows. The numbers themselves are kept
    beside it.
    """

    base: dict[str, Array]
    rest: dict[str, Array]

    @classmethod
    def of(cls, numbers: dict[str, Array]) -> "Sums":
        """Sums that nothing has been added to yet."""
        return cls(jax.lax.stop_gradient(numbers), nothing(numbers))

    def plus(self, numbers: dict[str, Array], change: dict[str, Array]) -> tuple[dict[str, Array], "Sums"]:
        """The numbers, which were `numbers`, after a change of some of them, to half a unit in their last place; and
        their sums."""
        rest = jax.lax.stop_gradient({name: self.rest[name] + added for name, added in change.items()})
        totals = {name: _total(self.base[name], rest[name], numbers[name], added) for name, added in change.items()}
        return numbers | totals, Sums(self.base, self.rest | rest)

    def settled(self, numbers: dict[str, Array]) -> "Sums":
        """The same sums, which are `numbers`, with as small a rest as can be: less than a unit in their last place."""
        numbers = jax.lax.stop_gradient(numbers)
        rest = jax.tree.map(lambda base, rest, new: rest - (new - base), self.base, self.rest, numbers)
        # The base waits for the rest, which is made of the old one: both then stay where they lie in memory.
        return Sums(jax.tree.map(lambda new, rest: new + 0 * rest, numbers, rest), rest)


@jax.custom_jvp
def _total(base: Array, rest: Array, before: Array, change: Array) -> Array:
    """base + rest, with the slopes of before + change."""
    return base + rest


@_total.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _total(*primals), tangents[2] + tangents[3]


def rounded(weights: dict[str, Float[Array, "_targets _sources"]], zero: Float[Array, ""]) -> Float[Array, ""]:
    """What is left of it: the norm of how far `weights` are from what they are rounded from; `zero` without any.

    A rounding has a standard deviation of 1 / sqrt(12) of the spacing of numbers, which is at most eps of the number.
    """
    return 0.3 * jnp.finfo(zero.dtype).eps * whole([jnp.zeros_like(zero), *weights.values()])
