"""The geometry of a vector field: its Jacobian, how far that is from symmetric, and how fast volumes shrink.

A gradient flow has a symmetric Jacobian; the antisymmetric part is what no loss can explain, in the Euclidean metric.
Fields are functions of one flat vector; `flat_flow` makes one of a weight flow.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from dynamics.flow import FlowState, WeightFlow
from dynamics.norms import norm

Field = Callable[[Float[Array, " n"]], Float[Array, " n"]]


def flat_flow(flow: WeightFlow, state: FlowState) -> tuple[Field, Float[Array, " n"]]:
    """The drift of `flow` (per second) as a function of one vector, and `state` as that vector.

    The vector holds the plastic maps, slow variables and slow traces; the fixed maps of `state` are part of the field.
    """
    system = flow.system(state.fixed)
    vector, restore = ravel_pytree((state.weights, state.slow, state.traces))

    def field(vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(system.drift(restore(vector), None, None))[0]

    return field, vector


def jacobian(field: Field, point: Float[Array, " n"]) -> Float[Array, "n n"]:
    """J_ij = dF_i/dy_j, by forward differentiation (1/s for a field per second). Needs memory for n^2 numbers."""
    return jax.jacfwd(field)(point)


def symmetric_part(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """(J + J^T)/2: the part that a potential can explain."""
    return (matrix + matrix.T) / 2


def antisymmetric_part(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """(J - J^T)/2: the rotational part."""
    return (matrix - matrix.T) / 2


def curl_index(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    """|J - J^T|_F / |J + J^T|_F: 0 for a gradient flow, infinite for a pure rotation. Dimensionless."""
    return norm(antisymmetric_part(matrix)) / norm(symmetric_part(matrix))


def eigenvalues(matrix: Float[Array, "n n"]) -> Complex[np.ndarray, " n"]:
    """The eigenvalues of J, the largest real part first. On the host, since JAX has no general one on every device."""
    values = np.linalg.eigvals(np.asarray(matrix)).astype(complex)
    return values[np.argsort(-np.real(values), kind="stable")]


def divergence(field: Field, point: Float[Array, " n"]) -> Float[Array, ""]:
    """tr J, the rate at which the field expands volumes: exact, n directional derivatives in memory for one."""

    def diagonal(i: Array) -> Array:
        direction = (jnp.arange(point.shape[0]) == i).astype(point.dtype)
        return jax.jvp(field, (point,), (direction,))[1][i]

    return jax.lax.map(diagonal, jnp.arange(point.shape[0])).sum()


def estimated_divergence(
    field: Field, point: Float[Array, " n"], key: PRNGKeyArray, probes: int = 100
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """tr J and its standard error from `probes` >= 2 random directions (Hutchinson): mean of v . J v, v_i = +-1."""

    def probe(key: PRNGKeyArray) -> Array:
        direction = jax.random.rademacher(key, point.shape, point.dtype)
        return direction @ jax.jvp(field, (point,), (direction,))[1]

    samples = jax.lax.map(probe, jax.random.split(key, probes))
    return samples.mean(), samples.std(ddof=1) / probes**0.5
