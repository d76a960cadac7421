"""What follows a sweep, on results larger than those of other tests: time per point, memory, and the same numbers."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from experiments.predictions.study.choice import study_of
from experiments.report import report
from experiments.report.figures import MOST_LINES, MOST_PANELS, generic_figures
from experiments.results import netcdf
from experiments.results.intervals import finals
from experiments.results.labels import FORMAT, Results
from experiments.results.text_tables import MOST_ACROSS, MOST_ROWS, final_tables
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from tests.experiments.results.saved import save

pytestmark = pytest.mark.usefixtures("unchecked_types")
ROOT = Path(__file__).resolve().parents[3]
SECONDS_PER_POINT = 5e-4  # some ten times what it takes, a fifth of what a loop over positions takes
REPORT = """
import resource, sys, tempfile
from pathlib import Path
from experiments.predictions.study.choice import study_of
from experiments.report import report
from experiments.results import netcdf
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.results.text_tables import final_tables
peaks = []
for path in sys.argv[1:]:
    with tempfile.TemporaryDirectory() as directory, netcdf.opened(Path(path)) as results:
        spec, sweeps = make_spec({}), {"": expand(make_spec({}))}
        report.write(spec, sweeps, results, study_of(spec, sweeps, results), Path(directory))
        final_tables(results)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(*peaks)
