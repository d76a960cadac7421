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
    Convolution,
    Dense,
    Draw,
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
    Times,
    TwoFactor,
    Value,
    Variable,
    Wave,
)
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from tests.dynamics.pieces import advanced, apart, back, coupled, drift, given_input, normal, to
from tests.problems import f64, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainWindow as Window

FLOW = timescales(plasticity=1.0)
ONE = Gaussian(1.0)
LAG, JUMP = 0.0172, 0.0424


def test_what_is_slow_or_a_wave_may_be_late_and_a_shared_norm_held():
    """By windows as by steps: a slow variable of the input and a wave with a jump, late; and a matrix of held norm that
    a second projection uses, with a gain that its law does not know."""
    wave = Wave(lambda t: jnp.stack([jnp.sin(30 * t) + (t >= JUMP).astype(t.dtype), jnp.cos(20 * t)]), (JUMP,))
    slow = Variable("s", Activity(), 0.08, slow=True)
    layers = (
        Layer("x", 2, role="input", level=0, variables=(slow,)),
        Layer("w", 2, source=wave, level=0),
        Layer("h", 2, "tanh"),
    )
    held = Dense(Given(normal(2, 2)), holds_norm=True)
    wires = (
        to("W", "x", "h", held, TwoFactor(Activity()), carries="s"),
        to("V", "w", "h", Shared("W", gain=0.3), TwoFactor(Times(2.0, Activity()))),
    )
    circuit = Circuit(layers, wires)
    weights, x = circuit.initial_weights(jax.random.key(0)), normal(2, 2)
    clock, lags = Clock(f64(0.1), f64(0.02), 14), Delays(hop=f64(LAG))
    by = Window(nodes=14, parts=1, gaps=True, tolerance=1e-8)
    run = coupled(circuit, timescales(0.02, 0.4), x, None, clock, by, delays=lags)
    samples = [np.asarray(x)[int(run.stream.index(jnp.int32(k)))] for k in (0, 1)]
    expected = {"W": by_hand(np.asarray(weights["W"]), samples)}
    assert apart(advanced(run, weights, jnp.int32(2)).state.weights, expected, weights) < 1e-4


