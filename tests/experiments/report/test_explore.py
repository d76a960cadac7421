"""What `report.html` has to be explored with: its numbers are those of the results, and a browser draws them."""

import base64
import gzip
import html
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from experiments.report import explore, report
from experiments.report.explore import explorer
from experiments.results.intervals import interval
from experiments.results.labels import FORMAT, STATUS, Results
from experiments.results.verdicts import StudyReport
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from tests.experiments import browser

MEAN = "cosine of </script><b>bold</b> & \u202e$x_{$ ]]>"
RULES = ["fa", "</script><i>mine</i>", "<!--<script>"]
RECORDS = 6
MANY_TO_FEW = 2  # processor time of ten thousand points over that of some 400, which has been 0.9 to 1.1


def results_of(
    across: int = 7, up: int = 6, rules: list[str] = RULES, seeds: int = 3, kind: Any = np.float32
) -> Results:
    """A measure that tells where it is: 100 rule + 10 up + across + record / 10 + seed / 1000, and some lost seeds."""
    axes = {
        "rule": rules,
        "tau": np.geomspace(1, 1e3, up),
        "delay": np.linspace(0, 1, across),
        "seed": np.arange(seeds),
    }
    shape = tuple(map(len, axes.values()))
    grid = np.meshgrid(*map(np.arange, (*shape, RECORDS)), indexing="ij")
    where = np.einsum("i,i...->...", [100, 10, 1, 0.001, 0.1], np.stack(grid))
    status = np.zeros(shape, np.int8)
    status[0, 0, 0, 0] = STATUS.index("diverged")
    status[0, 0, 1] = STATUS.index("not-converged")
    data = xr.Dataset({"status": (list(axes), status)})
    data["probe"] = ((*axes, "record"), where.astype(kind), {"units": "1", "long_name": MEAN})
    matrices = np.stack([where, -where], -1).astype(kind)
    data["alignment"] = ((*axes, "record", "matrix"), matrices, {"units": "1", "long_name": "alignment"})
    units = {"rule": "1", "tau": "s", "delay": "T", "seed": "1"}
    data = data.assign_coords({name: (name, values, {"units": units[name]}) for name, values in axes.items()})
    data = data.assign_coords(presentation=("record", 10 * np.arange(RECORDS)), matrix=["W1", "W2"])
    about = {"format": FORMAT, "versions": "{}", "device": "1 x cpu", "dtype": "float32", "matmul_precision": "highest"}
    return Results({"": data.assign_attrs(about, spec_hash="0f")}, True)


def written(results: Results, folder: Path, failed: list[str] | None = None) -> str:
    """The page of results, with two small figures in place of those that take long to draw."""
    spec, figures = make_spec({}), {"one": Figure((1, 1)), "two": Figure((1, 1))}
    told = report.write(spec, {"": expand(spec)}, results, StudyReport(figures=figures), folder)
    assert list(told.failed) == (failed or [])
    return (folder / "report.html").read_text()


