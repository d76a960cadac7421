"""What follows from how layers and projections are wired: variables, what depends on what at once, and what is refused.

Functions of layers and projections, and not of a circuit, as they are used while one is made.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import jax
import jax.numpy as jnp

from dynamics.activations import activation
from dynamics.errors import PlasticodeError, shown, unknown
from dynamics.laws import Outer, Scaled, Trace
from dynamics.layers import AbstractSource, Draw, Layer, Role, Variable, Wave, checksum
from dynamics.local import AbstractFactor, Known, Modulated, Reads, Transfer, reads
from dynamics.maps import AbstractMap, Gaussian, Shared
from dynamics.projections import Projection
from dynamics.synapses import others_read

Node = tuple[str, str]  # (layer, variable)
Projections = Sequence[Projection]

# What compilers call the signals and lags of the task beside those of projections.
RESERVED = ("error", "hop", "input", "stimulus", "target")


def untaught() -> PlasticodeError:
    """The sentence about a rule that needs an error where there is none."""
    return PlasticodeError(
        "this rule learns from an error, but the task is unsupervised and gives no target: the rule must be one that "
        "needs no error, such as hebbian, oja or bcm"
    )


DEFAULTS = {"activity": Variable("activity", Transfer()), "error": Variable("error", Modulated())}


def variables(layer: Layer, projections: Projections) -> dict[str, Variable]:
    """The variables of `layer` that follow equations, by name: its activity and error, and its own."""
    found = {}
    if not layer.given:
        found["activity"] = DEFAULTS["activity"]
        modulated = any(p.target == layer.name and p.port == "modulatory" for p in projections)
        if layer.role == "output" or modulated:
            found["error"] = DEFAULTS["error"]
    return found | {v.name: v for v in layer.variables}


def known(layer: Layer, projections: Projections) -> Known:
    """What a factor can read of `layer`."""
    own = tuple(variables(layer, projections))
    ports = {p.port for p in projections if p.target == layer.name} | {"forward", "modulatory"}
    values = own if "activity" in own else ("activity", *own)
    return Known(layer.name, layer.size, tuple(sorted(ports)), values, own, activation(layer.activation))


def factors(layers: Sequence[Layer], projections: Projections) -> Iterator[tuple[AbstractFactor, str, str]]:
    """Every factor there is, the name of the layer that it is a function of, and what a sentence calls it."""
    for layer in layers:
        for v in layer.variables:
            yield v.of, layer.name, f"variable '{v.name}'"
    for p in projections:
        yield p.carries, p.source, f"projection '{p.name}'"
        for term in p.law:
            if isinstance(term, Scaled):
                yield term.rate, p.target, f"the law of '{p.name}'"
                continue
            yield term.post, p.target, f"the law of '{p.name}'"
            if term.gate is not None:
                yield term.gate, p.target, f"the law of '{p.name}'"
            if term.pre is not None:
                yield term.pre, p.source, f"the law of '{p.name}'"


def needs(layers: Sequence[Layer], projections: Projections, knowns: Mapping[str, Known]) -> dict[Node, set[Node]]:
    """The fast variables, and which others each depends on at once; `knowns` says what there is in each layer.

    A loop that no variable filters is refused: nothing says what its signals are.
    """
    by_name = {layer.name: layer for layer in layers}
    own = {layer.name: variables(layer, projections) for layer in layers}
    fast = {(name, v.name) for name, found in own.items() for v in found.values() if not v.slow}
    into: dict[tuple[str, str], list[Projection]] = {}
    for p in projections:
        into.setdefault((p.target, p.port), []).append(p)
    made: dict[str, set[Node]] = {}
    begun: list[str] = []

    def once(what: str, factor: AbstractFactor, layer: Layer) -> set[Node]:
        if what in begun:
            loop = " and ".join(sorted(set(begun[begun.index(what) :])))
            raise PlasticodeError(
                f"the circuit has a loop through {loop} that no variable filters: what goes round must be the value of "
                "a variable somewhere"
            )
        if what not in made:
            begun.append(what)
            made[what] = reached(reads(factor, knowns[layer.name], type(factor).__name__), layer)
            begun.pop()
        return made[what]

    def reached(read: Reads, layer: Layer) -> set[Node]:
        found = {(layer.name, v) for v in read.values} & fast
        for v in read.drives:
            found |= drive(layer, v)
        if "modulatory" in read.inputs and layer.role == "output":
            found |= {(layer.name, "activity")}
        for port in read.inputs:
            for p in into.get((layer.name, port), []):
                found |= once(f"projection '{p.name}'", p.carries, by_name[p.source])
        return found

    def drive(layer: Layer, name: str) -> set[Node]:
        return once(f"the drive of '{name}' of layer '{layer.name}'", own[layer.name][name].of, layer)

    return {(name, v): drive(by_name[name], v) for name in by_name for v in own[name] if (name, v) in fast}


def term_name(p: Projection, number: int) -> str:
    """What a term of the law of `p` is called: the first as the projection, the next ones with a number."""
    return f"{p.name}.{number}" if number else p.name


def maps_read(layers: Sequence[Layer], projections: Projections) -> dict[str, tuple[str, ...]]:
    """By term that is pulled to a map or depends on what synapses have stored (there the own one comes first): the
    projections of these maps."""
    terms = [(term_name(p, i), p.owner, term) for p in projections for i, term in enumerate(p.law)]
    found = {name: (t.matrix,) for name, _, t in terms if isinstance(t, Scaled) and t.matrix is not None}
    outer = [(name, owner, t.dependence) for name, owner, t in terms if isinstance(t, Outer)]
    depending = [(name, owner, dependence) for name, owner, dependence in outer if dependence is not None]
    if not depending:
        return found
    sizes, key, shapes = {layer.name: layer.size for layer in layers}, jax.random.key(0), {}
    lasting = [(p, p.matrix) for p in projections if isinstance(p.matrix, AbstractMap) and not p.matrix.is_drawn]
    with jax.numpy_dtype_promotion("standard"):
        for p, own in lasting:
            ends = sizes[p.target], sizes[p.source]
            shapes[p.name] = jax.eval_shape(lambda key, own=own, ends=ends: own.initial(key, *ends), key)
    return found | {name: (owner, *others_read(of, owner, shapes)) for name, owner, of in depending}


def ordered(needs: Mapping[Node, set[Node]]) -> tuple[Node, ...]:
    """The variables in an order in which each depends only on earlier ones; a cycle is entered at an activity."""
    order: list[Node] = []
    while len(order) < len(needs):
        left = [node for node in needs if node not in order]
        ready = [node for node in left if needs[node] <= set(order)]
        order += ready or [min(left, key=lambda node: node[1] == "error")]
    return tuple(order)


def on_cycles(needs: Mapping[Node, set[Node]]) -> tuple[Node, ...]:
    """The variables that depend, through others, on themselves."""

    def reached(start: Node) -> set[Node]:
        found, front = set(), set(needs[start])
        while front:
            found |= front
            front = {before for node in front for before in needs[node]} - found
        return found

    return tuple(node for node in needs if node in reached(node))


def check(layers: Sequence[Layer], projections: Projections, readout: str | None) -> None:
    """Refuses what does not fit together, but for loops (`needs`)."""
    _check_names(layers, projections)
    sizes = {layer.name: layer.size for layer in layers}
    for layer in layers:
        _check_layer(layer)
    for name in (end for p in projections for end in (p.source, p.target)):
        if name not in sizes:
            raise unknown("layer", name, sizes)
    if readout is not None and readout not in sizes:
        raise unknown("the readout", readout, sizes)
    by_name = {p.name: p for p in projections}
    for p in projections:
        _check_map(p, sizes, by_name)
        _check_law(p, sizes, by_name)
    _check_factors(layers, projections)


def _check_names(layers: Sequence[Layer], projections: Projections) -> None:
    """Refuses names that would meet in one place: of two things, of the task's signals, or with equal draws."""
    names = [layer.name for layer in layers] + [p.name for p in projections]
    for name, count in Counter(names).items():
        if count > 1:
            raise PlasticodeError(f"the name '{name}' is used twice in a circuit: names must be unique")
    for p in projections:
        if p.name in RESERVED:
            raise PlasticodeError(
                f"a projection is called '{p.name}', which is a name of the task's own signals and lags: any name "
                f"but {', '.join(RESERVED)} is allowed"
            )
    draws: dict[int, str] = {}
    for name in names:
        other = draws.setdefault(checksum(name), name)
        if other != name:
            raise PlasticodeError(
                f"'{other}' and '{name}' would draw the same random numbers, as these names have the same "
                "checksum: one of them must be another"
            )


