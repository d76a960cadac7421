"""The project's own competitors: its coupled regime with the window integrator, and with fixed Euler steps."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.contract import Competitor, Setting, stages
from benchmarks.devices import Advance, JaxProgram
from benchmarks.workloads import TAU_PROP, T, Workload
from dynamics import Clock, Coupled, Delays, Discrete, FixedStep, Network, Stream, Timescales, Window
from dynamics.circuit import Circuit
from dynamics.integrators.window_choice import nodes_for
from dynamics.regime import AbstractRegime
from rules import FA

TOLERANCES = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)  # the last ones only where a looser one misses the target
# Nodes and, after the point, sweeps: 7.2 is 7 nodes and 2 sweeps. From the cheapest to the dearest.
SHAPES = (4.2, 5.2, 6.2, 7.2, 8.2, 6.3, 7.3, 8.3, 9.3, 8.4, 9.4, 10.4, 12.4, 12.6, 16.8)
# Presentations of a timing, at least: finer windows are shown the first 48 of a run as well, and one in 64 later.
LEAST = 512


def competitors() -> list[Competitor]:
    """The window integrator at its cheapest settings, as all others, and as a spec has it, by tolerance; Euler at the
    hand-written scan's accepted settings."""
    window = Competitor(
        "window",
        "window",
        SHAPES,
        lambda problem: JaxProgram(problem, coupled(problem.workload, shaped), static=True),
        _window_flops,
        least=LEAST,
    )
    chosen = Competitor(
        "window, by tolerance",
        "window by tolerance",
        TOLERANCES,
        lambda problem: JaxProgram(problem, coupled(problem.workload, by_tolerance(problem.workload)), static=True),
        lambda workload, tolerance: None,
        least=LEAST,
    )
    euler = Competitor(
        "engine Euler",
        "engine",
        (),
        lambda problem: JaxProgram(problem, coupled(problem.workload, fixed), static=True),
        stages(1),
        like="scan Euler, vmap",
    )
    return [window, chosen, euler]


def fixed(steps: Setting) -> tuple[Any, int]:
    """Euler steps."""
    return FixedStep("euler", compensated=False), int(steps)  # as a spec has it where weights change as fast


def by_tolerance(workload: Workload) -> Callable[[Setting], tuple[Any, int]]:
    """Windows for a tolerance, as a spec has them."""

    def window(tolerance: Setting) -> tuple[Any, int]:
        return Window(tolerance=tolerance, nodes=nodes(workload, tolerance), parts=1, gaps=False), 1

    return window


def nodes(workload: Workload, tolerance: Setting) -> int:
    """Those that a spec takes."""
    strongest = np.square(workload.problem([0]).inputs).sum(axis=1).max()
    strength = T * float(strongest) / workload.plasticity[0]
    return nodes_for(tolerance, T / TAU_PROP, len(workload.forward_sizes), strength)


def shaped(setting: Setting) -> tuple[Any, int]:
    """Windows of so many nodes and sweeps."""
    nodes, sweeps = _shape(setting)
    return Window(nodes=nodes, parts=1, sweeps=sweeps, gaps=False), 1


def _shape(setting: Setting) -> tuple[int, int]:
    return int(setting), round(10 * (setting - int(setting)))


def coupled(workload: Workload, integrator: Callable[[Setting], tuple[Any, int]]) -> Advance:
    """A coupled run of the workload's circuit; `integrator(setting)` gives the integrator and the clock's steps."""

    def regime(setting: Setting, circuit: Circuit, times: Timescales, stream: Stream) -> AbstractRegime[Any]:
        chosen, steps = integrator(setting)
        late: dict[str, Any] = {}
        if workload.lag is not None:
            late = {"delays": Delays(error=_number(workload.lag)), "history": math.ceil(steps * workload.lag / T) + 2}
        return Coupled(circuit, times, stream, _clock(steps), integrator=chosen, **late)

    return _advance(workload, regime)


def discrete(workload: Workload) -> Advance:
    """Discrete updates of the workload's circuit."""

    def regime(setting: Setting, circuit: Circuit, times: Timescales, stream: Stream) -> AbstractRegime[Any]:
        return Discrete(circuit, times, stream, _clock(1))

    return _advance(workload, regime)


def _clock(steps: int) -> Clock:
    return Clock(_number(T), _number(0.0), steps)


def _number(value: float) -> Array:
    return jnp.asarray(value, jnp.float32)


def _advance(workload: Workload, regime: Callable[..., AbstractRegime[Any]]) -> Advance:
    """Runs of `regime(setting, circuit, timescales, stream)`."""

    def advance(point: tuple, samples: tuple, setting: Setting, presentations: Array) -> tuple[Array, ...]:
        (weights, feedback, tau, seed), (inputs, targets) = point, samples
        circuit = FA(_number(1.0)).wire(Network(workload.sizes, bias=False, gain=_number(1.0)))
        times = Timescales(_number(TAU_PROP), tau)  # no decay, as a spec without one
        run = regime(setting, circuit, times, Stream(inputs, targets, jax.random.key(seed)))
        start = {f"W{level}": w for level, w in enumerate(weights, 1)}
        start |= {f"V{level}": v for level, v in enumerate(feedback, 2)}
        end = run.weights(run.advance(run.init(start), jnp.int32(0), presentations))
        return tuple(end[f"W{level}"] for level in range(1, len(weights) + 1))

    return advance


def _window_flops(workload: Workload, setting: Setting) -> float:
    """Operations of the window integrator's matrix products per presentation and configuration.

    Once per presentation: W_1 x, and the closing product M^T P of every matrix (an outer product for W_1, whose p is
    constant). In a sweep: W_l Z and V_l E, and the filters of z and e, one nodes x nodes product each; from the second
    sweep on the corrections, nodes x nodes with m and, above the first layer, with p.
    """
    nodes, sweeps = _shape(setting)
    first, upper = workload.forward_sizes[0], workload.forward_sizes[1:]
    once = 2 * first[0] * first[1] + sum(rows * columns * nodes for rows, columns in upper)
    base = sum(rows * columns * nodes for rows, columns in upper + workload.feedback_sizes)
    filters = sum(2 * rows * nodes**2 for rows, _ in workload.forward_sizes)
    corrections = first[0] * nodes**2 + sum((rows + columns) * nodes**2 for rows, columns in upper)
    return 2 * (once + sweeps * (base + filters) + (sweeps - 1) * corrections)
