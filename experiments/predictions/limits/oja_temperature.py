"""4.2b: one linear neuron by Oja's rule, inputs with one direction of more variance, noise of every synapse."""

import functools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.figure import Figure
from pydantic import Field
from scipy.integrate import cumulative_trapezoid, trapezoid

from dynamics.noise import Noise
from experiments.predictions.contract import AbstractPrediction, Finding, Seeds
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import f64, keys_from, weight_flow, wired
from experiments.results.verdicts import exceeds, matches
from rules.hebbian import Oja

STEPS = 10  # in a tau_plast
RECORDS, EVERY = 8, 8  # of weights; tau_plast between them
RELAXED = 4.0  # times that the direction needs to relax, before the first
LENGTHS = np.linspace(1e-3, 3.5, 2001)
OVERLAPS = np.linspace(-1, 1, 2001)[1:-1]


class OjaTemperature(AbstractPrediction):
    number = "4.2b"
    title = "Oja's direction feels the noise of synapses by the mean of 1 / |w|^2"
    source = """wei2026improved, Langevin dynamics on a sphere, known here from summaries; oja1982simplified, the rule;
        the law of the length, its average and the law of the direction derived"""
    equation = """dw = (C w - (w C w) w) dt + s dB, C = 1 + eps v v^T, w = R u: R has the density R^(d-1) exp(-2 q (R^4
        / 4 - R^2 / 2) / s^2) for q = u C u; averaged over it du = P C u dt + s m(q)^(1/2) P o dB, m = <1 / R^2>; t = u
        v has the density (1 - t^2)^((d-3)/2) exp(int 2 eps t / (s^2 m) dt) / m; q = 1: m = 1 - (d - 4) s^2 / 2 +
        O(s^4)"""
    claim = """Synaptic noise lets the length of Oja's weights fluctuate about more than 1, with the law of Gibbs where
        inputs are isotropic. The direction is slow beside it, and does Langevin dynamics on the sphere with the noise
        that the average of 1 / |w|^2 leaves. With four inputs that is the noise at length 1; with more of them it is
        less, and the direction is closer to that of most variance than weights of length 1 would be."""
    method = """The weight flow of the rule with synaptic noise, by Heun's steps, for isotropic inputs and for others.
        Squared lengths and overlaps at several times and for many seeds, against integrals."""
    tolerance = """99.9 % intervals over seeds; beside them s^4, by which a length that relaxes at 2 and a direction
        that moves at s^2 are not yet apart."""
    quick = {"seeds": 600}

    dimension: Annotated[int, Field(strict=True, ge=6, le=12)] = 8  # d
    noise: Annotated[float, Field(strict=True, ge=0.05, le=0.15)] = 0.1  # s^2
    anisotropy: Annotated[float, Field(strict=True, ge=0.1, le=0.5)] = 0.35  # eps
    seeds: Seeds = 3000

    def measure(self) -> Finding:
        even, uneven = self._simulated()  # (seeds, records, d) each
        squares = (even**2).sum(-1)
        overlaps = uneven[..., 0] ** 2 / (uneven**2).sum(-1)
        left = self.noise**2
        quantity = "E (u v)^2"
        verdicts = [
            matches("length", "E |w|^2, isotropic inputs", self.length(1.0, 2), squares.mean(1)),
            matches("inverse length", "E 1 / |w|^2, isotropic inputs", self.length(1.0, -2), (1 / squares).mean(1)),
            matches("direction", quantity, self.overlap(self.averaged()), overlaps.mean(1), left),
            exceeds("colder than at length 1", quantity, self.overlap(np.ones(OVERLAPS.size)), overlaps.mean(1)),
        ]
        return Finding(verdicts, self._drawn(squares**0.5, uneven))

    def radial(self, q: float) -> np.ndarray:
        """The law of the length at `LENGTHS`, for u C u = q."""
        exponent = -2 * q * (LENGTHS**4 / 4 - LENGTHS**2 / 2) / self.noise
        law = LENGTHS ** (self.dimension - 1) * np.exp(exponent - exponent.max())
        return law / trapezoid(law, LENGTHS)

    def length(self, q: float, power: int) -> float:
        """E R^power under it."""
        return float(trapezoid(LENGTHS**power * self.radial(q), LENGTHS))

    def averaged(self) -> np.ndarray:
        """m at `OVERLAPS`."""
        levels = np.linspace(1, 1 + self.anisotropy, 9)
        known = [self.length(q, -2) for q in levels]
        return np.interp(1 + self.anisotropy * OVERLAPS**2, levels, known)

    def direction(self, m: np.ndarray) -> np.ndarray:
        """The law of t at `OVERLAPS` where the noise is s m^(1/2) there."""
        exponent = cumulative_trapezoid(2 * self.anisotropy * OVERLAPS / (self.noise * m), OVERLAPS, initial=0)
        law = (1 - OVERLAPS**2) ** ((self.dimension - 3) / 2) * np.exp(exponent) / m
        return law / trapezoid(law, OVERLAPS)

    def overlap(self, m: np.ndarray) -> float:
        """E t^2 under it."""
        return float(trapezoid(OVERLAPS**2 * self.direction(m), OVERLAPS))

    def _simulated(self) -> np.ndarray:
        """w for isotropic inputs and for others, (2, seeds, records, d)."""
        d = self.dimension
        wait = round(RELAXED / (d * self.noise))
        deviations = np.ones((2, d))
        deviations[1, 0] += self.anisotropy
        x = np.stack([np.diag(np.sqrt(d * row)) for row in deviations])
        return np.asarray(_recorded(f64(x), f64(self.noise**0.5), keys_from(self.seed, self.seeds), jnp.int32(wait)))

    @drawn(6.4, 2.5)
    def _drawn(self, figure: Figure, lengths: np.ndarray, uneven: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        shown = LENGTHS < 1.1 * lengths.max()
        left.plot(LENGTHS[shown], self.radial(1.0)[shown], color="0.3", label="theory")
        overlaps = np.abs(uneven[..., 0]) / np.linalg.norm(uneven, axis=-1)
        for i, (panel, each, spread) in enumerate(((left, lengths, None), (right, overlaps, (0, 1)))):
            counts, edges = np.histogram(each, bins=16, range=spread, density=True)
            panel.plot((edges[1:] + edges[:-1]) / 2, counts, **look(i, linestyle=""), label="flow")
        ahead = OVERLAPS > 0
        right.plot(OVERLAPS[ahead], 2 * self.direction(self.averaged())[ahead], color="0.3", label="theory")
        plain = 2 * self.direction(np.ones(OVERLAPS.size))
        right.plot(OVERLAPS[ahead], plain[ahead], color="0.3", linestyle=":", label="at length 1")
        left.set(xlabel="length |w|, isotropic inputs", ylabel="density")
        right.set(xlabel="overlap |u v|", ylabel="density", ylim=(0, None))
        left.legend()
        right.legend()


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, None, None, None))
@functools.partial(jax.vmap, in_axes=(None, None, 0, None))
def _recorded(
    x: Float[Array, "n d"], strength: Float[Array, ""], key: PRNGKeyArray, wait: Array
) -> Float[Array, "records d"]:
    """w of one seed after `wait` tau_plast and at every record from there."""
    for_start, for_noise = jax.random.split(key)
    w = jax.random.normal(for_start, (1, x.shape[1]), jnp.float64)
    circuit, noise = wired(Oja(), (x.shape[1], 1), supervised=False), Noise(synaptic=strength)
    flow = weight_flow(circuit, x, None, 1.0, integrator="heun", parts=STEPS, key=for_noise, noise=noise)
    begun = flow.advance(flow.init({"W1": w / jnp.linalg.norm(w)}), jnp.int32(0), wait)

    def record(state: object, i: Array) -> tuple:
        state = flow.advance(state, wait + i * EVERY, EVERY)  # pyright: ignore[reportArgumentType]
        return state, state.weights["W1"][0]

    return jax.lax.scan(record, begun, jnp.arange(RECORDS, dtype=jnp.int32))[1]
