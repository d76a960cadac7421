"""Odd directories: `run`, `status` and `export` are given each of them, with files of the user's in and beside it.

    python -m benchmarks.odd_directories [--cases N] [--only NAME]

A directory survives where each command ends within 5 s of processor time, with exit code 0, 1 or 2 and without a
traceback, and where no file or link of the user's is changed or lost. With `--cases` so many of them are tried, evenly.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import kills

MINE = "mine"
OUT = "case"
EVERYTHING = ("results.nc", "spec.toml", "summary.json", "report.html", "figures", "chunks")
RUNNING = ("experiments.storage.chunks.ChunkStore", "write")
Make = Callable[[Path], Any]


class Kind(NamedTuple):
    """What is made in a place before the commands, what happens while the run writes its second chunk, and its --out;
    `of` is the run whose directory is there already."""

    make: Make = lambda _: None
    out: str = OUT
    during: Make | None = None
    of: str = ""
    leads_outside: bool = False


class Untried(Exception):
    """This machine cannot make such a directory."""


def mine(*paths: str) -> Make:
    """Files of the user's."""

    def make(place: Path) -> None:
        for path in paths:
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(MINE)

    return make


def linked(path: str, to: str) -> Make:
    """A link in the place of what is there."""

    def make(place: Path) -> None:
        _gone(place / path)
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).symlink_to(to)

    return make


def special(path: str, kind: str = "fifo") -> Make:
    """A pipe or a socket in the place of what is there."""

    def make(place: Path) -> None:
        _gone(place / path)
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        if kind == "fifo":
            os.mkfifo(place / path)
            return
        with socket.socket(socket.AF_UNIX) as one, contextlib.chdir((place / path).parent):
            one.bind(Path(path).name)

    return make


def closed(path: str) -> Make:
    """A folder that nobody may write to, the superuser no more than others."""

    def make(place: Path) -> None:
        (place / path).mkdir(parents=True, exist_ok=True)
        if os.geteuid():
            (place / path).chmod(0o555)
        elif subprocess.run(["chattr", "+i", place / path], capture_output=True).returncode:
            raise Untried

    return make


def together(*makes: Make) -> Make:
    """One after the other."""
    return lambda place: [make(place) for make in makes]


def removed(*paths: str) -> Make:
    """Some of what is there is gone."""
    return lambda place: [_gone(place / path) for path in paths]


def moved(path: str, to: str, copy: bool = False) -> Make:
    """What is there is elsewhere, or twice."""
    return lambda place: (shutil.copytree if copy else shutil.move)(place / path, place / to)


def text(path: str, content: str) -> Make:
    """A file that is not the user's."""
    return lambda place: (place / path).write_text(content)


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _beside(place: Path) -> None:
    """Another run is at work in the directory, and stays so."""
    process = os.fork()
    if not process:
        kills.become(place.parent / "other")
        kills.hook(RUNNING, 2, 1, lambda: signal.pause())
        kills.main_of(kills.RUN)
    _others.append(process)
    limit = time.monotonic() + kills.WAIT
    while not list((place / OUT / "chunks").glob("*.nc")) and time.monotonic() < limit:
        time.sleep(0.002)


_others: list[int] = []

