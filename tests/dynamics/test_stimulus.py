"""Stimuli: exact integrals under any lag and gap, random order by seed, and a cost that does not grow with the run."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamics.stimulus import Stream, held
from tests.dynamics.systems import coupled, two_layers
from tests.problems import clock, f64, random_weights

VALUES = np.array([[1.0, -2.0], [0.5, 3.0], [-1.5, 0.7]])
STREAM = Stream(f64(VALUES), None, jax.random.key(8))
SHOWN = [int(STREAM.index(jnp.int32(k))) for k in range(6)]


@functools.partial(jax.jit, static_argnames="steps")
def engine(duration, gap, lag, steps):
    """Mean signal and on-fraction of every step of six presentations."""
    time = clock(duration, gap, steps)

    def step(k, j):
        return held([(STREAM.inputs, lag)], STREAM, time, k)[0].over(j.astype(jnp.float64))

    return jax.vmap(lambda k: jax.vmap(lambda j: step(k, j))(jnp.arange(steps)))(jnp.arange(6))


def by_intersection(duration, gap, lag, steps):
    """The same from the definition: sample SHOWN[k] is on in [k P + lag, k P + lag + T)."""
    period, dt = duration + gap, (duration + gap) / steps
    left = np.arange(6 * steps)[:, None] * dt
    start = np.arange(6)[None, :] * period + lag
    on = np.clip(np.minimum(left + dt, start + duration) - np.maximum(left, start), 0, None) / dt
    return (on @ VALUES[SHOWN]).reshape(6, steps, 2), on.sum(1).reshape(6, steps)


@given(
    duration=st.floats(0.05, 2.0),
    gap=st.one_of(st.just(0.0), st.floats(0.0, 2.0)),
    lag=st.one_of(st.just(0.0), st.floats(0.0, 3.0)),
    in_periods=st.booleans(),
    steps=st.sampled_from([1, 3, 16]),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_every_step_has_the_exact_mean_of_the_late_signal(duration, gap, lag, in_periods, steps):
    if in_periods:  # whole periods of lag, where a rounded division could show the wrong sample
        lag = round(lag) * (duration + gap)
    signal, on = engine(f64(duration), f64(gap), f64(lag), steps)
    expected_signal, expected_on = by_intersection(duration, gap, lag, steps)
    np.testing.assert_allclose(signal, expected_signal, atol=1e-10)
    np.testing.assert_allclose(on, expected_on, atol=1e-10)


def test_no_lag_is_a_lag_of_zero():
    for time in (clock(1.0, 0.0, 5), clock(1.0, 0.37, 5)):
        for j in range(5):
            at_once = held([(STREAM.inputs, None)], STREAM, time, jnp.int32(2))[0].over(f64(j))
            late = held([(STREAM.inputs, f64(0.0))], STREAM, time, jnp.int32(2))[0].over(f64(j))
            np.testing.assert_array_equal(at_once[0], late[0])
            assert at_once[1] == late[1]


def test_without_a_gap_the_stimulus_is_on_in_every_step_exactly():
    for duration in np.random.default_rng(0).uniform(1e-3, 10, 50):
        assert clock(duration, 0.0, 7).on_steps == 7


def order(seed, samples, count):
    data = Stream(jnp.zeros((samples, 1), jnp.float64), None, jax.random.key(seed))
    return np.asarray(jax.vmap(data.index)(jnp.arange(count, dtype=jnp.int32)))


def test_the_order_follows_from_the_seed():
    np.testing.assert_array_equal(order(1, 10, 100), order(1, 10, 100))
    assert np.mean(order(1, 10, 2000) == order(2, 10, 2000)) < 0.1 + 4 * np.sqrt(0.09 / 2000)


def test_the_order_is_uniform_and_independent():
    shown = order(3, 10, 10_000)
    counts = np.bincount(shown, minlength=10)
    assert np.sum((counts - 1000) ** 2 / 1000) < 9 + 5 * np.sqrt(18)  # chi-squared with 9 degrees of freedom
    assert abs(np.mean(shown[1:] == shown[:-1]) - 0.1) < 4 * np.sqrt(0.09 / 10_000)


def test_recorded_samples_begin_with_their_order():
    x = np.arange(3.0)[:, None]
    stream = Stream(x, x, jax.random.key(0), shown=[2, 0, 1], first=jnp.int32(5))
    assert [int(stream.index(jnp.int32(k))) for k in (5, 6, 7, 8)] == [2, 0, 1, 1]


def test_program_and_memory_do_not_depend_on_the_number_of_presentations():
    run = coupled(two_layers(), clock(0.1, 0.02, 6))
    start = run.init(random_weights(run.circuit))
    programs = [jax.jit(lambda s, n=n: run.advance(s, jnp.int32(0), n)).lower(start) for n in (10, 10_000)]
    texts = [program.as_text().replace("10000", "10") for program in programs]
    assert texts[0] == texts[1]
    memory = [program.compile().memory_analysis() for program in programs]
    assert memory[0].temp_size_in_bytes == memory[1].temp_size_in_bytes


def test_any_number_of_presentations_is_one_compiled_program():
    run, traces = coupled(two_layers(), clock(0.1, 0.02, 6)), []

    @jax.jit
    def show(progress, first, count):
        traces.append(1)
        return run.advance(progress, first, count)

    progress = run.init(random_weights(run.circuit))
    for first, count in ((0, 3), (3, 10), (13, 1)):
        progress = show(progress, jnp.int32(first), jnp.int32(count))
    assert len(traces) == 1
