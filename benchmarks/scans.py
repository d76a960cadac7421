"""The hand-written competitor: plain arrays, `lax` loops, Euler or RK4, as a good user writes it; and the reference."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.contract import Competitor, Setting, stages
from benchmarks.devices import ALL, BLOCK, Advance, JaxProgram, blocks_differ
from benchmarks.workloads import TAU_PROP, Problem, T, sample

State = tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]  # W_l, z_l, e_l
Increment = Callable[[State], State]


def increment(state: State, x: Array, y: Array, feedback: tuple[Array, ...], tau: Array, dt: Array) -> State:
    """dt times the right-hand side of the equations."""
    weights, z, e = state
    sources = (x, *z[:-1])
    a = [w @ p for w, p in zip(weights, sources, strict=True)]
    f = [*(jnp.tanh(each) for each in a[:-1]), a[-1]]
    credit = [(1 - g**2) * (v @ above) for g, v, above in zip(f, feedback, e[1:], strict=False)]
    fast = dt / TAU_PROP
    d_weights = tuple((dt / tau * m)[:, None] * p[None, :] for m, p in zip(e, sources, strict=True))
    d_z = tuple(fast * (g - each) for g, each in zip(f, z, strict=True))
    d_e = tuple(fast * (c - each) for c, each in zip([*credit, y - z[-1]], e, strict=True))
    return d_weights, d_z, d_e


def euler(state: State, k: Increment) -> State:
    """One step of Euler's method."""
    return jax.tree.map(jnp.add, state, k(state))


def rk4(state: State, k: Increment) -> State:
    """One step of the classical Runge-Kutta method."""
    k1 = k(state)
    k2 = k(jax.tree.map(lambda s, d: s + d / 2, state, k1))
    k3 = k(jax.tree.map(lambda s, d: s + d / 2, state, k2))
    k4 = k(jax.tree.map(jnp.add, state, k3))
    return jax.tree.map(lambda s, a, b, c, d: s + (a + 2 * b + 2 * c + d) / 6, state, k1, k2, k3, k4)


def silent(weights: tuple[Array, ...]) -> State:
    """The start of a run: these weights, and no activity."""
    quiet = tuple(jnp.zeros(w.shape[:1], w.dtype) for w in weights)
    return weights, quiet, quiet


def presentations_of(show: Callable[..., State]) -> Advance:
    """A competitor from `show(state, increment, steps)`, which integrates over one presentation.

    `increment(state)` is dt times the right-hand side.
    """

    def advance(point: tuple, samples: tuple, steps: Any, presentations: Array) -> tuple[Array, ...]:
        (weights, feedback, tau, seed), (inputs, targets) = point, samples
        dt = T / jnp.asarray(steps).astype(tau.dtype)

        def present(k: Array, state: State) -> State:
            shown = sample(seed, jnp.asarray(k, jnp.int32), inputs.shape[0])
            task = {"x": inputs[shown], "y": targets[shown], "feedback": feedback, "tau": tau, "dt": dt}
            return show(state, functools.partial(increment, **task), steps)

        return jax.lax.fori_loop(0, presentations, present, silent(weights))[0]

    return advance


def scan(step: Callable[[State, Increment], State]) -> Advance:
    """The hand-written loop around `step`."""

    def show(state: State, k: Increment, steps: Any) -> State:
        return jax.lax.fori_loop(0, steps, lambda _, s: step(s, k), state)

    return presentations_of(show)


def competitors(ladder: tuple[Setting, ...]) -> list[Competitor]:
    """Euler and RK4, each as one vmap over all configurations of a device and in blocks that fit the cache."""

    def one(scheme: str, step: Callable, evaluations: int, layout: str) -> Competitor:
        block = ALL if layout == "vmap" else BLOCK
        return Competitor(
            f"scan {scheme}, {layout}",
            "scan",
            ladder,
            lambda problem: JaxProgram(problem, scan(step), block),
            stages(evaluations),
            like=f"scan {scheme}, vmap" if layout == "blocks" else None,
            applies=blocks_differ if layout == "blocks" else lambda configurations: True,
        )

    schemes = (("Euler", euler, 1), ("RK4", rk4, 4))
    return [one(*scheme, layout) for scheme in schemes for layout in ("vmap", "blocks")]


def reference(problem: Problem) -> list[np.ndarray]:
    """The weights after the small problem's presentations, by RK4 in float64."""
    workload = problem.workload
    with jax.enable_x64(True):
        program = JaxProgram(problem, scan(rk4), dtype=np.float64)
        weights = program.run(workload.reference_steps, workload.reference_presentations)
        return [np.asarray(w) for w in weights]
