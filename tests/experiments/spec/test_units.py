"""Times: a table of units, exact writing, and what is no time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamics.errors import PlasticodeError
from experiments.spec.loading import make_spec
from experiments.spec.units import Time, read_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50 ms", 0.05),
        ("50ms", 0.05),
        (" 7 ms ", 0.007),
        ("2 s", 2.0),
        ("10 min", 600.0),
        ("1 h", 3600.0),
        ("3 us", 3e-6),
        ("3 µs", 3e-6),
        ("5 ns", 5e-9),
        ("2.1 ms", 0.0021),  # 2.1 / 1000 is not
        ("8.2 min", 492.0),
        ("-0 s", 0.0),
        ("1e-3 s", 0.001),
        (".5 s", 0.5),
        ("inf", math.inf),
        (math.inf, math.inf),
        (0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
        ("0.5 T", 0.04),
    ],
)
def test_times_have_units(text, seconds):
    assert read_time(text).seconds(duration=0.08) == seconds


@pytest.mark.parametrize(
    "value",
    ["-5 ms", -1, "nan", math.nan, "5 parsecs", "5", "", "ms", "5 ms 3", "5 m s", "1_0 ms", "1e999 s", "1e308 h"]
    + ["inf ms", True, None, [1], {"a": 1}, 10**400, "٣ ms", "5\n ms\n x", "0x10 ms"],
)
def test_no_time(value):
    with pytest.raises(PlasticodeError, match=r"^delays\.error = .* is not allowed: ") as caught:
        make_spec({"delays": {"error": value}})
    assert "\n" not in str(caught.value)


@given(st.floats(0, allow_nan=False), st.sampled_from("sT"))
def test_written_times_read_back_exactly(value, unit):
    if unit == "T" and math.isinf(value):
        return
    assert read_time(str(Time(value, unit))) == Time(value, unit)
