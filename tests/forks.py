"""Runs of the command line as real processes, quickly: a server imports everything once, and forks for each run."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVER = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
import experiments.cli, experiments.session, experiments.report.figures, experiments.report.report, sklearn.datasets
import xarray.backends.h5netcdf_
from experiments import session
from experiments.points.jobs import Chunking
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        print(os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    os.setsid()
    os.chdir(request["place"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2), os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if request["chunk"]:
        session.chunking = lambda *_: Chunking(request["chunk"], request["chunk"], 1)
    sys.argv = ["plasticode", *request["arguments"]]
    code = 99
    try:
        experiments.cli.main()
    except SystemExit as exit:
        code = exit.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
"""


def until(condition: Callable[[], object], seconds: float = 600.0) -> None:
    """Wait for it; the limit is for what never comes, also where many share the machine."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.002)


class Forks:
    """Starts runs in `place`, and waits for them; who wants to kill one, can."""

    def __init__(self, server: subprocess.Popen[str], place: Path):
        self.server, self.place = server, place

    def start(self, *arguments: str, chunk: int = 0, log: str = "log") -> int:
        """Start the command; returns its process. `chunk`: points of every chunk, where the default is too many."""
        path = str(self.place / log)
        return self._ask({"arguments": arguments, "place": str(self.place), "chunk": chunk, "log": path})

    def wait(self, process: int) -> int:
        """The exit code of a run that was started, negative for a signal."""
        return self._ask({"wait": process})

    def said(self, log: str = "log") -> str:
        """What a run has written to the terminal."""
        return (self.place / log).read_text()

    def _ask(self, request: dict) -> int:
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())


@contextlib.contextmanager
def forking(place: Path) -> Iterator[Forks]:
    """A server of forks; compiled programs are kept between runs, as conftest decides."""
    command = [sys.executable, "-c", SERVER, str(ROOT)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server:
        try:
            yield Forks(server, place)
        finally:
            server.kill()


def local_cluster(**settings: Any) -> Any:
    """A dask cluster of this machine. Without a dashboard it still serves pages, at a port that others may have."""
    from distributed import LocalCluster

    return LocalCluster(dashboard_address=None, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, **settings)


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
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
