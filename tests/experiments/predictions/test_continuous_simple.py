"""One synapse, and one matrix without learning: the overlap law, multiplicative noise, and defects that they catch."""

import dataclasses

import numpy as np
import pytest

from dynamics.delays import Delays
from dynamics.noise import Noise
from experiments.points import assemble
from experiments.predictions import configured
from experiments.predictions.reproduce import measure

NOISY = {"seeds": 60, "synapses": 200, "presentations": 5}


def outcome(name, settings):
    return measure(configured([name], settings)[name])


def failed(name, settings):
    found = outcome(name, settings)
    assert not found.failure, found.failure
    return [verdict.name for verdict in found.verdicts if not verdict.passed]


def test_the_overlap_law_holds_at_a_random_duration_and_delays():
    rng = np.random.default_rng(0)
    settings = {"duration": float(rng.uniform(0.001, 3)), "delays": tuple(rng.uniform(0, 1.5, 3).tolist())}
    assert failed("overlap-law", settings) == []


def test_a_delay_that_is_ignored_fails_the_overlap_law(monkeypatch):
    monkeypatch.setattr(assemble, "Delays", lambda **lags: Delays(**(lags | {"error": 0 * lags["error"]})))
    assert failed("overlap-law", {"delays": (0.5, 1.0)}) == ["linear overlap law"]


def test_multiplicative_noise_follows_its_closed_forms_at_random_parameters():
    rng = np.random.default_rng(0)
    amplitude, decay = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.5, 5))
    found = outcome("multiplicative-noise", NOISY | {"amplitude": amplitude, "decay": decay})
    assert found.passed, found.verdicts
    assert found.verdicts[0].expected == pytest.approx(np.exp((amplitude**2 - 2 / decay) * 0.25))


def test_stratonovich_in_place_of_ito_is_noticed(monkeypatch):
    other = {"ito": "stratonovich", "stratonovich": "ito"}

    def swapped(**amplitudes):
        noise = Noise(**amplitudes)
        return dataclasses.replace(noise, calculus=other[noise.calculus])

    monkeypatch.setattr(assemble, "Noise", swapped)
    claims = ["growth of the mean square (ito)", "growth of the mean square (stratonovich)"]
    assert failed("multiplicative-noise", NOISY | {"amplitude": 1.0}) == claims
