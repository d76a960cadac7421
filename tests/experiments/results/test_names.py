"""What results are called: names of Python's, and what people call them; numbers are found as they are written."""

import keyword
import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import plasticode
from experiments.report.figures import axis_label, generic_figures
from experiments.results.export import export_table
from experiments.results.labels import Results, Table, attributes, coordinates, long_name
from experiments.results.netcdf import summary
from experiments.results.text_tables import final_tables
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.spec.tables import TRACED
from tests.experiments.results.saved import save

MARKS = np.array([0, 1, 2, 3])
AXES = {
    "delays.error": ["0 T", "0.5 T"],
    "noise.activity": {"linspace": [0, 0.3, 4]},
    "timescales.plasticity.1": ["1 s", "2 s"],
    "seeds": 2,
}
NAMES = {path: path.replace(".", "_") for path in list(AXES)[:-1]}


def results_of(axes: dict, part: str = "", **tables) -> xr.Dataset:
    """What the runner makes of a sweep where all points are ok, its loss the position of the point."""
    tables = {"stimulus": {"duration": "0.1 s", "presentations": 3}, "record": {"points": 3}} | tables
    spec = make_spec({**tables, "sweep": axes})
    sweep = expand(spec)
    table = Table(sweep, MARKS)
    for group in sweep.groups:
        shape = (group.size, len(MARKS))
        norm = {"W1": np.ones(shape), "W2": np.ones(shape)}
        record = {"finite": np.ones(shape, bool), "loss": np.arange(shape[0])[:, None] + np.zeros(shape)}
        table.add(group, np.arange(group.size), record | {"weight_norm": norm})
    return table.dataset(spec, part, 1)


def frame_of(data: xr.Dataset, place) -> pd.DataFrame:
    save(Results({"": data}, True), place / "results.nc")
    export_table(place, place / "table.parquet")
    return pd.read_parquet(place / "table.parquet")


def test_names_are_those_of_python(tmp_path):
    """As attributes of a data set, in a query, as arguments of `sel`, and nowhere with a dot or a space."""
    data = results_of(AXES)
    assert data.delays_error.values.tolist() == [0, 0.5] and data.timescales_plasticity_1.values.tolist() == [1, 2]
    frame = frame_of(data, tmp_path)
    chosen = frame.query("delays_error == 0 and noise_activity == 0.1 and seed == 1 and weight_norm_W1 == 1")
    expected = data.sel(delays_error=0, noise_activity=0.1, seed=1)["loss"].values
    assert len(chosen) == 8 and sorted(chosen["loss"]) == sorted(expected.ravel())
    rows = summary(Results({"": data}, True))["parts"][""]
    assert set(rows["axes"]) == {*NAMES.values(), "seed"} and set(next(iter(rows["final"]))["at"]) == set(
        NAMES.values()
    )
    for name in {*data.dims, *data.variables, *frame.columns}:
        assert str(name).isidentifier() and not keyword.iskeyword(str(name))


def test_coordinates_say_what_they_are(tmp_path):
    save(Results({"": results_of(AXES)}, True), tmp_path / "results.nc")
    data = plasticode.open(tmp_path)
    assert isinstance(data, xr.Dataset)
    for path, name in NAMES.items():
        assert data[name].attrs["path"] == path and data[name].dims == (name,)
    told = [(data[name].attrs["long_name"], data[name].attrs["units"]) for name in NAMES.values()]
    assert told == [("error delay", "T"), ("activity noise", "1"), ("plasticity timescale [1]", "s")]
    assert long_name("rule") == "learning rule" and all(long_name(path) != path for path in TRACED)
    assert long_name("noise.synaptic_multiplicative") == "multiplicative synaptic noise"


def test_people_read_what_they_read_before():
    """The paths of the spec over the columns of a table, long names with units at the axes of a figure."""
    data = results_of(AXES)
    (table,) = final_tables(Results({"": data}, True))
    assert table.header[0] == "noise.activity" and table.header[1] == "timescales.plasticity.1"
    assert table.title.endswith("by delays.error")
    assert axis_label(data, "delays_error") == "error delay / stimulus duration"
    assert axis_label(data, "timescales_plasticity_1") == "plasticity timescale [1] (s)"
    data = results_of({"rule": ["fa", "kp"], "rule.feedback_scale": [1.0, 2.0]})
    assert axis_label(data, "rule_feedback_scale") == "rule.feedback_scale"


