"""Merging: the file of the chunks is that of a run in memory, whatever the chunks and slabs; memory does not grow."""

import contextlib
import errno
import functools
import io
import itertools
import math
import os
import time
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.execution import runner
from experiments.execution.runner import Assignment, Outcome
from experiments.machine.progress import Meter
from experiments.points.jobs import Chunking, ChunkKey, prepare
from experiments.results.labels import STATUS, shape_of, slabs
from experiments.results.netcdf import load
from experiments.results.ownership import identity_in
from experiments.spec.loading import make_spec
from experiments.spec.spec import Spec
from experiments.storage import merge as module
from experiments.storage.chunks import ChunkStore
from experiments.storage.merge import merge

pytestmark = pytest.mark.usefixtures("unchecked_types")
ROOT = Path(__file__).resolve().parents[3]
BASE = {
    "regime": "discrete",  # which compiles soonest
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 20, "test_samples": 10},
    "network": {"hidden": [4]},
    "rule": "fa",
    "dtype": "float64",
    "stimulus": {"presentations": 4},
    "integrator": {"name": "euler", "dt": "5 ms", "tolerance": 0.9},
    "timescales": {"propagation": "10 ms"},
    "record": {"points": 2, "probes": ["loss", "weight_norm", "feedback_mismatch"]},
}
GAINS, SCALES, RULES = {"linspace": [0.4, 1.6, 3]}, [0.5, 2.0], {"rule": ["sgd", "fa"]}
PARTS = {
    "gain": {"set": {"rule": "fa"}, "sweep": {"network.gain": GAINS, "seeds": 2}},
    "rules": {"set": {"rule": "sgd"}, "sweep": {"timescales.plasticity": ["1e-6 s", "1 s"]}},
}
WINDOW = {"integrator": {"name": "window", "dt": "5 ms", "tolerance": 0.9}, "dtype": "float32", "regime": "coupled"}
SEEN = {"inside": ["z1", "W2"], "inside_presentations": [1, 3], "inside_times": 4, "inside_neurons": {"z1": [3]}}
CASES = {
    "parts": {"parts": PARTS},
    "rules": {"sweep": {"network.gain": GAINS, "rule": ["sgd", "kp"]}},
    "zip": {"sweep": {"rule.feedback_scale": SCALES, "network.gain": SCALES, "seeds": 2}},
    "interleaved": {"sweep": {"network.gain": GAINS, "rule": ["sgd", "fa"], "seeds": 2}},
    "single": {},
    "estimate": {**WINDOW, "sweep": {"network.gain": GAINS}},
    "inside": {"regime": "coupled", "record": {**BASE["record"], **SEEN}, "sweep": {"network.gain": GAINS, **RULES}},
}
CASES["zip"]["sweep"]["zip"] = [["rule.feedback_scale", "network.gain"]]
CUTS = [(3, 0, 1), (99, 0, 2**26), (99, 0, 500), (1, 2, 400), (2, 3, 2**26)]
# All cuts where one job's points lie between those of others, and of parts the usual one; else whole, and in pieces.
CUT = [("interleaved", *cut) for cut in CUTS] + [("parts", *cut) for cut in CUTS[1:]]
CUT += [("inside", 2, 3, 400)]
CUT += [(case, *cut) for case in ("rules", "zip", "single", "estimate") for cut in ((99, 0, 2**26), (2, 3, 400))]


@functools.cache
def computed(case: str) -> tuple[Spec, dict, dict]:
    """A spec, its jobs, and the records of each job's points, really run once."""
    spec = make_spec({**BASE, **CASES[case]})
    jobs = prepare(spec)
    tasks = [Assignment(job, job.chunks(Chunking(99, 99, 1))) for members in jobs.values() for job in members]
    records = {}
    for outcome in runner.local(tasks, Meter(None, 1.0)):
        assert outcome.record is not None
        records[outcome.key[:2]] = outcome.record
    return spec, jobs, records


