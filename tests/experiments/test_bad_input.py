"""What a user may get wrong, each told in one sentence with exit code 2, and nothing left on disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.commands.cli import app
from experiments.execution import runner

ROOT = Path(__file__).resolve().parents[2]
TINY = """
[network]
hidden = [3]
[stimulus]
presentations = 4
[integrator]
dt = "2 ms"
[record]
points = 2
"""
UNSUPERVISED = """
task = {name = "gaussian-inputs", spectrum = [1.0, 0.5]}
network = {outputs = 2}
record = {points = 2, probes = ["weight_norm"]}
"""

SPECS = {
    "unknown table": ("[stimulis]\nduration = 1\n", ["stimulis", "stimulus"]),
    "unknown key": ('[stimulus]\nduratoin = "50 ms"\n', ["stimulus.duratoin", "did you mean 'duration'"]),
    "wrong unit": ('[stimulus]\nduration = "50 mm"\n', ["stimulus.duration", "50 mm", "ns, us, ms, s, min, h"]),
    "missing unit": ('[stimulus]\nduration = "50"\n', ["stimulus.duration", "'50'", "unit"]),
    "negative time": ('[timescales]\nplasticity = "-1 s"\n', ["timescales.plasticity", "-1 s", "positive"]),
    "negative delay": ('[delays]\nerror = "-1 ms"\n', ["delays.error", "-1 ms", "zero or positive"]),
    "zero-length sweep": ('[sweep]\n"delays.error" = []\n', ["sweep.delays.error", "[]", "at least one value"]),
    "zero-length linspace": (
        '[sweep]\n"delays.error" = {linspace = ["0 T", "1 T", 0]}\n',
        ["sweep.delays.error", "linspace", "at least 1"],
    ),
    "no seeds": ("[sweep]\nseeds = 0\n", ["sweep.seeds", "0", "at least 1"]),
    "empty layer": ("[network]\nhidden = [64, 0]\n", ["network.hidden.1", "0", "greater than 0"]),
    "missing data file": (
        '[task]\nname = "mnist"\npath = "no/such/place"\n',
        ["task.path", "no/such/place", "train-images-idx3-ubyte"],
    ),
    "unknown task": ('task = "digit"\n', ["task", "'digit'", "digits"]),
    "unknown rule": ('rule = "sdg"\n', ["rule", "'sdg'", "did you mean 'sgd'"]),
    "unknown study": ('study = "plasticity"\n', ["study", "'plasticity'", "plasticity-window"]),
    "error rule without targets": (f'rule = "fa"\n{UNSUPERVISED}', ["error", "unsupervised", "hebbian, oja or bcm"]),
    "missing module": ('rule = "no_such_module:MyRule"\n', ["no_such_module:MyRule", "module and a class"]),
    "missing class": ('rule = "json:MyRule"\n', ["json:MyRule", "has no 'MyRule'"]),
    "not a rule": ('rule = "json:JSONDecoder"\n', ["json:JSONDecoder", "AbstractRule"]),
    "broken TOML": ("[stimulus\nduration = 1\n", ["spec.toml", "not valid TOML", "line"]),
    "rule number out of range": (
        'rule = {name = "curl", flips = 1.5}\n',
        ["rule.flips", "1.5", "from 0 to 1"],
    ),
    "short trace": (
        '[timescales]\ntrace = "0.1 ms"\n[integrator]\nname = "euler"\ndt = "2 ms"\n',
        ["integrator.dt", "timescales.trace", "0.0001"],
    ),
    "swept presentations": (
        '[sweep]\n"stimulus.presentations" = [2, 4]\n',
        ["stimulus.presentations", "use parts"],
    ),
    "study without its parts": ('study = "plasticity-window"\n', ["plasticity-window", "synapse"]),
    "step too long": (
        '[integrator]\nname = "euler"\ndt = "10 ms"\n',
        ["integrator.dt", "0.01", "timescales.propagation"],
    ),
}
OPTIONS = {
    "no equals sign": (["--set", "stimulus.duration"], ["stimulus.duration", "path=value"]),
    "no path": (["--set", "=5"], ["=5", "path=value"]),
    "unknown path": (["--set", "stimulus.length=5"], ["stimulus.length", "duration"]),
    "value of a wrong kind": (["--set", "network.bias=7"], ["network.bias", "7"]),
    "negative seed": (["--seed", "-1"], ["seed", "-1"]),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test runs in an empty directory."""
    monkeypatch.chdir(tmp_path)


