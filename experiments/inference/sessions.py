"""What the commands `fit` and `design` do: a spec read with its settings, the result in a directory."""

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dynamics.errors import PlasticodeError, refused
from experiments.execution import cluster, runner
from experiments.execution.keeping import How, missing, share
from experiments.inference import writing
from experiments.inference.design import Designer, Plans
from experiments.inference.fitting import Prepared
from experiments.inference.initial import FREE
from experiments.inference.searching import Search, Searcher, Seeker, chunking_of, chunks_of, meter_of
from experiments.inference.simulation import recorded
from experiments.inference.table import Fit, read_fit
from experiments.machine.progress import Meter, OnProgress
from experiments.points.jobs import group_stem
from experiments.results import ownership
from experiments.results.ownership import RECORDED
from experiments.results.text_tables import TextTable
from experiments.spec.loading import load_spec
from experiments.spec.spec import Spec
from experiments.spec.toml_text import parse_setting
from experiments.storage import rundir
from experiments.storage.chunks import ChunkStore

IN_DOUBLE = {"dtype": "float64"}  # as everything here is computed


class Told(NamedTuple):
    """What a command prints, and whether all that was asked for is known."""

    tables: list[TextTable]
    sentences: list[str]
    ok: bool


def loaded(source: str, sets: Sequence[str], quick: bool, seed: int | None) -> Spec:
    """A spec, with settings of its own and of its table [fit], such as "fit.starts=8"."""
    of_fit = [text for text in sets if text.strip().startswith("fit.")]
    spec = load_spec(source, [text for text in sets if text not in of_fit], quick, seed)
    table: dict[str, Any] = dict(spec.fit)
    for text in of_fit:
        path, value = parse_setting(text)
        table = _assigned(table, path.split(".")[1:], value, path)
    return spec.model_copy(update={"fit": table})


