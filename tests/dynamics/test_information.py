"""What a run shows, presentation by presentation, and the information in it: against runs, differences and algebra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.information import Scored, answers, information, presented
from dynamics.instruments import predict
from dynamics.stimulus import Stream
from rules import FA
from tests.problems import clock, discrete, f64, random_problem, random_weights, stream, timescales
from tests.unjudged import PlainWindow as Window

PROBLEM = random_problem((3, 4, 2), bias=False, samples=5)
CIRCUIT = FA(f64(1.0)).wire(PROBLEM.network)
WEIGHTS = random_weights(CIRCUIT)
N = 5
EPS = 1e-6


def coupled(integrator, numbers):
    """Numbers: plasticity, an error lag, a trace."""
    times = timescales(0.01, numbers[0], None, numbers[2])
    return Coupled(
        CIRCUIT,
        times,
        stream(PROBLEM),
        clock(0.05, 0.02, 14),
        Delays(error=numbers[1]),
        integrator=integrator,
        history=30,
    )


def update(numbers):
    return discrete(CIRCUIT, PROBLEM, timescales(0.01, numbers[0]), clock(0.05))


def step(regime, progress, k):
    """The outputs that the sample of presentation k would settle to as it begins, and the progress after it."""
    settled = answers(regime, regime.stream, regime.weights(progress), regime.slow(progress), k)("z2", "activity")
    return regime.advance(progress, k, 1), settled


def seen(build, numbers):
    regime = build(numbers)
    return presented(regime.init(WEIGHTS), functools.partial(step, regime), N)[1]


def test_rows_are_what_a_run_shows_as_each_presentation_begins():
    regime = update(f64([0.2]))
    found = jax.jit(functools.partial(seen, update))(f64([0.2]))
    state = regime.init(WEIGHTS)
    for k in range(N):
        sample = regime.stream.inputs[regime.stream.index(jnp.int32(k))]
        np.testing.assert_allclose(found[k], predict(CIRCUIT, regime.weights(state), sample[None])[0], rtol=1e-12)
        state = regime.advance(state, jnp.int32(k), 1)


@pytest.mark.parametrize("lag", [0.0321, 0.05, 0.07])  # T and a period are corners, of windows and of steps
def test_slopes_equal_differences_at_round_lags(lag):
    value, jacobian = _programs()
    at = f64([0.5, lag, 0.02])
    forward = jacobian(at)
    for i in range(3):
        moved = EPS * jnp.eye(3)[i] * (1 if i == 0 else 0.1)
        both = (value(at + moved) - value(at - moved)) / (2 * moved[i])
        sides = [sign * (value(at + sign * moved) - value(at)) / moved[i] for sign in (1, -1)]
        corner = jnp.abs(sides[0] - sides[1]).max()  # where the slope lies between those of both sides
        assert jnp.abs(forward[..., i] - both).max() <= 1e-5 * jnp.abs(both).max() + corner / 2


@functools.cache
def _programs():
    value = functools.partial(seen, functools.partial(coupled, Window(nodes=8, sweeps=4)))
    return jax.jit(value), jax.jit(jax.jacfwd(value))


def test_reverse_mode_has_the_same_slopes():
    at = f64([0.3])
    backwards = jax.jit(jax.grad(lambda x: (seen(update, x) ** 2).sum()))(at)
    value, slopes = map(np.asarray, _updates()(at))
    np.testing.assert_allclose(backwards, (2 * value[..., None] * slopes).sum((0, 1)), rtol=1e-9)


@functools.cache
def _updates():
    """What is seen of updates, and its slopes."""
    value = functools.partial(seen, update)
    return jax.jit(lambda at: (value(at), jax.jacfwd(value)(at)))


def test_information_is_the_sum_of_squared_slopes():
    at = f64([0.3])

    def start(theta):
        return update(theta), update(theta).init(WEIGHTS)

    def show(run, progress, k):
        return step(run, progress, k)

    def score(eta, slopes, k):
        return Scored((eta**2).sum() / 2, slopes @ eta, slopes @ slopes.T)

    rows = jnp.arange(N, dtype=jnp.int32)
    found = jax.jit(functools.partial(information, start, show, score))(at, rows)
    value, slopes = map(np.asarray, _updates()(at))
    np.testing.assert_allclose(found.loss, (value**2).sum() / 2, rtol=1e-12)
    np.testing.assert_allclose(found.gradient, np.einsum("knp,kn->p", slopes, value), rtol=1e-9)
    np.testing.assert_allclose(found.information, np.einsum("knp,knq->pq", slopes, slopes), rtol=1e-9)


def test_a_recorded_order_is_shown_as_it_was():
    order = jnp.asarray([3, 0, 0, 4], jnp.int32)
    recorded = Stream(PROBLEM.inputs, PROBLEM.targets, jax.random.key(0), shown=order)
    assert [int(recorded.index(jnp.int32(k))) for k in (0, 1, 2, 3, 9)] == [3, 0, 0, 4, 4]
    run = Discrete(CIRCUIT, timescales(0.01, 0.2), recorded, clock(0.05))
    by_hand = Stream(PROBLEM.inputs[order], PROBLEM.targets[order], jax.random.key(0), "sequential")
    same = Discrete(CIRCUIT, timescales(0.01, 0.2), by_hand, clock(0.05))
    ends = [r.weights(r.advance(r.init(WEIGHTS), jnp.int32(0), 4)) for r in (run, same)]
    np.testing.assert_array_equal(ends[0]["W1"], ends[1]["W1"])
    with pytest.raises(PlasticodeError, match="shown has 5: there are 5 samples, numbered from 0"):
        Stream(PROBLEM.inputs[:5], PROBLEM.targets[:5], jax.random.key(0), shown=order + 1)


def test_no_presentation_shows_nothing():
    with pytest.raises(PlasticodeError, match="presentations = 0: there must be at least 1"):
        presented(f64(0.0), lambda progress, k: (progress, k), 0)
