"""Probes: on which data each is measured."""

import jax
import jax.numpy as jnp
import pytest

from dynamics import instruments
from experiments.spec.probes import KERNEL_SAMPLES, PROBE_SAMPLES, PROBES
from rules import KP
from tests.problems import random_problem, random_weights

TRAINING = random_problem((3, 4, 2), seed=5, samples=PROBE_SAMPLES + 40)
TEST = random_problem((3, 4, 2), seed=6, samples=30)
DATA = {
    "train_inputs": TRAINING.inputs,
    "train_targets": TRAINING.targets,
    "test_inputs": TEST.inputs,
    "test_targets": TEST.targets,
}
SEEN = TRAINING.inputs[:PROBE_SAMPLES], TRAINING.targets[:PROBE_SAMPLES]
FEW = TRAINING.inputs[:KERNEL_SAMPLES], TRAINING.targets[:KERNEL_SAMPLES]
EXPECTED = {
    "accuracy": lambda c, w: instruments.accuracy(c, w, TEST.inputs, TEST.targets),
    "loss": lambda c, w: instruments.loss(c, w, TEST.inputs, TEST.targets),
    "alignment": lambda c, w: instruments.alignment(c, w, {}, *SEEN),
    "hebbian_alignment": lambda c, w: instruments.hebbian_alignment(c, w, {}, *SEEN),
    "weight_norm": lambda c, w: {name: jnp.sqrt(jnp.sum(matrix**2)) for name, matrix in w.items()},
    "feedback_mismatch": lambda c, w: {"V2": jnp.sqrt(jnp.sum((w["V2"] - w["W2"].T) ** 2))},
    "tangent_kernel": lambda c, w: jnp.median(instruments.tangent_kernel(c, w, {}, *FEW)),
}


def test_every_probe_is_here():
    assert EXPECTED.keys() == PROBES.keys()


@pytest.fixture(scope="module")
def measured() -> tuple[dict, dict]:
    """All probes as they are defined and as they are expected, from one program each."""
    circuit = KP().wire(TRAINING.network)
    weights = random_weights(circuit)
    found = jax.jit(lambda w: {name: PROBES[name].measure(circuit, w, {}, DATA) for name in EXPECTED})
    expected = jax.jit(lambda w: {name: expect(circuit, w) for name, expect in EXPECTED.items()})
    return found(weights), expected(weights)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_probe_is_measured_on_its_own_data(name, measured):
    """Losses and accuracies on the test set, alignments on the first training samples."""
    found, expected = (probes[name] for probes in measured)
    assert jax.tree.all(jax.tree.map(lambda a, b: abs(float(a) - float(b)) <= 1e-12 * abs(float(b)), found, expected))
