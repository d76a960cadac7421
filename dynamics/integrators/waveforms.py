"""Waveform relaxation: the coupled field of a circuit solved for a whole window of time at once, layer by layer.

A waveform is an array (s, n), one row per collocation node of the window, or (1, n) where it is constant. One sweep
goes through the layers in order; every projection is applied to a whole waveform. Inside the window a plastic matrix
is its value at the start plus products of few waveforms, so no matrix is formed before the window closes:

    W(t) = E(t) (W(t0) + int_t0^t m(s)/E(s) p(s)^T ds / tau_plast),   E = exp(-F), F = int r/tau_plast + 1/tau_dec
    W(t_j) c_j = E_j (W(t0) c_j + sum_i H A_ji (m_i/E_i) (p_i . c_j) / tau_plast)

Sweeps repeat with the m and p of the last one; they contract by about H |p|^2 / tau_plast each.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.activations import activation
from dynamics.circuit import Layer, Local, Port, Projection, Weights
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.integrators.collocation import filtered, integration, weighted
from dynamics.norms import norm
from dynamics.plasticity import output_error
from dynamics.settle import evaluation_order, is_cyclic
from dynamics.timescales import at_level

Waveform = Float[Array, "_rows _n"]


class Drive(NamedTuple):
    """What changes a matrix during a window, as far as sweeps change it: m/E per tau_plast, p and F as waveforms.

    `pre` and `fade` (F: the matrix has shrunk by E = exp(-F)) are None where they are the same in every sweep.
    """

    post: Waveform
    pre: Waveform | None
    fade: Waveform | None


class Filters(NamedTuple):
    """The filter matrices (s, s) of a window of `length` seconds (integrators.collocation.leak).

    propagation, trace  by level
    slow                by layer and name of the slow variable
    chain               of one stage of a gamma-distributed lag, by name of the lag
    current             by late projection: the weights with which the start and the nodes of this very window make up
                        what it delivers at the nodes
    """

    length: Float[Array, ""]
    propagation: dict[int, Float[Array, "s s"]]
    trace: dict[int, Float[Array, "s s"]]
    slow: dict[str, dict[str, Float[Array, "s s"]]]
    chain: dict[str, Float[Array, "s s"]]
    current: dict[str, Float[Array, "s points"]]


class Waves(NamedTuple):
    """All waveforms of a window after a sweep. `chain` holds only the ends of the stages of gamma-distributed lags."""

    value: dict[tuple[str, str], Waveform]
    slow: dict[str, dict[str, Waveform]]
    trace: dict[str, Waveform]
    chain: dict[str, Float[Array, "stages _n"]]
    drive: dict[str, Drive]


class Relaxation(eqx.Module):
    """One window: the state at its start, its filters, and what comes from outside of it.

    inputs   stimulus and target, constant in the window
    late     by projection out of the input layer that has a constant lag: the stimulus that it delivers
    past     by other late projection: what it delivers of earlier windows
    noise    by (layer, variable): an Ornstein-Uhlenbeck path that is added to the waveform
    """

    system: CoupledSystem
    start: State
    filters: Filters
    inputs: Inputs
    late: dict[str, Float[Array, " _n"]]
    past: dict[str, Waveform]
    noise: dict[tuple[str, str], Waveform]
    nodes: int = eqx.field(static=True)

    @property
    def _integrals(self) -> Float[Array, "s s"]:
        return self.filters.length * jnp.asarray(integration(self.nodes), self.filters.length.dtype)

    def _start(self, name: str, variable: str) -> Float[Array, " n"]:
        return (self.start.activity if variable == "activity" else self.start.error)[name]

    def guess(self) -> Waves:
        """What the first sweep starts from: constant waveforms, and no drives, so that the weights stand still."""
        s, circuit, y = self.nodes, self.system.circuit, self.start

        def held(x: Float[Array, " n"]) -> Waveform:
            return jnp.broadcast_to(x[None], (s, x.shape[0]))

        value = {(n, "activity"): held(x) for n, x in y.activity.items()}
        value |= {(n, "error"): held(x) for n, x in y.error.items()}
        for layer in circuit.layers:
            if layer.clamped:
                value[layer.name, "activity"] = self._clamped(layer)
        slow = {name: {v: held(x) for v, x in variables.items()} for name, variables in y.slow.items()}
        return Waves(value, slow, {}, {}, {})

    def _still_pre(self, p: Projection) -> Waveform | None:
        """p where it is constant during a window: out of a clamped layer, neither traced nor filtered."""
        law, layer = p.law, self.system.circuit.layer(p.source)
        assert law is not None
        traced = self.system.timescales.trace is not None and law.traced == "pre"
        if not layer.clamped or traced:
            return None
        carried = self.late[p.name][None] if p.name in self.late else self._clamped(layer)
        filtered = self.system.gamma and layer.role == "input" and self.system.lag(p) is not None
        return None if filtered or carried.shape[0] > 1 else jax.vmap(law.pre)(carried)

    def _still_fade(self, p: Projection) -> Waveform | None:
        """F where all that a matrix does besides learning is decay with tau_dec."""
        law, decay = p.law, self.system.timescales.decay
        assert law is not None
        if decay is None or not law.decays or law.holds_norm or law.row_decay is not None:
            return None
        return jnp.sum(self._integrals, axis=1, keepdims=True) / at_level(decay, p.level)

    def _whole(self, name: str, drive: Drive) -> tuple[Waveform, Waveform, Waveform | None]:
        """post, pre and fade of a drive, with those that no sweep changes."""
        p = self.system.circuit.projection(name)
        pre = self._still_pre(p) if drive.pre is None else drive.pre
        fade = self._still_fade(p) if drive.fade is None else drive.fade
        assert pre is not None
        return drive.post, pre, fade

    def _clamped(self, layer: Layer) -> Waveform:
        if layer.role == "constant":
            return jnp.ones((1, layer.size), self.filters.length.dtype)
        rows = self.nodes if "input" in self.start.chain else 1
        return jnp.broadcast_to(self.inputs.stimulus[None], (rows, layer.size))

    def sweep(self, last: Waves) -> Waves:
        """Every waveform anew, from those of the last sweep and, where they come earlier in the order, of this one."""
        circuit, values, chains = self.system.circuit, dict(last.value), {}
        for layer in circuit.layers:
            if layer.role == "input" and "input" in self.start.chain:
                values[layer.name, "activity"] = self._chained("input", self.inputs.stimulus[None], chains)
        preactivation: dict[str, Waveform] = {}
        carried: dict[str, Waveform] = {}
        for name, variable in evaluation_order(circuit, cycles=True):
            layer = circuit.layer(name)
            if layer.clamped:
                continue
            port: Port = "forward" if variable == "activity" else "modulatory"
            f, slope, _ = activation(layer.activation)
            into = circuit.into(layer, port)
            carried |= {p.name: self._carried(p, values, chains) for p in into}
            terms = [self._product(p, carried[p.name], last.drive) for p in into]
            if variable == "error" and layer.role == "output":
                terms.append(self._late_error(layer, values, chains))
            total = sum(terms[1:], terms[0]) if terms else jnp.zeros((1, layer.size), self.filters.length.dtype)
            if variable == "activity":
                preactivation[name], drive = total, f(total)
            else:
                drive = slope(preactivation[name]) * total
            wave = filtered(self.filters.propagation[layer.level], self._start(name, variable), drive)
            noise = self.noise.get((name, variable))
            values[name, variable] = wave if noise is None else wave + noise
        locals_, slow = self._locals(preactivation, values, last.slow)
        drives, traces = {}, {}
        for p in circuit.plastic:
            drives[p.name] = self._drive(p, locals_[p.target], carried[p.name], last.drive, traces)
        return Waves(values, slow, traces, chains, drives)

    def _carried(self, p: Projection, values: dict, chains: dict[str, Array]) -> Waveform:
        """What `p` delivers, after its lag; the ends of its filter chain go into `chains`."""
        source, lag = values[p.source, p.variable], self.system.lag(p)
        role = self.system.circuit.layer(p.source).role
        if lag is None or role == "constant":
            return source
        if self.system.gamma:
            return self._chained(p.name, source, chains)
        if role == "input":
            return self.late[p.name][None]
        return self._looked_up(p.name, self._start(p.source, p.variable), source)

    def _looked_up(self, name: str, start: Float[Array, " n"], source: Waveform) -> Waveform:
        """The waveform after lag `name`: partly from earlier windows, partly from this one."""
        current = self.filters.current[name]
        return self.past[name] + current[:, :1] * start[None] + current[:, 1:] @ source

    def _chained(self, name: str, source: Waveform, chains: dict[str, Array]) -> Waveform:
        """The waveform after the filters of a gamma-distributed lag; a lag of 0 lets it through."""
        k = self.filters.chain[name]
        source = jnp.broadcast_to(source, (self.nodes, source.shape[1]))

        def stage(upstream: Waveform, start: Float[Array, " n"]) -> tuple[Waveform, Float[Array, " n"]]:
            wave = filtered(k, start, upstream)
            return wave, wave[-1]

        wave, chains[name] = jax.lax.scan(stage, source, self.start.chain[name])
        return wave

    def _late_error(self, layer: Layer, values: dict, chains: dict[str, Array]) -> Waveform:
        """target - prediction as it reaches the output's error units; the target in `inputs` is late already."""
        activity = values[layer.name, "activity"]
        if self.system.delays.error is not None and not self.system.gamma:
            activity = self._looked_up("error", self._start(layer.name, "activity"), activity)
        c = jax.vmap(lambda z: output_error(layer, self.inputs.target, z, self.inputs.on))(activity)
        if self.system.delays.error is not None and self.system.gamma:
            return self._chained("error", c, chains)
        return c

    def _product(self, p: Projection, carried: Waveform, drives: dict[str, Drive]) -> Waveform:
        """W(t_j) c_j at all nodes, W the matrix of `p`: its own, or the transpose of another's."""
        name, transposed = p.transpose_of or p.name, p.transpose_of is not None
        w, drive = self.system.weights(self.start)[name], drives.get(name)
        if drive is None:
            return carried @ (w if transposed else w.T)
        post, pre, fade = self._whole(name, drive)
        if transposed:
            seen = carried if fade is None else jnp.exp(-fade) * carried
            return seen @ w + weighted(self._integrals * (seen @ post.T), pre)
        product = carried @ w.T + weighted(self._integrals * (carried @ pre.T), post)
        return product if fade is None else jnp.exp(-fade) * product

    def _locals(
        self, preactivation: dict[str, Waveform], values: dict, slow: dict[str, dict[str, Waveform]]
    ) -> tuple[dict[str, Local], dict[str, dict[str, Waveform]]]:
        """The local variables of every layer at all nodes, and the slow variables that follow from them."""
        locals_, moved = {}, {}
        for name, a in preactivation.items():
            layer, z = self.system.circuit.layer(name), values[name, "activity"]
            error = values.get((name, "error"), jnp.zeros_like(z))
            local = Local(jnp.broadcast_to(a, z.shape), z, error, slow.get(name, {}))
            if layer.slow:
                k, start = self.filters.slow[name], self.start.slow[name]
                waves = {v.name: filtered(k[v.name], start[v.name], jax.vmap(v.of)(local)) for v in layer.slow}
                moved[name], local = waves, Local(local.preactivation, z, error, waves)
            locals_[name] = local
        return locals_, moved

    def _drive(
        self, p: Projection, local: Local, carried: Waveform, last: dict[str, Drive], traces: dict[str, Waveform]
    ) -> Drive:
        """What changes the matrix of `p`, from the local variables at its target and what it carries."""
        law, times = p.law, self.system.timescales
        assert law is not None
        post, pre = jax.vmap(law.post)(local), jax.vmap(law.pre)(carried)
        if times.trace is not None:
            start, k = self.start.trace[p.name], self.filters.trace[p.level]
            traces[p.name] = filtered(k, start, post if law.traced == "post" else pre)
            post, pre = (traces[p.name], pre) if law.traced == "post" else (post, traces[p.name])
        tau = at_level(times.plasticity, p.level)
        still_pre, fade = self._still_pre(p), self._still_fade(p)
        varying_pre = pre if still_pre is None else None
        if law.holds_norm and law.row_decay is not None:
            raise PlasticodeError(
                f"the law of '{p.name}' clamps its norm and has a row decay, and the window integrator knows either: "
                "integrator.name must be euler, heun, tsit5 or dopri5"
            )
        if law.holds_norm:
            w = self.start.weights[p.name]
            rate = jnp.sum(post * self._product(p, pre, last), axis=1, keepdims=True) / (tau * jnp.sum(w * w))
        elif law.row_decay is not None:
            rate = jax.vmap(law.row_decay)(local) / tau
            if law.decays and times.decay is not None:
                rate = rate + 1 / at_level(times.decay, p.level)
        else:
            return Drive(post / tau if fade is None else jnp.exp(fade) * post / tau, varying_pre, None)
        fade = weighted(self._integrals, rate)
        return Drive(jnp.exp(fade) * post / tau, varying_pre, fade)

    def changes_at(self, drives: dict[str, Drive], node: int | Int[Array, ""] = -1) -> Weights:
        """How far the plastic matrices have moved at a node of the window; by default at its end.

        Not the matrices: beside them a small change would be rounded away.
        """
        changes = {}
        for name, drive in drives.items():
            post, pre, fade = self._whole(name, drive)
            w, share = self.start.weights[name], self._integrals[node]
            change = (share @ post)[:, None] * pre if pre.shape[0] == 1 else (share[:, None] * post).T @ pre
            if fade is not None:
                change = jnp.exp(-fade[node])[:, None] * change + jnp.expm1(-fade[node])[:, None] * w
            law = self.system.circuit.projection(name).law
            assert law is not None
            if law.holds_norm:  # the product form keeps the norm up to the error of the nodes: keep it exactly
                longer = jnp.sum(change * (2 * w + change)) / jnp.sum(w * w)  # |W + change|^2 = (1 + longer) |W|^2
                root = jnp.sqrt(1 + longer)
                change = change / root - (longer / (root * (1 + root))) * w
            changes[name] = change
        return changes

    def weights_at(self, drives: dict[str, Drive], node: int | Int[Array, ""] = -1) -> Weights:
        """The plastic matrices at a node of the window; by default at its end."""
        changes = self.changes_at(drives, node)
        return {name: self.start.weights[name] + change for name, change in changes.items()}

    def moved(self, drives: dict[str, Drive], size: Float[Array, ""]) -> Float[Array, ""]:
        """The norm of the change of the plastic matrices in the window; `size` is that of their drives (`difference`).

        From products of the few waveforms that make up a change where nothing else changes the matrix: a pass over all
        weights costs as much as a sweep. They are scaled, as squares of small numbers would vanish.
        """
        changes, b, squares = None, self._integrals[-1], []
        unit = jnp.where(size > 0, size, 1)
        for name, drive in drives.items():
            post, pre, fade = self._whole(name, drive)
            law = self.system.circuit.projection(name).law
            assert law is not None
            if fade is None and not law.holds_norm:
                squares.append((((post @ post.T / unit) * (pre @ pre.T / unit)) @ b) @ b)
            else:
                changes = self.changes_at(drives) if changes is None else changes
                squares.append((norm(changes[name]) / unit) ** 2)
        return unit * jnp.sqrt(jnp.maximum(sum(squares, jnp.zeros_like(unit)), 0))

    def end(self, waves: Waves, weights: Weights | None = None) -> State:
        """The state at the end of the window, its last node; `weights` are those there, where they are known."""
        y = self.start
        return State(
            activity={name: waves.value[name, "activity"][-1] for name in y.activity},
            error={name: waves.value[name, "error"][-1] for name in y.error},
            weights=self.weights_at(waves.drive) if weights is None else weights,
            slow={name: {v: x[-1] for v, x in variables.items()} for name, variables in waves.slow.items()},
            trace={name: x[-1] for name, x in waves.trace.items()},
            chain=waves.chain,
        )

    def difference(self, new: Waves, old: Waves) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """How far apart two sweeps' drives m p^T are, relative to their size, and that size: products of the factors'
        roots of mean squares over the window, summed over all matrices, in weight per second.

        Both factors count: where an error is the pre-factor, as in feedback that learns, m alone hardly moves. In a
        circuit with cycles the state that the window hands on counts too: all that comes after depends on it.
        """
        change = size = jnp.zeros_like(self.filters.length)
        for name, drive in new.drive.items():
            post, pre, _ = self._whole(name, drive)
            before, earlier, _ = self._whole(name, old.drive[name])
            change += _root_mean_square(post - before) * _root_mean_square(pre)
            if drive.pre is not None:
                change += _root_mean_square(post) * _root_mean_square(pre - earlier)
            size += _root_mean_square(post) * _root_mean_square(pre)
        moved = change / jnp.maximum(size, jnp.finfo(size.dtype).tiny)
        if is_cyclic(self.system.circuit):
            moved = jnp.maximum(moved, self._handed_on(new, old))
        return moved, size

    def _handed_on(self, new: Waves, old: Waves) -> Float[Array, ""]:
        """How far apart the ends of all waveforms are, relative to the size of the waveforms."""
        change = size = jnp.zeros_like(self.filters.length)
        for name, wave in new.value.items():
            if not self.system.circuit.layer(name[0]).clamped:
                change += jnp.sum((wave[-1] - old.value[name][-1]) ** 2)
                size += _root_mean_square(wave) ** 2
        return jnp.sqrt(change / jnp.maximum(size, jnp.finfo(size.dtype).tiny))


def _root_mean_square(waveform: Waveform) -> Float[Array, ""]:
    """The root of the mean over nodes of |x|^2."""
    return jnp.sqrt(jnp.sum(waveform * waveform) / waveform.shape[0])
