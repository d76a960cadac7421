"""The probe `fisher` of runs whose errors are known in closed form."""

import json
import pickle

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import plasticode
from dynamics.errors import PlasticodeError
from experiments.commands.cli import app
from experiments.execution import cluster
from experiments.inference import design, expected
from experiments.inference.expected import prepared
from experiments.inference.verdicts import certainty
from experiments.inference.writing import best_sentences
from experiments.points.jobs import Chunking, layout_of, marks_of
from experiments.results.labels import Table
from experiments.spec.loading import make_spec
from experiments.spec.spec import dump_toml
from experiments.storage.status import status_of

pytestmark = pytest.mark.usefixtures("unchecked_types")

FIRST, SECOND, SD = "timescales.plasticity.0", "timescales.plasticity.1", "observe.W2.sd"
SPEC = {
    "regime": "discrete",
    "rule": "fa",
    "dtype": "float64",
    "task": {"name": "circles", "samples": 40},
    "network": {"hidden": [3]},
    "stimulus": {"presentations": 2},
    "timescales": {"plasticity": "10 T"},
    "record": {"probes": ["fisher", "loss"], "points": 2, "weights": "records"},
    "sweep": {"stimulus.duration": ["50 ms", "100 ms"], "seeds": 2},
    "fit": {
        "free": {FIRST: ["0.1 s", "10 s"], SECOND: ["0.1 s", "10 s"], SD: {"range": [0.01, 1], "scale": "linear"}},
        "observe": [{"of": "W2", "sd": 0.05}],
    },
}


def fit_of(**changes) -> dict:
    return {"fit": SPEC["fit"] | changes}


def test_errors_are_those_of_the_closed_form_and_of_a_design(tmp_path):
    """W2 is seen as both presentations begin. By the second it has moved by U / tau, whose slope along log tau is -U /
    tau; what W1 learns in the first is not seen in it yet. N values of W2 know their sd to sd / sqrt(2 N)."""
    spec = make_spec(SPEC)
    (tmp_path / "spec.toml").write_text(dump_toml(spec))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    data = plasticode.open(tmp_path / "out")
    assert data.fisher.dims == ("stimulus_duration", "seed", "free") and (data.status == 0).all()
    assert data.free.values.tolist() == [FIRST, SECOND, SD] and "units" in data.fisher.attrs
    moved = data.W2.isel(record=1) - data.W2.isel(record=0)
    dims = [dim for dim in moved.dims if dim not in data.fisher.dims]
    errors = data.fisher
    assert np.isposinf(errors.sel(free=FIRST)).all()
    np.testing.assert_allclose(errors.sel(free=SECOND), 0.05 / np.sqrt((moved**2).sum(dims)), rtol=1e-9)
    np.testing.assert_allclose(errors.sel(free=SD), 0.05 / np.sqrt(2 * 2 * moved[0, 0].size), rtol=1e-9)
    np.testing.assert_allclose(plasticode.design(spec).errors, errors, rtol=1e-12)


