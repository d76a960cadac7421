"""The discrete regime: the published phased update, one step per presentation, through optax.

    forward, error, then  W += eta (m p^T - diag(r) W) - (eta lambda) W,   eta = T/tau_plast, lambda = tau_plast/tau_dec

It is the baseline that the other two regimes approach, and one Euler step of the weight flow with dt = T. It knows of
gaps nothing but that weights decay in them.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dynamics.circuit import Circuit, Projection, Weights
from dynamics.errors import PlasticodeError, refused, unknown
from dynamics.laws import Outer
from dynamics.loop import Count, repeat
from dynamics.moment import Factors
from dynamics.norms import norm
from dynamics.plasticity import Slow, direction, product, slow_drifts, slow_drives, slow_traces, zero_traces
from dynamics.regime import AbstractRegime, Quality, check_circuit, check_start
from dynamics.rounding import add, nothing
from dynamics.settle import Outside, check_settles, settle
from dynamics.stimulus import Clock, Stream, looked_up
from dynamics.timescales import Timescales, at_level

OPTIMISERS = {"adam": optax.scale_by_adam, "sgd": optax.identity}


class DiscreteState(NamedTuple):
    """Plastic maps, slow variables, slow traces of products, the optimiser's state, the fixed maps; what rounding has
    taken from maps and slow variables (dynamics.rounding)."""

    weights: Weights
    slow: Slow
    traces: Weights
    optimiser: optax.OptState
    fixed: Weights
    low: tuple[Weights, Slow]


class Discrete(AbstractRegime[DiscreteState]):
    """A discrete run over a stream of presentations. `optimiser` is "sgd"; "adam" is a baseline (decoupled decay).

    An update takes the mean over `batch` samples, drawn independently, each with draws of its own.

    Slow traces of products are updated before the weights, as momentum is published; circuits with cycles are settled
    for each sample (dynamics.settle).
    """

    circuit: Circuit
    timescales: Timescales
    stream: Stream
    clock: Clock
    optimiser: str = eqx.field(static=True, default="sgd")
    batch: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        if self.batch < 1:
            raise PlasticodeError(f"batch = {self.batch} is not allowed: an update needs at least 1 sample")
        if self.batch > 1 and self.stream.timed:
            raise PlasticodeError(
                f"batch = {self.batch} is not allowed where presentations last differently: it must be 1"
            )
        if self.batch > 1 and self.circuit.drawn:
            raise PlasticodeError(
                f"batch = {self.batch} is not allowed in a discrete run of this rule, as it needs matrices that are "
                "drawn anew for each presentation: it must be 1"
            )
        check_circuit(self.circuit, self.timescales, self.stream.inputs, self.stream.targets, self.stream.told)
        if self.stream.moves:
            what = "updates see samples that are held: a stimulus that moves needs a Coupled run"
            raise refused("interpolation", self.stream.interpolation, what)
        check_settles(self.circuit)
        if self.optimiser not in OPTIMISERS:
            raise unknown("discrete.optimiser", self.optimiser, OPTIMISERS)

    def init(self, weights: Weights) -> DiscreteState:
        """The start, from given maps."""
        check_start(self.circuit, self.clock.dt.dtype, weights, self.stream.inputs)
        plastic = {p.name: weights[p.name] for p in self.circuit.plastic}
        fixed = {name: w for name, w in weights.items() if name not in plastic}
        slow, optimiser = self.circuit.initial_slow(self.clock.dt.dtype), OPTIMISERS[self.optimiser]().init(plastic)
        traces = zero_traces(self.circuit, plastic)
        return DiscreteState(plastic, slow, traces, optimiser, fixed, nothing((plastic, slow)))

    def advance(self, progress: DiscreteState, first: Int[Array, ""], count: Count) -> DiscreteState:
        """One update for each of the presentations first .. first + count - 1."""

        def present(i: Int[Array, ""], state: DiscreteState) -> DiscreteState:
            k = first + jnp.asarray(i, jnp.int32)
            if self.batch == 1:
                return self.stream.run_at(self, k).update(state, self._shown(self.stream, k))

            def beside(side: Int[Array, ""]) -> Outside:
                return self._shown(dataclasses.replace(self.stream, sides=self.batch, side=side), k)

            return self.update(state, jax.vmap(beside)(jnp.arange(self.batch, dtype=jnp.int32)))

        return repeat(count, present, progress)

    def _shown(self, stream: Stream, k: Int[Array, ""]) -> Outside:
        """What a stream shows in presentation k."""
        sample = stream.index(k)
        (y,), (told,) = stream.parted(looked_up(stream.marked_lessons(), sample[None]))
        return Outside(stream.inputs[sample], y, self.circuit.draws(stream.key, stream.draw(k)), told)

    def update(self, state: DiscreteState, outside: Outside) -> DiscreteState:
        """The update for one sample, or a batch with a leading dimension."""

        def response(outside: Outside) -> tuple[Factors, Slow]:
            moment = settle(self.circuit, self.weights(state), state.slow, outside)
            return moment.factors(state.traces), slow_drives(moment)

        factors, drives = (response if outside.stimulus.ndim == 1 else jax.vmap(response))(outside)
        weights, traces = {**self.weights(state), **self.circuit.redrawn(outside.drawn)}, self._traces(state, factors)
        descent = jax.tree.map(jnp.negative, self._directions(weights, factors, traces))
        with jax.numpy_dtype_promotion("standard"):  # optax's adam multiplies floats by its integer step count
            scaled, optimiser = OPTIMISERS[self.optimiser]().update(descent, state.optimiser, state.weights)
        shown = self.clock.duration / self.clock.period  # the update has no gap: nothing drives a variable there
        drives = jax.tree.map(lambda drive: shown * drive, drives)
        drifts = slow_drifts(self.circuit, state.slow, drives)
        changes = self._steps(scaled, state.weights), jax.tree.map(lambda d: self.clock.period * d, drifts)
        (weights, slow), low = add((state.weights, state.slow), state.low, changes)
        return DiscreteState(self._norms_held(weights, state.weights), slow, traces, optimiser, state.fixed, low)

    def _traces(self, state: DiscreteState, factors: Factors) -> Weights:
        """Slow traces after the presentation: one Euler step, T <m p^T> / tau - (T + g) E / tau."""
        traces, by_name = {}, {term.name: term for term in self.circuit.terms}
        for name, tau in slow_traces(self.circuit).items():
            fed = product(self.circuit, by_name[name], state.weights[by_name[name].owner.name], factors.products[name])
            before = state.traces[name]
            traces[name] = before + (self.clock.duration * fed - self.clock.period * before) / tau
        return traces

    def _eta(self, p: Projection) -> Float[Array, ""]:
        return self.clock.duration / at_level(self.timescales.plasticity, p.level)

    def _directions(self, weights: Weights, factors: Factors, traces: Weights) -> Weights:
        """The direction of every plastic map, which its eta = T/tau_plast multiplies.

        Terms of other levels count by their own eta; a trace goes on in gaps, so its eta is (T + g)/tau_plast.
        """
        shares, period = {}, self.clock.period
        for term in self.circuit.terms:
            goes_on = term.name in traces and isinstance(term.term, Outer) and term.term.gate is None
            share = self.clock.duration / self.clock.period if goes_on else jnp.ones_like(period)
            alike = term.of.level == term.owner.level
            shares[term.name] = share if alike else share * self._eta(term.owner) / self._eta(term.of)
        plastic = self.circuit.plastic
        return {p.name: direction(self.circuit, p.name, weights, factors, traces, shares) for p in plastic}

    def _steps(self, descent: Weights, weights: Weights) -> Weights:
        """-eta times the descent direction, through the map's mirror, minus the weight decay of one period."""
        steps = {}
        for p in self.circuit.plastic:
            own, w = self.circuit.map_of(p.name), weights[p.name]
            steps[p.name] = -self._eta(p) * descent[p.name]
            if own.mirror is not None:
                steps[p.name] = own.mirror.step(w, steps[p.name])
            if own.decays and not own.holds_norm and self.timescales.decay is not None:
                steps[p.name] -= self.clock.period / at_level(self.timescales.decay, p.level) * w
        return steps

    def _norms_held(self, weights: Weights, before: Weights) -> Weights:
        """The maps whose norm is held, rescaled to the Frobenius norm that they had."""
        held = {p.name for p in self.circuit.plastic if self.circuit.map_of(p.name).holds_norm}
        return {name: w * (norm(before[name]) / norm(w)) if name in held else w for name, w in weights.items()}

    def weights(self, progress: DiscreteState) -> Weights:
        """All matrices."""
        return {**progress.fixed, **progress.weights}

    def slow(self, progress: DiscreteState) -> Slow:
        """All slow variables."""
        return progress.slow

    def quality(self, progress: DiscreteState) -> Quality | None:
        """No estimates: the steps are the regime itself."""
        return None

    def refined(self) -> "Discrete | None":
        """Nothing is finer than the updates themselves."""
        return None
