"""Windows that specs ask for: how they are chosen and refined, what is refused, what the results say of accuracy."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import dataclasses
from typing import Any

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.integrators import FixedStep, Window
from dynamics.integrators.collocation import MAX_NODES
from dynamics.integrators.window_choice import MOST_PARTS, SETTLING, refined
from experiments.execution import programs, runner
from experiments.points.demands import demands_of, settings_of
from experiments.results.labels import STATUS
from experiments.spec.grid import expand
from experiments.spec.loading import load_spec, make_spec
from tests.unjudged import unjudged

pytestmark = pytest.mark.usefixtures("unchecked_types")
SMALL = {
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 20, "test_samples": 10},
    "network": {"hidden": [4]},
    "rule": "fa",
    "dtype": "float64",
    "timescales": {"propagation": "5 ms", "plasticity": "1 s"},
    "stimulus": {"duration": "50 ms", "presentations": 6},
    "record": {"points": 2, "probes": ["loss"]},
}
UNIT_INPUTS = np.ones((5, 4)) / 2  # of squared norm 1


def spec_of(**changes):
    """The small spec; a table of a change is merged with the spec's own."""
    table = {key: value | changes.pop(key, {}) if isinstance(value, dict) else value for key, value in SMALL.items()}
    return make_spec({**table, **changes})


def chosen(inputs=UNIT_INPUTS, **changes) -> Window:
    """The windows for all points of the small spec, changed."""
    (group,) = expand(spec_of(**changes)).groups
    settings, strongest = settings_of(group.static, group.values), np.square(inputs).sum(1).max()
    return Window().planned(settings, demands_of(group.static, group.values, settings.dt, strongest))[0]


def results(**changes):
    return runner.run(spec_of(**changes)).datasets[""]


def statuses(data) -> list[str]:
    return [STATUS[code] for code in data["status"].values.ravel()]


# The choice


def test_a_smaller_tolerance_takes_more_nodes_up_to_the_most_there_are():
    windows = [chosen(integrator={"tolerance": tolerance}) for tolerance in (1e-1, 1e-2, 1e-3, 1e-4, 1e-15)]
    nodes = [window.nodes for window in windows]
    assert nodes == sorted(set(nodes)) and nodes[0] >= 3 and nodes[-1] == MAX_NODES
    assert [window.tolerance for window in windows] == [1e-1, 1e-2, 1e-3, 1e-4, 1e-15]


def test_more_time_constants_in_a_window_take_more_nodes_until_a_cut_lets_them_settle():
    ratios = (1, 10, 30, 100, 1000)
    windows = [chosen(timescales={"propagation": f"{50 / ratio} ms"}) for ratio in ratios]
    assert [window.settling for window in windows] == [None, None, None, SETTLING, SETTLING]
    nodes = [window.nodes for window in windows]
    assert nodes[:3] == sorted(set(nodes[:3])) and nodes[3] == nodes[4] <= nodes[2]


def test_the_stiffest_point_and_the_stiffest_layer_count_and_so_do_long_gaps():
    stiff = chosen(timescales={"propagation": "0.5 ms"})
    assert stiff.settling == SETTLING
    assert chosen(sweep={"timescales.propagation": ["5 ms", "0.5 ms"]}) == stiff
    assert chosen(timescales={"propagation": ["0.5 ms", "5 ms"]}) == stiff
    assert chosen(stimulus={"gap": "500 ms"}).settling == SETTLING


def test_strong_plasticity_cuts_presentations_in_proportion_to_it():
    def parts(plasticity, **changes):
        return chosen(timescales={"plasticity": plasticity}, **changes).parts

    assert parts("1 s") == 1
    assert parts("0.5 ms") == pytest.approx(4 * parts("2 ms"), abs=4) and parts("2 ms") > 1
    assert parts("2 ms", inputs=2 * UNIT_INPUTS) == parts("0.5 ms")  # the squared norm of the inputs counts as much
    assert parts(["1 s", "2 ms"]) == parts("2 ms")
    assert parts("1 ns") == MOST_PARTS


