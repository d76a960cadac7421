"""Recordings as laboratories keep them: trials of their own lengths in an NWB file or a table, with holes, fitted."""

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import plasticode
from dynamics.errors import PlasticodeError
from experiments.commands.cli import app
from experiments.inference import recordings, simulation
from experiments.inference.model import model
from experiments.inference.table import read_fit
from experiments.spec.loading import make_spec
from experiments.spec.spec import dump_toml

pytestmark = pytest.mark.usefixtures("unchecked_types")

TRIALS, PATH = 60, "timescales.plasticity"


def shown():
    rng = np.random.default_rng(0)
    spans = {"duration": rng.uniform(0.02, 0.2, TRIALS), "gap": rng.uniform(0, 0.5, TRIALS)}
    return {"inputs": rng.normal(size=(TRIALS, 3)), "targets": rng.normal(size=(TRIALS, 2))} | spans


def spec_of(file, **names):
    task = {"name": "recorded", "file": str(file)} | names
    return {
        "regime": "discrete",
        "rule": "fa",
        "task": task,
        "network": {"hidden": [4], "bias": False},
        "stimulus": {"presentations": TRIALS},
        "timescales": {"plasticity": "0.5 s"},
        "fit": {
            "data": str(file),
            "free": {PATH: ["0.05 s", "5 s"]},
            "observe": [
                {"of": "z1", "data": "rates", "neurons": [0, 2], "sd": 0.1},
                {"of": "output", "data": "choice", "noise": "categorical", "temperature": 0.3},
            ],
            "starts": 2,
        },
    }


def seen_of(table):
    """What the spec simulates, and holes in it: trials without a choice, a neuron that was lost."""
    spec = make_spec(table)
    seen = simulation.simulated(spec, read_fit(spec), 1)[0].seen
    seen["choice"][::7], seen["rates"][40:, 1] = np.nan, np.nan
    return seen


@pytest.fixture(scope="module")
def nwb(tmp_path_factory):
    """The layout of NWB: a table of trials with columns, a time series in a folder of its own, in its own unit."""
    path = tmp_path_factory.mktemp("nwb") / "session.nwb"

    def write(**more):
        with h5py.File(path, "w") as file:
            file.attrs["nwb_version"] = "2.7.0"
            for name, values in (shown() | {n: v for n, v in more.items() if n != "rates"}).items():
                file[f"intervals/trials/{name}"] = values
            if "rates" in more:
                series = file.create_dataset("processing/ophys/rates/data", data=more["rates"] / 0.01)
                series.attrs["conversion"] = 0.01

    write()
    trials = {f"{key}s" if key in ("duration", "gap") else key: f"intervals/trials/{key}" for key in shown()}
    table = spec_of(path, **trials)
    seen = seen_of(table)
    write(rates=seen["rates"], choice=seen["choice"][:, 0])
    return table, seen


def test_a_session_of_nwb_is_fitted(nwb):
    table, seen = nwb
    found = plasticode.fit(table)
    one = found.estimates[PATH]
    width = np.log(one.high / one.low)  # 3.9 standard errors
    assert found.ok and abs(np.log(one.value / 0.5)) < 0.8 * width and width < 0.2
    read = recordings.read(table["fit"]["data"], read_fit(make_spec(table)))
    np.testing.assert_allclose(read.seen["rates"], seen["rates"])
    # Were trials taken to be equally long, the time constant would be another.
    even = {key: value for key, value in table["task"].items() if key not in ("durations", "gaps")}
    wrong = plasticode.fit(table | {"task": even, "stimulus": {"presentations": TRIALS, "duration": "20 ms"}})
    assert wrong.estimates[PATH].high < 0.4


def test_the_same_trials_in_a_table(nwb, tmp_path):
    table, seen = nwb
    columns = {
        f"{name}_{i}": shown()[name][:, i] for name in ("inputs", "targets") for i in range(shown()[name].shape[1])
    }
    columns |= {f"rates_{i}": seen["rates"][:, i] for i in range(2)} | {"choice": seen["choice"][:, 0]}
    columns |= {name: shown()[name] for name in ("duration", "gap")}
    pd.DataFrame(columns).to_csv(tmp_path / "trials.csv", index=False)
    other = spec_of(tmp_path / "trials.csv", durations="duration", gaps="gap")
    assert np.isnan(recordings.read(tmp_path / "trials.csv", read_fit(make_spec(other))).seen["rates"][40:, 1]).all()
    places = [np.array([0.4])] * 2
    made = [model(make_spec(one), read_fit(make_spec(one))) for one in (table, other)]
    etas = [one.predicted(place, 10, one.data)[0]["rates"]["mean"] for one, place in zip(made, places, strict=True)]
    np.testing.assert_allclose(*etas, rtol=1e-6)
    np.testing.assert_allclose(made[0].lasting(TRIALS), shown()["duration"] + shown()["gap"], rtol=1e-6)


