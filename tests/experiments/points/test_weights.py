"""Weights that come from files and go into results: a run that goes on from another, and what is refused."""

import re

import numpy as np
import pytest
import xarray as xr

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.execution import runner
from experiments.points import jobs
from experiments.points.weights import START, Map, given_start
from experiments.results.netcdf import open_results
from experiments.spec.loading import make_spec
from experiments.storage.rundir import _difference, header_of
from tests.experiments.commands.test_cli import plasticode
from tests.experiments.results.saved import save

pytestmark = pytest.mark.usefixtures("unchecked_types")
BASE = {
    "regime": "discrete",
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 8, "test_samples": 4},
    "network": {"hidden": [4]},
    "timescales": {"plasticity": "4 T"},
    "stimulus": {"presentations": 16, "order": "sequential"},
    "record": {"points": 1, "weights": "end"},
}
MAPS = {"W1": Map(("z1", "z0"), (4, 3)), "b1": Map(("z1", "one"), (4, 1))}
GOOD = {"W1": np.arange(12.0).reshape(4, 3), "b1": np.ones((4, 1)), "other": np.ones(2)}


def spec_of(**tables):
    merged = {key: value | tables.pop(key, {}) if isinstance(value, dict) else value for key, value in BASE.items()}
    return make_spec(merged | tables)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    look_in(tmp_path)
    return tmp_path


def test_a_run_goes_on_from_the_end_of_another(here):
    """Two runs of 16 updates each, the samples in their order, are one of 32: plain updates have no state but weights,
    and what rounding took, which is lost between the two."""
    whole = spec_of(stimulus={"presentations": 32}, record={"points": 2, "weights": "records"})
    straight = runner.run(whole).datasets[""]
    (here / "first").mkdir()
    first = runner.run(spec_of())
    save(first, here / "first" / "results.nc")
    second = runner.run(spec_of(network={"weights": "first"})).datasets[""]
    assert straight.W1.dims == ("record", "z1", "z0") and second.b2.dims == ("z2", "one")
    for name in ("W1", "b1", "W2", "b2"):
        np.testing.assert_allclose(first.datasets[""][name], straight[name][1], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(second[name], straight[name][2], rtol=1e-5, atol=1e-6)
        assert np.abs(straight[name][2] - straight[name][1]).max() > 1e-2


def test_layers_of_several_sizes_are_saved_side_by_side_and_found_again(here):
    """By the command, whose merged file equals what the same run has in memory."""
    settings = {"record": {"points": 2, "weights": "records"}, "sweep": {"network.hidden": [[4], [3]], "seeds": 2}}
    (here / "spec.toml").write_text(
        'regime = "discrete"\n[task]\nname = "gaussian-regression"\ninputs = 3\noutputs = 2\nsamples = 8\n'
        'test_samples = 4\n[timescales]\nplasticity = "4 T"\n[stimulus]\npresentations = 16\norder = "sequential"\n'
        '[record]\npoints = 2\nweights = "records"\n[sweep]\n"network.hidden" = [[4], [3]]\nseeds = 2\n'
    )
    plasticode("run", "spec.toml", "--out", "out")
    found, expected = open_results("out"), runner.run(spec_of(**settings)).datasets[""]
    for name in ("W1", "b1", "W2", "b2", "loss"):
        xr.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    narrow = found.W1.sel(network_hidden="[3]", seed=1)
    assert np.isnan(narrow[:, 3]).all() and np.isfinite(narrow[:, :3]).all()
    for point in ("out#3", "out#network_hidden=[3],seed=1"):
        maps = {"W1": Map(("z1", "z0"), (3, 3)), "b1": Map(("z1", "one"), (3, 1))}
        given = given_start(spec_of(network={"hidden": [3], "weights": point}), maps)
        np.testing.assert_array_equal(given[START + "W1"], narrow[-1, :3])


def test_a_run_goes_on_only_with_the_weights_that_it_began_with(here):
    for name, shift in (("same", 0), ("other", 1)):
        np.savez(here / f"{name}.npz", W1=np.ones((2, 3)), b1=np.full((2, 1), shift))
    spec = {**BASE, "network": {"hidden": [], "weights": "same.npz"}}
    runs = []
    for source in ("same", "same", "other"):
        np.savez(here / "same.npz", **np.load(here / f"{source}.npz"))
        (job,) = jobs.prepare(make_spec(spec))[""]
        header = header_of(make_spec(spec), {"": [job]}, jobs.Chunking(1, 1, 1))
        runs.append(header["run"])
    assert _difference(runs[0], runs[1]) == ""
    assert _difference(runs[0], runs[2]) == "results of other data: the files of network.weights have changed"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"W1": None, "w1": GOOD["W1"]},
            "it has no 'W1', which the rule's network has, but b1 [4, 1], other [2], w1 [4, 3]; did",
        ),
        ({"W1": GOOD["W1"].T}, "its 'W1' has shape [3, 4], and must have [4, 3] for (z1, z0): transpose it"),
        ({"b1": np.ones(4)}, "its 'b1' has shape [4], and must have [4, 1] for (z1, one)"),
        ({"W1": GOOD["W1"] * np.nan}, "its 'W1' has NaN at [0, 0] (counted from 0): all must be finite"),
        ({"b1": np.full((4, 1), 1e39)}, "its 'b1' has 1e+39, which is no number of float32, at [0, 0]"),
        ({"b1": np.full((4, 1), "x")}, "its 'b1' has texts, and must have numbers"),
        ({"b1": np.full((4, 1), None, object)}, "Python objects"),
    ],
    ids=["missing", "transposed", "shape", "nan", "huge", "texts", "pickled"],
)
def test_a_file_with_other_weights_is_refused(change, told, here):
    np.savez(here / "w.npz", **{name: value for name, value in (GOOD | change).items() if value is not None})
    with pytest.raises(PlasticodeError, match=re.escape(told)) as error:
        given_start(spec_of(network={"weights": "w.npz"}), MAPS)
    assert "w.npz" in str(error.value)


