"""What is said of a number of which a recording says little: with which other number it is known only together."""

import numpy as np
import pytest

from experiments.inference.coordinates import Coordinate
from experiments.inference.scoring import End
from experiments.inference.verdicts import certainty, verdicts


def said(information, priors=(None,) * 4):
    """The verdicts on four numbers from -1 to 1, and why."""
    free = [
        Coordinate(f"rule.{name}", -1.0, 1.0, False, False, prior, 0.0)
        for name, prior in zip("abcd", priors, strict=True)
    ]
    middle = np.full(4, 0.5)
    end = End(middle, middle, 0.0, np.zeros(4), information, 1, True)
    return [(one.verdict, one.why) for one in verdicts(free, end, [end], certainty(information), {})]


def test_two_degeneracies_at_once_are_told_apart():
    """Any mixture of the two directions would do as well, and name all four numbers."""
    pair = 1e4 * np.array([[1.0, 2.0], [2.0, 4.0]])
    told = said(np.kron(np.eye(2), pair))
    assert {verdict for verdict, _ in told} == {"not-identified"}
    for (first, second), reasons in (("ab", told[:2]), ("cd", told[2:])):
        for _, why in reasons:
            assert why == f"the data stay the same when rule.{first} changes by +0.2 and rule.{second} changes by -0.1"


@pytest.mark.parametrize("sd, verdict", [(0.2, "not-identified"), (2.0, "identified")])
def test_a_number_of_which_a_recording_says_less_than_its_prior_is_not_identified_by_it(sd, verdict):
    """Errors are 0.2; a and b are known by their sum."""
    pair = np.array([[3500.0, 3450.0], [3450.0, 3500.0]])
    information = np.zeros((4, 4))
    information[:2, :2], information[2:, 2:] = pair, 1e4 * np.eye(2)
    told = said(information, ((0.0, sd), (0.0, sd), None, None))
    assert [one for one, _ in told] == [verdict] * 2 + ["identified"] * 2
    why = "what is known of it is for the most its prior; its error is tied to that of rule.b (correlation -0.99)"
    assert told[0][1] == (why if verdict == "not-identified" else "")
