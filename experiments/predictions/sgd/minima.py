"""B3: how large eta may be until SGD leaves a minimum, and which minima it leaves."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from scipy.optimize import brentq

from dynamics.circuit import Circuit, Weights
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from dynamics.instruments import loss, predict
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import (
    discrete,
    f64,
    intervals,
    jackknifed,
    keys_from,
    weight_flow,
    weights_after,
    wired,
)
from experiments.results.verdicts import all_match, close, exceeds, matches, stays_below
from rules import SGD

SUBSTEPS = 8  # of the SDE in an update
BEYOND = (1.2, 1.8, 2.4)  # eta with additive noise, over the largest limit without
GROUPS = 40  # of seeds, for the intervals of limits
RECORDS = 40


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
        run = weight_flow(wired(SGD(), (self.dimension, 1)), f64(unit), jnp.zeros((len(unit), 1)), eta)
        start = {"W1": jnp.ones((1, self.dimension))}
        end = jax.jit(lambda w: weights_after(run, w, 60))(start)["W1"]
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
        run: Any = discrete(circuit, Stream(a, y, for_order), eta, batch=batch)
        if sde:
            kinds = {"sampling_noise": True, "batch": jnp.where(added > 0, jnp.inf, 1.0)}
            kinds |= {"noise": Noise(synaptic=added), "key": for_order}
            run = weight_flow(circuit, a, y, eta, parts=SUBSTEPS, **kinds)
        start = {"W1": (root @ jax.random.normal(for_start, a.shape[1:], jnp.float64))[None]}
        return jnp.sum(weights_after(run, start, count)["W1"] ** 2)

    return jax.vmap(jax.vmap(one, (0, None, None, None)), (None, 0, 0, 0))(keys, etas, roots, added)


def critical(step: Callable[[float], np.ndarray]) -> float:
    """The eta at which the spectral radius of a map of second moments passes 1."""

    def growth(eta: float) -> float:
        return np.log(leading(step(eta))[0])

    high = 1e-3
    while growth(high) < 0 and high < 1e3:
        high *= 2
    return float(np.asarray(brentq(growth, high / 2, high, xtol=1e-12)))


class Path(NamedTuple):
    """A run of every seed: eta Tr H / 2 and the loss at the records, and the gradients of the outputs at the end."""

    trace: Float[Array, "seeds records"]
    loss: Float[Array, "seeds records"]
    features: Float[Array, "seeds samples weights"]


class Flatness(AbstractPrediction):
    """Tr H of a two-layer network along updates by single samples and by all, from the same sharp minimum."""

    number = "B3.2"
    title = "SGD ends where eta Tr H is below 2"
    source = "wu2023implicit, flatness from dynamical stability; setting derived"
    equation = (
        "at the end of SGD eta Tr H / 2 <= 1; of gradient descent only eta lam_max / 2 <= 1. H = <grad f grad f^T>"
    )
    claim = """From beside a minimum that interpolates all samples, and at which eta Tr H / 2 is above 1 and eta lam_max
        / 2 below, gradient descent returns to it; updates by single samples leave it and come to rest at another one
        that is flat enough, where the map of second moments has a spectral radius of at most 1."""
    method = """Tanh networks with one output and more weights than samples: the weight flow to a minimum, a small
        random step beside it, then both kinds of updates with the same eta. H from automatic differentiation of
        predictions."""
    tolerance = """99.9 % intervals over seeds; gradient descent keeps the trace within 2 %; a loss below 1e-6 is rest,
        and runs without rest count for nothing."""
    quick = {"seeds": 8, "updates": 2000}

    inputs: Size = 6
    hidden: Size = 12
    samples: Size = 8
    sharpness: Positive = 1.3  # eta Tr H / 2 at the first minimum
    step: Positive = 0.01  # beside it
    updates: Size = 4000
    seeds: Seeds = 16

    def misfit(self) -> str | None:
        if self.sharpness <= 1:
            return "sgd-flatness.sharpness must be above 1: SGD stays at flatter minima"
        if self.hidden * (self.inputs + 1) < 2 * self.samples:
            return "sgd-flatness needs twice as many weights as samples, hidden (inputs + 1), to interpolate"

    def measure(self) -> Finding:
        at, eta, descent, single = jax.tree.map(np.asarray, self._simulated())
        largest = np.array([np.linalg.eigvalsh(a @ a.T / self.samples)[-1] for a in at]) * eta / 2
        rests = np.isfinite(single.features).all((1, 2)) & (single.loss[:, -1] < 1e-6)
        before, after = self._radii(at, eta), self._radii(single.features[rests], eta[rests])
        verdicts = [
            exceeds("too sharp for SGD", "log of the spectral radius of the second moments", 0.0, np.log(before)),
            stays_below("and not for gradient descent", "eta lam_max / 2", 1.0, largest),
            matches(
                "gradient descent returns", "eta Tr H / 2", self.sharpness, descent.trace[:, -1], 0.02 * self.sharpness
            ),
            exceeds(
                "SGD leaves",
                "eta Tr H / 2 at the start over that at rest",
                1.0,
                self.sharpness / single.trace[rests, -1],
            ),
            stays_below("SGD rests at a flat minimum", "eta Tr H / 2", 1.0, single.trace[rests, -1]),
            stays_below("which it bears", "spectral radius of the second moments", 1.0 + 1e-9, after),
        ]
        told = f"{rests.sum()} of {len(rests)} runs of SGD came to rest, by a loss below 1e-6"
        notes = [f"{told}; the others ran away from the first minimum for good, and the claim is about rest alone."]
        return Finding(verdicts, self._drawn(descent, single), [] if rests.all() else notes)

    def _radii(self, features: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """The spectral radius of the map of second moments, in the space that the gradients of the outputs span."""
        reduced = [np.linalg.qr(a.T)[1].T for a in features]
        return np.array([leading(moment_map(a, float(e)))[0] for a, e in zip(reduced, eta, strict=True)])

    def _simulated(self) -> tuple[Array, Array, Path, Path]:
        """Gradients at the first minimum, eta, and both runs."""
        circuit = wired(SGD(), (self.inputs, self.hidden, 1))
        each = max(1, self.updates // RECORDS)

        def one(key: Array) -> tuple:
            for_x, for_y, for_w, for_order, for_step = jax.random.split(key, 5)
            x = jax.random.normal(for_x, (self.samples, self.inputs), jnp.float64)
            x = x * (self.inputs**0.5 / jnp.linalg.norm(x, axis=1, keepdims=True))
            y = jax.random.normal(for_y, (self.samples, 1), jnp.float64)
            flow = weight_flow(circuit, x, y, 20.0, integrator="heun", parts=100)
            minimum = weights_after(flow, circuit.initial_weights(for_w), 20)
            features = gradients(circuit, minimum, x)
            eta = 2 * self.sharpness / (jnp.sum(features**2) / self.samples)
            flat, restore = ravel_pytree(minimum)
            start = restore(flat + self.step * jax.random.normal(for_step, flat.shape, flat.dtype))
            runs = weight_flow(circuit, x, y, eta), discrete(circuit, Stream(x, y, for_order), eta)
            return features, eta, *(_path(run, start, x, y, eta, each) for run in runs)

        return eqx.filter_jit(jax.vmap(one))(keys_from(self.seed, self.seeds))

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, descent: Path, single: Path) -> None:
        left, right = figure.subplots(1, 2)
        k = np.linspace(0, self.updates, descent.trace.shape[1])
        for i, (path, label) in enumerate(((descent, "all samples"), (single, "single samples"))):
            for panel, values in ((left, path.trace), (right, np.maximum(path.loss, 1e-30))):
                values = np.where(np.isfinite(values) & (values < 1e3), values, np.nan)
                panel.plot(k, values.T, color=look(i)["color"], lw=0.6, alpha=0.6)
                panel.plot([], [], color=look(i)["color"], label=label)
        left.axhline(1.0, color="0.3", linestyle="--", label="theory: SGD's bound")
        left.set(xlabel="updates", ylabel="eta Tr H / 2", ylim=(0, 2.5 * self.sharpness))
        right.set(xlabel="updates", ylabel="loss", yscale="log")
        left.legend()


def gradients(circuit: Circuit, weights: Weights, x: Float[Array, "n i"]) -> Float[Array, "n weights"]:
    """The gradient of each sample's output by all weights."""
    flat, restore = ravel_pytree(weights)
    return jax.jacrev(lambda v: predict(circuit, restore(v), x)[:, 0])(flat)


def _path(run: WeightFlow | Discrete, start: Weights, x: Array, y: Array, eta: Array, each: int) -> Path:
    def record(state: object, k: Array) -> tuple:
        weights = run.weights(state)  # pyright: ignore[reportArgumentType]
        trace = jnp.sum(gradients(run.circuit, weights, x) ** 2) / len(x)
        seen = eta * trace / 2, loss(run.circuit, weights, x, y)
        return run.advance(state, k * each, each), seen  # pyright: ignore[reportArgumentType]

    marks = jnp.arange(RECORDS + 1, dtype=jnp.int32)
    end, (trace, losses) = jax.lax.scan(record, run.init(start), marks)
    return Path(trace, losses, gradients(run.circuit, run.weights(end), x))  # pyright: ignore[reportArgumentType]