def test_rows_of_a_recorded_experiment_are_shown_again_by_a_run_and_once_in_a_design(tmp_path):
    """Errors beside a run of 7 presentations of 3 rows are those of a design of a file of 7; rows after the last had
    been the last."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 2)), rng.normal(size=(3, 1))
    rows, made = np.arange(7) % 3, {}
    for name, at in (("3", rows[:3]), ("7", rows)):
        np.savez(tmp_path / f"{name}.npz", inputs=x[at], targets=y[at])
        table = {key: SPEC[key] for key in ("regime", "rule", "network", "timescales", "record", "dtype")}
        task = {"name": "recorded", "file": str(tmp_path / f"{name}.npz")}
        fit = {"free": {SECOND: ["0.1 s", "10 s"]}, "observe": [{"of": "W2", "sd": 0.05}]}
        made[name] = table | {"task": task, "stimulus": {"presentations": 7, "order": "sequential"}, "fit": fit}
    beside = plasticode.run(make_spec(made["3"])).data.fisher
    np.testing.assert_allclose(np.ravel(beside), np.ravel(plasticode.design(made["7"]).errors), rtol=1e-9)
    with pytest.raises(PlasticodeError, match="stimulus.presentations = 7 is not allowed: task.file has 3 rows"):
        plasticode.design(made["3"])


def test_an_interrupted_design_goes_on_to_the_same_numbers(tmp_path, monkeypatch):
    """Of two chunks, of four protocols at four truths: it stops in the second, and does not do the first again."""
    spec = make_spec(SPEC | {"record": {"points": 1}} | fit_of(truths=4))
    monkeypatch.setattr(design.Plans, "chunking", lambda *_: Chunking(8, 8, 1))
    (tmp_path / "spec.toml").write_text(dump_toml(spec))
    out, calls, real = tmp_path / "out", [], expected.Informer.__call__
    straight = design.design(spec)

    def stops(self, *of):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *of)

    def commanded(*more):
        return CliRunner().invoke(app, ["design", str(tmp_path / "spec.toml"), "--out", str(out), *more])

    with monkeypatch.context() as patch:
        patch.setattr(expected.Informer, "__call__", stops)
        done = commanded()
        assert done.exit_code == 130 and f"what is done is kept in {out}" in done.output
        assert status_of(out, [])[0] == "experiment: 8 of 16 points are finished (50%)"
        other = commanded("--set", "fit.truths=3")
        assert other.exit_code == 2 and "another spec (fit.truths is 4 there, 3 here" in other.output
        of_run = CliRunner().invoke(app, ["run", str(tmp_path / "spec.toml"), "--out", str(out)])
        assert of_run.exit_code == 2 and f"'{out}' holds a design, and this is a run" in of_run.output
        assert commanded().exit_code == 0 and len(calls) == 3
    with xr.open_dataset(out / "design.nc") as found:
        xr.testing.assert_identical(found.load(), straight.data)
    assert not (out / "chunks").exists() and status_of(out, []) == [f"finished: a design in {out / 'design.nc'}"]


def test_results_in_memory_and_workers_know_what_is_free():
    spec = make_spec(SPEC)
    (job,) = prepared(spec)[""]
    data = Table(job.sweep, marks_of(spec), layout=layout_of([job])).dataset(spec, "", job.outputs)
    assert data.fisher.dims == ("stimulus_duration", "seed", "free") and data.free.values.tolist() == [
        FIRST,
        SECOND,
        SD,
    ]
    packed, table = pickle.dumps(job.beside_runs), json.dumps(spec.table())
    chunking = Chunking(1, 1, 1)
    request = cluster.Request(table, "", 0, chunking, "", "", (), 1, False, "", cluster.of_job, packed)
    made = cluster.of_job(request, 1, None).job
    assert made.beside_runs == job.beside_runs is not None and made.plan.spec.fit == spec.fit


def test_results_of_another_fit_are_others():
    """The table [fit] is of the spec where a probe heeds it, and nowhere else."""
    other = fit_of(observe=[{"of": "W2", "sd": 0.1}])
    spec, changed = make_spec(SPEC), make_spec(SPEC | other)
    assert spec.hash() != changed.hash() and make_spec(spec.resolved()).hash() == spec.hash()
    plain = SPEC | {"record": {"probes": ["loss"], "points": 1}}
    assert make_spec(plain).hash() == make_spec(plain | other).hash() and "fit" not in make_spec(plain).table()


def test_nothing_is_known_of_a_run_that_diverges():
    told = certainty(np.array([[1.0, np.nan], [np.nan, np.inf]]))
    assert np.isnan(told.errors).all() and told.null == []


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"fit": {}}, r"there must be a table \[fit\]"),
        ({"dtype": "float32"}, "dtype must be 'float64', and is 'float32'"),
        ({"regime": "coupled", "sweep": {"noise.activity": [0, 0.1]}}, "noise.activity is not allowed here"),
        ({"sweep": {"timescales.plasticity.1": ["1 s", "2 s"]}}, "is free and swept at once"),
        ({"sweep": {}, "parts": {"a": {}}}, "'parts' is not allowed in a fit"),
        (fit_of(sweep={"observe.0.every": [1, 2]}), "fit.sweep = .* is not allowed: the probe 'fisher' is of"),
        (fit_of(truths=3), "fit.truths = 3 is not allowed: the probe 'fisher' is of"),
        (fit_of(free={SECOND: ["1 s", "2 s"]}), "is outside of its range"),
        (
            fit_of(observe=[{"of": "W9", "sd": 1}], free={SECOND: ["0.1 s", "1 s"]}),
            "fit.observe.0.of 'W9' is not known",
        ),
        (fit_of(observe=[{"of": "fisher", "sd": 1}], free={SECOND: ["0.1 s", "1 s"]}), "'fisher' is not known"),
    ],
)
def test_what_has_no_errors_is_told_in_a_sentence(changes, told):
    with pytest.raises(PlasticodeError, match=told) as caught:
        prepared(make_spec(SPEC | changes))
    assert "\n" not in str(caught.value)


def test_a_design_has_no_errors_of_runs_that_have_not_converged(monkeypatch):
    """Euler's steps of 5 ms are off by 4 and 6 %, a quarter of them by 0.99 and 1.24 %."""
    monkeypatch.setattr(design, "REFINEMENTS", 1)
    spec = SPEC | {
        "regime": "coupled",
        "integrator": {"name": "euler", "dt": "5 ms", "tolerance": 0.011},
        "stimulus": {"duration": "50 ms", "presentations": 2},
        "record": {"points": 1},
        "sweep": {"timescales.propagation": ["0.1 s", "20 ms"]},
    }
    informers, made = [], design.Informer
    monkeypatch.setattr(design, "Informer", lambda *of: informers.append(of) or made(*of))
    found = plasticode.design(spec | fit_of(free={SECOND: ["0.1 s", "10 s"]}))
    assert np.isfinite(found.errors.values.ravel()).tolist() == [True, False]
    assert len(informers) == 3  # the first looks what is wrong
    assert "1 of 2 runs have not converged" in best_sentences(found)[-1]
