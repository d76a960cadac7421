"""Chunk files: what is written comes back, what is cut, changed or foreign does not, a full disk harms nothing else."""

import errno
import hashlib
import io
import json
import os
import subprocess
import time
from pathlib import Path

import h5netcdf
import numpy as np
import pytest

from experiments.points.jobs import ChunkKey
from experiments.storage.chunks import PARTIAL, ChunkStore

ROOT = Path(__file__).resolve().parents[3]
KEY, OTHER = ChunkKey("", 0, 0), ChunkKey("delay", 12, 3)
ATTRIBUTES = {"seconds": 1.5, "device": "2 x µ", "spec": "a = 1\n"}


def record(points: int = 4, dtype=np.float32, seed: int = 0) -> dict:
    """Every kind of thing that a chunk holds."""
    random = np.random.default_rng(seed)

    def numbers() -> np.ndarray:
        return random.normal(size=(points, 3)).astype(dtype)

    matrices = {"W1": numbers(), "V2": numbers()}
    truths = {"finite": random.random((points, 3)) > 0.5, "converged": random.random((points, 3)) > 0.5}
    loss = numbers()
    loss.flat[:4] = np.nan, np.inf, -0.0, np.finfo(dtype).smallest_subnormal
    return {"loss": loss, "weight_norm": matrices, "alignment": {}, **truths}


def filled(directory: Path, identity: str = "run", count: int = 3) -> ChunkStore:
    """A store with some chunks."""
    store = ChunkStore(directory, identity)
    for number in range(count):
        store.write(ChunkKey("", 0, number), np.arange(4) + 4 * number, record(seed=number), ATTRIBUTES)
    return store


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def assert_same(read: dict, written: dict) -> None:
    assert set(read) == set(written)
    for name, value in written.items():
        if isinstance(value, dict):
            assert_same(read[name], value)
        else:
            assert read[name].dtype == value.dtype and read[name].tobytes() == value.tobytes()


# ----------------------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("key", [KEY, OTHER])
def test_a_chunk_comes_back_bit_for_bit(tmp_path, dtype, key):
    """NaN, infinities, signed zeros and subnormal numbers too; another process finds it by a scan."""
    written, points = record(dtype=dtype), np.array([7, 0, 2**40, 3])
    store = ChunkStore(tmp_path, "run")
    assert key not in store
    store.write(key, points, written, ATTRIBUTES)
    again = ChunkStore(tmp_path, "run")
    assert again.scan() == [] and set(again.files) == {key.stem}
    for one in (store, again):
        assert key in one
        read_points, read, attributes = one.read(key)
        assert read_points.dtype == np.int64 and read_points.tolist() == points.tolist()
        assert_same(read, written)
        assert attributes == ATTRIBUTES
    assert len(names(tmp_path)) == 1


def test_a_chunk_without_windows_has_no_converged(tmp_path):
    store = ChunkStore(tmp_path, "run")
    store.write(KEY, np.arange(2), {"finite": np.ones((2, 1), bool)}, {})
    points, read, attributes = store.read(KEY)
    assert list(read) == ["finite"] and read["finite"].all() and points.tolist() == [0, 1] and attributes == {}


def test_the_file_follows_from_the_content(tmp_path):
    """The same bytes and so the same name, in whatever directory."""
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        filled(tmp_path / place)
        time.sleep(1.1 if place == "a" else 0)  # nor does a file tell when it was written
    assert names(tmp_path / "a") == names(tmp_path / "b")


def test_a_store_without_a_directory_is_empty(tmp_path):
    store = ChunkStore(tmp_path / "none", "run")
    assert store.scan() == [] and store.failures() == {} and KEY not in store
    assert store.load_checkpoint(KEY, "steps") is None and not (tmp_path / "none").exists()


# -------------------------------------------------------------------------------------------------- damaged and foreign


