"""Radau IIA collocation: waveforms as polynomials through a few nodes, and what linear filters do to them.

A waveform on a window [t0, t0 + H] is its values at the s nodes t0 + c_i H, 0 < c_1 < .. < c_s = 1; with the value at
t0 it is a polynomial of degree s. Integrals up to the nodes are products with H A, A_ij being the integral of the j-th
Lagrange polynomial from 0 to c_i. As an implicit Runge-Kutta method this is Radau IIA (bibtex: hairer1996solving):
order 2s - 1 at the end of a window, L-stable, and exact for every linear invariant of the equations.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
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


def times(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """a b. Where there are many b for one a, such as the slopes of a waveform along several numbers, or a waveform of
    each of several configurations, each is multiplied by itself. JAX would multiply a by all of them side by side, and
    turn every array over before and after that, which takes as long as the product."""
    return _times.bind(a, b)


def _times_each(factors: tuple[Array, Array], axes: tuple[int | None, int | None]) -> tuple[Array, int]:
    """The products of matrices of which there are many, along their axes; of one factor there may be but one."""
    count = next(x.shape[axis] for x, axis in zip(factors, axes, strict=True) if axis is not None)
    a, b = (x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(factors, axes, strict=True))
    return jnp.matmul(jnp.broadcast_to(a, (count, *a.shape)) if axes[0] is None else a, b), 0


_times = Primitive("times")
_times.def_impl(jnp.matmul)
_times.def_abstract_eval(lambda a, b: ShapedArray((a.shape[0], b.shape[1]), a.dtype))
mlir.register_lowering(_times, mlir.lower_fun(jnp.matmul, multiple_results=False))
ad.defbilinear(_times, lambda slope, _, b: times(slope, b.T), lambda slope, a, _: times(a.T, slope))
batching.primitive_batchers[_times] = _times_each


class Leak(NamedTuple):
    """The leaky filter tau z' = -z + u of a window, ratio = H / tau: z = z(t0) + K (u - z(t0)) at the nodes with
    K = ratio M, M = (1 + ratio A)^-1 A; one of each for every column where time constants differ.

    M is a constant to derivatives (d). z(t0), u and the ratio move z by

        dz = dz(t0) + M (ratio (du - dz(t0)) + dratio (u - z)),

    one more product with M and none with its derivative, for as many of them as there are numbers.
    """

    ratio: Float[Array, "*n"]
    m: Float[Array, "*n s s"]

    @property
    def matrix(self) -> Float[Array, "s s"]:
        """K, with its derivative: 0 for an empty window or an infinite tau, and 1 in the limit tau -> 0."""
        one = jnp.eye(self.m.shape[-1], dtype=self.m.dtype)
        return filtered(self, jnp.zeros_like(one[0]), one)


def leak(ratio: Float[Array, ""], s: int) -> Leak:
    """The leaky filter of a window of `ratio` time constants."""
    a = jnp.asarray(integration(s), ratio.dtype)
    return Leak(ratio, _solve(jnp.eye(s, dtype=ratio.dtype) + jax.lax.stop_gradient(ratio) * a, a))


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
    k: Leak | Float[Array, "s s"], start: Float[Array, " n"], drive: Float[Array, "rows n"]
) -> Float[Array, "s n"]:
    """z = z(t0) + K (u - z(t0)): the leaky unit that starts at `start`; a constant drive may have one row."""
    if isinstance(k, Leak):
        return _leaked(k.m, k.ratio[None] if k.ratio.ndim else k.ratio, start, drive)
    return start[None] + _apart(k, drive - start[None])


def _apart(k: Float[Array, "*n s s"], waveform: Float[Array, "rows n"]) -> Float[Array, "s n"]:
    """A product apart from what its waveform comes of: with several configurations the product turns what it is given,
    and the compiler would evaluate an activation while it does so, number by number."""
    return weighted(k, jax.lax.optimization_barrier(waveform))


@jax.custom_jvp
def _leaked(
    m: Float[Array, "*n s s"], ratio: Float[Array, "*row"], start: Float[Array, " n"], drive: Float[Array, "rows n"]
) -> Float[Array, "s n"]:
    return start[None] + _apart(m, ratio * (drive - start[None]))


def _leaked_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    m, ratio, start, drive = primals
    _, d_ratio, d_start, d_drive = (None if isinstance(d, SymbolicZero) else d for d in tangents)
    z, moved = _leaked(*primals), []
    if d_drive is not None:
        moved.append(ratio * d_drive)
    if d_start is not None:
        moved.append(-ratio * d_start[None])
    if d_ratio is not None:
        moved.append(d_ratio * (drive - z))
    if not moved:
        return z, jnp.zeros_like(z)
    dz = _apart(m, sum(moved[1:], moved[0]))
    return z, dz if d_start is None else d_start[None] + dz


_leaked.defjvp(_leaked_jvp, symbolic_zeros=True)


def weighted(k: Float[Array, "*n s s"], waveform: Float[Array, "rows n"]) -> Float[Array, "s n"]:
    """The matrix (or one for each column) times the waveform, which has one row where it is constant."""
    if k.ndim == 3:
        return jnp.einsum("nij,jn->in", k, jnp.broadcast_to(waveform, (k.shape[2], waveform.shape[1])))
    if waveform.shape[0] == k.shape[1]:
        return times(k, waveform)
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
