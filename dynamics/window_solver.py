"""The window solver: a diffrax solver whose step is a window of time, solved at once (dynamics.waveforms)."""

from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.collocation import leak
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.timescales import at_level
from dynamics.waveforms import Filters, Relaxation, Waves

MAX_SWEEPS = 40


class Accuracy(NamedTuple):
    """Sums over windows of the estimated error and of the size of the weights' change."""

    error: Float[Array, ""]
    change: Float[Array, ""]

    @property
    def relative(self) -> Float[Array, ""]:
        """The estimated error relative to the distance that the weights have moved."""
        return self.error / jnp.maximum(self.change, jnp.finfo(self.change.dtype).tiny)


def filters_of(system: CoupledSystem, length: Float[Array, ""], s: int) -> Filters:
    """The filters of one window of `length` seconds, without delays."""
    times, circuit = system.timescales, system.circuit
    levels = {layer.level for layer in circuit.layers if not layer.clamped}
    plastic = {p.level for p in circuit.plastic}

    def by_level(taus: Float[Array, "*layers"] | None, levels: set[int]) -> dict[int, Array]:
        if taus is None:
            return {}
        if taus.ndim == 0:
            return dict.fromkeys(sorted(levels), leak(length / taus, s))
        return {level: leak(length / at_level(taus, level), s) for level in sorted(levels)}

    chain = {}
    for name, lag in system.lags().items() if system.gamma else ():
        late = leak(length * system.delays.stages / jnp.where(lag > 0, lag, 1), s)
        chain[name] = jnp.where(lag > 0, late, jnp.eye(s, dtype=late.dtype))
    slow = {layer.name: {v.name: leak(length / v.timescale, s) for v in layer.slow} for layer in circuit.layers}
    return Filters(
        length,
        by_level(times.propagation, levels),
        by_level(times.trace, plastic),
        {name: filters for name, filters in slow.items() if filters},
        chain,
        {},
    )


class WindowTerm(diffrax.AbstractTerm):
    """The coupled field of a circuit, for `WindowSolver` (or any solver, where nothing is late): time in seconds."""

    system: CoupledSystem

    def vf(self, t: Any, y: State, args: Inputs) -> State:
        return self.system.drift(y, args, _no_look)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Array:
        return t1 - t0

    def prod(self, vf: State, control: Array) -> State:
        return jax.tree.map(lambda v: control * v, vf)


def _no_look(*args: Any, **kwargs: Any) -> Array:
    raise PlasticodeError("a window term has no past: give delays to the window integrator instead")


class Context(NamedTuple):
    """What a step within a presentation knows beyond its inputs: ready filters, the past, noise."""

    filters: Filters
    late: dict[str, Float[Array, " _n"]]
    past: dict[str, Float[Array, "s _n"]]
    noise: dict[tuple[str, str], Float[Array, "s _n"]]


class Solved(NamedTuple):
    """Waveforms after some sweeps; how far the last one has moved them, and how far they are from the limit."""

    waves: Waves
    sweeps: Int[Array, ""]
    moved: Float[Array, ""]
    left: Float[Array, ""]


class WindowSolver(diffrax.AbstractSolver):
    """A diffrax solver whose step is one window: Radau IIA collocation of the fast variables and of the low-rank change
    of the weights, by waveform relaxation (dynamics.waveforms).

    Inputs must be constant during a step. Order 2 s - 1 in the length of the window; the relaxation goes on until it
    has converged to half the `tolerance` relative to the weights' change, at most `MAX_SWEEPS` times, or for exactly
    `sweeps`.
    """

    s: int = eqx.field(static=True, default=12)
    tolerance: float = eqx.field(static=True, default=1e-3)
    sweeps: int | None = eqx.field(static=True, default=None)

    term_structure: ClassVar = WindowTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: diffrax.AbstractTerm) -> int:
        return 2 * self.s - 1

    def init(self, terms: diffrax.AbstractTerm, t0: Any, t1: Any, y0: State, args: Inputs) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: State, args: Inputs, solver_state: None, made_jump: Any
    ) -> tuple[State, State, dict[str, State], None, diffrax.RESULTS]:
        system = getattr(terms, "term", terms).system  # `diffeqsolve` wraps terms
        filters = filters_of(system, jnp.asarray(t1 - t0, system.dt.dtype), self.s)
        window, solved = self.solve(system, y0, args, Context(filters, {}, {}, {}))
        y1, accuracy = window.end(solved.waves), self.accuracy(window, solved)
        # The error is known as a norm over all plastic matrices: share it among them as their changes are.
        share = accuracy.relative
        moved = jax.tree.map(lambda after, before: share * jnp.abs(after - before), y1.weights, y0.weights)
        error = eqx.tree_at(lambda y: y.weights, jax.tree.map(jnp.zeros_like, y0), moved)
        return y1, error, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: diffrax.AbstractTerm, t0: Any, y0: State, args: Inputs) -> State:
        return terms.vf(t0, y0, args)

    def solve(self, system: CoupledSystem, y0: State, inputs: Inputs, context: Context) -> tuple[Relaxation, Solved]:
        """The solved window."""
        window = Relaxation(system, y0, context.filters, inputs, context.late, context.past, context.noise, self.s)
        one, still = jnp.ones_like(window.filters.length), jax.lax.stop_gradient(window)

        def step(last: Solved) -> Solved:
            waves = window.sweep(last.waves)
            moved = still.difference(*jax.lax.stop_gradient((waves, last.waves)))
            rate = jnp.minimum(moved / jnp.maximum(last.moved, jnp.finfo(one.dtype).tiny), 0.9)
            return Solved(waves, last.sweeps + 1, moved, moved * rate / (1 - rate))

        def unfinished(last: Solved) -> Array:
            return (last.sweeps < 2) | ((last.left > self.tolerance / 2) & (last.sweeps < MAX_SWEEPS))

        first = Solved(window.sweep(window.guess()), jnp.int32(1), one, one)
        if self.sweeps is None:
            return window, jax.lax.while_loop(unfinished, step, first)
        return window, jax.lax.fori_loop(1, self.sweeps, lambda _, last: step(last), first)

    def accuracy(self, window: Relaxation, solved: Solved) -> Accuracy:
        """What the estimates say of the weights' change in a window."""
        window, solved = jax.lax.stop_gradient((window, solved))  # an empty window has no slope of a norm
        change, error = window.change(solved.waves), solved.left
        if not window.noise:  # noise is rough on every scale: its waveforms have no end of a series
            error = error + window.roughness(solved.waves)
        return Accuracy(error * change, change)
