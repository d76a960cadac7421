"""Files that are whole or not there, whatever fails as they are written."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.machine import files


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [full, interrupted])
@pytest.mark.parametrize(("owner", "name"), [(Path, "open"), (os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("before", [None, "old"])
def test_what_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable, owner: object, name: str, before: str | None
):
    path, partial = tmp_path / "file", tmp_path / ".file.partial"
    if before is not None:
        path.write_text(before)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, fails)
        with pytest.raises((OSError, KeyboardInterrupt)):
            files.write(path, partial, "new")
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == ({"file": before} if before else {})
    files.write(path, partial, "new")
    assert path.read_text() == "new" and not partial.exists()


def test_a_link_where_it_would_write_is_not_followed(tmp_path: Path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "partial").symlink_to(tmp_path / "mine")
    files.write(tmp_path / "file", tmp_path / "partial", b"new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink() and sorted(os.listdir(tmp_path)) == ["file", "mine"]


def test_the_content_is_on_the_disk_before_its_name_and_the_name_at_the_end(tmp_path, monkeypatch):
    """As far as the order of calls tells; a system that cannot flush a directory is no failure."""
    done, fsync, replace = [], os.fsync, Path.replace

    def flushed(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        if done[-1] == "directory":
            full()
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", lambda self, to: done.append("renamed") or replace(self, to))
    files.write(tmp_path / "file", tmp_path / "partial", "new")
    assert done == ["file", "renamed", "directory"] and os.listdir(tmp_path) == ["file"]
