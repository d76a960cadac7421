"""Evolving signs of plasticity: which can learn, by NumPy; a symmetry; small runs, and with defects."""

import itertools

import jax
import numpy as np
import pytest

import rules.heterosynaptic
from dynamics.circuit import Activity, Negative, Times
from dynamics.errors import PlasticodeError
from experiments.predictions import configured
from experiments.predictions.heterosynaptic.evolution import Evolution, consistent
from experiments.predictions.heterosynaptic.training import teachers
from experiments.predictions.kit import f64

SMALL = {"inputs": 3, "hidden": (4,), "outputs": 2, "samples": 10, "units": 3, "population": 10, "parents": 3}
SMALL |= {"generations": 6, "runs": 20, "step": 0.2, "length": 6.0, "decay": 8.0}


def failed(**settings) -> set[str]:
    finding = configured(["evolving-signs"], SMALL | settings)["evolving-signs"].measure()
    return {verdict.name for verdict in finding.verdicts if not verdict.passed}


@np.errstate(over="ignore", invalid="ignore")  # what climbs does so for ever
def test_consistent_signs_are_those_with_which_a_chain_of_neurons_learns():
    """y = w3 w2 w1 x with scalar feedback v3, v2, all 32 patterns of signs from many starts, until all is at rest."""
    rng, rate = np.random.default_rng(0), 0.05
    signs = np.array(list(itertools.product((1, -1), repeat=5)))
    a1, a2, a3, b2, b3 = (signs * rng.uniform(0.5, 1.5, 5)).T[..., None]
    w1, w2, w3, v2, v3 = rng.normal(size=(5, 32, 40))
    for _ in range(round(12 / rate / 0.05)):
        e3 = 1.5 - w3 * w2 * w1
        e2, e1 = v3 * e3, v2 * v3 * e3
        drives = a1 * e1, a2 * e2 * w1, a3 * e3 * w2 * w1, b2 * w1 * e2, b3 * w2 * w1 * e3
        ws = zip((w1, w2, w3, v2, v3), drives, strict=True)
        w1, w2, w3, v2, v3 = (w + 0.05 * (drive - rate * w) for w, drive in ws)
    learned = (np.abs(w3 * w2 * w1 - 1.5) < 0.75).any(1)
    np.testing.assert_array_equal(learned, consistent(signs))
    assert learned.sum() == 4


def test_both_signs_of_a_hidden_layer_are_one_rule():
    """a_2, b_3, V_3 and V_2 turned together change nothing but the names of the signs."""
    evolution = Evolution(inputs=4, hidden=(5, 3), outputs=2, units=4, length=1.0)
    (x,), (y,) = teachers(4, 2, 12, range(1))
    births = jax.tree.map(lambda w: w[0, 0], evolution._births((1, 1)))
    turned = births | {name: -births[name] for name in ("V2", "V3")}
    genes = np.random.default_rng(1).normal(size=5)
    pairs = ((genes, births), (genes * [1, -1, 1, 1, -1], turned))
    live = jax.jit(evolution._life)
    one, other = (np.concatenate([np.atleast_1d(v) for v in live(f64(g), w, x, y)]) for g, w in pairs)
    np.testing.assert_allclose(one, other, rtol=1e-9)
    assert np.isfinite(one).all()


def test_selection_for_learning_ends_at_consistent_signs():
    assert failed() == set()


def test_senseless_parameters_are_refused():
    with pytest.raises(PlasticodeError, match=r"evolving-signs.*cannot be parents"):
        configured(["evolving-signs"], {"parents": 9, "population": 8})


DEFECTS = {
    "feedback of the wrong sign": (rules.heterosynaptic, "Activity", lambda: Negative(Activity())),
    "genes that change nothing": (Times, "__call__", lambda self, local: self.of(local)),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_noticed(plant, defect):
    plant(*DEFECTS[defect])
    assert "others do not learn" in failed(generations=2)
