"""Probes: on which data each is measured, what results call it, and where it is refused."""

import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import curvature, instruments, representations
from dynamics.coupled import Coupled
from dynamics.errors import PlasticodeError
from dynamics.integrators import FixedStep
from dynamics.overlap import overlap_of_one
from experiments.commands.catalogue import contents, described
from experiments.execution import runner
from experiments.points import jobs
from experiments.spec.loading import make_spec
from experiments.spec.probes import KERNEL_SAMPLES, PROBE_SAMPLES, PROBES, Probe
from rules import KP
from tests.problems import clock, random_problem, random_weights, stream, timescales

pytestmark = pytest.mark.usefixtures("unchecked_types")
TRAINING = random_problem((3, 4, 2), seed=5, samples=PROBE_SAMPLES + 40)
TEST = random_problem((3, 4, 2), seed=6, samples=30)
CIRCUIT = KP().wire(TRAINING.network)
RUN = Coupled(CIRCUIT, timescales(0.01), stream(TRAINING), clock(0.1, 0.0, 20), integrator=FixedStep("heun"))
START = random_weights(CIRCUIT, seed=3)
DATA = {
    "train_inputs": TRAINING.inputs,
    "train_targets": TRAINING.targets,
    "test_inputs": TEST.inputs,
    "test_targets": TEST.targets,
    "samples": TEST.inputs[:3],
    "start": START,
    "run": RUN,
}
SEEN = TRAINING.inputs[:PROBE_SAMPLES], TRAINING.targets[:PROBE_SAMPLES]
FEW = TRAINING.inputs[:KERNEL_SAMPLES], TRAINING.targets[:KERNEL_SAMPLES]


def layers(w, inputs=SEEN[0]):
    return representations.activities(CIRCUIT, w, {}, inputs)


def field(w):
    return curvature.averaged_field(RUN, w, {}, *FEW)


EXPECTED = {
    "accuracy": lambda c, w: instruments.accuracy(c, w, TEST.inputs, TEST.targets),
    "loss": lambda c, w: instruments.loss(c, w, TEST.inputs, TEST.targets),
    "alignment": lambda c, w: instruments.alignment(c, w, {}, *SEEN),
    "hebbian_alignment": lambda c, w: instruments.hebbian_alignment(c, w, {}, *SEEN),
    "weight_norm": lambda c, w: {name: jnp.sqrt(jnp.sum(matrix**2)) for name, matrix in w.items()},
    "feedback_mismatch": lambda c, w: {"V2": jnp.sqrt(jnp.sum((w["V2"] - w["W2"].T) ** 2))},
    "tangent_kernel": lambda c, w: jnp.median(instruments.tangent_kernel(c, w, {}, *FEW)),
    "effective_rank": lambda c, w: {name: representations.effective_rank(w[name]) for name in ("W1", "W2", "V2")},
    "participation_ratio": lambda c, w: {n: representations.participation_ratio(z) for n, z in layers(w).items()},
    "cka_start": lambda c, w: {n: representations.cka(layers(w)[n], layers(START)[n]) for n in ("z1", "z2")},
    "cka": lambda c, w: {"z1_z2": representations.cka(layers(w)["z1"], layers(w)["z2"])},
    "activities": lambda c, w: layers(w, TEST.inputs[:3]),
    "charges": lambda c, w: instruments.charges(c, w),
    "sharpness": lambda c, w: curvature.sharpness(c, w, *SEEN),
    "jacobian_symmetric": lambda c, w: curvature.jacobian_parts(*field(w))[0],
    "jacobian_antisymmetric": lambda c, w: curvature.jacobian_parts(*field(w))[1],
    "lyapunov_exponent": lambda c, w: curvature.lyapunov_exponent(*field(w), RUN.clock.period),
    "temporal_overlap": lambda c, w: overlap_of_one(RUN, w),
}
BASE = {
    "regime": "discrete",
    "task": {"name": "gaussian-regression", "inputs": 3, "outputs": 2, "samples": 8, "test_samples": 4},
    "network": {"hidden": [4]},
    "stimulus": {"presentations": 2},
}


def test_every_probe_is_here():
    assert EXPECTED.keys() == {name for name, probe in PROBES.items() if not probe.whole}


