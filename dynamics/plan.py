"""The plan of a circuit: all that follows from how it is wired, worked out once when it is made.

It holds names and numbers of layers and projections and none of their arrays, so that it is a static part of a circuit:
compilers ask it thousands of times while a large circuit is traced.
"""

from collections.abc import Mapping, Sequence

import jax

from dynamics import wiring
from dynamics.layers import Layer
from dynamics.local import Known
from dynamics.maps import AbstractMap
from dynamics.projections import Projection
from dynamics.wiring import Node


class Plan:
    """Where everything is in a circuit of `layers` and `projections`, and what depends on what.

    layer, projection   the number of each, by name
    into                the projections that end at a port, by layer and port
    own                 by layer: the variables that follow equations; None, or the number of one in `layer.variables`
    known               by layer: what a factor can read
    terms, terms_of     (name, projection, number in its law, owner) of every term of a law, and the numbers of those
                        that change a map, by its projection
    maps_read           by term: the projections whose maps it is pulled to or depends on
    order               the fast variables, each after those that it depends on
    loops, silent_loops those that depend on themselves, with errors and where they are silent
    """

    def __init__(self, layers: Sequence[Layer], projections: Sequence[Projection]):
        self._structure = jax.tree.structure((layers, projections))
        self._hash = hash(self._structure)
        self.layer = {layer.name: i for i, layer in enumerate(layers)}
        self.projection = {p.name: i for i, p in enumerate(projections)}
        self.into: dict[tuple[str, str], tuple[int, ...]] = {}
        for i, p in enumerate(projections):
            self.into[p.target, p.port] = (*self.into.get((p.target, p.port), ()), i)
        self.own = {layer.name: _own(layer, projections) for layer in layers}
        self.known: dict[str, Known] = {layer.name: wiring.known(layer, projections) for layer in layers}
        self.terms = tuple(
            (wiring.term_name(p, i), n, i, self.projection[p.owner])
            for n, p in enumerate(projections)
            for i in range(len(p.law))
        )
        self.terms_of: dict[str, tuple[int, ...]] = {}
        for i, (_, _, _, owner) in enumerate(self.terms):
            name = projections[owner].name
            self.terms_of[name] = (*self.terms_of.get(name, ()), i)
        self.maps_read: dict[str, tuple[str, ...]] = wiring.maps_read(layers, projections)
        own = [(i, p.matrix) for i, p in enumerate(projections) if isinstance(p.matrix, AbstractMap)]
        self.plastic = tuple(i for i, p in enumerate(projections) if p.name in self.terms_of)
        self.drawn = tuple(i for i, matrix in own if matrix.is_drawn)
        self.fixed = tuple(i for i, _ in own if i not in {*self.plastic, *self.drawn})
        needs = wiring.needs(layers, projections, self.known)
        self.order: tuple[Node, ...] = wiring.ordered(needs)
        self.loops: tuple[Node, ...] = wiring.on_cycles(needs)
        self.silent_loops: tuple[Node, ...] = wiring.on_cycles(_silenced(needs))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Plan) and self._structure == other._structure)


def _own(layer: Layer, projections: Sequence[Projection]) -> dict[str, int | None]:
    numbers: dict[str, int | None] = {v.name: i for i, v in enumerate(layer.variables)}
    return {name: numbers.get(name) for name in wiring.variables(layer, projections)}


def _silenced(needs: Mapping[Node, set[Node]]) -> dict[Node, set[Node]]:
    """What depends on what where errors are silent."""
    return {node: set() if node[1] == "error" else before for node, before in needs.items()}