NAMES = (
    "a b", " a ", "a\nb", "a\tb", "é漢字", "e\u0301", "\U0001f600", "%d%s%", "-dir", "--force", "~", "~x", "[a]*?",
    "[red]x[/red]", "[/]", "<b>&amp;", "it's \"so\"", "back\\slash", "$HOME", "`x`", "\x1b[31m", "\u202ex", "a\udcffb",
    "", " ", ".", "..", "./.", "...", ".hid", "new/../b", "outside", "outside/new",
    "spec.toml", "spec.toml/x", "results.nc", "chunks", ".case.1.partial", "lock",
    "d/" * 50 + "d", "a" * 199, "a" * 255, "a" * 256, "/".join(["a" * 150] * 40), "d/" * 2500,
    "/dev/null", "/dev/null/x", "/proc/self/x", "/proc/nobody", "nul\0",
)  # fmt: skip
KINDS = {f"named {name[:20]!r} ({len(name)})": Kind(out=name, leads_outside="outside" in name) for name in NAMES} | {
    "a file": Kind(mine(OUT)),
    "a pipe": Kind(special(OUT)),
    "a link to a folder": Kind(linked(OUT, "outside"), leads_outside=True),
    "a link to nothing": Kind(linked(OUT, "nothing")),
    "a link to itself": Kind(linked(OUT, OUT)),
    "closed": Kind(closed(OUT)),
    "in a closed folder": Kind(closed("in"), "in/case"),
    "of a finished run, closed": Kind(closed(OUT), of="whole"),
    "of an unfinished run, closed": Kind(closed(OUT), of="begun"),
    "with closed chunks": Kind(closed("case/chunks")),
    "with closed figures": Kind(closed("case/figures")),
    "unfinished, with closed figures": Kind(closed("case/figures"), of="begun"),
    "the working folder, closed": Kind(closed("."), "."),
    "the working folder is gone": Kind(lambda place: (os.chdir(place / "in"), _gone(place / "in")), "../case"),
    "the working folder is gone, inside": Kind(lambda place: (os.chdir(place / "in"), _gone(place / "in")), OUT),
    "of all that a run writes, as the user's": Kind(mine(*(f"case/{name}" for name in EVERYTHING[:-2]))),
    "a full folder": Kind(mine(*(f"case/{number}" for number in range(2000)))),
    "folders in chunks": Kind(mine("case/chunks/sub/a.nc", "case/chunks/all-0000-000000.failed.json/x")),
    "folders in chunks, unfinished": Kind(mine("case/chunks/sub/a.nc", "case/chunks/lock-1-of-2/x"), of="begun"),
    "the user's figure": Kind(mine("case/figures/loss.png")),
    "the user's figures, finished": Kind(mine("case/figures/mine.png", "case/figures/sub/loss.png"), of="whole"),
    "figures lead elsewhere, finished": Kind(linked("case/figures", "../outside"), of="whole"),
    "figures lead elsewhere, unfinished": Kind(linked("case/figures", "../outside"), of="begun"),
    "chunks lead elsewhere, unfinished": Kind(
        together(moved("case/chunks", "elsewhere"), linked("case/chunks", "../elsewhere")), of="begun"
    ),
    "results lead to another run": Kind(
        together(moved(OUT, "other", True), linked("case/results.nc", "../other/results.nc")), of="whole"
    ),
    "no results, finished": Kind(removed("case/results.nc"), of="whole"),
    "no summary, finished": Kind(removed("case/summary.json"), of="whole"),
    "nothing but results": Kind(removed("case/summary.json", "case/spec.toml", "case/figures"), of="whole"),
    "results of which the user has a hard link": Kind(
        lambda place: os.link(place / "case/results.nc", place / "outside/mine.nc"), of="whole"
    ),
    "an empty header": Kind(text("case/chunks/run.json", ""), of="begun"),
    "no header": Kind(removed("case/chunks/run.json"), of="begun"),
    "an empty lock": Kind(text("case/chunks/lock", ""), of="begun"),
    "no chunks, but a header": Kind(
        lambda place: [path.unlink() for path in (place / "case/chunks").glob("*.nc")], of="begun"
    ),
    "moved, unfinished": Kind(moved(OUT, "there"), "there", of="begun"),
    "moved, finished": Kind(moved(OUT, "there"), "there", of="whole"),
    "twice, unfinished": Kind(moved(OUT, "copy", True), "copy", of="begun"),
    "within itself, finished": Kind(lambda place: shutil.copytree(place / OUT, place / "case/chunks/case"), of="whole"),
    "a run in its chunks": Kind(out="case/chunks", of="begun"),
    "leftovers of killed runs": Kind(
        together(
            mine("case/.case.3.partial/notes.txt", ".case.2.partial", "case/chunks/.run.json.mine/x"),
            moved(OUT, "case/.case.1.partial", True),
        ),
    ),
    "of another spec": Kind(text("spec.toml", kills.SPEC.replace("points = 2", "points = 3")), of="begun"),
    "two runs at once": Kind(_beside),
    "removed while it runs": Kind(during=removed(OUT)),
    "chunks removed while it runs": Kind(during=removed("case/chunks")),
    "moved while it runs": Kind(during=moved(OUT, "there")),
    "moved and replaced while it runs": Kind(during=together(moved(OUT, "there"), mine("case/spec.toml"))),
    "a file while it runs": Kind(during=together(removed(OUT), mine(OUT))),
    "a link while it runs": Kind(during=together(moved(OUT, "there"), linked(OUT, "outside"))),
    "chunks are a link while it runs": Kind(
        during=together(moved("case/chunks", "there"), linked("case/chunks", "../outside"))
    ),
    "closed while it runs": Kind(during=closed(OUT)),
    "chunks closed while it runs": Kind(during=closed("case/chunks")),
    "the user's files while it runs": Kind(during=mine("case/spec.toml", "case/figures/loss.png")),
    "figures a link while it runs": Kind(during=linked("case/figures", "../outside")),
    "the working folder removed while it runs": Kind(
        lambda place: os.chdir(place / "in"), "../case", lambda place: _gone(place / "in")
    ),
}
for _name in EVERYTHING:
    KINDS[f"{_name} is a pipe"] = Kind(special(f"case/{_name}"))
    KINDS[f"{_name} is a pipe, finished"] = Kind(special(f"case/{_name}"), of="whole")
    KINDS[f"{_name} is a pipe, unfinished"] = Kind(special(f"case/{_name}"), of="begun")
    KINDS[f"{_name} is a file"] = Kind(mine(f"case/{_name}"))
    KINDS[f"{_name} is a folder"] = Kind(mine(f"case/{_name}/mine.txt"))
    KINDS[f"{_name} is a link to nothing"] = Kind(linked(f"case/{_name}", "nothing"))
    KINDS[f"{_name} is a link elsewhere"] = Kind(linked(f"case/{_name}", "../outside/mine.txt"))
