"""What was tampered with: by the program whose 2000 cases docs/reliability.md tells of, and value by value.

The program draws its cases at random: they seldom meet a value that matters in a header or a lock, all of which are
gone through here. And one wrong check of a results file mostly does no harm, as others stand behind it:
tests/experiments/test_reading.py tries each by itself.
"""

import copy
import json
from pathlib import Path

import pytest

from benchmarks.tamper_directories import TEXTS, VALUES, places
from dynamics.errors import PlasticodeError
from experiments.machine.lock import Lock, read_owner
from experiments.storage.chunks import ChunkStore
from experiments.storage.rundir import read_header
from experiments.storage.status import status_of

PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
from benchmarks import tamper
sys.exit(tamper.main(["--only", *sys.argv[1:]]))
"""
# These run every line of what reads files that any of the first 200 cases runs, in a sixth of their time.
CASES = {
    0: "odd_attribute: attribute big NAME of record",
    8: "failure text ''",
    11: "odd_structure: moved network_gain",
    25: "run.json value at ('run', 'versions', 'jax'): ''; lock text 'nan'",
    35: "json sparse",
    36: "odd_file: fifo",
    55: "odd_shape: none rule",
    61: "odd_shape: huge loss",
    63: "odd_attribute: attribute reference format of /",
    72: "chunks is special: sparse",
    85: "odd_attribute: attribute list complete of /",
    87: "odd_type: plain int64 time",
    96: "odd_attribute: attribute list run of /",
    107: "odd_values: values 127 status",
    118: "odd_structure: twice time; odd_type: reference object loss",
    119: "odd_attribute: attribute big calendar of status",
    136: "json outside",
    146: "odd_attribute: attribute value seconds of /",
    148: "run.json more at ('run', 'versions'): 'None'; chunk link_out: soft alignment/W1",
    150: "odd_structure: many seed",
    158: "odd_values: values 127 time",
    173: "store_outside: virtual record; store_outside: virtual seed",
    176: "chunk change_bytes: flip",
    178: "odd_attribute: attribute list matmul_precision of /",
    181: "odd_attribute: attribute empty device of /",
    182: "link_out: soft seed",
}


def test_chosen_files_and_directories_that_were_tampered_with_do_no_harm(forks):
    """In a process without jax's threads, which forks for every case: a crash or a hang is one case's."""
    *done, last = forks.program(PROGRAM, *CASES).splitlines()
    for (number, what), line in zip(CASES.items(), done, strict=True):
        assert line.startswith(f"case {number}: {what}"), "the cases are others: choose anew"
    assert last.startswith(f"{len(CASES)} of {len(CASES)} cases survive (seed 0")


HEADER = {
    "run": {"format": 1, "spec_hash": "0a", "spec": "seeds = 2", "versions": {"jax": "0.7"}, "code": {"mine": "0b"}},
    "chunking": [2, 2, 1],
    "name": "mine",
    "place": "/here",
    "command": ["plasticode", "run", "spec.toml"],
    "points": 8,
    "jobs": {"all-0000": [8, 4]},
}
PROGRESS = {"done": 1.0, "total": 2.0, "points": 2, "of": 8, "failures": 0, "rate": 1.0, "left": 5.0}
FAILURE = {"points": 2, "error": "ValueError: no", "traceback": "Traceback"}


@pytest.fixture
def run(tmp_path):
    """An unfinished run, one chunk of which has failed, and which somebody seems to be at."""
    chunks = tmp_path / "chunks"
    chunks.mkdir()
    contents = {"run.json": HEADER, "lock": Lock(chunks / "lock").owner | {"progress": PROGRESS}}
    contents |= {"all-0000-000001.failed.json": FAILURE}
    for name, content in contents.items():
        (chunks / name).write_text(json.dumps(content))
    (chunks / f"all-0000-000000.{'0' * 32}.nc").touch()
    return tmp_path, contents


def changed(content):
    """The texts of files in which one value is another, absent, or joined by one more; and other texts."""
    for *above, key in places(content):
        for kind, value in [("gone", None), ("more", 1), *(("value", value) for value in VALUES)]:
            whole = inner = copy.deepcopy(content)
            for name in above:
                inner = inner[name]
            if kind == "gone":
                del inner[key]
            elif kind == "value":
                inner[key] = value
            elif isinstance(inner, dict):
                inner["other"] = value
            else:
                inner.append(value)
            yield json.dumps(whole)
    yield from TEXTS


def told(target: Path) -> list[str]:
    """What `status` says where somebody is at it, and where nobody is, or why it says nothing."""
    lines = []
    for alive in ([target / "chunks" / "lock"], []):
        try:
            lines += status_of(target, alive)
        except PlasticodeError as error:
            lines.append(str(error))
    return lines


@pytest.mark.parametrize("name", ["run.json", "lock", "all-0000-000001.failed.json"])
def test_whatever_a_file_of_a_run_says_it_is_told_in_sentences(run, name):
    target, contents = run
    path = target / "chunks" / name
    assert read_header(path.parent) == HEADER and read_owner(path.parent / "lock") == contents["lock"]
    assert any("50% done" in line for line in told(target))
    for text in changed(contents[name]):
        path.write_text(text)
        failures = ChunkStore(path.parent, "run").failures().values()
        assert all(type(one["error"]) is str for one in failures), text
        for line in told(target):
            assert line.isprintable(), text
            assert ": plasticode" in line or not line.startswith("nobody is at it"), f"of another program: {line}"
        path.unlink()
