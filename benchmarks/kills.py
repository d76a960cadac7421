"""Kills and signals: runs are stopped at random moments of every phase, from a seed, and the same command goes on.

    python -m benchmarks.kills [--cases 200] [--seed 0] [--only K]

A case survives where the stopped command ends with the promised exit code, within 5 s of processor time, without
a traceback and without a touch on other files, and where the same command, run again, ends with the bytes of a run that
nobody stopped and leaves nothing half written behind. Each command is a process of its own.
"""

import argparse
import atexit
import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

from experiments.commands.start import GARBAGE

gc.set_threshold(GARBAGE, 10, 10)  # as the command does
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax  # noqa: E402
import xarray as xr  # noqa: E402
import xarray.backends.h5netcdf_  # noqa: E402, F401 - before the forks, as all that runs need

from experiments import session  # noqa: E402, F401
from experiments.commands import cli  # noqa: E402, F401
from experiments.points.jobs import Chunking  # noqa: E402
from experiments.report import explore, figures, report  # noqa: E402, F401
from experiments.results import export  # noqa: E402, F401
from experiments.results.labels import versions  # noqa: E402
from experiments.storage import status  # noqa: E402, F401

xr.Dataset(coords={"x": [0.0]})  # xarray imports other packages at its first use, once for all forks
figures.STYLE["savefig.dpi"] = 30  # what is drawn is the same, and quicker
versions(), explore.library()  # looked up and packed once, for all forks
SECONDS = 5.0  # of the processor, for one command once it was told to end
Events = dict[tuple[str, str], int]  # in the functions of modules or classes
WAIT = 120.0  # by the clock, on a machine that many share
SPEC = """
regime = "discrete"
task = {name = "circles", samples = 40}
network.hidden = [2]
stimulus.presentations = 4
record.points = 2
record.probes = ["loss"]
[sweep]
"network.gain" = [0.5, 1]
seeds = 4
"""
RUN, EXPORT = ("run", "spec.toml", "--out", "case"), ("export", "case", "table.csv")

# What a phase consists of: functions, by the module or class that they are looked up in, and how often they are called.
PHASES = {
    "check": [("experiments.spec.loading", "load_spec", 1), ("experiments.execution.runner", "prepare", 1)],
    "compile": [("experiments.execution.programs.JobRunner", "prepare", 1)],
    "run": [("experiments.execution.programs.JobRunner", name, 4) for name in ("_execute", "_begun")],
    "chunk write": [("experiments.storage.chunks.ChunkStore", name, 4) for name in ("write", "_put")],
    "merge": [("experiments.session", "merge", 1), ("experiments.storage.merge", "_fill", 1)],
    "report": [
        ("experiments.session", "study_of", 1),
        *(("experiments.report.report", name, 1) for name in ("page", "summary", "write_json")),
    ],
    "figures": [("experiments.report.figures", "_figure", 1), ("experiments.report.report", "save", 1)],
    "publish": [("experiments.results.netcdf", "_publish", 1), ("experiments.storage.rundir", "_clear", 1)],
    "end": [("experiments.commands.terminal", "print_outcome", 1)],
    "export": [("experiments.results.export", name, 1) for name in ("_writer", "_write_csv", "export_table")],
}
SIGNALS = {  # what is sent, and the exit codes that are promised
    "SIGINT": ((signal.SIGINT,), {cli.INTERRUPTED}),
    "SIGTERM": ((signal.SIGTERM,), {cli.INTERRUPTED}),
    "SIGINT twice": ((signal.SIGINT, signal.SIGINT), {cli.INTERRUPTED, -signal.SIGINT}),
    "SIGTERM, SIGINT": ((signal.SIGTERM, signal.SIGINT), {cli.INTERRUPTED, -signal.SIGINT}),
    "SIGHUP": ((signal.SIGHUP,), {-signal.SIGHUP}),
    "SIGKILL": ((signal.SIGKILL,), {-signal.SIGKILL}),
    "SIGSTOP, SIGKILL": ((signal.SIGSTOP,), {-signal.SIGKILL}),
}


class Case(NamedTuple):
    """What is sent when: at an event, a call or return of Python's, in the n-th call of a function of a phase."""

    phase: str
    place: tuple[str, str]
    call: int
    event: int
    sent: str
    delay: float  # until the second signal
    to_all: bool = False  # as a terminal does: to the workers too

    def __str__(self) -> str:
        return f"{self.sent} in {self.phase}: event {self.event} of call {self.call} of {'.'.join(self.place)}"


class Ended(NamedTuple):
    """The exit code of a command, its words, and the seconds of the processor that it took, since a signal if any."""

    code: int
    said: str
    seconds: float


