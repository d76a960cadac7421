"""The directory of a run: what it holds until the run is finished, and who may go on with it.

`DIR/chunks` has the finished chunks, the lock, and run.json, which says what run this is. When all is merged it goes.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dynamics.errors import PlasticodeError, printable, shown, visible
from experiments.machine import files
from experiments.machine.lock import Lock, locked
from experiments.machine.progress import Meter
from experiments.machine.reading import (
    is_count,
    is_run,
    number_attribute,
    opened_hdf5,
    parse_json,
    read_json,
    text_attribute,
)
from experiments.points.jobs import Chunking, Job
from experiments.points.weights import KEY, START
from experiments.results import ownership
from experiments.results.labels import FORMAT, other_format, versions
from experiments.results.netcdf import check_output, told
from experiments.results.ownership import identity_in
from experiments.spec.spec import Spec, dump_toml
from experiments.spec.toml_text import parse_toml
from experiments.storage.chunks import ChunkStore, is_of_store

CHUNKS, HEADER, LOCK = "chunks", "run.json", "lock"
RECORDING = "fit.data"  # whose files are no task's
RUN, FIT, DESIGN = "run", "fit", "design"  # what may go on in a directory
HELD = {RUN: ownership.RUN[0], FIT: ownership.FITTED[0], DESIGN: ownership.DESIGNED[0]}  # and what it leaves
_LOCKS = re.compile(r"lock(-\d+-of-\d+)?|\.lock(-\d+-of-\d+)?\.[0-9a-f]+")
_LOCK_BEGINS = b'{"host"'
ATTEMPTS = 10  # to take the lock of a directory that comes and goes


@dataclass
class RunDirectory:
    """A run that may go on in a directory, its lock being held.

    Where `is_merged`, results.nc is there, and whole. `notices` are for the user.
    """

    target: Path
    store: ChunkStore
    chunking: Chunking
    lock: Lock
    is_merged: bool
    notices: list[str] = field(default_factory=list)

    def show(self, meter: Meter) -> None:
        """Let other processes see how far the run is."""
        self.lock.tell = lambda: {"progress": meter.now._asdict()}
        self.lock.beat()

    def close(self) -> None:
        """All is merged: remove what was kept to go on."""
        _clear(self.store.directory, self.lock)


def header_of(spec: Spec, jobs: dict[str, list[Job]], chunking: Chunking) -> dict[str, Any]:
    """What run.json says. `run` is all that may change a number, besides the devices: the spec, versions, the code of a
    user's own, and data that come from files."""
    members = [job for jobs_of_part in jobs.values() for job in jobs_of_part]
    code = code_of(set().union(*(job.plan.spec.modules for job in members)))
    data = data_of(members)
    jobs_of = {job.stem: (job.group.size, len(job.chunks(chunking))) for job in members}
    return header(spec.name, spec.hash(), dump_toml(spec), code, data, chunking, jobs_of)


def header(
    name: str,
    spec_hash: str,
    spec: str,
    code: dict[str, str],
    data: dict[str, str],
    chunking: Chunking,
    jobs: dict[str, tuple[int, int]],
    kind: str = RUN,
) -> dict[str, Any]:
    """A header; `jobs` are points and chunks by the beginnings of their files' names; `kind` is "run", "fit", or
    "design"."""
    run = {"format": FORMAT, "spec_hash": spec_hash, "spec": spec, "versions": versions(), "code": code}
    return {
        "run": run | ({"data": data} if data else {}) | ({"kind": kind} if kind != RUN else {}),
        "chunking": list(chunking),
        "name": name,
        "place": os.getcwd(),
        "command": ["plasticode", *_without_shard(sys.argv[1:])],  # what goes on with all that is left
        "points": sum(points for points, _ in jobs.values()),
        "jobs": {stem: list(counts) for stem, counts in jobs.items()},
    }


