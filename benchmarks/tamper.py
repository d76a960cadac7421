"""Strangers' files: results and directories are tampered with, at random from a seed, and every command reads them.

    python -m benchmarks.tamper [--cases 2000] [--seed 0] [--only K ...]

A case survives where each command ends within 5 s of processor time, in its own words (exit code 0 to 2, no traceback,
no control characters), and where no file outside the directory was shown, changed or lost. Each case has a process of
its own, so that a crash is one case's.
"""

import argparse
import contextlib
import faulthandler
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import h5py
import numpy as np
import xarray as xr
from typer.testing import CliRunner

from benchmarks.tamper_directories import change_directory
from benchmarks.tamper_files import SECRET, SECRET_NUMBER, change_results
from experiments import session  # noqa: F401 - before the forks
from experiments.commands import cli, console
from experiments.execution import cluster, runner  # noqa: F401 - before the forks
from experiments.machine import lock  # noqa: F401 - before the forks
from experiments.machine.lock import Lock
from experiments.points.jobs import Chunking
from experiments.report import explore, figures, report  # noqa: F401 - before the forks
from experiments.results import netcdf  # noqa: F401 - before the forks
from experiments.results.labels import versions
from experiments.storage import status  # noqa: F401 - before the forks

# xarray imports other packages at its first use, and so do figures: once for all forks.
xr.Dataset(coords={"x": [0.0]})
figures.STYLE["savefig.dpi"] = 30  # what is drawn is the same, and quicker
versions(), explore.library()  # looked up and packed once, for all forks
SECONDS = 5.0  # of the processor, for one command
WAIT = 60.0  # by the clock, on a machine that many share
BEAT = 0.02
SPEC = """
regime = "discrete"
task = {name = "circles", samples = 40}
network.hidden = [2]
stimulus.presentations = 4
record.points = 2
record.probes = ["loss", "alignment"]
[sweep]
rule = ["sgd", "fa"]
"network.gain" = [0.5, 1]
seeds = 2
"""


def make_base(place: Path) -> None:
    """A finished run in `place`/whole, an unfinished one in `place`/begun, files of others in `place`/outside."""
    outside = place / "outside"
    outside.mkdir()
    (outside / "private.txt").write_text(SECRET)
    np.full(1000, SECRET_NUMBER).tofile(outside / "private.raw")
    with h5py.File(outside / "private.h5", "w") as file:
        file["private"] = np.full((2, 2, 2), SECRET_NUMBER)
        file.attrs["run"] = SECRET
    (place / "spec.toml").write_text(SPEC)
    here = os.getcwd()
    os.chdir(place)
    sys.argv[1:] = ["run", "spec.toml"]  # which run.json repeats: a case may not depend on how this program was started
    try:
        session.chunking = lambda *_: Chunking(2, 2, 1)
        _asked("run", "spec.toml", "--out", "whole")
        merge, session.merge = session.merge, _refused
        try:
            _asked("run", "spec.toml", "--out", "begun")
        finally:
            session.merge = merge
    finally:
        os.chdir(here)
    directory = place / "begun" / "chunks"
    first = min(directory.glob("*.nc")).name.rsplit(".", 2)[0]
    owner = Lock(directory / "lock").owner | {"pid": 1, "host": "elsewhere"}
    progress = {"done": 1.0, "total": 2.0, "points": 2, "of": 8, "failures": 0, "rate": 1.0, "left": 5.0}
    (directory / "lock").write_text(json.dumps(owner | {"progress": progress}))
    failure = {"points": 2, "error": "ValueError: no", "traceback": "Traceback"}
    (directory / f"{first[:-1]}9.failed.json").write_text(json.dumps(failure))


def _refused(*_: object, **__: object) -> None:
    raise OSError(28, "no space")


