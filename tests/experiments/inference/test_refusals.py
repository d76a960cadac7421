"""What a fit refuses: recordings and tables that cannot be, each in one sentence that names what is wrong."""

import numpy as np
import pytest

import plasticode
from dynamics.errors import PlasticodeError
from tests.experiments.inference.test_fitting import PLASTICITY, SEEN, Z1, fit_of, table

pytestmark = pytest.mark.usefixtures("unchecked_types")

WRONG_DATA = {
    "missing": ({"choice": np.zeros(50)}, "no variable 'z1'"),
    "rows": (SEEN | {"choice": np.zeros(49)}, "50 presentations of 'z1' and 49 of 'choice'"),
    "width": (SEEN | {"z1": np.zeros((50, 3))}, "3 values of 'z1' per presentation, and fit.observe has 2"),
    "nothing": (SEEN | {"z1": np.full((50, 2), np.nan)}, "nothing but NaN in 'z1'"),
    "none": ({"z1": np.zeros((0, 2)), "choice": []}, "'z1' of shape [0, 2]: something must have been recorded"),
    "ragged": (SEEN | {"z1": [[1.0, 2.0], [3.0]]}, "lists of different lengths in 'z1'"),
    "there": ({"z": np.zeros((50, 2))}, "and it has z; did you mean 'z'?"),
    "infinite": (SEEN | {"z1": np.full((50, 2), np.inf)}, "infinite values in 'z1'"),
    "texts": (SEEN | {"choice": np.array(["a"] * 50)}, "texts in 'choice'"),
    "half": (SEEN | {"choice": np.full(50, 0.5)}, "0.5 is not allowed: with noise = 'categorical'"),
    "choices": (SEEN | {"choice": np.full(50, 2)}, "there are 2 neurons to choose from"),
    "sample": (SEEN | {"sample": np.full(50, 99)}, "sample in the recording = 99 is not allowed: the task has"),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_a_recording_that_does_not_fit_is_told_in_a_sentence(case):
    data, told = WRONG_DATA[case]
    with pytest.raises(PlasticodeError) as caught:
        plasticode.fit(table(), data)
    assert told in str(caught.value)


FREE = {PLASTICITY: ["0.1 s", "10 s"]}
WRONG_TABLES = {
    "static": (dict(free={"network.hidden": [1, 2]}), "fit.free.network.hidden is not allowed: it is no number"),
    "layer": (dict(free={f"{PLASTICITY}.2": [1, 2]}), "'timescales.plasticity' has 2 values, counted from 0"),
    "unknown": (dict(free={"timescales.plastic": [1, 2]}), "did you mean"),
    "stimulus": (dict(free={"stimulus.duration": [1, 2]}), "the stimulus is what the experiment has set"),
    "noise": (dict(free={"noise.activity": [0.1, 1]}), "a fit integrates no noise of the process"),
    "unheeded": (dict(free={"delays.error": [0, 1]}), "regime = 'discrete', which does not heed it"),
    "order": (dict(free={PLASTICITY: [2, 1]}), "the first must be below the second"),
    "infinite": (dict(free={PLASTICITY: [1, "inf"]}), "both ends of a range must be finite"),
    "unit": (dict(free={PLASTICITY: ["1 parsec", 2]}), "the unit 'parsec' is not known"),
    "sd": (dict(observe=[{"of": "z1"}]), "fit.observe.0.sd is missing"),
    "no sd": (dict(observe=[{"of": "z1"}], free=FREE | {"observe.z1.sd": [0.1, 1]}), "fit.observe.0.sd has no value"),
    "neurons": (dict(observe=[Z1 | {"neurons": [0, 3]}]), "'z1' has 3, numbered from 0"),
    "of": (dict(observe=[Z1 | {"of": "z9"}]), "fit.observe.0.of 'z9' is not known"),
    "kind": (dict(observe=[Z1 | {"noise": "gausian"}]), "fit.observe.0.noise"),
    "number": (dict(observe=[Z1 | {"noise": "poisson"}]), "noise = 'poisson' has rate and gain only"),
    "twice": (dict(observe=[Z1, Z1]), "must have different names"),
    "key": (dict(start=3), "fit.start"),
    "profile": (dict(profile=["rule.feedback_scale"]), "must be one of the free numbers"),
    "observation": (dict(free={"observ.z1.sd": [0.1, 1]}), "did you mean 'observe.z1.sd'?"),
    "rang": (
        dict(free={PLASTICITY: {"rang": [1, 2]}}),
        f"'fit.free.{PLASTICITY}.rang' is not known: it must be one of",
    ),
    "Range": (dict(free={"timescales": {"plasticity": {"Range": [1, 2]}}}), "did you mean 'range'?"),
    "rnage": (dict(free={PLASTICITY: {"rnage": [1, 2], "prior": [1, 1]}}), "did you mean 'range'?"),
    "no range": (dict(free={PLASTICITY: {}}), f"'fit.free.{PLASTICITY}.range' is missing"),
    "off": (dict(observe=[{"off": "z1", "sd": 1}]), "'fit.observe.0.off' is not known: it must be one of"),
    "neuron twice": (dict(observe=[Z1 | {"neurons": [0, 0]}]), "each must be listed once"),
    "time twice": (dict(observe=[Z1 | {"times": ["5 ms", "5 ms"]}]), "each must be listed once"),
    "part": (dict(free=FREE | {f"{PLASTICITY}.0": [1, 2]}), f"'{PLASTICITY}' is free and '{PLASTICITY}.0' too"),
    "swept twice": (dict(sweep={"observe.0.every": [1, 1]}), "each value must be listed once"),
    "swept sd": (
        dict(free=FREE | {"observe.z1.sd": [0.1, 1]}, sweep={"observe.0.sd": [0.1, 0.2]}),
        "'observe.0.sd' of fit.sweep is free and swept at once",
    ),
    "times": (dict(observe=[Z1 | {"times": "5 ms"}]), "fit.observe.0.times = '5 ms' is not allowed: it must be a list"),
    "spaced": (dict(sweep={"observe.0.every": {"linspace": [1, 5, 3]}}), "must be a list of values for each path"),
    "free": (dict(free={PLASTICITY: "1 s"}), 'must be a range, such as ["0.1 s", "50 s"], or'),
    "observe": (dict(observe=["z1"]), "must be a list of tables, such as"),
    "no data": (dict(), "fit.data is missing"),
    "no file": (dict(data="nowhere.npz"), "does not exist"),
}


@pytest.mark.parametrize("case", WRONG_TABLES)
def test_a_table_that_cannot_be_is_told_in_a_sentence(case):
    changes, told = WRONG_TABLES[case]
    with pytest.raises(PlasticodeError) as caught:
        synthetic = case not in ("no data", "no file")
        plasticode.fit(fit_of(table(free=(PLASTICITY,), observe=[Z1]), **changes), synthetic=synthetic)
    assert told in str(caught.value)


def test_a_recording_without_the_weights_that_were_misspelt_is_told_so():
    with pytest.raises(PlasticodeError, match="did you mean 'known'\\?"):
        plasticode.fit(fit_of(table(), initial_weights="knwon"), SEEN)


@pytest.mark.parametrize(
    "more, told",
    [
        ({"sweep": {"seeds": 2}}, "sweep is not allowed in a fit"),
        ({"noise": {"activity": 0.1}, "regime": "coupled"}, "noise.activity is not allowed here"),
        ({"fit": {}}, "has no table [fit]"),
    ],
)
def test_a_spec_that_cannot_be_fitted_is_told_in_a_sentence(more, told):
    with pytest.raises(PlasticodeError) as caught:
        plasticode.fit(table() | more, SEEN)
    assert told in str(caught.value)


@pytest.mark.parametrize("free, swept", [("", ""), (".0", ""), ("", ".0")])
def test_free_and_swept_at_once_is_refused(free, swept):
    """Parts of lists too: a number of all layers would overwrite that of one, or the other way round."""
    spec = fit_of(table(sweep={PLASTICITY + swept: ["1 s", "2 s"]}), free={PLASTICITY + free: ["0.1 s", "10 s"]})
    with pytest.raises(PlasticodeError, match="is free and swept at once"):
        plasticode.design(spec)


def test_a_number_of_rules_that_are_swept_may_be_free():
    spec = fit_of(table(sweep={"rule": ["fa", "kp"]}, observe=[Z1]), free={"rule.feedback_scale": [0.1, 4]})
    assert np.isfinite(plasticode.design(spec).errors).all()


def test_a_lag_that_may_outlast_the_recording_is_refused():
    lag = {"free": {"delays.error": ["0 s", "4 s"]}}
    spec = fit_of(table(observe=[Z1], regime="coupled", stimulus={"presentations": 50, "duration": "70 ms"}), **lag)
    told = r"fit.free.delays.error = \['0 s', '4 s'\] is not allowed: the recording lasts 3.5 s"
    for data in (None, {"z1": np.zeros((50, 2))}):
        with pytest.raises(PlasticodeError, match=told):
            plasticode.fit(spec, data, synthetic=data is None)


@pytest.mark.parametrize("seed", ["a", -1, 1.5])
def test_a_seed_that_cannot_be_is_told_in_a_sentence(seed):
    with pytest.raises(PlasticodeError, match=f"seed = {seed!r} is not allowed: it must be a whole number"):
        plasticode.fit(table(), synthetic=True, seed=seed)


def test_a_fit_is_no_run_to_open(tmp_path):
    (tmp_path / "fit.nc").write_bytes(b"")
    with pytest.raises(PlasticodeError, match="holds no results of a run: xarray.open_dataset reads .*fit.nc'"):
        plasticode.open(tmp_path)
