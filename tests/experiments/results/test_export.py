"""Results as a table, against xarray's own table, other readers and deliberate failures."""

import errno
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pyarrow import parquet

from dynamics.errors import PlasticodeError
from experiments.results import export
from experiments.results.export import export_table
from experiments.results.labels import FORMAT, STATUS, Results, coordinates
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from tests.experiments.results.saved import save

ROOT = Path(__file__).resolve().parents[3]
FORMATS = pytest.mark.parametrize("suffix", [".csv", ".parquet"])
RECORDS = 3
EXTREMES = [np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38, 16777217, 0.1, 1 / 3]
COLUMNS = ["rule", "width", "delays_error", "seed", "status", "presentation", "time"]
PROBES = ["accuracy", "alignment_W1", "alignment_W2"]


def dataset(dtype: type = np.float32) -> xr.Dataset:
    """Results such as the runner makes: zipped axes, a delay, seeds, a point of every status, numbers of every size."""
    random = np.random.default_rng(0)
    dims, shape = ("rule", "delays_error", "seed"), (2, 3, 4)
    accuracy = random.standard_normal((*shape, RECORDS)).astype(dtype) * 10.0 ** random.integers(-30, 30, RECORDS)
    accuracy[0, 1, :2].flat[:] = [*EXTREMES[:6]]
    accuracy[0, 1, 2, :2] = EXTREMES[6:]
    alignment = random.uniform(-1, 1, (*shape, RECORDS, 2)).astype(dtype)
    alignment[1, ..., 1] = np.nan
    status = np.zeros(shape, np.int8)
    status[1, 2] = np.arange(4)
    accuracy[1, 2, 3], alignment[1, 2, 3] = np.nan, np.nan  # it is missing
    return xr.Dataset(
        {
            "status": (dims, status),
            "accuracy": ((*dims, "record"), accuracy.astype(dtype), {"units": "1"}),
            "alignment": ((*dims, "record", "matrix"), alignment, {"units": "1"}),
        },
        {
            "rule": ("rule", ["sgd", 'fa(sign="µ, -")']),
            "width": ("rule", np.array([2**53 + 1, 7])),
            "delays_error": ("delays_error", [0, 0.1, 1 / 3], {"units": "s"}),
            "seed": ("seed", np.arange(4)),
            "presentation": ("record", np.arange(RECORDS) * 10, {"units": "1"}),
            "time": ("record", np.arange(RECORDS) * 0.055, {"units": "s"}),
            "matrix": ("matrix", ["W1", "W2"]),
        },
    )


def written(directory: Path, **parts: xr.Dataset) -> Path:
    """The directory, with a results file; the part "root" is a result without parts."""
    named = {name.replace("root", ""): data.assign_attrs(format=FORMAT) for name, data in parts.items()}
    save(Results(named, True), directory / "results.nc")
    return directory


def expected(data: xr.Dataset) -> Any:
    """The table that xarray makes of a dataset in memory."""
    dims = [*map(str, data["status"].dims), "record"]
    flat = data.drop_vars("matrix", errors="ignore")
    for name, values in data.data_vars.items():
        if "matrix" in values.dims:
            each = {f"{name}_{matrix}": values.sel(matrix=matrix, drop=True) for matrix in data["matrix"].values}
            flat = flat.drop_vars(str(name)).assign(each)
    frame = flat.to_dataframe(dim_order=dims).reset_index().drop(columns=["record"])
    return frame.assign(status=[STATUS[code] for code in frame["status"]])


def read(path: Path) -> Any:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path)


def assert_equal(table: pd.DataFrame, frame: pd.DataFrame, as_read: bool = True) -> None:
    """The same columns in the same order, and exactly the same values, signs of zeros included."""
    assert list(table.columns) == list(frame.columns)
    types = {name: kind for name, kind in frame.dtypes.items() if kind.kind in "iuf"} if as_read else {}
    table = table.astype(types)
    pd.testing.assert_frame_equal(table, frame, check_exact=True, check_dtype=as_read)
    for name in types:
        np.testing.assert_array_equal(np.signbit(table[name].fillna(0)), np.signbit(frame[name].fillna(0)))


# --------------------------------------------------------------------------------------------------------------- values


