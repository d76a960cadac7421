"""How chunks run: over devices that never talk to each other, in batches that fit the memory, from checkpoints."""

import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from experiments.execution import batches, checkpoints, programs, runner
from experiments.execution.programs import JobRunner
from experiments.machine import memory
from experiments.machine.progress import Meter, Progress
from experiments.points.jobs import Chunking, prepare
from experiments.spec.loading import make_spec
from experiments.storage.chunks import ChunkStore
from tests.compilations import compilations

COLLECTIVES = r"all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter|send|recv"
pytestmark = pytest.mark.usefixtures("unchecked_types")
# Discrete learning compiles soonest, and what runs it is the same.
SMALL = {
    "regime": "discrete",
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 20, "test_samples": 10},
    "network": {"hidden": [4]},
    "rule": "fa",
    "stimulus": {"presentations": 20},
    "record": {"points": 4, "probes": ["loss", "weight_norm"]},
    "sweep": {"network.gain": {"linspace": [0.5, 1.5, 6]}},
}
SEEN = {"inside": ["e1", "W1"], "inside_presentations": [3, 17], "inside_times": 5}
COUPLED = {**SMALL, "regime": "coupled", "record": {**SMALL["record"], **SEEN}}
# Delays and noise: rings of past signals, the states of both and of the order of presentations are in a checkpoint.
# Neurons are slow enough for these steps: where they are too long, points run again, by programs of their own.
NOISY = {
    **SMALL,
    "regime": "coupled",
    "timescales": {"propagation": "10 ms"},
    "delays": {"error": "0.3 T"},
    "noise": {"activity": 0.1, "synaptic": 0.01},
    "integrator": {"name": "euler", "dt": "2 ms", "tolerance": 0.9},
}
WHOLE = Chunking(6, 6, 1)


def chunk_of(table: dict, store: ChunkStore | None = None) -> tuple[JobRunner, dict]:
    (job,) = prepare(make_spec(table))[""]
    return JobRunner(job, 6, store), job.chunks(WHOLE)


def run(table: dict, store: ChunkStore | None = None, report=None):
    job_runner, chunks = chunk_of(table, store)
    ((key, points),) = chunks.items()
    return job_runner.run(key, points, Meter(report, 1.0))


def assert_equal(first, second, rtol: float = 0.0):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=0), first, second)


# ------------------------------------------------------------------------------------------------------------- devices


SCRIPT = """
import jax
from experiments.execution import runner
runner.configure("float32", devices=4)
from tests.experiments.execution import test_programs as here
assert len(jax.local_devices()) == 4
for table in (here.NOISY, here.SMALL):
    job_runner, chunks = here.chunk_of(table)
    made = job_runner.prepare()
    for name in ("init", "advance", "measure"):
        of_data = getattr(getattr(made, name), "programs", {0: made.init})
        text = "".join(program.compiled.as_text() for program in of_data.values())
        print("PROGRAM", name, len(text), here.re.findall(here.COLLECTIVES, text))
    ((key, points),) = chunks.items()
    print("LOSS", *job_runner.run(key, points, here.Meter(None, 1.0))["loss"].ravel().tolist())
"""


def test_four_devices_exchange_nothing_and_find_what_others_find(forks):
    """In a process of its own, whose number of devices is chosen before jax starts; here are two, which share the six
    points without any that fill up."""
    said = forks.program(SCRIPT)
    programs_of_four = re.findall(r"PROGRAM (\w+) (\d+) (.*)", said)
    assert len(programs_of_four) == 6
    assert all(int(length) > 1000 and found == "[]" for _, length, found in programs_of_four)
    losses = np.array([line.split()[1:] for line in said.splitlines() if line.startswith("LOSS")], float)
    assert len(jax.local_devices()) == 2
    np.testing.assert_allclose(losses, [run(table)["loss"].ravel() for table in (NOISY, SMALL)], rtol=1e-5)


def test_an_exchange_would_be_seen():
    mesh = batches.sharding().mesh
    spec = jax.sharding.PartitionSpec("points")
    summed = jax.shard_map(lambda x: jax.lax.psum(x, "points"), mesh=mesh, in_specs=spec, out_specs=spec)
    text = jax.jit(summed).lower(jnp.ones(2, jnp.float32)).compile().as_text()
    assert text is not None and re.search(COLLECTIVES, text)


