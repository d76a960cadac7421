"""Laws: how a matrix changes, as a sum of terms.

    tau_plast W' = sum of  h gate * F(m p^T)  and  diag(r) M,    minus (tau_plast/tau_dec) W where the map decays

m (post), gate and r are functions of the local variables of the target layer, p (pre) of those of the source layer, or
what the projection itself carries; F is a trace, h a function of what each synapse has stored (`dynamics.synapses`),
and M the matrix itself or that of another projection.
"""

from typing import Literal

import equinox as eqx
from jaxtyping import Array, Float

from dynamics.local import AbstractFactor, Negative, as_numbers
from dynamics.synapses import AbstractDependence


class Trace(eqx.Module):
    """A filter of unit gain, tau x' = -x + "pre", "post" or "product" of an outer term.

    timescale  in seconds; None: that of the run's eligibility traces, where it has any
    slow       whether it evolves with the weights, as momentum does, and is averaged over samples, instead of settling
               with the activities: only a trace of the product can
    """

    of: Literal["pre", "post", "product"] = eqx.field(static=True, default="pre")
    timescale: Float[Array, ""] | None = eqx.field(converter=as_numbers, default=None)
    slow: bool = eqx.field(static=True, default=False)


class Outer(eqx.Module):
    """The term h gate * F(m p^T): m = `post` and the gate of the target, p = `pre` of the source, after the
    projection's lag; without a `pre` p is what the projection carries. h, the `dependence`, is taken synapse by
    synapse; None: 1."""

    post: AbstractFactor
    pre: AbstractFactor | None = None
    gate: AbstractFactor | None = None
    trace: Trace = Trace()
    dependence: AbstractDependence | None = None


class Scaled(eqx.Module):
    """The term diag(rate) M, M the matrix of projection `matrix`, or the own one (a decay has a negative rate)."""

    rate: AbstractFactor
    matrix: str | None = eqx.field(static=True, default=None)


Term = Outer | Scaled
Law = tuple[Term, ...]


def as_law(law: Law | Term) -> Law:
    """The law of one term alone, too."""
    return (law,) if isinstance(law, Outer | Scaled) else tuple(law)


def TwoFactor(  # noqa: N802  a law, though it is made by a function
    post: AbstractFactor,
    pre: AbstractFactor | None = None,
    row_decay: AbstractFactor | None = None,
    traced: Literal["pre", "post"] = "pre",
) -> Law:
    """The law m p^T - diag(r) W: `post` is m, `row_decay` r.

    An eligibility trace, where the run has one, filters p, or m if `traced` is "post": a feedback law puts it there, so
    that it filters the same activity as its forward partner.
    """
    outer = Outer(post, pre, trace=Trace(traced))
    return (outer,) if row_decay is None else (outer, Scaled(Negative(row_decay)))
