"""A3.3: perturbation learning on a bowl: where the mean diverges, and where a typical run does."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from scipy.optimize import root_scalar

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.kit import f64, keys_from, look, marked, plotted, wired
from experiments.predictions.perturbation.setting import updating, weight
from experiments.results.verdicts import all_match, exceeds, stays_below


class PerturbationStability(AbstractPrediction):
    """N weights on the loss lambda |w|^2 / 2, and one perturbation per step."""

    number = "A3.3"
    title = "Perturbations on a bowl: the mean diverges before a typical run does"
    source = "werfel2005learning, for the rule; mean and Lyapunov exponent on an isotropic quadratic: derived"
    equation = """w <- w - a (w . xi) xi, a = eta lambda: E L'/L = 1 - 2 a + a^2 (N + 2), above 1 from a = 2 / (N + 2)
        on; E ln(L'/L) = E ln((1 - a u^2)^2 + a^2 u^2 v), u ~ N(0, 1), v ~ chi^2 of N - 1"""
    claim = """The mean loss shrinks best at a = 1 / (N + 2), by 1 - 1 / (N + 2) per step, and diverges above 2 / (N +
        2). A typical run still converges there, up to where the Lyapunov exponent is 0: between the two few runs that
        grow fast carry the mean."""
    method = """Discrete updates of weight perturbation with N neurons on one input; the ratio of the loss from step to
        step and its logarithm, means over steps being one sample per replica. Besides the given learning rates there
        are two: half way from one threshold to the other, and beyond the second by half."""
    tolerance = "99.9 % intervals over replicas, for all learning rates together; the exponent by quadrature."
    quick = {"replicas": 800, "steps": 20}

    weights: Size = 6  # N
    curvature: Positive = 0.7  # lambda
    fractions: Positives = (0.25, 0.5, 0.75)  # a in units of 2 / (N + 2)
    steps: Size = 40
    replicas: Seeds = 4000

    def misfit(self) -> str | None:
        if self.weights < 2:
            return "weights must be at least 2: one weight has no direction to miss"

    @property
    def thresholds(self) -> tuple[float, float]:
        """a from which on the mean diverges, and a typical run."""
        mean = 2 / (self.weights + 2)
        return mean, float(root_scalar(lambda a: exponent(a, self.weights), bracket=(mean, 4)).root)

    @property
    def rates(self) -> np.ndarray:
        """a: those given, one between the thresholds, one above both."""
        mean, typical = self.thresholds
        return np.array([*(mean * np.array(self.fractions)), (mean + typical) / 2, 1.5 * typical])

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """E L'/L and E ln(L'/L) at all rates."""
        a, n = self.rates, self.weights
        return 1 - 2 * a + a**2 * (n + 2), np.array([exponent(one, n) for one in a])

    def measure(self) -> Finding:
        ratios, logs = self._simulated()
        mean, typical = self.expected()
        between = f"at a = {self.rates[-2]:.3g}, between the thresholds"
        ratio, log = "loss after a step over that before", "ln of that"
        verdicts = [
            all_match("mean", ratio, mean, ratios.T),
            all_match("Lyapunov exponent", log, typical, logs.T),
            exceeds("the mean diverges", ratio, 1.0, ratios[-2], between),
            stays_below("a typical run converges", log, 0.0, logs[-2], between),
            exceeds("above both it diverges too", log, 0.0, logs[-1], f"at a = {self.rates[-1]:.3g}"),
        ]
        return Finding(verdicts, self._drawn(ratios, logs))

    def _simulated(self) -> tuple[np.ndarray, np.ndarray]:
        """Means over steps: (rates, replicas) each."""
        n = self.weights
        circuit = wired(weight(), (1, n), activation="linear")
        x, y = f64([self.curvature**0.5]), jnp.zeros(n, jnp.float64)

        def one(key: PRNGKeyArray, rate: Array) -> tuple[Array, Array]:
            update, (start, course) = updating(circuit, rate / self.curvature), jax.random.split(key)
            weights = circuit.initial_weights(start)

            def step(w: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
                after = update({**weights, "W1": w}, x, y, key)["W1"]
                ratio = jnp.sum(after**2) / jnp.sum(w**2)
                return after / jnp.sqrt(jnp.sum(after**2)), ratio  # the loss has no scale

            ratios = jax.lax.scan(step, weights["W1"], jax.random.split(course, self.steps))[1]
            return ratios.mean(), jnp.log(ratios).mean()

        keys = keys_from(self.seed, self.replicas)
        found = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, f64(self.rates))
        return np.asarray(found[0]), np.asarray(found[1])

    @plotted(3.6, 2.8)
    def _drawn(self, panel: Axes, ratios: np.ndarray, logs: np.ndarray) -> None:
        fine = np.linspace(1e-9, 1.1 * self.rates.max(), 50)
        panel.axhline(0, color="0.6", linewidth=0.8)
        mean = np.log1p(fine * (fine * (self.weights + 2) - 2))
        panel.plot(fine, mean, color=look(0)["color"])
        panel.plot(fine, [exponent(a, self.weights) for a in fine], color=look(1)["color"], linestyle="--")
        panel.plot(self.rates, np.log(ratios.mean(-1)), **look(0, linestyle=""), label="mean: ln E L'/L")
        marked(panel, self.rates, logs, **look(1), label="typical: E ln L'/L")
        for threshold, i in zip(self.thresholds, (0, 1), strict=True):
            panel.axvline(threshold, color=look(i)["color"], linewidth=0.6, linestyle=":")
        panel.set(xlabel="learning rate a = eta lambda", ylabel="growth of the loss per step")
        panel.legend(title="lines: theory")


def exponent(a: float, n: int) -> float:
    """E ln((1 - a u^2)^2 + a^2 u^2 v), u normal and v chi^2 of n - 1.

    By the midpoint rule in u and w = v^(1/2), on a grid on which ln's one singularity, of a point, does not matter.
    """
    u, w = ((np.arange(cells) + 0.5) * reach / cells for cells, reach in ((800, 8.0), (400, 6.0 + n**0.5)))
    density = np.exp(-(u[:, None] ** 2) / 2) * w ** (n - 2) * np.exp(-(w**2) / 2)
    values = np.log((1 - a * u[:, None] ** 2) ** 2 + (a * u[:, None] * w) ** 2)
    return float((density * values).sum() / density.sum())
