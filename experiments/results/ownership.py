"""What runs have written into a directory: all that a run may overwrite or remove there. Everything else is the user's.

The results.nc or the summary.json of a run says that runs have been there. While files are moved in, a manifest names
them, for a run that is killed meanwhile. A link is never a run's, and never followed.
"""

import contextlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dynamics.errors import PlasticodeError, printable
from experiments.machine import files, reading
from experiments.machine.lock import has_ended, this_process
from experiments.machine.reading import number_attribute, opened_hdf5, parse_json, text_attribute

FIGURES = "figures"
RUN = ("results.nc", "spec.toml", "summary.json", "report.html", FIGURES)  # what `run` and `compare` write
REPRODUCED = ("predictions.toml", "verdicts.json", "summary.json", "report.html", FIGURES)  # what `reproduce` writes
FITTED = ("fit.nc", "spec.toml", "summary.json", "report.html", FIGURES)  # what `fit` writes
RECORDED = "recording.nc"
SIMULATED = (*FITTED, RECORDED)  # and with --synthetic; otherwise a recording of that name is the user's
DESIGNED = ("design.nc", "spec.toml", "summary.json", "report.html", FIGURES)  # what `design` writes
ANALYSES = FITTED[0], DESIGNED[0]  # in the place of results
MANIFEST, MARK = ".published.json", ".owner"
LARGEST_SUMMARY = 2**28  # bytes
_PICTURE = re.compile(r"[^/\\]+\.png")
_LEFTOVER = re.compile(r"\..+\.[0-9]+\.partial")


class Made(NamedTuple):
    """Paths in a directory that runs have written, relative to it; with `all_figures` those of all figures too, whose
    names are not known."""

    paths: set[str]
    all_figures: bool

    def __contains__(self, path: object) -> bool:
        return path in self.paths or (self.all_figures and _is_figure(str(path)))


def made_in(target: Path) -> Made:
    """What runs have written into `target`, as far as it is still there."""
    listed = json_or_none(target / MANIFEST)
    paths = {path for path in listed if _is_possible(path)} if isinstance(listed, list) else set()
    content = json_or_none(target / "summary.json")
    named = content.get("figures") if isinstance(content, dict) else None
    if isinstance(content, dict) and isinstance(named, list):
        paths |= set(_written_with(content))
        paths |= {path for path in (f"{FIGURES}/{name}" for name in named) if _is_figure(path)}
    results = target / "results.nc"
    is_run = is_file(results) and identity_in(results) is not None
    return Made(paths | (set(RUN) if is_run else set()), is_run and not isinstance(named, list))


def _written_with(summary: dict[str, Any]) -> tuple[str, ...]:
    """What the command that wrote a summary writes."""
    if set(summary) == {"figures", "complete"}:
        return REPRODUCED
    if "estimates" in summary:
        return SIMULATED if "recording" in summary else FITTED
    return RUN if "sentences" not in summary else DESIGNED


