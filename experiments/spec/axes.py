"""The [sweep] table: what it may contain, and the values of its axes."""

import itertools
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import numpy as np

from dynamics.errors import PlasticodeError, printable, refused, shown, unknown
from experiments.machine.names import hint
from experiments.spec.paths import SWEPT_TABLES, check_path, flattened, phase_path, quantity_at
from experiments.spec.tables import Quantity, Record
from experiments.spec.toml_text import inline
from experiments.spec.units import Time, read_number, read_time

MOST_POINTS = 1_000_000
MOST_PROGRAMS = 1000
MOST_AXES = 20  # an array in a netCDF file has at most 32 dimensions
LARGEST_SEED = 2**31 - 1
SEEDS = "seeds"  # the path of an axis of so many of them
DIGITS = 40  # more than twice those of float64, since a logspace of a million values rounds as often
_RECORDED, _NAMED = "all points of a sweep are recorded alike", "a text that changes no result cannot be swept"
NOT_SWEPT: dict[str, str] = {
    **dict.fromkeys(("name", "description", "study"), _NAMED),
    **dict.fromkeys(("record", *(f"record.{key}" for key in Record.model_fields)), _RECORDED),
    "stimulus.presentations": f"{_RECORDED}: use parts for runs of other lengths",
    "phases": f"{_RECORDED}: use parts for runs of other phases",
    "dtype": "a process computes in one dtype",
}
AT_THE_START = ("network.gain",)  # read when weights are drawn, so that a phase changes nothing by it
_ENTRY = "it must be a list of values, {linspace = [a, b, n]} or {logspace = [a, b, n]}"


@dataclass(frozen=True)
class Coordinate:
    """The values of one swept path along an axis of `size` positions.

    `values` are float64 (in seconds where `units` is "s", in stimulus durations where it is "T"), int64, or texts. What
    a point gets is `settings[position]` for a static path; for a traced one `numbers` (size,) or (size, layers), to be
    multiplied by the stimulus duration where `relative`.
    """

    path: str
    values: np.ndarray
    units: str = ""
    settings: tuple[Any, ...] = ()
    numbers: np.ndarray | None = None
    relative: np.ndarray | None = None

    @property
    def name(self) -> str:
        """What results call the path, a name of Python's: "delays_error" for "delays.error"."""
        return _identifier(self.path)

    @property
    def size(self) -> int:
        """The number of values."""
        return len(self.values)

    @property
    def labels(self) -> list[str]:
        """The values as a figure shows them, with units."""
        if self.values.dtype.kind in "if":
            return [f"{value:g} {self.units}".strip() for value in self.values]
        return [str(value) for value in self.values]


@dataclass(frozen=True)
class Values:
    """What a swept path takes along its axis, read once: all values as `items`, or `count` of them between two ends.

    Without a `quantity` the path is static, and its items are as TOML has them. `spacing` is "linspace", "logspace",
    "seeds" (so many seeds from the first one on), or empty where all values are listed.
    """

    path: str
    quantity: Quantity | None
    items: tuple[Any, ...]
    count: int
    spacing: str = ""

    @property
    def written(self) -> Any:
        """The entry of [sweep] that reads back as these values; equal values are written equally."""
        items = [Quantity.write(item) for item in self.items]
        if self.spacing == SEEDS:
            return self.count
        return {self.spacing: [*items, self.count]} if self.spacing else items

    def coordinate(self) -> Coordinate:
        """All values, as numbers or labels."""
        if self.spacing == SEEDS:
            return Coordinate("seed", self.items[0] + np.arange(self.count))
        if self.path == "seed":
            for seed in (settings := _static(self).settings):
                if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
                    raise refused("sweep.seed", seed, f"a seed must be an integer from 0 to {LARGEST_SEED}")
            return Coordinate("seed", np.array(settings, np.int64))
        if self.quantity is None:
            return _static(self)
        if not self.spacing:
            return _listed(self, self.quantity)
        numbers, unit = _space(self), _unit(self.items)  # each number lies between two allowed ones, and so is allowed
        return Coordinate(self.path, numbers, unit, (), numbers, np.full(numbers.shape, unit == "T"))