def test_a_file_with_these_weights_is_read(here):
    np.savez(here / "w.npz", **GOOD)
    given = given_start(spec_of(network={"weights": "w.npz"}), MAPS)
    assert given.keys() == {START + name for name in MAPS} and given[START + "W1"].dtype == np.float32
    np.testing.assert_array_equal(given[START + "W1"], GOOD["W1"])


def test_biases_are_refused_where_the_network_has_none(here):
    np.savez(here / "w.npz", **GOOD)
    with pytest.raises(PlasticodeError, match="it has 'b1', and this network has no biases: network.bias must be true"):
        given_start(spec_of(network={"weights": "w.npz"}), {"W1": MAPS["W1"]})


def saved(status=0, **variables):
    """Results of 2 x 2 points as a run saves them."""
    axes = {"rule": ["fa", "kp"], "delays_error": [0.0, 0.5]}
    data = xr.Dataset(coords=axes | {"presentation": ("record", [0, 1])})
    data["status"] = (tuple(axes), np.full((2, 2), status, np.int8))
    for name, value in variables.items():
        data[name] = ((*axes, *MAPS[name].dims), np.full((2, 2, 4, *MAPS[name].shape[1:]), value))
        data[name].attrs["long_name"] = f"weights {name}"
    return data


@pytest.mark.parametrize(
    ("text", "data", "told"),
    [
        ("run", saved(W1=1.0), "network.weights = 'run' is not allowed: after # there must be a point of the run: "),
        ("run#", saved(W1=1.0), "after # there must be a point of the run: 0 to 3, or rule=...,delays_error=..."),
        ("run#4", saved(W1=1.0), "after # there must be a point of the run: 0 to 3"),
        ("run#rule=fa", saved(W1=1.0), "after # there must be a point of the run: 0 to 3"),
        ("run#rule=fb,delays_error=0.5", saved(W1=1.0), "rule = fb is none of fa, kp"),
        ("run#rule=fa,delays_error=0.4", saved(W1=1.0), "delays_error = 0.4 is none of 0, 0.5"),
        ("run#adult/1", saved(W1=1.0), "there must be DIR#PART/POINT, with a part among"),
        ("run#1", saved(), "this run has saved no weights: it must have record.weights = 'end' or 'records'"),
        ("run#1", saved(W1=1.0), "it has no 'b1'"),
        ("run#1", saved(1, W1=1.0, b1=1.0), "this point has diverged"),
        ("run#1", saved(3, W1=1.0, b1=1.0), "this point is not finished"),
        ("run#1", saved(W1=np.nan, b1=1.0), "its 'W1' has NaN at [0, 0]"),
        ("run#1", saved(W1=np.inf, b1=1.0), "its 'W1' has inf, which is no number of float32, at [0, 0]"),
        ("no#1", saved(W1=1.0), "network.weights 'no' does not exist"),
    ],
)
def test_a_point_without_these_weights_is_refused(text, data, told, here):
    (here / "run").mkdir()
    data.to_netcdf(here / "run" / "results.nc", engine="h5netcdf")
    with pytest.raises(PlasticodeError, match=re.escape(told)):
        given_start(spec_of(network={"weights": text}), MAPS)


def test_what_weights_make_idle_is_refused():
    with pytest.raises(PlasticodeError, match=re.escape("network.gain = 2.0 is not allowed: network.weights gives")):
        spec_of(network={"weights": "w.npz", "gain": 2.0})
    with pytest.raises(PlasticodeError, match=re.escape("sweep.record.weights")):
        spec_of(sweep={"record.weights": ["end", "records"]})
    small = {"record": {"points": 16, "weights": "records"}, "network": {"hidden": [1000, 1000]}}
    with pytest.raises(
        PlasticodeError, match="would be 8.56e\\+08 numbers at 50 points: at most 200000000 can be kept"
    ):
        jobs.prepare(spec_of(**small, sweep={"seeds": 50}))
