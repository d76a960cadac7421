"""What a spec says and nothing heeds is refused or told: numbers of a rule, eligibility traces, errors, other keys."""

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from experiments.points import jobs
from experiments.points.assemble import plan
from experiments.points.heeded import heeded
from experiments.points.notes import notes_of
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from rules.registry import RULES, wrapped_rules
from tests.problems import f64

pytestmark = pytest.mark.usefixtures("unchecked_types")
SMALL = {
    "task": {"name": "circles", "samples": 9},
    "network": {"hidden": [3]},
    "stimulus": {"presentations": 4, "duration": "50 ms"},
    "record": {"points": 2, "probes": ["loss"]},
}
DALE = {"name": "exponentiated-gradient", "excitatory": 0.5}


def spec_of(rule, **tables):
    units = {"activation": "sigmoid", "output_activation": "sigmoid"} if rule == "ska" else {}
    return make_spec({**SMALL, "network": {"hidden": [3], **units}, "rule": rule, **tables})


def heeded_by(rule, **tables):
    spec = spec_of(rule, **tables)
    group = expand(spec).groups[0]
    made = plan(group, spec.task.load())
    return heeded(made, {path: f64(value[0]) for path, value in group.values.items()}), set(spec.rule.numbers())


@pytest.mark.parametrize("name", RULES)
def test_a_network_with_a_hidden_layer_heeds_every_number_of_a_rule(name):
    """But for the fraction of excitatory neurons without Dale's law."""
    known, numbers = heeded_by(name)
    assert numbers - known.numbers == ({"rule.excitatory"} if name == DALE["name"] else set())
    if wrapped_rules(name):
        known, numbers = heeded_by({"name": name, "credit": "fa"})
        assert "rule.credit.feedback_scale" in known.numbers & numbers


TRACED = {"momentum", "stdp", "three-factor", "behavioural-timescale", "weight-perturbation"}  # or have no product
WITHOUT_ERRORS = {"hebbian", "anti-hebbian", "oja", "bcm", "stdp", "ska", "node-perturbation", "weight-perturbation"}


@pytest.mark.parametrize("name", RULES)
def test_what_traces_and_errors_mean_to_a_rule(name):
    known, _ = heeded_by(name)
    assert known.trace == (name not in TRACED) and known.errors == (name not in WITHOUT_ERRORS)


