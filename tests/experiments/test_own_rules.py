"""Rules of a user's own and rules inside rules, from a spec to its results; which paper a report cites; flips."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from dynamics.errors import PlasticodeError
from experiments.commands.cli import app
from experiments.execution import runner
from experiments.points import jobs
from experiments.points.notes import notes_of
from experiments.report.report import bibtex
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.spec.rule_table import Rule
from experiments.storage.rundir import header_of
from rules.curl import flipped
from rules.registry import rule_fields

pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
TINY = """
regime = "discrete"
dtype = "float64"
task = {name = "digits", test_fraction = 0.8}
[network]
hidden = [3]
[stimulus]
presentations = 4
[record]
points = 2
"""
RULES = '''
from typing import ClassVar
import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float
from dynamics.circuit import Circuit, Given, Projection
from rules import FA, SGD, AbstractRule, number

class Texts(AbstractRule):
    """A rule with texts that look like the names of rules."""
    reference: ClassVar[str] = "@misc{texts, title={Texts}}"
    ratio: str = eqx.field(static=True, default="1:2")
    code: str = eqx.field(static=True, default="no_such_module:Rule")
    other: str = eqx.field(static=True, default="hebbian")
    def wire(self, network):
        assert (self.ratio, self.code, self.other) == ("1:2", "no_such_module:Rule", "hebbian")
        return SGD().wire(network)

class Lateral(AbstractRule):
    """FA with fixed lateral inhibition in the first hidden layer."""
    reference: ClassVar[str] = "@misc{lateral, title={Lateral}}"
    def wire(self, network):
        circuit, n = FA().wire(network), network.sizes[1]
        inhibition = Given(-0.05 * (jnp.ones((n, n), network.gain.dtype) - jnp.eye(n, dtype=network.gain.dtype)))
        return Circuit(circuit.layers, (*circuit.projections,
            Projection("L1", "z1", "activity", "z1", "forward", inhibition)))

class Twice(AbstractRule):
    reference: ClassVar[str] = ""
    rate: Float[Array, "*layers"] = number(1.0)
    rate_0: Float[Array, ""] = number(1.0)
    def wire(self, network):
        return SGD().wire(network)

class Named(AbstractRule):
    reference: ClassVar[str] = ""
    name: str = eqx.field(static=True, default="x")
    def wire(self, network):
        return SGD().wire(network)
'''


@pytest.fixture(autouse=True, scope="module")
def own_rules(tmp_path_factory):
    """A module of rules, imported once."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "texts_and_loops.py").write_text(RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(rule: str, text: str = TINY):
    """The results of a spec with this rule; the run must end well."""
    Path("spec.toml").write_text(f"rule = {rule}\n{text}")
    done = CliRunner().invoke(app, ["run", "spec.toml", "--out", "out"])
    assert done.exit_code == 0, done.output
    with xr.open_dataset("out/results.nc", engine="h5netcdf") as results:
        return results.load()


def test_texts_with_colons_are_no_rules():
    assert run('"texts_and_loops:Texts"')["status"] == 0
    page = Path("out/report.html").read_text()
    assert "misc{texts" in page and "hebb1949" not in page


def test_a_rule_of_ones_own_inside_curl_descent_is_cited_and_watched(own_rules):
    spec = make_spec({"rule": {"name": "curl", "credit": "texts_and_loops:Texts"}, "network": {"hidden": [3]}})
    cited = bibtex([expand(spec)])
    assert [entry.partition(",")[0] for entry in cited] == ["@inproceedings{ninou2025curl", "@misc{texts"]
    found = jobs.prepare(spec)
    assert set(header_of(spec, found, runner.chunking(found))["run"]["code"]) == {"texts_and_loops"}


def test_paths_that_results_would_call_alike_are_refused():
    axes = {"rule.rate_0": [1.0, 2.0], "rule.rate.0": [1.0, 2.0]}
    with pytest.raises(PlasticodeError, match="sweep has both 'rule.rate_0' and 'rule.rate.0', which results call ali"):
        make_spec({"rule": "texts_and_loops:Twice", "sweep": axes})


