"""Pieces together: each combination against small steps, a gradient, or a formula by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Dense,
    Error,
    Gaussian,
    Given,
    Layer,
    Masked,
    Multiplicative,
    Outer,
    Projection,
    Scaled,
    Shared,
    TwoFactor,
    Value,
    Variable,
    Wave,
)
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.flow import WeightFlow
from dynamics.stimulus import Clock
from tests.dynamics.pieces import Scale, apart, back, both, drift, given_input, normal, to
from tests.problems import f64, timescales

FLOW = timescales(plasticity=1.0)
ONE = Gaussian(1.0)


def test_what_is_slow_or_a_wave_may_be_late_and_a_shared_norm_held():
    """By windows as by steps: a slow variable of the input and a wave with a jump, late; and a matrix of held norm that
    a second projection uses, with a gain that its law does not know."""
    jump = 0.0424
    wave = Wave(lambda t: jnp.stack([jnp.sin(30 * t) + (t >= jump), jnp.cos(20 * t)]), (jump,))
    slow = Variable("s", Activity(), 0.08, slow=True)
    layers = (
        Layer("x", 2, role="input", level=0, variables=(slow,)),
        Layer("w", 2, source=wave, level=0),
        Layer("h", 2, "tanh"),
    )
    held = Dense(Given(normal(2, 2)), holds_norm=True)
    wires = (
        to("W", "x", "h", held, TwoFactor(Activity()), carries="s"),
        to("V", "w", "h", Shared("W", gain=0.3), TwoFactor(Scale(2.0, Activity()))),
    )
    circuit = Circuit(layers, wires)
    weights, x = circuit.initial_weights(jax.random.key(0)), normal(2, 2)
    lags = Delays(hop=f64(0.0172))
    window, steps = both(circuit, timescales(0.02, 0.4), x, None, weights, 480, gap=0.02, delays=lags, nodes=12)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-4


class Rate(AbstractFactor):
    """Minus the activity."""

    def __call__(self, local):
        return -local.activity


def test_a_law_that_only_scales_is_solved_within_windows():
    """W' = -z W / tau_plast with z = W: W = W0 / (1 + W0 t / tau_plast), tau_prop being next to nothing."""
    layers = Layer("s", 1, role="constant", level=0), Layer("z", 1)
    circuit = Circuit(layers, (to("W", "s", "z", f64([[2.0]]), Scaled(Rate())),))
    weights = circuit.initial_weights(jax.random.key(0))
    window, steps = both(circuit, timescales(0.02, 0.2), f64([[0.0]]), None, weights, 100, shown=2, nodes=12)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


def masked_both_ways(mask):
    layers = given_input("x", 3), Layer("u", 4, "tanh"), Layer("v", 3, level=2)
    back_law = Outer(Activity()), Scaled(Rate())
    wires = to("A", "x", "u", Masked(ONE, mask), TwoFactor(Activity())), to("B", "u", "v", back("A"), back_law, level=2)
    return Circuit(layers, wires)


def test_a_law_scales_the_columns_of_a_mask_that_is_used_transposed():
    mask = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]])
    circuit = masked_both_ways(mask)
    weights, x = circuit.initial_weights(jax.random.key(0)), normal(2, 3)
    w = np.asarray(circuit.matrices(weights)["A"])
    u = np.tanh(x @ w.T)
    v = u @ w
    expected = mask * (u.T @ x + u.T @ v) / 2 - w * v.mean(0)[None]
    found = circuit.matrices(drift(circuit, weights, x, None, FLOW))["A"]
    np.testing.assert_allclose(found, expected, atol=1e-14)


def exponentiated(size: float):
    layers = given_input("x", 2), Layer("y", 1, role="output")
    own = Dense(Given([[size, 2 * size]]), mirror=Multiplicative())
    return Circuit(layers, (to("W", "x", "y", own, TwoFactor(Error())),))


