"""What there is to see inside a presentation, and its names.

    z1, reward     the activity of a layer; z0 is the input            z1.theta    another variable of a layer
    e1             the error of layer z1                               z1.noise    what arrives at another port of it
    a1, c1         what arrives at its ports "forward" and "modulatory"
    W1, V2         the whole matrix of a projection
    m1, p1         post- and presynaptic factor of the law of W1, as its synapses see them: late, and traced where there
                   is a trace; V2.m and V2.p those of others, W1.1.m that of the second term of a law
    W1.trace       the trace of the product m p^T, and W1.gate what opens it

What has a short name has no long one. Dimensionless, all of it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from dynamics.circuit import Circuit, LawTerm, Weights
from dynamics.errors import refused, unknown
from dynamics.field import CoupledSystem, FieldMoment, Inputs, State
from dynamics.laws import Outer
from dynamics.layers import Layer
from dynamics.moment import AbstractMoment, Product
from dynamics.projections import Projection
from dynamics.system import Look

Seen = dict[str, Array]  # by name; the last dimensions are the neurons of `View.layers`

FACTORS = {"post": "postsynaptic factor", "pre": "presynaptic factor", "gate": "gate"}
SHORT = {"error": "e", "forward": "a", "modulatory": "c", "post": "m", "pre": "p"}


class View(NamedTuple):
    """One thing to see.

    kind    "value" or "input" of a layer `of`, by the name `what` of the variable or port; a "factor" of a term `of`,
            by its field of `Product`; the "map" of a projection; the "trace" of the product of a term
    layers  whose neurons its numbers are of, one dimension each; those of a map are targets, then sources
    """

    kind: str
    of: str
    what: str
    layers: tuple[str, ...]

    @property
    def long_name(self) -> str:
        """What it is, in words."""
        if self.kind == "factor":
            return f"{FACTORS[self.what]} of {self.of}"
        if self.kind == "input":
            return f"input of layer {self.of} at port {self.what}"
        return {"value": f"{self.what} of layer {self.of}", "map": f"matrix {self.of}", "trace": f"trace of {self.of}"}[
            self.kind
        ]


class Sight(NamedTuple):
    """What is seen, by name, and of which neurons of a layer, where not of all: static, as a program depends on it."""

    views: tuple[tuple[str, View], ...]
    neurons: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @classmethod
    def of(
        cls, system: CoupledSystem, names: Sequence[str], neurons: Mapping[str, Sequence[int]], key: str = "names"
    ) -> "Sight":
        """The names in the circuit of a system; one that is not there is refused, `key` saying where it stands."""
        there = known(system)
        for name in names:
            if name not in there:
                raise unknown(f"name in {key}", name, there)
        chosen, where = [], "neurons" if key == "names" else f"{key}_neurons"
        for name, numbers in neurons.items():
            if not any(name in there[seen].layers for seen in names):
                seen = sorted({layer for one in names for layer in there[one].layers})
                raise unknown(f"layer in {where}", name, seen)
            size = system.circuit.layer(name).size
            if not numbers or len(set(numbers)) < len(numbers) or not all(0 <= number < size for number in numbers):
                told = f"layer '{name}' has {size} neurons: it must be different numbers from 0 to {size - 1}"
                raise refused(f"{where}.{name}", list(numbers), told)
            chosen.append((name, tuple(numbers)))
        return cls(tuple((name, there[name]) for name in names), tuple(chosen))

    def sizes(self, circuit: Circuit, view: View) -> tuple[int, ...]:
        """The lengths of its dimensions."""
        chosen = dict(self.neurons)
        return tuple(len(chosen[name]) if name in chosen else circuit.layer(name).size for name in view.layers)

    def cut(self, view: View, numbers: Array) -> Array:
        """The numbers of the neurons that are seen."""
        for axis, name in enumerate(reversed(view.layers), start=1):
            rows = dict(self.neurons).get(name)
            numbers = numbers if rows is None else jnp.take(numbers, jnp.asarray(rows), axis=numbers.ndim - axis)
        return numbers

    def signals(self, moment: AbstractMoment, products: Mapping[str, Product]) -> Seen:
        """All but maps and traces, at one moment or at many; `products` are those of the laws there."""
        found = {}
        for name, view in self.views:
            if view.kind == "value":
                signal = moment.value(moment.circuit.layer(view.of), view.what)
            elif view.kind == "input":
                signal = moment.input(moment.circuit.layer(view.of), view.what)
            elif view.kind == "factor":
                signal = getattr(products[view.of], view.what)
            else:
                continue
            found[name] = self.cut(view, signal)
        return found

    def matrices(self, circuit: Circuit, weights: Weights, traces: Weights) -> Seen:
        """The maps and traces among those given, or changes of them, in which both are linear."""
        found = {}
        for name, view in self.views:
            parameters = {"map": weights, "trace": traces}.get(view.kind, {})
            if view.of in parameters:
                whole = circuit.matrices({view.what: parameters[view.of]})[view.what]
                found[name] = self.cut(view, whole)
        return found

    def of_field(self, system: CoupledSystem, y: State, inputs: Inputs, look: Look) -> Seen:
        """Everything at one state of the coupled field."""
        moment = FieldMoment(system, y, inputs, look)
        products = system.factors(y, inputs, look).products
        seen = self.signals(moment, products) | self.matrices(system.circuit, system.weights(y), y.trace)
        return {name: seen[name] for name, _ in self.views}


def known(system: CoupledSystem) -> dict[str, View]:
    """All that can be seen of a system, by name."""
    circuit = system.circuit
    found: dict[str, View] = {}
    for layer in circuit.layers:
        if layer.role != "constant":
            found |= _of_layer(circuit, layer) | found
    found = {p.name: View("map", p.name, p.name, (p.target, p.source)) for p in _with_maps(circuit)} | found
    for term in circuit.terms:
        if isinstance(term.term, Outer):
            found = _of_law(term, term.name in system.products) | found
    return found


def _of_layer(circuit: Circuit, layer: Layer) -> dict[str, View]:
    """The variables and inputs of a layer."""
    variables = {name: "value" for name in ("activity", *circuit.variables(layer))}
    ports = {p.port: "input" for p in circuit.projections if p.target == layer.name}
    ports |= {"modulatory": "input"} if layer.role == "output" else {}
    short = re.fullmatch(r"z(\d+)", layer.name)
    found = {}
    for what, kind in (ports | variables).items():
        called = f"{SHORT[what]}{short[1]}" if short and what in SHORT else f"{layer.name}.{what}"
        found[layer.name if what == "activity" else called] = View(kind, layer.name, what, (layer.name,))
    return found


def _of_law(term: LawTerm, traced: bool) -> dict[str, View]:
    """The factors of an outer term, and the trace of its product."""
    ends = {"post": term.of.target, "pre": term.of.source}
    short = re.fullmatch(r"W(\d+)", term.name)
    found = {
        f"{SHORT[what]}{short[1]}" if short else f"{term.name}.{SHORT[what]}": View("factor", term.name, what, (layer,))
        for what, layer in ends.items()
    }
    if traced:
        shape = (term.owner.target, term.owner.source)
        found[f"{term.name}.trace"] = View("trace", term.name, term.owner.name, shape)
        if isinstance(term.term, Outer) and term.term.gate is not None:
            found[f"{term.name}.gate"] = View("factor", term.name, "gate", (term.of.target,))
    return found


def _with_maps(circuit: Circuit) -> tuple[Projection, ...]:
    """The projections with a map of their own that lasts."""
    return (*circuit.plastic, *circuit.fixed)