REFUSED = {
    "a number without its setting": ({"rule": DALE}, "rule.excitatory = 0.5 is not allowed: nothing depends on it"),
    "a list": ({"rule": DALE | {"excitatory": [0.8, 0.5]}}, r"rule.excitatory = \[0.8, 0.5\] is not allowed"),
    "an axis": (
        {"rule": DALE["name"], "sweep": {"rule.excitatory": [0.2, 0.8]}},
        r"sweep.rule.excitatory = \[0.2, 0.8\]",
    ),
    "an item": ({"rule": DALE["name"], "sweep": {"rule.excitatory.0": [0.2]}}, r"sweep.rule.excitatory.0 = \[0.2\]"),
    "one inside": (
        {"rule": {"name": "curl", "credit": DALE}},
        "rule.credit.excitatory = 0.5 .* 'exponentiated-gradient'",
    ),
    "no feedback": ({"rule": {"name": "fa", "feedback_scale": 2.0}, "network": {"hidden": []}}, "this network"),
    "a trace beside momentum": (
        {"rule": "momentum", "timescales": {"trace": "50 ms"}},
        "timescales.trace = '0.05 s' is not allowed: it changes nothing with rule 'momentum'",
    ),
    "a swept trace": (
        {"rule": "three-factor", "timescales": {"trace": "1 s"}, "sweep": {"timescales.trace": [1]}},
        "nothing",
    ),
    "a trace of one of two": (
        {"sweep": {"rule": ["sgd", "momentum"]}, "timescales": {"trace": "1 s"}},
        "'momentum', as",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_nothing_heeds_is_refused(change, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        jobs.prepare(make_spec(SMALL | change))


HEEDED = {
    "with its setting": {"rule": DALE | {"dale": True}},
    "as by default": {"rule": DALE | {"excitatory": 0.8}},
    "at some points": {"rule": DALE, "sweep": {"rule.dale": [False, True]}},
    "by some networks": {"rule": {"name": "fa", "feedback_scale": 2.0}, "sweep": {"network.hidden": [[], [3]]}},
    "a trace of the readout": {"rule": {"name": "three-factor", "readout": "delta"}, "timescales": {"trace": "50 ms"}},
    "a lag of a rule, by stages": {"rule": {"name": "three-factor", "reward_delay": "5 ms"}, "delays": {"stages": 2}},
}


@pytest.mark.parametrize("change", HEEDED.values(), ids=HEEDED)
def test_what_counts_somewhere_is_not(change):
    jobs.prepare(make_spec(SMALL | change))


def test_errors_that_nothing_uses_are_told():
    late = {"delays": {"error": "10 ms"}, "noise": {"error": 0.1}, "integrator": {"name": "heun"}}
    sweep = {"sweep": {"rule": ["hebbian", "fa"]}}
    assert notes_of(jobs.prepare(make_spec(SMALL | late | sweep))) == [
        "note: delays.error changes nothing with rule 'hebbian', which uses no error, and 1 more such cases"
    ]
    assert notes_of(jobs.prepare(make_spec(SMALL | sweep))) == []


def test_steps_that_nothing_takes_and_lags_that_outlast_the_run_are_told():
    steps, lags = {"integrator": {"dt": "0.1 ms"}}, {"delays": {"error": "5 s"}}
    fine = "integrator.dt changes nothing with integrator 'window' and no noise; integrator.tolerance says how precise"
    assert notes_of(jobs.prepare(make_spec(SMALL | steps | lags))) == [
        f"note: {fine} windows are",
        "note: delays.error = 5 s is not shorter than the run, 0.2 s: nothing arrives",
    ]
    assert notes_of(jobs.prepare(make_spec(SMALL | steps | {"noise": {"activity": 0.1}}))) == []
    assert notes_of(jobs.prepare(make_spec(SMALL | steps | {"regime": "discrete"}))) == [
        "note: integrator.dt changes nothing with regime 'discrete', which takes no steps"
    ]
    assert notes_of(jobs.prepare(make_spec(SMALL | {"delays": {"error": "5 s", "stages": 2}}))) == []


WITHOUT_FLOW = ("node-perturbation", "three-factor", "weight-mirror", "weight-perturbation")


@pytest.mark.parametrize("name", WITHOUT_FLOW)
def test_why_a_rule_has_no_flow_is_told_by_its_name(name):
    told = f"the rule '{name}' needs random numbers that are drawn anew .*: the regime must be coupled or discrete"
    with pytest.raises(PlasticodeError, match=told):
        jobs.prepare(spec_of(name, regime="flow"))


@pytest.mark.parametrize("regime", ["flow", "discrete"])
def test_why_waves_are_coupled_only_is_told_by_the_rule_s_name(regime):
    with pytest.raises(PlasticodeError, match="the rule 'oscillating-ep' has a wave, .*: the regime must be coupled"):
        jobs.prepare(spec_of("oscillating-ep", regime=regime))


MOMENTUM = {"name": "momentum", "inertia": "24.9 ms"}
FASTER = {
    "momentum": (
        {"rule": MOMENTUM, "regime": "discrete"},
        r"stimulus.duration \+ stimulus.gap = 0.05 s .* rule.inertia",
    ),
    "at twice": (
        {"rule": MOMENTUM | {"inertia": "0.5 T"}, "regime": "discrete"},
        "with rule.inertia = 0.025 s: .* from twi",
    ),
    "in a flow": (
        {"rule": MOMENTUM | {"inertia": "0.4 ms"}, "regime": "flow"},
        "integrator.dt = 0.001 s .* rule.inertia = 0.",
    ),
    "inside": ({"rule": {"name": "curl", "credit": MOMENTUM}, "regime": "discrete"}, "rule.credit.inertia = 0.0249 s"),
    "a swept one": (
        {"rule": "momentum", "regime": "discrete", "sweep": {"rule.inertia": [1, "1 ms"]}},
        "rule.inertia = 0.001",
    ),
    "a trace": (
        {"rule": {"name": "stdp", "potentiation_time": "0.4 ms"}, "integrator": {"name": "heun"}},
        "integrator.dt = 0.001 s is not allowed with rule.potentiation_time = 0.0004 s",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), FASTER.values(), ids=FASTER)
def test_a_trace_faster_than_a_step_is_refused(change, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        jobs.prepare(make_spec(SMALL | change))


def test_slower_traces_and_windows_are_not():
    for change in (
        {"rule": MOMENTUM | {"inertia": "26 ms"}, "regime": "discrete"},
        {"rule": MOMENTUM | {"inertia": "1 us"}},
    ):
        jobs.prepare(make_spec(SMALL | change))


def test_what_weights_are_drawn_by_counts_for_nothing_where_they_are_given(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"W1": (3, 2), "W2": (2, 3), "V2": (3, 2), "b1": (3, 1), "b2": (2, 1)}
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    np.savez(tmp_path / "start.npz", **arrays)  # pyright: ignore[reportArgumentType] - by name
    network = {"hidden": [3], "weights": str(tmp_path / "start.npz")}
    jobs.prepare(make_spec({**SMALL, "rule": "fa", "network": network}))
    with pytest.raises(PlasticodeError, match="sweep.rule.feedback_scale = .* nothing depends on it"):
        jobs.prepare(make_spec({**SMALL, "rule": "fa", "network": network, "sweep": {"rule.feedback_scale": [1, 2]}}))
