"""Circuits: the layers, projections and laws that a learning rule wires and every compiler reads.

A **layer** is a population of neurons. What arrives at one of its ports is summed; by default neurons have an activity
z, driven by the port "forward", and error units e where something ends at the port "modulatory" (or there is a target):

    tau_prop z' = -z + f(a),            a = sum of the forward inputs
    tau_prop e' = -e + f'(a)^T c,       c = sum of the modulatory inputs (output layer: target - prediction)

Variables of its own, and other drives of these two, are `layers.Variable`. A **projection** carries a factor of its
source layer (most often a variable), after a lag, through a linear map to a port of its target layer. A projection with
a **law** is plastic; its map, a matrix W say, follows the terms of `dynamics.laws`. A bias is a projection from a layer
of one unit whose activity is always 1.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dynamics import wiring
from dynamics.errors import PlasticodeError, unknown
from dynamics.laws import Law as Law
from dynamics.laws import Outer as Outer
from dynamics.laws import Scaled as Scaled
from dynamics.laws import Term
from dynamics.laws import Trace as Trace
from dynamics.laws import TwoFactor as TwoFactor
from dynamics.layers import AbstractSource as AbstractSource
from dynamics.layers import Draw as Draw
from dynamics.layers import Layer as Layer
from dynamics.layers import Role as Role
from dynamics.layers import Variable as Variable
from dynamics.layers import Wave as Wave
from dynamics.layers import checksum, fresh
from dynamics.local import AbstractFactor as AbstractFactor
from dynamics.local import Activity as Activity
from dynamics.local import Constant as Constant
from dynamics.local import Error as Error
from dynamics.local import Input as Input
from dynamics.local import Local as Local
from dynamics.local import Negative as Negative
from dynamics.local import Prospective as Prospective
from dynamics.local import Reads, reads
from dynamics.local import Signed as Signed
from dynamics.local import Times as Times
from dynamics.local import Value as Value
from dynamics.maps import AbstractMap as AbstractMap
from dynamics.maps import Convolution as Convolution
from dynamics.maps import Dense as Dense
from dynamics.maps import Gaussian as Gaussian
from dynamics.maps import Given as Given
from dynamics.maps import Masked as Masked
from dynamics.maps import Multiplicative as Multiplicative
from dynamics.maps import OneToOne as OneToOne
from dynamics.maps import Redrawn as Redrawn
from dynamics.maps import Shared as Shared
from dynamics.maps import Theta
from dynamics.plan import Plan
from dynamics.projections import Projection as Projection
from dynamics.synapses import AbstractDependence as AbstractDependence
from dynamics.synapses import Synapse as Synapse

Weights = dict[str, Theta]  # by projection: the parameters of its map, most often a matrix (targets, sources)


class LawTerm(NamedTuple):
    """One term of the law of projection `of`: its name, and the projection whose own map it changes."""

    name: str
    of: Projection
    term: Term
    owner: Projection

    @property
    def transposed(self) -> bool:
        """Whether the projection uses the owner's map the other way round."""
        return isinstance(self.of.matrix, Shared) and self.of.matrix.transposed

    @property
    def trace(self) -> Trace | None:
        """The trace that it may have."""
        return self.term.trace if isinstance(self.term, Outer) else None

    @property
    def dependence(self) -> AbstractDependence | None:
        """How strongly it acts on each synapse, where that depends on what they have stored."""
        return self.term.dependence if isinstance(self.term, Outer) else None


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Circuit:
    """Layers and projections: all that a compiler sees of a learning rule. A wrong wiring is told in a sentence.

    `readout` is the layer whose settled activity is the network's prediction; None: the output layer, or the last.

    (A pytree, but no equinox module: at every method that is looked up equinox inspects the whole of a module, and
    compilers ask a large circuit thousands of things.)
    """

    layers: tuple[Layer, ...]
    projections: tuple[Projection, ...]
    readout: str | None = None
    plan: Plan = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        for name in ("layers", "projections"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        wiring.check(self.layers, self.projections, self.readout)
        object.__setattr__(self, "plan", Plan(self.layers, self.projections))

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """What JAX sees of it: layers and projections, and beside them what is static."""
        keys = [jax.tree_util.GetAttrKey(name) for name in ("layers", "projections")]
        return tuple(zip(keys, (self.layers, self.projections), strict=True)), (self.readout, self.plan)

    @classmethod
    def tree_unflatten(cls, static: tuple, parts: tuple) -> "Circuit":
        """The circuit of parts that JAX has changed, which are not checked again."""
        circuit = object.__new__(cls)
        for name, value in zip(("layers", "projections", "readout", "plan"), (*parts, *static), strict=True):
            object.__setattr__(circuit, name, value)
        return circuit

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        if name not in self.plan.layer:
            raise unknown("layer", name, self.plan.layer)
        return self.layers[self.plan.layer[name]]

    def projection(self, name: str) -> Projection:
        """The projection called `name`."""
        if name not in self.plan.projection:
            raise unknown("projection", name, self.plan.projection)
        return self.projections[self.plan.projection[name]]

    def shape(self, p: Projection) -> tuple[int, int]:
        """(targets, sources) of the map that `p` applies."""
        return self.layer(p.target).size, self.layer(p.source).size

    def into(self, layer: Layer, port: str) -> tuple[Projection, ...]:
        """The projections that end at `port` of `layer`."""
        return tuple(self.projections[i] for i in self.plan.into.get((layer.name, port), ()))

    def variables(self, layer: Layer) -> dict[str, Variable]:
        """The variables of `layer` that follow equations, by name: its activity and error, and its own."""
        own = self.plan.own[layer.name].items()
        return {name: wiring.DEFAULTS[name] if i is None else layer.variables[i] for name, i in own}

    def reads(self, factor: AbstractFactor, layer: Layer) -> Reads:
        """What `factor` reads of `layer`."""
        return reads(factor, self.plan.known[layer.name], type(factor).__name__)

    def owner(self, p: Projection) -> Projection:
        """The projection whose own map `p` applies: itself, or the one that it shares the map of."""
        return self.projection(p.owner)

    def map_of(self, name: str) -> AbstractMap:
        """The map that projection `name` has of its own."""
        matrix = self.projection(name).matrix
        assert isinstance(matrix, AbstractMap)
        return matrix

    @property
    def terms(self) -> tuple[LawTerm, ...]:
        """The terms of all laws. The first of a projection has its name, the next ones that with a number."""
        return tuple(self._term(i) for i in range(len(self.plan.terms)))

    def _term(self, number: int) -> LawTerm:
        name, p, i, owner = self.plan.terms[number]
        return LawTerm(name, self.projections[p], self.projections[p].law[i], self.projections[owner])

    def terms_of(self, name: str) -> tuple[LawTerm, ...]:
        """The terms that change the map of projection `name`."""
        return tuple(self._term(i) for i in self.plan.terms_of.get(name, ()))

    def maps_read(self, term: LawTerm) -> tuple[str, ...]:
        """The projections whose own maps a term pulls to or depends on."""
        return self.plan.maps_read.get(term.name, ())

    @property
    def with_errors(self) -> frozenset[str]:
        """Names of the layers that have an error."""
        return frozenset(name for name, own in self.plan.own.items() if "error" in own)

    @property
    def plastic(self) -> tuple[Projection, ...]:
        """The projections whose own map changes."""
        return tuple(self.projections[i] for i in self.plan.plastic)

    @property
    def fixed(self) -> tuple[Projection, ...]:
        """The projections with a map of their own that stays as it is."""
        return tuple(self.projections[i] for i in self.plan.fixed)

    @property
    def drawn(self) -> tuple[Projection, ...]:
        """The projections whose map is drawn anew for each presentation."""
        return tuple(self.projections[i] for i in self.plan.drawn)

    @property
    def is_local(self) -> bool:
        """Whether every synapse uses only what is at its own two ends: no map is used by a second projection, or read
        by a law of one between other layers."""
        read = [(t.of, self.projection(name)) for t in self.terms for name in self.maps_read(t)]
        elsewhere = any((p.source, p.target) != (q.source, q.target) for p, q in read)
        return not elsewhere and not any(isinstance(p.matrix, Shared) for p in self.projections)

    @property
    def has_kinks(self) -> bool:
        """Whether an activation has a kink, where errors of integration are larger, and of any sign."""
        return not all(layer.f.smooth for layer in self.layers if not layer.given)

    @property
    def jumps(self) -> bool:
        """Whether a wave jumps within presentations, where a step across has an error of the first order."""
        return any(isinstance(layer.source, Wave) and bool(layer.source.jumps) for layer in self.layers)

    def initial_weights(self, key: PRNGKeyArray) -> Weights:
        """Draws every map. Its key depends on its name, so W1 is the same under every rule for one seed."""
        return {
            p.name: p.matrix.initial(jax.random.fold_in(key, checksum(p.name)), *self.shape(p))
            for p in self.projections
            if isinstance(p.matrix, AbstractMap) and not p.matrix.is_drawn
        }

    def check_weights(self, weights: Weights) -> None:
        """Refuses weights that lack a map, or have parameters of another shape than its own."""
        for i in sorted((*self.plan.plastic, *self.plan.fixed), key=lambda i: self.projections[i].name):
            p = self.projections[i]
            name, own = p.name, self.map_of(p.name)
            if name not in weights:
                raise PlasticodeError(f"the weights have no '{name}': they must have every map that a projection owns")
            shape = self.shape(p)
            if not own.is_matrix:  # whose parameters only the map itself knows
                shape = jax.eval_shape(
                    lambda key, own=own, p=p: own.initial(key, *self.shape(p)), jax.random.key(0)
                ).shape
            if weights[name].shape != shape:
                raise PlasticodeError(
                    f"the weights have '{name}' of shape {list(weights[name].shape)}: the parameters of its "
                    f"{type(own).__name__} map must have {list(shape)}"
                )

    def initial_slow(self, dtype: jnp.dtype | None = None) -> dict[str, dict[str, Float[Array, " _size"]]]:
        """The slow variables of every layer at the start: zero."""
        slow = {}
        for layer in self.layers:
            for v in layer.variables:
                if v.slow:
                    assert v.timescale is not None
                    zeros = jnp.zeros(layer.size, dtype or v.timescale.dtype)
                    slow.setdefault(layer.name, {})[v.name] = zeros
        return slow

    def draws(self, key: PRNGKeyArray, k: Int[Array, ""]) -> dict[str, Array]:
        """What is drawn for presentation k, by layer and projection, from the key of the stream."""
        drawn = {}
        for layer in self.layers:
            if isinstance(layer.source, Draw):
                drawn[layer.name] = layer.source.drawn(key, k, layer.name, layer.size)
        for p in self.drawn:
            drawn[p.name] = self.map_of(p.name).initial(fresh(key, k, p.name), *self.shape(p))
        return drawn

    def redrawn(self, drawn: Mapping[str, Array]) -> Weights:
        """The maps that are drawn anew; zero where there is nothing in `drawn`."""
        found = {}
        for p in self.drawn:
            shape = jax.eval_shape(lambda key, p=p: self.map_of(p.name).initial(key, *self.shape(p)), jax.random.key(0))
            found[p.name] = drawn.get(p.name, jnp.zeros(shape.shape, shape.dtype))
        return found

    def matrices(self, weights: Weights) -> dict[str, Float[Array, "_targets _sources"]]:
        """The whole matrix of every map in `weights`."""
        return {name: self.map_of(name).matrix(w, self.shape(self.projection(name))[1]) for name, w in weights.items()}

    def describe(self) -> str:
        """One line per projection: what it carries from where to where, and how its map changes."""
        return "\n".join(
            f"{p.name:>8}: {p.carried_name} of {p.source} -> {p.port} port of {p.target}, {self._kind(p)}"
            for p in self.projections
        )

    def _kind(self, p: Projection) -> str:
        if isinstance(p.matrix, Shared):
            return f"{'transpose' if p.matrix.transposed else 'the map'} of {p.matrix.name}"
        if p.matrix.is_drawn:
            return "drawn anew"
        return "plastic" if self.terms_of(p.name) else "fixed"