def _check_layer(layer: Layer) -> None:
    activation(layer.activation)
    if layer.size < 1:
        raise PlasticodeError(f"layer '{layer.name}' has {layer.size} neurons: it must have at least 1")
    if layer.role not in get_args(Role):
        raise unknown(f"role of layer '{layer.name}'", layer.role, get_args(Role))
    if layer.source is not None:
        _check_source(layer, layer.source)
    for name, count in Counter(v.name for v in layer.variables).items():
        if count > 1:
            raise PlasticodeError(f"layer '{layer.name}' has two variables '{name}': one is allowed")
        if name == "activity" and layer.given:
            raise PlasticodeError(
                f"layer '{layer.name}' has a variable 'activity', which is given to it from outside: it must have "
                "another name"
            )
    for v in layer.variables:
        if v.slow and v.name in DEFAULTS:
            raise PlasticodeError(f"'{v.name}' of layer '{layer.name}' is slow: a slow variable must have another name")
        if v.slow and v.timescale is None:
            raise PlasticodeError(
                f"the slow variable '{v.name}' of layer '{layer.name}' has no timescale: it must have one of its own"
            )
        shape = () if v.timescale is None else v.timescale.shape
        if shape not in ((), (layer.size,)):
            raise PlasticodeError(
                f"the timescale of '{v.name}' of layer '{layer.name}' has shape {list(shape)}: it must be one number, "
                f"or {layer.size}, one per neuron"
            )


