"""A run reads each text once, makes each spec once, and expands its grid once: in the whole command, merging, report
and study included."""

import importlib
from collections import Counter

import pytest

from experiments.points import jobs
from experiments.predictions import study
from experiments.results.verdicts import StudyReport
from experiments.spec import grid, loading, units
from tests.experiments.commands.test_cli import plasticode

pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
SPEC = """
regime = "discrete"
task = {name = "circles", samples = 40}
network.hidden = [2]
stimulus.presentations = 4
record.points = 2
"""
SWEEP = """
rule = ["sgd", "fa"]
"network.gain" = [0.5, 1, 2]
seeds = 2
"""
PARTS = "[parts.one.sweep]" + SWEEP + "[parts.two.sweep]\nseeds = 2\n"


@pytest.fixture
def counted(tmp_path, monkeypatch) -> Counter:
    """How often specs are made and grids expanded, in a folder with nothing in it."""
    calls: Counter = Counter()

    def counting(name, real):
        def call(*arguments):
            calls[name] += 1
            return real(*arguments)

        return call

    make_spec, expand = counting("make_spec", loading.make_spec), counting("expand", grid.expand)
    for module in (loading, grid):
        monkeypatch.setattr(module, "make_spec", make_spec)
    for module in (grid, jobs):
        monkeypatch.setattr(module, "expand", expand)
    monkeypatch.chdir(tmp_path)
    return calls


@pytest.mark.parametrize(
    "text, specs, grids",
    [(f"{SPEC}[sweep]{SWEEP}", 1 + 2, 1), (f"{SPEC}{PARTS}", 1 + 2 + 3, 2)],
    ids=["12 points", "two parts"],
)
def test_a_spec_is_made_once_for_the_file_each_part_and_each_static_group(text, specs, grids, counted, tmp_path):
    (tmp_path / "spec.toml").write_text(text)
    plasticode("run", "spec.toml", "--out", "out")
    assert (counted["make_spec"], counted["expand"]) == (specs, grids)


def test_every_time_is_read_once(tmp_path, monkeypatch):
    """Those of the whole spec, of its parts, and of listed and spaced values."""
    monkeypatch.chdir(tmp_path)
    read: Counter = Counter()
    real = units._from_text
    monkeypatch.setattr(units, "_from_text", lambda text: (read.update([text]), real(text))[1])
    swept = """
rule = ["sgd", "bcm"]
"timescales.decay" = ["1.1 s", "1.2 s"]
"timescales.plasticity" = {linspace = ["1.3 s", "1.4 s", 3]}
"""
    times = 'timescales = {decay = ["1.5 s", "1.6 s"]}\nstimulus.gap = "1.7 ms"\n'
    part = '[parts.one.set]\nrule = {name = "bcm", threshold_timescale = "1.8 s"}\n'
    (tmp_path / "spec.toml").write_text(f"{SPEC}{times}{part}[parts.two.sweep]{swept}")
    plasticode("run", "spec.toml", "--out", "out")
    assert " ".join(sorted(text.split()[0] for text in read.elements())) == "1.1 1.2 1.3 1.4 1.5 1.6 1.7 1.8"


def test_a_study_gets_the_grids_of_the_run(counted, tmp_path, monkeypatch):
    seen = []

    class Module:
        @staticmethod
        def study(spec, sweeps, results):
            seen.extend((sweep.shape, results.datasets[part]["status"].shape) for part, sweep in sweeps.items())
            return StudyReport()

    monkeypatch.setitem(study.STUDIES, "a-test", "a_test")
    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: Module if name.endswith("a_test") else real(name))
    (tmp_path / "spec.toml").write_text(f'study = "a-test"\n{SPEC}{PARTS}')
    plasticode("run", "spec.toml", "--out", "out")
    assert [a == b for a, b in seen] == [True, True] and counted["expand"] == 2
