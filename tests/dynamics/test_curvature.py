"""Curvature of losses and of learning: quadratic losses and linear fields whose eigenvalues are known."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from dynamics.coupled import Coupled
from dynamics.curvature import averaged_field, jacobian_parts, lyapunov_exponent, sharpness
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.instruments import loss
from dynamics.integrators import FixedStep
from dynamics.jacobian import antisymmetric_part, jacobian, symmetric_part
from dynamics.norms import norm
from dynamics.overlap import overlap_of_one
from dynamics.representations import activities, effective_ranks
from dynamics.theory import overlap_law
from rules import FA, SGD
from tests.problems import TINY, clock, f64, random_problem, random_weights, stream, timescales

LINEAR = random_problem((3, 2), activation="linear", bias=True)
EXTENDED = np.column_stack([np.asarray(LINEAR.inputs), np.ones(len(LINEAR.inputs))])
MOMENTS = np.linalg.eigvalsh(EXTENDED.T @ EXTENDED / len(EXTENDED))  # of the Hessian of |y - W x - b|^2 / 2, twice each


def discrete(rule, problem, gap=0.0, **times) -> tuple[Discrete, Any]:
    circuit = rule.wire(problem.network)
    run = Discrete(circuit, timescales(plasticity=2.0, **times), stream(problem), clock(0.1, gap))
    return run, random_weights(circuit)


def test_the_sharpness_of_a_quadratic_loss():
    run, weights = discrete(SGD(), LINEAR)
    measured = jax.jit(lambda w: sharpness(run.circuit, w, LINEAR.inputs, LINEAR.targets))(weights)
    assert abs(measured - MOMENTS.max()) < 1e-5 * MOMENTS.max()


def test_the_sharpness_of_a_network_is_the_top_of_its_whole_hessian():
    """Which has negative eigenvalues too."""
    run, weights = discrete(FA(f64(1.0)), TINY)
    own = {name: w for name, w in weights.items() if name != "V2"}
    vector, restore = ravel_pytree(own)

    @jax.jit
    def both(weights):
        def of(vector):
            return loss(run.circuit, weights | restore(vector), TINY.inputs, TINY.targets)

        return jax.hessian(of)(vector), sharpness(run.circuit, weights, TINY.inputs, TINY.targets)

    hessian, measured = both(weights)
    values = np.linalg.eigvalsh(hessian)
    assert values.min() < -1e-3 and abs(measured - values.max()) < 1e-4 * values.max()


@pytest.mark.parametrize("n", [6, 90])
def test_the_parts_of_a_known_jacobian(n):
    """To rounding where there are few numbers, else as well as so many random directions know them."""
    matrix = f64(np.random.default_rng(1).normal(size=(n, n)) + 3 * np.eye(n))
    symmetric, antisymmetric = jacobian_parts(lambda y: matrix @ y, jnp.zeros(n))
    close = 1e-12 if n == 6 else 0.1
    assert abs(symmetric / norm(symmetric_part(matrix)) - 1) < close
    assert abs(antisymmetric / norm(antisymmetric_part(matrix)) - 1) < close


def test_the_averaged_learning_of_a_run():
    """J = -T/(T + g) H / tau_plast - 1 / tau_dec of gradient descent on a quadratic loss; else J itself."""
    run, weights = discrete(SGD(), LINEAR, gap=0.1, decay=8.0)
    field = averaged_field(run, weights, {}, LINEAR.inputs, LINEAR.targets)
    symmetric, antisymmetric = jax.jit(lambda: jacobian_parts(*field))()
    decay = np.diag([1 / 8.0] * 3 + [0.0])  # of the weights, not of the bias
    expected = np.sqrt(2) * np.linalg.norm(0.5 * EXTENDED.T @ EXTENDED / len(EXTENDED) / 2.0 + decay)
    assert abs(symmetric - expected) < 1e-12 * expected and antisymmetric < 1e-12
    run, weights = discrete(FA(f64(1.0)), TINY)
    field = averaged_field(run, weights, {}, TINY.inputs, TINY.targets)
    whole, parts = jax.jit(lambda: (jacobian(*field), jacobian_parts(*field)))()
    assert abs(parts[0] - norm(symmetric_part(whole))) < 1e-12
    assert abs(parts[1] - norm(antisymmetric_part(whole))) < 1e-12 and parts[1] > 0.01


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [([[-1.0, 0.0], [0.0, -3.0]], -1.0), ([[0.1, 2.0], [-2.0, 0.1]], 0.1), ([[0.5, 9.0], [0.0, -2.0]], 0.5)],
    ids=["sink", "spiral", "saddle"],
)
@pytest.mark.parametrize("period", [0.05, 100.0])
def test_the_lyapunov_exponent_of_a_linear_field(matrix, expected, period):
    """The largest real part, whether the period or the field itself bounds the steps."""
    measured = lyapunov_exponent(lambda y: f64(matrix) @ y, f64([0.3, -0.2]), f64(period))
    assert abs(measured - expected) < (0.02 if period == 0.05 else 1e-3)


def test_a_still_field_stretches_nothing():
    assert abs(lyapunov_exponent(jnp.zeros_like, f64([1.0, 2.0]), f64(1.0))) < 1e-12


def overlapping(late, tau, plasticity=1e6) -> Coupled:
    """One linear synapse without a gap, whose error is late."""
    problem = random_problem((1, 1), activation="linear", bias=False)
    circuit = SGD().wire(problem.network)
    times, lags = timescales(propagation=tau, plasticity=plasticity), Delays(error=f64(late))
    return Coupled(circuit, times, stream(problem), clock(1.0, 0.0, 400), lags, integrator=FixedStep("heun"))


@pytest.mark.parametrize("late", [0.3, 0.9, 1.3])
def test_the_temporal_overlap_of_a_late_error(late):
    """Of a box and one that a filter has passed: (T - d - tau (1 - exp(-(T-d)/tau))) / sqrt(T (T - tau)); near 1 - d/T.

    Although samples follow at once, nothing of others coincides.
    """
    tau, left = 0.02, max(1 - late, 0)
    run = overlapping(late, tau)
    measured = jax.jit(lambda w: overlap_of_one(run, w))({"W1": f64([[0.0]])})["W1"]
    expected = (left - tau * (1 - np.exp(-left / tau))) / np.sqrt(1 - tau)
    assert abs(measured - expected) < 2e-3 and abs(measured - overlap_law(late, 1.0)) < 0.03


def test_probes_are_finite_for_no_tiny_and_huge_weights_in_float32():
    def single(tree):
        return jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, tree)

    problem = random_problem((3, 4, 2), activation="tanh", bias=True)
    run, weights = discrete(FA(f64(1.0)), problem)
    run, weights, x, y = single((run, weights, problem.inputs, problem.targets))
    run = dataclasses.replace(run, circuit=single(run.circuit))

    @jax.jit
    def measured(size):
        w = {name: size * one for name, one in weights.items()}
        field = averaged_field(run, w, {}, x, y)
        ranks, curved = effective_ranks(run.circuit, w), sharpness(run.circuit, w, x, y)
        exponent = lyapunov_exponent(*field, run.clock.period)
        return ranks, curved, jacobian_parts(*field), exponent, activities(run.circuit, w, {}, x)

    for size in (0.0, 1e-38, 1e-20, 1e9, 1e18):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(measured(jnp.float32(size)))), size
