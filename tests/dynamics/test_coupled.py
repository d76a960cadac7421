"""The coupled field against an independent simulation in NumPy, and what each time constant does."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Circuit
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs
from dynamics.network import Network
from dynamics.noise import Noise
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales, at_level
from rules import KP, SGD
from tests.dynamics.systems import coupled, show, two_layers
from tests.problems import NO_LOOK, clock, f64, random_weights, timescales

# An independent simulation: Euler steps, signals kept in lists, lags by interpolation between steps


class Past:
    """A signal as a list of its values at the steps so far; it always had the value `before`."""

    def __init__(self, before):
        self.before, self.values = before, []

    def ago(self, lag):
        """The value `lag` steps before the newest, by straight lines between steps."""

        def value(back):
            return self.values[-1 - back] if back < len(self.values) else self.before

        whole = int(np.floor(lag))
        return (1 - lag + whole) * value(whole) + (lag - whole) * value(whole + 1)


def late_target(run, shown, step, lag):
    """Mean of the late target over a step of the whole run, and for how much of the step it is on."""
    dt, period, duration = float(run.clock.dt), float(run.clock.period), float(run.clock.duration)
    targets, total, on = np.asarray(run.stream.targets), 0.0, 0.0
    for k, sample in enumerate(shown):
        start = k * period + lag
        part = max(0.0, min((step + 1) * dt, start + duration) - max(step * dt, start)) / dt
        total, on = total + part * targets[sample], on + part
    return total, on


def simulate_in_numpy(run, weights, presentations, error_lag, hop, input_lag, times):
    """A 2-3-2 tanh network with a tanh output, trained by feedback alignment, all lags in seconds."""
    tau_prop, tau_plast, tau_dec = times
    w = {name: np.array(value) for name, value in weights.items()}
    steps, dt = run.clock.steps, float(run.clock.dt)
    shown = [int(run.stream.index(jnp.int32(k))) for k in range(presentations)]
    inputs = dataclasses.replace(run.stream, targets=run.stream.inputs)
    as_targets = dataclasses.replace(run, stream=inputs)
    z1, z2, e1, e2 = np.zeros(3), np.zeros(2), np.zeros(3), np.zeros(2)
    past = {name: Past(np.zeros(size)) for name, size in (("x", 2), ("z1", 3), ("z2", 2), ("e2", 2))}
    for step in range(presentations * steps):
        x = late_target(as_targets, shown, step, input_lag)[0]
        y, on = late_target(run, shown, step, error_lag)
        for name, value in (("x", x), ("z1", z1), ("z2", z2), ("e2", e2)):
            past[name].values.append(value + np.zeros(past[name].before.shape))
        x, z1_late, e2_late = (past[name].ago(hop / dt) for name in ("x", "z1", "e2"))
        a1, a2 = w["W1"] @ x + w["b1"][:, 0], w["W2"] @ z1_late + w["b2"][:, 0]
        c2 = y - on * past["z2"].ago(error_lag / dt)
        slopes = [1 - np.tanh(a) ** 2 for a in (a1, a2)]
        drift = {
            "W1": np.outer(e1, x) / tau_plast - w["W1"] / tau_dec,
            "W2": np.outer(e2, z1_late) / tau_plast - w["W2"] / tau_dec,
            "b1": e1[:, None] / tau_plast,
            "b2": e2[:, None] / tau_plast,
        }
        z1, e1 = (
            z1 + dt / tau_prop * (np.tanh(a1) - z1),
            e1 + dt / tau_prop * (slopes[0] * (w["V2"] @ e2_late) - e1),
        )
        z2, e2 = z2 + dt / tau_prop * (np.tanh(a2) - z2), e2 + dt / tau_prop * (slopes[1] * c2 - e2)
        w |= {name: w[name] + dt * d for name, d in drift.items()}
    return w, {"z1": z1, "z2": z2}, {"z1": e1, "z2": e2}


LAGS = [(None, None, None, 0.0), (0.033, 0.017, None, 0.0), (0.21, None, 0.05, 0.033), (0.04, 0.013, 0.15, 0.021)]


@pytest.mark.parametrize(("error", "hop", "late_input", "gap"), LAGS)
def test_a_coupled_run_equals_an_independent_simulation(error, hop, late_input, gap):
    problem = two_layers(output_activation="tanh", bias=True)
    lags = {"error": error, "hop": hop, "input": late_input}
    late: dict[str, Any] = {name: f64(lag) for name, lag in lags.items() if lag is not None}
    delays = Delays(**late)
    times = timescales(propagation=0.02, plasticity=0.05, decay=0.7)
    run = coupled(problem, clock(0.1, gap, 9), times, delays=delays, history=24)
    weights = random_weights(run.circuit)
    end = show(run, weights, jnp.int32(0), 6)
    seconds = error or 0.0, hop or 0.0, late_input or 0.0
    w, activity, errors = simulate_in_numpy(run, weights, 6, *seconds, (0.02, 0.05, 0.7))
    for name, value in run.weights(end).items():
        np.testing.assert_allclose(value, w[name], atol=1e-10)
        assert name == "V2" or np.abs(value - weights[name]).max() > 0.01
    for name in ("z1", "z2"):
        np.testing.assert_allclose(end.state.activity[name], activity[name], atol=1e-10)
        np.testing.assert_allclose(end.state.error[name], errors[name], atol=1e-10)


@pytest.mark.parametrize("stages", [0, 2])
def test_a_hop_lag_is_the_same_lag_on_every_projection_but_those_of_biases(stages):
    problem, time = two_layers(bias=True), clock(0.1, 0.02, 6)
    everywhere = coupled(problem, time, delays=Delays(hop=f64(0.03), stages=stages), history=4)
    circuit = everywhere.circuit
    projections = tuple(p if p.source == "one" else dataclasses.replace(p, lag=f64(0.03)) for p in circuit.projections)
    own = dataclasses.replace(everywhere, circuit=Circuit(circuit.layers, projections), delays=Delays(stages=stages))
    weights = random_weights(circuit)
    ends = [show(run, weights, jnp.int32(0), 3).state for run in (everywhere, own)]
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), *ends))


def test_a_constant_layer_of_any_name_has_no_hop_lag():
    """Through a filter chain a constant would arrive only after the lag."""
    problem, time = two_layers(bias=True), clock(0.1, 0.0, 10)
    run = coupled(problem, time, delays=Delays(hop=f64(0.05), stages=2))
    layers, projections = run.circuit.layers, run.circuit.projections
    layers = tuple(dataclasses.replace(x, name="always") if x.name == "one" else x for x in layers)
    projections = tuple(dataclasses.replace(p, source="always") if p.source == "one" else p for p in projections)
    renamed = dataclasses.replace(run, circuit=Circuit(layers, projections))
    weights = random_weights(run.circuit)
    ends = [show(r, weights, jnp.int32(0), 2).state for r in (run, renamed)]
    np.testing.assert_array_equal(ends[0].weights["W1"], ends[1].weights["W1"])


# Time constants


@eqx.filter_jit
def drift(times):
    """The field at a random state of a KP network under `times`."""
    problem = two_layers(bias=True)
    circuit = KP(f64(1.0)).wire(problem.network)
    system = CoupledSystem(circuit, times, clock(), Delays(), Noise(), {})
    leaves, structure = jax.tree.flatten(system.initial_state(random_weights(circuit)))
    keys = jax.random.split(jax.random.key(6), len(leaves))
    state = structure.unflatten([jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)])
    return system.drift(state, Inputs(problem.inputs[0], problem.targets[0], f64(1.0)), NO_LOOK)


def changed(times, **with_):
    """Names of everything whose drift another time constant changes, with the ratio new / old."""
    ratios = {}
    for part in ("activity", "error", "weights", "trace"):
        old, new = getattr(drift(times), part), getattr(drift(dataclasses.replace(times, **with_)), part)
        for name in old:
            if (old[name] != new[name]).any():
                ratios[f"{part} {name}"] = np.asarray(new[name] / old[name])
    return ratios


PER_LAYER = {"propagation": [0.02, 0.02], "plasticity": [0.5, 0.5]}


def per_layer(**values):
    return timescales(**{name: f64(values.get(name, default)) for name, default in PER_LAYER.items()})


@pytest.mark.parametrize(("level", "matrices"), [(0, {"W1", "b1"}), (1, {"W2", "b2", "V2"})])
def test_the_plasticity_time_constant_of_a_layer_changes_its_matrices_only(level, matrices):
    slower = [0.5, 0.5]
    slower[level] = 2.0
    ratios = changed(per_layer(), plasticity=f64(slower))
    assert set(ratios) == {f"weights {name}" for name in matrices}
    assert all(np.allclose(ratio, 1 / 4) for ratio in ratios.values())


@pytest.mark.parametrize("level", [0, 1])
def test_the_propagation_time_constant_of_a_layer_changes_its_units_only(level):
    slower = [0.02, 0.02]
    slower[level] = 0.05
    ratios = changed(per_layer(), propagation=f64(slower))
    assert set(ratios) == {f"activity z{level + 1}", f"error z{level + 1}"}
    assert all(np.allclose(ratio, 0.4) for ratio in ratios.values())


def test_decay_pulls_on_matrices_but_not_on_biases():
    assert set(changed(per_layer(), decay=f64([3.0, np.inf]))) == {"weights W1"}


def test_equal_time_constants_per_layer_are_one_time_constant():
    one = drift(timescales(propagation=0.02, plasticity=0.5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), one, drift(per_layer()))


def test_a_run_has_one_dtype():
    """float32 data beside a float64 clock would be promoted without a word."""
    network = Network((3, 2), gain=f64(1.0))
    shown = Stream(jnp.ones((4, 3), jnp.float32), jnp.ones((4, 2), jnp.float32), jax.random.key(0))
    circuit = SGD().wire(network)
    run = Coupled(circuit, Timescales(f64(0.002), f64(1.0)), shown, Clock(f64(0.05), f64(0.0), 50))
    with pytest.raises(PlasticodeError, match="float32 is not allowed where the clock has float64"):
        run.init(circuit.initial_weights(jax.random.key(1)))


@pytest.mark.parametrize("level", [0, 3])
def test_a_level_without_an_entry_is_told(level):
    """Level 0, the input's, is not the last."""
    with pytest.raises(PlasticodeError, match=f"2 numbers, one per layer, but layer {level} needs one"):
        at_level(f64([1.0, 2.0]), level)


def test_a_missing_entry_is_told():
    with pytest.raises(PlasticodeError, match="1 numbers, one per layer, but layer 2 needs one"):
        drift(timescales(plasticity=f64([1.0])))
