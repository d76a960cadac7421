"""Updates by batches of samples: the discrete map itself, its noise and its modified flow, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Activity, Circuit, Gaussian, Layer, Redrawn, TwoFactor
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.flow import WeightFlow
from dynamics.network import Network
from dynamics.settle import Outside
from dynamics.stimulus import Clock, Stream
from rules import BCM, SGD
from tests.dynamics.pieces import given_input, normal, to
from tests.problems import HALF, TINY, distance, f64, random_weights, timescales

CLOCK = Clock(f64(0.1), f64(0.0), 1)
FAST = timescales(plasticity=1.0)
LINE = SGD().wire(Network((1, 1), activation="linear", bias=False, gain=f64(1.0)))
SLOPES = np.array([0.4, 1.3, 0.9])  # of three samples l = (a w)^2 / 2


@pytest.mark.parametrize("rule", [SGD(), BCM(threshold_timescale=HALF)])
def test_an_update_by_a_batch_is_the_mean_of_updates_by_its_samples(rule):
    """Maps and slow variables, decay included; samples are drawn independently."""
    circuit = rule.wire(TINY.network)
    stream = Stream(TINY.inputs, TINY.targets, jax.random.key(5))
    run = Discrete(circuit, timescales(plasticity=2.0, decay=3.0), stream, CLOCK, batch=3)
    start = run.init(random_weights(circuit))
    start = start._replace(slow=jax.tree.map(lambda v: v + 0.3, start.slow))
    update = jax.jit(lambda x, y: run.update(start, Outside(x, y))[:2])
    for k in (0, 4):
        end = jax.jit(lambda k: run.advance(start, k, 1))(jnp.int32(k))
        chosen = [int(stream.index(jnp.int32(3 * k + i))) for i in range(3)]
        singles = [update(TINY.inputs[i], TINY.targets[i]) for i in chosen]
        mean = jax.tree.map(lambda *each: sum(each) / 3, *singles)
        assert len(set(chosen)) > 1 and distance(end.weights, mean[0]) < 1e-15
        assert all(np.abs(end.slow[name]["threshold"] - mean[1][name]["threshold"]).max() < 1e-15 for name in end.slow)


def line(eta, batch, **kinds):
    """The flow of one weight on three samples l = (a w)^2 / 2, in steps of eta: its drift and variance at w = 1."""
    flow = WeightFlow(
        LINE, FAST, f64(SLOPES[:, None]), f64(np.zeros((3, 1))), Clock(f64(eta), f64(0.0), 1), batch=f64(batch),
        key=jax.random.key(0), **kinds,
    )  # fmt: skip
    state = {"W1": f64([[1.0]])}, {}, {}
    system = flow.system({})
    drift, variance = float(system.drift(state, None, None)[0]["W1"][0, 0]), 0.0
    if flow.sampling_noise:
        amplitude, still = system.amplitude(state), jax.tree.map(jnp.zeros_like, state)
        kicks = [float(system.kick(amplitude, row, still)[0]["W1"][0, 0]) for row in np.eye(3)]
        variance = float(np.square(kicks).sum())
    return drift, variance


@pytest.mark.parametrize("batch", [1, 3, np.inf])
def test_the_modified_flow_and_the_noise_know_the_batch(batch):
    """-h - eta/2 (h^2 + var / B) alone; beside the noise, of variance eta var / B, -h - eta/2 h^2; h = <a^2>."""
    eta, h, spread = 0.2, (SLOPES**2).mean(), (SLOPES**2).var()
    drift, none = line(eta, batch, entropic=True)
    assert drift == pytest.approx(-h - eta / 2 * (h**2 + spread / batch), rel=1e-13) and none == 0
    drift, variance = line(eta, batch, entropic=True, sampling_noise=True)
    assert drift == pytest.approx(-h - eta / 2 * h**2, rel=1e-13)
    assert variance == pytest.approx(eta * spread / batch, rel=1e-13, abs=1e-30)
    assert line(eta, batch, sampling_noise=True)[0] == pytest.approx(-h, rel=1e-13)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_modified_sde_has_the_moments_of_updates_to_second_order(batch):
    """E w^2 of updates falls by E (1 - eta <a^2>_B)^2 in a step; that of dw = b w dt + s w dW by exp((2 b + s^2) eta).
    The plain SDE is wrong to first order, and so would be the mean over batches beside Ito noise."""
    squares = SLOPES**2
    batches = squares if batch == 1 else (squares[:, None] + squares[None]).ravel() / 2
    errors = {entropic: [] for entropic in (False, True)}
    for eta in (0.04, 0.02, 0.01):
        exact = np.log(np.mean((1 - eta * batches) ** 2)) / eta
        for entropic, found in errors.items():
            b, variance = line(eta, batch, entropic=entropic, sampling_noise=True)
            found.append(abs(2 * b + variance - exact))
    ratios = {entropic: np.array(e[:-1]) / e[1:] for entropic, e in errors.items()}
    assert np.all(np.abs(ratios[False] - 2) < 0.1) and np.all(np.abs(ratios[True] - 4) < 0.3), ratios


def test_batches_that_cannot_be_are_refused():
    stream = Stream(normal(4, 3), None, jax.random.key(0))
    wires = to("W", "x", "y", Gaussian(1.0), TwoFactor(Activity())), to("X", "x", "y", Redrawn(Gaussian(1.0)))
    circuit = Circuit((given_input("x", 3), Layer("y", 2)), wires)
    for batch, sentence in ((0, "batch = 0"), (2, "of this rule, as .* drawn anew .*it must be 1")):
        with pytest.raises(PlasticodeError, match=sentence):
            Discrete(circuit, FAST, stream, CLOCK, batch=batch)


@pytest.mark.parametrize("frames, first, rows", [(1, None, [2, 3]), (1, 4, [0, 1]), (3, None, [1, 4])])
def test_a_batch_has_what_coupled_sides_show(frames, first, rows):
    """In presentation 4, by the delta rule: of sequences the same frame of several, and samples from the beginning of
    an order that begins later."""
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(6, 2)), rng.normal(size=(6, 1)), rng.normal(size=(1, 2))
    begun = None if first is None else jnp.int32(first)
    stream = Stream(x, y, jax.random.key(0), "sequential", frames, first=begun)
    circuit = SGD().wire(Network((2, 1), activation="linear", bias=False, gain=f64(1.0)))
    run = Discrete(circuit, FAST, stream, CLOCK, batch=2)
    end = jax.jit(lambda: run.advance(run.init({"W1": f64(w)}), jnp.int32(4), 1).weights["W1"])()
    np.testing.assert_allclose(end, w + 0.1 * (y[rows] - x[rows] @ w.T).T @ x[rows] / 2, rtol=1e-12)
