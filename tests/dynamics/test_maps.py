"""Maps: masks, one to one, convolutions, mirrors and shared parameters, against gradients and closed forms."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.circuit import (
    Activity,
    Circuit,
    Convolution,
    Dense,
    Error,
    Gaussian,
    Given,
    Layer,
    Masked,
    Multiplicative,
    OneToOne,
    Outer,
    Projection,
    Redrawn,
    TwoFactor,
    Value,
)
from dynamics.coupled import Coupled
from dynamics.errors import PlasticodeError
from dynamics.maps import Pattern
from dynamics.noise import Noise
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from tests.dynamics.pieces import (
    advanced,
    apart,
    back,
    both,
    coupled,
    drift,
    given_input,
    normal,
    relative,
    to,
)
from tests.problems import f64, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

INPUTS, TARGETS = normal(4, 6), normal(4, 3)
ONE = Gaussian(f64(1.0))
MASK = np.random.default_rng(1).random((8, 6)) < 0.4
MASK[2] = False  # a row without entries
MASK[:, 1] = False


def taught(first: Any, second: Any = ONE, hidden=8, activation="tanh"):
    """A network of two layers that learns by gradient descent through any maps."""
    law = TwoFactor(Error())
    layers = (given_input("x", 6), Layer("h", hidden, activation), Layer("y", 3, role="output", level=2))
    feedback = to("V", "y", "h", back("W2"), port="modulatory", carries="error", level=2)
    return Circuit(layers, (to("W1", "x", "h", first, law), to("W2", "h", "y", second, law, level=2), feedback))


CONVOLVED = Convolution(ONE, (2, 4), (3,), (2,))  # 2 channels of 3 to 4 channels of 3
WIRED = {
    "masked": taught(Masked(ONE, MASK)),
    "masked second": taught(ONE, Masked(ONE, np.random.default_rng(2).random((3, 8)) < 0.5)),
    "convolution": taught(CONVOLVED, hidden=12),
    "strided": taught(Convolution(ONE, (1, 4), (6,), (3,), stride=2, padding="valid"), hidden=8),
    "layer norm": taught(ONE, activation="layer-norm"),
    "sigmoid": taught(ONE, activation="sigmoid"),
    "leaky": taught(ONE, activation="leaky-relu"),
}


@pytest.mark.parametrize("name", WIRED)
def test_the_law_through_any_map_is_the_gradient(name):
    circuit = WIRED[name]
    weights = circuit.initial_weights(jax.random.key(0))
    uphill = eqx.filter_jit(instruments.gradient)(circuit, weights, INPUTS, TARGETS)
    learned = drift(circuit, weights, INPUTS, TARGETS, timescales(plasticity=1.0))
    assert relative(learned, jax.tree.map(jnp.negative, uphill)) < 1e-14
    aligned = eqx.filter_jit(instruments.alignment)(circuit, weights, {}, INPUTS, TARGETS)
    assert all(abs(float(cosine) - 1) < 1e-12 for cosine in aligned.values())


def test_a_two_dimensional_convolution_is_a_sum_over_its_window():
    image, theta = normal(2, 5, 4), normal(3, 2, 3, 2)
    conv = Convolution(ONE, (2, 3), (5, 4), (3, 2), stride=2, padding="valid")
    found = conv.apply(theta, image.ravel()).reshape(3, *conv.target_space)
    for c, i, j in np.ndindex(*found.shape):
        expected = jnp.sum(theta[c] * image[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2])
        assert abs(float(found[c, i, j] - expected)) < 1e-13
    whole = conv.matrix(theta, 40)
    np.testing.assert_allclose(whole @ image.ravel(), found.ravel(), atol=1e-13)
    m = normal(found.size)
    np.testing.assert_allclose(conv.back(theta, m, 40), whole.T @ m, atol=1e-13)


def test_a_mask_is_a_matrix_with_zeros():
    own = Masked(ONE, MASK)
    theta, dense = own.initial(jax.random.key(0), 8, 6), ONE(jax.random.key(0), 8, 6)
    matrix = own.matrix(theta, 6)
    np.testing.assert_array_equal(matrix, np.where(MASK, dense, 0))
    m, p = normal(8), normal(6)
    np.testing.assert_allclose(own.apply(theta, p), matrix @ p, atol=1e-14)
    np.testing.assert_allclose(own.back(theta, m, 6), matrix.T @ m, atol=1e-14)
    np.testing.assert_allclose(own.matrix(own.outer(theta, m, p), 6), np.where(MASK, np.outer(m, p), 0), atol=1e-14)
    np.testing.assert_array_equal(own.entries(matrix), theta)


@pytest.mark.parametrize("name", ["masked", "convolution", "layer norm"])
def test_windows_through_any_map_equal_small_steps(name):
    circuit = WIRED[name]
    weights = circuit.initial_weights(jax.random.key(0))
    window, steps = both(circuit, timescales(0.02, 0.4, decay=3.0), INPUTS, TARGETS, weights)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


def test_zeros_of_a_mask_stay_zeros_under_noise_and_decay():
    circuit = WIRED["masked"]
    own, weights = circuit.map_of("W1"), circuit.initial_weights(jax.random.key(0))
    times, clock = timescales(0.02, 0.1, decay=0.5), Clock(f64(0.1), f64(0.0), 20)
    noise = Noise(synaptic=f64(1.0))
    ran = coupled(circuit, times, INPUTS, TARGETS, clock, FixedStep(), noise=noise, key=jax.random.key(1))
    flow = WeightFlow(circuit, times, INPUTS, TARGETS, clock, key=jax.random.key(1), noise=noise)
    for end in (advanced(ran, weights, jnp.int32(3)).state.weights, advanced(flow, weights, jnp.int32(3)).weights):
        matrix = own.matrix(end["W1"], 6)
        assert np.all(np.asarray(matrix)[~MASK] == 0) and np.abs(np.asarray(matrix)[MASK]).min() > 1e-3


def test_the_laws_of_shared_parameters_add_up():
    """A recurrent matrix used twice, once transposed: Hebb's laws of both uses add."""
    law = TwoFactor(Activity())
    layers = (given_input("x", 4), Layer("u", 5, "tanh"), Layer("v", 4, "tanh", level=2))
    wires = to("A", "x", "u", ONE, law), to("B", "u", "v", back("A"), law, level=2)
    circuit = Circuit(layers, wires)
    weights, x = circuit.initial_weights(jax.random.key(1)), normal(3, 4)
    u = np.tanh(x @ weights["A"].T)
    v = np.tanh(u @ weights["A"])
    expected = (u.T @ x + u.T @ v) / 3
    found = drift(circuit, weights, x, None, timescales(plasticity=1.0))
    np.testing.assert_allclose(found["A"], expected, atol=1e-14)
    window, steps = both(circuit, timescales(0.02, 0.4, decay=3.0), x, None, weights)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


