"""Orders of samples, sequences of frames, and targets that are not always told, in every regime."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError
from dynamics.integrators import Adaptive
from dynamics.network import Network
from dynamics.order import ORDERS
from dynamics.sequences import responses
from dynamics.stimulus import Stream, looked_up
from rules import FA, SGD, NodePerturbation
from tests.problems import ENGINE_RULES, clock, distance, f64, random_problem, random_weights, run, timescales, wired
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

FRAMES, SEQUENCES, INPUTS, OUTPUTS = 3, 4, 3, 2
PROBLEM = random_problem((INPUTS, 4, OUTPUTS), samples=FRAMES * SEQUENCES, activation="tanh", bias=False)
AT_END = f64(np.tile([0.0, 0.0, 1.0], SEQUENCES))
KEY = jax.random.key(5)


def sequences(order="shuffled", told: Any = AT_END) -> Stream:
    return Stream(PROBLEM.inputs, PROBLEM.targets, KEY, order, FRAMES, told)


def shown(order: str, samples: int, count: int, key=KEY) -> np.ndarray:
    one = jax.jit(jax.vmap(lambda k: ORDERS[order](key, k, samples)))
    return np.asarray(one(jnp.arange(count, dtype=jnp.int32))).astype(int)


@pytest.mark.parametrize("samples", [1, 2, 7, 100, 1437])
def test_an_epoch_of_a_shuffle_has_every_sample_once(samples):
    epochs = shown("shuffled", samples, 3 * samples).reshape(3, samples)
    assert (np.sort(epochs, axis=1) == np.arange(samples)).all()
    assert samples < 100 or len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize(("samples", "epochs"), [(4, 4800), (60, 4000)])
def test_a_shuffle_is_a_uniform_permutation(samples, epochs):
    """Of four samples all 24 orders are as frequent; of sixty, every sample in every place, and every distance between
    one and the next: sums of squares are those of chance within 4 standard deviations of chi squared."""
    order = shown("shuffled", samples, epochs * samples).reshape(epochs, samples)
    if samples == 4:
        counts = np.unique(order, axis=0, return_counts=True)[1]
        tables = [(counts, math.factorial(samples), math.factorial(samples) - 1)]
    else:
        places = np.stack([np.bincount(column, minlength=samples) for column in order.T])
        next_ones = np.bincount(((order[:, 1:] - order[:, :-1]) % samples).ravel(), minlength=samples)[1:]
        tables = [(places, samples**2, (samples - 1) ** 2), (next_ones, samples - 1, samples - 2)]
    for counts, cells, freedom in tables:
        expected = counts.sum() / cells
        chi = (np.square(counts - expected) / expected).sum()
        assert counts.size == cells and abs(chi - freedom) < 4 * math.sqrt(2 * freedom)


def test_orders_are_what_their_names_say():
    assert shown("sequential", 3, 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
    random = shown("random", 5, 4000)
    assert abs(np.bincount(random) - 800).max() < 4 * math.sqrt(800) and (random[:5] != shown("shuffled", 5, 5)).any()
    assert (shown("shuffled", 50, 50) != shown("shuffled", 50, 50, jax.random.key(6))).any()


@pytest.mark.parametrize("order", ORDERS)
def test_the_frames_of_a_sequence_stay_together(order):
    stream = sequences(order)
    rows = [int(stream.index(jnp.int32(k))) for k in range(4 * FRAMES)]
    chosen = [int(ORDERS[order](KEY, jnp.int32(i), SEQUENCES)) for i in range(4)]
    assert rows == [FRAMES * sequence + frame for sequence in chosen for frame in range(FRAMES)]


def simulated(circuit, weights, shown, told, tau_prop, tau_plast, duration, lag, steps):
    """The same network and feedback alignment in NumPy: Heun steps, the error `lag` late by the steps of the past."""
    w1, w2, v = (np.asarray(weights[name]) for name in ("W1", "W2", "V2"))
    x, y = np.asarray(PROBLEM.inputs), np.asarray(PROBLEM.targets)
    dt, late = duration / steps, round(lag * steps / duration)
    z1, z2, e1, e2 = np.zeros(w1.shape[0]), np.zeros(w2.shape[0]), np.zeros(w1.shape[0]), np.zeros(w2.shape[0])
    past = [z2]  # of the output, step by step

    def drift(state, i, ahead):
        z1, z2, e1, e2, w1, w2 = state
        then = i - late  # what the error is of: the target within this step, the output at its start or end
        c = np.zeros_like(z2)
        if then >= 0 and told[(k := shown[then // steps])]:
            c = y[k] - (past[then + ahead] if late else z2)
        a1, now = w1 @ x[shown[i // steps]], np.tanh
        fast = (-z1 + now(a1), -z2 + w2 @ z1, -e1 + (1 - now(a1) ** 2) * (v @ e2), -e2 + c)
        slow = (np.outer(e1, x[shown[i // steps]]), np.outer(e2, z1))
        return [f / tau_prop for f in fast] + [s / tau_plast for s in slow]

    state = [z1, z2, e1, e2, w1, w2]
    for i in range(len(shown) * steps):
        first = drift(state, i, 0)
        middle = [s + dt * d for s, d in zip(state, first, strict=True)]
        last = drift(middle, i, 1)
        state = [s + dt / 2 * (a + b) for s, a, b in zip(state, first, last, strict=True)]
        past.append(state[1])
    return {"W1": state[4], "W2": state[5]}


@pytest.mark.parametrize("lag", [0.0, 0.16], ids=["at once", "later than a frame"])
def test_sequences_by_windows_and_by_steps_are_an_independent_simulation(lag):
    """Targets at the end alone; a lag of 1.6 frames, so that the error arrives while another sequence is shown."""
    circuit, duration = wired(FA(), PROBLEM.network), 0.1
    weights, stream = random_weights(circuit), sequences()
    common = circuit, timescales(0.01, 0.6), stream
    late = Delays(error=f64(lag)) if lag else Delays()
    windows = Coupled(*common, clock(duration), late, integrator=Window(tolerance=1e-6))
    steps = Coupled(*common, clock(duration, steps=400), late, integrator=FixedStep("heun"))
    adaptive = Coupled(*common, clock(duration), integrator=Adaptive())
    count = 4 * FRAMES
    order = [int(stream.index(jnp.int32(k))) for k in range(count)]
    by_windows, by_steps = (run(one, weights, count) for one in (windows, steps))
    coarse, fine = (
        simulated(circuit, weights, order, np.asarray(AT_END) > 0, 0.01, 0.6, duration, lag, n) for n in (200, 400)
    )
    for name, start in (("W1", weights["W1"]), ("W2", weights["W2"])):
        truth = fine[name] + (fine[name] - coarse[name]) / 3
        moved = np.linalg.norm(truth - start)
        assert moved > 0.1
        assert np.linalg.norm(by_windows[name] - truth) < 1e-5 * moved
        assert np.linalg.norm(by_steps[name] - truth) < 1e-4 * moved
        if not lag:
            assert np.linalg.norm(run(adaptive, weights, count)[name] - truth) < 1e-4 * moved


@pytest.mark.parametrize("name", ["sgd", "heterosynaptic", "bcm", "curl-clamp"])
def test_every_rule_learns_sequences_alike_by_windows_and_by_steps(name):
    circuit = wired(ENGINE_RULES[name], PROBLEM.network)
    weights = random_weights(circuit)
    common = circuit, timescales(0.01, 5.0), sequences()
    windows = Coupled(*common, clock(0.1), integrator=Window(tolerance=1e-5))
    steps = Coupled(*common, clock(0.1, steps=200), integrator=FixedStep("heun"))
    ends = [run(one, weights, 2 * FRAMES) for one in (windows, steps)]
    assert distance(*ends) < 1e-4 * max(distance(ends[0], weights), 1e-3)


def test_without_a_target_there_is_no_error():
    """Discrete updates of untold frames change nothing; the weight flow is that of told frames, for their share."""
    circuit = wired(SGD(), PROBLEM.network)
    weights, never = random_weights(circuit), jnp.zeros_like(AT_END)
    for told, changes in ((never, False), (AT_END, True)):
        regime = Discrete(circuit, timescales(), sequences(told=told), clock())
        assert (distance(run(regime, weights, FRAMES), weights) > 0) == changes
        adaptive = Coupled(circuit, timescales(), sequences(told=told), clock(), integrator=Adaptive())
        assert (distance(run(adaptive, weights, FRAMES), weights) > 0) == changes
    told = np.asarray(AT_END) > 0
    whole = WeightFlow(circuit, timescales(), PROBLEM.inputs, PROBLEM.targets, clock(), told=AT_END)
    share = told.mean()
    alone = WeightFlow(circuit, timescales(plasticity=1 / share), PROBLEM.inputs[told], PROBLEM.targets[told], clock())
    assert distance(run(whole, weights, 5), run(alone, weights, 5)) < 1e-12
    modified = [dataclasses.replace(one, entropic=True, batch=jnp.inf) for one in (whole, alone)]
    ends = [run(one, weights, 5) for one in modified]
    assert distance(*ends) < 1e-12 < distance(ends[0], run(whole, weights, 5))


def test_a_late_target_is_told_late():
    """With a hop and an error that are late, the frame that is told moves on by whole presentations."""
    circuit = wired(SGD(), PROBLEM.network)
    weights = random_weights(circuit)
    late = Delays(error=f64(0.1))
    regime = Coupled(circuit, timescales(0.001), sequences("sequential"), clock(0.1), late, integrator=Window())
    ends = [run(regime, weights, count) for count in (FRAMES, FRAMES + 1)]
    assert distance(ends[0], weights) == 0 and distance(ends[1], weights) > 1e-3


@pytest.mark.parametrize("integrator", [Window(), FixedStep("heun")], ids=["window", "steps"])
def test_responses_are_those_of_a_simulation_without_plasticity(integrator):
    """The output at the end of every frame, where a lag of half a frame per layer keeps the frame before in mind; one
    sequence at a time, although the run shows two side by side."""
    network = Network((INPUTS, 4, OUTPUTS), gain=f64(1.0), activation="tanh", bias=False)
    circuit, tau, hop, steps = wired(FA(), network), 0.05, 0.05, 400
    weights = random_weights(circuit)
    time = clock(0.1, steps=steps if isinstance(integrator, FixedStep) else 1)
    regime = Coupled(circuit, timescales(tau), sequences(), time, Delays(hop=f64(hop)), integrator=integrator, batch=2)
    inputs = PROBLEM.inputs.reshape(SEQUENCES, FRAMES, INPUTS)
    found = jax.jit(lambda x: responses(regime, weights, x))(inputs)

    dt, late = 0.1 / steps, steps // 2
    w1, w2 = np.asarray(weights["W1"]), np.asarray(weights["W2"])
    for sequence, answers in zip(np.asarray(inputs), np.asarray(found), strict=True):
        a1 = np.repeat(sequence @ w1.T, steps, axis=0)
        a1 = np.concatenate([np.zeros((late, 4)), a1])[: FRAMES * steps]  # what arrives late is held through a step
        z1, z2, past = np.zeros(4), np.zeros(OUTPUTS), [np.zeros(4)] * (late + 1)
        for i in range(FRAMES * steps):
            decay = math.exp(-dt / tau)
            before, after = past[-late - 1], past[-late]
            drive = w2 @ (before + after) / 2
            z1 = decay * z1 + (1 - decay) * np.tanh(a1[i])
            z2 = decay * z2 + (1 - decay) * drive
            past.append(z1)
            if (i + 1) % steps == 0:
                np.testing.assert_allclose(answers[(i + 1) // steps - 1], z2, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"frames": 5}, "frames = 5 is not allowed with 12 samples"),
        ({"order": "shufled"}, "order 'shufled'.*shuffled"),
        ({"told": f64([1, 0, 1])}, r"told has shape \(3,\)"),
        ({"told": 7 * AT_END}, "told must be 1 or 0"),
        ({"told": np.full(12, np.nan)}, "told must be 1 or 0"),
        ({"told": "end"}, "told must be 1 or 0"),
    ],
)
def test_what_does_not_fit_is_refused(given, told):
    with pytest.raises(PlasticodeError, match=told):
        Stream(PROBLEM.inputs, PROBLEM.targets, KEY, **given)


def test_marks_may_be_a_list_of_any_precision():
    single = PROBLEM.inputs.astype(jnp.float32), PROBLEM.targets.astype(jnp.float32)
    stream = Stream(*single, KEY, told=[0, 0, 1] * 4)
    shown = looked_up(stream.marked_lessons(), jnp.arange(3, dtype=jnp.uint32))
    assert (np.asarray(stream.told) == np.asarray(AT_END)).all() and shown.dtype == jnp.float32
    assert (shown[:2] == 0).all() and (shown[2, :-1] == single[1][2]).all()


@pytest.mark.parametrize("regime", [Coupled, Discrete])
def test_a_rule_that_compares_the_target_itself_needs_one_for_every_frame(regime):
    circuit = wired(NodePerturbation(), PROBLEM.network)
    with pytest.raises(PlasticodeError, match="compares the target itself"):
        regime(circuit, timescales(), sequences(), clock(steps=100))
    regime(circuit, timescales(), sequences(told=None), clock(steps=100))


def test_responses_are_of_sequences():
    circuit = wired(SGD(), PROBLEM.network)
    weights = random_weights(circuit)
    coupled = Coupled(circuit, timescales(), sequences(), clock(), integrator=Window())
    with pytest.raises(PlasticodeError, match="not finite"):
        responses(coupled, weights, jnp.full((2, FRAMES, INPUTS), jnp.nan))
