"""Activation functions f of a layer's input. Slopes are f's own vector-Jacobian products: none is written down."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.errors import PlasticodeError, printable, shown, unknown
from dynamics.plugins import blamed, imported, is_own, modules_of

Vector = Float[Array, " size"]


class Activation(NamedTuple):
    """f of the preactivations (size,) of a whole layer, which need not be elementwise; `smooth` says that it has no
    kink."""

    value: Callable[[Vector], Vector]
    smooth: bool = True

    def __call__(self, a: Vector) -> Vector:
        """f(a)."""
        return self.value(a)

    def pulled_back(self, a: Vector, c: Vector) -> Vector:
        """f'(a)^T c, f' the Jacobian: f'(a) * c where f is elementwise."""
        return jax.vjp(self.value, a)[1](c)[0]


def _layer_norm(a: Vector) -> Vector:
    """(a - mean) / standard deviation, over the neurons of the layer."""
    away = a - a.mean()
    return away * jax.lax.rsqrt(jnp.mean(away * away) + 1e-5)


ACTIVATIONS = {
    "layer-norm": Activation(_layer_norm),
    "leaky-relu": Activation(jax.nn.leaky_relu, smooth=False),
    "linear": Activation(lambda a: a),
    "relu": Activation(jax.nn.relu, smooth=False),
    "sigmoid": Activation(jax.nn.sigmoid),
    "softplus": Activation(jax.nn.softplus),
    "tanh": Activation(jnp.tanh),
}


def activation(name: str) -> Activation:
    """The activation called `name`, or the one that "module:name" names; any other name is told in a sentence."""
    if is_own(name):
        return _own(name)
    if name not in ACTIVATIONS:
        raise unknown("activation", printable(name), ACTIVATIONS)
    return ACTIVATIONS[name]


_CHECKED: dict[str, tuple[object, Activation]] = {}


def _own(name: str) -> Activation:
    """A user's own activation, which is checked when it is first seen. A plain function may have a kink."""
    found: Any = imported("activation", name, "a function or an Activation")
    known = _CHECKED.get(name)
    if known is None or known[0] is not found:
        if isinstance(found, type) or not callable(found):
            what = "a function of an array, or a plasticode.Activation(value, smooth)"
            raise PlasticodeError(f"activation '{name}' is not an activation: it must be {what}")
        function: Any = found
        made = found if isinstance(found, Activation) else Activation(function, smooth=False)
        if not isinstance(made.smooth, bool):  # where there was a slope once
            raise PlasticodeError(
                f"activation '{name}' has smooth = {shown(made.smooth)}: it must be true or false; slopes follow by "
                "differentiation"
            )
        _check_shapes(name, made)
        known = _CHECKED[name] = found, made
    return known[1]


def _check_shapes(name: str, made: Activation) -> None:
    """Refuse a function that does not keep the shape and the dtype of what it gets, or has no derivative."""
    for shape, dtype in (((3,), jnp.float32), ((2,), jnp.result_type(float))):
        given = jax.ShapeDtypeStruct(shape, dtype)
        with blamed(f"activation '{name}' cannot be computed", modules_of([name])):
            result = jax.eval_shape(made.value, given)
        if getattr(result, "shape", None) != shape or result.dtype != dtype:
            raise PlasticodeError(
                f"activation '{name}' makes {_described(result)} of {_described(given)}: it must keep shape and dtype"
            )
        with blamed(f"the slope of activation '{name}' cannot be computed", modules_of([name])):
            jax.eval_shape(made.pulled_back, given, given)


def _described(value: object) -> str:
    """The type and shape of an array; otherwise what else it is."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return type(value).__name__ if shape is None else f"{dtype} of shape {list(shape)}"
