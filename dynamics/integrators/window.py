"""The window integrator: waveforms at a few nodes (integrators.windows), judged by finer ones (integrators.judge)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from equinox.internal import nondifferentiable_backward
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PyTree

from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.errors import PlasticodeError
from dynamics.history import check_late_error, misled
from dynamics.inside import Seen, Sight
from dynamics.integrators.contract import Demands, Finer, Settings
from dynamics.integrators.drives import check_windows
from dynamics.integrators.judge import Accuracy, Judge, accuracy_at_start
from dynamics.integrators.owed import NOTHING, Owed
from dynamics.integrators.waveforms import Relaxation, Waves
from dynamics.integrators.window_choice import choose, own_parts, refined
from dynamics.integrators.window_inside import joined, pieces_of
from dynamics.integrators.window_parts import Course, Layout, Past
from dynamics.integrators.windows import AbstractWindow
from dynamics.regime import Quality
from dynamics.rounding import Sums
from dynamics.simulate import all_finite

Report = Callable[[Relaxation, Waves], PyTree]
Ready = tuple[Layout, Judge | None]
FORWARD_ONLY = (
    "Window(sweeps=None) sweeps until its tolerance is met, which reverse mode cannot go through: give a number of "
    "sweeps, as in Window(sweeps=6), or take forward mode (jax.jvp, jax.jacfwd)"
)


class Windowed(NamedTuple):
    """What windows remember: the past, the error so far (with the run by finer windows), and the weights as sums that
    lose nothing to rounding; in a loop what they are owed."""

    past: Past | None
    accuracy: Accuracy
    sums: Sums
    owed: Owed = NOTHING


class Window(AbstractWindow):
    """Integrates presentations window by window: cuts at every jump of an input and at `parts` equal parts.

    tolerance   of the weights' change, relative: sweeps go on until they have converged well below it
    nodes       per window      parts   of a presentation, where no input jumps
    settling    also cuts this many propagation time constants (the longest) after every jump; None: no such cuts
    gaps        whether there are blank gaps, which take windows of their own
    sweeps      a fixed number of sweeps, as gradients in reverse mode need; None: as many as the tolerance asks for
    whole       whether finer windows judge the whole run, at about twice the price, and not some of its presentations
    strongest   the largest |x|^2: points that share a program then take fewer parts where their own learning is slower
                and nothing cuts a presentation; None: each takes all
    judged      whether any judge it, which is half of a program: where they do not, nothing is known of the error

    What is None of nodes, parts and gaps follows from the run that windows are given to (integrators.window_choice).
    """

    delays: ClassVar[bool] = True
    noise: ClassVar[bool] = True
    kinks: ClassVar[bool] = False
    dense: ClassVar[bool] = True

    @property
    def calculi(self) -> tuple[str, ...]:
        return ("ito", "stratonovich")

    def fitted(self, run: AbstractCoupled) -> "Window":
        """The window with what it leaves open; where the numbers of the run are traced, a cautious choice."""
        times, x = run.timescales, run.stream.inputs
        if None not in (self.nodes, self.parts, self.gaps):
            return self
        decay = jnp.asarray(jnp.inf) if times.decay is None else times.decay
        numbers = *run.stream.longest(run.clock), times.propagation, times.plasticity, decay, x
        if any(isinstance(number, Tracer) for number in numbers):
            open_ = {"nodes": 12, "parts": 1, "gaps": True}
            return dataclasses.replace(self, **{k: v for k, v in open_.items() if getattr(self, k) is None})
        # By NumPy: in a traced function jax's own operations trace even known numbers.
        duration, gap, prop, plast, dec = (np.atleast_1d(np.asarray(number, float).min()) for number in numbers[:-1])
        square = float(np.max(np.sum(np.square(np.asarray(x, float)), axis=1)))
        spacing = float(prop[0]) / 2 if run.noise.present else None
        layers = max(layer.level for layer in run.circuit.layers)
        return choose(self, Demands(duration, gap, prop, plast, dec, square, layers, spacing))

    def check(self, run: AbstractCoupled) -> None:
        check_late_error(run)
        check_windows(run.system({}))
        super().check(run)
        gap = run.stream.longest(run.clock)[1]
        if not self.gaps and not isinstance(gap, Tracer) and float(gap) > 0:
            raise PlasticodeError(
                f"the windows have gaps = False, but the clock has a gap of {gap:g} s: leave gaps out"
            )

    def init(self, run: AbstractCoupled, fixed: Weights, weights: Weights) -> CoupledProgress:
        system = run.system(fixed)
        state = system.initial_state(weights)
        past = self.start(system, state, max(-(-(run.history - 2) // run.clock.steps), 1))
        course = Course(state, Sums.of(state.weights), past)
        return CoupledProgress(state, fixed, Windowed(past, accuracy_at_start(self, system, course), course.sums))

    def ready(self, run: AbstractCoupled, progress: CoupledProgress) -> Ready:
        """How the windows lie, and what judges them."""
        system, past = run.system(progress.fixed), progress.memory.past
        return self.layout(system, past), Judge.of(self, system, past) if self.judged else None

    def opened(self, run: AbstractCoupled, ready: PyTree, progress: CoupledProgress) -> CoupledProgress:
        system, windows = run.system(progress.fixed), ready[0].start.shape[0]
        owed = Owed.begin(run, system, progress.state.weights, self.nodes, windows)
        return progress._replace(memory=progress.memory._replace(owed=owed))

    def closed(self, progress: CoupledProgress) -> CoupledProgress:
        memory = progress.memory
        if not memory.owed.post:
            return progress
        course = Course(progress.state, memory.sums, memory.past, memory.owed).paid()
        return progress._replace(state=course.state, memory=memory._replace(sums=course.sums, owed=NOTHING))

    def show(self, run: AbstractCoupled, ready: Ready, progress: CoupledProgress, k: Int[Array, ""]) -> CoupledProgress:
        return self._shown(run, ready, progress, k, None)[0]

    def _shown(
        self, run: AbstractCoupled, ready: Ready, progress: CoupledProgress, k: Int[Array, ""], report: Report | None
    ) -> tuple[CoupledProgress, PyTree]:
        """The progress after presentation k, and what every window reports."""
        system, (layout, judge), memory = run.system(progress.fixed), ready, progress.memory
        course = Course(progress.state, memory.sums, memory.past, memory.owed)
        shown = self.arrivals(system, run.stream, k)
        after, doubt, told = self.present(system, layout, course, shown, k, run.key, report)
        if self.sweeps is None:
            after, told = nondifferentiable_backward((after, told), msg=FORWARD_ONLY)
        accuracy = memory.accuracy if judge is None else judge.add(memory.accuracy, after, doubt, shown, k)
        memory = Windowed(after.past, accuracy, after.sums, after.owed)
        return CoupledProgress(after.state, progress.fixed, memory), told

    def unjudged(self) -> "Window":
        return dataclasses.replace(self, judged=False)

    def quality(self, run: AbstractCoupled, progress: CoupledProgress) -> Quality:
        if not self.judged:
            return Quality.unknown(run.clock.dt.dtype)
        weights, broken = progress.state.weights, misled(run)
        if not self.gaps:
            broken = broken | (run.stream.longest(run.clock)[1] > 0)
        error = jnp.where(broken, jnp.inf, progress.memory.accuracy.relative(weights))
        return Quality(error, (error <= self.tolerance) | ~all_finite(weights))

    def watch(
        self,
        run: AbstractCoupled,
        ready: Ready,
        progress: CoupledProgress,
        k: Int[Array, ""],
        shares: Float[np.ndarray | Array, " times"],
        sight: Sight,
    ) -> tuple[CoupledProgress, Seen]:
        end, pieces = self._shown(run, ready, progress, k, functools.partial(pieces_of, sight))
        smooth = not run.noise.fluctuations
        times = jnp.asarray(shares, run.clock.dt.dtype) * run.clock.period
        return end, joined(pieces, ready[0], times, run.clock.period, self.nodes, smooth)

    def planned(self, settings: Settings, demands: Demands) -> tuple["Window", int]:
        window = own_parts(choose(Window(settings.tolerance), demands), demands)
        return window, window.nodes * window.parts

    def finer(self, steps: int, history: int, dtype: np.dtype) -> Finer | None:
        window = refined(self)
        return None if window is None else Finer(window, steps, history)

    def label(self, steps: int) -> str:
        return f"{self.parts}x{self.nodes}"
