"""The reference of `benchmarks.trust`: the coupled model in float64, by classical Runge-Kutta steps.

It shares no code with the integrators: the field is written out once more, steps end where anything jumps or has a
kink (benchmarks.trust_mesh), and late signals are cubic Hermite interpolants of the past. It checks itself by halving
its steps.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.trust_mesh import Mesh
from dynamics.circuit import Activity, Circuit, Law, Layer, Local, Outer, Projection, Scaled, Shared, Signed
from dynamics.coupled import Coupled

ACTIVATIONS = {
    "linear": (lambda a: a, lambda a: jnp.ones_like(a)),
    "relu": (lambda a: jnp.where(a > 0, a, 0.0), lambda a: jnp.where(a > 0, 1.0, 0.0)),
    "softplus": (lambda a: jnp.logaddexp(a, 0.0), lambda a: 1 / (1 + jnp.exp(-a))),
    "tanh": (lambda a: jnp.tanh(a), lambda a: 1 / jnp.cosh(a) ** 2),
}
# By stage: start, middle or end of the step; how far the last slope reaches; its weight in the sum.
STAGES = (np.array([0, 1, 1, 2]), np.array([0.0, 0.5, 0.5, 1.0]), np.array([1.0, 2.0, 2.0, 1.0]) / 6)
Values = dict[str, Any]


class Path(NamedTuple):
    """All plastic matrices, flat, at the start and at the end, and the distance that they have moved on the way."""

    start: Array | np.ndarray
    end: Array | np.ndarray
    distance: Array | np.ndarray


class Shown(NamedTuple):
    """What arrives in a step: stimulus by the projection that it takes (or "input"), target, whether it is on."""

    stimulus: dict[str, Array]
    target: Array
    on: Array


def double(tree: Any) -> Any:
    """Every floating number in float64."""
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def arrivals(run: Coupled) -> dict[str, tuple[str, ...]]:
    """What is shown arrives after the sum of these lags: "input", "error" (the target), projections of the input."""
    delays = {name for name in ("input", "error", "hop") if getattr(run.delays, name) is not None}
    found: dict[str, tuple[str, ...]] = {
        "input": ("input",) if "input" in delays else (),
        "error": ("error",) if "error" in delays else (),
    }
    for p in run.circuit.projections:
        if "hop" in delays and run.circuit.layer(p.source).role == "input":
            found[p.name] = (*found["input"], "hop")
    return found


def looks(run: Coupled) -> tuple[str, ...]:
    """The lags of signals that the circuit makes."""
    return tuple(name for name in ("error", "hop") if getattr(run.delays, name) is not None)


def _level(values: Array, level: int) -> Array:
    return values if values.ndim == 0 else values[level - 1]


def _times(w: Array, x: Array) -> Array:
    return jnp.sum(w * x[None, :], axis=1)


class _Field(NamedTuple):
    """The model of one draw, everything in float64."""

    run: Coupled
    fixed: Values

    @property
    def circuit(self) -> Circuit:
        return self.run.circuit

    def start(self, weights: Values) -> Values:
        plastic = {p.name: p for p in self.circuit.projections if p.law}
        sizes = {layer.name: layer.size for layer in self.circuit.layers}
        free = [layer for layer in self.circuit.layers if layer.role in ("hidden", "output")]
        y: Values = {"z": {layer.name: jnp.zeros(layer.size) for layer in free}}
        y["e"] = {layer.name: jnp.zeros(layer.size) for layer in free if self._taught(layer)}
        y["w"] = {name: weights[name] for name in plastic}
        y["slow"] = {f"{layer.name}.{v.name}": jnp.zeros(layer.size) for layer in free for v in layer.variables}
        traced = plastic.items() if self.run.timescales.trace is not None else ()
        ends = {name: p.target if _of(p.law).trace.of == "post" else p.source for name, p in traced}
        y["trace"] = {name: jnp.zeros(sizes[end]) for name, end in ends.items()}
        return y

    def _taught(self, layer: Layer) -> bool:
        return layer.role == "output" or any(
            p.port == "modulatory" and p.target == layer.name for p in self.circuit.projections
        )

    def _matrix(self, p: Projection, y: Values) -> Array:
        w = y["w"][p.owner] if p.owner in y["w"] else self.fixed[p.owner]
        return w.T if isinstance(p.matrix, Shared) else w

    def delivered(self, p: Projection, y: Values, shown: Shown, late: Values) -> Array:
        role, variable = self.circuit.layer(p.source).role, "z" if isinstance(p.carries, Activity) else "e"
        if role == "constant":
            return jnp.ones(1)
        if role == "input":
            return shown.stimulus.get(p.name, shown.stimulus["input"])
        return (late["hop"] if "hop" in late else y)[variable][p.source]

    def drift(self, y: Values, shown: Shown, late: Values) -> Values:
        circuit, times = self.circuit, self.run.timescales
        carried = {p.name: self.delivered(p, y, shown, late) for p in circuit.projections}
        d: Values = {"z": {}, "e": {}, "w": {}, "slow": {}, "trace": {}}
        locals_ = {}
        for layer in circuit.layers:
            if layer.name not in y["z"]:
                continue
            tau, z = _level(times.propagation, layer.level), y["z"][layer.name]
            ports = {"forward": jnp.zeros(layer.size), "modulatory": jnp.zeros(layer.size)}
            for p in circuit.projections:
                if p.target == layer.name:
                    ports[p.port] = ports[p.port] + _times(self._matrix(p, y), carried[p.name])
            f, slope = ACTIVATIONS[layer.activation]
            a, c = ports["forward"], ports["modulatory"]
            d["z"][layer.name] = (f(a) - z) / tau
            if layer.role == "output":
                seen = late["error"]["z"][layer.name] if "error" in late else z
                c = c + shown.target - shown.on * (jax.nn.softmax(seen) if layer.loss == "softmax" else seen)
            e = y["e"].get(layer.name)
            if e is not None:
                d["e"][layer.name] = (slope(a) * c - e) / tau
            slow = {v.name: y["slow"][f"{layer.name}.{v.name}"] for v in layer.variables}
            values = {"activity": z, "error": jnp.zeros_like(a) if e is None else e, **slow}
            local = Local(ports, values, {}, layer.f)
            locals_[layer.name] = local
            for v in layer.variables:
                d["slow"][f"{layer.name}.{v.name}"] = (v.of(local) - slow[v.name]) / v.timescale
        for p in circuit.projections:
            if p.law:
                d["w"][p.name] = self._learning(p, locals_[p.target], carried[p.name], y, d)
        return d

    def _learning(self, p: Projection, local: Local, carried: Array, y: Values, d: Values) -> Array:
        law, times, own, w = _of(p.law), self.run.timescales, self.circuit.map_of(p.name), y["w"][p.name]
        post, pre, traced = law.post(local), carried, law.trace.of
        if isinstance(law.pre, Signed):
            pre = carried * law.pre.sign
        if times.trace is not None:
            trace, now = y["trace"][p.name], post if traced == "post" else pre
            d["trace"][p.name] = (now - trace) / _level(times.trace, p.level)
            post, pre = (trace, pre) if traced == "post" else (post, trace)
        change = post[:, None] * pre[None, :]
        for term in p.law[1:]:
            assert isinstance(term, Scaled)  # as all that rules have besides a product
            change = change + term.rate(local)[:, None] * w
        change = change / _level(times.plasticity, p.level)
        if own.holds_norm:
            return change - w * jnp.sum(w * change) / jnp.sum(w * w)
        if own.decays and times.decay is not None:
            change = change - w / _level(times.decay, p.level)
        return change


def _of(law: Law) -> Outer:
    """The product that all laws of the rules begin with."""
    assert isinstance(law[0], Outer)
    return law[0]


def _flat(signals: Values) -> Array:
    """Everything that a lag can look back at, in one vector."""
    return jnp.concatenate([*signals["z"].values(), *signals["e"].values()])


def _unflat(vector: Array, like: Values) -> Values:
    result: Values = {"z": {}, "e": {}}
    for kind in ("z", "e"):
        for name, x in like[kind].items():
            result[kind][name], vector = vector[: x.shape[0]], vector[x.shape[0] :]
    return result


def _between(row: Array, place: Array, step: Array) -> Array:
    """The cubic that has the values and slopes of row = (value, slope at the start, value, slope at the end)."""
    s = place
    h00, h10 = 2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s
    return h00 * row[0] + h10 * step * row[1] + (1 - h00) * row[2] + (s**3 - s**2) * step * row[3]


def integrate(
    run: Coupled, weights: Values, order: Array, mesh: Mesh, steps: Array, presentations: Array, ring: int
) -> Path:
    """Shows `presentations` presentations of `steps` steps each, of the samples that `order` names.

    `ring` is how many steps the past holds: more than any lag.
    """
    weights, run = double(weights), double(run)
    y = _Field(run, {}).start(weights)
    field = _Field(run, {n: w for n, w in weights.items() if n not in y["w"]})
    lags, (inputs, targets) = looks(run), (run.stream.inputs, run.stream.targets)
    assert targets is not None
    past = jnp.zeros((ring, 5, _flat(y).shape[0])) if lags else jnp.zeros(())

    def shown_in(i: Array, k: Array) -> Shown:
        rows = {}
        for name, ago in mesh.shown.items():
            j = k - ago[i]
            rows[name] = order[jnp.maximum(j, 0)], jnp.where(j >= 0, mesh.on[name][i], 0)
        stimulus = {name: on * inputs[s] for name, (s, on) in rows.items() if name != "error"}
        s, on = rows["error"]
        return Shown(stimulus, on * targets[s], on)

    def step(i: Array, carry: tuple) -> tuple:
        y, past, k = carry
        n, h, shown = k * steps + i, mesh.step[i], shown_in(i, k)

        def stage(last: tuple, at: tuple) -> tuple:
            """One stage: the slope here goes into the sum with its weight; classical Runge-Kutta."""
            slope, total = last
            place, reach, weight = at
            now, late = jax.tree.map(lambda a, b: a + reach * h * b, y, slope), {}
            for name in lags:
                row = past[(n - mesh.back[name][i, place]) % ring]
                seen = _between(row, mesh.place[name][i, place], row[4, 0])
                late[name] = _unflat(jnp.where(getattr(run.delays, name) > 0, seen, _flat(now)), now)
            slope = field.drift(now, shown, late)
            return (slope, jax.tree.map(lambda a, b: a + weight * h * b, total, slope)), _flat(slope)

        still = jax.tree.map(jnp.zeros_like, y)
        (_, new), slopes = jax.lax.scan(stage, (still, y), STAGES)
        if lags:
            row = [_flat(y), slopes[0], _flat(new), slopes[3], jnp.full_like(slopes[0], h)]
            past = past.at[n % ring].set(jnp.stack(row))
        return new, past, k

    def present(k: Array, carry: tuple) -> tuple:
        y, past, distance = carry
        before = y["w"]
        y, past, _ = jax.lax.fori_loop(0, steps, step, (y, past, k))
        squares = [jnp.sum((y["w"][n] - before[n]) ** 2) for n in before]
        return y, past, distance + jnp.sqrt(sum(squares[1:], squares[0]))

    end, _, distance = jax.lax.fori_loop(jnp.int32(0), presentations, present, (y, past, jnp.zeros(())))
    return Path(plastic(y["w"]), plastic(end["w"]), distance)


def plastic(weights: Values) -> Array:
    """Matrices as one vector, by the order of their names."""
    return jnp.concatenate([weights[name].ravel() for name in sorted(weights)])


def ring_of(meshes: list[Mesh]) -> int:
    """How many steps any of the meshes looks back at, and one."""
    return 1 + max([int(back.max()) for mesh in meshes for back in mesh.back.values()], default=0)


def stacked(meshes: list[Mesh]) -> Mesh:
    """Meshes of several draws along a leading axis."""
    return jax.tree.map(lambda *rows: np.stack(rows), *meshes)
