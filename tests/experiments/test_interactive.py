"""`plasticode.run` and `plasticode.sweep`: what they take and return, and what a second call compiles."""

import contextlib
import io
import sys
import types
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console

import plasticode
from dynamics.errors import PlasticodeError
from dynamics.kept import forget
from dynamics.plugins import look_in
from experiments.execution import runner
from experiments.machine import progress
from experiments.machine.progress import Progress, shown_progress
from experiments.predictions.study import STUDIES
from experiments.results.verdicts import StudyReport, Verdict
from tests.compilations import compilations

pytestmark = pytest.mark.usefixtures("unchecked_types")
SPEC = {
    "name": "tiny",
    "regime": "discrete",
    "task": {"name": "circles", "samples": 40},
    "network": {"hidden": [2]},
    "stimulus": {"presentations": 8},
    "record": {"points": 2, "probes": ["loss"]},
}
NO_SPEC: Any = [SPEC]


def losses(*arguments, **named) -> np.ndarray:
    return plasticode.run(SPEC, *arguments, **named).datasets[""]["loss"].values


# What they take


def test_overrides_are_those_of_the_command_line(tmp_path):
    changed = {"timescales.plasticity": "0.2 s", "network.hidden": np.array([3]), "seed": np.int64(3)}
    result = plasticode.run(SPEC, changed)
    assert SPEC["network"] == {"hidden": [2]}  # as it was
    assert (
        result.spec == plasticode.run(SPEC, {"seed": 3}, timescales={"plasticity": 0.2}, network={"hidden": (3,)}).spec
    )
    file = tmp_path / "tiny.toml"
    file.write_text('regime = "discrete"\ntask = {name = "circles", samples = 40}\nnetwork.hidden = [2]\n[stimulus]\n')
    file.write_text(file.read_text() + 'presentations = 8\n[record]\npoints = 2\nprobes = ["loss"]\n')
    sets = ["timescales.plasticity=0.2 s", "network.hidden=[3]", "seed=3"]
    for same in (plasticode.run(file, changed), plasticode.run(plasticode.load_spec(file), changed)):
        assert same.spec == result.spec == plasticode.load_spec(file, sets)
        np.testing.assert_array_equal(same.data["loss"], result.data["loss"])
    assert plasticode.run(SPEC | {"quick": {"seed": 5}}, quick=True).spec.seed == 5


def test_axes_are_swept_together():
    result = plasticode.sweep(SPEC, {"network.gain": np.linspace(0.5, 1, 2), "seeds": 2}, {"seed": 4}, rule="fa")
    data: Any = result.data
    assert data["loss"].dims == ("network_gain", "seed", "record") and data["seed"].values.tolist() == [4, 5]
    alone = losses({"network.gain": 1.0}, seed=5, rule="fa")
    np.testing.assert_allclose(data["loss"].sel(network_gain=1.0, seed=5), alone, rtol=1e-6)
    again = plasticode.sweep(result.spec, {"network.gain": [0.5]})
    assert again.data["loss"].shape == (1, 2, 3)  # the axis is replaced, the other one stays


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: plasticode.run(SPEC, {"network.gian": 1.0}), "spec key 'network.gian' is not known"),
        (lambda: plasticode.run(SPEC, networks={}), "did you mean 'network'?"),
        (lambda: plasticode.run("tinny"), "spec 'tinny' is not known"),
        (lambda: plasticode.run(NO_SPEC), "a spec must be a Spec, a dict, a path or a name: list is not allowed"),
        (lambda: plasticode.run(plasticode.make_spec(SPEC), quick=True), "quick is not allowed with a spec that was"),
        (lambda: plasticode.run(SPEC, study="none"), "study 'none' is not known"),
        (lambda: plasticode.sweep(SPEC, {"network.gain": 1.0}), "sweep.network.gain = 1.0 is not allowed"),
        (lambda: plasticode.run(SPEC, {"noise.synaptic": 0.1}), "noise.synaptic"),
    ],
)
def test_mistakes_are_told(call, told):
    with pytest.raises(PlasticodeError) as refused:
        call()
    assert told in str(refused.value)


def test_phases_of_a_spec_may_change():
    phases = [{"presentations": 4}, {"presentations": 4, "set": {"timescales.plasticity": "inf"}}]
    spec = plasticode.make_spec(SPEC | {"stimulus": {}, "phases": phases})
    result = plasticode.run(spec, phases=[*phases, {"presentations": 6}])
    assert result.datasets[""]["presentation"].values.tolist() == [0, 2, 4, 6, 8, 11, 14]


# What they return


