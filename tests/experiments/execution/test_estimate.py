"""What a spec would take, from calibrated costs: nothing is compiled here."""

import jax
import pytest

from experiments.execution import estimate
from experiments.execution.estimate import POINT_SECONDS, START_SECONDS, Cost
from experiments.points.jobs import Chunking, Job, prepare
from experiments.spec.loading import make_spec

SPEC = {"regime": "discrete", "task": {"name": "circles", "samples": 20}, "stimulus": {"presentations": 100}}
SETS = {
    **{f"gain{i}": {"network.gain": 1 + i / 10} for i in range(3)},
    **{f"wide{i}": {"network.hidden": [3 + i]} for i in range(3)},
    "dfa": {"rule": "dfa"},
}
PARTS = {"network": {"hidden": [2]}, "rule": "fa", "parts": {name: {"set": one} for name, one in SETS.items()}}


@pytest.fixture
def calibrated(monkeypatch) -> list[Job]:
    """The jobs that are calibrated, at costs of 1e-3 s per work and 40 s to compile."""
    seen: list[Job] = []

    def cost(job: Job, _: Chunking) -> Cost:
        seen.append(job)
        return Cost(1e-3, 40.0, 1)

    monkeypatch.setattr(estimate, "_calibrated", cost)
    return seen


def test_parts_that_differ_in_numbers_and_widths_are_calibrated_once(calibrated):
    """The widest, and what another rule wires; programs are compiled once for all that share them."""
    spec = make_spec(SPEC | PARTS)
    jobs = prepare(spec)
    found = estimate.estimate(spec, jobs)
    assert sorted(job.part for job in calibrated) == ["dfa", "wide2"]
    programs, work = 5, sum(job.work for members in jobs.values() for job in members)
    compiling = 40 * programs / len(jax.local_devices())
    assert found.seconds == pytest.approx(START_SECONDS + 7 * POINT_SECONDS + compiling + 1e-3 * work)
    assert found.table.note.endswith(f"calibrated on 2 of {programs} programs.")
