"""What the tests of the window integrator share: how far two runs have moved their weights apart, and references."""

import dataclasses
import math

import jax.numpy as jnp

from dynamics.circuit import Circuit
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.integrators import Window
from tests.dynamics.systems import show
from tests.problems import Problem, clock, f64, random_problem, stream, timescales
from tests.unjudged import PlainSteps, PlainWindow

SMALL = random_problem((3, 4, 2), activation="tanh", bias=True, samples=4)
TIMES = timescales(propagation=0.02, plasticity=0.5, decay=3.0)
FINE, INTERPOLATED = 400, 1000  # Runge-Kutta steps per presentation of a reference, also one with constant lags
DURATION, GAP = 0.1, 0.06  # the stimulus ends on a step: 625 of 1000


def windowed(
    circuit: Circuit, problem: Problem = SMALL, times=TIMES, gap=0.0, lags=None, stages=0, judged=False, **settings
) -> Coupled:
    """A coupled run by windows; `settings` of the integrator are those given, and gaps where there is one."""
    integrator = (Window if judged else PlainWindow)(**({"nodes": 10, "parts": 1, "gaps": gap > 0} | settings))
    return run_of(circuit, problem, times, clock(DURATION, gap), lags, stages, integrator)


def stepped(circuit: Circuit, problem: Problem = SMALL, times=TIMES, gap=0.0, lags=None, stages=0, steps=None):
    """The same by Runge-Kutta steps. With constant lags it has the second order of interpolated pasts."""
    solver, fine = ("heun", INTERPOLATED) if lags and not stages else ("dopri5", FINE)
    time = clock(DURATION, gap, steps or fine)
    return run_of(circuit, problem, times, time, lags, stages, PlainSteps(solver, compensated=False))


def run_of(circuit, problem, times, time, lags, stages, integrator, key=None) -> Coupled:
    """A coupled run of a circuit on a problem. With constant lags (in seconds) it remembers as many periods as they
    take: a step costs as much as what it remembers is long. Runs that remember as many share a program."""
    history = 0
    if lags and not stages:
        periods = math.ceil(max(lags.values()) / float(time.duration + time.gap) - 1e-9)
        history = max(periods, 1) * time.steps + 3
    delays = Delays(**{name: f64(lag) for name, lag in (lags or {}).items()}, stages=stages)
    return Coupled(circuit, times, stream(problem), time, delays, integrator=integrator, history=history, key=key)


def shown(run: Coupled, weights, presentations: int):
    """The progress after some presentations."""
    return show(run, weights, jnp.int32(0), jnp.int32(presentations))


def moved_apart(start, end, reference) -> float:
    """|W - W_ref| / |W_ref - W(0)| over all matrices: the relative error of the weight change."""
    apart = sum(float(jnp.sum((end[name] - reference[name]) ** 2)) for name in reference)
    moved = sum(float(jnp.sum((reference[name] - start[name]) ** 2)) for name in reference)
    return (apart / moved) ** 0.5


def error_of(run: Coupled, reference: Coupled, weights, presentations: int = 3) -> float:
    """The relative error of the weight change of `run`."""
    ends = [r.weights(shown(r, weights, presentations)) for r in (run, reference)]
    return moved_apart(weights, *ends)


def with_settings(run: Coupled, **settings) -> Coupled:
    """The run with other settings of its window integrator."""
    return dataclasses.replace(run, integrator=dataclasses.replace(run.integrator, **settings))
