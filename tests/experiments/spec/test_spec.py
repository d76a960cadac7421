"""Specs: units, every refusal in one sentence, overrides in their order, and what is written reads back the same."""

import copy
import math
import tomllib

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dynamics.errors import PlasticodeError
from experiments.spec.grid import expand
from experiments.spec.loading import built_in_specs, load_spec, make_spec
from experiments.spec.paths import PLAIN_KEYS
from experiments.spec.spec import Spec, dump_toml
from experiments.spec.tables import DEFAULT_NAMES, TABLES
from experiments.tasks.registry import TASKS
from tests.spec_texts import FULL, PARTS

# Refusals

BAD = [
    ('"stimulus.duratoin" = 1', ["spec key 'stimulus.duratoin'", "mean 'stimulus'"]),
    (
        "stimulus.duratoin = 1",
        ["spec key 'stimulus.duratoin'", "duration, gap, order, presentations", "mean 'duration'"],
    ),
    ("stimulis.duration = 1", ["spec key 'stimulis'", "mean 'stimulus'"]),
    ("task.nam = 1", ["spec key 'task.nam'", "test_fraction", "mean 'name'"]),
    ("task.name = 'digit'", ["task 'digit'", "circles", "mean 'digits'"]),
    ("task.test_fraction = 2", ["task.test_fraction = 2", "less than 1"]),
    ("task.name = 'mnist'", ["'task.path' is missing"]),
    ("task = 3", ["task = 3", "a name or a table"]),
    ("rule = 'sdg'", ["rule 'sdg'", "sgd", "mean 'sgd'"]),
    ("rule.name = 'nowhere.at.all:Rule'", ["nowhere.at.all:Rule"]),
    ("rule = 3", ["rule = 3", "a name or a table"]),
    ("rule = {name = 'fa', feedback_scal = 1}", ["'rule.feedback_scal'", "feedback_scale", "mean 'feedback_scale'"]),
    ("rule = {name = 'fa', feedback_scale = true}", ["rule.feedback_scale = True", "a number"]),
    ("rule = {name = 'fa', feedback_scale = inf}", ["rule.feedback_scale = inf", "finite"]),
    ("rule = {name = 'curl', clamp = 1}", ["rule.clamp = 1", "same type", "False"]),
    ("regime = 'couplet'", ["regime = 'couplet'", "'coupled', 'flow' or 'discrete'"]),
    ("seed = -1", ["seed = -1", "greater than or equal to 0"]),
    ("seed = true", ["seed = True", "integer"]),
    ("name = 'a/b'", ["name = 'a/b'", "directory"]),
    ("stimulus.duration = '-5 ms'", ["stimulus.duration = '-5 ms'", "a time must be positive"]),
    ("stimulus.duration = '1 T'", ["stimulus.duration = '1 T'", "must be in seconds"]),
    ("stimulus.duration = 0", ["stimulus.duration = 0", "a time must be positive"]),
    ("stimulus.duration = inf", ["stimulus.duration = inf", "finite"]),
    ("stimulus.duration = '5 parsec'", ["stimulus.duration = '5 parsec'", "'parsec' is not known", "min"]),
    ("stimulus.duration = '5'", ["stimulus.duration = '5'", "unit is missing"]),
    ("stimulus.gap = nan", ["stimulus.gap = nan", "a time is"]),
    ("stimulus.presentations = 0", ["stimulus.presentations = 0", "greater than 0"]),
    ("stimulus.presentations = 2.5", ["stimulus.presentations = 2.5", "integer"]),
    ("stimulus = 3", ["stimulus = 3"]),
    ("delays.hop = '-1 ms'", ["delays.hop = '-1 ms'", "zero or positive"]),
    ("timescales.propagation = 'inf'", ["timescales.propagation = 'inf'", "finite"]),
    ("timescales.decay = []", ["timescales.decay = []", "one value per layer"]),
    ("timescales.decay = [1]", ["timescales.decay = ['1 s']", "2 layers"]),
    ("noise.activity = -0.1", ["noise.activity = -0.1", "zero or positive"]),
    ("noise.activity = '1 ms'", ["noise.activity = '1 ms'", "a number"]),
    ("network.gain = -1", ["network.gain = -1", "zero or positive"]),
    ("network.hidden = [0]", ["network.hidden.0 = 0", "greater than 0"]),
    ("network.hidden = 64", ["network.hidden = 64"]),
    ("network.skips = [[0, 1]]", ["network.skips = [0, 1]", "source + 2 = 2"]),
    ("network.skips = [[0, 3]]", ["network.skips = [0, 3]", "to 2, the last layer"]),
    ("network.skips = [[0, 2], [0, 2]]", ["network.skips", "once"]),
    ("network.outputs = 3", ["network.outputs = 3", "'digits' sets the number"]),
    ("task = 'gaussian-inputs'", ["'network.outputs' is missing", "unsupervised"]),
    ("task = 'gaussian-regression'\nrecord.probes = ['accuracy']", ["'accuracy'", "'gaussian-regression'", "digits"]),
    ("task = 'gaussian-regression'\nnetwork.loss = 'softmax'", ["'softmax'", "not one-hot", "'squared'"]),
    ("record.probes = ['acuracy']", ["record.probes.0 = 'acuracy'", "'accuracy'"]),
    ("record.probes = []", ["record.probes = []"]),
    ("record.points = 1501", ["record.points = 1501", "1 to stimulus.presentations = 1500"]),
    ("integrator = {name = 'heun', adaptive = true}\ndelays.error = 1", ["adaptive integration knows no delays"]),
    ("integrator = {name = 'heun', adaptive = true}\nnoise.error = 1", ["adaptive integration knows no noise"]),
    ("integrator = {name = 'heun', adaptive = true}\n[sweep]\ndelays.hop = [1]", ["delays.hop", "knows no delays"]),
    ("integrator = {name = 'euler', adaptive = true}", ["'euler'", "heun, tsit5, dopri5"]),
    ("integrator.name = 'heun'\nnoise.synaptic_multiplicative = 1", ["'heun'", "'ito'", "euler, milstein"]),
    ("integrator.name = 'heun'\n[sweep]\nnoise.synaptic_multiplicative = [1]", ["'heun'", "euler, milstein"]),
    (
        "integrator.name = 'euler'\nnoise = {synaptic_multiplicative = 1, calculus = 'stratonovich'}",
        ["'euler'", "heun, tsit5, dopri5"],
    ),
    ("integrator.name = 'milstein'\nnoise.calculus = 'stratonovich'", ["'milstein'", "must be 'ito'"]),
    ("seed = 1\n\nseed = 2", ["not valid TOML", "line 3"]),
    ("seed = ", ["not valid TOML", "line 1"]),
    ("seed = 2020-01-01", ["date", "2020-01-01"]),
    ("seed = 1" + "0" * 5000, ["cannot be read"]),
    ("seed = 0x1" + "0" * 5000, ["thousands of digits"]),
    ("seed = " + "[" * 5000 + "]" * 5000, ["nested too deeply"]),
    (".".join("a" * 500) + " = 1", ["too many parts", "10"]),
    ("'a\\nb\n' = 1", ["not valid TOML"]),
    ('"a\\nb" = 1', ["spec key 'a\\nb'"]),
    ("quick = 3", ["quick = 3", "table of dotted paths"]),
    ("[quick]\nstimulus.presentation = 3", ["'stimulus.presentation'", "mean 'presentations'"]),
    ("sweep = 3", ["sweep = 3", "table of dotted paths"]),
    ("[sweep]\ndelays.error = [1]\n[parts.a]", ["'sweep'", "beside 'parts'"]),
    ("[parts.a]\nsets = 3", ["'parts.a.sets'", "quick, set, sweep", "mean 'set'"]),
    ("[parts.a.set]\ndelays.eror = 3", ["'parts.a.set.delays.eror'", "mean 'error'"]),
    ("[parts.a.set]\ndelays.error = '-3 s'", ["in part 'a': delays.error = '-3 s'"]),
    ("[parts.a.quick]\ndelays.eror = 3", ["delays.eror", "mean 'error'"]),
    ("record.probes = ['loss', 'accuracy', 'loss']", ["record.probes has 'loss' more than once"]),
    ("parts.a = 3", ["parts.a = 3", "a table"]),
    ("parts.'a/b' = {}", ["a/b"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[text[:50] for text, _ in BAD])
def test_refusals_are_sentences(write, text, expected):
    with pytest.raises(PlasticodeError) as caught:
        load_spec(write(text))
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 600
    for words in expected:
        assert words in sentence


def test_refused_files(write, tmp_path):
    bad = {
        write("seed = 1".encode("utf-16"), "utf16.toml"): "UTF-8",
        write("#" * 1_000_001, "large.toml"): "at most 1000000 bytes",
        tmp_path: "not a file",
        tmp_path / "absent.toml": "does not exist",
        "delay-swep": "mean 'delay-sweep'",
        "a\0b": "spec 'a",
        "x" * 5000: "spec 'xxx",
        "a\0b.toml": "does not exist",
    }
    for source, words in bad.items():
        with pytest.raises(PlasticodeError, match=words):
            load_spec(source)


# Reading, writing, hashing


@pytest.mark.parametrize("text", ["", "rule = 'fa'", FULL, PARTS, "task = {name = 'circles', samples = 50}"])
@pytest.mark.parametrize("quick", [False, True])
def test_what_is_written_reads_back(write, text, quick):
    spec = load_spec(write(text), quick=quick)
    again = load_spec(write(dump_toml(spec), "other.toml"))
    assert again.resolved() == spec.resolved() == tomllib.loads(dump_toml(spec))
    assert again.hash() == spec.hash()
    assert {name: part.hash() for name, part in again.parts().items()} == {
        name: part.hash() for name, part in spec.parts().items()
    }


def test_the_order_of_axes_survives_writing(write):
    axes = "'delays.error' = {linspace = [0, 1, 2]}\nseeds = 2\n'delays.hop' = {linspace = [0, 1, 2]}"
    spec = load_spec(write(f"[sweep]\n{axes}"))
    again = load_spec(write(dump_toml(spec), "other.toml"))
    assert [axis.name for axis in expand(again).axes] == ["delays_error", "seed", "delays_hop"]


def test_the_hash_follows_the_content():
    base = make_spec({"sweep": {"delays.error": ["50 ms"]}})
    same = [
        {"sweep": {"delays": {"error": [0.05]}}},
        {"stimulus": {"duration": 0.05}, "sweep": {"delays.error": ["0.05 s"]}},
        {"rule": {"name": "sgd"}, "task": "digits", "name": "other", "sweep": {"delays.error": ["50000 us"]}},
    ]
    other = [
        {},
        {"sweep": {"delays.error": ["51 ms"]}},
        {"network": {"gain": 1.0000001}, "sweep": {"delays.error": ["50 ms"]}},
        {"seed": 1, "sweep": {"delays.error": ["50 ms"]}},
        {"rule": "fa", "sweep": {"delays.error": ["50 ms"]}},
    ]
    assert {make_spec(table).hash() for table in same} == {base.hash()}
    hashes = {make_spec(table).hash() for table in other}
    assert len(hashes) == len(other) and base.hash() not in hashes


def test_the_order_of_axes_is_hashed():
    first, second = {"delays.hop": [0.0], "delays.error": [0.0]}, {"delays.error": [0.0], "delays.hop": [0.0]}
    assert make_spec({"sweep": first}).hash() != make_spec({"sweep": second}).hash()


def test_built_in_specs_are_valid():
    for name in built_in_specs():
        for quick in (False, True):
            for part in load_spec(name, quick=quick).parts().values():
                assert expand(part).size > 0


def test_the_known_keys_are_those_of_the_spec():
    keys = {field.alias or key for key, field in Spec.model_fields.items()}
    assert {*PLAIN_KEYS, *TABLES, *DEFAULT_NAMES, "sweep", "quick", "parts", "fit"} == keys


OF_FILES = {"mnist", "mnist1d", "idx", "arrays", "recorded", "cifar10", "cifar100"}


@pytest.mark.parametrize("name", sorted(set(TASKS) - OF_FILES))
def test_the_kinds_of_tasks_are_known(name):
    assert TASKS[name].kind == TASKS[name]().load().kind


def test_probes_follow_the_task():
    assert make_spec({}).probes == ("accuracy", "loss")
    assert make_spec({"task": "gaussian-regression"}).probes == ("loss",)
    assert make_spec({"record": {"probes": ["weight_norm"]}}).probes == ("weight_norm",)


def test_rules_have_all_their_parameters():
    assert make_spec({"rule": "fa"}).rule.parameters == {"feedback_scale": 1.0}
    assert make_spec({"rule": {"name": "fa", "feedback_scale": 2}}).rule.parameters == {"feedback_scale": 2.0}


# Fuzz

TABLES_TO_MUTATE = [tomllib.loads(FULL), tomllib.loads(PARTS)]
junk = st.recursive(
    st.sampled_from([True, "", "x", "1 T", "-1 s", "inf", math.inf, math.nan, 10**400, 0, -1, 1e308, 3, "fa", "a:b"])
    | st.floats()
    | st.integers()
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["linspace", "logspace", "name", "seeds", "zip", "delays.hop", "x", ""]), inner
        )
    ),
    max_leaves=5,
)


def tables_of(table: dict) -> list[dict]:
    nested = [tables_of(value) for value in table.values() if isinstance(value, dict)]
    return [table, *(item for items in nested for item in items)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(TABLES_TO_MUTATE), st.data(), junk)
def test_any_table_is_a_spec_or_refused_in_a_sentence(table, data, value):
    table = copy.deepcopy(table)
    target = data.draw(st.sampled_from(tables_of(table)))
    old = data.draw(st.sampled_from([*target, "new"]))
    key = data.draw(st.sampled_from([old, old + "x", "delays.error", "rule", "task", "zip", ""]))
    target.pop(old, None)
    target[key] = value
    table.pop("quick", None)
    try:
        for part in make_spec(table).parts().values():
            assert expand(part).size > 0
    except PlasticodeError as error:
        assert str(error).isprintable()


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30), st.text(max_size=10))
@example("rule", "")
@example("sweep.rule", "[]")
@example("sweep.zip", "[[]]")
@example("sweep.seeds", "[1]")
@example("parts", "{}")
def test_any_setting_is_a_spec_or_refused_in_a_sentence(path, value):
    try:
        load_spec("delay-sweep", [f"{path}={value}"])
    except PlasticodeError as error:
        assert str(error).isprintable()
