"""From a spec to batches of points: a grid, its static groups, and every traced number of every point."""

import collections
import dataclasses
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dynamics.errors import PlasticodeError, refused, shown
from experiments.spec.axes import Coordinate, dimensions
from experiments.spec.checks import check_list
from experiments.spec.loading import make_spec
from experiments.spec.paths import assign, phase_path
from experiments.spec.spec import Spec
from experiments.spec.tables import MULTIPLIED, TRACED, Quantity
from experiments.spec.units import Time

MOST_RECORDED = 200_000_000  # numbers, over all points, times and probes
MOST_LISTED = 10_000_000  # numbers of one list per point


@dataclass(frozen=True)
class Axis:
    """One dimension of the grid: the coordinates of its first swept path, which names it, and of those tied to it."""

    members: tuple[Coordinate, ...]

    @property
    def name(self) -> str:
        """The first path as results call it, such as "delays_error"; "seed" for seeds."""
        return self.members[0].name

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths along this axis."""
        return tuple(member.path for member in self.members)

    @property
    def size(self) -> int:
        """The number of positions."""
        return self.members[0].size


@dataclass(frozen=True)
class Group:
    """The points that share all static values, and so one compiled program.

    static: the spec of these points; where a number is swept, it has the base value.
    index: int (points, axes), the position of each point in the grid.
    values: float64 (points,), or (points, layers) for a list, of every traced number by path, times in seconds. An
        optional number that is absent from all points has no entry.
    seeds: int64 (points,).
    later: as `values`, of the second and later phases.
    """

    static: Spec
    index: np.ndarray
    values: dict[str, np.ndarray]
    seeds: np.ndarray
    later: tuple[dict[str, np.ndarray], ...] = ()

    @property
    def size(self) -> int:
        """The number of points."""
        return len(self.index)

    @property
    def stages(self) -> tuple[dict[str, np.ndarray], ...]:
        """The values of all phases."""
        return (self.values, *self.later)

    @property
    def ever(self) -> dict[str, np.ndarray]:
        """The values of all points in the first phase, then in the second, and so on."""
        return {path: np.concatenate([values[path] for values in self.stages]) for path in self.values}


@dataclass(frozen=True)
class Sweep:
    """The grid of a spec, the last axis varying fastest, cut into groups."""

    axes: list[Axis]
    groups: list[Group]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of positions along each axis; () for a single point."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """The number of points."""
        return int(np.prod(self.shape, dtype=int))


def expand(spec: Spec) -> Sweep:
    """The grid of a spec without parts. Values that no point may have raise `PlasticodeError`."""
    if spec.part_table:
        parts = ", ".join(spec.part_table)
        raise PlasticodeError(f"the spec '{spec.name}' has parts ({parts}): each is expanded by itself")
    axes = [Axis(tuple(spec.sweep[path].coordinate() for path in group)) for group in dimensions(spec.sweep)]
    for axis in axes:
        _check_distinct(axis)
    points, records = math.prod(axis.size for axis in axes), spec.record.points * len(spec.stage_presentations()) + 1
    if points * records * len(spec.probes) > MOST_RECORDED:
        what = f"with {len(spec.probes)} probes at {points} points, at most {MOST_RECORDED} numbers can be recorded"
        raise refused("record.points", spec.record.points, what)
    values = spec.values()
    return Sweep(axes, [_group(values, axes, positions) for positions in _static_combinations(axes)])


def _check_distinct(axis: Axis) -> None:
    """Refuse positions that are alike: results tell points by their values."""
    found = collections.Counter(zip(*(member.values.tolist() for member in axis.members), strict=True))
    if len(found) < axis.size:
        value = found.most_common(1)[0][0]
        pairs = zip(axis.members, value, strict=True)
        told = " with ".join(f"{member.path} = {shown(one)} {member.units}".strip() for member, one in pairs)
        raise PlasticodeError(f"sweep has {told} more than once, and results tell points by their values: take it once")


def _static_combinations(axes: list[Axis]) -> list[list[np.ndarray]]:
    """For each combination of static values, in the order of the grid, the positions along each axis that have it."""
    choices = []
    for axis in axes:
        static = [member for member in axis.members if member.settings]
        alike: dict[str, list[int]] = {}
        if static:
            for position in range(axis.size):
                settings = json.dumps([member.settings[position] for member in static], default=str)
                alike.setdefault(settings, []).append(position)
        choices.append([np.array(positions) for positions in alike.values()] or [np.arange(axis.size)])
    return [list(choice) for choice in itertools.product(*choices)]


def _group(table: Mapping[str, Any], axes: list[Axis], positions: list[np.ndarray]) -> Group:
    index = np.stack(np.meshgrid(*positions, indexing="ij"), axis=-1) if axes else np.zeros(0, int)
    index = index.reshape(-1, len(axes)) if axes else np.zeros((1, 0), int)
    members = {member.path: (member, index[:, axis]) for axis, item in enumerate(axes) for member in item.members}
    # Shorter paths first, and names: a rule before its parameters, a list before its items.
    ordered = sorted(members.values(), key=lambda pair: (pair[0].path.count("."), not pair[0].path.endswith(".name")))
    table = dict(table)
    for member, at in ordered:
        if member.settings:
            assign(table, member.path, member.settings[at[0]])
        elif member.path in MULTIPLIED and member.numbers is not None:  # a solver is chosen by it
            assign(table, member.path, float(member.numbers[at[0]]))
    traced = [(member, at) for member, at in ordered if member.numbers is not None]
    static = make_spec(table, [phase_path(member.path)[1] for member, _ in traced])
    stages = _alike(
        [_values(stage, _of_stage(static, number, traced), len(index)) for number, stage in enumerate(static.stages())]
    )
    step = static.integrator.dt
    if step.unit == "T":  # a static step has to suit the shortest of the stimuli
        seconds = Time(step.seconds(min(float(values["stimulus.duration"].min()) for values in stages)))
        static = static.model_copy(update={"integrator": static.integrator.model_copy(update={"dt": seconds})})
    seed = members.get("seed")
    seeds = np.full(len(index), static.seed, np.int64) if seed is None else seed[0].values[seed[1]]
    return Group(static, index, stages[0], seeds, tuple(stages[1:]))


def _of_stage(
    static: Spec, number: int, traced: list[tuple[Coordinate, np.ndarray]]
) -> list[tuple[Coordinate, np.ndarray]]:
    """What is swept of a phase: all that belongs to none, then its own, as the paths that they have in it."""
    name = static.phases[number].named(number) if static.phases else ""
    found = [(*phase_path(member.path), member, at) for member, at in traced]
    ordered = sorted((one for one in found if one[0] in ("", name)), key=lambda one: one[0] != "")
    return [(dataclasses.replace(member, path=inner), at) for _, inner, member, at in ordered]


def _alike(stages: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The values of all phases with the same entries of the same shape, so that one program runs them: no noise is that
    of zero, and one number for all layers is the same for each."""
    made: dict[str, list[np.ndarray]] = {}
    for path in dict.fromkeys(path for values in stages for path in values):
        if not path.startswith("noise.") and any(path not in values for values in stages):
            raise PlasticodeError(f"{path} is set in some phases and absent from others: all must have it, or none")
        found = [values.get(path, np.zeros(len(stages[0]["stimulus.duration"]))) for values in stages]
        layers = max((value.shape[1] for value in found if value.ndim == 2), default=0)
        made[path] = [np.tile(v[:, None], (1, layers)) if layers and v.ndim == 1 else v for v in found]
    return [{path: made[path][i] for path in made} for i in range(len(stages))]