def _without_shard(arguments: list[str]) -> list[str]:
    """The arguments of a command without --shard I/N or --shard=I/N."""
    pairs = zip(["", *arguments], arguments, strict=False)
    return [item for before, item in pairs if before != "--shard" and item.partition("=")[0] != "--shard"]


def code_of(modules: Iterable[str]) -> dict[str, str]:
    """Checksums of the files of modules that were imported, by name."""
    code = {}
    for name in sorted(modules):
        with contextlib.suppress(OSError):  # a module without a file, as in an interactive session
            source = Path(getattr(sys.modules.get(name), "__file__", None) or "").read_bytes()
            code[name] = hashlib.sha256(source).hexdigest()
    return code


def data_of(jobs: list[Job]) -> dict[str, str]:
    """Checksums of the data that come from files, by the name of their task, and of weights that do."""
    sums: dict[str, Any] = {}
    phases = ((spec.task, job, number) for job in jobs for number, spec in enumerate(job.plan.spec.stages()))
    tasks = {task.model_dump_json(): (task, job, number) for task, job, number in phases if task.from_files}
    for task, job, number in tasks.values():
        known = sums.setdefault(task.name, hashlib.sha256())
        for name, array in job.stages[number].data.items():
            if not name.startswith(START):
                add_array(known, name, array, f" {job.classes}")
    for job in jobs:
        for name, array in job.data.items():
            if name.startswith(START):
                add_array(sums.setdefault(KEY, hashlib.sha256()), name, array)
    return {name: known.hexdigest() for name, known in sums.items()}


def add_array(known: Any, name: str, array: np.ndarray, more: str = "") -> None:
    """Make the checksum that of this array too, of its name, and of what is said `more` of it."""
    known.update(f"{name} {array.shape} {array.dtype}{more}".encode())
    known.update(np.ascontiguousarray(array).data)


@contextlib.contextmanager
def opened(
    target: Path, header: dict[str, Any], shard: tuple[int, int] | None = None, force: bool = False
) -> Iterator[RunDirectory]:
    """Go on with the run in `target`, or start the one of `header` there.

    What another run has left is refused, unless `force` removes it; so is a directory in use.
    """
    directory = target / CHUNKS
    check_output(target)
    _refuse_foreign(target)
    if "kind" not in header["run"]:  # fits and designs have refused others' sooner
        refuse_held(target, FIT, DESIGN)
    made = [path for path in (target, *target.parents) if not path.exists()]
    shards = f"{LOCK}-[0-9]*-of-[0-9]*"
    name, conflicts = (LOCK, shards) if shard is None else (f"{LOCK}-{shard[0]}-of-{shard[1]}", LOCK)
    try:
        with contextlib.ExitStack() as stack:
            with told(target):
                lock = _lock(stack, directory / name, conflicts)
                stack.callback(_leave, directory, name)
                run = _open(target, header, lock, force)
            if shard is None:  # what a run left that was killed while it wrote its report
                ownership.remove_leftovers(target.absolute(), alone=True)
            yield run
    finally:
        with contextlib.suppress(OSError):
            directory.rmdir()
        with contextlib.suppress(OSError):  # as far as they are empty: `made/../DIR` needs what is made on its way
            for path in made:
                path.rmdir()


