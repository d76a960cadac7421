"""Kolen-Pollack and heterosynaptic feedback: V follows W^T (or W^T M^T) at rate 1/tau_dec, an exact invariant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.errors import PlasticodeError
from dynamics.instruments import feedback_mismatch
from rules import KP, Heterosynaptic
from tests import oracles
from tests.problems import (
    PROBLEMS,
    TINY,
    clock,
    distance,
    flow,
    flow_drift,
    random_problem,
    random_weights,
    run,
    stream,
    timescales,
)

DEEP = PROBLEMS["depth-3-tanh"]  # with skip connections
SHALLOW = random_problem((3, 4, 2), bias=False)


def shrinkage(mismatch, circuit, start, end):
    """|V - W^T| at the end over that at the start, one number per feedback matrix."""
    before, after = mismatch(circuit, start), mismatch(circuit, end)
    assert before.keys() == after.keys() and before
    return np.array([after[name] / before[name] for name in before])


def heterosynaptic_mismatch(circuit, weights):
    """|V - W^T M^T| of a network of depth 2."""
    return {"V2": jnp.linalg.norm(weights["V2"] - weights["W2"].T @ weights["M2"].T)}


@pytest.mark.parametrize(
    ("rule", "problem", "mismatch"),
    [
        (KP(), DEEP, feedback_mismatch),
        (Heterosynaptic(wiring="identity"), SHALLOW, heterosynaptic_mismatch),
        (Heterosynaptic(feedback_units=5), SHALLOW, heterosynaptic_mismatch),
    ],
    ids=["kp", "heterosynaptic-identity", "heterosynaptic-random"],
)
def test_the_mismatch_decays_exponentially_in_the_weight_flow(rule, problem, mismatch):
    """exp(-t/tau_dec) for t = 1.5 tau_dec, with the second order of Heun; alignment is then complete at late times."""
    circuit = rule.wire(problem.network)
    weights, times = random_weights(circuit), timescales(plasticity=1.0, decay=2.0)

    def shrinkage_at(time, steps):
        end = run(flow(circuit, problem, times, clock(time / steps)), weights, steps)
        return shrinkage(mismatch, circuit, weights, end)

    coarse, fine = (np.abs(shrinkage_at(3.0, steps) - np.exp(-1.5)) for steps in (20, 40))
    assert ((3.6 < coarse / fine) & (coarse / fine < 4.4)).all() and fine.max() < 1e-3
    assert (shrinkage_at(60.0, 1000) < 1e-12).all()


@pytest.mark.parametrize("trace", [None, 0.03], ids=["no trace", "eligibility trace"])
@pytest.mark.parametrize("gap", [0.0, 0.04])
def test_kolen_pollack_mirrors_exactly_in_the_coupled_regime(trace, gap):
    """Each Euler step multiplies V - W^T by 1 - dt/tau_dec, whatever activities, errors and traces do meanwhile."""
    circuit = KP().wire(DEEP.network)
    weights = random_weights(circuit)
    steps, presentations, decay = 25, 40, 2.0
    time = clock(0.1, gap, steps)
    times = timescales(propagation=0.01, plasticity=0.1, decay=decay, trace=trace)
    end = run(Coupled(circuit, times, stream(DEEP), time), weights, presentations)
    measured = shrinkage(feedback_mismatch, circuit, weights, end)
    ratio, count = float(time.dt) / decay, steps * presentations
    np.testing.assert_allclose(measured, (1 - ratio) ** count, rtol=1e-10)
    np.testing.assert_allclose(measured, np.exp(-ratio * count), rtol=ratio * ratio * count)
    learned = end["W2"] - (1 - ratio) ** count * weights["W2"]
    assert jnp.linalg.norm(learned) > 0.1  # so that there was something to mirror


def test_heterosynaptic_learning_with_identity_wiring_is_kolen_pollack():
    """All drifts, from any V; hence the same flow."""
    kp, heterosynaptic = KP().wire(DEEP.network), Heterosynaptic(wiring="identity").wire(DEEP.network)
    weights = random_weights(kp)
    wired = weights | {name: w for name, w in random_weights(heterosynaptic).items() if name.startswith("M")}
    times = timescales(decay=2.0)
    assert distance(flow_drift(kp, weights, DEEP, times), flow_drift(heterosynaptic, wired, DEEP, times)) < 1e-15


def test_aligned_random_wiring_descends_the_loss_in_the_metric_of_the_wiring():
    """With V = W^T M^T the learning signal is f' * W^T M^T M e, so W1 and b1 follow the gradient of |M e|^2 / 2."""
    circuit = Heterosynaptic(feedback_units=5).wire(TINY.network)
    weights = random_weights(circuit)
    wiring = weights["M2"]
    weights["V2"] = weights["W2"].T @ wiring.T
    drift = flow_drift(circuit, weights, TINY)

    hidden = jnp.tanh(TINY.inputs @ weights["W1"].T + weights["b1"].T)
    error = TINY.targets - hidden @ weights["W2"].T - weights["b2"].T
    signal = (1 - hidden**2) * (error @ (weights["W2"].T @ wiring.T @ wiring).T)
    assert distance({"W1": drift["W1"]}, {"W1": signal.T @ TINY.inputs / len(TINY.inputs)}) < 1e-14

    def weighted_loss(w):
        missing = TINY.targets - oracles.forward(TINY.network, w, TINY.inputs)
        return jnp.mean(jnp.sum((missing @ wiring.T) ** 2, axis=1)) / 2

    gradient = jax.grad(weighted_loss)(weights)
    first_layer = ("W1", "b1")
    assert distance({n: drift[n] for n in first_layer}, {n: -gradient[n] for n in first_layer}) < 1e-14


def test_the_random_wiring_has_the_identity_as_mean_square():
    """<M^T M> = I: the mean over 4000 feedback units, whose standard error is sqrt(2/4000) = 0.022."""
    circuit = Heterosynaptic(feedback_units=4000).wire(SHALLOW.network)
    wiring = circuit.initial_weights(jax.random.key(0))["M2"]
    np.testing.assert_allclose(wiring.T @ wiring, np.eye(2), atol=0.1)


@pytest.mark.parametrize(("units", "shapes"), [(0, [(2, 2), (4, 2)]), (5, [(5, 2), (4, 5)])])
def test_the_feedback_population_has_as_many_units_as_asked_for(units, shapes):
    weights = Heterosynaptic(feedback_units=units).wire(SHALLOW.network).initial_weights(jax.random.key(0))
    assert [weights["M2"].shape, weights["V2"].shape] == shapes


def test_identity_wiring_refuses_another_number_of_feedback_units():
    with pytest.raises(PlasticodeError, match=r"rule.feedback_units = 5 is not allowed.*needs 2"):
        Heterosynaptic(wiring="identity", feedback_units=5).wire(SHALLOW.network)


def test_feedback_units_must_not_be_negative():
    with pytest.raises(PlasticodeError, match=r"rule.feedback_units = -1 is not allowed"):
        Heterosynaptic(feedback_units=-1).wire(SHALLOW.network)
