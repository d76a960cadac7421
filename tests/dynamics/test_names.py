"""Names of layers and projections: none of them changes what a circuit does."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from dynamics.circuit import Activity, Circuit, Error, Gaussian, Layer, Projection, Shared, TwoFactor, Variable
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.wiring import RESERVED
from rules import FA
from tests.problems import TINY, clock, f64, random_weights, run, stream, timescales
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

# Layers may be called anything: also what the task's signals are called, or what looks like a variable of another.
LAYERS = {"z0": "input", "z1": "error", "z2": "error.activity", "one": "hop"}
PROJECTIONS = {"W1": "z1.error", "W2": "errors", "b1": "activity", "b2": "inputs", "V2": "late.target"}


def renamed(circuit):
    layers = tuple(dataclasses.replace(layer, name=LAYERS[layer.name]) for layer in circuit.layers)
    projections = tuple(
        dataclasses.replace(p, name=PROJECTIONS[p.name], source=LAYERS[p.source], target=LAYERS[p.target])
        for p in circuit.projections
    )
    return Circuit(layers, projections)


@pytest.mark.parametrize(("integrator", "stages"), [(Window(), 2), (FixedStep("heun"), 0)], ids=["window", "heun"])
def test_a_run_does_not_depend_on_names(integrator, stages):
    circuit = FA(f64(1.0)).wire(TINY.network)
    own = tuple(dataclasses.replace(p, lag=f64(0.013)) if p.name == "V2" else p for p in circuit.projections)
    circuit = Circuit(circuit.layers, own)
    weights, delays = random_weights(circuit), Delays(f64(0.02), f64(0.004), f64(0.007), stages=stages)

    def end(circuit, weights):
        times = timescales(plasticity=0.3)
        coupled = Coupled(circuit, times, stream(TINY), clock(0.05, 0.0, 50), delays, integrator=integrator, history=60)
        return run(coupled, weights, 3)

    plain = end(circuit, weights)
    other = end(renamed(circuit), {PROJECTIONS[name]: w for name, w in weights.items()})
    for name, w in plain.items():
        np.testing.assert_allclose(other[PROJECTIONS[name]], w, rtol=1e-12)
    assert np.abs(plain["W1"] - weights["W1"]).max() > 1e-3


LAW, MATRIX = TwoFactor(Error()), Gaussian(f64(1.0))
INPUT, HIDDEN, OUTPUT = Layer("x", 2, role="input", level=0), Layer("h", 2), Layer("y", 2, role="output", level=2)


def forward(name, source="x", target="h", matrix: Any = MATRIX, **more):
    return Projection(name, source, "activity", target, "forward", matrix, **more)


@pytest.mark.parametrize("name", RESERVED)
def test_a_projection_called_like_a_signal_of_the_task_is_refused(name):
    with pytest.raises(PlasticodeError, match=f"a projection is called '{name}'"):
        Circuit((INPUT, HIDDEN), (forward(name),))


def test_two_names_with_equal_draws_are_refused():
    """The random key of a matrix is the CRC-32 of its name, which these two words share."""
    with pytest.raises(PlasticodeError, match="'plumless' and 'buckeroo' would draw the same random numbers"):
        Circuit((INPUT, HIDDEN), (forward("plumless"), forward("buckeroo")))


def test_names_are_unique():
    for layers, projections in (((INPUT, HIDDEN), (forward("h"),)), ((INPUT, HIDDEN), (forward("W"), forward("W")))):
        with pytest.raises(PlasticodeError, match="used twice"):
            Circuit(layers, projections)
    twice = tuple(Variable("v", Activity(), f64(tau), slow=True) for tau in (0.1, 0.2))
    with pytest.raises(PlasticodeError, match="layer 'h' has two variables 'v'"):
        Circuit((INPUT, Layer("h", 2, variables=twice)), (forward("W"),))


def test_a_projection_cannot_be_tied_to_a_tied_one():
    tied = Projection("V", "y", "error", "h", "modulatory", Shared("W2", transposed=True))
    again = Projection("U", "h", "error", "y", "modulatory", Shared("V", transposed=True))
    with pytest.raises(PlasticodeError, match="'U' shares the map of 'V', which has none of its own"):
        Circuit((INPUT, HIDDEN, OUTPUT), (forward("W1"), forward("W2", "h", "y", law=LAW), tied, again))
    itself = Projection("V", "h", "activity", "h", "forward", Shared("V", transposed=True))
    with pytest.raises(PlasticodeError, match="'V' shares the map of 'V', which has none of its own"):
        Circuit((INPUT, HIDDEN), (forward("W1"), itself))
    assert jax.tree.leaves(Circuit((INPUT, HIDDEN, OUTPUT), (forward("W1"), forward("W2", "h", "y", law=LAW), tied)))
