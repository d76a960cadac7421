"""The coupled field of a circuit: activities, errors and weights evolve together, nothing is phased.

    tau_prop z' = -z + f(a)             tau_prop e' = -e + f'(a) * c            W' from the laws (dynamics.circuit)

Source of the model: bibtex bacvanski2025continuous (arXiv 2510.18808).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, LawTerm, Weights
from dynamics.delays import Delays, chain_drift, chain_output
from dynamics.errors import PlasticodeError
from dynamics.interpolation import Moving
from dynamics.kinks import earlier_side
from dynamics.laws import Outer
from dynamics.layers import Draw, Layer, Variable, Wave
from dynamics.local import AbstractFactor, variable_of
from dynamics.moment import AbstractMoment, Factors, Signal, pre_name
from dynamics.noise import Noise, brownian_increments
from dynamics.plasticity import (
    Slow,
    applied,
    output_error,
    product,
    slow_drifts,
    slow_drives,
    trace_timescale,
    weight_drifts,
)
from dynamics.projections import Projection
from dynamics.sides import all_of, mean, own_key
from dynamics.stimulus import Clock
from dynamics.system import AbstractSystem, Look
from dynamics.timescales import Timescales, at_level

Signals = dict[str, Float[Array, " _n"]]  # by layer
Key = tuple[str, str]  # (layer, variable), or (the name of a signal, "signal")
Sources = dict[Key, Float[Array, " _n"]]


class Inputs(NamedTuple):
    """What the outside gives during one step: stimulus x, target y (both 0 in a gap) and the fraction `on` of y.

    given   by layer: the target that layers are given, without the lag of an error, and what is drawn for layers; by
            projection: maps that are drawn
    time    in seconds from the start of the presentation, at the start of the step
    course  how the stimulus moves, in seconds, where no step is given its mean
    """

    stimulus: Float[Array, " inputs"]
    target: Float[Array, " outputs"]
    on: Float[Array, ""]
    given: Mapping[str, Array] = {}
    time: Float[Array, ""] | None = None
    course: Moving | None = None


class State(eqx.Module):
    """Everything that evolves: fast variables by name and layer, slow ones by layer and name; by projection plastic
    maps and the filter chains of gamma-distributed lags; by term of a law its trace.

    `path` has the Ornstein-Uhlenbeck part of every noisy activity and error, by variable and layer: they contain it.
    The window integrator draws its paths itself, and has none here.
    """

    fast: dict[str, Signals]
    weights: Weights
    slow: Slow
    trace: dict[str, Array]
    chain: dict[str, Float[Array, "stages n"]]
    path: dict[str, Signals] = eqx.field(default_factory=dict)

    def has(self, key: Key) -> bool:
        """Whether it has the fast variable (layer, variable)."""
        return key[0] in self.fast.get(key[1], {})

    @property
    def activity(self) -> dict:
        """z by layer."""
        return self.fast["activity"]

    @property
    def error(self) -> dict:
        """e by layer."""
        return self.fast["error"]


class FieldMoment(AbstractMoment):
    """A circuit at one state of the coupled field. It collects the drifts of the filter chains that it passes."""

    def __init__(self, system: "CoupledSystem", y: State, inputs: Inputs, look: Look | None):
        super().__init__(system.circuit)
        self.system, self.y, self.inputs, self.look = system, y, inputs, look
        self.weights = {**system.weights(y), **system.circuit.redrawn(inputs.given)}
        self.chain: dict[str, Array] = {}

    def value(self, layer: Layer, variable: str) -> Signal:
        if variable == "activity" and layer.given:
            return self.once(("given", layer.name), lambda: self._given(layer))
        slow = self.y.slow.get(layer.name, {})
        return slow[variable] if variable in slow else self.y.fast[variable][layer.name]

    def _given(self, layer: Layer) -> Signal:
        if isinstance(layer.source, Wave):
            return layer.source.of(self._time())
        if layer.role == "target" or isinstance(layer.source, Draw):
            return self.inputs.given[layer.name]
        if layer.role == "constant":
            return layer.constant(self.inputs.stimulus.dtype)
        if self.inputs.course is not None:
            return self.inputs.course.at(self._time())[0]
        lag = self.system.delays.input
        if self.system.gamma and lag is not None:
            return self._chained("input", self.inputs.stimulus, lag)
        return self.inputs.stimulus

    def _time(self) -> Float[Array, ""]:
        """In seconds from the start of the presentation."""
        assert self.inputs.time is not None
        return self.inputs.time if self.look is None else self.inputs.time + self.look.time

    def through(self, p: Projection, signal: Signal) -> Signal:
        return applied(self.circuit, p, self.weights, signal)

    def silent(self, layer: Layer) -> Signal:
        return jnp.zeros(layer.size, self.inputs.stimulus.dtype)

    def late(self, p: Projection, name: str, factor: AbstractFactor, signal: Signal) -> Signal:
        lag = self.system.lag(p)
        if lag is None:
            return signal
        if self.system.gamma:
            return self._chained(name, signal, lag)
        # What is held is constant within a step: shifting it stepwise keeps its integral exact.
        held = self.circuit.layer(p.source).held and variable_of(factor) == "activity"
        return self._looked_up(key_of(p, name, factor), signal, lag, stepwise=held)

    def taught(self, layer: Layer) -> Signal:
        """The target in `inputs` is late already."""
        activity, lag = self.y.activity[layer.name], self.system.delays.error
        if lag is not None and not self.system.gamma:
            activity = self._looked_up((layer.name, "activity"), activity, lag)
        c = output_error(layer, self.inputs.target, activity, self.inputs.on)
        return c if lag is None or not self.system.gamma else self._chained("error", c, lag)

    def _chained(self, name: str, signal: Signal, lag: Float[Array, ""]) -> Signal:
        """A signal after the filters of a gamma-distributed lag, which follow it within a step while the lag is 0: a
        later phase may have a longer one."""
        stages = self.y.chain[name]
        self.chain[name] = jnp.where(
            lag > 0, chain_drift(stages, signal, lag), (signal[None] - stages) / self.system.dt
        )
        return chain_output(stages, signal, lag)

    def _looked_up(self, key: Key, signal: Signal, lag: Float[Array, ""], stepwise: bool = False) -> Signal:
        """A signal a constant lag ago."""
        assert self.look is not None
        return self.look(key, signal, lag, stepwise=stepwise, side=earlier_side(self.system.clock.gap, lag))


def key_of(p: Projection, name: str, factor: AbstractFactor) -> Key:
    """What the past of a lagged signal is called: by layer and variable, so that what is one has one past."""
    variable = variable_of(factor)
    return (name, "signal") if variable is None else (p.source, variable)


class CoupledSystem(AbstractSystem):
    """The coupled field of a circuit, or of one of its `sides` (dynamics.sides). `fixed` are the maps that do not
    change."""

    circuit: Circuit
    timescales: Timescales
    clock: Clock
    delays: Delays
    noise: Noise
    fixed: Weights
    sides: int = eqx.field(static=True, default=1)

    @property
    def dt(self) -> Float[Array, ""]:
        return self.clock.dt

    def weights(self, state: State) -> Weights:
        """All maps, plastic and fixed."""
        return {**self.fixed, **state.weights}

    def initial_state(self, weights: Weights) -> State:
        """Silent activities and errors with the given maps."""
        dtype, circuit = self.dt.dtype, self.circuit
        fast: dict[str, Signals] = {"activity": {}, "error": {}}
        for layer in circuit.layers:
            for v in circuit.variables(layer).values():
                if not v.slow:
                    fast.setdefault(v.name, {})[layer.name] = jnp.zeros(layer.size, dtype)
        slow = circuit.initial_slow(dtype)
        plastic = {p.name: weights[p.name] for p in circuit.plastic}
        traces = {t.name: self._trace_at_start(t, weights) for t in circuit.terms if self.traced(t) is not None}
        sizes = {name: circuit.layer(p.source).size for p, name, _ in self.lagged()}
        for layer in circuit.layers:
            if layer.role in ("input", "output"):
                sizes["input" if layer.role == "input" else "error"] = layer.size
        names = self.lags() if self.gamma else ()
        chain = {name: jnp.zeros((self.delays.stages, sizes[name]), dtype) for name in names}
        return State(fast, plastic, slow, traces, chain)

    def with_paths(self, state: State) -> State:
        """The silent state with the paths of its noise, which begin at 0."""
        noisy = {variable: state.fast[variable] for variable in self.noise.fluctuations}
        return dataclasses.replace(state, path=jax.tree.map(jnp.zeros_like, noisy))

    def _trace_at_start(self, term: LawTerm, weights: Weights) -> Array:
        assert term.trace is not None
        if term.trace.of == "product":
            return jnp.zeros_like(weights[term.owner.name])
        end = term.of.source if term.trace.of == "pre" else term.of.target
        return jnp.zeros(self.circuit.layer(end).size, self.dt.dtype)

    @property
    def gamma(self) -> bool:
        return self.delays.stages > 0

    def lag(self, p: Projection) -> Float[Array, ""] | None:
        """The lag of `p`; None without, as of what is constant."""
        if self.circuit.layer(p.source).role == "constant":
            return None
        return self.delays.hop if p.lag is None else p.lag

    def lagged(self) -> list[tuple[Projection, str, AbstractFactor]]:
        """Every signal that a projection delivers late: the projection, the signal's name, what it is of the source."""
        late = [(p, p.name, p.carries) for p in self.circuit.projections]
        late += [
            (t.of, pre_name(t), t.term.pre)
            for t in self.circuit.terms
            if isinstance(t.term, Outer) and t.term.pre is not None
        ]
        lag = self.lag  # looked up once: a module is inspected at every look
        return [(p, name, factor) for p, name, factor in late if lag(p) is not None]

    def lags(self) -> dict[str, Float[Array, ""]]:
        """Every lag there is, by the name of what is late; `input` and `error` are those of the task's signals."""
        roles, lag = {layer.role for layer in self.circuit.layers}, self.lag
        lags = {"input": self.delays.input if "input" in roles else None}
        lags["error"] = self.delays.error if "output" in roles else None
        lags |= {name: lag(p) for p, name, _ in self.lagged()}
        return {name: lag for name, lag in lags.items() if lag is not None}

    def tau(self, layer: Layer, v: Variable) -> Float[Array, "*size"]:
        """The time constant of a variable."""
        return at_level(self.timescales.propagation, layer.level) if v.timescale is None else v.timescale

    def traced(self, term: LawTerm) -> Float[Array, ""] | None:
        """The timescale of the trace of a term; None without."""
        return trace_timescale(term, self.timescales)

    @property
    def products(self) -> set[str]:
        """The terms that have a trace of their product."""
        traced = self.traced
        return {
            t.name
            for t in self.circuit.terms
            if t.trace is not None and t.trace.of == "product" and traced(t) is not None
        }

    def signals(self, y: State, inputs: Inputs) -> Sources:
        """What constant lags look back at: what projections deliver late, the output's activity for a late error."""
        if self.gamma:
            return {}
        moment, kept = FieldMoment(self, y, inputs, None), {}
        if self.delays.error is not None:
            kept |= {(o.name, "activity"): y.activity[o.name] for o in self.outputs()}
        for p, name, factor in self.lagged():
            kept[key_of(p, name, factor)] = moment.of(factor, self.circuit.layer(p.source))
        return kept

    def outputs(self) -> list[Layer]:
        return [layer for layer in self.circuit.layers if layer.role == "output"]

    def drift(self, y: State, inputs: Inputs, look: Look | None) -> State:
        moment = FieldMoment(self, y, inputs, look)
        fast = {variable: dict(signals) for variable, signals in y.fast.items()}
        for layer in self.circuit.layers:
            for v in self.circuit.variables(layer).values():
                if not v.slow:
                    drive = moment.drive(layer, v.name)
                    fast[v.name][layer.name] = (drive - _smooth(y, v.name, layer.name)) / self.tau(layer, v)
        factors, traces, products = self._traced(moment)
        moment.pass_everything()  # every filter chain moves, also that of a signal that nothing reads
        return State(
            fast,
            self._weight_drifts(moment.weights, factors, products),
            mean(slow_drifts(self.circuit, y.slow, slow_drives(moment)), self.sides),
            traces,
            moment.chain,
            jax.tree.map(jnp.zeros_like, y.path),
        )

    def _weight_drifts(self, weights: Weights, factors: Factors, products: Weights) -> Weights:
        """What all sides do to the weights."""
        drifts = functools.partial(weight_drifts, self.circuit, self.timescales, weights)
        if self.sides == 1:
            return drifts(factors, products)
        if products or self.circuit.drawn:
            return mean(drifts(factors, products), self.sides)
        return drifts(all_of(factors, self.sides))  # a product of matrices, and not a sum of them

    def factors(self, y: State, inputs: Inputs, look: Look | None) -> Factors:
        """m, p and r of every law as its synapse sees them now: after lags, and traced where there are traces."""
        return self._traced(FieldMoment(self, y, inputs, look))[0]

    def _traced(self, moment: FieldMoment) -> tuple[Factors, dict[str, Array], Weights]:
        """The factors with traced ones replaced by their traces, the drifts of all traces, and traces of products."""
        y, drifts, products = moment.y, {}, {}
        factors = moment.factors(self.products)
        for term in self.circuit.terms:
            tau = self.traced(term)
            if tau is None or term.trace is None:
                continue
            f, trace, of = factors.products[term.name], y.trace[term.name], term.trace.of
            if of == "product":
                fed = product(self.circuit, term, trace, f)
                drifts[term.name] = ((mean(fed, self.sides) if term.trace.slow else fed) - trace) / tau
                products[term.name] = trace
            else:
                drifts[term.name] = (getattr(f, of) - trace) / tau
                factors.products[term.name] = f._replace(**{of: trace})
        return factors, drifts, products

    def brownian_shape(self, y: State) -> dict | None:
        """One Brownian motion per noisy number."""
        noisy = {variable: y.fast[variable] for variable in self.noise.fluctuations}
        return noisy | {kind.draws[0]: y.weights for kind, _ in self.noise.on_synapses.values()} or None

    def increments(self, key: PRNGKeyArray, like: PyTree[Array], dt: Float[Array, ""]) -> PyTree[Array]:
        own = {variable: like[variable] for variable in self.noise.fluctuations}
        shared = {name: of for name, of in like.items() if name not in own}
        side = own_key(key, self.sides)
        assert side is not None
        return brownian_increments(side, own, dt) | brownian_increments(key, shared, dt)

    def amplitude(self, y: State) -> dict | None:
        """Noise amplitudes (dynamics.noise) of the weights."""
        kinds = self.noise.on_synapses.values()
        within = {name: self.circuit.map_of(name).within for name in y.weights}
        return {k.draws[0]: {n: within[n](k.amplitude(s, w)) for n, w in y.weights.items()} for k, s in kinds} or None

    def kick(self, amplitude: dict, increments: dict, still: State) -> State:
        moved = {kind: jax.tree.map(jnp.multiply, a, increments[kind]) for kind, a in amplitude.items()}
        weights = jax.tree.map(lambda *changes: sum(changes[1:], changes[0]), *moved.values())
        return eqx.tree_at(lambda s: s.weights, still, weights)

    def stir(self, y: State, increments: dict) -> State | None:
        """xi <- rho xi + (1 - rho^2)^(1/2) s N(0, 1), rho = exp(-dt/tau_prop), in the paths and what contains them."""
        assert y.path.keys() == self.noise.fluctuations.keys(), "a noisy state starts from with_paths"
        if not y.path:
            return None
        changes = {}
        for variable, paths in y.path.items():
            moved = changes.setdefault(variable, {})
            for name, xi in paths.items():
                layer = self.circuit.layer(name)
                ratio = self.dt / self.tau(layer, self.circuit.variables(layer)[variable])
                fresh = self.noise.fluctuations[variable] * jnp.sqrt(-jnp.expm1(-2 * ratio) / self.dt)
                moved[name] = jnp.expm1(-ratio) * xi + fresh * increments[variable][name]
        still = jax.tree.map(lambda _: None, y)
        moved = [*changes.values(), changes]
        return eqx.tree_at(lambda s: [*(s.fast[v] for v in changes), s.path], still, moved, is_leaf=_absent)


def _smooth(y: State, variable: str, name: str) -> Float[Array, " _n"]:
    """An activity or error without its Ornstein-Uhlenbeck part, which follows an equation of its own."""
    signal, paths = y.fast[variable][name], y.path.get(variable)
    return signal if paths is None else signal - paths[name]


def _absent(node: object) -> bool:
    return node is None


def check_lagged(system: CoupledSystem) -> None:
    """Refuses constant lags of signals that have no past of their own: functions of inputs or drives."""
    for p, name, factor in () if system.gamma else system.lagged():
        read = system.circuit.reads(factor, system.circuit.layer(p.source))
        if read.inputs or read.drives:
            raise PlasticodeError(
                f"'{name}' is late by a constant lag, and carries a function of inputs or drives: it must be one of "
                "variables, or the lags gamma-distributed (delays.stages above 0)"
            )