@pytest.fixture(scope="module")
def measured() -> tuple[dict, dict]:
    """All probes as they are defined and as they are expected, from one program each.

    In place of what takes seconds to compile, and has tests of its own, stands what tells as well what it is given.
    """
    weights = random_weights(CIRCUIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curvature, "sharpness", instruments.loss)
        patch.setattr(curvature, "jacobian_parts", lambda field, point: (field(point).sum(), point.sum()))
        patch.setattr(curvature, "lyapunov_exponent", lambda field, point, period: period * field(point).sum())
        found = jax.jit(lambda w: {name: PROBES[name].measure(CIRCUIT, w, {}, DATA) for name in EXPECTED})(weights)
        expected = jax.jit(lambda w: {name: expect(CIRCUIT, w) for name, expect in EXPECTED.items()})(weights)
    return found, expected


@pytest.mark.parametrize("name", EXPECTED)
def test_a_probe_is_measured_on_its_own_data(name, measured):
    """Losses and accuracies on the test set, alignments and representations on the first training samples."""
    found, expected = (probes[name] for probes in measured)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)


def rows(circuit, weights, slow, data):
    """norm of every row"""
    return {name: jnp.linalg.norm(weights[name], axis=1) for name in ("W1", "W2")}


def first(circuit, weights, slow, data):
    """the first matrix"""
    return weights["W1"]


def test_results_call_layers_and_samples_by_their_names(monkeypatch):
    """A number of each layer is a variable of its own, and so is what each of its units or samples has. Arrays of a
    user's own probes have dimensions of their own, or those that it says."""
    named = Probe(first, "first", units="mV", arrays=("to", "from"))
    monkeypatch.setitem(sys.modules, "mine", types.SimpleNamespace(rows=rows, first=first, named=named))
    probes = ["charges", "activities", "participation_ratio", "weight_norm", "mine:rows", "mine:first", "mine:named"]
    record = {"points": 1, "probes": probes, "samples": [3, 1]}
    data = runner.run(make_spec(BASE | {"record": record})).datasets[""]
    assert data.charges_z1.dims == ("record", "z1") and data.participation_ratio_z2.dims == ("record",)
    assert data.activities_z2.dims == ("record", "sample", "z2") and data.sample.values.tolist() == [3, 1]
    assert data.activities_z1.attrs == {"long_name": "settled activity, z1", "units": "1"}
    assert data.participation_ratio_z1.attrs["long_name"] == "participation ratio of activities, z1"
    assert np.isfinite(data.activities_z1).all() and set(data.matrix.values) == {"W1", "W2", "b1", "b2"}
    assert data.first.dims == ("record", "first_0", "first_1") and data.named.dims == ("record", "to", "from")
    np.testing.assert_array_equal(data.named, data.first)
    np.testing.assert_allclose(data.rows_W1, np.linalg.norm(data.first, axis=-1), rtol=1e-6)
    assert data.rows_W2.shape == (2, 2) and data.rows_W2.attrs["long_name"] == "norm of every row, W2"
    assert data.first.attrs == {"long_name": "the first matrix", "units": "1"} and data.named.attrs["units"] == "mV"
    record["probes"] = probes[:4]
    alone = runner.run(make_spec(BASE | {"record": record | {"samples": [1]}})).datasets[""]
    np.testing.assert_allclose(alone.activities_z1[:, 0], data.activities_z1.sel(sample=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"probes": ["sharpnes"]}, "did you mean 'sharpness'?"),
        ({"probes": ["temporal_overlap"]}, "needs regime = 'coupled' and integrator.name = 'heun', say"),
        ({"samples": [1]}, "record.samples = (1,) is not allowed: it needs the probe activities in record.probes"),
        ({"samples": [4], "probes": ["activities"]}, "the task has the test samples 0 to 3"),
    ],
)
def test_a_probe_that_has_nothing_to_measure_is_refused(record, told):
    with pytest.raises(PlasticodeError, match=re.escape(told)):
        jobs.prepare(make_spec(BASE | {"record": {"points": 1} | record}))


def test_probes_are_listed_and_shown():
    assert contents()["Probes"].keys() == PROBES.keys()
    told = described("cka_start")
    assert "|Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F)" in told and "cka_start_z1" in told
