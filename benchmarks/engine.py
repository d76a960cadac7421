"""The project's own competitors: its coupled regime with the window integrator, and with fixed Euler steps."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.contract import TARGETS, Competitor, Setting, stages
from benchmarks.devices import Advance, JaxProgram
from benchmarks.workloads import TAU_PROP, T, Workload
from dynamics import Clock, Coupled, FixedStep, Network, Stream, Timescales
from rules import FA

TOLERANCES = (1e-2, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)  # the last ones only where a looser one misses the target
CLOCK_STEPS = 50  # of a presentation, for the window integrator: a grid for delays, of which there are none here


def competitors() -> list[Competitor]:
    """The window integrator at its tolerances, and Euler at the hand-written scan's accepted settings."""
    window = Competitor(
        "window",
        "window",
        TOLERANCES,
        lambda problem: JaxProgram(problem, coupled(problem.workload, _window), static=True),
        _window_flops,
        missing=_window_missing(),
    )
    euler = Competitor(
        "engine Euler",
        "engine",
        (),
        lambda problem: JaxProgram(problem, coupled(problem.workload, _fixed), static=True),
        stages(1),
        like="scan Euler, vmap",
    )
    return [window, euler]


def _fixed(steps: Setting) -> tuple[Any, int]:
    return FixedStep("euler"), int(steps)


def _window(tolerance: Setting) -> tuple[Any, int]:
    return importlib.import_module("dynamics.window").Window(tolerance=tolerance, gaps=False), CLOCK_STEPS


def _window_missing() -> str | None:
    try:
        _window(TARGETS[0])
    except Exception as error:  # an unfinished integrator must not stop the benchmark of the others
        return f"{type(error).__name__}: {error}"
    return None


def coupled(workload: Workload, integrator: Callable[[Setting], tuple[Any, int]]) -> Advance:
    """A coupled run of the workload's circuit; `integrator(setting)` gives the integrator and the clock's steps."""
    number = functools.partial(jnp.asarray, dtype=jnp.float32)

    def advance(point: tuple, samples: tuple, setting: Setting, presentations: Array) -> tuple[Array, ...]:
        (weights, feedback, tau, seed), (inputs, targets) = point, samples
        chosen, steps = integrator(setting)
        run = Coupled(
            FA(number(1.0)).wire(Network(workload.sizes, bias=False, gain=number(1.0))),
            Timescales(number(TAU_PROP), tau, number(jnp.inf)),
            Stream(inputs, targets, jax.random.key(seed)),
            Clock(number(T), number(0.0), steps),
            integrator=chosen,
        )
        start = {f"W{level}": w for level, w in enumerate(weights, 1)}
        start |= {f"V{level}": v for level, v in enumerate(feedback, 2)}
        end = run.weights(run.advance(run.init(start), jnp.int32(0), presentations))
        return tuple(end[f"W{level}"] for level in range(1, len(weights) + 1))

    return advance


def window_flops(workload: Workload, nodes: int, windows: int, sweeps: float) -> float:
    """Operations of the window integrator's matrix products per presentation and configuration.

    Per window once: W_1 x and the closing product M P^T of every matrix. Per sweep: W_l Z of the layers above the
    first, V_l E, and for every plastic matrix the low-rank correction (Gram matrix P^T P, M times it) and the filters
    of z and e (one nodes x nodes product each).
    """
    first_rows, first_columns = workload.forward_sizes[0]
    closing = sum(rows * columns * nodes for rows, columns in workload.forward_sizes)
    upper = workload.forward_sizes[1:] + workload.feedback_sizes
    base = sum(rows * columns * nodes for rows, columns in upper)
    local = sum((columns + 3 * rows) * nodes**2 for rows, columns in workload.forward_sizes)
    return 2 * windows * (first_rows * first_columns + closing + sweeps * (base + local))


def window_shape(workload: Workload, tolerance: Setting) -> tuple[int, int, float] | None:
    """(nodes, windows per presentation, sweeps) that the integrator takes; None where it does not say."""
    shape = getattr(_window(tolerance)[0], "shape", None)
    return None if shape is None else shape(workload)


def _window_flops(workload: Workload, tolerance: Setting) -> float | None:
    shape = window_shape(workload, tolerance)
    return None if shape is None else window_flops(workload, *shape)
