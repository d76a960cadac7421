"""Radau IIA collocation: waveforms as polynomials through a few nodes, and what linear filters do to them.

A waveform on a window [t0, t0 + H] is its values at the s nodes t0 + c_i H, 0 < c_1 < .. < c_s = 1; with the value at
t0 it is a polynomial of degree s. Integrals up to the nodes are products with H A, A_ij being the integral of the j-th
Lagrange polynomial from 0 to c_i. As an implicit Runge-Kutta method this is Radau IIA (bibtex: hairer1996solving):
order 2s - 1 at the end of a window, L-stable, and exact for every linear invariant of the equations.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from numpy.polynomial import legendre

from dynamics.kinks import root, with_value

MAX_NODES = 24  # beyond this the interpolation of rounded values gains nothing


def others(s: int) -> int:
    """The number of nodes that windows of `s` nodes are judged by: three more, or fewer where there are no more."""
    return min(s + 3, MAX_NODES) if s < MAX_NODES else s - 3


@functools.cache
def nodes(s: int) -> np.ndarray:
    """c_1 .. c_s: the roots of P_s - P_{s-1} on [0, 1], the last of them 1."""
    if not 1 <= s <= MAX_NODES:
        raise ValueError(f"a window has {s} nodes: it must have 1 to {MAX_NODES}")
    series = np.zeros(s + 1)
    series[s - 1 :] = -1, 1
    roots, slope = np.sort(legendre.legroots(series).real), legendre.legder(series)
    for _ in range(3):  # Newton steps: the companion matrix loses digits
        roots = roots - legendre.legval(roots, series) / legendre.legval(roots, slope)
    roots[-1] = 1
    return (roots + 1) / 2


@functools.cache
def integration(s: int) -> np.ndarray:
    """A (s, s): integrals from 0 to the nodes of the interpolating polynomial; its last row is the quadrature b."""
    x = 2 * nodes(s) - 1
    series = np.linalg.inv(legendre.legvander(x, s - 1)).T  # row j: Legendre series of the j-th Lagrange polynomial
    integrals = np.stack([legendre.legval(x, legendre.legint(row, lbnd=-1)) for row in series], axis=1)
    return integrals / 2


def leak(ratio: Float[Array, ""], s: int) -> Float[Array, "s s"]:
    """K of the leaky filter tau z' = -z + u with ratio = H / tau: z = z(t0) + K (u - z(t0)) at the nodes.

    K = (1 + ratio A)^-1 ratio A. It is 0 for an empty window or an infinite tau, and 1 in the limit tau -> 0.
    """
    a = ratio * jnp.asarray(integration(s), ratio.dtype)
    return _solve(jnp.eye(s, dtype=ratio.dtype) + a, a)


def lagging(length: Float[Array, ""], lag: Float[Array, ""], s: int) -> Float[Array, "s s"]:
    """K as in `leak`, of a filter whose time constant may be 0: it then lets everything through.

    K = (lag + H A)^-1 H A, which has a derivative at a lag of 0 too. Both times are in seconds.
    """
    a = jnp.where((length == 0) & (lag == 0), 1, length) * jnp.asarray(integration(s), length.dtype)
    one = jnp.eye(s, dtype=a.dtype)
    k = _solve(lag * one + a, a)
    return jnp.where(lag > 0, k, with_value(one, k))


def _solve(matrix: Float[Array, "s s"], right: Float[Array, "s s"]) -> Float[Array, "s s"]:
    """matrix^-1 right by Gauss-Jordan elimination without pivots, which A and 1 + ratio A do not need.

    Not `jnp.linalg.solve`: on several CPU devices jaxlib 0.10.2's batched LU decomposition waits for threads that wait
    for it, and a sharded run hangs now and then.
    """
    both = jnp.concatenate([matrix, right], axis=1)

    def eliminate(k: Int[Array, ""], both: Float[Array, "s columns"]) -> Float[Array, "s columns"]:
        row = both[k] / both[k, k]
        return (both - both[:, k, None] * row[None]).at[k].set(row)

    return jax.lax.fori_loop(0, matrix.shape[0], eliminate, both)[:, matrix.shape[0] :]


def filtered(
    k: Float[Array, "*n s s"], start: Float[Array, " n"], drive: Float[Array, "rows n"]
) -> Float[Array, "s n"]:
    """z = z(t0) + K (u - z(t0)): the leaky unit that starts at `start`; a constant drive may have one row."""
    # The barrier: with several configurations the product turns what it is given, and the compiler would evaluate an
    # activation while it does so, number by number.
    return start[None] + weighted(k, jax.lax.optimization_barrier(drive - start[None]))


def weighted(k: Float[Array, "*n s s"], waveform: Float[Array, "rows n"]) -> Float[Array, "s n"]:
    """The matrix (or one for each column) times the waveform, which has one row where it is constant."""
    if k.ndim == 3:
        return jnp.einsum("nij,jn->in", k, jnp.broadcast_to(waveform, (k.shape[2], waveform.shape[1])))
    if waveform.shape[0] == k.shape[1]:
        return k @ waveform
    return k.sum(1)[:, None] * waveform


def interpolation(x: Float[Array, " times"], s: int) -> Float[Array, "times points"]:
    """Values at x in [0, 1] of the polynomial through 0 and the nodes: weights of those s + 1 points, start first."""
    points = np.concatenate([[0.0], nodes(s)])
    gaps = points[:, None] - points[None]
    np.fill_diagonal(gaps, 1.0)
    scale = jnp.asarray(1 / gaps.prod(axis=1), x.dtype)
    away = x[:, None] - jnp.asarray(points, x.dtype)[None]
    # Products that leave one factor out, by cumulated products from both ends: exact at the points, no division.
    ones = jnp.ones_like(away[:, :1])
    before = jnp.concatenate([ones, jnp.cumprod(away, axis=1)[:, :-1]], axis=1)
    after = jnp.concatenate([jnp.cumprod(away[:, ::-1], axis=1)[:, ::-1][:, 1:], ones], axis=1)
    return before * after * scale[None]


def ornstein_uhlenbeck(ratio: Float[Array, ""], s: int) -> Float[Array, "s s"]:
    """L with L g, g standard normal, an exact Ornstein-Uhlenbeck path of unit stationary variance from 0 at t0.

    ratio = H / tau. xi_i = rho_i xi_{i-1} + (1 - rho_i^2)^(1/2) g_i with rho_i = exp(-(c_i - c_{i-1}) ratio).
    """
    c = nodes(s)
    later = jnp.asarray(np.maximum(c[:, None] - c[None], 0), ratio.dtype)
    steps = jnp.asarray(np.diff(c, prepend=0.0), ratio.dtype)
    fresh = root(-jnp.expm1(-2 * steps * ratio))
    causal = jnp.asarray(np.tril(np.ones((s, s))), ratio.dtype)
    return causal * jnp.exp(-later * ratio) * fresh[None]
