"""Data are held once: while a file is read, on the devices of a CPU, and by the processes of a machine."""

import tracemalloc

import jax
import numpy as np
import pytest

from dynamics.plugins import look_in
from experiments.execution.programs import JobRunner
from experiments.points import data as points_data
from experiments.points.data import arrays_of, loaded
from experiments.points.jobs import job_of, prepare, share_data
from experiments.spec.loading import make_spec
from experiments.tasks.arrays import MOST_TESTED, Arrays

ROWS, COLUMNS = 100_000, 50
SPEC = {
    "task": {"name": "arrays", "train": ["X.npy", "y.npy"]},
    "regime": "discrete",
    "network": {"hidden": [2]},
    "stimulus": {"presentations": 2},
    "record": {"points": 1},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of 20 MB with inputs, .npy and .npz, and labels."""
    folder = tmp_path_factory.mktemp("files")
    x = np.random.default_rng(0).standard_normal((ROWS, COLUMNS), np.float32)
    np.save(folder / "X.npy", x)
    np.savez(folder / "X.npz", x=x)
    np.save(folder / "y.npy", np.arange(ROWS) % 2)
    return folder


@pytest.fixture(autouse=True)
def here(files, monkeypatch):
    """All happens where the files are."""
    monkeypatch.chdir(files)
    look_in()


@pytest.mark.parametrize("file", ["X.npy", "X.npz"])
def test_a_file_is_read_into_one_copy(file, monkeypatch):
    monkeypatch.setattr("experiments.tasks.samples.BLOCK", 100_000)
    monkeypatch.setattr("experiments.tasks.contract.BLOCK", 100_000)
    tracemalloc.start()
    data = Arrays(train=[file, "y.npy"]).load()
    assert data.strongest > COLUMNS
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    held = sum(array.nbytes for array in arrays_of(data).values())
    assert held == 4 * ROWS * (COLUMNS + 2) and peak < 1.25 * held
    assert data.test_targets is not None and data.test_targets.sum(axis=0).tolist() == [MOST_TESTED / 2] * 2


def test_devices_and_jobs_share_the_array_that_was_read():
    jobs = prepare(make_spec(SPEC | {"sweep": {"network.hidden": [[2], [3]]}}))[""]
    arrays = [JobRunner(job, 1).data[0]["train_inputs"] for job in jobs]
    assert arrays[0] is arrays[1]
    if jax.default_backend() == "cpu":
        places = [shard.data.unsafe_buffer_pointer() for shard in arrays[0].addressable_shards]
        assert places == [jobs[0].data["train_inputs"].ctypes.data] * len(jax.local_devices())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_processes_map_what_the_first_of_them_has_loaded(dtype, tmp_path, monkeypatch):
    spec = make_spec(SPEC)
    first = loaded(spec.task, dtype, tmp_path)
    read = arrays_of(loaded(spec.task, dtype))
    monkeypatch.setattr(points_data, "load", None)  # nobody loads again
    second = loaded(spec.task, dtype, tmp_path)
    assert second.strongest == first.strongest and second.classes == first.classes == ("0", "1")
    for name, array in read.items():
        for other in (getattr(first, name), getattr(second, name)):
            assert other.dtype == dtype and np.array_equal(other, array)
            assert not other.flags.writeable and other.ctypes.data % 64 == 0  # a map, which devices use as it is


def test_workers_have_the_data_of_the_process_that_asks(tmp_path, monkeypatch):
    spec = make_spec(SPEC)
    (job,) = prepare(spec)[""]
    before = dict(job.data)
    share_data([job], tmp_path)
    monkeypatch.setattr(points_data, "load", None)
    other = job_of(spec, "", 0, tmp_path)
    for name, array in before.items():
        for one in (job, other):
            assert np.array_equal(one.data[name], array) and not one.data[name].flags.writeable
    assert other.plan == job.plan and other.classes == job.classes


def test_without_room_for_files_every_process_has_its_own(tmp_path, monkeypatch):
    spec = make_spec(SPEC)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    data = loaded(spec.task, "float32", tmp_path)
    assert data.train_inputs.shape == (ROWS - MOST_TESTED, COLUMNS)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
