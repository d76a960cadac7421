"""Chunks on dask workers: the same results as here, whatever dies."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from dynamics.errors import PlasticodeError
from experiments.execution import cluster
from experiments.execution.keeping import how_to_run
from experiments.points.jobs import CACHE_BLOCK, Chunking
from tests.experiments.commands.test_cli import plasticode
from tests.experiments.test_resume import POINTS, SPEC, WRITTEN, chunks, names
from tests.forks import local_cluster

pytestmark = pytest.mark.usefixtures("unchecked_types")
# They wire their circuit in the process that asks, and in none that works for it.
PICKY = """
import multiprocessing, os
from rules import FA
class Picky(FA):
    def wire(self, network):
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("not here")
        return FA.wire(self, network)
class Killer(FA):
    def wire(self, network):
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        return FA.wire(self, network)
"""


@pytest.fixture(scope="module")
def forks(forks):
    (forks.place / "spec.toml").write_text(SPEC)
    (forks.place / "picky.py").write_text(PICKY)
    return forks


@pytest.fixture(scope="module")
def straight(forks) -> xr.Dataset:
    """The results of this process alone, with the same chunks."""
    assert forks.wait(forks.start("run", "spec.toml", "--out", "straight", chunk=1)) == 0, forks.said()
    return xr.load_dataset(forks.place / "straight" / "results.nc")


def same(place: Path, expected: xr.Dataset) -> bool:
    found = xr.load_dataset(place / "results.nc")
    return all(np.array_equal(found[name], expected[name]) for name in expected.data_vars) and names(place) == WRITTEN


def workers_of(process: int) -> list[int]:
    """The processes that compute for a run: those of its descendants that use jax."""
    found, parents = [], {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
            parents[pid] = int(rest[1])
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != process:
            ancestor = parents[ancestor]
        with contextlib.suppress(OSError):
            if ancestor == process != pid and "jaxlib" in Path(f"/proc/{pid}/maps").read_text():
                found.append(pid)
    return found


def test_workers_of_which_one_is_killed_make_the_same_results(forks, straight):
    out = forks.place / "two"
    process = forks.start("run", "spec.toml", "--out", "two", "--workers", "2", chunk=1)
    forks.until(lambda: len(chunks(out)) >= 2)
    workers = workers_of(process)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert forks.wait(process) == 0, forks.said()
    assert "Traceback" not in forks.said() and same(out, straight)
    forks.until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_workers_end_with_a_run_that_is_killed_and_the_next_one_goes_on_without_them(forks, straight):
    out = forks.place / "orphans"
    process = forks.start("run", "spec.toml", "--out", "orphans", "--workers", "1", chunk=1)
    forks.until(lambda: len(chunks(out)) >= 2)
    workers = workers_of(process)
    os.kill(process, signal.SIGKILL)
    forks.wait(process)
    forks.until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    kept = len(chunks(out))
    process = forks.start("run", "spec.toml", "--out", "orphans", "--workers", "1", chunk=1)
    forks.until(lambda: len(chunks(out)) > kept)
    os.killpg(process, signal.SIGINT)  # as the terminal does, to workers too
    assert forks.wait(process) == 130 and "Traceback" not in forks.said(), forks.said()
    assert f"of {POINTS} points are finished and kept" in forks.said()
    assert forks.wait(forks.start("run", "spec.toml", "--out", "orphans", chunk=1)) == 0
    assert same(out, straight)


def test_chunks_that_fail_or_kill_their_worker_are_recorded_and_the_rest_goes_on(forks):
    """A worker that dies is started again, for each attempt and for the chunks that wait behind it."""
    out = forks.place / "failing"
    rules = ["--set", 'sweep.rule=["picky:Killer", "picky:Picky", "fa"]']
    code = forks.wait(forks.start("run", "spec.toml", "--out", "failing", *rules, "--workers", "1", chunk=16))
    assert code == 1 and "2 chunks failed every time, the first with KilledWorker" in forks.said(), forks.said()
    with xr.open_dataset(out / "results.nc") as data:
        assert (data["status"].sel(rule="fa") == 0).all()
        assert (data["status"].sel(rule=["picky:Killer", "picky:Picky"]) == 3).all()
    failures = json.loads((out / "summary.json").read_text())["failures"]
    assert sorted(failures) == ["all-0000-000000", "all-0001-000000"]
    assert "not here" in failures["all-0001-000000"] and "not here" in (out / "report.html").read_text()
    assert forks.wait(forks.start("run", "spec.toml", "--out", "failing", *rules, chunk=16)) == 0  # here it works
    assert names(out) == WRITTEN


def test_the_scheduler_of_a_cluster_gets_the_chunks_and_one_that_goes_away_is_told_and_costs_no_chunk(forks, straight):
    with local_cluster(n_workers=1, threads_per_worker=1) as found:
        there = ("--scheduler", found.scheduler_address)
        assert forks.wait(forks.start("run", "spec.toml", "--out", "scheduled", *there, chunk=1)) == 0, forks.said()
        assert same(forks.place / "scheduled", straight)
        out = forks.place / "deserted"
        process = forks.start("run", "spec.toml", "--out", "deserted", *there, chunk=1)
        forks.until(lambda: len(chunks(out)) >= 2)
        os.kill(process, signal.SIGSTOP)  # it must not be faster than the end of the cluster
    os.kill(process, signal.SIGCONT)
    assert forks.wait(process) == 2 and "Traceback" not in forks.said(), forks.said()
    assert "the dask scheduler is gone: finished chunks are kept" in forks.said()
    assert len(chunks(out)) >= 2
    assert forks.wait(forks.start("run", "spec.toml", "--out", "deserted", chunk=1)) == 0
    assert same(out, straight)


def test_a_worker_that_lives_long_imports_changed_code_again_and_refuses_other_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "lives_long.py"

    def imported(text: str, expected: str) -> str:
        module.write_text(text)
        digest = hashlib.sha256(expected.encode()).hexdigest()
        cluster._import_code({"lives_long": digest})
        return sys.modules["lives_long"].VALUE

    assert imported("VALUE = 'old'", "VALUE = 'old'") == "old"
    assert imported("VALUE = 'changed'", "VALUE = 'changed'") == "changed"
    with pytest.raises(PlasticodeError, match="the worker has another module 'lives_long' than the run"):
        imported("VALUE = 'mine'", "VALUE = 'yours'")


def test_a_scheduler_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    Path("spec.toml").write_text(SPEC)
    said = plasticode("run", "spec.toml", "--out", "nowhere", "--scheduler", "tcp://127.0.0.1:1", code=2).stderr
    assert "--scheduler 'tcp://127.0.0.1:1' does not answer" in said and said.count("\n") == 1
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((2, "tcp://x:1", None, False), "--workers and --scheduler are not allowed together"),
        ((2, None, "1/2", False), "--workers and --shard are not allowed together"),
        ((None, None, "1/2", True), "--force is not allowed with --shard"),
        ((None, None, "3/2", False), "--shard = '3/2' is not allowed: it must be I/N"),
        ((None, None, "0/2", False), "from 1/N to N/N"),
        ((None, None, "a/b", False), "--shard = 'a/b' is not allowed"),
    ],
)
def test_options_that_do_not_go_together_are_told(options, told):
    with pytest.raises(PlasticodeError, match=told):
        how_to_run(*options)


def test_the_size_of_chunks_gives_every_worker_some_and_every_device_a_block():
    assert cluster.size(None, None) == (1, None) and cluster.size(3, None) == (3, 1)
    for workers in (2, 3, 50):
        cut = Chunking.of(1, True, 10_000, workers)
        assert 10_000 / cut.most >= 4 * workers - 1 and cut.least >= CACHE_BLOCK
    assert Chunking.of(1, True, 12, 3).most == 4  # few points: no worker has none
    assert Chunking.of(64, True, 10_000).least == 64 * CACHE_BLOCK
    assert Chunking.of(1, False, 10_000).most == 4096


def test_processes_of_a_machine_share_the_folder_of_data_of_who_asks_or_their_machines_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with cluster._folder() as mine:
        assert cluster._shared(mine) == Path(mine)
    assert not Path(mine).exists()  # as on another machine
    own = tmp_path / Path(mine).name
    assert cluster._shared(mine) == own and own.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: -1)
    shutil.rmtree(own)
    own.mkdir()
    assert cluster._shared(str(tmp_path / "gone" / own.name)) is None  # somebody else's folder
