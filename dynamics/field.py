"""The coupled field of a circuit: activities, errors and weights evolve together, nothing is phased.

    tau_prop z' = -z + f(a)             tau_prop e' = -e + f'(a) * c            W' from the laws (dynamics.circuit)

Source of the model: bibtex bacvanski2025continuous (arXiv 2510.18808).
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.activations import activation
from dynamics.circuit import Circuit, Layer, Local, Projection, Weights
from dynamics.delays import Delays, chain_drift, chain_output
from dynamics.kinks import earlier_side
from dynamics.noise import Noise
from dynamics.plasticity import (
    Carried,
    Factors,
    law_factors,
    output_error,
    port_input,
    slow_drifts,
    weight_drifts,
)
from dynamics.stimulus import Clock
from dynamics.system import AbstractSystem, Look
from dynamics.timescales import Timescales, at_level

Signals = dict[str, Float[Array, " _n"]]  # by layer
Sources = dict[tuple[str, str], Float[Array, " _n"]]  # by layer and variable


class Inputs(NamedTuple):
    """What the outside gives during one step: stimulus x, target y (both 0 in a gap) and the fraction `on` of y."""

    stimulus: Float[Array, " inputs"]
    target: Float[Array, " outputs"]
    on: Float[Array, ""]


class State(eqx.Module):
    """Everything that evolves: by layer activity, error and slow variables; by projection plastic matrices, eligibility
    traces and the filter chains of gamma-distributed lags.

    `path` has the Ornstein-Uhlenbeck part of every noisy activity and error, by variable and layer: they contain it.
    The window integrator draws its paths itself, and has none here.
    """

    activity: Signals
    error: Signals
    weights: Weights
    slow: dict[str, Signals]
    trace: Signals
    chain: dict[str, Float[Array, "stages n"]]
    path: dict[str, Signals] = eqx.field(default_factory=dict)


class CoupledSystem(AbstractSystem):
    """The coupled field of a circuit. `fixed` are the matrices that do not change."""

    circuit: Circuit
    timescales: Timescales
    clock: Clock
    delays: Delays
    noise: Noise
    fixed: Weights

    @property
    def dt(self) -> Float[Array, ""]:
        return self.clock.dt

    def weights(self, state: State) -> Weights:
        """All matrices, plastic and fixed."""
        return {**self.fixed, **state.weights}

    def initial_state(self, weights: Weights) -> State:
        """Silent activities and errors with the given matrices."""
        dtype = self.dt.dtype
        zeros = {layer.name: jnp.zeros(layer.size, dtype) for layer in self.circuit.layers}
        sizes = {p.name: self.circuit.layer(p.source).size for p in self.circuit.projections}
        for layer in self.circuit.layers:
            if layer.role in ("input", "output"):
                sizes["input" if layer.role == "input" else "error"] = layer.size
        return State(
            activity={layer.name: zeros[layer.name] for layer in self.circuit.layers if not layer.clamped},
            error={name: zeros[name] for name in sorted(self.circuit.with_errors)},
            weights={p.name: weights[p.name] for p in self.circuit.plastic},
            slow=self.circuit.initial_slow(),
            trace={} if self.timescales.trace is None else self._traced_sizes(dtype),
            chain={name: jnp.zeros((self.delays.stages, sizes[name]), dtype) for name in self.lags() if self.gamma},
        )

    def with_paths(self, state: State) -> State:
        """The silent state with the paths of its noise, which begin at 0."""
        noisy = {variable: getattr(state, variable) for variable in self.noise.fluctuations}
        return dataclasses.replace(state, path=jax.tree.map(jnp.zeros_like, noisy))

    def _traced_sizes(self, dtype: jnp.dtype) -> Signals:
        ends = {p.name: p.source if p.law.traced == "pre" else p.target for p in self.circuit.plastic if p.law}
        return {name: jnp.zeros(self.circuit.layer(end).size, dtype) for name, end in ends.items()}

    @property
    def gamma(self) -> bool:
        return self.delays.stages > 0

    def lag(self, p: Projection) -> Float[Array, ""] | None:
        constant = self.circuit.layer(p.source).role == "constant"
        return p.lag if p.lag is not None or constant else self.delays.hop

    def lags(self) -> dict[str, Float[Array, ""]]:
        """Every lag there is, by the name of its projection; `input` and `error` are those of the task's signals."""
        lags = {"input": self.delays.input, "error": self.delays.error}
        lags |= {p.name: self.lag(p) for p in self.circuit.projections}
        return {name: lag for name, lag in lags.items() if lag is not None}

    def _sources(self, state: State, stimulus: Float[Array, " inputs"]) -> Sources:
        """Every variable that a projection can carry."""
        signals = {(name, "error"): value for name, value in state.error.items()}
        for layer in self.circuit.layers:
            if layer.role == "input":
                signals[layer.name, "activity"] = stimulus
            elif layer.role == "constant":
                signals[layer.name, "activity"] = jnp.ones(layer.size, stimulus.dtype)
            else:
                signals[layer.name, "activity"] = state.activity[layer.name]
        return signals

    def signals(self, y: State, inputs: Inputs) -> Sources:
        """What constant lags look back at: sources of late projections, the output's activity for a late error."""
        if self.gamma:
            return {}
        sources = self._sources(y, inputs.stimulus)
        kept = {}
        if self.delays.error is not None:
            kept |= {(o.name, "activity"): sources[o.name, "activity"] for o in self.outputs()}
        late = [p for p in self.circuit.projections if self.lag(p) is not None]
        return kept | {(p.source, p.variable): sources[p.source, p.variable] for p in late}

    def outputs(self) -> list[Layer]:
        return [layer for layer in self.circuit.layers if layer.role == "output"]

    def drift(self, y: State, inputs: Inputs, look: Look) -> State:
        d_activity, d_error, d_chain, locals_, carried = self._fast(y, inputs, look)
        factors, d_trace = self._trace(y, law_factors(self.circuit, locals_, carried))
        return State(
            d_activity,
            d_error,
            weight_drifts(self.circuit, self.timescales, y.weights, factors),
            slow_drifts(self.circuit, y.slow, locals_),
            d_trace,
            d_chain,
            jax.tree.map(jnp.zeros_like, y.path),
        )

    def factors(self, y: State, inputs: Inputs, look: Look) -> dict[str, Factors]:
        """m, p and r of every law as its synapse sees them now: after lags, and traced where there are traces."""
        *_, locals_, carried = self._fast(y, inputs, look)
        return self._trace(y, law_factors(self.circuit, locals_, carried))[0]

    def _fast(
        self, y: State, inputs: Inputs, look: Look
    ) -> tuple[Signals, Signals, dict[str, Array], dict[str, Local], Carried]:
        """Drifts of activities, errors and filter chains; the local variables; what each projection delivers."""
        weights, d_chain = self.weights(y), {}
        stimulus = inputs.stimulus
        if self.gamma and self.delays.input is not None:
            d_chain["input"] = chain_drift(y.chain["input"], stimulus, self.delays.input)
            stimulus = chain_output(y.chain["input"], stimulus, self.delays.input)
        carried = self._carried(y, stimulus, look, d_chain)
        d_activity, d_error, locals_ = {}, {}, {}
        for layer in self.circuit.layers:
            if layer.clamped:
                continue
            f, slope, _ = activation(layer.activation)
            tau = at_level(self.timescales.propagation, layer.level)
            a = port_input(self.circuit, layer, "forward", weights, carried)
            d_activity[layer.name] = (f(a) - _smooth(y, "activity", layer.name)) / tau
            error = y.error.get(layer.name)
            if error is not None:
                c = port_input(self.circuit, layer, "modulatory", weights, carried)
                if layer.role == "output":
                    c = c + self._late_error(layer, y, inputs, look, d_chain)
                d_error[layer.name] = (slope(a) * c - _smooth(y, "error", layer.name)) / tau
            silent = jnp.zeros_like(a)
            locals_[layer.name] = Local(
                a, y.activity[layer.name], silent if error is None else error, y.slow.get(layer.name, {})
            )
        return d_activity, d_error, d_chain, locals_, carried

    def _carried(self, y: State, stimulus: Array, look: Look, d_chain: dict[str, Array]) -> Carried:
        """What each projection delivers now, after its lag; adds the drift of its filter chain to `d_chain`."""
        sources, carried = self._sources(y, stimulus), {}
        for p in self.circuit.projections:
            name = p.source, p.variable
            signal, lag = sources[name], self.lag(p)
            if lag is None:
                carried[p.name] = signal
            elif self.gamma:
                d_chain[p.name] = chain_drift(y.chain[p.name], signal, lag)
                carried[p.name] = chain_output(y.chain[p.name], signal, lag)
            else:  # the stimulus is constant within a step: shifting it stepwise keeps its integral exact
                stepwise = self.circuit.layer(p.source).role == "input"
                carried[p.name] = look(name, signal, lag, stepwise=stepwise, side=self._side(lag))
        return carried

    def _late_error(self, layer: Layer, y: State, inputs: Inputs, look: Look, d_chain: dict[str, Array]) -> Array:
        """target - prediction as it reaches the output's error units; the target in `inputs` is late already."""
        activity, lag = y.activity[layer.name], self.delays.error
        if lag is None:
            return output_error(layer, inputs.target, activity, inputs.on)
        if self.gamma:
            c = output_error(layer, inputs.target, activity, inputs.on)
            d_chain["error"] = chain_drift(y.chain["error"], c, lag)
            return chain_output(y.chain["error"], c, lag)
        late = look((layer.name, "activity"), activity, lag, side=self._side(lag))
        return output_error(layer, inputs.target, late, inputs.on)

    def _side(self, lag: Float[Array, ""]) -> Float[Array, ""]:
        return earlier_side(self.clock.gap, lag)

    def _trace(self, y: State, factors: dict[str, Factors]) -> tuple[dict[str, Factors], Signals]:
        """The factors with one of them replaced by its eligibility trace, and the drift of the traces."""
        if self.timescales.trace is None:
            return factors, {}
        drifts, traced = {}, {}
        for p in self.circuit.plastic:
            assert p.law is not None
            tau, f, trace = at_level(self.timescales.trace, p.level), factors[p.name], y.trace[p.name]
            drifts[p.name] = (getattr(f, p.law.traced) - trace) / tau
            traced[p.name] = f._replace(**{p.law.traced: trace})
        return traced, drifts

    def brownian_shape(self, y: State) -> dict | None:
        """One Brownian motion per noisy number."""
        noisy = {variable: getattr(y, variable) for variable in self.noise.fluctuations}
        return noisy | {kind.draws[0]: y.weights for kind, _ in self.noise.on_synapses.values()} or None

    def amplitude(self, y: State) -> dict | None:
        """Noise amplitudes (dynamics.noise) of the weights."""
        kinds = self.noise.on_synapses.values()
        return {k.draws[0]: {n: k.amplitude(s, w) for n, w in y.weights.items()} for k, s in kinds} or None

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
                ratio = self.dt / at_level(self.timescales.propagation, self.circuit.layer(name).level)
                fresh = self.noise.fluctuations[variable] * jnp.sqrt(-jnp.expm1(-2 * ratio) / self.dt)
                moved[name] = jnp.expm1(-ratio) * xi + fresh * increments[variable][name]
        still = jax.tree.map(lambda _: None, y)
        moved = [*changes.values(), changes]
        return eqx.tree_at(lambda s: [*(getattr(s, v) for v in changes), s.path], still, moved, is_leaf=_absent)


def _smooth(y: State, variable: str, name: str) -> Float[Array, " _n"]:
    """An activity or error without its Ornstein-Uhlenbeck part, which follows an equation of its own."""
    signal, paths = getattr(y, variable)[name], y.path.get(variable)
    return signal if paths is None else signal - paths[name]


def _absent(node: object) -> bool:
    return node is None
