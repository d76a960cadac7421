"""Activation functions f and their slopes f', both as functions of the preactivation a."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.errors import PlasticodeError, printable, unknown
from dynamics.plugins import blamed, imported, is_own, modules_of


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
    """The activation called `name`, or the one that "module:name" names; any other name is told in a sentence."""
    if is_own(name):
        return _own(name)
    if name not in ACTIVATIONS:
        raise unknown("activation", printable(name), ACTIVATIONS)
    return ACTIVATIONS[name]


_CHECKED: dict[str, Activation] = {}


def _own(name: str) -> Activation:
    """A user's own activation, which is checked when it is first seen."""
    found = imported("activation", name, "an Activation")
    if found is not _CHECKED.get(name):
        if not isinstance(found, Activation):
            what = "a dynamics.activations.Activation(value, slope)"
            raise PlasticodeError(f"activation '{name}' is not an activation: it must be {what}")
        for part in ("value", "slope"):
            _check_elementwise(name, part, getattr(found, part))
        _CHECKED[name] = found
    return found


def _check_elementwise(name: str, part: str, function: Callable) -> None:
    """Refuse a function that does not keep the shape and the dtype of what it gets."""
    for shape, dtype in (((3,), jnp.float32), ((2, 3), jnp.result_type(float))):
        given = jax.ShapeDtypeStruct(shape, dtype)
        with blamed(f"the {part} of activation '{name}' cannot be computed", modules_of([name])):
            result = jax.eval_shape(function, given)
        if getattr(result, "shape", None) != shape or result.dtype != dtype:
            raise PlasticodeError(
                f"the {part} of activation '{name}' makes {_described(result)} of {_described(given)}: it must be "
                "elementwise, and keep the dtype"
            )


def _described(value: object) -> str:
    """The type and shape of an array; otherwise what else it is."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return type(value).__name__ if shape is None else f"{dtype} of shape {list(shape)}"
