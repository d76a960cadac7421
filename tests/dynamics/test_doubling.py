"""The estimate of fixed steps against true errors, and what must not escape it; slow weights in float32."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.flow import WeightFlow
from dynamics.integrators import Adaptive, FixedStep
from dynamics.network import Network
from dynamics.noise import Noise
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from rules import KP, SGD
from tests.dynamics import systems
from tests.dynamics.systems import show, two_layers
from tests.dynamics.windows import moved_apart
from tests.problems import Problem, clock, f64, random_weights, stream, timescales
from tests.unjudged import PlainSteps

PROBLEM = two_layers(bias=True)
TIMES = timescales(propagation=0.02, plasticity=0.3, decay=5.0)
LAGS = {"none": {}, "error": {"error": 0.033}, "all": {"error": 0.033, "hop": 0.007, "input": 0.021}}


def coupled(*known, solver="euler", **more) -> Coupled:
    """A run by steps that are judged."""
    return systems.coupled(*known, **({"integrator": FixedStep(solver)} | more))


WEIGHTS = random_weights(coupled(PROBLEM, clock(steps=10)).circuit)


def ended(run: Coupled, presentations: int = 6):
    """The matrices and the quality of a run after some presentations."""
    progress = show(run, WEIGHTS, jnp.int32(0), jnp.int32(presentations))
    return run.weights(progress), run.quality(progress)


def in_steps(solver, steps, lags="none", **options):
    late: dict[str, Any] = {name: f64(lag) for name, lag in LAGS[lags].items()}
    history = int(0.033 / 0.1 * steps) + 4 if lags != "none" else 0
    return coupled(
        PROBLEM, clock(0.1, 0.0, steps), TIMES, solver=solver, delays=Delays(**late), history=history, **options
    )


@pytest.fixture(scope="module")
def exact():
    """The right matrices, by lags."""
    solvers = {"none": ("dopri5", 400), "error": ("heun", 1000), "all": ("heun", 1000)}
    runs = {lags: in_steps(*how, lags, integrator=PlainSteps(how[0])) for lags, how in solvers.items()}
    return {lags: ended(run)[0] for lags, run in runs.items()}


CASES = [("euler", 40, "none"), ("heun", 9, "none"), ("tsit5", 10, "none"), ("heun", 40, "all"), ("tsit5", 20, "error")]


@pytest.mark.parametrize(("solver", "steps", "lags"), CASES)
def test_the_estimate_is_between_half_and_ten_times_the_true_error(solver, steps, lags, exact):
    end, quality = ended(in_steps(solver, steps, lags))
    true = moved_apart(WEIGHTS, end, exact[lags])
    assert true / 2 < quality.error < 10 * true
    assert quality.converged == (quality.error <= 1e-3)


def test_refined_runs_look_back_as_far_in_four_times_as_many_steps_up_to_a_limit():
    run = in_steps("heun", 40, "all")
    finer = run.refined()
    assert finer is not None and finer.clock.steps == 160 and finer.history - 2 == 4 * (run.history - 2)
    assert in_steps("heun", 30_000, "all").refined() is None


def test_a_stimulus_that_ends_inside_a_step_is_known_to_cost_an_order():
    def gapped(steps, solver="tsit5"):
        return coupled(PROBLEM, clock(0.1, 0.05, steps), TIMES, solver=solver)

    exact = ended(gapped(600))[0]
    end, quality = ended(gapped(20))
    assert moved_apart(WEIGHTS, end, exact) / 2 < quality.error
    assert ended(gapped(24))[1].error < quality.error / 5  # where it ends on a step of both runs


def test_a_rare_large_sample_counts_whenever_it_comes():
    """Presentation 9 shows a sample ten times as large: all that went before was easy."""
    order = [int(stream(PROBLEM).index(jnp.int32(k))) for k in range(60)]
    rare = min(set(order), key=lambda s: -order.index(s))
    large = PROBLEM.inputs.at[rare].multiply(10.0)
    run = dataclasses.replace(in_steps("heun", 20), stream=Stream(large, PROBLEM.targets, stream(PROBLEM).key))
    before, after = (ended(run, order.index(rare) + shown)[1].error for shown in (0, 1))
    assert order.index(rare) > 1 and after > 5 * before


def test_a_single_step_is_judged_too_and_refused_where_it_is_seen_to_be_unstable():
    slow = timescales(propagation=0.2, plasticity=0.3)
    assert not ended(coupled(PROBLEM, clock(0.1, 0.0, 1), slow))[1].converged
    with pytest.raises(PlasticodeError, match="clock.steps is 1.*explicit steps are unstable above twice that"):
        coupled(PROBLEM, clock(0.1, 0.0, 1), TIMES)

    @eqx.filter_jit
    def traced(tau):  # where nothing can be seen the result is not ok
        run = coupled(PROBLEM, clock(0.1, 0.0, 1), timescales(propagation=tau, plasticity=0.3))
        return run.quality(run.advance(run.init(WEIGHTS), jnp.int32(0), 60))

    assert not traced(f64(0.02)).error <= 1e-3


def test_noise_of_activities_is_left_out_of_the_estimate_and_that_of_weights_is_not():
    plain = ended(in_steps("heun", 20))[1].error
    noisy = ended(in_steps("heun", 20, noise=Noise(activity=f64(0.3)), key=jax.random.key(1)))[1].error
    assert noisy == pytest.approx(float(plain), rel=0.3)  # from other weights
    kicked = Noise(synaptic_multiplicative=f64(1.0))
    errors = [ended(in_steps("euler", n, noise=kicked, key=jax.random.key(1)))[1].error for n in (40, 640)]
    assert np.log(errors[0] / errors[1]) / np.log(16) == pytest.approx(0.5, abs=0.2)  # strong order one half
    with pytest.raises(PlasticodeError, match="clock.steps is 9: with noise of the weights it must be even"):
        ended(in_steps("euler", 9, noise=kicked))


@pytest.mark.parametrize(("name", "rtol"), [("tsit5", 1e-4), ("heun", 1e-5)])
def test_adaptive_steps_are_judged_by_looser_ones(name, rtol, exact):
    run = coupled(PROBLEM, clock(0.1, 0.0, 1), TIMES, integrator=Adaptive(f64(rtol), f64(rtol), name))
    end, quality = ended(run)
    true = moved_apart(WEIGHTS, end, exact["none"])
    assert true / 2 < quality.error < 10 * true and quality.converged


def test_a_weight_flow_judges_its_steps():
    def flow(solver, steps):
        circuit = SGD().wire(PROBLEM.network)
        return WeightFlow(circuit, TIMES, PROBLEM.inputs, PROBLEM.targets, clock(0.3, 0.0, steps), FixedStep(solver))

    weights = random_weights(flow("heun", 1).circuit)
    exact = ended_flow(flow("dopri5", 50), weights)[0]
    for solver, steps in (("euler", 10), ("heun", 4), ("heun", 1)):
        end, error = ended_flow(flow(solver, steps), weights)
        assert moved_apart(weights, end, exact) / 2 < error < 10 * moved_apart(weights, end, exact)


@eqx.filter_jit
def ended_flow(run, weights):
    progress = run.advance(run.init(weights), jnp.int32(0), 4)
    return run.weights(progress), run.quality(progress).error


# Slow weights


@pytest.mark.parametrize("regime", ["coupled", "adaptive", "flow", "discrete"])
def test_decay_over_a_day_is_the_same_in_float32(regime):
    """Nothing but decay: every matrix shrinks by 1 - exp(-t/tau_dec), a step by less than float32 resolves."""
    single = jnp.float32
    x, y = jnp.zeros((3, 4), single), jnp.zeros((3, 2), single)
    circuit = KP(single(1.0)).wire(Network((4, 3, 2), bias=False, gain=single(1.0), activation="relu"))
    times, time = Timescales(single(0.002), single(jnp.inf), single(86400.0)), Clock(single(0.05), single(0.0), 50)
    data = Stream(x, y, jax.random.key(0))
    runs = {
        "coupled": lambda: Coupled(circuit, times, data, time),
        "adaptive": lambda: Coupled(circuit, times, data, time, integrator=Adaptive(single(1e-4), single(1e-7))),
        "flow": lambda: WeightFlow(circuit, times, x, y, time),
        "discrete": lambda: Discrete(circuit, times, data, time),
    }
    weights = circuit.initial_weights(jax.random.key(1))
    run = runs[regime]()
    end = run.weights(show(run, weights, jnp.int32(0), jnp.int32(400)))
    shrunk = 1 - np.sum(np.asarray(end["W1"], float) ** 2) ** 0.5 / np.sum(np.asarray(weights["W1"], float) ** 2) ** 0.5
    assert shrunk == pytest.approx(1 - np.exp(-20.0 / 86400), abs=3e-8)


def test_learning_over_ten_hours_is_the_same_in_float32():
    """The weights' change in 10 s, at tau_plast = 10 h, against float64; without compensation nothing like it."""

    def change(dtype, **settings):
        def cast(tree):
            return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

        network = dataclasses.replace(PROBLEM.network, gain=PROBLEM.network.gain.astype(dtype))
        problem = Problem(network, cast(PROBLEM.inputs), cast(PROBLEM.targets))
        time = Clock(dtype(0.1), dtype(0.0), 50)
        times = Timescales(dtype(0.02), dtype(36000.0))
        run = Coupled(SGD().wire(network), times, stream(problem), time, integrator=FixedStep("heun", **settings))
        start = cast(random_weights(SGD().wire(PROBLEM.network)))
        progress = show(run, start, jnp.int32(0), jnp.int32(100))
        ends = {n: np.asarray(w, float) for n, w in run.weights(progress).items()}
        if progress.memory.low is not None:
            ends = {n: w + np.asarray(progress.memory.low.weights[n], float) for n, w in ends.items()}
        return {n: w - np.asarray(start[n], float) for n, w in ends.items()}, run.quality(progress).converged

    (exact, _), (single, ok) = change(jnp.float64), change(jnp.float32)
    lost, marked = change(jnp.float32, compensated=False)
    zero = {name: np.zeros_like(w) for name, w in exact.items()}
    assert moved_apart(zero, single, exact) < 1e-4 and ok
    assert moved_apart(zero, lost, exact) > 0.02 and not marked
