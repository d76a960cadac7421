"""Sweeps: the grid's order, static groups, traced numbers of every point, and refusals that cost no time."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dynamics.errors import PlasticodeError
from experiments.spec.axes import read_sweep
from experiments.spec.grid import Sweep, expand
from experiments.spec.loading import load_spec, make_spec
from experiments.spec.units import Time

PLAIN = make_spec({"rule": "fa"}).values()


def sweep(axes: dict, **tables) -> Sweep:
    return expand(make_spec({**tables, "sweep": axes}))


def values_of(path: str, entry: dict) -> list:
    """Those of an entry of [sweep], without the spec and the points around it, which take a hundred times as long."""
    return read_sweep({**PLAIN, "sweep": {path: entry}})[path].coordinate().values.tolist()


def test_without_a_sweep_there_is_one_point():
    grid = expand(make_spec({"seed": 7}))
    (group,) = grid.groups
    assert (grid.shape, grid.size, group.index.shape, group.seeds.tolist()) == ((), 1, (1, 0), [7])


def test_every_traced_number_has_a_value_for_every_point():
    grid = sweep({"delays.error": [0, 1, 2]}, rule="fa", noise={"synaptic": 0.5}, timescales={"decay": [1, "inf"]})
    values = grid.groups[0].values
    assert set(values) == {
        "network.gain", "timescales.propagation", "timescales.plasticity", "timescales.decay", "stimulus.duration",
        "stimulus.gap", "delays.error", "delays.hop", "delays.input", "noise.synaptic", "rule.feedback_scale",
    }  # fmt: skip
    assert all(value.dtype == np.float64 for value in values.values())
    assert values["timescales.decay"].tolist() == [[1, math.inf]] * 3
    assert values["delays.error"].tolist() == [0, 1, 2]
    assert values["stimulus.duration"].tolist() == [0.05] * 3
    assert values["noise.synaptic"].tolist() == [0.5] * 3


def test_the_last_axis_varies_fastest():
    axes = {"delays.error": [1, 2], "network.gain": {"linspace": [0, 1, 3]}, "seeds": 2}
    grid = sweep(axes, seed=10)
    (group,) = grid.groups
    expected = list(itertools.product([1, 2], [0, 0.5, 1], [10, 11]))
    assert grid.shape == (2, 3, 2)
    assert list(zip(group.values["delays.error"], group.values["network.gain"], group.seeds, strict=True)) == expected
    assert group.index.tolist() == [list(index) for index in np.ndindex(grid.shape)]


def test_static_axes_make_one_group_per_combination():
    rules = ["sgd", {"name": "fa", "feedback_scale": 2.0}]
    grid = sweep({"delays.error": [0, 1, 2], "rule": rules, "network.hidden": [[3], [4, 4]]})
    assert [(group.static.rule.name, group.static.network.hidden) for group in grid.groups] == [
        ("sgd", (3,)), ("sgd", (4, 4)), ("fa", (3,)), ("fa", (4, 4)),
    ]  # fmt: skip
    points = np.concatenate([group.index for group in grid.groups])
    assert sorted(map(tuple, points.tolist())) == list(np.ndindex(grid.shape))
    assert grid.groups[2].index.tolist() == [[0, 1, 0], [1, 1, 0], [2, 1, 0]]
    assert grid.groups[2].values["rule.feedback_scale"].tolist() == [2.0] * 3
    assert "rule.feedback_scale" not in grid.groups[0].values
    assert grid.axes[1].members[0].labels == ["sgd", "fa(feedback_scale=2.0)"]
    assert grid.axes[2].members[0].labels == ["[3]", "[4, 4]"]
    assert not grid.groups[0].static.sweep


def test_equal_static_values_share_a_group():
    grid = sweep({"rule": ["fa", "kp", "fa"], "network.gain": [1, 2, 3], "zip": [["rule", "network.gain"]]})
    assert [(group.static.rule.name, group.values["network.gain"].tolist()) for group in grid.groups] == [
        ("fa", [1, 3]), ("kp", [2]),
    ]  # fmt: skip
    assert [group.index.tolist() for group in grid.groups] == [[[0], [2]], [[1]]]


def test_rule_parameters_are_traced_axes():
    grid = sweep({"rule": ["fa", "kp"], "rule.feedback_scale": [0.5, 1.5]})
    assert [group.values["rule.feedback_scale"].tolist() for group in grid.groups] == [[0.5, 1.5]] * 2
    assert sweep({"rule.name": ["fa", "kp"]}).groups[1].static.rule.name == "kp"
    with pytest.raises(PlasticodeError, match="no such traced number"):
        sweep({"rule": ["fa", "sgd"], "rule.feedback_scale": [0.5, 1.5]})


def test_zipped_axes_are_one_dimension():
    axes = {"delays.error": [1, 2], "seeds": 3, "timescales.plasticity": {"logspace": [1, 100, 3]}}
    grid = sweep(axes | {"zip": [["seeds", "timescales.plasticity"]]})
    assert [axis.paths for axis in grid.axes] == [("delays.error",), ("seed", "timescales.plasticity")]
    assert [axis.name for axis in grid.axes] == ["delays_error", "seed"]
    assert grid.shape == (2, 3)
    np.testing.assert_allclose(grid.groups[0].values["timescales.plasticity"], [1, 10, 100] * 2)
    assert grid.groups[0].seeds.tolist() == [0, 1, 2] * 2
    np.testing.assert_allclose(grid.axes[1].members[1].values, [1, 10, 100])


def test_relative_times_are_resolved_point_by_point():
    axes = {"stimulus.duration": ["50 ms", "80 ms"], "delays.error": {"linspace": ["0 T", "1 T", 3]}}
    timescales = {"propagation": "0.1 T", "plasticity": ["10 T", "3 s"]}
    grid = sweep(axes, stimulus={"gap": "0.5 T"}, timescales=timescales, integrator={"dt": "0.02 T"})
    values = grid.groups[0].values
    np.testing.assert_allclose(values["delays.error"], [0, 0.025, 0.05, 0, 0.04, 0.08])
    np.testing.assert_allclose(values["stimulus.gap"], [0.025] * 3 + [0.04] * 3)
    np.testing.assert_allclose(values["timescales.propagation"], [0.005] * 3 + [0.008] * 3)
    np.testing.assert_allclose(values["timescales.plasticity"], [[0.5, 3]] * 3 + [[0.8, 3]] * 3)
    assert grid.groups[0].static.integrator.dt == Time(0.001), "the largest step suits the shortest stimulus"
    assert grid.groups[0].static.stimulus.duration == Time(0.05), "swept numbers keep their base values"
    assert grid.axes[1].members[0].units == "T" and grid.axes[1].members[0].values.tolist() == [0, 0.5, 1]


def test_setting_the_duration_moves_relative_times():
    delays = expand(load_spec("delay-sweep", ["stimulus.duration=80 ms"])).groups[0].values["delays.error"]
    assert delays.max() == pytest.approx(1.2 * 0.08)


def test_per_layer_values():
    grid = sweep({"timescales.plasticity.1": ["1 s", "2 T"]}, timescales={"plasticity": "3 s"})
    np.testing.assert_allclose(grid.groups[0].values["timescales.plasticity"], [[3, 1], [3, 0.1]])
    grid = sweep({"timescales.plasticity": ["1 s", ["2 s", "3 s"]]})
    assert grid.groups[0].values["timescales.plasticity"].tolist() == [[1, 1], [2, 3]]
    assert grid.axes[0].members[0].values.tolist() == ["1 s", '["2 s", "3 s"]']
    axes = {"timescales.plasticity.0": [1, 2], "timescales.plasticity": [5, 6]}
    assert sweep(axes).groups[0].values["timescales.plasticity"].tolist() == [[1, 5], [1, 6], [2, 5], [2, 6]]
    grid = sweep({"rule.flips.0": [0.5, 0.25]}, rule={"name": "curl", "flips": 0.0})
    assert grid.groups[0].values["rule.flips"].tolist() == [[0.5, 0], [0.25, 0]]


def test_swept_optional_numbers_are_present_in_all_points():
    grid = sweep({"noise.activity": [0, 0.1], "timescales.trace": ["1 T", "1 s"]})
    assert grid.groups[0].values["noise.activity"].tolist() == [0, 0, 0.1, 0.1]
    assert grid.groups[0].values["timescales.trace"].tolist() == [0.05, 1, 0.05, 1]


@pytest.mark.parametrize(
    ("path", "entry", "values", "units"),
    [
        ("delays.error", ["50 ms", "0 T"], [0.05, 0], "s"),
        ("delays.error", ["0 s", "0.5 T"], [0, 0.5], "T"),
        ("delays.error", ["50 ms", "0.5 T"], ["50 ms", "0.5 T"], ""),
        ("timescales.decay", ["1 min", "inf"], [60, math.inf], "s"),
        ("timescales.decay", ["2 T", "inf"], [2, math.inf], "T"),
        ("timescales.decay", {"logspace": ["1 s", "100 s", 3]}, [1, 10, 100], "s"),
        ("noise.activity", [0.5, 1], [0.5, 1], ""),
        ("task.seed", {"linspace": [100, 300, 3]}, [100, 200, 300], ""),
        ("task.seed", {"logspace": [100, 10000, 3]}, [100, 1000, 10000], ""),
        ("task.scale", {"linspace": [1, 2, 3]}, [1, 1.5, 2], ""),
        ("integrator.dt", {"linspace": ["1 ms", "2 ms", 2]}, [0.001, 0.002], "s"),
        ("integrator.name", ["euler", "heun"], ["euler", "heun"], ""),
        ("network.bias", [True, False], ["true", "false"], ""),
        ("seed", [5, 3], [5, 3], ""),
        ("delays.error", {"linspace": ["1 ms", "9 ms", 1]}, [0.001], "s"),
    ],
)
def test_coordinates(path, entry, values, units):
    grid = sweep({path: entry})
    ((axis,),) = (axis.members for axis in grid.axes)
    assert (axis.path, axis.units, grid.shape) == (path, units, (len(values),))
    assert axis.values.tolist() == (values if isinstance(values[0], str) else pytest.approx(values, rel=1e-12))
    assert grid.size == sum(group.size for group in grid.groups)


@given(st.integers(-999, 999), st.integers(-999, 999), st.integers(2, 9), st.integers(-9, 9))
def test_a_linspace_has_the_numbers_that_are_meant(first, last, count, exponent):
    """The float64 next to the exact fraction, between ends as they are written in decimals; also at the ends."""
    assume(first != last)  # equal values are refused
    unit = Fraction(10) ** exponent
    ends = [float(f"{end}e{exponent}") for end in (first, last)]
    exact = [float((first + Fraction(last - first, count - 1) * i) * unit) for i in range(count)]
    assert values_of("rule.feedback_scale", {"linspace": [*ends, count]}) == exact


@given(st.integers(1, 999), st.integers(-9, 9), st.integers(1, 6))
def test_a_logspace_of_decades_has_round_numbers(first, exponent, decades):
    texts = [f"{first}e{exponent + i}" for i in range(decades + 1)]
    for written in (texts, texts[::-1]):
        entry = {"logspace": [float(written[0]), float(written[-1]), decades + 1]}
        assert values_of("network.gain", entry) == list(map(float, written))


def test_a_logspace_is_that_of_numpy():
    found = sweep({"network.gain": {"logspace": [0.3, 7e5, 41]}}).axes[0].members[0].values
    np.testing.assert_allclose(found, np.geomspace(0.3, 7e5, 41), rtol=1e-14)
    tie = [7.135163280271567e18, 1.885316544218319e16]  # digits that lie between two float64
    assert sweep({"network.gain": {"logspace": [*tie, 3]}}).axes[0].members[0].values[[0, 2]].tolist() == tie


BAD = [
    ({"delays.error": []}, ["sweep.delays.error = []", "at least one value"]),
    ({"delays.error": 3}, ["sweep.delays.error = 3", "linspace"]),
    ({"delays.error": {}}, ["sweep.delays.error = {}", "logspace"]),
    ({"delays.error": {"linspac": [0, 1, 2]}}, ["sweep.delays.error", "linspace"]),
    ({"delays.error": {"linspace": [0, 1]}}, ["two ends and a number"]),
    ({"delays.error": {"linspace": [0, 1, 0]}}, ["integer, at least 1"]),
    ({"delays.error": {"linspace": [0, 1, 2.0]}}, ["integer, at least 1"]),
    ({"delays.error": {"linspace": [0, 1, True]}}, ["integer, at least 1"]),
    ({"delays.error": {"linspace": ["0.5 T", "1 s", 3]}}, ["the same unit"]),
    ({"timescales.decay": {"linspace": [1, "inf", 3]}}, ["finite"]),
    ({"delays.error": {"logspace": [0, 1, 3]}}, ["positive"]),
    ({"rule.feedback_scale": {"logspace": [-1, 1, 3]}}, ["sweep.rule.feedback_scale", "positive"]),
    ({"delays.error": ["-1 ms"]}, ["sweep.delays.error = '-1 ms'", "zero or positive"]),
    ({"stimulus.duration": ["1 T"]}, ["sweep.stimulus.duration = '1 T'", "in seconds"]),
    ({"stimulus.duration": {"linspace": [0, 1, 3]}}, ["stimulus.duration", "positive"]),
    ({"delays.eror": [1]}, ["'sweep.delays.eror'", "mean 'error'"]),
    ({"dellays": [1]}, ["'sweep.dellays'", "mean 'delays'"]),
    ({"rule.feedback_scal": [1]}, ["'sweep.rule.feedback_scal'", "mean 'feedback_scale'"]),
    ({"rule": ["fa", "sdg"]}, ["rule 'sdg'"]),
    ({"rule": [3]}, ["rule = 3"]),
    ({"name": ["a"]}, ["sweep.name = ['a']", "cannot be swept"]),
    ({"network.hidden": [[0]]}, ["network.hidden.0 = 0"]),
    ({"integrator.name": ["heun", "rk4"]}, ["integrator.name = 'rk4'"]),
    ({"seeds": 0}, ["sweep.seeds = 0", "at least 1"]),
    ({"seeds": [1]}, ["sweep.seeds = [1]", "number of seeds"]),
    ({"seed": 5}, ["sweep.seed = 5", "their number is 'seeds'"]),
    ({"seeds": 2, "seed": [1, 2]}, ["'seed' and 'seeds'"]),
    ({"seed": [3, 4, 3]}, ["sweep has seed = 3 more than once", "take it once"]),
    ({"delays.error": ["10 ms", "2 ms", 0.01]}, ["sweep has delays.error = 0.01 s more than once"]),
    ({"delays.error": {"linspace": ["1 T", "1 T", 3]}}, ["sweep has delays.error = 1.0 T more than once"]),
    ({"rule": ["fa", "sgd", {"name": "fa"}]}, ["sweep has rule = 'fa' more than once"]),
    (
        {"delays.error": [1, 0, 1], "rule": ["fa", "fa", "fa"], "zip": [["rule", "delays.error"]]},
        ["sweep has rule = 'fa' with delays.error = 1.0 s more than once"],
    ),
    ({"seed": [1.5]}, ["sweep.seed = 1.5", "integer"]),
    ({"seed": [-1]}, ["sweep.seed = -1", "integer"]),
    ({"delays.error": [1], "delays": {"error": [1]}}, ["'delays.error' twice"]),
    ({"zip": 3}, ["sweep.zip = 3"]),
    ({"delays.error": [1], "zip": [["delays.error"]]}, ["sweep.zip", "two or more"]),
    ({"delays.error": [1], "delays.hop": [1], "zip": [["delays.error", "delays.hopp"]]}, ["mean 'delays.hop'"]),
    ({"delays.error": [1, 2], "delays.hop": [1], "zip": [["delays.error", "delays.hop"]]}, ["2 values", "1 values"]),
    ({"delays.error": [1], "delays.hop": [1], "zip": [["delays.error", "delays.hop", "delays.error"]]}, ["tied once"]),
    ({"timescales.decay": [[1, 2], [1, 2, 3]]}, ["lists of 2 and 3 values"]),
    ({"timescales.decay": [[1, 2, 3]]}, ["sweep.timescales.decay = [1.0, 2.0, 3.0]", "2 layers"]),
    ({"timescales.decay.2": [1]}, ["sweep.timescales.decay.2", "2 values"]),
    ({"timescales.trace.0": [1]}, ["timescales.trace", "absent"]),
    ({"network.hidden.1": [3]}, ["network.hidden.1 = 3", "1 values"]),
    ({"integrator.adaptive": [True], "integrator.name": ["heun"], "delays.hop": [0]}, ["knows no delays"]),
    ({"stimulus.presentations": [5]}, ["sweep.stimulus.presentations", "use parts"]),
    ({"record.points": [5]}, ["sweep.record.points", "recorded alike"]),
    ({"dtype": ["float64"]}, ["sweep.dtype", "one dtype"]),
    ({"delays.error": {"linspace": [0, 1, 1001]}, "seeds": 1000}, ["1001000 points is refused: at most 1000000"]),
    ({"task.seed": {"linspace": [100, 2000, 1901]}}, ["1901 combinations", "at most 1000"]),
]


@pytest.mark.parametrize(("axes", "expected"), BAD, ids=[str(axes)[:60] for axes, _ in BAD])
def test_refusals_are_sentences(axes, expected):
    with pytest.raises(PlasticodeError) as caught:
        sweep(axes, rule="fa")
    assert str(caught.value).isprintable()
    for words in expected:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "axes",
    [{"delays.error": {"linspace": [0, 1, 10**9]}}, {"seeds": 10**18}, {"task.scale": {"logspace": [1, 2, 10**9]}}],
)
def test_huge_grids_are_refused_at_once(axes):
    start = time.process_time()
    with pytest.raises(PlasticodeError, match=r"points is refused: at most 1000000$"):
        sweep(axes)
    assert time.process_time() - start < 5


def test_overflow_of_relative_times_is_refused():
    with pytest.raises(PlasticodeError, match="delays.error = inf"):
        sweep({"delays.error": ["1e308 T"]}, stimulus={"duration": 1e10})


def test_a_spec_with_parts_is_expanded_part_by_part():
    with pytest.raises(PlasticodeError, match="parts \\(a, b\\)"):
        expand(make_spec({"parts": {"a": {}, "b": {}}}))


def test_the_largest_grid_expands_quickly():
    start = time.process_time()
    grid = sweep({"delays.error": {"linspace": ["0 T", "1 T", 1000]}, "seeds": 1000})
    assert grid.size == 1_000_000 and time.process_time() - start < 20


def phases(first: dict, second: dict) -> list[dict]:
    return [{"name": name, "presentations": 800, "set": own} for name, own in (("first", first), ("second", second))]


LATE = {"delays.error": [0, 1]}


@pytest.mark.parametrize(
    "tables",
    [
        {"sweep": LATE},
        {"sweep": {"rule": ["fa", "kp"], **LATE}},
        {"sweep": LATE, "phases": phases({}, {"timescales.plasticity": 1})},
        {"sweep": {"phases.second.delays.error": [0, 1]}, "phases": phases({}, {"timescales.plasticity": 1})},
        {"phases": phases({}, {"delays.error": "10 ms"})},
        {"delays": {"stages": 2, "error": 1}, "phases": phases({"delays.error": 0}, {})},
    ],
)
def test_gamma_lags_may_be_those_of_a_sweep_or_of_a_phase_alone(tables):
    """A lag at any point or in any phase is one that delays.stages needs."""
    (group, *_) = expand(make_spec({"delays": {"stages": 2}, **tables})).groups
    assert group.static.delays.stages == 2
    assert group.ever["delays.error"].min() == 0 < group.ever["delays.error"].max()


def test_stages_without_a_lag_anywhere_are_refused_with_phases_too():
    with pytest.raises(PlasticodeError, match=r"^delays\.stages = 2 is not allowed: it needs a lag"):
        make_spec({"delays": {"stages": 2}, "phases": phases({"delays.error": 0}, {"timescales.plasticity": 1})})


def test_phases_of_a_flow_have_the_solver_that_swept_noise_needs():
    axes = {"noise.synaptic_multiplicative": [0.1, 0.2]}
    tables = {"regime": "flow", "phases": phases({}, {"timescales.plasticity": 1})}
    (group,) = sweep(axes, **tables).groups
    assert [stage.solver for stage in group.static.stages()] == ["euler", "euler"]
