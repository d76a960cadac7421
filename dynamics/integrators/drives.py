"""What changes maps within a window, as few waveforms (integrators.learning), and which laws that can be said of."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import LawTerm
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem
from dynamics.laws import Scaled
from dynamics.sides import all_of, mean

Waveform = Float[Array, "_rows _n"]

OTHERS = "integrator.name must be euler, heun, tsit5 or dopri5"


class Drive(NamedTuple):
    """What one term does to its map during a window, oriented as the map is: m/E per tau_plast and p; of a term with a
    trace of its product m, p and g/E per tau_plast; of a pull r/E per tau_plast.

    `pre` is None where it is the same in every sweep, or not there.
    """

    post: Waveform
    pre: Waveform | None = None
    gate: Waveform | None = None


class Drives(NamedTuple):
    """What changes all maps during a window: by term; F by map (it has shrunk by E = exp(-F)), where sweeps change it;
    and the matrices at every node that learn and that others are pulled to."""

    of: dict[str, Drive]
    fade: dict[str, Waveform]
    moving: dict[str, Float[Array, "s targets sources"]] = {}


def fades(term: LawTerm) -> bool:
    """Whether a term scales the rows of its own map."""
    return isinstance(term.term, Scaled) and term.term.matrix is None


def root_mean_square(waveform: Waveform, sides: int = 1) -> Float[Array, ""]:
    """The root of the mean over nodes, and over sides, of |x|^2."""
    return jnp.sqrt(mean(jnp.sum(waveform * waveform), sides) / waveform.shape[0])


def largest(waveform: Waveform, sides: int) -> Float[Array, ""]:
    """The largest |x| of all sides."""
    return jnp.max(jnp.abs(all_of(waveform, sides)))


def check_windows(system: CoupledSystem) -> None:
    """Refuses laws that windows cannot follow."""
    circuit = system.circuit
    for p in circuit.plastic:
        own, terms = circuit.map_of(p.name), circuit.terms_of(p.name)
        scaled = [term for term in terms if fades(term)]
        if own.holds_norm and (scaled or own.mirror is not None or not own.is_matrix):
            what = "a row decay" if scaled else "a map that is not a plain matrix"
            raise PlasticodeError(
                f"the law of '{p.name}' clamps its norm and has {what}, and the window integrator knows either: "
                f"{OTHERS}"
            )
        if own.holds_norm and any(isinstance(t.term, Scaled) or t.name in system.products for t in terms):
            raise PlasticodeError(
                f"the law of '{p.name}' clamps its norm and is more than products of the present, which the window "
                f"integrator does not know: {OTHERS}"
            )
        if scaled and (not own.is_matrix or own.mirror is not None or any(t.transposed for t in scaled)):
            raise PlasticodeError(
                f"the law of '{p.name}' scales the rows of a map that is not a plain matrix of its own, which the "
                f"window integrator does not know: {OTHERS}"
            )
    for term in circuit.terms:
        other = term.term.matrix if isinstance(term.term, Scaled) else None
        if other is None:
            continue
        if circuit.map_of(term.owner.name).mirror is not None or term.transposed:
            raise PlasticodeError(
                f"matrix '{term.owner.name}' is pulled to '{other}' in another geometry, which the window integrator "
                f"does not know: {OTHERS}"
            )
