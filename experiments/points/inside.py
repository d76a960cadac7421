"""Looks inside the presentations of a point."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.coupled import Coupled
from dynamics.errors import refused
from dynamics.inside import Seen, Sight
from experiments.points.assemble import Plan, build
from experiments.spec.extents import Extent, Layout
from experiments.spec.inside import PRESENTATION, TIME, TOLD, column, neurons_of


def watch_point(plan: Plan, progress: Any, values: dict, seed: jax.Array, data: dict, k: Any) -> tuple[Any, Seen]:
    """The state of a point after presentation k, and what is seen inside of it, by variable of a result."""
    run, record = _run(plan, values, seed, data), plan.spec.record
    shares = np.linspace(0, 1, record.inside_times)
    progress, seen = run.watch(progress, k, shares, _sight(plan, run))
    return progress, _told(run, k) | {column(record, name): numbers for name, numbers in seen.items()}


def _told(run: Coupled, k: Any) -> Seen:
    """Whether the target of presentation k is told, where not all are; of presentations side by side the first."""
    told = run.stream.told
    stream = dataclasses.replace(run.stream, sides=run.batch, side=jnp.zeros((), jnp.int32))
    return {} if told is None else {TOLD: told[stream.index(k)]}


def inside_of(plan: Plan, values: dict, seed: Any, data: dict) -> Layout:
    """What is seen inside presentations of a plan; names that its circuit has not are refused."""
    record, found = plan.spec.record, {}

    def look(values: dict, seed: Any, data: dict) -> jax.Array:
        run = _run(plan, values, seed, data)
        sight = _sight(plan, run)
        for name, view in sight.views:
            dims = (PRESENTATION, TIME, *neurons_of(view.layers))
            shape = (len(record.inside_presentations), record.inside_times, *sight.sizes(run.circuit, view))
            found[column(record, name)] = Extent(dims, shape, False, view.long_name)
        for name in _told(run, jnp.zeros((), jnp.int32)):
            shape = (len(record.inside_presentations),)
            found[name] = Extent((PRESENTATION,), shape, False, "whether the target is told")
        return jnp.zeros(())

    if record.inside:
        jax.eval_shape(look, values, seed, data)
    return found


def beside(arrays: Layout, inside: Layout) -> Layout:
    """All arrays that a point keeps; refused where two have one name."""
    taken = {*arrays, *(dim for one in arrays.values() for dim in one.dims)}
    for name in sorted(taken & inside.keys()):
        raise refused("record.inside", sorted(inside), f"results have '{name}' already, by a probe")
    return arrays | inside


def bytes_seen(arrays: Layout, dtype: str) -> int:
    """What of the arrays of a point is seen inside presentations."""
    numbers = sum(math.prod(one.shape) for one in arrays.values() if PRESENTATION in one.dims)
    return numbers * np.dtype(dtype).itemsize


def _run(plan: Plan, values: dict, seed: Any, data: dict) -> Coupled:
    run, _ = build(plan, values, seed, data)
    assert isinstance(run, Coupled)  # as specs are checked
    return run


def _sight(plan: Plan, run: Coupled) -> Sight:
    record = plan.spec.record
    return run.sight(record.inside, record.inside_neurons, "record.inside")
