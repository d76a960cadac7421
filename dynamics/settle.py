"""Settled activities and errors: the fast variables of a circuit at their fixed point, tau_prop -> 0.

A feedforward circuit is evaluated once, in order. The variables on a cycle are found by damped sweeps through the fast
equations, v <- v + d (F(v) - v), from silence: the path that they themselves take, in steps of d tau_prop.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from dynamics.circuit import Circuit, Weights
from dynamics.errors import PlasticodeError
from dynamics.layers import Draw, Layer, Wave
from dynamics.moment import AbstractMoment, Signal
from dynamics.plasticity import Slow, applied, output_error
from dynamics.projections import Projection
from dynamics.wiring import Node

Values = dict[Node, Float[Array, " _n"]]

# Damped sweeps with d settle where |1 - d (1 - r)| < 1, r the eigenvalues of dF/dv: the smallest d, tried where larger
# ones fail, copes with inhibition down to r = -255. Within so many time constants what is left must halve.
DAMPING, PATIENCE = (1 / 8, 1 / 32, 1 / 128), 50
DEEP = 30  # variables, each a dozen calls deeper


def evaluation_order(circuit: Circuit) -> tuple[Node, ...]:
    """(layer, variable) in an order in which each depends only on earlier ones; cycles are entered at an activity."""
    return circuit.plan.order


def is_cyclic(circuit: Circuit) -> bool:
    """Whether an activity or error depends, through others, on itself."""
    return bool(circuit.plan.loops)


class Outside(NamedTuple):
    """What is given to a circuit for one sample: stimulus, target (None: there is none, and errors are silent), and
    what is drawn, by layer and projection. `on` is 0 in a blank gap, where predictions are compared with nothing."""

    stimulus: Float[Array, " inputs"]
    target: Float[Array, " outputs"] | None
    drawn: Mapping[str, Array] = {}
    on: Float[Array, ""] | None = None


class Settled(AbstractMoment):
    """A circuit at the fixed point of its fast variables, for one sample.

    `known` are variables on cycles; all others follow from them. Without a target errors are silent. What nothing is
    drawn for is zero.
    """

    def __init__(self, circuit: Circuit, weights: Weights, slow: Slow, outside: Outside, known: Values | None = None):
        super().__init__(circuit)
        self.weights = {**weights, **circuit.redrawn(outside.drawn)}
        self.slow, self.outside, self.known = slow, outside, known or {}
        if len(circuit.plan.order) > DEEP:  # from the ends, all layers would be one recursion, and Python has a limit
            for name, variable in circuit.plan.order:
                self.value(circuit.layer(name), variable)

    def value(self, layer: Layer, variable: str) -> Signal:
        if (layer.name, variable) in self.known:
            return self.known[layer.name, variable]
        if variable == "activity" and layer.given:
            return self._given(layer)
        if variable in self.slow.get(layer.name, {}):
            return self.slow[layer.name][variable]
        if variable == "error" and self.outside.target is None:
            return self.silent(layer)
        return self.drive(layer, variable)

    def _given(self, layer: Layer) -> Signal:
        if isinstance(layer.source, Draw):
            return self.outside.drawn.get(layer.name, self.silent(layer))
        if layer.role == "constant":
            return layer.constant(self.outside.stimulus.dtype)
        if isinstance(layer.source, Wave):  # a prediction is that of the network without what comes and goes
            return self.silent(layer)
        given = self.outside.stimulus if layer.role == "input" else self.outside.target
        assert given is not None
        return given

    def through(self, p: Projection, signal: Signal) -> Signal:
        return applied(self.circuit, p, self.weights, signal)

    def taught(self, layer: Layer) -> Signal:
        if self.outside.target is None:
            return self.silent(layer)
        activity, on = self.value(layer, "activity"), self.outside.on
        return output_error(layer, self.outside.target, activity, jnp.ones((), activity.dtype) if on is None else on)

    def silent(self, layer: Layer) -> Signal:
        return jnp.zeros(layer.size, self.outside.stimulus.dtype)


def check_settles(circuit: Circuit) -> None:
    """Refuses what has no fixed point."""
    for layer in circuit.layers:
        if isinstance(layer.source, Wave):
            raise PlasticodeError(
                "this rule has a wave, which changes during a presentation, so that nothing settles: the regime must "
                "be coupled"
            )


def settle(circuit: Circuit, weights: Weights, slow: Slow, outside: Outside) -> Settled:
    """The circuit at the fixed point of its fast variables.

    Where there are cycles, it is the stable fixed point that damped sweeps from silence reach, NaN if there is none.
    Derivatives of any order go through it. Without a target a layer that would be given it is free (`_freed`).
    """
    circuit = _freed(circuit) if outside.target is None else circuit
    loops = circuit.plan.silent_loops if outside.target is None else circuit.plan.loops
    if not loops:
        return Settled(circuit, weights, slow, outside)

    def anew(known: Values) -> Values:
        moment = Settled(circuit, weights, slow, outside, known)
        return {(name, variable): moment.drive(circuit.layer(name), variable) for name, variable in loops}

    silent = {node: jnp.zeros(circuit.layer(node[0]).size, outside.stimulus.dtype) for node in loops}
    return Settled(circuit, weights, slow, outside, _settled(anew, silent))


def _freed(circuit: Circuit) -> Circuit:
    """The circuit with nothing given to the layers that are given the target: they are driven as hidden ones are."""
    given = [layer.role == "target" and layer.source is None for layer in circuit.layers]
    if not any(given):
        return circuit
    layers = [
        dataclasses.replace(layer, role="hidden") if free else layer
        for layer, free in zip(circuit.layers, given, strict=True)
    ]
    return dataclasses.replace(circuit, layers=tuple(layers))


def _settled(field: Callable[[Values], Values], silent: Values) -> Values:
    """v = F(v), with the derivatives of the implicit function (I - dF/dv)^-1 dF.

    They are found by damped sweeps as well, which converge as fast near a fixed point. Not by `jnp.linalg.solve`, which
    can wait forever on a CPU of several devices (`integrators.collocation._solve`).
    """
    start, restore = ravel_pytree(silent)

    def left(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(field(restore(v)))[0] - v

    def implicit(linear: Callable[[Array], Array], b: Float[Array, " n"]) -> Float[Array, " n"]:
        return jax.lax.custom_linear_solve(linear, b, _linear_sweeps, _linear_sweeps)

    return restore(jax.lax.custom_root(left, start, _damped_sweeps, implicit))


def _linear_sweeps(linear: Callable[[Array], Array], b: Float[Array, " n"]) -> Float[Array, " n"]:
    """v with linear(v) = b, where linear is dF/dv - 1 or its transpose."""
    return _damped_sweeps(lambda v: linear(v) - b, jnp.zeros_like(b))


class _Sweeps(NamedTuple):
    """Where damped sweeps have come: v, the number of the damping, how many sweeps with it, |F(v) - v| some sweeps ago,
    and whether v is settled."""

    v: Float[Array, " n"]
    damping: Int[Array, ""]
    sweeps: Int[Array, ""]
    before: Float[Array, ""]
    done: Bool[Array, ""]


def _damped_sweeps(left: Callable[[Array], Array], start: Float[Array, " n"]) -> Float[Array, " n"]:
    """v with left(v) = 0, up to rounding; NaN where no damping finds one."""
    dampings, eps = jnp.asarray(DAMPING, start.dtype), jnp.finfo(start.dtype).eps
    never = jnp.asarray(jnp.inf, start.dtype)

    def step(at: _Sweeps) -> _Sweeps:
        d, residual = dampings[at.damping], left(at.v)
        far, size = jnp.max(jnp.abs(residual)), jnp.max(jnp.abs(at.v))
        look = jnp.mod(at.sweeps.astype(d.dtype) * d, PATIENCE) == PATIENCE - 1
        stuck = ~jnp.isfinite(far) | (look & ~(far <= at.before / 2))
        done = (far <= 16 * eps * size) | (stuck & (far <= 256 * eps * size)) | (far == 0)
        again = stuck & ~done  # from the start, with the next damping
        v = jnp.where(again, start, jnp.where(done, at.v, at.v + d * residual))
        before = jnp.where(again, never, jnp.where(look, far, at.before))
        return _Sweeps(v, at.damping + again.astype(jnp.int32), jnp.where(again, 0, at.sweeps + 1), before, done)

    def unfinished(at: _Sweeps) -> Array:
        return ~at.done & (at.damping < len(DAMPING))

    at = jax.lax.while_loop(unfinished, step, _Sweeps(start, jnp.int32(0), jnp.int32(0), never, jnp.asarray(False)))
    return jnp.where(at.done, at.v, jnp.nan)
