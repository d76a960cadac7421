"""Recordings as laboratories keep them: trials of their own lengths in an NWB file or a table, with holes, fitted."""

import h5py
import numpy as np
import pandas as pd
import pytest
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


def test_a_name_that_two_folders_have_is_refused(tmp_path):
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a/rates"] = file["b/rates"] = np.zeros((4, 2))
    fit = read_fit(make_spec(spec_of(tmp_path / "two.h5")))
    with pytest.raises(PlasticodeError, match="has a/rates and b/rates: one of them must be 'rates'"):
        recordings.read(tmp_path / "two.h5", fit)


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
