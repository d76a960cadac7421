"""Runs what is missing of a run in its directory, here or elsewhere, and keeps each chunk as it is finished."""

import contextlib
import itertools
import re
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dynamics.errors import PlasticodeError, printable, reason, refused
from experiments.execution.runner import Assignment, Outcome, Work
from experiments.points.jobs import Chunking
from experiments.storage.chunks import ChunkStore
from experiments.storage.rundir import RunDirectory


class How(NamedTuple):
    """How a run is spread: over `workers` processes here, over those of the dask `scheduler`, or as shard (i, n)."""

    workers: int | None = None
    scheduler: str | None = None
    shard: tuple[int, int] | None = None
    force: bool = False


def how_to_run(workers: int | None, scheduler: str | None, shard: str | None, force: bool) -> How:
    """The options of the command line, as far as they go together."""
    if workers is not None and workers < 1:
        raise refused("--workers", workers, "it must be the number of processes, at least 1")
    given = {"--workers": workers, "--scheduler": scheduler, "--shard": shard}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise PlasticodeError(f"{' and '.join(named)} are not allowed together: each says where the chunks run")
    if shard is None:
        return How(workers, scheduler, None, force)
    if force:
        raise PlasticodeError("--force is not allowed with --shard, where it would remove what other shards have done")
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise PlasticodeError(f"--shard = '{printable(shard)}' is not allowed: it must be I/N, from 1/N to N/N")
    return How(shard=(int(match[1]), int(match[2])))


def share(jobs: Iterable[Work], chunking: Chunking, shard: tuple[int, int] | None = None) -> list[Assignment]:
    """All chunks; of a shard (i, n) every n-th one, beginning with the i-th."""
    tasks, count = [], 0
    for job in jobs:
        chunks = job.chunks(chunking)
        numbers = range(count, count + len(chunks))
        count += len(chunks)
        mine = [shard is None or number % shard[1] == shard[0] - 1 for number in numbers]
        tasks.append(Assignment(job, dict(itertools.compress(chunks.items(), mine))))
    return [task for task in tasks if task.chunks]


def missing(tasks: list[Assignment], store: ChunkStore) -> list[Assignment]:
    """The chunks that are not finished."""
    left = [Assignment(job, {key: at for key, at in chunks.items() if key not in store}) for job, chunks in tasks]
    return [task for task in left if task.chunks]


def keep(directory: RunDirectory, labels: Mapping[str, Any], outcomes: Iterable[Outcome]) -> None:
    """Keep what becomes of chunks, as soon as each has ended; its file has the `labels`."""
    store = directory.store
    for key, points, record, seconds, device, error in outcomes:
        directory.lock.check()
        with kept(directory):
            if record is not None:
                store.write(key, points, record, {**labels, "device": device, "seconds": seconds})
            elif error is not None:
                text = "".join(traceback.format_exception(error))
                store.write_failure(key, len(points), _sentence(error), text)


def _sentence(error: BaseException) -> str:
    """The first line of an error, if that is not too long."""
    return textwrap.shorten(f"{type(error).__name__}: {error}".splitlines()[0], 200, placeholder="...")


@contextlib.contextmanager
def kept(directory: RunDirectory) -> Iterator[None]:
    """The system's refusal to write, as a sentence that says what is not lost."""
    try:
        yield
    except OSError as error:
        finished = sum(path.exists() for path in directory.store.files.values())
        raise PlasticodeError(
            f"the output '{directory.target}' cannot be written ({reason(error)}): "
            f"{finished} finished chunks are kept, and the same command goes on from there"
        ) from None
