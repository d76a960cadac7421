"""Locks on a results directory: an owner whose heartbeat tells that it is alive. No clock is compared with another.

The owner's file is replaced every other second with a higher count. Whoever finds the lock of a process that is gone,
or whose count stands still, takes it over; an owner that was only asleep notices that, and stops.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dynamics.errors import PlasticodeError

BEAT = 2.0  # seconds between two heartbeats
SILENCE = 10 * BEAT  # how long a lock is watched that may be stale
SETTLE = 0.3  # seconds after which, of two that take over the same stale lock, the first knows

Owner = dict[str, Any]  # host, space (of process numbers), pid, token, beat, and what the owner tells


class InUse(PlasticodeError):
    """Another run holds the lock."""


class Lock:
    """A lock that is held; `tell` says what its file shows to others besides the owner."""

    def __init__(self, path: Path):
        self.path = path
        self.owner: Owner = {**_here(), "pid": os.getpid(), "token": uuid.uuid4().hex, "beat": 0}
        self.tell: Callable[[], dict[str, Any]] = dict

    def check(self) -> None:
        """Raise `PlasticodeError` where another run has taken the lock over."""
        other = read_owner(self.path)
        if other is not None and other["token"] != self.owner["token"]:
            raise PlasticodeError(
                f"the output '{self.path.parent.parent}' was taken over by {described(other)}, while this run did not "
                "answer: it stops"
            )

    def beat(self) -> None:
        """Show that the owner is alive."""
        with contextlib.suppress(PlasticodeError):
            self.check()
            self.owner["beat"] += 1
            self._write()

    def _write(self) -> None:
        partial = self.path.with_name(f".{self.path.name}.{self.owner['token']}")
        with contextlib.suppress(OSError):  # a full disk may have room again before the others lose patience
            partial.write_text(json.dumps({**self.owner, **self.tell()}))
            partial.replace(self.path)


@contextlib.contextmanager
def locked(path: Path, conflicts: str = "") -> Iterator[Lock]:
    """Hold the lock `path` while the body runs; `PlasticodeError` where another run holds it.

    `conflicts` is a pattern of other locks in the same directory that may not be held either.
    """
    lock = Lock(path)
    _take(lock)
    stopped = threading.Event()
    thread = threading.Thread(target=_keep, args=(lock, stopped), daemon=True)
    thread.start()
    try:
        for other in sorted(path.parent.glob(conflicts)) if conflicts else ():
            _refuse_if_held(other, lock)
        yield lock
    finally:
        stopped.set()
        thread.join()
        if (read_owner(path) or {}).get("token") == lock.owner["token"]:
            path.unlink(missing_ok=True)


def read_owner(path: Path) -> Owner | None:
    """The owner, or None where there is no lock; a lock that cannot be read was cut when its owner died."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"host", "space", "pid", "token", "beat"} <= set(found) else None


def is_alive(path: Path, patience: float = SILENCE) -> bool:
    """Whether the lock has an owner that lives, as far as `patience` seconds of watching tell."""
    other = read_owner(path)
    if other is None or _is_gone(other):
        return False
    until = time.monotonic() + patience
    while time.monotonic() < until:
        time.sleep(min(BEAT / 10, patience))
        now = read_owner(path)
        if now is None or now["token"] != other["token"] or now["beat"] != other["beat"]:
            return now is not None
    return False


def described(owner: Owner) -> str:
    """Who an owner is."""
    return f"process {owner['pid']} on {owner['host']}"


def _take(lock: Lock) -> None:
    _refuse_if_held(lock.path, lock)
    stale = lock.path.exists()
    lock.path.unlink(missing_ok=True)
    try:
        _create(lock.path, json.dumps(lock.owner))
    except FileExistsError:
        raise InUse(f"the output '{lock.path.parent.parent}' has just been taken by another run") from None
    if stale:  # another run may have found it stale at the same moment, and have removed the lock made here
        time.sleep(SETTLE)
        lock.check()


def _create(path: Path, content: str) -> None:
    """Make a file that is never seen without its content; `FileExistsError` where there is one."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_text(content)
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("x") as file:
                file.write(content)
    finally:
        partial.unlink(missing_ok=True)


def _refuse_if_held(path: Path, lock: Lock) -> None:
    other = read_owner(path)
    if other is not None and other["token"] != lock.owner["token"] and is_alive(path):
        raise InUse(
            f"the output '{path.parent.parent}' is in use by {described(other)}: wait for it, or choose another --out"
        )


def _keep(lock: Lock, stopped: threading.Event) -> None:
    while not stopped.wait(BEAT):
        lock.beat()


def _here() -> Owner:
    """The host, and the space in which its process numbers count: containers may share a name."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return {"host": socket.gethostname(), "space": space}


def _is_gone(other: Owner) -> bool:
    if {"host": other["host"], "space": other["space"]} != _here():
        return False
    try:
        os.kill(int(other["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, TypeError, OverflowError):
        return False
    return False
