"""What a synapse sees of the neuron at one of its ends, and functions of it: the factors that circuits are made of."""

import abc
import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.activations import Activation
from dynamics.errors import PlasticodeError, shown, unknown


def as_numbers(value: Any) -> Any:
    """Numbers as Python or NumPy writes them as an array of floats; anything else as it is."""
    if not isinstance(value, float | int | list | np.ndarray | np.generic):
        return value
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


class Local(eqx.Module):
    """What there is at one neuron, each an array (size,) for the neurons of a layer.

    inputs   by port: the summed input now, such as inputs["forward"] = a and inputs["modulatory"] = c
    values   by variable: "activity", "error" where the layer has error units, and the layer's own
    drives   by variable: what it relaxes to, v + tau v'; drives["activity"] is the prospective activity

    (Compilers stack moments or samples in front, and give factors one at a time.)
    """

    inputs: Mapping
    values: Mapping
    drives: Mapping
    f: Activation = eqx.field(static=True)

    @property
    def preactivation(self) -> Float[Array, "*stacked size"]:
        """a, the input of the forward port."""
        return self.inputs["forward"]

    @property
    def activity(self) -> Float[Array, "*stacked size"]:
        """z."""
        return self.values["activity"]

    @property
    def error(self) -> Float[Array, "*stacked size"]:
        """e."""
        return self.values["error"]


class AbstractFactor(eqx.Module):
    """A function of the local variables of one layer: what a variable relaxes to, what a projection carries, a factor
    of a law. What it reads is found by calling it once, when the circuit is made."""

    @abc.abstractmethod
    def __call__(self, local: Local) -> Float[Array, " size"]:
        """One number per neuron of the layer."""


class Activity(AbstractFactor):
    """z."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.activity


class Error(AbstractFactor):
    """e."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.error


class Value(AbstractFactor):
    """The variable called `name`."""

    name: str = eqx.field(static=True)

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.values[self.name]


class Input(AbstractFactor):
    """What arrives at `port`."""

    port: str = eqx.field(static=True)

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.inputs[self.port]


class Transfer(AbstractFactor):
    """f(a): what an activity relaxes to."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.f(local.preactivation)


class Modulated(AbstractFactor):
    """f'(a)^T c: what an error relaxes to."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.f.pulled_back(local.preactivation, local.inputs["modulatory"])


class Prospective(AbstractFactor):
    """z + tau z': what the activity relaxes to, a propagation time constant ahead of it."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.drives["activity"]


class Negative(AbstractFactor):
    """Minus another factor."""

    of: AbstractFactor

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return -self.of(local)


class Constant(AbstractFactor):
    """One number, for every neuron."""

    value: Float[Array, ""] = eqx.field(converter=as_numbers)

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return jnp.full_like(local.activity, self.value)


class Times(AbstractFactor):
    """A number times another factor."""

    by: Float[Array, ""] = eqx.field(converter=as_numbers)
    of: AbstractFactor

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return self.by * self.of(local)


class Signed(AbstractFactor):
    """Another factor times `sign`, one number per neuron."""

    of: AbstractFactor
    sign: Float[Array, " size"]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return self.sign * self.of(local)


def named(variable: str) -> AbstractFactor:
    """The factor that is a variable of that name."""
    return {"activity": Activity, "error": Error}.get(variable, functools.partial(Value, variable))()


def variable_of(factor: AbstractFactor) -> str | None:
    """The variable that a factor is, if it is nothing but one."""
    if isinstance(factor, Value):
        return factor.name
    return {Activity: "activity", Error: "error"}.get(type(factor))


class Known(NamedTuple):
    """What there is in a layer: its size, ports, variables and activation. Hashable."""

    layer: str
    size: int
    inputs: tuple[str, ...]
    values: tuple[str, ...]
    drives: tuple[str, ...]
    f: Activation


class Reads(NamedTuple):
    """The names that a factor reads, by kind, sorted."""

    inputs: tuple[str, ...]
    values: tuple[str, ...]
    drives: tuple[str, ...]

    @property
    def activity_alone(self) -> bool:
        """Whether it is nothing but the activity, if anything."""
        return not self.inputs and not self.drives and set(self.values) <= {"activity"}


def reads(factor: AbstractFactor, known: Known, what: str) -> Reads:
    """What `factor`, told of as `what`, reads of a layer. A name that is not there is refused, and a wrong shape."""
    if not isinstance(factor, AbstractFactor):
        raise PlasticodeError(
            f"{what} has {shown(factor)} where a factor should be: it must be an AbstractFactor, such as Activity() or "
            "one of your own"
        )
    check_numbers(factor, what)
    leaves, structure = jax.tree.flatten(factor)
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    return _recorded(structure, shapes, known, what)


def check_numbers(function: eqx.Module, what: str) -> None:
    """Refuses a function, which `what` has, with a field that is neither a number nor static."""
    for leaf in jax.tree.leaves(function):
        if not isinstance(leaf, float | int | np.ndarray | jax.Array | jax.ShapeDtypeStruct):
            raise PlasticodeError(
                f"{what} has a field {shown(leaf)} of {type(function).__name__}, which is no number: it must be "
                "declared as equinox.field(static=True)"
            )


@functools.lru_cache(maxsize=4096)
def _recorded(structure: Any, shapes: Sequence, known: Known, what: str) -> Reads:
    found: dict[str, set[str]] = {"inputs": set(), "values": set(), "drives": set()}
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]

    def called(leaves: Sequence[Array]) -> Array:
        views = {kind: _Recorder(kind, known, what, names) for kind, names in found.items()}
        return jax.tree.unflatten(structure, leaves)(Local(**views, f=known.f))

    with jax.numpy_dtype_promotion("standard"):  # which dtypes meet is seen when a run is made
        shape = getattr(jax.eval_shape(called, leaves), "shape", None)
    if shape != (known.size,):
        raise PlasticodeError(
            f"{what} makes {'no array' if shape is None else f'an array of shape {list(shape)}'} of layer "
            f"'{known.layer}': it must have one number for each of its {known.size} neurons"
        )
    return Reads(*(tuple(sorted(found[kind])) for kind in Reads._fields))


class _Recorder(Mapping):
    """Stands for the inputs, values or drives of a layer while a factor is called to see what it reads."""

    def __init__(self, kind: str, known: Known, what: str, read: set[str]):
        self._kind, self._known, self._what, self._read = kind, known, what, read

    def __getitem__(self, name: str) -> Array:
        names = getattr(self._known, self._kind)
        if name not in names:
            kind = "port" if self._kind == "inputs" else "variable"
            raise unknown(f"{kind} of layer '{self._known.layer}', which {self._what} reads,", name, names)
        self._read.add(name)
        return jnp.zeros(self._known.size)

    def __iter__(self) -> Iterator[str]:
        return iter(getattr(self._known, self._kind))

    def __len__(self) -> int:
        return len(getattr(self._known, self._kind))


class Once:
    """Values made once each, when something asks for them."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value called `key`, from `make` where it is asked for first."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
