"""Initial weights that are free, or those of a recording: slopes in both modes, what is left of information, a fit."""

import jax
import numpy as np
import pytest

import plasticode
from dynamics.errors import PlasticodeError
from experiments.inference import fitting, initial, recordings, simulation
from experiments.inference.descending import loss
from experiments.inference.initial import WIDTH, marginal, spent
from experiments.inference.model import Rows, model, truth_of
from experiments.inference.table import read_fit
from experiments.spec.loading import make_spec
from tests.experiments.inference.test_fitting import PLASTICITY, SEEN, are_told, coupled, fit_of, table

pytestmark = pytest.mark.usefixtures("unchecked_types")

ALL = [{"of": "z1", "sd": 0.05}, {"of": "output", "sd": 0.05}]


def free(spec):
    return fit_of(spec, initial_weights="free")


def made_of(spec):
    spec = make_spec(spec)
    table = read_fit(spec)
    recording, place = simulation.simulator(spec, table)(0)
    return model(spec, table), recording, place


@pytest.mark.parametrize("kind", ["discrete", "windows"])
def test_slopes_of_both_modes_are_those_of_differences(kind):
    spec = table(presentations=10, observe=ALL)
    if kind == "windows":
        inside = {"of": "z1", "data": "inside", "times": ["10 ms"], "sd": 0.1}
        spec = fit_of(coupled([inside]), free={PLASTICITY: ["0.1 s", "10 s"]}) | {"integrator": {"tolerance": 1e-8}}
        spec |= {"stimulus": spec["stimulus"] | {"presentations": 2}, "record": {"points": 2}}
        spec |= {"timescales": {"plasticity": "0.5 s", "propagation": "5 ms"}}
    made, recording, truth = made_of(free(spec))
    rng = np.random.default_rng(0)
    place = truth + rng.normal(size=truth.shape) / (4 * WIDTH)
    rows = Rows(np.arange(recording.presentations, dtype=np.int32), recording.seen)
    forward = jax.jit(made.scored)(place, rows, made.data)
    program = jax.jit(jax.value_and_grad(lambda place: loss(made, place, rows, made.data)))
    value, backward = program(place)
    prior = made.prior(place)
    np.testing.assert_allclose(forward.gradient + prior.gradient, backward, rtol=1e-6, atol=1e-6)
    assert np.isclose(value, forward.loss + prior.loss, rtol=1e-9)
    for along in (np.eye(len(place))[0], rng.normal(size=len(place)) / WIDTH):
        ends = [program(place + side * 1e-5 * along)[0] for side in (1, -1)]
        assert np.isclose(backward @ along, (ends[0] - ends[1]) / 2e-5, rtol=1e-5)


def test_what_is_left_of_information_whatever_the_weights_are():
    """Two numbers and a weight w of prior 1, all seen in sums: of y = a + w only the error of both together is left."""
    slopes = np.array([[3.0, 0, 1], [0, 2, 0]])
    information = slopes.T @ slopes + np.diag([0, 0, WIDTH**2])
    covariance = np.linalg.inv(information)[:2, :2]
    np.testing.assert_allclose(marginal(information, 2), np.linalg.inv(covariance))
    assert marginal(information, 3) is not None and spent(information, 3) == 3
    assert np.isclose(spent(information, 2), 2)  # nothing is left for the weight to be known by
    known = np.diag([1, 1, 3 * WIDTH**2])  # twice as much of data as of the prior
    assert np.isclose(spent(known, 2), 2 + 2 / 3)


@pytest.fixture(scope="module")
def freed():
    """A fit whose weights are free, of a recording that began with others than those of its spec."""
    spec = free(table(presentations=40, observe=ALL, free=(PLASTICITY,), starts=2))
    made, _, truth = made_of(spec)
    place = truth.copy()
    place[1:] += 0.3 * np.random.default_rng(1).normal(size=len(place) - 1) / WIDTH
    eta = made.predicted(place, 40, made.data)[0]
    noise = np.random.default_rng(2)
    seen = {name: one["mean"] + 0.05 * noise.normal(size=one["mean"].shape) for name, one in eta.items()}
    return spec, seen, plasticode.fit(spec, seen), made, place


