"""What `simulate` says of a run, and of promises that its numbers break: gaps that are denied, pasts that are short."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import NotOkWarning, PlasticodeError
from dynamics.integrators import FixedStep, Window
from dynamics.simulate import simulate
from rules import FA
from tests.dynamics.windows import SMALL, moved_apart, stepped, windowed
from tests.problems import clock, f64, random_weights, stream, timescales

CIRCUIT, TIMES, TOLERANCE = FA().wire(SMALL.network), timescales(propagation=0.004, plasticity=0.5), 1e-3
WEIGHTS = random_weights(CIRCUIT)


def ended(run, presentations=3):
    return simulate(run, presentations, lambda w, slow: jnp.zeros(()), records=1, weights=WEIGHTS)


@pytest.fixture(scope="module")
def exact():
    run = stepped(CIRCUIT, times=TIMES)
    end = run.advance(run.init(WEIGHTS), jnp.int32(0), jnp.int32(3))
    return run.weights(end)


COARSE = windowed(CIRCUIT, times=TIMES, judged=True, nodes=4)


def test_windows_that_are_too_coarse_are_made_finer(exact):
    once = ended(COARSE)
    assert once.status == "ok" and bool(once.converged) and float(once.error_estimate) <= TOLERANCE
    assert moved_apart(WEIGHTS, once.weights, exact) <= 2 * TOLERANCE


def test_a_run_that_stays_wrong_warns():
    with pytest.warns(NotOkWarning, match="has not converged"):
        end = ended(dataclasses.replace(COARSE, integrator=Window(sweeps=1, nodes=8, parts=1, gaps=False)))
    assert end.status == "not-converged" and not end.converged and end.finite


def test_a_traced_run_is_not_made_finer_and_says_so(exact):
    """One point needs finer windows, the other does not."""

    def end(plasticity):
        return ended(eqx.tree_at(lambda r: r.timescales.plasticity, COARSE, plasticity))

    batch = jax.jit(jax.vmap(end))(f64([0.5, jnp.inf]))
    assert batch.converged.tolist() == [False, True] and batch.finite.all()
    first = {name: w[0] for name, w in batch.weights.items()}
    assert moved_apart(WEIGHTS, first, exact) > TOLERANCE


# Gaps


def test_a_gap_that_windows_deny_is_refused_or_marked():
    still = windowed(CIRCUIT, times=TIMES, gaps=False, nodes=14)
    with pytest.raises(PlasticodeError, match="gaps = False, but the clock has a gap of 0.05 s"):
        dataclasses.replace(still, clock=clock(0.1, 0.05))

    def end(gap):
        return ended(dataclasses.replace(still, clock=dataclasses.replace(still.clock, gap=gap)))

    batch = jax.jit(jax.vmap(end))(f64([0.0, 0.05]))
    assert batch.converged.tolist() == [True, False] and np.isinf(batch.error_estimate[1])


# Pasts


def delayed(lag, integrator, steps, **history):
    times = timescales(propagation=0.02, plasticity=0.5)
    time, late = clock(0.1, 0.0, steps), Delays(error=lag)
    return Coupled(CIRCUIT, times, stream(SMALL), time, late, integrator=integrator, **history)


BY_WINDOWS, BY_STEPS = (Window(nodes=14, parts=1, gaps=False), 1), (FixedStep("heun", tolerance=0.5), 20)


@pytest.mark.parametrize("settings", [BY_WINDOWS, BY_STEPS], ids=["windows", "steps"])
def test_a_past_that_is_too_short_is_refused_derived_or_marked(settings):
    period = settings[1]  # steps
    with pytest.raises(PlasticodeError, match="history is"):
        delayed(f64(0.15), *settings, history=period)
    assert delayed(f64(0.15), *settings).history == -(-3 * period // 2) + 2

    def end(lag):
        return ended(delayed(lag, *settings, history=period + 2))

    batch = jax.jit(jax.vmap(end))(f64([0.05, 0.1, 0.15]))
    assert batch.converged.tolist() == [True, True, False]
    alone = ended(delayed(f64(0.05), *settings))
    np.testing.assert_allclose(batch.weights["W1"][0], alone.weights["W1"], rtol=1e-9)


def test_the_shortest_past_runs():
    """history = 2 knows no lag at all."""
    batch = jax.jit(jax.vmap(lambda lag: ended(delayed(lag, *BY_WINDOWS, history=2))))(f64([0.0, 0.05]))
    assert batch.finite.all() and batch.converged.tolist() == [True, False]
