"""Noise amplitudes of the coupled regime, and Brownian increments keyed by the integer step."""

import zlib
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics.errors import PlasticodeError, unknown


class Noise(eqx.Module):
    """White noise, None where absent. Without feedback through the network, activities and errors are then
    Ornstein-Uhlenbeck processes.

    activity                  tau_prop dz = (..) dt + s sqrt(2 tau_prop) dB; s is the stationary standard deviation of z
    error                     the same for e
    synaptic                  dW = (..) dt + s dB, in weight per square root of a second
    synaptic_multiplicative   dW = (..) dt + s W dB, in 1 per square root of a second
    `calculus` says which calculus the multiplicative term is meant in; it decides which solvers are allowed.
    """

    activity: Float[Array, ""] | None = None
    error: Float[Array, ""] | None = None
    synaptic: Float[Array, ""] | None = None
    synaptic_multiplicative: Float[Array, ""] | None = None
    calculus: Literal["ito", "stratonovich"] = eqx.field(static=True, default="ito")

    def __check_init__(self):
        if self.calculus not in ("ito", "stratonovich"):
            raise unknown("noise.calculus", self.calculus, ("ito", "stratonovich"))

    @property
    def present(self) -> bool:
        """Whether there is any noise to draw."""
        return any(s is not None for s in (self.activity, self.error)) or self.on_synapses

    @property
    def on_synapses(self) -> bool:
        """Whether weights are noisy themselves."""
        return self.synaptic is not None or self.synaptic_multiplicative is not None


def required_key(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """The key of a noisy run, which must have one."""
    if key is None:
        raise PlasticodeError("noise is drawn from a random key, but the run has none: give it key")
    return key


def brownian_increments(key: PRNGKeyArray, like: PyTree[Array], dt: Float[Array, ""]) -> PyTree[Array]:
    """Independent N(0, dt) draws with the shapes of `like` (dt in seconds). A leaf's key depends on its path."""

    def draw(path: tuple, leaf: Array) -> Array:
        leaf_key = jax.random.fold_in(key, zlib.crc32(jax.tree_util.keystr(path).encode()))
        return jnp.sqrt(dt) * jax.random.normal(leaf_key, leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, like)
