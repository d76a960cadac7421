"""Pages of the documentation say what is there: commands, specs, code, links, keys and public names.

`.ci/run` builds the site itself, strictly. Tests of their own run docs/python.md and docs/write-a-rule.md.
"""

import importlib.util
import json
import re
import shlex
import sys
import tomllib
import types
from pathlib import Path

import pytest
import typer

import plasticode
from experiments.commands.catalogue import described
from experiments.commands.cli import app
from experiments.inference.table import read_fit
from experiments.predictions import configured
from experiments.spec.grid import expand
from experiments.spec.loading import built_in_specs, make_spec
from experiments.spec.overrides import apply_overrides
from experiments.spec.spec import Part, Phase, Spec
from experiments.spec.tables import TABLES
from experiments.spec.toml_text import parse_setting
from experiments.tasks.registry import TASKS
from experiments.tasks.registry import load as load_task

ROOT = Path(__file__).resolve().parent.parent
PAGES = {path.name: path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]}
COMMANDS = typer.main.get_group(app)
ELSEWHERE = ("sweep.toml", "my-experiment.toml")  # specs that a page names and does not show


def text(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text(name), re.DOTALL)


def module(name: str, page: str) -> types.ModuleType:
    """A page's code as a user would have it in a file."""
    made = types.ModuleType(name)
    exec("\n".join(blocks(page, "python")), made.__dict__)
    return made


@pytest.fixture
def own(monkeypatch):
    """The modules that pages let a user write."""
    for name, page in {"mine": "write-the-rest.md", "my_rules": "write-a-rule.md"}.items():
        monkeypatch.setitem(sys.modules, name, module(name, page))


def specs(name: str) -> list[dict]:
    """The specs of a page; of a block that shows several tasks each is one."""
    found = []
    for block in blocks(name, "toml"):
        lines = re.findall(r"^task = .*", block, re.MULTILINE)
        found += [tomllib.loads(one) for one in (lines if len(lines) > 1 else [block])]
    return found


@pytest.mark.parametrize("name", PAGES)
def test_code_can_be_compiled(name):
    for block in blocks(name, "python"):
        compile(block, name, "exec")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", PAGES)
def test_specs_can_be_read(name):
    for table in specs(name):
        spec = make_spec(table)
        expand(spec)
        assert not spec.fit or read_fit(spec).free


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", PAGES)
def test_commands_can_be_given(name):
    shown = {block.split()[1]: tomllib.loads(block) for block in blocks(name, "toml") if block.startswith("# ")}
    lines = re.findall(r"^(?: {4}|exec ).*", text(name), re.MULTILINE)
    for line in re.findall(r"^\s*(?:exec |.*&& )?plasticode ([a-z].*)", "\n".join(lines), re.MULTILINE):
        command, *words = shlex.split(line, comments=True)
        given = COMMANDS.commands[command].make_context(command, words).params
        if command == "show":
            assert described(given["name"])
        if command == "reproduce" and given["names"]:
            configured(given["names"], dict(map(parse_setting, given["sets"] or ())), given["quick"])
        if command in ("run", "check") and given["spec"] not in (*built_in_specs(), *ELSEWHERE):
            table = shown.get(given["spec"])
            assert table is not None, f"{name} does not show {given['spec']}"
            expand(make_spec(apply_overrides(table, dict(map(parse_setting, given["sets"] or ())), given["quick"])))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    """Those of docs/ are checked as the site is built."""
    for target, _, anchor in re.findall(r"\]\((?!http)([^)#]*)(#([^)]*))?\)", text(name)):
        page = ROOT / (target or name)
        assert page.exists(), f"{name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_public_name_is_on_the_page_of_the_api():
    listed = re.findall(r"^::: plasticode\.(\w+)$", text("api.md"), re.MULTILINE)
    assert sorted([*listed, "__version__"]) == dir(plasticode)


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("table", [Spec, Part, Phase, *TABLES.values()], ids=lambda table: table.__name__)
def test_every_key_has_a_line(hooks, table):
    keys = set(table.model_fields) - (set(TABLES) if table is Spec else set())
    assert keys - {key for key, line in hooks.lines(table).items() if len(line) > 5} == set()


def test_all_keys_are_on_the_pages(hooks):
    keys, tasks = hooks.keys(), hooks.tasks()
    for name, table in TABLES.items():
        section = keys.partition(f"## [{name}]")[2].partition("## ")[0]
        assert all(f"| `{key}` |" in section for key in table.model_fields)
    assert '| `plasticity` | time > 0 or inf; one, or a list with one per layer | `"1.5 s"` |' in keys
    assert all(f"## {name}\n" in tasks for name in TASKS)


def test_what_the_page_says_of_a_user_s_own_works(own):
    spec = make_spec(specs("write-the-rest.md")[0])
    data = load_task(spec.task)
    assert data.train_inputs.shape == (150, 2) and spec.probes == ("loss", "mine:sparseness")


def test_the_closed_forms_of_the_page(capsys):
    module("theory", "theory.md")
    numbers = [float(number) for number in re.findall(r"[\d.]+", capsys.readouterr().out)]
    assert numbers[:3] == [1, 0.5, 0] and 0.5 < numbers[3] < 1


def test_the_circuit_of_the_page_learns(monkeypatch):
    """As it stands, but for a smaller network that is shown less."""
    (code,) = blocks("simulate.md", "python")
    shown: dict = {"__name__": "page"}
    exec(code.replace("(64, 64, 10)", "(64, 4, 10)").replace("presentations=1000", "presentations=40"), shown)
    assert shown["result"].status == "ok" and shown["result"].probes.shape == (11,)


NOTEBOOKS = sorted((ROOT / "docs" / "gallery").glob("*.ipynb"))


def test_the_gallery_has_six_notebooks_without_results_and_a_page_for_each():
    """The site is not built without executing them; what they give is made there, and kept nowhere else."""
    pages = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 6
    for path in NOTEBOOKS:
        assert f"- gallery/{path.stem}.md\n" in pages
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
        assert all(not cell["outputs"] and not cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
