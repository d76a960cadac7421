"""What all compilers share: how maps are applied, the output error, and what laws do to maps."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, LawTerm, Weights
from dynamics.laws import Outer, Scaled
from dynamics.layers import Layer
from dynamics.maps import AbstractMap, Shared, Theta
from dynamics.moment import AbstractMoment, Factors, Product
from dynamics.norms import scaled
from dynamics.projections import Projection
from dynamics.synapses import Synapse
from dynamics.timescales import Timescales, at_level

Slow = dict[str, dict[str, Float[Array, " _size"]]]  # slow variables: by layer, by name


def applied(circuit: Circuit, p: Projection, weights: Weights, signal: Float[Array, " sources"]) -> Array:
    """What the map of `p`, its own or a shared one, makes of a signal."""
    owner = circuit.owner(p)
    assert isinstance(owner.matrix, AbstractMap)
    theta, shared = weights[owner.name], p.matrix
    if not isinstance(shared, Shared):
        return owner.matrix.apply(theta, signal)
    back = shared.transposed
    result = owner.matrix.back(theta, signal, circuit.shape(owner)[1]) if back else owner.matrix.apply(theta, signal)
    return result if shared.gain is None else shared.gain * result


def output_error(
    layer: Layer, target: Float[Array, " size"], activity: Float[Array, " size"], on: Float[Array, ""]
) -> Float[Array, " size"]:
    """c of the output layer: `target` - on * prediction, with target already zero and on = 0 in a blank gap."""
    prediction = jax.nn.softmax(activity) if layer.loss == "softmax" else activity
    return target - on * prediction


def mean_drive(f: Product, matrix: AbstractMap | None = None, theta: Theta | None = None) -> Theta:
    """m p^T for one moment, or its mean over a batch: a matrix, or what of it the map `matrix` can follow."""
    if matrix is None or matrix.is_matrix:
        return jnp.outer(f.post, f.pre) if f.post.ndim == 1 else f.post.T @ f.pre / f.post.shape[0]
    assert theta is not None
    return matrix.outer(theta, f.post, f.pre) if f.post.ndim == 1 else matrix.mean_outer(theta, f.post, f.pre)


def product(circuit: Circuit, term: LawTerm, theta: Theta, f: Product) -> Theta:
    """m p^T of a term as a direction of theta, the parameters of the map that it changes; batches are averaged."""
    oriented = Product(f.pre, f.post) if term.transposed else f
    return mean_drive(oriented, circuit.map_of(term.owner.name), theta)


def depended(term: LawTerm, weights: Weights, change: Theta) -> Theta:
    """What a term does to its map, of what it would if all synapses had the same strength of learning."""
    if term.dependence is None:
        return change
    return term.dependence(Synapse(weights[term.owner.name], weights)) * change


def _mean(x: Float[Array, "*batch n"]) -> Float[Array, " n"]:
    return x if x.ndim == 1 else x.mean(0)


def part(
    circuit: Circuit,
    term: LawTerm,
    weights: Weights,
    factors: Factors,
    tau: Float[Array, ""],
    trace: Theta | None = None,
) -> Theta:
    """What one term does to its map, over `tau`; batches are averaged. `trace` is that of its product.

    Scaling the factors costs a pass less over the matrix than scaling their product.
    """
    theta, own = weights[term.owner.name], circuit.map_of(term.owner.name)
    if isinstance(term.term, Scaled):
        of = theta if term.term.matrix is None else weights[term.term.matrix]
        rate = _mean(factors.rates[term.name] / tau)
        return own.scaled_columns(of, rate) if term.transposed else own.scaled_rows(of, rate)
    f = factors.products[term.name]
    if trace is None:
        return depended(term, weights, product(circuit, term, theta, f._replace(post=f.post / tau)))
    return depended(term, weights, trace / tau if f.gate is None else own.scaled_rows(trace / tau, _mean(f.gate)))


def direction(
    circuit: Circuit,
    name: str,
    weights: Weights,
    factors: Factors,
    traces: Mapping[str, Theta],
    taus: Mapping[str, Array],
) -> Theta:
    """The sum of all terms that change the map of projection `name`, each over its tau."""
    parts = [part(circuit, t, weights, factors, taus[t.name], traces.get(t.name)) for t in circuit.terms_of(name)]
    return sum(parts[1:], parts[0])


def weight_drifts(
    circuit: Circuit,
    timescales: Timescales,
    weights: Weights,
    factors: Factors,
    traces: Mapping[str, Theta] | None = None,
) -> Weights:
    """W' of every plastic map in weight per second: its terms over tau_plast, minus W / tau_dec.

    `weights` are those of all maps, `traces` the products of terms that have one. Where a norm is held the drift is the
    part of it that is tangent to the sphere |W| = const. Factors of a batch are averaged.
    """
    taus = {term.name: at_level(timescales.plasticity, term.of.level) for term in circuit.terms}
    drifts = {}
    for p in circuit.plastic:
        own, w = circuit.map_of(p.name), weights[p.name]
        drift = direction(circuit, p.name, weights, factors, traces or {}, taus)
        if own.mirror is not None:
            drift = own.mirror.metric(w) * drift
        if own.holds_norm:
            along = scaled(w)
            drift = drift - along * (jnp.sum(drift * along) / jnp.sum(along * along))
        elif own.decays and timescales.decay is not None:
            drift = drift - w * (1 / at_level(timescales.decay, p.level))  # one division, not one per weight
        drifts[p.name] = drift
    return drifts


def trace_timescale(term: LawTerm, timescales: Timescales) -> Float[Array, ""] | None:
    """The timescale of the trace of a term: its own, or that of the run; None where there is none."""
    if not isinstance(term.term, Outer):
        return None
    own = term.term.trace.timescale
    if own is not None or timescales.trace is None:
        return own
    return at_level(timescales.trace, term.of.level)


def slow_traces(circuit: Circuit) -> dict[str, Float[Array, ""]]:
    """The timescales of slow traces of products, such as momentum, by term."""
    slow = [t for t in circuit.terms if t.trace is not None and t.trace.slow]
    return {t.name: t.trace.timescale for t in slow if t.trace is not None and t.trace.timescale is not None}


def zero_traces(circuit: Circuit, weights: Weights) -> Weights:
    """Slow traces at the start."""
    by_name = {term.name: term for term in circuit.terms}
    return {name: jnp.zeros_like(weights[by_name[name].owner.name]) for name in slow_traces(circuit)}


def slow_drives(moment: AbstractMoment) -> Slow:
    """What every slow variable relaxes to."""
    circuit, drives = moment.circuit, {}
    for layer in circuit.layers:
        for v in layer.variables:
            if v.slow:
                drives.setdefault(layer.name, {})[v.name] = moment.drive(layer, v.name)
    return drives


def slow_drifts(circuit: Circuit, slow: Slow, drives: Mapping) -> Slow:
    """v' = (-v + <of(local)>) / tau of every slow variable, in units of v per second; batches are averaged."""
    drifts = {}
    for layer in circuit.layers:
        for v in layer.variables:
            if v.slow:
                assert v.timescale is not None
                target = _mean(drives[layer.name][v.name])
                drifts.setdefault(layer.name, {})[v.name] = (target - slow[layer.name][v.name]) / v.timescale
    return drifts