class Started(NamedTuple):
    """A command line that runs in a process of its own, what it says, and a file with its seconds at the signal."""

    process: int
    log: Path
    mark: Path

    def ended(self) -> Ended:
        """Wait for it; it is killed where it waits."""
        limit = time.monotonic() + WAIT
        while not (done := os.waitid(os.P_PID, self.process, os.WEXITED | os.WSTOPPED | os.WNOWAIT | os.WNOHANG)) or (
            done.si_code == os.CLD_STOPPED
        ):
            if done or time.monotonic() > limit:
                os.kill(self.process, signal.SIGKILL)
            time.sleep(0.002)
        own = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()[11:13]  # not its children's
        spent = sum(map(int, own)) / os.sysconf("SC_CLK_TCK")
        spent -= float(self.mark.read_text()) if self.mark.exists() else 0.0
        said = self.log.read_text(errors="replace") + "\nit waited without end" * (time.monotonic() > limit)
        return Ended(os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1]), said, spent)


def start(
    base: Path, arguments: tuple[str, ...], prepare: Callable[[Path], None] = lambda _: None, name: str = ""
) -> Started:
    """Run a command line here, in a process of its own that is prepared first."""
    log, mark = base / f"log{name}", base / f"mark{name}"
    mark.unlink(missing_ok=True)
    process = os.fork()
    if not process:
        try:
            become(log)
            prepare(mark)
            main_of(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    return Started(process, log, mark)


def command(base: Path, arguments: tuple[str, ...], prepare: Callable[[Path], None] = lambda _: None) -> Ended:
    """A command line that has ended."""
    return start(base, arguments, prepare).ended()


def become(log: Path) -> None:
    """What a process of a command is like at first."""
    os.setsid()
    sys.modules["__main__"] = ModuleType("__main__")  # of which workers would import what this program is
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which nohup would have it ignore
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, file in enumerate((os.open(os.devnull, os.O_RDONLY), written, written)):
        os.dup2(file, stream)
    session.chunking = lambda *_: Chunking(2, 2, 1)


def main_of(arguments: tuple[str, ...]) -> None:
    """The command, and what Python does when it ends."""
    sys.argv, code = ["plasticode", *arguments], 99
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _owner(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def hook(place: tuple[str, str], call: int, event: int, act: Callable[[], None]) -> None:
    """Have `act` called at an event in the n-th call of a function, or as that returns; an event 0 is never met."""
    owner, name = _owner(place[0]), place[1]
    real, calls = getattr(owner, name), iter(range(1, 10**9))
    met = Counter()

    def hooked(*arguments: Any, **named: Any) -> Any:
        if next(calls) != call:
            return real(*arguments, **named)

        def count(*_: object) -> None:
            met["events"] += 1
            if met["events"] == event:
                act()

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            return real(*arguments, **named)
        finally:
            sys.setprofile(before)
            if event > met["events"] or not event:
                act()

    hooked.events = met  # pyright: ignore[reportFunctionMemberAccess]
    setattr(owner, name, hooked)


def stopping(case: Case) -> Callable[[Path], None]:
    """What prepares a process to send itself the signals of a case."""

    def prepare(mark: Path) -> None:
        def act() -> None:
            mark.write_text(str(time.process_time()))
            numbers, whom = SIGNALS[case.sent][0], -os.getpid() if case.to_all else os.getpid()
            for number in numbers[1:]:
                timer = threading.Timer(case.delay, os.kill, (whom, number))
                timer.daemon = True
                timer.start()
            os.kill(whom, numbers[0])
            if case.phase == "compile":  # in its thread, as a program that takes long
                time.sleep(10 * WAIT)

        if case.phase == "compile":  # for real, instead of what the straight run has kept
            jax.config.update("jax_enable_compilation_cache", False)
        hook(case.place, case.call, case.event, act)

    return prepare


def chosen(number: int, seed: int, events: Events) -> Case:
    """A case by its number: phases and signals take turns, the moment is random."""
    random, phases, sent = Random(f"{seed}/{number}"), list(PHASES), list(SIGNALS)
    phase = phases[number % len(phases)]
    module, name, calls = random.choice(PHASES[phase])
    most = events[module, name]
    event = random.randint(1, most) if random.random() < 0.5 else int(most ** random.random())
    which = sent[(number // len(phases) + number) % len(sent)]
    return Case(phase, (module, name), random.randint(1, calls), event, which, random.uniform(0, 0.3))


def tree(directory: Path) -> dict[str, bytes | str]:
    """All there is, by path: the content of files, where links lead, "" for all else."""
    found = {}
    for path in sorted(directory.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path.relative_to(directory))] = content
    return found


def make_base(base: Path, _: Sequence[int] = ()) -> Events:
    """A straight run and its table in `base`/straight, and files of the user's; returns the events in each function."""
    place = base / "straight"
    place.mkdir()
    (place / "spec.toml").write_text(SPEC)
    for name in ("mine.txt", ".mine.csv.1.partial", "case/notes.txt", "case/chunks/notes.nc"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("mine")
    shutil.copytree(place, base / "begin")
    places = [(module, name) for functions in PHASES.values() for module, name, _ in functions]
    os.chdir(place)
    for arguments in (RUN, EXPORT):
        ended = command(base, arguments, counting(base / "events", places))
        assert ended.code == 0, ended
    return counted(base / "events")


def counting(counts: Path, places: list[tuple[str, str]]) -> Callable[[Path], None]:
    """What prepares a process to note the events in the first call of each function."""

    def prepare(_: Path) -> None:
        for one in places:
            hook(one, 1, 0, lambda one=one: _note(counts, one))

    return prepare


def counted(counts: Path) -> Events:
    """The events that were noted."""
    events = {}
    for line in counts.read_text().splitlines():
        module, name, count = line.split()
        events[module, name] = max(1, int(count))
    return events


def _note(counts: Path, one: tuple[str, str]) -> None:
    with counts.open("a") as file:
        print(*one, getattr(_owner(one[0]), one[1]).events["events"], file=file)


def examine(base: Path, case: Case) -> list[str]:
    """What has gone wrong in a case."""
    place, exporting = base / "place", case.phase == "export"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base / ("straight" if exporting else "begin"), place)
    if exporting:
        (place / "table.csv").write_text("before")
    os.chdir(place)
    before, said = tree(place), EXPORT if exporting else RUN
    stopped = command(base, said, stopping(case))
    faults = faults_of(stopped, SIGNALS[case.sent][1]) + ([] if (base / "mark").exists() else ["no signal was sent"])
    after = tree(place)
    kept = {path for path in before if path != "table.csv"}
    faults += [f"{path} was changed or lost" for path in kept if before[path] != after.get(path)]
    again = command(base, said)
    faults += faults_of(again, {0})
    straight, now = tree(base / "straight"), tree(place)
    same = "table.csv" if exporting else "case/results.nc"
    faults += [] if now.get(same) == straight[same] else [f"{same} differs from that of a straight run"]
    wanted = set(straight) if exporting else set(straight) - {"table.csv"}
    odd = set(now) ^ wanted
    return faults + ([f"left, or lacking, after the second run: {sorted(odd)}"] if odd else [])


def faults_of(ended: Ended, codes: set[int]) -> list[str]:
    faults = [] if ended.code in codes else [f"exit code {ended.code}, not of {sorted(codes)}: {ended.said[-2000:]}"]
    if "Traceback" in ended.said or "Exception ignored" in ended.said:
        faults.append(ended.said[-3000:])
    return faults + ([f"it took {ended.seconds:.1f} s of the processor"] if ended.seconds > SECONDS else [])


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder that goes at the end; what is compiled is kept there."""
    gc.collect(), gc.freeze()  # forks that look through what is there for garbage would copy it
    before = tempfile.gettempdir()
    base = Path(tempfile.mkdtemp(prefix="kills-"))  # no TemporaryDirectory: the first process that ends removed it
    (base / "temporary").mkdir()
    os.environ["TMPDIR"], tempfile.tempdir = str(base / "temporary"), None
    jax.config.update("jax_compilation_cache_dir", str(base / "programs"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(base / "programs")  # for workers
    try:
        yield base
    finally:
        os.environ["TMPDIR"], tempfile.tempdir = before, None
        shutil.rmtree(base, ignore_errors=True)


def tried(
    program: str,
    cases: int,
    arguments: list[str] | None,
    prepared: Callable[[Path, Sequence[int]], Events],
    choose: Callable[[int, int, Events], Case],
    look: Callable[[Path, Case], list[str]],
) -> int:
    """Try so many cases, and tell which have failed."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{program}")
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="K", help="the case with this number alone")
    options = parser.parse_args(arguments)
    numbers = range(options.cases) if options.only is None else [options.only]
    found, bad, start = Counter(), Counter(), time.monotonic()
    with folder() as base, contextlib.suppress(KeyboardInterrupt):  # what was tried by then is told
        events = prepared(base, numbers)
        for number in numbers:
            case = choose(number, options.seed, events)
            faults = look(base, case)
            found[case.phase] += 1
            bad[case.phase] += bool(faults)
            if faults:
                again = f"python -m benchmarks.{program} --seed {options.seed} --only {number}"
                print(f"case {number} ({case}), again with {again}:", *faults, sep="\n", flush=True)
    minutes, all_of, failed = (time.monotonic() - start) / 60, found.total(), bad.total()
    print(f"{all_of - failed} of {all_of} cases survive (seed {options.seed}, {minutes:.1f} minutes)")
    for phase in found:
        print(f"{phase:12} {found[phase] - bad[phase]} of {found[phase]}")
    return int(failed > 0 or not all_of)


def main(arguments: list[str] | None = None) -> int:
    """Try the cases, and tell which have failed."""
    return tried("kills", 200, arguments, make_base, chosen, examine)


if __name__ == "__main__":
    sys.exit(main())
