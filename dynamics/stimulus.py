"""Held presentations, streamed: sample k is on for `duration`, then a blank gap; a lag shifts it in time.

Nothing is stored per presentation: which sample is shown in presentation k follows from a key and the integer k.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Clock(eqx.Module):
    """Integer steps through presentations: `steps` of equal size dt per period = duration + gap (seconds)."""

    duration: Float[Array, ""] = eqx.field(converter=jnp.asarray)
    gap: Float[Array, ""] = eqx.field(converter=jnp.asarray)
    steps: int = eqx.field(static=True)

    @property
    def period(self) -> Float[Array, ""]:
        return self.duration + self.gap

    @property
    def dt(self) -> Float[Array, ""]:
        return self.period / self.steps

    @property
    def on_steps(self) -> Float[Array, ""]:
        """How long the stimulus is on, in steps; exactly `steps` where there is no gap."""
        return self.steps * (self.duration / self.period)


class Stream(eqx.Module):
    """The samples and the order that they are shown in: independent uniform draws (with replacement), by `key`.

    inputs: (samples, inputs); targets: (samples, outputs), or None on an unsupervised task.
    """

    inputs: Float[Array, "samples inputs"]
    targets: Float[Array, "samples outputs"] | None
    key: PRNGKeyArray

    def index(self, k: Int[Array, ""]) -> Int[Array, ""]:
        """Which sample presentation k shows."""
        return jax.random.randint(jax.random.fold_in(self.key, k), (), 0, self.inputs.shape[0])


class Held(NamedTuple):
    """A signal during one presentation, as a late source delivers it: first the end of `previous`, then `current`.

    All times are in steps from the start of the presentation. Where there is no lag there is no `previous`.
    """

    current: Float[Array, " n"]
    current_on: tuple[Float[Array, ""], Float[Array, ""]]
    previous: Float[Array, " n"] | None
    previous_on: tuple[Float[Array, ""], Float[Array, ""]] | None

    def over(self, j: Float[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
        """The mean over step [j, j+1] of the signal (0 while off), and the fraction of the step that it is on.

        Means, not point values: a jump inside a step then keeps its exact integral.
        """
        on = _overlap(j, *self.current_on)
        signal = on * self.current
        if self.previous is None or self.previous_on is None:
            return signal, on
        earlier = _overlap(j, *self.previous_on)
        return signal + earlier * self.previous, on + earlier


def _overlap(j: Float[Array, ""], start: Float[Array, ""], end: Float[Array, ""]) -> Float[Array, ""]:
    """The length of [j, j+1] that lies inside [start, end]; 0 where end <= start."""
    return jnp.clip(jnp.minimum(j + 1, end) - jnp.maximum(j, start), 0, 1)


def held(
    values: Float[Array, "samples n"], stream: Stream, clock: Clock, k: Int[Array, ""], lag: Float[Array, ""] | None
) -> Held:
    """Rows of `values` (inputs or targets) as they arrive during presentation k, `lag` seconds late (None: at once).

    Before the first presentation the signal is off. A lag of q periods and a rest r shows sample k-q from r on, and
    sample k-q-1 before.
    """
    on = clock.on_steps
    if lag is None:
        return Held(values[stream.index(k)], (jnp.zeros_like(on), on), None, None)
    late = lag / clock.dt
    q = jnp.floor(late / clock.steps)
    rest = late - q * clock.steps
    newer = k - q.astype(k.dtype)
    older = newer - 1

    def window(start: Float[Array, ""], sample: Int[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return start, jnp.where(sample >= 0, start + on, start)

    return Held(
        values[stream.index(newer)],
        window(rest, newer),
        values[stream.index(older)],
        window(rest - clock.steps, older),
    )