def test_rules_that_come_to_the_same_operations_share_programs_and_no_numbers():
    jobs = prepare(make_spec({**SMALL, "network": {"hidden": [5]}, "sweep": {**SMALL["sweep"], "rule": ["fa", "dfa"]}}))

    def compiled(numbers: tuple[int, ...]) -> int:
        for kept in (programs.KEPT, batches.LATELY):
            kept.clear()
        before = compilations()
        for number in numbers:
            JobRunner(jobs[""][number], 6).prepare()
        return compilations() - before

    def records() -> list[dict]:
        runners = [JobRunner(job, 6) for job in jobs[""]]
        return [r.run(*next(iter(r.job.chunks(WHOLE).items())), Meter(None, 1.0)) for r in runners]

    compiled((0,))  # and what any job compiles
    assert compiled((0, 1)) == compiled((0,)) + 1  # of the second rule only what draws its own weights
    compiled((1,))
    apart = records()[1]
    compiled((0, 1))
    fa, dfa = records()
    assert_equal(dfa, apart)
    assert not np.array_equal(fa["loss"], dfa["loss"])


def test_programs_that_read_other_arguments_or_constants_are_others():
    points = jnp.arange(4.0, dtype=jnp.float32), -jnp.arange(4.0, dtype=jnp.float32)
    table = np.arange(1000, dtype=np.float32)

    def of(function):
        return batches.made(function, points, (), None, 2, "local")(*points)

    for number in (0, 1):
        assert_equal(of(lambda *both, number=number: {"x": both[number]})["x"], points[number])
        changed = (table + number * (table == 500)).astype(np.float32)
        assert_equal(of(lambda a, b, changed=changed: a + jnp.sum(changed) - 499500), points[0] + number)


def test_programs_that_are_given_what_they_do_not_read_in_other_shapes_are_others():
    """A past, which probes do not look at, is as long as there are windows: finer ones have a longer one."""
    points = jnp.arange(4.0, dtype=jnp.float32)
    for unread in (jnp.zeros((4, 3), jnp.float32), jnp.zeros((4, 5), jnp.float32), jnp.zeros((4, 5), jnp.int32)):
        given = (points, unread)
        assert_equal(batches.made(lambda a, _: a + 1, given, (), None, 2, "local")(*given), points + 1)


# --------------------------------------------------------------------------------------------------------------- memory


def test_a_batch_that_does_not_fit_is_halved_and_retried(monkeypatch):
    """A device that has room for two points at a time, and says so when it is too late."""
    straight, sizes, real = run(SMALL), [], programs.compiled

    def small_device(job, size, points):
        made = real(job, size, points)
        sizes.append(size)

        def advance(*arguments):
            if size > 2:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes.")
            return made.advance(*arguments)

        return made._replace(advance=advance)

    monkeypatch.setattr(programs, "compiled", small_device)
    monkeypatch.setattr(programs.Programs, "bytes", 0)
    assert_equal(run(SMALL), straight, rtol=1e-5)
    assert sizes == [6, 3, 2]


def test_a_batch_that_would_not_fit_is_never_tried(monkeypatch):
    job_runner, _ = chunk_of(SMALL)
    need = [programs.compiled(job_runner.job, size).bytes for size in (6, 3)]
    assert need[0] > need[1] > 0
    monkeypatch.setattr(programs, "free_bytes", lambda: 1.01 * need[1] / programs.MEMORY_SHARE)
    job_runner.prepare()
    assert job_runner.size == 3
    monkeypatch.setattr(programs, "free_bytes", lambda: 1000.0)
    with pytest.raises(PlasticodeError, match=r"2 points at once need \S+ GB of memory, and 1e-06 GB are free"):
        run(SMALL)  # there is nothing left to halve


def test_other_failures_are_not_taken_for_want_of_memory(monkeypatch):
    def broken(job, size, points):
        raise RuntimeError("INTERNAL: something else")

    monkeypatch.setattr(programs, "compiled", broken)
    with pytest.raises(RuntimeError, match="something else"):
        run(SMALL)


