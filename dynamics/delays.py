"""Transmission delays: constant lags by a ring buffer of past signals, gamma-distributed lags by a chain of filters.

A ring buffer holds the signals at the last steps; a lag is a traced number of seconds, so that a sweep over lags is one
compiled program, and only the length of the buffer is static. Between steps signals are interpolated linearly, which
keeps a second-order solver second order.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.kinks import hats


class Delays(eqx.Module):
    """Lags in seconds; None where there is none.

    error   the output error (target - prediction) reaches the output's error units this much late
    hop     every projection (forward and modulatory, biases excepted) delivers this much late
    input   the stimulus reaches the network this much late
    `stages` = 0: constant lags. m > 0: gamma-distributed lags, m first-order filters of lag/m each (mean: the lag).
    """

    error: Float[Array, ""] | None = None
    hop: Float[Array, ""] | None = None
    input: Float[Array, ""] | None = None
    stages: int = eqx.field(static=True, default=0)


class History(eqx.Module):
    """The last `length` values of signals, in a ring: the value at step i sits in row i mod length.

    The signals of a circuit are called by layer and variable.
    """

    rows: dict[Any, Float[Array, "length n"]]

    @staticmethod
    def of(signals: Mapping[Any, Float[Array, " _n"]], length: int) -> "History":
        """A history in which every signal has always had its present value. `length` >= largest lag in steps + 2."""
        return History({name: jnp.tile(value[None], (length, 1)) for name, value in signals.items()})

    def push(self, step: Int[Array, ""], signals: Mapping[Any, Float[Array, " _n"]]) -> "History":
        """The history with the signals of integer `step` written into it."""

        def write(rows: Float[Array, "length n"], value: Float[Array, " n"]) -> Float[Array, "length n"]:
            return jax.lax.dynamic_update_index_in_dim(rows, value.astype(rows.dtype), step % rows.shape[0], 0)

        return History({name: write(rows, signals[name]) for name, rows in self.rows.items()})

    def at(
        self,
        name: Any,
        step: Int[Array, ""],
        fraction: Float[Array, ""],
        lag: Float[Array, ""],
        current: Float[Array, " n"],
        side: Float[Array, ""] | None = None,
    ) -> Float[Array, " n"]:
        """Signal `name` at time step + fraction - lag (all in steps), 0 <= fraction <= 1, lag >= 0.

        `current` is its value at step + fraction: a solver stage inside the step may look back by less than the step.
        Interpolation is a product with hat functions around the wanted time, not a gather: under vmap every point has
        a lag of its own, and batched gathers are slow. `side` says which derivative a whole number of steps has
        (`dynamics.kinks.earlier_side`; None: the mean of both).
        """
        rows = self.rows[name]
        back = fraction - lag  # the wanted time, relative to the newest row
        row = jnp.arange(rows.shape[0], dtype=step.dtype)
        age = ((step - row) % rows.shape[0]).astype(back.dtype)
        w, share = hats(back, fraction, age, jnp.full_like(back, 0.5) if side is None else side)
        return w.astype(rows.dtype) @ rows + share * current


def chain_drift(
    stages: Float[Array, "stages n"], source: Float[Array, " n"], lag: Float[Array, ""]
) -> Float[Array, "stages n"]:
    """(lag/m) v_i' = v_{i-1} - v_i with v_0 = source: the m filters of a gamma-distributed lag (seconds)."""
    upstream = jnp.concatenate([source[None], stages[:-1]])
    return (upstream - stages) * (stages.shape[0] / jnp.where(lag > 0, lag, 1))


def chain_output(
    stages: Float[Array, "stages n"], source: Float[Array, " n"], lag: Float[Array, ""]
) -> Float[Array, " n"]:
    """What comes out of the chain: its last stage, or the source itself where the lag is 0."""
    return jnp.where(lag > 0, stages[-1], source)