Axes = dict[str, Any]  # `Values` by path; "zip" has lists of paths


def read_sweep(table: Mapping[str, Any]) -> Axes:
    """The [sweep] of a spec's `table`, read, and checked by its lengths and ends alone."""
    sweep = flattened(table["sweep"], "sweep", sweep=True)
    if "seed" in sweep and SEEDS in sweep:
        raise PlasticodeError("sweep has both 'seed' and 'seeds': one axis of seeds is allowed")
    table = {**table, "sweep": sweep}
    result: Axes = {}
    for path, entry in sweep.items():
        if path == SEEDS:
            result[path] = _seeds(entry, table["seed"])
        elif path != "zip":
            if path == "seed" and isinstance(entry, int):
                raise refused("sweep.seed", entry, f"it must be a list of seeds; their number is '{SEEDS}'")
            phase, inner = phase_path(path)
            if phase:
                _check_phase(phase, table["phases"], path)
            check_path(inner, table, f"sweep.phases.{phase}." if phase else "sweep.")
            quantity = quantity_at(inner, table)
            if phase and (quantity is None or inner in AT_THE_START):
                what = "weights are drawn before the first phase" if quantity else "it would take a new program"
                raise refused(f"sweep.{path}", entry, f"{what}, and an axis of a phase is a number that counts in it")
            if path in NOT_SWEPT:
                raise refused(f"sweep.{path}", entry, NOT_SWEPT[path])
            result[path] = _read(path, entry, quantity)
    _check_names(result)
    if "zip" in sweep:
        result["zip"] = _tied(sweep["zip"], result)
    if len(dimensions(result)) > MOST_AXES:
        axes = len(dimensions(result))
        raise PlasticodeError(f"a sweep of {axes} axes is refused: at most {MOST_AXES}; sweep.zip ties axes together")
    check_size([result])
    return result


def _check_phase(phase: str, phases: Sequence[Any], path: str) -> None:
    """Refuse an axis of a phase that there is not, or of all of a phase."""
    names = [one.named(number) for number, one in enumerate(phases)]
    if phase not in names:
        there = f"the phases are {', '.join(names)}" if names else "there are no [[phases]]"
        raise PlasticodeError(f"spec path 'sweep.{printable(path)}' is not known: {there}{hint(phase, names)}")
    if path == f"phases.{phase}":
        told = f"an axis is one of its numbers, such as {path}.timescales.plasticity"
        raise PlasticodeError(f"spec path 'sweep.{printable(path)}' is not known: {told}")


def written(sweep: Axes) -> dict[str, Any]:
    """The [sweep] table that reads back as these axes."""
    return {path: values.written if isinstance(values, Values) else values for path, values in sweep.items()}


def swept_paths(sweep: Axes) -> tuple[list[str], list[str]]:
    """The swept paths of traced numbers, and those of static values; the seed is neither."""
    paths = [path for path in sweep if path not in ("zip", "seed", SEEDS)]
    traced = [path for path in paths if sweep[path].quantity is not None]
    return traced, [path for path in paths if path not in traced]


def dimensions(sweep: Axes) -> list[list[str]]:
    """The paths along each axis of the grid, in the order of the sweep; tied paths share the axis of the first."""
    tied = {path: group for group in sweep.get("zip", []) for path in group}
    groups = [tied.get(path, [path]) for path in sweep if path != "zip"]
    return [group for position, group in enumerate(groups) if group not in groups[:position]]


def _listed(values: Values, quantity: Quantity) -> Coordinate:
    """Traced values given one by one; single values stand beside lists for lists of equal values."""
    path, items = values.path, values.items
    widths = {len(item) for item in items if isinstance(item, tuple)}
    if len(widths) > 1:
        lengths = " and ".join(map(str, sorted(widths)))
        raise PlasticodeError(f"sweep.{path} has lists of {lengths} values: all must be equally long")
    width = widths.pop() if widths else None
    rows = [item if isinstance(item, tuple) else (item,) * (width or 1) for item in items]
    numbers = np.array([[item.value if isinstance(item, Time) else item for item in row] for row in rows])
    relative = np.array([[isinstance(item, Time) and item.unit == "T" for item in row] for row in rows])
    if width is not None:
        return Coordinate(path, np.array([_label(item) for item in values.written]), "", (), numbers, relative)
    numbers, relative = numbers[:, 0], relative[:, 0]
    if not quantity.time:
        return Coordinate(path, numbers, "", (), numbers, relative)
    units = {item.unit for item in items if item.value not in (0, math.inf)} or {items[0].unit}
    if len(units) > 1:
        return Coordinate(path, np.array([str(item) for item in items]), "", (), numbers, relative)
    return Coordinate(path, numbers, units.pop(), (), numbers, relative)


