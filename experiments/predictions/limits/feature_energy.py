"""4.1: one quadratic neuron whose Hebbian readout teaches it, on all sums of two numbers modulo M."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Constant,
    Dense,
    Error,
    Gaussian,
    Given,
    Layer,
    Local,
    Outer,
    Projection,
    Scaled,
    TwoFactor,
    Variable,
)
from experiments.predictions.contract import AbstractPrediction, Finding, Size
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, f64, weight_flow, weights_after
from experiments.results.verdicts import close

STEP = 0.25  # of M^3 tau_plast, the time in which a feature relaxes, as mean drives are E over M^4
READOUT = 0.5  # the timescale of the readout, in the same units
Odd = Annotated[int, Field(strict=True, ge=5, le=31)]


class Squared(AbstractFactor):
    """a^2."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.preactivation**2


class Credit(AbstractFactor):
    """2 a times what the readout brings back."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return 2 * local.preactivation * local.inputs["credit"]


class Ends(NamedTuple):
    """Of every start: E, the share of the largest frequency, and w of unit norm."""

    energy: np.ndarray
    purity: np.ndarray
    weights: np.ndarray


class FeatureEnergy(AbstractPrediction):
    number = "4.1"
    title = "Every feature of modular addition ends in one frequency, with energy M / 4"
    source = "tian2025provable, theorem 2 and corollary 2; the constant and the phases derived"
    equation = """E(w) = |Y^T (X w)^2|^2 / 2 on |w| = 1, Y centred one-hot sums, X = [e_a; e_b]: maxima are cosines of
        one frequency in both halves, E = M / 4 for odd M; at M even the frequency M / 2 has M / 2"""
    claim = """Gradient ascent of the energy takes every random start to a single frequency with the same energy. That
        energy is M / 4 for |w| = 1, and twice that at the Nyquist frequency; the paper has M / 16 and M / 8, four
        times less, from a normalisation that is not told: the ratio of two agrees. The second half has the same
        frequency and size as the first, but any phase: it need not be the first or its negative, as the energy does
        not see phases."""
    method = """The engine's weight flow of a circuit that learns this locally: a neuron (w x)^2 with |w| held, a
        Hebbian readout that forgets, and credit through the readout. At rest the readout is the mean of Y (w x)^2,
        and w moves up E."""
    tolerance = """Purity: above 0.999. Energy: 1e-6 of M / 4, of which a start that has come to rest misses only the
        square of what is left. Sizes of halves: 1e-3."""
    quick = {"sizes": (7,), "even": 6, "starts": 12}

    sizes: Annotated[tuple[Odd, ...], Field(min_length=1, max_length=6)] = (7, 11, 23)  # M, odd
    even: Annotated[int, Field(strict=True, ge=4, le=20)] = 8  # M, even
    starts: Size = 32
    time: Annotated[float, Field(strict=True, ge=20, le=2000)] = 50.0  # M^3 tau_plast

    def misfit(self) -> str | None:
        if any(m % 2 == 0 for m in self.sizes):
            return f"sizes must be odd: {self.sizes}"
        return "even must be even" if self.even % 2 else None

    def measure(self) -> Finding:
        rng = np.random.default_rng(self.seed)
        found = {m: self._ends(m, rng.standard_normal((self.starts, 2 * m))) for m in (*self.sizes, self.even)}
        nearby = self._nyquist(0.3 * rng.standard_normal((self.starts, 2 * self.even)))
        odd = [found[m] for m in self.sizes]
        of = f"of {self.starts} starts each, M = {', '.join(map(str, self.sizes))}"
        energies = np.concatenate([one.energy / (m / 4) for m, one in zip(self.sizes, odd, strict=True)])
        purity = min(float(one.purity.min()) for one in odd)
        halves = np.concatenate([(one.weights[:, :m] ** 2).sum(1) for m, one in zip(self.sizes, odd, strict=True)])
        overlaps = np.concatenate([_overlap(one.weights) for one in odd])
        even = found[self.even]
        nyquist = even.energy > 0.375 * self.even
        verdicts = [
            close("single frequency", f"least share of the largest frequency, {of}", 1.0, purity, 1e-3),
            all_close("energy", f"E over M / 4, the farthest {of}", 1.0, energies, 1e-6),
            all_close("halves", f"|u|^2 of w = [u; v], the farthest {of}", 0.5, halves, 1e-3),
            close("phases", "least |cos| between u and v, which is 1 if v is u or -u", 0.0, float(overlaps.min()), 0.5),
        ]
        name = f"E over M / 2 from starts beside the Nyquist frequency, M = {self.even}, the farthest"
        verdicts.append(all_close("Nyquist frequency", name, 1.0, nearby.energy / (self.even / 2), 1e-6))
        note = f"At M = {self.even} {nyquist.sum()} of {self.starts} starts end at the Nyquist frequency."
        ratio = f"Published are M / 16 and M / 8: measured over published is {4 * energies.mean():.6f}."
        return Finding(verdicts, self._drawn(found, nearby), [note, ratio])

    def _nyquist(self, beside: np.ndarray) -> Ends:
        """Where starts come to rest that lie so far beside the frequency M / 2."""
        alternating = np.where(np.arange(2 * self.even) % 2 == 0, 1.0, -1.0)
        return self._ends(self.even, alternating + beside)

    def _ends(self, m: int, starts: np.ndarray) -> Ends:
        """Where starts (n, 2m) come to rest."""
        (x, y), unit = map(f64, additions(m)), float(m) ** 3
        flow = weight_flow(feature(m), x, y, STEP * unit, None, [1.0, READOUT * unit], "heun")
        count = round(self.time / STEP)

        def one(w: Float[Array, " n"]) -> Array:
            start = {"W": w[None] / jnp.linalg.norm(w), "V": jnp.zeros((1, m), jnp.float64)}
            return weights_after(flow, start, count)["W"][0]

        w = np.asarray(jax.jit(jax.vmap(one))(f64(starts)))
        w = w / np.linalg.norm(w, axis=1, keepdims=True)
        return Ends(energy(w, m), purity_of(w, m), w)

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, found: dict[int, Ends], nearby: Ends) -> None:
        left, right = figure.subplots(1, 2)
        for i, (m, one) in enumerate(found.items()):
            left.plot(np.full(self.starts, m), one.energy, linestyle="", alpha=0.5, **look(i))
        left.plot(np.full(self.starts, self.even), nearby.energy, linestyle="", alpha=0.5, **look(len(found)))
        fine = np.linspace(4, max(found) * 1.1, 50)
        laws = {"M / 4": (1 / 4, "-"), "M / 2, Nyquist": (1 / 2, "--"), "published, M / 16": (1 / 16, ":")}
        for name, (scale, line) in laws.items():
            left.plot(fine, scale * fine, color="0.3", linestyle=line, linewidth=0.9, label=name, zorder=0)
        left.set(xlabel="M", ylabel="energy E at rest, |w| = 1")
        left.legend()
        m = self.sizes[-1]
        u, v = found[m].weights[0, :m], found[m].weights[0, m:]
        for i, (name, half) in enumerate((("u", u), ("v", v))):
            right.plot(range(m), half, **look(i), label=name, linewidth=0.7)
        right.axhline(0, color="0.7", linewidth=0.6)
        right.set(xlabel="number added", ylabel=f"weight, M = {m}", title="one feature: one frequency, two phases")
        right.legend()


def additions(m: int) -> tuple[np.ndarray, np.ndarray]:
    """Both summands as [e_a; e_b], and the centred one-hot sum, of all pairs: (m^2, 2m), (m^2, m)."""
    a, b = (pair.ravel() for pair in np.meshgrid(np.arange(m), np.arange(m)))
    unit = np.eye(m)
    return np.concatenate([unit[a], unit[b]], 1), unit[(a + b) % m] - 1 / m


def energy(w: np.ndarray, m: int) -> np.ndarray:
    """E of features (n, 2m)."""
    x, y = additions(m)
    return 0.5 * ((y.T @ (x @ w.T) ** 2) ** 2).sum(0)


def purity_of(w: np.ndarray, m: int) -> np.ndarray:
    """The share of the largest frequency in the power of both halves."""
    first, second = (np.abs(np.fft.rfft(half, axis=1)) ** 2 for half in (w[:, :m], w[:, m:]))
    power = first + second
    weight = np.full(power.shape[1], 2.0)  # every frequency counts with its negative, but for 0 and M / 2
    weight[0] = 1.0
    if m % 2 == 0:
        weight[-1] = 1.0
    return (weight * power).max(1) / (weight * power).sum(1)


def _overlap(w: np.ndarray) -> np.ndarray:
    """|cos| between the halves of each feature."""
    u, v = np.split(w, 2, axis=1)
    return np.abs((u * v).sum(1)) / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)


def feature(m: int) -> Circuit:
    """z = (w x)^2 with |w| held; V' = (z y^T - V) / tau_V is Hebbian and forgets; w' = 2 a (V y) x^T / tau."""
    own = Variable("activity", Squared()), Variable("error", Credit())
    layers = (
        Layer("x", 2 * m, role="input", level=0),
        Layer("y", m, role="target", level=0),
        Layer("z", 1, variables=own),
    )
    ascent, hebbian = TwoFactor(Error()), (Outer(Activity()), Scaled(Constant(-1.0)))
    wires = (
        Projection("W", "x", "activity", "z", "forward", Dense(Gaussian(f64(1.0)), holds_norm=True), ascent, level=1),
        Projection("V", "y", "activity", "z", "credit", Given(jnp.zeros((1, m), jnp.float64)), hebbian, level=2),
    )
    return Circuit(layers, wires)
