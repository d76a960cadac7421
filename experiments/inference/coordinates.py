"""Free numbers as coordinates: each runs from 0 to 1 through its range, on a log scale if it can only be positive."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.errors import PlasticodeError, printable, refused, unknown
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.table import Fit, Free
from experiments.machine.names import hint
from experiments.spec.axes import swept_paths
from experiments.spec.paths import check_path, covers, quantity_at
from experiments.spec.spec import Spec
from experiments.spec.tables import Quantity
from experiments.spec.units import Time

OBSERVE = "observe"
NUMBER = Quantity(time=False)
# Why some numbers of a spec are none that a recording is asked for.
NOT_FREE = {
    "stimulus": "the stimulus is what the experiment has set, and so is known",
    "noise": "a fit integrates no noise of the process: it must be left out, and the verdict misfit tells of it",
}


@dataclass(frozen=True)
class Coordinate:
    """A free number: from `low` to `high`, in seconds where it `is_time`; on a log scale if `is_log`. `prior` is the
    mean and the standard deviation on that scale. `value` is that of the spec, None where it has none."""

    path: str
    low: float
    high: float
    is_log: bool
    is_time: bool
    prior: tuple[float, float] | None
    value: float | None

    def scaled(self, number: Any) -> Any:
        """A number on the scale."""
        return np.log(number) if self.is_log else number

    @property
    def ends(self) -> tuple[float, float]:
        """The range on the scale."""
        return float(self.scaled(self.low)), float(self.scaled(self.high))

    @property
    def width(self) -> float:
        """Of the range, on the scale."""
        return self.ends[1] - self.ends[0]

    def place(self, number: float) -> float:
        """Where in its range a number is, 0 to 1."""
        return (float(self.scaled(number)) - self.ends[0]) / self.width

    def number(self, place: Any) -> Any:
        """The number at a place, traced or not; beyond the range too."""
        at = self.ends[0] + place * self.width
        if not self.is_log:
            return at
        return jnp.exp(at) if isinstance(at, jnp.ndarray) else np.exp(at)

    def surprise(self, place: Any) -> Any:
        """How many standard deviations of its prior a place is from its mean."""
        assert self.prior is not None
        return (self.ends[0] + self.width * place - self.prior[0]) / self.prior[1]


def coordinates(spec: Spec, fit: Fit, values: Mapping[str, np.ndarray]) -> tuple[Coordinate, ...]:
    """The free numbers of a fit, in the order of its table; `values` are those of the spec, by path."""
    table = spec.values()
    for path in fit.free:
        if (whole := path.rpartition(".")[0]) in fit.free:
            raise PlasticodeError(f"'{whole}' is free and '{path}' too, which is a part of it: it must be either")
    found = []
    for path, free in fit.free.items():
        key = f"fit.free.{path}"
        head = path.split(".")[0]
        if head == OBSERVE or (head not in table and hint(head, (*table, OBSERVE)).endswith(f"'{OBSERVE}'?")):
            quantity, value = NUMBER, _observed(fit, path)
        else:
            quantity, value = _known(spec, path, table), value_at(path, values, spec.network.layers)
        low, high = (_read(key, quantity, one, spec) for one in free.range)
        if not low < high:
            raise refused(key, list(free.range), "the first must be below the second")
        is_log = _is_log(key, free, quantity, low)
        prior = None if free.prior is None else _prior(key, quantity, free, spec, is_log)
        if value is not None and not math.isfinite(value):
            value = None
        found.append(Coordinate(path, low, high, is_log, quantity.time, prior, value))
    return tuple(found)


def _known(spec: Spec, path: str, table: Mapping[str, Any]) -> Quantity:
    """What the number at a path of the spec may be; one that cannot be free is refused."""
    check_path(path, table, "fit.free.")
    section = path.split(".")[0]
    if section in NOT_FREE:
        raise PlasticodeError(f"fit.free.{path} is not allowed: {NOT_FREE[section]}")
    if any(covers(path, axis) or covers(axis, path) for axis in swept_paths(spec.sweep)[0]):
        raise PlasticodeError(f"'{path}' is free and swept at once: it must be either")
    quantity = quantity_at(path, table)
    if quantity is None:
        raise PlasticodeError(
            f"fit.free.{path} is not allowed: it is no number that is traced, such as timescales.plasticity or "
            "delays.error; models that differ in it are fitted one by one"
        )
    if quantity.coupled and spec.regime != "coupled":
        raise PlasticodeError(f"fit.free.{path} is not allowed with regime = '{spec.regime}', which does not heed it")
    return quantity


def _observed(fit: Fit, path: str) -> float | None:
    """The value of a free number of an observation."""
    of = {f"{OBSERVE}.{one.name}.{number}": one for one in fit.observe for number in LIKELIHOODS[one.noise].numbers}
    if path not in of:
        raise unknown("number in fit.free", printable(path), of)
    return of[path].number(path.rpartition(".")[2])


def value_at(path: str, values: Mapping[str, np.ndarray], layers: int) -> float | None:
    """The number of the spec at a path, which may be an item of a list, at the first of some points."""
    whole, item = (path, "") if path in values else path.rpartition(".")[::2]
    if whole not in values:
        return None
    found = values[whole][0]
    if not item:
        if np.ndim(found):
            raise PlasticodeError(
                f"fit.free.{path} is a list of {len(found)} numbers: each is free by itself, such as {path}.0"
            )
        return float(found)
    count = len(found) if np.ndim(found) else layers
    if int(item) >= count:
        raise PlasticodeError(f"fit.free.{path} is not allowed: '{whole}' has {count} values, counted from 0")
    return float(found[int(item)] if np.ndim(found) else found)


def _read(key: str, quantity: Quantity, value: Any, spec: Spec) -> float:
    """An end of a range, in seconds where it is a time."""
    try:
        read = quantity.read_one(value)
    except ValueError as error:
        raise refused(key, value, str(error)) from None
    number = read.seconds(spec.stimulus.duration.value) if isinstance(read, Time) else float(read)
    if not math.isfinite(number):
        raise refused(key, value, "both ends of a range must be finite")
    return number


def _is_log(key: str, free: Free, quantity: Quantity, low: float) -> bool:
    if free.scale == "log" and low <= 0:
        raise refused(f"{key}.scale", free.scale, "the range must be positive for it")
    return free.scale == "log" if free.scale is not None else low > 0 and not quantity.negative


def _prior(key: str, quantity: Quantity, free: Free, spec: Spec, is_log: bool) -> tuple[float, float]:
    assert free.prior is not None
    centre = _read(f"{key}.prior", quantity, free.prior[0], spec)
    if is_log and centre <= 0:
        raise refused(f"{key}.prior", list(free.prior), "its centre must be positive on a log scale")
    spread = _read(f"{key}.prior", NUMBER if is_log else quantity, free.prior[1], spec)
    if spread <= 0:
        raise refused(f"{key}.prior", list(free.prior), "its standard deviation must be positive")
    return (math.log(centre) if is_log else centre), spread


def numbers(of: Sequence[Coordinate], places: Float[Array, " free"]) -> dict[str, Float[Array, ""]]:
    """The free numbers by path, at places in their ranges."""
    return {one.path: one.number(places[i]) for i, one in enumerate(of)}
