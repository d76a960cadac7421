"""The window integrator against Runge-Kutta references, limits and invariants, for every rule, lag and gap."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import dataclasses
import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Circuit, Error, Gaussian, Projection, TwoFactor
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs
from dynamics.instruments import feedback_mismatch
from dynamics.integrators import Window
from dynamics.integrators.window_solver import WindowSolver, WindowTerm
from dynamics.noise import Noise
from rules import BCM, FA, KP, SGD, Heterosynaptic
from tests.dynamics.systems import show
from tests.dynamics.windows import (
    DURATION,
    GAP,
    SMALL,
    TIMES,
    error_of,
    moved_apart,
    shown,
    stepped,
    windowed,
    with_settings,
)
from tests.problems import (
    ENGINE_RULES,
    TINY,
    clock,
    discrete,
    distance,
    f64,
    flow,
    random_problem,
    random_weights,
    run,
    timescales,
    with_new_pieces,
)

# Equivalence with Runge-Kutta steps


def test_points_that_run_together_take_the_parts_that_their_own_learning_asks_for():
    circuit, strongest = FA().wire(SMALL.network), float(jnp.sum(SMALL.inputs**2, axis=1).max())
    weights, taus = random_weights(circuit), DURATION * strongest / f64([0.5, 9.0])

    def end(tau, **settings):
        run = windowed(circuit, times=timescales(propagation=0.02, plasticity=tau), nodes=4, **settings)
        return run.weights(run.advance(run.init(weights), jnp.int32(0), jnp.int32(2)))

    together = jax.jit(jax.vmap(lambda tau: end(tau, parts=3, strongest=f64(strongest))))(taus)
    one, three = (jax.jit(functools.partial(end, parts=parts)) for parts in (1, 3))
    slow, fast = one(taus[0]), three(taus[1])
    for name, w in together.items():
        np.testing.assert_allclose(w, jnp.stack([slow[name], fast[name]]), rtol=1e-11)
    assert distance(three(taus[0]), slow) > 1e-9


def test_reverse_mode_goes_through_own_parts():
    circuit, strongest = FA().wire(SMALL.network), f64(jnp.sum(SMALL.inputs**2, axis=1).max())
    weights = random_weights(circuit)

    def end(tau):
        times = timescales(propagation=0.02, plasticity=tau)
        run = windowed(circuit, times=times, nodes=3, parts=3, sweeps=4, strongest=strongest)
        return run.weights(run.advance(run.init(weights), jnp.int32(0), 1))["W1"].sum()

    slope, tau = jax.jit(jax.value_and_grad(end)), DURATION * strongest / 3  # two parts of three
    rise = slope(tau + 1e-5)[0] - slope(tau - 1e-5)[0]
    np.testing.assert_allclose(slope(tau)[1], rise / 2e-5, rtol=1e-5)


JUDGED = ("sgd", "bcm", "heterosynaptic")  # a shared matrix, slow variables, fading rows


@pytest.mark.parametrize("name", with_new_pieces(ENGINE_RULES))
def test_every_piece_of_a_rule_equals_its_runge_kutta_reference(name):
    circuit = ENGINE_RULES[name].wire(SMALL.network)
    weights = random_weights(circuit)
    by_windows = windowed(circuit, gap=GAP, judged=name in JUDGED, nodes=14, tolerance=1e-8)
    end = shown(by_windows, weights, 3)
    reference = run(stepped(circuit, gap=GAP), weights, 3)
    assert moved_apart(weights, by_windows.weights(end), reference) < 1e-7
    assert distance(reference, weights) > 0.01
    assert name not in JUDGED or by_windows.quality(end).error < 1e-6


LATE = {
    "lags": (SGD(), {"lags": {"error": 0.048, "hop": 0.016, "input": 0.024}, "gap": GAP}, {}),
    "long lags": (BCM(f64(0.05)), {"lags": {"error": 0.24, "input": 0.2}}, {}),
    "long error": (Heterosynaptic(f64(1.0)), {"lags": {"error": 0.24}, "gap": GAP}, {"trace": 0.05}),
    "gamma": (KP(), {"lags": {"error": 0.05, "hop": 0.013, "input": 0.02}, "stages": 3}, {"trace": 0.03}),
    "gamma in gaps": (SGD(), {"lags": {"error": 0.05, "hop": 0.013}, "stages": 2, "gap": GAP}, {}),
    "layers": (SGD(), {"gap": GAP}, {"propagation": [0.02, 0.005], "plasticity": [0.3, 2.0], "decay": [1.0, np.inf]}),
}


@pytest.mark.parametrize("case", LATE)
def test_lags_gaps_and_traces_equal_the_runge_kutta_reference(case):
    """Lags are whole steps of the reference, so that its past is not interpolated where a signal jumps."""
    rule, late, times = LATE[case]
    times = timescales(**{"propagation": 0.02, "plasticity": 0.3, "decay": 3.0, **times})
    circuit = rule.wire(SMALL.network)
    by_windows = windowed(circuit, times=times, nodes=14, parts=2, tolerance=1e-7, **late)
    assert error_of(by_windows, stepped(circuit, times=times, **late), random_weights(circuit), 4) < 2e-5


def test_a_deep_network_with_skips_equals_the_runge_kutta_reference():
    problem = random_problem(
        (3, 4, 3, 4, 2), activation="softplus", output_activation="tanh", bias=True, skips=((0, 2), (1, 4)), samples=4
    )
    circuit = SGD().wire(problem.network)
    by_windows = windowed(circuit, problem, nodes=14, tolerance=1e-8)
    assert error_of(by_windows, stepped(circuit, problem), random_weights(circuit)) < 1e-7


def with_a_cycle():
    """Feedback alignment with a plastic projection from the output back to the hidden layer's forward port."""
    circuit = FA().wire(SMALL.network)
    law = TwoFactor(Error())
    back = Projection("R1", "z2", "activity", "z1", "forward", Gaussian(f64(1.0)), law, level=1)
    return Circuit(circuit.layers, (*circuit.projections, back))


