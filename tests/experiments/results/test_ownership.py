"""Nothing of the user's is lost: what a run overwrites and removes in its directory is what runs have made there."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from dynamics.errors import PlasticodeError
from experiments import session
from experiments.machine import lock
from experiments.points.jobs import Chunking
from experiments.results import netcdf, ownership
from experiments.results.netcdf import output_directory, write_json
from experiments.storage.chunks import ChunkStore
from tests.experiments.commands.test_cli import WRITTEN, names, plasticode

OUT = Path("out")
pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
SPEC = """
regime = "discrete"
[network]
hidden = [3]
[stimulus]
duration = "20 ms"
presentations = 20
[record]
points = 2
probes = ["loss"]
[sweep]
"timescales.plasticity" = ["200 ms", "400 ms"]
seeds = 2
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test runs in an empty directory, with a quick spec in it, in chunks of two points."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "chunking", lambda *_: Chunking(2, 2, 1))
    Path("quick.toml").write_text(SPEC)


def run(*more: str, code: int = 0, out: str = "out"):
    return plasticode("run", "quick.toml", "--out", out, *more, code=code)


def tree(directory: Path = Path()) -> dict[str, bytes | str]:
    """All there is, by path: the content of files, where links lead, "" for folders."""
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        for path in directory.rglob("*")
    }


def put(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("mine")


class Died(BaseException):
    """Nothing catches it, and nothing is tidied up on its way."""


def killed(monkeypatch, renames: int) -> None:
    """A run that dies after so many of its files have been moved into place."""
    replace, moved = Path.replace, []

    def dying(self, target):
        if ".partial" in str(self) and ownership.MANIFEST not in str(self) and "chunks" not in str(self):
            if len(moved) == renames:
                raise Died
            moved.append(target)
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        patch.setattr(netcdf.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Died):
            run("--force")


# ----------------------------------------------------------------------------------------------- what is there already


FOREIGN = {
    "a spec": (["out/spec.toml"], "spec.toml"),
    "a summary and a page": (["out/summary.json", "out/report.html"], "report.html, summary.json"),
    "figures": (["out/figures/accuracy.png", "out/results.nc"], "figures, results.nc"),
    "a header": (["out/chunks/run.json"], "chunks/run.json"),
    "a lock": (["out/chunks/lock"], "chunks/lock"),
    "chunks": (["out/chunks"], "chunks"),
}


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("what", FOREIGN)
def test_a_run_refuses_what_it_would_overwrite_and_names_it(what, force):
    paths, named = FOREIGN[what]
    put(*paths)
    before = tree()
    told = run(*force, code=2).stderr
    assert told.count("\n") == 1 and f"the output 'out' holds {named}, which no run made" in told
    assert tree() == before


def test_the_folder_of_the_users_own_spec_is_refused():
    put("spec.toml")
    assert "the output '.' holds spec.toml, which no run made" in run(out=".", code=2).stderr
    assert Path("spec.toml").read_text() == "mine" and names(".") == ["quick.toml", "spec.toml"]


@pytest.mark.parametrize("name", ["chunks", "figures", "results.nc", "spec.toml", "chunks/lock", "chunks/run.json"])
def test_a_link_is_refused_before_anything_is_written(name):
    put("elsewhere/mine.txt", "elsewhere.nc")
    (OUT / name).parent.mkdir(parents=True)
    there = Path("elsewhere" if name in ("chunks", "figures") else "elsewhere.nc").absolute()
    (OUT / name).symlink_to(there)
    before = tree()
    assert f"holds {name} (a link), which no run made" in run(code=2).stderr
    assert tree() == before


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(Path("elsewhere").absolute())])
def test_a_header_that_is_no_file_is_refused_beside_chunks(make, monkeypatch):
    """Where a lost header is no harm."""
    with monkeypatch.context() as patch:
        patch.setattr(session, "merge", lambda *_: put("out/spec.toml"))
        run(code=2)
    header = OUT / "chunks" / "run.json"
    header.replace("elsewhere")
    Path("out/spec.toml").unlink()
    make(header)
    before = tree()
    assert "holds chunks/run.json" in run(code=2).stderr and tree() == before
    header.unlink()
    run()
    assert names(OUT) == WRITTEN


