"""Students of curl descent that start anywhere: small, and planted defects."""

from typing import Any

import numpy as np
import pytest

from dynamics.circuit import Signed
from dynamics.errors import PlasticodeError
from experiments.predictions import configured
from experiments.predictions.curl import onsets
from experiments.predictions.curl.matrices import clamped_error_matrix
from experiments.spec.units import Time
from tests.experiments.predictions.verdicts import failed

SMALL: dict[str, Any] = {"units": (53,), "seeds": 44, "time": Time(200.0)}


def small(**settings: Any) -> Any:
    """The prediction, cheap."""
    return configured(["curl-early-onset"], SMALL | settings)["curl-early-onset"]


def test_students_that_start_anywhere_fail_early():
    finding = small().measure()
    assert failed(finding) == set() and len(finding.verdicts) == 3, finding.verdicts


def test_flips_are_clearly_below_the_boundary():
    p = small(ratio=0.3, units=(60,))
    np.testing.assert_array_equal(p.flips(60), [1, 2, 3, 4, 5, 6])  # of 14, and alpha* is 0.559
    with pytest.raises(PlasticodeError, match="units must be so many"):
        small(ratio=0.6)


def test_signs_that_a_law_forgets_leave_no_early_onset(plant):
    plant(Signed, "__call__", lambda factor, local: factor.of(local))
    assert any("left of the boundary" in name for name in failed(small(seeds=8).measure()))


def test_matrices_with_twice_the_flips_shift_to_the_left(monkeypatch):
    wrong = lambda w1, w2, flipped, units: clamped_error_matrix(w1, w2, min(3 * flipped, w1.shape[1]), units)  # noqa: E731
    p = small()
    star, right = 0.2824, p._onsets(53)
    monkeypatch.setattr(onsets, "clamped_error_matrix", wrong)
    shifted = p._onsets(53)
    assert onsets.located(right, 14).mean() > star > onsets.located(shifted, 14).mean()