@pytest.mark.parametrize("lags", [None, {"hop": 0.016}])
def test_a_circuit_with_a_cycle_equals_the_runge_kutta_reference(lags):
    circuit = with_a_cycle()
    runs = windowed(circuit, nodes=14, parts=2, lags=lags, tolerance=1e-8), stepped(circuit, lags=lags)
    assert error_of(*runs, random_weights(circuit)) < (2e-5 if lags else 1e-7)


# Lags that are special


def test_a_lag_of_zero_is_no_lag():
    circuit = KP().wire(SMALL.network)
    weights, nothing = random_weights(circuit), {"error": 0.0, "hop": 0.0, "input": 0.0}
    ends = [
        run(windowed(circuit, gap=GAP, lags=lags, stages=stages, tolerance=1e-10), weights, 3)
        for lags, stages in ((None, 0), (nothing, 0), (nothing, 2))
    ]
    assert distance(ends[0], ends[1]) < 1e-9 and distance(ends[0], ends[2]) < 1e-9


@pytest.mark.parametrize(
    "lags",
    [
        {"error": DURATION + GAP, "input": 2 * (DURATION + GAP)},  # whole periods
        {"error": DURATION, "input": GAP},  # jumps that meet
        {"error": (DURATION + GAP) / 2, "input": 0.0},  # a cut of the parts, and a lag of zero beside it
    ],
)
def test_lags_that_coincide_with_cuts(lags):
    circuit = FA().wire(SMALL.network)
    by_windows = windowed(circuit, gap=GAP, lags=lags, nodes=14, parts=2, tolerance=1e-8)
    assert error_of(by_windows, stepped(circuit, gap=GAP, lags=lags), random_weights(circuit), 4) < 2e-5


def test_windows_are_cut_where_a_late_prediction_has_a_kink():
    """The stimulus reaches the output late, and what it does to the output reaches the error later still."""
    circuit, lags = FA().wire(SMALL.network), {"error": 0.0295, "input": 0.018}
    by_windows = windowed(circuit, lags=lags, nodes=12, tolerance=1e-6)
    assert error_of(by_windows, stepped(circuit, lags=lags), random_weights(circuit), 4) < 5e-6


# As a diffrax solver


def one_presentation(problem=SMALL, rule=None):
    """The field of a presentation with constant inputs, its start, the inputs, and the same by `Window` itself."""
    circuit = (rule or KP()).wire(problem.network)
    weights = random_weights(circuit)
    by_windows = windowed(circuit, problem, nodes=8, tolerance=1e-10)
    sample = by_windows.stream.index(jnp.int32(0))
    inputs = Inputs(problem.inputs[sample], problem.targets[sample], f64(1.0))
    system = CoupledSystem(circuit, TIMES, by_windows.clock, Delays(), Noise(), {})
    return system, system.initial_state(weights), inputs, shown(by_windows, weights, 1).state


@eqx.filter_jit
def solved(system, start, inputs, **options):
    solver = WindowSolver(8, 1e-10)
    solution = diffrax.diffeqsolve(
        WindowTerm(system), solver, t0=f64(0.0), t1=f64(DURATION), y0=start, args=inputs, **options
    )
    return jax.tree.map(lambda leaf: leaf[-1], solution.ys), solution.stats["num_accepted_steps"]


