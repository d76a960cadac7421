"""What the probes of a point look at, beside its weights."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from dynamics.circuit import Weights
from dynamics.coupled import Coupled
from dynamics.regime import AbstractRegime
from dynamics.sequences import responses
from experiments.points.assemble import Plan
from experiments.spec.probes import samples_of


def looked_at(
    plan: Plan, regime: AbstractRegime, weights: Weights, start: Weights, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The arrays of a task with what `experiments.spec.probes.Probe` promises: the run, the weights at its start, the
    test samples that are recorded one by one and the answers to test sequences."""
    chosen = np.asarray(samples_of(plan.spec.record.samples, len(data["test_inputs"])))
    known = {"start": start, "run": regime, "samples": data["test_inputs"][chosen]}
    return {**data, **known, **_answered(plan, regime, weights, data["test_inputs"])}


def _answered(plan: Plan, regime: AbstractRegime, weights: Weights, inputs: jax.Array) -> dict[str, jax.Array]:
    """The answers to test sequences, frame by frame, where activity lasts from one to the next."""
    if plan.frames == 1 or not isinstance(regime, Coupled):
        return {}
    outputs = responses(regime, weights, inputs.reshape(-1, plan.frames, inputs.shape[1]))
    return {"test_outputs": outputs.reshape(inputs.shape[0], -1)}
