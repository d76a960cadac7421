"""Compensated sums: changes below half a unit in the last place add up, also where the compiler could simplify."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.rounding import Sums, add, nothing


def summed(start, changes):
    def one(i, parts):
        high, low = parts
        return add(high, low, {"w": changes[i]})

    high = {"w": start}
    high, low = jax.lax.fori_loop(0, changes.shape[0], one, (high, nothing(high)))
    return high["w"], low["w"]


@pytest.mark.parametrize("size", [1e-9, 1e-3, 30.0])
def test_what_many_changes_lose_is_a_share_of_the_changes(size):
    generator = np.random.default_rng(0)
    start = generator.normal(size=3).astype("float32")
    changes = (size * generator.normal(1.0, 1.0, (4000, 3))).astype("float32")
    high, low = jax.jit(summed)(jnp.asarray(start), jnp.asarray(changes))
    for i in range(3):
        exact = Fraction(float(start[i])) + sum(Fraction(float(c)) for c in changes[:, i])
        error = abs(float(Fraction(float(high[i])) + Fraction(float(low[i])) - exact))
        lost = 2.0**-24 * float(np.sum(np.abs(changes[:, i], dtype="float64")))
        assert error <= lost
        assert abs(float(Fraction(float(high[i])) - exact)) <= lost + 0.5 * float(np.spacing(abs(high[i])))


def test_the_compiler_keeps_the_compensation_for_batches():
    start = jnp.asarray([1.0, -3.0, 0.0], jnp.float32)
    changes = jnp.full((3, 20000), 1e-9, jnp.float32)
    high, _ = jax.jit(jax.vmap(summed))(start, changes)
    expected = np.asarray([1 + 2e-5, -3 + 2e-5, 2e-5])
    np.testing.assert_allclose(np.asarray(high, "float64"), expected, rtol=6e-8)


def test_a_change_of_a_product_is_kept_too():
    # The compiler may contract a product and the sum that follows it into one operation.
    def one(i, parts):
        high, low = parts
        return add(high, low, 1e-4 * rate)

    rate = jnp.asarray([3e-6, -7e-6], jnp.float32)
    high, _ = jax.jit(lambda w: jax.lax.fori_loop(0, 10**5, one, (w, nothing(w))))(jnp.ones(2, jnp.float32))
    np.testing.assert_allclose(np.asarray(high, "float64"), 1 + 1e-4 * 1e5 * np.asarray(rate, "float64"), rtol=6e-8)


def test_all_of_a_slope_is_in_the_sum():
    changes = 0.1 * jnp.arange(1.0, 10.0)[:, None]
    slopes = jax.jit(jax.jacfwd(lambda a: summed(jnp.ones(1, changes.dtype), a * changes)))(jnp.ones((), changes.dtype))
    np.testing.assert_allclose(slopes[0], changes.sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(slopes[1], [0])


def windowed(start, changes):
    """The same by `Sums`, which settle after every 64th change."""

    def one(i, parts):
        numbers, sums = parts[1].plus(parts[0], {"w": changes[i]})
        return numbers, jax.lax.cond((i + 1) % 64 == 0, lambda: sums.settled(numbers), lambda: sums)

    numbers, sums = jax.lax.fori_loop(0, changes.shape[0], one, ({"w": start}, Sums.of({"w": start})))
    return numbers["w"], sums.base["w"], sums.rest["w"]


@pytest.mark.parametrize("size", [1e-9, 1e-3, 30.0])
def test_sums_that_settle_lose_as_little(size):
    generator = np.random.default_rng(0)
    start = generator.normal(size=3).astype("float32")
    changes = (size * generator.normal(1.0, 1.0, (4000, 3))).astype("float32")
    total, *parts = jax.jit(jax.vmap(windowed, (0, 1)))(jnp.asarray(start), jnp.asarray(changes))
    for i in range(3):
        exact = Fraction(float(start[i])) + sum(Fraction(float(c)) for c in changes[:, i])
        error = abs(float(sum(Fraction(float(part[i])) for part in parts) - exact))
        # Each addition is rounded to a rest of at most 64 changes, and a settled rest to a change of the base.
        lost = 2.0**-24 * 64 * float(np.sum(np.abs(changes[:, i], dtype="float64")))
        assert error <= lost / 4
        assert abs(float(Fraction(float(total[i])) - exact)) <= lost / 4 + 0.5 * float(np.spacing(abs(total[i])))
    assert np.all(np.abs(parts[1]) <= 64 * np.abs(changes).max() + np.spacing(np.abs(parts[0])))


def test_all_of_a_slope_is_in_the_numbers_of_sums():
    changes = 0.1 * jnp.arange(1.0, 70.0)[:, None]
    slopes = jax.jit(jax.jacfwd(lambda a: windowed(a * jnp.ones(1), a * changes)))(jnp.ones(()))
    np.testing.assert_allclose(slopes[0], 1 + changes.sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(slopes[1:], 0)
