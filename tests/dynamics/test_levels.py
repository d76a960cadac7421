"""Time constants of each layer's own: both integrators against an independent simulation, for every rule; and noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Activity, Circuit, Given, Layer, Projection, TwoFactor
from dynamics.coupled import Coupled
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from tests.dynamics import simulator
from tests.dynamics.simulator import Times
from tests.dynamics.systems import show
from tests.dynamics.windows import moved_apart, run_of, shown, windowed
from tests.problems import ENGINE_RULES, clock, f64, random_problem, random_weights, timescales, with_new_pieces
from tests.unjudged import PlainSteps, PlainWindow

PROBLEM = random_problem(simulator.SIZES, activation="tanh", bias=True, samples=4)
THRESHOLD = 0.05  # of BCM in `ENGINE_RULES`
PRESENTATIONS, STEPS = 3, 160
LATE = Times(
    propagation=(0.01, 0.025, 0.016),
    plasticity=(0.3, 0.6, 0.45),
    decay=(1.5, np.inf, 0.7),
    trace=(0.03, 0.012, 0.05),
    duration=0.1,
    gap=0.06,
    error=0.03,
    hop=0.01,
    input=0.02,
)


def both(name, times, integrator=None):
    """A run of the engine at the simulator's steps, or by windows, and its weights at the start."""
    circuit = ENGINE_RULES[name].wire(PROBLEM.network)
    lags = {lag: getattr(times, lag) for lag in ("error", "hop", "input") if getattr(times, lag)}
    constants = timescales(times.propagation, times.plasticity, times.decay, times.trace)
    if integrator is None:
        run = windowed(circuit, PROBLEM, constants, times.gap, lags, nodes=14, parts=2, tolerance=1e-7)
    else:
        run = run_of(circuit, PROBLEM, constants, clock(times.duration, times.gap, STEPS), lags, 0, integrator)
    return run, random_weights(circuit)


def simulated(name, run, weights, times, simulate):
    order = [int(run.stream.index(jnp.int32(k))) for k in range(PRESENTATIONS)]
    inputs, targets = np.asarray(PROBLEM.inputs), np.asarray(PROBLEM.targets)
    return simulate(name, weights, inputs, targets, order, times, steps=STEPS, threshold=THRESHOLD)


@pytest.mark.parametrize("name", with_new_pieces(ENGINE_RULES))
def test_steps_equal_an_independent_simulation(name):
    """Every number of the state: with lags, gaps, decays and traces, all time constants by layer."""
    run, weights = both(name, LATE, PlainSteps("euler"))
    end = shown(run, weights, PRESENTATIONS)
    expected = simulated(name, run, weights, LATE, simulator.simulate)
    state = end.state
    found = {**run.weights(end), **{f"trace {matrix}": trace for matrix, trace in state.trace.items()}}
    found |= {layer: z for layer, z in state.activity.items()}
    found |= {f"e{layer[1:]}": e for layer, e in state.error.items()}
    found |= {f"theta{layer[1:]}": slow["threshold"] for layer, slow in state.slow.items()}
    assert {key for key in expected if not key.startswith("trace")} <= found.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], atol=1e-10, err_msg=key)
    assert all(np.abs(w - weights[matrix]).max() > 1e-3 for matrix, w in state.weights.items())


@pytest.mark.parametrize("name", ["kp", "oja", "heterosynaptic", "curl-clamp"])
def test_windows_equal_an_independent_simulation(name):
    """The same by windows, against the limit of short steps: where feedback learns, a law looks at its own matrix,
    errors pass another layer, and norms are held. Windows of every rule equal steps in test_window."""
    run, weights = both(name, LATE)
    end = shown(run, weights, PRESENTATIONS)
    expected = simulated(name, run, weights, LATE, simulator.extrapolated)
    found = run.weights(end)
    assert moved_apart(weights, found, {key: expected[key] for key in found}) < 3e-4
    for layer, z in end.state.activity.items():
        np.testing.assert_allclose(z, expected[layer], atol=3e-4, err_msg=layer)
    for layer, e in end.state.error.items():
        np.testing.assert_allclose(e, expected[f"e{layer[1:]}"], atol=3e-4, err_msg=layer)


# Noise: many independent units in each of three layers, which nothing drives

UNITS, TAUS, DECAYS, T = 2000, (0.004, 0.01, 0.025), (0.01, 0.03, 0.09), 0.008


def noisy_layers(integrator, steps, noise):
    """Three layers with activities and errors of their own time constant; every matrix is 0, and so is the stimulus."""
    zeros = Given(jnp.zeros((UNITS, 1), jnp.float64))
    layers = [Layer("z0", 1, role="input", level=0)]
    projections = []
    for level in (1, 2, 3):
        name, law = f"z{level}", TwoFactor(Activity())
        layers.append(Layer(name, UNITS, level=level))
        projections.append(Projection(f"W{level}", "z0", "activity", name, "forward", zeros, law, level=level))
        projections.append(Projection(f"V{level}", "z0", "activity", name, "modulatory", zeros, level=level))
    circuit = Circuit(tuple(layers), tuple(projections))
    data, times = Stream(jnp.zeros((1, 1), jnp.float64), None, jax.random.key(0)), timescales(TAUS, 1.0, DECAYS)
    time, key = clock(T, 0.0, steps), jax.random.key(4)
    run = Coupled(circuit, times, data, time, noise=noise, integrator=integrator, key=key)
    return run, circuit.initial_weights(jax.random.key(1))


both_integrators = pytest.mark.parametrize(
    ("integrator", "steps"), [(PlainSteps("euler"), 80), (PlainWindow(nodes=8), 1)], ids=["euler", "window"]
)


@both_integrators
def test_noise_of_each_layer_has_the_variance_and_the_memory_of_its_own_time_constant(integrator, steps):
    """Variance s^2 (1 - exp(-2 t / tau_l)) at t = 6 T, and the correlation exp(-T / tau_l) with the value T later."""
    run, weights = noisy_layers(integrator, steps, Noise(f64(0.7), f64(0.3)))
    then = shown(run, weights, 6)
    later = show(run, weights, jnp.int32(6), jnp.int32(1), then)
    for variable, s in (("activity", 0.7), ("error", 0.3)):
        for level, tau in enumerate(TAUS, 1):
            x, y = (np.asarray(getattr(progress.state, variable)[f"z{level}"]) for progress in (then, later))
            expected = s**2 * -np.expm1(-12 * T / tau)
            assert abs(x.var() / expected - 1) < 0.02 + 4 * np.sqrt(2 / UNITS)  # 2 %: what a step of tau_1 / 40 adds
            assert abs(np.corrcoef(x, y)[0, 1] - np.exp(-T / tau)) < 0.01 + 4 / np.sqrt(UNITS)


@both_integrators
def test_synaptic_noise_of_each_layer_is_confined_by_its_own_decay(integrator, steps):
    """Variance s^2 tau_dec / 2 (1 - exp(-2 t / tau_dec)) at t = 6 T."""
    run, weights = noisy_layers(integrator, steps, Noise(synaptic=f64(0.5)))
    end = run.weights(shown(run, weights, 6))
    for level, tau in enumerate(DECAYS, 1):
        expected = 0.5**2 * tau / 2 * -np.expm1(-12 * T / tau)
        assert abs(np.asarray(end[f"W{level}"]).var() / expected - 1) < 0.01 + 4 * np.sqrt(2 / UNITS)
