"""Maps over delay and duration, and the comparison with Adam: closed forms, small runs, defects that they catch."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalSubscript=false

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq
from sklearn.neural_network import MLPClassifier

from dynamics import discrete
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.stimulus import Clock, Stream
from dynamics.theory import lagged_overlap
from dynamics.timescales import Timescales
from experiments.points import assemble
from experiments.predictions import configured
from experiments.predictions.continuous import accuracies, delay_duration, depths
from experiments.predictions.continuous.delay_duration import OneHidden, ThreeHidden, TwoHidden
from experiments.predictions.continuous.depths import AdamComparison, best_of_others
from experiments.predictions.kit import f64, wired
from experiments.tasks.real import Digits
from rules import SGD
from tests.experiments.predictions.verdicts import failed
from tests.mnist_files import write_mnist

MAP = {"durations": (8.0, 16.0), "delays": (0.0, 8.0, 12.0, 16.0), "width": 8, "presentations": 200, "seeds": 8}
MAP |= {"plasticity": 400.0}
ADAM = {"depths": (1,), "batches": (16,), "rates": (1e-3, 3e-2), "timescales": (20.0, 80.0), "width": 16}
ADAM |= {"samples": 768, "seeds": 6}
CLASSES = {1: OneHidden, 2: TwoHidden, 3: ThreeHidden}
EQUAL, SILENT = "equal overlap, equal accuracy", "no overlap, no learning"
TUNED, IS_SGD = "tuning takes the lead away (1 hidden layer, batch 16)", "it is SGD at the rate that overlap leaves"


# Closed forms


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equal_overlap_is_that_of_every_layer(depth):
    """T' from the means over random lags: E max(0, T' - |V - U|) = E max(0, T - |d + V - U|), layer by layer."""
    rng = np.random.default_rng(depth)
    duration, delay = rng.uniform(20, 30), rng.uniform(2, 8)
    small = CLASSES[depth](durations=(5.0, duration, 60.0), delays=(0.0, delay, 40.0, 80.0))
    layers, found = depth + 1, []
    for around in (0, layers):
        for layer in range(1, layers + 1):
            stages = layer - 1, 1 + layers - layer + around
            u, v = (rng.standard_exponential((n, 50_000)).sum(axis=0) for n in stages)
            late, lag = np.maximum(0, duration - np.abs(delay + v - u)).mean(), np.abs(v - u)
            found.append(brentq(lambda t, late=late, lag=lag: np.maximum(0, t - lag).mean() - late, 1, 60, xtol=1e-3))
    assert small.equal.shortest[1, 1] == pytest.approx(min(found), abs=0.1)
    assert small.equal.longest[1, 1] == pytest.approx(max(found), abs=0.1)
    assert duration - delay - 0.1 < min(found)


def test_far_above_the_lags_equal_overlap_is_the_difference():
    small = TwoHidden(durations=(1e4, 2e4, 3e4), delays=(0.0, 1e4, 4e4))
    np.testing.assert_allclose(small.equal.shortest[1:, 1], [1e4, 2e4], rtol=1e-3)
    np.testing.assert_allclose(small.equal.longest[1:, 1], [1e4, 2e4], rtol=1e-3)
    assert not small.equal.known[:, [0, 2]].any()
    assert small.silent.tolist() == [[False] * 3] + [[False, False, True]] * 2  # farther than 2 T nothing is measured


def test_rates_of_sgd_are_those_that_the_overlap_leaves():
    rng = np.random.default_rng(0)
    lag, tau = float(rng.uniform(0.02, 0.2)), float(rng.uniform(10, 200))
    found = AdamComparison(propagation=lag).slowed(2, tau, 3)
    expected = [tau / float(lagged_overlap(0.0, 1.0, k, m + 3, lag)) for k, m in ((0, 3), (1, 2), (2, 1))]
    assert found == pytest.approx(expected)


def test_the_best_rate_is_that_of_all_other_seeds():
    """Of seeds without anything to choose between rates, choosing by the best of each would look like a gain."""
    noise = np.random.default_rng(0).standard_normal((1000, 5))
    assert abs(best_of_others(noise).mean()) < 0.15 < noise.max(axis=1).mean()
    assert best_of_others(np.array([[0.0, 1.0], [0.0, 1.0], [5.0, 1.0]])).tolist() == [0.0, 0.0, 1.0]


def test_adam_is_that_of_scikit_learn():
    """The same samples, one by one, from the same weights: the discrete regime gives MLPClassifier's weights."""
    data, shown, rate = Digits().load(), 40, 3e-3
    circuit = wired(SGD(), (64, 6, 10), loss="softmax", bias=True)
    stream = Stream(f64(data.train_inputs), f64(data.train_targets), jax.random.key(3))
    clock, times = Clock(f64(1.0), f64(0.0), 1), Timescales(f64(1.0), f64(1 / rate))
    run = discrete.Discrete(circuit, times, stream, clock, optimiser="adam")
    start = circuit.initial_weights(jax.random.key(1))
    ours = run.weights(run.advance(run.init(start), jnp.int32(0), shown))
    order = np.asarray(jax.vmap(stream.index)(jnp.arange(shown, dtype=jnp.int32)))
    theirs = MLPClassifier((6,), "tanh", solver="adam", alpha=0.0, learning_rate_init=rate, max_iter=1)
    theirs.partial_fit(data.train_inputs[:1].astype(float), [0], classes=np.arange(10))  # makes its matrices
    for i, (matrix, bias) in enumerate(zip(theirs.coefs_, theirs.intercepts_, strict=True), start=1):
        matrix[...], bias[...] = np.asarray(start[f"W{i}"]).T, 0
    del theirs._optimizer
    for i in order:
        theirs.partial_fit(data.train_inputs[i : i + 1].astype(float), [data.train_targets[i].argmax()])
    for i, (matrix, bias) in enumerate(zip(theirs.coefs_, theirs.intercepts_, strict=True), start=1):
        np.testing.assert_allclose(ours[f"W{i}"], matrix.T, atol=1e-6)
        np.testing.assert_allclose(ours[f"b{i}"][:, 0], bias, atol=1e-6)


