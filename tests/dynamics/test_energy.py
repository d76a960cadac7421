"""Energy-based systems made of the pieces: equilibrium propagation, predictive coding, contrastive Hebbian learning.

Each against a gradient by automatic differentiation, or an energy in closed form.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Gaussian,
    Given,
    Layer,
    OneToOne,
    Outer,
    Shared,
    Variable,
    Wave,
)
from dynamics.integrators import FixedStep, Window
from dynamics.settle import Outside, settle
from dynamics.stimulus import Clock
from tests.dynamics.pieces import (
    Scale,
    advanced,
    back,
    cosine,
    coupled,
    discrete,
    drift,
    given_input,
    normal,
    relative,
    to,
)
from tests.problems import f64, timescales

INPUTS, TARGETS = normal(5, 4), normal(5, 3)
HALF, ONE, SAME = Gaussian(f64(0.5)), Gaussian(f64(1.0)), OneToOne(f64(1.0))
FLOW = timescales(plasticity=1.0)


class Nudged(AbstractFactor):
    """f(a + beta (y - z)): an output that the target pulls at."""

    beta: float
    by: str = eqx.field(static=True, default="")

    def __call__(self, local):
        beta = self.beta if not self.by else self.beta * local.inputs[self.by]
        return local.f(local.preactivation + beta * (local.inputs["target"] - local.activity))


class Gated(AbstractFactor):
    """What arrives at a port, times a number, times the activity."""

    port: str = eqx.field(static=True)
    by: float

    def __call__(self, local):
        return self.by * local.inputs[self.port] * local.activity


def hopfield(w):
    """The loss of the settled network z1 = tanh(W1 x + W2^T z2), z2 = W2 z1."""

    def one(x, y):
        def step(z, _):
            return (
                0.5 * z[0] + 0.5 * jnp.tanh(w["W1"] @ x + w["W2"].T @ z[1]),
                0.5 * z[1] + 0.5 * w["W2"] @ z[0],
            ), None

        (_, z2), _ = jax.lax.scan(step, (jnp.zeros(6), jnp.zeros(3)), length=150)
        return 0.5 * jnp.sum((y - z2) ** 2)

    return lambda x, y: jax.vmap(one)(x, y).mean()


def downhill(weights, x=INPUTS, y=TARGETS):
    gradient = jax.jit(jax.grad(lambda w: hopfield(w)(x, y)))({n: weights[n] for n in ("W1", "W2")})
    return jax.tree.map(jnp.negative, gradient)


def twins(betas):
    """Copies of one network, nudged by each of two betas; W' is the difference of their z z^T over that of beta."""
    layers, wires = [given_input("x", 4), Layer("y", 3, role="target", level=0)], []
    for k, (beta, sign) in enumerate(zip(betas, (1, -1), strict=True)):
        end, law = "'" * k, (Outer(Scale(sign / (betas[0] - betas[1]), Activity())),)
        own = (HALF, HALF) if k == 0 else (Shared("W1"), Shared("W2"))
        layers += [
            Layer(f"z1{end}", 6, "tanh"),
            Layer(f"z2{end}", 3, variables=(Variable("activity", Nudged(beta)),), level=2),
        ]
        wires += [
            to(f"W1{end}", "x", f"z1{end}", own[0], law),
            to(f"W2{end}", f"z1{end}", f"z2{end}", own[1], law, level=2),
            to(f"V2{end}", f"z2{end}", f"z1{end}", back("W2")),
            to(f"Y{end}", "y", f"z2{end}", SAME, port="target"),
        ]
    return Circuit(tuple(layers), tuple(wires), readout="z2'")


@pytest.mark.parametrize("symmetric", [False, True])
def test_equilibrium_propagation_with_twins_is_of_first_or_second_order(symmetric):
    weights = twins((0.1, 0.0)).initial_weights(jax.random.key(3))
    expected, errors = downhill(weights), []
    for beta in (0.2, 0.1, 0.05):
        circuit = twins((beta, -beta if symmetric else 0.0))
        errors.append(relative(drift(circuit, weights, INPUTS, TARGETS, FLOW), expected))
    low, high = (3.6, 4.5) if symmetric else (1.6, 2.2)
    assert low < errors[0] / errors[1] < high and low < errors[1] / errors[2] < high


def test_twins_are_one_system_in_every_regime():
    """Discrete updates are Euler steps of the flow; quick neurons follow it; the free copy predicts."""
    circuit = twins((0.05, -0.05))
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
    free = settle(twins((0.1, 0.0)), weights, {}, Outside(x[0], y[0]))
    predicted = instruments.predict(twins((0.1, 0.0)), weights, x)[0]
    np.testing.assert_allclose(predicted, free.value(circuit.layer("z2'"), "activity"), atol=1e-12)


