"""`plasticode reproduce`: how predictions are chosen, measured, judged, written and read, on cheap made-up ones."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import json
import multiprocessing
import os
import re
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from dynamics.errors import PlasticodeError
from experiments import predictions
from experiments.commands.cli import app
from experiments.machine import processes
from experiments.machine.progress import Progress
from experiments.predictions import PREDICTIONS, prediction_class, report, reproduce
from experiments.predictions.references import REFERENCES
from experiments.predictions.reproduce import Measured, measure, measure_all
from experiments.results.verdicts import close, exceeds, matches, mean_of, stays_below
from tests.experiments import browser
from tests.experiments.predictions.fakes import Broken, Line
from tests.forks import ROOT

KEYS = {"name", "source", "quantity", "expected", "measured", "tolerance", "outcome", "passed"}


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Made-up predictions in place of the real ones; each test in an empty directory."""
    monkeypatch.chdir(tmp_path)
    names = {"line": Line, "broken": Broken}
    monkeypatch.setattr(predictions, "PREDICTIONS", dict.fromkeys(names, ""))
    monkeypatch.setattr(predictions, "prediction_class", lambda name: names[name] if name in names else 1 / 0)


@pytest.fixture
def measured_here(monkeypatch):
    """In the process of the test: that others can measure predictions is seen by other tests."""

    def here(chosen, workers: int, on_progress, hasty: bool):
        return Measured({name: measure(one) for name, one in chosen.items()}, True)

    monkeypatch.setattr(reproduce, "measure_all", here)


