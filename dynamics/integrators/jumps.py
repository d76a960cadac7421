"""When what is shown goes on and off within a presentation, and the order of jumps that meet."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dynamics.kinks import roundoff, with_value
from dynamics.stimulus import Clock

Cut = tuple[Float[Array, ""], Float[Array, ""]]  # a time in seconds, and how fast lags that grow would push it


class Jump(NamedTuple):
    """When a signal that is late by a number of whole `periods` and a rest goes on and off in a presentation.

    None: that it never does. `wraps`: it goes off in the next presentation, and `off` is when the one before does.
    `pushes` says how fast `off` and `on` would move if every lag grew, each at its own pace, and the gap very slowly.
    """

    on: Float[Array, ""] | None
    off: Float[Array, ""] | None
    periods: Float[Array, ""]
    wraps: Bool[Array, ""]
    pushes: tuple[Float[Array, ""], Float[Array, ""]]

    def cuts(self) -> list[Cut]:
        """The times at which it goes off and on, where it ever does, with what pushes them."""
        both = (self.off, self.pushes[0]), (self.on, self.pushes[1])
        return [(time, push) for time, push in both if time is not None]

    @staticmethod
    def of(clock: Clock, lag: Float[Array, ""] | None, push: float, gaps: bool) -> "Jump":
        """The jump of a signal with this lag. Times have derivatives, whole numbers have none."""
        zero = jnp.zeros_like(clock.period)
        if lag is None:
            return Jump(None, clock.duration if gaps else None, zero, jnp.asarray(not gaps), (zero, zero))
        rest = jnp.mod(lag, clock.period)
        periods = jax.lax.stop_gradient(jnp.round((lag - rest) / clock.period))
        if gaps:  # a whole number of periods without a gap is less than that as soon as there is a gap
            whole = (clock.gap == 0) & (periods > 0) & (rest < clock.period * roundoff(lag / clock.period))
            rest, periods = jnp.where(whole, clock.period, rest), periods - whole.astype(rest.dtype)
        on = with_value(rest, lag - periods * clock.period)
        slowly = push - 1e-2 * periods
        if not gaps:
            return Jump(on, None, periods, jnp.asarray(True), (zero, slowly))
        wraps = rest + clock.duration >= clock.period
        off = jnp.where(wraps, jnp.maximum(rest - clock.gap, 0), rest + clock.duration)
        off = with_value(off, on + jnp.where(wraps, -clock.gap, clock.duration))
        return Jump(on, off, periods, wraps, (jnp.where(wraps, slowly - 1e-2, slowly), slowly))


def in_order(
    clock: Clock, even: Float[Array, " parts"], cuts: list[Cut]
) -> tuple[Int[Array, " windows"], Float[Array, " windows"]]:
    """Which of `even` and `cuts` every window starts at, and when.

    Cuts that meet lie in the order that they would have if every lag were a little longer. What is shown follows from
    it, so derivatives see the empty windows between them, whose lengths have a derivative too.
    """
    if not cuts:
        return jnp.arange(even.shape[0]), even
    times = jnp.concatenate([even, jnp.stack([time for time, _ in cuts])])
    pushes = jnp.concatenate([jnp.zeros_like(even), jnp.stack([push for _, push in cuts])])
    order = jnp.argsort(times + clock.period * roundoff(times / clock.period) * pushes, stable=True)
    return order, with_value(jax.lax.cummax(times[order]), times[order])
