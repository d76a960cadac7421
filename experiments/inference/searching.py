"""Searches for the best places of a fit: chunks of starts, which are run and kept as the points of a sweep are."""

import contextlib
import functools
import io
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from dynamics.errors import PlasticodeError
from dynamics.information import Scored
from experiments.execution.batches import batched
from experiments.execution.checkpoints import Keeper
from experiments.execution.keeping import keep, missing, share
from experiments.execution.runner import Assignment, Executor, Work, local
from experiments.inference.descending import Descent, descend
from experiments.inference.model import Model, Rows
from experiments.inference.recordings import Recording
from experiments.inference.scoring import End, Walk, advanced
from experiments.machine.compilation import for_products
from experiments.machine.progress import Meter, OnProgress
from experiments.points.jobs import Chunking, ChunkKey, group_stem
from experiments.spec.extents import HELD
from experiments.storage.chunks import ChunkStore, Record
from experiments.storage.rundir import RunDirectory

BATCH = 16  # places that one call of the program scores
TANGENTS = 512  # and so many slopes, at most
CHUNK = 64  # starts that take turns in the batch
MOST_TOLD = 0.9  # of the work of a start that has not ended
CHECKPOINT = "walk"


class Kind(NamedTuple):
    """What the starts of a kind of search are called, and about how many scores each takes, which is its work."""

    words: str
    scores: float


KINDS = {
    "starts": Kind("starts", 12.0),
    "best": Kind("best starts", 5.0),
    "profile": Kind("points of profiles", 5.0),
    "valleys": Kind("valleys at ends of intervals", 0.5),  # few ends need a search of their own
    "folds": Kind("fits without a fold", 5.0),
    "ends": Kind("ends of intervals", 1.0),
}


def kind_of(part: str) -> Kind:
    """Of a search of this name, such as "starts" or "rule0-folds"."""
    return KINDS[part.rpartition("-")[2]]


class Scorer:
    """Scores places, (batch, free), priors included: by one program, over all local devices."""

    def __init__(self, made: Model, program: "Scores", rows: Any):
        self.made, self.rows, self._program = made, rows, program
        self.batch = program.batch

    @property
    def coordinates(self) -> int:
        """How many numbers a place has."""
        return self.made.coordinates

    def prior(self, places: np.ndarray) -> Scored:
        """What the priors say of places."""
        return self.made.prior(places)

    def prepare(self) -> None:
        """Compile, unless that is done."""
        self._program.compiled(np.zeros((self.batch, self.coordinates)), self.rows, self.made.data)

    def __call__(self, places: np.ndarray) -> Scored:
        said = jax.tree.map(np.asarray, self._program(places, self.rows, self.made.data))
        return jax.tree.map(np.add, said, self.prior(places))

    def begun(self, start: np.ndarray, held: np.ndarray) -> Walk:
        """Starts before their first score."""
        return Walk.begun(start, held)

    def after(self, walk: Walk) -> Walk:
        """The walk after a score of a batch."""
        return advanced(walk, self, self.batch)


