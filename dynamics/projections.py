"""Projections: what goes from one layer to another, through which map, and how that learns."""

import equinox as eqx
from jaxtyping import Array, Float

from dynamics.laws import Law, as_law
from dynamics.local import AbstractFactor, as_numbers, named, variable_of
from dynamics.maps import AbstractMap, Shared, as_map


def _factor(carries: str | AbstractFactor) -> AbstractFactor:
    return named(carries) if isinstance(carries, str) else carries


class Projection(eqx.Module):
    """Carries a factor of `source`, after `lag` seconds, through a map to `port` of `target`.

    carries  "activity", "error" or another variable of the source by name, or any function of its local variables
    matrix   a map of its own (`dynamics.maps`; `Gaussian` or `Given` alone mean a dense matrix), or `Shared`
    law      how that changes: the terms of `dynamics.laws`; none: it is fixed
    level    picks its entry of per-layer time constants
    lag      in seconds; None: the run's `delays.hop`, except from a constant layer
    """

    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    carries: AbstractFactor = eqx.field(converter=_factor)
    target: str = eqx.field(static=True)
    port: str = eqx.field(static=True)
    matrix: AbstractMap | Shared = eqx.field(converter=as_map)
    law: Law = eqx.field(converter=as_law, default=())
    level: int = eqx.field(static=True, default=1)
    lag: Float[Array, ""] | None = eqx.field(converter=as_numbers, default=None)

    @property
    def variable(self) -> str | None:
        """The variable of the source that it carries, where that is all."""
        return variable_of(self.carries)

    @property
    def owner(self) -> str:
        """The name of the projection whose map it applies: its own, or the one that shares it."""
        return self.matrix.name if isinstance(self.matrix, Shared) else self.name

    @property
    def carried_name(self) -> str:
        """What it carries, in a word."""
        return self.variable or type(self.carries).__name__
