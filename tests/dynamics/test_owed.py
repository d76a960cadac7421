"""Changes that large matrices wait for: the same numbers as where none waits, and which may wait."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.integrators import owed
from dynamics.integrators.owed import NOTHING, Owed
from dynamics.noise import Noise
from rules import FA, KP, SGD, Exponentiated, Oja
from tests.dynamics.windows import windowed
from tests.problems import f64, random_problem, timescales, wired

PROBLEM = random_problem((24, 20, 16, 3), activation="tanh", bias=True, samples=5)
TIMES = timescales(propagation=0.02, plasticity=2.0)
TRACED = timescales(propagation=0.02, plasticity=2.0, trace=0.05)
PIECES = (1, 2, 5, 61)  # presentations: pieces end between two that matrices wait for, and sums settle after the 64th


@pytest.fixture
def small_ones_wait(monkeypatch):
    monkeypatch.setattr(owed, "LARGE", 300)
    monkeypatch.setattr(owed, "PART", 1)


def run_of(rule, times=TIMES, gap=0.0, lags=None, judged=False, **settings):
    """A run by coarse windows: those with and without waiting have the same."""
    circuit = wired(rule, PROBLEM.network)
    return windowed(circuit, PROBLEM, times, gap, lags, judged=judged, **({"nodes": 3} | settings))


def start(run):
    drawn = run.circuit.initial_weights(jax.random.key(0))
    return {name: jnp.asarray(w, jnp.float64) for name, w in drawn.items()}


def opened(run) -> Owed:
    """What is owed as a loop begins."""
    progress = run.init(start(run))
    return run.integrator.opened(run, run.ready(progress), progress).memory.owed


def in_pieces(run):
    """The weights after each piece, and what the last one says of the error."""

    def all_of(weights):
        progress, first, seen = run.init(weights), 0, []
        for count in PIECES:
            progress = run.advance(progress, jnp.int32(first), jnp.int32(count))
            first, seen = first + count, [*seen, run.weights(progress)]
        return seen, run.quality(progress).error

    return jax.jit(all_of)(start(run))


CASES = {
    "feedback that learns": (4, {"W1", "W2", "V2"}, {"rule": KP()}),
    "gaps, and both ways through a matrix": (2, {"W1", "W2"}, {"rule": SGD(), "gap": 0.06}),
    "late errors, traces, and a judge": (
        *(2, {"W1", "W2"}),
        {"rule": FA(), "times": TRACED, "lags": {"error": 0.03}, "judged": True, "nodes": 2},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_are_those_of_matrices_that_do_not_wait(name, small_ones_wait, monkeypatch):
    waits, names, how = CASES[name]
    run = run_of(**how)
    assert (opened(run).waits, set(opened(run).post)) == (waits, names)
    waited, error = in_pieces(run)
    monkeypatch.setattr(owed, "LARGE", 10**9)
    assert opened(run) is NOTHING
    eager, same = in_pieces(run)
    first = start(run)
    for after, before in zip(waited, eager, strict=True):
        for matrix, w in before.items():
            apart, moved = jnp.max(jnp.abs(after[matrix] - w)), jnp.max(jnp.abs(w - first.get(matrix, w)))
            assert apart <= 1e-12 * moved, matrix
    np.testing.assert_allclose(error, same, rtol=1e-9)


def test_slopes_are_those_of_matrices_that_do_not_wait(small_ones_wait, monkeypatch):
    def size(plasticity):
        run = run_of(FA(), timescales(propagation=0.02, plasticity=plasticity), sweeps=3)
        end = run.advance(run.init(start(run)), jnp.int32(0), 3)
        return sum(jnp.sum(w**2) for w in run.weights(end).values())

    slope = jax.jit(jax.grad(size))(f64(2.0))
    monkeypatch.setattr(owed, "LARGE", 10**9)
    np.testing.assert_allclose(slope, jax.jit(jax.grad(size))(f64(2.0)), rtol=1e-11)


ALONE = {  # runs whose matrices change by more than one product of what there is now, or are read elsewhere
    "rows that fade": run_of(Oja()),
    "decay": run_of(FA(), timescales(propagation=0.02, plasticity=2.0, decay=3.0)),
    "another geometry": run_of(Exponentiated()),
    "presentations side by side": dataclasses.replace(run_of(FA()), batch=2),
    "noise": dataclasses.replace(run_of(FA()), noise=Noise(activity=f64(0.1)), key=jax.random.key(1)),
}


@pytest.mark.parametrize("why", ALONE)
def test_matrices_do_not_wait_for_all_changes(why, small_ones_wait):
    assert opened(ALONE[why]) is NOTHING


def test_rows_of_many_nodes_leave_no_room(small_ones_wait):
    assert set(opened(run_of(FA(), nodes=12)).post) == {"W1"}


def test_small_matrices_do_not_wait():
    assert opened(run_of(FA())) is NOTHING
