"""The sweep runner: a batch equals a loop, one program per static group, marked failures, kept chunks."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from dynamics.errors import PlasticodeError
from dynamics.integrators import Window
from experiments.execution import programs, runner
from experiments.machine.progress import Meter, Progress
from experiments.points import assemble, jobs
from experiments.points.jobs import Chunking
from experiments.results.labels import STATUS
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec

pytestmark = pytest.mark.usefixtures("unchecked_types", "unjudged")
SMALL = {
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 20, "test_samples": 10},
    "network": {"hidden": [4]},
    "rule": "fa",
    "dtype": "float64",
    "stimulus": {"presentations": 6},
    "integrator": {"dt": "2 ms"},
    "record": {"points": 3, "probes": ["loss"]},
}
DISCRETE = {**SMALL, "regime": "discrete"}  # compiles soonest: for what is the same in all regimes
LINEAR = {**SMALL, "network": {"hidden": []}, "rule": "sgd", "record": {"points": 1, "probes": ["loss"]}}
# A wide tolerance: steps that are made finer would not be those of the plan.
EULER, WINDOW = {"name": "euler", "dt": "1 ms", "tolerance": 0.9}, {"name": "window", "dt": "2 ms"}
# Every kind of traced number: rule, network, timescales, delays, noise, stimulus.
TRACED = {
    "rule.feedback_scale": [0.5, 2.0],
    "network.gain": [0.5, 1.5],
    "timescales.plasticity": ["0.5 s", "2 s"],
    "timescales.propagation": ["2 ms", "5 ms"],
    "timescales.decay": ["1 s", "inf"],
    "delays.error": ["0 T", "0.43 T"],
    "delays.hop": ["0 ms", "5 ms"],
    "delays.input": ["0 ms", "7 ms"],
    "noise.activity": [0.0, 0.2],
    "noise.synaptic_multiplicative": [0.0, 0.1],
    "stimulus.duration": ["50 ms", "80 ms"],
    "stimulus.gap": ["0 ms", "33 ms"],
}


def chunks_of(monkeypatch, points: int) -> None:
    """Chunks of so many points."""
    monkeypatch.setattr(runner, "chunking", lambda *_: Chunking(points, points, 1))


def swept(sweep: dict, table: dict = SMALL, **changes) -> dict:
    return {**table, **changes, "sweep": sweep}


@pytest.mark.parametrize("integrator", [EULER, WINDOW], ids=["euler", "window"])
def test_a_batch_of_all_traced_numbers_equals_its_points_run_alone(integrator, monkeypatch):
    """vmap = loop, for every field that can be swept; static choices (steps, buffers, windows) are the batch's."""
    monkeypatch.setattr(programs, "REFINEMENTS", 0)
    sweep = {**TRACED, "seed": [3, 4], "zip": [[*TRACED, "seed"]]}
    spec = make_spec(swept(sweep, integrator=integrator, record={"points": 1, "probes": ["weight_norm"]}))
    batch = runner.run(spec).datasets[""]
    assert (batch["status"] != STATUS.index("diverged")).all()
    job = runner.prepare(spec)[""][0]
    data = jax.tree.map(jnp.asarray, job.data)

    @jax.jit
    def alone(point: dict, seed: jax.Array) -> dict:
        regime, key = assemble.build(job.plan, point, seed, data)
        return regime.weights(regime.advance(regime.init(regime.circuit.initial_weights(key)), jnp.int32(0), 6))

    values, seeds = jobs.points_of(job, slice(0, 2))
    for i in range(2):
        weights = alone({path: value[i] for path, value in values.items()}, seeds[i])
        norms = [float(np.linalg.norm(w)) for _, w in sorted(weights.items())]
        recorded = batch["weight_norm"].isel(record=-1).values[i]
        np.testing.assert_allclose(recorded, norms, rtol=1e-10)


