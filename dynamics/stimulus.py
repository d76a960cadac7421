"""Held presentations, streamed: sample k is on for `duration`, then a blank gap; a lag shifts it in time.

Nothing is stored per presentation: which sample is shown in presentation k follows from a key and the integer k. A
sequence is shown frame by frame, each in a presentation of its own.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from dynamics.errors import PlasticodeError, refused, unknown
from dynamics.interpolation import INTERPOLATIONS, Moving
from dynamics.kinks import cell_before, earlier_side, share_on
from dynamics.order import ORDERS
from dynamics.samples import (
    check_each,
    check_key,
    check_pairs,
    check_shown,
    integers,
    lessons,
    marks,
    rows,
    rows_or_none,
    spans,
)

Run = TypeVar("Run", bound=Any)  # what has a clock


class Clock(eqx.Module):
    """Integer steps through presentations: `steps` of equal size dt per period = duration + gap (seconds)."""

    duration: Float[Array, ""] = eqx.field(converter=jnp.asarray)
    gap: Float[Array, ""] = eqx.field(converter=jnp.asarray)
    steps: int = eqx.field(static=True)

    def __check_init__(self):
        if isinstance(self.steps, bool) or not isinstance(self.steps, int | np.integer) or self.steps < 1:
            raise refused("clock.steps", self.steps, "it must be a whole number, at least 1")
        for name, least in (("duration", np.finfo(float).tiny), ("gap", 0.0)):
            value = getattr(self, name)
            if not isinstance(value, Tracer) and not (least <= np.asarray(value, float)).all():
                raise refused(f"clock.{name}", value.tolist(), "it must be seconds, a duration > 0 and a gap >= 0")

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


Lessons = Float[Array, "samples _n"] | tuple[Float[Array, "samples _n"], Float[Array, " samples"]]


class Stream(eqx.Module):
    """The samples and the order that they are shown in, by `key`.

    inputs: (samples, inputs); targets: (samples, outputs), or None on an unsupervised task. NumPy arrays, integers and
    targets (samples,) of one output are converted; numbers that are not finite and other shapes are refused.

    order   "random": independent uniform draws, with replacement; "shuffled": epochs in which each is shown once, in an
            order of their own; "sequential": as they are, again and again
    frames  so many samples, one after the other, are the frames of a sequence: they are shown in their own order, and
            `order` is that of sequences
    told    (samples,): 1 for those whose target is given, 0 for those of which the network is told nothing, so that it
            has no error; None: all are
    first   the presentation that the order begins with; None: 0
    sides   how many presentations go on side by side, of which this is number `side` (dynamics.sides)
    shown   (presentations,): the number of the sample that each presentation shows, as it was recorded, in place of
            `order`; what comes after shows the last one
    interpolation   of the inputs of sequences: "held" for as long as a frame is shown, or, from each frame to the next
                    one, "linear" or "cubic"; the last frame of a sequence comes to rest (dynamics.interpolation)
    durations, gaps  (samples,): for how many seconds each is shown, and how long nothing is after it; None: for all as
            the clock has it
    """

    inputs: Float[Array, "samples inputs"] = eqx.field(converter=rows("inputs"))
    targets: Float[Array, "_samples outputs"] | None = eqx.field(converter=rows_or_none("targets"))
    key: PRNGKeyArray
    order: str = eqx.field(static=True, default="random")
    frames: int = eqx.field(static=True, default=1)
    told: Float[Array, " _samples"] | None = eqx.field(converter=marks, default=None)
    first: Int[Array, ""] | None = None
    sides: int = eqx.field(static=True, default=1)
    side: Int[Array, ""] | None = None
    shown: Int[Array, " _presentations"] | None = eqx.field(converter=integers, default=None)
    interpolation: str = eqx.field(static=True, default="held")
    durations: Float[Array, " _samples"] | None = eqx.field(converter=spans("durations"), default=None)
    gaps: Float[Array, " _samples"] | None = eqx.field(converter=spans("gaps"), default=None)

    def __check_init__(self):
        check_pairs(self.inputs, self.targets)
        check_key("key", self.key)
        if not isinstance(self.order, str) or self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        samples = self.inputs.shape[0]
        if type(self.frames) is not int or self.frames < 1 or samples % self.frames:
            raise PlasticodeError(
                f"frames = {self.frames!r} is not allowed with {samples} samples: it must be an integer that divides it"
            )
        check_each(samples, told=self.told, durations=self.durations, gaps=self.gaps)
        check_shown(self.shown, samples)
        if not isinstance(self.interpolation, str) or self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.moves and self.frames == 1:
            raise refused("interpolation", self.interpolation, "it goes from frame to frame: sequences have frames > 1")

    @property
    def timed(self) -> bool:
        """Whether presentations have durations or gaps of their own."""
        return self.durations is not None or self.gaps is not None

    def clock_at(self, clock: Clock, k: Int[Array, ""]) -> Clock:
        """The clock of presentation k."""
        own = {"duration": self.durations, "gap": self.gaps}
        sample, dtype = self.index(k), clock.dt.dtype
        return dataclasses.replace(clock, **{n: v[sample].astype(dtype) for n, v in own.items() if v is not None})

    def run_at(self, run: Run, k: Int[Array, ""]) -> Run:
        """A run with the clock of presentation k, whose sample may have a duration and a gap of its own."""
        return dataclasses.replace(run, clock=self.clock_at(run.clock, k)) if self.timed else run

    def longest(self, clock: Clock) -> tuple[Array, Array]:
        """The longest duration and the longest gap."""
        duration = clock.duration if self.durations is None else self.durations.max()
        return duration, clock.gap if self.gaps is None else self.gaps.max()

    def index(self, k: Int[Array, ""]) -> UInt32[Array, ""]:
        """Which sample presentation k shows."""
        k = k if self.first is None else k - self.first
        if self.shown is not None:
            return self.shown[jnp.clip(self.draw(k), 0, self.shown.shape[0] - 1)].astype(jnp.uint32)
        order, samples = ORDERS[self.order], self.inputs.shape[0]
        if self.frames == 1:
            return order(self.key, self.draw(k), samples)
        sequence = order(self.key, self.draw(k // self.frames), samples // self.frames)
        return sequence * jnp.uint32(self.frames) + (k % self.frames).astype(jnp.uint32)

    def draw(self, k: Int[Array, "*rows"]) -> Int[Array, "*rows"]:
        """The number of what is drawn for the k-th presentation of this side."""
        return k if self.side is None else k * self.sides + self.side

    @property
    def moves(self) -> bool:
        """Whether the inputs change while a frame is shown."""
        return self.interpolation != "held"

    def courses(self, at: UInt32[Array, " rows"]) -> Float[Array, "rows *frames inputs"]:
        """The inputs of these samples; where they move, of all frames that theirs is made of."""
        if not self.moves:
            return self.inputs[at]
        place = (at % self.frames).astype(jnp.int32)[:, None]
        frames = jnp.asarray(INTERPOLATIONS[self.interpolation].frames, jnp.int32)[None]
        near = jnp.clip(place + frames, 0, self.frames - 1)
        return self.inputs[at.astype(jnp.int32)[:, None] - place + near]

    def lessons(self) -> Float[Array, "samples outputs"]:
        """The targets, zeros where none are told."""
        return lessons(self.inputs, self.targets, self.told)

    def marked_lessons(self) -> Lessons:
        """The targets, with `told` where there is one: what is looked up of both becomes one row (`looked_up`)."""
        targets = self.lessons() if self.targets is None else self.targets
        return targets if self.told is None else (targets, self.told)

    def parted(self, rows: Float[Array, "rows columns"]) -> tuple[Float[Array, "rows outputs"], Float[Array, " rows"]]:
        """Rows of `marked_lessons` apart: targets, and whether they are told."""
        return (rows, jnp.ones_like(rows[:, 0])) if self.told is None else (rows[:, :-1], rows[:, -1])


def looked_up(values: Lessons, at: UInt32[Array, " rows"]) -> Float[Array, "rows columns"]:
    """Rows of values; of targets that are told in part 0 where they are not, with `told` as a last column.

    Of these rows alone: to join all of the data would need their memory twice.
    """
    if not isinstance(values, tuple):
        return values[at]
    told = values[1][at][:, None].astype(values[0].dtype)
    return jnp.concatenate([values[0][at] * told, told], axis=1)


class Held(NamedTuple):
    """A signal during one presentation, as a late source delivers it: rows of `values`, each on from `start` for `on`.

    Times are in steps from the start of the presentation. There is one row without a lag, two with one. `sides` says
    which derivatives jumps on the border of a step have (dynamics.kinks). `moving`: how rows go on, where they are not
    held.
    """

    values: Float[Array, "rows ..."]
    start: Float[Array, " rows"]
    on: Float[Array, " rows"]
    sides: Float[Array, "2"]
    moving: Moving | None = None

    def over(self, j: Float[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
        """The mean over step [j, j+1] of the signal (0 while off), and the fraction of the step that it is on.

        Means, not point values: a jump inside a step then keeps its exact integral.
        """
        share, values = share_on(j, self.start, self.on, self.sides), self.values
        if self.moving is not None:
            values = self.moving.over(*(jnp.clip(time, self.start, self.start + self.on) for time in (j, j + 1)))
        return mixed(share, values)


def mixed(on: Float[Array, " rows"], values: Float[Array, "rows n"]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """The sum of rows of which each is on in part, and how much is on in all."""
    rows = [on[i] * values[i] for i in range(values.shape[0])]  # not a product: one or two rows only
    return sum(rows[1:], rows[0]), on.sum()


class _Arrival(NamedTuple):
    """Which presentations are delivered during one, from when on and for how long, in steps."""

    presentations: Int[Array, " rows"]
    start: Float[Array, " rows"]
    on: Float[Array, " rows"]


def _arrival(clock: Clock, k: Int[Array, ""], lag: Float[Array, ""] | None) -> _Arrival:
    """A lag of q periods and a rest r delivers presentation k-q from r on, and before that the end of k-q-1.

    Where the lag is a number of whole periods the rest is one of them, not 0: what comes a little earlier is then at
    hand too, as derivatives need it.
    """
    on = clock.on_steps
    if lag is None:
        return _Arrival(k[None], jnp.zeros_like(on)[None], on[None])
    late = lag / clock.dt
    q = jnp.maximum(cell_before(late / clock.steps), 0)
    rest = late - q * clock.steps
    newer = k - q.astype(k.dtype)
    presentations = jnp.stack([newer, newer - 1])
    start = jnp.stack([rest, rest - clock.steps])
    return _Arrival(presentations, start, jnp.where(presentations >= 0, on, 0))


def shown_now(value: Float[Array, " n"], clock: Clock) -> Held:
    """A value that is on as long as a sample is, without a lag."""
    zero = jnp.zeros_like(clock.on_steps)[None]
    return Held(value[None], zero, clock.on_steps[None], jnp.stack([earlier_side(clock.gap, None)] * 2))


def samples(signals: Sequence[tuple[Lessons, Int[Array, " _rows"]]], stream: Stream) -> list[Float[Array, "_rows ..."]]:
    """Each of `signals`, (rows of inputs or targets, presentations), as it is shown in those presentations; inputs as
    `Stream.courses` has them."""
    # One call for all that is shown: the random bits are most of what there is to compile. And once where signals share
    # their presentations: loops over more bits than a few are no longer one kernel.
    distinct = {id(presentations): presentations for _, presentations in signals}
    drawn = jax.vmap(stream.index)(jnp.concatenate(list(distinct.values())))
    shown, first = {}, 0
    for number, presentations in distinct.items():
        shown[number] = drawn[first : first + presentations.shape[0]]
        first += presentations.shape[0]
    return [
        stream.courses(at) if values is stream.inputs else looked_up(values, at)
        for values, at in ((values, shown[id(presentations)]) for values, presentations in signals)
    ]


def held(
    signals: Sequence[tuple[Lessons, Float[Array, ""] | None]], stream: Stream, clock: Clock, k: Int[Array, ""]
) -> list[Held]:
    """Each of `signals`, (rows of inputs or targets, lag in seconds or None), as it arrives during presentation k.

    Before the first presentation a signal is off.
    """
    arrivals = [_arrival(clock, k, lag) for _, lag in signals]
    shown = samples([(values, a.presentations) for (values, _), a in zip(signals, arrivals, strict=True)], stream)
    sides = [jnp.stack([earlier_side(clock.gap, lag), earlier_side(clock.gap, None)]) for _, lag in signals]
    moving = [
        Moving(rows, a.start, clock.on_steps, stream.interpolation) if stream.moves and of is stream.inputs else None
        for rows, a, (of, _) in zip(shown, arrivals, signals, strict=True)
    ]
    return [Held(rows, a.start, a.on, w, m) for rows, a, w, m in zip(shown, arrivals, sides, moving, strict=True)]
