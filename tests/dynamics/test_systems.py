"""Systems made of the pieces that are driven, drawn or slow: perturbation, SKA, waves, modified flows.

Each against a closed form, or its published update by hand.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import (
    Activity,
    Circuit,
    Constant,
    Error,
    Gaussian,
    Layer,
    OneToOne,
    Outer,
    Scaled,
    TwoFactor,
    Wave,
)
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from dynamics.noise import Noise
from dynamics.stimulus import Clock
from rules import SKA, NodePerturbation, WeightPerturbation
from rules.knowledge_accumulation import repeated
from tests.dynamics.pieces import advanced, coupled, discrete, given_input, normal, relative, to
from tests.problems import f64, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

INPUTS, TARGETS = normal(5, 4), normal(5, 3)
HALF, ONE, SAME = Gaussian(f64(0.5)), Gaussian(f64(1.0)), OneToOne(f64(1.0))
FLOW = timescales(plasticity=1.0)


def test_a_smooth_drive_is_filtered_as_a_line_is():
    """z = cos(omega t) through tau: <z x> = 1 / (2 (1 + (omega tau)^2))."""
    tau, omega = 0.1, 2 * np.pi
    layers = Layer("s", 1, source=Wave(lambda t: jnp.cos(omega * t)[None]), level=0), Layer("z", 1)
    circuit = Circuit(
        layers, (to("W", "s", "z", f64([[1.0]])), to("H", "s", "z", f64([[0.0]]), TwoFactor(Activity()), port="none"))
    )
    weights = circuit.initial_weights(jax.random.key(0))
    for by, steps in ((Window(nodes=16, parts=1, gaps=False), 16), (FixedStep("dopri5"), 500)):
        run = coupled(circuit, timescales(tau, 1.0), f64([[0.0]]), None, Clock(f64(1.0), f64(0.0), steps), by)
        before, after = (float(advanced(run, weights, jnp.int32(k)).state.weights["H"][0, 0]) for k in (2, 3))
        assert abs(after - before - 0.5 / (1 + (omega * tau) ** 2)) < 1e-6
    for make in (
        lambda: WeightFlow(circuit, FLOW, f64([[0.0]]), None, Clock(f64(1.0), f64(0.0), 1)),
        lambda: discrete(circuit, FLOW, f64([[0.0]]), None, 1.0),
    ):
        with pytest.raises(PlasticodeError, match="this rule has a wave, .*: the regime must be coupled"):
            make()


def test_what_is_drawn_is_drawn_anew_and_not_averaged():
    network = Network((4, 3), "linear", bias=False, gain=f64(1.0))
    node, weight = NodePerturbation().wire(network), WeightPerturbation().wire(network)
    for circuit in (node, weight):
        with pytest.raises(PlasticodeError, match="this rule needs .*drawn anew.*: the regime must be coupled or disc"):
            WeightFlow(circuit, FLOW, INPUTS, TARGETS, Clock(f64(1.0), f64(0.0), 1))
        weights = circuit.initial_weights(jax.random.key(0))
        ends = []
        for by, steps in ((Window(nodes=16, parts=1, gaps=True, tolerance=1e-8), 16), (FixedStep("dopri5"), 1200)):
            run = coupled(circuit, timescales(0.01, 50.0), INPUTS, TARGETS, Clock(f64(0.1), f64(0.02), steps), by)
            ends.append([advanced(run, weights, jnp.int32(k)).state.weights["W1"] for k in (1, 2, 3)])
        np.testing.assert_allclose(
            ends[0], ends[1], rtol=0, atol=2e-5 * float(jnp.abs(ends[1][0] - weights["W1"]).max())
        )
    drawn = [node.draws(jax.random.key(1), jnp.int32(k))["xi1"] for k in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).min() > 1e-3


def test_knowledge_of_the_last_presentation_is_a_slow_variable_of_the_source():
    """Forward-only learning (SKA) as published, two layers: what a layer passes on is its last activity."""
    network = Network((3, 4, 2), "sigmoid", "sigmoid", bias=False, supervised=False, gain=f64(1.0))
    circuit = repeated(SKA().wire(network), f64(1.0))
    weights, x, eta = circuit.initial_weights(jax.random.key(0)), np.array([0.5, -0.3, 0.8]), 0.05
    run = discrete(circuit, timescales(plasticity=1 / eta), f64(x[None]), None, 1.0)
    end = advanced(run, weights, jnp.int32(6)).weights
    w, last = [np.array(weights[n]) for n in ("W1", "W2")], [np.zeros(4), np.zeros(2)]
    for _ in range(6):
        given, now = [x, last[0]], []
        for i in (0, 1):
            a = w[i] @ given[i]
            z = 1 / (1 + np.exp(-a))
            w[i] = w[i] + eta * np.outer((a * z * (1 - z) + z - last[i]) / np.log(2), given[i])
            now.append(z)
        last = now
    np.testing.assert_allclose(end["W1"], w[0], atol=1e-14)
    np.testing.assert_allclose(end["W2"], w[1], atol=1e-14)


def test_the_modified_flow_follows_steps_to_second_order():
    """One step per presentation of one sample, W <- W (1 - eta x^2): the plain flow is off by O(eta), the entropic by
    O(eta^2)."""
    layers = given_input("x", 1), Layer("y", 1, role="output")
    circuit = Circuit(layers, (to("W", "x", "y", f64([[1.0]]), TwoFactor(Error())),))
    weights, x, y = circuit.initial_weights(jax.random.key(0)), f64([[1.3]]), f64([[0.0]])
    errors = []
    for eta, count in ((0.1, 10), (0.05, 20), (0.025, 40)):
        exact = (1 - eta * 1.3**2) ** count
        clock = Clock(f64(eta), f64(0.0), 8)
        ends = [
            float(
                advanced(
                    WeightFlow(circuit, FLOW, x, y, clock, FixedStep("dopri5"), entropic=e), weights, jnp.int32(count)
                ).weights["W"][0, 0]
            )
            for e in (False, True)
        ]
        errors.append([abs(end - exact) for end in ends])
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all((ratios[:, 0] > 1.8) & (ratios[:, 0] < 2.6)) and np.all((ratios[:, 1] > 3.6) & (ratios[:, 1] < 5.5))


@pytest.mark.parametrize("kind", ["synaptic", "synaptic_multiplicative"])
def test_synaptic_noise_in_the_flow_has_its_closed_form(kind):
    """Many weights without a drive: dW = s dB has the variance s^2 t, dW = s W dB of Ito one of exp(s^2 t) - 1."""
    layers, size, time = (given_input("x", 100), Layer("y", 100)), f64(0.4), 0.5
    circuit = Circuit(layers, (to("W", "x", "y", f64(np.ones((100, 100))), TwoFactor(Activity())),))
    weights, clock = circuit.initial_weights(jax.random.key(0)), Clock(f64(0.05), f64(0.0), 20)
    noise = dataclasses.replace(Noise(), **{kind: size})
    flow = WeightFlow(circuit, FLOW, f64(np.zeros((1, 100))), None, clock, key=jax.random.key(5), noise=noise)
    end = np.asarray(advanced(flow, weights, jnp.int32(10)).weights["W"])
    variance = 0.16 * time if kind == "synaptic" else np.exp(0.16 * time) - 1
    assert abs(end.mean() - 1) < 4 * (variance / end.size) ** 0.5
    assert abs(end.var() / variance - 1) < 4 * (2.5 / end.size) ** 0.5
    with pytest.raises(PlasticodeError, match="noise.activity is not allowed in the weight flow"):
        WeightFlow(circuit, FLOW, f64(np.zeros((1, 100))), None, clock, noise=Noise(activity=f64(0.1)))
    stratonovich = Noise(synaptic_multiplicative=size, calculus="stratonovich")
    with pytest.raises(PlasticodeError, match="multiplicative noise in the ito sense"):
        WeightFlow(circuit, FLOW, f64(np.zeros((1, 100))), None, clock, noise=stratonovich)
    with pytest.raises(PlasticodeError, match="noise.calculus = 'stratonovich' is not allowed: sampling noise is Ito"):
        still = dataclasses.replace(stratonovich, synaptic_multiplicative=None)
        WeightFlow(circuit, FLOW, f64(np.zeros((1, 100))), None, clock, FixedStep("euler"), None, True, still)


def test_a_gap_counts_in_the_flow_as_what_the_circuit_does_in_it():
    """Sigmoids are active, and an anchor pulls, without a stimulus too: as in a coupled run with quick neurons."""
    anchor, law = (
        f64([[1.0, -1.0], [0.5, 0.0]]),
        (Outer(Activity()), Scaled(Constant(0.5), "A"), Scaled(Constant(-0.5))),
    )
    layers = given_input("x", 2), Layer("one", 1, role="constant", level=0), Layer("y", 2, "sigmoid"), Layer("a", 2)
    wires = to("W", "x", "y", normal(2, 2), law), to("b", "one", "y", normal(2, 1), TwoFactor(Activity()))
    circuit = Circuit(layers, (*wires, to("A", "x", "a", anchor)))
    weights, times, x = circuit.initial_weights(jax.random.key(0)), timescales(2e-4, 2.0), f64([[0.7, -0.4]])
    clock = Clock(f64(0.1), f64(0.2), 20)
    flow = WeightFlow(circuit, times, x, None, clock, FixedStep("heun"))
    ran = coupled(circuit, times, x, None, clock, Window(nodes=20, parts=1, gaps=True, settling=20.0))
    ends = advanced(flow, weights, jnp.int32(4)).weights, advanced(ran, weights, jnp.int32(4)).state.weights
    assert relative({n: ends[0][n] - weights[n] for n in "Wb"}, {n: ends[1][n] - weights[n] for n in "Wb"}) < 0.01
