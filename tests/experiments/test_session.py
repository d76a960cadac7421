"""A run and its directory: what the disk refuses, what is refused to another run, what a finished run answers."""

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import h5netcdf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from dynamics.kept import forget
from experiments import session
from experiments.execution import checkpoints, cluster, programs, runner
from experiments.machine import progress
from experiments.points.jobs import Chunking
from experiments.results import labels, netcdf
from experiments.storage import chunks, merge, rundir
from tests.experiments.commands.test_cli import TINY, WRITTEN, interrupt_at, names, plasticode, summary

pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
OUT = Path("results/tiny")
ONE_RULE = ["--set", 'sweep.rule=["fa"]', "--set", 'record.probes=["loss"]']


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test runs in an empty directory, with a tiny spec in it, in chunks of two points."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "chunking", lambda *_: Chunking(2, 2, 1))
    Path("tiny.toml").write_text(TINY)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> bytes:
    """The results of a run that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("straight")
        patch.chdir(place)
        patch.setattr(session, "chunking", lambda *_: Chunking(2, 2, 1))
        Path("tiny.toml").write_text(TINY)
        plasticode("run", "tiny.toml", *ONE_RULE)
        return (place / OUT / "results.nc").read_bytes()


def run(*more: str, code: int = 0):
    return plasticode("run", "tiny.toml", *ONE_RULE, *more, code=code)


def chunk_files() -> list[str]:
    return sorted(path.name for path in OUT.glob("chunks/*.nc"))


# ------------------------------------------------------------------------------------------------------------ the disk


def refuse(monkeypatch, where: object, name: str, call: int, number: int = errno.ENOSPC) -> None:
    """From its n-th call on, a function fails as on a full disk."""
    real, calls = getattr(where, name), itertools.count(1)

    def full(*arguments, **named):
        if next(calls) >= call:
            raise OSError(number, os.strerror(number), "somewhere")
        return real(*arguments, **named)

    monkeypatch.setattr(where, name, full)


# Function, the call that fails, chunks that are finished by then (of three).
WRITES = {
    "the header": (rundir, "_started", 1, 0),
    "a chunk": (chunks.ChunkStore, "write", 3, 2),
    "the flush of a chunk": (chunks.os, "fsync", 1, 0),
    "the merged file": (merge.h5netcdf, "File", 1, None),
    "its data": (merge, "_fill", 1, 3),
    "the summary": (netcdf, "write_json", 1, 3),
    "the publication": (netcdf, "_publish", 1, 3),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_disk_that_is_full_is_told_and_nothing_finished_is_lost(write, straight, monkeypatch):
    where, name, call, finished = WRITES[write]
    with monkeypatch.context() as patch:
        from experiments.report import report

        refuse(patch, report if name == "write_json" else where, name, call)
        told = run(code=2).stderr.splitlines()[-1]
        assert re.match(rf"error: the output '\S*{OUT}' cannot be written \(No space left on device", told)
    if finished is not None:
        assert len(chunk_files()) == finished
        assert not finished or f"{finished} finished chunks are kept" in told or write == "the publication"
    assert not list(Path("results").rglob("*.partial"))
    result = run()
    assert "cut" not in result.stderr
    assert (OUT / "results.nc").read_bytes() == straight and names(OUT) == WRITTEN


def test_a_place_where_nobody_may_write_is_told_before_any_work(monkeypatch):
    refuse(monkeypatch, Path, "mkdir", 1, errno.EACCES)
    monkeypatch.setattr(runner, "local", lambda *_: pytest.fail("it must not run"))
    assert "cannot be written (Permission denied" in run(code=2).stderr
    assert names(".") == ["tiny.toml"]


# --------------------------------------------------------------------------------------------------------------- points


def test_points_that_diverge_or_are_nan_from_the_start_harm_no_other(monkeypatch):
    """In one chunk: weights that are NaN from the start, ones that run off, ones that do neither."""
    real = programs.init_point

    def poisoned(plan, values, seed, data):
        state = real(plan, values, seed, data)
        nan = jnp.where(values["network.gain"] == 2.0, jnp.float32(jnp.nan), jnp.float32(1.0))
        return jax.tree.map(lambda leaf: leaf * nan if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, state)

    forget()  # programs that are kept know nothing of it
    monkeypatch.setattr(programs, "init_point", poisoned)
    sweep = ["--set", 'sweep."network.gain"=[1.0, 2.0]', "--set", 'sweep."timescales.plasticity"=["200 ms", "1 us"]']
    result = plasticode("run", "tiny.toml", *ONE_RULE, *sweep)
    forget()
    with xr.open_dataset(OUT / "results.nc") as data:
        good = data.sel({"network_gain": 1.0, "timescales_plasticity": 0.2})
        assert (good["status"] == 0).all() and np.isfinite(good["loss"]).all()
        assert (data["status"].sel({"network_gain": 2.0}) == 1).all()
        assert (data["status"].sel({"timescales_plasticity": 1e-6}) == 1).all()
        assert np.isnan(data["loss"].sel({"network_gain": 2.0})).all()
    assert "9 of 12 points diverged" in result.stdout
    final = summary(OUT)["parts"][""]["final"]
    assert sorted(row["loss"]["n"] for row in final) == [0, 0, 0, 3]


def test_a_clock_that_is_set_back_changes_nothing(straight, monkeypatch):
    backwards = itertools.count(2e9, -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(backwards))
    run()
    assert (OUT / "results.nc").read_bytes() == straight


def test_a_chunk_that_always_fails_is_recorded_and_the_rest_goes_on(straight, monkeypatch):
    from experiments.execution.programs import JobRunner

    real = JobRunner.run

    def broken(self, key, points, meter):
        if key.number == 1:
            raise RuntimeError("INTERNAL: a <broken> device")
        return real(self, key, points, meter)

    with monkeypatch.context() as patch:
        patch.setattr(JobRunner, "run", broken)
        result = run(code=1)
    assert "1 chunk failed every time" in result.stderr and "a <broken> device" in result.stderr
    assert summary(OUT)["failures"] == {"all-0000-000001": "RuntimeError: INTERNAL: a <broken> device"}
    assert "a &lt;broken&gt; device" in (OUT / "report.html").read_text()
    failure = json.loads((OUT / "chunks/all-0000-000001.failed.json").read_text())
    assert failure["points"] == 2 and "Traceback" in failure["traceback"]
    assert "1 chunk failed" in plasticode("status", str(OUT)).stdout
    run()
    assert (OUT / "results.nc").read_bytes() == straight and names(OUT) == WRITTEN
    assert summary(OUT)["failures"] == {}


# ----------------------------------------------------------------------------------------------------------- other runs


def test_a_finished_run_answers_without_running_again(straight, monkeypatch):
    first = run()
    before = {path: path.stat().st_mtime_ns for path in OUT.rglob("*")}
    monkeypatch.setattr(cluster, "local", lambda *_, **__: pytest.fail("it must not run"))
    second = run()
    assert {path: path.stat().st_mtime_ns for path in OUT.rglob("*")} == before
    assert "all points are finished" in second.stderr
    assert second.stdout == first.stdout.replace(f"Written to {OUT}: report.html, results.nc, summary.json, figures, "
                                                 "spec.toml.\n", "")  # fmt: skip
    assert "finished: 6 points (6 ok)" in plasticode("status", str(OUT)).stdout


def test_a_name_is_no_difference_but_versions_and_code_are(monkeypatch):
    Path("my_own.py").write_text("from rules.hebbian import Hebbian\n\n\nclass Mine(Hebbian):\n    pass\n")
    monkeypatch.syspath_prepend(".")
    rule = ["run", "tiny.toml", "--set", 'sweep.rule=["my_own:Mine"]', "--set", 'record.probes=["weight_norm"]']
    plasticode(*rule)
    plasticode(*rule, "--set", 'description="another"')
    real = labels.versions()
    with monkeypatch.context() as patch:
        patch.setattr(rundir, "versions", lambda: real | {"jax": "0.0.1"})
        assert f"results of jax {real['jax']}, and here is 0.0.1" in plasticode(*rule, code=2).stderr
    with Path("my_own.py").open("a") as file:
        file.write("# changed")
    assert "results of other code in my_own" in plasticode(*rule, code=2).stderr


def test_results_of_unknown_origin_are_not_overwritten_without_force():
    OUT.mkdir(parents=True)
    (OUT / "results.nc").write_bytes(b"precious")
    (OUT / "notes.txt").write_text("mine")
    assert "holds a results.nc of unknown origin" in run(code=2).stderr
    assert (OUT / "results.nc").read_bytes() == b"precious" and names(OUT) == ["notes.txt", "results.nc"]
    run("--force")
    assert names(OUT) == sorted([*WRITTEN, "notes.txt"]) and (OUT / "notes.txt").read_text() == "mine"


def test_force_runs_a_finished_run_again_and_a_report_that_was_removed_is_written_again(straight, monkeypatch):
    run()
    before = (OUT / "results.nc").stat().st_mtime_ns
    (OUT / "report.html").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "local", lambda *_, **__: pytest.fail("it must not run"))
        run()
    assert names(OUT) == WRITTEN and (OUT / "results.nc").stat().st_mtime_ns == before
    run("--force")
    assert (OUT / "results.nc").stat().st_mtime_ns > before and (OUT / "results.nc").read_bytes() == straight


def stopped(monkeypatch) -> Path:
    """A run that has finished its chunks, and nothing else."""
    with monkeypatch.context() as patch:
        refuse(patch, session, "merge", 1)
        run(code=2)
    return OUT / "chunks" / "run.json"


BROKEN = ["", "{", "points", "chunking", "jobs", "command", "run"]


@pytest.mark.parametrize("broken", BROKEN)
def test_a_header_that_was_lost_or_makes_no_sense_costs_no_chunk(broken, straight, monkeypatch):
    header = stopped(monkeypatch)
    if broken in ("points", "chunking", "jobs", "command", "run"):
        content = json.loads(header.read_text())
        content[broken] = {"points": 0, "chunking": [0, "a"], "jobs": {"x": [2, 0]}, "run": [1]}.get(broken, ["rm"])
        header.write_text(json.dumps(content))
    elif broken:
        header.write_text(broken)
    else:
        header.unlink()
    kept = chunk_files()
    assert len(kept) == 3
    assert plasticode("status", str(OUT), code=2).stderr.count("\n") == 1
    assert "stimulus.presentations is 30 there, 31 here" in run("--set", "stimulus.presentations=31", code=2).stderr
    assert chunk_files() == kept
    monkeypatch.setattr(cluster, "local", lambda tasks, *_, **__: iter(tasks and [pytest.fail("it must not run")]))
    assert "cut" not in run().stderr
    assert (OUT / "results.nc").read_bytes() == straight


def test_of_shards_that_start_at_once_with_other_chunks_one_way_to_cut_holds(straight, monkeypatch):
    """The second one has looked before the first has written which run it is."""
    real, calls = rundir._started, []

    def slow(directory, header):
        if not calls:
            calls.append(real(directory, {**header, "chunking": [2, 2, 1]}))
        return real(directory, header)

    monkeypatch.setattr(rundir, "_started", slow)
    monkeypatch.setattr(session, "chunking", lambda *_: Chunking(1, 1, 1))
    run("--shard", "1/2")
    assert len(chunk_files()) == 2  # of three chunks, as the first one cuts
    run("--shard", "2/2")
    assert (OUT / "results.nc").read_bytes() == straight


def test_a_run_that_was_robbed_while_it_merged_publishes_nothing(monkeypatch):
    """It wakes up in the middle of its report, and finds the lock of another."""
    real = session.report.write

    def robbed(*arguments):
        lock = OUT / "chunks" / "lock"
        lock.write_text(json.dumps(json.loads(lock.read_text()) | {"token": "another", "pid": 7}))
        return real(*arguments)

    monkeypatch.setattr(session.report, "write", robbed)
    assert "was taken over by process 7" in run(code=2).stderr
    assert not (OUT / "results.nc").exists() and len(chunk_files()) == 3


def test_a_directory_that_is_removed_meanwhile_is_told(monkeypatch):
    monkeypatch.setattr(session, "merge", lambda *_: shutil.rmtree(OUT) or _gone())
    assert "cannot be written" in run(code=2).stderr


def _gone():
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", "somewhere")


def test_a_chunk_that_is_damaged_while_the_run_goes_on_is_told_and_made_anew(straight, monkeypatch):
    real = session.merge

    def damaged(*arguments):
        next(OUT.glob("chunks/*000001.*.nc")).write_bytes(b"damaged")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(session, "merge", damaged)
        assert "was changed while the run went on: the same command makes it anew" in run(code=2).stderr
    assert "1 of the chunk files were cut" in run().stderr
    assert (OUT / "results.nc").read_bytes() == straight


def test_a_disk_that_is_full_for_checkpoints_costs_no_chunk(straight, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(programs, "BLOCK_WORK", 0)
    refuse(monkeypatch, chunks.ChunkStore, "save_checkpoint", 1)
    run()
    assert (OUT / "results.nc").read_bytes() == straight


def test_an_interrupt_within_the_first_chunk_keeps_how_far_it_was(monkeypatch):
    """All points are one chunk: nothing is finished, yet the same command goes on, to the same bytes."""
    monkeypatch.setattr(session, "chunking", lambda *_: Chunking(6, 6, 1))
    run("--out", "straight")
    monkeypatch.setattr(programs, "BLOCK_WORK", 0)
    monkeypatch.setattr(programs, "BLOCK_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 0.5)
        said = run(code=130).stderr
    assert "0 of 6 points are finished, and how far others have come is kept in results/tiny; to go on: " in said
    status = plasticode("status", str(OUT)).stdout.splitlines()
    assert status[:2] == [
        "tiny: 0 of 6 points are finished (0%)",
        "1 unfinished chunk left a checkpoint to go on from",
    ]
    assert "nobody is at it; to go on" in status[2]
    told = []
    monkeypatch.setattr(progress, "shown_progress", lambda what: contextlib.nullcontext(told.append))
    run()
    assert told[0].fraction > 0.4 and names(OUT) == WRITTEN
    assert (OUT / "results.nc").read_bytes() == Path("straight/results.nc").read_bytes()


def test_the_status_of_a_run_that_has_just_begun(monkeypatch):
    """While its first chunk is computed: asked from inside of it."""
    monkeypatch.setattr(session, "chunking", lambda *_: Chunking(6, 6, 1))
    told = []

    def ask(now: progress.Progress) -> None:
        if now.fraction > 0.5 and not told:
            next(OUT.glob("chunks/lock")).touch()
            told.extend(plasticode("status", str(OUT)).stdout.splitlines())

    monkeypatch.setattr(progress, "shown_progress", lambda what: contextlib.nullcontext(ask))
    run()
    assert told[0] == "tiny: 0 of 6 points are finished (0%)" and "is at it: " in told[1]
    facts = progress.Progress(8.0, 10.0, 0, 70, rate=0.5, left=3.0)
    assert (facts.fraction, facts.facts) == (0.8, ["0 of 70 points finished", "0.5 points/s", "about 3 s left"])
    assert facts._replace(left=0.3).facts == facts.facts[:-1]  # "about 0 s" says nothing


def test_the_status_of_what_is_no_run_is_told():
    said = plasticode("status", "nothing", code=2).stderr
    assert "'nothing' does not exist, so no run has kept anything there" in said
    Path("empty").mkdir()
    assert "'empty' has no run" in plasticode("status", "empty", code=2).stderr


def test_every_chunk_says_where_it_comes_from(monkeypatch):
    monkeypatch.setattr(session, "merge", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    run(code=2)
    for path in OUT.glob("chunks/*.nc"):
        with h5netcdf.File(path, "r") as file:
            attributes: dict[str, Any] = dict(file.attrs)
        assert {"spec", "spec_hash", "versions", "device", "dtype", "seconds"} <= set(attributes)
        assert "fa" in attributes["spec"] and attributes["seconds"] > 0
