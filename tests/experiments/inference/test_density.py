"""The posterior density of a fit: its gradient, its priors, and the recipe of docs/fit.md that samples it."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import plasticode
from dynamics.errors import PlasticodeError
from experiments.inference import fitting, simulation
from experiments.inference.table import read_fit
from experiments.spec.loading import make_spec

pytestmark = pytest.mark.usefixtures("unchecked_types")

RECIPE = Path(__file__).resolve().parents[3] / "docs" / "fit.md"
PATH, SD = "timescales.plasticity", "observe.z1.sd"
SPEC = {
    "regime": "discrete",
    "rule": "hebbian",
    "task": {"name": "circles", "samples": 20},
    "network": {"hidden": [], "bias": False},
    "stimulus": {"presentations": 30},
    "timescales": {"plasticity": "2 s"},
    "fit": {
        "free": {PATH: {"range": ["0.2 s", "20 s"], "prior": ["2 s", 1.0]}, SD: [0.01, 1]},
        "observe": [{"of": "output", "data": "z1", "sd": 0.1}],
    },
}


@pytest.fixture(scope="module")
def recording():
    spec = make_spec(SPEC)
    return simulation.simulated(spec, read_fit(spec), 0)[0]


@pytest.fixture(scope="module")
def density(recording):
    return plasticode.log_density(SPEC, recording.seen)


def test_it_is_likelihood_prior_and_the_stretch_of_the_ranges(density, recording):
    at = density.at({PATH: 3.0, SD: 0.2})
    found = density.numbers(at)
    np.testing.assert_allclose([found[PATH], found[SD]], [3.0, 0.2], rtol=1e-12)
    spec = make_spec(SPEC)
    made = fitting.model(spec, read_fit(spec), recording)
    places = np.array([one.place(x) for one, x in zip(made.free, (3.0, 0.2), strict=True)])
    mean = made.predicted(places, 30, made.data)[0]["z1"]["mean"]
    rest = (recording.seen["z1"] - np.asarray(mean)) / 0.2
    expected = -(rest**2 / 2 + np.log(0.2 * np.sqrt(2 * np.pi))).sum() - np.log(3 / 2) ** 2 / 2
    expected += np.log(places * (1 - places)).sum()
    program = jax.jit(jax.value_and_grad(density))
    value, slope = program(at)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    moved = [1e-5 * side for side in np.eye(2)]
    differences = [(program(at + d)[0] - program(at - d)[0]) / 2e-5 for d in moved]
    np.testing.assert_allclose(slope, jnp.stack(differences), rtol=1e-6)


def test_the_recipe_samples_it(recording):
    """Draws of the posterior have the interval that the curvature says."""
    pytest.importorskip("blackjax")
    (block,) = re.findall(r"```python\n([^`]*blackjax.*?)```", RECIPE.read_text(encoding="utf-8"), re.DOTALL)
    spec = make_spec(SPEC)
    found = fitting.fit(spec, recording.seen)
    shown = {"plasticode": plasticode, "found": found, "spec": SPEC, "data": recording.seen}
    small = block.replace("num_steps=500", "num_steps=100").replace(", 2000)", ", 300)")
    assert small.count("100") and small.count("300")
    with jax.numpy_dtype_promotion("standard"):  # which blackjax relies on
        exec(compile(small, "the recipe", "exec"), shown)
    for path, one in found.estimates.items():
        low, high = np.quantile(shown["numbers"][path], [0.025, 0.975])
        assert abs(np.log(low / one.low)) < 0.4 * np.log(one.high / one.low)
        assert abs(np.log(high / one.high)) < 0.4 * np.log(one.high / one.low)


def test_a_recording_must_be_given():
    with pytest.raises(PlasticodeError, match="fit.data is missing"):
        plasticode.log_density(SPEC)


def test_numbers_that_are_in_no_range_have_no_place(density):
    """An end of a range, where fits may end, has one that a sampler can begin from."""
    assert np.isfinite(density.at({PATH: 20.0, SD: 0.01})).all()
    np.testing.assert_allclose(density.numbers(density.at({PATH: 20.0, SD: 0.01}))[PATH], 20, rtol=1e-5)
    with pytest.raises(PlasticodeError, match=f"'{SD}' is missing"):
        density.at({PATH: 2.0})
    with pytest.raises(PlasticodeError, match=f"{PATH} = 21.0 .* it must be a number in its range, from 0.2 to 20"):
        density.at({PATH: 21.0, SD: 0.1})