def nudged_by(wave, beta, by):
    """One copy, whose nudge and whose law a wave of time drives."""
    law = (Outer(Gated("measure", by)),)
    layers = (
        given_input("x", 4),
        Layer("y", 3, role="target", level=0),
        Layer("phase", 1, source=wave[0], level=0),
        Layer("measure", 1, source=wave[1], level=0),
        Layer("z1", 6, "tanh"),
        Layer("z2", 3, variables=(Variable("activity", Nudged(beta, "phase")),), level=2),
    )
    ones = {n: Given(jnp.ones((n, 1), jnp.float64)) for n in (3, 6)}
    return Circuit(
        layers,
        (
            to("W1", "x", "z1", HALF, law),
            to("W2", "z1", "z2", HALF, law, level=2),
            to("V2", "z2", "z1", back("W2")),
            to("Y", "y", "z2", SAME, port="target"),
            to("P", "phase", "z2", ones[3], port="phase"),
            to("M1", "measure", "z1", ones[6], port="measure"),
            to("M2", "measure", "z2", ones[3], port="measure"),
        ),
    )


@pytest.mark.parametrize("by", [Window(nodes=16, parts=8, gaps=False, tolerance=1e-4), FixedStep("dopri5")])
def test_an_oscillating_nudge_needs_no_phases(by):
    """beta(t) = b cos(omega t), W' = (2/b) cos(omega t) z z^T, over whole periods."""
    tau, beta = 0.002, 0.05
    period = 2 * np.pi / (0.02 / tau)
    wave = [Wave(lambda t: jnp.cos(2 * jnp.pi * t / period)[None])] * 2
    circuit, x, y = nudged_by(wave, beta, 2 / beta), INPUTS[:1], TARGETS[:1]
    weights, steps = circuit.initial_weights(jax.random.key(3)), 128 if isinstance(by, Window) else 800
    run = coupled(circuit, timescales(tau, 1e6), x, y, Clock(f64(period), f64(0.0), steps), by)
    before, after = (advanced(run, weights, jnp.int32(k)).state.weights for k in (1, 2))
    found = {n: after[n] - before[n] for n in ("W1", "W2")}
    assert cosine(found, downhill(weights, x, y)) > 0.9999
    if isinstance(by, Window):
        quality = run.quality(advanced(run, weights, jnp.int32(2)))
        assert quality is not None and quality.converged


def test_phases_within_one_presentation():
    """The nudge is on in the second half; z z^T is measured before it begins and at its end: an error of O(beta)."""
    tau, time, beta = 0.002, 0.2, 0.02
    at = [f64(share * time) for share in (0.4, 0.5, 0.85, 0.95)]

    def measure(t):
        on = [jnp.where((t >= at[i]) & (t < at[i + 1]), 1.0, 0.0) for i in (0, 2)]
        return (on[1] - on[0])[None]

    wave = Wave(lambda t: jnp.where(t >= at[1], 1.0, 0.0)[None], (at[1],)), Wave(measure, tuple(at))
    circuit, x, y = nudged_by(wave, beta, 10 / beta), INPUTS[:1], TARGETS[:1]
    weights, window = circuit.initial_weights(jax.random.key(3)), Window(nodes=16, parts=1, gaps=False, tolerance=1e-5)
    run = coupled(circuit, timescales(tau, 1e6), x, y, Clock(f64(time), f64(0.0), 16), window)
    end = advanced(run, weights, jnp.int32(1)).state.weights
    found = {n: (end[n] - weights[n]) * 1e6 / time for n in ("W1", "W2")}
    expected = downhill(weights, x, y)
    assert cosine(found, expected) > 0.99 and relative(found, expected) < 0.15


# Predictive coding


class Mismatch(AbstractFactor):
    """eps = x - a."""

    def __call__(self, local):
        return local.activity - local.preactivation


class Rate(AbstractFactor):
    """f(x)."""

    def __call__(self, local):
        return local.f(local.activity)


class Inferred(AbstractFactor):
    """x - eps + f'(x) V eps of the layer above."""

    def __call__(self, local):
        return local.preactivation + local.f.pulled_back(local.activity, local.inputs["modulatory"])


