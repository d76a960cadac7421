"""Kills, signals and odd directories, by the programs whose figures docs/reliability.md tells."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.forks import ROOT, ended, until

PROGRAMS = """
import sys, warnings
warnings.simplefilter("ignore")
from benchmarks import kills, kills_together, odd_directories
tried = (kills, 10), (kills_together, 2), (odd_directories, 6)
sys.exit(max([program.main(["--cases", str(cases)]) for program, cases in tried]))
"""


@pytest.fixture(scope="module")
def said(forks) -> str:
    """What three programs say that all start from what one process has imported, without jax's threads: they fork for
    each of their cases."""
    return forks.program(PROGRAMS)


def test_a_kill_or_signal_in_every_phase_loses_nothing(said):
    assert said.startswith("10 of 10 cases survive (seed 0") and said.count(" 1 of 1\n") == 10 + 2, said


def test_kills_and_signals_of_compare_and_of_one_of_two_shards_lose_nothing(said):
    """Workers and predictions, whose processes take long to start, are tried by tests of their own, and by hand."""
    assert "\n2 of 2 cases survive (seed 0" in said, said


def test_some_of_the_odd_directories_do_no_harm(said):
    assert "\n6 of 6 odd directories survive" in said, said


POOL = """
import multiprocessing, os, signal
from concurrent.futures import ProcessPoolExecutor
from experiments.machine.processes import deaf, end_with_parent

def told():
    return os.getpid(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])

if __name__ == "__main__":
    with deaf():
        pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent)
        found = pool.submit(told)
    print(*found.result(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_of_a_pool_hears_no_interrupt_and_ends_with_the_one_that_is_killed(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    done = ended([sys.executable, str(tmp_path / "pool.py")], env={**os.environ, "PYTHONPATH": str(ROOT)})
    process, *deaf = done.stdout.split()
    assert done.returncode == -signal.SIGKILL and deaf == ["True", "False"], done.stderr
    until(lambda: not Path(f"/proc/{process}").exists())
