"""Times with units: "50 ms", "2 s", "inf", plain seconds, and "0.5 T" in multiples of the stimulus duration T."""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from dynamics.errors import printable

# unit -> (multiply, divide)
UNITS = {
    "ns": (1, 10**9),
    "us": (1, 10**6),
    "µs": (1, 10**6),
    "μs": (1, 10**6),
    "ms": (1, 1000),
    "s": (1, 1),
    "min": (60, 1),
    "h": (3600, 1),
}
_NUMBER_AND_UNIT = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?) *([a-zA-Zµμ]*)")
_EXAMPLES = 'a time is a number of seconds, "inf", or a number and a unit (ns, us, ms, s, min, h, T), such as "50 ms"'


@dataclass(frozen=True, repr=False)
class Time:
    """A time: `value` in seconds (unit "s") or in stimulus durations (unit "T")."""

    value: float
    unit: Literal["s", "T"] = "s"

    def seconds(self, duration: float) -> float:
        """The time in seconds where a stimulus lasts `duration` seconds."""
        return self.value * duration if self.unit == "T" else self.value

    def __repr__(self) -> str:
        return repr(str(self))

    def __str__(self) -> str:
        """The text that reads back as exactly this time, in the most legible unit."""
        if self.unit == "T":
            return f"{_plain(self.value)} T"
        if math.isinf(self.value):
            return "inf"
        for unit, scale in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
            scaled = self.value * scale
            if scaled >= 1 and scaled == round(scaled, 6) and _in_seconds(_plain(scaled), 1, scale) == self.value:
                return f"{_plain(scaled)} {unit}"
        return f"{_plain(self.value)} s"


def read_time(value: object) -> Time:
    """Read a time of either sign; the `ValueError` of anything else says only what is allowed."""
    if isinstance(value, Time):
        return value
    if isinstance(value, str):
        return _from_text(value.strip())
    return Time(read_number(value, _EXAMPLES))


def read_number(value: object, allowed: str = "it must be a number") -> float:
    """Read a number other than NaN, never a text or a truth value; the `ValueError` says what is `allowed`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(allowed)
    try:
        number = float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None
    if math.isnan(number):
        raise ValueError(allowed)
    return number


def _from_text(text: str) -> Time:
    if text in ("inf", "+inf"):
        return Time(math.inf)
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None:
        raise ValueError(_EXAMPLES)
    number, unit = float(match[1]), match[2]
    if not unit:
        raise ValueError(f"the unit is missing: {_EXAMPLES}")
    if unit != "T" and unit not in UNITS:
        raise ValueError(f"the unit '{printable(unit)}' is not known: {_EXAMPLES}")
    if math.isinf(number):
        raise ValueError("the number is too large")
    if unit == "T":
        return Time(number, "T")
    seconds = _in_seconds(match[1], *UNITS[unit])
    if math.isinf(seconds):
        raise ValueError("the number is too large")
    return Time(seconds)


def _in_seconds(number: str, multiply: int, divide: int) -> float:
    """The float64 nearest to the time that is written: "2.1 ms" is 0.0021, and 2.1 / 1000 is not."""
    return float(Decimal(number) * multiply / divide)


def _plain(number: float) -> str:
    return repr(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)
