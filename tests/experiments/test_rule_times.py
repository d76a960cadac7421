"""Times of rules: read and shown like other times, and refused where steps are too long for them."""

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from experiments.points import jobs
from experiments.points.assemble import circuit_of, lags_of, plan, remembering
from experiments.spec.grid import expand
from experiments.spec.loading import load_spec, make_spec
from experiments.spec.spec import dump_toml
from experiments.spec.units import Time
from tests.problems import f64

pytestmark = pytest.mark.usefixtures("unchecked_types")
BCM = {
    "rule": "bcm",
    "task": {"name": "gaussian-inputs"},
    "network": {"hidden": [], "outputs": 3, "bias": False},
    "stimulus": {"presentations": 20, "duration": "50 ms"},
    "dtype": "float64",
}
CURL = {"name": "curl", "credit": {"name": "bcm", "threshold_timescale": "0.5 T"}}


def spec_of(threshold=None, **changes):
    rule = {"name": "bcm"} | ({} if threshold is None else {"threshold_timescale": threshold})
    return make_spec({**BCM, "rule": rule, **changes})


def timescale_of(spec, point=0):
    """The time constant of the threshold that one point's rule wires."""
    group = expand(spec).groups[0]
    made = plan(group, spec.task.load())
    values = {path: f64(value[point]) for path, value in group.values.items()}
    timescale = circuit_of(made, values).layers[1].variables[0].timescale
    assert timescale is not None
    return float(timescale)


@pytest.mark.parametrize(("text", "seconds"), [("200 ms", 0.2), ("4 T", 0.2), ("0.2 s", 0.2), (0.2, 0.2), (1, 1.0)])
def test_a_time_of_a_rule_takes_units(text, seconds):
    assert abs(timescale_of(spec_of(text)) - seconds) < 1e-15


def test_the_default_is_written_with_a_unit():
    spec = spec_of()
    assert spec.rule.parameters["threshold_timescale"] == Time(0.5)
    assert 'threshold_timescale = "500 ms"' in dump_toml(spec)
    assert make_spec(spec.table()) == spec
    assert spec_of("0.5 s") == spec_of("500 ms") == spec == spec_of(0.5)


