"""Tasks, probes and activations of a user's own, from a spec to its results."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from dynamics.activations import ACTIVATIONS, Activation
from dynamics.plugins import look_in
from experiments.commands.catalogue import contents, described
from experiments.commands.cli import app
from experiments.execution import runner
from experiments.points import jobs
from experiments.spec.loading import make_spec
from experiments.spec.probes import PROBES, Probe
from experiments.storage.rundir import header_of
from experiments.tasks.circles import Circles
from experiments.tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
# Each is a twin of one of the package, and so every number must be that of the package to the last bit.
TWINS = '''
import jax.numpy as jnp
from dynamics import instruments
from dynamics.activations import Activation
from experiments.spec.probes import Probe
from experiments.tasks.circles import Circles

class Rings(Circles):
    """Two circles."""

bend = Activation(jnp.tanh)
corner = jnp.abs

def error(circuit, weights, slow, data):
    """half the squared distance

    And more of it.
    """
    return instruments.loss(circuit, weights, data["test_inputs"], data["test_targets"])

norms = Probe(lambda circuit, weights, slow, data: instruments.weight_norms(weights), "size of a matrix", "mV")

def constant(circuit, weights, slow, data):
    return 7
'''
SPEC = """
regime = "discrete"
dtype = "float64"
network.hidden = [2]
stimulus = {presentations = 4, duration = "0.5 s"}
record = {points = 2, probes = ["loss", "weight_norm", "twins:error", "twins:norms", "twins:constant"]}
[sweep]
task = [{name = "circles", samples = 20}, {name = "twins:Rings", samples = 20}]
"network.activation" = ["tanh", "twins:bend"]
zip = [["task", "network.activation"]]
"""
TINY = {"regime": "discrete", "task": {"name": "circles", "samples": 20}, "network": {"hidden": [2]}}
TINY |= {"stimulus": {"presentations": 2}, "record": {"points": 1}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder, in which the folder `study` has specs and the modules beside them."""
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "study"
    study.mkdir()
    (study / "twins.py").write_text(TWINS)
    look_in(study)
    yield study
    look_in()


def test_twins_of_task_activation_and_probe_give_the_same_numbers():
    Path("study/spec.toml").write_text(SPEC)
    done = CliRunner().invoke(app, ["run", "study/spec.toml", "--out", "out"])
    assert done.exit_code == 0, done.output
    with xr.open_dataset("out/results.nc", engine="h5netcdf") as results:
        results.load()
    assert (results["status"] == 0).all()
    for name in ("loss", "weight_norm"):
        ours, mine = results[name].values
        assert ours.std() > 0 and np.array_equal(ours, mine)
    for twin, original in {"error": "loss", "norms": "weight_norm"}.items():
        np.testing.assert_array_equal(results[twin], results[original])
    assert (results["constant"] == 7).all() and results["constant"].dtype == np.float64
    told = {name: results[name].attrs for name in ("error", "norms", "constant")}
    assert told == {
        "error": {"long_name": "half the squared distance", "units": "1"},
        "norms": {"long_name": "size of a matrix", "units": "mV"},
        "constant": {"long_name": "constant", "units": "1"},
    }
    figures = {path.name for path in Path("out/figures").iterdir()}
    assert {f"{name}.png" for name in told} <= figures


@pytest.mark.parametrize(
    "changed",
    [
        {"task": {"name": "twins:Rings", "samples": 20}},
        {"network": {"hidden": [2], "activation": "twins:bend"}},
        {"network": {"hidden": [2], "output_activation": "twins:bend"}},
        {"record": {"points": 1, "probes": ["twins:error"]}},
        {"sweep": {"network.activation": ["tanh", "twins:bend"]}},
    ],
)
def test_the_code_is_part_of_what_a_run_is(changed):
    assert header_of(*_prepared(TINY))["run"]["code"] == {}
    assert set(header_of(*_prepared(TINY | changed))["run"]["code"]) == {"twins"}


def _prepared(table: dict) -> tuple:
    spec = make_spec(table)
    found = jobs.prepare(spec)
    return spec, found, runner.chunking(found)


def test_a_kink_that_an_activation_declares_chooses_the_solver():
    for activation, solver in {"twins:bend": "window", "twins:corner": "heun"}.items():
        for key in ("activation", "output_activation"):
            assert make_spec({"network": {key: activation}}).solver == solver


def test_a_new_one_of_the_package_is_one_entry_of_a_list(monkeypatch):
    """What accepts, lists and shows names knows it from there."""

    class Spirals(Circles):
        """Two spirals."""

        name: str = "spirals"

    monkeypatch.setitem(TASKS, "spirals", Spirals)
    monkeypatch.setitem(PROBES, "one", Probe(lambda c, w, s, d: jnp.float32(1.0), "one"))
    monkeypatch.setitem(ACTIVATIONS, "sign", Activation(jnp.sign, smooth=False))
    table = {"task": "spirals", "network": {"activation": "sign"}, "record": {"probes": ["one"]}}
    spec = make_spec(table)
    assert (spec.task, spec.probes, spec.solver) == (Spirals(), ("one",), "heun")
    assert contents()["Tasks"]["spirals"] == "Two spirals."
    assert "Two spirals." in described("spirals") and "test_fraction = 0.2" in described("spirals")


def test_every_task_is_shown():
    for name in TASKS:
        assert f'[task]\nname = "{name}"\n' in described(name)
    assert "path = # must be given" in described("mnist")
    assert 'interpolation = "held"  # "held" or "linear" or "cubic"' in described("frequency")
    assert "frequencies = [0.1, 0.25]  # a list, each a number, above 0 and at most 0.5" in described("frequency")
    assert "# test_fraction may be given: a number, above 0 and below 1" in described("arrays")
