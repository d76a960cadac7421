"""Runs a spec into a directory: what is missing runs, each finished chunk is kept, at the end all is merged."""

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dynamics.errors import printable
from experiments.execution import cluster
from experiments.execution.keeping import How, keep, kept, missing, share
from experiments.execution.runner import chunking, meter_of
from experiments.machine import progress
from experiments.machine.interrupts import heard
from experiments.machine.lock import InUse
from experiments.points.jobs import Job, sweeps
from experiments.predictions.study.choice import study_of
from experiments.report import report
from experiments.report.figures import attempt
from experiments.results.labels import Results, provenance
from experiments.results.netcdf import opened, output_directory, status_counts
from experiments.results.ownership import identity_in
from experiments.results.text_tables import TextTable, final_tables
from experiments.results.verdicts import StudyReport
from experiments.spec.grid import Sweep
from experiments.spec.spec import Spec
from experiments.storage import rundir
from experiments.storage.merge import merge

MERGE_PATIENCE = 10  # seconds that a shard tries to merge, while the others let go of their locks


class Ended(NamedTuple):
    """What a run has come to: `points` of all are finished, and how they ended is in `counts`, by part and status; of
    `begun` chunks there are checkpoints.

    Without a `study` there is no report: nothing was finished, or a shard leaves it to others. `failures` are the
    errors of chunks that failed every time. A run that was finished already is left `as_it_was`.
    """

    points: int
    of: int
    interrupted: bool = False
    failures: dict[str, str] = {}
    study: StudyReport | None = None
    tables: list[TextTable] = []
    counts: dict[str, dict[str, int]] = {}
    as_it_was: bool = False
    begun: int = 0

    @property
    def complete(self) -> bool:
        """Whether no point is missing."""
        return self.points == self.of


def run(spec: Spec, jobs: dict[str, list[Job]], target: Path, how: How, notify: Callable[[str], None]) -> Ended:
    """Run what is missing in `target`, and write the results and a report of all that is finished."""
    processes, devices = cluster.size(how.workers, how.scheduler)
    processes = max(processes, how.shard[1] if how.shard else 1)
    header = rundir.header_of(spec, jobs, chunking(jobs, processes, devices))
    with rundir.opened(target, header, how.shard, how.force) as directory:
        for notice in directory.notices:
            notify(notice)
        if directory.is_merged:
            notify(f"all points are finished: nothing is run again in {target}; --force would")
            return _merged(spec, sweeps(jobs), directory)
        interrupted = _fill(spec, jobs, directory, how)
        if how.shard is None:
            return _finish(spec, jobs, directory, interrupted)
        if interrupted:
            return _state(jobs, directory)._replace(interrupted=True)
    return _merge_shards(spec, jobs, target, header, directory)


def _fill(spec: Spec, jobs: dict[str, list[Job]], directory: rundir.RunDirectory, how: How) -> bool:
    """Run the chunks that are missing and keep them; returns whether that was interrupted."""
    mine = share(itertools.chain(*jobs.values()), directory.chunking, how.shard)
    tasks = missing(mine, directory.store)
    try:
        with progress.shown_progress(spec.name) as on_progress:
            meter = meter_of(mine, tasks, on_progress)
            directory.show(meter)
            with cluster.executor(spec, directory, how) as execute:
                keep(directory, provenance(spec, ""), execute(tasks, meter))
    except KeyboardInterrupt:
        heard()
        return True
    return False


def _finish(spec: Spec, jobs: dict[str, list[Job]], directory: rundir.RunDirectory, interrupted: bool) -> Ended:
    """Merge what is finished, and report it."""
    ended = _state(jobs, directory)._replace(interrupted=interrupted)
    if not ended.points:
        return ended
    with kept(directory), output_directory(directory.target) as place:
        directory.lock.check()
        seconds = merge(spec, jobs, directory.chunking, directory.store, place / "results.nc")
        with opened(place / "results.nc") as results:
            for part, data in results.datasets.items():
                data.attrs["seconds"] = seconds[part]
            grids = sweeps(jobs)
            study = report.write(spec, grids, results, study_of(spec, grids, results), place, ended.failures)
            ended = _reported(ended, results, study)
        directory.lock.check()
    if ended.complete:
        directory.close()
    return ended


def _state(jobs: dict[str, list[Job]], directory: rundir.RunDirectory) -> Ended:
    """How far a run is."""
    whole = share(itertools.chain(*jobs.values()), directory.chunking)
    unfinished = missing(whole, directory.store)
    of, left = (sum(task.points for task in tasks) for tasks in (whole, unfinished))
    stems = {key.stem for task in unfinished for key in task.chunks}
    found = directory.store.failures().items()
    failures = {stem: printable(failure["error"], 200) for stem, failure in found if stem in stems}
    return Ended(of - left, of, failures=failures, begun=directory.store.begun())


def _reported(ended: Ended, results: Results, study: StudyReport) -> Ended:
    tables, failed = [], dict(study.failed)
    if not study.verdicts:  # a study says itself what matters
        with attempt("the table", failed):
            tables = final_tables(results)
    study = replace(study, failed=failed)
    counts = {part: status_counts(data) for part, data in results.datasets.items()}
    return ended._replace(study=study, tables=tables, counts=counts)


def _merged(spec: Spec, grids: dict[str, Sweep], directory: rundir.RunDirectory) -> Ended:
    """What a finished run has come to; a report that was removed is written again."""
    directory.close()
    target, whole = directory.target, report.is_whole(directory.target)
    with opened(target / "results.nc") as results:
        points = sum(data["status"].size for data in results.datasets.values())
        ended = Ended(points, points, as_it_was=whole)
        study = study_of(spec, grids, results)
        if whole:
            return _reported(ended, results, study)
        with output_directory(target) as place:
            return _reported(ended, results, report.write(spec, grids, results, study, place))


def _merge_shards(
    spec: Spec, jobs: dict[str, list[Job]], target: Path, header: dict, directory: rundir.RunDirectory
) -> Ended:
    """The last shard to finish merges; it tries for a while, since others may only just be letting go."""
    if (found := identity_in(target / "results.nc")) is not None and found[1]:  # another was faster
        with rundir.opened(target, header) as whole:
            return _merged(spec, sweeps(jobs), whole)
    directory.store.scan()
    ended = _state(jobs, directory)
    unfinished = missing(share(itertools.chain(*jobs.values()), directory.chunking), directory.store)
    left = [key.stem for task in unfinished for key in task.chunks]
    until = time.monotonic() + MERGE_PATIENCE
    while set(left) <= set(ended.failures) and time.monotonic() < until:
        try:
            with rundir.opened(target, header) as whole:
                return _merged(spec, sweeps(jobs), whole) if whole.is_merged else _finish(spec, jobs, whole, False)
        except InUse:
            time.sleep(1)
    return ended