def _values(static: Spec, traced: list[tuple[Coordinate, np.ndarray]], points: int) -> dict[str, np.ndarray]:
    """Every traced number of every point, in SI units."""
    known = {path: (quantity, static.at(path)) for path, quantity in TRACED.items()}
    known |= {path: (number.quantity, number.value) for path, number in static.rule.numbers().items()}
    _check_lists(static, traced, points, known)
    numbers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for path, (_, value) in known.items():
        if value is not None:
            numbers[path] = _repeated(value, points)
    for member, at in traced:
        path, item = (member.path, "") if member.path in known else member.path.rpartition(".")[::2]
        if path not in known:
            rule = dict(static.rule.tables()).get(path, {"name": static.rule.name})["name"]
            why = f"the rule '{rule}' has no such traced number"
            raise refused(f"sweep.{member.path}", member.labels[0], why)
        assert member.numbers is not None and member.relative is not None
        new = member.numbers[at], member.relative[at]
        numbers[path] = _with_item(member.path, numbers.get(path), new, int(item), static) if item else new
    duration = numbers["stimulus.duration"][0]
    result = {}
    for path, (number, relative) in numbers.items():
        quantity = known[path][0]
        result[path] = _seconds(path, quantity, number, relative, duration)
        if quantity.time and number.ndim == 2:
            check_list(f"sweep.{path}", number[0].tolist(), static.network.layers)
    return {path: result[path] for path in known if path in result}


