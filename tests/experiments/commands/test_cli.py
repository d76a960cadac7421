"""The command line end to end on tiny experiments: what it writes, what it prints, how it ends."""

import contextlib
import json
import os
import re
import subprocess
import sys
import types
from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from scipy import stats
from typer.testing import CliRunner, Result

from experiments.commands.cli import app
from experiments.execution import runner
from experiments.machine import progress
from experiments.predictions.study import STUDIES
from experiments.report.figures import generic_figures, is_logarithmic, save
from experiments.results.netcdf import load
from experiments.results.verdicts import Decision, StudyReport, Verdict
from experiments.spec.loading import load_spec
from experiments.spec.spec import dump_toml
from rules.registry import RULES
from tests.forks import until

ROOT = Path(__file__).resolve().parents[3]
WRITTEN = ["figures", "report.html", "results.nc", "spec.toml", "summary.json"]
pytestmark = pytest.mark.usefixtures("unchecked_types")
# Discrete learning, which compiles soonest: the same points, files and words.
TINY = """
description = "A <tiny> one"
regime = "discrete"
[network]
hidden = [3]
[stimulus]
duration = "20 ms"
presentations = 30
[record]
points = 3
[sweep]
rule = ["sgd", "fa"]
"timescales.plasticity" = ["10 T", "20 T"]
seeds = 3
"""
ONE_RULE = ["--set", 'sweep.rule=["sgd"]']


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test runs in an empty directory, with a tiny spec in it."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)


