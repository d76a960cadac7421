"""Oracles of the error-driven rules: the autodiff gradient, and the limits in which they become one another."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rules import DFA, FA, KP, SGD, Curl, Heterosynaptic
from rules.template import Template
from tests import oracles
from tests.problems import PROBLEMS, distance, flow_drift, random_problem, random_weights, timescales

each_problem = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
each_credit = pytest.mark.parametrize("credit", [SGD(), FA(), KP()], ids=["sgd", "fa", "kp"])
feedback_rules = {"fa": FA(), "kp": KP(), "heterosynaptic": Heterosynaptic(wiring="identity")}
deep = {name: problem for name, problem in PROBLEMS.items() if problem.network.depth > 1}
each_deep_problem = pytest.mark.parametrize("problem", deep.values(), ids=deep)


def downhill(problem, weights):
    """-dLoss/dW by autodiff of a forward pass that shares no code with the engine."""
    gradient = jax.jit(jax.grad(lambda w: oracles.loss(problem.network, w, problem.inputs, problem.targets)))(weights)
    return jax.tree.map(jnp.negative, gradient)


def forward_drift(rule, problem, weights, times=None):
    """The weight-flow drift of the forward matrices; `weights` gives every matrix that the circuit of the rule has."""
    circuit = rule.wire(problem.network)
    own = {p.name: weights[p.name] for p in circuit.projections if p.owner == p.name}
    return {name: d for name, d in flow_drift(circuit, own, problem, times).items() if name[0] in "WSb"}


def with_transposed_feedback(problem, weights):
    """V = W^T for every matrix that an error goes back over, and the identity as heterosynaptic wiring M."""
    sizes = problem.network.sizes
    feedback = {f"V{name[1:]}": w.T for name, w in weights.items() if name[0] in "WS"}
    wiring = {f"M{level}": jnp.eye(sizes[level]) for level in range(2, len(sizes))}
    return weights | feedback | wiring


@each_problem
def test_the_sgd_flow_is_the_gradient_flow(problem):
    weights = random_weights(SGD().wire(problem.network))
    assert distance(forward_drift(SGD(), problem, weights), downhill(problem, weights)) < 1e-12


def test_tau_plast_divides_the_gradient_and_tau_dec_adds_decay_except_to_biases():
    problem = PROBLEMS["depth-4-softplus"]
    weights = random_weights(SGD().wire(problem.network))
    drift = forward_drift(SGD(), problem, weights, timescales(plasticity=2.0, decay=5.0))
    downwards = downhill(problem, weights)
    expected = {n: downwards[n] / 2 - (0 if n.startswith("b") else w / 5) for n, w in weights.items()}
    assert distance(drift, expected) < 1e-12


def test_time_constants_per_layer_belong_to_the_layer_that_a_matrix_ends_at():
    problem = PROBLEMS["depth-3-tanh"]
    weights = random_weights(SGD().wire(problem.network))
    drift = forward_drift(SGD(), problem, weights, timescales(plasticity=[1.0, 2.0, 4.0], decay=float("inf")))
    tau = {"W1": 1, "W2": 2, "W3": 4, "S0_2": 2, "S1_3": 4}
    assert distance(drift, {n: d / tau[n] for n, d in downhill(problem, weights).items()}) < 1e-12


@each_deep_problem
@pytest.mark.parametrize("rule", feedback_rules.values(), ids=feedback_rules)
def test_a_feedback_rule_with_transposed_weights_is_sgd(rule, problem):
    weights = random_weights(SGD().wire(problem.network))
    drift = forward_drift(rule, problem, with_transposed_feedback(problem, weights))
    assert distance(drift, downhill(problem, weights)) < 1e-12


def test_dfa_with_the_transposed_output_weights_is_sgd_at_depth_two():
    problem = PROBLEMS["depth-2-relu"]
    weights = random_weights(SGD().wire(problem.network))
    drift = forward_drift(DFA(), problem, weights | {"B1": weights["W2"].T})
    assert distance(drift, downhill(problem, weights)) < 1e-12


@each_credit
def test_curl_without_flips_is_its_credit_rule_and_with_all_flipped_its_opposite(credit):
    none: Any = 0.0
    every: Any = 1.0
    problem = PROBLEMS["depth-3-tanh"]
    weights = random_weights(credit.wire(problem.network))
    drift = forward_drift(credit, problem, weights)
    assert distance(forward_drift(Curl(credit, flips=none), problem, weights), drift) == 0
    opposite = jax.tree.map(jnp.negative, drift)
    assert distance(forward_drift(Curl(credit, flips=every), problem, weights), opposite) == 0


def test_dfa_sends_the_output_error_to_every_layer():
    """Depth 3: in the first layer the error is f' * B_1 e_L, by hand."""
    problem = PROBLEMS["depth-3-linear"]
    circuit = DFA().wire(problem.network)
    weights = random_weights(circuit)
    outputs = oracles.forward(problem.network, weights, problem.inputs)
    error = (problem.targets - jax.nn.softmax(outputs)) @ weights["B1"].T
    expected = error.T @ problem.inputs / len(problem.inputs)
    assert distance({"W1": flow_drift(circuit, weights, problem)["W1"]}, {"W1": expected}) < 1e-12


@pytest.mark.parametrize("rule", [FA, DFA, KP, Template, Heterosynaptic])
def test_feedback_starts_with_the_scale_asked_for(rule):
    """V (n_l, sources) ~ N(0, feedback_scale^2 / n_l); the standard error of its standard deviation is 5 % or less."""
    problem = random_problem((2, 50, 100, 4))
    weights = rule(feedback_scale=3.0).wire(problem.network).initial_weights(jax.random.key(0))
    v = weights["B1" if rule is DFA else "V2"]
    assert v.shape == (50, 4 if rule is DFA else 100)
    np.testing.assert_allclose(jnp.std(v), 3 / np.sqrt(50), rtol=0.2)
