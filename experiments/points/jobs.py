"""The jobs of a spec: one per static group, with data and chunks; what can be refused is refused here."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.errors import PlasticodeError, refused
from dynamics.kept import Kept
from dynamics.plugins import blamed, is_own, modules_of
from dynamics.simulate import all_finite, record_marks
from experiments.points import alike
from experiments.points.assemble import OWN, Plan, build, check_timed, lags_of, longest, plan, remembering
from experiments.points.continuity import check_alike, check_memory_of_phases
from experiments.points.data import ARRAYS, arrays_of, loaded, share, taught
from experiments.points.heeded import NOTHING, Heeded, check_numbers_count, check_trace, heeded
from experiments.points.inside import beside, bytes_seen, inside_of
from experiments.points.probing import looked_at
from experiments.points.relaxations import Slow, check_relaxations, slow_timescales
from experiments.points.weights import Maps, given_start, keeps_arrays, kept, maps_of, start_of, weights_of
from experiments.spec.extents import HELD, Layout, common
from experiments.spec.grid import Group, Sweep, expand
from experiments.spec.probes import probe_named, variable
from experiments.spec.spec import Spec
from experiments.tasks.contract import AbstractTask, Data

CACHE_BLOCK = 8  # points that one CPU core advances together
CHUNK_BYTES = 512 * 2**20  # of the states and records of a chunk
CACHE_BYTES = 3 * 2**19  # a block's weights stay in the cache of a CPU core
# What a step of a point takes on a CPU core, in microseconds: measured from 3 to 1024 hidden neurons, with both
# integrators, on a core that others shared; a core of its own takes about half of it.
STEP_WORK, SYNAPSE_WORK = 2.5, 0.0012
CHUNK_WORK = 10_000_000  # for each device: about 10 seconds
MOST_TOLD = 400  # of one job some four
_TOLD = Kept(MOST_TOLD)  # what tracing tells of points of rules of ours, for all that are alike: see `alike`


class Chunking(NamedTuple):
    """How a job's points are cut into chunks: from `least` to `most` points each, and between these so many that a
    chunk is about `work` microseconds of a core."""

    least: int
    most: int
    work: int

    @classmethod
    def of(cls, devices: int, cpu: bool, points: int, workers: int = 1) -> "Chunking":
        """Chunks that fill the `devices` of a worker, take seconds rather than hours, and give all `workers` some."""
        share = points if workers == 1 else max(-(-points // (4 * workers)), min(CACHE_BLOCK, -(-points // workers)))
        if not cpu:  # an accelerator wants as many points at once as there are
            return cls(1, min(4096, share), 2**62)
        least = min(CACHE_BLOCK * devices, share)
        return cls(least, max(min(256, share), least), CHUNK_WORK * devices)


class ChunkKey(NamedTuple):
    """Which chunk: the part of the spec, the static group in it, the number in the group."""

    part: str
    group: int
    number: int

    @property
    def stem(self) -> str:
        """The beginning of its file's name."""
        return f"{group_stem(self.part, self.group)}-{self.number:06d}"


def group_stem(part: str, group: int) -> str:
    """What the names of all chunks of a job begin with."""
    return f"{part or 'all'}-{group:04d}"


class Stage(NamedTuple):
    """A phase of a job: it ends after `last` presentations of the run. Its arrays, and the numbers of all points."""

    last: int
    values: dict[str, np.ndarray]
    data: dict[str, np.ndarray]


