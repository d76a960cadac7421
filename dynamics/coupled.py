"""The coupled regime: the coupled field of a circuit (dynamics.field), shown a stream of presentations."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Circuit, Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import Signals, State, check_lagged
from dynamics.history import check_late_error, needed_history
from dynamics.inside import Seen, Sight
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.integrators.fixed_step import FixedStep
from dynamics.loop import Count, repeat
from dynamics.noise import Noise
from dynamics.plasticity import slow_traces
from dynamics.regime import Quality, check_circuit, check_start, check_wired
from dynamics.sides import side, together
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales


class Coupled(AbstractCoupled):
    """A coupled run: a circuit that a stream of presentations is shown to, by `integrator`.

    One period is `clock.steps` steps. `history` is the length of the delays' ring buffer, the largest lag in steps + 2;
    None: as long as the lags need, which must then be known and not traced. What the integrator leaves open follows
    from the numbers of the run too. `key` drives the noise.

    `batch` presentations go on side by side, each on a copy of the network; the copies share weights and slow
    variables, which move by the mean of their drives (dynamics.sides).
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
    batch: int = eqx.field(static=True, default=1)

    def __post_init__(self):
        check_wired(self.circuit)
        self.integrator = self.integrator.fitted(self)
        if self.history is None:
            self.history = needed_history(self)

    def __check_init__(self):
        if self.batch < 1:
            raise PlasticodeError(
                f"batch = {self.batch} is not allowed: there must be at least 1 presentation at a time"
            )
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
        if self.stream.timed:
            _check_timed(self)
        self.integrator.check(self)

    def init(self, weights: Weights) -> CoupledProgress:
        """The start: silent activities, given matrices (see `Circuit.initial_weights`)."""
        check_start(self.circuit, self.clock.dt.dtype, weights, self.stream.inputs)
        fixed = {p.name: weights[p.name] for p in self.circuit.fixed}
        start = functools.partial(self.integrator.init, self, fixed, weights)
        if self.batch == 1:
            return start()
        return together(start, self.batch, None, _sides(self.circuit, jax.eval_shape(start)))()

    def ready(self, progress: CoupledProgress) -> PyTree:
        """What the integrator makes once for all presentations: `advance` and `watch` make it if they are not given
        it, which is a good part of the work of a single presentation."""
        sides = _sides(self.circuit, progress)
        return together(lambda now: self.integrator.ready(self, now), self.batch, (sides,), None)(progress)

    def advance(
        self, progress: CoupledProgress, first: Int[Array, ""], count: Count, ready: PyTree = None
    ) -> CoupledProgress:
        """Shows presentations first .. first + count - 1."""
        fixed, sides = progress.fixed, _sides(self.circuit, progress)
        ready = self.ready(progress) if ready is None else ready
        progress = self.integrator.opened(self, ready, progress)

        def one(before: CoupledProgress, k: Int[Array, ""]) -> CoupledProgress:
            run = self.stream.run_at(self, k)
            return run.integrator.show(run._side(), run._ready_at(ready, before), before, k)

        def show(i: Int[Array, ""], carry: tuple[State, PyTree]) -> tuple[State, PyTree]:
            before, k = CoupledProgress(carry[0], fixed, carry[1]), first + jnp.asarray(i, jnp.int32)
            after = together(one, self.batch, (sides, None), sides)(before, k)
            return after.state, after.memory

        state, memory = repeat(count, show, (progress.state, progress.memory))
        return self.integrator.closed(CoupledProgress(state, fixed, memory))

    def _ready_at(self, ready: PyTree, progress: CoupledProgress) -> PyTree:
        """What was made once, or what this presentation needs."""
        return self.integrator.ready(self, progress) if self.stream.timed else ready

    def _side(self) -> "Coupled":
        """The run as one of its sides sees it."""
        if self.batch == 1:
            return self
        stream = dataclasses.replace(self.stream, sides=self.batch, side=side(self.batch))
        return dataclasses.replace(self, stream=stream)

    def watch(
        self,
        progress: CoupledProgress,
        k: Int[Array, ""],
        shares: Float[np.ndarray | Array, " times"],
        sight: Sight,
        ready: PyTree = None,
    ) -> tuple[CoupledProgress, Seen]:
        """Shows presentation k; gives the progress after it, and what is seen when so large `shares` of its period (0
        to 1, ascending) are over.

        Where something jumps it is what comes after, and at the end of the period what was before. Windows have it from
        the polynomials through their nodes; fixed steps from Hermite's between two steps, at which they are what was
        integrated; adaptive steps from those of their solver. All is smooth in the numbers of the run. Of presentations
        side by side the first is seen.
        """
        sides = _sides(self.circuit, progress)
        ready = self.ready(progress) if ready is None else ready

        def one(before: CoupledProgress, k: Int[Array, ""]) -> tuple[CoupledProgress, Seen]:
            run = self.stream.run_at(self, k)
            return run.integrator.watch(run._side(), run._ready_at(ready, before), before, k, shares, sight)

        after, seen = together(one, self.batch, (sides, None), (sides, 0))(progress, k)
        return after, seen if self.batch == 1 else {name: numbers[0] for name, numbers in seen.items()}

    def sight(self, names: Sequence[str], neurons: Mapping[str, Sequence[int]], key: str = "names") -> Sight:
        """What `names` stand for here (dynamics.inside)."""
        return Sight.of(self.system({}), names, neurons, key)

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


def _check_timed(run: Coupled) -> None:
    """Refuses what looks back by a time, or goes on side by side, where presentations last differently."""
    if run.delayed and run.delays.stages == 0:
        raise PlasticodeError(
            "presentations of different durations or gaps are not allowed with constant lags: delays.stages must be at "
            "least 1, which makes lags gamma-distributed, or all lags 0"
        )
    if run.batch > 1:
        raise PlasticodeError(f"batch = {run.batch} is not allowed where presentations last differently: it must be 1")
    if run.stream.moves:
        raise PlasticodeError(
            f"interpolation = '{run.stream.interpolation}' is not allowed where presentations last differently: it "
            "must be 'held'"
        )


OWN = {"fast", "trace", "chain", "path", "past", "history"}  # what belongs to one side, in states and in memories


def _sides(circuit: Circuit, progress: PyTree) -> PyTree:
    """Where the sides lie in all that a run has come to: along the first axis of what belongs to one; None of what they
    share, its numbers of weights, slow variables and the error."""
    slow = slow_traces(circuit)

    def of(path: tuple, leaf: Any) -> int | None:
        names = [getattr(key, "name", getattr(key, "key", None)) for key in path]
        shared = not OWN & set(names) or ("trace" in names and names[-1] in slow)
        return None if shared else 0

    return jax.tree_util.tree_map_with_path(of, progress)
