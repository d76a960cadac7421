"""Delays: scalar delay equations with known solutions and stability, and lags of zero."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays, History
from dynamics.errors import PlasticodeError
from dynamics.integrators import Adaptive, FixedStep
from dynamics.overlap import overlap, temporal_overlap, waveforms
from dynamics.theory import lagged_overlap, overlap_law
from tests.dynamics.systems import (
    DelayedDecay,
    Pulse,
    Ramp,
    advance,
    coupled,
    learned,
    show,
    single_synapse,
    two_layers,
)
from tests.problems import clock, distance, f64, random_weights, timescales

# The delayed linear equation w' = -rate w(t - lag)


@eqx.filter_jit
def peaks(system):
    """The largest |w| over one long window early on and one late, for w = 1 until time 0."""
    ones = jnp.ones(1, jnp.float64)
    at = FixedStep("heun").begin(system.start(ones), History.of({"w": ones}, 256))
    integrator, tops = FixedStep("heun"), []
    for first, count in ((0, 1000), (1000, 4000)):
        at = integrator.run(system, at, lambda j: None, jnp.int32(first), jnp.int32(count), None)
        tops.append(jnp.abs(at.history.rows["w"]).max())  # the ring holds more than one period
    return tops


def threshold(low, high, gamma):
    """The rate * lag at which oscillations stop decaying, by bisection."""
    while high - low > 0.002 * low:
        middle = (low + high) / 2
        early, late = peaks(DelayedDecay(f64(middle), f64(1.0), f64(0.03), gamma=gamma))
        low, high = (low, middle) if late > early else (middle, high)
    return (low + high) / 2


def test_a_constant_lag_loses_stability_at_half_pi():
    assert threshold(1.0, 3.0, gamma=0) == pytest.approx(np.pi / 2, rel=0.01)


@pytest.mark.parametrize("stages", [2, 5])
def test_a_chain_of_lags_loses_stability_later(stages):
    angle = np.pi / (2 * stages)
    expected = stages * np.tan(angle) / np.cos(angle) ** stages
    assert threshold(1.0, 6.0, gamma=stages) == pytest.approx(expected, rel=0.01)


def by_the_method_of_steps(t, lag):
    """w(t) of w' = -w(t - lag), w = 1 until time 0: the sum over k of (-1)^k (t - (k-1) lag)^k / k! while positive."""
    terms = range(min(int(t / lag) + 2, 100))  # 1/100! is nothing
    return sum((-1) ** k * (t - (k - 1) * lag) ** k / math.factorial(k) for k in terms if k == 0 or t > (k - 1) * lag)


@eqx.filter_jit
def delayed_decay(step, count, lag, solver):
    system = DelayedDecay(f64(1.0), lag, step)
    return advance(system, system.start(jnp.ones(1, jnp.float64)), count, solver, history=64)[0][0]


LAGS = {"off the grid": lambda h: 0.317, "on the grid": lambda h: 0.25, "shorter than a step": lambda h: 0.4 * h}


@pytest.mark.parametrize("lag", LAGS.values(), ids=LAGS)
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence_with_a_delay(solver, order, lag):
    errors = []
    for n in (20, 80):
        end = delayed_decay(f64(1 / n), jnp.int32(n), f64(lag(1 / n)), solver)
        errors.append(abs(end - by_the_method_of_steps(1.0, lag(1 / n))))
    assert np.log2(errors[0] / errors[1]) / 2 == pytest.approx(order, abs=0.15)


@eqx.filter_jit
def ramp(lag, step, count, solver):
    start = jnp.zeros(1, jnp.float64)
    return advance(Ramp(lag, step), (start, start), count, solver, history=8)[1]


