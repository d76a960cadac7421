"""How the loss curves, and how the averaged learning of a run moves neighbouring weights, at given ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Weights
from dynamics.flow import WeightFlow
from dynamics.instruments import loss
from dynamics.jacobian import Field, flat_flow
from dynamics.lyapunov import flow_map
from dynamics.norms import norm
from dynamics.plasticity import Slow
from dynamics.samples import Rows
from dynamics.spectra import largest_eigenvalue
from dynamics.stimulus import Clock

DIRECTIONS = 64  # random ones, along which norms of a larger Jacobian are estimated
PRESENTATIONS = 100  # that the Lyapunov exponent looks ahead, half of them to find its direction
ROUGHLY = 8  # steps of a power iteration that tell how fast a field changes


def sharpness(circuit: Circuit, weights: Weights, inputs: Rows, targets: Rows) -> Float[Array, ""]:
    """The largest eigenvalue of d^2 L / dw^2, w all plastic forward weights and biases, L the mean loss of the samples.

    By power iteration on products of the Hessian with vectors (Pearlmutter 1994, doi:10.1162/neco.1994.6.1.147).
    Gradient descent by steps eta is stable below 2 / eta (Cohen et al. 2021, doi:10.48550/arXiv.2103.00065). In loss
    per squared weight.
    """
    own = {p.name: weights[p.name] for p in circuit.plastic if p.port == "forward"}
    vector, restore = ravel_pytree(own)

    def of(vector: Float[Array, " n"]) -> Float[Array, ""]:
        return loss(circuit, {**weights, **restore(vector)}, inputs, targets)

    def product(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.jvp(jax.grad(of), (vector,), (v,))[1]

    return largest_eigenvalue(product, vector.shape[0], vector.dtype)


def averaged_field(
    run: Any,
    weights: Weights,
    slow: Slow,
    inputs: Rows,
    targets: Rows | None,
    told: Float[Array, " n"] | None = None,
) -> tuple[Field, Float[Array, " n"]]:
    """dw/dt = <m p^T>/tau_plast - w/tau_dec over samples, with the time constants of `run` (of any regime), as a
    function of one vector of plastic weights and slow variables; and where that is now. Where targets are not `told`
    there is no error."""
    clock = Clock(run.clock.duration, run.clock.gap, 1)
    flow = WeightFlow(run.circuit, run.timescales, inputs, targets, clock, told=told)  # pyright: ignore[reportArgumentType]
    return flat_flow(flow, flow.init(weights)._replace(slow=slow))


def jacobian_parts(field: Field, point: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """|J + J^T|_F / 2 and |J - J^T|_F / 2 of the Jacobian J of a field (1/s): of a gradient flow the second is 0.

    Exact for up to `DIRECTIONS` numbers; of more, the root of a mean of |(J + J^T) v|^2 / 4 over random v_i = +-1,
    which has no bias (Hutchinson 1990, doi:10.1080/03610919008812866).
    """
    n, dtype = point.shape[0], point.dtype
    exact = n <= DIRECTIONS
    directions = jnp.eye(n, dtype=dtype) if exact else jax.random.rademacher(jax.random.key(0), (DIRECTIONS, n), dtype)
    back = jax.vjp(field, point)[1]

    def parts(v: Float[Array, " n"]) -> tuple[Array, Array]:
        forward, backward = jax.jvp(field, (point,), (v,))[1], back(v)[0]
        return (forward + backward) / 2, (forward - backward) / 2

    symmetric, antisymmetric = jax.lax.map(parts, directions)
    share = 1 if exact else DIRECTIONS**0.5
    return norm(symmetric) / share, norm(antisymmetric) / share


def lyapunov_exponent(field: Field, point: Float[Array, " n"], period: Float[Array, ""]) -> Float[Array, ""]:
    """The largest Lyapunov exponent of a field along what it makes of `point`, in 1/s: log of stretching over time.

    Of a finite time, that of `PRESENTATIONS` each of a `period`, or less where the field is faster than its steps may
    be; a random direction turns for half of it before it is measured. Where weights converge it goes to the slowest
    rate at which they do. (Benettin et al. 1980, doi:10.1007/BF02128236)
    """
    start = jax.random.normal(jax.random.key(0), point.shape, point.dtype)

    def grown(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        made = jax.jvp(field, (point,), (carry[0],))[1]
        size = norm(made)
        return made / jnp.where(size > 0, size, 1), size

    zero = jnp.zeros((), point.dtype)
    _, rate = jax.lax.fori_loop(0, ROUGHLY, grown, (start / norm(start), zero))
    dt = jnp.minimum(period, 0.5 / jnp.where(rate > 0, rate, 1 / period))
    step = flow_map(field, dt)

    def advance(carry: tuple[Array, Array, Array], late: Array) -> tuple[tuple[Array, Array, Array], None]:
        state, direction, total = carry
        state, moved = jax.jvp(step, (state,), (direction,))
        stretch = norm(moved)
        still = stretch == 0
        total = total + jnp.where(late, jnp.log(jnp.where(still, 1, stretch)), 0)
        return (state, moved / jnp.where(still, 1, stretch), total), None

    late = jnp.arange(PRESENTATIONS) >= PRESENTATIONS // 2
    (_, _, total), _ = jax.lax.scan(advance, (point, start / norm(start), zero), late)
    return total / (late.sum().astype(point.dtype) * dt)