def taken(page: str, name: str) -> str:
    found = re.search(f'<script type="[a-z/]*" id="explore-{name}">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return found[1]


def embedded(page: str, index: int = 0) -> tuple[dict, dict[str, Any]]:
    """A part of what the page has, and a function's worth of its arrays by key of its first probe."""
    part = json.loads(taken(page, "about"))["parts"][index]
    packed = gzip.decompress(base64.b64decode(taken(page, "numbers")))
    arrays = part["probes"][0] | {key: part[key] for key in ("counts", "statuses")}
    return part, {
        key: np.frombuffer(packed, np.dtype(value[2]), value[1], value[0])
        for key, value in arrays.items()
        if isinstance(value, list) and len(value) == 3 and value[-1] in ("f4", "f8", "u1", "u2", "u4")
    }


# --------------------------------------------------------------------------------------------------------- its numbers


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_page_has_the_numbers_of_the_results(kind):
    results = results_of(kind=kind)
    data = results.datasets[""]
    part, arrays = embedded(explorer(results))
    assert [dim["name"] for dim in part["dims"]] == ["rule", "tau", "delay", "record", "matrix"] and not part["notes"]
    expected = interval(data, "probe")
    for key, field in zip(("mean", "half", "n"), expected, strict=False):
        np.testing.assert_array_equal(arrays[key], field.values.ravel().astype(arrays[key].dtype))
    assert arrays["mean"].dtype == arrays["values"].dtype == kind
    np.testing.assert_array_equal(arrays["values"], data["probe"].transpose(..., "seed").values.ravel())
    np.testing.assert_array_equal(arrays["statuses"], data["status"].values.ravel())
    np.testing.assert_array_equal(
        arrays["counts"].reshape(-1, len(STATUS))[:3], [[2, 1, 0, 0], [0, 0, 3, 0], [3, 0, 0, 0]]
    )
    assert [dim.get("log") for dim in part["dims"][:3]] == [False, True, False]
    assert part["dims"][1]["texts"][0] == "1 s" and part["dims"][2]["texts"][-1] == "1 T"


def test_a_page_without_seeds_has_the_values_only():
    results = results_of()
    data = results.datasets[""].isel(seed=0, drop=True)
    part, arrays = embedded(explorer(Results({"": data}, True)))
    assert set(arrays) == {"values", "counts", "statuses"} and part["seeds"] == 1
    np.testing.assert_array_equal(arrays["values"], data["probe"].values.ravel())


def test_what_is_too_much_is_thinned_in_order_and_told(monkeypatch):
    """Records down to some, seeds, records down to two, values of the longest axis; means are of all seeds always."""
    results = results_of(across=9)
    full = interval(results.datasets[""], "probe").mean
    monkeypatch.setattr(explore, "FEW_RECORDS", 4)
    sizes, bytes_of_a_record = [], 3 * 6 * 9 * 3 * 4  # points, probes with two matrices, float32
    for most in (
        bytes_of_a_record * RECORDS * 5,
        bytes_of_a_record * 20,
        bytes_of_a_record * 13,
        bytes_of_a_record * 5,
        3000,
    ):
        monkeypatch.setattr(explore, "MOST_BYTES", most)
        part, arrays = embedded(explorer(results))
        named = {dim["name"]: dim for dim in part["dims"]}
        kept = {
            name: [full[name].values.tolist().index(value) for value in named[name]["at"]] for name in ("tau", "delay")
        }
        kept["record"] = [round(at / 10) for at in named["record"]["at"]]
        np.testing.assert_array_equal(arrays["mean"], full.isel(kept).values.ravel().astype(np.float32))
        assert kept["record"][0] == 0 and kept["record"][-1] == RECORDS - 1
        sizes.append((len(kept["record"]), len(part["seed_names"]), len(kept["delay"]), len(part["notes"])))
        assert sum(value.nbytes for key, value in arrays.items() if key in ("mean", "half", "values")) <= most / 3
    assert sizes[:4] == [(6, 3, 9, 0), (4, 3, 9, 1), (4, 1, 9, 2), (2, 0, 9, 2)]
    assert sizes[4][0] == 2 and sizes[4][2] < 7 and f"{sizes[4][2]} of 9 values of delay" in part["notes"][0]
    assert "2 of 6 records" in part["notes"][0] and "0 of 3 seeds" in part["notes"][1]


def test_infinite_values_and_names_have_a_place():
    data = results_of().datasets[""].assign_coords(delay=("delay", [0.0, 1, 2, 3, 4, 5, np.inf], {"units": "T"}))
    part, _ = embedded(explorer(Results({"": data}, True)))
    rule, _, delay, *_ = part["dims"]
    assert delay["at"] == [0, 1, 2, 3, 4, 5, 6] and delay["ticks"][-1] == [6, "inf"]
    assert [text for _, text in rule["ticks"]] == RULES and rule["at"] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------------ the page


class Tags(HTMLParser):
    """The tags of a page, as a browser without JavaScript sees them."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))


def test_without_javascript_the_page_has_figures_and_tables_and_no_text_of_a_spec_is_markup(tmp_path):
    page = written(results_of(), tmp_path)
    tags = Tags(page).found
    names = [tag for tag, _ in tags]
    assert names.count("script") == 4 and "i" not in names and "b" not in names
    assert ("section", {"id": "explore", "hidden": None}) in tags  # until it is drawn
    folded = tags.index(("details", {"open": None, "class": "static"}))
    images = [index for index, name in enumerate(names) if name == "img"]
    assert len(images) == 2 and folded < min(images) and max(images) < names.index("table")
    assert not re.search(r"(src|href)=\"(?!data:|#)", page) and "http" not in page
    assert "\u202e" not in page


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> str:
    """Ten thousand points with a learning curve each, of random numbers, which no compression makes smaller."""
    data = results_of(across=100, up=100, rules=RULES[:1], seeds=1).datasets[""]
    for name in ("probe", "alignment"):
        data[name] = data[name].copy(data=np.random.default_rng(0).random(data[name].shape, np.float32))
    assert data["status"].size == 10_000
    return written(Results({"": data}, True), tmp_path_factory.mktemp("many"))


def test_the_page_of_many_points_is_small(many):
    assert 2e6 < len(many) < 10e6


@browser.with_browser
@pytest.mark.skipif(sys.platform != "linux", reason="what a browser starts is counted on Linux only")
def test_the_page_of_many_points_opens_soon(many, tmp_path):
    """In processor time beside that of a page of few points, most of which plotly.js takes to be compiled and started.
    Both are slower on a slow or a busy machine, though not always by as much: one of three is enough."""
    wait = "while (!document.getElementById('explore').dataset.drawn) await new Promise(done => setTimeout(done, 50));"
    few = written(results_of(), tmp_path)

    def seconds(page: str) -> float:
        return browser.seconds(page, f"{wait} return 1;", tmp_path, "--virtual-time-budget=100000")

    assert any(seconds(many) < MANY_TO_FEW * seconds(few) for _ in range(3))


def test_an_explorer_that_fails_costs_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "explorer", lambda results: 1 / 0)
    assert written(results_of(), tmp_path, failed=["the explorer of report.html"]).count("<img") == 2


# --------------------------------------------------------------------------------------------------------- the browser

EXPLORE = """
const page = document.getElementById('explore'), failed = [], pause = () => new Promise(done => setTimeout(done, 100));
addEventListener('error', event => failed.push(event.message));
addEventListener('unhandledrejection', event => failed.push(String(event.reason)));
while (!page.dataset.drawn) await pause();
const [figure, curves] = page.querySelectorAll('.figure'), title = () => page.querySelector('h3').innerText;
const choose = async (label, text) => {
  const labels = [...page.querySelectorAll('.controls label')];
  const list = labels.find(each => each.firstChild.textContent === label).lastChild;
  list.value = [...list.options].find(option => option.text === text).value;
  list.onchange();
  await pause();
};
const traces = kind => figure.data.filter(trace => trace.places && (trace.type === 'heatmap') === (kind === 'heatmap'));
const read = { width: document.documentElement.scrollWidth, room: innerWidth, font: getComputedStyle(page).fontSize };
read.maps = traces('heatmap').map(trace => trace.z);
read.grey = figure.data[0].z[0].slice(0, 3);
read.marks = traces('marks').map(trace => [trace.x.length, trace.marker.symbol]);
read.texts = traces('heatmap')[0].text[0].slice(0, 2);
read.note = page.querySelector('.note').innerText;
read.panels = figure.layout.annotations.map(note => note.text);
read.shown = [...figure.querySelectorAll('.annotation-text')].map(text => text.textContent);
read.before = [title(), curves.data.filter(trace => trace.places).length];
const box = figure.querySelector('.nsewdrag').getBoundingClientRect();
const at = { bubbles: true, clientX: box.x + box.width * 2.5 / 7, clientY: box.y + box.height * 0.5 / 6 };
const drag = figure.querySelector('.nsewdrag');
drag.dispatchEvent(new MouseEvent('mousemove', at));
await new Promise(done => setTimeout(done, 300));
read.hover = [...figure.querySelectorAll('.hovertext .nums')].map(text => text.innerHTML.replace(/<[^>]*>/g, '|'));
for (const kind of ['mousedown', 'mouseup']) drag.dispatchEvent(new MouseEvent(kind, at));
await new Promise(done => setTimeout(done, 500));
read.clicked = curves.data.filter(trace => trace.places).at(-1).y;
for (let i = 0; i < 3; i++) { page.querySelector('.legend:last-child button').click(); await pause(); }
read.alone = [title(), curves.data.length];
await choose('as', 'lines');
await choose('panels', '–');
await choose('colours', 'rule');
read.lines = traces('lines').filter(trace => trace.mode !== 'markers').map(trace => [trace.x, trace.y]);
read.feet = traces('lines').filter(trace => trace.mode === 'markers').map(trace => trace.marker.symbol);
read.legend = [...page.querySelector('.legend').querySelectorAll('button')].map(button => button.innerText);
await choose('across', 'presentations');
read.curves = traces('lines').filter(trace => trace.mode === 'lines').map(trace => trace.y);
await choose('measure', 'alignment');
read.alignment = figure.layout.annotations.map(note => note.text);
await choose('part', 'one seed');
figure.emit('plotly_click', { points: [{ data: traces('heatmap')[0], pointNumber: [0, 1] }] });
await pause();
read.dotted = curves.data.filter(trace => trace.line?.dash === 'dot' && !trace.places).map(trace => trace.y);
read.single = [figure.data[0].z[0].slice(0, 3), traces('heatmap')[0].z[0].slice(0, 3), traces('heatmap')[0].text[0][1]];
dispatchEvent(new Event('beforeprint'));
read.open = [...document.querySelectorAll('details')].map(each => [each.className, each.open]);
read.bold = document.querySelectorAll('b, i').length - page.querySelectorAll('.legend > b').length;
return { ...read, failed };
"""


@browser.with_browser
def test_a_browser_draws_the_numbers_and_tells_those_of_a_point_that_is_clicked(tmp_path):
    several = results_of().datasets[""]
    results = Results({"seeds": several, "one seed": several.isel(seed=0, drop=True)}, True)
    read = browser.read(written(results, tmp_path), EXPLORE, tmp_path, "--virtual-time-budget=100000")
    assert read["failed"] == [] and read["bold"] == 0
    assert read["width"] <= read["room"] <= 520 and read["font"] == "16px"
    mean = interval(several.isel(record=-1), "probe").mean
    np.testing.assert_allclose(np.array(read["maps"], float), np.log10(mean), atol=1e-6)  # more than two decades
    assert read["grey"] == [None, 1, None]  # all seeds are lost, and are not-converged
    assert read["marks"] == [[2, ["x-thin", "triangle-up-open"]]]
    assert read["panels"] == [html.escape(rule, quote=False) for rule in RULES] and read["shown"] == RULES
    assert read["before"] == ["Learning curves: rule = fa, tau = 63.1 s", 3]
    (hover,) = read["hover"]
    assert "delay = 0.333333 T" in hover and "52.5 ± 0.0025" in hover and "3 of 3 seeds" in hover
    assert (
        html.unescape(hover).replace("\xa0", " ").count("seed 2: 52.5") == 1
        and "2 of 3 seeds: × 1 diverged" in read["texts"][0]
    )
    np.testing.assert_allclose(read["clicked"], 52.001 + np.arange(RECORDS) / 10, rtol=1e-6)
    assert read["alone"] == ["Learning curve: rule = fa, tau = 1000 s, delay = 0.333333 T", 3 + 2]  # seeds; band, mean
    across = [np.array(y, float) for _, y in read["lines"]]
    np.testing.assert_allclose(across, mean.isel(tau=0), rtol=1e-6)
    assert (
        read["feet"] == [["x-thin", "triangle-up-open"]] and "In no mean: × diverged, △ not-converged" in read["note"]
    )
    assert [text[2:] for text in read["legend"]] == RULES
    whole = interval(several.isel(tau=0, delay=0), "probe").mean
    np.testing.assert_allclose(read["curves"], whole, rtol=1e-5)
    assert read["alignment"] == ["W1", "W2"]
    (dotted,) = read["dotted"]  # of four curves, that of the point which is not-converged
    np.testing.assert_allclose(dotted, np.arange(RECORDS) / 10 + 1, rtol=1e-6)
    assert read["single"][:2] == [[0, 1, None], [None, None, pytest.approx(np.log10(2.5))]]
    assert "△ not-converged: 1.5" in read["single"][2]  # the value is told, and not drawn
    assert read["open"][:2] == [["static", False], ["printed", True]]
