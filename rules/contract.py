"""The contract of a learning rule: it wires a circuit, and that is all it does."""

import abc
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Outer
from dynamics.errors import PlasticodeError, shown
from dynamics.network import Network

if TYPE_CHECKING:  # to a type checker it is a plain ClassVar
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar


def number(default: float, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field that is an array leaf: a number of a rule that a spec may set, list per layer, or sweep.

    A spec that gives it a value below `low` or above `high` is refused.
    """
    return eqx.field(converter=_floating, default=default, metadata={"range": (low, high)})


def timescale(default: float, low: float = 0.0, high: float = math.inf) -> Any:
    """As `number`, of a time in seconds: a spec may write it with a unit, as "20 ms" or "0.5 T"."""
    return eqx.field(converter=_floating, default=default, metadata={"range": (low, high), "time": True})


def _floating(value: Any) -> Float[Array, "..."]:
    """An array of `value`; integers become floats, as what they scale would else be integers too."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise PlasticodeError(
            f"a rule has {shown(value)} where a number should be: it must be a number (of seconds, for a time) "
            "or an array"
        ) from None
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def wired_inside(credit: "AbstractRule", network: Network) -> Circuit:
    """The circuit of the rule that another one has as `credit`; what it refuses is told by its path there."""
    try:
        return credit.wire(network)
    except PlasticodeError as error:
        raise PlasticodeError(re.sub(r"\brule\.(?=[a-z])", "rule.credit.", str(error))) from error


def with_products(circuit: Circuit, what: str) -> Circuit:
    """The circuit that a wrapper changes the products of; one without any in its forward laws is refused."""
    if not any(isinstance(t.term, Outer) and t.of.port == "forward" for t in circuit.terms):
        raise PlasticodeError(
            f"{what} changes products of two factors, of which the laws of rule.credit have none: it must be another "
            "rule, such as sgd or fa"
        )
    return circuit


class AbstractRule(eqx.Module):
    """A learning rule. `wire` adds to a network's forward projections the laws and feedback that make it learn.

    Fields that are numbers are declared with `number(default)`, times with `timescale(default)`, so that any of them
    can be a sweep axis without recompiling; fields that change the wiring (strings, integers, booleans) are static.
    `reference` is the bibtex of the paper that the rule comes from.
    """

    reference: AbstractClassVar[str]

    def __check_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, AbstractRule) and not isinstance(value, AbstractRule):
                raise PlasticodeError(
                    f"{type(self).__name__} has {field.name} = {shown(value)}: it must be a rule, such as SGD() or FA()"
                )

    @abc.abstractmethod
    def wire(self, network: Network) -> Circuit:
        """The circuit of this rule on `network`."""

    @classmethod
    def remarks(cls, numbers: Mapping[str, np.ndarray], sizes: tuple[int, ...], dtype: str) -> list[str]:
        """Sentences about what does not run quite as it is written; most rules have none.

        `numbers` has the traced numbers of the rule, (points,) or (points, layers); `sizes` are those of the layers.
        """
        return []
