"""The window solver: a diffrax solver whose step is a window of time, solved at once (integrators.waveforms)."""

from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.integrators.collocation import Leak, lagging, leak, nodes, others
from dynamics.integrators.drives import turned
from dynamics.integrators.owed import NOTHING, Owed
from dynamics.integrators.waveforms import Relaxation, Waves
from dynamics.integrators.window_parts import Filters
from dynamics.settle import is_cyclic
from dynamics.system import Look
from dynamics.timescales import at_level

MAX_SWEEPS = 40
SLOWEST = 0.98  # what a sweep's rate of contraction is believed to be at most: beyond it nothing is known
STILL = 16  # eps: a sweep that moves a window by so little is down to rounding, and its rate says nothing


def filters_of(system: CoupledSystem, length: Float[Array, ""], s: int) -> Filters:
    """The filters of one window of `length` seconds, without delays."""
    times, circuit = system.timescales, system.circuit
    variables = [(layer, v) for layer in circuit.layers for v in circuit.variables(layer).values()]
    levels = {layer.level for layer, v in variables if v.timescale is None}
    traced = {t.name: t.trace.timescale for t in circuit.terms if t.trace is not None and t.trace.timescale is not None}
    outer = {t.of.level for t in circuit.terms if t.trace is not None and t.trace.timescale is None}

    def by_level(taus: Float[Array, "*layers"] | None, levels: set[int]) -> dict[int, Leak]:
        if taus is None:
            return {}
        if taus.ndim == 0:
            return dict.fromkeys(sorted(levels), leak(length / taus, s))
        return {level: leak(length / at_level(taus, level), s) for level in sorted(levels)}

    lags = system.lags() if system.gamma else {}
    chain = {name: lagging(length, lag / system.delays.stages, s) for name, lag in lags.items()}
    own: dict[str, dict[str, Leak]] = {}
    for layer, v in variables:
        if v.timescale is not None:
            ratio = length / v.timescale
            made = leak(ratio, s) if ratio.ndim == 0 else jax.vmap(lambda r: leak(r, s))(ratio)
            own.setdefault(layer.name, {})[v.name] = made
    return Filters(
        length,
        by_level(times.propagation, levels),
        by_level(times.trace, outer),
        own,
        {name: leak(length / tau, s) for name, tau in traced.items()},
        chain,
        {},
    )


class WindowTerm(diffrax.AbstractTerm):
    """The coupled field of a circuit, for `WindowSolver` (or any solver, where nothing is late): time in seconds."""

    system: CoupledSystem

    def vf(self, t: Any, y: State, args: Inputs) -> State:
        return self.system.drift(y, args, Look(jnp.zeros_like(self.system.dt), _no_past))

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Array:
        return t1 - t0

    def prod(self, vf: State, control: Array) -> State:
        return jax.tree.map(lambda v: control * v, vf)


def _no_past(*args: Any, **kwargs: Any) -> Array:
    raise PlasticodeError("a window term has no past: give delays to the window integrator instead")


class Context(NamedTuple):
    """What a step within a presentation knows beyond its inputs: ready filters, the past, noise, the times of nodes in
    seconds after the start of the presentation, and matrices that are transposed already."""

    filters: Filters
    late: dict[str, Float[Array, "_rows _n"]]
    past: dict[str, Float[Array, "s _n"]]
    noise: dict[tuple[str, str], Float[Array, "s _n"]]
    times: Float[Array, " s"]
    turned: Weights = {}
    owed: Owed = NOTHING


class Solved(NamedTuple):
    """Waveforms after some sweeps, and how far the second and the last one have moved their drives, relative to `size`,
    the mean size of the drives in weight per second; `left` is how far they still are from the limit, relative too, and
    `enough` how far they may be."""

    waves: Waves
    sweeps: Float[Array, ""]
    second: Float[Array, ""]
    moved: Float[Array, ""]
    left: Float[Array, ""]
    size: Float[Array, ""]
    enough: Float[Array, ""]


