"""Coupled replicas: modes of the graph in closed form, copies that share only the input, windows against steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.instruments import output_layer, predict
from dynamics.network import Network
from dynamics.stimulus import Clock
from rules import FA, KP, SGD, Curl, Exponentiated, Momentum, Oja, Replicas
from rules.replicas import couplings
from tests.dynamics.pieces import advanced, apart, both
from tests.problems import distance, f64, flow_drift, random_problem, random_weights, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep

X, ZERO = f64([[1.0, 0.0], [0.0, 2.0]]), f64([[0.0], [0.0]])
RATES = np.array([0.5, 2.0])  # <x x^T> of X
GRAPHS = {"complete": lambda n, k: 1.0, "ring": lambda n, k: 2 - 2 * np.cos(2 * np.pi * k / n), "star": None}


@pytest.mark.parametrize("copies", [3, 4, 7])
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_laplacian_has_the_eigenvalues_of_the_docstring(graph, copies):
    links = couplings(graph, copies)
    found = np.linalg.eigvalsh(np.diag(links.sum(1)) - links)
    law = GRAPHS[graph]
    others = [1.0] * (copies - 2) + [copies] if law is None else [law(copies, k) for k in range(1, copies)]
    np.testing.assert_allclose(found, np.sort([0.0, *others]), atol=1e-12)


@pytest.mark.parametrize(("graph", "copies"), [("star", 3), ("ring", 4)])
def test_disagreements_die_faster_than_the_mean_learns(graph, copies):
    """W_i' = -R W_i + kappa sum_j A_ij (W_j - W_i): mode k decays with R + kappa mu_k."""
    kappa = 1.5
    rule = Replicas(SGD(), coupling=f64(kappa), copies=copies, graph=graph)
    circuit = rule.wire(Network((2, 1), bias=False, gain=f64(1.0)))
    weights = circuit.initial_weights(jax.random.key(0))
    flow = WeightFlow(circuit, timescales(plasticity=1.0), X, ZERO, Clock(f64(0.1), f64(0.0), 20), FixedStep("dopri5"))
    end = advanced(flow, weights, jnp.int32(10)).weights
    links = couplings(graph, copies)
    mu, modes = np.linalg.eigh(np.diag(links.sum(1)) - links)
    names = ["W1", *(f"W1~{i}" for i in range(1, copies))]
    before, after = (modes.T @ np.stack([np.asarray(w[name][0]) for name in names]) for w in (weights, end))
    np.testing.assert_allclose(after, before * np.exp(-RATES[None] - kappa * mu[:, None]), atol=1e-9)


@pytest.mark.parametrize("credit", [FA(), KP(), Oja(), Momentum(SGD(), inertia=f64(0.1))])
def test_uncoupled_copies_are_networks_alone(credit):
    problem = random_problem((3, 4, 2), supervised=not isinstance(credit, Oja))
    one, two = credit.wire(problem.network), Replicas(credit, coupling=f64(0.0), copies=2).wire(problem.network)
    weights = random_weights(two)
    drift = flow_drift(two, weights, problem)
    for prime in ("", "~1"):
        own = {p.name: weights[p.name + prime] for p in one.projections if p.name in weights}
        alone = flow_drift(one, own, problem)
        assert distance({name: drift[name + prime] for name in alone}, alone) < 1e-14
    assert output_layer(two) == "z2" and distance({"W1": weights["W1"]}, {"W1": weights["W1~1"]}) > 0.1
    own = {name: w for name, w in weights.items() if "~" not in name}
    np.testing.assert_array_equal(predict(two, weights, problem.inputs), predict(one, own, problem.inputs))


def test_windows_follow():
    problem = random_problem((3, 4, 2), bias=True)
    circuit = Replicas(FA(), coupling=f64(1.5), copies=2).wire(problem.network)
    weights = random_weights(circuit)
    window, steps = both(circuit, timescales(0.02, 0.4, decay=3.0), *problem[1:], weights)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"graph": "lattice"}, "rule.graph 'lattice' is not known: it must be one of complete, ring, star"),
        ({"copies": 1}, "rule.copies = 1 is not allowed: rule.graph = 'complete' needs at least 2"),
        ({"copies": 2, "graph": "ring"}, "rule.copies = 2 is not allowed: rule.graph = 'ring' needs at least 3"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(settings, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        Replicas(**settings).wire(Network((3, 2), gain=f64(1.0)))


@pytest.mark.parametrize("start", [(2.0, 0.5), (0.6, -0.6)])
def test_under_exponentiated_gradient_copies_meet_at_their_geometric_mean_or_at_zero(start):
    """Nothing is shown. w_i' = |w_i| kappa/2 (w_j - w_i): of equal signs a b stays, and with a = g e^s, b = g e^-s,
    s' = -kappa g sinh s; of opposite ones w' = -kappa w^2."""
    kappa, time = 1.5, 2.0
    rule = Exponentiated(Replicas(SGD(), coupling=f64(kappa), copies=2))
    circuit, dark = rule.wire(Network((1, 1), bias=False, gain=f64(1.0))), f64([[0.0]])
    weights = {"W1": f64([[start[0]]]), "W1~1": f64([[start[1]]])}
    flow = WeightFlow(
        circuit, timescales(plasticity=1.0), dark, dark, Clock(f64(0.1), f64(0.0), 20), FixedStep("dopri5")
    )
    end = advanced(flow, weights, jnp.int32(round(time / 0.1))).weights
    found = [float(end[name][0, 0]) for name in weights]
    if start[1] < 0:
        expected = np.array([1.0, -1.0]) * start[0] / (1 + kappa * start[0] * time)
    else:
        g, s = np.sqrt(start[0] * start[1]), np.log(start[0] / start[1]) / 2
        s = 2 * np.arctanh(np.tanh(s / 2) * np.exp(-kappa * g * time))
        expected = g * np.exp([s, -s])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("credit", [Exponentiated(), Curl(clamp=True), Exponentiated(KP(), dale=True)])
def test_a_rule_that_keeps_signs_or_norms_goes_on_top(credit):
    """Inside, the pulls would be multiplied or projected with the law, against the equation of replicas."""
    with pytest.raises(
        PlasticodeError, match="rule.credit keeps the signs or the norm of 'W1', .* the other way round"
    ):
        Replicas(credit).wire(Network((3, 2), gain=f64(1.0)))
    dataclasses.replace(credit, credit=Replicas(credit.credit)).wire(Network((3, 2), gain=f64(1.0)))
