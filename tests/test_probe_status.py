"""The status of points whose weights are finite, and whose probes are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.simulate import all_finite
from experiments import jobs
from experiments.labels import STATUS, Table
from experiments.spec import make_spec
from experiments.sweep import expand

BASE = {
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 8, "test_samples": 4},
    "network": {"hidden": [], "activation": "linear"},
    "stimulus": {"presentations": 2},
    "record": {"points": 1},
}


def first_record(gain, probes):
    """The weights and the record of the first point of a spec at its start, in float32."""
    spec = make_spec({**BASE, "network": BASE["network"] | {"gain": gain}, "record": {"points": 1, "probes": probes}})
    (job,) = jobs.check(spec)[""]
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
