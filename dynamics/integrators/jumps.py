"""When what is shown goes on and off within a presentation, and the order of jumps that meet."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dynamics.kinks import roundoff, with_value
from dynamics.stimulus import Clock

Cut = tuple[Float[Array, ""], Float[Array, ""]]  # a time in seconds, and how fast `paces` push it
GAP = 1e-2  # how fast the gap grows, relative to lags
CALM = 2.0  # H |x|^2 / tau_plast of a part that nodes resolve with room to spare


def paces(clock: Clock, lags: dict[str, Float[Array, ""]], gaps: bool) -> dict[str, Float[Array, ""]]:
    """How fast each lag moves away from round numbers: jumps that meet come in the order that this brings them into.

    Lags grow, each at a pace of its own, and the gap far slower. Without a gap it can only grow, and what is late by
    whole periods then comes a little earlier than that; so there lags shrink, still far slower than the gap grows, but
    for those of 0, which can only grow.

    A run by windows is smooth in its numbers as long as no jump passes another. Where jumps meet the slopes on both
    sides differ, be it only by the error of the windows, and the order says which of them the derivative is.
    """
    none = (clock.gap == 0) & gaps
    side = {name: jnp.where(none & (lags[name] > 0), -(GAP**2), 1) for name in sorted(lags)}
    return {name: (2 + i) ** 0.5 * toward for i, (name, toward) in enumerate(side.items())}


class Jump(NamedTuple):
    """When a signal that is late by a number of whole `periods` and a rest goes on and off in a presentation.

    None: that it never does. `wraps`: it goes off in the next presentation, and `off` is when the one before does.
    `pushes` says how fast `off` and `on` move at the paces of lags and gap.
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

    def presentations(self, k: Int[Array, ""]) -> Int[Array, " presentations"]:
        """Which presentations arrive during the k-th, newest first."""
        newer = k - self.periods.astype(k.dtype)
        return newer[None] if self.on is None else jnp.stack([newer, newer - 1])

    def begin(self, clock: Clock) -> Float[Array, " presentations"]:
        """When each of them begins to arrive, in seconds from the start of that one."""
        on = jnp.zeros_like(clock.period) if self.on is None else self.on
        return on[None] if self.on is None else jnp.stack([on, on - clock.period])

    @staticmethod
    def of(clock: Clock, lag: Float[Array, ""] | None, push: Float[Array, ""], gaps: bool) -> "Jump":
        """The jump of a signal with this lag, whose pace is `push`. Times have derivatives, whole numbers have none."""
        zero = jnp.zeros_like(clock.period)
        if lag is None:
            return Jump(None, clock.duration if gaps else None, zero, jnp.asarray(not gaps), (zero, zero))
        rest = jnp.mod(lag, clock.period)
        periods = jax.lax.stop_gradient(jnp.round((lag - rest) / clock.period))
        if gaps:  # a whole number of periods without a gap is less than that as soon as there is a gap
            whole = (clock.gap == 0) & (periods > 0) & (rest < clock.period * roundoff(lag / clock.period))
            rest, periods = jnp.where(whole, clock.period, rest), periods - whole.astype(rest.dtype)
        on = with_value(rest, lag - periods * clock.period)
        push = push - GAP * periods
        if not gaps:
            return Jump(on, None, periods, jnp.asarray(True), (zero, push))
        wraps = rest + clock.duration >= clock.period
        off = jnp.where(wraps, jnp.maximum(rest - clock.gap, 0), rest + clock.duration)
        off = with_value(off, on + jnp.where(wraps, -clock.gap, clock.duration))
        return Jump(on, off, periods, wraps, (jnp.where(wraps, push - GAP, push), push))


@jax.custom_batching.custom_vmap
def most(number: Int[Array, ""]) -> Int[Array, ""]:
    """A number; of points that run together (`jax.vmap`) the largest of theirs, one for all."""
    return number


@most.def_vmap
def _most_of_all(size: int, batched: list[bool], numbers: Int[Array, "*points"]) -> tuple[Int[Array, ""], bool]:
    return jnp.max(numbers), False


def calmer(parts: int, strength: Float[Array, ""]) -> tuple[Float[Array, " parts"], Int[Array, ""]]:
    """When equal parts begin, in periods, of which a point takes as many as its own H |x|^2 / tau_plast, `strength`,
    asks for, and at most `parts`: the others are empty, at the end. And how many have to be gone through."""
    own = jax.lax.stop_gradient(jnp.clip(jnp.ceil(strength / CALM), 1, parts))
    return jnp.minimum(jnp.arange(parts, dtype=own.dtype) / own, 1), most(own.astype(jnp.int32))


def in_order(
    clock: Clock, even: Float[Array, " parts"], cuts: list[Cut]
) -> tuple[Int[Array, " windows"], Float[Array, " windows"]]:
    """Which of equal parts, `even` is when they begin in periods, and `cuts` every window starts at, and when.

    Cuts that meet lie in the order that paces bring them into. What is shown follows from it, so derivatives see the
    empty windows between them, whose lengths have a derivative too.
    """
    if not cuts:
        return jnp.arange(even.shape[0]), clock.period * even
    times = jnp.concatenate([clock.period * even, jnp.stack([time for time, _ in cuts])])
    pushes = jnp.concatenate([GAP * even, jnp.stack([push for _, push in cuts])])
    apart = clock.period * roundoff(times / clock.period)
    earlier = jnp.sum(times[None] < (times - apart)[:, None], axis=1)  # as many for all that meet
    order = jnp.lexsort((pushes, earlier))
    return order, with_value(jax.lax.cummax(times[order]), times[order])
