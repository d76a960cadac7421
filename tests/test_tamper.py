"""Results and directories that were tampered with, by the program whose 2000 cases docs/reliability.md tells of."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_a_tenth_of_the_tampered_files_and_directories_do_no_harm():
    """In a process without jax's threads, which forks for every case: a crash or a hang is one case's."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.tamper", "--cases", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("200 of 200 cases survive (seed 0")
