"""Collocation in stretched time: waveforms as polynomials through a few nodes, and what linear filters do to them.

What follows a jump is a transient of a few tau_prop, and what comes later is slow. So waveforms on a window
[t0, t0 + H] are polynomials not in time but in x,

    t = t0 + H phi(x),   phi(x) = (1 - alpha) x + alpha x^2,   alpha = STRETCH,   0 <= x <= 1,

given by their values at the s nodes 0 < x_1 < .. < x_s = 1; with the value at t0 a polynomial has degree s. Integrals
over time up to the nodes are products with H A, A_ij being the integral of phi' times the j-th Lagrange polynomial from
0 to x_i. The nodes are those of Gauss-Radau quadrature with the weight phi'. Without stretch this is the Runge-Kutta
method Radau IIA (bibtex: hairer1996solving), of order 2s - 1 at the end of a window. With it the order is s, as a
polynomial of time has twice the degree in x, and in windows of several tau_prop the error is smaller. As there, filters
let a drive through where tau -> 0, and every linear invariant of the equations is kept.
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
# How far nodes are drawn to the start of a window, where transients are. From 4 tau_prop to 30 this is as good as 0
# with one to three nodes more, where H |x|^2 / tau_plast = 2 with one; windows of 1 tau_prop take one more for 1e-5.
STRETCH = 0.6


def others(s: int) -> int:
    """The number of nodes that windows of `s` nodes are judged by: three more, or fewer where there are no more."""
    return min(s + 3, MAX_NODES) if s < MAX_NODES else s - 3


@functools.cache
def abscissae(s: int, stretch: float = STRETCH) -> np.ndarray:
    """x_1 .. x_s, the last of them 1: Gauss-Radau nodes on [0, 1] with the weight phi'.

    The others are Gauss nodes with the weight (1 - x) phi': eigenvalues of the multiplication by x among polynomials of
    degree s - 2.
    """
    if not 1 <= s <= MAX_NODES:
        raise ValueError(f"a window has {s} nodes: it must have 1 to {MAX_NODES}")
    x, weight = _quadrature()
    basis = legendre.legvander(2 * x - 1, s)[:, : s - 1]
    orthonormal, _ = np.linalg.qr(np.sqrt(weight * (1 - x) * _slope(x, stretch))[:, None] * basis)
    inner = np.linalg.eigvalsh(orthonormal.T @ (x[:, None] * orthonormal))
    return np.concatenate([inner, [1.0]])


def nodes(s: int) -> np.ndarray:
    """phi(x_1) .. phi(x_s), the last of them 1: the times of the nodes in a window of length 1."""
    x = abscissae(s)
    return (1 - STRETCH) * x + STRETCH * x**2


@functools.cache
def integration(s: int, stretch: float = STRETCH) -> np.ndarray:
    """A (s, s): integrals over time from 0 to the nodes of the interpolating polynomial; its last row is the
    quadrature b."""
    x, (points, weight) = abscissae(s, stretch), _quadrature()
    lagrange = np.linalg.inv(legendre.legvander(2 * x - 1, s - 1))  # column j: series of the j-th Lagrange polynomial
    within = x[:, None] * points  # (s, points): where the integral up to each node is evaluated
    values = legendre.legvander(2 * within - 1, s - 1) @ lagrange
    return x[:, None] * np.einsum("ip,ipj->ij", weight * _slope(within, stretch), values)


def _slope(x: np.ndarray, stretch: float) -> np.ndarray:
    """phi'."""
    return 1 - stretch + 2 * stretch * x


@functools.cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Gauss points and weights on [0, 1], exact for all integrals here: of polynomials up to degree 2 s."""
    points, weights = legendre.leggauss(MAX_NODES + 1)
    return (points + 1) / 2, weights / 2


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


def interpolation(at: Float[Array, " times"], s: int) -> Float[Array, "times points"]:
    """Values at times in [0, 1] of the waveform through the start and the nodes: weights of those s + 1 points, start
    first."""
    points = np.concatenate([[0.0], abscissae(s)])
    gaps = points[:, None] - points[None]
    np.fill_diagonal(gaps, 1.0)
    x = 2 * at / (1 - STRETCH + jnp.sqrt((1 - STRETCH) ** 2 + 4 * STRETCH * at))  # phi(x) = at
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