def _check_lists(
    static: Spec, traced: list[tuple[Coordinate, np.ndarray]], points: int, known: Mapping[str, tuple[Quantity, Any]]
) -> None:
    """Refuse lists that would not fit into memory once every point has its own."""
    widths = {path: len(value) for path, (_, value) in known.items() if isinstance(value, tuple)}
    for member, _ in traced:
        if member.path not in known:
            widths[member.path] = static.network.layers
        elif member.numbers is not None and member.numbers.ndim == 2:
            widths[member.path] = member.numbers.shape[1]
    for path, width in widths.items():
        if points * width > MOST_LISTED:
            raise PlasticodeError(
                f"{path} has {width} numbers at each of {points} points: at most {MOST_LISTED} are allowed in all"
            )


def _repeated(value: Any, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and whether they are relative, the same for all points: (points,) or (points, layers)."""
    items = value if isinstance(value, tuple) else (value,)
    numbers = np.array([item.value if isinstance(item, Time) else item for item in items], np.float64)
    relative = np.array([isinstance(item, Time) and item.unit == "T" for item in items], bool)
    if not isinstance(value, tuple):
        return np.full(points, numbers[0]), np.full(points, relative[0])
    return np.tile(numbers, (points, 1)), np.tile(relative, (points, 1))


def _with_item(
    path: str, base: tuple[np.ndarray, np.ndarray] | None, new: tuple[np.ndarray, np.ndarray], item: int, static: Spec
) -> tuple[np.ndarray, np.ndarray]:
    """The lists of all points with one item replaced; single numbers become lists of one per layer."""
    whole = path.rpartition(".")[0]
    if base is None:
        raise PlasticodeError(f"spec path 'sweep.{path}' is not allowed: {whole} is absent and must be given a value")
    lists = []
    for old, replacement in zip(base, new, strict=True):
        rows = np.repeat(old[:, None], static.network.layers, axis=1) if old.ndim == 1 else old.copy()
        if item >= rows.shape[1]:
            counted = f"{rows.shape[1]} values, counted from 0"
            raise PlasticodeError(f"spec path 'sweep.{path}' is not allowed: {whole} has {counted}")
        rows[:, item] = replacement
        lists.append(rows)
    return lists[0], lists[1]


def _seconds(
    path: str, quantity: Quantity, numbers: np.ndarray, relative: np.ndarray, duration: np.ndarray
) -> np.ndarray:
    """Resolve multiples of the stimulus duration, point by point."""
    if not relative.any():
        return numbers
    duration = duration if numbers.ndim == 1 else duration[:, None]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        seconds = np.where(relative, numbers * duration, numbers)
    for extreme in (seconds.min(), seconds.max()):
        try:
            quantity.check(float(extreme))
        except ValueError as error:
            raise refused(path, float(extreme), f"{error}, in seconds") from None
    return seconds
