"""Samples and time constants as a new user gives them: made to fit where that is plain, else refused in a sentence."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments
from dynamics.coupled import Coupled
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.flow import WeightFlow
from dynamics.stimulus import Stream
from rules import FA, SGD, Curl, Hebbian
from tests.problems import TINY, clock, f64, random_problem, random_weights, timescales

X, Y = np.asarray(TINY.inputs), np.asarray(TINY.targets)  # (4, 3) and (4, 2)
CIRCUIT = FA(f64(1.0)).wire(TINY.network)
ONE = SGD().wire(random_problem((3, 4, 1)).network)
UNSUPERVISED = random_problem((3, 2), supervised=False).network
KEY = jax.random.key(0)


def coupled(circuit, x, y, times=None):
    return Coupled(circuit, times or timescales(), Stream(x, y, KEY), clock(steps=5))


def discrete(circuit, x, y, times=None):
    return Discrete(circuit, times or timescales(), Stream(x, y, KEY), clock())


def weight_flow(circuit, x, y, times=None):
    return WeightFlow(circuit, times or timescales(), x, y, clock())


REGIMES = {"coupled": coupled, "discrete": discrete, "flow": weight_flow}
WRONG = {
    "labels": (X, np.array([0, 1, 1, 0]), r"1 numbers per sample: the output layer 'z2' has 2 .*one_hot\(labels, 2\)"),
    "fewer targets": (X, Y[:3], "there are 4 inputs and 3 targets"),
    "wide inputs": (np.ones((4, 5)), Y, "5 numbers per sample: the input layer 'z0' has 3 neurons"),
    "wide targets": (X, np.ones((4, 3)), "3 numbers per sample: the output layer 'z2' has 2 neurons"),
    "no targets": (X, None, "no targets: the output layer 'z2' learns from an error"),
    "no samples": (X[:0], Y[:0], r"the inputs have shape \(0, 3\)"),
    "flat inputs": (X[:, 0], Y, r"the inputs have shape \(4,\): it must be \(samples, inputs\)"),
    "images": (np.ones((4, 3, 3)), Y, r"the inputs have shape \(4, 3, 3\)"),
    "not a number": (X, np.where(np.arange(4)[:, None] == 2, np.nan, Y), "targets .* not finite in sample 2"),
    "infinite": (np.where(np.arange(4)[:, None] == 1, np.inf, X), Y, "inputs .* not finite in sample 1"),
    "texts": (X, np.array(["a", "b", "a", "b"]), "the targets have dtype <U1: they must be real numbers"),
}


@pytest.mark.parametrize("make", REGIMES.values(), ids=REGIMES)
@pytest.mark.parametrize(("x", "y", "sentence"), WRONG.values(), ids=WRONG)
def test_samples_that_do_not_fit_are_refused_where_they_are_given(make, x, y, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        make(CIRCUIT, x, y)


@pytest.mark.parametrize("name", ["labels", "fewer targets", "wide inputs", "wide targets", "no samples"])
def test_shapes_are_seen_while_tracing_too(name):
    x, y, sentence = WRONG[name]
    with pytest.raises(PlasticodeError, match=sentence):
        jax.eval_shape(lambda x, y: coupled(CIRCUIT, x, y).stream.inputs, f64(x), f64(y))


@pytest.mark.parametrize("name", ["labels", "fewer targets", "wide inputs", "wide targets", "not a number"])
@pytest.mark.parametrize("instrument", ["accuracy", "loss", "gradient", "drive", "alignment", "tangent_kernel"])
def test_instruments_refuse_them_too(instrument, name):
    x, y, sentence = WRONG[name]
    weights = random_weights(CIRCUIT)
    slow = () if instrument in ("accuracy", "loss", "gradient") else ({},)
    with pytest.raises(PlasticodeError, match=sentence):
        getattr(instruments, instrument)(CIRCUIT, weights, *slow, x, y)


def test_accuracy_of_one_output_is_refused():
    """The largest of one output is always the right one."""
    with pytest.raises(PlasticodeError, match="there is one output"):
        instruments.accuracy(ONE, random_weights(ONE), X, np.ones(4))


@pytest.mark.parametrize("make", REGIMES.values(), ids=REGIMES)
def test_flat_targets_of_one_output_numpy_arrays_and_integers_are_converted(make):
    flat, integers = make(ONE, X, Y[:, 0]), make(ONE, np.arange(12).reshape(4, 3), np.array([0, 1, 1, 2], np.uint8))
    for run, x, y in ((flat, X, Y[:, :1]), (integers, np.arange(12).reshape(4, 3), [[0], [1], [1], [2]])):
        data = run if isinstance(run, WeightFlow) else run.stream
        assert isinstance(data.inputs, jax.Array) and data.inputs.dtype == data.targets.dtype == jnp.float64
        np.testing.assert_array_equal(data.inputs, x)
        np.testing.assert_array_equal(data.targets, y)


def test_instruments_take_flat_targets_and_numpy_arrays():
    weights = random_weights(ONE)
    expected = instruments.loss(ONE, weights, f64(X), f64(Y[:, :1]))
    assert instruments.loss(ONE, weights, X, Y[:, 0]) == expected
    one_hot = np.eye(2, dtype=int)[[0, 1, 1, 0]]
    weights = random_weights(CIRCUIT)
    assert instruments.accuracy(CIRCUIT, weights, X, one_hot) == instruments.accuracy(CIRCUIT, weights, X, f64(one_hot))


def test_an_unsupervised_circuit_needs_no_targets():
    circuit = Hebbian().wire(UNSUPERVISED)
    for make in REGIMES.values():
        make(circuit, X, None)
    with pytest.raises(PlasticodeError, match="the input layer 'z0' has 3 neurons"):
        coupled(circuit, Y, None)


# Time constants


@pytest.mark.parametrize("make", REGIMES.values(), ids=REGIMES)
@pytest.mark.parametrize("name", ["propagation", "plasticity", "decay", "trace"])
@pytest.mark.parametrize("length", [1, 3, 32])
def test_a_list_of_time_constants_has_one_per_layer(make, name, length):
    with pytest.raises(PlasticodeError, match=rf"timescales.{name} has shape \({length},\): .* a list of 2, one per"):
        make(CIRCUIT, X, Y, timescales(**{name: np.linspace(0.1, 1.0, length)}))
    make(CIRCUIT, X, Y, timescales(**{name: [0.1, 0.2]}))
    make(CIRCUIT, X, Y, timescales(**{name: 0.1}))


@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, [0.1, -0.1]])
def test_a_time_constant_is_positive(value):
    with pytest.raises(PlasticodeError, match="timescales.plasticity = .* is not allowed: it must be a time > 0"):
        coupled(CIRCUIT, X, Y, timescales(plasticity=value))


def test_lists_are_counted_while_tracing_too():
    with pytest.raises(PlasticodeError, match="one per layer"):
        jax.eval_shape(lambda taus: coupled(CIRCUIT, X, Y, timescales(propagation=taus)).clock.dt, f64(np.ones(32)))


def test_flips_are_one_per_layer():
    with pytest.raises(PlasticodeError, match=r"rule.flips has shape \(3,\): it must be one number, or a list of 2"):
        Curl(flips=f64([0.1, 0.2, 0.3])).wire(TINY.network)
