"""How far a run in a directory is, as another process sees it."""

import contextlib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from dynamics.errors import PlasticodeError, printable
from experiments.machine.lock import described, read_owner
from experiments.machine.progress import POINTS, STARTS, progress_told
from experiments.machine.reading import check_regular
from experiments.results.netcdf import opened, readable, status_counts
from experiments.results.ownership import identity_in
from experiments.storage.chunks import CHECKPOINT, FAILED, NAME
from experiments.storage.rundir import CHUNKS, RECORDING, read_header


def status_of(target: Path, alive: Iterable[Path]) -> list[str]:
    """Sentences on the run in `target`: who is at it, by their locks, what is finished, how to go on."""
    if not target.is_dir():
        raise PlasticodeError(
            f"'{target}' does not exist, so no run has kept anything there: it must be the --out directory of "
            "`plasticode run`"
        )
    directory = target / CHUNKS
    header = read_header(directory)
    if header is None:
        return _finished(target)
    try:
        names = os.listdir(directory)
    except OSError:  # it has just been finished
        return _finished(target)
    points, of = _points(header, names), int(header["points"])
    begun = sum(name.endswith(CHECKPOINT) for name in names)
    failed = sum(name.endswith(FAILED) for name in names)
    what = STARTS if RECORDING in header["run"].get("data", {}) else POINTS
    lines = [f"{printable(header['name'], 200)}: {points} of {of} {what} are finished ({points / of:.0%})"]
    lines += [f"{begun} unfinished chunk{'s' * (begun > 1)} left a checkpoint to go on from"] if begun else []
    lines += [f"{failed} chunk{'s' * (failed > 1)} failed: see {directory}/*.failed.json"] if failed else []
    running = sorted(alive)
    for path in running:
        owner = read_owner(path) or {}
        progress = progress_told(owner.get("progress"))
        facts = [f"{progress.fraction:.0%} done", *progress.facts] if progress else []
        who = described(owner) if owner else "a process"
        lines.append(f"{who} is at it: {', '.join(facts) or 'it has just started'}")
    if not running:
        place, command = printable(header["place"], 4000), printable(shlex.join(header["command"]), 4000)
        lines.append(f"nobody is at it; to go on, in {place}: {command}")
    return lines


def _points(header: dict, names: list[str]) -> int:
    """The points of all finished chunks, by the names of their files."""
    total = 0
    for match in filter(None, map(NAME.fullmatch, names)):
        points, chunks = header["jobs"].get(match["job"], (0, 1))
        total += points // chunks + (int(match["number"]) < points % chunks)  # as they were cut, the first ones longer
    return total


def _finished(target: Path) -> list[str]:
    results = target / "results.nc"
    with readable(results), contextlib.suppress(FileNotFoundError):
        check_regular(results, target)
    if identity_in(results) is None:
        raise PlasticodeError(f"'{target}' has no run: it must be the --out directory of `plasticode run`")
    with opened(results) as loaded:
        counts = [status_counts(data) for data in loaded.datasets.values()]
    total = {status: sum(count[status] for count in counts) for status in counts[0]}
    ended = ", ".join(f"{count} {status}" for status, count in total.items() if count)
    return [f"finished: {sum(total.values())} points ({ended}) in {results}"]