class WindowSolver(diffrax.AbstractSolver):
    """A diffrax solver whose step is one window: collocation of the fast variables and of the low-rank change
    of the weights, by waveform relaxation (integrators.waveforms).

    Inputs must be constant during a step. Order s in the length of the window; the relaxation goes on until it
    has converged to half the `tolerance` (in a cycle to a 16th) relative to the weights' change, at most `MAX_SWEEPS`
    times, or for exactly `sweeps`. The error estimate of a step is its distance from one with more nodes.
    """

    s: int = eqx.field(static=True, default=12)
    tolerance: float = eqx.field(static=True, default=1e-3)
    sweeps: int | None = eqx.field(static=True, default=None)

    term_structure: ClassVar = WindowTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: diffrax.AbstractTerm) -> int:
        return self.s

    def init(self, terms: diffrax.AbstractTerm, t0: Any, t1: Any, y0: State, args: Inputs) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: State, args: Inputs, solver_state: None, made_jump: Any
    ) -> tuple[State, State, dict[str, State], None, diffrax.RESULTS]:
        system = getattr(terms, "term", terms).system  # `diffeqsolve` wraps terms

        def end(solver: WindowSolver) -> State:
            filters = filters_of(system, jnp.asarray(t1 - t0, system.dt.dtype), solver.s)
            times = t0 + filters.length * jnp.asarray(nodes(solver.s), filters.length.dtype)
            window, solved = solver.solve(system, y0, args, Context(filters, {}, {}, {}, times))
            return window.end(solved.waves)

        y1 = end(self)
        finer = end(WindowSolver(others(self.s), self.tolerance, self.sweeps))
        error = jax.tree.map(jnp.subtract, finer, y1)
        return y1, error, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: diffrax.AbstractTerm, t0: Any, y0: State, args: Inputs) -> State:
        return terms.vf(t0, y0, args)

    def solve(self, system: CoupledSystem, y0: State, inputs: Inputs, context: Context) -> tuple[Relaxation, Solved]:
        """The solved window."""
        context_ = context.filters, inputs, context.late, context.past, context.noise, context.times
        weights = {**system.weights(y0), **system.circuit.redrawn(inputs.given)}
        known = context.turned | context.owed.turned
        left = {name: w for name, w in weights.items() if name not in known}
        window = Relaxation(system, y0, *context_, known | turned(system.circuit, left), context.owed, self.s)
        one, still = jnp.ones_like(window.filters.length), jax.lax.stop_gradient(window.learning)
        eps = jnp.finfo(one.dtype).eps
        # Without cycles the first sweep is exact but for what the weights do in the window: it has moved by 1. In a
        # cycle it starts from a guess, and only later sweeps show how fast they contract.
        cyclic = is_cyclic(system.circuit)
        least, share = (3, 16) if cyclic else (2, 2)  # states hand errors on

        def step(last: Solved) -> Solved:
            waves = window.sweep(last.waves)
            moved, size, contrast = window.difference(still, *jax.lax.stop_gradient((waves, last.waves)))
            rate = moved / jnp.maximum(last.moved, jnp.finfo(one.dtype).tiny)
            if not cyclic:
                # What weights do acts on what follows in time alone: the n-th sweep moves as the n-th term of an
                # exponential series, and each rate is smaller than the one before it.
                rate = rate * last.sweeps / (last.sweeps + 1)
            rate = jnp.minimum(rate, SLOWEST)
            # Rounding differs from window to window: it does not add up, and finer windows see it.
            left = jnp.where(moved > STILL * eps, moved * rate / (1 - rate), moved / STILL)
            second = jnp.where(last.sweeps == 1, moved, last.second)
            return Solved(waves, last.sweeps + one, second, moved, left, size, self.tolerance / share * contrast)

        def unfinished(last: Solved) -> Array:
            going_on = (last.left > last.enough) & (last.moved > STILL * eps) & (last.sweeps < MAX_SWEEPS)
            return (last.sweeps < least) | going_on

        first = Solved(window.sweep(window.guess()), one, one, one, one, 0 * one, 0 * one)
        if self.sweeps is None:
            # All numbers as one: points that have finished keep each of what a loop hands on by a kernel of its own.
            def packed(solved: Solved) -> tuple[Waves, Float[Array, " numbers"]]:
                return solved.waves, jnp.stack(solved[1:])

            def opened(last: tuple[Waves, Float[Array, " numbers"]]) -> Solved:
                return Solved(last[0], *last[1])

            last = jax.lax.while_loop(
                lambda last: unfinished(opened(last)), lambda last: packed(step(opened(last))), packed(first)
            )
            return window, opened(last)
        return window, jax.lax.fori_loop(1, self.sweeps, lambda _, last: step(last), first)
