"""What a slip of the pen meant, and requests that make no sense: a sentence each, before anything is computed."""

import pytest

from dynamics.errors import PlasticodeError
from experiments.spec.loading import load_spec, make_spec
from tests.experiments.commands.test_cli import plasticode

OWN = {"myrule": "rule", "mytask": "task", "myprobe": "record.probes", "myf": "network.activation"}
MEANT = [
    ('rule = "SGD"', "'sgd'"),
    ('rule = "Anti-Hebbian"', "'anti-hebbian'"),
    ('task = "Mnist"', "'mnist'"),
    ('record.probes = ["acuracy"]', "'accuracy'"),
    ('network.activation = "ReLU"', "'relu'"),
    ('network.output_activation = "lin"', "'linear'"),
    ('regime = "Coupled"', "'coupled'"),
    ('regime = "descrete"', "'discrete'"),
    ('network.loss = "soft-max"', "'softmax'"),
    ('noise.calculus = "Ito"', "'ito'"),
    ('integrator.name = "Huen"', "'heun'"),
    ('dtype = "f64"', "'float64'"),
    ('task = {name = "teacher-student", activation = "tan"}', "'tanh'"),
    ('rule = "myrule"', "'myrule:Class'"),
    ('task = "mytask"', "'mytask:Class'"),
    ('record.probes = ["myprobe"]', "'myprobe:function'"),
    ('network.activation = "myf"', "'myf:activation'"),
]


@pytest.mark.parametrize(("text", "meant"), MEANT, ids=[text for text, _ in MEANT])
def test_the_nearest_right_name_is_told(text, meant, tmp_path):
    for module in OWN:
        (tmp_path / f"{module}.py").touch()
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(PlasticodeError) as caught:
        load_spec(tmp_path / "spec.toml")
    assert str(caught.value).endswith(f"; did you mean {meant}?")


def test_what_is_like_nothing_gets_no_hint():
    with pytest.raises(PlasticodeError, match=r"'qqqq' is not known: it must be one of [^;]*weight-perturbation$"):
        make_spec({"rule": "qqqq"})


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_list_of_widths_that_is_one_network_s_is_refused(command, tmp_path, monkeypatch):
    """`[8, 16]` are two values for a sweep, and neither is a list of layers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text('sweep = {"network.hidden" = [8, 16]}\n')
    told = plasticode(command, "spec.toml", code=2).stderr
    assert told == "error: network.hidden = 8 is not allowed: it must be a list, such as [64, 64]\n"
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


@pytest.mark.parametrize("command", [["run", "delay-sweep"], ["compare"], ["reproduce"]], ids=" ".join)
def test_no_workers_do_no_work(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = plasticode(*command, "--workers", "0", code=2).stderr
    assert told == "error: --workers = 0 is not allowed: it must be the number of processes, at least 1\n"
    assert list(tmp_path.iterdir()) == []
