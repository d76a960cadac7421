"""Four kinds of noise, against sums over all data that there can be."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.inference.likelihoods import LIKELIHOODS
from tests.problems import f64

SHOWN = f64([0.3, -0.4, 1.1])
# Numbers of each kind of noise, and all values of one datum that are not as good as impossible.
CASES = {
    "bernoulli": ({"temperature": f64(0.7)}, [0, 1]),
    "categorical": ({"temperature": f64(0.7)}, [0, 1, 2]),
    "poisson": ({"rate": f64(2.0), "gain": f64(0.8)}, range(60)),
    "gaussian": ({"sd": f64(0.3)}, np.linspace(-4, 4, 4001)),
}


def pieces(name):
    """Of every neuron alone: the kind, its parameters, their slopes along two directions; the weights of values."""
    numbers, values = CASES[name]
    kind, shown = LIKELIHOODS[name], SHOWN if name == "categorical" else SHOWN[:1]
    turn = f64([[0.5, -1.0, 0.2], [1.0, 0.3, -0.6]])[:, : shown.shape[0]]
    further = {n: f64([0.4, -0.2]) for n in numbers}

    def natural(x):
        moved = {n: numbers[n] + x @ further[n] for n in numbers}
        return kind.natural(shown + x @ turn, moved)

    zero = jnp.zeros(2, jnp.float64)
    slopes = jax.vmap(lambda v: jax.jvp(natural, (zero,), (v,))[1])(jnp.eye(2, dtype=jnp.float64))
    step = 1.0 if name != "gaussian" else float(values[1] - values[0])
    return kind, natural, slopes, f64(list(values))[:, None], step


@pytest.mark.parametrize("name", CASES)
def test_probabilities_scores_and_residuals(name):
    kind, natural, slopes, values, step = pieces(name)
    eta, seen = natural(jnp.zeros(2, jnp.float64)), jnp.ones(1, bool)
    loss = jax.vmap(lambda y: kind.loss(eta, y, seen))(values)
    p = step * jnp.exp(-loss)
    assert math.isclose(p.sum(), 1, rel_tol=1e-9)
    zero = jnp.zeros(2, jnp.float64)
    score = np.asarray(jax.vmap(lambda y: jax.grad(lambda x: kind.loss(natural(x), y, seen))(zero))(values))
    white, p = np.asarray(jax.vmap(lambda s: kind.white(eta, s, seen))(slopes)), np.asarray(p)
    np.testing.assert_allclose(p @ score, 0, atol=1e-9)  # the gradient is that of a likelihood,
    np.testing.assert_allclose((p * score.T) @ score, white @ white.T, rtol=1e-6)  # and its variance the information
    residuals, variances = jax.vmap(functools.partial(kind.residuals, eta, seen=seen))(values)
    square = residuals[:, 0] ** 2
    found = [float((p * x).sum()) for x in (residuals[:, 0], square, (square - 1) ** 2)]
    np.testing.assert_allclose(found, [0, 1, float(variances[0, 0])], atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_is_not_seen_says_nothing(name):
    kind, natural, slopes, values, _ = pieces(name)
    eta, unseen = natural(jnp.zeros(2, jnp.float64)), jnp.zeros(1, bool)
    assert kind.loss(eta, values[0], unseen) == 0
    assert not jax.vmap(lambda s: kind.white(eta, s, unseen))(slopes).any()


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_probabilities(name, key):
    kind, natural, _, values, step = pieces(name)
    eta = natural(jnp.zeros(2, jnp.float64))
    drawn = jax.vmap(lambda k: kind.draw(k, eta))(jax.random.split(key, 4000))
    assert drawn.shape == (4000, 1)
    p = step * jnp.exp(-jax.vmap(lambda y: kind.loss(eta, y, jnp.ones(1, bool)))(values))
    mean = (p * values[:, 0]).sum()
    spread = jnp.sqrt((p * (values[:, 0] - mean) ** 2).sum())
    assert abs(drawn.mean() - mean) < 4 * spread / math.sqrt(4000)
    assert abs(drawn.std() / spread - 1) < 0.1


@pytest.mark.parametrize("choices", [2, 3])
def test_a_choice_of_what_is_equally_probable_has_no_residual(choices):
    """Its log p is the same whatever is chosen; of a third, rounding leaves a spread of 1e-17."""
    kind = LIKELIHOODS["categorical"]
    residuals, variances = kind.residuals({"logits": f64([0.3] * choices)}, f64([1.0]), jnp.ones(1, bool))
    assert jnp.isnan(residuals).all() and jnp.isnan(variances).all()