def refusal(*arguments: str) -> str:
    """What a command says on its way out with exit code 2: one line, no traceback."""
    result = CliRunner().invoke(app, list(arguments))
    if not isinstance(result.exception, SystemExit):
        raise AssertionError("an exception reached the user") from result.exception
    return sentence(result.exit_code, result.stdout, result.stderr)


def sentence(code: int, stdout: str, stderr: str) -> str:
    assert (code, stdout) == (2, ""), stderr
    assert stderr.startswith("error: ") and stderr.endswith("\n") and stderr.count("\n") == 1
    assert "Traceback" not in stderr
    return stderr.removeprefix("error: ")


def left_behind() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*"))


def write_spec(text: str) -> str:
    """A spec of one change to a tiny one; keys and tables of the change win."""
    change = {f"[{line.split()[0]}]" for line in text.splitlines() if " = {" in line}
    change |= {line for line in text.splitlines() if line.startswith("[")}
    blocks = [f"[{block}" for block in TINY.split("\n[")[1:]]
    rest = "\n".join(block for block in blocks if block.splitlines()[0] not in change)
    Path("spec.toml").write_text(f"{text}\n{rest}\n")
    return "spec.toml"


@pytest.mark.parametrize(("text", "parts"), SPECS.values(), ids=list(SPECS))
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_bad_spec_is_refused(command, text, parts):
    told = refusal(command, write_spec(text))
    assert [part for part in parts if part not in told] == [], told
    assert left_behind() == ["spec.toml"]


@pytest.mark.parametrize(("options", "parts"), OPTIONS.values(), ids=list(OPTIONS))
def test_bad_options_are_refused(options, parts):
    told = refusal("run", write_spec(""), *options)
    assert [part for part in parts if part not in told] == [], told
    assert left_behind() == ["spec.toml"]


@pytest.mark.parametrize("command", ["run", "check", "show"])
def test_an_unknown_spec_is_refused_with_the_nearest_name(command):
    told = refusal(command, "plasticity-windows")
    assert "'plasticity-windows' is not known" in told and "did you mean 'plasticity-window'" in told
    assert "no/such.toml' does not exist" in refusal(command, "no/such.toml")
    assert left_behind() == []


def test_of_many_names_the_nearest_are_told_and_the_command_that_lists_all():
    kind = "spec, rule, prediction, task or probe"
    told = refusal("show", "curl-rat")
    assert told.startswith(
        f"{kind} 'curl-rat' is not known: `plasticode list` tells what there is; did you mean 'curl-r"
    )
    assert told.count(" or 'curl-") == 2
    assert refusal("show", "xyzzy") == f"{kind} 'xyzzy' is not known: `plasticode list` tells what there is\n"
    assert refusal("show", "fa", "--set", "seed=3").startswith("--set = 'seed=3' is not allowed: it changes a spec")
    Path("mine.py").write_text("")
    assert "did you mean 'mine:Class'?" in refusal("show", "mine")
    told = refusal("reproduce", "curl-rat")
    assert "prediction 'curl-rat' is not known: `plasticode reproduce --list` tells what there is; did you mean" in told