def test_chunks_that_become_a_link_are_not_followed(monkeypatch):
    """Nor does the heart of the lock, or what lets it go, write anything there."""
    put("elsewhere/mine.txt")
    real = ChunkStore.write

    def linked(self, *arguments):
        if not self.directory.is_symlink():
            with lock._guarded(self.directory):
                time.sleep(0.1)  # the heart waits for its turn,
                self.directory.rename("chunks")
                self.directory.symlink_to(Path("elsewhere").absolute())
            time.sleep(0.1)  # and has it
        real(self, *arguments)

    monkeypatch.setattr(ChunkStore, "write", linked)
    monkeypatch.setattr(lock, "BEAT", 0.01)
    assert "cannot be written (chunks is a link): 0 finished chunks are kept" in run(code=2).stderr
    assert names("elsewhere") == ["mine.txt"]


def test_a_folder_that_a_run_makes_on_its_way_stays_where_its_path_needs_it():
    run(out="new/../there")
    assert "4 points" in plasticode("status", "new/../there").stdout
    assert names(".") == ["new", "quick.toml", "there"]


@pytest.mark.parametrize("name", ["a" * 256, "a/" * 3000])
def test_a_path_that_is_too_long_is_told(name):
    for command in (("status", name), ("export", name, "table.csv"), ("run", "quick.toml", "--out", name)):
        told = plasticode(*command, code=2).stderr
        assert told.count("\n") == 1 and told.startswith("error: ") and len(told) < 20_000


def test_a_working_folder_that_is_gone_is_told():
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()
    told = plasticode("run", "../quick.toml", "--out", "../out", code=2).stderr
    assert told.count("\n") == 1 and told.startswith("error: ")


def test_what_else_is_there_stays():
    """Also beside the chunks, where it has names like those of chunks, or is a folder, or a link."""
    mine = ["out/notes.txt", "out/figures.txt", "out/chunks/notes.nc", "out/chunks/sub/all-0000-000000.failed.json"]
    mine += ["out/chunks/all-0000-000000.failed.json/x", "out/chunks/all-0000-000007.failed.json/x", "kept"]
    mine += ["out/chunks/lock-notes", "out/chunks/x.partial"]
    put(*mine)
    (OUT / "chunks" / "all-0000-000009.failed.json").symlink_to(Path("kept").absolute())
    (OUT / "figures").mkdir()
    before = tree()
    for more in ([], ["--force"], []):
        run(*more)
        assert before.items() <= tree().items()
        assert names(OUT) == sorted([*WRITTEN, "chunks", "figures.txt", "notes.txt"])
        assert names(OUT / "chunks") == sorted({path.split("/")[2] for path in mine if "chunks" in path}
                                               | {"all-0000-000009.failed.json"})  # fmt: skip


def test_only_figures_that_the_summary_names_are_removed_and_none_elsewhere():
    run()
    put("out/figures/mine.png", "outside.png", "out/figures/deep/a.png")
    content = json.loads((OUT / "summary.json").read_text())
    content["figures"] += ["../../outside.png", "/etc/x.png", "deep/a.png", "old.png", "linked.png", 7, "mine.txt", ""]
    content["figures"] += ["x" * 300 + ".png", "\0.png"]  # no file can be called so
    write_json(content, OUT / "summary.json")
    put("out/figures/old.png", "out/figures/mine.txt")
    (OUT / "figures" / "linked.png").symlink_to(Path("outside.png").absolute())
    before = tree(OUT)
    run("--force")
    assert set(before) - set(tree(OUT)) == {"out/figures/old.png"} and Path("outside.png").read_text() == "mine"


def test_a_figure_that_no_run_made_is_not_overwritten():
    run("--set", 'record.probes=["weight_norm"]')
    put("out/figures/loss.png")
    assert "holds figures/loss.png, which no run made" in run("--force", code=2).stderr
    assert (OUT / "figures" / "loss.png").read_text() == "mine" and len(list(OUT.glob("chunks/*.nc"))) == 2
    (OUT / "figures" / "loss.png").unlink()
    run()
    assert names(OUT) == WRITTEN and names(OUT / "figures") == ["loss.png"]


