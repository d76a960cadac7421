"""From the numbers of a spec to the regime of a point: every number arrives where it is meant."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from experiments.execution import runner
from experiments.points import assemble, jobs
from experiments.spec.loading import make_spec

SMALL = {
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 20, "test_samples": 10},
    "network": {"hidden": [4], "gain": 0.7},
    "rule": {"name": "kp", "feedback_scale": 0.6},
    "timescales": {"propagation": ["20 ms", "21 ms"], "plasticity": "3 s", "decay": "40 s", "trace": "50 ms"},
    "stimulus": {"duration": "600 ms", "gap": "70 ms", "presentations": 20},
    "integrator": {"name": "euler", "dt": "8 ms"},
    "dtype": "float64",
    "seed": 9,
}
# All different, so that no two can be swapped.
COUPLED = {
    "delays": {"error": "90 ms", "hop": "110 ms", "input": "120 ms"},
    "noise": {"activity": 0.13, "error": 0.14, "synaptic": 0.15, "synaptic_multiplicative": 0.16},
}


def regimes(table) -> Iterator[Any]:
    """The regime of every point of a spec, and the key of its weights."""
    (job,) = runner.prepare(make_spec(table))[""]
    values, seeds = jobs.points_of(job, slice(None))
    data = jax.tree.map(jnp.asarray, job.data)
    for i, seed in enumerate(seeds):
        point = {path: jnp.asarray(value[i]) for path, value in values.items()}
        yield assemble.build(job.plan, point, jnp.asarray(seed), data)


def regime(table) -> Any:
    """The regime of a spec of one point."""
    ((only, _),) = regimes(table)
    return only


def assert_times(run):
    """The times that every regime has."""
    np.testing.assert_allclose(run.timescales.propagation, [0.02, 0.021])
    times = [run.timescales.plasticity, run.timescales.decay, run.clock.duration, run.clock.gap]
    np.testing.assert_allclose(jnp.stack(times), [3.0, 40.0, 0.6, 0.07])


def test_every_number_of_a_coupled_run_arrives():
    run = regime({**SMALL, **COUPLED})
    assert issubclass(type(run), Coupled)
    assert_times(run)
    assert float(run.timescales.trace) == 0.05
    noise, delays = run.noise, run.delays
    amplitudes = noise.activity, noise.error, noise.synaptic, noise.synaptic_multiplicative
    np.testing.assert_allclose(jnp.stack(amplitudes), [0.13, 0.14, 0.15, 0.16])
    np.testing.assert_allclose(jnp.stack([delays.error, delays.hop, delays.input]), [0.09, 0.11, 0.12])
    assert noise.calculus == "ito" and delays.stages == 0
    stages, name = {"stages": 3}, {"name": "heun", "dt": "8 ms"}
    run = regime({**SMALL, "delays": {**COUPLED["delays"], **stages}, "integrator": name,
                  "noise": {"calculus": "stratonovich"}})  # fmt: skip
    assert run.delays.stages == 3 and run.noise.calculus == "stratonovich" and run.integrator.name == "heun"
    assert not run.noise.present


@pytest.mark.parametrize(("name", "kind"), [("flow", WeightFlow), ("discrete", Discrete)])
def test_every_number_of_the_other_regimes_arrives(name, kind):
    table = {**SMALL, "regime": name, "timescales": {**SMALL["timescales"], "trace": None}}
    run = regime({**table, "discrete": {"optimiser": "adam"}} if name == "discrete" else table)
    assert isinstance(run, kind)
    assert_times(run)
    assert getattr(run, "optimiser", "adam") == "adam"


def test_the_numbers_of_network_and_rule_arrive():
    """W1 has gain / sqrt(sources), feedback_scale / sqrt(targets) belongs to V2."""
    projections = {p.name: p for p in regime(SMALL).circuit.projections}
    assert float(projections["W1"].matrix.start.scale) == float(projections["W2"].matrix.start.scale) == 0.7
    assert float(projections["V2"].matrix.start.scale) == 0.6


def test_adaptive_steps_have_their_tolerances():
    run = regime({**SMALL, "integrator": {"name": "tsit5", "adaptive": True, "rtol": 1e-4, "atol": 1e-7}})
    assert (float(run.integrator.rtol), float(run.integrator.atol)) == (1e-4, 1e-7) and run.integrator.name == "tsit5"


def test_a_point_decays_where_another_of_its_group_does_not():
    table = {**SMALL, "timescales": {"propagation": "20 ms"}, "sweep": {"timescales.decay": ["inf", "3 s", "5 s"]}}
    assert [float(run.timescales.decay) for run, _ in regimes(table)] == [np.inf, 3.0, 5.0]
    assert regime({**table, "sweep": {}}).timescales.decay is None


def test_a_lag_of_one_point_reaches_the_whole_group():
    table = {**SMALL, "sweep": {"delays.hop": ["0 ms", "33 ms"]}}
    assert [float(run.delays.hop) for run, _ in regimes(table)] == pytest.approx([0.0, 0.033])
    assert all(run.delays.error is None and run.delays.input is None for run, _ in regimes(table))


def test_one_seed_gives_three_keys_and_another_seed_three_others():
    """Of the initial weights, the order of presentations, and noise."""
    keys = []
    for run, weights in regimes({**SMALL, **COUPLED, "sweep": {"seeds": 3}}):
        keys += [weights, run.stream.key, run.key]
    assert len({tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}) == 9
