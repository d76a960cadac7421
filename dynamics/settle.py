"""Settled activities and errors: the fast variables of a circuit at their fixed point, tau_prop -> 0.

A feedforward circuit is evaluated once, in order. The variables on a cycle are found by damped sweeps through the fast
equations, v <- v + d (F(v) - v), from silence: the path that they themselves take, in steps of d tau_prop.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from dynamics.activations import activation
from dynamics.circuit import Circuit, Layer, Local, Port, Weights
from dynamics.errors import PlasticodeError
from dynamics.plasticity import Carried, output_error, port_input

Node = tuple[str, str]  # (layer, variable)
Values = dict[Node, Float[Array, " _n"]]

# Damped sweeps with d settle where |1 - d (1 - r)| < 1, r the eigenvalues of dF/dv: the smallest d, tried where larger
# ones fail, copes with inhibition down to r = -255. Within so many time constants what is left must halve.
DAMPING, PATIENCE = (1 / 8, 1 / 32, 1 / 128), 50


def _needs(circuit: Circuit, errors: bool = True) -> dict[Node, set[Node]]:
    """What each variable depends on at once; without `errors` these are silent and depend on nothing."""
    needs: dict[Node, set[Node]] = {}
    for layer in circuit.layers:
        forward = {(p.source, str(p.variable)) for p in circuit.into(layer, "forward")}
        needs[layer.name, "activity"] = set() if layer.clamped else forward
        if layer.name in circuit.with_errors:
            modulatory = {(p.source, str(p.variable)) for p in circuit.into(layer, "modulatory")}
            needs[layer.name, "error"] = {(layer.name, "activity")} | modulatory if errors else set()
    return needs


def evaluation_order(circuit: Circuit, cycles: bool = False) -> tuple[Node, ...]:
    """(layer, variable) in an order in which each depends only on earlier ones.

    A cycle is told in a sentence, unless `cycles` are allowed: then it is entered at its first activity.
    """
    return _ordered(_needs(circuit), cycles)


def _ordered(needs: Mapping[Node, set[Node]], cycles: bool) -> tuple[Node, ...]:
    order: list[Node] = []
    while len(order) < len(needs):
        left = [node for node in needs if node not in order]
        ready = [node for node in left if needs[node] <= set(order)]
        if not ready and not cycles:
            stuck = sorted(f"{variable} of {name}" for name, variable in left)
            raise PlasticodeError(
                f"the circuit has a cycle through {', '.join(stuck)}: only the coupled regime can run it"
            )
        order += ready or [min(left, key=lambda node: node[1] == "error")]
    return tuple(order)


def is_cyclic(circuit: Circuit) -> bool:
    """Whether an activity or error depends, through others, on itself."""
    return bool(_on_cycles(_needs(circuit)))


def _on_cycles(needs: Mapping[Node, set[Node]]) -> tuple[Node, ...]:
    """The variables that depend, through others, on themselves."""

    def reached(start: Node) -> set[Node]:
        found, front = set(), set(needs[start])
        while front:
            found |= front
            front = {before for node in front for before in needs[node]} - found
        return found

    return tuple(node for node in needs if node in reached(node))


def settle(
    circuit: Circuit, weights: Weights, x: Float[Array, " inputs"], y: Float[Array, " outputs"] | None
) -> tuple[dict[str, Float[Array, " _n"]], Values]:
    """Preactivations by layer, and activities and errors, for one sample; without a target `y` errors are silent.

    Where there are cycles, the result is the stable fixed point that damped sweeps from silence reach, NaN if there is
    none. Derivatives of any order go through it.
    """
    needs = _needs(circuit, errors=y is not None)
    loops = _on_cycles(needs)
    # A sweep takes all that is on a cycle as known, but the slope f'(a) of an error needs the a of this very sweep.
    own = {node: {(node[0], "activity")} if node[1] == "error" else set() for node in needs}
    order = _ordered({node: needs[node] - (set(loops) - own[node]) for node in needs}, cycles=False)

    def sweep(known: Values) -> tuple[dict[str, Array], Values]:
        """Every variable, from those on cycles as `known`; these last ones anew."""
        values, new, a = dict(known), {}, {}
        for name, variable in order:
            layer = circuit.layer(name)
            if variable == "activity":
                value = _activity(circuit, layer, weights, values, x, a)
            elif y is None:
                value = jnp.zeros(layer.size, x.dtype)
            else:
                value = _error(circuit, layer, weights, values, y, a[name])
            new[name, variable] = value
            if (name, variable) not in known:
                values[name, variable] = value
        return a, new

    if not loops:
        return sweep({})
    silent = {node: jnp.zeros(circuit.layer(node[0]).size, x.dtype) for node in loops}
    settled = _settled(lambda known: {node: sweep(known)[1][node] for node in loops}, silent)
    a, values = sweep(settled)
    return a, values | settled


def _input(circuit: Circuit, layer: Layer, port: Port, weights: Weights, values: Values) -> Float[Array, " size"]:
    into = circuit.into(layer, port)
    return port_input(circuit, layer, port, weights, {p.name: values[p.source, p.variable] for p in into})


def _activity(
    circuit: Circuit, layer: Layer, weights: Weights, values: Values, x: Float[Array, " inputs"], a: dict[str, Array]
) -> Float[Array, " size"]:
    """z of a layer; adds its preactivation to `a`."""
    if layer.role == "input":
        return x
    if layer.role == "constant":
        return jnp.ones(layer.size, x.dtype)
    a[layer.name] = _input(circuit, layer, "forward", weights, values)
    return activation(layer.activation).value(a[layer.name])


def _error(
    circuit: Circuit, layer: Layer, weights: Weights, values: Values, y: Float[Array, " outputs"], a: Array
) -> Float[Array, " size"]:
    """e of a layer, whose preactivation is `a`."""
    c = _input(circuit, layer, "modulatory", weights, values)
    if layer.role == "output":
        c = c + output_error(layer, y, values[layer.name, "activity"], jnp.ones((), c.dtype))
    return activation(layer.activation).slope(a) * c


def _settled(field: Callable[[Values], Values], silent: Values) -> Values:
    """v = F(v), with the derivatives of the implicit function (I - dF/dv)^-1 dF."""
    start, restore = ravel_pytree(silent)

    def left(v: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(field(restore(v)))[0] - v

    def implicit(linear: Callable[[Array], Array], b: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.linalg.solve(jax.jacfwd(linear)(b), b)

    return restore(jax.lax.custom_root(left, start, _damped_sweeps, implicit))


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


def fixed_point(
    circuit: Circuit, weights: Weights, slow: Mapping, x: Float[Array, " inputs"], y: Float[Array, " outputs"]
) -> tuple[dict[str, Local], Carried]:
    """The settled local variables of every layer for one sample, and what each projection delivers."""
    a, values = settle(circuit, weights, x, y)
    locals_ = {}
    for name in a:
        error = values.get((name, "error"), jnp.zeros_like(a[name]))
        locals_[name] = Local(a[name], values[name, "activity"], error, slow.get(name, {}))
    return locals_, {p.name: values[p.source, p.variable] for p in circuit.projections}
