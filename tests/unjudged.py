"""Runs without what judges them: finer windows, and twins of twice the step, are half of a program and of its time.

They change no number of a run (tests/dynamics/test_unjudged.py). Tests that ask a run for its weights, and nobody for
an estimate of their error, do without: by these classes in place of the engine's, or, where the code under test makes
its runs itself, by the fixture of this name.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

from dynamics.circuit import Weights
from dynamics.coupled_run import CoupledProgress
from dynamics.flow import FlowState, WeightFlow
from dynamics.integrators import FixedStep, Window, doubling, judge
from dynamics.integrators.fixed_step import Point, Stepped
from dynamics.integrators.solvers import check_noise
from dynamics.integrators.window import Windowed
from dynamics.integrators.window_parts import Course
from dynamics.kept import forget
from dynamics.loop import repeat
from dynamics.rounding import Sums


class NoJudge(NamedTuple):
    """Stands for the judge of windows where a run is looked at inside."""

    def add(self, accuracy: judge.Accuracy, *_: Any) -> judge.Accuracy:
        return accuracy


class PlainWindow(Window):
    """Windows that nothing judges."""

    def init(self, run: Any, fixed: Weights, weights: Weights) -> CoupledProgress:
        system, zero = run.system(fixed), jnp.zeros_like(run.clock.dt)
        state = system.initial_state(weights)
        past = self.start(system, state, max(-(-(run.history - 2) // run.clock.steps), 1))
        accuracy = judge.Accuracy(zero, zero, zero, zero, zero, zero, zero, jnp.asarray(False), None)
        return CoupledProgress(state, fixed, Windowed(past, accuracy, Sums.of(state.weights)))

    def ready(self, run: Any, progress: CoupledProgress) -> Any:
        return self.layout(run.system(progress.fixed), progress.memory.past), NoJudge()

    def show(self, run: Any, ready: Any, progress: CoupledProgress, k: Any) -> CoupledProgress:
        system, memory = run.system(progress.fixed), progress.memory
        course = Course(progress.state, memory.sums, memory.past, memory.owed)
        shown = self.arrivals(system, run.stream, k)
        after, _, _ = self.present(system, ready[0], course, shown, k, run.key, None)
        memory = Windowed(after.past, memory.accuracy, after.sums, after.owed)
        return CoupledProgress(after.state, progress.fixed, memory)


class PlainSteps(FixedStep):
    """Steps that nothing judges."""

    def init(self, run: Any, fixed: Weights, weights: Weights) -> CoupledProgress:
        check_noise(self.name, run.noise.present)
        start, zero = self._start(run, fixed, weights), jnp.zeros_like(run.clock.dt)
        return CoupledProgress(start.y, fixed, Stepped(start.history, doubling.Accuracy(zero, zero), start.low, ()))

    def ready(self, run: Any, progress: CoupledProgress) -> tuple:
        return ()

    def show(self, run: Any, ready: Any, progress: CoupledProgress, k: Any) -> CoupledProgress:
        memory = progress.memory
        at = Point(progress.state, memory.low, memory.history)
        end = self._presented(run, at, progress.fixed, k)
        return CoupledProgress(end.y, progress.fixed, Stepped(end.history, memory.accuracy, end.low, ()))


class PlainFlow(WeightFlow):
    """A weight flow that nothing judges."""

    def advance(self, progress: FlowState, first: Any, count: Any) -> FlowState:
        def body(i: Any, at: Point) -> Point:
            return self._presented(at, progress.fixed, first + jnp.asarray(i, jnp.int32))

        end = repeat(count, body, Point((progress.weights, progress.slow, progress.traces), progress.low, None))
        weights, slow, traces = end.y
        return FlowState(weights, slow, traces, progress.fixed, end.low, progress.twin, progress.accuracy)


PLAIN = {PlainWindow: ("init", "ready", "show"), PlainSteps: ("init", "ready", "show"), PlainFlow: ("advance",)}


@contextlib.contextmanager
def unjudged() -> Iterator[None]:
    """All runs that begin here are plain: of their error they tell 0. What is compiled here, nobody else finds."""
    forget()
    with pytest.MonkeyPatch.context() as patch:
        for plain, methods in PLAIN.items():
            for name in methods:
                patch.setattr(plain.__bases__[0], name, vars(plain)[name])
        yield
    forget()
