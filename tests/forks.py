"""Runs of the command line and programs as real processes, quickly: a server imports everything once, and forks for
each of them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 300.0  # seconds of any wait: for what never ends, also where many share the machine
DRAWN = b"\x89PNG\r\n\x1a\n"  # in place of a picture, where none is looked at
SERVER = """
import gc
gc.disable()  # of these short processes it would take a tenth, and copy what they share
import faulthandler, importlib, json, os, pathlib, signal, sys, time, traceback
sys.path.insert(0, sys.argv[1])
longest, drawn, *modules = float(sys.argv[2]), bytes.fromhex(sys.argv[3]), *sys.argv[4:]
for module in modules:
    importlib.import_module(module)
import experiments.session, experiments.report.explore, experiments.report.report, sklearn.datasets
import xarray.backends.h5netcdf_
xarray.Dataset(coords={"x": [0.0]})  # which imports other packages at its first use
from experiments import session
from experiments.commands import cli
from experiments.points.jobs import Chunking
from experiments.results.labels import versions
versions(), experiments.report.explore.library()  # which are looked up and packed once
experiments.report.figures.Figure.savefig = lambda _, file: pathlib.Path(file).write_bytes(drawn)
def ended(process):
    limit = time.monotonic() + longest
    while not (done := os.waitpid(process, os.WNOHANG))[0]:
        if time.monotonic() > limit:
            return None
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(done[1])
gc.freeze()
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        print(json.dumps(ended(request["wait"])), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.setsid()
    os.chdir(request["place"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.dump_traceback_later(0.9 * longest)  # where it hangs, if it does
    if request.get("chunk"):
        session.chunking = lambda *_: Chunking(request["chunk"], request["chunk"], 1)
    sys.argv = ["plasticode", *request["arguments"]]
    code = 99
    try:
        if "code" in request:
            gc.enable()  # some look at their memory
            exec(request["code"], {"__name__": "__main__"})
        else:
            cli.main()
        code = 0
    except SystemExit as exit:
        code = exit.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
"""


def until(condition: Callable[[], object], said: Callable[[], str] = str) -> None:
    """Wait for it, but not without end: then `said` tells what there was to hear."""
    limit = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < limit, f"it did not happen in time: {said()}"
        time.sleep(0.005)


def ended(command: list[str], seconds: float = LONGEST, **options: Any) -> subprocess.CompletedProcess[str]:
    """A program that has ended; one that does not is killed, and told with what it has said."""
    settings: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": seconds}
    try:
        return subprocess.run(command, **settings | options)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{command} did not end in {seconds} s: {late.stdout!r} {late.stderr!r}") from None


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a process; one that says nothing for too long is killed."""
    assert process.stdout is not None
    late = threading.Timer(2 * LONGEST, process.kill)
    late.start()
    try:
        return process.stdout.readline()
    finally:
        late.cancel()


class Forks:
    """Starts runs in `place`, and waits for them; who wants to kill one, can."""

    def __init__(self, server: subprocess.Popen[str], place: Path):
        self.server, self.place = server, place
        self.logs: dict[int, str] = {}  # of the runs that nobody has waited for

    def start(self, *arguments: str, chunk: int = 0, log: str = "log") -> int:
        """Start the command; returns its process. `chunk`: points of every chunk, where the default is too many."""
        path = str(self.place / log)
        process = self._ask({"arguments": arguments, "place": str(self.place), "chunk": chunk, "log": path})
        assert process is not None
        self.logs[process] = log
        return process

    def program(self, code: str, *arguments: object) -> str:
        """What a program says, which must end well, and has no thread of jax's before it starts one."""
        path = str(self.place / "program")
        process = self._ask({"code": code, "arguments": [*map(str, arguments)], "place": str(self.place), "log": path})
        assert process is not None
        self.logs[process] = "program"
        assert self.wait(process) == 0, self.said("program")
        return self.said("program")

    def wait(self, process: int) -> int:
        """The exit code of a run that was started, negative for a signal."""
        code = self._ask({"wait": process})
        assert code is not None, f"it did not end in {LONGEST} s: {self.said(self.logs[process])}"
        del self.logs[process]
        return code

    def said(self, log: str = "log") -> str:
        """What a run has written to the terminal."""
        return (self.place / log).read_text()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for what a run does."""
        until(condition, self.said)

    def end(self) -> None:
        """Kill what still runs, workers too."""
        for process in self.logs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)

    def _ask(self, request: dict) -> int | None:
        assert self.server.stdin
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(line_of(self.server))


@contextlib.contextmanager
def serving(*modules: str) -> Iterator[subprocess.Popen[str]]:
    """A server of forks, some of which need these `modules` too; compiled programs are kept between runs, as conftest
    decides."""
    command = [sys.executable, "-c", SERVER, str(ROOT), str(LONGEST), DRAWN.hex(), *modules]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server:
        try:
            yield server
        finally:
            server.kill()


def local_cluster(**settings: Any) -> Any:
    """A dask cluster of this machine. Without a dashboard it still serves pages, at a port that others may have."""
    from distributed import LocalCluster

    untyped: Any = LocalCluster  # whose annotations are those of its asynchronous use
    return untyped(dashboard_address=None, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, **settings)


HOLD = """
import sys, time
from pathlib import Path
from experiments.machine import lock
lock.BEAT = float(sys.argv[2])
with lock.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def holder(path: Path, beat: float) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(path), str(beat)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert line_of(process) == "held\n"
            yield process
        finally:
            process.kill()
