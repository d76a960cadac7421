"""Locks on a results directory: one owner at a time, the dead and the silent replaced, no clock trusted."""

import json
import multiprocessing
import os
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from dynamics.errors import PlasticodeError
from experiments.machine import lock as module
from experiments.machine.lock import InUse, Lock, living, locked, read_owner
from tests.forks import holder, until

ROOT = Path(__file__).resolve().parents[3]
QUICK = {"BEAT": 0.04, "SILENCE": 600.0, "SETTLE": 0.05}  # a busy machine may keep a heart from beating for seconds
AT_ONCE = 120  # seconds, on a busy machine; who waits for silence waits longer
DEAD = 2**22 + 12345  # beyond the highest process number of Linux


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Hearts that beat fifty times as fast; who waits for silence waits long."""
    for name, value in QUICK.items():
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def impatient(monkeypatch):  # where nobody is there whose heart might beat
    monkeypatch.setattr(module, "SILENCE", 0.8)


@pytest.fixture
def unguarded(monkeypatch):  # a file system that has no locks of its own
    monkeypatch.setattr(module.fcntl, "flock", lambda *_: os.stat("/none"))


@pytest.fixture
def path(tmp_path) -> Path:
    """Where the lock of a run in tmp_path is."""
    directory = tmp_path / "chunks"
    directory.mkdir()
    return directory / "lock"


def leave(path: Path, **changes) -> dict:
    """Make the lock of another process, alive and here unless `changes` say otherwise."""
    owner = {**Lock(path).owner, "token": uuid.uuid4().hex, **changes}
    path.write_text(json.dumps(owner))
    return owner


def take(path: Path) -> float:
    """Hold the lock for a moment; nothing of it is left. Returns the seconds until it was held."""
    begin = time.perf_counter()
    with locked(path) as lock:
        took = time.perf_counter() - begin
        assert read_owner(path) == lock.owner and os.listdir(path.parent) == ["lock"]
    assert os.listdir(path.parent) == []
    return took


def test_a_held_lock_refuses_in_a_sentence(path):
    with locked(path) as lock:
        before = set(path.parent.iterdir())
        with pytest.raises(InUse) as error:
            take(path)
        said = str(error.value)
        assert f"process {os.getpid()} on {lock.owner['host']}" in said and str(path.parent.parent) in said
        assert "--out" in said and "\n" not in said
        lock.check()
        assert set(path.parent.iterdir()) == before
    take(path)


STALE = [{"host": "x"}, {"space": "pid:[1]"}, {"pid": os.getpid()}, {"pid": 2**70}]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("changes", STALE, ids=range(len(STALE)))
def test_a_lock_without_a_heartbeat_is_taken_over_after_silence(path, changes):
    """Of another host or container, where nobody can ask for the process; or another one has its number now, or it
    makes no sense."""
    leave(path, **{"pid": DEAD, **changes})
    assert 0.8 < take(path) < AT_ONCE


def test_a_heartbeat_of_another_host_is_respected(path):
    with locked(path) as lock:
        lock.owner |= {"host": "elsewhere", "pid": DEAD}
        lock.beat()
        for _ in range(3):
            with pytest.raises(InUse, match=f"process {DEAD} on elsewhere"):
                take(path)
        assert list(living([path])) == [path]
        lock.check()
    take(path)


@pytest.mark.usefixtures("impatient")
def test_locks_of_dead_shards_on_other_hosts_are_watched_together(path):
    """One silence for all of them, not one each; one that lives among them is seen long before."""
    shards = [path.with_name(f"lock-{i}-of-100") for i in range(100)]
    for shard in shards:
        leave(shard, host="elsewhere", pid=DEAD)
    begin = time.perf_counter()
    assert list(living(shards)) == [] and 0.8 < time.perf_counter() - begin < AT_ONCE
    with locked(shards[50], ""):
        with pytest.raises(InUse), locked(path, "lock-*"):
            pass
    begin = time.perf_counter()
    with locked(path, "lock-*"):
        assert os.listdir(path.parent) == ["lock"] and time.perf_counter() - begin < 2 * AT_ONCE


SENSELESS = [b"", b'{"host": "x", "pi', b"\xff\0", b"null", b"[1]", b'{"host": 1}', b"[" * 10**5]
for wrong in ({"pid": "x"}, {"beat": float("nan")}, {"token": float("nan")}, {"beat": None}):  # no two are alike
    SENSELESS.append(json.dumps({**Lock(ROOT).owner, "host": "elsewhere", **wrong}).encode())


@pytest.mark.parametrize("content", [None, *SENSELESS], ids=lambda _: "content")  # whose numbers differ by process
def test_the_lock_of_a_dead_process_or_without_sense_is_taken_over_at_once(path, content):
    path.write_bytes(json.dumps({**Lock(ROOT).owner, "pid": DEAD}).encode() if content is None else content)
    assert (read_owner(path) is None) == (content in SENSELESS) and not list(living([path]))
    assert take(path) < AT_ONCE


@pytest.mark.parametrize(("failures", "refusal"), [(2, InUse), (99, PermissionError)])
def test_a_lock_that_the_system_does_not_show_is_respected(path, monkeypatch, failures, refusal):
    """A file on a network has just been replaced, or it is that of another user, who is at work."""
    read, failed = module.read_json, []

    def fails(file, *arguments):
        if file == path and len(failed) < failures:
            failed.append(file)
            raise PermissionError(13, "Permission denied", str(file))
        return read(file, *arguments)

    with locked(path) as lock:
        with monkeypatch.context() as patched:
            patched.setattr(module, "read_json", fails)
            with pytest.raises(refusal):
                take(path)
        assert (read_owner(path) or {})["token"] == lock.owner["token"]


@pytest.mark.parametrize("held", ["lock", "lock-1-of-3"])
def test_a_shard_and_the_whole_exclude_each_other(path, held):
    rules = {"lock": "lock-*", "lock-1-of-3": "lock"}
    wanted = next(name for name in rules if name != held)
    with locked(path.with_name(held), rules[held]) as lock:
        with pytest.raises(InUse, match="in use"), locked(path.with_name(wanted), rules[wanted]):
            pytest.fail("both are in")
        assert os.listdir(path.parent) == [held]
        lock.check()
        if held != "lock":  # but shards run side by side
            with locked(path.with_name("lock-2-of-3"), "lock"):
                lock.check()
    with locked(path.with_name(wanted), rules[wanted]):
        assert os.listdir(path.parent) == [wanted]


def test_the_lock_of_a_dead_shard_keeps_nobody_out_and_goes(path):
    """Else the directory of a finished run would stay. A part may have the name of a lock: its files stay."""
    leave(path.with_name("lock-1-of-3"), pid=DEAD)
    path.with_name(".lock-1-of-3.0123").write_text("half a heartb")
    mine = [f"lock-0000-000000.{'0' * 32}.nc", "lock-0000-000000.failed.json"]
    for name in mine:
        path.with_name(name).write_text("{}")
    with locked(path, "lock-*"):
        assert sorted(os.listdir(path.parent)) == ["lock", *mine]
    assert sorted(os.listdir(path.parent)) == mine


@pytest.mark.usefixtures("impatient")
def test_an_owner_that_slept_notices_and_harms_nobody(path, monkeypatch):
    """The owner's heart stands still, as in a process that was stopped; then another run takes over."""
    monkeypatch.setattr(module, "_keep", lambda *_: None)
    with locked(path) as sleeper:
        with locked(path) as other:
            with pytest.raises(PlasticodeError, match=f"taken over by process {os.getpid()} on") as error:
                sleeper.check()
            assert "\n" not in str(error.value)
            sleeper.beat()
            assert read_owner(path) == other.owner
            other.check()
            other.beat()
            sleeper.release()
            assert read_owner(path) == other.owner != sleeper.owner
    assert os.listdir(path.parent) == []


