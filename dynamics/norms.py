"""Norms and cosines of numbers of any size: squares of very small or very large numbers leave the range of float32.

Every array is first scaled by a power of two to a largest number between 1 and 2, which rounds nothing.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def scale(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The power of two 2^k with 2^k <= max |x| < 2^(k+1), but no smaller than any normal number; 1 where x is zero or
    not finite. It has no gradient."""
    return _power(_largest(x))


def _largest(x: Float[Array, "..."]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(jax.lax.stop_gradient(x)), initial=0)


def _power(largest: Float[Array, "*n"]) -> Float[Array, "*n"]:
    usual, kind = (largest > 0) & jnp.isfinite(largest), jnp.finfo(largest.dtype)
    # A number without its mantissa. Not by frexp and ldexp: each is a hundred operations for a compiler.
    bits = jax.lax.bitcast_convert_type(jnp.maximum(largest, kind.tiny), f"uint{kind.bits}")
    power = jax.lax.bitcast_convert_type((bits >> kind.nmant) << kind.nmant, largest.dtype)
    return jnp.where(usual, power, 1)


def scaled(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x over its `scale`: what only directions matter of."""
    return x / scale(x)


def norm(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The Frobenius norm; its gradient at zero is zero."""
    size = scale(x)
    return size * _root(jnp.sum(jnp.square(x / size)))


def _root(square: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def whole(arrays: Sequence[Float[Array, "..."]]) -> Float[Array, ""]:
    """The norm of all of them together, of one or more: that of their norms, which take a third fewer operations at
    once than one by one."""
    sizes = _power(jnp.stack([_largest(x) for x in arrays]))
    squares = jnp.stack([jnp.sum(jnp.square(x / size)) for x, size in zip(arrays, sizes, strict=True)])
    return norm(sizes * _root(squares))


def cosine(u: Float[Array, "*shape"], v: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The cosine between two arrays of one shape; 0, with gradient 0, where either is zero."""
    u, v = scaled(u), scaled(v)
    squares = jnp.sum(u * u) * jnp.sum(v * v)  # each between 1 and 4 times the number of entries
    return jnp.where(squares == 0, 0, jnp.sum(u * v) / jnp.sqrt(jnp.where(squares == 0, 1, squares)))