# Data


def test_mnist_is_read_where_its_folder_is_given(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    assert accuracies.handwritten(str(tmp_path), 0).load().train_inputs.shape == (7, 49)
    seen = []
    for module, small in ((delay_duration, OneHidden), (depths, AdamComparison)):
        monkeypatch.setattr(module, "trained", lambda table, *_: seen.append(table["task"]) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            small(mnist=str(tmp_path)).measure()
    assert seen == [{"name": "mnist", "path": str(tmp_path), "pool": 4}] * 2
    with pytest.raises(PlasticodeError, match="nowhere.*lacks train-images"):
        OneHidden(mnist="nowhere").measure()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("delay-duration-1", {"delays": [1.0, 5.0, 40.0]}),
        ("delay-duration-2", {"durations": [0.0, 5.0]}),
        ("delay-duration-3", {"durations": [10.0, 5.0]}),
        ("delay-duration-1", {"delays": [0.0, 7.0, 8.0]}),
        ("delay-duration-2", {"durations": [5.0, 10.0], "delays": [0.0, 20.0]}),
        ("delay-duration-2", {"durations": [10.0, 20.0, 90.0], "delays": [0.0, 4.0, 40.0]}),
        ("adam-comparison", {"rates": [1e-2, 1e-1]}),
        ("adam-comparison", {"depths": [2, 1]}),
        ("adam-comparison", {"samples": 100}),
        ("adam-comparison", {"timescales": [5.0, 10.0]}),
    ],
)
def test_parameters_that_make_no_sense_are_refused(name, settings):
    with pytest.raises(PlasticodeError, match=name):
        configured([name], settings)


# What the verdicts see, on accuracies that follow a law


def judged(monkeypatch, prediction, law):
    """Which claims fail of a map whose accuracy is `law(d, T, gap)`, all in tau_prop."""
    tau, rng = prediction.propagation.seconds(1.0), np.random.default_rng(0)

    def accuracy(points, chance):
        times = (np.array(points[key]) / tau for key in ("delays.error", "stimulus.duration", "stimulus.gap"))
        means = np.clip(chance + law(*times), chance, 1)
        return (
            means
            + 0.01 * rng.standard_normal((prediction.seeds, 1))
            + 0.001 * rng.standard_normal((prediction.seeds, means.size))
        )

    monkeypatch.setattr(delay_duration, "trained", lambda table, points, seeds: points)
    monkeypatch.setattr(delay_duration, "final_accuracies", accuracy)
    monkeypatch.setattr(delay_duration, "diverged_note", lambda data, name: [])
    return failed(prediction.measure())


def test_maps_of_the_overlap_alone_are_what_is_claimed(monkeypatch):
    small = OneHidden(durations=(50.0, 100.0, 150.0, 200.0), delays=(0.0, 50.0, 100.0, 250.0))
    law = lambda d, t, gap: 0.4 * np.log1p(np.maximum(t - d, 0) / 30) * np.where((gap > 0) | (d == 0), 1, 0.8)  # noqa: E731
    assert judged(monkeypatch, small, law) == set()
    part = lambda d, t, gap: law(d, t, gap) * np.maximum(1 - d / t, 0)  # noqa: E731
    assert judged(monkeypatch, small, part) == {EQUAL}
    alike = lambda d, t, gap: law(d, t, 1)  # noqa: E731
    assert judged(monkeypatch, small, alike) == {"without gaps other samples interfere"}
    beyond = lambda d, t, gap: law(d / 2, t, gap)  # noqa: E731
    assert judged(monkeypatch, small, beyond) >= {EQUAL, SILENT}


# Small runs, and planted defects


def test_a_small_map_is_that_of_its_overlap_and_a_delay_that_is_ignored_is_noticed(plant):
    assert not failed(OneHidden(**MAP).measure()) & {EQUAL, SILENT}
    plant(assemble, "Delays", lambda **lags: Delays(**(lags | {"error": 0 * lags["error"]})))
    assert failed(OneHidden(**MAP).measure()) >= {EQUAL, SILENT}


def test_a_small_comparison_and_an_adam_that_is_sgd_is_noticed(plant, monkeypatch):
    small = AdamComparison(**ADAM)
    assert failed(small.measure()) == set()
    monkeypatch.setattr(depths, "overlaps", lambda *_: [0.3, 0.3])  # numbers, which need no other programs
    assert failed(small.measure()) == {f"{IS_SGD} (1 hidden layer)"}
    monkeypatch.undo()
    plant(discrete, "OPTIMISERS", discrete.OPTIMISERS | {"adam": optax.identity})
    assert failed(small.measure()) == {TUNED}