def by_hand(start, samples, dt=5e-5):
    """The matrix after two presentations, by Heun's steps; lag and jump are whole numbers of them."""
    period, on, lag, jump = (round(time / dt) for time in (0.12, 0.1, LAG, JUMP))

    def wave(j, stage):
        """At the end of a step before the jump it has not jumped yet."""
        t = (j % period + stage) * dt if j >= 0 else 0.0
        return np.array([np.sin(30 * t) + (j >= 0 and j % period >= jump), np.cos(20 * t)])

    def drift(j, stage, y, late):
        x = samples[j // period] if j % period < on else np.zeros(2)
        h, s, w = y
        seen = wave(j - lag, stage)
        learned = np.outer(h, late + 2 * seen)
        learned = learned - w * (learned * w).sum() / (w * w).sum()
        return [(np.tanh(w @ (late + 0.3 * seen)) - h) / 0.02, (x - s) / 0.08, learned / 0.4]

    y, past = [np.zeros(2), np.zeros(2), start], [np.zeros(2)] * lag
    for j in range(2 * period):
        past.append(y[1])
        first = drift(j, 0, y, past[j])
        then = [v + dt * d for v, d in zip(y, first, strict=True)]
        second = drift(j, 1, then, past[j + 1])
        y = [v + dt / 2 * (d + e) for v, d, e in zip(y, first, second, strict=True)]
    return y[2]


class Rate(AbstractFactor):
    """Minus the activity."""

    def __call__(self, local):
        return -local.activity


def test_a_law_that_only_scales_is_solved_within_windows():
    """W' = -z W / tau_plast, z a filter of W: sweeps go on until they agree on how it fades."""
    layers = Layer("s", 1, role="constant", level=0), Layer("z", 1)
    circuit = Circuit(layers, (to("W", "s", "z", f64([[2.0]]), Scaled(Rate())),))
    weights = circuit.initial_weights(jax.random.key(0))
    clock, by = Clock(f64(0.1), f64(0.0), 12), Window(nodes=12, parts=1, gaps=False, tolerance=1e-8)
    run = coupled(circuit, timescales(0.02, 0.2), f64([[0.0]]), None, clock, by)
    found = float(advanced(run, weights, jnp.int32(2)).state.weights["W"][0, 0])
    z, w, dt = 0.0, 2.0, 1e-4
    for _ in range(2000):  # the midpoint rule
        middle = z + dt / 2 * (w - z) / 0.02, w - dt / 2 * z * w / 0.2
        z, w = z + dt * (middle[1] - middle[0]) / 0.02, w - dt * middle[0] * middle[1] / 0.2
    assert abs(found - w) < 1e-5


def masked_both_ways(mask):
    layers = given_input("x", 3), Layer("u", 4, "tanh"), Layer("v", 3, level=2)
    back_law = Outer(Activity()), Scaled(Rate())
    wires = to("A", "x", "u", Masked(ONE, mask), TwoFactor(Activity())), to("B", "u", "v", back("A"), back_law, level=2)
    return Circuit(layers, wires)


def test_a_law_scales_the_columns_of_a_mask_that_is_used_transposed():
    mask = np.array([[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0]])
    circuit = masked_both_ways(mask)
    weights, x = circuit.initial_weights(jax.random.key(0)), normal(2, 3)
    w, x = np.asarray(circuit.matrices(weights)["A"]), np.asarray(x)
    u = np.tanh(x @ w.T)
    v = u @ w
    expected = mask * (u.T @ x + u.T @ v) / 2 - w * v.mean(0)[None]
    found = circuit.matrices(drift(circuit, weights, f64(x), None, FLOW))["A"]
    np.testing.assert_allclose(found, expected, atol=1e-14)


def exponentiated(size: float):
    layers = given_input("x", 2), Layer("y", 1, role="output")
    own = Dense(Given([[size, 2 * size]]), mirror=Multiplicative())
    return Circuit(layers, (to("W", "x", "y", own, TwoFactor(Error())),))


def test_sampling_noise_and_instruments_know_the_mirror():
    """The noise of a sample is its own law, |W| m p^T less the mean; alignment is that of |W| m p^T."""
    circuit, x, y = exponentiated(0.5), np.asarray(normal(3, 2)), np.asarray(normal(3, 1))
    weights = circuit.initial_weights(jax.random.key(0))
    w = np.asarray(weights["W"])
    flow = WeightFlow(circuit, FLOW, x, y, Clock(f64(0.1), f64(0.0), 1), sampling_noise=True, key=jax.random.key(0))
    system, state = flow.system({}), (weights, {}, {})
    draw = normal(3)
    moved = system.kick(system.amplitude(state), draw, jax.tree.map(jnp.zeros_like, state))[0]["W"]
    alone = np.abs(w)[None] * (y - x @ w.T)[:, :, None] * x[:, None]
    expected = np.sqrt(0.1 / 3) * np.einsum("b,bij->ij", draw, alone - alone.mean(0))
    np.testing.assert_allclose(moved, expected, atol=1e-14)
    np.testing.assert_allclose(instruments.drive(circuit, weights, {}, x, y)["W"], alone.mean(0), atol=1e-14)
    uphill = ((x @ w.T - y).T @ x) / 3
    cosine = -(alone.mean(0) * uphill).sum() / np.linalg.norm(alone.mean(0)) / np.linalg.norm(uphill)
    aligned = instruments.alignment(circuit, weights, {}, x, y)["W"]
    assert abs(float(aligned) - cosine) < 1e-12
    with pytest.raises(PlasticodeError, match="keeps the signs or the norm of 'W', and the entropic flow"):
        WeightFlow(circuit, FLOW, x, y, Clock(f64(0.1), f64(0.0), 1), entropic=True)


def clamped():
    """A network whose last layer is given the target, and drives the one before it."""
    layers = given_input("x", 3), Layer("h", 4, "tanh"), Layer("t", 2, role="target", level=2)
    law = TwoFactor(Activity())
    wires = to("W", "x", "h", ONE, law), to("U", "h", "t", Gaussian(0.5), law, level=2), to("V", "t", "h", back("U"))
    return Circuit(layers, wires, readout="t")


def test_a_target_that_is_part_of_a_loop_is_free_where_there_is_none():
    circuit, x = clamped(), np.asarray(normal(2, 3))
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


def test_what_is_drawn_or_waves_has_the_dtype_of_the_run():
    layers = Layer("xi", 2, source=Draw(f64(1.0)), level=0), Layer("y", 2)
    circuit = Circuit(layers, (to("W", "xi", "y", Gaussian(jnp.float32(1.0)), TwoFactor(Activity())),))
    single = jnp.zeros((1, 1), jnp.float32)
    clock, stream = Clock(jnp.float32(0.1), single[0, 0], 20), Stream(single, None, jax.random.key(0))
    run = Coupled(circuit, Timescales(0.01, 1.0), stream, clock)
    with pytest.raises(PlasticodeError, match="what is drawn for 'xi': dtype float64 is not allowed"):
        run.init(circuit.initial_weights(jax.random.key(0)))


def wired(law=(), more=(), **layer):
    return lambda: Circuit((given_input("x", 3), Layer("h", 2, **layer)), (to("W", "x", "h", ONE, law), *more))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            wired(source=Wave(lambda t: t[None])),
            r"makes an array of shape \[1\]: it must have one number for each of its 2",
        ),
        (wired(source=Draw(1.0), role="target"), "a source takes the place of a role"),
        (wired(law=Scaled(Rate(), "U"), more=(to("U", "h", "x", ONE),)), r"of shape \[3, 2\]: it must be \[2, 3\]"),
        (lambda: Convolution(ONE, (1, 1), 3, 2, stride=0), "and stride 0: they must be at least 1"),
        (lambda: Masked(ONE, np.full((2, 3), 0.5)), "a mask has entries that are neither 0 nor 1"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(make, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        make()


def test_targets_and_weights_that_do_not_fit_are_told():
    circuit, x = clamped(), normal(2, 3)
    for y, sentence in ((None, "the target layer 't' is given them"), (normal(2, 1), "target layer 't' has 2 neurons")):
        with pytest.raises(PlasticodeError, match=sentence):
            WeightFlow(circuit, FLOW, x, y, Clock(f64(0.1), f64(0.0), 1))
    weights = circuit.initial_weights(jax.random.key(0))
    for wrong, sentence in (({}, "have no 'U'"), (weights | {"W": weights["W"].T}, r"'W' of shape \[3, 4\].*\[4, 3\]")):
        with pytest.raises(PlasticodeError, match=sentence):
            instruments.predict(circuit, wrong, x)
