"""Runs that are killed, interrupted, run twice or out of disk, as real processes: what is finished is never lost."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.forks import Forks

# Discrete learning in two phases, whose programs compile at once: the same chunks, files and processes.
SPEC = """
regime = "discrete"
task = {name = "circles", samples = 40}
[network]
hidden = [3]
[stimulus]
duration = "20 ms"
[[phases]]
presentations = 2_000
[[phases]]
name = "second"
presentations = 2_000
[record]
points = 2
probes = ["loss"]
[sweep]
"phases.second.timescales.plasticity" = ["200 ms", "400 ms"]
seeds = 8
"""
POINTS = 16
WRITTEN = ["figures", "report.html", "results.nc", "spec.toml", "summary.json"]
KILLS = 6


@pytest.fixture(scope="module")
def forks(forks):
    (forks.place / "spec.toml").write_text(SPEC)
    return forks


@pytest.fixture(scope="module")
def straight(forks) -> bytes:
    """The results of a run that nothing happens to."""
    assert run(forks, "straight") == 0, forks.said()
    assert names(forks.place / "straight") == WRITTEN
    return (forks.place / "straight" / "results.nc").read_bytes()


def run(forks: Forks, out: str, *more: str) -> int:
    return forks.wait(start(forks, out, *more))


def start(forks: Forks, out: str, *more: str) -> int:
    return forks.start("run", "spec.toml", "--out", out, *more, chunk=1)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def chunks(directory: Path) -> list[Path]:
    return sorted((directory / "chunks").glob("*.nc"))


def test_a_run_that_is_killed_6_times_ends_with_the_same_bytes(forks, straight):
    """Killed at random moments after the start, and right after a chunk: while the next is computed or written, while
    all is merged or reported."""
    moments, out = random.Random(0), forks.place / "killed"
    kept = 0
    for kill in range(KILLS):
        process = start(forks, "killed")
        if kill % 4 == 0:
            time.sleep(moments.uniform(0.0, 2.0))
        else:
            more = min(kept + moments.choice((1, 2)), POINTS - 1)
            forks.until(lambda more=more: len(chunks(out)) >= more or (out / "results.nc").exists())
            time.sleep(moments.uniform(0.0, 0.05 if kill < KILLS - 4 else 1.0))
        os.kill(process, signal.SIGKILL)
        assert forks.wait(process) in (-signal.SIGKILL, 0)
        assert len(chunks(out)) >= kept or (out / "results.nc").exists()
        kept = len(chunks(out))
    assert kept > 3 or (out / "results.nc").exists()
    assert run(forks, "killed") == 0, forks.said()
    assert (out / "results.nc").read_bytes() == straight and names(out) == WRITTEN


def test_an_interrupt_keeps_chunks_and_says_how_to_go_on(forks, straight):
    out, kept = forks.place / "interrupted", {}
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(forks, out.name)
        forks.until(lambda: len(chunks(out)) >= len(kept) + 3)  # noqa: B023
        os.kill(process, number)
        assert forks.wait(process) == 130
        said = forks.said()
        assert "Traceback" not in said and f"of {POINTS} points are finished and kept in {out.name}" in said
        assert f"to go on: plasticode run spec.toml --out {out.name}" in said
        assert names(out) == ["chunks", *WRITTEN]
        assert json.loads((out / "summary.json").read_text())["complete"] is False
        found = {path.name: path.stat().st_mtime_ns for path in chunks(out)}
        assert len(found) >= len(kept) + 3 and kept.items() <= found.items()  # what is finished is not run again
        kept = found
    status = forks.wait(forks.start("status", out.name))
    assert status == 0 and f"{len(kept)} of {POINTS} points are finished" in forks.said()
    assert f"to go on, in {forks.place}: plasticode run spec.toml --out {out.name}" in forks.said()
    assert run(forks, out.name) == 0
    assert (out / "results.nc").read_bytes() == straight


def begun(forks, number: int = 0) -> tuple[int, str]:
    """A run that is stopped before its end, and its directory; some have ended before."""
    name = f"twice-{number}"
    first, out = start(forks, name), forks.place / name
    forks.until(lambda: chunks(out))
    os.kill(first, signal.SIGSTOP)  # so that it is still there; a second is watched for a heartbeat
    if not (out / "results.nc").exists():
        return first, name
    os.kill(first, signal.SIGCONT)
    forks.wait(first)
    return begun(forks, number + 1)


def test_of_two_runs_at_once_the_second_is_refused_and_the_first_unharmed(forks, straight):
    first, name = begun(forks)
    out = forks.place / name
    second = forks.start("run", "spec.toml", "--out", name, chunk=1, log="second")
    status = forks.start("status", name, log="status")
    forks.until(lambda: (forks.place / "second").exists())

    def refused() -> str:
        """What the second says; the first beats at once when it goes on, and comes to little else."""
        time.sleep(0.3)
        os.kill(first, signal.SIGCONT)
        time.sleep(0.01)
        os.kill(first, signal.SIGSTOP)
        return forks.said("second")

    forks.until(refused)
    os.kill(first, signal.SIGCONT)
    assert forks.wait(second) == 2, forks.said("second")
    assert f"in use by process {first}" in forks.said("second") and forks.said("second").count("\n") == 1
    assert forks.wait(status) == 0
    assert forks.wait(first) == 0
    assert (out / "results.nc").read_bytes() == straight


def test_another_run_is_refused_by_its_difference_and_force_starts_anew(forks, straight):
    other = ["--set", "network.gain=2.0"]
    out = forks.place / "other"
    process = start(forks, "other")
    forks.until(lambda: chunks(out))
    os.kill(process, signal.SIGKILL)
    forks.wait(process)
    for _ in range(2):  # beside chunks, then beside results
        assert run(forks, "other", *other) == 2
        said = forks.said()
        assert "network.gain is 1.0 there, 2.0 here" in said and "--out" in said and "--force" in said
        assert "hash" in said and said.count("\n") == 1
        assert run(forks, "other") == 0
        assert (out / "results.nc").read_bytes() == straight
    assert run(forks, "other", *other, "--force") == 0
    assert (out / "results.nc").read_bytes() != straight and names(out) == WRITTEN


def test_cut_and_foreign_chunks_are_made_anew_with_a_notice(forks, straight):
    out = forks.place / "cut"
    process = start(forks, "cut")
    forks.until(lambda: len(chunks(out)) >= 6)
    os.kill(process, signal.SIGKILL)
    forks.wait(process)
    files = chunks(out)[:5]
    for file, size in zip(files, (0, 8, files[2].stat().st_size // 2, files[3].stat().st_size - 1), strict=False):
        with file.open("rb+") as content:
            content.truncate(size)
    foreign = files[4].with_name(files[4].name.replace("000004", "000005"))
    files[4].replace(foreign)
    assert run(forks, "cut") == 0
    assert "5 of the chunk files were cut, changed or foreign" in forks.said()
    assert (out / "results.nc").read_bytes() == straight


def test_shards_that_run_at_once_make_the_same_results(forks, straight):
    logs = [f"shard{i}" for i in (1, 2, 3)]
    started = [
        forks.start("run", "spec.toml", "--out", "shards", "--shard", f"{i}/3", chunk=1, log=log)
        for i, log in enumerate(logs, 1)
    ]
    assert [forks.wait(process) for process in started] == [0, 0, 0], [forks.said(log) for log in logs]
    assert (forks.place / "shards" / "results.nc").read_bytes() == straight
    assert names(forks.place / "shards") == WRITTEN
    assert any("Written to shards" in forks.said(log) for log in logs)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can mount a small disk")
@pytest.mark.parametrize("size", ["120k", "220k"])  # full while chunks are written; when all are, and are merged
def test_a_full_disk_is_told_and_loses_nothing(forks, straight, size):
    disk = forks.place / f"disk-{size}"
    disk.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    if subprocess.run(small, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        assert run(forks, f"{disk.name}/out") == 2
        said = forks.said()
        assert "cannot be written (No space left on device" in said and "Traceback" not in said
        kept = len(chunks(disk / "out"))
        assert 0 < kept < POINTS if size == "120k" else kept == POINTS
        assert names(disk / "out") == ["chunks"]
        subprocess.run(["mount", "-o", "remount,size=30m", str(disk)], check=True)
        assert run(forks, f"{disk.name}/out") == 0
        assert "cut" not in forks.said() and (disk / "out" / "results.nc").read_bytes() == straight
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)
