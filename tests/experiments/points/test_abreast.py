"""Points that learn about as fast advance side by side, wherever they stand in the grid."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from experiments.execution import programs, runner
from experiments.points.abreast import abreast
from experiments.points.jobs import prepare
from experiments.spec.loading import make_spec

pytestmark = pytest.mark.usefixtures("unchecked_types", "unjudged")
TABLE: dict[str, Any] = {
    "task": {"name": "circles", "samples": 20},
    "network": {"hidden": [3]},
    "stimulus": {"presentations": 3},
    "record": {"points": 1, "probes": ["weight_norm"]},
    "sweep": {"seeds": 2, "timescales.plasticity": ["40 T", "20 T", "80 T", "10 T", "160 T"]},
}


def test_blocks_of_neighbours_are_dealt_to_devices():
    (job,) = prepare(make_spec(TABLE))[""]
    tau = job.group.values["timescales.plasticity"] / job.group.values["stimulus.duration"]
    points = np.array([9, 3, 1, 2, 0, 5, 7])  # of tau 160, 10, 20, 80, 40, 40, 80
    order = abreast(job, points, padded=8, block=2, devices=2)
    assert tau[points[order]].reshape(2, 2, 2).tolist() == [[[160, 80], [40, 20]], [[80, 40], [10, 160]]]
    assert sorted(set(order.tolist())) == list(range(7))


def test_of_phases_the_one_that_learns_fastest_counts():
    (job,) = prepare(make_spec(TABLE))[""]
    later = job.group.values | {"timescales.plasticity": np.geomspace(1, 1e-3, 10)}
    job = job._replace(group=replace(job.group, later=(later,)))
    assert abreast(job, np.array([2, 8, 5, 9]), padded=4, block=1, devices=1).tolist() == [0, 2, 1, 3]


def test_the_order_changes_no_result(monkeypatch):
    spec = make_spec(TABLE)
    found = runner.run(spec).datasets[""]
    monkeypatch.setattr(programs, "abreast", lambda job, points, padded, *_: np.resize(np.arange(len(points)), padded))
    plain = runner.run(spec).datasets[""]
    ends, others = (data["weight_norm"].values[:, :, -1] for data in (found, plain))
    assert np.ptp(ends, axis=1).min() > 1e-4  # points differ by more than
    np.testing.assert_allclose(ends, others, rtol=1e-6)
    assert (found["status"] == plain["status"]).all()
