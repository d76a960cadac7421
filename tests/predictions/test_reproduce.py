"""`plasticode reproduce`: how predictions are chosen, measured, judged, written and read, on cheap made-up ones."""

import html
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from dynamics.errors import PlasticodeError
from experiments import predictions, runner
from experiments.cli import app
from experiments.predictions import PREDICTIONS, prediction_class, report
from experiments.predictions.references import REFERENCES
from experiments.progress import Progress
from experiments.reproduce import Measured, measure, measure_all
from experiments.verdicts import close, exceeds, matches, mean_of, stays_below
from tests.predictions.fakes import Broken, Line

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEYS = {"name", "source", "quantity", "expected", "measured", "tolerance", "passed"}


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Made-up predictions in place of the real ones; each test in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "configure", lambda *_, **__: None)
    names = {"line": Line, "broken": Broken}
    monkeypatch.setattr(predictions, "PREDICTIONS", dict.fromkeys(names, ""))
    monkeypatch.setattr(predictions, "prediction_class", lambda name: names[name] if name in names else 1 / 0)


def plasticode(*arguments: str, code: int) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result


# ------------------------------------------------------------------------------------------------------- the real ones


def test_there_are_enough_predictions_with_numbers_of_their_own():
    numbers = [prediction_class(name).number for name in PREDICTIONS]
    assert len(PREDICTIONS) >= 28 and len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_every_prediction_says_what_it_claims_and_has_valid_parameters(name):
    cls = prediction_class(name)
    for text in (cls.number, cls.title, cls.claim, cls.equation, cls.method, cls.tolerance):
        assert text.strip()
    assert cls.source.partition(",")[0] in REFERENCES
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
    """At 99.9 % a true mean is refused in one of a thousand cases, one 20 standard errors off in nearly all."""
    samples = np.random.default_rng(1).normal(0, 1, (10_000, 12))
    right = [matches("", "", 0.0, row).passed for row in samples]
    wrong = [matches("", "", 20 / np.sqrt(12), row).passed for row in samples]
    assert 0.998 < np.mean(right) < 0.9997 and np.mean(wrong) < 0.02
    assert np.mean([exceeds("", "", 0.0, row).passed for row in samples]) < 0.005
    assert np.mean([stays_below("", "", 6.0, row).passed for row in samples]) > 0.98


@pytest.mark.parametrize(("measured", "passed"), [(0.6, False), (0.8, True), (1.0, True), (1.2, True), (1.4, False)])
def test_a_number_is_close_within_its_tolerance_on_both_sides(measured, passed):
    assert close("", "", 1.0, measured, 0.25).passed == passed


@pytest.mark.parametrize("samples", [[np.nan, 1.0, 1.0], [np.inf, 1.0], [1.0], []])
def test_what_is_not_finite_or_alone_never_passes_as_a_mean(samples):
    assert not matches("", "", 1.0, samples).passed
    assert not close("", "", 1.0, np.nan, 1.0).passed


# ---------------------------------------------------------------------------------------------------------- choosing


def test_settings_reach_the_prediction_that_they_name(fakes):
    chosen = predictions.configured([], {"line.slope": 3.0, "broken.how": "dies"}, quick=True, seed=4)
    assert (chosen["line"].slope, chosen["line"].seeds, chosen["line"].seed) == (3.0, 6, 4)
    assert chosen["broken"].how == "dies"
    assert predictions.configured(["line"], {"slope": 3.0})["line"].seeds == 8


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


def test_a_prediction_that_fails_or_dies_harms_no_other():
    measured = measure_all({"dies": Broken(how="dies"), "line": Line(), "raises": Broken()}, workers=1)
    assert measured.complete and list(measured.outcomes) == ["dies", "line", "raises"]
    assert [outcome.passed for outcome in measured.outcomes.values()] == [False, True, False]
    assert "its process died" in measured.outcomes["dies"].verdicts[0].measured
    assert measured.outcomes["raises"].verdicts[0].measured == "RuntimeError: the <first> line"
    assert measured.outcomes["line"].figure.startswith(b"\x89PNG")
    assert all(verdict.source == Line.source for verdict in measured.outcomes["line"].verdicts)


def test_an_interrupt_keeps_what_is_finished():
    def interrupt(now: Progress) -> None:
        raise KeyboardInterrupt

    started = time.perf_counter()
    measured = measure_all({"line": Line(), "sleeps": Broken(how="sleeps")}, 2, interrupt)
    assert not measured.complete and list(measured.outcomes) == ["line"]
    assert time.perf_counter() - started < 60


def test_the_same_seed_gives_the_same_numbers():
    first, again, other = (measure(Line(seed=seed)).verdicts for seed in (1, 1, 2))
    assert first == again and first[0].measured != other[0].measured


def test_a_run_writes_verdicts_figures_parameters_and_a_page(fakes):
    result = plasticode("reproduce", "line", "--set", "off=0.5", "--workers", "1", "--out", "here", code=1)
    assert "0 of 1 predictions hold, 0 of 2 claims." in result.stdout
    verdicts = json.loads(Path("here/verdicts.json").read_text())
    assert [verdict["passed"] for verdict in verdicts] == [False, False]
    assert all(KEYS <= set(verdict) for verdict in verdicts)
    assert verdicts[0]["expected"] == 2.0 and verdicts[0]["source"] == Line.source
    assert Path("here/figures/line.png").read_bytes().startswith(b"\x89PNG")
    assert "[line]\nseed = 0\nslope = 2.0\noff = 0.5" in Path("here/predictions.toml").read_text()
    plasticode("reproduce", "line", "--quick", "--workers", "1", code=0)
    assert Path("results/reproduce-quick/report.html").exists()


# -------------------------------------------------------------------------------------------------------- the browser

READ = """<script>
const read = {
  width: document.documentElement.scrollWidth, room: window.innerWidth,
  images: [...document.images].map(image => image.naturalWidth),
  verdicts: [...document.querySelectorAll('section')].map(section => [
    section.id, [...section.querySelectorAll('tr')].slice(1).map(row => row.cells[0].innerText)]),
  title: document.querySelector('section h2').innerText};
document.body.innerHTML = '<pre id="read"></pre>';
document.getElementById('read').textContent = JSON.stringify(read);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_shows_the_page_on_a_phone(tmp_path):
    """Opened in a real one, 400 pixels wide: verdicts can be read, pictures are there, nothing sticks out."""
    chosen = {"line": Line(), "bent": Line(off=1.0), "broken": Broken()}
    outcomes = {name: measure(prediction) for name, prediction in chosen.items()}
    report.write(Measured(outcomes, True), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "http" not in page.replace("https://doi.org", "")
    (tmp_path / "read.html").write_text(page.replace("</body>", READ + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path}/read.html"]
    dom = subprocess.run([BROWSER, *options], capture_output=True, text=True, timeout=60, check=True).stdout
    found = re.search(r'<pre id="read">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None, dom[:500]
    read = json.loads(html.unescape(found[1]))
    assert read["verdicts"] == [["line", ["pass", "pass"]], ["bent", ["FAIL", "FAIL"]], ["broken", ["FAIL"]]]
    assert read["width"] <= read["room"] <= 520
    assert len(read["images"]) == 2 and min(read["images"]) > 500
    assert read["title"] == "T0.1 A line <with a slope> pass"
