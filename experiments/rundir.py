"""The directory of a run: what it holds until the run is finished, and who may go on with it.

`DIR/chunks` has the finished chunks, the lock, and run.json, which says what run this is. When all is merged it goes.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamics.errors import PlasticodeError
from experiments.chunks import ChunkStore
from experiments.jobs import Chunking, Job
from experiments.labels import versions
from experiments.lock import Lock, locked
from experiments.merge import identity_in
from experiments.spec import Spec, dump_toml
from experiments.store import check_output, told
from experiments.units import shown

CHUNKS, HEADER, LOCK = "chunks", "run.json", "lock"
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

    def close(self) -> None:
        """All is merged: remove what was kept to go on."""
        directory = self.store.directory
        (directory / HEADER).unlink(missing_ok=True)  # first: chunks without it are leftovers
        for path in directory.iterdir():
            if path != self.lock.path:
                path.unlink(missing_ok=True)


def header_of(spec: Spec, jobs: dict[str, list[Job]], chunking: Chunking) -> dict[str, Any]:
    """What run.json says. `run` is all that may change a number, besides the devices: the spec, versions, the code of a
    user's own rules."""
    members = [job for jobs_of_part in jobs.values() for job in jobs_of_part]
    code = {}
    for name in sorted({job.plan.spec.rule.name for job in members if ":" in job.plan.spec.rule.name}):
        with contextlib.suppress(OSError, TypeError):  # a module without a file, as in an interactive session
            source = Path(sys.modules[name.partition(":")[0]].__file__ or "").read_bytes()
            code[name] = hashlib.sha256(source).hexdigest()
    return {
        "run": {"spec_hash": spec.hash(), "spec": dump_toml(spec), "versions": versions(), "code": code},
        "chunking": list(chunking),
        "name": spec.name,
        "command": ["plasticode", *sys.argv[1:]],
        "points": sum(job.group.size for job in members),
        "jobs": {job.stem: [job.group.size, len(job.chunks(chunking))] for job in members},
    }


@contextlib.contextmanager
def opened(
    target: Path, header: dict[str, Any], shard: tuple[int, int] | None = None, force: bool = False
) -> Iterator[RunDirectory]:
    """Go on with the run in `target`, or start the one of `header` there.

    What another run has left is refused, unless `force` removes it; so is a directory in use.
    """
    directory = target / CHUNKS
    check_output(target)
    made = [path for path in (directory, *directory.parents) if not path.exists()]
    name, conflicts = (LOCK, f"{LOCK}-*") if shard is None else (f"{LOCK}-{shard[0]}-of-{shard[1]}", LOCK)
    try:
        with contextlib.ExitStack() as stack:
            with told(target):
                lock = _lock(stack, directory / name, conflicts)
                stack.callback(_leave, directory, name)
                run = _open(target, header, lock, force)
            if shard is None:  # what a run left that was killed while it wrote its report
                for path in target.glob(f".{target.name}.*.partial"):
                    shutil.rmtree(path, ignore_errors=True)
            yield run
    finally:
        for path in (directory, *made):  # those that are empty
            with contextlib.suppress(OSError):
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
    started = read_header(directory)
    merged = identity_in(results) if started is None else None
    if started is not None:
        other = _difference(started["run"], header["run"])
    elif merged is not None:
        other = _difference(merged[0], header["run"])
    else:
        other = "a results.nc of unknown origin" if results.exists() else ""
    if other and not force:
        raise PlasticodeError(f"the output '{target}' holds {other}: choose another --out, or --force to start anew")
    goes_on = started is not None and not other
    header = started if goes_on and started else header
    kept = {key: header[key] for key in ("run", "chunking")}
    store = ChunkStore(directory, json.dumps(kept, sort_keys=True))
    if other:
        store.clear()
    is_merged = merged is not None and merged[1] and not other
    if not goes_on and not is_merged:
        _write_header(directory, header)
    rejected = [] if is_merged else store.scan()
    notices = []
    if rejected:
        notices = [f"{len(rejected)} of the chunk files were cut, changed or foreign, and are made anew: {rejected[0]}"]
    return RunDirectory(target, store, Chunking(*header["chunking"]), lock, is_merged, notices)


def _leave(directory: Path, name: str) -> None:
    """Where nothing was finished there is nothing to go on with."""
    if not [path for path in directory.iterdir() if path.name not in (name, HEADER)]:
        (directory / HEADER).unlink(missing_ok=True)


def read_header(directory: Path) -> dict[str, Any] | None:
    """What run a directory of chunks belongs to: see `header_of`."""
    try:
        found = json.loads((directory / HEADER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"run", "chunking", "jobs"} <= set(found) else None


def _write_header(directory: Path, header: dict[str, Any]) -> None:
    partial = directory / f".{HEADER}.{os.getpid()}"
    partial.write_text(json.dumps(header), encoding="utf-8")
    partial.replace(directory / HEADER)


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """What another run is, if it is another."""
    if there.get("spec_hash") != here["spec_hash"]:
        hashes = [str(run.get("spec_hash"))[:8] for run in (there, here)]
        change = _first_change(there, here)
        return f"results of another spec ({change}; its hash is {hashes[0]}, that of this one {hashes[1]})"
    for package, version in here["versions"].items():
        if there.get("versions", {}).get(package) != version:
            return f"results of {package} {there.get('versions', {}).get(package)}, and here is {version}"
    if there.get("code") != here["code"]:
        return f"results of other code of the rule {', '.join(here['code'])}"
    return ""


def _first_change(there: dict[str, Any], here: dict[str, Any]) -> str:
    try:
        old, new = (_flat(tomllib.loads(run["spec"])) for run in (there, here))
    except (KeyError, TypeError, ValueError):
        return "it cannot be read"
    for path in [*new, *old]:
        if old.get(path) != new.get(path) and path not in ("name", "description"):
            return f"{path} is {_value(old, path)} there, {_value(new, path)} here"
    return "the order of the sweep"


def _value(table: dict[str, Any], path: str) -> str:
    return shown(table[path]) if path in table else "absent"


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted path."""
    found = {}
    for key, value in table.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
