"""Results on disk and means over seeds, against closed forms, other readers and deliberate failures."""

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from scipy import stats

from dynamics.errors import PlasticodeError
from experiments.results.intervals import interval
from experiments.results.labels import FORMAT, Results
from experiments.results.netcdf import load, opened, output_directory, summary, write_json
from experiments.results.text_tables import interval_text
from tests.experiments.results.saved import save

SEEDS, RECORDS = 5, 3


def dataset(seed: int = 0, part: str = "") -> xr.Dataset:
    """Results such as the runner makes: two rules, a delay, seeds, and a probe that one rule lacks."""
    random = np.random.default_rng(seed)
    dims = ("rule", "delays_error", "seed")
    shape = (2, 3, SEEDS)
    alignment = random.uniform(-1, 1, (*shape, RECORDS, 2)).astype(np.float32)
    alignment[0, ..., 1] = np.nan
    data = xr.Dataset(
        {
            "status": (dims, np.zeros(shape, np.int8), {"flag_values": np.arange(4, dtype=np.int8)}),
            "accuracy": ((*dims, "record"), random.uniform(0, 1, (*shape, RECORDS)).astype(np.float32), {"units": "1"}),
            "alignment": ((*dims, "record", "matrix"), alignment, {"units": "1"}),
        },
        {
            "rule": ("rule", ["sgd", "fa"]),
            "delays_error": ("delays_error", [0, 0.025, 0.05], {"units": "s"}),
            "seed": ("seed", np.arange(SEEDS)),
            "presentation": ("record", np.arange(RECORDS) * 10, {"units": "1"}),
            "time": ("record", np.arange(RECORDS) * 0.5, {"units": "s"}),
            "matrix": ("matrix", ["W1", "W2"]),
        },
    )
    attributes = {
        "format": FORMAT,
        "spec": 'rule = "µ"\n',
        "spec_hash": "0f",
        "part": part,
        "versions": "{}",
        "seconds": 1.5,
    }
    return data.assign_attrs(attributes, device="2 x cpu", dtype="float32", matmul_precision="highest")


def with_status(data: xr.Dataset, rule: str, seed: int, code: int) -> xr.Dataset:
    data = data.copy(deep=True)
    data["status"].loc[{"rule": rule, "seed": seed}] = code
    return data


# ----------------------------------------------------------------------------------------------------- means over seeds


