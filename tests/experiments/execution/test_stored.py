"""Programs of earlier runs that are found untraced: by what they follow from, and by nothing else."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments.execution import programs, runner, stored
from experiments.machine.compilation import SWITCH, TRACED
from experiments.spec.loading import make_spec

SPEC = {
    "regime": "discrete",
    "task": {"name": "circles", "samples": 43},  # which no other test has
    "network": {"hidden": [3]},
    "stimulus": {"presentations": 3},
    "record": {"points": 1, "probes": ["loss"]},
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """Where programs are stored. jax has no store of its own meanwhile, as what it finds there is not stored again."""
    monkeypatch.setenv(TRACED, str(tmp_path))
    monkeypatch.delenv(SWITCH, raising=False)
    shared = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", shared)
    compilation_cache.reset_cache()


def loss(**changes) -> float:
    """Of a run by a process that has nothing in memory."""
    programs.FEW.clear()
    return float(runner.run(make_spec(SPEC | changes)).datasets[""]["loss"].values.ravel()[-1])


def test_what_is_found_is_not_traced_and_gives_the_same_numbers(folder, monkeypatch):
    first = loss()
    (path,) = folder.iterdir()
    monkeypatch.setattr(programs, "_compiled", None)
    assert loss() == first and loss(stimulus={"presentations": 4}) != first
    with pytest.raises(TypeError):  # another network is another program, and that is made
        loss(network={"hidden": [4]})
    assert list(folder.iterdir()) == [path]


def made(number: int, key: str = "key") -> int:
    """What there is for a key, or the number."""
    return stored.made(key, lambda name: number)


def test_another_key_code_version_or_flag_is_another_program(folder, monkeypatch):
    assert (made(1), made(2), made(3, "other")) == (1, 1, 3)
    with monkeypatch.context() as patch:
        patch.setattr(stored, "_code", lambda: "another line")
        assert made(4) == 4
    with monkeypatch.context() as patch:
        patch.setattr(stored, "version_of", lambda package: "9.9" if package == "equinox" else "1")
        assert made(5) == 5
    monkeypatch.setenv("XLA_FLAGS", "--others")
    assert made(6) == 6


def test_what_cannot_be_read_is_made_again(folder):
    made(1)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for number, spoilt in enumerate((b"", whole[:-1], zlib.compress(b"no program")), 2):
        path.write_bytes(spoilt)
        assert made(number) == number == made(0)


def test_nothing_is_stored_where_it_may_not_be_or_would_not_be_found_or_run(folder, monkeypatch):
    assert stored.made(("key", object()), lambda name: 1) == 1  # which has no name
    stored.made("found", lambda name: jax.monitoring.record_event(stored.HIT))  # by jax, in its own store
    monkeypatch.setattr(stored, "_BEGUN", 0.0)  # lines have changed since
    stored._code.cache_clear()
    made(1)
    stored._code.cache_clear()
    monkeypatch.setattr(stored, "_BEGUN", 1e12)
    monkeypatch.setenv(SWITCH, "false")
    made(1)
    stored._code.cache_clear()
    assert list(folder.iterdir()) == []


def test_a_key_has_the_same_text_in_every_process():
    key = ("rule", {"b": 1, "a": frozenset({"y", "x", "z"})}, loss, float)
    assert (
        stored._text(key) == f"""('rule', (('a', "{{'x', 'y', 'z'}}"), ('b', '1')), {__name__}.loss, builtins.float)"""
    )
