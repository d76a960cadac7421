"""Locks on a results directory: an owner whose heartbeat tells that it is alive. No clock is compared with another.

The owner's file is replaced every other second with a higher count. Whoever finds the lock of a process that is gone,
or whose count stands still, takes it over; an owner that was only asleep notices that, and stops.
"""

import contextlib
import errno
import fcntl
import glob
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from dynamics.errors import PlasticodeError, printable
from experiments.machine.files import temporary
from experiments.machine.reading import read_json

BEAT = 2.0  # seconds between two heartbeats
SILENCE = 10 * BEAT  # how long a lock is watched that may be stale
SETTLE = 0.3  # seconds after which, of two that take over the same stale lock, the first knows
READS = 3  # of a lock that the system fails to read
GUARD_PATIENCE = 5.0  # seconds that a process waits for others that take a lock in the same directory
OWNER = {"host": str, "space": str, "pid": int, "token": str, "beat": int}
LARGEST = 2**20  # bytes of the file of a lock

Owner = dict[str, Any]  # host, space (of process numbers), pid, token, beat, and what the owner tells


class InUse(PlasticodeError):
    """Another run holds the lock."""


class Lock:
    """A lock that is held; `tell` says what its file shows to others besides the owner."""

    def __init__(self, path: Path):
        self.path = path
        self.owner: Owner = {**_here(), "pid": os.getpid(), "token": uuid.uuid4().hex, "beat": 0}
        self.tell: Callable[[], dict[str, Any]] = dict
        self._writing = threading.Lock()

    def check(self) -> None:
        """Raise `PlasticodeError` where another run has taken the lock over."""
        other = read_owner(self.path)
        if other is not None and other["token"] != self.owner["token"]:
            raise PlasticodeError(
                f"the output '{self.path.parent.parent}' was taken over by {described(other)}, while this run did not "
                "answer: it stops"
            )

    def beat(self) -> None:
        """Show that the owner is alive; a full disk may have room again before the others lose patience."""
        with contextlib.suppress(PlasticodeError, OSError), self._writing, _guarded(self.path.parent):
            self.check()
            self.owner["beat"] += 1
            self._write()

    def release(self) -> None:
        """Let others in; a lock that another run has taken over stays."""
        with contextlib.suppress(OSError), _guarded(self.path.parent):
            if (read_owner(self.path) or {}).get("token") == self.owner["token"]:
                self.path.unlink(missing_ok=True)

    def _write(self) -> None:
        with temporary(self.path.with_name(f".{self.path.name}.{self.owner['token']}")) as partial:
            partial.write_text(json.dumps({**self.owner, **self._told()}))
            partial.replace(self.path)

    def _told(self) -> dict[str, Any]:
        try:
            return json.loads(json.dumps(self.tell()))
        except Exception:  # what cannot be told must not stop the heart
            return {}


@contextlib.contextmanager
def locked(path: Path, conflicts: str = "") -> Iterator[Lock]:
    """Hold the lock `path` while the body runs; `PlasticodeError` where another run holds it.

    `conflicts` is a pattern of other locks in the same directory that may not be held either.
    """
    lock = Lock(path)
    stopped = threading.Event()
    thread = threading.Thread(target=_keep, args=(lock, stopped), daemon=True)
    try:
        _take(lock)
        thread.start()
        others = sorted(path.parent.glob(conflicts)) if conflicts else []
        for other, owner in _refuse_if_held(*(other for other in others if not other.suffix)).items():
            with _guarded(path.parent):  # one with a suffix is a chunk of a part that is named like a lock
                _remove(other, owner)
        yield lock
    finally:
        stopped.set()
        if thread.ident is not None:
            thread.join()
        lock.release()


def read_owner(path: Path) -> Owner | None:
    """The owner, or None where there is no lock; a lock that cannot be understood was cut when its owner died."""
    try:
        return _owner(path)
    except OSError:
        return None


def _owner(path: Path) -> Owner | None:
    """`OSError` where there is a lock that this process may not read: it may well be alive."""
    for attempt in range(READS):
        try:
            found = read_json(path, LARGEST, path.parent)
        except FileNotFoundError:
            return None
        except OSError as error:  # on a network, a file that has just been replaced
            if error.errno in (errno.EINVAL, errno.EFBIG, errno.ELOOP):  # nothing that a run has written
                return None
            if attempt == READS - 1:
                raise
            time.sleep(BEAT / 100)
        except (ValueError, RecursionError):
            return None
        else:
            return found if _is_owner(found) else None
    return None


