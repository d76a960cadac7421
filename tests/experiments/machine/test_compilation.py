"""Compiled programs that outlive the process: who finds them, who does not, and that nothing is ever an error."""

import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.commands import cli, fit
from experiments.machine import compilation
from experiments.machine.compilation import PLACE, SWITCH, kept_programs, settings

ROOT = Path(__file__).resolve().parents[3]
LOGGED = {"JAX_LOG_COMPILES": "1", "JAX_EXPLAIN_CACHE_MISSES": "1"}
# A process that compiles a few programs, each of which takes long enough to be kept, and tells their results.
SMALL = """
from experiments.machine.compilation import kept_programs
with kept_programs():
    import jax
    for power in range(2, 5):
        deep = lambda x: sum(jax.numpy.linalg.slogdet(jax.numpy.eye(power + k) + x)[1] for k in range(6))
        print(float(jax.jit(jax.grad(deep))(0.5)))
"""
# Every other entry becomes no program, and the rest folders.
SPOILT = """
    import jax, pathlib
    for number, path in enumerate(pathlib.Path.home().glob(".cache/plasticode/*/*")):
        path.write_bytes(b"no program") if number % 2 else (path.unlink(), path.mkdir())
"""
SPEC = """
regime = "discrete"
task = {name = "circles", samples = 40}
[network]
hidden = [3]
[stimulus]
presentations = 3
[record]
points = 1
probes = ["loss"]
"""


