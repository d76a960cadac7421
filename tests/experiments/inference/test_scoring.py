"""Fisher scoring on functions with known optima, and what a fit may claim of information with known eigenvalues."""

import numpy as np
import pytest

from dynamics.information import Scored
from experiments.inference.coordinates import Coordinate
from experiments.inference.scoring import End, Walk, advanced, spread
from experiments.inference.verdicts import certainty, direction_text, misfit, sentences, verdicts

CENTRE = np.array([0.3, 0.7])
SLOPES = np.array([[40.0, 0.0], [30.0, 10.0], [5.0, -20.0]])


def curved(places, centre=CENTRE):
    """Half the squared size of residuals that bend: least where they are all 0, at the centre."""
    moved = places - centre
    residuals = moved @ SLOPES.T + 5 * moved[:, :1] * moved[:, 1:]
    slopes = SLOPES[None] + 5 * moved[:, None, ::-1]
    return Scored(
        (residuals**2).sum(1) / 2,
        np.einsum("bm,bmp->bp", residuals, slopes),
        np.einsum("bmp,bmq->bpq", slopes, slopes),
    )


def ascend(score, starts, batch, held=None):
    """The ends of all starts."""
    walk = Walk.begun(starts, held)
    while not walk.done.all():
        walk = advanced(walk, score, batch)
    return walk.ends()


def test_every_start_comes_to_the_optimum_in_batches_that_are_always_full():
    sizes = []

    def score(places):
        sizes.append(len(places))
        return curved(places)

    ends = ascend(score, spread(11, 2, 0), batch=4)
    assert set(sizes) == {4} and len(sizes) <= sum(end.scores for end in ends) / 4 + 2
    assert all(end.converged for end in ends)
    np.testing.assert_allclose([end.place for end in ends], [CENTRE] * 11, atol=1e-3)


def test_a_bound_holds_and_the_others_move_on():
    ends = ascend(lambda places: curved(places, np.array([1.2, 0.5])), spread(3, 2, 0), batch=3)
    best = min(curved(np.stack([np.ones(101), np.linspace(0, 1, 101)], 1), np.array([1.2, 0.5])).loss)
    for end in ends:
        assert end.converged and end.place[0] == 1 and end.loss <= best


@pytest.mark.parametrize("gradient, converged", [(1.0, True), (10.0, False)])
def test_what_promised_little_and_was_no_better_is_an_optimum(gradient, converged):
    """Within the error of an integrator a likelihood need not grow where its gradient says so."""
    calls = []

    def score(places):  # a step promises gradient^2 / 200 log units
        calls.append(len(places))
        one = curved(np.full((1, 2), 0.5))
        loss, slope, known = np.full(1, len(calls)), np.array([[gradient, 0.0]]), 100 * np.eye(2)[None]
        return one._replace(loss=loss, gradient=slope, information=known)

    (end,) = ascend(score, np.array([[0.5, 0.5]]), 1)
    assert end.converged == converged and (end.scores == 2) == converged
    assert end.place.tolist() == [0.5, 0.5] and end.loss == 1


def test_numbers_that_are_held_stay():
    starts = np.array([[0.5, 0.1], [0.1, 0.5]])
    ends = ascend(curved, starts, 2, np.array([[True, False], [False, True]]))
    assert ends[0].place[0] == 0.5 and ends[1].place[1] == 0.5
    line = curved(np.stack([np.full(1001, 0.5), np.linspace(0, 1, 1001)], 1)).loss
    assert ends[0].converged and ends[0].loss <= line.min()


def test_a_start_without_a_likelihood_ends_and_costs_no_other():
    def score(places):
        said = curved(places)
        return said._replace(loss=np.where(places[:, 0] > 0.9, np.nan, said.loss))

    ends = ascend(score, np.array([[0.95, 0.5], [0.5, 0.5]]), 2)
    assert [end.converged for end in ends] == [False, True] and ends[0].scores == 1


def numbers(*paths, is_log=True):
    return [Coordinate(path, 0.1, 10.0, is_log, False, None, None) for path in paths]


def information(*directions):
    """That of data which know each of these directions in the box, and nothing else."""
    known = np.asarray(directions)
    return known.T @ known


def test_two_numbers_that_act_as_one_are_named():
    known = certainty(information([300.0, -300.0, 0], [0, 0, 50.0]))  # only the ratio of the first two is seen
    assert np.isinf(known.errors[:2]).all() and np.isclose(known.errors[2], 1 / 50)
    (direction,) = known.null
    told = direction_text(numbers("tau", "scale", "lag"), direction)
    assert told == "tau is multiplied by 2 and scale is multiplied by 2"


def test_two_that_are_hard_to_tell_apart_are_not_called_one():
    known = certainty(information([300.0, -300.0], [1.0, 1.0]))  # a correlation of 0.99998
    assert not known.null and np.isfinite(known.errors).all()
    assert known.correlation[0, 1] > 0.999


def test_what_was_not_seen_at_all_has_no_error():
    known = certainty(information([30.0, 0]))
    assert np.isclose(known.errors[0], 1 / 30) and np.isinf(known.errors[1])


def end(place, loss=0.0, told=((100.0, 0), (0, 100.0))):
    return End(np.zeros(2), np.array(place), loss, np.zeros(2), information(*told), 3, True)


@pytest.mark.parametrize(
    "best, others, expected",
    [
        (end([0.4, 0.5]), [end([0.41, 0.5], 0.1)], ["identified", "identified"]),
        (end([0.4, 1.0]), [], ["identified", "at-bound"]),
        (end([0.4, 0.5]), [end([0.9, 0.5], 1.0)], ["starts-disagree", "identified"]),
        (end([0.4, 0.5]), [end([0.9, 0.5], 5.0)], ["identified", "identified"]),
        (end([0.4, 0.5], told=((100, 0), (0, 3))), [], ["identified", "not-identified"]),
        (end([0.4, 0.5], told=((100, 100),)), [end([0.6, 0.3])], ["not-identified", "not-identified"]),
    ],
    ids=["near", "bound", "rivals", "worse", "wide", "one"],
)
def test_verdicts(best, others, expected):
    found = verdicts(numbers("a", "b"), best, [best, *others], certainty(best.information), {})
    assert [one.verdict for one in found] == expected


def test_residuals_that_are_too_large_or_remember_are_a_misfit():
    draws = np.random.default_rng(0).normal(size=(400, 3))
    good = misfit(draws, np.full(draws.shape, 2.0), False, 3)
    large = misfit(1.2 * draws, np.full(draws.shape, 2.0), False, 3)
    slow = misfit((draws + np.roll(draws, 1, 0)) / np.sqrt(2), np.full(draws.shape, 2.0), True, 3)
    assert not good.found and slow.size is None
    assert (large.size or 0) > 4 and abs(large.memory or 0) < 3 and (slow.memory or 0) > 8
    best = end([0.4, 0.5])
    found = verdicts(numbers("a", "b"), best, [best], certainty(best.information), {"z1": slow})
    assert [one.verdict for one in found] == ["misfit", "misfit"]
    assert "more alike from one presentation to the next" in sentences([], [], {"z1": slow})[0]
