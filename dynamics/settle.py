"""Settled activities and errors: the fast variables of a feedforward circuit at their fixed point, tau_prop -> 0."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.activations import activation
from dynamics.circuit import Circuit, Local, Weights
from dynamics.errors import PlasticodeError
from dynamics.plasticity import Carried, output_error, port_input

Values = dict[tuple[str, str], Float[Array, " _n"]]  # by (layer, variable)


def evaluation_order(circuit: Circuit, cycles: bool = False) -> tuple[tuple[str, str], ...]:
    """(layer, variable) in an order in which each depends only on earlier ones.

    A cycle is told in a sentence, unless `cycles` are allowed: then it is entered at its first activity.
    """
    needs: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for layer in circuit.layers:
        forward = {(p.source, str(p.variable)) for p in circuit.into(layer, "forward")}
        needs[layer.name, "activity"] = set() if layer.clamped else forward
        if layer.name in circuit.with_errors:
            modulatory = {(p.source, str(p.variable)) for p in circuit.into(layer, "modulatory")}
            needs[layer.name, "error"] = {(layer.name, "activity")} | modulatory
    order: list[tuple[str, str]] = []
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
    """Whether an activity or error depends on itself."""
    try:
        evaluation_order(circuit)
    except PlasticodeError:
        return True
    return False


def settle(
    circuit: Circuit, weights: Weights, x: Float[Array, " inputs"], y: Float[Array, " outputs"] | None
) -> tuple[dict[str, Float[Array, " _n"]], Values]:
    """Preactivations by layer, and activities and errors, for one sample.

    Without a target `y` there are no errors, nor anything that depends on them.
    """
    values: Values = {}
    a: dict[str, Array] = {}
    for name, variable in evaluation_order(circuit):
        layer = circuit.layer(name)
        port = "forward" if variable == "activity" else "modulatory"
        into = circuit.into(layer, port)
        if y is None and (variable == "error" or any((p.source, p.variable) not in values for p in into)):
            continue
        carried = {p.name: values[p.source, p.variable] for p in into}
        if layer.role == "input":
            values[name, variable] = x
        elif layer.role == "constant":
            values[name, variable] = jnp.ones(layer.size, x.dtype)
        elif variable == "activity":
            a[name] = port_input(circuit, layer, "forward", weights, carried)
            values[name, variable] = activation(layer.activation).value(a[name])
        else:
            c = port_input(circuit, layer, "modulatory", weights, carried)
            if layer.role == "output" and y is not None:
                c = c + output_error(layer, y, values[name, "activity"], jnp.ones((), x.dtype))
            values[name, variable] = activation(layer.activation).slope(a[name]) * c
    return a, values


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
