"""Laws that depend on what synapses have stored: closed forms, and windows against small steps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import (
    AbstractDependence,
    Activity,
    Circuit,
    Constant,
    Error,
    Given,
    Layer,
    Masked,
    Outer,
    Scaled,
    Trace,
)
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from dynamics.stimulus import Clock, Stream
from rules.contract import AbstractRule
from rules.momentum import Momentum
from rules.replicas import Replicas
from tests.dynamics.pieces import advanced, apart, both, coupled, given_input, normal, to
from tests.problems import f64, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window


class Room(AbstractDependence):
    """w (1 - w)."""

    def __call__(self, synapse):
        return synapse.weight * (1 - synapse.weight)


class Squared(AbstractDependence):
    """w^2."""

    def __call__(self, synapse):
        return synapse.weight**2


class Variance(AbstractDependence):
    """What another matrix has stored of the same synapses."""

    def __call__(self, synapse):
        return synapse.others["S"]


def logistic(rate=2.0):
    """W' = rate W (1 - W) of two synapses."""
    law = Outer(Constant(f64(rate)), dependence=Room())
    wires = (to("W", "one", "y", f64([[0.2], [0.6]]), law),)
    return Circuit((Layer("one", 1, role="constant", level=0), Layer("y", 2)), wires)


@pytest.mark.parametrize(
    "by, steps", [(Window(nodes=12, parts=1, gaps=False, tolerance=1e-9), 12), (FixedStep("heun"), 400)]
)
def test_a_bounded_weight_grows_along_the_logistic_curve(by, steps):
    circuit, start, time = logistic(), np.array([[0.2], [0.6]]), 3 * 0.1 / 0.2
    run = coupled(circuit, timescales(0.01, 0.2), f64([[0.0]]), None, Clock(f64(0.1), f64(0.0), steps), by)
    end = advanced(run, circuit.initial_weights(jax.random.key(0)), jnp.int32(3)).state.weights["W"]
    expected = start / (start + (1 - start) * np.exp(-2.0 * time))
    assert np.abs(end - expected).max() < 1e-5
    assert isinstance(by, FixedStep) or np.abs(end - expected).max() < 1e-9


def recursive_mean():
    """A synapse that knows its own uncertainty s: W' = s e x, s' = -s^2 x."""
    uncertain = to("S", "x", "y", f64([[0.8]]), Outer(Constant(f64(-1.0)), dependence=Squared()), port="unread")
    learned = to("W", "x", "y", f64([[0.5]]), Outer(Error(), dependence=Variance()))
    return Circuit((given_input("x", 1), Layer("y", 1, role="output")), (learned, uncertain))


def test_a_synapse_that_knows_its_uncertainty_takes_the_mean_of_what_it_was_told():
    """With x = 1 and target y, s = s0 / (1 + s0 t) and y - W = (y - W0) / (1 + s0 t), t in tau_plast; updates are
    Euler's steps of it."""
    circuit, x, y = recursive_mean(), f64([[1.0]]), f64([[2.0]])
    weights, clock, count = circuit.initial_weights(jax.random.key(0)), Clock(f64(0.1), f64(0.0), 40), jnp.int32(10)
    flow = advanced(WeightFlow(circuit, timescales(0.01, 0.5), x, y, clock, FixedStep("heun")), weights, count).weights
    shrunk = 1 / (1 + 0.8 * 10 * 0.1 / 0.5)
    assert abs(float(flow["S"][0, 0]) - 0.8 * shrunk) < 1e-5
    assert abs(float(flow["W"][0, 0]) - (2.0 - 1.5 * shrunk)) < 1e-5
    stream = Stream(x, y, jax.random.key(0))
    updated = advanced(Discrete(circuit, timescales(0.01, 0.5), stream, clock), weights, count).weights
    w, s = 0.5, 0.8
    for _ in range(10):
        w, s = w + 0.2 * s * (2.0 - w), s - 0.2 * s**2
    np.testing.assert_allclose([updated["W"][0, 0], updated["S"][0, 0]], [w, s], rtol=1e-12)


def test_windows_know_what_synapses_have_stored():
    """Beside decays of rows, a trace of the product with a gate, masks and gaps."""
    mask = Masked(Given(normal(2, 3)), np.array([[1, 0, 1], [0, 1, 0]], bool))
    variance = (Outer(Constant(f64(-0.5)), dependence=Squared()), Scaled(Constant(f64(-0.3))))
    traced = Outer(Error(), gate=Activity(), trace=Trace("product", f64(0.03)), dependence=Variance())
    circuit = Circuit(
        (given_input("x", 3), Layer("y", 2, "tanh", role="output")),
        (
            to("W", "x", "y", normal(2, 3), (traced, Scaled(Constant(f64(-0.2))))),
            to("S", "x", "y", jnp.abs(normal(2, 3)), variance, port="unread"),
            to("M", "x", "y", mask, Outer(Error(), dependence=Squared())),
        ),
    )
    weights = circuit.initial_weights(jax.random.key(0))
    window, steps = both(circuit, timescales(0.02, 0.1), normal(4, 3), normal(4, 2), weights, gap=0.05, shown=3)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5  # steps are off by 5e-6, windows by 6e-7
    assert circuit.is_local


class Misread(AbstractDependence):
    """Reads what it should not."""

    name: str = eqx.field(static=True)

    def __call__(self, synapse):
        return synapse.others["V"] if self.name == "V" else synapse.weight[0]


@pytest.mark.parametrize(
    "dependence, told",
    [
        (Variance(), "projection, which the law of 'W' depends on, 'S' is not known: it must be one of V, W"),
        (Misread("V"), "depends on the parameters of 'V', of shape \\[2, 2\\]: it must be \\[2, 3\\]"),
        (Misread("W"), "depends on Misread, which makes an array of shape \\[3\\]: it must be \\[2, 3\\]"),
    ],
)
def test_a_dependence_that_does_not_fit_is_told(dependence, told):
    learned = to("W", "x", "y", normal(2, 3), Outer(Activity(), dependence=dependence))
    with pytest.raises(PlasticodeError, match=told):
        Circuit((given_input("x", 3), Layer("y", 2)), (learned, to("V", "y", "y", normal(2, 2))))


class Uncertain(AbstractRule):
    """The delta rule with a variance beside each weight."""

    reference = "@misc{mine, title={Mine}}"

    def wire(self, network):
        hidden = to("S", "z0", "z1", f64([[1.0]]), Outer(Constant(f64(-1.0)), dependence=Squared()), port="unread")
        return Circuit(network.layers(), (*network.forward(Outer(Error(), dependence=Variance())), hidden))


@pytest.mark.parametrize("wrapper, told", [(Momentum, "momentum knows nothing"), (Replicas, "other maps by name")])
def test_what_rules_on_top_cannot_take_along_is_told(wrapper, told):
    with pytest.raises(PlasticodeError, match=told):
        wrapper(credit=Uncertain()).wire(Network((1, 1), bias=False, gain=f64(1.0)))
