"""Labels of results: the status of a point, and the time that records are made at."""

import numpy as np
import pytest

from experiments.results.labels import STATUS, Table, coordinates
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec

MARKS = np.array([0, 2, 6])


def sweep_of(stimulus, axes):
    """A sweep of a small spec."""
    return expand(make_spec({"stimulus": {"presentations": 20, **stimulus}, "sweep": axes}))


def test_simulated_time_counts_the_gaps():
    sweep = sweep_of({"duration": "50 ms", "gap": "30 ms"}, {"network.gain": [1.0, 2.0]})
    found = coordinates(sweep, MARKS, [])
    np.testing.assert_allclose(found["time"][1], [0, 0.16, 0.48])
    np.testing.assert_array_equal(found["presentation"][1], MARKS)


@pytest.mark.parametrize("axes", [{"stimulus.gap": ["0 ms", "30 ms"]}, {"stimulus.duration": ["50 ms", "60 ms"]}])
def test_points_of_different_periods_have_no_common_time(axes):
    assert "time" not in coordinates(sweep_of({}, axes), MARKS, [])


def test_points_of_equal_periods_have_a_common_time_whatever_their_gaps():
    axes = {"stimulus.duration": ["50 ms", "60 ms"], "stimulus.gap": ["30 ms", "20 ms"]}
    found = coordinates(sweep_of({}, {**axes, "zip": [list(axes)]}), MARKS, [])
    np.testing.assert_allclose(found["time"][1], [0, 0.16, 0.48])


# By point, whether its weights were finite and its estimate was small enough, at each record.
ENDS = {
    "ok": ([1, 1, 1], [1, 1, 1]),
    "ok at the end": ([1, 1, 1], [0, 0, 1]),
    "not-converged at the end": ([1, 1, 1], [1, 1, 0]),
    "diverged at the end": ([1, 1, 0], [1, 1, 1]),
    "diverged once": ([1, 0, 1], [1, 1, 1]),
    "diverged and not judged": ([1, 1, 0], [1, 1, 0]),
    "diverged from the start": ([0, 0, 0], [1, 0, 0]),
}


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_status_of_a_point_follows_from_its_records(adaptive):
    """Estimates are of all that came before, so the last one counts; weights and probes must always have been finite,
    but where adaptive steps gave up."""
    stepper = {"integrator": {"name": "heun", "adaptive": adaptive}}
    axis = {"network.gain": {"linspace": [1.0, 2.0, len(ENDS)]}}
    sweep = expand(make_spec({"stimulus": {"presentations": 20}, "sweep": axis, **stepper}))
    table = Table(sweep, MARKS)
    finite, converged = (np.array(rows, bool) for rows in zip(*ENDS.values(), strict=True))
    record = {"finite": finite, "converged": converged, "loss": np.arange(3.0 * len(ENDS)).reshape(-1, 3)}
    table.add(sweep.groups[0], np.arange(len(ENDS)), record)
    expected = [name.split()[0] for name in ENDS]
    expected = [*expected[:-2], "not-converged", "not-converged"] if adaptive else expected
    assert [STATUS[code] for code in table.status] == expected
    np.testing.assert_array_equal(table.numbers["loss"], record["loss"])
