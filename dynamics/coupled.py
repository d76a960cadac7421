"""The coupled regime: the coupled field of a circuit (dynamics.field), shown a stream of presentations."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import Signals, State, check_lagged
from dynamics.history import check_late_error, needed_history
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.integrators.fixed_step import FixedStep
from dynamics.loop import Count, repeat
from dynamics.noise import Noise
from dynamics.regime import Quality, Slow, check_circuit, check_start
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales


class Coupled(AbstractCoupled):
    """A coupled run: a circuit that a stream of presentations is shown to, by `integrator`.

    One period is `clock.steps` steps. `history` is the length of the delays' ring buffer, the largest lag in steps + 2;
    None: as long as the lags need, which must then be known and not traced. What the integrator leaves open follows
    from the numbers of the run too. `key` drives the noise.
    """

    circuit: Circuit
    timescales: Timescales
    stream: Stream
    clock: Clock
    delays: Delays = Delays()
    noise: Noise = Noise()
    integrator: AbstractIntegrator = FixedStep()
    key: PRNGKeyArray | None = None
    history: int = eqx.field(static=True, default=None)  # type: ignore[assignment]

    def __post_init__(self):
        self.integrator = self.integrator.fitted(self)
        if self.history is None:
            self.history = needed_history(self)

    def __check_init__(self):
        check_circuit(self.circuit, self.timescales, self.stream.inputs, self.stream.targets, self.stream.told)
        check_lagged(self.system({}))
        roles = {layer.role for layer in self.circuit.layers}
        if self.delays.error is not None and "target" in roles and "output" not in roles:
            raise PlasticodeError(
                "delays.error is not allowed here: no layer of this circuit has an output error, as the rule compares "
                "the target itself"
            )
        if self.delays.stages > 0:
            check_late_error(self)
        self.integrator.check(self)

    def init(self, weights: Weights) -> CoupledProgress:
        """The start: silent activities, given matrices (see `Circuit.initial_weights`)."""
        check_start(self.circuit, self.clock.dt.dtype, weights, self.stream.inputs)
        fixed = {p.name: weights[p.name] for p in self.circuit.fixed}
        return self.integrator.init(self, fixed, weights)

    def advance(self, progress: CoupledProgress, first: Int[Array, ""], count: Count) -> CoupledProgress:
        """Shows presentations first .. first + count - 1."""
        fixed, ready = progress.fixed, self.integrator.ready(self, progress)

        def show(i: Int[Array, ""], carry: tuple[State, PyTree]) -> tuple[State, PyTree]:
            before, k = CoupledProgress(carry[0], fixed, carry[1]), first + jnp.asarray(i, jnp.int32)
            after = self.integrator.show(self, ready, before, k)
            return after.state, after.memory

        state, memory = repeat(count, show, (progress.state, progress.memory))
        return CoupledProgress(state, fixed, memory)

    def probe_inside(
        self, progress: CoupledProgress, k: Int[Array, ""], probe: Callable[[Weights, Slow], PyTree[Array]]
    ) -> tuple[CoupledProgress, Float[Array, " times"], PyTree[Array]]:
        """Shows presentation k by windows and evaluates `probe(weights, slow)` at all of their nodes.

        Gives the progress after it, the times of the nodes in seconds from its start, and the probes, stacked.
        """
        return self.integrator.probe_inside(self, progress, k, probe)

    def weights(self, progress: CoupledProgress) -> Weights:
        """All matrices."""
        return {**progress.fixed, **progress.state.weights}

    def slow(self, progress: CoupledProgress) -> dict[str, Signals]:
        """All slow variables."""
        return progress.state.slow

    def quality(self, progress: CoupledProgress) -> Quality | None:
        """What the integrator knows of the error."""
        return self.integrator.quality(self, progress)

    def refined(self) -> "Coupled | None":
        """The same run by finer windows, or in four times as many steps; None where there is nothing finer."""
        finer = self.integrator.finer(self.clock.steps, self.history, self.clock.dt.dtype)
        if finer is None:
            return None
        clock = dataclasses.replace(self.clock, steps=finer.steps)
        return dataclasses.replace(self, integrator=finer.integrator, clock=clock, history=finer.history)