def test_points_that_share_a_program_take_parts_of_their_own_where_learning_alone_asks_for_several():
    several: dict[str, Any] = {"sweep": {"timescales.plasticity": ["1 s", "2 ms"]}}
    window = chosen(**several)
    assert window.parts > 1 and window.strongest == 1  # |x|^2
    assert window.strongest is not None and refined(window).strongest is None
    others: list[dict[str, Any]] = [
        {"timescales": {"plasticity": "2 ms"}},
        several | {"noise": {"activity": 0.1}},
        several | {"timescales": {"decay": "1 s"}},
    ]
    for other in others:
        assert chosen(**other).strongest is None


def test_noise_keeps_nodes_within_dt_of_each_other_on_average():
    quiet = chosen(integrator={"dt": "0.1 ms"}, stimulus={"gap": "20 ms"})
    assert quiet.parts == 1 and quiet.nodes == chosen(stimulus={"gap": "0 ms"}).nodes + 1
    for name in ("activity", "error", "synaptic", "synaptic_multiplicative"):
        noisy = chosen(noise={name: 0.1}, integrator={"dt": "0.1 ms"}, stimulus={"gap": "20 ms"})
        assert 0.070 / (noisy.parts * noisy.nodes) <= 1e-4 * (1 + 1e-12) < 0.070 / ((noisy.parts - 1) * noisy.nodes)
        assert noisy.nodes == quiet.nodes
    assert chosen(noise={"activity": 0.1}, integrator={"dt": "50 ms"}).parts == 1


def test_only_a_group_without_any_gap_is_promised_none():
    assert not chosen().gaps
    assert chosen(stimulus={"gap": "1 ms"}).gaps
    assert chosen(sweep={"stimulus.gap": ["0 ms", "1 ms"]}).gaps


def test_refined_windows_are_shorter_with_more_nodes_judged_as_a_whole_and_otherwise_the_same():
    window = Window(tolerance=1e-4, nodes=5, parts=3, settling=7.0, gaps=False)
    finer = refined(window)
    assert finer is not None and finer.parts > window.parts and finer.nodes > window.nodes
    assert finer.whole and dataclasses.replace(finer, parts=3, nodes=5, whole=False) == window
    assert refined(Window(nodes=MAX_NODES, parts=1, gaps=False)).nodes == MAX_NODES


# Defaults and refusals


@pytest.mark.parametrize(
    ("changes", "solver"),
    [
        ({}, "window"),
        ({"network": {"activation": "relu"}}, "heun"),
        ({"network": {"output_activation": "relu"}}, "heun"),
        ({"network": {"activation": "relu"}, "noise": {"synaptic_multiplicative": 0.1}}, "euler"),
        ({"network": {"activation": "relu"}, "sweep": {"noise.synaptic_multiplicative": [0.1]}}, "euler"),
        (
            {
                "network": {"activation": "relu"},
                "noise": {"synaptic_multiplicative": 0.1, "calculus": "stratonovich"},
            },
            "heun",
        ),
        ({"network": {"activation": "softplus"}}, "window"),
        ({"regime": "flow"}, "heun"),
        ({"regime": "flow", "noise": {"sampling": True}}, "euler"),
        ({"regime": "discrete"}, "euler"),
        ({"integrator": {"adaptive": True}}, "tsit5"),
        ({"integrator": {"adaptive": True, "name": "heun"}}, "heun"),
        ({"integrator": {"name": "euler"}}, "euler"),
        ({"integrator": {"name": "window"}, "network": {"activation": "relu"}}, "window"),
    ],
)
def test_the_solver_follows_from_the_regime_and_the_activations(changes, solver):
    spec = spec_of(**changes)
    assert spec.solver == solver
    integrator = runner.prepare(spec)[""][0].plan.integrator
    assert isinstance(integrator, Window) == (solver == "window")