@pytest.fixture(scope="module")
def rules_swept(unjudged) -> tuple[list[str], xr.Dataset]:
    """Numbers, seeds and two rules in one run, and the rules whose steps were traced."""
    traces, real = [], programs.advance_point

    def counted(plan, *arguments):
        traces.append(plan.spec.rule.name)
        return real(plan, *arguments)

    axes = {path: TRACED[path] for path in ("timescales.plasticity", "noise.activity")}
    axes |= {"delays.error": ["0 ms", "20 ms"], "rule": ["sgd", "fa"], "seeds": 2}
    record = {"points": 3, "probes": ["loss", "weight_norm"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "advance_point", counted)
        return traces, runner.run(make_spec(swept(axes, record=record, integrator=EULER))).datasets[""]


def test_one_program_per_static_group_whatever_is_swept(rules_swept):
    """Swept numbers, seeds and the number of presentations do not recompile: one trace of the step per static group."""
    assert sorted(rules_swept[0]) == ["fa", "sgd"]


def test_compiled_size_does_not_depend_on_the_number_of_presentations():
    def text(presentations: int) -> str:
        job = runner.prepare(make_spec({**SMALL, "stimulus": {"presentations": presentations}}))[""][0]
        values, seeds = jobs.points_of(job, slice(0, 1))
        point = {path: value[0] for path, value in values.items()}
        state = jax.eval_shape(functools.partial(jobs.init_point, job.plan), point, seeds[0], job.data)
        advance = jax.jit(functools.partial(jobs.advance_point, job.plan))
        return advance.lower(state, point, seeds[0], job.data, np.int32(0), np.int32(presentations)).as_text()

    assert text(6) == text(6000)


@pytest.mark.parametrize("integrator", [EULER, WINDOW], ids=["euler", "window"])
def test_a_diverging_point_is_marked_and_harms_no_other(integrator, monkeypatch):
    """The same program, which takes two points, gets the other one twice. One refinement of few windows is enough."""
    monkeypatch.setattr(programs, "REFINEMENTS", 1)
    monkeypatch.setattr(Window, "planned", lambda *_: (Window(nodes=12, parts=2, gaps=False), 24))
    sweep, stimulus = {"timescales.plasticity": ["1e-4 s", "1 s"]}, {"presentations": 40}
    spec = make_spec(swept(sweep, stimulus=stimulus, integrator=integrator))
    both = runner.run(spec).datasets[""]
    (job,) = runner.prepare(spec)[""]
    alone = programs.JobRunner(job, 2).run(jobs.ChunkKey("", 0, 0), np.array([1]), Meter(None, 1.0))
    assert both["status"].values.tolist() == [STATUS.index("diverged"), STATUS.index("ok")]
    np.testing.assert_array_equal(both["loss"].values[1], alone["loss"][0])


def test_points_fill_chunks_and_devices_without_mixing_up(monkeypatch):
    """Seven points in chunks of three over two devices: every point's record is its own."""
    spec = make_spec(swept({"network.gain": {"linspace": [0.2, 1.4, 7]}}, DISCRETE))
    whole = runner.run(spec).datasets[""]
    chunks_of(monkeypatch, 3)
    parts = runner.run(spec).datasets[""]
    np.testing.assert_allclose(parts["loss"].values, whole["loss"].values, rtol=1e-12)
    assert len(np.unique(whole["loss"].values[:, 0])) == 7


def test_an_interrupt_keeps_finished_chunks(monkeypatch):
    chunks_of(monkeypatch, 2)

    def interrupt(now: Progress) -> None:
        if now.fraction > 0.6:  # in the middle of the second chunk
            raise KeyboardInterrupt

    results = runner.run(make_spec(swept({"network.gain": [0.5, 1.0, 1.5, 2.0]}, DISCRETE)), interrupt)
    status = results.datasets[""]["status"].values
    assert not results.complete
    assert status.tolist() == [STATUS.index("ok")] * 2 + [STATUS.index("missing")] * 2
    assert np.isfinite(results.datasets[""]["loss"].values[:2]).all()
    assert np.isnan(results.datasets[""]["loss"].values[2:]).all()


def test_progress_ends_at_the_total():
    seen = []
    runner.run(make_spec(swept({"rule": ["sgd", "fa"], "seeds": 3}, DISCRETE)), seen.append)
    done, points = [now.done for now in seen], [now.points for now in seen]
    assert done == sorted(done) and points == sorted(points) and len({(now.total, now.of) for now in seen}) == 1
    assert done[-1] == pytest.approx(seen[-1].total) and points[-1] == seen[-1].of == 6
    assert max(done[: points.index(3)]) > 0  # progress inside the first chunk too


@pytest.mark.parametrize("noise", [{"synaptic_multiplicative": 0.3}, {"activity": 0.3, "synaptic": 0.1}])
def test_milstein_runs_networks_and_is_euler_where_noise_is_additive(noise):
    def end(name: str) -> xr.Dataset:
        table = {**LINEAR, "noise": noise, "integrator": {"name": name, "dt": "2 ms", "tolerance": 0.9}}
        return runner.run(make_spec(table)).datasets[""].isel(record=-1)

    milstein, euler = end("milstein"), end("euler")
    assert milstein["status"] == STATUS.index("ok")
    gap = abs(float(milstein["loss"] - euler["loss"])) / float(euler["loss"])
    assert gap < 1e-12 if "synaptic" in noise else 1e-12 < gap < 0.1


def test_noise_makes_seeds_differ_where_the_mean_flow_has_none():
    def losses(**more: dict[str, Any]) -> np.ndarray:
        table = swept({"seeds": 2}, LINEAR, regime="flow", network={"hidden": [], "gain": 0.0, "bias": False})
        return runner.run(make_spec({**table, **more})).datasets[""]["loss"].values[:, -1]

    mean, entropic = losses(), losses(flow={"entropic": True})
    assert mean[0] == mean[1] != entropic[0] == entropic[1]  # all start at zero and follow the same average
    for noise in ({"sampling": True}, {"synaptic": 0.1}):
        noisy = losses(noise=noise)
        assert noisy[0] != noisy[1]


def test_every_regime_records_the_same_initial_loss_and_leaves_out_a_probe_that_no_circuit_has():
    first = {}
    for name, change in {"window": {}, "euler": {"integrator": EULER}, "flow": {}, "discrete": {}}.items():
        regime = name if name in ("flow", "discrete") else "coupled"
        table = {**SMALL, "rule": "sgd", "record": {"points": 1, "probes": ["feedback_mismatch", "loss"]}}
        data = runner.run(make_spec({**table, "regime": regime, **change})).datasets[""]
        judged = [] if regime == "discrete" else ["error_estimate"]
        assert list(data.data_vars) == ["status", *judged, "loss"]
        assert float(data["loss"][-1]) < float(data["loss"][0])
        first[name] = float(data["loss"][0])
    assert list(first.values()) == pytest.approx([first["window"]] * 4, rel=1e-12)


def test_same_spec_same_seed_same_numbers_and_another_seed_others():
    table = swept({"seed": [0, 1]}, noise={"activity": 0.1}, integrator=EULER)
    first, again = (runner.run(make_spec(table)).datasets[""]["loss"].values for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])


