"""The weight-flow regime: fast variables at their fixed point, laws averaged over a data set; only weights evolve.

    W' = <m p^T> / tau_plast - W / tau_dec        (tau_prop -> 0)

The mean is over time: in a stream with gaps, samples for T/(T + g) of it, and what the circuit settles at without any.

Circuits with cycles flow too: their fixed points are found anew for every sample (dynamics.settle).

With `sampling_noise` it is the Ito SDE whose covariance is that of updates by batches (Li, Tai & E, bibtex
li2017stochastic), integrated through its rank-n square root; with `entropic` its drift is the modified one, which knows
that updates are steps.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, Local, Weights
from dynamics.errors import PlasticodeError
from dynamics.integrators.doubling import Accuracy, difference, finer, order_of, twin_steps
from dynamics.integrators.fixed_step import FixedStep, Point
from dynamics.integrators.solvers import SOLVERS, check_calculus, check_noise, solver_named
from dynamics.layers import Draw
from dynamics.local import as_numbers
from dynamics.loop import Count, repeat
from dynamics.moment import Factors, Product
from dynamics.noise import Noise
from dynamics.plasticity import (
    Slow,
    part,
    product,
    slow_drifts,
    slow_drives,
    slow_traces,
    weight_drifts,
    zero_traces,
)
from dynamics.regime import AbstractRegime, Quality, check_circuit, check_start
from dynamics.samples import lessons, marks, rows, rows_or_none
from dynamics.settle import Outside, check_settles, settle
from dynamics.simulate import all_finite
from dynamics.stimulus import Clock
from dynamics.system import AbstractSystem, Look
from dynamics.timescales import Timescales, at_level

Drives = dict[str, dict[str, Float[Array, "*batch _size"]]]  # of slow variables: by layer, by name


def batch_factors(
    circuit: Circuit,
    weights: Weights,
    slow: Slow,
    inputs: Float[Array, "n inputs"],
    targets: Float[Array, "n outputs"],
) -> tuple[dict[str, Local], dict[str, Product]]:
    """The locals of every layer, and m and p of every product, for all samples: with a leading batch dimension."""
    locals_, factors, _ = _batch(circuit, weights, slow, inputs, targets, jnp.ones(inputs.shape[0], inputs.dtype))
    return locals_, factors.products


def _batch(
    circuit: Circuit,
    weights: Weights,
    slow: Slow,
    inputs: Float[Array, "n inputs"],
    targets: Float[Array, "n outputs"],
    on: Float[Array, " n"],
) -> tuple[dict[str, Local], Factors, Drives]:
    """Locals, law factors and the drives of slow variables of every sample."""

    def one(x: Array, y: Array, on: Array) -> tuple[dict[str, Local], Factors, Drives]:
        moment = settle(circuit, weights, slow, Outside(x, y, on=on))
        locals_ = {layer.name: moment.local(layer) for layer in circuit.layers}
        return locals_, moment.factors(slow_traces(circuit)), slow_drives(moment)

    return jax.vmap(one)(inputs, targets, on)


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


Beside = tuple[Slow, Weights]  # slow variables, slow traces
Flowing = tuple[Weights, Slow, Weights]  # plastic maps, and what is beside them


class FlowState(NamedTuple):
    """What evolves in the weight flow: plastic maps, slow variables and slow traces of products; the fixed maps come
    along unchanged.

    low       what rounding has taken from what evolves (dynamics.rounding)
    twin      slow variables and traces of the twin that judges the steps (integrators.doubling), what rounding took
    accuracy  what it says of the error so far
    """

    weights: Weights
    slow: Slow
    traces: Weights
    fixed: Weights
    low: Flowing | None
    twin: tuple[Beside, Beside | None]
    accuracy: Accuracy


class FlowSystem(AbstractSystem):
    """The averaged field on `inputs`, `targets`; y is (plastic maps, slow variables, slow traces)."""

    circuit: Circuit
    timescales: Timescales
    clock: Clock
    inputs: Float[Array, "n inputs"]
    targets: Float[Array, "n outputs"]
    told: Float[Array, " n"]
    fixed: Weights
    sampling_noise: bool = eqx.field(static=True, default=False)
    noise: Noise = Noise()
    entropic: bool = eqx.field(static=True, default=False)
    batch: Float[Array, ""] = eqx.field(converter=as_numbers, default=1.0)

    @property
    def dt(self) -> Float[Array, ""]:
        return self.clock.dt

    def signals(self, y: PyTree, inputs: PyTree) -> dict[Any, Float[Array, " _n"]]:
        return {}

    def _samples(self, y: Flowing, inputs: Array, targets: Array, on: Array, shares: Array) -> tuple[Factors, Drives]:
        """Factors and drives of samples that have these `shares` of time: means over the batch are over time."""
        weights = {**self.fixed, **y[0]}
        _, factors, drives = _batch(self.circuit, weights, y[1], inputs, targets, on)
        scale = (shares * shares.shape[0])[:, None]

        def weighed(f: Product) -> Product:
            return f._replace(post=scale * f.post, gate=None if f.gate is None else scale * f.gate)

        products = {name: weighed(f) for name, f in factors.products.items()}
        rates = {name: scale * rate for name, rate in factors.rates.items()}
        return Factors(products, rates), jax.tree.map(lambda drive: scale * drive, drives)

    def _over_time(self, y: Flowing) -> tuple[Factors, Drives]:
        """Those of all samples for T/(T + g) of the time, and of a blank gap for the rest of it."""
        n, shown = self.inputs.shape[0], self.clock.duration / self.clock.period
        inputs, targets = (jnp.concatenate([x, jnp.zeros_like(x[:1])]) for x in (self.inputs, self.targets))
        on, blank = jnp.concatenate([self.told, jnp.zeros_like(self.told[:1])]), jnp.arange(n + 1) == n
        return self._samples(y, inputs, targets, on, jnp.where(blank, 1 - shown, shown / n))

    def drift(self, y: Flowing, inputs: PyTree, look: Look | None) -> Flowing:
        factors, drives = self._over_time(y)
        weights, circuit = {**self.fixed, **y[0]}, self.circuit
        moved = weight_drifts(circuit, self.timescales, weights, factors, y[2])
        slow = slow_drifts(circuit, y[1], drives)
        if self.entropic:
            moved, slow = jax.tree.map(jnp.subtract, (moved, slow), self._entropic(y))
        return moved, slow, self._trace_drifts(y, factors)

    def _trace_drifts(self, y: Flowing, factors: Factors) -> Weights:
        drifts, by_name = {}, {term.name: term for term in self.circuit.terms}
        for name, tau in slow_traces(self.circuit).items():
            mean = product(self.circuit, by_name[name], y[0][by_name[name].owner.name], factors.products[name])
            drifts[name] = (mean - y[2][name]) / tau
        return drifts

    def _entropic(self, y: Flowing) -> tuple[Weights, Slow]:
        """(T + g)/2 <F_B' F_B>, F_B the drift that batch B alone would give: what a step of one presentation lacks of
        the flow along its batch, to second order (bibtex: ziyin2025neural).

        Beside Ito noise it is (T + g)/2 F' F of the whole drift F, with which moments are right to second order (Li,
        Tai & E): the rest of the mean over batches is what noise drifts in the sense of Ito beyond Stratonovich's."""
        whole = self._second(y, self.inputs, self.targets, self.told)
        if self.sampling_noise:
            return jax.tree.map(lambda w: self.clock.period / 2 * w, whole)
        samples = self.inputs[:, None], self.targets[:, None], self.told[:, None]
        alone = jax.vmap(functools.partial(self._second, y))(*samples)
        share = 1 / self.batch  # pairs of draws of a batch that are the same draw
        return jax.tree.map(lambda w, a: self.clock.period / 2 * (w + share * (a.mean(0) - w)), whole, alone)

    def _second(self, y: Flowing, inputs: Array, targets: Array, told: Array) -> tuple[Weights, Slow]:
        """F' F, F the drift that these samples alone would give."""
        shares = self.clock.duration / self.clock.period / inputs.shape[0] * jnp.ones_like(told)

        def drift(weights: Weights, slow: Slow) -> tuple[Weights, Slow]:
            factors, drives = self._samples((weights, slow, y[2]), inputs, targets, told, shares)
            moved = weight_drifts(self.circuit, self.timescales, {**self.fixed, **weights}, factors)
            return moved, slow_drifts(self.circuit, slow, drives)

        return jax.jvp(drift, y[:2], drift(*y[:2]))[1]

    def amplitude(self, y: Flowing) -> PyTree | None:
        """Of sampling noise, by term: its factors for every sample, scaled by T / (tau_plast sqrt((T + g) n B)), and
        the map that it scales or changes. Of synaptic noise, by kind. None without noise."""
        sampling, kinds = {}, self.noise.on_synapses.values()
        if self.sampling_noise:
            weights = {**self.fixed, **y[0]}
            factors = _batch(self.circuit, weights, y[1], self.inputs, self.targets, self.told)[1]
            for term in self.circuit.terms:
                tau, f = at_level(self.timescales.plasticity, term.of.level), factors.products.get(term.name)
                scale = self.clock.duration / (tau * jnp.sqrt(self.clock.period * self.inputs.shape[0] * self.batch))
                if f is None:
                    sampling[term.name] = scale * factors.rates[term.name], weights
                else:
                    sampling[term.name] = f._replace(post=scale * f.post), weights
        synaptic = {k.draws[0]: {n: k.amplitude(s, w) for n, w in y[0].items()} for k, s in kinds}
        return (sampling, synaptic) if sampling or synaptic else None

    def brownian_shape(self, y: Flowing) -> PyTree | None:
        """One Brownian motion per sample, the same for all maps, and one per weight for synaptic noise."""
        synaptic = {kind.draws[0]: y[0] for kind, _ in self.noise.on_synapses.values()}
        sampling = jnp.zeros(self.inputs.shape[0], self.inputs.dtype)
        if not synaptic:
            return sampling if self.sampling_noise else None
        return synaptic | ({"sampling": sampling} if self.sampling_noise else {})

    def kick(self, amplitude: PyTree, increments: PyTree, still: Flowing) -> Flowing:
        (sampling, synaptic), moved = amplitude, dict(still[0])
        if sampling:
            whole = increments if not synaptic else increments["sampling"]
            centred = (whole - whole.mean())[:, None] * self.inputs.shape[0]
            for term in self.circuit.terms:
                f, weights = sampling[term.name]
                if isinstance(f, Product):
                    factors = Factors({term.name: f._replace(post=f.post * centred)}, {})
                else:
                    factors = Factors({}, {term.name: f * centred})
                change, name = part(self.circuit, term, weights, factors, jnp.ones_like(whole[0])), term.owner.name
                mirror = self.circuit.map_of(name).mirror
                moved[name] += change if mirror is None else mirror.metric(weights[name]) * change
        for kind, amplitudes in synaptic.items():
            for name, a in amplitudes.items():
                moved[name] += self.circuit.map_of(name).within(a * increments[kind][name])
        return (moved, *still[1:])

    def stir(self, y: PyTree, increments: PyTree) -> None:
        return None


