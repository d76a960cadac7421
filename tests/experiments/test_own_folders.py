"""Where modules that a spec names are looked for, and that nothing else is imported from where a command runs."""

import json
import os
import sys
from pathlib import Path

import pytest

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in, looked_in, own_folders
from experiments.spec.loading import load_spec
from tests.forks import ROOT, ended

pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
TELLTALE = "open({place!r}, 'w').close()\n"
# Commands in one process, one after the other; what they say is not the point.
COMMANDS = """
import json, os, sys
here, opened = os.getcwd() + os.sep, set()
named = tuple(here + name for name in ("spec.toml", "out", ".out.", "table.csv", ".table.csv."))
def note(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith(here) and not path.startswith(named) and os.path.exists(path):
            opened.add(path)
sys.addaudithook(note)
from experiments.commands.start import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["plasticode", *arguments]
    try:
        main()
    except SystemExit as exit:
        assert exit.code in (0, None), arguments
print("opened", sorted(opened))
"""
# What libraries read of their own accord, somewhere.
DOTFILES = (".env", ".netrc", ".dask", ".jax", "dask.yaml", "setup.cfg", "pyproject.toml", "sitecustomize.py")
SPEC = """
regime = "discrete"
task = {name = "circles", samples = 20}
[network]
hidden = [2]
[stimulus]
presentations = 2
[record]
points = 1
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    look_in()


def test_a_foreign_folder_runs_nothing_and_is_not_read(tmp_path):
    """An entry point that xarray would load, a module that pandas would try, settings that matplotlib would take."""
    told = tmp_path / "told"
    for name in ("stranger", "numexpr"):
        Path(f"{name}.py").write_text(TELLTALE.format(place=str(told)))
    about = Path("stranger-1.0.dist-info")
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[xarray.backends]\nstranger = stranger:Backend\n")
    for name in ("matplotlibrc", *DOTFILES):
        Path(name).write_text("")
    Path("spec.toml").write_text(SPEC)
    commands = [["list"], ["check", "spec.toml"], ["run", "spec.toml", "--out", "out"], ["status", "out"]]
    commands += [["show", "oja"], ["show", "spec.toml"], ["export", "out", "table.csv"]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", COMMANDS, json.dumps(commands)]
    done = ended(command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert Path("table.csv").exists() and not told.exists() and done.stdout.endswith("opened []\n"), done.stdout


def test_rules_are_found_beside_their_spec_before_the_working_folder(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder, parent in ((elsewhere, "Oja"), (tmp_path, "BCM")):
        (folder / "beside_the_spec.py").write_text(f"from rules import {parent} as Mine\n")
    (elsewhere / "spec.toml").write_text('rule = "beside_the_spec:Mine"\n' + SPEC)
    before = list(sys.path)
    spec = load_spec(elsewhere / "spec.toml")
    assert spec.rule.name == "beside_the_spec:Mine" and sys.path == before
    assert sys.modules["beside_the_spec"].Mine.__name__ == "Oja"
    assert looked_in() == [str(elsewhere), str(tmp_path)]


def test_a_module_keeps_the_path_that_it_makes_for_itself(tmp_path):
    before = list(sys.path)
    with own_folders():
        assert sys.path == [*before, str(tmp_path)]
        sys.path.insert(0, "of its own")
        sys.path.append("another")
    assert sys.path == ["of its own", *before, "another"]
    sys.path[:] = before


def test_what_is_installed_comes_first_and_a_removed_folder_is_no_error(tmp_path):
    (tmp_path / "rules.py").write_text("raise RuntimeError('imported')\n")
    Path("spec.toml").write_text('rule = "rules:Mine"\n' + SPEC)
    with pytest.raises(PlasticodeError, match="module 'rules' has no 'Mine'"):
        load_spec("spec.toml")
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    look_in()
    assert looked_in() == []
    os.chdir(tmp_path)
