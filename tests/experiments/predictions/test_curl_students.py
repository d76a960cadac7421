"""Predictions of curl descent from anywhere: against the published updates by hand, and small."""

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.curl.dale import DaleRecurrent
from experiments.predictions.curl.students import Protocol, Setting, arrivals, error_courses

SLOPES = {"linear": lambda z: np.ones_like(z), "relu": lambda z: 1.0 * (z > 0), "tanh": lambda z: 1 - z**2}
PHI = {"linear": lambda a: a, "relu": lambda a: np.maximum(a, 0), "tanh": np.tanh}


def by_hand(protocol, setting, flips, seed, steps):
    """The published update of seed 0: delta2 = e without a slope, presynaptic signs, norms restored."""
    rng, m, n = np.random.default_rng([seed, 0]), protocol.inputs, protocol.hidden
    t1, t2 = (setting.teacher * rng.uniform(-1, 1, s) / s[1] ** 0.5 for s in ((n, m), (1, n)))
    w1, w2 = (setting.student * rng.uniform(-1, 1, s) / s[1] ** 0.5 for s in ((n, m), (1, n)))
    phi, slope = PHI[protocol.activation], SLOPES[protocol.activation]
    x, tested = (rng.normal(0, 0.5**0.5, (k, m)) for k in (setting.samples, protocol.tested))
    y, wanted = (phi(phi(v @ t1.T) @ t2.T) for v in (x, tested))
    signs = [np.where(np.arange(k) < np.floor(f * k + 0.5), -1.0, 1.0) for f, k in zip(flips, (m, n), strict=True)]
    norms = np.linalg.norm(w1), np.linalg.norm(w2)
    for _ in range(steps):
        z = phi(x @ w1.T)
        e = y - phi(z @ w2.T)
        d1 = ((e @ w2) * slope(z)).T @ x / len(x) * signs[0]
        d2 = e.T @ z / len(x) * signs[1]
        if protocol.clamp:  # along the sphere, then back onto it
            d1, d2 = (d - w * np.sum(d * w) / np.sum(w * w) for d, w in ((d1, w1), (d2, w2)))
        w1, w2 = w1 + protocol.step * d1, w2 + protocol.step * d2
        if protocol.clamp:
            w1, w2 = w1 * norms[0] / np.linalg.norm(w1), w2 * norms[1] / np.linalg.norm(w2)
    return 0.5 * np.mean(np.sum((wanted - phi(phi(tested @ w1.T) @ w2.T)) ** 2, 1))


@pytest.mark.parametrize(("activation", "clamp"), [("tanh", True), ("relu", False), ("linear", True)])
def test_students_take_the_published_steps(activation, clamp):
    protocol = Protocol(5, 4, activation, clamp, step=0.3, time=3.0, every=5, tested=7)
    settings, flips = [Setting(6, 2.0, 1.0), Setting(9, 1.0, 0.5)], np.array([[0.0, 0.25], [0.4, 0.0]])
    found = error_courses(protocol, settings, flips, seed=3, seeds=1)
    assert found.shape == (2, 1, 2, 2)
    # The second draw of inputs is that of as many as the largest setting has: only it is the same by hand.
    for pair, flip in enumerate(flips):
        for record in (0, 1):
            expected = by_hand(protocol, settings[1], flip, 3, 5 * (record + 1))
            assert found[1, 0, pair, record] == pytest.approx(expected, rel=1e-10)
    alone = error_courses(protocol, settings[:1], flips, seed=3, seeds=1)
    assert by_hand(protocol, settings[0], flips[1], 3, 10) == pytest.approx(alone[0, 0, 1, 1], rel=1e-10)


def test_fewer_samples_are_not_smaller_steps():
    """Zeros behind the samples of a setting leave its means as they are: tested on the samples themselves."""
    protocol = Protocol(3, 4, "tanh", True, step=0.3, time=3.0, every=5, tested=1000)
    alone = error_courses(protocol, [Setting(400, 1.0, 1.0)], np.zeros((1, 2)), 0, 4)
    beside = error_courses(protocol, [Setting(400, 1.0, 1.0), Setting(800, 1.0, 1.0)], np.zeros((1, 2)), 0, 4)
    np.testing.assert_allclose(np.log(beside[0] / alone[0]), 0, atol=0.3)  # other test samples, the same course
    assert np.abs(np.log(beside[0, ..., -1] / beside[0, ..., 0])).max() > 0.3


def test_arrivals_are_the_first_record_below_or_the_end():
    protocol = Protocol(1, 1, "linear", True, step=0.5, time=4.0, every=2, tested=1)
    times = arrivals(np.array([[1.0, 0.1, 1.0, 0.1], [1.0, 1.0, 1.0, 1.0]]), 0.5, protocol)
    np.testing.assert_array_equal(times, [2.0, 4.0])


@pytest.mark.parametrize("seed", [0, 1])
def test_curl_and_work_of_recurrent_plasticity_are_those_of_matrices_written_out(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 6))
    p = DaleRecurrent(neurons=n, side=float(rng.uniform(0.2, 1)), inhibitory=(0.0, 0.5))
    x, w = rng.normal(size=(7, n)), rng.normal(size=(n, n))
    signs = p.signs(0.5)

    def drift(w):
        return np.einsum("si,sj->ij", x + x * signs @ w.T, x) / len(x)

    base = drift(w).ravel()
    jacobian = np.stack([drift(w + e.reshape(n, n)).ravel() - base for e in np.eye(n * n)], 1)
    corners = [np.zeros((n, n)) for _ in range(4)]
    corners[1][0, 0] = corners[2][0, 0] = corners[2][0, -1] = corners[3][0, -1] = p.side
    loop = [*corners, corners[0]]
    work = sum(np.sum((drift(w + a) + drift(w + b)) / 2 * (b - a)) for a, b in zip(loop[:-1], loop[1:], strict=True))
    curl, expected, values = p.expected(0.5, x)
    assert curl == pytest.approx(np.linalg.norm(jacobian - jacobian.T) / np.linalg.norm(jacobian + jacobian.T))
    assert expected == pytest.approx(work) and abs(work) > 1e-3
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(jacobian).real)[::n], values, atol=1e-6)
    assert (values < 0).sum() == (signs < 0).sum()


def test_plasticity_of_recurrent_networks_is_as_claimed():
    p = DaleRecurrent(neurons=3, samples=5, inhibitory=(0.0, 0.34), seeds=20)
    assert [(v.name, v.measured, v.note) for v in p.measure().verdicts if not v.passed] == []


def test_parameters_that_make_no_sense_are_refused():
    for name, settings in (
        ("curl-dale", {"neurons": 2}),
        ("curl-dale", {"inhibitory": (0.5,)}),
        ("curl-dale", {"inhibitory": (0.0,)}),
        ("curl-dale", {"inhibitory": (0.5, 0.0)}),
        ("curl-dale", {"inhibitory": (0.0, 0.01)}),
        ("curl-student-scale", {"step": 2.0}),
        ("curl-trained-errors", {"ratios": (0.1,)}),
    ):
        with pytest.raises(PlasticodeError):
            prediction_class(name).configured(name, settings)