def test_the_free_memory_is_that_of_the_devices_or_of_the_machine(monkeypatch):
    assert 2**20 < memory.free_bytes() < 2**50 and 2**20 < memory.peak_bytes() < 2**45
    gpu = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": 100, "bytes_in_use": 30})
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [gpu, gpu])
    assert memory.free_bytes() == 140.0


def test_the_limit_of_a_batch_system_is_seen(tmp_path, monkeypatch):
    """Control groups as Slurm nests them: the innermost that has a limit, and what it uses beside cached files."""
    inner = tmp_path / "slurm" / "job_7" / "step_0"
    inner.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("0::/slurm/job_7/step_0\n")
    for group, limit in ((inner, "max"), (inner.parent, "8000000"), (inner.parent.parent, "9000000")):
        (group / "memory.max").write_text(limit)
        (group / "memory.current").write_text("3000000")
        (group / "memory.stat").write_text("anon 1\ninactive_file 1000000\n")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    groups = list(memory._groups(tmp_path / "cgroup"))
    assert [group.name for group, _ in groups[:3]] == ["step_0", "job_7", "slurm"]
    monkeypatch.setattr(memory, "_groups", lambda: groups)
    assert memory.free_bytes() == 6_000_000


def test_chunks_keep_states_and_records_within_bounds():
    (job,) = prepare(make_spec(SMALL))[""]
    assert job.state_bytes >= 4 * (4 * 3 + 2 * 4 + 2 * 4)  # weights, feedback
    records = job.point_bytes - job.state_bytes
    assert records >= 5 * 4 * (1 + 3)  # loss and three norms
    huge = job._replace(point_bytes=2**28)
    assert max(map(len, huge.chunks(Chunking(1, 6, 2**60)).values())) == 2
    assert [len(points) for points in job.chunks(Chunking(1, 6, int(4 * job.point_work))).values()] == [3, 3]


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("table", [COUPLED, NOISY], ids=["window", "euler"])
def test_a_long_chunk_goes_on_from_its_checkpoint_to_the_same_bits(table, tmp_path, monkeypatch):
    straight = run(table)
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    monkeypatch.setattr(programs, "BLOCK_WORK", 0)  # a block is one presentation
    monkeypatch.setattr(programs, "BLOCK_SECONDS", 0.0)
    store = ChunkStore(tmp_path, "this run")

    def interrupt(now: Progress) -> None:
        if now.done > 0.55 * work:
            raise KeyboardInterrupt

    job_runner, chunks = chunk_of(table, store)
    ((key, points),) = chunks.items()
    work = job_runner.job.work
    with pytest.raises(KeyboardInterrupt):
        job_runner.run(key, points, Meter(interrupt, work))
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".checkpoint"

    told: list[Progress] = []
    again = ChunkStore(tmp_path, "this run")
    assert_equal(run(table, again, told.append), straight)
    assert told[0].done > 0.4 * work  # it did not begin anew

    content = file.read_bytes()
    header, leaves = content[32:].partition(b"\n")[::2]  # a checksum is no secret
    fitting = [b"[-1, 1, 1]\n" + leaves, b"[1.5, 1, 1]\n" + leaves, b"null\n", header + b"\n" + leaves[:-9]]
    (name,) = {file.name.removesuffix(".checkpoint").removeprefix(f"{key.stem}-")}
    for damaged in (content[:40], content[:-1] + bytes([content[-1] ^ 1]), *fitting):
        if damaged in fitting:
            store.save_checkpoint(key, name, damaged)
        else:
            file.write_bytes(damaged)
        told.clear()
        assert_equal(run(table, ChunkStore(tmp_path, "this run"), told.append), straight)
        assert told[0].done < 0.2 * work
    file.write_bytes(content)
    run(table, ChunkStore(tmp_path, "another run"), told.append)
    assert told[-1].done == pytest.approx(work)


