"""Kills and signals of what consists of several processes: workers of dask, shards, predictions; and of `compare`.

    python -m benchmarks.kills_together [--cases 40] [--seed 0] [--only K]

A case survives as in `benchmarks.kills`, and where no process of the command is there a while after it has ended. The
seconds are those of the command's own process; of two shards one is stopped, and the other goes on.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks import kills
from benchmarks.kills import Case, Ended, Events, Started
from experiments.execution import cluster  # noqa: F401 - before the forks
from experiments.predictions import report, reproduce  # noqa: F401
from experiments.spec import compare  # noqa: F401

ALONE = 30.0  # seconds by the clock until the last worker has seen that its command has ended


class Kind(NamedTuple):
    """Command lines that run at once, the first of which is stopped; the functions in which, by module or class, and
    how often each is called; what they write into case/ that must be as if nothing had happened."""

    commands: list[tuple[str, ...]]
    places: list[tuple[str, str, int]]
    written: tuple[str, ...] = ("results.nc",)


RUN = ("run", "spec.toml", "--out", "case")
RUNNER, STORE = "experiments.execution.programs.JobRunner", "experiments.storage.chunks.ChunkStore"
SMALL = ('regime="discrete"', "task.samples=40", "network.hidden=[2]", "stimulus.presentations=4", "record.points=2")
SETS = tuple(word for setting in SMALL for word in ("--set", setting))
KINDS = {
    "compare": Kind(
        [("compare", "--rules", "sgd,fa", "--task", "circles", "--seeds", "4", *SETS, "--out", "case")],
        [
            ("experiments.spec.compare", "comparison", 1),
            (RUNNER, "_execute", 4),
            (STORE, "write", 4),
            ("experiments.session", "merge", 1),
            ("experiments.report.report", "page", 1),
            ("experiments.commands.terminal", "print_outcome", 1),
        ],
    ),
    "shards": Kind(
        [(*RUN, "--shard", "1/2"), (*RUN, "--shard", "2/2")],
        [
            ("experiments.storage.rundir", "_started", 1),
            (RUNNER, "_execute", 2),
            (STORE, "write", 2),
            ("experiments.session", "_merge_shards", 1),
        ],
    ),
    "workers": Kind(
        [(*RUN, "--workers", "2")],
        [
            ("experiments.execution.cluster", "_of_this_machine", 1),
            ("experiments.execution.cluster", "_next", 4),
            ("experiments.execution.cluster", "_close", 1),
            (STORE, "write", 4),
        ],
    ),
    "reproduce": Kind(
        [("reproduce", "curl-toy", "--quick", "--workers", "2", "--out", "case")],
        [
            ("experiments.predictions.reproduce", "_run", 1),
            ("experiments.predictions.report", "write", 1),
            ("experiments.results.netcdf", "_publish", 1),
            ("experiments.commands.terminal", "print_predictions", 1),
        ],
        ("predictions.toml", "verdicts.json", "figures/curl-toy.png"),
    ),
}


def chosen(number: int, seed: int, events: Events) -> Case:
    """A case by its number: kinds and signals take turns, the moment is random."""
    random, sent = Random(f"together/{seed}/{number}"), list(kills.SIGNALS)
    kind = kind_of(number)
    module, name, calls = random.choice(KINDS[kind].places)
    most = events[module, name]
    event = random.randint(1, most) if random.random() < 0.5 else int(most ** random.random())
    which = sent[(number // len(KINDS) + number) % len(sent)]
    to_all = random.random() < 0.5 and "STOP" not in which
    return Case(kind, (module, name), random.randint(1, calls), event, which, random.uniform(0, 0.3), to_all)


def kind_of(number: int) -> str:
    """The kind of a case."""
    return list(KINDS)[number % len(KINDS)]


def make_base(base: Path, numbers: Sequence[int]) -> Events:
    """What the kinds of these cases write when nobody stops them; returns the events in each function."""
    events: Events = {}
    for name in sorted(set(map(kind_of, numbers))):
        kind, place = KINDS[name], base / name
        place.mkdir()
        (place / "spec.toml").write_text(kills.SPEC)
        os.chdir(place)
        counts = base / f"events-{name}"
        places = [(module, function) for module, function, _ in kind.places]
        started = [
            kills.start(base, arguments, kills.counting(counts, places), str(index))
            for index, arguments in enumerate(kind.commands)
        ]
        for one in started:
            ended = one.ended()
            assert ended.code == 0, ended
        events |= kills.counted(counts)
    return events


def examine(base: Path, case: Case) -> list[str]:
    """What has gone wrong in a case."""
    kind, place = KINDS[case.phase], base / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "spec.toml").write_text(kills.SPEC)
    (place / "mine.txt").write_text("mine")
    os.chdir(place)
    first, *others = kind.commands
    started = [kills.start(base, first, kills.stopping(case), "0")]
    started += [kills.start(base, arguments, name=str(index)) for index, arguments in enumerate(others, 1)]
    codes = kills.SIGNALS[case.sent][1] | ({0} if others else set())  # another shard may do what was to be stopped in
    stopped, faults = ended(started[0], codes)
    faults += [fault for one in started[1:] for fault in ended(one, {0})[1]]
    if not others and not (base / "mark0").exists():
        faults.append("no signal was sent")
    faults += ended(kills.start(base, first, name="0"), {0})[1]
    temporary = sorted((base / "temporary").iterdir())
    faults += [f"left for good: {temporary}"] if temporary and stopped.code >= 0 else []
    for path in temporary:
        shutil.rmtree(path)
    faults += [
        f"{name} differs from that of one that nobody stopped"
        for name in kind.written
        if content(place / "case" / name) != content(base / case.phase / "case" / name)
    ]
    odd = set(kills.tree(place)) ^ {*kills.tree(base / case.phase), "mine.txt"}
    return faults + ([f"left, or lacking, after the second run: {sorted(odd)}"] if odd else [])


def ended(started: Started, codes: set[int]) -> tuple[Ended, list[str]]:
    """How a command has ended, and what is wrong with that."""
    how = started.ended()
    faults = kills.faults_of(how, codes)
    limit = time.monotonic() + ALONE
    while (left := in_session(started.process)) and time.monotonic() < limit:
        time.sleep(0.05)
    for process in left:
        os.kill(process, signal.SIGKILL)
    said = started.log.read_text(errors="replace")  # what workers say at their end comes late
    faults += [f"workers said: {said[-2000:]}"] if "Traceback" in said or "leaked" in said else []
    return how, faults + ([f"{len(left)} processes are left"] if left else [])


def in_session(leader: int) -> list[int]:
    """The processes that a command has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found


def content(path: Path) -> object:
    """What is in a file, but for the seconds that it took."""
    if path.suffix == ".json" and path.is_file():
        return [{key: value for key, value in one.items() if key != "seconds"} for one in json.loads(path.read_text())]
    return path.read_bytes() if path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    """Try the cases, and tell which have failed."""
    return kills.tried("kills_together", 40, arguments, make_base, chosen, examine)


if __name__ == "__main__":
    sys.exit(main())