def test_a_result_tells_what_it_is():
    result = plasticode.run(SPEC, {"delays.error": 0.0}, rule="oja")
    assert result.data is result.datasets[""] and result.complete and result.verdicts == []
    assert repr(result).splitlines() == ["tiny: of 1 points 1 ok", *result.notes]
    assert "1 ok" in result._repr_html_() and "xarray" in result._repr_html_()
    assert list(result.figures) == ["loss"] and result.figures is result.figures


def test_parts_are_a_tree():
    parts = {"a": {}, "b": {"set": {"rule": "fa"}}}
    result = plasticode.run(SPEC | {"parts": parts})
    assert set(result.data.children) == {"a", "b"} and repr(result) == "tiny: of 2 points 2 ok"


def test_verdicts_are_those_of_the_study(monkeypatch):
    module, claim = types.ModuleType("study_of_a_test"), Verdict("a <claim>", "a paper", "x", 1.0, 2.0, 0.1, "failed")
    vars(module)["study"] = lambda spec, grids, results: StudyReport([claim])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(STUDIES, "claims", module.__name__)
    result = plasticode.run(SPEC, study="claims")
    assert result.verdicts == [claim] and repr(result).endswith("failed: a <claim>")
    assert "a &lt;claim&gt;" in result._repr_html_()


def test_an_interrupt_keeps_what_is_finished():
    def interrupt(now: Progress):
        raise KeyboardInterrupt

    result = plasticode.run(SPEC, on_progress=interrupt)
    assert not result.complete and repr(result) == "tiny: of 1 points 1 missing"


# What a second call costs


def test_other_numbers_compile_nothing():
    axes = {"network.gain": [0.5, 1.0]}
    plasticode.sweep(SPEC, axes, rule="momentum")
    before, other = (
        compilations(),
        {"rule.inertia": "0.1 s", "timescales.plasticity": "3 s", "seed": 7, "name": "other"},
    )
    again = plasticode.sweep(
        SPEC, {"network.gain": [0.6, 1.2]}, other, rule="momentum", task={"name": "circles", "samples": 40, "seed": 2}
    )
    assert compilations() == before
    forget()
    fresh = plasticode.sweep(again.spec, {})
    assert compilations() > before
    np.testing.assert_array_equal(again.data["loss"], fresh.data["loss"])


@pytest.mark.parametrize("changed", [{"dtype": "float64"}, {"network.activation": "relu"}, {"stimulus.batch": 2}])
def test_other_programs_are_not_taken_for_the_same(changed):
    assert not np.array_equal(losses(), losses(changed))


def test_own_code_that_changes_counts_and_compiles_nothing_if_it_does_not(tmp_path, monkeypatch):
    (tmp_path / "own_probe.py").write_text(
        "SCALE = 1.0\n"
        "def size(circuit, weights, slow, data):\n"
        "    return SCALE * sum((w**2).sum() for w in weights.values())\n"
    )
    look_in(tmp_path)

    def size() -> np.ndarray:
        return (
            plasticode.run(SPEC, {"record.probes": ["own_probe:size"]}, timescales={"decay": "1 s"})
            .datasets[""]["size"]
            .values
        )

    first, before = size(), compilations()
    np.testing.assert_array_equal(size(), first)
    assert compilations() == before
    monkeypatch.setattr(sys.modules["own_probe"], "SCALE", 2.0)
    np.testing.assert_allclose(size(), 2 * first, rtol=1e-6)
    look_in()


def test_settings_of_the_process_come_back():
    before = {name: jax.config.values[name] for name in runner.SETTINGS}
    with contextlib.suppress(ZeroDivisionError), runner.configured("float32"):
        jax.config.update("jax_enable_x64", False)
        jax.config.update("jax_default_matmul_precision", None)
        _ = 1 / 0
    assert {name: jax.config.values[name] for name in runner.SETTINGS} == before


# Progress


def test_a_notebook_has_a_bar(monkeypatch):
    """IPython's own display, in whose place stands one that keeps what it is shown."""
    shown, now = [], [0.0]

    class Handle:
        def update(self, bar: str) -> None:
            shown[-1] = bar

    module = types.ModuleType("IPython.display")
    vars(module).update(HTML=str, display=lambda bar, display_id: shown.append(bar) or Handle())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with shown_progress("a <run>", Console(file=io.StringIO(), force_jupyter=True)) as tell:
        tell(Progress(1.0, 10.0))
        assert shown == []  # quick runs leave nothing behind
        for now[0], done in ((3.0, 2.0), (3.1, 4.0), (4.0, 5.0), (4.1, 10.0)):
            tell(Progress(done, 10.0, int(done), 10))
        (bar,) = shown
        assert 'value="1.000"' in bar and "a &lt;run&gt;: 100%, 10 of 10 points finished" in bar
    assert shown == [""]  # nor do others, when they are done
