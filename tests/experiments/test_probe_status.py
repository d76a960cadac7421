"""The status of points whose weights are finite, and whose probes are not."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.simulate import all_finite
from experiments.points import jobs
from experiments.results.labels import STATUS, Table
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from tests.experiments.commands.test_cli import plasticode, summary

pytestmark = pytest.mark.usefixtures("unchecked_types", "undrawn")
BASE = {
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 8, "test_samples": 4},
    "network": {"hidden": [], "activation": "linear"},
    "stimulus": {"presentations": 2},
    "record": {"points": 1},
}
SETS = {
    "network.hidden": "[]",
    "network.activation": '"linear"',
    "timescales.plasticity": '"100 min"',
    "integrator.tolerance": "0.5",
    "stimulus.presentations": 2,
    "record.points": 1,
    "record.probes": '["loss"]',
}


def first_record(gain, probes):
    """The weights and the record of the first point of a spec at its start, in float32."""
    spec = make_spec({**BASE, "network": BASE["network"] | {"gain": gain}, "record": {"points": 1, "probes": probes}})
    (job,) = jobs.prepare(spec)[""]
    values, seeds = jobs.points_of(job, slice(0, 1))
    point = {path: jnp.asarray(value[0]) for path, value in values.items()}
    data = jax.tree.map(jnp.asarray, job.data)
    state = jobs.init_point(job.plan, point, jnp.asarray(seeds[0]), data)
    record = jobs.measure_point(job.plan, state, point, jnp.asarray(seeds[0]), data)
    return spec, job, state.state.weights, jax.tree.map(np.asarray, record)


@pytest.mark.parametrize(("gain", "status"), [(1.0, "ok"), (1e25, "diverged")])
def test_a_loss_that_overflows_marks_its_point(gain, status):
    """(1e25)^2 is no number of float32, although the weights are."""
    spec, job, weights, record = first_record(gain, ["loss"])
    assert all_finite(weights) and np.isinf(record["loss"]) == (status != "ok")
    sweep = expand(spec)
    table = Table(sweep, jobs.marks_of(spec))
    table.add(sweep.groups[0], np.arange(1), {name: np.stack([value, value])[None] for name, value in record.items()})
    assert STATUS[table.status[0]] == status


def test_norms_and_cosines_of_such_weights_are_finite():
    *_, record = first_record(1e25, ["weight_norm", "alignment", "hebbian_alignment"])
    assert record["finite"]
    assert 1e25 < record["weight_norm"]["W1"] < 3e25 and abs(record["alignment"]["W1"] - 1) < 1e-5


@pytest.mark.parametrize("regime", ["discrete", "flow"])
def test_a_loss_that_overflows_is_told_in_table_summary_and_exit_code(regime, tmp_path, monkeypatch):
    """A flow has an estimate of its error too, which is not small here: that the loss is no number comes first."""
    monkeypatch.chdir(tmp_path)
    sets = [f"{path}={value}" for path, value in SETS.items()] + [f'regime="{regime}"']
    Path("gain.toml").write_text("[task]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in BASE["task"].items()))
    command = ["run", "gain.toml", "--out", "out", *(word for one in sets for word in ("--set", one))]
    both = plasticode(*command, "--set", 'sweep."network.gain"=[1.0, 1e25]')
    assert "1 of 2 points diverged." in both.stdout and re.search(r"1e\+25 +– \(0 of 1\)", both.stdout)
    part = summary("out")["parts"][""]
    assert part["status"] == {"ok": 1, "diverged": 1, "not-converged": 0, "missing": 0}
    assert [row["loss"]["excluded"] for row in part["final"]] == [0, 1]
    assert "2 points (1 ok, 1 diverged)" in plasticode("status", "out").stdout
    told = plasticode(*command, "--set", "network.gain=1e25", "--force", code=1)
    assert "no point came to its end: all of them diverged" in told.stderr
