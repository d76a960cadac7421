"""The rule of benchmarks.published_task is the polynomial that it says, and its sessions are those that rule makes."""

import jax
import numpy as np
import pytest

from benchmarks.published_task import RATE, TRUTH, animal, chosen, spec
from experiments.inference.model import model
from experiments.inference.table import read_fit
from experiments.spec.loading import make_spec

pytestmark = pytest.mark.usefixtures("unchecked_types")


def test_choices_follow_from_the_polynomial(tmp_path):
    """Of 18 coefficients at once, against a loop; and of the one that has made the session, against the session."""
    session, names = animal(3, 12), chosen("all")
    np.savez(tmp_path / "session.npz", inputs=session.inputs, targets=session.targets)
    made_spec = make_spec(spec(str(tmp_path / "session.npz"), 3, names))
    made = model(made_spec, read_fit(made_spec))
    drawn = np.random.default_rng(0).normal(size=len(names))
    rows = len(session.choice)
    told = jax.jit(jax.vmap(lambda place: made.predicted(place, rows, made.data)[0]["choice"]["logit"][:, 0]))
    places = [[one.place(x) for one, x in zip(made.free, values, strict=True)] for values in (drawn, np.zeros(18))]
    places[1][names.index(TRUTH)] = made.free[0].place(1.0)
    logits = np.asarray(told(np.array(places)))
    np.testing.assert_allclose(logits[1], session.logit, rtol=1e-9)
    w, expected = np.array(made.regime({}, made.data)[1]["W1"]), []
    for x, (gate, r) in zip(session.inputs, session.targets, strict=True):
        expected.append(5 * np.tanh(w @ x).mean())
        powers = [[int(name[at]) for at in (1, 3, 5)] for name in names]
        terms = [theta * x**a * r**b * w**c for theta, (a, b, c) in zip(drawn, powers, strict=True)]
        w = w + RATE * gate * sum(terms)
    np.testing.assert_allclose(logits[0], expected, rtol=1e-9)