@pytest.fixture(scope="module")
def processes_fork():
    """Those of pools, from one that has imported what they need: started as users have them they import it each, as
    the command does in .ci/run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Broken.__module__, "experiments.execution.runner", reproduce.__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda _: context)
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
    forkserver._forkserver._stop()  # pyright: ignore[reportAttributeAccessIssue]


def plasticode(*arguments: str, code: int) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


# ------------------------------------------------------------------------------------------------------- the real ones


def test_there_are_enough_predictions_with_numbers_of_their_own():
    numbers = [prediction_class(name).number for name in PREDICTIONS]
    assert len(PREDICTIONS) >= 120 and len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_every_prediction_says_what_it_claims_and_has_valid_parameters(name):
    cls = prediction_class(name)
    for text in (cls.number, cls.title, cls.claim, cls.equation, cls.method, cls.tolerance):
        assert text.strip()
    assert cls.source.partition(",")[0] in REFERENCES
    assert set(re.findall(r"[a-z]+\d{4}[a-z]+", cls.source)) <= set(REFERENCES)
    full, quick = cls.configured(name, {}), cls.configured(name, {}, quick=True)
    assert full != quick or not cls.quick
    assert json.loads(full.model_dump_json())  # so that its parameters can be written down
    with pytest.raises(PlasticodeError, match="nonsense"):
        cls.configured(name, {"nonsense": 1})


# -------------------------------------------------------------------------------------------------------- the verdicts


def test_intervals_are_student_t():
    samples = np.random.default_rng(0).normal(3, 2, 7)
    low, high = stats.t.interval(0.95, 6, samples.mean(), stats.sem(samples))
    mean = mean_of(samples)
    np.testing.assert_allclose([mean.value - mean.half, mean.value + mean.half], [low, high])


def test_verdicts_on_samples_are_wrong_as_rarely_as_they_promise():
    """At 99.9 % a true mean is refused in one of a thousand cases, one 20 standard errors off in nearly all. Of 10 000
    draws those are judged whose means are most standard errors off, and some of the others, which all pass."""
    samples = np.random.default_rng(1).normal(0, 1, (10_000, 12))
    samples = samples[np.argsort(-np.abs(samples.mean(1)) / samples.std(1))]
    outcomes = [matches("", "", 0.0, row).passed for row in (*samples[:50], *samples[50::200])]
    refused = outcomes.index(True)
    assert all(outcomes[refused:]) and 3 < refused < 20
    some = np.random.default_rng(2).permutation(samples)[:1000]
    assert np.mean([matches("", "", 20 / np.sqrt(12), row).passed for row in some]) < 0.02
    assert np.mean([exceeds("", "", 0.0, row).passed for row in some]) < 0.005
    assert np.mean([stays_below("", "", 6.0, row).passed for row in some]) > 0.98


@pytest.mark.parametrize(("measured", "passed"), [(0.6, False), (0.8, True), (1.0, True), (1.2, True), (1.4, False)])
def test_a_number_is_close_within_its_tolerance_on_both_sides(measured, passed):
    assert close("", "", 1.0, measured, 0.25).passed == passed


@pytest.mark.parametrize("samples", [[np.nan, 1.0, 1.0], [np.inf, 1.0], [1.0], []])
def test_what_is_not_finite_or_alone_never_passes_as_a_mean(samples):
    for verdict in (matches("", "", 1.0, samples), exceeds("", "", 0.0, samples), stays_below("", "", 2.0, samples)):
        assert verdict.outcome == ("undecided" if samples == [1.0] else "failed")
    assert not close("", "", 1.0, np.nan, 1.0).passed


def test_one_sided_claims_fail_only_where_the_whole_interval_is_on_the_wrong_side():
    """Samples 1 and -1 in equal numbers, shifted: the mean is the shift, and the half width in closed form."""
    samples = np.tile([1.0, -1.0], 10)
    half = stats.t.ppf(0.9995, 19) * np.sqrt(20 / 19) / np.sqrt(20)
    for shift, above in ((1.01, "passed"), (0.99, "undecided"), (-0.99, "undecided"), (-1.01, "failed")):
        opposite = {"passed": "failed", "failed": "passed"}.get(above, above)
        assert exceeds("", "", 0.0, samples + shift * half).outcome == above
        assert stays_below("", "", 0.0, samples + shift * half).outcome == opposite
    exact = [exceeds("", "", 0.0, [value, value]).outcome for value in (1.0, 0.0, -1.0)]
    assert exact == ["passed", "failed", "failed"]


@pytest.mark.parametrize(("mean", "bound"), [(0.05, 0.0), (0.3, 0.0), (-0.1, 0.0), (1.0, 1.02)])
def test_the_number_of_seeds_that_is_told_decides(mean, bound):
    """As many samples of the same mean and spread decide, and one fewer does not, by scipy's quantiles."""
    samples = mean + np.tile([1.0, -1.0], 5)
    note = exceeds("", "", bound, samples).note
    told = int(re.search(r"about (\d+) seeds would decide \(these are 10\)", note)[1])
    spread = samples.std(ddof=1)

    def half(n: int) -> float:
        return stats.t.ppf(0.9995, n - 1) * spread / np.sqrt(n)

    assert half(told) < abs(mean - bound) <= half(told - 1) and told > 10


def test_seeds_that_would_not_help_are_not_told():
    assert "more than 1 000 000 seeds" in exceeds("", "", 0.0, [1.0, -1.0]).note
    assert "seeds" not in exceeds("", "", 0.0, [1.0, 1.1, 0.9] * 3).note.replace("over", "")


def test_an_interval_wider_than_the_numbers_in_question_decides_nothing():
    samples = 1 + np.tile([1.0, -1.0], 5)
    half = stats.t.ppf(0.9995, 9) / 3
    assert matches("", "", 1.0, 1 + 0.9 / half * (samples - 1)).outcome == "passed"
    assert matches("", "", 1.0, 1 + 1.1 / half * (samples - 1)).outcome == "undecided"
    assert matches("", "", 1.0, 1 + 1.1 / half * (samples - 1), allowance=1.2).outcome == "passed"
    assert matches("", "", 1.0, 3 + 1.1 / half * (samples - 1)).outcome == "failed"
    assert matches("", "", 0.0, samples - 1).outcome == "passed"  # nothing says what would be wide
    assert matches("", "", 0.0, samples - 1, scale=float(half) / 2).outcome == "undecided"