def test_the_command_looks_whether_a_recording_has_the_layout(nwb, tmp_path):
    table, _ = nwb
    (tmp_path / "s.toml").write_text(dump_toml(make_spec(table)), encoding="utf-8")
    done = CliRunner().invoke(app, ["fit", str(tmp_path / "s.toml"), "--check"])
    assert done.exit_code == 0, done.output
    assert "choice" in done.output and "85 %" in done.output and "60" in done.output
    wrong = CliRunner().invoke(app, ["fit", str(tmp_path / "s.toml"), "--check", "--set", "fit.observe.0.neurons=[1]"])
    assert wrong.exit_code == 2 and "2 values of 'rates' per presentation" in wrong.output


def test_what_is_looked_at_is_what_the_command_would_fit(nwb, tmp_path):
    """A recording that is simulated, rules that are compared, and rows of the task's file that were not recorded."""
    table, seen = nwb
    (tmp_path / "s.toml").write_text(dump_toml(make_spec(table)), encoding="utf-8")
    cases = {
        ("--synthetic",): (0, "The simulated recording has 60 presentations"),
        ("--rules", "fa,sgd"): (0, "which of the rules fa, sgd explains it, in 5 folds"),
        ("--rules", "fa,sdg"): (2, "in fit.rules: rule 'sdg' is not known"),
        ("--rules", "fa,sgd", "--set", "fit.folds=20"): (2, "fit.folds = 20 is not allowed"),
        ("--synthetic", "--data", "r.npz"): (2, "are not allowed together"),
        ("--synthetic", "--set", "timescales.plasticity=9 s"): (2, "timescales.plasticity = 9 is outside of its range"),
    }
    for more, (code, told) in cases.items():
        done = CliRunner().invoke(app, ["fit", str(tmp_path / "s.toml"), "--check", *more])
        assert done.exit_code == code and told in " ".join(done.output.split()), done.output
    np.savez(tmp_path / "r.npz", **{name: values[:40] for name, values in seen.items()})
    short = ["fit", str(tmp_path / "s.toml"), "--check", "--data", str(tmp_path / "r.npz")]
    said = " ".join(CliRunner().invoke(app, short).output.split())
    assert "has 40 presentations: it was taken for the first 40 of the 60 rows of task.file." in said


