"""A4.3: multiplicative noise makes weights log-normal, and its calculus decides where they drift."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from scipy.stats import kstest, norm

from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import coupled, drawn, f64, keys_from, look, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, matches
from rules.exponentiated import Exponentiated

PARTS = 16  # windows, or presentations, in the whole time
CALCULI = ("ito", "stratonovich")


class ExponentiatedLognormal(AbstractPrediction):
    """Weights that only noise and decay move, in the coupled regime, by windows."""

    number = "A4.3"
    title = "Noise in proportion to the weight makes weights log-normal"
    source = (
        "shetty2025dale, the forward process; moments of geometric Brownian motion: oksendal2003stochastic, chapter 5"
    )
    equation = """dW = -W/tau_dec dt + s W dB: log W ~ N(log W0 + (mu - s^2/2) t, s^2 t), E W = W0 e^(mu t), Var W =
        W0^2 e^(2 mu t) (e^(s^2 t) - 1), mu = -1/tau_dec"""
    claim = """The logarithms of weights with multiplicative noise are Gaussian. In the sense of Ito the mean weight
        decays as without noise and the typical one falls faster, by s^2/2; in that of Stratonovich the typical one
        decays as without noise and the mean is larger."""
    method = """A network without input, so that the law says nothing. By windows, which multiply by the exact
        exponential, in both calculi. Kolmogorov-Smirnov tests of the weights of each seed against the predicted
        distribution: p-values of independent seeds are uniform."""
    tolerance = "99.9 % intervals over seeds, nothing else: windows are exact here."
    quick = {"seeds": 40}

    strength: Positive = 0.8  # s, per root of the time
    decay: Positive = 0.5  # time over tau_dec
    start: Positive = 0.7  # W0
    inputs: Size = 20
    outputs: Size = 25
    seeds: Seeds = 200

    def measure(self) -> Finding:
        found = {calculus: self._weights(calculus) for calculus in CALCULI}
        verdicts = [verdict for calculus in CALCULI for verdict in self._judged(calculus, found[calculus])]
        return Finding(verdicts, self._drawn(found))

    def drift(self, calculus: str) -> float:
        """The mean of log W / W0 at the end."""
        return -self.decay - (self.strength**2 / 2 if calculus == "ito" else 0.0)

    def moments(self, calculus: str) -> tuple[float, float]:
        """Mean and variance of W at the end."""
        square = self.strength**2
        mean = self.start * np.exp(self.drift(calculus) + square / 2)
        return mean, mean**2 * np.expm1(square)

    def _judged(self, calculus: str, weights: np.ndarray) -> list[Verdict]:
        """`weights` (seeds, weights)."""
        logs, drift = np.log(weights / self.start), self.drift(calculus)
        mean, variance = self.moments(calculus)
        verdicts = [
            matches(f"typical weight, {calculus}", "mean of log W / W0", drift, logs.mean(1)),
            matches(f"mean weight, {calculus}", "E W", mean, weights.mean(1)),
        ]
        if calculus == "ito":
            spread = ((logs - drift) ** 2).mean(1)
            values = np.array([kstest(row, norm.cdf, args=(drift, self.strength)).pvalue for row in logs])
            verdicts += [
                matches("spread", "variance of log W", self.strength**2, spread),
                matches("variance of weights", "Var W", variance, ((weights - mean) ** 2).mean(1)),
                matches("log-normal", "mean p-value of a Kolmogorov-Smirnov test", 0.5, values),
            ]
        return verdicts

    def _weights(self, calculus: str) -> np.ndarray:
        """The weights at the end, (seeds, weights)."""
        circuit, window = wired(Exponentiated(), (self.inputs, self.outputs)), Window(nodes=2, parts=1, gaps=False)
        x, y = jnp.zeros((1, self.inputs), jnp.float64), jnp.zeros((1, self.outputs), jnp.float64)
        noise = Noise(synaptic_multiplicative=f64(self.strength), calculus=calculus)  # pyright: ignore[reportArgumentType]
        start = {"W1": jnp.full((self.outputs, self.inputs), self.start, jnp.float64)}

        @jax.jit
        @jax.vmap
        def run(key: Array) -> Array:
            one = coupled(
                circuit, Stream(x, y, key), 1e-3, 1.0, 1 / PARTS, window.nodes, decay=1 / self.decay, noise=noise,
                integrator=window, key=key,
            )  # fmt: skip
            return one.weights(one.advance(one.init(start), jnp.int32(0), jnp.int32(PARTS)))["W1"].ravel()

        return np.asarray(run(keys_from(self.seed, self.seeds)))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, found: dict[str, np.ndarray]) -> None:
        left, right = figure.subplots(1, 2)
        grid = np.linspace(-4 * self.strength - self.decay, 4 * self.strength, 200)
        for i, (calculus, weights) in enumerate(found.items()):
            logs, law = np.log(weights / self.start).ravel(), (self.drift(calculus), self.strength)
            heights, edges = np.histogram(logs, 40, density=True)
            left.plot((edges[1:] + edges[:-1]) / 2, heights, linestyle="", markersize=3, label=calculus, **look(i))
            left.plot(grid, norm.pdf(grid, *law), color=OKABE_ITO[i])
            shares = np.linspace(0.002, 0.998, 60)
            right.plot(norm.ppf(shares, *law), np.quantile(logs, shares), linestyle="", markersize=3, **look(i))
        right.plot(grid, grid, color="0.3", lw=0.8)
        left.set(xlabel="log W / W$_0$", ylabel="density")
        left.legend(title="lines: theory")
        right.set(xlabel="theoretical quantiles of log W / W$_0$", ylabel="quantiles of the simulation")