class Job(NamedTuple):
    """One static group, ready to run: number `number` of the `part` of a spec, whose grid is `sweep`; its phases; what
    its circuit has `heeded`; `point_bytes` of state and records; the names of its `classes`, if any; the `arrays` that
    its points keep; what makes of it, as its plan then is, a function that gives some of these, by points."""

    part: str
    number: int
    sweep: Sweep
    group: Group
    plan: Plan
    stages: tuple[Stage, ...]
    heeded: Heeded
    state_bytes: int
    weight_bytes: int
    point_bytes: int
    classes: tuple[str, ...] = ()
    arrays: Layout = {}
    beside_runs: Callable[["Job"], Callable[[np.ndarray], dict[str, np.ndarray]]] | None = None

    @property
    def stem(self) -> str:
        """What the names of its chunks begin with."""
        return group_stem(self.part, self.number)

    @property
    def data(self) -> dict[str, np.ndarray]:
        """The arrays of its first phase."""
        return self.stages[0].data

    def stage_of(self, last: int) -> int:
        """The number of the phase that the presentation before `last` belongs to."""
        return next(number for number, stage in enumerate(self.stages) if last <= stage.last)

    @property
    def outputs(self) -> int:
        """Of the network."""
        return self.plan.sizes[-1]

    @property
    def steps(self) -> float:
        """Steps times points."""
        return float(self.group.size * self.plan.spec.stimulus.presentations * self.plan.steps)

    @property
    def synapses(self) -> int:
        """Of the layers one after the other."""
        sizes = self.plan.sizes
        return sum(before * after for before, after in zip(sizes[:-1], sizes[1:], strict=True))

    @property
    def presentation_work(self) -> float:
        """What one presentation of one point takes, the unit of progress: about so many microseconds of a core."""
        each = self.plan.spec.stimulus.batch * SYNAPSE_WORK * self.synapses
        return self.plan.steps * (STEP_WORK + each)

    @property
    def point_work(self) -> float:
        """What one point takes."""
        return self.plan.spec.stimulus.presentations * self.presentation_work

    @property
    def work(self) -> float:
        """What all points take."""
        return self.group.size * self.point_work

    @property
    def block(self) -> int:
        """How many points a CPU core advances together: they share the cost of a step, and their weights its cache. So
        do samples side by side."""
        return min(max(CACHE_BLOCK // self.plan.spec.stimulus.batch, 1), max(CACHE_BYTES // self.weight_bytes, 1))

    def chunks(self, chunking: Chunking) -> dict[ChunkKey, np.ndarray]:
        """The points of every chunk. They follow from the spec and `chunking` alone."""
        least = max(chunking.least * self.block // CACHE_BLOCK, 1)  # nothing is gained by more than a block
        size = min(max(int(chunking.work / self.point_work), least), chunking.most)
        size = max(min(size, CHUNK_BYTES // self.point_bytes), 1)
        pieces = np.array_split(np.arange(self.group.size), -(-self.group.size // size))
        return {ChunkKey(self.part, self.number, number): points for number, points in enumerate(pieces)}


def prepare(spec: Spec) -> dict[str, list[Job]]:
    """The jobs of every part, after everything that can be refused has been: data loaded, rules wired on their task."""
    found, jobs = _Found(), {}
    for name, part in spec.parts().items():
        jobs[name] = list(_jobs(expand(part), name, found))
        check_numbers_count(part, [job.group.static for job in jobs[name]], [job.heeded for job in jobs[name]])
        layout_of(jobs[name])
    return jobs


def layout_of(jobs: list[Job]) -> Layout:
    """The arrays that the points of a part keep, as large as the largest of any job."""
    sweep, spec = jobs[0].sweep, jobs[0].plan.spec
    taken = {member.name for axis in sweep.axes for member in axis.members}
    taken |= {variable(name) for name in spec.probes} - {name for job in jobs for name in job.arrays}
    return common((job.arrays for job in jobs), sweep.size, len(marks_of(spec)), taken)


def sweeps(jobs: dict[str, list[Job]]) -> dict[str, Sweep]:
    """The grid of every part."""
    return {part: members[0].sweep for part, members in jobs.items()}


def classes_of(jobs: list[Job]) -> tuple[str, ...]:
    """The names of the classes, where all jobs of a part have the same."""
    found = {job.classes for job in jobs}
    return found.pop() if len(found) == 1 else ()


def job_of(spec: Spec, part: str, number: int, shared: Path | None = None) -> Job:
    """One of the jobs of `prepare(spec)`, with data of the folder `shared` where processes of this machine have one."""
    return next(itertools.islice(_jobs(expand(spec.parts()[part]), part, _Found(shared), number), 1))


def share_data(jobs: Iterable[Job], folder: Path) -> None:
    """Put the data of all jobs into files in a folder, and map these instead: memory then holds them once, however many
    processes of this machine do so."""
    for job in jobs:
        for spec, stage in zip(job.plan.spec.stages(), job.stages, strict=True):
            arrays: dict[str, Any] = {name: stage.data.get(name) for name in ARRAYS}
            known: dict[str, Any] = {"frames": job.plan.frames, "interpolation": job.plan.interpolation}
            data = Data(**arrays, kind=spec.task.kind, classes=job.classes, **known)
            stage.data.update(arrays_of(share(spec.task, data, folder)))


class _Found:
    """What the jobs of a spec share that are alike: data, by task; what tracing has told of a user's own code, which a
    later spec may find changed."""

    def __init__(self, shared: Path | None = None) -> None:
        self.shared = shared  # the folder with data that another process has loaded
        self.data: dict[str, tuple[Data, dict[str, np.ndarray]]] = {}
        self.own = Kept(MOST_TOLD)
        self.starts: dict[Hashable, dict[str, np.ndarray]] = {}

    def loaded(self, task: AbstractTask, dtype: str) -> tuple[Data, dict[str, np.ndarray]]:
        """The data of a task in `dtype`, and their arrays."""
        key = task.model_dump_json()
        if key not in self.data:
            data = loaded(task, dtype, self.shared)
            self.data[key] = data, arrays_of(data)
        return self.data[key]

    def started(self, job: Job, maps: Maps) -> Job:
        """The job with the weights that it starts from, where the spec has some."""
        spec, key = job.plan.spec, (job.plan.spec.network.weights, job.plan.spec.dtype, tuple(maps.items()))
        if key not in self.starts:
            self.starts[key] = given_start(spec, maps)
        return job._replace(stages=tuple(one._replace(data=one.data | self.starts[key]) for one in job.stages))


def _jobs(sweep: Sweep, part: str, found: _Found, first: int = 0) -> Iterator[Job]:
    for number, group in itertools.islice(enumerate(sweep.groups), first, None):
        given = [found.loaded(spec.task, group.static.dtype) for spec in group.static.stages()]
        data = check_alike(group.static, [one for one, _ in given])
        if data.frames > group.static.stimulus.presentations:
            told = (
                f"a sequence of task '{group.static.task.name}' has {data.frames} frames, each of them a presentation"
            )
            raise refused("stimulus.presentations", group.static.stimulus.presentations, told)
        made = plan(group, *(one for one, _ in given))
        classes = data.classes if all(one.classes == data.classes for one, _ in given) else ()
        stages = _stages(group, [arrays for _, arrays in given])
        job, state, record = _traced(Job(part, number, sweep, group, made, stages, NOTHING, 0, 0, 0, classes), found)
        check_memory_of_phases(group, job.plan, changes_task=any("first" in stage.data for stage in stages))
        records = job.plan.spec.record.points * len(stages) + 1
        # What judges a run is in its state too, but seldom touched: only what every step needs has to fit a cache.
        held = bytes_of((state.state if group.static.regime == "coupled" else state.weights, state.fixed))
        recorded = records * bytes_of(record) + bytes_of(weights_of(state)) * (job.plan.spec.record.weights == "end")
        point_bytes = bytes_of(state) + recorded + bytes_seen(job.arrays, group.static.dtype)
        yield job._replace(state_bytes=bytes_of(state), weight_bytes=held, point_bytes=point_bytes)


def _stages(group: Group, arrays: list[dict[str, np.ndarray]]) -> tuple[Stage, ...]:
    """The phases of a group; where the task changes, each task's order of samples begins with it."""
    ends = np.cumsum(group.static.stage_presentations()).tolist()
    stages, begun, changes = [], 0, any(one is not arrays[0] for one in arrays)
    partly = any("train_told" in one for one in arrays)
    for number, (last, values, data) in enumerate(zip(ends, group.stages, arrays, strict=True)):
        if number and data is not arrays[number - 1]:
            begun = ends[number - 1]
        more = {"first": np.asarray(begun, np.int32)} if changes else {}
        stages.append(Stage(last, values, data | more | (taught(data) if partly else {})))
    return tuple(stages)


def _traced(job: Job, found: _Found) -> tuple[Job, Any, Any]:
    """The job with the past that its rule needs, and the shapes of a point's state and record: a rule that does not fit
    its task is refused here."""
    spec = job.plan.spec
    rules = [name for name in spec.rule.names if is_own(name)]
    activations = [name for name in spec.network.activations if is_own(name)]
    modules = modules_of([*rules, *activations])
    values, seeds = points_of(job, slice(0, 1))
    point = {path: value[0] for path, value in values.items()}
    what = f"rule '{spec.rule.name}'" if rules else f"activation '{', '.join(activations)}'"
    elsewhere = ": its circuit must fit the layers" if rules else ""
    with blamed(f"{what} cannot be run on this network", modules, elsewhere), _naming(spec.rule.name):
        own = alike.own_names(spec)
        told = found.own if own else _TOLD
        wiring_of = alike.whole if own or keeps_arrays(spec) else alike.wiring
        wiring = wiring_of(job.plan, job.group.values, job.data)
        quick = (lambda f: f) if own else jax.jit  # what is traced again would be compiled again
        lags = told.made(("lags", wiring), lambda: quick(lags_of(job.plan)))
        job = job._replace(plan=remembering(job.plan, job.group.ever, lags))
        if any(set(OWN.values()) & stage.data.keys() for stage in job.stages):
            check_timed(job.plan)
        maps = maps_of(job.plan, point) if spec.network.weights is not None or spec.record.weights is not None else {}
        job = found.started(job, maps)
        wiring = wiring_of(job.plan, job.group.values, job.data)
        whole = alike.whole(job.plan, job.group.values, job.data)
        state = told.get(("state", whole))
        is_new = state is None
        if is_new:
            state = jax.eval_shape(functools.partial(init_point, job.plan), point, seeds[0], job.data)

        def wired() -> tuple[Any, Slow, Heeded]:
            measure = functools.partial(measure_point, job.plan)
            record = jax.eval_shape(measure, state, point, seeds[0], job.data)
            return record, quick(slow_timescales(job.plan)), heeded(job.plan, point)

        record, slow, heeds = told.made(("record", wiring), wired)
        if is_new and {*rules, *activations} & {*own}:  # not of what these packages have, which is known to run
            now = jnp.int32(0)
            jax.eval_shape(functools.partial(advance_point, job.plan), state, point, seeds[0], job.data, now, now)
        told.keep(("state", whole), state)
        check_relaxations(job.plan, longest(job.group.stages, [stage.data for stage in job.stages]), slow)
        check_trace(spec, job.group.values, heeds)
        inside = told.made(("inside", whole), lambda: inside_of(job.plan, point, seeds[0], job.data))
    return job._replace(heeded=heeds, arrays=beside(kept(spec, maps, record), inside)), state, record


@contextlib.contextmanager
def _naming(rule: str) -> Iterator[None]:
    """What is told of "this rule" in here is told of it by its name: a spec may have several."""
    try:
        yield
    except PlasticodeError as error:
        raise PlasticodeError(str(error).replace("this rule", f"the rule '{rule}'")) from error


def bytes_of(shapes: Any) -> int:
    """What a tree of arrays, or of their shapes, takes; at least 1."""
    return max(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes)), 1)


def points_of(job: Job, chunk: slice | np.ndarray, stage: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The traced numbers of some points of a job in one of its phases, by path, and their seeds."""
    values = {path: value[chunk].astype(job.plan.spec.dtype) for path, value in job.stages[stage].values.items()}
    return values, job.group.seeds[chunk].astype(np.uint32)


def marks_of(spec: Spec) -> np.ndarray:
    """After how many presentations each record is made: at the start, then `record.points` times in every phase."""
    marks = [np.zeros(1, np.int32)]
    for presentations in spec.stage_presentations():
        marks.append(marks[-1][-1] + np.asarray(record_marks(presentations, spec.record.points))[1:])
    return np.concatenate(marks)


def init_point(plan: Plan, values: dict, seed: jax.Array, data: dict) -> Any:
    """The state of a point at the start."""
    regime, key = build(plan, values, seed, data)
    return regime.init(start_of(regime.circuit, key, data))


def advance_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict, first: Any, count: Any) -> Any:
    """The state of a point after `count` more presentations, the first of which has the number `first`."""
    return build(plan, values, seed, data)[0].advance(progress, first, count)


def measure_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict) -> dict[str, Any]:
    """The record of a point: its probes, what its integrator knows of its error, whether all of it is finite.

    Weights and slow variables count, and every probe: one that overflows, or that has no value because outputs are not
    finite or a circuit does not settle, marks the point `diverged`. No probe of a healthy network is NaN or infinite.
    """
    spec, (regime, key) = plan.spec, build(plan, values, seed, data)
    weights, slow = regime.weights(progress), regime.slow(progress)
    data = looked_at(plan, regime, weights, start_of(regime.circuit, key, data), data)
    probes: dict[str, Any] = {}
    for name, probe in ((variable(name), probe_named(name)) for name in spec.probes):
        if probe.whole:
            continue
        value: Any = probe.measure(regime.circuit, weights, slow, data)
        arrays = any(jnp.ndim(leaf) for leaf in jax.tree.leaves(value))
        apart = probe.by_layer or (arrays and isinstance(value, dict))
        named = {f"{name}_{key}": one for key, one in value.items()} if apart else {name: value}
        probes |= {HELD: probes.get(HELD, {}) | named} if arrays else named
    finite = all_finite((weights, slow, probes))
    if spec.record.weights == "records":
        probes[HELD] = probes.get(HELD, {}) | weights
    quality = regime.quality(progress)
    if quality is not None:
        probes |= {"converged": quality.converged, "error_estimate": quality.error}
    return probes | {"finite": finite}