@pytest.mark.usefixtures("impatient")
def test_an_owner_that_wakes_while_it_is_robbed_keeps_its_lock(path, monkeypatch):
    """Between the last look at its heartbeat and the removal of its lock it beats once more."""
    sleeper = Lock(path)
    sleeper.beat()
    alive = module.living

    def wakes(*arguments) -> list[Path]:
        was = list(alive(*arguments))
        sleeper.beat()
        return was

    monkeypatch.setattr(module, "living", wakes)
    with pytest.raises(InUse):
        take(path)
    assert read_owner(path) == sleeper.owner and os.listdir(path.parent) == ["lock"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_is_robbed_as_it_takes_a_stale_lock_notices(path, monkeypatch, unguarded, moment):
    """Another run makes its lock, or removes the one just made here for the stale one."""
    leave(path, pid=DEAD)
    create, thieves = module._create, []

    def robbed(*arguments) -> bool:
        thieves.extend([leave(path)] if moment == "before" else [])
        seen_whole = create(*arguments)
        thieves.append(leave(path))
        return seen_whole

    monkeypatch.setattr(module, "_create", robbed)
    with pytest.raises(InUse, match="just been taken"):
        take(path)
    assert [read_owner(path)] == thieves


def test_of_two_that_take_the_same_stale_lock_the_slow_one_notices(path, monkeypatch):
    """Both have found it stale before either removes it."""
    leave(path, pid=DEAD)
    alive, holders = module.living, []
    both, end = threading.Barrier(2), threading.Barrier(2)

    def meets(paths) -> list[Path]:
        paths = list(paths)
        was = list(alive(paths))
        if paths:
            both.wait(AT_ONCE)
        return was

    def take_part() -> None:
        try:
            with locked(path) as lock:
                holders.append(lock)
                end.wait(AT_ONCE)  # it is held until the other has tried
        except InUse:
            end.wait(AT_ONCE)

    monkeypatch.setattr(module, "living", meets)
    threads = [threading.Thread(target=take_part) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(holders) == 1 and os.listdir(path.parent) == []


def contend(path: Path, start, holders) -> None:
    for name, value in QUICK.items():
        setattr(module, name, value)
    for number in range(ROUNDS):
        start.wait(AT_ONCE)
        try:
            with locked(path.with_name(f"lock{number}")):
                holders.put(number)
                start.wait(AT_ONCE)  # it is held until all others have tried
        except InUse:
            start.wait(AT_ONCE)


ROUNDS, CONTENDERS = 15, 3


def test_of_many_processes_that_come_at_once_exactly_one_is_let_in(path):
    """Two times of three there is a lock already, of a dead process or one that makes no sense."""
    for number in range(0, ROUNDS, 3):
        leave(path.with_name(f"lock{number}"), pid=DEAD)
        path.with_name(f"lock{number + 1}").write_text("")
    context = multiprocessing.get_context("spawn")
    start, holders = context.Barrier(CONTENDERS), context.Queue()
    processes = [context.Process(target=contend, args=(path, start, holders), daemon=True) for _ in range(CONTENDERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(10 * AT_ONCE)
        assert process.exitcode == 0
    assert [holders.get(timeout=AT_ONCE) for _ in range(ROUNDS)] == list(range(ROUNDS))
    assert holders.empty() and os.listdir(path.parent) == []


def test_a_file_system_without_links_will_do(path, monkeypatch, unguarded):
    monkeypatch.setattr(os, "link", lambda *_: os.stat("/none"))
    take(path)
    with locked(path), pytest.raises(InUse):
        take(path)


def beat(path: Path) -> int:
    return (read_owner(path) or {})["beat"]


def test_the_heart_beats_and_tells(path):
    with locked(path) as lock:
        lock.tell = lambda: {"progress": {"done": 0.5}}
        until(lambda: beat(path) >= 2 and (read_owner(path) or {})["progress"] == {"done": 0.5})
        wrongs: list[Any] = [lambda: {"progress": object()}, lambda: 1 / 0]
        for wrong in wrongs:
            lock.tell, before = wrong, beat(path)
            until(lambda before=before: beat(path) >= before + 3)
            assert "progress" not in (read_owner(path) or {})


def test_two_threads_that_beat_at_once_never_leave_half_a_lock(path, unguarded):
    """The heart and the run itself."""
    with locked(path) as lock:
        lock.tell = lambda: {"long": "x" * 10_000}
        until, bad = time.monotonic() + 1, []

        def hurry() -> None:
            while time.monotonic() < until:
                lock.beat()

        threads = [threading.Thread(target=hurry) for _ in range(3)]
        for thread in threads:
            thread.start()
        while time.monotonic() < until:
            bad += [1] if read_owner(path) is None else []
        for thread in threads:
            thread.join()
        assert not bad and os.listdir(path.parent) == ["lock"]


def test_a_full_disk_stops_no_heart_and_leaves_nothing(path, monkeypatch):
    write = Path.write_text

    def full(self, content, *_, **__):
        write(self, content[:7])
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="mine"), locked(path) as lock:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_text", full)
            time.sleep(0.2)
            assert os.listdir(path.parent) == ["lock"]
            lock.check()
        before = beat(path)
        until(lambda: beat(path) > before)
        raise ValueError("mine")
    assert os.listdir(path.parent) == []
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"), locked(path):
        pytest.fail("it has no lock")
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("jump", [-1e6, 1e6, -1e9])
def test_a_clock_that_is_set_changes_nothing(path, monkeypatch, jump):
    clock = time.time
    with locked(path) as lock:
        monkeypatch.setattr(time, "time", lambda: clock() + jump)
        os.utime(path, (0, 0))
        with pytest.raises(InUse):
            take(path)
        lock.check()
    leave(path, host="elsewhere")
    os.utime(path, (2**33, 2**33))
    monkeypatch.setattr(module, "SILENCE", 0.8)
    assert 0.8 < take(path) < AT_ONCE


def test_a_killed_holder_lets_the_next_one_in_at_once(path):
    """Also where no parent asks what became of it, as in many containers."""
    with holder(path, 0.1) as process:
        with pytest.raises(InUse, match=f"process {process.pid} on"):
            take(path)
        path.with_name(".lock.0123456789").write_text("half a heartb")  # it may die as it writes
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert take(path) < AT_ONCE


@pytest.mark.usefixtures("impatient")
def test_a_stopped_holder_is_robbed_and_leaves_the_thief_alone(path, monkeypatch):
    """A real process that sleeps, and wakes."""
    monkeypatch.setattr(module, "GUARD_PATIENCE", 1.0)  # in case it stopped inside
    with holder(path, 0.1) as process:
        process.send_signal(signal.SIGSTOP)
        with locked(path) as lock:
            process.send_signal(signal.SIGCONT)
            time.sleep(0.5)
            lock.check()
            assert (read_owner(path) or {})["token"] == lock.owner["token"]
    assert os.listdir(path.parent) == []
