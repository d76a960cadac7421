"""Steps of equal size: one compiled loop around `solver.step`, with the past that delays look back at in the carry."""

from collections.abc import Callable
from typing import NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.delays import History
from dynamics.errors import PlasticodeError
from dynamics.integrators.solvers import solver_named
from dynamics.integrators.terms import Base, Diffusion, Drift, Moment, stepped, stirred_by
from dynamics.noise import brownian_increments, required_key
from dynamics.rounding import add, nothing
from dynamics.system import AbstractSystem


class Point(NamedTuple):
    """Where an integration is: y, what rounding has taken from it so far (None: not known), and the past."""

    y: PyTree
    low: PyTree | None
    history: History | None


class FixedStep(eqx.Module):
    """Steps of equal size with the diffrax solver `name`; delays and noise are allowed.

    Noise of activities and errors has an exact update, and the solver sees its course during a step as a straight line:
    a variable that it drives has a variance of the solver's order in dt, at most the second (pathwise: the first).

    tolerance    what the regimes hold their estimates of the error against (integrators.doubling)
    compensated  sums lose nothing to rounding (dynamics.rounding): weights that hardly change in a step learn in
                 float32 what they learn in float64. An Euler step of large matrices takes twice as long; without it a
                 change of 1e-4 of the weights in a time constant of n steps is wrong by about 5e-9 n
    """

    name: str = eqx.field(static=True, default="euler")
    tolerance: float = eqx.field(static=True, default=1e-3)
    compensated: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        solver_named(self.name)

    def begin(self, y: PyTree, history: History | None = None) -> Point:
        """The start of an integration."""
        return Point(y, nothing(y) if self.compensated else None, history)

    def run(
        self,
        system: AbstractSystem,
        at: Point,
        inputs_at: Callable[[Float[Array, ""]], PyTree],
        first: Int[Array, ""],
        count: int | Int[Array, ""],
        key: PRNGKeyArray | None,
        joined: int = 1,
    ) -> Point:
        """`count` steps from absolute integer step `first`; `inputs_at(j)`: inputs during step j, 0 <= j < count.

        The noise of a step depends on `key` and the absolute step alone, so a resumed run equals a straight one. It is
        that of `joined` shorter steps taken together.
        """

        def step(j: Int[Array, ""], at: Point) -> Point:
            start, absolute = jnp.asarray(j, system.dt.dtype), first + jnp.asarray(j, jnp.int32)
            inputs, past = inputs_at(start), at.history
            if past is not None:
                past = past.push(absolute, system.signals(at.y, inputs))
            like, increments = system.brownian_shape(at.y), None
            if like is not None:
                numbers = [absolute * joined + i for i in range(joined)]
                keys = [jax.random.fold_in(required_key(key), number) for number in numbers]
                draws = [brownian_increments(k, like, system.dt / joined) for k in keys]
                increments = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *draws)
            change = self._step(system, at.y, Moment(inputs, past, absolute, start), increments)
            if at.low is None:
                return Point(jax.tree.map(jnp.add, at.y, change), None, past)
            return Point(*add(at.y, at.low, change), past)

        return jax.lax.fori_loop(0, count, step, at)

    def _step(self, system: AbstractSystem, y: PyTree, moment: Moment, increments: PyTree | None) -> PyTree:
        """The change of y over one step."""
        name, still = self.name, jax.tree.map(jnp.zeros_like, y)
        base = Base(y, None if increments is None else system.stir(y, increments))
        terms: diffrax.AbstractTerm = Drift(system, base)
        if system.amplitude(y) is not None:
            terms = diffrax.MultiTerm(terms, Diffusion(system, base, increments))
        elif self.name == "milstein":
            if increments is None:
                raise PlasticodeError("integrator 'milstein' is for noise, but there is none: use euler or heun")
            name = "euler"  # which it is where no solver sees the noise
        change = stepped(terms, still, moment, name=name)
        return change if base.stirred is None else stirred_by(change, base.stirred, jnp.ones_like(moment.start))
