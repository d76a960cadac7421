"""B5.3: noise of the synapses ends a plateau that small weights alone would have made long."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure
from scipy.special import ndtri

from dynamics.flow import FlowState
from dynamics.noise import Noise
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds
from experiments.predictions.kit import drawn, f64, keys_from, look, marked, weight_flow, wired
from experiments.predictions.linear.setting import crossing
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import matches, stays_below
from rules import SGD

PER, RATE = 4, 10  # Heun steps between two records, and records in 1/s
NODES = 100_000  # of the quadrature over normal numbers: many, for the logarithm where the start is cancelled


class PlateauNoise(AbstractPrediction):
    """The mean time that a two-layer chain of one neuron each spends at the saddle, against its noise."""

    number = "B5.3"
    title = "Synaptic noise shortens the first plateau: its size takes the place of the initial one"
    source = "zhang2025saddle, plateaus from small weights; the law with noise derived"
    equation = """t = E (1/2s) ln[(s - X^2/2) / (X^2/2)], X ~ N(2^(1/2) a, sigma^2 / (2 s)): the growing direction w1
        + w2 starts at a and is stirred by sigma dB; about (1/s) ln(1 / max(a, sigma))"""
    claim = """A chain of two synapses that start at a leaves its saddle after (1/s) ln(1/a). With synaptic noise
        sigma it leaves after the mean of the same logarithm over a normal number of variance a^2 + sigma^2 / (4 s):
        noise below 2 s^(1/2) a changes nothing, and above it each factor e of noise saves 1/s."""
    method = """The weight flow of SGD with additive synaptic noise, in Heun steps of 1/(40 s) (additive noise is the
        same in both calculi); the time when w2 w1 first is s/2, against the mean by quadrature."""
    tolerance = """99.9 % intervals over seeds, and 0.5 % of the time: the step, and the noise on the way up, of order
        sigma^2."""
    quick = {"seeds": 200, "noises": (1e-6, 1e-4, 1e-2)}

    strength: Positive = 1.0  # s
    start: Positive = 1e-4  # a
    noises: Positives = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # sigma
    seeds: Seeds = 1000

    def misfit(self) -> str | None:
        if max(self.noises) > 0.05 * self.strength or self.start > 0.05 * self.strength**0.5:
            return (
                "noises must be at most 0.05 strength, and start at most 0.05 of its root: the plateau has to be long"
            )
        if list(self.noises) != sorted(set(self.noises)) or len(self.noises) < 3:
            return "there must be 3 noises or more, which rise"

    def measure(self) -> Finding:
        half = self._measured()  # (noises, seeds)
        expected, verdicts = self.expected(np.array(self.noises)), []
        for sigma, one, mean in zip(self.noises, half, expected, strict=True):
            quantity = "mean half-time in tau_plast"
            verdicts.append(matches(f"sigma = {sigma:g}", quantity, float(mean), one, 0.005 * float(mean)))
        saved = (half[-1] - half[0]) * self.strength
        bound = 0.5 * self.strength * float(expected[-1] - expected[0])
        verdicts.append(stays_below("noise shortens", "s (t with most noise - t with least)", bound, saved))
        return Finding(verdicts, self._drawn(half))

    def expected(self, noises: np.ndarray) -> np.ndarray:
        """The mean time until w2 w1 = s/2."""
        nodes, s = ndtri((np.arange(NODES) + 0.5) / NODES), self.strength
        x = 2**0.5 * self.start + np.multiply.outer(noises / (2 * s) ** 0.5, nodes)
        u = np.maximum(x**2 / 2, 1e-300)
        return np.log(np.maximum(s - u, 0.5 * s) / u).mean(-1) / (2 * s)

    def _measured(self) -> np.ndarray:
        circuit, s = wired(SGD(), (1, 1, 1), activation="linear"), self.strength
        scale = np.hypot(self.start, min(self.noises) / (4 * s) ** 0.5)
        time = float(np.log(s**0.5 / scale) + 7) / s  # a start near 0 takes longer: one in a thousand by 7
        records = int(np.ceil(time * s * RATE))
        start = {"W1": f64([[self.start]]), "W2": f64([[self.start]])}

        def one(key: PRNGKeyArray, sigma: Array) -> Array:
            flow = weight_flow(circuit, f64([[1.0]]), f64([[s]]), time / records / PER, integrator="heun")
            flow = dataclasses.replace(flow, noise=Noise(synaptic=sigma), key=key)

            def go(progress: FlowState, i: Array) -> tuple:
                progress = flow.advance(progress, i * PER, PER)
                weights = flow.weights(progress)
                return progress, (weights["W2"] @ weights["W1"])[0, 0]

            _, u = jax.lax.scan(go, flow.init(start), jnp.arange(records, dtype=jnp.int32))
            return jnp.concatenate([f64([self.start**2]), u])

        run = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))
        u = np.asarray(run(keys_from(self.seed, self.seeds), f64(self.noises)))
        return crossing(np.linspace(0, time, records + 1), u / s)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, half: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.geomspace(min(self.noises) / 3, max(self.noises) * 2, 200)
        left.semilogx(fine, self.expected(fine), color="0.3", label="theory")
        limits = np.log(self.strength**0.5 / self.start) / self.strength
        left.axhline(limits, color="0.6", linestyle=":", label="no noise: (1/s) ln(1/a)")
        marked(left, self.noises, half, label="simulation", **look(1))
        left.set(xlabel=r"synaptic noise $\sigma$ (per root of $\tau_{plast}$)", ylabel=r"half-time ($\tau_{plast}$)")
        left.legend()
        bins = np.linspace(half.min(), np.quantile(half, 0.999), 40)
        for i, (sigma, one) in enumerate(zip(self.noises, half, strict=True)):
            if i in (0, len(self.noises) // 2, len(self.noises) - 1):
                right.hist(one, bins, histtype="step", color=OKABE_ITO[i], density=True, label=rf"$\sigma$ = {sigma:g}")
        right.set(xlabel=r"half-time ($\tau_{plast}$)", ylabel=r"share per $\tau_{plast}$", yscale="log")
        right.legend()