def _check_source(layer: Layer, source: object) -> None:
    """Refuses what gives no activity to a layer."""
    if not isinstance(source, AbstractSource):
        raise PlasticodeError(f"the source of layer '{layer.name}' is {shown(source)}: it must be Draw or Wave")
    if layer.role != "hidden":
        raise PlasticodeError(
            f"layer '{layer.name}' has the role '{layer.role}' and a source: a source takes the place of a role"
        )
    if isinstance(source, Draw) and jnp.shape(source.std) != ():
        raise PlasticodeError(
            f"layer '{layer.name}' draws with a std of shape {list(jnp.shape(source.std))}: it must be one number"
        )
    if isinstance(source, Wave):
        with jax.numpy_dtype_promotion("standard"):
            made = getattr(jax.eval_shape(source.of, jnp.zeros(())), "shape", None)
        if made != (layer.size,):
            what = "no array" if made is None else f"an array of shape {list(made)}"
            raise PlasticodeError(
                f"the wave of layer '{layer.name}' makes {what}: it must have one number for each of its {layer.size} "
                "neurons"
            )


def _check_map(p: Projection, sizes: Mapping[str, int], projections: Mapping[str, Projection]) -> None:
    """Refuses a map that does not fit its layers, or shares what cannot be shared."""
    own = p.matrix
    if not isinstance(own, AbstractMap | Shared):
        raise PlasticodeError(
            f"projection '{p.name}' has the matrix {shown(own)}: it must be a map, such as Gaussian(1.0), "
            "Given(matrix) or Shared(name)"
        )
    if isinstance(own, AbstractMap):
        if not (own.is_matrix and isinstance(getattr(own, "start", None), Gaussian)):  # which fits whatever it joins
            with jax.numpy_dtype_promotion("standard"):  # a map itself tells sizes that do not fit
                jax.eval_shape(lambda key: own.initial(key, sizes[p.target], sizes[p.source]), jax.random.key(0))
        if own.is_drawn and p.law:
            raise PlasticodeError(f"projection '{p.name}' is drawn anew for each presentation: it has no law")
        return
    if own.name not in projections:
        raise unknown("projection", own.name, projections)
    owner = projections[own.name]
    if not isinstance(owner.matrix, AbstractMap):
        raise PlasticodeError(
            f"projection '{p.name}' shares the map of '{owner.name}', which has none of its own: it must name the "
            "projection that has"
        )
    if owner.matrix.is_drawn and p.law:
        raise PlasticodeError(
            f"projection '{p.name}' shares the map of '{owner.name}', which is drawn anew for each presentation: it "
            "has no law"
        )
    shape, other = (sizes[p.target], sizes[p.source]), (sizes[owner.target], sizes[owner.source])
    if shape != (other[::-1] if own.transposed else other):
        what = f"the transpose of '{owner.name}'" if own.transposed else f"that of '{owner.name}'"
        raise PlasticodeError(
            f"projection '{p.name}' needs a matrix of shape {shape}, but {what} has "
            f"{other[::-1] if own.transposed else other}"
        )


