"""What synapses have stored, and functions of it: how strongly a law acts on each of them."""

import abc
from collections.abc import Iterator, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.errors import PlasticodeError, shown, unknown
from dynamics.local import check_numbers

Stored = Float[Array, "..."]


class Synapse(eqx.Module):
    """What the synapses of a map have stored, each an array of the shape of its parameters, most often (targets,
    sources).

    weight  the parameters themselves
    others  by projection: those of other maps of the same shape, such as a hidden variable of the same synapses
    """

    weight: Stored
    others: Mapping


class AbstractDependence(eqx.Module):
    """A function of what synapses have stored, one number for each. What it reads is found by calling it once, when
    the circuit is made."""

    @abc.abstractmethod
    def __call__(self, synapse: Synapse) -> Stored:
        """How strongly a term of a law acts on each synapse."""


def others_read(
    dependence: AbstractDependence, name: str, shapes: Mapping[str, jax.ShapeDtypeStruct]
) -> tuple[str, ...]:
    """The projections that `dependence`, in the law of projection `name`, reads beside it, of all that have parameters
    of these `shapes`. A name that is not there is refused, and a wrong shape."""
    what, own, read = f"the law of '{name}'", shapes[name].shape, set()
    if not isinstance(dependence, AbstractDependence):
        raise PlasticodeError(
            f"{what} has {shown(dependence)} where a dependence should be: it must be an AbstractDependence of your own"
        )
    check_numbers(dependence, what)

    def called(dependence: AbstractDependence) -> Array:
        return dependence(Synapse(jnp.zeros(own), _Recorder(name, shapes, read)))

    with jax.numpy_dtype_promotion("standard"):  # which dtypes meet is seen when a run is made
        shape = getattr(jax.eval_shape(called, dependence), "shape", None)
    if shape != own:
        made = "no array" if shape is None else f"an array of shape {list(shape)}"
        raise PlasticodeError(
            f"{what} depends on {type(dependence).__name__}, which makes {made}: it must be {list(own)}, one number "
            "for each synapse"
        )
    return tuple(sorted(read))


class _Recorder(Mapping):
    """Stands for the maps beside that of projection `name` while a dependence is called to see what it reads."""

    def __init__(self, name: str, shapes: Mapping[str, jax.ShapeDtypeStruct], read: set[str]):
        self._name, self._shapes, self._read = name, shapes, read

    def __getitem__(self, other: str) -> Array:
        own = list(self._shapes[self._name].shape)
        if other not in self._shapes:
            raise unknown(f"projection, which the law of '{self._name}' depends on,", other, self._shapes)
        if list(self._shapes[other].shape) != own:
            raise PlasticodeError(
                f"the law of '{self._name}' depends on the parameters of '{other}', of shape "
                f"{list(self._shapes[other].shape)}: it must be {own}, one number for each synapse"
            )
        self._read.add(other)
        return jnp.zeros(own)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)