for _name in ("run.json", "lock", "lock-1-of-2", "all-0000-000000.failed.json"):
    KINDS[f"{_name} is a socket"] = Kind(special(f"case/chunks/{_name}", "socket"), of="begun")
    KINDS[f"{_name} leads elsewhere"] = Kind(linked(f"case/chunks/{_name}", "../../outside/mine.txt"), of="begun")


def users(place: Path) -> dict[str, str]:
    """What belongs to the user: files that say so, links, pipes and sockets."""
    found = {}
    for folder, folders, names in os.walk(place):
        for path in (Path(folder, name) for name in [*folders, *names]):
            if path.is_symlink():
                found[str(path)] = f"a link to {os.readlink(path)}"
            elif path.is_file() and path.stat().st_size == len(MINE) and path.read_text() == MINE:
                found[str(path)] = MINE
            elif not path.is_file() and not path.is_dir():
                found[str(path)] = f"mode {path.lstat().st_mode:o}"
    return found


def make_base(base: Path) -> None:
    """The directories of a finished and of an unfinished run."""
    for name, event, code in (("whole", None, 0), ("begun", 1, -signal.SIGKILL)):
        place = base / name
        place.mkdir()
        (place / "spec.toml").write_text(kills.SPEC)
        os.chdir(place)
        case = kills.Case("run", RUNNING, 3, 1, "SIGKILL", 0.0)
        ended = kills.command(base, kills.RUN, kills.stopping(case) if event else lambda _: None)
        assert ended.code == code, ended


def examine(base: Path, kind: Kind) -> list[str]:
    """What has gone wrong in a directory."""
    place, faults = base / "place", []
    shutil.copytree(base / kind.of, place) if kind.of else place.mkdir()
    (place / "spec.toml").write_text(kills.SPEC)
    mine("outside/mine.txt", "outside/loss.png", "mine.csv")(place)
    (place / "in").mkdir()
    outside = base / "spec.toml"
    outside.write_text(MINE)
    os.chdir(place)
    try:
        kind.make(place)
        before, there = users(place), kills.tree(place / "outside")
        spec = str(place / "spec.toml")
        for arguments in (
            ("run", spec, f"--out={kind.out}"),
            ("status", "--", kind.out),
            ("export", "--", kind.out, str(place / "table.csv")),
        ):
            ended = kills.command(base, arguments, _during(kind, place) if arguments[0] == "run" else lambda _: None)
            faults += [f"{arguments[0]}: {fault}" for fault in kills.faults_of(ended, {0, 1, 2})]
            if ended.code == 2 and ended.said.count("\n") > 12:
                faults.append(f"{arguments[0]}: no sentence: {ended.said}")
        now = users(place) | users(base)
        faults += [f"{path} was changed or lost" for path in before if now.get(path) != before[path]]
        faults += [] if outside.read_text() == MINE else ["a file outside was changed"]
        if kills.tree(place / "outside") != there and not kind.leads_outside:
            faults.append("something was written outside")
    finally:
        while _others:
            os.kill(_others[-1], signal.SIGKILL)
            os.waitpid(_others.pop(), 0)
        os.chdir(base)
        _open(place)
        shutil.rmtree(place)
    return faults


def _during(kind: Kind, place: Path) -> Callable[[Path], None]:
    def prepare(_: Path) -> None:
        if kind.during is not None:
            kills.hook(RUNNING, 2, 1, lambda: kind.during and kind.during(place))

    return prepare


def _open(place: Path) -> None:
    """Undo what `closed` does."""
    if not os.geteuid():
        subprocess.run(["chattr", "-R", "-f", "-i", place], capture_output=True)
        return
    for folder, _, _ in os.walk(place):
        Path(folder).chmod(0o755)


def main(arguments: list[str] | None = None) -> int:
    """Try the directories, and tell which have done harm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.odd_directories")
    parser.add_argument("--cases", type=int, default=len(KINDS))
    parser.add_argument("--only", metavar="NAME", help="the kind with this name alone")
    options = parser.parse_args(arguments)
    chosen = list(KINDS)[:: max(1, len(KINDS) // options.cases)] if options.only is None else [options.only]
    tried, bad, untried = 0, 0, 0
    with kills.folder() as base:
        make_base(base)
        for name in chosen[: options.cases]:
            try:
                faults = examine(base, KINDS[name])
            except Untried:
                untried += 1
                continue
            tried, bad = tried + 1, bad + bool(faults)
            if faults:
                print(f"{name}:", *faults, sep="\n  ", flush=True)
    left_out = f"; {untried} cannot be made on this machine" if untried else ""
    print(f"{tried - bad} of {tried} odd directories survive{left_out}")
    return int(bad > 0 or not tried)


if __name__ == "__main__":
    sys.exit(main())
