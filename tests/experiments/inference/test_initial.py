"""Initial weights that are free, or those of a recording: slopes in both modes, what is left of information, a fit."""

import jax
import numpy as np
import pytest

from experiments.inference import fitting
from experiments.inference.descending import loss
from experiments.inference.initial import WIDTH
from experiments.inference.model import Rows, model
from experiments.inference.table import read_fit
from experiments.spec.loading import make_spec
from tests.experiments.inference.test_fitting import PLASTICITY, Z1, coupled, fit_of, table

pytestmark = pytest.mark.usefixtures("unchecked_types")

ALL = [{"of": "z1", "sd": 0.05}, {"of": "output", "sd": 0.05}]


def free(spec):
    return fit_of(spec, initial_weights="free")


def made_of(spec):
    spec = make_spec(spec)
    table = read_fit(spec)
    recording, place = fitting.simulator(spec, table)(0)
    return model(spec, table), recording, place


@pytest.mark.parametrize("kind", ["discrete", "windows", "steps"])
def test_slopes_of_both_modes_are_those_of_differences(kind):
    if kind == "discrete":
        spec = table(presentations=10, observe=ALL)
    else:
        spec = coupled([Z1, {"of": "z1", "data": "inside", "times": ["10 ms"], "sd": 0.1}]) | {
            "timescales": {"plasticity": "0.5 s", "propagation": "5 ms"}
        }
        spec = fit_of(spec, free={PLASTICITY: ["0.1 s", "10 s"]})
        spec |= {"stimulus": spec["stimulus"] | {"presentations": 3}, "record": {"points": 3}}
        spec |= {"integrator": {"tolerance": 1e-8} if kind == "windows" else {"name": "heun"}}
    made, recording, truth = made_of(free(spec))
    rng = np.random.default_rng(0)
    place = truth + rng.normal(size=truth.shape) / (4 * WIDTH)
    rows = Rows(np.arange(recording.presentations, dtype=np.int32), recording.seen)
    forward = made.scored(place, rows, made.data)
    value = jax.jit(lambda place: loss(made, place, rows, made.data))
    backward = jax.jit(jax.grad(lambda place: loss(made, place, rows, made.data)))(place)
    np.testing.assert_allclose(forward.gradient + made.prior(place).gradient, backward, rtol=1e-6, atol=1e-6)
    assert np.isclose(value(place), forward.loss + made.prior(place).loss, rtol=1e-9)
    for along in (np.eye(len(place))[0], rng.normal(size=len(place)) / WIDTH):
        moved = 1e-5 * along
        difference = (value(place + moved) - value(place - moved)) / 2e-5
        assert np.isclose(backward @ along, difference, rtol=1e-5)
