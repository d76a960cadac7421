"""Energy-based systems in the engine: copies that share weights in every regime, and phases within a presentation.

What the rules compute is tested in tests/rules/test_energy_rules.py.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dynamics import instruments
from dynamics.circuit import Circuit, Given, Input, Layer, Projection, Variable, Wave
from dynamics.network import Network
from dynamics.stimulus import Clock
from rules.equilibrium_propagation import EquilibriumPropagation, Nudged, copy_of
from tests.dynamics.pieces import advanced, cosine, coupled, discrete, drift, normal, relative, settled
from tests.problems import f64, timescales
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

INPUTS, TARGETS = normal(5, 4), normal(5, 3)
NETWORK = Network((4, 6, 3), bias=False, gain=f64(0.5))
FLOW = timescales(plasticity=1.0)


def twins(beta=0.05, symmetric=True):
    rule = EquilibriumPropagation(nudge=f64(beta), feedback=f64(1.0), symmetric=symmetric)
    return rule.wire(NETWORK)


def test_twins_are_one_system_in_every_regime():
    """Discrete updates are Euler steps of the flow; quick neurons follow it; the free copy predicts."""
    circuit = twins()
    weights, x, y = circuit.initial_weights(jax.random.key(3)), INPUTS[:1], TARGETS[:1]
    flow = drift(circuit, weights, x, y, FLOW)
    update = advanced(discrete(circuit, FLOW, x, y, 1e-3), weights, jnp.int32(1)).weights
    assert relative({n: (update[n] - weights[n]) / 1e-3 for n in flow}, flow) < 1e-12
    ends = []
    for by, steps in ((Window(nodes=20, parts=1, gaps=False, tolerance=1e-6), 20), (FixedStep("heun"), 800)):
        run = coupled(circuit, timescales(0.002, 1e6), x, y, Clock(f64(0.2), f64(0.0), steps), by)
        before, after = (advanced(run, weights, jnp.int32(k)).state.weights for k in (1, 2))
        ends.append({n: (after[n] - before[n]) / (0.2 / 1e6) for n in flow})
    assert relative(ends[0], ends[1]) < 1e-5 and relative(ends[0], flow) < 1e-5
    one_sided = twins(0.1, symmetric=False)
    predicted = eqx.filter_jit(instruments.predict)(one_sided, weights, x)[0]
    np.testing.assert_allclose(predicted, settled(one_sided, weights, x[0], y[0], ["z2"])[0], atol=1e-12)


def test_without_a_target_nothing_is_nudged():
    """A layer whose activity reads the error of the output is driven by the rest alone."""
    one_sided = twins(0.3, symmetric=False)
    weights = one_sided.initial_weights(jax.random.key(3))
    nudged, free = settled(one_sided, weights, INPUTS[0], None, ["z2'", "z2"])
    np.testing.assert_allclose(nudged, free, atol=1e-14)


def test_phases_within_one_presentation():
    """The nudge is on in the second half; z z^T is measured before it begins and at its end: an error of O(beta)."""
    tau, time, beta = 0.002, 0.2, 0.02
    at = [f64(share * time) for share in (0.4, 0.5, 0.85, 0.95)]

    def measure(t):
        on = [jnp.where((t >= at[i]) & (t < at[i + 1]), 1.0, 0.0) for i in (0, 2)]
        return (on[1] - on[0])[None]

    waves = {
        "phase": Wave(lambda t: jnp.where(t >= at[1], 1.0, 0.0)[None], (at[1],)),
        "measure": Wave(measure, tuple(at)),
    }
    output = Variable("activity", Nudged(f64(beta), by="phase"))
    rate = f64(10 / beta)
    layers, wires = copy_of(NETWORK, f64(1.0), rate, gate=Input("measure"), variables=(output,))
    layers += tuple(Layer(name, 1, source=wave, level=0) for name, wave in waves.items())
    for name, target, size in (("measure", "z1", 6), ("measure", "z2", 3), ("phase", "z2", 3)):
        shown = Given(jnp.ones((size, 1), jnp.float64))
        wires += (Projection(f"{name}-{target}", name, "activity", target, name, shown),)
    circuit, x, y = Circuit(layers, wires), INPUTS[:1], TARGETS[:1]
    weights, window = circuit.initial_weights(jax.random.key(3)), Window(nodes=16, parts=1, gaps=False, tolerance=1e-5)
    run = coupled(circuit, timescales(tau, 1e6), x, y, Clock(f64(time), f64(0.0), 16), window)
    end = advanced(run, weights, jnp.int32(1)).state.weights
    found = {n: (end[n] - weights[n]) * 1e6 / time for n in ("W1", "W2")}
    free = twins(symmetric=False)
    own = {n: weights[n] for n in found}
    expected = jax.tree.map(jnp.negative, jax.jit(lambda w: instruments.gradient(free, w, x, y))(own))
    assert cosine(found, expected) > 0.99 and relative(found, expected) < 0.15
