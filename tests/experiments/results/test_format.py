"""Results in the format of another version: refused, by all that read them, in a sentence that says who reads them."""

import json
from pathlib import Path

import h5py
import pytest

import plasticode
from dynamics.errors import PlasticodeError
from experiments.execution.runner import chunking
from experiments.points.jobs import prepare
from experiments.results.labels import FORMAT, Results
from experiments.spec.loading import load_spec
from experiments.storage import rundir
from tests.experiments.commands.test_cli import TINY
from tests.experiments.commands.test_cli import plasticode as command
from tests.experiments.results.saved import save
from tests.experiments.results.test_netcdf import dataset

OLD = "results in format 1, which plasticode 0.1.0 reads; here is format 2"
NEW = "results in format 3, which plasticode 0.9.1 reads; here is format 2"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test runs in an empty directory, with a tiny spec in it."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)


def header() -> dict:
    """What a run of the tiny spec says of itself here."""
    spec = load_spec("tiny.toml")
    jobs = prepare(spec)
    return rundir.header_of(spec, jobs, chunking(jobs))


def of_format(run: dict, number: int | None) -> dict:
    """The same run in another format; format 1 said nothing of itself."""
    other = {key: value for key, value in run.items() if key != "format"}
    if number is None:
        return other
    return other | {"format": number, "versions": run["versions"] | {"plasticode": "0.9.1"}}


def write_old(path: Path, number: int | None = None, parts: tuple[str, ...] = ("",)) -> None:
    """Results of the tiny spec as another version wrote them: those of the first had dots in their names."""
    run, named = of_format(header()["run"], number), {}
    for part in parts:
        data = dataset(part=part).rename(delays_error="delays.error")
        attributes = {key: value for key, value in data.attrs.items() if key != "format"}
        data.attrs = attributes | run | {key: json.dumps(run[key]) for key in ("versions", "code")}
        named[part] = data
    save(Results(named, True), path)
    with h5py.File(path, "a") as file:
        if number is None:
            file.attrs.pop("format", None)
        file.attrs["run"] = json.dumps({"run": run, "chunking": [1, 1, 1]})
        file.attrs["complete"] = 1


@pytest.mark.parametrize(("number", "said"), [(None, OLD), (3, NEW)])
def test_all_commands_refuse_results_of_another_version(number, said):
    Path("old").mkdir()
    write_old(Path("old/results.nc"), number)
    before = Path("old/results.nc").read_bytes()
    for words in (["export", "old", "table.csv"], ["status", "old"], ["run", "tiny.toml", "--out", "old"]):
        told = command(*words, code=2).stderr
        assert " ".join(told.split()).count(said) == 1 and "old" in told, words
    assert sorted(path.name for path in Path().rglob("*")) == ["old", "results.nc", "tiny.toml"]
    assert Path("old/results.nc").read_bytes() == before


@pytest.mark.parametrize(("number", "said"), [(None, OLD), (3, NEW)])
@pytest.mark.parametrize("parts", [("",), ("a", "b")])
def test_open_refuses_results_of_another_version(number, said, parts):
    write_old(Path("results.nc"), number, parts)
    for source in (".", "results.nc"):
        with pytest.raises(PlasticodeError, match="run the spec anew") as told:
            plasticode.open(source)
        assert said in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("lost", [False, True])
def test_an_unfinished_run_of_another_version_is_refused_and_kept(lost):
    """By its header, or where that was lost by what its chunks say."""
    mine = header()
    old = mine | {"run": of_format(mine["run"], None)}
    chunks = Path("old/chunks")
    chunks.mkdir(parents=True)
    with h5py.File(chunks / f"all-0000-000000.{'0' * 32}.nc", "w") as file:
        attributes = {key: old["run"][key] for key in ("spec", "spec_hash")}
        file.attrs.update(attributes | {"versions": json.dumps(old["run"]["versions"])})
    if not lost:
        (chunks / "run.json").write_text(json.dumps(old))
    before = sorted(path.name for path in chunks.iterdir())
    with pytest.raises(PlasticodeError, match="--force to start anew") as told, rundir.opened(Path("old"), mine):
        pytest.fail("it must not open")
    assert OLD in str(told.value) and sorted(path.name for path in chunks.iterdir()) == before


def test_a_run_says_its_format_in_every_file():
    assert header()["run"]["format"] == FORMAT == dataset().attrs["format"]
