"""Predictions on sparse feedback wiring: the law of a mask by brute force, small, and with defects."""

import numpy as np
import pytest

import dynamics.maps
from experiments.predictions.heterosynaptic.wiring import (
    AmorphousLearning,
    AmorphousWiring,
    amorphous_law,
    mask_of,
    wiring_law,
)


def failed(finding):
    return [(v.name, v.measured, v.note) for v in finding.verdicts if not v.passed]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_law_of_a_mask_is_that_of_drawn_entries(seed):
    rng = np.random.default_rng(seed)
    units, n, draws = int(rng.integers(3, 9)), int(rng.integers(3, 9)), 100_000
    mask = mask_of(rng.uniform(0.2, 0.9), units, n, seed)
    m = rng.normal(size=(draws, units, n)) * mask
    b = m.swapaxes(1, 2) @ m
    traces, squares = np.trace(b, axis1=1, axis2=2), (b * b).sum((1, 2))
    found = traces.mean() / np.sqrt(n * squares.mean())
    spread = traces.std() / traces.mean() + squares.std() / squares.mean() / 2
    assert amorphous_law(mask) == pytest.approx(found, rel=4 * spread / draws**0.5)


def test_without_a_mask_it_is_the_law_of_dense_wiring():
    assert amorphous_law(np.ones((7, 5), bool)) == pytest.approx(float(wiring_law(6, 7)))
    assert mask_of(0.01, 30, 40, 0).any(0).all() and mask_of(1.0, 3, 4, 0).all()


SMALL = AmorphousWiring(neurons=6, units=9, densities=(0.3,), seeds=40)


def test_wirings_carry_what_the_law_says():
    assert failed(SMALL.measure()) == []


def test_a_mask_that_is_not_heeded_is_noticed(plant):
    plant(dynamics.maps.Masked, "matrix", lambda self, theta, sources: theta[:, :1] * np.ones((1, sources)))
    assert failed(SMALL.measure())


def test_networks_learn_through_sparse_wiring():
    small = {"inputs": 6, "hidden": (8, 8), "outputs": 3, "samples": 30, "units": 10, "density": 0.4, "step": 0.2}
    everywhere, at_rest, *_ = AmorphousLearning(**small, seeds=8, records=4, decay=20.0).measure().verdicts
    assert everywhere.passed and at_rest.passed, (everywhere, at_rest)