def test_the_names_of_rules_in_rules():
    parameters = {"credit": {"name": "curl", "credit": {"name": "bcm", "readout": "hebbian"}}, "flips": 0.5}
    assert Rule.model_validate({"name": "curl"} | parameters).names == ["curl", "curl", "bcm"]
    assert Rule.model_validate("curl").names == ["curl", "sgd"]
    assert Rule.model_validate({"name": "oja", "readout": "hebbian"}).names == ["oja"]


@pytest.mark.parametrize(
    ("rule", "entry"),
    [
        ("oja", r"oja1982simplified[\s\S]*10\.1007/BF00275687"),
        ("bcm", r"bienenstock1982theory[\s\S]*10\.1523/JNEUROSCI\.02-01-00032\.1982"),
        ("anti-hebbian", r"foldiak1990forming[\s\S]*10\.1007/BF02331346"),
        ("hebbian", r"hebb1949organization"),
    ],
)
def test_each_hebbian_rule_cites_its_own_paper(rule, entry):
    task = {"name": "gaussian-inputs"}
    cited = bibtex([expand(make_spec({"rule": rule, "task": task, "network": {"hidden": [], "outputs": 2}}))])
    assert len(cited) == 1 and re.search(entry, cited[0])


def test_a_field_called_name_is_refused():
    with pytest.raises(PlasticodeError, match="its field 'name' must have another name"):
        rule_fields("texts_and_loops:Named")


def test_a_recurrent_rule_runs_with_the_default_probes():
    results = run('"texts_and_loops:Lateral"', TINY.replace("discrete", "coupled"))
    assert results["status"] == 0
    assert np.isfinite(results["accuracy"]).all() and np.isfinite(results["loss"]).all()


def test_a_recurrent_rule_runs_in_every_regime():
    for regime in ("flow", "discrete"):
        table = {"rule": "texts_and_loops:Lateral", "regime": regime, "network": {"hidden": [3]}, "dtype": "float64"}
        assert len(jobs.prepare(make_spec(table))) == 1


@pytest.mark.parametrize("shard", [["--shard", "1/2"], ["--shard=1/2"]])
def test_the_command_that_goes_on_with_all_has_no_shard(shard, monkeypatch):
    monkeypatch.setattr("sys.argv", ["plasticode", "run", "spec.toml", *shard, "--out", "x"])
    spec = make_spec({"network": {"hidden": [3]}})
    found = jobs.prepare(spec)
    header = header_of(spec, found, runner.chunking(found))
    assert header["command"] == ["plasticode", "run", "spec.toml", "--out", "x"]


# Flips


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flips_round_halves_up(dtype):
    """In exact decimal arithmetic, (2 k n / 1000 + 1) // 2, whatever the float makes of the fraction."""
    for neurons in (1, 2, 10, 50, 333):
        exact = [(2 * k * neurons + 1000) // 2000 for k in range(1001)]
        fractions = jnp.asarray(np.arange(1001) / 1000, dtype)
        assert np.asarray(flipped(fractions, neurons)).astype(int).tolist() == exact
    assert flipped(jnp.asarray(0.05, dtype), 10) == 1


def test_a_fraction_that_is_rounded_is_told():
    task = {"name": "gaussian-regression", "inputs": 10, "outputs": 2}
    base = {"task": task, "network": {"hidden": [4]}, "rule": {"name": "curl", "flips": 0.5}}
    assert notes_of(jobs.prepare(make_spec(base))) == []
    assert notes_of(jobs.prepare(make_spec(base | {"rule": "sgd"}))) == []
    told = notes_of(jobs.prepare(make_spec(base | {"rule": {"name": "curl", "flips": [0.05, 0.5]}})))
    assert told == [
        "note: rule.flips = 0.05 flips 1 of 10 neurons, 0.1 of them, as flips are whole neurons (halves are rounded up)"
    ]
    (told,) = notes_of(jobs.prepare(make_spec(base | {"sweep": {"rule.flips": [0.0, 0.05, 0.3]}})))
    assert told.endswith("and 2 more such cases")  # 0.05 of 4 and 0.3 of 4


def test_commands_tell_it():
    text = TINY + '[rule]\nname = "curl"\nflips = 0.1\n'
    Path("spec.toml").write_text(text)
    for command in (["check", "spec.toml"], ["run", "spec.toml", "--out", "out"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0 and "rule.flips = 0.1 flips 6 of 64 neurons" in done.stderr, done.output
    assert json.loads(Path("out/summary.json").read_text())["name"] == "spec"
