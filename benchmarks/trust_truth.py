"""The truth of a structure's draws: the reference of `benchmarks.trust_reference`, checked by halving its steps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.trust_draws import Structure
from benchmarks.trust_mesh import Mesh, Timing, count, mesh
from benchmarks.trust_reference import Path, arrivals, integrate, looks, ring_of, stacked
from dynamics.coupled import Coupled
from experiments.points.assemble import Plan, build
from experiments.points.jobs import Job, points_of

KICK = 1e-6
FINER = (1, 2, 4, 8, 16)  # how often steps are cut, as far as it takes
MOST_STEPS = 150_000  # of a run
QUICK_COMPILER = {"xla_llvm_disable_expensive_passes": True, "xla_backend_optimization_level": 1}


class Truth(NamedTuple):
    """By draw: the plastic matrices at the start and the end, the distance moved in between, the error of all this
    relative to it (NaN where it is too large; 0 where the weights go to infinity, whatever the steps), and how
    much a small change of the start has grown."""

    start: np.ndarray
    end: np.ndarray
    distance: np.ndarray
    error: np.ndarray
    growth: np.ndarray


def timings(job: Job, drawn: Structure, run: Coupled) -> list[Timing]:
    """What places the steps of each draw, from its numbers as the run's dtype rounds them."""
    values = {path: column.astype(np.float64) for path, column in points_of(job, slice(None))[0].items()}
    strongest = float((drawn.inputs**2).sum(axis=1).max()) + 1

    def lag(i: int, names: tuple[str, ...]) -> float:
        return float(sum(values[f"delays.{name}"][i] for name in names))

    def smallest(path: str, i: int) -> float:
        return float(values[path][i].min()) if path in values else np.inf

    found = []
    for i in range(job.group.size):
        own = [v.timescale for layer in run.circuit.layers for v in layer.variables]
        slow = [float(timescale) for timescale in own if timescale is not None]
        fastest = min([smallest("timescales.propagation", i), smallest("timescales.trace", i), *slow])
        learning = smallest("timescales.plasticity", i) / strongest
        found.append(
            Timing(
                float(values["stimulus.duration"][i]),
                float(values["stimulus.gap"][i]),
                fastest,
                max(min(0.5 * smallest("timescales.decay", i), learning), fastest / 8),
                max(1.0, float(values["rule.swing"][i])) if drawn.cycle else 0.0,
                {name: lag(i, names) for name, names in arrivals(run).items()},
                {name: lag(i, (name,)) for name in looks(run)},
            )
        )
    return found


def _begin(job: Job) -> tuple[dict, np.ndarray]:
    """Of every draw: all matrices at the start, and the samples in the order that they are shown in."""

    def of(values: dict, seed: jax.Array, data: dict) -> tuple[dict, jax.Array]:
        run, key = build(job.plan, values, seed, data)
        assert isinstance(run, Coupled)
        order = jax.vmap(run.stream.index)(jnp.arange(job.plan.spec.stimulus.presentations, dtype=jnp.int32))
        return run.circuit.initial_weights(key), order.astype(jnp.int32)

    batched = jax.jit(jax.vmap(of, (0, 0, None)), compiler_options=QUICK_COMPILER)
    return jax.device_get(batched(*points_of(job, slice(None)), job.data))


def _program(plan: Plan, ring: int) -> Callable[..., Path]:
    def of(
        values: dict, seed: jax.Array, begin: tuple[dict, jax.Array], steps_of: Mesh, data: dict, steps: Any, shown: Any
    ) -> Path:
        run, _ = build(plan, values, seed, data)
        assert isinstance(run, Coupled)
        return integrate(run, *begin, steps_of, steps, shown, ring)

    batched = jax.vmap(of, (0, 0, 0, 0, None, None, None))
    return jax.jit(batched, compiler_options=QUICK_COMPILER)


def truth(job: Job, drawn: Structure, tolerance: float) -> Truth:
    """The reference of all draws of a job: its steps are halved until that changes the end by less than three times
    `tolerance` / 20, which for a method of fourth order is five times what is asked of it."""
    values, seeds = points_of(job, slice(None))
    first = {path: jnp.asarray(column[0]) for path, column in values.items()}
    run, _ = build(job.plan, first, jnp.asarray(seeds[0]), jax.device_put(job.data))
    assert isinstance(run, Coupled)
    times, presentations = timings(job, drawn, run), job.plan.spec.stimulus.presentations
    least, draws = max(map(count, times)), np.arange(len(seeds))
    weights, order = _begin(job)
    kicks = np.random.default_rng(0)
    kicked_weights = {n: w * (1 + KICK * kicks.standard_normal(w.shape)) for n, w in weights.items()}
    weights = {n: w.astype(float) for n, w in weights.items()}
    programs: dict[int, Callable[..., Path]] = {}

    def paths(rows: np.ndarray, finer: int, begin: dict) -> Path:
        rows = np.resize(rows, len(draws))  # always as many, so that there are few programs
        padded = 2 if finer <= 2 else FINER[-1]
        meshes = stacked([mesh(times[i], least, finer, least * padded) for i in rows])
        if padded not in programs:
            programs[padded] = _program(job.plan, ring_of([mesh(t, least, padded, least * padded) for t in times]))
        each = {path: column[rows] for path, column in values.items()}, seeds[rows]
        begun = {n: w[rows] for n, w in begin.items()}, order[rows]
        numbers = jnp.int32(least * finer), jnp.int32(presentations)
        return jax.device_get(programs[padded](*each, begun, meshes, job.data, *numbers))

    coarse, kicked, fine = paths(draws, 1, weights), paths(draws, 1, kicked_weights), paths(draws, 2, weights)
    with np.errstate(all="ignore"):
        growth = _size(kicked.end - coarse.end) / _size(kicked.start - coarse.start)
        error = _apart(fine, coarse)
        for finer in FINER[2:]:
            left = draws[~(error <= 3 * tolerance / 20) & np.isfinite(fine.end).all(axis=1)]
            if not len(left) or least * finer * presentations > MOST_STEPS:
                break
            finest = Path(*(column[: len(left)] for column in paths(left, finer, weights)))
            error[left] = _apart(finest, Path(*(column[left] for column in fine)))
            fine = Path(*(_replaced(old, left, new) for old, new in zip(fine, finest, strict=True)))
    diverged = ~np.isfinite(fine.end).all(axis=1) & ~np.isfinite(coarse.end).all(axis=1)
    error = np.where(diverged, 0, np.where(error <= 3 * tolerance / 20, error / 3, np.nan))
    start, end, distance = map(np.asarray, fine)
    return Truth(start, end, distance, error, growth)


def _size(rows: jax.Array | np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=1)


def _apart(fine: Path, coarse: Path) -> np.ndarray:
    return _size(fine.end - coarse.end) / np.maximum(fine.distance, 1e-300)


def _replaced(array: jax.Array | np.ndarray, rows: np.ndarray, new: jax.Array | np.ndarray) -> np.ndarray:
    array = np.array(array)
    array[rows] = new
    return array