def test_windows_are_planned_as_the_spec_says(tmp_path):
    """The tolerance arrives, from a file and through what is written back."""
    (tmp_path / "spec.toml").write_text("integrator.tolerance = 1e-5\ntask = 'gaussian-regression'\n")
    spec = load_spec(tmp_path / "spec.toml")
    integrator = runner.prepare(spec)[""][0].plan.integrator
    assert isinstance(integrator, Window) and integrator.tolerance == 1e-5
    assert make_spec(spec.resolved()).solver == "window"
    assert make_spec(spec.resolved()).resolved() == spec.resolved()
    assert spec.hash() != load_spec(tmp_path / "spec.toml", ["integrator.tolerance=1e-4"]).hash()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        (
            {"regime": "flow", "integrator": {"name": "window"}},
            ("integrator.name = 'window'", "'flow'", "euler", "heun"),
        ),
        ({"regime": "discrete", "integrator": {"name": "window"}}, ("integrator.name = 'window'", "'discrete'")),
        (
            {"integrator": {"name": "window", "adaptive": True}},
            ("integrator.adaptive = true", "integrator.name = 'window'", "heun, tsit5, dopri5"),
        ),
        ({"integrator": {"tolerance": 0.0}}, ("integrator.tolerance = 0.0", "greater than 0")),
        ({"integrator": {"tolerance": 1.0}}, ("integrator.tolerance = 1.0", "less than 1")),
        ({"integrator": {"name": "windows"}}, ("integrator.name = 'windows'", "'window'", "'euler'")),
    ],
)
def test_what_windows_cannot_do_is_refused_in_a_sentence(changes, parts):
    with pytest.raises(PlasticodeError) as error:
        spec_of(**changes)
    assert [part for part in parts if part not in str(error.value)] == [] and "\n" not in str(error.value)


@pytest.mark.parametrize("calculus", ["ito", "stratonovich"])
def test_windows_integrate_multiplicative_noise_in_both_calculi(calculus):
    assert spec_of(noise={"synaptic_multiplicative": 0.1, "calculus": calculus}).solver == "window"


# What the results say


POINTS = {"timescales.plasticity": ["0.05 s", "5 s"], "stimulus.gap": ["0 ms", "20 ms"]}
EXACT = {"name": "dopri5", "dt": "0.1 ms"}


@pytest.fixture(scope="module")
def reference():
    """By steps so short that nobody asks for their estimate."""
    more = {"timescales.plasticity": [*POINTS["timescales.plasticity"], "1 s"]}
    with unjudged():
        return results(sweep=POINTS | more | {"timescales.propagation": ["5 ms", "1 ms"]}, integrator=EXACT)


@pytest.fixture
def coarse(monkeypatch, reference):  # which forgets what is compiled, and so comes before
    """Every job starts with nine nodes per presentation: too few for 50 time constants, many for two and a half."""
    window = Window(tolerance=1e-4, nodes=9, parts=1, gaps=False)
    monkeypatch.setattr(Window, "planned", lambda *_: (window, 9))
    return {"sweep": {"timescales.propagation": ["1 ms", "20 ms"]}}


def test_a_point_that_cannot_be_resolved_is_marked_and_others_are_not(coarse, monkeypatch):
    monkeypatch.setattr(programs, "REFINEMENTS", 0)
    data = results(**coarse)
    assert statuses(data) == ["not-converged", "ok"]
    estimate = data["error_estimate"]
    assert estimate.dims == ("timescales_propagation", "record") and estimate.attrs["units"] == "1"
    assert estimate.values[0, -1] > 1e-4 > estimate.values[1, -1] >= 0
    assert np.isfinite(data["loss"]).all()  # the numbers are there, with the mark


def test_finer_windows_make_a_coarse_choice_right(coarse, monkeypatch, reference):
    """The point that was not resolved is run again, by itself, and its numbers replace the coarse ones."""
    runs, real = [], programs.JobRunner._execute

    def execute(self, job, compiled, key, points, meter):
        runs.append((len(points), job.plan.integrator))
        return real(self, job, compiled, key, points, meter)

    monkeypatch.setattr(programs.JobRunner, "_execute", execute)
    data = results(**coarse)
    first, *finer = runs
    assert first[0] == 2 and [size for size, _ in finer] == [1] * len(finer) and 1 <= len(finer) <= 2
    assert [window for _, window in finer] == [refined(window) for _, window in runs[:-1]]
    assert statuses(data) == ["ok", "ok"] and (data["error_estimate"].values[:, -1] < 1e-4).all()
    right = reference.sel(timescales_propagation=0.001, timescales_plasticity=1, stimulus_gap=0)
    np.testing.assert_allclose(data["loss"].values[0], right["loss"].values, rtol=1e-4)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_points_that_are_ok_have_an_estimate_below_the_tolerance_and_are_that_accurate(tolerance, reference):
    """Every presentation is that accurate, not only those that an estimate was made in: here strong plasticity makes
    the first one, out of silence, the easiest."""
    data = results(sweep=POINTS, integrator={"tolerance": tolerance})
    assert statuses(data) == ["ok"] * 4
    assert (data["error_estimate"].values[..., 0] == 0).all()  # nothing has moved yet
    last = data["error_estimate"].values[..., -1]
    assert (last > 0).all() and (last < tolerance).all()
    right = reference["loss"].sel(timescales_propagation=0.005, timescales_plasticity=[0.05, 5])
    moved = np.maximum.accumulate(np.abs(right.values - right.values[..., :1]), axis=-1)
    assert data["loss"].dims == right.dims and last.shape == (2, 2)
    assert (np.abs(data["loss"].values - right.values) <= 10 * tolerance * moved + 1e-12).all()


