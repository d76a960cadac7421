"""Presentations of different durations and gaps, against an independent integration of the same equations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.integrators import Adaptive, FixedStep, Window
from dynamics.observe import observe
from dynamics.stimulus import Stream
from rules import FA
from tests.problems import clock, f64, random_problem, random_weights, timescales

PROBLEM = random_problem((3, 4, 2), bias=False, samples=4)
CIRCUIT = FA(f64(1.0)).wire(PROBLEM.network)
WEIGHTS = random_weights(CIRCUIT)
DURATIONS, GAPS = [0.05, 0.02, 0.09, 0.033], [0.01, 0.0, 0.03, 0.02]
ORDER = [2, 0, 1, 1, 3]
PROPAGATION, PLASTICITY, LAG = 0.01, 0.4, 0.015
SHOWN = Stream(
    PROBLEM.inputs, PROBLEM.targets, jax.random.key(0), shown=jnp.asarray(ORDER), durations=DURATIONS, gaps=GAPS
)


def integrated(stages):
    """Weights at the end, by Runge and Kutta: the output error is late by a chain of filters."""
    names, shapes = ("W1", "W2"), ((4, 3), (2, 4))
    v2 = np.asarray(WEIGHTS["V2"])
    sizes = [12, 8, 4, 2, 4, 2, 2 * stages]

    def parted(y):
        w1, w2, a1, a2, e1, e2, chain = np.split(y, np.cumsum(sizes)[:-1])
        return w1.reshape(4, 3), w2.reshape(2, 4), a1, a2, e1, e2, chain.reshape(stages, 2)

    def slope(_, y, x, target, told):
        w1, w2, z1, z2, e1, e2, chain = parted(y)
        compared = told * (target - z2)
        late = chain[-1] if stages else compared
        before = np.concatenate([compared[None], chain[:-1]]) if stages else chain
        moved = (before - chain) * (stages / LAG)
        back = (1 - np.tanh(w1 @ x) ** 2) * (v2 @ e2)
        rates = [np.outer(e1, x) / PLASTICITY, np.outer(e2, z1) / PLASTICITY]
        rates += [(u - now) / PROPAGATION for u, now in ((np.tanh(w1 @ x), z1), (w2 @ z1, z2), (back, e1), (late, e2))]
        return np.concatenate([np.ravel(rate) for rate in (*rates, moved)])

    y = np.concatenate([np.ravel(np.asarray(WEIGHTS[n])) for n in names] + [np.zeros(sum(sizes[2:]))])
    for k in ORDER:
        x, target = np.asarray(PROBLEM.inputs[k]), np.asarray(PROBLEM.targets[k])
        for seconds, on in ((DURATIONS[k], 1.0), (GAPS[k], 0.0)):
            if seconds:
                y = solve_ivp(slope, (0, seconds), y, args=(on * x, target, on), rtol=1e-9, atol=1e-11).y[:, -1]
    return dict(zip(names, parted(y)[:2], strict=True)), shapes


def run(integrator, stages, steps=14):
    times = timescales(PROPAGATION, PLASTICITY)
    delays = Delays(error=f64(LAG), stages=stages) if stages else Delays()
    return Coupled(CIRCUIT, times, SHOWN, clock(0.05, 0.01, steps), delays, integrator=integrator)


@pytest.mark.parametrize(
    "integrator, stages, steps, tolerance",
    [
        (Window(nodes=10, parts=1, gaps=True), 2, 10, 2e-4),
        (FixedStep("heun"), 2, 100, 2e-3),
        (Adaptive(f64(1e-8), f64(1e-10)), 0, 14, 1e-6),
    ],
    ids=["windows", "steps", "adaptive"],
)
def test_trials_last_as_long_as_they_did(integrator, stages, steps, tolerance):
    regime, (expected, _) = run(integrator.unjudged(), stages, steps), integrated(stages)
    end = jax.jit(lambda r: r.weights(r.advance(r.init(WEIGHTS), jnp.int32(0), len(ORDER))))(regime)
    for name, value in expected.items():
        moved = np.linalg.norm(value - WEIGHTS[name])
        assert np.linalg.norm(end[name] - value) < tolerance * moved
        assert moved > 0.02


def test_updates_are_as_large_as_trials_are_long():
    regime = Discrete(CIRCUIT, timescales(PROPAGATION, PLASTICITY), SHOWN, clock(0.05))
    state = regime.advance(regime.init(WEIGHTS), jnp.int32(0), 3)
    by_hand = regime.init(WEIGHTS)
    for k, sample in enumerate(ORDER[:3]):
        plain = dataclasses.replace(SHOWN, durations=None, gaps=None)
        alone = Discrete(CIRCUIT, regime.timescales, plain, clock(DURATIONS[sample], GAPS[sample]))
        by_hand = alone.advance(by_hand, jnp.int32(k), 1)
    np.testing.assert_allclose(state.weights["W1"], by_hand.weights["W1"], rtol=1e-12)


@pytest.mark.parametrize(
    "changes, told",
    [
        (dict(durations=[0.1, 0.1, 0.1]), "durations has shape \\(3,\\): it must have one number for each of 4"),
        (dict(durations=[0.1, 0.0, 0.1, 0.1]), "durations must be a number of seconds for each sample, finite and pos"),
        (dict(gaps=[0.1, -0.1, 0.1, 0.1]), "gaps must be a number of seconds for each sample, finite and not neg"),
    ],
)
def test_durations_that_cannot_be_are_told_in_a_sentence(changes, told):
    with pytest.raises(PlasticodeError, match=told):
        Stream(PROBLEM.inputs, PROBLEM.targets, jax.random.key(0), **changes)


def test_constant_lags_are_refused_where_trials_differ():
    with pytest.raises(PlasticodeError, match="not allowed with constant lags: delays.stages must be at least 1"):
        Coupled(CIRCUIT, timescales(0.01, 0.4), SHOWN, clock(0.05, 0.01, 14), Delays(error=f64(LAG)))


def test_what_is_seen_comes_at_its_time_and_after_the_end_is_the_end():
    """From silence z1 goes to its input by 1 - exp(-t / tau): sample 2 lasts 0.12 s in all, sample 0 0.06 s."""
    steps = FixedStep("heun").unjudged()
    slow = Coupled(CIRCUIT, timescales(0.01, 1e9), SHOWN, clock(0.05, 0.01, 200), integrator=steps)
    seen = observe(slow, ["z1"], [0, 1], np.array([0.02, 0.06, 0.1]), WEIGHTS).seen["z1"]
    settled = np.tanh(np.asarray(WEIGHTS["W1"]) @ np.asarray(PROBLEM.inputs[2]))
    rise = settled * (1 - np.exp(-9))
    expected = [settled * (1 - np.exp(-t / 0.01)) for t in (0.02, 0.06)] + [rise * np.exp(-1)]
    np.testing.assert_allclose(seen[0], expected, atol=2e-3)
    np.testing.assert_allclose(seen[1, 1], seen[1, 2], rtol=1e-9)