def _assigned(table: Any, keys: Sequence[str], value: Any, path: str) -> Any:
    """The table with a value at nested keys, numbers those of lists."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(table, list):
        if not key.isdigit() or int(key) >= len(table):
            raise refused(path, value, f"{key} must be a number from 0 to {len(table) - 1}")
        return [_assigned(one, rest, value, path) if i == int(key) else one for i, one in enumerate(table)]
    if not isinstance(table, dict):
        raise PlasticodeError(f"spec path '{path}' is not known: nothing comes after a number")
    flat = ".".join(keys)
    if flat in table:  # a quoted path is one key
        return table | {flat: value}
    return table | {key: _assigned(table.get(key, {} if rest else None), rest, value, path)}


def fit_into(
    spec: Spec,
    data: Path | None,
    synthetic: bool,
    target: Path,
    how: How,
    on_progress: OnProgress,
    notify: Callable[[str], None],
) -> Told:
    """Fit a spec to a recording, or to one that it simulates, and write what was found. Starts are kept in `target` as
    they end, and how far others are: the same fit goes on from there."""
    table = read_fit(spec)
    source = data or table.data
    keeps = synthetic or (source is not None and ownership.is_own(target, source, RECORDED))
    ownership.refuse(target, writing.written(keeps))  # sooner than after the fit
    rundir.refuse_held(target, rundir.DESIGN)  # of a run the directory knows more
    recording, truth = recorded(spec, table, data, synthetic, spec.seed)
    prepared, double = Prepared(spec, table, recording, spec.seed, truth), spec.model_copy(update=IN_DOUBLE)
    contest = prepared.contest  # what is wrong with a rule is told before the fit
    with rundir.opened(target, _header(prepared, how), None, how.force) as directory:
        for notice in directory.notices:
            notify(notice)
        for why in prepared.blind():  # before hours of work
            notify(f"at the middle of the ranges the data stay the same when {why}: fewer of these numbers can be free")
        with cluster.executor(double, directory, how, Searcher, searcher, prepared.packed) as execute:
            seek = Seeker(_meter(prepared, directory, on_progress), directory.chunking, execute, directory)
            found = prepared.fitted(seek)
            which = None if contest is None else contest.compared(seek)
        writing.write(found, which, prepared, keeps, target)
        directory.close()
    tables, told, ok = [writing.table_of(found)], [*found.sentences, *found.notes], found.ok
    if which is not None:
        tables, told, ok = [*tables, writing.table_of_rules(which)], [*told, *which.sentences], ok and which.ok
    return Told(tables, told, ok)


def _header(prepared: Prepared, how: How) -> dict[str, Any]:
    """What fit it is: the spec with its table [fit], and all arrays that it reads."""
    searches = _searches(prepared)
    chunking = chunking_of(max(searches.values()), cluster.size(how.workers, how.scheduler)[0])
    known = _hash(prepared.spec, prepared.table, set() if prepared.contest else {"folds"})
    start = {f"start {name}": values for name, values in prepared.recording.start.items()}
    arrays = prepared.made.data | prepared.recording.seen | start
    jobs = {group_stem(part, 0): (size, len(chunks_of(part, size, chunking))) for part, size in searches.items()}
    resolved, code = writing.resolved_fit(prepared), rundir.code_of(prepared.made.plan.spec.modules)
    data = {rundir.RECORDING: _checksum(arrays)}
    return rundir.header(prepared.spec.name, known, resolved, code, data, chunking, jobs, rundir.FIT)


def _header_of_design(plans: Plans, how: How) -> dict[str, Any]:
    """What design it is."""
    chunking = plans.chunking(cluster.size(how.workers, how.scheduler)[0])
    code, data = rundir.code_of(plans.modules), rundir.data_of(plans.grid.jobs)
    resolved, known = writing.resolved(plans.spec, plans.table), _hash(plans.spec, plans.table, set())
    jobs = {work.stem: (len(work.points), len(work.chunks(chunking))) for work in plans.works}
    return rundir.header(plans.spec.name, known, resolved, code, data, chunking, jobs, rundir.DESIGN)


def _hash(spec: Spec, table: Fit, unused: set[str]) -> str:
    """Of a spec and its table [fit], but for what is unused of that."""
    known = hashlib.sha256(spec.hash().encode())
    known.update(json.dumps(table.model_dump(mode="json", exclude=unused), sort_keys=True).encode())
    return known.hexdigest()


def _checksum(arrays: Mapping[str, Any]) -> str:
    known = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        rundir.add_array(known, name, np.asarray(array))
    return known.hexdigest()


def _searches(prepared: Prepared) -> dict[str, int]:
    """All searches of a fit and of a comparison of rules, and how many starts each has."""
    every = prepared.searches | (prepared.contest.searches if prepared.contest else {})
    return {part: size for part, size in every.items() if size}


def _meter(prepared: Prepared, directory: rundir.RunDirectory, on_progress: OnProgress) -> Meter:
    """Of all starts of all searches, of which some are finished."""
    searches, finished = _searches(prepared), {}
    for part, size in searches.items():
        chunks = chunks_of(part, size, directory.chunking)
        finished[part] = sum(len(points) for key, points in chunks.items() if key in directory.store)
    meter = meter_of(searches, on_progress, finished)
    directory.show(meter)
    return meter


def searcher(request: cluster.Request, size: int, store: ChunkStore | None) -> Searcher:
    """On a worker: what runs chunks of a search."""
    prepared, part, start, held = pickle.loads(request.packed)
    return Searcher(Search(part, Prepared.unpacked(prepared).way(part), start, held), size, store)


def check_into(spec: Spec, data: Path | None, synthetic: bool) -> Told:
    """Look whether a recording, or the one that the spec simulates, has the layout that a spec asks for, and whether
    all rules that are to be compared can be asked about it, without a fit; what it has."""
    table = read_fit(spec)
    recording, truth = recorded(spec, table, data, synthetic, spec.seed)
    prepared = Prepared(spec, table, recording, spec.seed, truth)
    rows = [
        [one.name, one.of, one.noise, str(recording.seen[one.name].shape[1]), f"{100 * seen:.3g} %"]
        for one in table.observe
        for seen in [1 - np.isnan(recording.seen[one.name]).mean()]
    ]
    header = ["variable", "of", "noise", "data per presentation", "recorded"]
    what = "simulated recording" if synthetic else "recording"
    told = [f"The {what} has {recording.presentations} presentations, in the layout that the spec asks for."]
    if prepared.contest is not None:
        names = ", ".join(one.name for one in prepared.contest.rules)
        told.append(f"It can be asked which of the rules {names} explains it, in {table.folds} folds.")
    return Told([TextTable(f"the {what}", header, rows, "")], [*told, *prepared.unsaid], True)


def design_into(spec: Spec, target: Path, how: How, on_progress: OnProgress, notify: Callable[[str], None]) -> Told:
    """Compute what the protocols of a sweep would tell, and write it. Chunks of them are kept in `target`: the same
    design goes on from there."""
    ownership.refuse(target, ownership.DESIGNED)
    rundir.refuse_held(target, rundir.RUN, rundir.FIT)
    plans, double = Plans(spec, read_fit(spec)), spec.model_copy(update=IN_DOUBLE)
    with rundir.opened(target, _header_of_design(plans, how), None, how.force) as directory:
        for notice in directory.notices:
            notify(notice)
        tasks = share(plans.works, directory.chunking)
        meter = runner.meter_of(tasks, missing(tasks, directory.store), on_progress)
        directory.show(meter)
        with cluster.executor(double, directory, how, Designer, designer, lambda _: plans.packed()) as execute:
            found = plans.found(Seeker(meter, directory.chunking, execute, directory))
        writing.write_design(found, plans, target)
        directory.close()
    known = ["Initial weights were taken for known: with fit.initial_weights = 'free' errors are larger."]
    told = [*writing.best_sentences(found), *(known if plans.table.initial_weights == FREE else [])]
    return Told([writing.design_table(found)], told, True)


def designer(request: cluster.Request, size: int, store: ChunkStore | None) -> Designer:
    """On a worker: what runs chunks of protocols."""
    return Designer(Plans.unpacked(request.packed).works[request.number], size, store)