def one_to_one(**own):
    layers = given_input("x", 3), Layer("y", 3)
    return Circuit(layers, (to("G", "x", "y", OneToOne(f64(0.5), **own), TwoFactor(Activity())),))


def test_a_one_to_one_map_learns_one_number_per_neuron():
    x = normal(4, 3)
    found = drift(one_to_one(), {"G": f64([1.0, 2.0, 3.0])}, x, None, timescales(plasticity=1.0))
    np.testing.assert_allclose(found["G"], np.array([1.0, 2.0, 3.0]) * np.mean(x**2, 0), atol=1e-14)
    weights = one_to_one().initial_weights(jax.random.key(0))
    np.testing.assert_array_equal(weights["G"], 0.5)
    window, steps = both(one_to_one(), timescales(0.02, 0.4), x, None, weights)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


def wrong(**change):
    law = TwoFactor(Activity())
    layers = given_input("x", 6), Layer("h", 8)
    wires = {"matrix": ONE, "law": law, "port": "forward"} | change
    return lambda: Circuit(layers, (to("W", "x", "h", wires.pop("matrix"), wires.pop("law"), **wires),))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (wrong(matrix=Masked(ONE, MASK.T)), r"a mask has shape \[6, 8\]: it must be \[8, 6\]"),
        (wrong(matrix=OneToOne(f64(1.0))), "from 6 to 8 neurons: it must be as many"),
        (wrong(matrix=Given(normal(6, 8))), r"a given matrix has shape \(6, 8\): it must be \(8, 6\)"),
        (wrong(matrix=CONVOLVED), "goes from 6 to 8 neurons: it must be from 6 to 12"),
        (wrong(matrix=Redrawn(ONE)), "'W' is drawn anew for each presentation: it has no law"),
        (wrong(law=TwoFactor(Value("fatigue"))), "'fatigue' is not known: it must be one of activity"),
        (wrong(matrix=back("U")), "projection 'U' is not known"),
        (lambda: Pattern(np.ones(3)), r"a mask has shape \[3\]"),
        (lambda: Convolution(ONE, (1, 1), (4, 4), (3,)), "both must have the same number of dimensions"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(make, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        make()


def test_small_changes_of_masks_and_mirrors_are_not_rounded_beside_them():
    """Windows in float32 against float64, where a presentation moves weights by 1e-5 of them."""
    mask, start, changes = np.array([[1, 0, 1], [0, 1, 0]], bool), jnp.abs(normal(2, 3)), []
    for dtype in (jnp.float32, jnp.float64):
        number = functools.partial(jnp.asarray, dtype=dtype)
        maps = {"M": Masked(Given(number(start)), mask), "E": Dense(Given(number(start)), mirror=Multiplicative())}
        wires = tuple(Projection(n, "x", "activity", "y", "forward", m, Outer(Error())) for n, m in maps.items())
        circuit = Circuit((given_input("x", 3), Layer("y", 2, role="output")), wires)
        stream = Stream(number(normal(4, 3)), number(normal(4, 2)), jax.random.key(0), order="sequential")
        clock, times = Clock(number(0.05), number(0.0), 8), Timescales(number(0.005), number(3000.0))
        run = Coupled(circuit, times, stream, clock, integrator=Window(nodes=8, parts=1, gaps=False))
        weights = circuit.initial_weights(jax.random.key(0))
        end = advanced(run, weights, jnp.int32(48)).state.weights
        changes.append(np.concatenate([np.ravel(np.asarray(end[n] - weights[n], float)) for n in maps]))
    assert np.linalg.norm(changes[0] - changes[1]) < 2e-4 * np.linalg.norm(changes[1])
