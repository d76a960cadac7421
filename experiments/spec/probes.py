"""Probes: what is recorded of a run, by name; each a function of the weights, the data and the circuit."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from dynamics import instruments
from dynamics.circuit import Circuit, Weights
from dynamics.regime import Slow

PROBE_SAMPLES = 256  # alignments are means over this many training samples: their cost is that of a gradient

KERNEL_SAMPLES = 64  # a tangent kernel needs a direction in weight space for every sample


class Probe(NamedTuple):
    """`measure(circuit, weights, slow, data)` gives a number, or one per matrix; units and a name for figures."""

    measure: Callable[[Circuit, Weights, Slow, dict[str, Array]], Array | dict[str, Array]]
    long_name: str
    units: str = "1"
    supervised: bool = True


def _train(data: dict[str, Array], samples: int = PROBE_SAMPLES) -> tuple[Array, Array]:
    inputs = data["train_inputs"][:samples]
    return inputs, data.get("train_targets", jnp.zeros((inputs.shape[0], 1), inputs.dtype))[:samples]


def _test(data: dict[str, Array]) -> tuple[Array, Array]:
    return data["test_inputs"], data["test_targets"]


PROBES = {
    "accuracy": Probe(lambda c, w, s, d: instruments.accuracy(c, w, *_test(d)), "test accuracy"),
    "loss": Probe(lambda c, w, s, d: instruments.loss(c, w, *_test(d)), "test loss"),
    "alignment": Probe(
        lambda c, w, s, d: instruments.alignment(c, w, s, *_train(d)), "cosine of weight drift and negative gradient"
    ),
    "hebbian_alignment": Probe(
        lambda c, w, s, d: instruments.hebbian_alignment(c, w, s, *_train(d)),
        "cosine of weight drift and Hebbian update",
        supervised=False,
    ),
    "weight_norm": Probe(lambda c, w, s, d: instruments.weight_norms(w), "Frobenius norm", supervised=False),
    "feedback_mismatch": Probe(
        lambda c, w, s, d: instruments.feedback_mismatch(c, w),
        "distance of feedback from transposed forward weights",
        supervised=False,
    ),
    "tangent_kernel": Probe(
        lambda c, w, s, d: jnp.median(instruments.tangent_kernel(c, w, s, *_train(d, KERNEL_SAMPLES))),
        "median tangent kernel K",
    ),
}
