"""Competitors that integrate the hand-written equations with somebody's solver: stock diffrax, and BrainPy."""

import importlib.util
import inspect
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.contract import Competitor, Setting, stages
from benchmarks.devices import Advance, JaxProgram
from benchmarks.scans import Increment, State, presentations_of


def diffrax_competitors(ladder: tuple[Setting, ...]) -> list[Competitor]:
    """`diffeqsolve` over each presentation, at constant steps. (Tsit5: its last evaluation is the next first one.)"""

    def one(solver: Callable[[], diffrax.AbstractSolver], evaluations: int) -> Competitor:
        return Competitor(
            f"diffrax {solver.__name__}",
            "diffrax",
            ladder,
            lambda problem: JaxProgram(problem, diffrax_presentations(solver())),
            stages(evaluations),
        )

    return [one(diffrax.Euler, 1), one(diffrax.Heun, 2), one(diffrax.Tsit5, 6)]


def diffrax_presentations(solver: diffrax.AbstractSolver) -> Advance:
    """Stock diffrax at its fastest settings: no saved steps, no reverse mode, no exceptions. Time counts steps, so that
    float32 rounding adds none."""

    def show(state: State, k: Increment, steps: Any) -> State:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: k(y)),
            solver,
            t0=jnp.float32(0),
            t1=jnp.asarray(steps).astype(jnp.float32),
            dt0=jnp.float32(1),
            y0=state,
            saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.ConstantStepSize(),
            adjoint=diffrax.ForwardMode(),
            max_steps=None,
            throw=False,
        )
        return jax.tree.map(lambda leaf: leaf[0], solution.ys)

    return presentations_of(show)


def brainpy_competitors(ladder: tuple[Setting, ...]) -> list[Competitor]:
    """BrainPy's Euler and RK4."""
    missing = None if importlib.util.find_spec("brainpy") else "brainpy is not installed"

    def one(name: str, method: str, evaluations: int) -> Competitor:
        return Competitor(
            f"BrainPy {name}",
            "brainpy",
            ladder,
            lambda problem: JaxProgram(problem, brainpy_presentations(method)),
            stages(evaluations),
            like=f"scan {name}, vmap",
            missing=missing,
        )

    return [one("Euler", "euler", 1), one("RK4", "rk4", 4)]


def brainpy_presentations(method: str) -> Advance:
    """`odeint`'s step function in a loop over steps. BrainPy tells variables from parameters by their names."""
    odeint = _brainpy_odeint()

    def show(state: State, k: Increment, steps: Any) -> State:
        leaves, structure = jax.tree.flatten(state)

        def drift(*arguments: Array) -> tuple[Array, ...]:
            return tuple(jax.tree.leaves(k(jax.tree.unflatten(structure, arguments[: len(leaves)]))))

        names = [*(f"s{i}" for i in range(len(leaves))), "t"]
        drift.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )
        step = odeint(drift, method=method)
        time, dt = jnp.float32(0), jnp.float32(1)  # as with diffrax, in steps
        end = jax.lax.fori_loop(0, steps, lambda _, s: tuple(step(*s, time, dt=dt)), tuple(leaves))
        return jax.tree.unflatten(structure, end)

    return presentations_of(show)


def _brainpy_odeint() -> Callable:
    """BrainPy's `odeint`; its import sets the precision of the whole process, which is put back."""
    before = jax.config.values["jax_enable_x64"]
    import brainpy  # pyright: ignore[reportMissingImports]

    jax.config.update("jax_enable_x64", before)
    return brainpy.odeint