def predictive(activation, sizes=(4, 6, 5, 3)):
    """x' = -eps + f'(x) W^T eps of the layer above, W' = eps f(x)^T; one population per layer."""
    last, law = len(sizes) - 1, (Outer(Mismatch()),)
    own = (Variable("activity", Inferred()), Variable("error", Mismatch()))
    layers = [
        given_input("x", sizes[0]),
        *(Layer(f"z{i}", sizes[i], activation, level=i, variables=own) for i in range(1, last)),
    ]
    layers.append(Layer(f"z{last}", sizes[-1], role="target", level=last))
    names = ["x", *(f"z{i}" for i in range(1, last + 1))]
    wires = [to("W1", "x", "z1", HALF, law)]
    for i in range(2, last + 1):
        wires.append(to(f"W{i}", names[i - 1], names[i], HALF, law, carries=Rate(), level=i))
        wires.append(to(f"V{i}", names[i], names[i - 1], back(f"W{i}"), port="modulatory", carries=Mismatch(), level=i))
    return Circuit(tuple(layers), tuple(wires))


def energy(circuit, weights, x, y, xs, f):
    states, total = [x, *xs, y], 0.0
    for i in range(1, len(states)):
        below = states[i - 1] if i == 1 else f(states[i - 1])
        total = total + 0.5 * jnp.sum((states[i] - weights[f"W{i}"] @ below) ** 2)
    return total


@pytest.mark.parametrize(("activation", "f"), [("linear", lambda x: x), ("tanh", jnp.tanh)])
def test_predictive_coding_settles_at_its_energy_and_learns_down_it(activation, f):
    circuit = predictive(activation)
    weights, x, y = circuit.initial_weights(jax.random.key(5)), INPUTS[0], TARGETS[0]
    moment = eqx.filter_jit(
        lambda w: [settle(circuit, w, {}, Outside(x, y)).value(circuit.layer(n), "activity") for n in ("z1", "z2")]
    )
    xs = moment(weights)
    slope, uphill = jax.grad(lambda xs, w: energy(circuit, w, x, y, xs, f), (0, 1))(xs, weights)
    assert max(float(jnp.abs(s).max()) for s in slope) < 1e-13
    found = drift(circuit, weights, INPUTS[:1], TARGETS[:1], FLOW)
    assert relative(found, jax.tree.map(jnp.negative, uphill)) < 1e-12
    if activation == "linear":
        w1, w2, w3 = (np.asarray(weights[f"W{i}"]) for i in (1, 2, 3))
        residual, spread = y - w3 @ w2 @ w1 @ x, np.eye(3) + w3 @ w3.T + w3 @ w2 @ (w3 @ w2).T
        closed = 0.5 * residual @ np.linalg.solve(spread, residual)
        assert abs(float(energy(circuit, weights, x, y, xs, f)) / closed - 1) < 1e-13


def test_without_a_target_predictive_coding_predicts_forward():
    circuit = predictive("tanh")
    weights = circuit.initial_weights(jax.random.key(5))
    expected = np.tanh(np.tanh(INPUTS @ weights["W1"].T) @ weights["W2"].T) @ weights["W3"].T
    ready = Circuit(circuit.layers, circuit.projections, readout="z3")
    np.testing.assert_allclose(instruments.predict(ready, weights, INPUTS), expected, atol=1e-12)


# Contrastive Hebbian learning


def contrastive(gamma):
    """A free and a clamped copy with feedback gamma W^T (doi:10.1162/089976603762552988)."""
    layers, wires = [given_input("x", 4)], []
    for end, sign in (("-", -1), ("+", 1)):
        own = (HALF, HALF) if end == "-" else (Shared("W1-"), Shared("W2-"))
        layers += [
            Layer(f"z1{end}", 6, "tanh"),
            Layer(f"z2{end}", 3, role="target" if sign == 1 else "hidden", level=2),
        ]
        wires += [
            to(f"W1{end}", "x", f"z1{end}", own[0], (Outer(Scale(sign / gamma, Activity())),)),
            to(f"W2{end}", f"z1{end}", f"z2{end}", own[1], (Outer(Scale(float(sign), Activity())),), level=2),
            to(f"V2{end}", f"z2{end}", f"z1{end}", Shared("W2-", True, f64(gamma))),
        ]
    return Circuit(tuple(layers), tuple(wires))


def test_contrastive_hebbian_learning_becomes_backpropagation():
    weights = contrastive(0.1).initial_weights(jax.random.key(3))

    def loss(w):
        return 0.5 * jnp.sum((TARGETS - jnp.tanh(INPUTS @ w["W1-"].T) @ w["W2-"].T) ** 2, -1).mean()

    expected = jax.tree.map(jnp.negative, jax.grad(loss)(weights))
    errors = [relative(drift(contrastive(g), weights, INPUTS, TARGETS, FLOW), expected) for g in (0.1, 0.05, 0.025)]
    assert 1.8 < errors[0] / errors[1] < 2.2 and 1.8 < errors[1] / errors[2] < 2.2
