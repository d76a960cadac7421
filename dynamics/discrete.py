"""The discrete regime: the published phased update, one step per presentation, through optax.

    forward, error, then  W += eta (m p^T - diag(r) W) - (eta lambda) W,   eta = T/tau_plast, lambda = tau_plast/tau_dec

It is the baseline that the other two regimes approach, and one Euler step of the weight flow with dt = T.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dynamics.circuit import Circuit, Weights
from dynamics.errors import unknown
from dynamics.loop import Count, repeat
from dynamics.norms import norm
from dynamics.plasticity import direction, law_factors, slow_drifts
from dynamics.regime import AbstractRegime, Quality, Slow, check_circuit, check_dtypes
from dynamics.rounding import add, nothing
from dynamics.settle import evaluation_order, fixed_point
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales, at_level

OPTIMISERS = {"adam": optax.scale_by_adam, "sgd": optax.identity}


class DiscreteState(NamedTuple):
    """Plastic matrices, slow variables, the optimiser's state, the fixed matrices; what rounding has taken from the
    matrices and slow variables (dynamics.rounding)."""

    weights: Weights
    slow: Slow
    optimiser: optax.OptState
    fixed: Weights
    low: tuple[Weights, Slow]


class Discrete(AbstractRegime[DiscreteState]):
    """A discrete run over a stream of presentations. `optimiser` is "sgd"; "adam" is a baseline (decoupled decay)."""

    circuit: Circuit
    timescales: Timescales
    stream: Stream
    clock: Clock
    optimiser: str = eqx.field(static=True, default="sgd")

    def __check_init__(self):
        check_circuit(self.circuit, self.timescales, self.stream.inputs, self.stream.targets)
        evaluation_order(self.circuit)  # which refuses a cycle
        if self.optimiser not in OPTIMISERS:
            raise unknown("discrete.optimiser", self.optimiser, OPTIMISERS)

    def init(self, weights: Weights) -> DiscreteState:
        """The start, from given matrices."""
        check_dtypes(self.clock.dt.dtype, weights, self.stream.inputs)
        plastic = {p.name: weights[p.name] for p in self.circuit.plastic}
        fixed = {name: w for name, w in weights.items() if name not in plastic}
        slow, optimiser = self.circuit.initial_slow(), OPTIMISERS[self.optimiser]().init(plastic)
        return DiscreteState(plastic, slow, optimiser, fixed, nothing((plastic, slow)))

    def advance(self, progress: DiscreteState, first: Int[Array, ""], count: Count) -> DiscreteState:
        """One update for each of the presentations first .. first + count - 1."""

        def present(i: Int[Array, ""], state: DiscreteState) -> DiscreteState:
            sample = self.stream.index(first + jnp.asarray(i, jnp.int32))
            x = self.stream.inputs[sample]
            y = jnp.zeros(1, x.dtype) if self.stream.targets is None else self.stream.targets[sample]
            return self.update(state, x, y)

        return repeat(count, present, progress)

    def update(self, state: DiscreteState, x: Float[Array, " inputs"], y: Float[Array, " outputs"]) -> DiscreteState:
        """The update for one sample."""
        locals_, carried = fixed_point(self.circuit, self.weights(state), state.slow, x, y)
        factors = law_factors(self.circuit, locals_, carried)
        directions = {p.name: direction(state.weights[p.name], factors[p.name]) for p in self.circuit.plastic}
        descent = jax.tree.map(jnp.negative, directions)
        with jax.numpy_dtype_promotion("standard"):  # optax's adam multiplies floats by its integer step count
            scaled, optimiser = OPTIMISERS[self.optimiser]().update(descent, state.optimiser, state.weights)
        drifts = slow_drifts(self.circuit, state.slow, locals_, self.clock.duration / self.clock.period)
        changes = self._steps(scaled, state.weights), jax.tree.map(lambda d: self.clock.period * d, drifts)
        (weights, slow), low = add((state.weights, state.slow), state.low, changes)
        return DiscreteState(self._norms_held(weights, state.weights), slow, optimiser, state.fixed, low)

    def _steps(self, descent: Weights, weights: Weights) -> Weights:
        """-eta times the descent direction, minus the weight decay of one period."""
        steps = {}
        for p in self.circuit.plastic:
            assert p.law is not None
            eta = self.clock.duration / at_level(self.timescales.plasticity, p.level)
            steps[p.name] = -eta * descent[p.name]
            if p.law.decays and not p.law.holds_norm and self.timescales.decay is not None:
                steps[p.name] -= self.clock.period / at_level(self.timescales.decay, p.level) * weights[p.name]
        return steps

    def _norms_held(self, weights: Weights, before: Weights) -> Weights:
        """The matrices whose norm is held, rescaled to the Frobenius norm that they had."""
        held = {p.name for p in self.circuit.plastic if p.law is not None and p.law.holds_norm}
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
