"""What changes maps within a window, as few waveforms (integrators.learning), and which laws that can be said of."""

from collections.abc import Hashable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, LawTerm, Weights
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem
from dynamics.laws import Scaled
from dynamics.maps import Shared, Theta
from dynamics.sides import all_of, mean
from dynamics.synapses import Synapse
from dynamics.timescales import at_level

Waveform = Float[Array, "_rows _n"]
Name = TypeVar("Name", bound=Hashable)

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
    and the maps at every node that learn and that laws read."""

    of: dict[str, Drive]
    fade: dict[str, Waveform]
    moving: dict[str, Float[Array, "s targets sources"]] = {}


def fades(term: LawTerm) -> bool:
    """Whether a term scales the rows of its own map."""
    return isinstance(term.term, Scaled) and term.term.matrix is None


def root_mean_square(waveform: Waveform, sides: int = 1) -> Float[Array, ""]:
    """The root of the mean over nodes, and over sides, of |x|^2."""
    return jnp.sqrt(mean(jnp.sum(waveform * waveform), sides) / waveform.shape[0])


def sizes(
    pairs: dict[Name, tuple[Waveform, Waveform]], sides: int
) -> dict[Name, tuple[Float[Array, ""], Float[Array, ""]]]:
    """`root_mean_square` of x and of x - y, for every pair of waveforms x and y.

    In few kernels, whatever the number of pairs: the squares of both are summed over nodes in one pass, which goes
    along rows, and those of all pairs over neurons by one product.
    """
    if not pairs:
        return {}
    zero = jnp.zeros((), next(iter(pairs.values()))[0].dtype)
    columns = [of for x, y in pairs.values() for of in jax.lax.reduce((x * x, (x - y) ** 2), (zero, zero), _both, (0,))]
    rows, widths = zip(*(x.shape for x, _ in pairs.values() for _ in range(2)), strict=True)
    means = jnp.asarray(np.repeat(np.diag(1 / np.asarray(rows)), widths, axis=0), zero.dtype)
    # The barrier: the compiler would make as many products of it as there are columns.
    roots = jnp.sqrt(mean(jax.lax.optimization_barrier(jnp.concatenate(columns)) @ means, sides))
    return {name: (roots[2 * i], roots[2 * i + 1]) for i, name in enumerate(pairs)}


def _both(left: tuple[Array, Array], right: tuple[Array, Array]) -> tuple[Array, Array]:
    return left[0] + right[0], left[1] + right[1]


def largest(waveform: Waveform, sides: int) -> Float[Array, ""]:
    """The largest |x| of all sides."""
    return jnp.max(jnp.abs(all_of(waveform, sides)))


def strengths(circuit: Circuit, term: LawTerm, drives: Drives, weights: Weights, nodes: int) -> Theta | float:
    """How strongly a term acts on each synapse at every node, where that depends on what they have stored; `weights`
    are all maps at the start."""
    dependence = term.dependence
    if dependence is None:
        return 1.0
    read = [(name, weights[name]) for name in circuit.maps_read(term)]
    at = {name: jnp.broadcast_to(drives.moving.get(name, w), (nodes, *w.shape)) for name, w in read}
    return jax.vmap(lambda stored: dependence(Synapse(stored[term.owner.name], stored)))(at)


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
        more = [t for t in terms if isinstance(t.term, Scaled) or t.name in system.products or t.dependence is not None]
        if own.holds_norm and more:
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


def still_fades(system: CoupledSystem, integrals: Float[Array, "s s"]) -> dict[str, Waveform]:
    """F of the maps that do nothing besides learning but decay with tau_dec."""
    circuit, decay, found = system.circuit, system.timescales.decay, {}
    if decay is None:
        return found
    for p in circuit.plastic:
        own = circuit.map_of(p.name)
        if own.decays and not own.holds_norm and not any(map(fades, circuit.terms_of(p.name))):
            found[p.name] = jnp.sum(integrals, axis=1, keepdims=True) / at_level(decay, p.level)
    return found


# Rows of a matrix that fill a register. Products with a transpose of fewer columns take three times as long as those
# with the matrix itself (10 outputs: 12 and 4 us for 8 configurations of 128 neurons).
WIDE = 16


def turned(circuit: Circuit, weights: Weights) -> Weights:
    """The transposes of those of `weights` that are matrices of several rows which a projection applies forward.

    Made once for all sweeps of a window (of fixed ones: of a run), which would otherwise each turn them to multiply the
    rows of a waveform.
    """
    forward = {p.owner for p in circuit.projections if not (isinstance(p.matrix, Shared) and p.matrix.transposed)}
    plain = [name for name in weights if name in forward and circuit.map_of(name).is_matrix]
    return transposes({name: weights[name] for name in plain if weights[name].shape[0] >= WIDE})


def transposes(weights: Weights) -> Weights:
    """Those of all; the barrier keeps the compiler from making them again where they are used."""
    return {name: jax.lax.optimization_barrier(w.T) for name, w in weights.items()}
