"""One moment of a circuit: what every compiler works out the same way, each signal once, when something reads it.

A compiler says what the values of variables are, what is late, and how a map is applied; inputs, drives, what
projections carry and the factors of laws follow.
"""

import abc
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from dynamics.circuit import Circuit, LawTerm
from dynamics.laws import Outer
from dynamics.layers import Layer
from dynamics.local import AbstractFactor, Local
from dynamics.projections import Projection

Signal = Float[Array, "*rows _n"]


class Product(NamedTuple):
    """m and p of an outer term: for one moment, shapes (targets,), (sources,), or a batch of them. The gate is part of
    m, unless a trace of the product comes between."""

    post: Float[Array, "*batch targets"]
    pre: Float[Array, "*batch sources"]
    gate: Float[Array, "*batch targets"] | None = None


class Factors(NamedTuple):
    """m and p of all outer terms, r of all scaled ones, by name of the term; for one moment, or batches of them."""

    products: dict[str, Product]
    rates: dict[str, Float[Array, "*batch _targets"]]


class AbstractMoment(abc.ABC):
    """Signals of a circuit at one moment (a compiler's may be at many moments at once, with rows in front)."""

    def __init__(self, circuit: Circuit):
        self.circuit = circuit
        self._made: dict[Any, Signal] = {}

    @abc.abstractmethod
    def value(self, layer: Layer, variable: str) -> Signal:
        """A variable, or the activity of a layer that it is given to."""

    @abc.abstractmethod
    def through(self, p: Projection, signal: Signal) -> Signal:
        """What the map of `p` makes of a signal."""

    @abc.abstractmethod
    def taught(self, layer: Layer) -> Signal:
        """target - prediction, as it reaches the error units of an output layer."""

    def late(self, p: Projection, name: str, factor: AbstractFactor, signal: Signal) -> Signal:
        """A signal of the source of `p` as its target sees it, after the lag; `name` is that of the signal."""
        return signal

    def called(self, factor: AbstractFactor, local: Local, layer: Layer) -> Signal:
        """A factor of what it reads."""
        return factor(local)

    def once(self, key: Any, make: Callable[[], Signal]) -> Signal:
        """The signal called `key`, which is made when it is first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def input(self, layer: Layer, port: str) -> Signal:
        """What arrives at a port: the sum over its projections, and the error of an output layer."""
        return self.once(("input", layer.name, port), lambda: self._input(layer, port))

    def _input(self, layer: Layer, port: str) -> Signal:
        terms = [self.through(p, self.carried(p)) for p in self.circuit.into(layer, port)]
        if port == "modulatory" and layer.role == "output":
            terms.append(self.taught(layer))
        return sum(terms[1:], terms[0]) if terms else self.silent(layer)

    @abc.abstractmethod
    def silent(self, layer: Layer) -> Signal:
        """Nothing."""

    def drive(self, layer: Layer, variable: str) -> Signal:
        """What a variable relaxes to."""
        of = self.circuit.variables(layer)[variable].of
        return self.once(("drive", layer.name, variable), lambda: self.of(of, layer))

    def of(self, factor: AbstractFactor, layer: Layer) -> Signal:
        """A factor of the local variables of a layer."""
        read = self.circuit.reads(factor, layer)
        inputs = {port: self.input(layer, port) for port in read.inputs}
        values = {name: self.value(layer, name) for name in read.values}
        drives = {name: self.drive(layer, name) for name in read.drives}
        return self.called(factor, Local(inputs, values, drives, layer.f), layer)

    def carried(self, p: Projection) -> Signal:
        """What `p` delivers."""
        return self.once(("carried", p.name), lambda: self._delivered(p, p.name, p.carries))

    def _delivered(self, p: Projection, name: str, factor: AbstractFactor) -> Signal:
        return self.late(p, name, factor, self.of(factor, self.circuit.layer(p.source)))

    def pre(self, term: LawTerm) -> Signal:
        """p of an outer term."""
        assert isinstance(term.term, Outer)
        factor = term.term.pre
        if factor is None:
            return self.carried(term.of)
        return self.once(("pre", term.name), lambda: self._delivered(term.of, pre_name(term), factor))

    def factors(self, held: Collection[str] = (), terms: Collection[LawTerm] | None = None) -> Factors:
        """The factors of all terms (or of these); those in `held` have a trace of their product, a state of its own."""
        found = Factors({}, {})
        for term in self.circuit.terms if terms is None else terms:
            target, law = self.circuit.layer(term.of.target), term.term
            if isinstance(law, Outer):
                post, gate = self.of(law.post, target), None if law.gate is None else self.of(law.gate, target)
                if gate is not None and term.name not in held:
                    post, gate = gate * post, None
                found.products[term.name] = Product(post, self.pre(term), gate)
            else:
                found.rates[term.name] = self.of(law.rate, target)
        return found

    def pass_everything(self) -> None:
        """Makes what every projection delivers, and what the task gives, whether something reads it or not."""
        for p in self.circuit.projections:
            self.carried(p)
        for layer in self.circuit.layers:
            if layer.role == "input":
                self.value(layer, "activity")
            if layer.role == "output":
                self.input(layer, "modulatory")

    def local(self, layer: Layer) -> Local:
        """All inputs and values of a layer."""
        ports = {p.port for p in self.circuit.projections if p.target == layer.name} | {"forward"}
        inputs = {port: self.input(layer, port) for port in sorted(ports)}
        own = self.circuit.variables(layer)
        values = {name: self.value(layer, name) for name in ("activity", *own)}
        return Local(inputs, values, {}, layer.f)


def pre_name(term: LawTerm) -> str:
    """The name of the lagged signal that is the p of a term."""
    return f"{term.name}.pre"
