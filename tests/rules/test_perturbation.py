"""Perturbation rules: updates by hand, the gradient on average, rewards that come late; mirrors and their scale."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_hermitenorm

from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.instruments import loss, predict
from dynamics.settle import Outside
from dynamics.stimulus import Clock, Stream
from experiments.predictions.perturbation.setting import with_late_reward
from rules import NodePerturbation, WeightMirror, WeightPerturbation
from tests import oracles
from tests.dynamics.pieces import advanced, apart, both, cosine, coupled
from tests.problems import PROBLEMS, TINY, f64, random_problem, random_weights, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

DEEP = random_problem((2, 1, 1, 2), activation="tanh", loss="softmax", bias=True, skips=((0, 2), (1, 3)), samples=3)
SHALLOW = random_problem((2, 2), bias=False, samples=3)


def updated(circuit, problem, weights, drawn, eta=1.0, sample=0):
    """The weights after one update."""
    stream = Stream(problem.inputs, problem.targets, jax.random.key(0))
    run = Discrete(circuit, timescales(plasticity=1 / eta), stream, Clock(f64(1.0), f64(0.0), 1))
    outside = Outside(problem.inputs[sample], problem.targets[sample], drawn)
    return run.weights(run.update(run.init(weights), outside))


def hand_loss(w, x, y, network, noise):
    """The activities, and the loss, of a network with noise at its neurons, in numpy."""
    z = [np.asarray(x)]
    for level in range(1, network.depth + 1):
        a = w[f"W{level}"] @ z[-1] + noise[level - 1] + (w[f"b{level}"][:, 0] if network.bias else 0)
        for s, t in network.skips:
            a = a + (w[f"S{s}_{t}"] @ z[s] if t == level else 0)
        z.append(np.tanh(a) if level < network.depth else a)
    if network.loss == "softmax":
        return z, -np.sum(y * (z[-1] - np.log(np.sum(np.exp(z[-1])))))
    return z, np.sum((y - z[-1]) ** 2) / 2


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("problem", [DEEP, TINY], ids=["softmax", "squared"])
def test_a_node_perturbation_by_hand(problem, symmetric):
    """W += eta r xi z^T with z of the perturbed network, r from two forward passes."""
    size, eta, network = 0.3, 0.2, problem.network
    circuit = NodePerturbation(f64(size), symmetric).wire(network)
    weights = random_weights(circuit)
    drawn = circuit.draws(jax.random.key(1), jnp.int32(4))
    xi = [np.asarray(drawn[f"xi{i}"]) for i in range(1, network.depth + 1)]
    w, x, y = jax.tree.map(np.asarray, (weights, problem.inputs[0], problem.targets[0]))
    z, here = hand_loss(w, x, y, network, [size * one for one in xi])
    there = hand_loss(w, x, y, network, [(-size if symmetric else 0) * one for one in xi])[1]
    r = (there - here) / (2 * size if symmetric else size)
    end = updated(circuit, problem, weights, drawn, eta)
    for name, change in ((p.name, end[p.name] - weights[p.name]) for p in circuit.plastic):
        level = int(name.rsplit("_")[-1].lstrip("Wb"))
        before = [1.0] if name[0] == "b" else z[int(name[1]) if name[0] == "S" else level - 1]
        np.testing.assert_allclose(change, eta * r * np.outer(xi[level - 1], before), rtol=0, atol=1e-13)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_weight_perturbation_by_hand(symmetric):
    """W += eta r Xi, biases and skips too, r from two networks with other weights."""
    size, eta, network = 0.3, 0.2, DEEP.network
    circuit = WeightPerturbation(f64(size), symmetric).wire(network)
    weights = random_weights(circuit)
    drawn = circuit.draws(jax.random.key(1), jnp.int32(4))
    w, x, y = jax.tree.map(np.asarray, (weights, DEEP.inputs[0], DEEP.targets[0]))
    own = [p.name for p in circuit.plastic]
    noise = {name: np.asarray(drawn[f"X{name}"]) for name in own}
    silent = [0.0] * network.depth
    here, there = (
        hand_loss({name: w[name] + sign * noise[name] for name in own}, x, y, network, silent)[1]
        for sign in (1, -1 if symmetric else 0)
    )
    r = (there - here) / (2 * size if symmetric else size)
    end = updated(circuit, DEEP, weights, drawn, eta)
    for name in own:
        np.testing.assert_allclose(end[name] - w[name], eta * r * noise[name] / size, rtol=0, atol=1e-13)
    entries = jax.vmap(lambda k: circuit.draws(jax.random.key(1), k)["XW1"])(jnp.arange(2000, dtype=jnp.int32))
    assert abs(float(entries.std()) / size - 1) < 4 / (2 * entries.size) ** 0.5


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_mean_node_perturbation_is_the_gradient_up_to_the_square_of_its_size(symmetric):
    """Over noise by Gauss-Hermite quadrature, in a deep network with skips, biases and a softmax."""
    circuit = NodePerturbation(f64(0.1), symmetric).wire(DEEP.network)
    weights, names = random_weights(circuit), [p.name for p in circuit.plastic]
    points, shares = roots_hermitenorm(5)
    grid = f64(list(itertools.product(points, repeat=4)))
    share = f64(np.prod(list(itertools.product(shares / shares.sum(), repeat=4)), axis=1))
    gradient = jax.grad(lambda w: oracles.loss(DEEP.network, w, DEEP.inputs[:1], DEEP.targets[:1]))(
        {name: weights[name] for name in names}
    )

    @jax.jit
    def mean(size):
        rule = NodePerturbation(size, symmetric).wire(DEEP.network)
        start = random_weights(rule)  # the size is the gain of a map

        def change(xi):
            drawn = {"xi1": xi[:1], "xi2": xi[1:2], "xi3": xi[2:]}
            end = updated(rule, DEEP, start, drawn)
            return {name: end[name] - weights[name] for name in names}

        return jax.tree.map(lambda steps: jnp.tensordot(share, steps, 1), jax.vmap(change)(grid))

    errors = []
    for size in (0.02, 0.01):
        found = mean(f64(size))
        errors.append(max(float(jnp.abs(found[name] + gradient[name]).max()) for name in names))
    assert errors[1] < 1e-3 and 3.8 < errors[0] / errors[1] < 4.2


@pytest.mark.parametrize("rule", [NodePerturbation(), WeightPerturbation(), WeightMirror()])
def test_windows_agree_with_steps(rule):
    circuit = rule.wire(TINY.network)
    weights = random_weights(circuit)
    ends = both(circuit, timescales(0.01, 2.0), TINY.inputs, TINY.targets, weights, steps=300, gap=0.02)
    names = [p.name for p in circuit.plastic]
    window, steps = ({name: end.state.weights[name] for name in names} for end in ends)
    assert apart(window, steps, weights) < 1e-4


def test_a_reward_that_is_later_than_the_noise_teaches_nothing_without_a_trace():
    """One presentation: the reward of its end comes in silence, unless a trace of the product waits for it."""
    circuit = with_late_reward(NodePerturbation().wire(SHALLOW.network), f64(0.15))
    weights, change = random_weights(circuit), {}
    for trace in (None, 0.1):
        run = coupled(
            circuit, timescales(0.002, 10.0, trace=trace), SHALLOW.inputs, SHALLOW.targets,
            Clock(f64(0.1), f64(0.3), 800), FixedStep("heun"),
        )  # fmt: skip
        change[trace] = float(jnp.abs(advanced(run, weights, jnp.int32(1)).state.weights["W1"] - weights["W1"]).max())
    assert change[None] < 1e-6 * change[0.1]


def test_in_a_gap_nothing_is_compared():
    """A bias alone learns its target, 1, and not the mean of that and of 0 in gaps three times as long."""
    circuit = WeightPerturbation().wire(random_problem((1, 1), bias=True).network)
    weights = {name: 0 * w if name in ("W1", "b1") else w for name, w in random_weights(circuit).items()}
    inputs, targets = f64([[0.0]]), f64([[1.0]])
    run = coupled(circuit, timescales(0.001, 0.4), inputs, targets, Clock(f64(0.05), f64(0.15), 1), Window())
    assert abs(float(advanced(run, weights, jnp.int32(75)).state.weights["b1"][0, 0]) - 1) < 0.01


@pytest.mark.parametrize("rule", [NodePerturbation(), WeightPerturbation()])
def test_the_prediction_has_no_noise(rule):
    problem = PROBLEMS["depth-3-tanh"]
    circuit = rule.wire(problem.network)
    weights = random_weights(circuit)
    expected = oracles.forward(problem.network, weights, problem.inputs)
    np.testing.assert_allclose(predict(circuit, weights, problem.inputs), expected, rtol=0, atol=1e-14)
    quiet = loss(circuit, weights, problem.inputs, problem.targets)
    np.testing.assert_allclose(quiet, oracles.loss(problem.network, weights, problem.inputs, problem.targets))


@pytest.mark.parametrize("rule", [NodePerturbation(), WeightPerturbation(), WeightMirror()])
def test_there_is_no_flow_of_what_is_drawn(rule):
    with pytest.raises(PlasticodeError, match="drawn anew"):
        WeightFlow(rule.wire(TINY.network), timescales(), TINY.inputs, TINY.targets, Clock(f64(1.0), f64(0.0), 1))


def test_a_weight_mirror_by_hand():
    """One update: V from noise alone, W from errors that V carries."""
    rule, eta, network = WeightMirror(f64(1.5), f64(0.4), f64(1.0)), 0.2, DEEP.network
    circuit = rule.wire(network)
    weights = random_weights(circuit)
    drawn = circuit.draws(jax.random.key(1), jnp.int32(4))
    w, x, y = jax.tree.map(np.asarray, (weights, DEEP.inputs[0], DEEP.targets[0]))
    x1, x2 = (np.asarray(drawn[name]) for name in ("x1", "x2"))
    m2, m3 = np.tanh(w["W2"] @ x1), w["W3"] @ x2 + w["S1_3"] @ x1
    end = updated(circuit, DEEP, weights, drawn, eta)
    for name, post, pre in (("V2", x1, m2), ("V3", x2, m3), ("V1_3", x1, m3)):
        np.testing.assert_allclose(end[name] - w[name], eta * (np.outer(post, pre) - 0.4 * w[name]), atol=1e-14)
    z, _ = hand_loss(w, x, y, network, [0.0] * 3)
    e3 = y - np.exp(z[3]) / np.exp(z[3]).sum()
    e2 = (1 - z[2] ** 2) * (w["V3"] @ e3)
    e1 = (1 - z[1] ** 2) * (w["V2"] @ e2 + w["V1_3"] @ e3)
    for name, post, pre in (("W3", e3, z[2]), ("W2", e2, z[1]), ("W1", e1, x), ("S0_2", e2, x), ("b1", e1, [1.0])):
        np.testing.assert_allclose(end[name] - w[name], eta * np.outer(post, pre), rtol=0, atol=1e-14)


def test_mirrors_in_a_deep_network_find_the_transposes_while_it_learns():
    problem = random_problem((3, 6, 5, 2), activation="tanh", bias=True, samples=4)
    circuit = WeightMirror().wire(problem.network)
    weights = random_weights(circuit)
    stream = Stream(problem.inputs, problem.targets, jax.random.key(3))
    run = Discrete(circuit, timescales(plasticity=200.0), stream, Clock(f64(1.0), f64(0.0), 1))
    end = advanced(run, weights, jnp.int32(3000)).weights
    for v, w in (("V2", "W2"), ("V3", "W3")):
        assert cosine({v: weights[v]}, {v: weights[w].T}) < 0.7 and cosine({v: end[v]}, {v: end[w].T}) > 0.97
    before, after = (loss(circuit, one, problem.inputs, problem.targets) for one in (weights, {**weights, **end}))
    assert after < before / 10
