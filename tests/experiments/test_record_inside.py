"""`record.inside`: what is seen is that of the run alone, labelled, and told in a sentence where it cannot be."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from dynamics.errors import PlasticodeError
from dynamics.observe import observe
from experiments.execution import runner
from experiments.points.assemble import build
from experiments.points.inside import _told
from experiments.points.jobs import points_of, prepare, sweeps
from experiments.predictions.study import see_the_dynamics
from experiments.report.figures import save
from experiments.report.inside import inside_figures
from experiments.results.labels import Results
from experiments.spec import extents
from experiments.spec.inside import TOLD, coordinates, neurons_of
from experiments.spec.loading import load_spec, make_spec
from experiments.spec.spec import dump_toml
from experiments.spec.toml_text import parse_toml

pytestmark = pytest.mark.usefixtures("unchecked_types", "unjudged")
SEEN = {"inside": ["z1", "e2", "W1"], "inside_presentations": [1, 4], "inside_times": 9, "inside_neurons": {"z1": [2]}}
SPEC = {
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 20, "test_samples": 10},
    "network": {"hidden": [4]},
    "rule": "fa",
    "dtype": "float64",
    "delays": {"error": "0.3 T"},
    "integrator": {"name": "euler", "dt": "5 ms", "tolerance": 0.9},
    "timescales": {"propagation": "10 ms"},
    "stimulus": {"presentations": 6, "gap": "10 ms"},
    "record": {"points": 2, "probes": ["loss"], **SEEN},
    "sweep": {"stimulus.duration": ["50 ms", "30 ms"]},
}


def with_record(**keys) -> dict:
    return {**SPEC, "record": {**SPEC["record"], **keys}}


def test_a_sweep_sees_what_the_run_of_a_point_does():
    """Periods that differ: times are shares of them. And probes do not depend on what else is recorded. Beside saved
    weights names are longer."""
    spec = make_spec(with_record(weights="end"))
    data = runner.run(spec).datasets[""]
    (job,) = prepare(spec)[""]
    values, seeds = points_of(job, slice(1, 2))
    point: Any = {path: value[0] for path, value in values.items()}
    data_of: Any = job.data
    run, key = build(job.plan, point, seeds[0], data_of)
    alone = observe(run, ["z1", "e2", "W1"], [1, 4], 9, key=key)  # pyright: ignore[reportArgumentType]
    one = data.sel(stimulus_duration=0.03)
    np.testing.assert_allclose(one["z1_inside"], np.asarray(alone.seen["z1"])[..., [2]], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(one["W1_inside"].transpose(..., "z1_neuron", "z0_neuron"), alone.seen["W1"][:, :, [2]])
    error = one["e2_inside"]
    assert error.dims == ("inside_presentation", "inside_time", "z2_neuron") and np.abs(error).max() > 0.01
    assert data["inside_presentation"].values.tolist() == [1, 4] and data["z1_neuron"].values.tolist() == [2]
    assert data["inside_time"].attrs["units"] == "period" and data["inside_time"].values[[0, -1]].tolist() == [0, 1]
    assert error.attrs == {"long_name": "error of layer z2", "units": "1"}
    kept = {key: value for key, value in SPEC["record"].items() if not key.startswith("inside")}
    plain = runner.run(make_spec({**SPEC, "record": kept})).datasets[""]
    xr.testing.assert_allclose(data["loss"], plain["loss"], rtol=1e-9)
    assert {"z1_inside", "e2_inside", "W1_inside"} < set(data.data_vars) - set(plain.data_vars)
    assert data["W1"].dims == ("stimulus_duration", "z1", "z0")
    check_figure(sweeps({"": [job]}), data)
    told = data.assign(inside_told=(("stimulus_duration", "inside_presentation"), [[0, 1], [1, 0]]))
    axes = inside_figures(sweeps({"": [job]}), Results({"": told}, True))["inside"].axes
    assert [len(panel.lines) for panel in axes[:4]] == [1, 2, 2, 1]  # an error only where a target was told


def check_figure(grids: dict, data: xr.Dataset) -> None:
    """A column for each presentation of each point, a row for each signal: numbers over seconds, and the windows."""
    figure = inside_figures(grids, Results({"": data}, True))["inside"]
    panels = np.array(figure.axes).reshape(3, 4)
    for column, (duration, presentation) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        shown, one = [0.05, 0.03][duration], {"stimulus_duration": duration, "inside_presentation": presentation}
        error, *neurons = panels[1, column].lines
        np.testing.assert_allclose(error.get_xdata(), [0.3 * shown, min(1.3 * shown, shown + 0.01)])
        window: Any = panels[1, column].patches[0]
        np.testing.assert_allclose([window.get_x(), window.get_width()], [0, shown])
        for line, neuron in zip(neurons, range(2), strict=True):
            np.testing.assert_allclose(line.get_xdata(), (shown + 0.01) * data["inside_time"])
            np.testing.assert_array_equal(line.get_ydata(), data["e2_inside"].isel(one | {"z2_neuron": neuron}))
    assert panels[0, 3].get_title() == "stimulus duration 30 ms\npresentation 4"


def test_sources_of_a_matrix_within_a_layer_have_a_dimension_of_their_own():
    """xarray does next to nothing with a variable that has a dimension twice."""
    dims = neurons_of(("z1", "z1"))
    assert dims == ("z1_neuron", "z1_source_neuron")
    found = coordinates(make_spec(SPEC).record, np.array([0.06]), dims)
    assert [found[dim][:2] for dim in dims] == [(dim, [2]) for dim in dims]
    assert dims[1] not in coordinates(make_spec(SPEC).record, np.array([0.06]), dims[:1])


def test_a_resolved_spec_is_read_again_and_says_nothing_of_what_is_off():
    spec = make_spec(SPEC)
    assert make_spec(parse_toml(dump_toml(spec))) == spec and "inside_times = 9" in dump_toml(spec)
    assert "inside" not in dump_toml(load_spec("delay-sweep"))


@pytest.mark.parametrize(
    "table, sentence",
    [
        (with_record(inside=["z1", "e7"]), "name in record.inside 'e7' is not known.*did you mean 'e"),
        (with_record(inside_neurons={"z1": [4]}), r"inside_neurons.z1 = \[4\].*layer 'z1' has 4 neurons"),
        (with_record(inside_neurons={"z9": [0]}), "layer in record.inside_neurons 'z9' is not known"),
        (with_record(inside_presentations=[6]), "in ascending order, from 0 to 5"),
        (with_record(inside_presentations=[]), "record.inside_presentations is missing"),
        (with_record(inside=[]), "record.inside_presentations = .*it needs record.inside"),
        (with_record(inside="z1"), 'record.inside = .z1. is not allowed: it must be a list, such as ."z1".'),
        (with_record(inside=["z1", "z1"]), "results can have 'z1' once only"),
        (SPEC | {"regime": "flow", "delays": {}}, "record.inside = .*regime = 'flow' has settled activities"),
        (SPEC | {"sweep": {"record.inside_times": [3, 4]}}, "all points of a sweep are recorded alike"),
    ],
)
def test_what_cannot_be_seen_is_told(table, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        prepare(make_spec(table))


def test_presentations_are_counted_over_all_phases():
    """The fourth is in the second phase, and is no presentation of a run of three."""
    phases = [{"name": "early", "presentations": 3}, {"name": "late", "presentations": 3}]
    table = {**SPEC, "stimulus": {"gap": "10 ms"}, "phases": phases}
    assert make_spec(table).record.inside_presentations == (1, 4)
    with pytest.raises(PlasticodeError, match="from 0 to 5"):
        make_spec({**table, "record": {**SPEC["record"], "inside_presentations": [6]}})


def test_more_than_a_file_should_have_is_refused(monkeypatch):
    numbers = 2 * 2 * 9 * (1 + 2 + 3)
    monkeypatch.setattr(extents, "MOST_KEPT", numbers)
    assert set(prepare(make_spec(SPEC))[""][0].arrays) == {"z1", "e2", "W1"}
    monkeypatch.setattr(extents, "MOST_KEPT", numbers - 1)
    with pytest.raises(PlasticodeError, match=f"ask for too much: .*would be {numbers} numbers at 2 points"):
        prepare(make_spec(SPEC))


def test_the_picture_of_the_dynamics_and_its_claims(tmp_path):
    spec = load_spec("see-the-dynamics", ["record.inside_times=131", "integrator.tolerance=0.001"])
    jobs = prepare(spec)
    results = runner.run(spec, jobs=jobs)
    report = see_the_dynamics.study(spec, sweeps(jobs), results)
    assert [verdict.passed for verdict in report.verdicts] == [True, True]
    assert save(report.figures, tmp_path)["see-the-dynamics"].stat().st_size > 0
    data = results.datasets[""]
    off = results._replace(datasets={"": data.assign(W1=1.1 * data["W1"])})
    assert [verdict.passed for verdict in see_the_dynamics.study(spec, sweeps(jobs), off).verdicts] == [False, False]


def test_frames_that_are_told_a_target_are_known():
    """The second of three: a bar, that it has moved, a blank. Of two sequences side by side those of the first."""
    task = {"name": "moving-bar", "pixels": 3, "width": 1, "moves": 1, "blank": 1, "samples": 10}
    record = {"points": 2, "probes": ["loss"], "inside": ["z1"], "inside_presentations": [3, 4]}
    spec = make_spec({**SPEC, "task": task, "record": record, "sweep": {}, "stimulus": {"presentations": 6}})
    (job,) = prepare(spec)[""]
    values, seeds = points_of(job, slice(0, 1))
    point: Any = {path: value[0] for path, value in values.items()}
    run: Any = build(job.plan, point, seeds[0], job.data)[0]  # pyright: ignore[reportArgumentType]
    for sides in (run, dataclasses.replace(run, batch=2)):
        assert [float(_told(sides, jnp.asarray(k))[TOLD]) for k in range(6)] == [0, 1, 0, 0, 1, 0]
    assert job.arrays[TOLD].shape == (2,)
