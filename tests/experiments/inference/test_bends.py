"""Intervals that the curvature at the estimate gives, held against where the likelihood falls."""

import numpy as np
import pytest

from experiments.inference.bends import bent, sides
from experiments.inference.scoring import Walk, advanced
from experiments.inference.verdicts import certainty
from tests.experiments.inference.test_scoring import curved

HELD = np.ones((4, 2), bool)


def told(bend, stretch=1.0):
    """Of a banana: residuals (x, y - bend x^2) of places (0.5 + x / 40, 0.5 + y / 40), x being stretched above 0."""

    def score(places):
        x, y = 40 * (places - 0.5).T
        slope = np.where(x > 0, stretch, 1.0)
        residuals = np.stack([slope * x, y - bend * x**2], axis=1)
        slopes = 40 * np.stack([np.stack([slope, 0 * x], 1), np.stack([-2 * bend * x, 1 + 0 * x], 1)], axis=1)
        said = curved(places)
        return said._replace(
            loss=(residuals**2).sum(axis=1) / 2,
            gradient=np.einsum("bm,bmp->bp", residuals, slopes),
            information=np.einsum("bmp,bmq->bpq", slopes, slopes),
        )

    (best,) = advanced(Walk.begun(np.full((1, 2), 0.5)), score, 1).ends()
    errors = certainty(best.information).errors
    places = sides(best, errors, [0, 1])
    np.testing.assert_allclose(places[:2, 0], 0.5 + np.array([-1, 1]) * 1.959964 / 40, rtol=1e-6)
    walk = advanced(Walk.begun(places, HELD), score, 4)
    assert walk.done.all()  # each place is scored once
    said, left = bent(best, errors, [0, 1], walk.ends())
    assert not left
    return said


@pytest.mark.parametrize("bend", [0, 0.3, 5])
def test_a_parabola_is_none_that_bends_and_a_valley_that_turns_neither(bend):
    """The likelihood along the valley is that of a parabola, whatever the way there."""
    assert told(bend) == {}


@pytest.mark.parametrize("stretch, size, fallen", [(0.6, "narrow", "0.69"), (1.5, "wide", "4.3")])
def test_what_falls_more_or_less_than_a_parabola_is_told(stretch, size, fallen):
    found = told(0, stretch)
    assert list(found) == [0]
    assert f"too {size} above the estimate, as the likelihood falls by {fallen} log units to its end" in found[0]
    assert "and not by 1.9: the profile that fit.profile asks for" in found[0]


@pytest.mark.parametrize("slope, said, left", [(100, [], [0, 1]), (10, [0], [])])
def test_far_from_the_valley_nothing_is_said(slope, said, left):
    """A step of the other number still promises slope^2 / 3200 of 10 log units."""
    (best,) = Walk.begun(np.full((1, 2), 0.5)).ends()
    best = best._replace(loss=0.0, information=1600 * np.eye(2))
    places = sides(best, np.full(2, 1 / 40), [0])
    ends = [best._replace(place=place, loss=10.0, gradient=np.array([0.0, slope])) for place in places]
    found = bent(best, np.full(2, 1 / 40), [0], ends)
    assert list(found[0]) == said and found[1] == left


def test_ends_of_the_range_are_ends_of_intervals():
    """Half an interval that is cut within a standard error says nothing."""
    (best,) = Walk.begun(np.array([[0.01, 0.5]])).ends()
    best = best._replace(information=np.diag([100.0, 0.0]))
    places = sides(best, np.array([0.1, np.inf]), [0, 1])
    np.testing.assert_allclose(places, [[0, 0.5], [0.01 + 0.1959964, 0.5], [0.01, 0.5], [0.01, 0.5]], rtol=1e-6)
    ends = [best._replace(place=place, loss=0.0) for place in places]
    said, _ = bent(best._replace(loss=0.0), np.array([0.1, np.inf]), [0, 1], ends)
    assert list(said) == [0] and "too narrow above" in said[0]