def test_results_carry_dimensions_units_and_provenance(rules_swept):
    _, data = rules_swept
    axes = ("timescales_plasticity", "noise_activity", "delays_error", "rule", "seed")
    assert data["loss"].dims == (*axes, "record")
    assert data["delays_error"].attrs["units"] == "s"
    assert data["time"].values[-1] == pytest.approx(6 * 0.05)
    assert data["weight_norm"].dims == (*axes, "record", "matrix")
    assert {"spec", "spec_hash", "versions", "device", "dtype", "matmul_precision"} <= set(data.attrs)
    norms = data["weight_norm"].sel(rule="sgd").isel(record=0)
    assert np.isnan(norms.sel(matrix="V2")).all() and np.isfinite(norms.sel(matrix="W1")).all()  # SGD has no V2


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"integrator": {"name": "euler", "dt": "5 ms"}}, ("integrator.dt", "0.005", "timescales.propagation")),
        ({"regime": "discrete", "delays": {"error": "10 ms"}}, ("delays.error", "discrete", "only the coupled")),
        ({"regime": "flow", "noise": {"activity": 0.1}}, ("noise.activity", "flow", "only the coupled")),
        ({"noise": {"sampling": True}}, ("noise.sampling", "coupled", "flow")),
        ({"flow": {"entropic": True}}, ("flow.entropic", "it needs regime 'flow'", "coupled")),
        ({"regime": "flow", "stimulus": {"batch": 2}}, ("stimulus.batch = 2", "noise.sampling or flow.entropic")),
        ({"discrete": {"batch": 2}}, ("discrete.batch", "stimulus.batch")),
        ({"discrete": {"optimiser": "adam"}}, ("discrete.optimiser = 'adam'", "regime 'discrete'", "'coupled'")),
        ({"delays": {"stages": 2}}, ("delays.stages = 2", "it needs a lag: delays.error")),
        ({"integrator": {"rtol": 1e-3}}, ("integrator.rtol = 0.001", "it needs integrator.adaptive = true")),
        (
            {"regime": "flow", "noise": {"sampling": True, "calculus": "stratonovich"}},
            ("noise.calculus = 'stratonovich'", "with noise.sampling", "it must be 'ito'"),
        ),
        ({"regime": "discrete", "noise": {"synaptic": 0.1}}, ("noise.synaptic", "discrete", "only the coupled")),
        ({"regime": "flow", "sweep": {"delays.hop": ["0 ms", "1 ms"]}}, ("delays.hop", "flow", "only the coupled")),
        (
            {"integrator": {"name": "euler", "dt": "1 us"}, "stimulus": {"duration": "10 s"}},
            ("integrator.dt", "1e-06", "at most"),
        ),
    ],
)
def test_numbers_that_cannot_run_together_are_refused_in_a_sentence(change, parts):
    with pytest.raises(PlasticodeError) as error:
        runner.prepare(make_spec({**SMALL, **change}))
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)


def test_steps_are_never_longer_than_asked_for():
    times = {"stimulus.gap": ["0 ms", "33 ms"], "stimulus.duration": ["50 ms", "77 ms"]}
    spec = make_spec(swept(times, integrator=EULER))
    job = runner.prepare(spec)[""][0]
    period = job.group.values["stimulus.duration"] + job.group.values["stimulus.gap"]
    assert (period / job.plan.steps).max() <= 0.001 * (1 + 1e-9)
    assert period.max() / (job.plan.steps - 1) > 0.001  # and no finer than that needs
    assert expand(spec).size == 4