def _static(values: Values) -> Coordinate:
    """Values of a static path; evenly spaced integers where all of them are, between integer ends."""
    if not values.spacing:
        return Coordinate(values.path, _coordinates(values.items), "", values.items)
    numbers, unit = _space(values), _unit(values.items)
    if unit:
        times = [Time(number, "T" if unit == "T" else "s") for number in numbers.tolist()]
        return Coordinate(values.path, numbers, unit, tuple(times))
    whole = all(isinstance(end, int) for end in values.items)
    if whole and np.allclose(numbers, np.round(numbers), rtol=1e-12, atol=0):
        numbers = np.round(numbers).astype(np.int64)
    return Coordinate(values.path, numbers, "", tuple(numbers.tolist()))


def _coordinates(items: tuple[Any, ...]) -> np.ndarray:
    """Numbers where all values are numbers, labels otherwise."""
    if all(type(item) is int and abs(item) < 2**63 for item in items):
        return np.array(items, np.int64)
    if all(type(item) is float for item in items):
        return np.array(items)
    return np.array([_label(item) for item in items])


def _label(item: Any) -> str:
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        parameters = [f"{key}={inline(value)}" for key, value in item.items() if key != "name"]
        return f"{item['name']}({', '.join(parameters)})" if parameters else item["name"]
    return item if isinstance(item, str) else inline(item)


def _space(values: Values) -> np.ndarray:
    """The values between two ends, those included: each is the float64 that is nearest to the exact one.

    The ends are taken as they are written, 0.1 as one tenth. In float64 alone the middle of 0.1 and 0.3 would be
    0.19999999999999998, and who selects 0.2 from the results would find nothing.
    """
    (first, last), count = map(_number, values.items), values.count
    with localcontext(prec=DIGITS):
        start, end = Decimal(repr(first)), Decimal(repr(last))
        last_step = max(count - 1, 1)
        if values.spacing == "linspace":
            between = ((start * (last_step - step) + end * step) / last_step for step in range(count))
        else:
            growth = ((end / start).ln() / last_step).exp()
            between = itertools.accumulate(itertools.repeat(growth, count - 1), operator.mul, initial=start)
        numbers = np.array([float(value) for value in between])
    if count > 1:
        numbers[-1] = last  # of large ends not even this follows from their digits: some lie between two float64
    return numbers


def _number(item: Any) -> float:
    return float(item.value if isinstance(item, Time) else item)


def _unit(ends: tuple[Any, ...]) -> str:
    """The unit that two ends share: "s", "T" or none."""
    times = [end for end in ends if isinstance(end, Time) and end.value != 0]  # zero has any unit
    units = [end.unit for end in times] + [""] * sum(not isinstance(end, Time) for end in ends)
    if len(set(units)) > 1:
        raise ValueError("both ends must have the same unit: T, or one of time")
    return units[0] if units else "s"


def _seeds(entry: Any, seed: int) -> Values:
    if isinstance(entry, bool) or not isinstance(entry, int) or entry < 1:
        raise refused("sweep.seeds", entry, "it must be the number of seeds, at least 1")
    if entry <= MOST_POINTS and seed + entry - 1 > LARGEST_SEED:
        raise refused("sweep.seeds", entry, f"the last seed would be above {LARGEST_SEED}")
    return Values(SEEDS, None, (seed,), entry, SEEDS)