# ---------------------------------------------------------------------------------------------------------- choosing


def test_settings_reach_the_prediction_that_they_name(fakes):
    chosen: dict[str, Any] = predictions.configured([], {"line.slope": 3.0, "broken.how": "dies"}, quick=True, seed=4)
    assert (chosen["line"].slope, chosen["line"].seeds, chosen["line"].seed) == (3.0, 6, 4)
    assert chosen["broken"].how == "dies"
    chosen = predictions.configured(["line"], {"slope": 3.0})
    assert chosen["line"].seeds == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["line", "--set", "slop=1"], "spec key 'line.slop' is not known.*did you mean 'slope'"),
        (["line", "--set", "slope=-1"], r"line.slope = -1 is not allowed: the number must be positive"),
        (["line", "--set", "seeds=0.5"], r"line.seeds = 0.5 is not allowed"),
        (["--set", "slope=1"], "'slope' is not allowed: with several predictions it must name one, as in line.slope"),
        (["line", "--set", "broken.how=dies"], "'broken.how' reaches nothing: 'broken' is not among those to run"),
        (["--set", "lin.slope=1"], "prediction 'lin' is not known.*did you mean 'line'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(fakes, arguments, said):
    result = plasticode("reproduce", *arguments, code=2)
    assert re.search(said, result.stderr) and result.stderr.count("\n") == 1
    assert list(Path().iterdir()) == []


# --------------------------------------------------------------------------------------------------------- measuring


def test_a_prediction_that_fails_or_dies_harms_no_other(processes_fork):
    measured = measure_all({"dies": Broken(how="dies"), "line": Line()}, workers=1)
    assert measured.complete and list(measured.outcomes) == ["dies", "line"]
    raises = measure(Broken())
    assert [outcome.passed for outcome in (*measured.outcomes.values(), raises)] == [False, True, False]
    assert "its process died" in str(measured.outcomes["dies"].verdicts[0].measured)
    assert raises.verdicts[0].measured == "RuntimeError: the <first> line"
    assert measured.outcomes["line"].figure.startswith(b"\x89PNG")
    assert all(verdict.source == Line.source for verdict in measured.outcomes["line"].verdicts)


@pytest.mark.parametrize(("flags", "taken"), [(processes.HASTY, True), ("--xla_no_such_flag=true", False)])
def test_haste_is_asked_of_a_compiler_that_knows_how(monkeypatch, flags, taken):
    monkeypatch.delenv("XLA_FLAGS")  # else they are the user's
    monkeypatch.setattr(processes, "HASTY", flags)
    with processes.one_core_each(hasty=True):
        said = os.environ["XLA_FLAGS"].split()
    assert processes.ONE_CORE["XLA_FLAGS"] in said and (set(flags.split()) <= set(said)) == taken


def test_an_interrupt_keeps_what_is_finished(processes_fork):
    def interrupt(now: Progress) -> None:
        raise KeyboardInterrupt

    started = time.perf_counter()
    measured = measure_all({"line": Line(), "sleeps": Broken(how="sleeps")}, 2, interrupt)
    assert not measured.complete and list(measured.outcomes) == ["line"]
    assert time.perf_counter() - started < 300  # the other one sleeps for 600


def test_the_same_seed_gives_the_same_numbers():
    first, again, other = (Line(seed=seed).measure().verdicts for seed in (1, 1, 2))
    assert first == again and first[0].measured != other[0].measured


def test_a_run_writes_verdicts_figures_parameters_and_a_page(fakes, measured_here):
    result = plasticode("reproduce", "line", "--set", "off=0.5", "--workers", "1", "--out", "here", code=1)
    assert "0 of 1 predictions hold, 0 of 2 claims." in result.stdout
    verdicts = json.loads(Path("here/verdicts.json").read_text())
    assert [verdict["passed"] for verdict in verdicts] == [False, False]
    assert all(KEYS <= set(verdict) for verdict in verdicts)
    assert [verdict["outcome"] for verdict in verdicts] == ["failed", "failed"]
    assert verdicts[0]["expected"] == 2.0 and verdicts[0]["source"] == Line.source
    assert Path("here/figures/line.png").read_bytes().startswith(b"\x89PNG")
    assert "[line]\nseed = 0\nslope = 2.0\noff = 0.5" in Path("here/predictions.toml").read_text()


def test_the_list_tells_what_the_last_run_found(fakes, measured_here):
    def rows(*more: str) -> list[list[str]]:
        said = plasticode("reproduce", "--list", *more, code=0).stdout
        return [line.split() for line in said.splitlines() if "T0." in line]

    assert [row[:2] for row in rows()] == [["not", "measured"]] * 2
    plasticode("reproduce", "line", "--set", "off=0.5", "--workers", "1", code=1)
    line, broken = rows()
    assert line[0] == "FAIL" and line[-3:] == ["0", "of", "2"] and broken[:2] == ["not", "measured"]
    assert [row[2] for row in rows("line")] == ["line"]
    Path("results/reproduce/verdicts.json").write_text('[1, {"prediction": "line", "outcome": "great"}]')
    assert [row[:2] for row in rows()] == [["not", "measured"]] * 2


def test_an_undecided_claim_has_its_own_word_everywhere_and_is_no_failure(fakes, measured_here):
    result = plasticode("reproduce", "line", "--quick", "--set", "wide=1e4", "--workers", "1", code=0)
    assert "0 of 1 predictions hold, 1 of 2 claims, 1 more is undecided." in result.stdout
    assert "undecided" in result.stdout.partition("mean slope")[0] and "seeds would decide" in result.stdout
    verdicts = json.loads(Path("results/reproduce-quick/verdicts.json").read_text())
    assert [(one["outcome"], one["passed"]) for one in verdicts] == [("undecided", False), ("passed", True)]
    page = Path("results/reproduce-quick/report.html").read_text()
    assert '<span class="undecided">undecided</span>' in page and '<td class="undecided">undecided</td>' in page


# -------------------------------------------------------------------------------------------------------- the browser

READ = """return {
  width: document.documentElement.scrollWidth, room: window.innerWidth,
  images: [...document.images].map(image => image.naturalWidth),
  verdicts: [...document.querySelectorAll('section')].map(section => [
    section.id, [...section.querySelectorAll('tr')].slice(1).map(row => row.cells[0].innerText)]),
  colours: ['pass', 'fail', 'undecided'].map(kind => getComputedStyle(document.querySelector('td.' + kind)).color),
  title: document.querySelector('section h2').innerText};"""


@browser.with_browser
def test_a_browser_shows_the_page_on_a_phone(tmp_path):
    """Opened in a real one, 400 pixels wide: verdicts can be read, pictures are there, nothing sticks out."""
    chosen = {"line": Line(), "bent": Line(off=1.0), "open": Line(wide=1e4), "broken": Broken()}
    outcomes = {name: measure(prediction) for name, prediction in chosen.items()}
    report.write(Measured(outcomes, True), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "http" not in page.replace("https://doi.org", "")
    read = browser.read(page, READ, tmp_path)
    undecided = ["open", ["undecided", "pass"]]
    assert read["verdicts"] == [
        ["line", ["pass", "pass"]], ["bent", ["FAIL", "FAIL"]], undecided, ["broken", ["FAIL"]]
    ]  # fmt: skip
    assert len(set(read["colours"])) == 3
    assert read["width"] <= read["room"] <= 520
    assert len(read["images"]) == 3 and min(read["images"]) > 500
    assert read["title"] == "T0.1 A line <with a slope> pass"
