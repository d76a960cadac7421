"""Layers: populations of neurons, their variables, and what is given to them from outside."""

import zlib
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dynamics.activations import Activation, activation
from dynamics.local import AbstractFactor, as_numbers

Role = Literal["input", "target", "constant", "hidden", "output"]


class Variable(eqx.Module):
    """A variable v of every neuron of a layer: tau v' = -v + of(local).

    timescale  in seconds, one number or one per neuron; None: tau_prop of the layer
    slow       whether it evolves with the weights, and is averaged over samples by the weight flow as the laws are,
               instead of settling with the activities

    A variable called "activity" or "error" takes the place of the layer's own (f(a), and f'(a)^T c).
    """

    name: str = eqx.field(static=True)
    of: AbstractFactor
    timescale: Float[Array, "*size"] | None = eqx.field(converter=as_numbers, default=None)
    slow: bool = eqx.field(static=True, default=False)


class AbstractSource(eqx.Module):
    """The activity of a layer that is given from outside, beside the task's own."""


class Draw(AbstractSource):
    """Normal numbers of standard deviation `std` around a `mean` (None: 0), drawn anew for each presentation, and shown
    as long as the sample."""

    std: Float[Array, ""] = eqx.field(converter=as_numbers)
    mean: Float[Array, ""] | None = eqx.field(converter=as_numbers, default=None)

    def drawn(self, key: PRNGKeyArray, k: Int[Array, ""], name: str, size: int) -> Float[Array, " size"]:
        """The numbers of presentation k for the layer called `name`, from the key of the stream."""
        numbers = self.std * jax.random.normal(fresh(key, k, name), (size,), self.std.dtype)
        return numbers if self.mean is None else self.mean + numbers


class _Plain(eqx.Module):
    """A function that is no module, so that JAX takes it for part of the program."""

    function: Callable = eqx.field(static=True)

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " size"]:
        return self.function(t)

    @staticmethod
    def of(function: Any) -> Any:
        return function if isinstance(function, eqx.Module) else _Plain(function)


class Wave(AbstractSource):
    """A function of time: `of(t)` is the activity (size,) t seconds after the start of a presentation.

    A module (`equinox.Module`) may have numbers that are swept. It has to be smooth but for the times `jumps` (seconds,
    after the start), where windows are cut, and steps have an error of the first order.
    """

    of: Callable[[Float[Array, ""]], Float[Array, " size"]] = eqx.field(converter=lambda f: _Plain.of(f))
    jumps: tuple[Float[Array, ""], ...] = eqx.field(converter=lambda times: tuple(map(as_numbers, times)), default=())


def fresh(key: PRNGKeyArray, k: Int[Array, ""], name: str) -> PRNGKeyArray:
    """The key of what is drawn for `name` in presentation k."""
    return jax.random.fold_in(jax.random.fold_in(key, k), checksum(name))


def checksum(name: str) -> int:
    """The number that random keys of what is called `name` are made of."""
    return zlib.crc32(name.encode())


def _variables(given: Any) -> tuple[Variable, ...]:
    """Of one variable alone, too."""
    return (given,) if isinstance(given, Variable) else tuple(given)


class Layer(eqx.Module):
    """A population of `size` neurons. `level` (1 = first after the input) picks its entry of per-layer time constants.

    role  "input": the activity is the stimulus. "target": it is the target of the task. "constant": it is 1.
          "output": the error units get the error of `loss`, y - z ("squared") or y - softmax(z) ("softmax")
    source     gives the activity, instead of the role
    variables  what the neurons have beside activity and error, or instead of them
    """

    name: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    activation: str = eqx.field(static=True, default="linear")
    role: Role = eqx.field(static=True, default="hidden")
    level: int = eqx.field(static=True, default=1)
    loss: str = eqx.field(static=True, default="squared")
    variables: tuple[Variable, ...] = eqx.field(converter=_variables, default=())
    source: AbstractSource | None = None

    @property
    def given(self) -> bool:
        """Whether the activity is given from outside instead of integrated."""
        return self.source is not None or self.role in ("input", "target", "constant")

    @property
    def held(self) -> bool:
        """Whether the activity is given, and the same as long as a sample is shown."""
        return isinstance(self.source, Draw) or (self.source is None and self.role in ("input", "target"))

    @property
    def f(self) -> Activation:
        """The activation function."""
        return activation(self.activation)

    def constant(self, dtype: jnp.dtype) -> Float[Array, " size"]:
        """The activity of a constant layer."""
        return jnp.ones(self.size, dtype)