def test_an_interrupt_at_any_moment_keeps_what_is_done(tmp_path, monkeypatch):
    """The checkpoint is made at the interrupt, of the block that was finished last, and none before the first; wherever
    the interrupt falls, the end has the same bits."""
    straight = run(SMALL)
    monkeypatch.setattr(programs, "BLOCK_WORK", 0)
    monkeypatch.setattr(programs, "BLOCK_SECONDS", 0.0)
    for calls in (0, 1, 7):
        store, told = ChunkStore(tmp_path / str(calls), "this run"), []
        store.directory.mkdir()
        job_runner, chunks = chunk_of(SMALL, store)
        ((key, points),) = chunks.items()
        real, shown = job_runner.prepare().advance, []

        def advance(*arguments, real=real, shown=shown, calls=calls):
            if len(shown) == calls:
                raise KeyboardInterrupt
            shown.append(1)
            return real(*arguments)

        job_runner.compiled = {name: one._replace(advance=advance) for name, one in job_runner.compiled.items()}
        with pytest.raises(KeyboardInterrupt):
            job_runner.run(key, points, Meter(None, 1.0))
        assert store.begun() == (calls > 0)
        assert_equal(run(SMALL, ChunkStore(store.directory, "this run"), told.append), straight)
        assert told[0].done == pytest.approx(calls / 20 * job_runner.job.work)


def test_chunks_are_seconds_of_work_whatever_the_network():
    """At most 20 s of what a step costs, or a block of points for each device; no less than 2 s of many points."""
    for hidden in ([3], [64], [256, 256], [1000]):
        table = {"network": {"hidden": hidden}, "stimulus": {"presentations": 1000}, "sweep": {"seeds": 2000}}
        (job,) = prepare(make_spec(table))[""]
        for devices in (1, 2, 16):
            cut = Chunking.of(devices, True, job.group.size)
            size = max(map(len, job.chunks(cut).values()))
            seconds = size * job.point_work / devices / 1e6
            assert seconds < 20 or size <= job.block * devices
            assert seconds > 2 or size >= 250  # as many as a chunk may have
    assert job.synapses == 64 * 1000 + 1000 * 10 and job.block == 5  # weights of 280 kB in 1.5 MB


def test_blocks_follow_the_clock(monkeypatch):
    """Each takes about a second, however long a presentation takes: at most twice as many as before, never none."""
    now, counts = [0.0], []
    clock = types.SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(programs, "time", clock)
    job_runner, chunks = chunk_of({**SMALL, "stimulus": {"presentations": 400}, "record": {"points": 1}})
    ((key, points),) = chunks.items()
    real = job_runner.prepare().advance

    def advance(state, values, seeds, data, first, count):
        counts.append(int(count))
        now[0] += int(count) * (1 / 16 if first < 200 else 5.0 if first < 230 else 1 / 128)
        return real(state, values, seeds, data, first, count)

    job_runner.compiled = {name: one._replace(advance=advance) for name, one in job_runner.compiled.items()}
    monkeypatch.setattr(programs, "BLOCK_WORK", 3.5 * job_runner.prepare().padded * job_runner.job.presentation_work)
    job_runner.run(key, points, Meter(None, 1.0))
    assert sum(counts) == 400 and counts[:4] == [3, 6, 12, 16]
    slow = next(index for index in range(len(counts)) if sum(counts[:index]) >= 200)
    assert counts[slow + 1] == 1 and max(counts) <= 128


def test_random_keys_in_a_state_survive_a_checkpoint():
    state = {"key": jax.random.split(jax.random.key(3), 2), "x": jnp.arange(2.0)}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    record = {"loss": np.array([1, 2], np.float32)}
    like = {"loss": jax.ShapeDtypeStruct((2,), np.float32)}
    thawed, records, shown, seen = checkpoints.thawed(
        checkpoints.frozen(state, 17, (), [record, record]), shapes, like, None
    )
    assert shown == 17 and len(records) == 2 and seen == ()
    assert jax.random.key_impl(thawed["key"]) == jax.random.key_impl(state["key"])
    np.testing.assert_array_equal(jax.random.key_data(thawed["key"]), jax.random.key_data(state["key"]))
    assert_equal(records[1], record)


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("failures", [2, 3])
def test_a_chunk_is_tried_three_times(failures, monkeypatch):
    real, calls = JobRunner.run, []

    def sometimes(self, *arguments):
        calls.append(1)
        if len(calls) <= failures:
            raise RuntimeError("INTERNAL: a cosmic ray")
        return real(self, *arguments)

    monkeypatch.setattr(JobRunner, "run", sometimes)
    spec = make_spec(SMALL)
    if failures == 2:
        assert runner.run(spec).complete and len(calls) == 3
    else:
        with pytest.raises(RuntimeError, match="cosmic"):
            runner.run(spec)
