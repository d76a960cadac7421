"""Every presentation counts: one large sample, late and rare, against the exact weights of linear regression."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.errors import NotOkWarning
from dynamics.integrators import Window
from dynamics.simulate import simulate
from dynamics.stimulus import Stream
from tests.dynamics.exact import error, order_of, regression
from tests.dynamics.windows import shown

TOLERANCE, SHOWN, LATE, SAMPLES = 1e-3, 30, 21, 24  # presentation 21: neither of the first ones nor one in so many


@pytest.fixture(scope="module")
def data():
    """Samples of |x|^2 = 1 and a last one of 30, and a key that shows that one once, in presentation 21."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(SAMPLES + 1, 3)), generator.normal(size=(SAMPLES + 1, 2))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[-1] *= 30**0.5
    for key in map(jax.random.key, range(1000)):
        if np.flatnonzero(order_of(Stream(x, y, key), SHOWN) == SAMPLES).tolist() == [LATE]:
            return x, y, key
    raise AssertionError("no key shows the large sample late and once")


def start_of(run):
    return run.circuit.initial_weights(jax.random.key(1))


def judged(data, window):
    """The true error of a run as it is, and what the run says of it."""
    x, y, key = data
    run = regression(x, y, key, window)
    progress = shown(run, start_of(run), SHOWN)
    return error(run, start_of(run), run.weights(progress), SHOWN), run.quality(progress)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_default_windows_are_right(data, dtype):
    run = regression(*data, dtype=dtype)
    end = simulate(run, SHOWN, lambda w, slow: jnp.zeros(()), records=1, weights=start_of(run))
    assert end.status == "ok"
    assert error(run, start_of(run), end.weights, SHOWN) <= 2 * TOLERANCE


@pytest.mark.parametrize("nodes", [6, 20])
def test_one_window_that_does_not_converge_is_marked(data, nodes):
    """With 20 nodes finer windows see nothing in what they are shown: only the sweeps that are left over tell."""
    true, quality = judged(data, Window(nodes=nodes, parts=1, gaps=False))
    assert true > 1 and not quality.converged


def test_windows_that_resolve_the_large_sample_are_ok(data):
    true, quality = judged(data, Window(nodes=9, parts=4, gaps=False))
    assert quality.converged and true <= quality.error


def test_simulate_makes_windows_finer_or_warns(data):
    x, y, key = data
    run = regression(x, y, key, Window(nodes=6, parts=1, gaps=False))
    try:
        end = simulate(run, SHOWN, lambda w, slow: jnp.zeros(()), records=1, weights=start_of(run))
    except NotOkWarning:
        return
    assert end.status == "ok" and error(run, start_of(run), end.weights, SHOWN) <= 2 * TOLERANCE


# Rounding: changes far below half a unit in the last place of the weights


def small_changes(presentations, plasticity):
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(6, 3)), generator.normal(size=(6, 2))
    run = regression(x, y, jax.random.key(3), plasticity=plasticity, dtype=jnp.float32)
    progress = shown(run, start_of(run), presentations)
    return error(run, start_of(run), run.weights(progress), presentations), run.quality(progress)


def test_slow_learning_in_single_precision_is_right():
    """tau_plast = 8e4 T: without compensation the change is off by per cents."""
    true, quality = small_changes(2000, 8e4)
    assert quality.converged and true <= TOLERANCE


def test_a_change_of_a_few_units_in_the_last_place_is_marked():
    """What the weights themselves are rounded to is then a large part of how far they have moved."""
    true, quality = small_changes(10, 1e7)
    assert not quality.converged and 0 < true < 2 * quality.error