def test_weights_that_are_off_are_a_misfit_if_known_and_none_if_free(freed):
    spec, seen, found, made, place = freed
    one = found.estimates[PLASTICITY]
    assert one.verdict == "identified" and one.low < 0.5 < one.high and found.ok
    known = plasticode.fit(fit_of(spec, initial_weights="known"), seen)
    assert known.estimates[PLASTICITY].verdict in ("misfit", "at-bound")
    assert found.weights is not None and known.weights is None
    are_told(found.weights)
    weights = made.initial.at(place[1:])
    beyond = [(found.weights[name] - weights[name]) / found.weights[f"{name}_error"] for name in ("W1", "W2")]
    assert np.mean(np.abs(np.concatenate([np.ravel(one) for one in beyond])) < 1.96) > 0.8
    assert np.array_equal(weights["b1"], np.zeros((3, 1))) and "b1" not in found.weights  # which the init does not draw


def test_many_free_weights_descend_to_the_same_optimum(freed, monkeypatch):
    spec, seen, found, *_ = freed
    monkeypatch.setattr(fitting, "FORWARD", 3)
    other = plasticode.fit(spec, seen)
    assert np.isclose(other.log_likelihood, found.log_likelihood, atol=0.05)
    one, same = (fit.estimates[PLASTICITY] for fit in (other, found))
    np.testing.assert_allclose([one.value, one.low, one.high], [same.value, same.low, same.high], rtol=0.01)


def test_the_weights_of_a_recording_are_those_that_it_begins_with(tmp_path):
    spec = make_spec(fit_of(table(presentations=10, observe=ALL), initial_weights="start"))
    asked = read_fit(spec)
    recording, _ = simulation.simulated(spec, asked, 0)
    recordings.dataset(recording, asked).to_netcdf(tmp_path / "r.nc", engine="h5netcdf")
    read = recordings.read(tmp_path / "r.nc", asked)
    moved = read._replace(start=dict(read.start) | {"W1": read.start["W1"] + 1})
    plain, own, other = (model(spec, asked, one) for one in (None, read, moved))
    place = truth_of(own)
    first = [one.predicted(place, 2, one.data)[0]["z1"]["mean"][0] for one in (plain, own, other)]
    np.testing.assert_array_equal(first[0], first[1])
    sample = own.data["train_inputs"][int(jax.jit(own.regime)({}, own.data)[0].stream.index(0))]
    np.testing.assert_allclose(np.arctanh(first[2]) - np.arctanh(first[0]), np.full(3, sample.sum()), rtol=1e-6)


@pytest.mark.parametrize(
    "data, told",
    [
        ({}, "no weights for fit.initial_weights = 'start': it is 'known', 'free', or what their names begin with"),
        ({"start_W1": np.zeros((3, 3))}, "'start_W1' of shape [3, 3]: it must be [3, 2], targets first"),
        ({"start_W1": np.full((3, 2), np.nan)}, "NaN or infinite values in 'start_W1'"),
        ({"start_W9": np.zeros((3, 2))}, "'start_W9', and the rule's network has no such map"),
    ],
)
def test_weights_that_do_not_fit_are_told_in_a_sentence(data, told):
    with pytest.raises(PlasticodeError) as caught:
        plasticode.fit(fit_of(table(), initial_weights="start"), SEEN | data)
    assert told in str(caught.value)


def test_too_many_free_weights_are_refused(monkeypatch):
    monkeypatch.setattr(initial, "MOST", 17)
    with pytest.raises(PlasticodeError, match="makes 18 weights free: at most 17 are allowed"):
        plasticode.fit(free(table()), SEEN)
