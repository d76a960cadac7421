"""Results and directories that were tampered with, by the program whose 2000 cases docs/reliability.md tells of."""

from tests.test_kills import said


def test_a_tenth_of_the_tampered_files_and_directories_do_no_harm():
    """In a process without jax's threads, which forks for every case: a crash or a hang is one case's."""
    assert said("tamper", "--cases", "200").startswith("200 of 200 cases survive (seed 0")
