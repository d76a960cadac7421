"""Numbers of a rule inside another one: set, swept in one program, shown and refused by their paths as all others."""

import jax
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from experiments.points import jobs
from experiments.points.assemble import circuit_of
from experiments.points.demands import demands_of
from experiments.points.notes import notes_of
from experiments.results.labels import long_name
from experiments.spec.grid import expand
from experiments.spec.loading import load_spec, make_spec
from experiments.spec.spec import dump_toml
from experiments.spec.units import Time
from tests.problems import f64

pytestmark = pytest.mark.usefixtures("unchecked_types")
SMALL = {"network": {"hidden": [4]}, "stimulus": {"presentations": 4, "duration": "50 ms"}, "record": {"points": 2}}
WRAPPERS = ("curl", "exponentiated-gradient", "momentum", "replicas")
DEEP = {"name": "replicas", "credit": {"name": "curl", "credit": {"name": "bcm", "threshold_timescale": "1 s"}}}


def parameters(write, *settings: str, text: str = "") -> dict:
    return load_spec(write(text), settings).rule.parameters


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_they_are_set_however_the_rule_inside_is_given(write, wrapper):
    set_to = {"name": "fa", "feedback_scale": 3.0}
    for credit in ("'fa'", "{name = 'fa'}", "{name = 'fa', feedback_scale = 0.1}"):
        text = f"rule = {{name = '{wrapper}', credit = {credit}}}"
        assert parameters(write, "rule.credit.feedback_scale=3", text=text)["credit"] == set_to
    assert parameters(write, f"rule={wrapper}", "rule.credit=fa", "rule.credit.feedback_scale=3")["credit"] == set_to
    assert parameters(write, f"rule={wrapper}", "rule.credit.name=fa")["credit"] == {"name": "fa"}


def test_a_setting_reaches_through_every_rule_and_into_lists(write):
    settings = ["rule.credit.credit.threshold_timescale=2 T", "rule.credit.flips.0=0.5", "rule.coupling=3"]
    spec = load_spec(write(dump_toml(make_spec({"rule": DEEP}))), settings)
    inner = {"name": "bcm", "threshold_timescale": Time(2.0, "T")}
    assert spec.rule.parameters["credit"] == {"name": "curl", "credit": inner, "flips": (0.5, 0.1)}
    assert make_spec(spec.table()).rule == spec.rule
    quick = write(dump_toml(spec) + '\n[quick]\n"rule.credit.credit.threshold_timescale" = "3 s"\n')
    assert load_spec(quick, quick=True).rule.parameters["credit"]["credit"]["threshold_timescale"] == Time(3.0)


def test_another_name_drops_the_parameters_of_the_former_rule(write):
    text = "rule = {name = 'momentum', credit = {name = 'fa', feedback_scale = 3}}"
    assert parameters(write, "rule.credit.name=dfa", text=text)["credit"] == {"name": "dfa"}
    assert parameters(write, "rule.credit.name=fa", text=text)["credit"]["feedback_scale"] == 3


MOMENTUM = {"name": "momentum", "credit": "fa"}


def values_of(axes: dict, **tables) -> list[dict[str, np.ndarray]]:
    return [group.values for group in expand(make_spec({"rule": MOMENTUM, **SMALL, **tables, "sweep": axes})).groups]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_sweep_is_one_program_whose_points_have_their_numbers(wrapper):
    axes = {"rule.credit.feedback_scale": [0.5, 1.5]}
    spec = make_spec({**SMALL, "dtype": "float64", "rule": {"name": wrapper, "credit": "fa"}, "sweep": axes})
    (job,) = jobs.prepare(spec)[""]
    values = {path: f64(value) for path, value in job.group.values.items()}

    def feedback(point: dict) -> jax.Array:
        return circuit_of(job.plan, point).initial_weights(jax.random.key(0))["V2"]

    first, second = jax.jit(jax.vmap(feedback))(values)
    assert np.abs(first).min() > 0
    np.testing.assert_allclose(second, 3 * first, rtol=1e-12)
    (axis,) = job.sweep.axes
    assert axis.name == "rule_credit_feedback_scale"
    assert long_name(axis.paths[0]) == "rule.credit.feedback_scale"


