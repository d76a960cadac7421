"""One step of a diffrax solver through a system with inputs, delays and noise: what the solver is given.

Time inside a solver runs in integer steps from the start of a presentation, so that no time is ever an accumulated
float and a float32 run has exact steps however long it is.
"""

import dataclasses
import functools
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from dynamics.delays import History
from dynamics.integrators.solvers import solver_named
from dynamics.system import AbstractSystem, Look


class Moment(eqx.Module):
    """What is fixed during one step: the inputs, the past, the integer step and its position in the presentation."""

    inputs: PyTree
    history: History | None
    step: Int[Array, ""]
    start: Float[Array, ""]

    def look(self, share: Array, dt: Float[Array, ""]) -> Look:
        """How a field looks back when a `share` of the step, of `dt` seconds, is over."""

        def past(name: Any, current: Array, lag: Array, stepwise: bool = False, side: Array | None = None) -> Array:
            assert self.history is not None
            fraction = jnp.zeros_like(self.start) if stepwise else share
            return self.history.at(name, self.step, fraction, lag / dt, current, side)

        return Look(share * dt, past)


class Base(eqx.Module):
    """What a solver's y is added to. It steps from zero, so that small changes are not rounded to large numbers.

    y       the state at the start of the step
    stirred how noise changes it in the course of the step: taken to be linear in time
    """

    y: PyTree
    stirred: PyTree | None = None

    def plus(self, change: PyTree, share: Array) -> PyTree:
        """The state when the solver's y is `change` and a `share` of the step is over."""
        y = jax.tree.map(jnp.add, self.y, change)
        return y if self.stirred is None else stirred_by(y, self.stirred, share)


def stirred_by(y: PyTree, change: PyTree, share: Array) -> PyTree:
    """The state after a `share` of a change that noise makes."""
    return jax.tree.map(lambda leaf, c: leaf if c is None else leaf + share * c, y, change)


class Drift(diffrax.AbstractTerm):
    system: AbstractSystem
    base: Base

    def vf(self, t: Any, y: PyTree, args: Moment) -> PyTree:
        share = t - args.start
        return self.system.drift(self.base.plus(y, share), args.inputs, args.look(share, self.system.dt))

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Array:
        return (t1 - t0) * self.system.dt

    def prod(self, vf: PyTree, control: Array) -> PyTree:
        return jax.tree.map(lambda v: control * v, vf)


class Diffusion(diffrax.AbstractTerm):
    system: AbstractSystem
    base: Base
    increments: PyTree

    def vf(self, t: Any, y: PyTree, args: Moment) -> PyTree:
        return self.system.amplitude(self.base.plus(y, t - args.start)), jax.tree.map(jnp.zeros_like, y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> PyTree:
        return self.increments

    def prod(self, vf: PyTree, control: PyTree) -> PyTree:
        amplitude, still = vf
        return self.system.kick(amplitude, control, still)


def _step_by(solver: diffrax.AbstractSolver, terms: diffrax.AbstractTerm, y: PyTree, moment: Moment) -> PyTree:
    t0, t1 = moment.start, moment.start + 1
    # Inputs jump between steps, so a solver's memory of the last slope (FSAL) is never valid: start it afresh.
    return solver.step(terms, t0, t1, y, moment, solver.init(terms, t0, t1, y, moment), made_jump=True)[0]


@eqx.filter_custom_jvp
def stepped(terms: diffrax.AbstractTerm, y: PyTree, moment: Moment, *, name: str) -> PyTree:
    """One step. diffrax loops over the stages of a Runge-Kutta step in a way that is fast and knows only reverse mode;
    its way that knows both modes takes two to three times as long, and is taken where a derivative is asked for."""
    return _step_by(solver_named(name), terms, y, moment)


@stepped.def_jvp
def stepped_jvp(primals: tuple, tangents: tuple, *, name: str) -> tuple[PyTree, PyTree]:
    solver = solver_named(name)
    if isinstance(solver, diffrax.AbstractERK):
        solver = dataclasses.replace(solver, scan_kind="bounded")
    return eqx.filter_jvp(functools.partial(_step_by, solver), primals, tangents)
