"""How accurate the window integrator is: orders, sweeps, single precision."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rules import FA
from tests.dynamics.windows import DURATION, GAP, SMALL, moved_apart, stepped, windowed
from tests.problems import ENGINE_RULES, random_weights, run, timescales
from tests.unjudged import PlainSteps

CIRCUIT = FA().wire(SMALL.network)
WEIGHTS = random_weights(CIRCUIT)
TIMES = timescales(propagation=0.02, plasticity=0.5, decay=3.0)


@functools.cache
def after(presentations=3, **options):
    """The weights after some presentations by windows; without settings, of a run that no one can tell from exact."""
    return run(windowed(CIRCUIT, times=TIMES, **({"nodes": 16, "tolerance": 1e-13} | options)), WEIGHTS, presentations)


def error(**options):
    return moved_apart(WEIGHTS, after(**options), after())


# Convergence


@pytest.mark.parametrize(("nodes", "parts"), [(1, 64), (3, 8)])
def test_the_order_is_that_of_the_nodes_in_the_length_of_the_windows(nodes, parts):
    errors = [error(nodes=nodes, parts=n, tolerance=1e-12) for n in (parts, 2 * parts)]
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), nodes, atol=0.15)


def test_more_nodes_converge_exponentially():
    errors = [error(nodes=nodes, tolerance=1e-12) for nodes in (3, 5, 7)]
    assert errors[1] < errors[0] / 10 and errors[2] < errors[1] / 10 and errors[2] < 1e-4


def test_runge_kutta_steps_converge_to_windows_with_their_own_order():
    runs = [stepped(CIRCUIT, times=TIMES, steps=n) for n in (200, 400)]
    runs = [dataclasses.replace(r, integrator=PlainSteps("heun")) for r in runs]
    errors = [moved_apart(WEIGHTS, run(heun, WEIGHTS, 3), after()) for heun in runs]
    assert errors[1] < 1e-4
    np.testing.assert_allclose(errors[0] / errors[1], 4, rtol=0.05)


@pytest.fixture(scope="module")
def errors_of_sweeps():
    """Relative errors after 1 .. 4 sweeps, for two plasticity timescales, and their strengths T |x|^2 / tau_plast."""
    plasticity, sweeps = np.array([0.4, 0.8]), range(1, 5)

    def end(tau, **settings):
        return run(windowed(CIRCUIT, times=timescales(0.02, tau, decay=3.0), **settings), WEIGHTS, 3)

    errors = []
    for tau in plasticity:
        exact = end(tau, tolerance=1e-13)
        errors.append([moved_apart(WEIGHTS, end(tau, sweeps=k), exact) for k in sweeps])
    return np.array(errors), DURATION * float(jnp.mean(jnp.sum(SMALL.inputs**2, axis=1))) / plasticity


def test_errors_fall_geometrically_with_sweeps(errors_of_sweeps):
    """Faster than by the bound T |x|^2 / tau_plast: a sweep's error acts only after propagation."""
    errors, strength = errors_of_sweeps
    assert (errors[:, 1:] < 0.1 * strength[:, None] * errors[:, :-1]).all()
    assert (errors[:, 0] > 0.05).all()  # there is something to correct


def test_the_error_of_k_sweeps_falls_like_the_kth_power_of_the_strength(errors_of_sweeps):
    errors, _ = errors_of_sweeps
    assert (np.log2(errors[0] / errors[1]) > np.arange(1, 5)).all()
    assert (np.log2(errors[0] / errors[1]) < 1.5 * np.arange(1, 5)).all()


# Single precision


@pytest.mark.parametrize("rule", ["kp", "oja", "curl-clamp"])
def test_single_precision_is_within_1e_4_of_double(rule):
    circuit = ENGINE_RULES[rule].wire(SMALL.network)
    weights = random_weights(circuit)
    double = windowed(circuit, times=TIMES, gap=GAP)
    single, start = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, (double, weights))
    ends = [run(double, weights, 10), run(single, start, 10)]
    assert {leaf.dtype for leaf in ends[1].values()} == {jnp.dtype("float32")}
    apart = moved_apart(weights, {name: w.astype(jnp.float64) for name, w in ends[1].items()}, ends[0])
    assert 0 < apart < 1e-4