def _is_owner(found: Any) -> bool:
    """Whether that is what `Lock` writes: a count that is no number would seem to change for ever."""
    return isinstance(found, dict) and all(type(found.get(key)) is kind for key, kind in OWNER.items())


def living(paths: Iterable[Path], patience: float | None = None) -> Iterator[Path]:
    """The locks whose owners live, each as soon as that is seen. All are watched together, from now on, for `patience`
    seconds (`SILENCE`): one that does not change in that time counts as dead."""
    until = time.monotonic() + (SILENCE if patience is None else patience)
    owners = {path: read_owner(path) for path in paths}
    return _changing({path: owner for path, owner in owners.items() if owner and not _is_gone(owner)}, until)


def _changing(watched: dict[Path, Owner], until: float) -> Iterator[Path]:
    """Those that change until then, or have, if it is later."""
    looking = 0.0
    while watched:
        left = until - time.monotonic()
        time.sleep(max(0.0, min(left, max(BEAT / 10, looking))))  # a look at thousands takes long
        begun = time.monotonic()
        for path, other in list(watched.items()):
            now = read_owner(path)
            if now is None or (now["token"], now["beat"]) != (other["token"], other["beat"]):
                del watched[path]
                if now is not None:
                    yield path
        looking = time.monotonic() - begun
        if begun >= until:
            return


def described(owner: Owner) -> str:
    """Who an owner is."""
    return f"process {printable(str(owner['pid']))} on {printable(str(owner['host']))}"


def this_process() -> Owner:
    """What tells a process from all others, here and elsewhere, as long as it lives."""
    return {**_here(), "pid": os.getpid()}


def has_ended(owner: Owner) -> bool:
    """Whether it is known that a process of `this_process` has ended."""
    return {"host", "space", "pid"} <= set(owner) and _is_gone(owner)


def _take(lock: Lock) -> None:
    other = _refuse_if_held(lock.path)[lock.path]
    with _guarded(lock.path.parent):
        stale = _remove(lock.path, other)
        try:
            seen_whole = _create(lock.path, json.dumps(lock.owner))
        except FileExistsError:
            raise _just_taken(lock.path) from None
    # Where the file system has no guard, another run may have found the lock stale, or not yet written, at the same
    # moment, and have removed the one made here.
    if stale or not seen_whole:
        time.sleep(SETTLE)
        if (read_owner(lock.path) or {}).get("token") != lock.owner["token"]:
            raise _just_taken(lock.path)


def _just_taken(path: Path) -> InUse:
    return InUse(f"the output '{path.parent.parent}' has just been taken by another run")


def _create(path: Path, content: str) -> bool:
    """Make a file that is never seen without its content, else return False; `FileExistsError` where there is one."""
    with temporary(path.with_name(f".{path.name}.{uuid.uuid4().hex}")) as partial:
        partial.write_text(content)
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("x") as file:
                file.write(content)
            return False
        return True


def _refuse_if_held(*paths: Path) -> dict[Path, Owner | None]:
    """The owners of locks, who are gone; `InUse` where one lives."""
    owners = {path: _owner(path) for path in paths}
    for path in living(path for path, owner in owners.items() if owner is not None):
        other = owners[path]
        assert other is not None
        raise InUse(
            f"the output '{path.parent.parent}' is in use by {described(other)}: wait for it, or choose another --out"
        )
    return owners


def _remove(path: Path, other: Owner | None) -> bool:
    """Remove the lock of an `other` who is gone, and what it was writing; returns whether there was one."""
    now = _owner(path)
    if now is not None and (other is None or (now["token"], now["beat"]) != (other["token"], other["beat"])):
        raise _just_taken(path)
    stale = path.exists()
    for file in (path, *path.parent.glob(f".{glob.escape(path.name)}.*")):
        file.unlink(missing_ok=True)
    return stale


@contextlib.contextmanager
def _guarded(directory: Path) -> Iterator[None]:
    """Only one process at a time is here, where the file system can see to that."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW)
    until = time.monotonic() + GUARD_PATIENCE
    try:
        while time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # of a file system that has no such locks
                break
        if not os.path.samestat(os.fstat(descriptor), os.lstat(directory)):  # a link, or another one, by now
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(directory))
        yield
    finally:
        os.close(descriptor)


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
    return _is_zombie(int(other["pid"]))


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended, and its parent has not asked: in a container that may never happen."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (OSError, IndexError):
        return False
