"""The weight-flow regime: fast variables at their fixed point, laws averaged over a data set; only weights evolve.

    W' = <m p^T> / tau_plast - W / tau_dec        (tau_prop -> 0; in a stream with gaps, learning is on for T/(T+g))

With `sampling_noise` it is the Ito SDE whose covariance is that of the per-sample updates (Li, Tai & E,
bibtex li2017stochastic), integrated through its rank-n square root.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, Local, Weights
from dynamics.errors import PlasticodeError
from dynamics.integrators.doubling import Accuracy, difference, finer, order_of, twin_steps
from dynamics.integrators.fixed_step import FixedStep, Point
from dynamics.integrators.solvers import check_noise, solver_named
from dynamics.loop import Count, repeat
from dynamics.plasticity import Factors, law_factors, slow_drifts, weight_drifts
from dynamics.regime import AbstractRegime, Quality, Slow, check_circuit, check_dtypes
from dynamics.samples import rows, rows_or_none
from dynamics.settle import evaluation_order, fixed_point
from dynamics.simulate import all_finite
from dynamics.stimulus import Clock
from dynamics.system import AbstractSystem, Look
from dynamics.timescales import Timescales, at_level


def batch_factors(
    circuit: Circuit,
    weights: Weights,
    slow: Mapping,
    inputs: Float[Array, "n inputs"],
    targets: Float[Array, "n outputs"],
) -> tuple[dict[str, Local], dict[str, Factors]]:
    """Locals and law factors of every sample, with a leading batch dimension."""

    def one(x: Array, y: Array) -> tuple[dict[str, Local], dict[str, Factors]]:
        locals_, carried = fixed_point(circuit, weights, slow, x, y)
        return locals_, law_factors(circuit, locals_, carried)

    return jax.vmap(one)(inputs, targets)


def samples_with_moments(
    inputs: Float[Array, "i i"], cross: Float[Array, "o i"], targets: Float[Array, "o o"]
) -> tuple[Float[Array, "n i"], Float[Array, "n o"]]:
    """2 (i + o) samples (x, y) with zero mean and exactly the second moments <x x^T>, <y x^T>, <y y^T>.

    A linear circuit's averaged laws depend on these moments alone, so its flow on these samples is that of the
    population. The joint moment matrix must be positive semidefinite.
    """
    joint = jnp.block([[inputs, cross.T], [cross, targets]])
    values, vectors = jnp.linalg.eigh(joint)
    points = (vectors * jnp.sqrt(jnp.maximum(values, 0) * joint.shape[0])[None]).T
    points = jnp.concatenate([points, -points])
    return points[:, : inputs.shape[0]], points[:, inputs.shape[0] :]


class FlowState(NamedTuple):
    """What evolves in the weight flow: plastic matrices and slow variables; the fixed matrices come along unchanged.

    low       what rounding has taken from matrices and slow variables (dynamics.rounding)
    twin      the slow variables of the twin that judges the steps (integrators.doubling), what rounding took from them
    accuracy  what it says of the error so far
    """

    weights: Weights
    slow: Slow
    fixed: Weights
    low: tuple[Weights, Slow] | None
    twin: tuple[Slow, Slow | None]
    accuracy: Accuracy


class FlowSystem(AbstractSystem):
    """The averaged field on `inputs`, `targets`; y is (plastic matrices, slow variables)."""

    circuit: Circuit
    timescales: Timescales
    clock: Clock
    inputs: Float[Array, "n inputs"]
    targets: Float[Array, "n outputs"]
    fixed: Weights
    sampling_noise: bool = eqx.field(static=True, default=False)

    @property
    def dt(self) -> Float[Array, ""]:
        return self.clock.dt

    def signals(self, y: PyTree, inputs: PyTree) -> dict[Any, Float[Array, " _n"]]:
        return {}

    def _factors(self, y: tuple[Weights, Slow]) -> tuple[dict[str, Local], dict[str, Factors]]:
        return batch_factors(self.circuit, {**self.fixed, **y[0]}, y[1], self.inputs, self.targets)

    def drift(self, y: tuple[Weights, Slow], inputs: PyTree, look: Look) -> tuple[Weights, Slow]:
        locals_, factors = self._factors(y)
        shown = self.clock.duration / self.clock.period
        taus = eqx.tree_at(lambda t: t.plasticity, self.timescales, self.timescales.plasticity / shown)
        return weight_drifts(self.circuit, taus, y[0], factors), slow_drifts(self.circuit, y[1], locals_, shown)

    def amplitude(self, y: tuple[Weights, Slow]) -> PyTree | None:
        """Per matrix: factors of every sample and the matrix itself, scaled by T / (tau_plast sqrt((T + g) n))."""
        if not self.sampling_noise:
            return None
        factors, amplitudes = self._factors(y)[1], {}
        for p in self.circuit.plastic:
            f, tau = factors[p.name], at_level(self.timescales.plasticity, p.level)
            scale = self.clock.duration / (tau * jnp.sqrt(self.clock.period * self.inputs.shape[0]))
            amplitudes[p.name] = (f._replace(post=scale * f.post), scale * y[0][p.name])
        return amplitudes

    def brownian_shape(self, y: tuple[Weights, Slow]) -> Float[Array, " n"] | None:
        """One Brownian motion per sample, the same for all matrices."""
        return jnp.zeros(self.inputs.shape[0], self.inputs.dtype) if self.sampling_noise else None

    def kick(
        self, amplitude: PyTree, increments: Float[Array, " n"], still: tuple[Weights, Slow]
    ) -> tuple[Weights, Slow]:
        centred = (increments - increments.mean())[:, None]
        kicks = {}
        for name, (f, w) in amplitude.items():
            kicks[name] = (f.post * centred).T @ f.pre
            if f.row_decay is not None:
                kicks[name] = kicks[name] - (f.row_decay * centred).sum(0)[:, None] * w
        return kicks, still[1]

    def stir(self, y: PyTree, increments: PyTree) -> None:
        return None


class WeightFlow(AbstractRegime[FlowState]):
    """A weight-flow run. The time of one presentation, T + g, is `clock.steps` steps; `key` drives sampling noise."""

    circuit: Circuit
    timescales: Timescales
    inputs: Float[Array, "n inputs"] = eqx.field(converter=rows("inputs"))
    targets: Float[Array, "_n outputs"] | None = eqx.field(converter=rows_or_none("targets"))
    clock: Clock
    integrator: FixedStep = FixedStep()
    key: PRNGKeyArray | None = None
    sampling_noise: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_circuit(self.circuit, self.timescales, self.inputs, self.targets)
        evaluation_order(self.circuit)  # which refuses a cycle
        if self.sampling_noise and not self.integrator.sampling:
            raise PlasticodeError(
                f"integrator '{self.integrator.name}' cannot integrate sampling noise, which is Ito and does not "
                "commute: it must be euler"
            )
        check_noise(self.integrator.name, self.sampling_noise)

    def init(self, weights: Weights) -> FlowState:
        """The start, from given matrices."""
        check_dtypes(self.clock.dt.dtype, weights, self.inputs)
        plastic = {p.name for p in self.circuit.plastic}
        fixed = {name: w for name, w in weights.items() if name not in plastic}
        start, slow = {name: weights[name] for name in sorted(plastic)}, self.circuit.initial_slow()
        zero, low = jnp.zeros_like(self.clock.dt), self.integrator.begin((start, slow)).low
        return FlowState(start, slow, fixed, low, (slow, _part(low, 1)), Accuracy(zero, zero))

    def advance(self, progress: FlowState, first: Int[Array, ""], count: Count) -> FlowState:
        """Time (T + g) * count, from the start of presentation `first`."""
        fixed, twin = progress.fixed, jax.lax.stop_gradient(self._twin())
        solver, strong = solver_named(self.integrator.name), 0.5 if self.sampling_noise else None
        order = order_of(solver, self.circuit.has_kinks, jnp.zeros_like(self.clock.dt, bool), strong)

        def present(i: Int[Array, ""], carry: tuple) -> tuple:
            (start, slow, accuracy), k = carry, first + jnp.asarray(i, jnp.int32)
            end = self._presented(start, fixed, k)
            before, given, after = jax.lax.stop_gradient((start, fixed, end))  # estimates have no derivatives
            joined = max(self.clock.steps // twin.clock.steps, 1)
            low = None if before.low is None else (before.low[0], slow[1])
            other = Point((before.y[0], slow[0]), low, None)
            other = twin._presented(other, given, k, joined)
            was, now, then = ((point.y[0], _part(point.low, 0)) for point in (before, after, other))
            judged = difference(was, now, then, (self.clock.steps, twin.clock.steps), order)
            return end, (other.y[1], _part(other.low, 1)), jax.tree.map(jnp.add, accuracy, judged)

        start = Point((progress.weights, progress.slow), progress.low, None)
        end, slow, accuracy = repeat(count, present, (start, progress.twin, progress.accuracy))
        return FlowState(end.y[0], end.y[1], fixed, end.low, slow, accuracy)

    def _presented(self, at: Point, fixed: Weights, k: Int[Array, ""], joined: int = 1) -> Point:
        """The time of presentation k; a step has the noise of `joined` steps of the run that this is a twin of."""
        steps = self.clock.steps
        return self.integrator.run(self.system(fixed), at, lambda j: None, k * steps, steps, self.key, joined)

    def _twin(self) -> "WeightFlow":
        """The run that judges this one (integrators.doubling)."""
        time = Clock(self.clock.duration, self.clock.gap, twin_steps(self.clock.steps))
        return dataclasses.replace(self, clock=time)

    def system(self, fixed: Weights) -> FlowSystem:
        """The averaged vector field."""
        targets = jnp.zeros((self.inputs.shape[0], 1), self.inputs.dtype) if self.targets is None else self.targets
        return FlowSystem(self.circuit, self.timescales, self.clock, self.inputs, targets, fixed, self.sampling_noise)

    def weights(self, progress: FlowState) -> Weights:
        """All matrices."""
        return {**progress.fixed, **progress.weights}

    def slow(self, progress: FlowState) -> Slow:
        """All slow variables."""
        return progress.slow

    def quality(self, progress: FlowState) -> Quality | None:
        """The estimate of the error against the tolerance."""
        error, diverged = progress.accuracy.relative(progress.weights), ~all_finite(progress.weights)
        return Quality(error, (error <= self.integrator.tolerance) | diverged)

    def refined(self) -> "WeightFlow | None":
        """The same flow in four times as many steps; None where there would be too many."""
        number = finer(self.clock.steps)
        if number is None:
            return None
        return dataclasses.replace(self, clock=dataclasses.replace(self.clock, steps=number[0]))


def _part(low: tuple[Weights, Slow] | None, i: int) -> Any:
    """What rounding has taken from matrices (0) or slow variables (1)."""
    return None if low is None else low[i]
