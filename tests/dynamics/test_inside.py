"""What is seen inside presentations is what there is, by every integrator, whatever is late."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.integrators import Adaptive, FixedStep, Window
from dynamics.integrators.adaptive import within
from dynamics.network import Network
from dynamics.observe import observe
from dynamics.stimulus import Stream
from rules import FA, EProp
from tests.dynamics.late_feedback import simulated
from tests.problems import clock, f64, flow, random_problem, random_weights, timescales

DURATION, GAP, STEPS, SHOWN = 0.05, 0.02, 280, 3
NUMBERS = {"duration": DURATION, "gap": GAP, "propagation": 0.005, "plasticity": 0.3}
LAGS = {"input": 0.004, "hop": 0.003, "error": 0.012}
ADAPTIVE: Any = Adaptive(1e-6, 1e-8, "heun")
NAMES = ("z0", "z1", "z2", "e1", "e2", "a1", "a2", "c1", "c2", "m1", "m2", "p1", "p2", "W1", "W2", "V2")
WINDOW: Any = Window(nodes=18, parts=1, gaps=True, tolerance=1e-6)
NETWORK = Network((2, 3, 2), bias=False, gain=f64(1.0))
SAMPLES = random_problem((2, 3, 2), samples=SHOWN)


def run_of(integrator: Any, steps: int = 1, lags: dict | None = None, rule: Any = None, **options) -> Coupled:
    """A tiny run whose three samples come one after the other."""
    data = Stream(SAMPLES.inputs, SAMPLES.targets, jax.random.key(0), "sequential")
    times = timescales(NUMBERS["propagation"], NUMBERS["plasticity"], np.inf)
    circuit, integrator = (rule or FA(f64(1.0))).wire(NETWORK), integrator.unjudged()  # nobody looks at estimates
    late: Any = {name: f64(lag) for name, lag in (lags or {}).items()}
    return Coupled(circuit, times, data, clock(DURATION, GAP, steps), Delays(**late), integrator=integrator, **options)


@pytest.fixture(scope="module")
def truth() -> tuple[dict, list[dict]]:
    weights = random_weights(run_of(WINDOW).circuit)
    samples = np.asarray(SAMPLES.inputs), np.asarray(SAMPLES.targets)
    return weights, simulated(weights, *samples, STEPS, NUMBERS | LAGS)


def expected(states: list[dict], name: str, presentation: int) -> np.ndarray:
    """What the independent simulation has at every 20th step; the last one is the end of the presentation."""
    first = presentation * STEPS
    return np.stack([states[first + n][name] for n in range(0, STEPS, 20)])


@pytest.mark.parametrize(
    "integrator, steps, tolerance",
    [(WINDOW, 1, 2e-5), (FixedStep("heun"), STEPS, 1e-3)],
    ids=["window", "heun"],
)
def test_all_signals_are_those_of_an_independent_simulation(truth, integrator, steps, tolerance):
    weights, states = truth
    observed = observe(run_of(integrator, steps, LAGS), NAMES, [0, 2], STEPS // 20 + 1, weights)
    assert observed.presentations.tolist() == [0, 2] and float(observed.time[-1]) == pytest.approx(DURATION + GAP)
    for name in NAMES:
        for i, presentation in enumerate((0, 2)):
            true = expected(states, name, presentation)
            apart = np.abs(np.asarray(observed.seen[name])[i, :-1] - true).max()
            assert apart <= tolerance * max(np.abs(true).max(), 0.1), (name, presentation, apart)


def test_windows_steps_and_adaptive_steps_see_the_same():
    """Of a rule with traces of products, gates and variables of its own; on a few neurons alone what is seen of all."""
    rule, times = EProp(trace=f64(0.02)), np.array([0, 0.01, 0.0333, 0.05, 0.07])
    names, whole = ("z1", "z1.learning", "a2", "p1", "W1.trace", "W1.gate", "W1"), ("a2", "p1")
    run = run_of(WINDOW, rule=rule)
    weights = random_weights(run.circuit)
    by_windows = observe(run, names, [1], times, weights)
    for integrator, steps in ((FixedStep("heun"), 700), (ADAPTIVE, 70)):
        one = observe(run_of(integrator, steps, rule=rule), names, [1], times, weights, neurons={"z1": [2, 0]})
        for name in names:
            there = np.asarray(by_windows.seen[name])
            np.testing.assert_allclose(one.seen[name], there if name in whole else there[:, :, [2, 0]], atol=1e-4)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"names": ["z7"]}, "name in names 'z7' is not known.*did you mean 'z2'"),
        ({"presentations": [3, 1]}, "presentations = .*ascending order"),
        ({"times": np.array([0.0, 0.08])}, "within a presentation and its gap, 0.07 s"),
        ({"neurons": {"z1": [3]}}, "^neurons.z1 = .*layer 'z1' has 3 neurons"),
    ],
)
def test_what_cannot_be_seen_is_told(arguments, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        observe(run_of(WINDOW), **({"names": ["z1"], "presentations": [0]} | arguments))


def test_flows_have_no_inside():
    with pytest.raises(PlasticodeError, match="Flow has no inside of presentations"):
        observe(flow(run_of(WINDOW).circuit, SAMPLES, timescales()), ["z1"], [0])


def test_times_lie_in_a_gap_however_a_compiler_rounds_its_length():
    """A product and a difference may be rounded as one: then a gap of 4 ms after 10 ms, in 14 steps, is shorter."""
    share = np.random.default_rng(0).uniform(0.01, 1, 1000).astype(np.float32)
    share[0], steps = np.float32(10 / 14), np.float32(14)
    on, at = steps * share, jnp.linspace(0, 14, 9, dtype=jnp.float32)
    seen = np.asarray(jax.vmap(lambda begin: within(at, begin, jnp.float32(14)))(jnp.asarray(on)))
    fused = (np.float64(steps) - np.float64(steps) * share).astype(np.float32)
    assert (fused < steps - on).any() and (seen.max(axis=1) <= fused).all() and (seen >= 0).all()
    assert np.abs(seen[:, -1] - fused).max() < 2e-5