@pytest.mark.parametrize("place", ["file", "file/inside", "file/deep/inside"])
def test_an_output_that_cannot_be_written_is_refused(place):
    Path("file").write_text("")
    told = refusal("run", write_spec('integrator = {name = "window"}'), "--out", place)
    assert place in told and "--out must name a directory" in told
    assert left_behind() == ["file", "spec.toml"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_an_output_in_a_read_only_place_is_refused():
    Path("place").mkdir(0o500)
    assert "Permission denied" in refusal("run", write_spec(""), "--out", "place/results")


COMPARISONS = {
    "unknown rule": (["--rules", "sgd,dfb"], ["rule 'dfb' is not known", "did you mean 'dfa'"]),
    "no rule": (["--rules", " , "], ["--rules", "sgd,fa,dfa"]),
    "a rule twice": (["--rules", "fa,sgd,fa"], ["--rules", "fa,sgd,fa", "once"]),
    "unknown task": (["--task", "digts"], ["task 'digts' is not known", "did you mean 'digits'"]),
    "no seeds": (["--seeds", "0"], ["sweep.seeds", "0", "at least 1"]),
}


@pytest.mark.parametrize(("options", "parts"), COMPARISONS.values(), ids=list(COMPARISONS))
def test_a_bad_comparison_is_refused(options, parts):
    told = refusal("compare", *options)
    assert [part for part in parts if part not in told] == [], told
    assert left_behind() == []


def test_the_command_itself_refuses():
    """As a user meets it: a process of its own, its exit code and its two streams. The spec is read and prepared."""
    text, parts = SPECS["error rule without targets"]
    command = [sys.executable, "-c", "from experiments.commands.start import main; main()", "run", write_spec(text)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    told = sentence(done.returncode, done.stdout, done.stderr)
    assert [part for part in parts if part not in told] == [], told
    assert left_behind() == ["spec.toml"]


OWN_RULES = """
from typing import ClassVar
import jax.numpy as jnp
from dynamics.circuit import AbstractFactor, Activity, Circuit, TwoFactor
from rules import SGD, AbstractRule, number

class Raises(AbstractRule):
    reference: ClassVar[str] = ""
    def wire(self, network):
        raise RuntimeError("not written yet")

class Nothing(AbstractRule):
    reference: ClassVar[str] = ""
    def wire(self, network):
        return None

class Wide(AbstractFactor):
    def __call__(self, local):
        return jnp.concatenate([local.error, local.error])

class WrongShape(AbstractRule):
    reference: ClassVar[str] = ""
    def wire(self, network):
        return Circuit(network.layers(), network.forward(TwoFactor(Activity()), TwoFactor(Wide())))

class PlainNumber(AbstractRule):
    reference: ClassVar[str] = ""
    rate: float = 2.0
    def wire(self, network):
        return SGD().wire(network)
"""


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("Raises", ["cannot be run", "not written yet"]),
        ("Nothing", ["cannot be run"]),
        ("WrongShape", ["the law of 'W2' makes an array of shape [20]", "10 neurons"]),
        ("PlainNumber", ["'rate'", "number(2.0)"]),
    ],
)
def test_mistakes_in_a_rule_of_the_user_are_sentences(name, parts, tmp_path, monkeypatch):
    module = f"own_{name.lower()}"  # modules are imported once per process: one file for each
    (tmp_path / f"{module}.py").write_text(OWN_RULES)
    (tmp_path / "spec.toml").write_text(f'rule = "{module}:{name}"\n{TINY}')
    monkeypatch.syspath_prepend(tmp_path)
    for command in ("check", "run"):
        sentence = refusal(command, "spec.toml")
        known = [] if name == "WrongShape" else [f"{module}:{name}"]  # the circuit tells of that itself
        assert all(part in sentence for part in [*known, *parts]), sentence


@pytest.mark.parametrize("command", [["run", "spec.toml"], ["reproduce", "curl-toy"]])
def test_too_small_an_address_space_is_told_before_the_libraries_abort(command):
    write_spec("")
    script = "from experiments.commands.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    limited = ["bash", "-c", 'ulimit -v 1000000; exec "$@"', "bash", sys.executable, "-c", script, *command]
    done = subprocess.run(limited, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "limited to 1.02 GB (ulimit -v): 3 GB or more are needed" in done.stderr


def test_memory_that_runs_out_is_a_sentence(monkeypatch):
    write_spec("")
    monkeypatch.setattr(runner, "prepare", lambda *_: [0] * 2**60)
    assert "there is not enough memory" in refusal("run", "spec.toml")