class Descender:
    """Moves starts, a batch of them in turn, down the slope of the likelihood; as a `Scorer` otherwise."""

    def __init__(self, made: Model, recording: Recording, starts: int):
        self.made, self.rows = made, rows_of(recording)
        devices = len(jax.local_devices())
        block = -(-min(BATCH, starts) // devices)
        self.batch = block * devices
        self._program = Program(batched(functools.partial(descend, made), 2, 2, block))

    def prepare(self) -> None:
        """Compile, unless that is done."""
        start = np.zeros((self.batch, self.made.coordinates))
        self._program.compiled(*self._arguments(self.begun(start, np.zeros(start.shape, bool))))

    def begun(self, start: np.ndarray, held: np.ndarray) -> Descent:
        """Starts before their first step."""
        return Descent.begun(start, held)

    def after(self, descent: Descent) -> Descent:
        """The descent after a step of the first starts that have not come to their end."""
        going = np.flatnonzero(~descent.done)[: self.batch]
        rows = np.concatenate([going, np.repeat(going[:1], self.batch - len(going))])
        moved = jax.device_get(self._program(*self._arguments(Descent(*(array[rows] for array in descent)))))
        after = Descent(*(array.copy() for array in descent))
        for array, new in zip(after, moved, strict=True):
            array[going] = new[: len(going)]
        return after

    def _arguments(self, descent: Descent) -> tuple:
        return descent, descent.scores.astype(np.int32), self.rows, self.made.data


class Program:
    """A function of jax that is compiled once, for arguments of one shape, whichever thread asks first."""

    def __init__(self, function: Any):
        self._function, self._lock, self._made = function, threading.Lock(), None

    def compiled(self, *arguments: Any) -> Any:
        """Compile, unless that is done."""
        with self._lock:
            if self._made is None:
                self._made = self._function.lower(*arguments).compile()
            return self._made

    def __call__(self, *arguments: Any) -> Any:
        return self.compiled(*arguments)(*arguments)


class Scores(Program):
    """`scored(place, rows, data)` of a model, for a `batch` of places at once: as many as starts, or what suits."""

    def __init__(self, scored: Callable[..., Scored], made: Model, starts: int):
        devices = len(jax.local_devices())
        most = max(min(BATCH, starts, TANGENTS // made.coordinates), 1)
        block = -(-most // devices)
        self.batch = block * devices
        super().__init__(batched(scored, 1, 2, block, options=for_products(made.plan.sizes)))


def rows_of(recording: Recording) -> Rows:
    """All presentations of a recording."""
    return Rows(np.arange(recording.presentations, dtype=np.int32), recording.seen)


class Search(NamedTuple):
    """Starts of a fit, (starts, free), of whose numbers those that are `held` stay: what is cut into chunks, as a job
    is."""

    part: str
    way: Any  # a Scorer, or a Descender
    start: np.ndarray
    held: np.ndarray

    @property
    def point_work(self) -> float:
        """Of a start."""
        return kind_of(self.part).scores

    @property
    def stem(self) -> str:
        """What the names of its chunks begin with."""
        return group_stem(self.part, 0)

    def chunks(self, chunking: Chunking) -> dict[ChunkKey, np.ndarray]:
        """The starts of every chunk."""
        return chunks_of(self.part, len(self.start), chunking)


def chunks_of(part: str, size: int, chunking: Chunking) -> dict[ChunkKey, np.ndarray]:
    """The starts of every chunk of a search of so many."""
    pieces = np.array_split(np.arange(size), -(-size // chunking.most))
    return {ChunkKey(part, 0, number): points for number, points in enumerate(pieces)}


def chunking_of(starts: int, processes: int) -> Chunking:
    """How starts are cut for so many processes: a batch each at least."""
    most = min(max(-(-starts // processes), BATCH), CHUNK)
    return Chunking(min(BATCH, most), most, int(max(kind.scores for kind in KINDS.values())))


class Searcher:
    """Runs chunks of a search; an interrupted one leaves a checkpoint in the store, and goes on from there."""

    def __init__(self, job: Search, size: int, store: ChunkStore | None = None, neighbours: int = 1):
        self.job, self.store, self.checkpoints = job, store, Keeper(store)

    def prepare(self) -> None:
        """Compile."""
        self.job.way.prepare()

    def run(self, key: ChunkKey, points: np.ndarray, meter: Meter) -> Record:
        """Where the starts of a chunk end."""
        walk = self._begun(key, points)
        told = self._tell(meter, walk, np.zeros(2))
        meter.begin()
        try:
            while not walk.done.all():
                walk = self.job.way.after(walk)
                told = self._tell(meter, walk, told)
                self.checkpoints.keep(key, CHECKPOINT, functools.partial(_frozen, walk))
        except KeyboardInterrupt:
            if walk.scores.any():
                self.checkpoints.keep(key, CHECKPOINT, functools.partial(_frozen, walk), now=True)
            raise
        return record_of(walk.ends())

    def _tell(self, meter: Meter, walk: Any, told: np.ndarray) -> np.ndarray:
        """Tell the work of a walk and how many of its starts have ended, beyond what was told before."""
        part = np.where(walk.done, 1, np.minimum(walk.scores / walk.usual(self.job.point_work), MOST_TOLD))
        now = np.array([self.job.point_work * part.sum(), walk.done.sum()])
        meter.advance(float(now[0] - told[0]), int(now[1] - told[1]))
        return now

    def _begun(self, key: ChunkKey, points: np.ndarray) -> Any:
        """The walk at the last checkpoint, or at its beginning."""
        walk = self.job.way.begun(self.job.start[points], self.job.held[points])
        saved = self.store.load_checkpoint(key, CHECKPOINT) if self.store is not None else None
        if saved is not None:
            with contextlib.suppress(Exception):  # whatever there is in a file whose checksum was made to fit
                with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
                    found = type(walk)(**arrays)
                if [a.shape for a in found] == [a.shape for a in walk] and np.array_equal(found.start, walk.start):
                    return found
        return walk


def _frozen(walk: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **walk._asdict())
    return buffer.getvalue()


def record_of(ends: list[End]) -> Record:
    """What a chunk keeps of its starts."""
    columns = {name: np.array(column) for name, column in zip(End._fields, zip(*ends, strict=True), strict=True)}
    single = {name: column[:, None] for name, column in columns.items() if column.ndim == 1}
    arrays = {name: column for name, column in columns.items() if column.ndim > 1 and column.size}
    return single | {"finite": np.isfinite(single["loss"]), HELD: arrays}


def ends_of(record: Record) -> list[End]:
    """The inverse of `record_of`; a descent knows nothing of the information."""
    single = {name: column[:, 0].tolist() for name, column in record.items() if name != HELD}
    columns = {"information": np.zeros((len(single["loss"]), 0, 0))} | single | record[HELD]
    return [End(*row) for row in zip(*(columns[name] for name in End._fields), strict=True)]


Seek = Callable[..., list[list[End]]]  # of searches the ends of all their starts, as a `Seeker` finds them


@dataclass
class Seeker:
    """Who goes on from all starts of searches, by `execute`: in this process or on workers; what is finished is kept in
    a `directory`, if there is one, and not done again."""

    meter: Meter
    chunking: Chunking
    execute: Executor = field(default=functools.partial(local, make=Searcher))
    directory: RunDirectory | None = None
    labels: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *searches: Search) -> list[list[End]]:
        """The ends of all starts of each of the searches, which share the processes."""
        chunks = [chunk for search in searches for chunk in search.chunks(self.chunking).items()]
        finished = [points for key, points in chunks if self.directory is not None and key in self.directory.store]
        sizes = [sum(map(len, of)) for of in ([points for _, points in chunks], finished)]
        self.meter.enter(kind_of(searches[0].part).words, *sizes)
        return [[end for record in found for end in ends_of(record)] for found in self.records(*searches)]

    def records(self, *works: Work) -> list[list[Record]]:
        """The records of all chunks of each of the works, in their order."""
        tasks = share(works, self.chunking)
        found = {}
        if self.directory is None:
            for outcome in self.execute(tasks, self.meter):
                if outcome.record is None:
                    raise outcome.error or RuntimeError(f"no record of chunk {outcome.key.stem}")
                found[outcome.key] = outcome.record
        else:
            found = self._kept(self.directory, tasks)
        return [[found[key] for key in work.chunks(self.chunking)] for work in works]

    def _kept(self, directory: RunDirectory, tasks: list[Assignment]) -> dict[ChunkKey, Record]:
        keep(directory, self.labels, self.execute(missing(tasks, directory.store), self.meter))
        failures = directory.store.failures()
        if left := [key.stem for task in missing(tasks, directory.store) for key in task.chunks]:
            why = failures.get(left[0], {}).get("error", "no reason is known")
            raise PlasticodeError(
                f"{len(left)} chunks failed every time, the first with {why}: the same command tries again"
            )
        return {key: directory.store.read(key)[1] for task in tasks for key in task.chunks}


def in_memory(searches: Mapping[str, int], on_progress: Callable[[int, int], None] | None) -> Seeker:
    """Who seeks in this process, given how many starts each of the searches has."""
    report = None if on_progress is None else lambda now: on_progress(round(now.done), round(now.total))
    return Seeker(meter_of(searches, report), chunking_of(max(searches.values()), 1))


def meter_of(searches: Mapping[str, int], report: OnProgress | None, finished: Mapping[str, int] = {}) -> Meter:
    """Of all starts of searches, given how many each has, and how many of them are `finished`."""
    return Meter(report, _work(searches), 0, (_work(finished), 0))


def _work(searches: Mapping[str, int]) -> float:
    return sum((kind_of(part).scores * size for part, size in searches.items()), 0.0)