def test_a_file_that_appears_while_a_run_is_at_work_is_not_overwritten(monkeypatch):
    real = session.merge
    with monkeypatch.context() as patch:
        patch.setattr(session, "merge", lambda *arguments: put("out/spec.toml") or real(*arguments))
        assert "holds spec.toml, which no run made" in run(code=2).stderr
    assert (OUT / "spec.toml").read_text() == "mine" and names(OUT) == ["chunks", "spec.toml"]
    (OUT / "spec.toml").unlink()
    run()
    assert names(OUT) == WRITTEN


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "results.nc"])
def test_of_a_finished_run_any_file_may_be_missing(name):
    run()
    for path in sorted((OUT / name).rglob("*"), reverse=True):
        path.unlink()
    (OUT / name).rmdir() if name == "figures" else (OUT / name).unlink()
    run()
    assert names(OUT) == WRITTEN and names(OUT / "figures") == ["loss.png"]


def test_a_directory_for_predictions_is_not_that_of_the_user():
    put("out/verdicts.json", "out/spec.toml")
    with pytest.raises(PlasticodeError, match="holds verdicts.json, which no run made"):
        with output_directory(OUT, ownership.REPRODUCED):
            pytest.fail("the work must not start")
    Path("out/verdicts.json").unlink()
    for number in range(2):
        with output_directory(OUT, ownership.REPRODUCED) as place:
            write_json([number], place / "verdicts.json")
            write_json({"figures": [], "complete": True}, place / "summary.json")
        assert names(OUT) == ["spec.toml", "summary.json", "verdicts.json"]
    with pytest.raises(PlasticodeError, match="holds spec.toml, which"), output_directory(OUT):
        pytest.fail("it is still the user's")


# ------------------------------------------------------------------------------------------------------ runs that die


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("renames", [0, 2, 4])
def test_a_run_that_dies_while_it_publishes_goes_on(renames, first, monkeypatch):
    """After each of its files, in a new directory and over another run with other figures."""
    if not first:
        run("--set", 'record.probes=["weight_norm"]')
    killed(monkeypatch, renames)
    assert len(list(OUT.glob(".*.partial"))) == 1
    run()
    assert names(OUT) == WRITTEN and names(OUT / "figures") == ["loss.png"]
    assert json.loads((OUT / "summary.json").read_text())["figures"] == ["loss.png"]


def test_what_a_killed_run_left_goes_also_after_the_directory_was_moved(monkeypatch):
    killed(monkeypatch, 2)
    OUT.rename("moved")
    mine = [".notes.1.partial/mine.txt", ".out.2.partial/figures/mine.txt", ".out.3.partial/spec.toml/x"]
    put(*(f"moved/{path}" for path in mine), "moved/.out.4.partial", "elsewhere/results.nc")
    Path("moved/.out.5.partial").symlink_to(Path("elsewhere").absolute())
    put("moved/.out.6.partial/results.nc", "moved/.other.7.partial/figures/loss.png")  # as of a run that was killed
    before = tree()
    run(out="moved")
    assert names("moved") == sorted([*WRITTEN, ".notes.1.partial", *(f".out.{n}.partial" for n in (2, 3, 4, 5))])
    kept = {path: content for path, content in before.items() if any(f".out.{n}." in path for n in (2, 3, 4, 5))}
    assert kept.items() <= tree().items() and Path("elsewhere/results.nc").read_text() == "mine"


def test_what_is_beside_a_directory_goes_only_where_its_process_is_known_to_have_ended(monkeypatch):
    with subprocess.Popen(["true"]) as ended:
        child = ended.pid
    for owner in (child, os.getppid(), None):
        partial = Path(f".out.{owner or 1}.partial")
        partial.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda owner=owner: owner)
            if owner:
                ownership.mark(partial)
    with output_directory(OUT) as place:
        write_json({}, place / "summary.json")
    left = {path.name for path in Path().glob(".out.*")}
    assert left == {f".out.{os.getppid()}.partial", ".out.1.partial"}


def test_a_manifest_that_was_cut_is_no_hindrance():
    run()
    put(f"out/{ownership.MANIFEST}.12345.partial", f"out/{ownership.MANIFEST}")
    run("--force")
    assert names(OUT) == WRITTEN