def test_adaptive_steps_that_run_out_are_not_converged():
    """Explicit steps are at most about three time constants long: 170 of them for the second point, a few otherwise."""
    points = {"timescales.propagation": ["50 ms", "0.1 ms"]}
    data = results(sweep=points, integrator={"adaptive": True, "rtol": 1e-3, "max_steps": 60})
    assert statuses(data) == ["ok", "not-converged"]
    assert 0 < data["error_estimate"].values[0, -1] < 1e-3 and np.isnan(data["error_estimate"].values[1, -1])
    assert np.isnan(data["loss"].values[1, -1]) and np.isfinite(data["loss"].values[0]).all()


KINKED = {"network": {"activation": "relu"}, "integrator": {"tolerance": 1e-2, "dt": "4 ms"}}


def test_steps_that_are_too_coarse_are_made_finer_until_they_meet_the_tolerance(monkeypatch):
    """Four times as many, twice at most; the ring of past signals grows with them."""
    plans, real = [], programs.JobRunner._execute

    def execute(self, job, compiled, key, points, meter):
        plans.append(job.plan)
        return real(self, job, compiled, key, points, meter)

    monkeypatch.setattr(programs.JobRunner, "_execute", execute)
    data = results(**KINKED, delays={"error": "10 ms"})
    assert len(plans) > 1 and [plan.steps for plan in plans] == [13 * 4**i for i in range(len(plans))]
    assert all(plan.history >= 0.2 * plan.steps + 2 for plan in plans)
    assert statuses(data) == ["ok"] and 0 < data["error_estimate"].values[-1] < 1e-2
    monkeypatch.setattr(programs, "REFINEMENTS", 0)
    assert statuses(results(**KINKED, delays={"error": "10 ms"})) == ["not-converged"]


def test_relu_networks_meet_the_tolerance_at_their_defaults():
    table = {"network": {"activation": "relu", "hidden": [8]}, "sweep": {"seeds": 4}, "stimulus": {"presentations": 2}}
    data, tolerance = results(**table), 1e-3
    with unjudged():
        right = results(**table, integrator={"name": "dopri5", "dt": "0.02 ms"})
    moved: Any = np.abs(right["loss"] - right["loss"][..., 0])
    good = data["status"].values == STATUS.index("ok")
    assert good.any() and data["error_estimate"].values[good, -1].max() <= tolerance
    apart: Any = np.abs(data["loss"] - right["loss"])
    assert (apart.values <= 10 * tolerance * moved.values + 1e-12)[good].all()


@pytest.mark.parametrize(
    ("changes", "slow"),
    [
        ({}, False),
        ({"timescales": {"plasticity": "100 s"}}, True),
        ({"timescales": {"plasticity": "inf", "decay": "24 h"}}, True),
        ({"timescales": {"plasticity": "100 s"}, "dtype": "float64"}, False),
    ],
)
def test_sums_are_compensated_where_a_step_changes_weights_by_little(changes, slow):
    table = {"dtype": "float32", "integrator": {"name": "heun"}} | changes
    integrator = runner.prepare(spec_of(**table))[""][0].plan.integrator
    assert isinstance(integrator, FixedStep) and integrator.compensated == slow


@pytest.mark.parametrize("name", ["window", "euler"])
def test_weights_that_grow_without_bound_have_diverged(name, monkeypatch):
    """A linear Hebbian network grows exponentially: finer windows, here once, change nothing about it."""
    monkeypatch.setattr(programs, "REFINEMENTS", 1)
    growing = {"rule": "hebbian", "network": {"hidden": [], "activation": "linear"}, "dtype": "float32"}
    growing["timescales"] = {"plasticity": "1 ms"}
    assert statuses(results(**growing, integrator={"name": name, "dt": "0.1 ms"})) == ["diverged"]