def test_settings_and_quick_tables_take_units(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(dump_toml(spec_of()) + '\n[quick]\n"rule.threshold_timescale" = "3 T"\n')
    assert load_spec(path, ["rule.threshold_timescale=4 T"]).rule.parameters["threshold_timescale"] == Time(4.0, "T")
    assert load_spec(path, ['rule.threshold_timescale="80 ms"']).rule.parameters["threshold_timescale"] == Time(0.08)
    assert load_spec(path, quick=True).rule.parameters["threshold_timescale"] == Time(3.0, "T")


@pytest.mark.parametrize(
    ("entry", "units", "seconds"),
    [
        (["100 ms", "1 s"], "s", [0.1, 1.0]),
        (["2 T", "4 T"], "T", [0.1, 0.2]),
        ({"linspace": ["2 T", "4 T", 2]}, "T", [0.1, 0.2]),
        ([0.1, 1.0], "s", [0.1, 1.0]),
    ],
)
def test_a_sweep_of_a_rule_s_time_has_units(entry, units, seconds):
    spec = spec_of(sweep={"rule.threshold_timescale": entry})
    ((axis,),) = (axis.members for axis in expand(spec).axes)
    assert axis.units == units and all(label.endswith(f" {units}") for label in axis.labels)
    assert np.allclose([timescale_of(spec, point) for point in range(2)], seconds, rtol=1e-14)


def test_a_time_of_a_wrapped_rule_takes_units():
    assert abs(timescale_of(make_spec({**BCM, "rule": CURL})) - 0.025) < 1e-15
    inner = CURL | {"credit": {"name": "bcm", "threshold_timescale": "0.3 s"}}
    assert abs(timescale_of(make_spec({**BCM, "rule": inner})) - 0.3) < 1e-15


@pytest.mark.parametrize("value", ["0.2", "0.2 K", -0.2, "0 s", "inf", [True], "soon"])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(PlasticodeError, match="rule.threshold_timescale"):
        spec_of(value)


def test_a_delay_of_a_rule_may_be_zero_and_lengthens_the_past_of_a_run():
    """A time whose default is zero. The past holds the longest lag of any point, in steps, and two more."""
    table = {"task": {"name": "digits"}, "network": {"hidden": [3]}, "integrator": {"name": "heun", "dt": "1 ms"}}
    table |= {"stimulus": {"duration": "50 ms"}, "rule": "three-factor", "dtype": "float64"}
    for sweep, past in ((["0 s"], 2), (["0 s", "0.5 T", "80 ms"], 82)):
        spec = make_spec({**table, "sweep": {"rule.reward_delay": sweep}})
        group = expand(spec).groups[0]
        made = plan(group, spec.task.load())
        assert remembering(made, group.values, lags_of(made)).history == past
    with pytest.raises(PlasticodeError, match="rule.reward_delay"):
        make_spec({**table, "rule": {"name": "three-factor", "reward_delay": "-1 ms"}})


def test_what_settles_has_no_limit_by_steps_of_a_presentation():
    """The plateaus of a discrete run settle, however quick; in a coupled run its steps must follow them."""
    rule = {"name": "behavioural-timescale", "instruction": "0.1 ms"}
    table = {"task": {"name": "digits"}, "network": {"hidden": [3]}, "rule": rule}
    jobs.job_of(make_spec({**table, "regime": "discrete"}), "", 0)
    coupled = {**table, "regime": "coupled", "integrator": {"name": "heun", "dt": "1 ms"}}
    with pytest.raises(PlasticodeError, match="not allowed with rule.instruction = 0.0001 s"):
        jobs.job_of(make_spec(coupled), "", 0)


# Steps


@pytest.mark.parametrize(
    ("regime", "threshold", "step"),
    [
        ("discrete", "24.9 ms", "stimulus.duration \\+ stimulus.gap = 0.05 s"),
        ("discrete", "0.4 T", "stimulus.duration \\+ stimulus.gap = 0.05 s"),
        ("flow", "0.4 ms", "integrator.dt = 0.001 s"),
        ("coupled", "0.4 ms", "integrator.dt = 0.001 s"),
    ],
)
def test_a_threshold_faster_than_a_step_is_refused(regime, threshold, step):
    integrator = {"name": "euler", "dt": "1 ms"}
    spec = spec_of(threshold, regime=regime, integrator=integrator)
    with pytest.raises(PlasticodeError, match=f"{step} is not allowed with rule.threshold_timescale = .* twice"):
        jobs.prepare(spec)
    jobs.prepare(spec_of("100 ms", regime=regime, integrator=integrator))


def test_the_worst_point_of_a_sweep_counts():
    sweep = {"rule.threshold_timescale": ["1 s", "20 ms", "2 s"], "stimulus.gap": ["0 ms", "10 ms"]}
    with pytest.raises(PlasticodeError, match="= 0.06 s is not allowed with rule.threshold_timescale = 0.02 s"):
        jobs.prepare(spec_of(regime="discrete", sweep=sweep))


def test_the_steps_of_a_point_are_held_against_its_own_time_constants():
    """10 ms are short for 40 ms, and 1 ms for 2 ms; that 10 ms are long for 2 ms concerns no point."""
    tied, steps = ["stimulus.duration", "timescales.propagation"], {"name": "euler", "dt": "10 ms"}
    sweep = {tied[0]: ["1 s", "100 ms"], tied[1]: ["40 ms", "2 ms"], "zip": [tied]}
    jobs.prepare(spec_of(integrator=steps, sweep=sweep))
    with pytest.raises(PlasticodeError, match="dt = 0.01 s is not allowed with timescales.propagation = 0.002 s"):
        jobs.prepare(spec_of(integrator=steps, sweep=sweep | {tied[1]: ["2 ms", "40 ms"]}))


def test_steps_that_are_too_long_for_the_stages_of_a_lag_are_refused():
    lags = {"delays": {"hop": "10 ms", "stages": 5}, "timescales": {"propagation": "10 ms"}}
    with pytest.raises(PlasticodeError, match="dt = 0.005 s is not allowed with delays.hop / delays.stages = 0.002 s"):
        jobs.prepare(spec_of(integrator={"name": "euler", "dt": "5 ms"}, **lags))


def test_windows_and_adaptive_steps_have_no_such_limit():
    jobs.prepare(spec_of("0.4 ms"))
    jobs.prepare(spec_of("0.4 ms", integrator={"adaptive": True}))


@pytest.mark.parametrize(
    ("regime", "decay", "step"),
    [("discrete", ["20 ms"], "stimulus.duration \\+ stimulus.gap"), ("flow", "0.4 ms", "integrator.dt")],
)
def test_a_decay_faster_than_a_step_is_refused(regime, decay, step):
    spec = spec_of(regime=regime, timescales={"decay": decay})
    with pytest.raises(PlasticodeError, match=f"{step} = .* s is not allowed with timescales.decay = .* s"):
        jobs.prepare(spec)
    jobs.prepare(spec_of(regime=regime, timescales={"decay": "30 ms"}))


def test_a_wrapped_rule_is_looked_at_too():
    with pytest.raises(PlasticodeError, match="not allowed with rule.credit.threshold_timescale = 0.02 s"):
        inner = CURL | {"credit": {"name": "bcm", "threshold_timescale": "0.4 T"}}
        jobs.prepare(make_spec({**BCM, "rule": inner, "regime": "discrete"}))