def nobody_has_said_anything(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Of caches, here and to the processes that are started, which are at `home`."""
    for name in (PLACE, SWITCH, "XDG_CACHE_HOME", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        patch.delenv(name, raising=False)
    patch.setattr(sys, "platform", "linux")
    patch.setenv("HOME", str(home))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Iterator[Path]:
    """A home where nobody has said anything of caches."""
    nobody_has_said_anything(monkeypatch, tmp_path)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    told = {**os.environ, "PYTHONPATH": str(ROOT), **LOGGED}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[str, int, int]:
    """What a process has printed; how many programs it found, and how many it has kept."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "UserWarning" not in err
    return out, err.count("Persistent compilation cache hit"), err.count("Writing jit_")


def entries(home: Path) -> list[Path]:
    return sorted((home / ".cache" / "plasticode").glob("programs-*/*"))


def entry(home: Path, name: str, content: bytes, version: str = "old", age: float = 0.0) -> Path:
    """An entry of another version, so many seconds old."""
    path = home / ".cache" / "plasticode" / f"programs-{version}" / name
    for folder in (path.parent.parent, path.parent):
        folder.mkdir(0o700, parents=True, exist_ok=True)
    path.write_bytes(content)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


# ------------------------------------------------------------------------------------------------------ real processes


@pytest.fixture(scope="module")
def two_at_once(tmp_path_factory) -> tuple[Path, list[str]]:
    """A home where two processes have kept their programs at the same time, and what each of them has printed."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        nobody_has_said_anything(patch, place)
        return place, [ended(process)[0] for process in (started(SMALL), started(SMALL))]


@pytest.fixture
def kept(home, two_at_once) -> str:
    """What was kept there is also here; what its processes have printed."""
    shutil.copytree(two_at_once[0], home, dirs_exist_ok=True)
    return two_at_once[1][0]


def test_two_processes_at_once_and_one_after_the_other(home, kept, two_at_once):
    assert two_at_once[1] == [kept, kept] and kept
    whole = entries(home)
    assert whole and all(zlib.decompress(path.read_bytes()) for path in whole)
    assert (two_at_once[0] / ".cache" / "plasticode").stat().st_mode & 0o777 == 0o700
    assert ended(started(SMALL)) == (kept, len(whole), 0)


def test_pieces_of_entries_are_thrown_away_and_made_again(home, kept):
    whole = entries(home)
    whole[0].write_bytes(whole[0].read_bytes()[:-100])  # as a kill leaves it
    whole[1].write_bytes(b"")
    whole[2].write_bytes(b"no program")
    again, hits, _ = ended(started(SMALL))
    assert again == kept and hits == len(whole) - 3
    assert entries(home) == whole and all(zlib.decompress(path.read_bytes()) for path in whole)


def test_what_becomes_unreadable_meanwhile_is_no_warning(home, kept):
    assert ended(started(SMALL.replace("    import jax\n", SPOILT)))[:2] == (kept, 0)


def test_a_run_keeps_programs_unless_it_is_told_not_to(home):
    spec = home / "spec.toml"
    spec.write_text(SPEC)
    run = "from experiments.commands.start import main; main()", "run", str(spec), "--out", str(home / "out"), "--force"
    assert ended(started(*run, "--no-cache"))[1:] == (0, 0) and entries(home) == []
    found, kept = ended(started(*run))[1:]
    (traced,) = (path for path in entries(home) if path.name.startswith("traced-"))
    assert len(entries(home)) == kept + 1 and kept > found == 0
    assert ended(started(*run))[1] < kept  # what is not traced is not looked for
    traced.unlink()
    assert ended(started(*run))[1] >= kept


COMMANDS = ["run digits", "compare", "reproduce curl-rate", "check digits", "fit digits", "design digits"]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_commands_that_compile_can_be_told(monkeypatch, command):
    told = []
    for commands in (cli, fit):
        monkeypatch.setattr(commands, "kept_programs", told.append)  # which is no context: the command ends there
    for more in ([], ["--no-cache"]):
        assert isinstance(CliRunner().invoke(cli.app, [*command.split(), *more]).exception, TypeError)
    assert told == [True, False]


def test_the_help_says_where_how_much_and_how_not():
    told = " ".join(CliRunner().invoke(cli.app, ["--help"]).output.split())
    assert f"~/.cache/plasticode, at most {compilation.LARGEST // 10**6} MB); not with --no-cache" in told


# ------------------------------------------------------------------------------------------------------------- settings


def test_the_user_decides(home, monkeypatch):
    monkeypatch.setenv(PLACE, str(home / "mine"))
    with kept_programs():
        assert os.environ[PLACE] == str(home / "mine") and SWITCH not in os.environ
    with kept_programs(False):
        assert os.environ[SWITCH] == "false" and not compilation.are_wanted()
    assert SWITCH not in os.environ and compilation.are_wanted() and list(home.iterdir()) == []


def test_the_environment_is_as_before_afterwards(home, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::DeprecationWarning")
    before = dict(os.environ)
    with kept_programs():
        assert Path(os.environ[PLACE]).parent == home / ".cache" / "plasticode"
        assert os.environ["PYTHONWARNINGS"].startswith("ignore::DeprecationWarning,ignore:Error reading")
    assert dict(os.environ) == before


def test_a_cache_folder_of_the_user_s_choice(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "deep" / "elsewhere"))
    assert Path(str(settings()[PLACE])).parent == home / "deep" / "elsewhere" / "plasticode"
    settings.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard has ignored
    assert Path(str(settings()[PLACE])).parent == home / ".cache" / "plasticode"


@pytest.mark.parametrize("changed", ["plasticode", "jaxlib", "processor"])
def test_no_other_version_and_no_other_processor_reads_it(home, monkeypatch, changed):
    mine, version_of = settings()[PLACE], compilation.version_of
    settings.cache_clear()
    assert settings()[PLACE] == mine
    settings.cache_clear()
    if changed == "processor":
        monkeypatch.setattr(compilation, "PROCESSOR", ("processor",))
    else:
        monkeypatch.setattr(compilation, "version_of", lambda name: "9.9" if name == changed else version_of(name))
    assert settings()[PLACE] != mine


def test_no_home_and_no_folder_is_no_error(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home / "nowhere"))
    assert settings() == {} and not (home / "nowhere").exists()


@pytest.mark.parametrize("file", [".cache", ".cache/plasticode"])
def test_a_file_in_the_way_is_no_error(home, file):
    (home / file).parent.mkdir(exist_ok=True)
    (home / file).touch()
    assert settings() == {}


def test_a_home_that_cannot_be_written_is_no_error(home, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser, who may run this, may write anywhere
    assert settings() == {}


@pytest.mark.parametrize("which", ["plasticode", "programs"])
def test_a_folder_where_others_can_write_is_not_used(home, which):
    folder = Path(str(settings()[PLACE]))
    settings.cache_clear()
    (folder if which == "programs" else folder.parent).chmod(0o770)
    assert settings() == {}


def test_a_folder_of_somebody_else_is_not_used(home, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert settings() == {}


def test_beyond_the_limit_what_was_used_longest_ago_goes_first(home, monkeypatch):
    content = zlib.compress(b"a program")
    monkeypatch.setattr(compilation, "LARGEST", 2 * len(content))
    kept = [entry(home, "new", content), entry(home, "newer", content, "other")]
    gone = [entry(home, "old", content, age=100), entry(home, "oldest", content, "older", age=200)]
    assert settings()
    assert all(path.exists() for path in kept) and not any(path.exists() for path in gone)
    assert not gone[1].parent.exists()  # nothing is left of that version