def damaged(name: str, file: Path) -> Path:
    """Do something to a chunk's file; returns where it is then."""
    content = file.read_bytes()
    sizes = {"empty": 0, "byte": 1, "signature": 8, "header": 40, "half": len(content) // 2, "last": len(content) - 1}
    if name in sizes:
        file.write_bytes(content[: sizes[name]])
    elif name == "trailing":
        file.write_bytes(content + b"\0")
    elif name == "renamed":
        return file.rename(file.with_name(file.name.replace("000001", "000009")))
    elif name == "part":
        return file.rename(file.with_name(file.name.replace("all", "delay")))
    elif name == "checksum":
        return file.rename(file.with_name(f"{file.name[:16]}{'0' * 32}.nc"))
    return file


KINDS = ["empty", "byte", "signature", "header", "half", "last", "trailing", "renamed", "part", "checksum"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_cut_changed_or_renamed_is_removed_and_named(tmp_path, kind):
    files = filled(tmp_path).files
    bad = damaged(kind, files["all-0000-000001"])
    assert bad.exists()
    store = ChunkStore(tmp_path, "run")
    assert store.scan() == [bad.name]
    assert names(tmp_path) == sorted(files[f"all-0000-00000{number}"].name for number in (0, 2))
    assert [key in store for key in (ChunkKey("", 0, number) for number in (0, 1, 2, 9))] == [True, False, True, False]
    assert_same(store.read(ChunkKey("", 0, 2))[1], record(seed=2))
    assert store.scan() == []


def test_one_flipped_bit_anywhere_is_noticed(tmp_path):
    file = filled(tmp_path, count=1).files[KEY.stem]
    content = file.read_bytes()
    for position in np.linspace(0, 8 * len(content) - 1, 60).astype(int):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << (position % 8)
        file.write_bytes(changed)
        assert ChunkStore(tmp_path, "run").scan() == [file.name]
    file.write_bytes(content)
    assert ChunkStore(tmp_path, "run").scan() == []


def test_a_cut_beyond_the_first_block_is_noticed(tmp_path, monkeypatch):
    """Files are hashed in pieces."""
    files = filled(tmp_path).files
    monkeypatch.setattr("experiments.storage.chunks.BLOCK", 1000)
    assert ChunkStore(tmp_path, "run").scan() == []
    damaged("last", files["all-0000-000002"])
    assert ChunkStore(tmp_path, "run").scan() == [files["all-0000-000002"].name]


def test_chunks_of_another_run_are_removed(tmp_path):
    mine = filled(tmp_path, "run", 1).files[KEY.stem].name
    theirs = sorted(file.name for file in filled(tmp_path, "run with another spec").files.values())
    store = ChunkStore(tmp_path, "run")
    assert store.scan() == theirs and names(tmp_path) == [mine] and KEY in store


def test_files_of_others_are_left_alone(tmp_path):
    strange = ["notes.txt", "foo.nc", "results.nc", "all-0000-000000.nc", f"all-0000-000000.{'0' * 31}.nc", "run.json"]
    strange += [f"{'0' * 32}.nc", f"all-0000-000000.{'0' * 32}.nc.bak", "all-0000-000001.host-1.partial"]
    filled(tmp_path, count=1)
    for name in strange:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"all-0000-000007.{'0' * 32}.nc").mkdir()
    before = names(tmp_path)
    assert ChunkStore(tmp_path, "run").scan() == [] and names(tmp_path) == before


# ----------------------------------------------------------------------------------------------------------- full disks


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def closes_badly(self):
    """Once: it is called again when the object goes."""
    was_open = not self._closed
    CLOSE(self)
    if was_open:
        full()


CLOSE = h5netcdf.File.close
POINTS = {
    "creation": (h5netcdf.core, "_open_h5py", full),
    "variable": (h5netcdf.Group, "create_variable", full),
    "close": (h5netcdf.File, "close", closes_badly),
    "open": (Path, "open", full),
    "fsync": (os, "fsync", full),
    "replace": (Path, "replace", full),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_failed_write_leaves_the_finished_chunks_and_nothing_else(tmp_path, monkeypatch, point):
    store = filled(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with monkeypatch.context() as patched:
        patched.setattr(*POINTS[point])
        with pytest.raises(OSError, match="No space left") as error:
            store.write(OTHER, np.arange(4), record(), ATTRIBUTES)
    assert error.value.errno == errno.ENOSPC and OTHER not in store
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    store.write(OTHER, np.arange(4), record(), ATTRIBUTES)  # there is room again
    again = ChunkStore(tmp_path, "run")
    assert again.scan() == [] and OTHER in again and len(again.files) == 4


@pytest.mark.parametrize("kind", ["failure", "checkpoint"])
@pytest.mark.parametrize("point", ["replace", "open", "fsync"])
def test_a_failed_note_leaves_the_one_before(tmp_path, monkeypatch, kind, point):
    store = ChunkStore(tmp_path, "run")
    save = {
        "failure": lambda text: store.write_failure(KEY, 4, text, ""),
        "checkpoint": lambda text: store.save_checkpoint(KEY, "steps", text.encode()),
    }[kind]
    save("first")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with monkeypatch.context() as patched:
        patched.setattr(*POINTS[point])
        with pytest.raises(OSError, match="No space left"):
            save("second")
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


FILL = """
import os, sys
import numpy as np
from pathlib import Path
from experiments.storage.chunks import ChunkStore
from experiments.points.jobs import ChunkKey
place = Path(sys.argv[1])
for points in map(int, sys.argv[2:]):
    for file in place.iterdir():
        file.unlink()
    store, number, errors = ChunkStore(place, "run"), 0, []
    record = {"finite": np.ones((points, 3), bool), "loss": np.random.rand(points, 3), "w": {"W": np.ones((points, 3))}}
    while len(errors) < 3:
        try:
            store.write(ChunkKey("", 0, number), np.arange(points), record, {"spec": "x" * 3000})
        except OSError as error:
            errors.append(error.errno)
            assert len(store.files) == len(os.listdir(place)), os.listdir(place)
        number += 1
    again = ChunkStore(place, "run")
    assert again.scan() == [] and set(again.files) == set(store.files)
    print(errors, len(store.files))
    for file in place.iterdir():
        file.unlink()
    store.write(ChunkKey("", 0, 999), np.arange(1), {"finite": np.ones((1, 3), bool)}, {})
    print(len(os.listdir(place)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can mount a small disk")
def test_a_really_full_disk_is_an_error_of_the_system(tmp_path, forks):
    """Not one of HDF5, which crashes a process that goes on after a file could not be closed."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", tmp_path], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        few, one, many, other = forks.program(FILL, tmp_path, 20, 9000).splitlines()
        full = f"[{errno.ENOSPC}, {errno.ENOSPC}, {errno.ENOSPC}] "
        assert few.startswith(full) and few != f"{full}0" and many == f"{full}0" and one == other == "1"
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_what_a_killed_process_left_half_written_goes_with_the_next_attempt(tmp_path):
    filled(tmp_path, count=1)
    left = [f"delay-0012-000003.host-77{PARTIAL}", f"delay-0012-000003-steps-0-8.checkpoint.host-77{PARTIAL}"]
    theirs = f"delay-0012-000004.host-78{PARTIAL}"  # which another process is writing just now
    for name in (*left, theirs):
        (tmp_path / name).write_bytes(b"half")
    store = ChunkStore(tmp_path, "run")
    assert store.scan() == [] and len(names(tmp_path)) == 4
    store.write(OTHER, np.arange(4), record(), ATTRIBUTES)
    assert names(tmp_path) == sorted([*(file.name for file in store.files.values()), theirs])


# ----------------------------------------------------------------------------------------------- failures, checkpoints


def test_failures_are_kept_until_the_chunk_is_finished(tmp_path):
    store = ChunkStore(tmp_path, "run")
    store.write_failure(OTHER, 5, "ValueError: µ", "Traceback\n…")
    kept = {OTHER.stem: {"points": 5, "error": "ValueError: µ", "traceback": "Traceback\n…"}}
    assert json.loads((tmp_path / f"{OTHER.stem}.failed.json").read_text(encoding="utf-8")) == kept[OTHER.stem]
    assert store.failures() == kept and ChunkStore(tmp_path, "another").failures() == kept
    store.write(OTHER, np.arange(4), record(), {})
    assert store.failures() == {} and len(names(tmp_path)) == 1


@pytest.mark.parametrize("text", ["", "{", '{"error"', "[]", "null", "7", "{}", "\udcff", "[" * 100_000])
def test_failures_that_cannot_be_read_are_none(tmp_path, text):
    store = filled(tmp_path, count=1)
    (tmp_path / f"{OTHER.stem}.failed.json").write_bytes(text.encode(errors="surrogateescape"))
    assert store.failures() == {}


def test_a_failure_that_outlived_its_process_is_none_of_a_finished_chunk(tmp_path):
    filled(tmp_path, count=1).write_failure(KEY, 4, "killed before it could remove this", "")
    store = ChunkStore(tmp_path, "run")
    store.scan()
    assert store.failures() == {}


@pytest.mark.parametrize("content", [b"", b"x" * 100_000])
def test_a_checkpoint_comes_back_until_the_chunk_is_finished(tmp_path, content):
    store = ChunkStore(tmp_path, "run")
    store.save_checkpoint(KEY, "steps-0-8", b"before")
    store.save_checkpoint(KEY, "steps-0-8", content)
    store.save_checkpoint(KEY, "steps-8-8", b"another")
    again = ChunkStore(tmp_path, "run")
    assert again.load_checkpoint(KEY, "steps-0-8") == content and again.load_checkpoint(KEY, "steps-8-8") == b"another"
    assert again.load_checkpoint(KEY, "3x12-0-8") is None and again.load_checkpoint(OTHER, "steps-0-8") is None
    again.write(OTHER, np.arange(4), record(), {})
    assert len(names(tmp_path)) == 3
    again.write(KEY, np.arange(4), record(), {})
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize("size", [0, 10, 32, 40, -1])
def test_a_cut_or_foreign_checkpoint_is_none(tmp_path, size):
    store = ChunkStore(tmp_path, "run")
    store.save_checkpoint(KEY, "steps", b"x" * 100)
    file = tmp_path / f"{KEY.stem}-steps.checkpoint"
    content = file.read_bytes()
    assert ChunkStore(tmp_path, "another").load_checkpoint(KEY, "steps") is None
    file.with_name(f"{OTHER.stem}-steps.checkpoint").write_bytes(content)
    assert store.load_checkpoint(OTHER, "steps") is None
    file.write_bytes(content[:size])
    assert store.load_checkpoint(KEY, "steps") is None
    file.write_bytes(content)
    assert store.load_checkpoint(KEY, "steps") == b"x" * 100


# ---------------------------------------------------------------------------------------------------------------- speed


def test_ten_thousand_chunks_are_looked_over_in_seconds(tmp_path):
    """The checksum by hand: blake2b of the content, keyed with that of the run and the chunk."""
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.dimensions = {"point": 100}
        file.create_variable("loss", ("point",), data=np.random.default_rng(0).random(100))
    content = buffer.getvalue()
    (one := tmp_path / f"all-0001-000000.{'0' * 32}.nc").write_bytes(content)
    for number in range(10_000):  # of the same content: links are made sooner than files
        stem = f"all-0000-{number:06d}"
        key = hashlib.blake2b(f"run\n{stem}".encode(), digest_size=32).digest()
        checksum = hashlib.blake2b(content, key=key, digest_size=16).hexdigest()
        (tmp_path / f"{stem}.{checksum}.nc").hardlink_to(one)
    store = ChunkStore(tmp_path, "run")
    begin = time.process_time()  # of this process: other tests run beside
    rejected = store.scan()
    seconds = time.process_time() - begin
    print(f"scan of 10000 chunks of {len(content)} bytes: {seconds:.2f} s of processors")
    assert len(store.files) == 10_000 and rejected == [one.name]
    assert seconds < 10