def _check_law(p: Projection, sizes: Mapping[str, int], projections: Mapping[str, Projection]) -> None:
    transposed = isinstance(p.matrix, Shared) and p.matrix.transposed
    for name, number in (("lag", p.lag), ("gain", getattr(p.matrix, "gain", None))):
        if number is not None and jnp.shape(number) != ():
            raise PlasticodeError(
                f"the {name} of projection '{p.name}' has shape {list(jnp.shape(number))}: it must be one number"
            )
    for term in p.law:
        if not isinstance(term, Outer | Scaled):
            raise PlasticodeError(
                f"the law of '{p.name}' has the term {shown(term)}: it must be made of Outer and Scaled, or TwoFactor"
            )
        if isinstance(term, Outer):
            _check_trace(p, term.trace)
            if term.trace.of == "product" and transposed:
                raise PlasticodeError(
                    f"the law of '{p.name}' has a trace of its product, but '{p.name}' uses a map transposed: the law "
                    "must be that of the projection which owns the map"
                )
            if term.trace.slow and (term.trace.of != "product" or term.trace.timescale is None):
                raise PlasticodeError(
                    f"the law of '{p.name}' has a slow trace of '{term.trace.of}': a slow trace must be of the "
                    "product, and have a timescale"
                )
            continue
        if term.matrix is not None:
            _check_pull(p, term.matrix, sizes, projections)


def _check_trace(p: Projection, trace: Trace) -> None:
    if trace.of not in ("pre", "post", "product"):
        raise unknown(f"trace in the law of '{p.name}', of", trace.of, ("pre", "post", "product"))
    if trace.timescale is not None and jnp.shape(trace.timescale) != ():
        shape = list(jnp.shape(trace.timescale))
        raise PlasticodeError(
            f"the trace in the law of '{p.name}' has a timescale of shape {shape}: it must be one number"
        )


def _check_pull(p: Projection, name: str, sizes: Mapping[str, int], projections: Mapping[str, Projection]) -> None:
    """Refuses a law whose matrix is pulled to one that does not fit."""
    if name not in projections:
        raise unknown(f"projection, which the law of '{p.name}' names,", name, projections)
    maps = [q.matrix for q in (p, projections[name])]
    if not all(isinstance(m, AbstractMap) and m.is_matrix for m in maps):
        raise PlasticodeError(
            f"the law of '{p.name}' has a term with the matrix of '{name}': both must have a dense matrix of their own"
        )
    ends = [(sizes[q.target], sizes[q.source]) for q in (p, projections[name])]
    if ends[0] != ends[1]:
        raise PlasticodeError(
            f"the law of '{p.name}' has a term with the matrix of '{name}', of shape {list(ends[1])}: it must be "
            f"{list(ends[0])}"
        )


def _check_factors(layers: Sequence[Layer], projections: Projections) -> None:
    """Refuses factors that read what is not there."""
    knowns = {layer.name: known(layer, projections) for layer in layers}
    erring = {name for name, there in knowns.items() if "error" in there.drives}
    taught = any(layer.role in ("output", "target") for layer in layers)
    for factor, name, what in factors(layers, projections):
        if name not in erring and _reads_error(factor, knowns[name], what):
            if not taught:
                raise untaught()
            verb = "reads an error" if what.startswith("the law") else f"carries or reads the error of '{name}'"
            raise PlasticodeError(f"{what} {verb}, but nothing modulates layer '{name}'")
        reads(factor, knowns[name], what)


def _reads_error(factor: AbstractFactor, there: Known, what: str) -> bool:
    """Whether a factor reads an error, of a layer that has none."""
    there = there._replace(values=(*there.values, "error"), drives=(*there.drives, "error"))
    read = reads(factor, there, what)
    return "error" in (*read.values, *read.drives)
