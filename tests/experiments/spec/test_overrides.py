"""Overrides: their order, parts, and settings of the command line, right and wrong."""

import math

import pytest

from dynamics.errors import PlasticodeError
from experiments.spec.grid import expand
from experiments.spec.loading import load_spec
from experiments.spec.units import Time
from tests.spec_texts import PARTS


def test_settings_win_over_quick_and_quick_over_the_file(write):
    path = write("[stimulus]\npresentations = 1000\ngap = 1\n[quick]\nstimulus.presentations = 100\n'stimulus.gap' = 2")
    settings = ["stimulus.gap=3"]
    read = {
        "file": load_spec(path),
        "quick": load_spec(path, quick=True),
        "settings": load_spec(path, settings, quick=True, seed=9),
    }
    assert [spec.stimulus.presentations for spec in read.values()] == [1000, 100, 100]
    assert [spec.stimulus.gap.value for spec in read.values()] == [1, 2, 3]
    assert [spec.seed for spec in read.values()] == [0, 0, 9]


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("stimulus.gap=50 ms", "stimulus.gap", Time(0.05)),
        ('stimulus.gap="50 ms"', "stimulus.gap", Time(0.05)),
        ("stimulus.gap = 2", "stimulus.gap", Time(2.0)),
        ("timescales.decay=['1 s', 2]", "timescales.decay", (Time(1.0), Time(2.0))),
        ("timescales.decay.1=1 s", "timescales.decay", (Time(math.inf), Time(1.0))),
        ("network.hidden.0=7", "network.hidden", (7,)),
        ("rule=fa", "rule.parameters", {"feedback_scale": 1.0}),
        ("rule={name='fa', feedback_scale=3}", "rule.parameters", {"feedback_scale": 3.0}),
        ("rule.name=curl", "rule.name", "curl"),
        ("task=circles", "task.samples", 1000),
        ("task.name=circles", "task.samples", 1000),
        ("noise={activity=0.5}", "noise.activity", 0.5),
    ],
)
def test_settings(write, setting, path, value):
    assert load_spec(write("task.scale = 2"), [setting]).at(path) == value


def test_later_settings_build_on_earlier_ones(write):
    spec = load_spec(write(""), ["rule=fa", "rule.feedback_scale=5", "timescales.decay.0=1", "timescales.decay.1=2"])
    assert spec.rule.parameters == {"feedback_scale": 5.0}
    assert spec.timescales.decay == (Time(1.0), Time(2.0))
    spec = load_spec(write(""), ["rule=fa", "rule.feedback_scale=5", "rule=kp"])
    assert spec.rule.parameters == {"feedback_scale": 1.0}


def test_settings_replace_and_add_axes(write):
    path = write("[sweep]\ndelays.error = [0, 1]\nseeds = 2")
    assert expand(load_spec(path, ["sweep.delays.error=[1, 2, 3]", "sweep.seeds=4"])).shape == (3, 4)
    assert expand(load_spec(path, ["sweep.rule=['sgd', 'fa']"])).shape == (2, 2, 2)


def test_parts_have_their_own_values_and_sweeps(write):
    parts = load_spec(write(PARTS)).parts()
    assert list(parts) == ["delay", "window"]
    assert [part.rule.name for part in parts.values()] == ["kp", "fa"]
    assert [part.stimulus.gap for part in parts.values()] == [Time(0.0, "T"), Time(1.0, "T")]
    assert parts["window"].rule.parameters == {"feedback_scale": 2.0}
    assert [expand(part).shape for part in parts.values()] == [(2, 3), (3,)]
    assert {part.seed for part in parts.values()} == {1}


def test_overrides_reach_the_parts_in_order(write):
    """File < quick < part's quick < settings; what a part sets itself stays, except for its own quick."""
    path = write(PARTS)
    quick = load_spec(path, quick=True).parts()
    assert [part.stimulus.presentations for part in quick.values()] == [100, 20]
    assert [expand(part).shape for part in quick.values()] == [(2, 1), (1,)]
    settings = ["stimulus.duration=3", "stimulus.presentations=50", "sweep.seeds=2"]
    set_too = load_spec(path, settings, quick=True).parts()
    assert [part.stimulus.duration for part in set_too.values()] == [Time(3.0), Time(3.0)]
    assert [part.stimulus.presentations for part in set_too.values()] == [50, 50]
    assert [expand(part).shape for part in set_too.values()] == [(2, 2), (1,)]


def test_what_a_part_sets_itself_stays(write):
    path = write(PARTS + "[parts.plain]\n")
    parts = load_spec(path, ["stimulus.gap=3", "rule=oja"]).parts()
    assert [part.stimulus.gap for part in parts.values()] == [Time(0.0, "T"), Time(1.0, "T"), Time(3.0)]
    assert parts["delay"].rule.name == "kp" and parts["plain"].rule.name == "oja"


def test_a_setting_reaches_the_parts_that_know_it(write):
    path = write(PARTS + "[parts.hebb]\nset = {'rule.name' = 'bcm'}\n[parts.other]\nset = {'rule.name' = 'curl'}\n")
    parts = load_spec(path, ["rule.threshold_timescale=7", "delays.error=1"]).parts()
    assert parts["hebb"].rule.parameters["threshold_timescale"] == Time(7.0)
    assert "threshold_timescale" not in parts["other"].rule.parameters
    assert parts["window"].delays.error == Time(1.0)


@pytest.mark.parametrize("setting", ["rule.flips=1", "sweep.rule=['fa']", "stimulus.gap=3"])
def test_settings_that_reach_no_part_are_refused(write, setting):
    with pytest.raises(PlasticodeError):
        load_spec(write(PARTS), [setting])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("stimulus.duration=5 parsecs", ["stimulus.duration = '5 parsecs'"]),
        ("stimulus.duratoin=1", ["'stimulus.duratoin'", "mean 'duration'"]),
        ("duration=1", ["'duration'", "mean 'stimulus.duration'"]),
        ("delays.gap=1", ["'delays.gap'", "one of error, hop, input, stages", "mean 'stimulus.gap'"]),
        ("rule.feedback_scale=1", ["'rule.feedback_scale'", "one of name"]),
        ("timescales.decay.2=1 s", ["timescales.decay.2 = '1 s'", "2 values"]),
        ("timescales.decay.x=1", ["'timescales.decay.x'", "integer index"]),
        ("timescales.decay.0.0=1", ["'timescales.decay.0.0'", "integer index"]),
        ("stimulus.gap.0=1", ["'stimulus.gap.0'", "not a list"]),
        ("seed.x=1", ["'seed.x'"]),
        ("delays.hop=5 ms", ["delays.hop = '5 ms'", "it is swept", "sweep.delays.hop"]),
        ("sweep.delays.hopp=[1]", ["'sweep.delays.hopp'", "mean 'hop'"]),
        ("nonsense", ["'nonsense'", "path=value"]),
        ("=1", ["path=value"]),
        ("seed=1\nname=2", ["seed = '1\\nname=2'"]),
    ],
)
def test_refused_settings(write, setting, expected):
    path = write("[sweep]\ndelays.hop = [0, 1]")
    with pytest.raises(PlasticodeError) as caught:
        load_spec(path, [setting])
    for words in expected:
        assert words in str(caught.value)