def plasticode(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise AssertionError("an exception reached the user") from result.exception
    assert result.exit_code == code, result.stderr
    return result


def summary(directory: str | Path) -> dict:
    return json.loads(Path(directory, "summary.json").read_text())


def names(directory: str | Path) -> list[str]:
    return sorted(path.name for path in Path(directory).iterdir())


# ----------------------------------------------------------------------------------------------------------------- help


def test_help_answers_without_what_takes_long_to_import():
    script = "import runpy, sys\nsys.argv[1:] = ['--help']\n"
    script += "try: runpy.run_module('plasticode', run_name='__main__')\nfinally: "
    slow = "'jax', 'numpy', 'scipy', 'matplotlib', 'xarray', 'pandas', 'pydantic', 'sklearn', 'h5py'"
    script += f"print('slow:', *{{{slow}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("slow:\n"), done.stdout + done.stderr
    assert all(command in done.stdout for command in ("run", "compare", "list", "show", "check"))


# ------------------------------------------------------------------------------------------------------------------ run


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, Result]:
    """The directory where `plasticode run tiny.toml --seed 5` has run once, and how it ended."""
    place = tmp_path_factory.mktemp("ran")
    (place / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return place, plasticode("run", "tiny.toml", "--seed", "5")


def test_a_run_leaves_everything_behind(ran):
    place, result = ran
    here = place / "results" / "tiny"
    assert names(here) == WRITTEN and names(place / "results") == ["tiny"]
    assert names(here / "figures") == ["accuracy.png", "loss.png"] == summary(here)["figures"]
    with xr.open_dataset(here / "results.nc") as data, h5py.File(here / "results.nc") as file:
        assert data["accuracy"].dims == ("rule", "timescales_plasticity", "seed", "record")
        assert list(data["rule"].values) == ["sgd", "fa"] and list(data["seed"].values) == [5, 6, 7]
        assert data["timescales_plasticity"].attrs["units"] == "T"
        accuracy = file["accuracy"]
        assert isinstance(accuracy, h5py.Dataset)
        np.testing.assert_array_equal(accuracy[:], data["accuracy"])
        assert (data["status"] == 0).all() and np.isfinite(data["loss"]).all()
    assert "20 T" in result.stdout and "results/tiny" in result.stdout


def test_the_summary_is_what_the_results_say(ran):
    data = load(ran[0] / "results" / "tiny" / "results.nc").datasets[""]
    rows = summary(ran[0] / "results" / "tiny")["parts"][""]["final"]
    assert len(rows) == 4
    for row in rows:
        point = data.sel(rule=row["at"]["rule"]).sel(timescales_plasticity=row["at"]["timescales_plasticity"])
        for probe in ("accuracy", "loss"):
            values = point[probe].values[:, -1].astype(float)
            half = stats.t.ppf(0.975, 2) * stats.sem(values)
            assert row[probe]["mean"] == pytest.approx(values.mean(), rel=1e-9)
            assert row[probe]["interval95"] == pytest.approx([values.mean() - half, values.mean() + half], rel=1e-6)
            assert (row[probe]["n"], row[probe]["excluded"]) == (3, 0)


def test_the_spec_in_the_results_gives_the_same_results(ran):
    first = ran[0] / "results" / "tiny"
    assert dump_toml(load_spec(first / "spec.toml")) == dump_toml(load_spec("tiny.toml", seed=5))
    plasticode("run", str(first / "spec.toml"), "--out", "second")
    before, after = (load(place / "results.nc").datasets[""] for place in (first, Path("second")))
    xr.testing.assert_equal(before, after)
    assert before.attrs["spec_hash"] == after.attrs["spec_hash"] == summary("second")["spec_hash"]


def test_the_report_is_one_page_that_needs_no_other_file(ran):
    page = (ran[0] / "results" / "tiny" / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 2 == page.count("<img")
    assert re.findall(r'(?:src|href)="(?!data:)', page) == [] and "width=device-width" in page
    assert "A &lt;tiny&gt; one" in page and "@article{lillicrap2016random" in page and "diffrax" in page
    assert "duration = &quot;20 ms&quot;" in page


def test_diverged_points_are_told_and_do_not_count():
    """Where nothing else is left, the exit code says so too."""
    arguments = [*ONE_RULE, "--set", 'sweep."timescales.plasticity"=["1 us", "2 us"]']
    result = plasticode("run", "tiny.toml", *arguments, code=1)
    counts = summary("results/tiny")["parts"][""]
    assert counts["status"]["diverged"] == 6 and "6 of 6 points diverged" in result.stdout
    assert all(
        (row["loss"]["mean"], row["loss"]["n"], row["loss"]["excluded"]) == (None, 0, 3) for row in counts["final"]
    )


# ------------------------------------------------------------------------------------------------------------- verdicts


@pytest.fixture
def verdicts(monkeypatch):
    """A study with two claims; the test chooses whether the second holds."""
    second: dict[str, Decision] = {"outcome": "passed"}

    def study(spec, sweeps, results):
        claims = [
            Verdict("first", "a paper", "x", 1.0, 1.01, 0.1, "passed"),
            Verdict("second <claim>", "a paper", "y", "10 T", float("nan"), "none", second["outcome"], "a note"),
        ]
        return StudyReport(claims, {}, ["A note of the study."])

    module = types.ModuleType("study_of_a_test")
    monkeypatch.setattr(module, "study", study, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(STUDIES, "claims", module.__name__)
    return second


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_a_claim_is_reported_as_what_it_is(verdicts, outcome):
    """Each outcome has its own word and colour, and only a failure its exit code."""
    verdicts["outcome"] = outcome
    result = plasticode("run", "tiny.toml", *ONE_RULE, "--set", 'study="claims"', code=int(outcome == "failed"))
    assert ("FAIL" in result.stdout, "undecided" in result.stdout) == (outcome == "failed", outcome == "undecided")
    assert ("1 of 2 claims failed: second" in result.stderr) == (outcome == "failed")
    assert ("1 of 2 claims need more seeds to be decided: second" in result.stderr) == (outcome == "undecided")
    assert "A note of the study." in result.stdout
    told = summary("results/tiny")["verdicts"]
    assert [verdict["outcome"] for verdict in told] == ["passed", outcome]
    assert [verdict["passed"] for verdict in told] == [True, outcome == "passed"]
    assert summary("results/tiny")["verdicts"][1]["measured"] == "nan"
    page = Path("results/tiny/report.html").read_text()
    assert "second &lt;claim&gt;" in page
    assert [f'class="{name}"' in page for name in ("fail", "undecided")] == [
        outcome == "failed",
        outcome == "undecided",
    ]


# ----------------------------------------------------------------------------------------------------------- interrupts


def interrupt_at(monkeypatch, fraction: float) -> None:
    """Ctrl-C once that part of the work is done."""

    def stop(now: progress.Progress) -> None:
        if now.fraction > fraction:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "shown_progress", lambda what: contextlib.nullcontext(stop))


def test_an_interrupt_keeps_what_is_finished_and_the_same_command_goes_on(monkeypatch, verdicts):
    """The points of the first rule are finished; a study is not asked about half a result."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 0.6)
        _interrupted(patch)
    result = plasticode("run", "tiny.toml", "--set", 'study="claims"')
    assert names("results/tiny") == WRITTEN and summary("results/tiny")["complete"] is True
    assert "2 of 2" not in result.stderr and [v["passed"] for v in summary("results/tiny")["verdicts"]] == [True, True]
    plasticode("run", "tiny.toml", "--set", 'study="claims"', "--out", "straight")
    assert Path("results/tiny/results.nc").read_bytes() == Path("straight/results.nc").read_bytes()


def _interrupted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["plasticode", "run", "tiny.toml"])
    result = plasticode("run", "tiny.toml", "--set", 'study="claims"', code=130)
    assert "6 of 12 points are finished and kept" in result.stderr and "plasticode run tiny.toml" in result.stderr
    assert names("results/tiny") == ["chunks", *WRITTEN] and summary("results/tiny")["verdicts"] == []
    assert summary("results/tiny")["complete"] is False
    data = load(Path("results/tiny/results.nc"))
    assert not data.complete and (data.datasets[""]["status"].sel(rule="sgd") == 0).all()
    assert (data.datasets[""]["status"].sel(rule="fa") == 3).all()
    assert "Interrupted" in Path("results/tiny/report.html").read_text()


def test_an_interrupt_before_the_first_point_leaves_nothing(monkeypatch):
    interrupt_at(monkeypatch, -1.0)
    assert "nothing was finished" in plasticode("run", "tiny.toml", code=130).stderr
    assert names(".") == ["tiny.toml"]


# ------------------------------------------------------------------------------------------------------------- progress


def lines_of(monkeypatch, seconds: float, steps: int) -> list[str]:
    """What is printed, not to a terminal, while so many equal steps take so many seconds."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    text = StringIO()
    console = Console(file=text, width=80)
    with progress.shown_progress("work", console) as on_progress:
        meter = progress.Meter(on_progress, float(steps))
        for _ in range(steps):
            now[0] += seconds / steps
            meter.settle(1.0)
    return text.getvalue().splitlines()


def test_progress_is_silent_for_what_is_quick(monkeypatch):
    assert lines_of(monkeypatch, 1.9, 100) == []


def test_progress_tells_how_much_time_is_left(monkeypatch):
    """Every eighth of 160 s; of 10 s, after 2 s and 5 s later."""
    monkeypatch.setattr(progress, "EVERY_FRACTION", 1 / 8)
    lines = lines_of(monkeypatch, 160, 1024)
    assert lines == [f"work: {n / 8:.0%} done, about {160 - 20 * n} s left" for n in range(1, 8)]
    assert lines_of(monkeypatch, 10, 1000) == ["work: 20% done, about 8 s left", "work: 70% done, about 3 s left"]


def test_progress_on_a_terminal_ends_cleanly(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    with progress.shown_progress("[/work]\x1b[2J", console) as on_progress:  # no markup, whatever a spec is called
        on_progress(progress.Progress(1.0, 4.0, points=1, of=4, failures=2, rate=0.5))
        until(lambda: "25%" in text.getvalue())
    shown = text.getvalue()
    assert "\x1b[2J" not in shown
    assert all(
        word in shown
        for word in ("[/work]\\x1b[2J", "25%", "1 of 4 points finished", "0.5 points/s", "2 chunks failed")
    )


# -------------------------------------------------------------------------------------------------- compare, list, show


SOON = ["--set", 'regime="discrete"']  # compiles soonest: the same rules, files and words


def test_compare_runs_rules_on_one_task():
    small = [*SOON, "--set", "stimulus.presentations=20", "--set", "record.points=2", "--set", "network.hidden=[3]"]
    result = plasticode("compare", "--rules", "sgd, hebbian", "--seeds", "2", *small)
    data = load(Path("results/compare/results.nc")).datasets[""]
    assert list(data["rule"].values) == ["sgd", 'hebbian(readout="delta")'] and data.sizes["seed"] == 2
    assert names("results/compare/figures") == ["accuracy.png", "alignment.png", "loss.png"]
    # SGD descends the gradient of every matrix; a delta rule does so at the output.
    np.testing.assert_allclose(data["alignment"].sel(rule="sgd"), 1, atol=1e-4)
    np.testing.assert_allclose(data["alignment"].sel(rule='hebbian(readout="delta")', matrix="W2"), 1, atol=1e-4)
    header = next(line for line in result.stdout.splitlines() if line.startswith("rule"))
    assert header.split("  ")[0] == "rule" and all(name in header for name in ("accuracy", "loss", "alignment W1"))


def test_compare_without_targets_measures_what_there_is():
    task = ["--task", "gaussian-inputs", "--set", "task.spectrum=[2.0, 1.0]", "--set", "network.outputs=2"]
    small = [*SOON, "--set", "stimulus.presentations=20", "--set", "record.points=2", "--set", "network.hidden=[3]"]
    plasticode("compare", "--rules", "oja,hebbian", "--seeds", "2", *task, *small)
    assert set(load(Path("results/compare/results.nc")).datasets[""].data_vars) == {
        "status",
        "weight_norm",
        "hebbian_alignment",
    }


def test_list_names_all_there_is():
    out = plasticode("list").stdout
    for name in (*RULES, "compare", "plasticity-window", "digits", "mnist", "teacher-student"):
        assert re.search(rf"^  {name}  +\S", out, re.MULTILINE), name


def test_show_prints_a_spec_that_reads_back_and_rules():
    Path("shown.toml").write_text(plasticode("show", "compare").stdout)
    assert load_spec(Path("shown.toml")) == load_spec("compare")
    Path("shown.toml").write_text(plasticode("show", "compare", "--set", "seed=3").stdout)
    assert load_spec(Path("shown.toml")) == load_spec("compare", ["seed=3"])
    shown = plasticode("show", "fa").stdout
    assert all(
        part in shown for part in ("V2: error of z2", "fixed", "lillicrap2016random", "(local)", "tau_plast W_l'")
    )
    assert "not local" in plasticode("show", "sgd").stdout and "transpose of W2" in plasticode("show", "sgd").stdout
    assert "Curl descent" in plasticode("show", "rules.curl:Curl").stdout


def test_check_counts_and_runs_nothing(monkeypatch):
    monkeypatch.setattr(runner, "local", lambda *_: pytest.fail("check must not run"))
    euler = ("--set", 'regime="coupled"', "--set", 'integrator={name="euler", dt="2 ms"}')
    shown = plasticode("check", "tiny.toml", *euler).stdout
    row = shown.splitlines()[2].split()
    # 2 rules x 2 timescales x 3 seeds; 2 programs; 20 ms / 2 ms; 64 x 3 + 3 x 10 synapses
    assert row[:7] == ["tiny", "coupled", "12", "2", "30", "10", f"{12 * 30 * 10 * 222:.2g}"]
    assert re.search(r"about \d+ s on 2 x cpu, \S+ [MG]B of memory, \S+ kB on disk", shown)
    assert names(".") == ["tiny.toml"]


# -------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_swept_numbers_has_a_figure(count):
    """Curves, lines, heat maps: one figure per part and probe, each drawn without a warning."""
    axes = {"rule": ["sgd", "fa"], "delays_error": [0.0, 0.1], "timescales_plasticity": [0.01, 0.1, 1], "seed": [0, 1]}
    kept = ["rule", *[name for name in axes if name not in ("rule", "seed")][: count - 1], "seed"]
    shape = [len(axes[name]) for name in kept]
    random = np.random.default_rng(0)
    variables = {
        "status": (kept, (random.uniform(size=shape) > 0.8).astype(int)),
        "loss": ([*kept, "record"], random.uniform(size=(*shape, 4))),
        "weight_norm": ([*kept, "record", "matrix"], random.uniform(size=(*shape, 4, 2))),
    }
    coordinates = {name: (name, axes[name], {"units": "s" if "_" in name else "1"}) for name in kept}
    coordinates |= {"presentation": ("record", range(4)), "matrix": ["W1", "V2"]}
    figures = generic_figures(runner.Results({"a": xr.Dataset(variables, coordinates)}, True))
    assert list(figures) == ["a-loss", "a-weight_norm"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in save(figures, Path("figures")).values())


def test_a_logarithmic_axis_is_recognised():
    for values in (np.geomspace(1e-3, 10, 9), np.array([1, 3, 10, 30.0])):
        assert is_logarithmic(values) and is_logarithmic(values[::-1])
    for values in (np.linspace(1, 2, 9), np.array([0, 1, 10.0]), np.array([1, 10.0]), np.array([-1, 1, 10])):
        assert not is_logarithmic(values)


def test_users_rules_are_found_beside_them():
    """`rule = "my_rules:Mine"` names a file in the directory where the command runs."""
    Path("my_rules.py").write_text("from rules.hebbian import Oja as Mine\n")
    script = "from experiments.commands.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", script, "show", "my_rules:Mine"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "Oja's rule" in done.stdout, done.stderr
