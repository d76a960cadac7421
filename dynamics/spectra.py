"""Singular values and extreme eigenvalues, in loops of plain products.

Not by `jnp.linalg`: on several CPU devices jaxlib's batched decompositions wait for threads that wait for them
(`integrators.collocation._solve`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.norms import norm, scale

SWEEPS = 30  # of rotations; ten are usual
STEPS = 500  # of a power iteration, at most
RESIDUAL = 1e-3  # of an eigenvector, relative to its eigenvalue, whose own error is far smaller


def singular_values(matrix: Float[Array, "m n"]) -> Float[Array, " k"]:
    """The k = min(m, n) singular values, the largest first, each to rounding errors of the largest.

    One-sided Jacobi rotations (Hestenes 1958, doi:10.1137/0106005): pairs of columns are turned until all are
    orthogonal, and their lengths are the values.
    """
    size, rows = scale(matrix), matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    count, length = rows.shape
    rows = jnp.pad(rows / size, ((0, count % 2), (0, 0)))
    half, close = rows.shape[0] // 2, 2 * length**0.5 * jnp.finfo(rows.dtype).eps

    def turn(_: Int[Array, ""], carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        p, q, worst = carry
        a, b, both = (jnp.sum(x, axis=1) for x in (p * p, q * q, p * q))
        largest = jnp.maximum(a, b)
        off = jnp.abs(both) / jnp.where(largest > 0, largest, 1)
        zeta = (b - a) / jnp.where(both == 0, 1, 2 * both)
        t = jnp.where(both == 0, 0, jnp.where(zeta < 0, -1, 1) / (jnp.abs(zeta) + jnp.sqrt(1 + zeta * zeta)))
        c = 1 / jnp.sqrt(1 + t * t)
        c, s = c[:, None], (c * t)[:, None]
        p, q = c * p - s * q, s * p + c * q
        # As in a tournament: the first stays, all others move on by one place, so that each meets each.
        return (
            jnp.concatenate([p[:1], q[:1], p[1:-1]])[:half],
            jnp.concatenate([q[1:], p[-1:] if half > 1 else q[:1]]),
            jnp.maximum(worst, off.max()),
        )

    def sweep(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        p, q, _, done = carry
        p, q, worst = jax.lax.fori_loop(0, max(2 * half - 1, 1), turn, (p, q, jnp.zeros_like(size)))
        return p, q, worst, done + 1

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        return (carry[2] > close) & (carry[3] < SWEEPS)

    start = rows[:half], rows[half:], jnp.ones_like(size), jnp.int32(0)
    p, q, _, _ = jax.lax.while_loop(unfinished, sweep, start)
    lengths = jax.vmap(norm)(jnp.concatenate([p, q]))
    return size * jnp.sort(lengths)[::-1][:count]


class _Power(NamedTuple):
    """Where a power iteration is: a unit vector, its Rayleigh quotient, the length of its product, steps made, and
    whether it is an eigenvector."""

    vector: Float[Array, " n"]
    value: Float[Array, ""]
    length: Float[Array, ""]
    steps: Int[Array, ""]
    done: Array


def largest_eigenvalue(product: Callable[[Array], Array], n: int, dtype: jnp.dtype) -> Float[Array, ""]:
    """The largest eigenvalue of a symmetric matrix, given as its product with a vector of n numbers.

    Power iteration finds one of the largest modulus; shifted by that, the matrix has the largest eigenvalue there.
    """
    first, second = jax.random.normal(jax.random.key(0), (2, n), dtype)
    found = _iterated(product, first)
    shift = found.length
    again = _iterated(lambda v: product(v) + shift * v, jnp.where(found.value > 0, found.vector, second))
    return again.value - shift


def _iterated(product: Callable[[Array], Array], start: Float[Array, " n"]) -> _Power:
    def step(at: _Power) -> _Power:
        made = product(at.vector)
        value, length = jnp.sum(at.vector * made), norm(made)
        done = (norm(made - value * at.vector) <= RESIDUAL * jnp.abs(value)) | ~(length > 0)
        vector = jnp.where(done, at.vector, made / jnp.where(length > 0, length, 1))
        return _Power(vector, value, length, at.steps + 1, done)

    def unfinished(at: _Power) -> Array:
        return ~at.done & (at.steps < STEPS)

    zero = jnp.zeros((), start.dtype)
    return jax.lax.while_loop(unfinished, step, _Power(start / norm(start), zero, zero, jnp.int32(0), zero > 0))
