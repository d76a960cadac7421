"""Sums that lose nothing to rounding: a number that grows by many small changes is kept as two, a high and a low part.

A change below half a unit in the last place of the number that it is added to would vanish: in float32 a weight never
moves by less than 6e-8 of itself. What rounding takes away is kept in the low part instead, and comes back with the
next change (Kahan's compensated summation).
"""

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


def rounded(weights: dict[str, Float[Array, "_targets _sources"]], zero: Float[Array, ""]) -> Float[Array, ""]:
    """What is left of it: the norm of how far `weights` are from what they are rounded from; `zero` without any.

    A rounding has a standard deviation of 1 / sqrt(12) of the spacing of numbers, which is at most eps of the number.
    """
    return 0.3 * jnp.finfo(zero.dtype).eps * whole([jnp.zeros_like(zero), *weights.values()])
