"""Closed forms of curl descent on a linear student: spectrum and phase boundaries at the solution (derived).

At the solution v = W2 W1 - w_t = 0 the error follows v' = -A Sigma v / tau_plast with A = |W2|^2 D1 + W1^T D2 W1. Where
|W2| = 1 and the N x M entries of W1 have variance 1/M, its spectrum at large M = c N is the free convolution of D1,
whose resolvent is g(s) = (1 - alpha_h) / (s + 1) + alpha_h / (s - 1) left of it, and of the two Wishart matrices of
the units that learn with either sign. Left of the spectrum, at -s before the convolution, it has

    z(s) = [(1 - alpha_r) / (1 + g) - alpha_r / (1 - g)] / c - s,    g(s) < 1,

which is concave, and whose maximum is the lower edge. The boundaries are where that is 0. With free probability as in
bibtex mingo2017free (doi:10.1007/978-1-4939-6942-5), and the phases of bibtex ninou2025curl.
"""

from collections.abc import Callable

import numpy as np
from numpy.polynomial import polynomial
from scipy.optimize import root_scalar

ALWAYS_STABLE = 1 / 4  # below this c no fraction of flipped inputs destabilises
NEVER_STABLE = 2 / 3  # above it a single one does
TRACY_WIDOM_MEAN = -1.2065335745820  # of the largest eigenvalue of a real symmetric matrix, in units of `edge_scale`
CELLS = (np.arange(400) + 0.5) / 400  # of a grid on which a maximum is looked for
Numbers = float | np.ndarray
_SOFT = 1e-9  # how far from the real axis the resolvent is taken


def lambda_min(c: float, alpha_h: float = 0.0, alpha_r: float = 0.0) -> float:
    """The lower edge of the spectrum of A (dimensionless): the solution is stable where it is positive.

    c = M / N inputs per hidden unit; a fraction alpha_h of inputs and alpha_r of hidden units learn with sign -1.
    """
    return _lower_edge(c, alpha_h, alpha_r)[1]


def lambda_max(c: float, alpha_h: float = 0.0, alpha_r: float = 0.0) -> float:
    """The upper edge of the spectrum of A: -A has the other inputs and the other units flipped."""
    return -lambda_min(c, 1 - alpha_h, 1 - alpha_r)


def edge_scale(c: float, alpha_h: float = 0.0, alpha_r: float = 0.0) -> float:
    """How far the smallest of M eigenvalues strays from the lower edge, times M^(2/3) (Tracy and Widom).

    Its mean is lambda_min - edge_scale TRACY_WIDOM_MEAN M^(-2/3). The scale is (z''(g) / 2)^(1/3) at the edge, where
    the density rises as sqrt(x - edge) / (pi edge_scale^(3/2)). It is 0 where the edge is an atom (`atoms`).
    """
    if alpha_r == 0 and c * (alpha_h or 1) >= 1:
        return 0.0
    s = _lower_edge(c, alpha_h, alpha_r)[0]
    g, slope, bend = _resolvent(s, alpha_h)
    inner = 2 * ((1 - alpha_r) / (1 + g) ** 3 - alpha_r / (1 - g) ** 3)
    first = -(1 - alpha_r) / (1 + g) ** 2 - alpha_r / (1 - g) ** 2
    curvature = (inner * slope**2 + first * bend) / c  # z''(s), negative; at the edge z''(g) = z''(s) / g'^2
    return float((-curvature / slope**2 / 2) ** (1 / 3))


def expected_smallest(size: int, c: float, alpha_h: float = 0.0, alpha_r: float = 0.0) -> float:
    """The mean of the smallest of `size` = M eigenvalues: the edge, and its shift inward at finite M."""
    shift = -TRACY_WIDOM_MEAN * edge_scale(c, alpha_h, alpha_r) / size ** (2 / 3)
    return lambda_min(c, alpha_h, alpha_r) + shift


def hidden_boundary(c: float) -> float:
    """alpha_h*: the solution is stable for a smaller fraction of flipped inputs. 1 for c < 1/4, 0 for c > 2/3."""
    return _clipped_maximum(lambda s: (1 / c - s - s / (s + 1)) * (s**2 - 1) / (2 * s), 1.0)


def readout_boundary(c: float, alpha_h: float = 0.0) -> float:
    """alpha_r*: the solution is stable for a smaller fraction of flipped hidden units; 0 where for none.

    That is the mixed boundary where a fraction `alpha_h` of the inputs is flipped too.
    """
    return _clipped_maximum(lambda s: _highest(s, c, alpha_h), _start(alpha_h, True))


