"""Every legal number through everything that a run leaves behind: results, JSON, tables, figures and the page."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib import colors
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.predictions.study.choice import study_of
from experiments.report import figures, report
from experiments.report.page import table
from experiments.report.places import LARGEST_PLACED, edges, places
from experiments.results import netcdf
from experiments.results.export import export_table
from experiments.results.labels import FORMAT, STATUS, Results
from experiments.results.text_tables import final_tables
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from tests.experiments.results.saved import save

COORDINATES = [math.inf, 0.0, -0.0, 1e-30, 1e30, -1e30, 0.01, 0.1, 1.0, 10.0, 3.0]
NUMBERS = [math.inf, -math.inf, math.nan, 0.0, -0.0, 5e-324, 1e-45, 1e-300, 3.4e38, 1.7e308, -1.7e308, 0.5, 1.0, -2.0]
ABOUT = {
    "format": FORMAT,
    "versions": "{}",
    "device": "1 x cpu",
    "dtype": "float64",
    "matmul_precision": "highest",
    "spec_hash": "0f",
}


@st.composite
def datasets(draw) -> xr.Dataset:
    """Results over up to two axes of legal numbers, with seeds, statuses and values of every kind."""
    coordinates = st.lists(st.sampled_from(COORDINATES), min_size=1, max_size=4, unique_by=float)
    axes = {name: draw(coordinates) for name in ("timescales_decay", "network_gain")[: draw(st.integers(0, 2))]}
    axes |= {"seed": list(range(draw(st.integers(1, 3))))} if draw(st.booleans()) else {}
    shape, records = tuple(map(len, axes.values())), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    status = np.full(shape, draw(st.sampled_from(range(len(STATUS)))))
    status = random.choice(len(STATUS), shape) if draw(st.booleans()) else status
    some = draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    with np.errstate(over="ignore"):
        loss = random.choice(some, (*shape, records)).astype(dtype)
        alignment = random.choice(some, (*shape, records, 2)).astype(dtype)
    data = xr.Dataset({"status": (list(axes), status.astype(np.int8))})
    data["loss"] = ((*axes, "record"), loss, {"units": "1"})
    data["alignment"] = ((*axes, "record", "matrix"), alignment, {"units": "1"})
    units = {"timescales_decay": draw(st.sampled_from(["s", "T"]))}
    data = data.assign_coords({name: (name, values, {"units": units.get(name, "1")}) for name, values in axes.items()})
    data = data.assign_coords(presentation=("record", np.arange(records)), matrix=["W1", "W2"])
    return data.assign_attrs(ABOUT, seconds=1.0)


def strict(text: str):
    """JSON as others read it: no NaN and no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def number(value) -> float:
    return math.nan if value is None else float(value)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(datasets())
def test_any_results_can_be_written_read_and_drawn(tmp_path_factory, data):
    """netCDF, JSON, tables of both formats, every figure and the page; numbers read back as they were."""
    place = tmp_path_factory.mktemp("results")
    complete = not bool((data["status"] == STATUS.index("missing")).any())
    save(Results({"": data}, complete), place / "results.nc")
    loaded = netcdf.load(place / "results.nc")
    for name in ("loss", *data.coords):
        np.testing.assert_array_equal(loaded.datasets[""][name].values, data[name].values)
    spec, sweeps = make_spec({}), {"": expand(make_spec({}))}
    report.write(spec, sweeps, loaded, study_of(spec, sweeps, loaded), place)
    written = strict((place / "summary.json").read_text())
    for name in ("timescales_decay", "network_gain"):
        if name in data.coords:
            axis = written["parts"][""]["axes"][name]["values"]
            assert [float(value) for value in axis] == data[name].values.tolist()
    for one in final_tables(loaded):
        assert table(one)
    assert export_table(place, place / "table.csv") == export_table(place, place / "table.parquet") == data["loss"].size
    expected = data["loss"].values.ravel()
    for found in (pd.read_csv(place / "table.csv"), pd.read_parquet(place / "table.parquet")):
        np.testing.assert_array_equal(found["loss"].to_numpy(expected.dtype), expected)


@given(st.lists(st.sampled_from(COORDINATES + [1e-300, 1e300, 1.7e308, -math.inf]), min_size=1, max_size=6))
def test_coordinates_are_drawn_in_their_order_and_finite_ones_where_they_are(values):
    where = places(np.array(values))
    assert np.isfinite(where.at).all()
    for value, at in zip(values, where.at, strict=True):
        assert at == value or (abs(value) > LARGEST_PLACED and where.beyond[at] == f"{value:g}")
    for low, high in zip(values, values[1:], strict=False):
        assert (low < high) == (where.at[values.index(low)] < where.at[values.index(high)])
    cells = edges(np.unique(where.at))
    assert np.isfinite(cells).all() and (np.diff(cells) > 0).all()


