"""What judges a run changes none of its numbers: so tests that ask nobody for an estimate may run without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.flow import WeightFlow
from dynamics.integrators import FixedStep, Window
from dynamics.noise import Noise
from rules import FA
from tests.dynamics.systems import show
from tests.problems import ALL_RULES, TINY, clock, f64, random_weights, stream, timescales, wired
from tests.unjudged import PlainFlow, PlainSteps, PlainWindow, unjudged

CIRCUIT, TIMES = FA().wire(TINY.network), timescales(0.02, 0.3, 3.0)


def coupled(integrator, steps):
    return Coupled(CIRCUIT, TIMES, stream(TINY), clock(steps=steps), integrator=integrator)


def flow(kind):
    noise = {"noise": Noise(synaptic=f64(0.01)), "key": jax.random.key(1)}
    return kind(CIRCUIT, TIMES, TINY.inputs, TINY.targets, clock(steps=4), FixedStep("euler"), **noise)


RUNS = {
    "window": lambda plain: coupled((PlainWindow if plain else Window)(nodes=3, parts=1, gaps=False), 1),
    "steps": lambda plain: coupled((PlainSteps if plain else FixedStep)("euler"), 20),
    "flow": lambda plain: flow(PlainFlow if plain else WeightFlow),
}


def ended(run):
    progress = show(run, random_weights(CIRCUIT), jnp.int32(0), jnp.int32(3))
    return run.weights(progress), float(run.quality(progress).error)


@pytest.mark.parametrize("kind", RUNS)
def test_what_judges_a_run_changes_none_of_its_numbers(kind):
    (judged, error), (plain, nothing) = (ended(RUNS[kind](plain)) for plain in (False, True))
    for name, w in judged.items():
        np.testing.assert_allclose(plain[name], w, rtol=0, atol=1e-13)
    assert error > 1e-6 and nothing < 1e-12


def test_the_fixture_does_without_in_the_engine_s_own_classes():
    with unjudged():
        assert ended(RUNS["steps"](False))[1] < 1e-12


@pytest.mark.parametrize("name", ["weight-perturbation", "momentum", "oscillating-ep", "exponentiated-gradient"])
def test_what_is_drawn_carried_on_waving_or_mirrored_can_be_judged(name):
    """Traced alone: pieces that the engine's own tests of estimates do not have, and whose other runs are plain."""
    circuit = wired(ALL_RULES[name], TINY.network)
    run = Coupled(circuit, TIMES, stream(TINY), clock(), integrator=Window(nodes=3, parts=1, gaps=False))
    told = jax.eval_shape(lambda w: run.quality(show(run, w, jnp.int32(0), jnp.int32(3))), random_weights(circuit))
    assert told.error.dtype == jnp.float64