def finite_boundary(size: int, fractions: Callable[[float], tuple[float, float, float]]) -> float:
    """The f at which the expected smallest of M = `size` eigenvalues is 0, which tends to the boundary as M^(-2/3).

    `fractions` gives (c, alpha_h, alpha_r) at f. 1 (0) where it is positive (negative) at every f.
    """
    if expected_smallest(size, *fractions(0.0)) <= 0:
        return 0.0
    if expected_smallest(size, *fractions(1.0)) >= 0:
        return 1.0
    return root(lambda f: expected_smallest(size, *fractions(f)), 0.0, 1.0)


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f changes sign between `low` and `high`, at which it has opposite signs; to 1e-9."""
    return float(root_scalar(f, bracket=(low, high), xtol=1e-9).root)


def density(x: np.ndarray, c: float, alpha_h: float = 0.0, alpha_r: float = 0.0) -> np.ndarray:
    """The density of the eigenvalues of A at `x`, without the atoms (`atoms`).

    Of the roots of the resolvent's polynomial G [(z Q - P)^2 - Q^2] = (z Q - P) Q + Delta Q^2, R = P / Q being the
    R-transform of the two Wishart matrices and Delta = 1 - 2 alpha_h, it is the one for which G and z - R(G) are in
    the lower and upper half plane.
    """
    return np.array([_density_at(complex(at, _SOFT), c, alpha_h, alpha_r) for at in np.asarray(x, float)])


def atoms(c: float, alpha_h: float = 0.0) -> dict[float, float]:
    """Eigenvalues that a finite fraction of directions share, and that fraction: those that no hidden unit sees."""
    weights = {1.0: 1 - alpha_h - 1 / c, -1.0: alpha_h - 1 / c}
    return {at: weight for at, weight in weights.items() if weight > 0}


def _resolvent(s: Numbers, alpha_h: float) -> tuple[Numbers, Numbers, Numbers]:
    """g(s) and its first two derivatives; a kind of input that does not occur has no pole."""
    parts = [(weight, s + at) for weight, at in ((1 - alpha_h, 1), (alpha_h, -1)) if weight > 0]
    first, second, third = (sum(weight / away**power for weight, away in parts) for power in (1, 2, 3))
    return first, -second, 2 * third


def _start(alpha_h: float, bounded: bool) -> float:
    """Where the domain of z begins: right of the poles of g, and where g = 1 if g < 1 is asked for."""
    if not bounded:
        return 1.0 if alpha_h > 0 else -1.0
    # g = 1 where s^2 - 1 = s - 1 + 2 alpha_h; without flipped inputs g = 1 / (s + 1).
    return 1 / 2 + (1 / 4 + 2 * alpha_h) ** 0.5 if alpha_h > 0 else 0.0


def _lower_edge(c: float, alpha_h: float, alpha_r: float) -> tuple[float, float]:
    """Where z(s) is largest, and its value."""
    return _maximum(lambda s: _z(s, c, alpha_h, alpha_r), _start(alpha_h, alpha_r > 0))


def _z(s: Numbers, c: float, alpha_h: float, alpha_r: float) -> Numbers:
    g = _resolvent(s, alpha_h)[0]
    negative = alpha_r / (1 - g) if alpha_r > 0 else 0.0
    return ((1 - alpha_r) / (1 + g) - negative) / c - s


def _highest(s: Numbers, c: float, alpha_h: float) -> Numbers:
    """The alpha_r at which z(s) = 0."""
    g = _resolvent(s, alpha_h)[0]
    return (1 - g) / 2 * (1 - c * s * (1 + g))


def _maximum(f: Callable[[Numbers], Numbers], start: float) -> tuple[float, float]:
    """Where a function with one maximum on s > start has it, and its value: on ever finer grids of u = d / (1 + d)."""
    low, high, best, found = 0.0, 1.0, start, -np.inf
    for _ in range(4):
        u = low + (high - low) * CELLS
        s = start + u / (1 - u)
        values = np.asarray(f(s))
        at = int(values.argmax())
        best, found = float(s[at]), float(values[at])
        low, high = u[at - 1] if at else low, u[at + 1] if at + 1 < len(u) else high
    return best, found


def _clipped_maximum(f: Callable[[Numbers], Numbers], start: float) -> float:
    return min(1.0, max(0.0, _maximum(f, start)[1]))


def _density_at(z: complex, c: float, alpha_h: float, alpha_r: float) -> float:
    delta = 1 - 2 * alpha_h
    if alpha_r in (0, 1):  # one Wishart matrix, positive or negative: one pole
        sign = 1 - 2 * alpha_r
        p, q = np.array([sign]), c * np.array([1, -sign])
    else:
        p, q = np.array([1 - 2 * alpha_r, 1]), c * np.array([1, 0, -1])
    inner = polynomial.polysub(z * q, p)
    squares = polynomial.polysub(polynomial.polymul(inner, inner), polynomial.polymul(q, q))
    right = polynomial.polyadd(polynomial.polymul(inner, q), delta * polynomial.polymul(q, q))
    roots = polynomial.polyroots(polynomial.polysub(polynomial.polymulx(squares), right))
    s = z - polynomial.polyval(roots, p) / polynomial.polyval(roots, q)
    right_branch = (roots.imag < 0) & (s.imag > 0)
    return float(-roots[right_branch].imag.min() / np.pi) if right_branch.any() else 0.0
