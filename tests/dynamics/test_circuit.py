"""Circuits: the matrices that they draw."""

import jax
import numpy as np
import pytest

from dynamics.network import Network
from rules import FA, KP, SGD
from tests.problems import f64

NETWORK = Network((60, 60, 60), bias=False, gain=f64(2.0))


def drawn(rule, seed=0):
    """The initial matrices of a rule on the network."""
    return rule.wire(NETWORK).initial_weights(jax.random.key(seed))


def test_matrices_are_independent_of_each_other_and_of_other_seeds():
    """The correlation of 3600 entries has a standard error of 1/60."""
    matrices = [*drawn(KP()).values(), *drawn(KP(), seed=1).values()]
    for i, one in enumerate(matrices):
        for other in matrices[:i]:
            assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 4 / 60


@pytest.mark.parametrize("rule", [FA(), KP()])
def test_one_seed_gives_all_rules_the_same_forward_matrices(rule):
    shared, own = drawn(SGD()), drawn(rule)
    for name in ("W1", "W2"):
        np.testing.assert_array_equal(shared[name], own[name])
        assert abs(np.std(own[name]) / (2 / np.sqrt(60)) - 1) < 4 / np.sqrt(2 * 3600)