def test_diffeqsolve_with_one_step_is_one_window():
    system, start, inputs, end = one_presentation()
    by_diffrax, steps = solved(system, start, inputs, dt0=f64(DURATION))
    assert steps == 1
    for left, right in zip(jax.tree.leaves(by_diffrax), jax.tree.leaves(end), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-13)


def test_diffeqsolve_chooses_windows_by_the_error_estimate():
    system, start, inputs, end = one_presentation()
    adaptive = diffrax.PIDController(rtol=1e-7, atol=1e-9)
    by_diffrax, steps = solved(system, start, inputs, dt0=f64(DURATION), stepsize_controller=adaptive)
    exact, _ = solved(system, start, inputs, dt0=f64(DURATION / 8), stepsize_controller=diffrax.ConstantStepSize())
    assert 2 <= steps < 100
    assert WindowSolver(8).order(WindowTerm(system)) == 8  # by which steps are chosen
    assert distance(by_diffrax.weights, exact.weights) < 1e-7
    assert distance(end.weights, exact.weights) > 1e-12


# Invariants


def kolen_pollack(decay, gap=0.0, **options):
    """A Kolen-Pollack run on a deep network with a skip."""
    problem = random_problem((3, 4, 3, 2), activation="tanh", bias=True, skips=((1, 3),))
    circuit = KP().wire(problem.network)
    return windowed(circuit, problem, timescales(0.02, 0.3, decay=decay), gap, nodes=5, **options)


@pytest.mark.parametrize("stages", [0, 2])
def test_the_kolen_pollack_mismatch_decays_exactly_through_windows(stages):
    """exp(-t/tau_dec) to rounding, however coarse the windows are: decay is exact and both matrices learn alike."""
    run_ = kolen_pollack(2.0, GAP, lags={"error": 0.05}, stages=stages)
    weights = random_weights(run_.circuit)
    end = run(run_, weights, 5)
    before, after = (feedback_mismatch(run_.circuit, w) for w in (weights, end))
    for name in before:
        np.testing.assert_allclose(after[name] / before[name], np.exp(-5 * (DURATION + GAP) / 2.0), rtol=1e-11)
    assert distance(end, weights) > 0.1


def test_a_linear_invariant_is_kept_to_rounding():
    """Without decay V - W^T does not change, even by two sweeps of windows of two nodes."""
    run_ = with_settings(kolen_pollack(None), nodes=2, sweeps=2)
    weights = random_weights(run_.circuit)
    end = run(run_, weights, 5)
    for level in (2, 3):
        before, after = (w[f"V{level}"] - w[f"W{level}"].T for w in (weights, end))
        np.testing.assert_allclose(after, before, atol=1e-12)
    assert distance(end, weights) > 0.1


def test_clamped_norms_are_kept_to_rounding():
    circuit = ENGINE_RULES["curl-clamp"].wire(SMALL.network)
    weights = random_weights(circuit)
    end = run(windowed(circuit, gap=GAP, nodes=3), weights, 20)
    for name in ("W1", "W2"):
        np.testing.assert_allclose(jnp.linalg.norm(end[name]), jnp.linalg.norm(weights[name]), rtol=1e-13)
        assert jnp.abs(end[name] - weights[name]).max() > 0.05


# Limits


def relaxed(propagation, problem, times):
    """A run whose propagation is fast: windows resolve the relaxation by cuts after it."""
    circuit = FA().wire(problem.network)
    times = dataclasses.replace(times, propagation=f64(propagation))
    return windowed(circuit, problem, times, nodes=16, settling=25.0, tolerance=1e-8)


def test_fast_propagation_approaches_the_weight_flow():
    """One sample, shown for a time T: the flow on that sample, with an error of first order in tau_prop."""
    problem = random_problem((3, 4, 2), activation="tanh", bias=True, samples=1)
    times = timescales(plasticity=0.3, decay=3.0)
    circuit = FA().wire(problem.network)
    weights = random_weights(circuit)
    limit = run(flow(circuit, problem, times, clock(DURATION / 100), "dopri5"), weights, 300)
    errors = [
        moved_apart(weights, run(relaxed(DURATION * ratio, problem, times), weights, 3), limit)
        for ratio in (1e-3, 1e-4, 1e-5)
    ]
    assert errors[-1] < 3e-4
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 10, rtol=0.1)


def test_fast_propagation_and_slow_plasticity_approach_discrete_updates():
    times = timescales(plasticity=1e4)
    circuit = FA().wire(TINY.network)
    weights = random_weights(circuit)
    updates = run(discrete(circuit, TINY, times, clock(DURATION)), weights, 4)
    end = run(relaxed(DURATION * 1e-5, TINY, times), weights, 4)
    assert moved_apart(weights, end, updates) < 3e-4


