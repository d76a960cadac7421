"""What windows say of the inside of a presentation: their waveforms between the nodes, and the maps there.

A waveform is the polynomial through its start and its nodes. Of what is late by a constant lag the start is not known:
it is the polynomial through the nodes alone, extended to the start. A map is its value at the start of the window plus
such a polynomial of its change: that is what collocation takes it for.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.field import FieldMoment
from dynamics.inside import Seen, Sight, View
from dynamics.integrators.collocation import abscissae, interpolation, nodes
from dynamics.integrators.waveforms import Relaxation, Sweep, Waves
from dynamics.integrators.window_parts import Layout
from dynamics.kinks import roundoff, with_value
from dynamics.laws import Outer
from dynamics.system import Look


class Piece(NamedTuple):
    """What is seen in a window: its value at the start, and how far it is from that at the nodes."""

    start: Array
    moved: Float[Array, "s ..."]


def pieces_of(sight: Sight, window: Relaxation, waves: Waves) -> dict[str, Piece]:
    """All that is seen in a window."""
    moment, traces = Sweep(window, waves), {}
    factors = moment.factors(window.system.products)
    terms = [term for term in window.system.circuit.terms if term.name in factors.products]
    products = {term.name: moment.product(term, factors, traces) for term in terms}
    circuit, y, found, views = window.system.circuit, window.start, {}, dict(sight.views)
    for name, wave in sight.signals(moment, products).items():
        wave = moment.learning.rows(wave)
        try:
            start = sight.cut(views[name], at_start(window, views[name]))
        except _Late:
            start = extended(wave)
        found[name] = Piece(start, wave - start[None])
    begun = sight.matrices(circuit, window.learning.weights, y.trace)
    nowhere = {name: jnp.zeros_like(w) for name, w in window.learning.weights.items()}

    def moved(node: Array) -> Seen:
        ends = window.learning.traces_at(waves.drive, node)
        changes = {name: end - y.trace[name] for name, end in ends.items()}
        return sight.matrices(circuit, nowhere | window.changes_at(waves.drive, node), changes)

    every = jax.vmap(moved)(jnp.arange(window.nodes))
    return found | {name: Piece(start, every[name]) for name, start in begun.items()}


class _Late(Exception):
    """What is late by a constant lag was asked for."""


def at_start(window: Relaxation, view: View) -> Array:
    """A signal as the window begins."""

    def late(*args: Any, **how: Any) -> Array:
        raise _Late

    system, y = window.system, window.start
    moment = FieldMoment(system, y, window.inputs, Look(jnp.zeros_like(system.dt), late))
    if view.kind == "value":
        return moment.value(system.circuit.layer(view.of), view.what)
    if view.kind == "input":
        return moment.input(system.circuit.layer(view.of), view.what)
    term = next(term for term in system.circuit.terms if term.name == view.of)
    law, target = term.term, system.circuit.layer(term.of.target)
    assert isinstance(law, Outer)
    if law.trace.of == view.what and term.name in y.trace:
        return y.trace[term.name]
    if view.what == "pre":
        return moment.pre(term)
    gated = law.gate is not None and term.name not in system.products
    factor = moment.of(law.post if view.what == "post" or law.gate is None else law.gate, target)
    return moment.of(law.gate, target) * factor if gated and law.gate is not None else factor


def extended(wave: Float[Array, "s n"]) -> Float[Array, " n"]:
    """The waveform through the nodes of a window, at its start."""
    x = abscissae(wave.shape[0])
    apart = x[:, None] - x[None]
    np.fill_diagonal(apart, 1.0)
    away = np.broadcast_to(-x[None], apart.shape).copy()
    np.fill_diagonal(away, 1.0)
    return jnp.asarray((away / apart).prod(axis=1), wave.dtype) @ wave


def joined(
    pieces: dict[str, Piece],
    layout: Layout,
    times: Float[Array, " times"],
    period: Float[Array, ""],
    s: int,
    smooth: bool,
) -> Seen:
    """What is seen at `times`, of pieces that are stacked over the windows; paths of noise are straight between nodes,
    not `smooth`."""
    length, windows = layout.filters.length, jnp.arange(layout.start.shape[0])
    tiny = period * roundoff(jnp.ones_like(period))
    begun = (times[:, None] >= layout.start[None] - tiny) & (length > tiny)[None]
    last = jnp.max(jnp.where(begun, windows[None], 0), axis=1)
    within = (windows[None] == last[:, None]).astype(times.dtype)
    x = (times[:, None] - layout.start[None]) / jnp.where(length > 0, length, 1)[None]
    x = with_value(jnp.clip(x, 0, 1), x)
    between = jax.vmap(lambda x: interpolation(x, s) if smooth else straight(x, s))(x)
    weights = within[:, :, None] * between[:, :, 1:]

    def at(piece: Piece) -> Array:
        return jnp.tensordot(within, piece.start, 1) + jnp.tensordot(weights, piece.moved, 2)

    return {name: at(piece) for name, piece in pieces.items()}


def straight(x: Float[Array, " windows"], s: int) -> Float[Array, "windows points"]:
    """As `interpolation`, of straight lines."""
    points = jnp.asarray(np.concatenate([[0.0], nodes(s)]), x.dtype)
    return jax.vmap(lambda one: jnp.interp(x, points, one), out_axes=1)(jnp.eye(s + 1, dtype=x.dtype))