def test_a_name_that_two_folders_have_is_refused_and_one_that_none_has(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/rates"] = file["b/rates"] = np.zeros((4, 2))
        file["a/choices"] = np.zeros(4)
    fit = read_fit(make_spec(spec_of(tmp_path / "two.h5")))
    with pytest.raises(PlasticodeError, match="has a/rates and b/rates: one of them must be 'rates'"):
        recordings.read(tmp_path / "two.h5", fit)
    of_choices = fit.model_copy(update={"observe": fit.observe[1:]})
    with pytest.raises(PlasticodeError, match="no variable 'choice': .* rates, .*; did you mean 'choices'?"):
        recordings.read(tmp_path / "two.h5", of_choices)


def test_what_is_seen_after_a_short_trial_is_refused(nwb):
    table, seen = nwb
    timed = {"of": "z1", "data": "rates", "neurons": [0], "times": ["30 ms", "0.4 s"], "sd": 0.1}
    late = table | {"regime": "coupled", "fit": table["fit"] | {"observe": [timed]}}
    spec = make_spec(late)
    made = model(spec, read_fit(spec))
    over = made.over(TRIALS)["rates"]
    lasts = shown()["duration"] + shown()["gap"]
    np.testing.assert_array_equal(over, np.stack([lasts < 0.03, lasts < 0.4], axis=1))
    with pytest.raises(PlasticodeError, match="the recording has values of 'rates' at times when presentation"):
        model(spec, read_fit(spec), recordings.read({"rates": np.zeros((TRIALS, 2))}, read_fit(spec), spec.task))
    lagging = make_spec(late | {"delays": {"error": "5 ms"}})
    with pytest.raises(PlasticodeError, match="delays.error = '5 ms' is not allowed: .* delays.stages must be 1 or"):
        model(lagging, read_fit(lagging))


def test_cells_that_are_empty_are_nan_in_what_was_shown_and_seen(tmp_path):
    """Targets that were told in some trials only, and what R writes where there is no number."""
    rows = ["inputs_0,targets_0,rates_0,rates_1,choice", "1,0.5,0.1,NA,1", "2,,nan,0.2,", "3,NA,,0.3,0"]
    (tmp_path / "r.csv").write_text("\n".join(rows))
    spec = make_spec(spec_of(tmp_path / "r.csv"))
    np.testing.assert_array_equal(spec.task.load().train_told, [1, 0, 0])
    seen = recordings.read(tmp_path / "r.csv", read_fit(spec), spec.task).seen
    np.testing.assert_array_equal(seen["rates"], [[0.1, np.nan], [np.nan, 0.2], [np.nan, 0.3]])
    np.testing.assert_array_equal(seen["choice"][:, 0], [1, np.nan, 0])


def test_packed_numbers_of_netcdf_are_in_their_unit(tmp_path):
    """int16 with a factor, as xarray and NCO pack them; 9.97e36 is what netCDF has where nothing was written."""
    rates = np.array([[0.25, np.nan], [-1.5, 3.0]])
    data = xr.Dataset({"rates": (("presentation", "neuron"), rates), "choice": ("presentation", [1.0, np.nan])})
    packed = {"dtype": "int16", "scale_factor": 0.25, "add_offset": 1.0, "_FillValue": -9999}
    coding = {"rates": packed, "choice": {"_FillValue": 9.969209968386869e36}}
    data.to_netcdf(tmp_path / "r.nc", engine="h5netcdf", encoding=coding)
    with h5py.File(tmp_path / "r.nc", "a") as file:
        assert file["rates"][()].dtype == "int16"  # pyright: ignore[reportIndexIssue, reportAttributeAccessIssue]
        del file["choice"].attrs["_FillValue"]
    seen = recordings.read(tmp_path / "r.nc", read_fit(make_spec(spec_of(tmp_path / "r.nc")))).seen
    np.testing.assert_array_equal(seen["rates"], rates)
    np.testing.assert_array_equal(seen["choice"][:, 0], [1, np.nan])


def test_arrays_of_python_are_read_as_files_are(tmp_path):
    spec = make_spec(spec_of(tmp_path / "r.npz"))
    fit, rates = read_fit(spec), np.ma.masked_equal([[1.0, -9.0], [2.0, 3.0]], -9.0)
    data = {"rates": (("trial", "neuron"), rates.filled(0)), "choice": ("trial", [0, 1])}
    read = recordings.read(xr.Dataset(data, {"sample": ("trial", [4, 2])}), fit)
    np.testing.assert_array_equal(read.sample, [4, 2])  # though it is a coordinate
    masked = recordings.read({"rates": rates, "choice": [0, 1]}, fit)
    np.testing.assert_array_equal(masked.seen["rates"], [[1, np.nan], [2, 3]])
    inputs = {"rates": rates, "choice": [0, 1], "inputs": np.zeros((3, 3))}
    with pytest.raises(PlasticodeError, match="2 presentations of 'rates' and 3 of 'inputs'"):
        recordings.read(inputs, fit, spec.task)
    with pytest.raises(PlasticodeError, match="the recording is a list: it must be"):
        recordings.read([rates], fit)  # pyright: ignore[reportArgumentType]


def test_times_come_before_neurons(tmp_path):
    spec = spec_of(tmp_path / "r.npz")
    timed = {"of": "z1", "neurons": [0, 1, 2], "times": ["5 ms", "9 ms"], "sd": 0.1}
    fit = read_fit(make_spec(spec | {"regime": "coupled", "fit": spec["fit"] | {"observe": [timed]}}))
    values = np.arange(24.0).reshape(4, 2, 3)
    assert recordings.read({"z1": values}, fit).seen["z1"][0].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(
        PlasticodeError, match=r"shape \[4, 3, 2\], .* 2 times of it: .*\(presentations, times, numbers\)"
    ):
        recordings.read({"z1": values.transpose(0, 2, 1)}, fit)


def test_matrices_of_another_shape_are_refused(tmp_path):
    np.savez(tmp_path / "r.npz", **shown())  # pyright: ignore[reportArgumentType] - of any name
    table = spec_of(tmp_path / "r.npz")
    spec = make_spec(table | {"fit": table["fit"] | {"observe": [{"of": "W1", "sd": 0.1}]}})
    fit, weights = read_fit(spec), np.zeros((TRIALS, 4, 3))
    assert recordings.read({"W1": weights}, fit, spec.task).seen["W1"].shape == (TRIALS, 12)
    told = r"'W1' of shape \[3, 4\] in each presentation, and 'W1' is \[4, 3\], targets first"
    with pytest.raises(PlasticodeError, match=told):
        model(spec, fit, recordings.read({"W1": weights.transpose(0, 2, 1)}, fit, spec.task))
