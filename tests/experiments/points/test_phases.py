"""Phases: what a run with stages is, how it is labelled, and what cannot be one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments, simulate
from dynamics.errors import PlasticodeError
from experiments.execution.runner import run
from experiments.points.assemble import build
from experiments.points.jobs import marks_of, points_of, prepare
from experiments.spec.loading import make_spec
from experiments.spec.overrides import apply_overrides
from experiments.spec.spec import dump_toml
from experiments.spec.toml_text import parse_setting, parse_toml
from tests.unjudged import unjudged

pytestmark = pytest.mark.usefixtures("unchecked_types")
SMALL = {
    "task": {"name": "circles", "samples": 60},
    "rule": "fa",
    "network": {"hidden": [5]},
    "timescales": {"plasticity": "0.3 s"},
    "stimulus": {"duration": "20 ms"},
    "record": {"points": 2, "probes": ["loss", "weight_norm"]},
}
SLOW = {"name": "slow", "presentations": 6, "set": {"timescales.plasticity": "2 s"}}
FROZEN = {"name": "frozen", "presentations": 4, "set": {"timescales.plasticity": "inf"}}
FIRST = {"presentations": 10}
UPDATES = SMALL | {"regime": "discrete"}  # which compile soonest, where a statement is of any regime
REGIMES = [
    {"regime": "coupled"},
    {"regime": "coupled", "integrator": {"name": "heun", "dt": "0.5 ms"}, "delays": {"error": "12 ms"}},
    {"regime": "discrete"},
    {"regime": "flow"},
]


def in_python(spec):
    """The norms of all matrices where the same stages are given to `simulate`: (records, matrices)."""
    (job,) = prepare(spec)[""]
    regimes, keys = [], []
    for number, stage in enumerate(job.stages):
        values, seeds = points_of(job, slice(0, 1), number)
        point = {path: jnp.asarray(value[0]) for path, value in values.items()}
        regime, key = build(job.plan, point, jnp.asarray(seeds[0]), jax.tree.map(jnp.asarray, stage.data))
        regimes.append(regime)
        keys.append(key)

    def norms(weights, slow):
        return instruments.weight_norms(weights)

    shown = simulate(regimes, spec.stage_presentations(), norms, spec.record.points, key=keys[0])
    return np.stack([shown.probes[name] for name in sorted(shown.probes)], axis=1)


@unjudged()
@pytest.mark.parametrize("regime", REGIMES, ids=["window", "heun, late", "discrete", "flow"])
def test_a_run_with_phases_is_its_stages_one_after_the_other(regime):
    spec = make_spec(SMALL | regime | {"phases": [FIRST, SLOW, FROZEN]})
    data = run(spec).datasets[""]
    assert (data["status"] == 0).all() and data["presentation"].values.tolist() == [0, 5, 10, 13, 16, 18, 20]
    assert data["phase"].values.tolist() == ["0"] * 3 + ["slow"] * 2 + ["frozen"] * 2
    np.testing.assert_allclose(data["time"], data["presentation"] * 0.02, rtol=1e-12)
    norms = data["weight_norm"].values
    np.testing.assert_allclose(norms, in_python(spec), rtol=1e-6)  # by other programs, which round otherwise
    assert (norms[2] != norms[4]).any() and (norms[4] == norms[6]).all()  # nothing moves where plasticity is frozen


def test_one_phase_is_a_run_without_any():
    one = run(make_spec(UPDATES | {"phases": [{"presentations": 10}]})).datasets[""]
    none = run(make_spec(UPDATES | {"stimulus": {"duration": "20 ms", "presentations": 10}})).datasets[""]
    np.testing.assert_array_equal(one["loss"], none["loss"])


def test_a_phase_that_changes_nothing_changes_nothing():
    """Samples, states and estimates go on: two phases are one, to the last bit."""
    two = run(make_spec(SMALL | {"phases": [FIRST, FIRST | {"name": "b"}]})).datasets[""]
    one = run(make_spec(SMALL | {"phases": [{"presentations": 20}], "record": SMALL["record"] | {"points": 4}}))
    np.testing.assert_array_equal(two["loss"], one.datasets[""]["loss"])
    np.testing.assert_array_equal(two["error_estimate"], one.datasets[""]["error_estimate"])


def test_a_reversal_shows_its_own_task_from_its_own_beginning():
    """Another task, of another size, in sequential order: its first sample is the first that the phase shows."""
    phases = [FIRST, {"name": "other", "presentations": 3, "set": {"task.seed": 5, "task.samples": 40}}]
    spec = make_spec(UPDATES | {"stimulus": {"duration": "20 ms", "order": "sequential"}, "phases": phases})
    (job,) = prepare(spec)[""]
    assert [stage.data["first"].item() for stage in job.stages] == [0, 10]
    assert [len(stage.data["train_inputs"]) for stage in job.stages] == [48, 32]
    values, seeds = points_of(job, slice(0, 1), 1)
    point = {path: jnp.asarray(value[0]) for path, value in values.items()}
    regime, _ = build(job.plan, point, jnp.asarray(seeds[0]), jax.tree.map(jnp.asarray, job.stages[1].data))
    stream = regime.stream  # pyright: ignore[reportAttributeAccessIssue] - of a coupled run
    assert [int(stream.index(jnp.int32(k))) for k in (10, 11, 12)] == [0, 1, 2]
    data = run(spec).datasets[""]
    np.testing.assert_allclose(data["weight_norm"], in_python(spec), rtol=1e-6)
    alone = run(make_spec(UPDATES | {"stimulus": {"duration": "20 ms", "order": "sequential"}, "phases": [FIRST]}))
    assert data["loss"].values[2] == alone.datasets[""]["loss"].values[2] != data["loss"].values[3]


def test_phases_are_swept_with_all_else():
    sweep = {"network.gain": [0.5, 1.0], "rule": ["sgd", "fa"], "timescales.decay": ["1 s", "2 s"]}
    data = run(make_spec(UPDATES | {"phases": [FIRST, SLOW], "sweep": sweep})).datasets[""]
    assert data["loss"].shape == (2, 2, 2, 5) and (data["status"] == 0).all()
    at = {"network": {"hidden": [5], "gain": 0.5}, "timescales": {"plasticity": "0.3 s", "decay": "1 s"}}
    alone = run(make_spec(UPDATES | at | {"phases": [FIRST, SLOW]})).datasets[""]
    np.testing.assert_allclose(data["loss"].values[0, 1, 0], alone["loss"].values.ravel(), rtol=1e-5)


def test_an_axis_may_be_of_one_phase_alone():
    """The other phase goes on as it is, in one program, and a point is the run whose phase has that value."""
    axes = {"phases.slow-1.timescales.plasticity": ["2 s", "0.5 T"], "timescales.plasticity": ["0.3 s", "0.7 s"]}
    phases = [FIRST, {"name": "slow-1", "presentations": 6}]
    spec = make_spec(UPDATES | {"phases": phases, "sweep": axes})
    assert make_spec(parse_toml(dump_toml(spec))).hash() == spec.hash()
    (job,) = prepare(spec)[""]
    taus = [stage.values["timescales.plasticity"].tolist() for stage in job.stages]
    assert taus == [[0.3, 0.7, 0.3, 0.7], [2.0, 2.0, 0.01, 0.01]]
    found = run(spec).datasets[""]
    assert found["phases_slow_1_timescales_plasticity"].values.tolist() == ["2 s", "0.5 T"]
    at = [FIRST, phases[1] | {"set": {"timescales.plasticity": "10 ms"}}]
    alone = run(make_spec(UPDATES | {"phases": at})).datasets[""]
    np.testing.assert_allclose(found["loss"][1, 0], alone["loss"].values.ravel(), rtol=1e-5)
    assert (found["loss"][0, :, -1] != found["loss"][1, :, -1]).all()


def test_multiples_of_the_duration_are_those_of_the_phase():
    phases = [FIRST, {"presentations": 4, "set": {"stimulus.duration": "40 ms"}}]
    (job,) = prepare(make_spec(SMALL | {"timescales": {"plasticity": "10 T"}, "phases": phases}))[""]
    assert [float(stage.values["timescales.plasticity"][0]) for stage in job.stages] == [0.2, 0.4]
    data = run(make_spec(UPDATES | {"phases": phases})).datasets[""]
    np.testing.assert_allclose(data["time"], [0, 0.1, 0.2, 0.28, 0.36])


@unjudged()
def test_noise_and_lists_may_come_and_go():
    phases = [FIRST, {"presentations": 4, "set": {"noise.synaptic": 0.01, "timescales.plasticity": ["inf", "1 s"]}}]
    data = run(make_spec(SMALL | {"phases": phases})).datasets[""]
    norms = dict(zip(data["matrix"].values.tolist(), data["weight_norm"].values.T, strict=True))
    assert (data["status"] == 0).all() and norms["W1"][-1] != norms["W1"][2]
    phases[1]["set"] = {"timescales.plasticity": ["inf", "1 s"]}
    data = run(make_spec(UPDATES | {"phases": phases})).datasets[""]
    norms = dict(zip(data["matrix"].values.tolist(), data["weight_norm"].values.T, strict=True))
    assert norms["W1"][-1] == norms["W1"][2] and norms["W2"][-1] != norms["W2"][2]


def test_a_spec_with_phases_is_written_and_read():
    spec = make_spec(SMALL | {"phases": [FIRST, SLOW]})
    again = make_spec(parse_toml(dump_toml(spec)))
    assert again == spec and again.hash() == spec.hash() and spec.stimulus.presentations == 16
    assert marks_of(again).tolist() == [0, 5, 10, 13, 16]
    assert "phases" not in make_spec(SMALL).resolved()
    parts = {"a": {"set": {"phases": [FIRST, SLOW]}}, "b": {"set": {"stimulus.presentations": 5}}}
    both = make_spec(SMALL | {"parts": parts})
    outer = make_spec(SMALL | {"phases": [FIRST], "parts": {"a": {"set": {"phases": [FIRST, SLOW]}}, "b": {}}})
    for whole, shown in ((both, [16, 5]), (outer, [16, 10])):
        again = make_spec(parse_toml(dump_toml(whole)))
        assert again == whole and again.hash() == whole.hash()
        for one in (whole, again):
            assert [part.stimulus.presentations for part in one.parts().values()] == shown


def test_settings_replace_phases_as_a_whole():
    with pytest.raises(PlasticodeError) as refused:
        apply_overrides(SMALL | {"phases": [FIRST]}, dict([parse_setting("phases.0.presentations=20")]))
    told = str(refused.value)
    assert "'phases.0.presentations' is not known: phases are set as a whole, such as phases = [" in told
    settings = dict([parse_setting(told.partition("such as ")[2])])  # what the sentence says is possible
    assert make_spec(apply_overrides(SMALL | {"phases": [FIRST]}, settings)).stage_presentations() == [100, 50]


def test_a_sweep_is_not_replaced_by_none():
    with pytest.raises(PlasticodeError, match="sweep = {} is not allowed: it would change nothing: sweep.AXIS = "):
        apply_overrides(SMALL | {"sweep": {"seeds": 2}}, dict([parse_setting("sweep={}")]))


SET = [
    ({"network.hidden": [6]}, "set.network.hidden = [6] is not allowed: a phase sets the task, and numbers that"),
    ({"network.gain": 2.0}, "set.network.gain = 2.0 is not allowed: weights are drawn before the first phase"),
    ({"timescales.plastcity": "1 s"}, "'set.timescales.plastcity'"),
    ({"timescales.trace": "1 s"}, "timescales.trace is set in some phases and absent from others"),
    ({"task": "digits"}, "in phase 'b': its task has 64 inputs, 10 outputs, 1 frames, classification, and that of the"),
    ({"timescales.plasticity": "-1 s"}, "in phase 'b': timescales.plasticity"),
    ({"noise.synaptic_multiplicative": 0.1}, ""),
]


@pytest.mark.parametrize(("values", "told"), SET)
def test_what_a_phase_cannot_set_is_told(values, told):
    table = SMALL | {"phases": [FIRST, {"name": "b", "presentations": 4, "set": values}]}
    if not told:
        assert prepare(make_spec(table))
        return
    with pytest.raises(PlasticodeError) as refused:
        prepare(make_spec(table))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sweep": {"timescales.plasticity": ["1 s", "2 s"]}}, "phases.slow.set.timescales.plasticity = '2 s' is not"),
        ({"sweep": {"timescales.plasticity.0": ["1 s", "2 s"]}}, "sweep.timescales.plasticity.0 decides on it"),
        ({"sweep": {"phases": [[FIRST]]}}, "sweep.phases"),
        ({"sweep": {"phases.slo.noise.activity": [1]}}, "the phases are 0, slow; did you mean 'slow'?"),
        ({"sweep": {"phases.slow.noise.activty": [1]}}, "'sweep.phases.slow.noise.activty' is not known"),
        ({"sweep": {"phases.slow": {"network": {"gain": [1]}}}}, "gain = [1] is not allowed: weights are drawn before"),
        ({"sweep": {"phases.0.network.hidden": [[1]]}}, "hidden = [[1]] is not allowed: it would take a new program"),
        ({"sweep": {"phases.slow": [1]}}, "an axis is one of its numbers, such as phases.slow.timescales.plasticity"),
        (
            {"sweep": {"phases.slow.timescales.plasticity": [1]}},
            "phases.slow.timescales.plasticity decides on it",
        ),
        ({"stimulus": {"presentations": 7}}, "stimulus.presentations = 7 is not allowed: the phases have 16 in all"),
        (
            {"stimulus": {"presentations": 1500}},
            "stimulus.presentations = 1500 is not allowed",
        ),  # the default, but said
        ({"phases": [FIRST, FIRST | {"name": "0"}]}, "phases must have different names"),
        ({"phases": [{"presentations": 0}]}, "phases.0.presentations"),
        ({"phases": [{"presentation": 5}]}, "presentation"),
        ({"phases": [{"presentations": 1}]}, "phases.0.presentations = 1 is not allowed: each phase is recorded"),
        ({"phases": [FIRST, 3]}, "phases.1 = 3 is not allowed: it must be a table [[phases]] for each"),
        ({"phases": 3}, "phases = 3 is not allowed: it must be a table [[phases]] for each"),
        ({"phases": [FIRST | {"set": 3}]}, "phases.set = 3 is not allowed: it must be a table"),
        ({"phases": [FIRST | {"name": "a b"}]}, "phases.0.name = 'a b' is not allowed: it must be letters, digits"),
        (
            {"delays": {"error": "12 ms"}, "phases": [FIRST, FIRST | {"name": "b", "set": {"delays.error": "25 ms"}}]},
            "delays.error may not differ between phases, as windows with constant lags remember",
        ),
        (
            {
                "delays": {"error": "12 ms"},
                "phases": [FIRST, FIRST | {"name": "b", "set": {"timescales.propagation": "1 ms"}}],
            },
            "timescales.propagation may not differ between phases, as windows",
        ),
        (
            {"delays": {"error": "12 ms"}, "phases": [FIRST, FIRST | {"name": "b", "set": {"task.seed": 1}}]},
            "phases that change the task are not allowed with delays",
        ),
        (
            {"delays": {"error": "12 ms"}, "phases": [FIRST, FIRST | {"name": "b", "set": {"stimulus.gap": "5 ms"}}]},
            "stimulus.gap may not differ between phases, as constant lags remember",
        ),
    ],
)
def test_phases_that_do_not_fit_are_refused(change, told):
    with pytest.raises(PlasticodeError) as refused:
        prepare(make_spec(SMALL | {"phases": [FIRST, SLOW]} | change))
    assert told in str(refused.value)


def test_lags_that_need_no_memory_may_change_with_the_duration():
    phases = [FIRST, {"presentations": 4, "set": {"stimulus.duration": "40 ms", "task.seed": 1}}]
    spec = make_spec(SMALL | {"delays": {"error": "5 ms", "stages": 2}, "phases": phases})
    assert (run(spec).datasets[""]["status"] == 0).all()