class WeightFlow(AbstractRegime[FlowState]):
    """A weight-flow run. The time of one presentation, T + g, is `clock.steps` steps; `key` drives its noise.

    sampling_noise  the noise of showing samples in batches      noise  of the weights themselves (dynamics.noise)
    entropic        the modified flow, which steps of one presentation each follow to second order: along the mean of
                    their batches, or with sampling noise in the moments
    batch           how many samples, drawn independently, such a step shows; infinity: all, the flow of full batches
    told            (samples,): 0 for those whose target is not given, so that there is no error; None: all are
    """

    circuit: Circuit
    timescales: Timescales
    inputs: Float[Array, "n inputs"] = eqx.field(converter=rows("inputs"))
    targets: Float[Array, "_n outputs"] | None = eqx.field(converter=rows_or_none("targets"))
    clock: Clock
    integrator: FixedStep = FixedStep()
    key: PRNGKeyArray | None = None
    sampling_noise: bool = eqx.field(static=True, default=False)
    noise: Noise = Noise()
    entropic: bool = eqx.field(static=True, default=False)
    batch: Float[Array, ""] = eqx.field(converter=as_numbers, default=1.0)
    told: Float[Array, " _n"] | None = eqx.field(converter=marks, default=None)

    def __check_init__(self):
        check_circuit(self.circuit, self.timescales, self.inputs, self.targets, self.told)
        check_settles(self.circuit)
        self._check_averages()
        if self.sampling_noise and not self.integrator.sampling:
            raise PlasticodeError(
                f"integrator '{self.integrator.name}' cannot integrate sampling noise, which is Ito and does not "
                "commute: it must be euler"
            )
        if self.sampling_noise and self.noise.calculus != "ito":
            raise PlasticodeError(f"noise.calculus = '{self.noise.calculus}' is not allowed: sampling noise is Ito")
        if self.noise.fluctuations:
            kind = ", ".join(f"noise.{name}" for name in self.noise.levels if name not in self.noise.on_synapses)
            raise PlasticodeError(f"{kind} is not allowed in the weight flow, where activities and errors are settled")
        check_calculus(self.integrator.name, self.noise.calculus, self.noise.multiplied)
        check_noise(self.integrator.name, self.sampling_noise or self.noise.present)

    def _check_averages(self) -> None:
        """Refuses what has no average over samples."""
        if self.circuit.drawn or any(isinstance(layer.source, Draw) for layer in self.circuit.layers):
            raise PlasticodeError(
                "this rule needs random numbers that are drawn anew for each presentation, over which a weight flow, "
                "the mean over samples, does not average: the regime must be coupled or discrete"
            )
        curved = [p.name for p in self.circuit.plastic if self.circuit.map_of(p.name).is_curved]
        if curved and self.entropic:
            raise PlasticodeError(
                f"this rule keeps the signs or the norm of '{curved[0]}', and the entropic flow knows plain steps "
                "alone: flow.entropic must be false"
            )
        slow = list(slow_traces(self.circuit))
        if slow and (self.sampling_noise or self.entropic):
            what, key = (
                ("the entropic flow", "flow.entropic") if self.entropic else ("sampling noise", "noise.sampling")
            )
            raise PlasticodeError(
                f"the weights of this rule follow slow averages, as those of momentum do, which {what} does not know: "
                f"{key} must be false"
            )

    def init(self, weights: Weights) -> FlowState:
        """The start, from given maps."""
        check_start(self.circuit, self.clock.dt.dtype, weights, self.inputs)
        start = {p.name: weights[p.name] for p in sorted(self.circuit.plastic, key=lambda p: p.name)}
        fixed = {name: w for name, w in weights.items() if name not in start}
        slow, traces = self.circuit.initial_slow(self.clock.dt.dtype), zero_traces(self.circuit, start)
        zero, low = jnp.zeros_like(self.clock.dt), self.integrator.begin((start, slow, traces)).low
        twin = (slow, traces), _beside(low)
        return FlowState(start, slow, traces, fixed, low, twin, Accuracy(zero, zero))

    def advance(self, progress: FlowState, first: Int[Array, ""], count: Count) -> FlowState:
        """Time (T + g) * count, from the start of presentation `first`."""
        fixed, twin = progress.fixed, jax.lax.stop_gradient(self._twin())
        solver = solver_named(self.integrator.name)
        order = order_of(solver, self.circuit.has_kinks, jnp.zeros_like(self.clock.dt, bool), self._strong())

        def present(i: Int[Array, ""], carry: tuple) -> tuple:
            (start, beside, accuracy), k = carry, first + jnp.asarray(i, jnp.int32)
            end = self._presented(start, fixed, k)
            before, given, after = jax.lax.stop_gradient((start, fixed, end))  # estimates have no derivatives
            joined = max(self.clock.steps // twin.clock.steps, 1)
            low = None if before.low is None else (before.low[0], *beside[1])
            other = Point((before.y[0], *beside[0]), low, None)
            other = twin._presented(other, given, k, joined)
            was, now, then = ((point.y[0], _lost(point.low)) for point in (before, after, other))
            judged = difference(was, now, then, (self.clock.steps, twin.clock.steps), order)
            return end, (other.y[1:], _beside(other.low)), jax.tree.map(jnp.add, accuracy, judged)

        start = Point((progress.weights, progress.slow, progress.traces), progress.low, None)
        end, beside, accuracy = repeat(count, present, (start, progress.twin, progress.accuracy))
        weights, slow, traces = end.y
        return FlowState(weights, slow, traces, fixed, end.low, beside, accuracy)

    def _strong(self) -> float | None:
        """The strong order of the integrator along the noise there is."""
        if self.noise.multiplied:
            return SOLVERS[self.integrator.name].strong
        return 0.5 if self.sampling_noise else 1.0 if self.noise.present else None

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
        noise = self.sampling_noise, self.noise, self.entropic, self.batch
        told = jnp.ones_like(self.inputs[:, 0]) if self.told is None else self.told.astype(self.inputs.dtype)
        samples = self.inputs, lessons(self.inputs, self.targets, self.told), told
        return FlowSystem(self.circuit, self.timescales, self.clock, *samples, fixed, *noise)

    def weights(self, progress: FlowState) -> Weights:
        """All maps."""
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


def _lost(low: Flowing | None) -> Weights | None:
    """What rounding has taken from the maps."""
    return None if low is None else low[0]


def _beside(low: Flowing | None) -> Beside | None:
    """What it has taken from all else."""
    return None if low is None else low[1:]
