"""Curl descent: conserved charges, the norm clamp, and the closed-form dynamics of the two-weight model."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rules import Curl
from tests.problems import (
    NO_LOOK,
    Problem,
    clock,
    discrete,
    f64,
    flow,
    flow_drift,
    random_problem,
    random_weights,
    run,
    timescales,
)

FLIPS = f64([0.5, 0.4])  # of 4 inputs and of 5 hidden units
SIGNS = np.array([-1, -1, 1, 1]), np.array([-1, -1, 1, 1, 1])


def charges(weights):
    """Q_i = sum_j d1_j W1_ij^2 - d2_i w2_i^2 of every hidden unit i."""
    hidden, output = SIGNS
    return (np.asarray(weights["W1"]) ** 2 * hidden).sum(1) - output * np.asarray(weights["W2"])[0] ** 2


def change_over_flow(rule, problem, measure, steps, time=0.5):
    """The largest change of `measure(weights)` over a weight flow of `time` seconds in `steps` steps of Heun."""
    circuit = rule.wire(problem.network)
    weights = random_weights(circuit)
    end = run(flow(circuit, problem, timescales(), clock(time / steps)), weights, steps)
    return np.abs(measure(end) - measure(weights)).max()


@pytest.mark.parametrize(("activation", "order"), [("linear", 3), ("relu", 2)])
def test_charges_are_conserved_for_homogeneous_activations(activation, order):
    """Up to the error of Heun's method. In a quadratic invariant that is of third order, in the step where a relu unit
    switches of second."""
    problem = random_problem((4, 5, 1), seed=4, activation=activation, bias=False)
    coarse, fine, finest = (change_over_flow(Curl(flips=FLIPS), problem, charges, steps) for steps in (50, 800, 5000))
    assert coarse / fine > 16 ** (order - 0.5)
    assert finest < 1e-6


def test_signs_of_curl_on_top_of_curl_multiply():
    """Of 5 hidden units the first 2 are flipped, then the first 4: the first 2 learn with their own sign again."""
    network = random_problem((4, 5, 1), activation="linear").network
    circuit = Curl(Curl(flips=FLIPS), flips=f64([1.0, 0.8])).wire(network)
    laws: dict[str, Any] = {t.name: t.term for t in circuit.terms}
    signs = {name: term for name, term in laws.items() if term.pre is not None}
    signs = {name: term.pre.of.sign * term.pre.sign for name, term in signs.items()}
    assert signs.keys() == {"W1", "W2"}
    np.testing.assert_array_equal(signs["W1"], [1, 1, -1, -1])
    np.testing.assert_array_equal(signs["W2"], [1, 1, -1, -1, 1])


def test_charges_are_not_conserved_for_tanh():
    problem = random_problem((4, 5, 1), activation="tanh", bias=False)
    assert change_over_flow(Curl(flips=FLIPS), problem, charges, 5000) > 1e-2


def norms(weights):
    return np.array([np.linalg.norm(weights[name]) for name in ("W1", "W2")])


def test_the_clamp_keeps_the_norms_in_the_weight_flow():
    problem, rule = random_problem((4, 5, 2)), Curl(flips=FLIPS, clamp=True)
    circuit = rule.wire(problem.network)
    weights = random_weights(circuit)
    drift = flow_drift(circuit, weights, problem)
    assert max(abs(float(jnp.sum(drift[name] * weights[name]))) for name in ("W1", "W2")) < 1e-14
    assert jnp.linalg.norm(drift["W1"]) > 0.1
    coarse, fine, finest = (change_over_flow(rule, problem, norms, steps) for steps in (50, 100, 5000))
    assert coarse / fine > 3 and finest < 1e-6
    assert change_over_flow(Curl(flips=FLIPS), problem, norms, 100) > 0.1  # which is what the clamp prevents


def test_the_clamp_keeps_the_norms_in_discrete_updates():
    problem = random_problem((4, 5, 2))
    circuit = Curl(flips=FLIPS, clamp=True).wire(problem.network)
    weights = random_weights(circuit)
    end = run(discrete(circuit, problem, timescales(), clock(0.1)), weights, 50)
    np.testing.assert_allclose(norms(end), norms(weights), rtol=1e-14)
    assert jnp.linalg.norm(end["W1"] - weights["W1"]) > 0.1


# ------------------------------------------------------------------------------------------------- the two-weight model

GOAL = 1.0
TOY = Problem(random_problem((1, 1, 1), activation="linear", bias=False).network, f64([[1.0]]), f64([[GOAL]]))


def toy_flow(signs, dt=0.01):
    """The flow w1' = d1 (a - w1 w2) w2, w2' = d2 (a - w1 w2) w1 with signs (d1, d2)."""
    circuit = Curl(flips=f64([1.0 if sign < 0 else 0.0 for sign in signs])).wire(TOY.network)
    return flow(circuit, TOY, timescales(), clock(dt))


def toy_end(signs, start, time, steps):
    """(w1, w2) after `time` seconds."""
    weights = {"W1": f64([[start[0]]]), "W2": f64([[start[1]]])}
    end = run(toy_flow(signs, time / steps), weights, steps)
    return np.array([end["W1"].item(), end["W2"].item()])


@pytest.mark.parametrize(
    ("signs", "expected"),
    [((1, 1), [-GOAL, GOAL]), ((-1, -1), [-GOAL, GOAL]), ((1, -1), [-1j * GOAL, 1j * GOAL]), ((-1, 1), [-1j, 1j])],
)
def test_the_origin_is_a_saddle_and_with_one_flip_a_centre(signs, expected):
    system = toy_flow(signs).system({})

    def field(w):
        weights, *_ = system.drift(({"W1": w[:1, None], "W2": w[1:, None]}, {}, {}), None, NO_LOOK)
        return jnp.concatenate([weights["W1"][0], weights["W2"][0]])

    eigenvalues = np.linalg.eigvals(jax.jacfwd(field)(jnp.zeros(2)))
    np.testing.assert_allclose(np.sort_complex(eigenvalues), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("signs", "start", "branch"),
    [
        ((1, -1), (1.2, 1.0), (1, 1)),
        ((1, -1), (2.0, 0.1), (-1, -1)),
        ((-1, 1), (2.0, 0.1), (1, 1)),
    ],
)
def test_the_flipped_weight_becomes_the_larger_one(signs, start, branch):
    """w1 w2 = a on the circle of radius r has w^2 = (r^2 +- sqrt(r^4 - 4 a^2)) / 2; J = -(d1 w2^2 + d2 w1^2) < 0 is
    the stable one of them. `branch` are the signs of w1 and w2."""
    square = start[0] ** 2 + start[1] ** 2
    large, small = np.sqrt((square + np.array([1, -1]) * np.sqrt(square**2 - 4 * GOAL**2)) / 2)
    solution = (large, small) if signs[0] < 0 else (small, large)
    np.testing.assert_allclose(toy_end(signs, start, 30.0, 20_000), np.multiply(branch, solution), atol=1e-5)


@pytest.mark.parametrize("start", [(0.1, 0.05), (0.8, 0.6)])
def test_on_a_small_circle_the_weights_rotate_for_ever(start):
    """Where r^2 < 2a no solution is on the circle: the angle turns at the rate a - r^2 sin(2 angle) / 2, once every
    2 pi / sqrt(a^2 - r^4 / 4) seconds."""
    square = start[0] ** 2 + start[1] ** 2
    period = 2 * np.pi / np.sqrt(GOAL**2 - square**2 / 4)
    np.testing.assert_allclose(toy_end((1, -1), start, 3 * period, 60_000), start, atol=1e-5)
    half_way = toy_end((1, -1), start, 2.5 * period, 60_000)
    np.testing.assert_allclose(half_way, np.negative(start), atol=1e-5)  # the field is odd


def test_gradient_descent_keeps_the_difference_of_the_squares():
    """The invariant of the two-weight model without flips, w1^2 - w2^2; it ends at w1 w2 = a."""
    w1, w2 = toy_end((1, 1), (1.2, 0.3), 30.0, 20_000)
    np.testing.assert_allclose([w1**2 - w2**2, w1 * w2], [1.2**2 - 0.3**2, GOAL], atol=1e-5)