def test_values_with_bounds_are_drawn_within_them():
    """Of an accuracy, whose interval may leave them."""
    data = results_of({"rule": ["fa", "kp"]})
    data["accuracy"] = data["loss"].assign_attrs(attributes("accuracy", make_spec({})))
    figures = generic_figures(Results({"": data}, True))
    limits = [figures[name].axes[0].get_ylim() for name in ("accuracy", "loss")]
    assert limits[0] == (0, 1) != limits[1]


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("entry", [[0.1, 0.2, 0.3], {"linspace": [0.1, 0.3, 3]}])
def test_a_number_is_found_as_it_is_written(tmp_path, dtype, entry):
    """Whatever the type that points are computed in; in memory and from the disk."""
    computed = results_of({"noise.activity": entry, "delays.error": ["30 ms", "8.2 min"]}, dtype=dtype)
    save(Results({"": computed}, True), tmp_path / "results.nc")
    opened = plasticode.open(tmp_path)
    assert isinstance(opened, xr.Dataset)
    for data in (computed, opened):
        assert data["noise_activity"].dtype == data["time"].dtype == np.float64
        for value in (0.1, 0.2, 0.3):
            assert float(data.sel(noise_activity=value)["noise_activity"]) == value
        assert data.sel(noise_activity=slice(0.1, 0.3)).sizes["noise_activity"] == 3
        assert data.sel(delays_error=0.03).sizes["record"] == 4 and data.sel(delays_error=492.0).sizes["record"] == 4


@pytest.mark.parametrize(
    ("stimulus", "seconds"),
    [
        ({"duration": "0.1 s"}, [0, 0.1, 0.2, 0.3]),  # 3 * 0.1 is 0.30000000000000004
        ({"duration": "0.1 s", "gap": "0.2 s"}, [0, 0.3, 0.6, 0.9]),  # and so is 0.1 + 0.2
        ({"duration": "0.1 s", "gap": "1.1 T"}, [0, 0.21, 0.42, 0.63]),  # 1.1 * 0.1 is 0.11000000000000001
        ({"duration": 1 / 3}, [0, 1 / 3, 2 / 3, 1.0]),
        ({"duration": 1 / 7}, [0, 1 / 7, 2 / 7, 3 / 7]),
    ],
)
def test_the_time_of_a_record_is_found_as_it_is_written(stimulus, seconds):
    data = results_of({}, stimulus={"presentations": 3, **stimulus})
    assert data["time"].values.tolist() == seconds


def test_a_time_with_many_digits_is_kept():
    sweep = expand(make_spec({"stimulus": {"duration": math.pi}}))
    assert coordinates(sweep, MARKS, [])["time"][1].tolist() == (MARKS * math.pi).tolist()


# --------------------------------------------------------------------------------------------------------------- parts


def test_results_with_parts_open_as_a_tree_that_says_so(tmp_path):
    parts = {name: results_of({"seeds": seeds}, name) for name, seeds in (("first", 2), ("a-b", 3))}
    save(Results(parts, True), tmp_path / "results.nc")
    for source in (tmp_path, str(tmp_path / "results.nc")):
        tree = plasticode.open(source)
        assert isinstance(tree, xr.DataTree) and set(tree.children) == set(parts)
        for name, data in parts.items():
            xr.testing.assert_identical(tree[name].to_dataset(), data)
    with (
        h5py.File(tmp_path / "results.nc") as file,
        xr.open_datatree(tmp_path / "results.nc", engine="h5netcdf") as same,
    ):
        every: tuple[Mapping[Any, Any], ...] = (dict(file.attrs), same.attrs, tree.attrs)
        for attributes in every:
            assert set(attributes["parts"].split()) == set(parts) == set(file)
            assert "one part of the spec" in attributes["comment"] and attributes["format"] == 2
