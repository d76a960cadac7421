"""Lyapunov exponents of a map or of a flow: how fast neighbouring states separate.

Benettin's method: carry a frame of tangent vectors along, orthonormalise it by QR at every step, and average the
logarithms of the stretches (bibtex: benettin1980lyapunov, doi:10.1007/BF02128236).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics.errors import PlasticodeError

Map = Callable[[Float[Array, " n"]], Float[Array, " n"]]


def flow_map(field: Map, dt: Float[Array, ""]) -> Map:
    """One classical Runge-Kutta step (fourth order) of dt seconds through `field`."""

    def step(y: Float[Array, " n"]) -> Float[Array, " n"]:
        k1 = field(y)
        k2 = field(y + dt / 2 * k1)
        k3 = field(y + dt / 2 * k2)
        k4 = field(y + dt * k3)
        return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def lyapunov_exponents(
    step: Map,
    start: Float[Array, " n"],
    dt: Float[Array, ""],
    steps: int,
    count: int,
    key: PRNGKeyArray,
    transient: int = 0,
) -> Float[Array, " count"]:
    """The `count` largest exponents, in 1 per unit of dt (seconds), the largest first.

    step        one step of a map, or of a flow (`flow_map`), that takes dt
    start       the state to start from
    steps       how many steps are averaged over, after `transient` steps that settle state and frame
    key         draws the first frame, so that no direction is missed by symmetry
    Raises PlasticodeError if `count` is not between 1 and n.
    """
    if not 1 <= count <= start.shape[0]:
        raise PlasticodeError(f"lyapunov_exponents got count = {count}: it must be between 1 and {start.shape[0]}")

    def advance(carry: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
        state, frame, total = carry
        state, tangent = jax.linearize(step, state)
        frame, stretch = jnp.linalg.qr(jax.vmap(tangent, in_axes=1, out_axes=1)(frame))
        return (state, frame, total + jnp.log(jnp.abs(jnp.diagonal(stretch)))), None

    frame = jnp.linalg.qr(jax.random.normal(key, (start.shape[0], count), start.dtype))[0]
    nothing = jnp.zeros(count, start.dtype)
    (state, frame, _), _ = jax.lax.scan(advance, (start, frame, nothing), length=transient)
    (_, _, total), _ = jax.lax.scan(advance, (state, frame, nothing), length=steps)
    return total / (steps * dt)
