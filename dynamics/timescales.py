"""The time constants of a run, in seconds."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from dynamics.circuit import Circuit
from dynamics.errors import PlasticodeError, refused, shown


def _seconds(value: ArrayLike) -> Array:
    if isinstance(value, str):
        raise PlasticodeError(f"a timescale is {shown(value)}: it must be a number of seconds, such as 0.05, or inf")
    return jnp.asarray(value)


def _optional(value: ArrayLike | None) -> Array | None:
    return None if value is None else _seconds(value)


class Timescales(eqx.Module):
    """tau_prop, tau_plast, tau_dec and the optional tau_trace, in seconds; each one number, or one per layer after the
    input (regimes refuse lists of another length).

    propagation  activities and errors relax with tau_prop
    plasticity   weights follow their laws over tau_plast
    decay        weights decay over tau_dec; None or infinite: no decay
    trace        eligibility trace of unit gain, tau_trace p' = -p + z; None for none
    """

    propagation: Float[Array, "*layers"] = eqx.field(converter=_seconds)
    plasticity: Float[Array, "*layers"] = eqx.field(converter=_seconds)
    decay: Float[Array, "*layers"] | None = eqx.field(converter=_optional, default=None)
    trace: Float[Array, "*layers"] | None = eqx.field(converter=_optional, default=None)


def check_levels(circuit: Circuit, timescales: Timescales) -> None:
    """Refuses time constants that are not one number, or a list of one per layer (level) of the circuit, and those that
    are not positive, as far as they are known."""
    levels = [layer.level for layer in circuit.layers if not layer.given] + [p.level for p in circuit.plastic]
    count = max(levels, default=0)
    for name in ("propagation", "plasticity", "decay", "trace"):
        values = getattr(timescales, name)
        if values is None:
            continue
        if values.ndim and values.shape != (count,):
            raise PlasticodeError(
                f"timescales.{name} has shape {values.shape}: it must be one number, or a list of {count}, one per "
                "layer after the input"
            )
        if not isinstance(values, Tracer) and not (np.asarray(values) > 0).all():  # jax would trace it
            raise refused(f"timescales.{name}", values.tolist(), "it must be a time > 0, in seconds, or inf")


def at_level(values: Float[Array, "*layers"], level: int) -> Float[Array, ""]:
    """The entry for layer `level` (1 = first after the input) of a time constant that may be given per layer."""
    if values.ndim == 0:
        return values
    if not 1 <= level <= values.shape[0]:
        raise PlasticodeError(f"a list has {values.shape[0]} numbers, one per layer, but layer {level} needs one too")
    return values[level - 1]