@pytest.mark.parametrize("solver", ["heun", "tsit5", "dopri5"])
@pytest.mark.parametrize("late", [0.0, 0.1, 0.4, 0.85, 1.0, 1.3, 2.0])  # tsit5 has stages at 0.16 to 1 steps
def test_every_stage_of_a_step_looks_back_by_the_lag(solver, late):
    """A signal that is linear in time is exact between steps and inside one: v grows by the integral of t - lag."""
    step = 0.05
    v = [ramp(f64(late * step), f64(step), jnp.int32(steps), solver) for steps in (3, 7)]
    expected = ((7 - late) ** 2 - (3 - late) ** 2) / 2 * step**2
    assert float(v[1][0] - v[0][0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_lag_of_zero_is_no_delay(solver):
    """w' = -w: Euler multiplies by 1 - h in every step, Heun by 1 - h + h^2/2."""
    h = 0.05
    factor = 1 - h + (h**2 / 2 if solver == "heun" else 0)
    assert abs(delayed_decay(f64(h), jnp.int32(20), f64(0.0), solver) - factor**20) < 1e-14


# Chains of filters


@pytest.mark.parametrize("stages", [1, 4])
def test_a_pulse_arrives_after_the_lag_on_average(stages):
    """The chain's response is a gamma density: mass 1, mean lag, variance lag^2 / stages (plus O(dt) by Euler)."""
    lag, dt = 0.3, 0.002
    system = Pulse(f64(lag), f64(dt))

    def pulse(j):
        return jnp.where(j == 0, 1 / f64(dt), 0)[None], j * dt

    mass, first, second = eqx.filter_jit(advance)(
        system, (jnp.zeros((stages, 1), jnp.float64), jnp.zeros(3, jnp.float64)), 3000, inputs_at=pulse
    )[1]
    assert abs(mass - 1) < 1e-6  # what has not come out by then
    assert abs(first - lag) < 1e-6  # Euler delays each stage by exactly its time constant
    assert abs(second - first**2 - lag**2 / stages) < 1.1 * lag * dt


def test_delays_are_constant_unless_stages_are_asked_for():
    assert Delays().stages == 0 and Delays().error is None


# Lags of zero in a coupled run


def test_a_coupled_run_with_lags_of_zero_is_the_run_without():
    problem, time, none = two_layers(bias=False), clock(0.1, 0.03, 8), f64(0.0)
    weights = random_weights(coupled(problem, time).circuit)
    plain = show(coupled(problem, time, solver="heun"), weights, jnp.int32(0), 5).state
    for stages in (0, 2):
        delays = Delays(error=none, hop=none, input=none, stages=stages)
        run = coupled(problem, time, solver="heun", delays=delays, history=2)
        late = show(run, weights, jnp.int32(0), 5).state
        assert distance(plain.weights, late.weights) < 1e-13
        assert distance(plain.error, late.error) < 1e-13


def test_filters_follow_what_is_not_late_yet():
    """A later phase may have a lag: what is on its way then is what there was."""
    problem = two_layers(samples=1, bias=False)
    run = coupled(problem, clock(0.1, 0.0, 80), solver="heun", delays=Delays(f64(0.0), input=f64(0.0), stages=2))
    end = show(run, random_weights(run.circuit), jnp.int32(0), 1).state
    wanted = {"input": problem.inputs[0], "error": problem.targets[0] - end.activity["z2"]}
    for name, signal in wanted.items():
        # They had come a fifth of the way.
        np.testing.assert_allclose(end.chain[name], jnp.stack([signal] * 2), atol=0.03)


# What a single synapse learns


@pytest.mark.parametrize("delay", [0.0, 0.33, 0.8, 1.4])
def test_a_synapse_learns_by_the_overlap_law_of_its_lags(delay):
    """The error passes one filter, that of its own unit; the stimulus none."""
    run = single_synapse(delays=Delays(error=f64(delay)), history=402)
    assert abs(learned(run) - lagged_overlap(delay, 1.0, 0, 1, 0.02)) < 2e-4
    assert abs(lagged_overlap(delay, 1.0, 0, 1, 0.02) - overlap_law(delay, 1.0)) < 0.021


def test_a_late_stimulus_waits_for_a_late_error():
    """With both late by the same lag nothing is lost; an input lag alone costs as much as an error lag."""
    both = Delays(error=f64(0.4), input=f64(0.4))
    assert abs(learned(single_synapse(delays=both, history=402)) - lagged_overlap(0.0, 1.0, 0, 1, 0.02)) < 2e-4
    for late in ("input", "hop"):  # 0.4013 is off the grid
        lag: dict[str, Any] = {late: f64(0.4013)}
        run = single_synapse(delays=Delays(**lag), history=402)
        assert abs(learned(run) - lagged_overlap(-0.4013, 1.0, 0, 1, 0.02)) < 2e-4


@pytest.mark.parametrize(("late", "pre", "error"), [("error", 0, 4), ("input", 3, 1), ("hop", 3, 1)])
def test_a_synapse_learns_by_the_overlap_law_of_gamma_lags(late, pre, error):
    """Three filters of the lag, and one of the error unit, all with one time constant."""
    run = single_synapse(steps=400, tau_prop=0.1, delays=Delays(**{late: f64(0.3)}, stages=3))
    assert abs(learned(run) - lagged_overlap(0.0, 1.0, pre, error, 0.1)) < 2e-4


@pytest.mark.parametrize("delay", [1.0, 1.5])
def test_an_eligibility_trace_reaches_beyond_the_stimulus(delay):
    """S(d) = tau (e^{T/tau} - 1)(1 - e^{-T/tau}) e^{-d/tau} for d >= T and a trace of unit gain.

    The error unit is one more exponential lag V of mean tau_prop, so that e^{-d/tau} gets the factor
    E[e^{-V/tau}] = 1 / (1 + tau_prop/tau).
    """
    tau, tau_prop = 0.6, 0.02
    run = single_synapse(trace=tau, tau_prop=tau_prop, delays=Delays(error=f64(delay)), history=402)
    boxes = tau * (np.exp(1 / tau) - 1) * (1 - np.exp(-1 / tau)) * np.exp(-delay / tau)
    assert learned(run) == pytest.approx(boxes / (1 + tau_prop / tau), rel=2e-3)


# The overlap of waveforms


@pytest.mark.parametrize("late", [0, 3, 10, 25])
def test_the_overlap_of_two_boxes_is_the_law(late):
    box = np.zeros((60, 1))
    box[5:25] = 1
    shifted = np.roll(box, late, axis=0)
    directions = np.array([[1.0, -2.0]]), np.array([[0.5, 3.0, 1.0]])
    measured = overlap(f64(shifted * directions[0]), f64(box * directions[1]))
    assert abs(measured - overlap_law(late / 20, 1.0)) < 1e-12


def test_silence_overlaps_with_nothing():
    assert overlap(jnp.zeros((4, 2), jnp.float64), jnp.ones((4, 3), jnp.float64)) == 0


@pytest.mark.parametrize("delay", [0.0, 0.5, 2.0])
def test_the_overlap_of_a_coupled_run(delay):
    run = single_synapse(gap=3.0, steps=400, tau_prop=0.02, delays=Delays(error=f64(delay)), history=202)
    start = run.init({"W1": jnp.zeros((1, 1), jnp.float64)})
    measured = eqx.filter_jit(temporal_overlap)(run, start, jnp.int32(0))
    assert list(measured) == ["W1"] and abs(measured["W1"] - overlap_law(delay, 1.0)) < 0.025


@pytest.mark.parametrize("k", [0, 2])
def test_recording_waveforms_changes_nothing(k):
    problem, time = two_layers(bias=False), clock(0.1, 0.03, 8)
    times = timescales(propagation=0.02, plasticity=0.3)
    run = coupled(problem, time, times, delays=Delays(error=f64(0.021), hop=f64(0.007)), history=5)
    before = show(run, random_weights(run.circuit), jnp.int32(0), jnp.int32(k))
    progress, (factors, _) = eqx.filter_jit(waveforms)(run, before, jnp.int32(k))
    straight = show(run, None, jnp.int32(k), jnp.int32(1), before)
    assert distance(progress.state.weights, straight.state.weights) < 1e-15
    assert factors["W1"].post.shape == (8, 3) and factors["W1"].pre.shape == (8, 2)
    change = {name: time.dt / 0.3 * f.post.T @ f.pre for name, f in factors.items()}  # the sum of Euler's steps
    weights = before.state.weights
    assert distance({name: weights[name] + change[name] for name in change}, progress.state.weights) < 1e-14


# What is refused


def refused(match, **options):
    problem = two_layers()
    with pytest.raises(PlasticodeError, match=match):
        coupled(problem, clock(0.1, 0.0, 10), **options)


def test_delays_that_cannot_run_are_refused():
    refused("history is 2 steps, but delays.error needs at least 5", delays=Delays(error=f64(0.03)), history=2)
    refused("history is 0 steps, but delays.hop needs at least 2", delays=Delays(hop=f64(0.0)), history=0)
    refused("delays.error is -0.1 s: it must be at least 0", delays=Delays(error=f64(-0.1)), history=2)
    refused("no delays and no noise", delays=Delays(input=f64(0.1)), integrator=Adaptive())
    time, circuit = clock(0.1, 0.0, 10), coupled(two_layers(), clock(steps=10)).circuit
    late = eqx.tree_at(lambda c: c.projections[0].lag, circuit, f64(0.03), is_leaf=lambda leaf: leaf is None)
    with pytest.raises(PlasticodeError, match="no delays and no noise"):
        Coupled(late, timescales(), coupled(two_layers(), time).stream, time, integrator=Adaptive())