def foreign(target: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that exist in `target`, and that no run has written: a folder only where something is in it."""
    # Looked for before what tells whose they are, which another run that is just moving its files in writes first.
    there = [path for path in paths if os.path.lexists(target / path)]
    made = made_in(target) if there else Made(set(), False)
    return [path for path in there if not _may_be_written(target, path, made)]


def is_own(target: Path, path: str | Path, name: str) -> bool:
    """Whether a path is that of the file of this name that a run has written into `target`."""
    return name in made_in(target) and is_file(target / name) and (target / name).resolve() == Path(path).resolve()


def refuse(target: Path, paths: Iterable[str]) -> None:
    """Raise `PlasticodeError` where a run would overwrite what no run made; it names all of that."""
    refuse_these(target, foreign(target, paths))


def refuse_these(target: Path, paths: list[str]) -> None:
    """Raise `PlasticodeError` that names `paths`, unless there are none."""
    if paths:
        named = ", ".join(f"{path} (a link)" if (target / path).is_symlink() else path for path in sorted(paths))
        raise PlasticodeError(
            f"the output '{target}' holds {printable(named)}, which no run made and this one would write: choose "
            "another --out, or move that away"
        )


def claim(target: Path, paths: Iterable[str]) -> None:
    """Say in the manifest that runs have written `paths`, or will presently, besides what they have."""
    content = json.dumps(sorted(made_in(target).paths | set(paths)))
    files.write(target / MANIFEST, target / f"{MANIFEST}.{os.getpid()}.partial", content)


def unclaim(target: Path) -> None:
    """Remove the manifest: all files are there, the results and the summary among them."""
    (target / MANIFEST).unlink(missing_ok=True)


def mark(partial: Path) -> None:
    """Say in a hidden directory whose it is."""
    (partial / MARK).write_text(json.dumps(this_process()))


def remove_leftovers(target: Path, alone: bool) -> None:
    """Remove what runs that were killed left half written in `target`, or beside it before it existed.

    Its name is that of the directory when they ran: it may have been moved since. What is in it must be what a run
    writes. Where nothing says that this run is `alone` in `target`, only that of a process which has ended.
    """
    if _has_ended(target):  # a run that was killed right after it had moved its directory here
        (target / MARK).unlink(missing_ok=True)
    beside = [path for path in _entries(target.parent) if path.name.startswith(f".{target.name}.")]
    for path in (*_entries(target), *beside):
        if not _LEFTOVER.fullmatch(path.name):
            continue
        if path.name.startswith(f"{MANIFEST}.") and is_file(path) and alone:
            path.unlink(missing_ok=True)
        elif _is_half_written(path) and (alone and path.parent == target or _has_ended(path)):
            shutil.rmtree(path, ignore_errors=True)


def is_file(path: Path) -> bool:
    """Whether this is a file: no link to one, nor anything that blocks who opens it, nor a name that none can have."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def is_directory(path: Path) -> bool:
    """Whether this is a directory, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def _may_be_written(target: Path, path: str, made: Made) -> bool:
    if path != FIGURES:
        return is_file(target / path) and path in made
    return is_directory(target / path) and (path in made or not _entries(target / path))


def _is_half_written(path: Path) -> bool:
    """Whether a directory has nothing in it that no run writes."""
    known = {*RUN, *REPRODUCED, *SIMULATED, *DESIGNED, MARK}
    if not is_directory(path) or not {entry.name for entry in _entries(path)} <= known:
        return False
    plain = all(is_file(entry) or entry.name == FIGURES for entry in _entries(path))
    figures = path / FIGURES
    drawn = all(is_file(entry) and _PICTURE.fullmatch(entry.name) for entry in _entries(figures))
    return plain and (is_directory(figures) or not os.path.lexists(figures)) and drawn


def _has_ended(path: Path) -> bool:
    owner = json_or_none(path / MARK)
    return isinstance(owner, dict) and (owner == this_process() or has_ended(owner))  # this one has not begun yet


def _is_possible(path: Any) -> bool:
    return isinstance(path, str) and (path in {*RUN, *REPRODUCED, *SIMULATED, *DESIGNED} or _is_figure(path))


def _is_figure(path: str) -> bool:
    folder, _, name = path.partition("/")
    return folder == FIGURES and _PICTURE.fullmatch(name) is not None


def _entries(directory: Path) -> list[Path]:
    """What is in a directory that may not exist; not what is where a link leads."""
    with contextlib.suppress(OSError):
        return sorted(directory.iterdir())
    return []


def json_or_none(path: Path) -> Any:
    """The content of a JSON file; None where there is none, or none that makes sense."""
    try:
        return reading.read_json(path, LARGEST_SUMMARY) if is_file(path) else None
    except (OSError, ValueError, RecursionError):
        return None


def identity_in(path: Path) -> tuple[dict[str, Any], bool] | None:
    """Which run made a results file, and whether no point of it is missing; None where there is no such file."""
    try:
        with opened_hdf5(path, path.parent) as file:
            run = parse_json(text_attribute(file, "run"))["run"]
            complete = number_attribute(file, "complete")
    except Exception:  # whatever the reader makes of the file of a stranger
        return None
    return (run, complete == 1) if isinstance(run, dict) else None
