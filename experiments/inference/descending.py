"""Descent by Adam in reverse mode, for fits with so many free initial weights that their slopes cannot all be carried.

A gradient costs a few runs, however many numbers are free, and no information comes with it: the best end is therefore
scored in forward mode afterwards (experiments.inference.scoring), from nearby.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dynamics.coupled import Coupled
from dynamics.information import presented
from dynamics.integrators.windows import AbstractWindow
from dynamics.regime import AbstractRegime
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.model import Arrays, Model, Rows
from experiments.inference.scoring import End

STEPS, RATE = 400, 0.02  # of Adam, in the box; the rate falls to 0 as a cosine does
SWEEPS = 6  # of windows, whose number must be known for reverse mode
SETTLED = 0.1  # log units that the last tenth of all steps may have gained where a start has converged


class Descent(NamedTuple):
    """How far all starts are, arrays by start: where they began, what is held, where they are, Adam's two means; and
    the losses of all steps so far, (starts, steps), NaN of those to come."""

    start: np.ndarray
    held: np.ndarray
    place: np.ndarray
    first: np.ndarray
    second: np.ndarray
    losses: np.ndarray

    @classmethod
    def begun(cls, starts: np.ndarray, held: np.ndarray) -> "Descent":
        """All `starts`, (starts, free), before the first step."""
        nothing = np.zeros_like(starts)
        return cls(starts, held, starts, nothing, nothing, np.full((len(starts), STEPS), np.nan))

    @property
    def scores(self) -> np.ndarray:
        """How many gradients each start has taken."""
        return (~np.isnan(self.losses)).sum(axis=1)

    @property
    def done(self) -> np.ndarray:
        """Which starts have come to their end."""
        return self.scores == STEPS

    def usual(self, scores: float) -> float:
        """How many gradients a start takes."""
        return STEPS

    def ends(self) -> list[End]:
        """Where each start is; nothing is known of the information there."""
        ends = []
        for i, place in enumerate(self.place):
            loss, before = self.losses[i, -1], self.losses[i, -STEPS // 10]
            settled = bool(np.isfinite(loss) and before - loss < SETTLED)
            ends.append(End(self.start[i], place, float(loss), np.zeros(len(place)), np.zeros((0, 0)), STEPS, settled))
        return ends


def loss(made: Model, places: Float[Array, " free"], rows: Rows, data: Arrays) -> Float[Array, ""]:
    """The negative log-likelihood at places, as `Model.scored` has it, and the priors; reverse mode goes through it
    with some 2 sqrt(presentations) states in memory."""
    shared, progress = made.unjudged().begun(places, data, _countable)
    _, etas = presented(progress, functools.partial(made.step, shared, data), len(rows.k))
    total = made.prior_loss(places)
    for one in made.observe:
        kind, y = LIKELIHOODS[one.noise], rows.seen[one.name]
        seen = ~jnp.isnan(y)
        total = total + jax.vmap(kind.loss)(etas[one.name], jnp.where(seen, y, 0), seen).sum()
    return total


def _countable(regime: AbstractRegime) -> AbstractRegime:
    """The regime, its windows with a number of sweeps that is known."""
    if not isinstance(regime, Coupled) or not isinstance(regime.integrator, AbstractWindow):
        return regime
    return dataclasses.replace(regime, integrator=dataclasses.replace(regime.integrator, sweeps=SWEEPS))


def descend(made: Model, descent: Any, count: Array, rows: Rows, data: Arrays) -> Any:
    """A descent after step `count` of one start, with jax; its loss is that of before."""
    adam = optax.scale_by_adam()
    value, slope = jax.value_and_grad(functools.partial(loss, made))(descent.place, rows, data)
    slope = jnp.where(descent.held | ~jnp.isfinite(slope), 0, slope)
    with jax.numpy_dtype_promotion("standard"):  # optax takes powers of floats by integer counts
        moved: Any = adam.update(slope, optax.ScaleByAdamState(count, descent.first, descent.second))
        step, after = moved
        rate = optax.cosine_decay_schedule(RATE, STEPS)(count)
        place: Any = jnp.clip(descent.place - rate * step, 0, 1)
    losses = descent.losses.at[count].set(jnp.where(jnp.isfinite(value), value, jnp.inf))
    return Descent(descent.start, descent.held, place, after.mu, after.nu, losses)
