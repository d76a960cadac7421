"""Kills, signals and odd directories, by the programs whose figures docs/reliability.md tells."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def said(program: str, *arguments: str) -> str:
    """What a program says whose cases all survive; it forks for each of them, in a process without jax's threads."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{program}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tenth_of_the_kills_and_signals_lose_nothing():
    told = said("kills", "--cases", "20")
    assert told.startswith("20 of 20 cases survive (seed 0") and told.count(" 2 of 2\n") == 10


def test_some_of_the_odd_directories_do_no_harm():
    assert said("odd_directories", "--cases", "6").startswith("6 of 6 odd directories survive")