# The loop over presentations


def test_a_resumed_run_equals_a_straight_one_bit_for_bit():
    circuit, lags = SGD().wire(SMALL.network), {"error": 0.21, "hop": 0.01}
    noisy = dataclasses.replace(
        windowed(circuit, lags=lags, judged=True),
        noise=Noise(activity=f64(0.1), synaptic=f64(0.01)),
        key=jax.random.key(7),
    )
    start = noisy.init(random_weights(circuit))
    straight, halfway = (show(noisy, None, jnp.int32(0), jnp.int32(count), start) for count in (11, 5))
    resumed = show(noisy, None, jnp.int32(5), jnp.int32(6), halfway)
    for left, right in zip(jax.tree.leaves(straight), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not (halfway.state.weights["W1"] == straight.state.weights["W1"]).any()


def test_memory_does_not_grow_with_the_number_of_presentations():
    circuit = FA().wire(SMALL.network)
    by_windows, weights = windowed(circuit, nodes=4, lags={"error": 0.03}), random_weights(circuit)

    def program(count):
        compiled = jax.jit(lambda: by_windows.advance(by_windows.init(weights), jnp.int32(0), count)).lower().compile()
        memory = compiled.memory_analysis()
        return memory.temp_size_in_bytes, memory.output_size_in_bytes

    assert program(3) == program(3000)


# Estimates


def quality(run_, weights=None, presentations=9):
    weights = random_weights(run_.circuit) if weights is None else weights
    return run_.quality(shown(run_, weights, presentations))


FAST, ABSURD = timescales(propagation=0.001, plasticity=0.5), timescales(propagation=0.02, plasticity=1e-3)


@pytest.mark.parametrize(("times", "nodes", "converged"), [(TIMES, 10, True), (FAST, 3, False), (ABSURD, 10, False)])
def test_points_that_windows_do_not_resolve_are_marked(times, nodes, converged):
    """Too few nodes for the relaxation after a jump, and plasticity that is far too fast for sweeps to converge."""
    by_windows = windowed(FA().wire(SMALL.network), judged=True, times=times, nodes=nodes)
    for presentations in (1, 9):
        told = quality(by_windows, presentations=presentations)
        assert bool(told.converged) == converged
        assert 0 < told.error < 1e-3 if converged else not told.error <= 1e-3  # NaN where weights overflow


def test_estimates_are_relative_to_the_change_of_all_plastic_matrices():
    by_windows = windowed(KP().wire(SMALL.network), judged=True, times=timescales(propagation=0.02, plasticity=0.5))
    weights = random_weights(by_windows.circuit)
    end = shown(by_windows, weights, 1)
    change = jnp.sqrt(sum(jnp.sum((w - weights[name]) ** 2) for name, w in end.state.weights.items()))
    np.testing.assert_allclose(end.memory.accuracy.moved, change, rtol=1e-12)


def test_a_short_run_is_judged_by_presentations_in_which_it_learns():
    """An error that is later than a presentation teaches nothing in the first one, which no estimate may rest on."""
    late = {"times": timescales(propagation=0.001, plasticity=0.3), "lags": {"error": 0.12}}
    assert not quality(windowed(FA().wire(SMALL.network), judged=True, nodes=3, **late), presentations=5).converged


def test_a_window_of_few_sweeps_tells_that_it_has_not_converged():
    circuit = FA().wire(SMALL.network)
    times = timescales(propagation=0.02, plasticity=0.2)
    assert not quality(windowed(circuit, times=times, judged=True, sweeps=2)).converged
    assert quality(windowed(circuit, times=times, judged=True, sweeps=5)).converged


def test_what_is_not_finite_is_not_a_lack_of_convergence():
    """Divergence has a status of its own, which the weights decide."""
    circuit = FA().wire(SMALL.network)
    weights = random_weights(circuit)
    told = quality(windowed(circuit, judged=True), weights | {"W1": jnp.full_like(weights["W1"], jnp.nan)})
    assert jnp.isnan(told.error) and told.converged


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nodes": 0}, "a window has 0 nodes"),
        ({"nodes": 25}, "a window has 25 nodes: it must have 1 to 24"),
        ({"parts": 0}, "a presentation has 0 parts"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(PlasticodeError, match=message):
        Window(**settings)


def test_noise_without_a_key_is_refused():
    circuit = FA().wire(SMALL.network)
    noisy = dataclasses.replace(windowed(circuit), noise=Noise(activity=f64(0.1)))
    with pytest.raises(PlasticodeError, match="the run has none: give it key"):
        shown(noisy, random_weights(circuit), 1)
