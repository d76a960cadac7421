"""The property test that `benchmarks.trust` runs at length, on a few draws; whether its reference can be trusted."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.trust import judged
from benchmarks.trust_draws import Structure, numbers, structure
from benchmarks.trust_mesh import Timing, count, mesh
from benchmarks.trust_report import Judged, is_false_alarm, is_wrong, markdown
from benchmarks.trust_runs import assembled, through_spec
from benchmarks.trust_truth import truth
from tests.unjudged import unjudged

TOLERANCE = 1e-3
EASY = {"timescales.plasticity": 30.0, "timescales.decay": 10.0}  # in T: learning that is stable and seen


def late_structure(**spec) -> Structure:
    """Feedback that learns, with biases, a skip, gaps, traces and every lag."""
    drawn = structure(0, 11)
    assert drawn.variant == "kp"
    network = {"hidden": [4, 3], "activation": "tanh", "loss": "squared", "bias": True, "skips": [[0, 3]]}
    rng = np.random.default_rng(0)
    return dataclasses.replace(
        drawn,
        sizes=(3, 4, 3, 2),
        spec=drawn.spec | {"dtype": "float64", "network": network} | spec,
        lags=("error", "hop", "input"),
        gaps=True,
        traces=True,
        layered=False,
        rare=1.0,
        propagation=(0.05, 0.2),
        inputs=rng.standard_normal((9, 3)).astype(np.float32),
        targets=rng.standard_normal((9, 2)).astype(np.float32),
    )


def easy(drawn: Structure, draws: int) -> dict[str, np.ndarray]:
    """The first few draws, with time constants that let weights move."""
    values = {path: column[:draws] for path, column in numbers(drawn, 0).items()}
    return values | {path: np.full(draws, drawn.duration * ratio) for path, ratio in EASY.items()}


def test_the_reference_is_where_many_steps_of_another_solver_end():
    drawn = late_structure(integrator={"name": "heun", "dt": f"{1 / 200!r} T"})
    job = assembled(drawn, easy(drawn, 3))
    true = truth(job, drawn, TOLERANCE)
    with unjudged():  # by so many steps, whose estimate nobody asks for
        ends = through_spec(job).weights
    apart = np.linalg.norm(ends - true.end, axis=1) / true.distance
    assert (apart < 2e-4).all() and (true.error < 1e-6).all() and (true.distance > 0.01).all()


def test_steps_of_the_reference_end_where_something_jumps_and_look_back_at_what_was_there():
    timing = Timing(1.0, 0.5, 0.05, 1.0, 0.0, {"input": 0.25, "error": 1.6}, {"error": 1.6, "hop": 0.3})
    least = count(timing)
    steps = mesh(timing, least, 2, 3 * least)
    ends = np.concatenate([[0], np.cumsum(steps.step[: 2 * least])])
    for jump in (0.25, 1.25, 0.1, 1.1, 0.55, 0.4, 0.85):  # of the input, the target, and after hops
        assert np.abs(ends - jump).min() < 1e-12
    times = ends[:-1, None] + np.array([0, 0.5, 1]) * np.diff(ends)[:, None]
    for name, lag in timing.lags.items():
        row = np.arange(2 * least)[:, None] - steps.back[name][: 2 * least]
        periods, row = np.divmod(row, 2 * least)
        seen = ends[row] + steps.place[name][: 2 * least] * np.diff(ends)[row] + periods * timing.period
        np.testing.assert_allclose(seen, times - lag, atol=1e-12)


def row(status: str, error: float, reference: float = 0.0) -> Judged:
    return Judged(0, 0, ["rule sgd"], status, status, 1e-4, error, error, 1.0, reference, {})


@pytest.mark.parametrize(
    ("told", "wrong", "alarm"),
    [
        (row("ok", 1.9e-3), False, False),
        (row("ok", 2.1e-3), True, False),
        (row("ok", math.inf), True, False),
        (row("ok", math.nan), True, False),
        (row("ok", 1.0, reference=math.nan), False, False),
        (row("not-converged", 0.9e-3), False, True),
        (row("not-converged", 2e-3), False, False),
        (row("diverged", math.nan), False, False),
    ],
)
def test_wrong_numbers_and_false_alarms_are_told_apart(told, wrong, alarm):
    assert (is_wrong(told, TOLERANCE), is_false_alarm(told, TOLERANCE)) == (wrong, alarm)
    assert f"above twice the tolerance: {int(wrong)} " in markdown([told], TOLERANCE)


def test_no_wrong_number_is_without_a_mark():
    """What is called ok is right to twice the tolerance, or what is too hard is marked; most draws are not marked."""
    rows = []

    @settings(max_examples=1, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.integers(0, 10_000))
    def check(number):
        rows.extend(judged(structure(1, number, TOLERANCE), 1, TOLERANCE, points=slice(0, 15)))
        jax.clear_caches()

    check()
    assert [r for r in rows if is_wrong(r, TOLERANCE)] == []
    assert sum(is_false_alarm(r, TOLERANCE) for r in rows) < 0.1 * len(rows)
    assert sum(r.status == "ok" for r in rows) > 0.6 * len(rows)
