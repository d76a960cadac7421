"""Activation functions f and their slopes f', both as functions of the preactivation a."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.errors import unknown


class Activation(NamedTuple):
    """f and f', elementwise on preactivations of any shape; `smooth` says whether f has no kink."""

    value: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    slope: Callable[[Float[Array, "..."]], Float[Array, "..."]]
    smooth: bool = True


def _tanh_slope(a: Float[Array, "..."]) -> Float[Array, "..."]:
    return 1 - jnp.square(jnp.tanh(a))


def _relu_slope(a: Float[Array, "..."]) -> Float[Array, "..."]:
    return (a > 0).astype(a.dtype)


ACTIVATIONS = {
    "linear": Activation(lambda a: a, jnp.ones_like),
    "relu": Activation(jax.nn.relu, _relu_slope, smooth=False),
    "softplus": Activation(jax.nn.softplus, jax.nn.sigmoid),
    "tanh": Activation(jnp.tanh, _tanh_slope),
}


def activation(name: str) -> Activation:
    """The activation called `name`; an unknown name is told in a sentence."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]