def _lock(stack: contextlib.ExitStack, path: Path, conflicts: str) -> Lock:
    """The lock, in a directory that another run, which has just ended, may remove at the same moment."""
    for _ in range(ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return stack.enter_context(locked(path, conflicts))
    return stack.enter_context(locked(path, conflicts))


def _open(target: Path, header: dict[str, Any], lock: Lock, force: bool) -> RunDirectory:
    directory, results = target / CHUNKS, target / "results.nc"
    if force:
        _clear(directory, lock)
        if ownership.foreign(target, ["results.nc"]):  # of unknown origin
            ownership.claim(target, ["results.nc"])
    started = read_header(directory)
    merged = identity_in(results) if started is None and not force else None
    merged = merged if merged and is_run(merged[0]) else None
    there = started["run"] if started else merged[0] if merged else _run_of_chunks(directory)
    other = _difference(there, header["run"]) if there else ""
    if not there and results.exists() and not force:
        other = "a results.nc of unknown origin"
    if other:
        raise PlasticodeError(f"the output '{target}' holds {other}: choose another --out, or --force to start anew")
    is_merged = merged is not None and merged[1]
    if started is None and not is_merged:
        header = _started(directory, header)
    elif started is not None:
        header = started
    kept = {key: header[key] for key in ("run", "chunking")}
    store = ChunkStore(directory, json.dumps(kept, sort_keys=True))
    rejected = [] if is_merged else store.scan()
    notices = []
    if rejected:
        first = visible(rejected[0])
        notices = [f"{len(rejected)} of the chunk files were cut, changed or foreign, and are made anew: {first}"]
    return RunDirectory(target, store, Chunking(*header["chunking"]), lock, is_merged, notices)


def refuse_held(target: Path, *kinds: str) -> None:
    """Refuse a directory that holds what commands of other kinds have written, whose page and summary this one would
    replace."""
    for kind in kinds:
        if (target / HELD[kind]).exists():
            raise PlasticodeError(f"the output '{target}' holds '{HELD[kind]}' of a {kind}: choose another --out")


def _refuse_foreign(target: Path) -> None:
    """Refuse a directory where this run would overwrite what no run made."""
    found = ownership.foreign(target, ownership.RUN)
    directory = target / CHUNKS
    if os.path.lexists(directory) and not ownership.is_directory(directory):
        ownership.refuse_these(target, [*found, CHUNKS])
    found += [f"{CHUNKS}/{path.name}" for path in _foreign_files(directory)]
    if found != ["results.nc"] or not ownership.is_file(target / "results.nc"):  # of which `_open` has more to say
        ownership.refuse_these(target, found)


def _foreign_files(directory: Path) -> list[Path]:
    """In a directory of chunks, a header and locks that no run made, though a run would replace them."""
    names = os.listdir(directory) if directory.is_dir() else []
    found = [directory / name for name in names if _LOCKS.fullmatch(name) and not _may_be_lock(directory / name)]
    header = directory / HEADER
    known = ownership.is_file(header) and (read_header(directory) is not None or any(map(is_of_store, names)))
    return found + ([header] if not known and os.path.lexists(header) else [])


def _may_be_lock(path: Path) -> bool:
    """Whether a file begins like a lock; one that was cut when its owner died may be empty."""
    if not ownership.is_file(path):
        return not os.path.lexists(path)  # it has just been let go
    with contextlib.suppress(OSError), path.open("rb") as file:
        begin = file.read(len(_LOCK_BEGINS))
        return _LOCK_BEGINS.startswith(begin)
    return True


def _clear(directory: Path, lock: Lock) -> None:
    """Remove all that a run has left here, and nothing else; its header first: chunks without it are leftovers."""
    lock.check()
    (directory / HEADER).unlink(missing_ok=True)
    for path in directory.iterdir():
        if path != lock.path and _is_of_run(path.name) and ownership.is_file(path):
            path.unlink(missing_ok=True)


def _is_of_run(name: str) -> bool:
    """Whether a run gives such names to what it keeps to go on."""
    return name == HEADER or name.startswith(f".{HEADER}.") or is_of_store(name) or bool(_LOCKS.fullmatch(name))


def _leave(directory: Path, name: str) -> None:
    """Where nothing was finished there is nothing to go on with."""
    with contextlib.suppress(OSError):  # it may have been removed
        if not [path for path in directory.iterdir() if _is_of_run(path.name) and path.name not in (name, HEADER)]:
            (directory / HEADER).unlink(missing_ok=True)


def read_header(directory: Path) -> dict[str, Any] | None:
    """What run a directory of chunks belongs to, see `header_of`; None where that is absent or makes no sense."""
    try:
        found = read_json(directory / HEADER, inside=directory.parent)
        whole = is_run(found["run"]) and all(found["run"].get(key) for key in ("spec_hash", "spec", "versions"))
        whole = whole and set(found["run"]) <= {"format", "spec_hash", "spec", "versions", "code", "data", "kind"}
        least, most, work = found["chunking"]
        whole = whole and all(map(is_count, (least, most, work, found["points"]))) and 0 < least <= most and work > 0
        whole = whole and isinstance(found["jobs"], dict)
        for points, chunks in found["jobs"].values():
            whole = whole and is_count(points) and is_count(chunks) and 0 < chunks <= points
        whole = whole and 0 < found["points"] == sum(points for points, _ in found["jobs"].values())
        # `status` shows it to be copied: it may not be another program.
        whole = whole and isinstance(found["command"], list) and found["command"][:1] == ["plasticode"]
        whole = whole and all(type(text) is str for text in (found["name"], found["place"], *found["command"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if whole else None


def _run_of_chunks(directory: Path) -> dict[str, Any] | None:
    """The spec of chunks whose header was lost."""
    for path in sorted(directory.glob("*.nc")):
        with contextlib.suppress(Exception), opened_hdf5(path, directory) as file:  # it may be anybody's
            run: dict[str, Any] = {key: text_attribute(file, key) for key in ("spec", "spec_hash", "versions")}
            run["versions"] = parse_json(run["versions"])
            if "format" in file.attrs:
                run["format"] = number_attribute(file, "format")
            if is_run(run):
                return run
    return None


def _started(directory: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Write the header, or read that of another shard which was faster: there must be one way to cut the chunks."""
    with files.temporary(directory / f".{HEADER}.{files.writer()}") as partial:
        partial.write_text(json.dumps(header), encoding="utf-8")
        files.flush(partial)
        if read_header(directory) is None:
            (directory / HEADER).unlink(missing_ok=True)
        try:
            os.link(partial, directory / HEADER)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            partial.replace(directory / HEADER)
    found = read_header(directory)
    if found is None or _difference(found["run"], header["run"]):
        raise PlasticodeError(f"the output '{directory.parent}' has just been taken by another run")
    return found


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What another run is, if it is another."""
    if other := other_format(there.get("format"), there.get("versions", {})):
        return other
    kinds = [printable(str(run.get("kind", RUN))) for run in (there, here)]
    if kinds[0] != kinds[1]:
        return f"a {kinds[0]}, and this is a {kinds[1]}"
    if there.get("spec_hash") != here["spec_hash"]:
        hashes = [printable(str(run.get("spec_hash"))[:8]) for run in (there, here)]
        change = _first_change(there, here)
        return f"results of another spec ({change}; its hash is {hashes[0]}, that of this one {hashes[1]})"
    old, new = there.get("versions", {}), here["versions"]
    for package in [*new, *old]:
        if old.get(package) != new.get(package):
            other = printable(str(old.get(package)))
            return f"results of {printable(package)} {other}, and here is {new.get(package)}"
    if there.get("code", here["code"]) != here["code"]:
        return f"results of other code in {', '.join(here['code'])}"
    if there.get("data") and there["data"] != here.get("data"):
        changed = [name for name, known in here.get("data", {}).items() if there["data"].get(name) != known]
        files_of = " and ".join(name if name in (KEY, RECORDING) else f"the task '{name}'" for name in changed)
        return f"results of other data: the files of {files_of} have changed"
    return ""


def _first_change(there: dict[str, Any], here: dict[str, Any]) -> str:
    try:
        old, new = (_flat(parse_toml(run["spec"])) for run in (there, here))
    except (KeyError, TypeError, ValueError):
        return "it cannot be read"
    for path in [*new, *old]:
        if old.get(path) != new.get(path) and path not in ("name", "description"):
            return f"{printable(path)} is {_value(old, path)} there, {_value(new, path)} here"
    return "the order of the sweep"


def _value(table: dict[str, Any], path: str) -> str:
    return shown(table[path]) if path in table else "absent"


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted path."""
    found = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
