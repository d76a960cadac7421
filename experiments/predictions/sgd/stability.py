"""B3.1: how large eta may be until SGD leaves a minimum in the mean square."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from scipy.optimize import brentq

from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positives, Seeds, Size
from experiments.predictions.kit import drawn, f64, intervals, jackknifed, keys_from, look, marked, wired
from experiments.predictions.sgd.setting import sample_flow, updates, whole_batch
from experiments.results.verdicts import all_match, close, matches, stays_below
from rules import SGD

SUBSTEPS = 8  # of the SDE in an update
BEYOND = (1.2, 1.8, 2.4)  # eta with additive noise, over the largest limit without
GROUPS = 40  # of seeds, for the intervals of limits


class Stability(AbstractPrediction):
    """E |theta|^2 of linear regression without noise, from its minimum, against eta Tr H."""

    number = "B3.1"
    title = "SGD is stable below eta Tr H = 2"
    source = "wu2023implicit, dynamical stability; the map of second moments derived"
    equation = """T(M) = M - eta (H M + M H) + eta^2 [(1 - 1/B) H M H + (1/B) <a a^T M a a^T>], stable where its
        spectral radius is below 1; |a| = 1, B = 1: eta Tr H < 2"""
    claim = """With features of one length, updates by single samples leave the minimum from eta Tr H = 2 on, where
        gradient descent, which only needs eta lam_max < 2, still converges; with gaussian features they leave it
        earlier, so that the bound holds and is not tight; larger batches bear more, eta Tr H = 2 / ((1 - 1/B)/p + 1/B)
        for isotropic features of length 1, and the SDE 2 / (1 - 1/p). With additive noise, which does not vanish at the
        minimum, there is no such limit: E |theta|^2 comes to rest for every eta, at (eta / 2) s^2 Tr H^-1 for the noise
        eta^(1/2) s. A typical path above the limit still converges: the mean square is that of rare ones."""
    method = """Updates by the discrete regime, by all samples at once, and the weight flow with the noise of samples,
        from theta with the moments that grow or fall as one. Mean squares after some updates against powers of the
        spectral radius of T. The limits: where the growth of simulated squares changes sign, by a parabola through it.
        Batches and the SDE have isotropic features, two random bases. Of K Euler steps of the SDE in an update the
        limit is 2 / (1 - (1 - 1/K)/p). With additive noise: the weight flow with synaptic noise, isotropic features, at
        eta beyond the limits of all others, against the second moments of Euler's steps."""
    tolerance = """99.9 % intervals, of all eta together; for limits those of a jackknife over groups of seeds, and 1 %
        for the parabola."""
    quick = {"seeds": 1000}

    dimension: Size = 6  # p
    samples: Size = 40
    ratios: Positives = (0.8, 0.9, 1.1, 1.2)  # eta over the limit
    batch: Size = 4
    updates: Size = 3
    seeds: Seeds = 10_000

    def misfit(self) -> str | None:
        if not min(self.ratios) < 1 < max(self.ratios):
            return "sgd-stability.ratios must have numbers below 1 and above 1"
        if self.samples < self.dimension:
            return "sgd-stability.samples must be at least its dimension: otherwise some directions do not move"
        return None

    def measure(self) -> Finding:
        unit, gauss, even = self.features(True), self.features(False), self.isotropic()
        modes = {
            "unit features": (unit, 1, False),
            "gaussian features": (gauss, 1, False),
            f"batches of {self.batch}": (even, self.batch, False),
            "SDE": (even, 1, True),
        }
        verdicts, shown, noisy = [], {}, np.empty(0)
        for name, (a, batch, sde) in modes.items():
            step = functools.partial(moment_map, a, batch=batch, substeps=SUBSTEPS if sde else None)
            limit = critical(step)
            etas = limit * np.array(self.ratios)
            radii, roots = map(np.array, zip(*(leading(step(eta)) for eta in etas), strict=True))
            count = 1 if sde else self.updates  # gaussian noise that multiplies has heavy tails
            squares, noisy = self._simulated(a, etas, roots, batch, count, sde)
            quantity = f"E |theta|^2 after {count} updates over its expectation"
            ratio = squares / radii[:, None] ** count
            verdicts.append(all_match(name, quantity, np.ones(len(etas)), ratio.T))
            shown[name] = limit * np.trace(a.T @ a) / len(a), squares, radii, count
        verdicts += self._limits(shown)
        verdicts += self._paths(unit, shown)
        etas = self.additive_etas
        expected, rest = self.added(etas, 1), self.added(etas, None)
        quantity = f"E |theta|^2 after an update, over that at rest, eta Tr H = {etas[0]:.3g} to {etas[-1]:.3g}"
        verdicts.append(all_match("no limit with additive noise", quantity, expected / rest, (noisy / rest[:, None]).T))
        return Finding(verdicts, self._drawn(shown, noisy))

    def features(self, unit: bool) -> np.ndarray:
        """Features a, one sample a row, of length 1 or gaussian."""
        a = np.random.default_rng(self.seed).standard_normal((self.samples, self.dimension))
        return a / np.linalg.norm(a, axis=1, keepdims=True) if unit else a

    def isotropic(self) -> np.ndarray:
        """Features of length 1 with H = I / p: two random orthonormal bases."""
        draws = np.random.default_rng([self.seed, 1]).standard_normal((2, self.dimension, self.dimension))
        return np.concatenate([np.linalg.qr(draw)[0] for draw in draws])

    def closed(self, batch: int, substeps: int | None = None) -> float:
        """eta Tr H at the limit of isotropic features of length 1, for updates or for Euler steps of the SDE.

        The trace of T(M) is then that of M times 1 - 2 eta / p + eta^2 [(1 - 1/B) / p^2 + 1 / (B p)].
        """
        p = self.dimension
        if substeps is None:
            return 2 / ((1 - 1 / batch) / p + 1 / batch)
        return 2 / (1 / substeps / p + (1 - 1 / p) / batch)

    @property
    def additive_etas(self) -> np.ndarray:
        """What additive noise is tried at: beyond the largest limit, that of batches; H = I / p, Tr H = 1."""
        return max(self.closed(self.batch), self.closed(1, SUBSTEPS)) * np.array(BEYOND)

    def added(self, etas: np.ndarray, updates: int | None) -> np.ndarray:
        """E |theta|^2 with additive noise eta^(1/2) after so many updates of Euler steps, from 1; None: at rest."""
        kept, p = (1 - etas / SUBSTEPS / self.dimension) ** 2, self.dimension
        rest = p * etas**2 / SUBSTEPS / (1 - kept)
        return rest if updates is None else rest + kept ** (SUBSTEPS * updates) * (1 - rest)

    def _simulated(
        self, a: np.ndarray, etas: np.ndarray, roots: np.ndarray, batch: int, count: int, sde: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """|theta|^2 at the end over its mean at the start, (etas, seeds); by the SDE also that with additive noise,
        (additive etas, seeds), from moments I / p."""
        added = np.zeros(len(etas))
        if sde:  # in the same program
            more, even = self.additive_etas, np.eye(self.dimension) / self.dimension**0.5
            etas, added = np.append(etas, more), np.append(added, np.sqrt(more))
            roots = np.concatenate([roots, np.tile(even, (len(more), 1, 1))])
        keys = keys_from(self.seed, self.seeds)
        squares = np.asarray(_squares(f64(a), f64(etas), f64(roots), f64(added), keys, count, batch, sde))
        return squares[added == 0], squares[added > 0]

    def _limits(self, shown: dict) -> list:
        """Where the growth of simulated squares changes sign, against the limits in closed form."""
        quantity = "eta Tr H where E |theta|^2 neither grows nor falls"
        batches = f"batches of {self.batch}"
        closed = {"unit features": 2.0, batches: self.closed(self.batch), "SDE": self.closed(1, SUBSTEPS)}
        roots = {name: self._roots(limit, squares) for name, (limit, squares, *_) in shown.items()}
        return [
            *(matches(f"limit, {name}", quantity, at, roots[name], 0.01 * at) for name, at in closed.items()),
            stays_below("bound of gaussian features", quantity, 2.0, roots["gaussian features"]),
        ]

    def _roots(self, limit: float, squares: np.ndarray) -> np.ndarray:
        """Pseudo-values of the eta Tr H at which squares (etas, seeds) neither grow nor fall, by groups of seeds."""
        groups = np.stack([part.mean(1) for part in np.array_split(squares, min(GROUPS, self.seeds), axis=1)], 1)

        def root(chosen: np.ndarray) -> float:
            growth, degree = np.log(groups[:, chosen].mean(1)), min(2, len(self.ratios) - 1)
            zeros = np.polynomial.Polynomial.fit(self.ratios, growth, degree).roots().real
            return limit * float(min(zeros, key=lambda ratio: abs(ratio - 1)))

        return jackknifed(root, groups.shape[1])

    def _paths(self, unit: np.ndarray, shown: dict) -> list:
        """Gradient descent at the largest eta, and typical paths of gaussian features above the limit."""
        eta = shown["unit features"][0] * max(self.ratios)
        run = whole_batch(wired(SGD(), (self.dimension, 1)), f64(unit), jnp.zeros((len(unit), 1)), eta)
        start = {"W1": jnp.ones((1, self.dimension))}
        end = jax.jit(lambda w: run.weights(run.advance(run.init(w), jnp.int32(0), 60)))(start)["W1"]
        quantity = f"|theta| after 60 updates over the start, eta Tr H = {eta:.3g}"
        left = float(np.linalg.norm(end)) / self.dimension**0.5
        _, squares, radii, count = shown["gaussian features"]
        row = int(np.argmin(np.where(np.array(self.ratios) > 1, self.ratios, np.inf)))
        note = f"eta at {self.ratios[row]:g} of the limit, where the mean square grows by {radii[row] ** count:.3g}"
        typical = (
            np.median(squares[row].reshape(-1, self.seeds // 20 or 1), axis=1) if self.seeds % 20 == 0 else squares[row]
        )
        return [
            close("gradient descent converges", quantity, 0.0, left, 0.05),
            stays_below("typical paths converge", "median of |theta|^2 over its mean at the start", 1.0, typical, note),
        ]

    @drawn(8.0, 2.8)
    def _drawn(self, figure: Figure, shown: dict, squares: np.ndarray) -> None:
        panel, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
        fine = np.linspace(0.1, 1.1 * self.additive_etas[-1], 100)
        right.plot(fine, self.added(fine, 1), color="0.3", label="theory")
        marked(right, self.additive_etas, squares, label="additive noise", **look(len(shown)))
        right.set(xlabel="eta Tr H", ylabel="E |theta|$^2$ after an update")
        right.legend()
        for i, (name, (limit, squares, radii, count)) in enumerate(shown.items()):
            x = limit * np.array(self.ratios)
            means, half = intervals(squares)
            ends = np.abs(np.maximum([means - half, means + half], 0) ** (1 / count) - means ** (1 / count))
            panel.errorbar(x, means ** (1 / count), ends, linestyle="", capsize=2, label=name, **look(i))
            panel.plot(x, radii, color=look(i)["color"])
            panel.axvline(limit, color=look(i)["color"], linestyle=":", linewidth=0.8)
        panel.plot([], [], color="0.3", label="theory")
        panel.axhline(1.0, color="0.7", linewidth=0.6)
        panel.plot([], [], color="0.3", linestyle=":", label="limit")
        panel.set(xlabel="eta Tr H", ylabel="growth of E |theta|$^2$ per update")
        figure.legend(*panel.get_legend_handles_labels(), loc="outside right upper")


def moment_map(a: np.ndarray, eta: float, batch: int = 1, substeps: int | None = None) -> np.ndarray:
    """T as a matrix of second moments: of an update, or of as many Euler steps of the SDE as `substeps` says."""
    n, p = a.shape
    h, one = a.T @ a / n, np.eye(p)
    outer = np.einsum("ni,nj->nij", a, a)
    each = np.einsum("nij,nkl->ikjl", outer, outer).reshape(p * p, p * p) / n
    both, sides = np.kron(h, h), np.kron(h, one) + np.kron(one, h)
    if substeps is None:
        return np.eye(p * p) - eta * sides + eta**2 * (both + (each - both) / batch)
    dt = eta / substeps
    step = np.eye(p * p) - dt * sides + dt**2 * both + dt * eta / batch * (each - both)
    return np.linalg.matrix_power(step, substeps)


def leading(moments: np.ndarray) -> tuple[float, np.ndarray]:
    """The spectral radius of a map of second moments, and a root of the moments of trace 1 that grow by it."""
    p = round(len(moments) ** 0.5)
    m, size = np.eye(p).ravel(), 1.0
    for _ in range(500):
        m = moments @ m
        size = float(np.linalg.norm(m))
        m = m / size
    values, vectors = np.linalg.eigh((m.reshape(p, p) + m.reshape(p, p).T) / 2)
    return size, vectors * np.sqrt(np.maximum(values, 0) / values.sum())


@eqx.filter_jit
def _squares(
    a: Array, etas: Array, roots: Array, added: Array, keys: Array, count: int, batch: int, sde: bool
) -> Float[Array, "etas seeds"]:
    """|theta|^2 after `count` updates, theta at the start normal with the moments of roots.

    By the SDE the noise is additive, of strength `added`, where that is not 0.
    """
    circuit, y = wired(SGD(), (a.shape[1], 1)), jnp.zeros((len(a), 1))

    def one(key: Array, eta: Array, root: Array, added: Array) -> Array:
        for_order, for_start = jax.random.split(key)
        run: Any = updates(circuit, Stream(a, y, for_order), eta, batch)
        if sde:
            kinds = {"sampling_noise": True, "batch": jnp.where(added > 0, jnp.inf, 1.0)}
            kinds |= {"noise": Noise(synaptic=added), "key": for_order}
            run = sample_flow(circuit, a, y, eta, SUBSTEPS, "euler", **kinds)
        start = {"W1": (root @ jax.random.normal(for_start, a.shape[1:], jnp.float64))[None]}
        return jnp.sum(run.weights(run.advance(run.init(start), jnp.int32(0), count))["W1"] ** 2)

    return jax.vmap(jax.vmap(one, (0, None, None, None)), (None, 0, 0, 0))(keys, etas, roots, added)


def critical(step: Callable[[float], np.ndarray]) -> float:
    """The eta at which the spectral radius of a map of second moments passes 1."""

    def growth(eta: float) -> float:
        return np.log(leading(step(eta))[0])

    high = 1e-3
    while growth(high) < 0 and high < 1e3:
        high *= 2
    return float(np.asarray(brentq(growth, high / 2, high, xtol=1e-12)))