def _read(path: str, entry: Any, quantity: Quantity | None) -> Values:
    """The values of an axis, checked."""
    key = f"sweep.{path}"
    if isinstance(entry, list):
        if not entry:
            raise refused(key, entry, "a sweep needs at least one value")
        items = entry if quantity is None else [_read_item(key, item, quantity) for item in entry]
        return Values(path, quantity, tuple(items), len(items))
    if not isinstance(entry, Mapping) or len(entry) != 1 or next(iter(entry)) not in SWEPT_TABLES:
        raise refused(key, entry, _ENTRY)
    ((kind, triple),) = entry.items()
    if not isinstance(triple, list) or len(triple) != 3:
        raise refused(key, entry, f"a {kind} has two ends and a number of values, [a, b, n]")
    *ends, count = triple
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise refused(key, entry, "the number of values must be an integer, at least 1")
    try:
        items = tuple(_read_end(end, quantity) for end in ends)
        _check_ends(kind, items)
    except ValueError as error:
        raise refused(key, dict(entry), str(error)) from None
    return Values(path, quantity, items, count, kind)


def _read_item(key: str, value: Any, quantity: Quantity) -> Any:
    try:
        return quantity.read(value)
    except ValueError as error:
        raise refused(key, value, str(error)) from None


def _read_end(end: Any, quantity: Quantity | None) -> Any:
    """One end; that of a static path is a time, or a number that stays an integer where it is one."""
    if quantity is not None:
        return quantity.read_one(end)
    if isinstance(end, str):
        return read_time(end)
    read_number(end)
    return end


def _check_ends(kind: str, items: tuple[Any, ...]) -> None:
    first, last = map(_number, items)
    if math.isinf(first) or math.isinf(last) or math.isinf(last - first):
        raise ValueError("both ends must be finite")
    if kind == "logspace" and min(first, last) <= 0:
        raise ValueError("both ends of a logspace must be positive")
    _unit(items)


def _tied(groups: Any, axes: Axes) -> list[list[str]]:
    """The groups of tied axes: two or more of those that are swept, of one length, each in one group."""
    is_list_of_lists = isinstance(groups, list) and all(isinstance(group, list) and len(group) > 1 for group in groups)
    if not is_list_of_lists or not all(isinstance(path, str) for group in groups for path in group):
        raise refused("sweep.zip", groups, 'it must be a list of lists of two or more swept paths, as [["a", "b"]]')
    seen = set()
    for group in groups:
        for path in group:
            if path not in axes:
                raise unknown("axis in sweep.zip", printable(path), axes)
            if path in seen:
                raise refused("sweep.zip", groups, f"'{path}' may be tied once")
            seen.add(path)
            if axes[path].count != axes[group[0]].count:
                first, other = (f"'{name}' ({shown(axes[name].count)} values)" for name in (group[0], path))
                raise PlasticodeError(f"sweep.zip ties {first} to {other}: tied axes must have the same length")
    return groups


def _identifier(path: str) -> str:
    return re.sub(r"\W", "_", path)


def _check_names(paths: Iterable[str]) -> None:
    """Refuse paths that results cannot tell apart: "rule.flips.0" beside a parameter `flips_0` of a user's rule."""
    found: dict[str, str] = {}
    for path in paths:
        other = found.setdefault(_identifier(path), path)
        if other != path:
            raise PlasticodeError(f"sweep has both '{other}' and '{path}', which results call alike: one is allowed")


def check_size(sweeps: Iterable[Axes]) -> None:
    """Refuse grids that are too large, by their lengths alone: the sweeps of one spec, of all of its parts together."""
    points = programs = 0
    names: dict[str, None] = {}
    for sweep in sweeps:
        static, here, of_these = swept_paths(sweep)[1], 1, 1
        names |= dict.fromkeys(static)
        for group in dimensions(sweep):
            length = sweep[group[0]].count
            here *= length
            of_these *= length if any(path in static for path in group) else 1
        points, programs = points + here, programs + of_these
    if points > MOST_POINTS:
        raise PlasticodeError(f"a sweep of {shown(points)} points is refused: at most {MOST_POINTS}")
    if programs > MOST_PROGRAMS:
        raise PlasticodeError(
            f"a sweep of {shown(programs)} combinations of static values ({printable(', '.join(names))}) is refused: "
            f"at most {MOST_PROGRAMS}, since each is a program to compile"
        )