"""


def results_of(axes: dict, records: int = 2, probes: int = 1, matrices: int = 0, diverged: float = 0.1) -> xr.Dataset:
    """Random results over axes of names, or numbers, such as the runner makes; some points have diverged."""
    random = np.random.default_rng(len(axes))
    shape = tuple(len(values) for values in axes.values())
    data = xr.Dataset({"status": (list(axes), (random.uniform(size=shape) < diverged).astype(np.int8))})
    for number in range(probes):
        data[f"probe{number}"] = ((*axes, "record"), random.random((*shape, records), np.float32), {"units": "1"})
    if matrices:
        values = random.random((*shape, records, matrices), np.float32)
        data["alignment"] = ((*axes, "record", "matrix"), values, {"units": "1"})
        data = data.assign_coords(matrix=[f"W{index + 1}" for index in range(matrices)])
    data = data.assign_coords({name: (name, values, {"units": "1"}) for name, values in axes.items()})
    data = data.assign_coords(presentation=("record", np.arange(records)))
    about = {"format": FORMAT, "versions": "{}", "device": "1 x cpu", "dtype": "float32", "matmul_precision": "highest"}
    return data.assign_attrs(about, spec_hash="0f", seconds=1.0)


def names(count: int) -> list[str]:
    return [f"rule {index}" for index in range(count)]


# --------------------------------------------------------------------------------------------------------- time, memory


@pytest.mark.parametrize("seeds", [0, 3])
def test_what_follows_a_sweep_takes_little_time_per_point(tmp_path, seeds):
    axes = {"delays_error": np.linspace(0, 1, 200), "timescales_decay": np.geomspace(1, 10, 100)}
    axes |= {"seed": np.arange(seeds)} if seeds else {}
    results = Results({"": results_of(axes, matrices=2)}, True)
    start = time.process_time()  # of this process: other tests run beside
    spec, sweeps = make_spec({}), {"": expand(make_spec({}))}
    report.write(spec, sweeps, results, study_of(spec, sweeps, results), tmp_path)
    final_tables(results)
    seconds = time.process_time() - start
    assert seconds < SECONDS_PER_POINT * 20_000
    rows = json.loads((tmp_path / "summary.json").read_text())["parts"][""]["final"]
    assert len(rows) == 20_000 and rows[-1]["at"] == {name: axes[name][-1] for name in list(axes)[:2]}
    assert (tmp_path / "report.html").stat().st_size < 10e6


def test_memory_does_not_hold_all_probes(tmp_path):
    """The reports of two files of 50 MB, in a process that has made those of small files, add less than half of that:
    maps of two numbers, and curves of rules with intervals over seeds."""
    grids = {"a": np.arange(50), "b": np.arange(50)}, {"rule": names(5), "seed": np.arange(500)}
    small, large = [], []
    for number, axes in enumerate(grids):
        few = {name: values[:3] for name, values in axes.items()}
        for files, chosen, records in ((small, few, 10), (large, axes, 500)):
            files.append(tmp_path / f"{number}-{records}")
            save(Results({"": results_of(chosen, records, probes=8, matrices=2)}, True), files[-1])
    size = min(path.stat().st_size for path in large)
    command = [sys.executable, "-W", "error", "-c", REPORT, *map(str, small + large)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    _, before, _, after = map(int, done.stdout.split())
    assert size > 50e6 and after - before < size / 2


# ----------------------------------------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("seeds", [0, 1, 9])
@pytest.mark.parametrize("records", [1, 3])
def test_finals_are_those_of_each_position_by_itself(seeds, records):
    """Of some positions nothing, of others a matrix or a value is missing."""
    axes = {"rule": names(3), "delays_error": [0.0, 0.5]} | ({"seed": np.arange(seeds)} if seeds else {})
    data = results_of(axes, records, matrices=3, diverged=0.4)
    data["alignment"][{"rule": 1, "matrix": 1}] = np.nan
    data["alignment"][{"matrix": 2}] = np.nan
    data["alignment"][{"rule": 2, "matrix": 0, "record": -1}] = np.inf
    found = finals(data)
    assert list(found) == ["probe0", "alignment W1", "alignment W2"]
    for rule, delay in np.ndindex(3, 2):
        here = data.isel({"rule": rule, "delays_error": delay})
        ok = np.atleast_1d(here["status"].values == 0)
        for name, one in found.items():
            probe, _, matrix = name.partition(" ")
            values = here[probe].sel(matrix=matrix) if matrix else here[probe]
            values = values.values.reshape(len(ok), records).astype(float)
            kept = values[ok & np.isfinite(values[:, -1]), -1]
            cell = one.at(**{"rule": rule, "delays_error": delay})
            absent = matrix and ok.any() and not np.isfinite(values[ok]).any()
            assert (int(cell.n), int(cell.excluded)) == (len(kept), 0 if absent else len(ok) - len(kept))
            half = stats.t.ppf(0.975, len(kept) - 1) * stats.sem(kept) if len(kept) > 1 else np.nan
            np.testing.assert_allclose(cell.mean, kept.mean() if len(kept) else np.nan, rtol=1e-13)
            np.testing.assert_allclose(cell.half, half, rtol=1e-12)


def test_a_mean_does_not_depend_on_what_else_is_read():
    data = results_of({"a": np.arange(4), "seed": np.arange(30)}, records=5, matrices=2)
    alone = data.isel(a=[2], record=[-1])
    for name, one in finals(data).items():
        for field, other in zip(one.at(a=[2]), finals(alone)[name], strict=True):
            np.testing.assert_array_equal(field, other)


def test_values_early_in_a_long_run_are_found_piece_by_piece(monkeypatch):
    """A matrix that has values at the first record of one position only is there, and absent elsewhere."""
    monkeypatch.setattr("experiments.results.intervals.PIECE_VALUES", 40)
    data = results_of({"rule": names(2), "a": np.arange(30)}, records=4, matrices=2, diverged=0)
    data["alignment"][{"matrix": 1}] = np.nan
    data["alignment"][{"rule": 1, "a": 17, "record": 0, "matrix": 1}] = 0.5
    one = finals(data)["alignment W2"]
    assert not one.n.any() and int(one.excluded.sum()) == 1 == int(one.excluded.isel(rule=1, a=17))


# ------------------------------------------------------------------------------------------------- what is cut says so


def test_a_summary_that_is_cut_says_so(tmp_path, monkeypatch):
    results = Results({"": results_of({"rule": names(5), "a": np.arange(4)})}, True)
    netcdf.write_json(netcdf.summary(results), tmp_path / "all.json")
    monkeypatch.setattr(netcdf, "MOST_FINALS", 7)
    monkeypatch.setattr(netcdf, "ROWS_AT_ONCE", 3)
    netcdf.write_json(netcdf.summary(results), tmp_path / "cut.json")
    whole, cut = (json.loads((tmp_path / f"{name}.json").read_text())["parts"][""] for name in ("all", "cut"))
    assert "note" not in whole and len(whole["final"]) == 20
    assert cut["final"] == whole["final"][:7] and "first 7 of 20 rows" in cut["note"]
    assert [row["at"] for row in cut["final"][3:5]] == [{"rule": "rule 0", "a": 3}, {"rule": "rule 1", "a": 0}]


def test_json_has_the_layout_of_the_standard_library_but_for_rows(tmp_path):
    content = {"a": [1, {"b": 'a "µ"\n'}], "c": {"d": {}, "e": [], "f": {"g": None}}, "h": np.float32(0.5)}
    for value in (content, [content], {}, "x"):
        netcdf.write_json(value, tmp_path / "x.json")
        expected = json.dumps(value, indent=2, ensure_ascii=False, default=float) + "\n"
        assert (tmp_path / "x.json").read_text() == expected


def test_tables_show_the_first_rows_and_columns_and_say_so(monkeypatch):
    axes = {"a": np.arange(40), "b": np.arange(20)}
    (table,) = final_tables(Results({"": results_of(axes)}, True))
    assert len(table.rows) == MOST_ROWS and {len(row) for row in [table.header, *table.rows]} == {1 + MOST_ACROSS}
    assert f"The first {MOST_ROWS} of 40 rows and {MOST_ACROSS} of 20 columns: all are in summary.json." == table.note
    monkeypatch.setattr("experiments.results.text_tables.MOST_FINALS", 799)
    (table,) = final_tables(Results({"": results_of(axes)}, True))
    assert table.note.endswith("all are in results.nc.")
    (table,) = final_tables(Results({"": results_of({"rule": names(31), "seed": [0, 1]}, diverged=0)}, True))
    assert len(table.rows) == MOST_ROWS and table.note.endswith("The first 30 of 31 rows: all are in summary.json.")
    (table,) = final_tables(Results({"": results_of({"rule": names(30), "a": [0.5]}, diverged=0)}, True))
    assert len(table.rows) == 30 and table.note == ""


def test_figures_of_many_lines_or_maps_show_some_and_say_so():
    lines = generic_figures(Results({"": results_of({"rule": names(100), "a": np.arange(70)})}, True))["probe0"]
    assert len(lines.axes[0].lines) == MOST_LINES
    assert lines.legends[0].get_title().get_text() == f"rule ({MOST_LINES} of 100)"
    shown = [text.get_text() for text in lines.legends[0].get_texts()]
    assert shown[0] == "rule 0" and len(shown) <= 11
    axes = {"rule": names(30), "a": np.arange(4), "b": np.arange(5)}
    maps = generic_figures(Results({"": results_of(axes)}, True))["probe0"]
    assert len(maps.axes) == MOST_PANELS + 1 and maps.axes[-1].get_ylabel().endswith(f"({MOST_PANELS} of 30 maps)")
    assert maps.axes[0].get_title() == "rule 0" and maps.axes[MOST_PANELS - 1].get_title() == "rule 29"


def test_maps_without_any_value_are_drawn():
    """Interrupted early: of the maps that are shown none has a finished point."""
    data = results_of({"rule": names(30), "a": np.arange(4), "b": np.arange(5)}, diverged=0)
    data["status"][:] = 3
    data["status"][{"rule": 1}] = 0
    assert list(generic_figures(Results({"": data}, False))) == ["probe0"]