def drawn(axes: dict[str, list[float]]) -> figures.Figure:
    """The figure of a loss that is ok everywhere and differs from point to point."""
    shape = tuple(map(len, axes.values()))
    data = xr.Dataset({"status": (list(axes), np.zeros(shape, np.int8))}, axes)
    data["loss"] = ((*axes, "record"), np.arange(np.prod(shape), dtype=float).reshape(*shape, 1), {"units": "1"})
    return figures.generic_figures(Results({"": data}, True))["loss"]


def test_infinity_has_a_tick_at_the_edge_of_a_line():
    (panel,) = drawn({"timescales_decay": [math.inf, 10.0, 1.0, 100.0]}).axes
    (line,) = panel.lines
    x, y = line.get_data()
    np.testing.assert_allclose(np.asarray(x), [1, 10, 100, 1000])  # a step of the logarithmic scale beyond
    np.testing.assert_allclose(np.asarray(y), [2, 1, 3, 0])
    ticks = {label.get_text(): place for place, label in zip(panel.get_xticks(), panel.get_xticklabels(), strict=True)}
    assert ticks["inf"] == pytest.approx(1000) and len(ticks) > 1


def test_infinity_has_cells_of_its_own_in_a_map():
    panel, _ = drawn({"timescales_decay": [1.0, math.inf, 3.0], "timescales_plasticity": [math.inf, 2.0]}).axes
    (mesh,) = panel.collections
    np.testing.assert_array_equal(mesh.get_array(), [[1, 5, 3], [0, 4, 2]])
    assert [text.get_text() for text in panel.get_xticklabels()].count("inf") == 1
    assert [text.get_text() for text in panel.get_yticklabels()].count("inf") == 1


def test_what_is_too_large_for_an_axis_is_left_out_and_the_figure_says_so():
    data = xr.Dataset({"status": ("network_gain", np.zeros(3, np.int8))}, {"network_gain": [1.0, 2.0, 3.0]})
    data["loss"] = (("network_gain", "record"), np.array([[1.0], [1.7e308], [2.0]]), {"units": "1"})
    (panel,) = figures.generic_figures(Results({"": data}, True))["loss"].axes
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), [1, np.nan, 2])
    assert "not drawn" in panel.get_ylabel().replace("\n", " ")


def test_the_three_outcomes_differ_for_every_kind_of_vision():
    """Green, vermilion and blue on the page: by lightness or by blue against yellow, which all who see colours see."""
    from experiments.report.page import _CSS

    found = {name: _CSS.split(f".{name} {{ color: ")[1][:7] for name in ("pass", "fail", "undecided")}
    blues = {name: (lambda rgb: rgb[2] - (rgb[0] + rgb[1]) / 2)(colors.to_rgb(code)) for name, code in found.items()}
    assert blues["undecided"] > 0.3 > 0.1 > blues["pass"] > -0.1 > -0.3 > blues["fail"]


INFINITE = """
regime = "discrete"
[network]
hidden = [8]
[stimulus]
presentations = 20
[record]
points = 2
[sweep]
"timescales.decay" = ["10 s", "inf"]
"""


def test_infinity_as_a_value_of_a_sweep_runs_through_the_command(tmp_path, monkeypatch):
    """Two axes with an infinite value each: all results are there, and read as what they are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inf.toml").write_text(INFINITE)
    for name, more in (("line", []), ("map", ["--set", 'sweep."timescales.plasticity"=["inf", "1 s"]'])):
        result = CliRunner().invoke(app, ["run", "inf.toml", "--out", name, *more])
        assert result.exit_code == 0, (result.output, result.exception)
        assert "inf" in result.stdout and "inf s" not in result.stdout
        part = strict((tmp_path / name / "summary.json").read_text())["parts"][""]
        assert part["axes"]["timescales_decay"]["values"] == [10.0, "inf"]
        assert {row["at"]["timescales_decay"] for row in part["final"]} == {10.0, "inf"}
        data = netcdf.load(tmp_path / name / "results.nc").datasets[""]
        assert data["timescales_decay"].values.tolist() == [10.0, math.inf]
        assert (tmp_path / name / "figures/accuracy.png").exists()
    still = data["accuracy"].sel({"timescales_plasticity": math.inf, "timescales_decay": math.inf}).values
    assert np.ptp(still) == 0  # weights that neither learn nor decay