def _asked(*arguments: str) -> str:
    """What a command prints; an exception that is not its own is raised."""
    result = CliRunner().invoke(cli.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (console.DONE, console.FAILED, console.REFUSED), f"exit code {result.exit_code}"
    text = result.stdout + result.stderr
    if any(not (char.isprintable() or char in "\n\xa0") for char in text):
        raise AssertionError(f"control characters reach the terminal: {text!r}")
    return text


def _loaded(path: Path) -> str:
    """What `load` gives, as text."""
    results = netcdf.load(path)
    return "".join(str(data) for data in results.datasets.values()) + json.dumps(
        {part: _numbers(data) for part, data in results.datasets.items()})  # fmt: skip


def _numbers(data: object) -> list[str]:
    return [str(values.values.reshape(-1)[:8].tolist()) for values in data.variables.values()]  # pyright: ignore


def tries(place: Path, also_run: bool) -> dict[str, Callable[[], str]]:
    """The commands that read a directory, by name."""
    target, table = place / "case", place / "table.csv"

    def exported() -> str:
        _asked("export", str(target), str(table))
        return table.read_text(errors="replace")[: 10**6] if table.exists() else ""

    def ran() -> str:
        text = _asked("run", str(place / "spec.toml"), "--out", str(target))
        page = target / "report.html"
        shown = page.read_text(encoding="utf-8") if page.is_file() and not page.is_symlink() else ""
        if any(ord(char) < 32 and char not in "\n\t" for char in shown) or "\u202e" in shown:
            raise AssertionError("control characters reach the page")
        if "<script>" in shown:
            raise AssertionError("a text becomes HTML")
        return text

    found = {
        "status": lambda: _asked("status", str(target)),
        "export": exported,
        "load": lambda: _loaded(target / "results.nc"),
    }
    return found | ({"run": ran} if also_run else {})


def _child(place: Path, also_run: bool, log: Path) -> None:
    """All tries of a case; the log has a line for each that begins, and one for each that fails."""
    resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    session.chunking = lambda *_: Chunking(2, 2, 1)
    cluster.local = lambda *_, **__: iter(())  # what is missing stays missing: to compute it is not the question here
    lock.BEAT = BEAT
    lock.SILENCE = 10 * BEAT
    with log.open("w") as file:
        faulthandler.enable(file)
        for name, one in tries(place, also_run).items():
            print("begin", name, file=file, flush=True)
            start, clock = time.process_time(), time.monotonic()
            said = ""
            try:
                said = one()
            except Exception as error:
                if name != "load" or type(error).__name__ != "PlasticodeError":
                    print(f"{name}: {traceback.format_exc()}", file=file, flush=True)
            if SECRET in said or str(SECRET_NUMBER) in said:
                print(f"{name}: it has read a file outside", file=file, flush=True)
            if (took := time.process_time() - start) > SECONDS:
                print(f"{name}: it took {took:.1f} s of the processor", file=file, flush=True)
            print("end", name, round(took, 2), round(time.monotonic() - clock, 2), file=file, flush=True)


@contextlib.contextmanager
def _case(base: Path, number: int, seed: int) -> Iterator[tuple[Path, str]]:
    """A place with a directory that was tampered with, and what was done."""
    random = Random(f"{seed}/{number}")
    with tempfile.TemporaryDirectory(prefix="tampered-") as name:
        place = Path(name)
        whole = random.random() < 0.6
        shutil.copytree(base / ("whole" if whole else "begun"), place / "case")
        shutil.copytree(base / "outside", place / "outside")
        shutil.copy(base / "spec.toml", place)
        told = (
            change_results(place / "case" / "results.nc", random) if whole else change_directory(place / "case", random)
        )
        plain = all(path.is_file() or path.is_dir() for path in (place / "case").rglob("*"))  # or it would wait here
        if random.random() < 0.2 and plain:  # the numbers of a case are kept; some have two faults
            with contextlib.suppress(OSError, ValueError, IndexError, KeyError, StopIteration):
                told += "; " + (change_results(place / "case" / "results.nc", random) if whole
                                else change_directory(place / "case", random))  # fmt: skip
        yield place, told


def _state(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def examine(base: Path, number: int, seed: int) -> tuple[str, list[str]]:
    """What was done in a case, and what has gone wrong."""
    with _case(base, number, seed) as (place, told):
        before, log = _state(place / "outside"), place / "log"
        process = os.fork()
        if not process:
            try:
                os.chdir(place)
                null = os.open(os.devnull, os.O_RDWR)
                for descriptor in (0, 1, 2):
                    os.dup2(null, descriptor)
                _child(place, number % 4 == 0, log)
                os._exit(0)
            finally:
                os._exit(9)
        code = _waited(process, log)
        text = log.read_text(errors="replace") if log.exists() else ""
        faults = [text] if any(not line.startswith(("begin", "end")) for line in text.splitlines()) else []
        if code:
            faults.append(f"the process ended with {code} in: {text[-2000:]}")
        if _state(place / "outside") != before:
            faults.append("a file outside was changed or lost")
        return told, faults


def _waited(process: int, log: Path) -> int:
    """The exit code of a process, which is ended where it says nothing for too long."""
    until, size = time.monotonic() + WAIT, -1
    while not (done := os.waitpid(process, os.WNOHANG))[0]:
        if (now := log.stat().st_size if log.exists() else 0) != size:
            until, size = time.monotonic() + WAIT, now
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(done[1])


def main(arguments: list[str] | None = None) -> int:
    """Try so many cases, and tell which have failed; with --only those, and what was done in each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tamper")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", metavar="K")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="base-") as name:
        gc.collect(), gc.freeze()  # forks that look through what is there for garbage would copy it
        base, child = Path(name), os.fork()
        if not child:  # so that no process that forks has threads of jax
            try:
                make_base(base)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1]:
            return 1
        tried, bad, start = 0, 0, time.monotonic()
        with contextlib.suppress(KeyboardInterrupt):  # what was tried by then is told
            for number in options.only or range(options.cases):
                told, faults = examine(base, number, options.seed)
                tried, bad = tried + 1, bad + bool(faults)
                if options.only:
                    print(f"case {number}: {told}", flush=True)
                for fault in faults:
                    print(f"case {number} ({told}):\n{fault}", flush=True)
        minutes = (time.monotonic() - start) / 60
        print(f"{tried - bad} of {tried} cases survive (seed {options.seed}, {minutes:.1f} minutes)")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