def outcomes(case: str, size: int, skipped: int = 0) -> list[Outcome]:
    """What an executor yields where chunks have `size` points; every `skipped`-th chunk is missing."""
    _, jobs, records = computed(case)
    found = []
    for job in itertools.chain(*jobs.values()):
        for key, points in job.chunks(Chunking(size, size, 1)).items():
            record = jax.tree.map(lambda leaf, points=points: leaf[points], records[key[:2]])
            found.append(Outcome(key, points, record, 0.25, "cpu"))
    return [one for number, one in enumerate(found, 1) if not skipped or number % skipped]


def stored(directory: Path, results: list[Outcome], identity: str = '{"run": {"a": 1}}') -> ChunkStore:
    directory.mkdir()
    store = ChunkStore(directory, identity)
    for one in results:
        assert one.record is not None
        store.write(one.key, one.points, one.record, {"seconds": one.seconds, "device": one.device})
    return store


def in_memory(monkeypatch, case: str, results: list[Outcome]) -> runner.Results:
    """What `runner.run` makes of the same outcomes."""
    spec, jobs, _ = computed(case)
    monkeypatch.setattr(runner, "local", lambda *_: iter(results))
    return runner.run(spec, jobs=jobs)


def assert_equal(path: Path, expected: runner.Results) -> None:
    """But for what tells of the run and not of its numbers."""
    loaded = load(path)
    assert list(loaded.datasets) == list(expected.datasets)
    for part, data in expected.datasets.items():
        mine, other = (one.copy(deep=False) for one in (loaded.datasets[part], data))
        for attribute in ("run", "complete", "seconds", "device"):
            mine.attrs.pop(attribute, None)
            other.attrs.pop(attribute, None)
        xr.testing.assert_identical(mine, other)
        assert {name: v.dtype for name, v in mine.items()} == {name: v.dtype for name, v in other.items()}
        assert list(mine.data_vars) == list(other.data_vars)


@settings(deadline=None)  # which counts the time of others on the machine
@given(st.lists(st.integers(1, 5), max_size=4).map(tuple), st.integers(1, 400))
def test_slabs_cover_every_point_once_and_in_order(shape, most):
    grid = np.arange(math.prod(shape)).reshape(shape)
    boxes = [grid[slab].ravel() for slab in slabs(shape, most)]
    np.testing.assert_array_equal(np.concatenate(boxes), grid.ravel())
    assert max(map(len, boxes)) <= most
    assert len(boxes) <= 1 + 2 * grid.size / most * max(shape, default=1)  # and not one by one


def test_slabs_are_as_large_as_they_may_be():
    assert list(slabs((4, 3), 12)) == [(slice(0, 4), slice(0, 3))] and list(slabs((), 1)) == [()]
    assert [shape_of(slab) for slab in slabs((4, 3), 6)] == [(2, 3), (2, 3)]
    assert [shape_of(slab) for slab in slabs((2, 3), 2)] == [(1, 2), (1, 1), (1, 2), (1, 1)]


@pytest.mark.parametrize(("case", "size", "skipped", "slab"), CUT)
def test_the_merged_file_is_the_run_in_memory(tmp_path, monkeypatch, case, size, skipped, slab):
    """Whatever the points of a chunk, the chunks that are missing, the bytes of a slab."""
    monkeypatch.setattr(module, "SLAB_BYTES", slab)
    spec, jobs, _ = computed(case)
    results = outcomes(case, size, skipped)
    store = stored(tmp_path / "chunks", results)
    seconds = merge(spec, jobs, Chunking(size, size, 1), store, tmp_path / "results.nc")
    expected = in_memory(monkeypatch, case, results)
    assert_equal(tmp_path / "results.nc", expected)
    assert seconds == {part: data.attrs["seconds"] for part, data in expected.datasets.items()}
    missing = [data["status"].values == STATUS.index("missing") for data in expected.datasets.values()]
    complete = not any(one.any() for one in missing)
    assert identity_in(tmp_path / "results.nc") == ({"a": 1}, complete)
    assert complete == (len(results) == len(outcomes(case, size)))
    for data, gone in zip(load(tmp_path / "results.nc").datasets.values(), missing, strict=True):
        assert "loss" not in data or np.isnan(data["loss"].values[gone]).all()
        assert data.attrs["device"] == ("none" if gone.all() else "cpu")