@pytest.mark.parametrize("entry", [[0.5, 1.5], {"linspace": [0.5, 1.5, 2]}])
@pytest.mark.parametrize("nested", [False, True])
def test_axes_are_dotted_paths_or_tables(entry, nested):
    axes = {"rule": {"credit": {"feedback_scale": entry}}} if nested else {"rule.credit.feedback_scale": entry}
    (values,) = values_of(axes)
    assert values["rule.credit.feedback_scale"].tolist() == [0.5, 1.5]


def test_a_number_is_swept_with_the_rule_that_has_it():
    scales, axis = [0.5, 1.5], "rule.credit.feedback_scale"
    for names in ({"rule.credit": ["fa", {"name": "kp"}]}, {"rule.credit.name": ["kp", "fa"]}):
        assert [values[axis].tolist() for values in values_of({axis: scales} | names)] == [scales] * 2
    with pytest.raises(PlasticodeError, match=r"sweep.rule.credit.feedback_scale = .* the rule 'sgd' has no such tra"):
        values_of({"rule.credit": ["fa", "sgd"], axis: scales})
    with pytest.raises(PlasticodeError, match=r"spec key 'rule.credit' is not known: it must be one of name"):
        values_of({"rule": ["momentum", "sgd"], "rule.credit.name": ["fa"]}, rule="sgd")


def test_times_are_those_of_each_point_and_count_for_how_long_a_run_takes():
    axes = {"rule.credit.credit.threshold_timescale": ["0.5 T", "40 s"], "stimulus.duration": ["50 ms", "100 ms"]}
    spec = make_spec({**SMALL, "rule": DEEP, "sweep": axes})
    group = expand(spec).groups[0]
    assert np.allclose(group.values["rule.credit.credit.threshold_timescale"], [0.025, 0.05, 40, 40], rtol=1e-12)
    assert demands_of(group.static, group.values, 0.001, 1.0).slowest == 40
    lists = {"rule.credit.flips": [[0.0, 1.0], [1.0, 0.0]], "rule.credit.flips.1": [0.25]}
    found = expand(make_spec({**SMALL, "rule": DEEP, "sweep": lists})).groups[0].values["rule.credit.flips"]
    assert found.tolist() == [[0.0, 0.25], [1.0, 0.25]]


REFUSED = {
    "rule.credit.feedback_scal=1": "'rule.credit.feedback_scal' is not known.* feedback_scale, name; did you mean 'fee",
    "rule.feedback_scale=1": "'rule.feedback_scale' is not known.*did you mean 'rule.credit.feedback_scale'",
    "rule.credt.feedback_scale=1": "'rule.credt' is not known: it must be one of credit, inertia, name; did you mean",
    "rule.credit.feedback_scale.x=1": "after rule.credit.feedback_scale comes nothing, or the integer index",
    "rule.credit.feedback_scale=soon": "rule.credit.feedback_scale = 'soon' is not allowed: it must be a number",
    "rule.credit.name=fb": "rule 'fb' is not known.*did you mean 'fa'",
    "rule.credit=3": "rule.credit = 3 is not allowed: it must be a name or a table with a name",
    "rule.credit={feedback_scale=1}": "rule.credit = .* is not allowed: it must be a name or a table with a name",
    "sweep.rule.credit.feedback_scal=[1]": "'sweep.rule.credit.feedback_scal' is not known.*did you mean 'feedback_sca",
}


@pytest.mark.parametrize(("setting", "sentence"), REFUSED.items(), ids=REFUSED)
def test_a_wrong_path_is_told_with_the_nearest_right_one(write, setting, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        load_spec(write("rule = {name = 'momentum', credit = 'fa'}"), [setting])


def test_what_a_wrapped_rule_cannot_be_or_remarks_is_told_by_its_path():
    rule = {"name": "exponentiated-gradient", "credit": {"name": "curl", "flips": 0.1}}
    (told,) = notes_of(jobs.prepare(make_spec({**SMALL, "rule": rule})))
    assert told.startswith("note: rule.credit.flips = 0.1 flips 6 of 64 neurons")
    for tables in ({"rule.credit.flips": [0.5, 7.0]}, {}):
        far = rule if tables else {**rule, "credit": {"name": "curl", "flips": 7.0}}
        with pytest.raises(PlasticodeError, match=r"rule.credit.flips = 7.0 is not allowed for rule 'curl': .* 0 to 1"):
            jobs.prepare(make_spec({**SMALL, "rule": far, "sweep": tables}))
