"""Waveform relaxation: the coupled field of a circuit solved for a whole window of time at once, layer by layer.

A waveform is an array (s, n), one row per collocation node of the window, or (1, n) where it is constant. One sweep
goes through the variables in order; every projection is applied to a whole waveform, and maps follow from few waveforms
(integrators.learning). Sweeps repeat with the m and p of the last one; they contract by about H |p|^2 / tau_plast each.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import LawTerm, Weights
from dynamics.field import CoupledSystem, Inputs, Key, State, key_of
from dynamics.integrators.collocation import Leak, filtered, integration, times, weighted
from dynamics.integrators.drives import Drive, Drives, Waveform, fades, root_mean_square, still_fades
from dynamics.integrators.implicit import taught, teaching
from dynamics.integrators.learning import Learning
from dynamics.integrators.owed import Owed
from dynamics.integrators.window_parts import Filters
from dynamics.laws import Outer
from dynamics.layers import Draw, Layer, Wave
from dynamics.local import AbstractFactor, Local, variable_of
from dynamics.moment import AbstractMoment, Factors, Product, pre_name
from dynamics.plasticity import output_error
from dynamics.projections import Projection
from dynamics.settle import evaluation_order, is_cyclic
from dynamics.sides import mean
from dynamics.timescales import at_level


class Waves(NamedTuple):
    """All waveforms of a window after a sweep. `value` has fast variables, and signals of their own that are late;
    `chain` holds only the ends of the stages of gamma-distributed lags."""

    value: dict[Key, Waveform]
    slow: dict[str, dict[str, Waveform]]
    trace: dict[str, Waveform]
    chain: dict[str, Float[Array, "stages _n"]]
    drive: Drives


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxation:
    """One window: the state at its start, its filters, and what comes from outside of it. (No pytree: it lives within
    one window.)

    inputs   stimulus and target: constant in the window, or what the stimulus is at its start
    late     by what is late of a layer that is given something: what is delivered; "stimulus", where it moves
    past     by what else is late: what is delivered of earlier windows
    noise    by (layer, variable): an Ornstein-Uhlenbeck path that is added to the waveform
    times    of the nodes, in seconds after the start of the presentation
    turned   matrices at the start, transposed (integrators.learning.turned), and what matrices are `owed`
    """

    system: CoupledSystem
    start: State
    filters: Filters
    inputs: Inputs
    late: dict[str, Waveform]
    past: dict[str, Waveform]
    noise: dict[Key, Waveform]
    times: Float[Array, " s"]
    turned: Weights
    owed: Owed
    nodes: int

    @functools.cached_property
    def learning(self) -> Learning:
        """How the maps change in this window: made once, before the sweeps that all use it."""
        system, circuit, length = self.system, self.system.circuit, self.filters.length
        still = {t.name: self._still_pre(t) for t in circuit.terms if isinstance(t.term, Outer) and not t.transposed}
        still = {name: pre for name, pre in still.items() if pre is not None}
        traced = {t.name: self.trace_filter(t).matrix for t in circuit.terms if system.traced(t) is not None}
        integrals = length * jnp.asarray(integration(self.nodes), length.dtype)
        drawn = circuit.redrawn(self.inputs.given)
        fading = still_fades(system, integrals)
        known = still, traced, drawn, self.turned, self.owed
        return Learning(system, self.start, length, *known, self.nodes, integrals, fading)

    def trace_filter(self, term: LawTerm) -> Leak:
        """The filter of the trace of a term."""
        own = self.filters.traced.get(term.name)
        return self.filters.trace[term.of.level] if own is None else own

    def variable_filter(self, layer: Layer, variable: str) -> Leak:
        """The filter of a variable."""
        own = self.filters.own.get(layer.name, {}).get(variable)
        return self.filters.propagation[layer.level] if own is None else own

    def start_of(self, key: Key) -> Float[Array, " n"]:
        """A fast variable, or a signal of its own that is late, at the start of the window."""
        if self.start.has(key):
            return self.start.fast[key[1]][key[0]]
        return self.system.signals(self.start, self.inputs)[key]

    def guess(self) -> Waves:
        """What the first sweep starts from: constant waveforms, and no drives, so that the weights stand still."""
        s, y = self.nodes, self.start

        def held(x: Float[Array, " n"]) -> Waveform:
            return jnp.broadcast_to(x[None], (s, x.shape[0]))

        value = {(name, v): held(x) for v, signals in y.fast.items() for name, x in signals.items()}
        slow = {name: {v: held(x) for v, x in variables.items()} for name, variables in y.slow.items()}
        return Waves(value, slow, {}, {}, Drives({}, {}))

    def given(self, layer: Layer) -> Waveform:
        """The activity of a layer that is given from outside: one row where it is constant during the window."""
        dtype = self.filters.length.dtype
        if isinstance(layer.source, Wave):
            return jax.vmap(layer.source.of)(self.times)
        if layer.role == "target" or isinstance(layer.source, Draw):
            return self.inputs.given[layer.name][None]
        if layer.role == "constant":
            return layer.constant(dtype)[None]
        return self.late["stimulus"] if self.moves else self.inputs.stimulus[None]

    @property
    def moves(self) -> bool:
        """Whether the stimulus changes during the window."""
        return "stimulus" in self.late

    def _still_pre(self, term: LawTerm) -> Waveform | None:
        """p where it is constant during a window: of a layer that is held constant, neither traced nor filtered."""
        law, layer = term.term, self.system.circuit.layer(term.of.source)
        assert isinstance(law, Outer)
        factor = term.of.carries if law.pre is None else law.pre
        if not self._is_still(factor, layer) or (self.system.traced(term) is not None and law.trace.of == "pre"):
            return None
        lag = self.system.lag(term.of)
        if lag is not None and self.system.gamma and layer.role != "constant":
            return None
        name = term.of.name if law.pre is None else pre_name(term)
        activity = self.late[name] if name in self.late else self.given(layer)
        return factor(Local({}, {"activity": activity[0]}, {}, layer.f))[None]

    def _is_still(self, factor: AbstractFactor, layer: Layer) -> bool:
        """Whether a factor is constant during the window, being of the given activity alone."""
        moves = layer.role == "input" and ("input" in self.start.chain or self.moves)
        if not layer.given or isinstance(layer.source, Wave) or moves:
            return False
        return self.system.circuit.reads(factor, layer).activity_alone

    def sweep(self, last: Waves) -> Waves:
        """Every waveform anew, from those of the last sweep and, where they come earlier in the order, of this one."""
        system, circuit = self.system, self.system.circuit
        moment, at_once = Sweep(self, last), taught(self.learning)
        for node in evaluation_order(circuit):
            moment.follow(node)
            if at_once and node == at_once[-1]:
                moment = moment.taking_along(node[0])
                for again in at_once:
                    moment.follow(again)
                moment = moment.taking_along(node[0])
        moment.move_slow()
        factors = moment.factors(system.products)
        drives, traces = moment.driven(factors)
        if self.start.chain:
            moment.pass_everything()
        late = [one for one in system.lagged() if one[1] in self.filters.current]
        signals = {key_of(*one): moment.signal(one) for one in late if not self.start.has(key_of(*one))}
        return Waves(moment.values | signals, moment.slow, traces, moment.chains, drives)

    def changes_at(self, drives: Drives, node: int | Int[Array, ""] = -1) -> Weights:
        """How far the plastic maps have moved at a node of the window; by default at its end."""
        return self.learning.changes_at(drives, node)

    def weights_at(self, drives: Drives, node: int | Int[Array, ""] = -1) -> Weights:
        """The plastic maps at a node of the window; by default at its end."""
        changes = self.changes_at(drives, node)
        return {name: self.start.weights[name] + change for name, change in changes.items()}

    def moved(self, drives: Drives, size: Float[Array, ""]) -> Float[Array, ""]:
        """The norm of the change of the plastic maps in the window; `size` is that of their drives (`difference`)."""
        return self.learning.moved(drives, size)

    def end(self, waves: Waves, weights: Weights | None = None) -> State:
        """The state at the end of the window, its last node; `weights` are those there, where they are known."""
        y = self.start
        return State(
            fast={v: {name: waves.value[name, v][-1] for name in signals} for v, signals in y.fast.items()},
            weights=self.weights_at(waves.drive) if weights is None else weights,
            slow={name: {v: x[-1] for v, x in variables.items()} for name, variables in waves.slow.items()},
            trace={name: x[-1] for name, x in waves.trace.items()} | self.learning.traces_at(waves.drive),
            chain=waves.chain,
        )

    def difference(
        self, learning: Learning, new: Waves, old: Waves
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """How far apart two sweeps' drives are, relative to their size; that size and contrast (`Learning.difference`).

        In a circuit with cycles the state that the window hands on counts too: all that comes after depends on it.
        """
        change, size, contrast = learning.difference(new.drive, old.drive)
        moved = change / jnp.maximum(size, jnp.finfo(size.dtype).tiny)
        if is_cyclic(self.system.circuit):
            moved = jnp.maximum(moved, self._handed_on(new, old))
        return moved, size, contrast

    def _handed_on(self, new: Waves, old: Waves) -> Float[Array, ""]:
        """How far apart the ends of all waveforms are, relative to the size of the waveforms."""
        change = size = jnp.zeros_like(self.filters.length)
        for name, wave in new.value.items():
            change += jnp.sum((wave[-1] - old.value[name][-1]) ** 2)
            size += root_mean_square(wave) ** 2
        change, size = mean((change, size), self.system.sides)
        return jnp.sqrt(change / jnp.maximum(size, jnp.finfo(size.dtype).tiny))


class Sweep(AbstractMoment):
    """One sweep through a window: signals are waveforms, and what this sweep has not come to is that of the last."""

    def __init__(self, window: Relaxation, last: Waves):
        super().__init__(window.system.circuit)
        self.window, self.last, self.system = window, last, window.system
        self.values, self.slow = dict(last.value), last.slow
        self.chains: dict[str, Array] = {}
        self.learning = window.learning

    def follow(self, node: Key) -> None:
        """A fast variable, from what it relaxes to."""
        (name, variable), window = node, self.window
        layer, noise = self.circuit.layer(name), window.noise.get(node)
        k = window.variable_filter(layer, variable)
        wave = filtered(k, window.start.fast[variable][name], self.drive(layer, variable))
        self.values[node] = wave if noise is None else wave + noise

    def taking_along(self, layer: str) -> "Sweep":
        """The same sweep, in which what it says of `layer` itself moves the matrices into it (integrators.implicit)."""
        terms, drive = teaching(self.learning, layer), self.last.drive
        factors = self.factors(terms=terms)
        own = {term.name: self._drive(term, factors, Drives({}, {}), {}) for term in terms}
        again = Sweep(self.window, self.last._replace(drive=drive._replace(of=drive.of | own)))
        again.values, again.chains = self.values, self.chains
        carried = {p.name for p in self.circuit.projections if p.source != layer}
        again._made = {  # what comes before the layer: the compiler does not always see that it is the same
            key: made
            for key, made in self._made.items()
            if (key[0] == "carried" and key[1] in carried)
            or (key[0] in ("input", "drive", "given") and key[1] != layer)
        }
        return again

    def value(self, layer: Layer, variable: str) -> Waveform:
        if variable == "activity" and layer.given:
            return self.once(("given", layer.name), lambda: self._given(layer))
        slow = self.slow.get(layer.name, {})
        return slow[variable] if variable in slow else self.values[layer.name, variable]

    def _given(self, layer: Layer) -> Waveform:
        given = self.window.given(layer)
        return self._chained("input", given) if layer.role == "input" and "input" in self.window.start.chain else given

    def silent(self, layer: Layer) -> Waveform:
        return jnp.zeros((1, layer.size), self.window.filters.length.dtype)

    def through(self, p: Projection, signal: Waveform) -> Waveform:
        return self.learning.product(p, signal, self.last.drive)

    def called(self, factor: AbstractFactor, local: Local, layer: Layer) -> Waveform:
        """A factor of waveforms, with one row where all that it reads has one."""
        name = variable_of(factor)
        if name is not None:
            return local.values[name]
        waves = jax.tree.leaves(local)
        if not waves:
            return factor(local)[None]
        rows = max(wave.shape[0] for wave in waves)
        local = jax.tree.map(lambda wave: jnp.broadcast_to(wave, (rows, wave.shape[1])), local)
        return jax.vmap(factor)(local)

    def late(self, p: Projection, name: str, factor: AbstractFactor, signal: Waveform) -> Waveform:
        lag = self.system.lag(p)
        if lag is None:
            return signal
        if self.system.gamma:
            return self._chained(name, signal)
        if name in self.window.late:
            layer = self.circuit.layer(p.source)
            return self.called(factor, Local({}, {"activity": self.window.late[name]}, {}, layer.f), layer)
        return self._looked_up(name, key_of(p, name, factor), signal)

    def signal(self, late: tuple[Projection, str, AbstractFactor]) -> Waveform:
        """A signal of its own, before it is late."""
        p, _, factor = late
        wave = self.of(factor, self.circuit.layer(p.source))
        return self.learning.rows(wave)

    def _looked_up(self, name: str, key: Key, source: Waveform) -> Waveform:
        """The waveform after lag `name`: partly from earlier windows, partly from this one."""
        current = self.window.filters.current[name]
        source = self.learning.rows(source)
        return self.window.past[name] + current[:, :1] * self.window.start_of(key)[None] + times(current[:, 1:], source)

    def _chained(self, name: str, source: Waveform) -> Waveform:
        """The waveform after the filters of a gamma-distributed lag; a lag of 0 lets it through.

        What a stage holds does not change in an empty window, at a lag of 0 neither: any other lag would see to that.
        """
        length = self.window.filters.length
        k = self.window.filters.chain[name]
        source = self.learning.rows(source)

        def stage(upstream: Waveform, start: Float[Array, " n"]) -> tuple[Waveform, Float[Array, " n"]]:
            wave = filtered(k, start, upstream)
            return wave, jnp.where(length > 0, wave[-1], start)

        wave, self.chains[name] = jax.lax.scan(stage, source, self.window.start.chain[name])
        return wave

    def taught(self, layer: Layer) -> Waveform:
        """The target in `inputs` is late already."""
        activity, lag, inputs = self.values[layer.name, "activity"], self.system.delays.error, self.window.inputs
        if lag is not None and not self.system.gamma:
            activity = self._looked_up("error", (layer.name, "activity"), activity)
        c = jax.vmap(lambda z: output_error(layer, inputs.target, z, inputs.on))(activity)
        return self._chained("error", c) if lag is not None and self.system.gamma else c

    def move_slow(self) -> None:
        """Slow variables, from what the last sweep says of each other."""
        moved: dict[str, dict[str, Waveform]] = {}
        for name, variables in self.slow.items():
            layer = self.circuit.layer(name)
            for v in variables:
                k = self.window.variable_filter(layer, v)
                drive = mean(self.drive(layer, v), self.system.sides)
                moved.setdefault(name, {})[v] = filtered(k, self.window.start.slow[name][v], drive)
        self.slow = moved

    def driven(self, factors: Factors) -> tuple[Drives, dict[str, Waveform]]:
        """What changes the maps in the next sweep, and the traces of this one."""
        traces: dict[str, Waveform] = {}
        fade = {}
        for p in self.circuit.plastic:
            rate = self._fading(p, factors, traces)
            if rate is not None:
                fade[p.name] = weighted(self.learning.integrals, self.learning.rows(rate))
        terms = [term for term in self.circuit.terms if not fades(term)]
        drives = {t.name: self._drive(t, factors, Drives({}, fade), traces) for t in terms}
        driven = Drives(drives, fade, self.last.drive.moving)
        return driven._replace(moving=self.learning.moving(driven)), traces

    def _rate(self, term: LawTerm, factors: Factors) -> Waveform:
        return mean(self.learning.rows(factors.rates[term.name]), self.system.sides)

    def product(self, term: LawTerm, factors: Factors, traces: dict[str, Waveform]) -> Product:
        """m and p of a term, one of them traced where there is a trace."""
        trace, f = term.trace, factors.products[term.name]
        if trace is None or trace.of == "product" or self.system.traced(term) is None:
            return f
        if term.name not in traces:
            k, start = self.window.trace_filter(term), self.window.start.trace[term.name]
            traces[term.name] = filtered(k, start, f.post if trace.of == "post" else f.pre)
        return f._replace(**{trace.of: traces[term.name]})

    def _fading(self, p: Projection, factors: Factors, traces: dict[str, Waveform]) -> Waveform | None:
        """The rate at which a map fades, where sweeps change it."""
        own, times, terms = self.circuit.map_of(p.name), self.system.timescales, self.circuit.terms_of(p.name)
        scaled = [term for term in terms if fades(term)]
        if own.holds_norm:
            w, parts = self.window.start.weights[p.name], []
            for term in terms:
                f, tau = self.product(term, factors, traces), at_level(times.plasticity, term.of.level)
                along = jnp.sum(f.post * self.learning.ungained(term.of, f.pre, self.last.drive), 1, keepdims=True)
                parts.append(mean(along, self.system.sides) / (tau * jnp.sum(w * w)))
            return sum(parts[1:], parts[0])
        if not scaled:
            return None
        rates = []
        for term in scaled:
            rates.append(-self._rate(term, factors) / at_level(times.plasticity, term.of.level))
        if own.decays and times.decay is not None:
            rates.append(1 / at_level(times.decay, p.level))
        return sum(rates[1:], rates[0])

    def _drive(self, term: LawTerm, factors: Factors, drives: Drives, traces: dict[str, Waveform]) -> Drive:
        """What a term does to its map."""
        tau, fade = at_level(self.system.timescales.plasticity, term.of.level), self._fade(term, drives)
        if term.name in factors.rates:
            return Drive(self._rate(term, factors) * fade / tau)
        f = self.product(term, factors, traces)
        still = self.learning.still.get(term.name)
        if term.trace is not None and term.trace.of == "product" and term.name in self.learning.traced:
            gate = jnp.ones_like(f.post) if f.gate is None else f.gate
            return Drive(self.learning.rows(f.post), self.learning.rows(f.pre), self.learning.rows(gate) * fade / tau)
        post, pre = (f.pre, f.post) if term.transposed else (f.post, f.pre)
        return Drive(self.learning.rows(post) * fade / tau, None if still is not None else self.learning.rows(pre))

    def _fade(self, term: LawTerm, drives: Drives) -> Waveform | float:
        """1/E of the map that a term changes, where decay and learning mix."""
        if self.circuit.map_of(term.owner.name).mirror is not None:
            return 1.0
        fade = self.learning.fade(term.owner, drives)
        return 1.0 if fade is None else jnp.exp(fade)
