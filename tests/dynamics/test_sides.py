"""Presentations side by side: the same equations in plain NumPy, every way to integrate them, what sides share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.integrators import Adaptive, FixedStep
from dynamics.integrators.window import Window
from dynamics.noise import Noise
from dynamics.simulate import simulate
from rules import FA, SGD
from tests.problems import (
    ALL_RULES,
    TINY,
    clock,
    distance,
    f64,
    random_problem,
    random_weights,
    stream,
    timescales,
    wired,
)
from tests.unjudged import PlainSteps, PlainWindow

BATCH, SHOWN = 3, 2
TIMES = timescales(propagation=0.004, plasticity=0.3)
NOTHING = lambda weights, slow: jnp.zeros(())  # noqa: E731  no probe
JUDGED = ("heterosynaptic", "e-prop")  # fading rows and slow variables; mirrors and traces
CIRCUIT = FA().wire(TINY.network)
START = random_weights(CIRCUIT)


def sides(integrator, circuit=CIRCUIT, batch=BATCH, steps=60, key=4, problem=TINY, **settings):
    """Copies of a network, side by side."""
    return Coupled(
        circuit, TIMES, stream(problem), clock(0.04, 0.01, steps), integrator=integrator, key=jax.random.key(key),
        batch=batch, **settings,
    )  # fmt: skip


def ended(run, weights=START):
    return simulate(run, SHOWN, NOTHING, 1, weights)


def moved(end, weights):
    return distance(end.weights, weights)


@functools.cache
def exact():
    return by_hand(TINY, START, BATCH, 400, "V2")


def by_hand(problem, weights, batch, steps, backward):
    """Three layers whose error comes back through `backward`, in copies that move the weights by the mean of what each
    does: Runge-Kutta of fourth order."""
    w = {name: np.array(value) for name, value in weights.items()}
    hidden, outputs = w["W1"].shape[0], w["W2"].shape[0]
    y = {"z1": np.zeros((batch, hidden)), "z2": np.zeros((batch, outputs))}
    y |= {"e1": np.zeros((batch, hidden)), "e2": np.zeros((batch, outputs))}
    y |= {name: w[name] for name in ("W1", "W2", "b1", "b2")}
    shown, fast, slow = stream(problem), float(TIMES.propagation), float(TIMES.plasticity)

    def slope(y, x, target, on):
        a1, a2 = x @ y["W1"].T + y["b1"][:, 0], y["z1"] @ y["W2"].T + y["b2"][:, 0]
        back = y["e2"] @ (w | y)[backward] if backward == "W2" else y["e2"] @ w[backward].T
        d = {"z1": (np.tanh(a1) - y["z1"]) / fast, "z2": (a2 - y["z2"]) / fast}
        d |= {"e2": (on * (target - y["z2"]) - y["e2"]) / fast, "e1": (back / np.cosh(a1) ** 2 - y["e1"]) / fast}
        d |= {"W1": y["e1"].T @ x / batch / slow, "W2": y["e2"].T @ y["z1"] / batch / slow}
        return d | {"b1": y["e1"].mean(0)[:, None] / slow, "b2": y["e2"].mean(0)[:, None] / slow}

    def after(y, d, h):
        return {name: value + h * d[name] for name, value in y.items()}

    for k in range(SHOWN):
        chosen = [int(shown.index(jnp.int32(batch * k + i))) for i in range(batch)]
        x, target = np.array(problem.inputs)[chosen], np.array(problem.targets)[chosen]
        for length, on in ((0.04, 1), (0.01, 0)):
            h = length / steps
            for _ in range(steps):
                one = slope(y, on * x, on * target, on)
                two = slope(after(y, one, h / 2), on * x, on * target, on)
                three = slope(after(y, two, h / 2), on * x, on * target, on)
                four = slope(after(y, three, h), on * x, on * target, on)
                y = {n: v + h / 6 * (one[n] + 2 * two[n] + 2 * three[n] + four[n]) for n, v in y.items()}
    return {name: jnp.asarray(y.get(name, w[name])) for name in w}


@pytest.mark.parametrize(
    ("integrator", "steps", "error"),
    [(Window(tolerance=1e-7), 60, 1e-7), (Adaptive(1e-9, 1e-11), 60, 1e-7), (FixedStep("heun"), 1500, 1e-4)],
)
def test_the_copies_are_those_of_plain_numpy(integrator, steps, error):
    end = ended(sides(integrator, steps=steps))
    assert end.status == "ok"
    assert distance(end.weights, exact()) < error * distance(START, exact())


@pytest.mark.parametrize(("rule", "backward"), [(FA(), "V2"), (SGD(), "W2")])
@pytest.mark.parametrize("batch", [2, 8])
def test_matrices_of_few_and_of_many_waveforms(rule, backward, batch):
    """Of two sides windows multiply by waveforms, forward and backward; of eight they form matrices at the nodes."""
    problem = random_problem((12, 30, 12), activation="tanh", bias=True)
    circuit = rule.wire(problem.network)
    weights = random_weights(circuit)
    run = sides(Window(tolerance=1e-6), circuit, batch, problem=problem)
    exact = by_hand(problem, weights, batch, 100, backward)
    end = ended(run, weights)
    assert end.status == "ok"
    assert distance(end.weights, exact) < 1e-6 * distance(weights, exact)


@pytest.mark.parametrize(
    "name", ["kp", "bcm", "heterosynaptic", "curl-clamp", "e-prop", "momentum", "exponentiated-fa"]
)
def test_windows_and_steps_agree_for_every_kind_of_law(name):
    """Feedback that learns, slow variables, fading rows, held norms, traces of products, slow ones, mirrors; a lag."""
    circuit = wired(ALL_RULES[name], TINY.network)
    weights = random_weights(circuit)
    late = Delays(error=f64(0.006))
    window = (Window if name in JUDGED else PlainWindow)(tolerance=1e-6)
    windows = ended(sides(window, circuit, delays=late), weights)
    steps = ended(sides(PlainSteps("heun"), circuit, steps=1500, delays=late), weights)
    assert windows.status == steps.status == "ok"
    assert distance(windows.weights, steps.weights) < 3e-4 * moved(steps, weights)


def test_each_side_has_noise_of_its_own_and_the_weights_one():
    """Additive noise of weights that nothing teaches is that of a run without sides, bit for bit; sides' noise of the
    activities averages out as 1/sqrt(B)."""
    still = timescales(propagation=0.004, plasticity=np.inf)
    ends = [
        ended(dataclasses.replace(sides(PlainSteps(), batch=batch, noise=Noise(synaptic=f64(0.1))), timescales=still))
        for batch in (1, 3)
    ]
    assert distance(ends[0].weights, ends[1].weights) == 0 and moved(ends[0], START) > 0

    def biases(batch):
        def learned(key):
            run = sides(PlainSteps(), batch=batch, noise=Noise(error=f64(3.0)))
            run = dataclasses.replace(run, key=key)
            return run.weights(run.advance(run.init(START), jnp.int32(0), SHOWN))["b2"]

        return jax.jit(jax.vmap(learned))(jax.random.split(jax.random.key(5), 60))

    spread = {batch: biases(batch).std(axis=0).mean() for batch in (1, 16)}
    assert 3 < spread[1] / spread[16] < 5.3


def test_no_side_is_refused():
    with pytest.raises(PlasticodeError, match="batch = 0 is not allowed"):
        sides(FixedStep(), batch=0)
