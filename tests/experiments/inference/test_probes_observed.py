"""Probes that a fit observes are those that a run records: both look at the same of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.inference.model import model, sizes
from experiments.inference.table import read_fit
from experiments.points.jobs import measure_point, points_of, prepare
from experiments.spec.loading import make_spec

FIT = {"free": {"timescales.plasticity": ["0.1 s", "1 s"]}}
SPEC = {
    "rule": "sgd",
    "dtype": "float64",
    "task": {"name": "circles", "samples": 20},
    "network": {"hidden": [2]},
    "record": {"points": 1, "samples": [0, 3]},
    "stimulus": {"presentations": 8},
}
pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_those_of_the_run_its_start_and_its_samples():
    """Which had nothing to look at."""
    probes = {"cka_start": 2, "lyapunov_exponent": 1, "activities": 2 * (2 + 2)}
    fit = FIT | {"observe": [{"of": name, "sd": 0.1} for name in probes]}
    record = SPEC["record"] | {"probes": ["activities"]}
    spec = make_spec(SPEC | {"regime": "discrete", "record": record, "fit": fit})
    assert sizes(model(spec, read_fit(spec))) == probes


def test_sequences_are_answered_in_time():
    """Their frames had settled one by one."""
    task = {"name": "moving-bar", "pixels": 3, "moves": 2, "samples": 20, "blank": 1}
    integrator = {"name": "euler", "dt": "2 ms", "tolerance": 0.5}
    spec = SPEC | {"task": task, "integrator": integrator, "record": {"points": 1, "probes": ["loss"]}}
    spec |= {"stimulus": {"duration": "6 ms", "presentations": 8}, "timescales": {"propagation": "4 ms"}}
    spec = make_spec(spec | {"fit": FIT | {"observe": [{"of": "loss", "sd": 0.1}]}})
    made, (job,) = model(spec, read_fit(spec)), prepare(spec)[""]
    values, seeds = points_of(job, slice(0, 1))

    def both():
        shared, progress = made.begun(jnp.full(1, 0.5), made.data)
        seen = made.shown(shared, shared[0].weights(progress), {}, jnp.int32(0), made.data)
        point = {path: jnp.asarray(value[0]) for path, value in values.items()}
        return seen["loss"][0], measure_point(job.plan, progress, point, jnp.asarray(seeds[0]), job.data)["loss"]

    observed, recorded = jax.jit(both)()
    np.testing.assert_allclose(observed, recorded, rtol=1e-12)