@FORMATS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_table_has_the_rows_of_xarray(tmp_path, suffix, dtype):
    """Zipped axes, every status, a matrix that one rule lacks, and numbers that come back exactly."""
    rows = export_table(written(tmp_path, root=dataset(dtype)), tmp_path / f"table{suffix}")
    table = read(tmp_path / f"table{suffix}")
    assert_equal(table, expected(dataset(dtype))[COLUMNS + PROBES])
    assert rows == len(table) == 2 * 3 * 4 * RECORDS
    assert table["time"].dtype == np.float64 and set(table["status"]) == set(STATUS)
    missing = table[table["status"] == "missing"]
    assert len(missing) == RECORDS and missing[PROBES].isna().all(axis=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.nc", f"table{suffix}"]


def test_parquet_keeps_the_types_and_knows_what_is_empty(tmp_path):
    export_table(written(tmp_path, root=dataset()), tmp_path / "table.parquet")
    types = {field.name: str(field.type) for field in parquet.read_schema(tmp_path / "table.parquet")}
    whole, text = ["width", "seed", "presentation"], ["rule", "status"]
    assert [types[name] for name in whole + text + PROBES] == ["int64"] * 3 + ["string"] * 2 + ["float"] * 3
    assert parquet.read_table(tmp_path / "table.parquet")["accuracy"].null_count == RECORDS  # and no NaN


def test_a_csv_file_has_the_shortest_numbers_and_empty_cells(tmp_path):
    export_table(written(tmp_path, root=dataset()), tmp_path / "table.csv")
    lines = (tmp_path / "table.csv").read_bytes().decode("utf-8").split("\n")
    assert lines[0] == ",".join(COLUMNS + PROBES) and lines[-1] == "" and len(lines) == 2 * 3 * 4 * RECORDS + 2
    assert lines[1 + 3 * (4 + 2)].startswith("sgd,9007199254740993,0.1,2,ok,0,0.0,0.1,")
    assert lines[-2] == '"fa(sign=""µ, -"")",7,0.3333333333333333,3,missing,20,0.11,,,'


@FORMATS
def test_a_single_point_has_a_row_per_record(tmp_path, suffix):
    data = dataset().isel({"rule": 0, "delays_error": 0, "seed": 0}, drop=True)
    source = written(tmp_path, root=data) / "results.nc"
    assert export_table(source, tmp_path / f"table{suffix}") == RECORDS
    assert_equal(read(tmp_path / f"table{suffix}"), expected(data)[["status", "presentation", "time", *PROBES]])


@FORMATS
@pytest.mark.parametrize("units", ["T", "s", "1", "seconds", "days"])
def test_units_change_no_number(tmp_path, suffix, units):
    """Some units make readers see a time span, which is no number."""
    data = dataset()
    data["delays_error"].attrs["units"] = data["time"].attrs["units"] = units
    export_table(written(tmp_path, root=data), tmp_path / f"table{suffix}")
    assert_equal(read(tmp_path / f"table{suffix}"), expected(dataset())[COLUMNS + PROBES])


@FORMATS
def test_every_swept_path_of_a_spec_is_a_column(tmp_path, suffix):
    """The runner's own coordinates: zipped times in s and in T, and no `time` where points differ in it."""
    sweep = {"rule": ["sgd", "fa"], "stimulus.duration": ["50 ms", "80 ms"], "delays.error": ["1 T", "2 T"], "seeds": 2}
    grid = expand(make_spec({"sweep": sweep | {"zip": [["stimulus.duration", "delays.error"]]}}))
    dims = [axis.name for axis in grid.axes]
    loss, status = np.arange(16).reshape(2, 2, 2, 2), np.zeros(grid.shape, np.int8)
    data = xr.Dataset({"status": (dims, status), "loss": ([*dims, "record"], loss)})
    data = data.assign_coords(coordinates(grid, np.array([0, 50]), []))
    assert export_table(written(tmp_path, root=data), tmp_path / f"table{suffix}") == 16
    table = read(tmp_path / f"table{suffix}")
    rows = itertools.product(["sgd", "fa"], [(0.05, 1), (0.08, 2)], [0, 1], [0, 50])
    frame = [[rule, *times, seed, "ok", mark, index] for index, (rule, times, seed, mark) in enumerate(rows)]
    header = ["rule", "stimulus_duration", "delays_error", "seed", "status", "presentation", "loss"]
    assert_equal(table, pd.DataFrame(frame, columns=header).astype({"delays_error": float}))


def test_a_run_of_which_nothing_is_there_is_a_table_without_probes(tmp_path):
    data = dataset().drop_vars(["accuracy", "alignment", "matrix"])
    for suffix in (".csv", ".parquet"):
        assert export_table(written(tmp_path, root=data), tmp_path / f"table{suffix}") == 2 * 3 * 4 * RECORDS
        assert_equal(read(tmp_path / f"table{suffix}"), expected(data)[COLUMNS])


# ---------------------------------------------------------------------------------------------------------------- parts


def two_parts(dtype: type = np.float32) -> dict[str, xr.Dataset]:
    """Parts that share some columns; "width" is a number in one and a text in the other, which computes in `dtype`."""
    other = xr.Dataset(
        {
            "status": (("seed", "noise"), np.zeros((2, 2), np.int8)),
            "accuracy": (("seed", "noise", "record"), (np.arange(8).reshape(2, 2, 2) / 7).astype(dtype)),
            "loss": (("seed", "noise", "record"), np.arange(8).reshape(2, 2, 2).astype(np.float32)),
        },
        {
            "seed": [5, 6],
            "noise": ("noise", [0.5, 1.5]),
            "width": ("noise", ["[1, 2]", "[3, 4]"]),
            "presentation": ("record", [0, 7]),
        },
    )
    return {"delay": dataset(), "noise": other}


@FORMATS
def test_parts_make_one_table(tmp_path, suffix):
    parts = two_parts(np.float64 if suffix == ".parquet" else np.float32)
    rows = export_table(written(tmp_path, **parts), tmp_path / f"table{suffix}")
    header = ["part", "rule", "width", "delays_error", "noise", "seed", *COLUMNS[4:], *PROBES, "loss"]
    frame: Any = pd.concat([expected(data).assign(part=name) for name, data in parts.items()])[header]
    frame = frame.reset_index(drop=True)
    assert rows == len(frame) == 80
    table = read(tmp_path / f"table{suffix}")
    assert_equal(table.astype({"width": str}), frame.astype({"width": str}))
    assert table["loss"].isna().sum() == table["noise"].isna().sum() == 72


def test_columns_that_the_first_part_lacks_are_among_their_kind(tmp_path):
    other, data = two_parts().values()
    export_table(written(tmp_path, a=data, b=other), tmp_path / "table.csv")
    coordinates = ["part", "noise", "width", "rule", "delays_error", "seed"]
    assert list(read(tmp_path / "table.csv")) == [*coordinates, *COLUMNS[4:], "accuracy", "loss", *PROBES[1:]]


@FORMATS
def test_a_named_part_is_a_table_by_itself(tmp_path, suffix):
    source = written(tmp_path, **two_parts())
    assert export_table(source, tmp_path / f"table{suffix}", "noise") == 8
    header = ["noise", "width", "seed", "status", "presentation", "accuracy", "loss"]
    assert_equal(read(tmp_path / f"table{suffix}"), expected(two_parts()["noise"])[header])


# ------------------------------------------------------------------------------------------------------------ streaming


@pytest.mark.parametrize("values", [1, 40, 500])
def test_slabs_change_nothing(tmp_path, monkeypatch, values):
    """One row at a time, some records, some seeds, some delays: all of them the table that is written at once."""
    parts = two_parts()
    parts["delay"] = parts["delay"].isel(rule=slice(1, 2))  # with points of every status
    source = written(tmp_path, **parts)
    for name in ("whole", "slabs"):
        for suffix in (".csv", ".parquet"):
            export_table(source, tmp_path / f"{name}{suffix}")
        monkeypatch.setattr(export, "VALUES", values)
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "slabs.csv").read_bytes()
    assert parquet.read_table(tmp_path / "whole.parquet").equals(parquet.read_table(tmp_path / "slabs.parquet"))
    table = parquet.read_metadata(tmp_path / "slabs.parquet")
    sizes = [table.row_group(index).num_rows for index in range(table.num_row_groups)]
    assert sum(sizes) == 44 and max(sizes) <= max(1, values // table.num_columns)


MEASURED = """
import sys
from pathlib import Path
from experiments.results import export

def kilobytes(key):
    return int(Path("/proc/self/status").read_text().split(key)[1].split()[0])

export.VALUES = 2**18
small, large, target = map(Path, sys.argv[1:])
export.export_table(small, target)
Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
before = kilobytes("VmRSS:")
export.export_table(large, target)
print(kilobytes("VmHWM:") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read as Linux tells it")
def test_memory_is_that_of_a_slab(tmp_path, forks):
    """Results of 32 MB, in slabs of 1 MB."""
    sources = []
    for points in (2, 500):
        values = np.zeros((points, 1000), np.float32)
        probes = {f"probe{number}": (("seed", "record"), values + number) for number in range(16)}
        coords = {"seed": np.arange(points), "presentation": ("record", np.arange(1000))}
        (tmp_path / str(points)).mkdir()
        status = ("seed", np.zeros(points, np.int8))
        sources.append(written(tmp_path / str(points), root=xr.Dataset({"status": status, **probes}, coords)))
    assert int(forks.program(MEASURED, *sources, tmp_path / "table.parquet")) < 16_000


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("target", "part", "message"),
    [
        ("table.xlsx", None, r"table\.xlsx' has no known format: its name must end in \.csv or \.parquet"),
        ("table", None, "no known format"),
        ("", None, "is a directory: it must be a file"),
        ("table.csv", "delays", "part 'delays' is not known: it must be one of delay, noise; did you mean 'delay'"),
        ("table.csv", "", "part '' is not known"),
        ("nowhere/table.csv", None, "table.csv' cannot be written: No such file or directory; it must"),
        ("results.nc/table.parquet", None, "cannot be written: Not a directory"),
    ],
)
def test_a_wrong_request_is_told(tmp_path, target, part, message):
    with pytest.raises(PlasticodeError, match=message):
        export_table(written(tmp_path, **two_parts()), tmp_path / target, part)
    assert [path.name for path in tmp_path.rglob("*")] == ["results.nc"]


def test_a_part_of_results_without_parts_is_told(tmp_path):
    with pytest.raises(PlasticodeError, match=r"part = 'delay' is not allowed: .*results\.nc' has no parts"):
        export_table(written(tmp_path, root=dataset()), tmp_path / "table.csv", "delay")


@pytest.mark.parametrize("content", [None, b"", b"no netCDF"])
def test_a_file_that_is_no_result_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "results.nc").write_bytes(content)
    for source in (tmp_path, tmp_path / "results.nc"):
        with pytest.raises(PlasticodeError, match=r"results\.nc' (cannot be read|does not exist)"):
            export_table(source, tmp_path / "table.csv")
    for name in ("x", "status"):
        xr.Dataset({name: 1}).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
        with pytest.raises(PlasticodeError, match="has no (status|records) in part ''"):
            export_table(tmp_path, tmp_path / "table.csv")


def test_parquet_without_pyarrow_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PlasticodeError, match=r"pip install '\.\[parquet\]', or use \.csv"):
        export_table(written(tmp_path, root=dataset()), tmp_path / "table.parquet")


# ------------------------------------------------------------------------------------------------------------- failures


def fail_late(monkeypatch, owner: object, name: str, error: BaseException, calls: int) -> None:
    """Let a function fail at one of its calls."""
    original, count = getattr(owner, name), iter(range(calls))

    def failing(*args, **kwargs):
        if next(count, None) is None:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize(
    ("suffix", "owner", "name", "calls"),
    [
        (".csv", pd.DataFrame, "to_csv", 3),
        (".parquet", parquet.ParquetWriter, "write_table", 2),
        (".csv", os, "fsync", 0),
        (".parquet", os, "fsync", 0),
        (".csv", Path, "replace", 0),
    ],
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_table_and_nothing_else(tmp_path, monkeypatch, suffix, owner, name, calls, error):
    source, target = written(tmp_path, root=dataset()), tmp_path / f"table{suffix}"
    monkeypatch.setattr(export, "VALUES", 100)
    fail_late(monkeypatch, owner, name, error, calls)
    for old in (None, b"old"):
        if old is not None:
            target.write_bytes(old)
        with pytest.raises((PlasticodeError, KeyboardInterrupt)) as told:
            export_table(source, target)
        if isinstance(error, OSError):
            assert str(told.value).startswith(f"the table '{target}' cannot be written: No space left on device; ")
        left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "results.nc"}
        assert left == ({} if old is None else {target.name: old})


@FORMATS
def test_results_that_turn_out_damaged_are_told(tmp_path, suffix):
    """A checksum that fails at the last probe, where a part of the table is already written."""
    plain = {"alignment": {"fletcher32": True, "chunksizes": (1, 1, 4, RECORDS, 2)}}
    dataset().to_netcdf(tmp_path / "results.nc", engine="h5netcdf", encoding=plain)
    with h5py.File(tmp_path / "results.nc") as file:
        chunks = file["alignment"].id
        offset = chunks.get_chunk_info(chunks.get_num_chunks() - 1).byte_offset
    damaged = bytearray((tmp_path / "results.nc").read_bytes())
    damaged[offset] ^= 0xFF
    (tmp_path / "results.nc").write_bytes(damaged)
    with pytest.raises(PlasticodeError, match=r"results\.nc' cannot be read"):
        export_table(tmp_path, tmp_path / f"table{suffix}")
    assert [path.name for path in tmp_path.iterdir()] == ["results.nc"]


def test_only_a_file_is_replaced_and_never_the_results(tmp_path):
    """No link to something, whether that is there or not, nothing that would block, no results called like a table."""
    source = written(tmp_path, root=dataset())
    (tmp_path / "mine.csv").write_text("mine")
    (tmp_path / "link.csv").symlink_to(tmp_path / "mine.csv")
    (tmp_path / "broken.csv").symlink_to(tmp_path / "nothing.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    os.link(tmp_path / "results.nc", tmp_path / "results.csv")
    before = sorted(os.listdir(tmp_path))
    for name, why in (("link", "a link"), ("broken", "a link"), ("pipe", "no file"), ("results", "the results")):
        with pytest.raises(PlasticodeError, match=f"{name}.csv' is {why}"):
            export_table(source, tmp_path / f"{name}.csv")
    assert sorted(os.listdir(tmp_path)) == before and (tmp_path / "mine.csv").read_text() == "mine"
    assert export_table(source, tmp_path / "mine.csv") > 0 and (tmp_path / "mine.csv").read_text() != "mine"
