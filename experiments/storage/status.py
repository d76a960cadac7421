"""How far a run in a directory is, as another process sees it."""

import collections
import contextlib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from dynamics.errors import PlasticodeError, printable
from experiments.machine.lock import described, read_owner
from experiments.machine.progress import progress_told
from experiments.machine.reading import check_regular
from experiments.results.netcdf import opened, readable, status_counts
from experiments.results.ownership import ANALYSES, identity_in, made_in
from experiments.storage.chunks import CHECKPOINT, FAILED, NAME
from experiments.storage.rundir import CHUNKS, FIT, read_header


def status_of(target: Path, alive: Iterable[Path]) -> list[str]:
    """Sentences on the run in `target`: who is at it, by their locks, what is finished, how to go on."""
    if not target.is_dir():
        raise PlasticodeError(
            f"'{target}' does not exist, so no run has kept anything there: it must be the --out directory of "
            "`plasticode run`, `fit` or `design`"
        )
    directory = target / CHUNKS
    header = read_header(directory)
    if header is None:
        return _finished(target)
    try:
        names = os.listdir(directory)
    except OSError:  # it has just been finished
        return _finished(target)
    done, of = _points(header, names), {stem: points for stem, (points, _) in header["jobs"].items()}
    begun = sum(name.endswith(CHECKPOINT) for name in names)
    failed = sum(name.endswith(FAILED) for name in names)
    points, every = sum(done.values()), int(header["points"])
    told = f"{points} of {every} points are finished ({points / every:.0%})"
    if header["run"].get("kind") == FIT:
        each = [f"{done.get(stem, 0)} of {count} {stem.rpartition('-')[0]}" for stem, count in of.items()]
        told = f"{', '.join(each)} are finished, not all of which may be needed"
    lines = [f"{printable(header['name'], 200)}: {printable(told, 4000)}"]
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


def _points(header: dict, names: list[str]) -> collections.Counter[str]:
    """The points of all finished chunks of each job, by the names of their files."""
    total = collections.Counter()
    for match in filter(None, map(NAME.fullmatch, names)):
        points, chunks = header["jobs"].get(match["job"], (0, 1))
        # as they were cut, the first ones longer
        total[match["job"]] += points // chunks + (int(match["number"]) < points % chunks)
    return total


def _finished(target: Path) -> list[str]:
    results = target / "results.nc"
    with readable(results), contextlib.suppress(FileNotFoundError):
        check_regular(results, target)
    if identity_in(results) is None:
        if found := [name for name in ANALYSES if name in made_in(target)]:
            return [f"finished: a {name.removesuffix('.nc')} in {target / name}" for name in found]
        raise PlasticodeError(f"'{target}' has no run: it must be the --out directory of `plasticode run` or `fit`")
    with opened(results) as loaded:
        counts = [status_counts(data) for data in loaded.datasets.values()]
    total = {status: sum(count[status] for count in counts) for status in counts[0]}
    ended = ", ".join(f"{count} {status}" for status, count in total.items() if count)
    return [f"finished: {sum(total.values())} points ({ended}) in {results}"]
