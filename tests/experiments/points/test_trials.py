"""Tasks that say of each row how long it is shown, and whether its target is told, beside phases, probes and notes."""

# pyright: reportOptionalMemberAccess=false, reportArgumentType=false

import functools

import jax
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.execution.runner import run
from experiments.points.jobs import init_point, marks_of, measure_point, points_of, prepare
from experiments.points.notes import notes_of
from experiments.results.labels import coordinates
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.tasks.registry import load, make_task

pytestmark = pytest.mark.usefixtures("unchecked_types")
RNG = np.random.default_rng(0)
TABLE = {"name": "recorded", "file": "all.npz"}
TIMED = {"name": "recorded", "file": "timed.npz", "durations": "durations", "gaps": "gaps"}
PARTLY = {"name": "recorded", "file": "partly.npz"}
SPEC = {
    "rule": "sgd",
    "network": {"hidden": [3]},
    "integrator": {"name": "euler", "dt": "1 ms"},
    "record": {"points": 1, "probes": ["loss"]},
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Three recordings; in the second one a row lasts 0.2 s and another has a gap of 0.1 s, in the third every other
    target is not told."""
    monkeypatch.chdir(tmp_path)
    look_in()
    x, y = RNG.normal(size=(6, 2)), RNG.normal(size=(6, 1))
    rows = np.arange(6)
    np.savez("all.npz", inputs=x, targets=y)
    spans = {"durations": np.where(rows == 4, 0.2, 0.02), "gaps": np.where(rows == 1, 0.1, 0.0)}
    np.savez("timed.npz", inputs=x, targets=y, **spans)
    np.savez("partly.npz", inputs=x, targets=np.where(rows[:, None] % 2, np.nan, y))
    return tmp_path


def phases(task, **more):
    return [{"presentations": 3}, {"presentations": 2, "set": {"task": task, **more}}]


def test_steps_suit_the_longest_trial_of_any_phase():
    """Of both orders: 0.3 s at most from one to the next."""
    for first, later in ((TABLE, TIMED), (TIMED, TABLE)):
        (job,) = prepare(make_spec(SPEC | {"task": first, "phases": phases(later)}))[""]
        assert job.plan.steps in (300, 301)  # float32 has a little more than 0.2 s


@pytest.mark.parametrize("phased", [False, True])
def test_updates_that_overshoot_in_the_longest_trial_are_refused(phased):
    spec = SPEC | {"regime": "discrete", "integrator": {}, "timescales": {"decay": "140 ms"}}
    spec |= {"task": TABLE, "phases": phases(TIMED)} if phased else {"task": TIMED, "stimulus": {"presentations": 5}}
    with pytest.raises(PlasticodeError, match="= 0.3 s is not allowed with timescales.decay = 0.14 s"):
        prepare(make_spec(spec))


def test_what_knows_one_duration_alone_is_refused_in_later_phases_too():
    sides = {"stimulus": {"batch": 2}, "task": TABLE, "phases": phases(TIMED)}
    with pytest.raises(PlasticodeError, match="stimulus.batch = 2 is not allowed: presentations .* last differently"):
        prepare(make_spec(SPEC | sides))
    probes = {"record": {"points": 1, "probes": ["loss", "lyapunov_exponent"]}, "stimulus": {"presentations": 5}}
    with pytest.raises(PlasticodeError, match=r"record.probes = \['lyapunov_exponent'\] is not allowed: present"):
        prepare(make_spec(SPEC | probes | {"task": TIMED}))


def test_results_have_no_time_where_any_trials_last_differently():
    shown = {"stimulus": {"presentations": 5}}
    timed = {"phases": phases(TIMED), "task": TABLE}, shown | {"sweep": {"task": [TABLE, TIMED]}}
    for changes, there in ((timed[0], False), (timed[1], False), (shown | {"task": TABLE}, True)):
        spec = make_spec(SPEC | changes)
        assert ("time" in coordinates(expand(spec), marks_of(spec), [])) == there


def test_a_duration_and_a_gap_that_nothing_heeds_are_told():
    given = {"stimulus": {"duration": "30 ms", "presentations": 5}, "sweep": {"stimulus.gap": ["0 ms", "5 ms"]}}
    told = notes_of(prepare(make_spec(SPEC | given | {"task": TIMED})))
    assert told == [
        "note: stimulus.duration changes nothing but for what T stands for: task 'recorded' has the duration of every "
        "sample, and 1 more such cases"
    ]
    assert not notes_of(prepare(make_spec(SPEC | {"stimulus": {"presentations": 5}, "task": TIMED})))


def test_phases_that_tell_all_targets_go_with_phases_that_do_not():
    """What is seen inside is the same of both; there had been no way to stack it."""
    inside = {"inside": ["z1"], "inside_presentations": [0, 3], "inside_times": 2}
    spec = SPEC | {"task": TABLE, "phases": phases(PARTLY), "record": SPEC["record"] | inside}
    (job,) = prepare(make_spec(spec))[""]
    assert "inside_told" in job.arrays
    assert [stage.data["train_told"].tolist() for stage in job.stages] == [[1] * 6, [1, 0] * 3]


def test_probes_look_at_samples_whose_target_is_told():
    """Others have no target: of them it would be 0. The Jacobian of learning knows of them that there is no error."""
    probes = ["alignment", "tangent_kernel", "sharpness", "jacobian_symmetric"]
    spec = SPEC | {"regime": "discrete", "integrator": {}, "stimulus": {"presentations": 1}, "rule": "fa"}
    spec |= {"record": {"points": 1, "probes": probes}, "dtype": "float64", "network": {"hidden": [2], "bias": False}}
    with np.load("partly.npz") as rows:
        np.savez("told.npz", **{name: rows[name][::2] for name in rows})
    tasks = PARTLY, PARTLY | {"file": "told.npz"}
    jobs = [prepare(make_spec(spec | {"task": task}))[""][0] for task in tasks]

    def measured(job):
        values, seeds = points_of(job, slice(0, 1))
        point = {path: value[0] for path, value in values.items()}
        return measure_point(job.plan, init_point(job.plan, point, seeds[0], job.data), point, seeds[0], job.data)

    partly, told = jax.jit(lambda: [measured(job) for job in jobs])()
    jacobian, half = (one.pop("jacobian_symmetric") for one in (partly, told))
    np.testing.assert_allclose(jacobian, half / 2, rtol=1e-9)  # half of the time nothing is learned
    for name in ("alignment", "tangent_kernel", "sharpness"):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), partly[name], told[name])


def test_arrays_of_probes_that_differ_between_phases_are_refused():
    np.savez("few.npz", inputs=RNG.normal(size=(4, 2)), targets=RNG.normal(size=(4, 1)))
    spec = SPEC | {"regime": "discrete", "integrator": {}, "task": TABLE, "phases": phases(TABLE | {"file": "few.npz"})}
    with pytest.raises(PlasticodeError, match="other shapes in other phases.*record.samples must name"):
        run(make_spec(spec | {"record": {"points": 1, "probes": ["activities"]}}))


OWN = """
from typing import ClassVar

import numpy as np
from plasticode import AbstractTask, Data

class Good(AbstractTask):
    kind = "unsupervised"
    timed = True
    span: ClassVar[dict] = {"durations": np.full(4, 0.1)}
    def load(self):
        x = np.eye(4, dtype="f")
        return Data(x, None, x, None, "unsupervised", **self.span)

class Unsaid(Good):
    timed = False

class Without(Good):
    span: ClassVar[dict] = {}

class Still(Good):
    span: ClassVar[dict] = {"durations": np.zeros(4)}

class Back(Good):
    span: ClassVar[dict] = {"gaps": np.full(4, -0.1)}

class Few(Good):
    span: ClassVar[dict] = {"gaps": np.full(3, 0.1)}
"""


def test_a_task_of_ones_own_says_that_its_trials_last_differently(here):
    (here / "of_own_lengths.py").write_text(OWN)
    look_in(here)
    assert load(make_task("of_own_lengths:Good", {})).durations.tolist() == [0.1] * 4
    for name, told in (
        ("Unsaid", "gives durations: its timed is False"),
        ("Without", "gives neither durations nor gaps: its timed is True"),
        ("Still", "gives durations that cannot be: it must be seconds for every training sample"),
        ("Back", "gives gaps that cannot be"),
        ("Few", "gives gaps that cannot be"),
    ):
        with pytest.raises(PlasticodeError, match=told):
            load(make_task(f"of_own_lengths:{name}", {}))