def test_chunks_of_a_real_run_merge_to_that_run(tmp_path, monkeypatch):
    """Nothing is replayed here: chunks as the runner cuts and computes them."""
    spec, jobs, _ = computed("rules")
    monkeypatch.setattr(runner, "chunking", lambda *_: Chunking(1, 1, 1))
    tasks = [Assignment(job, job.chunks(Chunking(1, 1, 1))) for job in jobs[""]]
    store = stored(tmp_path / "chunks", list(runner.local(tasks, Meter(None, 1.0))))
    merge(spec, jobs, Chunking(1, 1, 1), store, tmp_path / "results.nc")
    assert_equal(tmp_path / "results.nc", runner.run(spec, jobs=jobs))


def test_nothing_at_all_is_all_missing(tmp_path):
    spec, jobs, _ = computed("parts")
    merge(spec, jobs, Chunking(1, 1, 1), stored(tmp_path / "chunks", []), tmp_path / "results.nc")
    for data in load(tmp_path / "results.nc").datasets.values():
        assert (data["status"] == STATUS.index("missing")).all() and list(data.data_vars) == ["status"]


@pytest.mark.parametrize("case", ["parts", "interleaved"])
def test_the_bytes_follow_from_the_records(tmp_path, monkeypatch, case):
    """Not from the time, the order in which chunks were made, how long that took, or the slabs."""
    spec, jobs, _ = computed(case)
    files = []
    for number, slab in enumerate((400, 400, 2**26)):
        monkeypatch.setattr(module, "SLAB_BYTES", slab)
        results = outcomes(case, 4)
        results = [one._replace(seconds=float(number)) for one in (results[::-1] if number else results)]
        store = stored(tmp_path / str(number), results)
        merge(spec, jobs, Chunking(4, 4, 1), store, tmp_path / "results.nc")  # at last over what is there
        files.append((tmp_path / "results.nc").read_bytes())
        time.sleep(1.1 if number == 0 else 0)
    assert files[0] == files[1]
    assert len(files[2]) == len(files[0])


def test_other_readers_open_the_file(tmp_path, monkeypatch):
    spec, jobs, _ = computed("parts")
    store = stored(tmp_path / "chunks", outcomes("parts", 2))
    path = tmp_path / "results.nc"
    merge(spec, jobs, Chunking(2, 2, 1), store, path)
    expected = in_memory(monkeypatch, "parts", outcomes("parts", 2)).datasets
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert set(tree.children) == set(PARTS) and tree.attrs["complete"] == 1 and "run" in tree.attrs
        assert tree.attrs["parts"].split() == list(PARTS) and "one part of the spec" in tree.attrs["comment"]
        for part in PARTS:
            xr.testing.assert_equal(tree[part].to_dataset(), expected[part])
    with xr.open_dataset(path, group="gain", engine="h5netcdf") as data:
        assert data["loss"].attrs["long_name"] == "test loss" and data["network_gain"].attrs["units"] == "1"
        assert data["time"].dims == ("record",) and data.attrs["spec_hash"] == spec.parts()["gain"].hash()
        assert data["status"].attrs["flag_meanings"].split() == list(STATUS)
    with h5py.File(path) as opened:
        file: Any = opened  # of which h5py knows no types
        assert [scale[0].name for scale in file["gain/weight_norm"].dims if len(scale)][:2] == [
            "/gain/network_gain", "/gain/seed"
        ]  # fmt: skip
        np.testing.assert_array_equal(file["gain/weight_norm"][:], expected["gain"]["weight_norm"].values)
        assert file["rules/status"][:].tolist() == expected["rules"]["status"].values.tolist()
        assert [name.decode() for name in file["gain/matrix"][:]] == expected["gain"]["matrix"].values.tolist()
        assert file["gain/loss"].attrs["coordinates"].split() == ["presentation", "time"]  # as netCDF's convention is
        assert "_FillValue" not in file["gain/network_gain"].attrs
        assert file["gain/loss"].attrs["units"] == "1" and file["gain"].attrs["part"] == "gain"


