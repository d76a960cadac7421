"""What a coupled run leaves open, found from its numbers, and whether these keep what the run promises."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from dynamics.coupled_run import AbstractCoupled
from dynamics.errors import PlasticodeError
from dynamics.integrators.window import Window
from dynamics.integrators.window_choice import Demands, choose


def fitted(run: AbstractCoupled, window: Window) -> Window:
    """The window with what it leaves open; where the numbers of the run are traced, a cautious choice."""
    times, x = run.timescales, run.stream.inputs
    if None not in (window.nodes, window.parts, window.gaps):
        return window
    decay = jnp.asarray(jnp.inf) if times.decay is None else times.decay
    numbers = run.clock.duration, run.clock.gap, times.propagation, times.plasticity, decay, x
    if any(isinstance(number, Tracer) for number in numbers):
        open_ = {"nodes": 12, "parts": 1, "gaps": True}
        return dataclasses.replace(window, **{k: v for k, v in open_.items() if getattr(window, k) is None})
    # By NumPy: in a traced function jax's own operations trace even known numbers.
    duration, gap, prop, plast, dec = (np.atleast_1d(np.asarray(number, float).min()) for number in numbers[:-1])
    square = float(np.max(np.sum(np.square(np.asarray(x, float)), axis=1)))
    spacing = float(prop[0]) / 2 if run.noise.present else None
    return choose(window, Demands(duration, gap, prop, plast, dec, square, spacing))


def _late(run: AbstractCoupled) -> dict[str, Float[Array, ""]]:
    """Constant lags that look back at the past of signals, by what a user calls them."""
    if run.delays.stages > 0:
        return {}
    lags = {"delays.error": run.delays.error, "delays.hop": run.delays.hop}
    lags |= {f"the lag of '{p.name}'": p.lag for p in run.circuit.projections}
    return {name: lag for name, lag in lags.items() if lag is not None}


def needed_history(run: AbstractCoupled) -> int:
    """The length of the ring buffer that the lags need, which must be known."""
    needed = 0
    for name, lag in _late(run).items():
        late = _steps_late(run, lag)
        if late is None:
            raise PlasticodeError(f"{name} is traced, so that nothing here can tell how long it is: give history")
        needed = max(needed, _buffer(late))
    return needed


def check_steps(run: AbstractCoupled) -> None:
    """Refuses steps that are seen to be unstable."""
    clock, tau = run.clock, run.timescales.propagation
    if any(isinstance(x, Tracer) for x in (clock.duration, clock.gap, tau)):
        return
    dt, tau = np.asarray(clock.duration, float) + np.asarray(clock.gap, float), np.asarray(tau)
    dt = dt / clock.steps
    # Twice as much would do, but a twin of what is still stable is a run too.
    if dt.max() <= 4 * tau.min() * (1 + 1e-6):
        return
    raise PlasticodeError(
        f"clock.steps is {run.clock.steps}, which gives steps of {float(dt.max()):g} s, with timescales.propagation = "
        f"{float(tau.min()):g} s: explicit steps are unstable above twice that, so there must be more steps"
    )


def check_history(run: AbstractCoupled) -> None:
    """Refuses a ring buffer that is too short for the lags (for those that are known while tracing)."""
    for name, lag in _late(run).items():
        late = _steps_late(run, lag)
        if late is not None and late.min() < 0:
            raise PlasticodeError(f"{name} is {lag} s: it must be at least 0")
        needed = 2 if late is None else _buffer(late)
        if run.history < needed:
            raise PlasticodeError(f"history is {run.history} steps, but {name} needs at least {needed}")


def misled(run: AbstractCoupled) -> Bool[Array, ""]:
    """Whether the run rests on a promise that its numbers break, which no one can see where they are traced."""
    broken = [jnp.zeros((), bool)]
    for lag in _late(run).values():
        steps = lag / run.clock.dt
        broken.append((steps < 0) | (steps * (1 - 1e-6) > max(run.history - 2, 0)))
    if isinstance(run.integrator, Window) and not run.integrator.gaps:
        broken.append(run.clock.gap > 0)
    return functools.reduce(jnp.logical_or, broken)


def check_gaps(run: AbstractCoupled) -> None:
    """Refuses windows without gaps beside a gap, where it is known."""
    gap = run.clock.gap
    if isinstance(run.integrator, Window) and not run.integrator.gaps and not isinstance(gap, Tracer):
        if float(gap) > 0:
            raise PlasticodeError(
                f"the windows have gaps = False, but the clock has a gap of {gap:g} s: leave gaps out"
            )


def _steps_late(run: AbstractCoupled, lag: Float[Array, ""]) -> np.ndarray | None:
    """A lag in steps; None where it, or the clock, is traced."""
    numbers = lag, run.clock.duration, run.clock.gap
    if any(isinstance(number, Tracer) for number in numbers):
        return None
    late, duration, gap = (np.asarray(number, float) for number in numbers)
    return np.asarray(late / (duration + gap) * run.clock.steps)


def _buffer(late: np.ndarray) -> int:
    """The length of a ring buffer that a lag of `late` steps needs."""
    return math.ceil(float(late.max()) * (1 - 1e-6)) + 2
