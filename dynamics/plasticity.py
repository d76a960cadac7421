"""What all compilers share: the input of a port, the output error, the factors of the laws, the drift of a matrix."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Layer, Local, Port, Projection, TwoFactor, Weights
from dynamics.norms import scaled
from dynamics.timescales import Timescales, at_level

Carried = Mapping[str, Float[Array, " _sources"]]  # what each projection delivers, by name


class Factors(NamedTuple):
    """m, p and r of one law: for one moment, shapes (targets,), (sources,), (targets,) or None; or a batch of them."""

    post: Float[Array, "*batch targets"]
    pre: Float[Array, "*batch sources"]
    row_decay: Float[Array, "*batch targets"] | None


def matrix_of(p: Projection, weights: Weights) -> Float[Array, "targets sources"]:
    """The matrix that `p` applies: its own, or the transpose of the one that it is tied to."""
    return weights[p.name] if p.transpose_of is None else weights[p.transpose_of].T


def port_input(circuit: Circuit, layer: Layer, port: Port, weights: Weights, carried: Carried) -> Float[Array, " size"]:
    """a or c of `layer`: the sum over the projections into `port` of matrix times carried signal."""
    terms = [matrix_of(p, weights) @ carried[p.name] for p in circuit.into(layer, port)]
    return sum(terms[1:], terms[0]) if terms else jnp.zeros(layer.size, next(iter(weights.values())).dtype)


def output_error(
    layer: Layer, target: Float[Array, " size"], activity: Float[Array, " size"], on: Float[Array, ""]
) -> Float[Array, " size"]:
    """c of the output layer: `target` - on * prediction, with target already zero and on = 0 in a blank gap."""
    prediction = jax.nn.softmax(activity) if layer.loss == "softmax" else activity
    return target - on * prediction


def law_factors(circuit: Circuit, locals_: Mapping[str, Local], carried: Carried) -> dict[str, Factors]:
    """m, p and r of every plastic projection, from the local variables at its two ends."""
    factors = {}
    for p in circuit.plastic:
        law, local = p.law, locals_[p.target]
        assert law is not None
        row_decay = None if law.row_decay is None else law.row_decay(local)
        factors[p.name] = Factors(law.post(local), law.pre(carried[p.name]), row_decay)
    return factors


def mean_drive(f: Factors) -> Float[Array, "targets sources"]:
    """m p^T for one moment, or its mean over a batch."""
    if f.post.ndim == 1:
        return jnp.outer(f.post, f.pre)
    return f.post.T @ f.pre / f.post.shape[0]


def direction(w: Float[Array, "targets sources"], f: Factors) -> Float[Array, "targets sources"]:
    """<m p^T> - diag(<r>) W: what a law does to its matrix, before time constants."""
    drive = mean_drive(f)
    if f.row_decay is None:
        return drive
    rate = f.row_decay if f.row_decay.ndim == 1 else f.row_decay.mean(0)
    return drive - rate[:, None] * w


def weight_drift(
    law: TwoFactor,
    w: Float[Array, "targets sources"],
    f: Factors,
    plasticity: Float[Array, ""],
    decay: Float[Array, ""] | None,
) -> Float[Array, "targets sources"]:
    """W' = (<m p^T> - diag(<r>) W) / tau_plast - W / tau_dec, in weight per second (both taus in seconds).

    A matrix whose norm is held gets the part of it that is tangent to the sphere |W| = const.
    """
    # Scaling the factors costs a pass less over the matrix than scaling their product.
    drift = direction(w, Factors(f.post / plasticity, f.pre, None if f.row_decay is None else f.row_decay / plasticity))
    if law.holds_norm:
        along = scaled(w)
        return drift - along * (jnp.sum(drift * along) / jnp.sum(along * along))
    if law.decays and decay is not None:
        drift = drift - w * (1 / decay)  # one division, not one per weight
    return drift


def weight_drifts(
    circuit: Circuit, timescales: Timescales, weights: Weights, factors: Mapping[str, Factors]
) -> Weights:
    """The drift of every plastic matrix, by name."""
    drifts = {}
    for p in circuit.plastic:
        assert p.law is not None
        plasticity = at_level(timescales.plasticity, p.level)
        decay = None if timescales.decay is None else at_level(timescales.decay, p.level)
        drifts[p.name] = weight_drift(p.law, weights[p.name], factors[p.name], plasticity, decay)
    return drifts


def slow_drifts(
    circuit: Circuit,
    slow: Mapping[str, Mapping[str, Float[Array, " _size"]]],
    locals_: Mapping[str, Local],
    shown: Float[Array, ""] | None = None,
) -> dict[str, dict[str, Float[Array, " _size"]]]:
    """v' = (-v + <g(local)>) / tau of every slow variable, in units of v per second; batches are averaged.

    Where the locals are those of samples and time also has gaps, `shown` is the fraction T / (T + g) of it that has
    samples: <g(local)> is then `shown` times that of the samples, g being 0 in a gap as the laws are.
    """
    drifts = {}
    for layer in circuit.layers:
        for v in layer.slow:
            local = locals_[layer.name]
            batched = local.activity.ndim == 2
            target = jax.vmap(v.of)(local).mean(0) if batched else v.of(local)
            if shown is not None:
                target = shown * target
            drifts.setdefault(layer.name, {})[v.name] = (target - slow[layer.name][v.name]) / v.timescale
    return drifts