def test_an_interval_is_students_t():
    """Against scipy's own interval of the mean."""
    values = np.random.default_rng(1).normal(3, 2, 6)
    one = interval(xr.Dataset({"status": ("seed", np.zeros(6, int)), "loss": ("seed", values)}), "loss")
    low, high = stats.t.interval(0.95, 5, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose([float(one.mean - one.half), float(one.mean + one.half)], [low, high], rtol=1e-12)
    assert (int(one.n), int(one.excluded)) == (6, 0)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Of 4000 intervals of 4 gaussian seeds, 95 % contain the mean, within 4 standard errors."""
    values = np.random.default_rng(2).normal(0.7, 0.1, (4000, 4))
    status = ("point", "seed"), np.zeros(values.shape, int)
    one = interval(xr.Dataset({"status": status, "accuracy": (("point", "seed"), values)}), "accuracy")
    covered = float((abs(one.mean - 0.7) < one.half).mean())
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize("code", [1, 2, 3])
def test_what_did_not_finish_never_enters_a_mean(code):
    """Values of a point that diverged, did not converge or is missing change nothing, and the seed is counted out."""
    data = with_status(dataset(), "fa", 3, code)
    poisoned = data.copy(deep=True)
    poisoned["accuracy"].loc[{"rule": "fa", "seed": 3}] = 1e30
    one, other = interval(data, "accuracy"), interval(poisoned, "accuracy")
    expected = dataset()["accuracy"].sel(rule="fa").drop_sel(seed=3).astype(float).mean("seed")
    np.testing.assert_allclose(one.mean.sel(rule="fa"), expected, rtol=1e-12)
    xr.testing.assert_equal(one.mean, other.mean)
    assert (one.n.sel(rule="fa") == SEEDS - 1).all() and (one.excluded.sel(rule="fa") == 1).all()
    assert (one.excluded.sel(rule="sgd") == 0).all()


def test_a_value_that_is_not_finite_is_counted_out():
    data = dataset()
    data["accuracy"][1, 0, 0, 0] = np.nan
    data["accuracy"][1, 0, 1, 0] = np.inf
    one = interval(data, "accuracy").at(rule=1, record=0, delays_error=0)
    assert (int(one.n), int(one.excluded)) == (SEEDS - 2, 2) and np.isfinite(one.mean)


@pytest.mark.parametrize(("values", "mean", "half"), [([1.7e308] * 3, 1.7e308, 0), ([-1.7e308, 0, 1.7e308], 0, np.inf)])
def test_seeds_near_the_largest_number_have_a_mean(values, mean, half):
    """Neither their sum nor their squares are numbers; an interval that is none is without bounds."""
    one = interval(xr.Dataset({"status": ("seed", np.zeros(3, int)), "loss": ("seed", np.array(values))}), "loss")
    assert float(one.mean) == pytest.approx(mean, rel=1e-15) and float(one.half) == pytest.approx(half, abs=1e293)


def test_one_seed_has_no_interval():
    one = interval(dataset().isel(seed=[0]), "accuracy")
    assert np.isfinite(one.mean).all() and np.isnan(one.half).all()
    without_axis = interval(dataset().isel(seed=0, drop=True), "accuracy")
    np.testing.assert_array_equal(one.mean, without_axis.mean)


@pytest.mark.parametrize(("values", "text"), [([0.5] * 3, "0.5 ± 0"), ([0.5], "0.5"), ([1, 1 + 2e-6], "1 ± 1e-05")])
def test_equal_seeds_have_an_interval_and_one_seed_has_none(values, text):
    data = xr.Dataset({"status": ("seed", np.zeros(len(values), int)), "loss": ("seed", np.array(values))})
    assert interval_text(interval(data, "loss")) == text


# --------------------------------------------------------------------------------------------------------------- netCDF


@pytest.mark.parametrize("parts", [("",), ("delay", "timescale")])
def test_results_come_back_as_they_were_saved(tmp_path, parts):
    saved = Results({part: dataset(number, part) for number, part in enumerate(parts)}, True)
    save(saved, tmp_path / "results.nc")
    loaded = load(tmp_path / "results.nc")
    assert list(loaded.datasets) == list(parts) and loaded.complete
    for part in parts:
        xr.testing.assert_identical(saved.datasets[part], loaded.datasets[part])
        kinds = [{name: v.dtype.kind for name, v in r.datasets[part].variables.items()} for r in (saved, loaded)]
        assert {name for name in kinds[0] if kinds[0][name] != kinds[1][name]} <= {"rule", "matrix"}  # texts


def test_other_readers_open_the_file(tmp_path):
    save(Results({"a": dataset(part="a")}, True), tmp_path / "results.nc")
    with warnings.catch_warnings(action="error"), xr.open_dataset(tmp_path / "results.nc", group="a") as opened:
        assert opened["delays_error"].attrs["units"] == "s" and opened["accuracy"].dtype == np.float32
    with h5py.File(tmp_path / "results.nc") as file:
        accuracy = file["a/accuracy"]
        assert isinstance(accuracy, h5py.Dataset)
        np.testing.assert_array_equal(accuracy[:], dataset()["accuracy"])
        scales = [dimension[0].name for dimension in accuracy.dims]
        assert scales == ["/a/rule", "/a/delays_error", "/a/seed", "/a/record"]


def test_missing_points_are_known_after_loading(tmp_path):
    save(Results({"": with_status(dataset(), "fa", 0, 3)}, False), tmp_path / "results.nc")
    assert not load(tmp_path / "results.nc").complete


@pytest.mark.parametrize("parts", [("",), ("delay", "timescale")])
def test_an_opened_file_is_read_as_needed(tmp_path, parts):
    """The numbers are those of `load`, also after another file has taken its place; axes and status outlast it."""
    save(Results({part: dataset(number, part) for number, part in enumerate(parts)}, True), tmp_path / "results.nc")
    loaded = load(tmp_path / "results.nc")
    with opened(tmp_path / "results.nc") as results:
        save(Results({part: dataset(9, part) for part in parts}, True), tmp_path / "other.nc")
        (tmp_path / "other.nc").replace(tmp_path / "results.nc")
        assert results.complete and list(results.datasets) == list(parts)
        for part, data in results.datasets.items():
            held = {name for name, variable in data.variables.items() if variable._in_memory}
            assert held == {"status", *data.coords}
            xr.testing.assert_identical(data, loaded.datasets[part])
            assert not data["accuracy"].variable._in_memory  # nor kept
    with pytest.raises(Exception, match="[Cc]losed|not open|[Ii]nvalid|not a"):
        _ = results.datasets[parts[0]]["accuracy"].values
    assert (results.datasets[parts[0]]["status"] == 0).all()


def test_an_opened_file_is_closed_whatever_happens(tmp_path):
    save(Results({"": dataset()}, True), tmp_path / "results.nc")
    with pytest.raises(ValueError, match="mine"), opened(tmp_path / "results.nc"):
        raise ValueError("mine")  # an error of the block is not one of the file
    with h5py.File(tmp_path / "results.nc", "a"):  # which HDF5 refuses where it is open for reading
        pass


@pytest.mark.parametrize("content", [None, b"", b"no netCDF"])
def test_a_file_that_is_no_result_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "results.nc").write_bytes(content)
    with pytest.raises(PlasticodeError, match=r"results\.nc' cannot be read"):
        load(tmp_path / "results.nc")
    with pytest.raises(PlasticodeError, match="cannot be read"), opened(tmp_path / "results.nc"):
        pytest.fail("it must not open")


def test_a_file_of_something_else_is_told(tmp_path):
    dataset().drop_vars("status").to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with pytest.raises(PlasticodeError, match="no status"):
        load(tmp_path / "results.nc")


# -------------------------------------------------------------------------------------------------------------- summary


def test_a_summary_has_the_numbers_of_a_recomputation(tmp_path):
    data = with_status(dataset(), "fa", 4, 1)
    write_json(summary(Results({"": data}, True)), tmp_path / "summary.json")
    part = json.loads((tmp_path / "summary.json").read_text())["parts"][""]
    assert part["status"] == {"ok": 27, "diverged": 3, "not-converged": 0, "missing": 0}
    assert part["axes"]["delays_error"] == {"units": "s", "values": [0, 0.025, 0.05]}
    assert len(part["final"]) == 6
    for row in part["final"]:
        rule, delay = row["at"]["rule"], row["at"]["delays_error"]
        values = data["accuracy"].sel(rule=rule).sel(delays_error=delay).values[:, -1].astype(float)
        values = values[:4] if rule == "fa" else values
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        assert row["accuracy"]["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert row["accuracy"]["interval95"] == pytest.approx([values.mean() - half, values.mean() + half])
        assert (row["accuracy"]["n"], row["accuracy"]["excluded"]) == (len(values), 5 - len(values))
        assert "alignment W1" in row and ("alignment W2" in row) == (rule == "fa")  # sgd has no W2 here


def test_json_knows_no_nan(tmp_path):
    write_json({"x": float("nan"), "y": [float("inf")]}, tmp_path / "x.json")
    strict = json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    assert strict == {"x": "nan", "y": ["inf"]}
    everything_diverged = dataset().assign(status=dataset()["status"] + 1)
    write_json(summary(Results({"": everything_diverged}, True)), tmp_path / "summary.json")


# ----------------------------------------------------------------------------------------------------- output directory


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def fill(directory: Path, text: str, figure: str) -> None:
    (directory / "figures").mkdir()
    for name in ("results.nc", f"figures/{figure}.png"):
        (directory / name).write_text(text)
    write_json({"figures": [f"{figure}.png"]}, directory / "summary.json")


def test_a_directory_appears_whole(tmp_path):
    target = tmp_path / "new" / "results"
    with output_directory(target) as directory:
        fill(directory, "first", "a")
        assert not target.exists()
    assert tree(tmp_path / "new") == [
        f"results{x}" for x in ("", "/figures", "/figures/a.png", "/results.nc", "/summary.json")
    ]


def test_a_failure_leaves_nothing(tmp_path):
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), output_directory(tmp_path / "new" / "results") as directory:
            fill(directory, "half", "a")
            raise error
        assert tree(tmp_path) == []


def test_a_second_run_replaces_the_files_of_the_first_and_no_others(tmp_path):
    with output_directory(tmp_path / "results") as directory:
        fill(directory, "first", "a")
    (tmp_path / "results" / "figures" / "mine.png").write_text("kept")
    with output_directory(tmp_path / "results") as directory:
        fill(directory, "second", "b")
    assert tree(tmp_path / "results") == ["figures", "figures/b.png", "figures/mine.png", "results.nc", "summary.json"]
    assert (tmp_path / "results" / "results.nc").read_text() == "second"
    with pytest.raises(RuntimeError), output_directory(tmp_path / "results") as directory:
        fill(directory, "third", "c")
        raise RuntimeError
    assert (tmp_path / "results" / "results.nc").read_text() == "second"
    assert tree(tmp_path) == ["results", *(f"results/{name}" for name in tree(tmp_path / "results"))]


@pytest.mark.parametrize("name", [".", "..", "a/../b"])
def test_any_way_to_write_a_directory_will_do(tmp_path, monkeypatch, name):
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "a").mkdir()
    monkeypatch.chdir(tmp_path / "x" / "y")
    with output_directory(Path(name)) as directory:
        (directory / "results.nc").write_text("x")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["results.nc"]
    assert (Path(name) / "results.nc").exists()


def test_a_file_in_the_way_is_told_before_any_work(tmp_path):
    (tmp_path / "file").write_text("kept")
    for target in (tmp_path / "file", tmp_path / "file" / "inside", tmp_path / "file" / "inside" / "deeper"):
        with pytest.raises(PlasticodeError, match="--out must name a directory"), output_directory(target):
            pytest.fail("the work must not start")
    assert tree(tmp_path) == ["file"]
