"""What is wrong in a run from Python is told in a sentence before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from dynamics import Clock, Coupled, Delays, Network, PlasticodeError, Stream, Timescales, Window, simulate
from rules import FA

pytestmark = pytest.mark.usefixtures("unchecked_types")  # users run without these checks

X, Y = jnp.eye(3), jnp.ones((3, 1))
RULE = FA()
CIRCUIT = RULE.wire(Network(sizes=(3, 2, 1)))


def run(
    circuit: Any = CIRCUIT, key: Any = None, plasticity: Any = 1.0, steps: Any = 1, delays: Any = None, **other: Any
):
    times = Timescales(propagation=0.002, plasticity=plasticity)
    stream = Stream(X, Y, jax.random.key(0) if key is None else key)
    clock = Clock(other.pop("duration", 0.05), other.pop("gap", 0.0), steps)
    return Coupled(circuit, times, stream, clock, Delays(**(delays or {})), integrator=Window(**other))


def shown(presentations: Any = 2, key: Any = None):
    return simulate(run(), presentations, lambda weights, slow: jnp.zeros(()), 1, key=key)


MISTAKES = {
    "a rule for a circuit": (lambda: run(RULE), r"circuit = FA\(.* is not allowed: it must be what a rule wires"),
    "a seed for a key": (
        lambda: run(key=7),
        r"key = 7 is not allowed: it must be a random key, such as jax.random.key",
    ),
    "a seed for the key of a run": (lambda: shown(key=7), "key = 7 is not allowed"),
    "a text for a time": (lambda: run(plasticity="1 s"), "a timescale is '1 s': it must be a number of seconds"),
    "no duration": (lambda: run(duration=0.0), r"clock.duration = 0.0 is not allowed: it must be seconds"),
    "a duration that is no number": (lambda: run(duration=jnp.nan), r"clock.duration = nan is not allowed"),
    "a negative gap": (lambda: run(gap=-0.01), r"clock.gap = -0.0\d+ is not allowed"),
    "no steps": (lambda: run(steps=0), "clock.steps = 0 is not allowed: it must be a whole number, at least 1"),
    "half a step": (lambda: run(steps=1.5), "clock.steps = 1.5 is not allowed"),
    "a lag that is no number": (
        lambda: run(delays={"error": jnp.nan}),
        "delays.error is nan s: it must be at least",
    ),
    "an endless lag": (lambda: run(delays={"hop": jnp.inf}), "delays.hop is inf s: it must be .* finite"),
    "no tolerance": (lambda: run(tolerance=0), "tolerance = 0 is not allowed: it must be a number > 0 and < 1"),
    "half a presentation": (lambda: shown(10.5), "presentations = 10.5 .*: there must be whole numbers"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name):
    wrong, sentence = MISTAKES[name]
    with pytest.raises(PlasticodeError, match=sentence):
        wrong()