@pytest.mark.parametrize("content", [None, b"", b"no netCDF", b"\x89HDF\r\n\x1a\n"])
def test_what_is_no_result_has_no_identity(tmp_path, content):
    if content is not None:
        (tmp_path / "results.nc").write_bytes(content)
    assert identity_in(tmp_path / "results.nc") is None


@pytest.mark.parametrize("identity", ["", "[]", "{}", "7", "{"])
def test_a_result_of_unknown_origin_has_no_identity(tmp_path, identity):
    spec, jobs, _ = computed("single")
    store = stored(tmp_path / "chunks", outcomes("single", 1), identity)
    merge(spec, jobs, Chunking(1, 1, 1), store, tmp_path / "results.nc")
    assert identity_in(tmp_path / "results.nc") is None


# --------------------------------------------------------------------------------------------------- full disks, memory


def full():
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["pwrite", "ftruncate", "fsync"])
def test_a_disk_that_is_full_at_any_write_is_an_error_of_the_system(tmp_path, monkeypatch, name):
    """HDF5 never learns of it: it crashes the process where it cannot finish a file. A short write comes before."""
    monkeypatch.setattr(module, "SLAB_BYTES", 400)
    spec, jobs, _ = computed("parts")
    store = stored(tmp_path / "chunks", outcomes("parts", 2))
    work, calls, most = getattr(os, name), itertools.count(), math.inf

    def fails(descriptor, *arguments):
        number = next(calls)
        if name == "pwrite" and number == most - 1 and len(arguments[0]) > 1:
            return work(descriptor, arguments[0][: len(arguments[0]) // 2], arguments[1])
        if number >= most:
            full()
        return work(descriptor, *arguments)

    monkeypatch.setattr(module.os, name, fails)
    merge(spec, jobs, Chunking(2, 2, 1), store, tmp_path / "results.nc")
    whole, total = (tmp_path / "results.nc").read_bytes(), next(calls)
    for most in {*range(0, total, 20), total - 2, total - 1} - {-1}:  # noqa: B007
        calls = itertools.count()
        with pytest.raises(OSError, match="No space left") as error:
            merge(spec, jobs, Chunking(2, 2, 1), store, tmp_path / "results.nc")
        assert error.value.errno == errno.ENOSPC
    most = math.inf
    merge(spec, jobs, Chunking(2, 2, 1), store, tmp_path / "results.nc")
    assert total and (tmp_path / "results.nc").read_bytes() == whole


@pytest.mark.parametrize("room", [0, 1, 7, 999])
def test_what_a_full_disk_refuses_can_be_read_back(tmp_path, monkeypatch, room):
    """Against a file in memory: HDF5 may read again what it has written, before it closes its file."""
    work, calls, random, model = os.pwrite, itertools.count(), np.random.default_rng(room), io.BytesIO()

    def half(descriptor: int, data: memoryview, at: int) -> int:
        return work(descriptor, data[: -(-len(data) // 2)], at) if next(calls) < room else full()

    monkeypatch.setattr(module.os, "pwrite", half)
    with (tmp_path / "file").open("w+b", buffering=0) as raw:
        disk = module._Disk(raw.fileno())
        for length in random.integers(1, 40, 30).tolist():
            at, content = int(random.integers(60)), random.bytes(length)
            for file in (disk, model):
                assert file.seek(at) == at and file.write(content) == length and file.tell() == at + length
            found, first = bytearray(70), int(random.integers(50))
            disk.seek(first)
            disk.readinto(found)
            assert bytes(found) == model.getvalue()[first : first + 70].ljust(70, b"\0")
            assert disk.seek(0, os.SEEK_END) == len(model.getvalue())
        assert (disk.error is None) == (room == 999)
    assert room != 999 or (tmp_path / "file").read_bytes() == model.getvalue()


def test_an_interrupt_that_falls_into_a_write_is_raised(tmp_path, monkeypatch):
    spec, jobs, _ = computed("single")
    store = stored(tmp_path / "chunks", outcomes("single", 1))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merge(spec, jobs, Chunking(1, 1, 1), store, tmp_path / "results.nc")


BIG = """
import sys, time
from pathlib import Path
import numpy as np
from experiments.results import netcdf
from experiments.storage import chunks, merge
from experiments.points.jobs import Chunking, prepare
from experiments.spec.loading import make_spec
place, points, records, probes, size = Path(sys.argv[1]), *map(int, sys.argv[2:])
names = ["loss", "accuracy", "tangent_kernel", "weight_norm", "alignment", "feedback_mismatch"]
task = {"name": "teacher-student", "inputs": 2, "teacher_hidden": [2]}
spec = make_spec({
    "task": task, "network": {"hidden": [2]}, "rule": "fa", "stimulus": {"presentations": records - 1},
    "record": {"points": records - 1, "probes": ["loss", "weight_norm"]}, "sweep": {"seeds": points},
})
jobs, cut = prepare(spec), Chunking(size, size, 1)
(place / "chunks").mkdir()
kept, random = chunks.ChunkStore(place / "chunks", "run"), np.random.default_rng(0)
matrices = [f"W{number}" for number in range(probes - 1)]
begin = time.perf_counter()
for key, at in jobs[""][0].chunks(cut).items():
    block = random.random((probes, len(at), records), np.float32)
    record = {"loss": block[0], "weight_norm": dict(zip(matrices, block[1:])), "finite": np.isfinite(block[0])}
    kept.write(key, at, record, {"seconds": 1.0, "device": "cpu"})
    del block, record
wrote = time.perf_counter() - begin
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024

Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which a process also inherits
before = peak()
begin = time.perf_counter()
merge.merge(spec, jobs, cut, kept, place / "results.nc")
seconds = time.perf_counter() - begin
after = peak()
size = (place / "results.nc").stat().st_size / 2**20
print(f"{after - before:.0f} {size:.0f} {before:.0f} {seconds:.2f} {wrote:.2f}")
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="it takes Linux to measure")
def test_memory_does_not_grow_with_the_results(tmp_path, forks):
    """100 MB of records; by hand, 400 MB need as much."""
    grown, size, *_ = map(float, forks.program(BIG, tmp_path, 2500, 1000, 10, 250).split())
    print(f"merge of {size:.0f} MB: {grown:.0f} MB of memory")
    assert size > 90 and 10 < grown < 150


def test_one_chunk_is_read_where_its_points_are(tmp_path, monkeypatch):
    """The number of reads is that of chunks and slabs, not of their product."""
    spec, jobs, _ = computed("interleaved")
    store = stored(tmp_path / "chunks", outcomes("interleaved", 1))
    reads: list[ChunkKey] = []
    read = ChunkStore.read
    monkeypatch.setattr(ChunkStore, "read", lambda self, key: (reads.append(key), read(self, key))[1])
    monkeypatch.setattr(module, "SLAB_BYTES", 1)
    with contextlib.suppress(KeyError):
        merge(spec, jobs, Chunking(1, 1, 1), store, tmp_path / "results.nc")
    assert len(reads) == 12 + 2  # and once per job, for its shapes
