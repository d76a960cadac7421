"""What every part of a coupled run knows of it: its numbers, its field, what is shown when, and how far it has come."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, Weights
from dynamics.delays import Delays
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Clock, Held, Stream, held, shown_now
from dynamics.timescales import Timescales


class CoupledProgress(NamedTuple):
    """How far a coupled run has come: the state, the fixed matrices, and what its integrator remembers (the past that
    delays look back at, what rounding has taken, what is known of the error: see the integrator)."""

    state: State
    fixed: Weights
    memory: PyTree


class AbstractCoupled(AbstractRegime[CoupledProgress]):
    """What a coupled run is made of, as its integrator sees it. One period is `clock.steps` steps.

    `history` is the length of the delays' ring buffer, the largest lag in steps + 2. `key` drives the noise. `batch` is
    how many presentations go on side by side (dynamics.sides); an integrator leads one of them.
    """

    circuit: eqx.AbstractVar[Circuit]
    timescales: eqx.AbstractVar[Timescales]
    stream: eqx.AbstractVar[Stream]
    clock: eqx.AbstractVar[Clock]
    delays: eqx.AbstractVar[Delays]
    noise: eqx.AbstractVar[Noise]
    integrator: eqx.AbstractVar[Any]  # which is given the run, and so comes later: integrators.contract
    key: eqx.AbstractVar[PRNGKeyArray | None]
    history: eqx.AbstractVar[int]
    batch: eqx.AbstractVar[int]

    def system(self, fixed: Weights) -> CoupledSystem:
        """The coupled field with the given fixed matrices."""
        return CoupledSystem(self.circuit, self.timescales, self.clock, self.delays, self.noise, fixed, self.batch)

    @property
    def delayed(self) -> bool:
        """Whether anything is late."""
        lags = self.delays.error, self.delays.hop, self.delays.input, *(p.lag for p in self.circuit.projections)
        return any(lag is not None for lag in lags)

    def shown(self, k: Int[Array, ""]) -> tuple[Held, Held]:
        """Stimulus and target during presentation k, late by the constant lags."""
        gamma = self.delays.stages > 0  # gamma lags are filters inside the field: the signals enter them at once
        signals = (self.stream.inputs, self.delays.input), (self.stream.marked_lessons(), self.delays.error)
        stimulus, target = held([(v, None if gamma else lag) for v, lag in signals], self.stream, self.clock, k)
        values, told = self.stream.parted(target.values)
        return stimulus, target._replace(values=values, on=target.on * told)

    def inputs_at(self, k: Int[Array, ""]) -> Callable[[Float[Array, ""]], Inputs]:
        """The inputs during step j of presentation k, as a function of j."""
        (stimulus, target), given = self.shown(k), self.given(k)

        def at(j: Float[Array, ""]) -> Inputs:
            now = {name: value.over(j)[0] if isinstance(value, Held) else value for name, value in given.items()}
            return Inputs(stimulus.over(j)[0], *target.over(j), now, j * self.clock.dt)

        return at

    def phases(self, k: Int[Array, ""]) -> tuple[Inputs, Inputs]:
        """The inputs of presentation k while the sample is shown, and in the gap, where nothing is late."""
        one, given, (stimulus, target) = jnp.ones_like(self.clock.dt), self.given(k), self.shown(k)
        shown = {name: value.values[0] if isinstance(value, Held) else value for name, value in given.items()}
        still = {n: jnp.zeros_like(shown[n]) if isinstance(value, Held) else value for n, value in given.items()}
        x, course = stimulus.values[0], stimulus.moving
        if course is not None:
            course = dataclasses.replace(course, length=self.clock.duration)
            (x,) = course.at(0 * one)
        y, told = target.values[0], jnp.where(target.on[0] > 0, one, 0)
        off = Inputs(jnp.zeros_like(x), jnp.zeros_like(y), 0 * one, still, self.clock.duration)
        return Inputs(x, y, told, shown, 0 * one, course), off

    def given(self, k: Int[Array, ""]) -> dict[str, Held | Array]:
        """What presentation k gives to layers beside the stimulus, as it is shown; maps that are drawn for it."""
        drawn, held_ = self.circuit.draws(self.stream.key, self.stream.draw(k)), {}
        for layer in self.circuit.layers:
            if layer.source is None and layer.role == "target":
                (held_[layer.name],) = held([(self.stream.lessons(), None)], self.stream, self.clock, k)
            elif layer.name in drawn:
                held_[layer.name] = shown_now(drawn[layer.name], self.clock)
        return drawn | held_
