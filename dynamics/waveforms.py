"""Waveform relaxation: the coupled field of a circuit solved for a whole window of time at once, layer by layer.

A waveform is an array (s, n), one row per collocation node of the window, or (1, n) where it is constant. One sweep
goes through the layers in order; every projection is applied to a whole waveform. Inside the window a plastic matrix
is its value at the start plus products of few waveforms, so no matrix is formed before the window closes:

    W(t) = E(t) (W(t0) + int_t0^t m(s)/E(s) p(s)^T ds / tau_plast),   E = exp(-int r/tau_plast + 1/tau_dec), by rows
    W(t_j) c_j = E_j (W(t0) c_j + sum_i H A_ji (m_i/E_i) (p_i . c_j) / tau_plast)

Sweeps repeat with the m and p of the last one; they contract by about H |p|^2 / tau_plast each.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynamics.activations import activation
from dynamics.circuit import Activity, Error, Layer, Local, Port, Projection, Weights
from dynamics.collocation import filtered, integration, series_end, weighted
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.plasticity import output_error
from dynamics.settle import evaluation_order
from dynamics.timescales import at_level

Waveform = Float[Array, "_rows _n"]


class Drive(NamedTuple):
    """What changes a matrix during a window, as far as sweeps change it: m/E per tau_plast, p and E as waveforms.

    `pre` and `shrink` are None where they are the same in every sweep.
    """

    post: Waveform
    pre: Waveform | None
    shrink: Waveform | None


class Filters(NamedTuple):
    """The filter matrices (s, s) of a window of `length` seconds (dynamics.collocation.leak).

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

    def _still_shrink(self, p: Projection) -> Waveform | None:
        """E where all that a matrix does besides learning is decay with tau_dec."""
        law, decay = p.law, self.system.timescales.decay
        assert law is not None
        if decay is None or not law.decays or law.clamped or law.row_decay is not None:
            return None
        return jnp.exp(-jnp.sum(self._integrals, axis=1, keepdims=True) / at_level(decay, p.level))

    def _whole(self, name: str, drive: Drive) -> tuple[Waveform, Waveform, Waveform | None]:
        """post, pre and shrink of a drive, with those that no sweep changes."""
        p = self.system.circuit.projection(name)
        pre = self._still_pre(p) if drive.pre is None else drive.pre
        shrink = self._still_shrink(p) if drive.shrink is None else drive.shrink
        assert pre is not None
        return drive.post, pre, shrink

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
        post, pre, shrink = self._whole(name, drive)
        if transposed:
            seen = carried if shrink is None else shrink * carried
            return seen @ w + weighted(self._integrals * (seen @ post.T), pre)
        product = carried @ w.T + weighted(self._integrals * (carried @ pre.T), post)
        return product if shrink is None else shrink * product

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
        still_pre, shrink = self._still_pre(p), self._still_shrink(p)
        varying_pre = pre if still_pre is None else None
        if law.clamped and law.row_decay is not None:
            raise PlasticodeError(
                f"the law of '{p.name}' clamps its norm and has a row decay, and the window integrator knows either: "
                "integrator.name must be euler, heun, tsit5 or dopri5"
            )
        if law.clamped:
            w = self.start.weights[p.name]
            rate = jnp.sum(post * self._product(p, pre, last), axis=1, keepdims=True) / (tau * jnp.sum(w * w))
        elif law.row_decay is not None:
            rate = jax.vmap(law.row_decay)(local) / tau
            if law.decays and times.decay is not None:
                rate = rate + 1 / at_level(times.decay, p.level)
        else:
            return Drive(post / tau if shrink is None else post / (shrink * tau), varying_pre, None)
        shrink = jnp.exp(-weighted(self._integrals, rate))
        return Drive(post / (shrink * tau), varying_pre, shrink)

    def weights_at(self, drives: dict[str, Drive], node: int | Int[Array, ""] = -1) -> Weights:
        """The plastic matrices at a node of the window; by default at its end."""
        moved = {}
        for name, drive in drives.items():
            post, pre, shrink = self._whole(name, drive)
            w, share = self.start.weights[name], self._integrals[node]
            if pre.shape[0] == 1:
                w1 = w + (share @ post)[:, None] * pre
            else:
                w1 = w + (share[:, None] * post).T @ pre
            w1 = w1 if shrink is None else shrink[node][:, None] * w1
            law = self.system.circuit.projection(name).law
            assert law is not None
            if law.clamped:  # the product form keeps the norm up to the error of the nodes: keep it exactly
                w1 = w1 * jnp.sqrt(jnp.sum(w * w) / jnp.sum(w1 * w1))
            moved[name] = w1
        return moved

    def kept(self, waves: Waves) -> dict[str, Float[Array, " _rows"]]:
        """int E(t0 + H)^2 / E(t)^2 dt of every plastic matrix: the variance of unit white noise at the end."""
        kept = {}
        for name, drive in waves.drive.items():
            shrink = self._whole(name, drive)[2]
            b = self._integrals[-1]
            kept[name] = self.filters.length[None] if shrink is None else b @ (shrink[-1:] / shrink) ** 2
        return kept

    def end(self, waves: Waves) -> State:
        """The state at the end of the window, which is its last node."""
        y = self.start
        return State(
            activity={name: waves.value[name, "activity"][-1] for name in y.activity},
            error={name: waves.value[name, "error"][-1] for name in y.error},
            weights=self.weights_at(waves.drive),
            slow={name: {v: x[-1] for v, x in variables.items()} for name, variables in waves.slow.items()},
            trace={name: x[-1] for name, x in waves.trace.items()},
            chain=waves.chain,
        )

    def difference(self, new: Waves, old: Waves) -> Float[Array, ""]:
        """How far apart two sweeps' drives m p^T are, relative to their size, over the window and all matrices.

        Both factors count: where an error is the pre-factor, as in feedback that learns, m alone hardly moves.
        """
        change = size = jnp.zeros_like(self.filters.length)
        for name, drive in new.drive.items():
            post, pre, _ = self._whole(name, drive)
            before, earlier, _ = self._whole(name, old.drive[name])
            change += _square(post - before) * _square(pre)
            if drive.pre is not None:
                change += _square(post) * _square(pre - earlier)
            size += _square(post) * _square(pre)
        return jnp.sqrt(change / jnp.maximum(size, jnp.finfo(size.dtype).tiny))

    def roughness(self, waves: Waves) -> Float[Array, ""]:
        """An estimate of the error that the nodes leave in the weights' change, relative to it.

        It follows from r, the end of the Legendre series of a drive u = z + tau z' relative to its size, the largest
        over all drives, and over the post-factors that are more than an activity or an error. The error of a waveform
        is orthogonal to the polynomials below the end of its series, so the integral of a product of two has an error
        of the order of r^2; late signals have weak kinks that make it a little more, and r^(5/3) covers both. Where an
        activation has a kink, drives jump at unknown times, and the error is of the order of r.
        """
        dtype, h = self.filters.length.dtype, self.filters.length
        end, b = (jnp.asarray(rows, dtype) for rows in (series_end(self.nodes), integration(self.nodes)[-1]))
        end_of_slope = jnp.asarray(series_end(self.nodes) @ np.linalg.inv(integration(self.nodes)), dtype)
        worst, smooth = jnp.zeros_like(h), True
        for (name, variable), wave in waves.value.items():
            layer = self.system.circuit.layer(name)
            if layer.clamped:
                continue
            smooth = smooth and activation(layer.activation).smooth
            tau = at_level(self.system.timescales.propagation, layer.level)
            moved = wave - self._start(name, variable)[None]
            last = end @ wave + tau / jnp.where(h > 0, h, jnp.inf) * (end_of_slope @ moved)
            size = jnp.sum(b @ (wave * wave))
            worst = jnp.maximum(worst, jnp.sum(last * last) / jnp.maximum(size, jnp.finfo(dtype).tiny))
        for name, drive in waves.drive.items():
            law = self.system.circuit.projection(name).law
            if law is None or isinstance(law.post, Activity | Error):
                continue  # those are smooth as the waveforms are; a factor of a user's own may be anything
            last, size = end @ drive.post, jnp.sum(b @ (drive.post * drive.post))
            worst = jnp.maximum(worst, jnp.sum(last * last) / jnp.maximum(size, jnp.finfo(dtype).tiny))
        return worst ** (5 / 6) if smooth else jnp.sqrt(worst)

    def change(self, waves: Waves) -> Float[Array, ""]:
        """The change of the weights in the window: the norm over all plastic matrices, decay included."""
        b = self._integrals[-1]
        square = jnp.zeros_like(self.filters.length)
        for name, drive in waves.drive.items():
            post, pre, shrink = self._whole(name, drive)
            gram = (post @ post.T) * (pre @ pre.T)
            square += (gram @ b) @ b
            if shrink is not None:
                square += jnp.sum(((1 - shrink[-1])[:, None] * self.start.weights[name]) ** 2)
        return jnp.sqrt(jnp.maximum(square, 0))


def _square(waveform: Waveform) -> Float[Array, ""]:
    """The mean over nodes of |x|^2."""
    return jnp.sum(waveform * waveform) / waveform.shape[0]