def test_sampling_noise_and_instruments_know_the_mirror():
    """The noise of a sample is its own law, |W| m p^T less the mean; alignment is that of |W| m p^T."""
    circuit, x, y = exponentiated(0.5), normal(3, 2), normal(3, 1)
    weights = circuit.initial_weights(jax.random.key(0))
    w = np.asarray(weights["W"])
    flow = WeightFlow(circuit, FLOW, x, y, Clock(f64(0.1), f64(0.0), 1), sampling_noise=True, key=jax.random.key(0))
    system, state = flow.system({}), (weights, {}, {})
    draw = normal(3)
    moved = system.kick(system.amplitude(state), draw, jax.tree.map(jnp.zeros_like, state))[0]["W"]
    alone = np.abs(w)[None] * (np.asarray(y) - x @ w.T)[:, :, None] * np.asarray(x)[:, None]
    expected = np.sqrt(0.1 / 3) * np.einsum("b,bij->ij", draw, alone - alone.mean(0))
    np.testing.assert_allclose(moved, expected, atol=1e-14)
    np.testing.assert_allclose(instruments.drive(circuit, weights, {}, x, y)["W"], alone.mean(0), atol=1e-14)
    uphill = ((x @ w.T - np.asarray(y)).T @ x) / 3
    cosine = -(alone.mean(0) * uphill).sum() / np.linalg.norm(alone.mean(0)) / np.linalg.norm(uphill)
    aligned = instruments.alignment(circuit, weights, {}, x, y)["W"]
    assert abs(float(aligned) - cosine) < 1e-12
    with pytest.raises(PlasticodeError, match="'W' has a mirror or holds its norm, and the entropic flow"):
        WeightFlow(circuit, FLOW, x, y, Clock(f64(0.1), f64(0.0), 1), entropic=True)


def clamped():
    """A network whose last layer is given the target, and drives the one before it."""
    layers = given_input("x", 3), Layer("h", 4, "tanh"), Layer("t", 2, role="target", level=2)
    law = TwoFactor(Activity())
    wires = to("W", "x", "h", ONE, law), to("U", "h", "t", Gaussian(0.5), law, level=2), to("V", "t", "h", back("U"))
    return Circuit(layers, wires, readout="t")


def test_a_target_that_is_part_of_a_loop_is_free_where_there_is_none():
    circuit, x = clamped(), normal(2, 3)
    weights = circuit.initial_weights(jax.random.key(0))
    w, u = (np.asarray(weights[name]) for name in ("W", "U"))
    t = np.zeros((2, 2))
    for _ in range(300):
        t = np.tanh(x @ w.T + t @ u) @ u.T
    np.testing.assert_allclose(instruments.predict(circuit, weights, x), t, atol=1e-12)
    found = instruments.hebbian_alignment(circuit, weights, {}, x, normal(2, 2))
    assert set(found) == {"W", "U"} and all(abs(float(value)) <= 1 + 1e-12 for value in found.values())


def test_the_modified_flow_steps_slow_variables_too():
    """One sample, W' = s x, s' = (z - s)/tau: the second order of a step of W and s together."""
    layers = given_input("x", 1), Layer("y", 1, variables=(Variable("s", Activity(), 0.7, slow=True),))
    own = Projection("W", "x", "activity", "y", "forward", Given([[0.8]]), TwoFactor(Value("s")))
    circuit, x, h = Circuit(layers, (own,)), 1.3, 0.1
    flow = WeightFlow(circuit, FLOW, f64([[x]]), None, Clock(f64(h), f64(0.0), 1), entropic=True)
    state = circuit.initial_weights(jax.random.key(0)), {"y": {"s": f64([0.4])}}, {}
    found = flow.system({}).drift(state, None, None)
    matrix = np.array([[0, x], [x / 0.7, -1 / 0.7]])
    expected = (matrix - h / 2 * matrix @ matrix) @ [0.8, 0.4]
    np.testing.assert_allclose([found[0]["W"][0, 0], found[1]["y"]["s"][0]], expected, atol=1e-14)
