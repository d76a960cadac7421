"""What every part of a coupled run knows of it: its numbers, its field, what is shown when, and how far it has come."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, Weights
from dynamics.delays import Delays, History
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.integrators import doubling as steps
from dynamics.integrators import judge as windows
from dynamics.integrators.adaptive import Adaptive
from dynamics.integrators.fixed_step import FixedStep, Point
from dynamics.integrators.window import Past, Window
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Clock, Held, Stream, held
from dynamics.timescales import Timescales


class CoupledProgress(NamedTuple):
    """How far a coupled run has come: the state, the fixed matrices, the past that delays look back at, what is known
    of the error, whether adaptive steps have always arrived, what rounding has taken from the weights (by fixed steps,
    from the state), and of every twin that judges fixed steps (dynamics.integrators.doubling) all but its weights."""

    state: State
    fixed: Weights
    history: History | Past | None
    accuracy: windows.Accuracy | steps.Accuracy | None = None
    arrived: Bool[Array, ""] | None = None
    low: PyTree = None
    twins: tuple[Point, ...] = ()


class AbstractCoupled(AbstractRegime[CoupledProgress]):
    """What a coupled run is made of, and what follows from that alone. One period is `clock.steps` steps.

    `history` is the length of the delays' ring buffer, the largest lag in steps + 2; None: as long as the lags need,
    which must then be known and not traced. What windows leave open follows from the numbers of the run too. `key`
    drives the noise.
    """

    circuit: Circuit
    timescales: Timescales
    stream: Stream
    clock: Clock
    delays: Delays = Delays()
    noise: Noise = Noise()
    integrator: FixedStep | Adaptive | Window = FixedStep()
    key: PRNGKeyArray | None = None
    history: int = eqx.field(static=True, default=None)  # type: ignore[assignment]

    def system(self, fixed: Weights) -> CoupledSystem:
        """The coupled field with the given fixed matrices."""
        return CoupledSystem(self.circuit, self.timescales, self.clock, self.delays, self.noise, fixed)

    @property
    def delayed(self) -> bool:
        """Whether anything is late."""
        lags = self.delays.error, self.delays.hop, self.delays.input, *(p.lag for p in self.circuit.projections)
        return any(lag is not None for lag in lags)

    def targets(self) -> Float[Array, "samples outputs"]:
        """The targets of the samples; zeros on an unsupervised task."""
        targets = self.stream.targets
        return jnp.zeros((self.stream.inputs.shape[0], 1), self.clock.dt.dtype) if targets is None else targets

    def shown(self, k: Int[Array, ""]) -> tuple[Held, Held]:
        """Stimulus and target during presentation k, late by the constant lags."""
        gamma = self.delays.stages > 0  # gamma lags are filters inside the field: the signals enter them at once
        signals = (self.stream.inputs, self.delays.input), (self.targets(), self.delays.error)
        stimulus, target = held([(v, None if gamma else lag) for v, lag in signals], self.stream, self.clock, k)
        return stimulus, target

    def inputs_at(self, k: Int[Array, ""]) -> Callable[[Float[Array, ""]], Inputs]:
        """The inputs during step j of presentation k, as a function of j."""
        stimulus, target = self.shown(k)
        return lambda j: Inputs(stimulus.over(j)[0], *target.over(j))
