"""Numbers of the pieces are traced: they have derivatives, other values need no other program, any dtype will do."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Dense,
    Draw,
    Error,
    Gaussian,
    Input,
    Layer,
    Masked,
    Multiplicative,
    OneToOne,
    Outer,
    Trace,
    TwoFactor,
    Variable,
    Wave,
)
from dynamics.coupled import Coupled
from dynamics.discrete import Discrete
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from tests.dynamics.pieces import back, given_input, normal, to
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

MASK = np.random.default_rng(1).random((3, 4)) < 0.6
NUMBERS = {"gain": 0.7, "omega": 9.0, "tau": 0.03, "std": 0.4}


class Louder(AbstractFactor):
    """A gain times the activity."""

    gain: Float[Array, ""]

    def __call__(self, local):
        return self.gain * local.activity


class Tone(eqx.Module):
    """cos(omega t)."""

    omega: Float[Array, ""]

    def __call__(self, t):
        return jnp.cos(self.omega * t)[None]


def everything(numbers, dtype=jnp.float64) -> Circuit:
    """A mask, a mirror, a wave, a draw, a cycle, a trace of the product, a variable of its own."""
    one = jnp.ones((), dtype)
    own = Variable("trace", Activity(), numbers["tau"])
    layers = (
        given_input("x", 4),
        Layer("s", 1, source=Wave(Tone(numbers["omega"])), level=0),
        Layer("xi", 3, source=Draw(numbers["std"]), level=0),
        Layer("h", 3, "tanh", variables=own),
        Layer("y", 2, role="output", level=2),
    )
    momentum = Outer(Error(), trace=Trace("product", numbers["tau"]))
    mirrored = Dense(Gaussian(one), mirror=Multiplicative())
    louder = Louder(numbers["gain"])
    wires = (
        to("W1", "x", "h", Masked(Gaussian(one), MASK), TwoFactor(Error())),
        to("W2", "h", "y", mirrored, momentum, carries=louder, level=2),
        to("V2", "y", "h", back("W2"), port="modulatory", carries="error", level=2),
        to("L", "h", "h", Gaussian(0.3 * one), TwoFactor(Louder(-numbers["gain"]))),
        to("S", "s", "h", Gaussian(one), TwoFactor(Input("forward"))),
        to("N", "xi", "h", OneToOne(0.1 * one)),
    )
    return Circuit(layers, wires)


def regime(kind: str, numbers, dtype: Any = jnp.float64):
    """A run of it all, without what the regime does not know."""
    circuit, number = everything(numbers, dtype), lambda x: jnp.asarray(x, dtype)
    if kind != "coupled" and kind != "steps":
        gone = {"s", "xi"} if kind == "flow" else {"s"}
        layers = tuple(layer for layer in circuit.layers if layer.name not in gone)
        circuit = Circuit(layers, tuple(p for p in circuit.projections if p.source not in gone))
    x, y = normal(5, 4).astype(dtype), normal(5, 2).astype(dtype)
    times, stream = Timescales(number(0.02), number(0.5), number(3.0)), Stream(x, y, jax.random.key(3))
    if kind == "flow":
        return WeightFlow(circuit, times, x, y, Clock(number(0.1), number(0.0), 4), FixedStep("heun"))
    if kind == "discrete":
        return Discrete(circuit, times, stream, Clock(number(0.1), number(0.0), 1))
    by, steps = (Window(nodes=12, parts=1, gaps=False, sweeps=14), 12) if kind == "coupled" else (FixedStep("heun"), 20)
    return Coupled(circuit, times, stream, Clock(number(0.1), number(0.0), steps), integrator=by)


def ends(kind, numbers, dtype: Any = jnp.float64):
    run: Any = regime(kind, numbers, dtype)
    weights = run.circuit.initial_weights(jax.random.key(0))
    return run.weights(run.advance(run.init(weights), jnp.int32(0), 3))


def total(kind):
    return lambda numbers: sum(jnp.sum(jnp.sin(w + i)) for i, w in enumerate(ends(kind, numbers).values()))


KINDS = ["coupled", "steps", "flow", "discrete"]


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_go_through_all_pieces_in_both_modes_and_one_program_serves_all_numbers(kind):
    at, traces = {name: jnp.asarray(value, jnp.float64) for name, value in NUMBERS.items()}, []

    def counted(numbers):
        traces.append(kind)
        return total(kind)(numbers)

    both = jax.jit(jax.value_and_grad(counted))
    value, reverse = (lambda numbers: both(numbers)[0]), both(at)[1]
    along = {name: jnp.asarray(0.7**i, jnp.float64) for i, name in enumerate(NUMBERS)}
    forward = jax.jit(lambda at: jax.jvp(total(kind), (at,), (along,))[1])(at)
    np.testing.assert_allclose(forward, sum(along[name] * reverse[name] for name in NUMBERS), rtol=1e-9)
    absent = {"flow": ("omega", "std", "tau"), "discrete": ("omega",)}.get(kind, ())
    for name in NUMBERS:
        h = 1e-5
        slope = (value(at | {name: at[name] + h}) - value(at | {name: at[name] - h})) / (2 * h)
        margin = 1e-5 * max(abs(float(slope)), 0.01)
        assert abs(float(reverse[name] - slope)) < margin, name
        assert (slope == 0) == (name in absent or (kind == "discrete" and name == "tau")), name
    assert len(traces) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_single_precision_has_one_dtype(kind):
    single = {name: jnp.asarray(value, jnp.float32) for name, value in NUMBERS.items()}
    end = jax.jit(lambda numbers: ends(kind, numbers, jnp.float32))(single)
    assert {w.dtype for w in end.values()} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(w).all() for w in end.values())
