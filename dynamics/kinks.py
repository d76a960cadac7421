"""Derivatives at round numbers, where a jump lies on the border of a step or of a window.

Times of jumps, lags and steps are often round, and then a run's result depends on them through functions with a corner:
the share of a step that a signal is on, the hat functions of linear interpolation. JAX's derivatives of minimum,
maximum, clip and abs at a tie are neither of the two slopes there. These are: with w the weight of the earlier side,

    f' = w f'(x-) + (1 - w) f'(x+)

With w = 1/2 everywhere that is the central difference, whatever moves which way. Where only one side exists (a lag of
0, no gap) it is the slope on that side. Values are those of the plain formulas, to the bit.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def with_value(value: Float[Array, "*n"], of: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """`value`, which differs from `of` by rounding or by a jump, with the derivatives of `of`."""
    return of + jax.lax.stop_gradient(value - of)


def root(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The square root. Its derivative at 0 is infinite and counts as 0: an empty window has no noise, and whatever
    leaves it empty changes nothing in that."""
    zero = x == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, x)))


def earlier_side(gap: Float[Array, ""], lag: Float[Array, ""] | None) -> Float[Array, ""]:
    """The weight w of the side where a late jump comes earlier.

    0 at a lag of 0, which can only grow. 1 without a gap: a gap can only grow, and then everything comes earlier if
    counted in steps.
    """
    w = jnp.where(gap > 0, jnp.full_like(gap, 0.5), 1)
    return w if lag is None else jnp.where(lag > 0, w, 0)


def roundoff(steps: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """How far from a whole number so many steps may be because of rounding."""
    return 8 * jnp.finfo(steps.dtype).eps * (1 + jnp.abs(steps))


def cell_before(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The integer m with m < x <= m + 1, up to rounding."""
    return jnp.ceil(x - roundoff(x)) - 1


def cell_after(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The integer m with m <= x < m + 1, up to rounding."""
    return jnp.floor(x + roundoff(x))


@jax.custom_jvp
def share_on(
    j: Float[Array, ""], start: Float[Array, " rows"], on: Float[Array, " rows"], sides: Float[Array, "2"]
) -> Float[Array, " rows"]:
    """The fraction of step [j, j + 1] in which a signal is on that is on from `start` for `on` steps.

    `sides` are the weights w for `start` and for `on` (see `earlier_side`).
    """
    return jnp.clip(jnp.minimum(j + 1, start + on) - jnp.maximum(j, start), 0, 1)


@share_on.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    j, start, on, sides = primals
    _, d_start, d_on, _ = tangents

    def falls(x: Array, side: Array) -> Array:
        """How much of a jump at x falls into step j."""
        before, after = ((cell == j).astype(x.dtype) for cell in (cell_before(x), cell_after(x)))
        return side * before + (1 - side) * after

    end = start + on
    moved = (falls(end, sides[0]) - falls(start, sides[0])) * d_start + falls(end, sides[1]) * d_on
    return share_on(j, start, on, sides), moved


@jax.custom_jvp
def hats(
    back: Float[Array, ""], fraction: Float[Array, ""], age: Float[Array, " length"], side: Float[Array, ""]
) -> tuple[Float[Array, " length"], Float[Array, ""]]:
    """The weights with which rows, `age` steps old, and the signal at `fraction` give it at time `back`, linearly.

    Times are in steps from the newest row on; `side` is the weight w (see `earlier_side`) of a lag, so that time `back`
    comes later on its earlier side.
    """
    inside = back > 0  # between the newest row and the current stage
    share = jnp.where(inside, back / jnp.where(fraction > 0, fraction, 1), 0)
    old = jnp.where(inside, (age == 0).astype(back.dtype) * (1 - share), jnp.maximum(1 - jnp.abs(back + age), 0))
    return old, share


@hats.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    back, fraction, age, side = primals

    def slope(cell: Array) -> tuple[Array, Array]:
        """d/d back between the rows on both sides of a step, or between the newest row and the current stage."""
        width = jnp.where((cell < 0) | (fraction == 0), 1, fraction)
        rows = ((age == -(cell + 1)).astype(back.dtype) - (age == -cell).astype(back.dtype)) / width
        return rows, (cell >= 0).astype(back.dtype) / width

    later, before = slope(cell_after(back)), slope(cell_before(back))
    moved = tuple((side * a + (1 - side) * b) * tangents[0] for a, b in zip(later, before, strict=True))
    return hats(back, fraction, age, side), moved
