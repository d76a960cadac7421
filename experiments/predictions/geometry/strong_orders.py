"""A4.4: strong orders of Euler-Maruyama and Milstein along multiplicative noise, against the exact path."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.flow import WeightFlow
from dynamics.integrators import FixedStep
from dynamics.noise import Noise, brownian_increments
from dynamics.stimulus import Clock
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegative, Positive, Seeds, Size
from experiments.predictions.kit import drawn, f64, keys_from, look, marked, wired
from experiments.results.verdicts import Verdict, all_match, matches
from rules.exponentiated import Exponentiated

ORDERS = {"euler": 0.5, "milstein": 1.0}


def mean_square(solver: str, steps: np.ndarray, drift: float, square: float) -> np.ndarray:
    """E (X_N - X)^2 of dX = drift X dt + s X dB, X(0) = 1, at time 1 after N steps; `square` is s^2.

    Each step multiplies by 1 + drift h + s B (+ s^2 (B^2 - h)/2), the exact path by exp((drift - s^2/2) h + s B), which
    is one and the same B: all three expectations are powers of Gaussian integrals.
    """
    h = 1.0 / np.asarray(steps, float)
    growth = 1 + drift * h
    own, both = growth**2 + square * h, growth + square * h
    if solver == "milstein":
        own, both = own + square**2 * h**2 / 2, both + square**2 * h**2 / 2
    # E X_N^2 - 2 E X_N X + E X^2, with the large numbers taken out
    own, both, exact = steps * np.log(own), steps * (drift * h + np.log(both)), 2 * drift + square
    return np.exp(exact) * (np.expm1(own - exact) - 2 * np.expm1(both - exact))


class StrongOrders(AbstractPrediction):
    """Weights that decay under multiplicative noise, in fewer and fewer steps along one Brownian path."""

    number = "A4.4"
    title = "Euler-Maruyama has the strong order 1/2, Milstein's method 1"
    source = "oksendal2003stochastic, geometric Brownian motion; the mean square errors at finite steps derived"
    equation = "E (X_N - X(t))^2 = E X_N^2 - 2 E X_N X(t) + E X(t)^2, each the N-th power of one step's"
    claim = """Along one and the same path the error of Euler's steps falls with the root of the step, that of
        Milstein's in proportion to it, and both have at every step exactly the size that the products of Gaussians
        say."""
    method = """The weight flow of a network without input, whose weights decay under multiplicative noise. Runs of
        fewer steps sum up the noise of the finest one's, and the exact path is the exponential of all of it."""
    tolerance = """Errors at every step: 99.9 % intervals over seeds, nothing else. Orders, between the two finest
        steps: the interval, and how far the closed form itself is from its limit there, which the note says."""
    quick = {"seeds": 50, "halvings": 4}

    strength: Positive = 0.6  # s, per root of the time
    decay: NonNegative = 0.4  # time over tau_dec
    weights: Size = 200
    halvings: Annotated[int, Field(strict=True, ge=2, le=10)] = 6  # from 4 steps on
    seeds: Seeds = 200

    @property
    def steps(self) -> np.ndarray:
        """How many steps the time is divided into."""
        return 4 * 2 ** np.arange(self.halvings)

    def measure(self) -> Finding:
        found = {solver: self._errors(solver) for solver in ORDERS}
        verdicts = []
        for solver, errors in found.items():
            expected = mean_square(solver, self.steps, -self.decay, self.strength**2)
            quantity = "E (X_N - X)^2 over that of the closed form, at every step"
            ones = np.ones_like(expected)
            verdicts.append(all_match(f"{solver}, size of the error", quantity, ones, errors / expected[None]))
            verdicts.append(self._order(solver, errors, expected))
        return Finding(verdicts, self._drawn(found))

    def _order(self, solver: str, errors: np.ndarray, expected: np.ndarray) -> Verdict:
        near = float(np.log2(expected[-2] / expected[-1]) / 2)
        shift = abs(near - ORDERS[solver])
        means = errors.mean(0)
        # of the ratio of means, to first order in their deviations: one number per seed
        each = np.log2(means[-2] / means[-1]) + (errors[:, -2] / means[-2] - errors[:, -1] / means[-1]) / np.log(2)
        note = f"the closed form has {near:.4g} at these steps, and the difference is allowed"
        return matches(f"{solver}, order", "strong order, of root mean squares", ORDERS[solver], each / 2, shift, note)

    def _errors(self, solver: str) -> np.ndarray:
        """Mean square errors, (seeds, steps)."""
        circuit, finest = wired(Exponentiated(), (1, self.weights)), int(self.steps[-1])
        x, y = jnp.zeros((1, 1), jnp.float64), jnp.zeros((1, self.weights), jnp.float64)
        times = Timescales(f64(1.0), f64(1.0), f64(1 / self.decay) if self.decay else None)
        noise, by = Noise(synaptic_multiplicative=f64(self.strength)), FixedStep(solver)
        start = {"W1": jnp.ones((self.weights, 1), jnp.float64)}
        small = f64(1 / finest)

        @jax.jit
        @jax.vmap
        def run(key: Array) -> Array:
            def path(n: Array) -> Array:
                like = {"multiplicative": start}
                return brownian_increments(jax.random.fold_in(key, n), like, small)["multiplicative"]["W1"]

            brownian = jax.vmap(path)(jnp.arange(finest, dtype=jnp.int32)).sum(0)
            exact = jnp.exp(-self.decay - self.strength**2 / 2 + self.strength * brownian)
            errors = []
            for steps in self.steps.tolist():
                flow = WeightFlow(circuit, times, x, y, Clock(f64(1.0), f64(0.0), steps), by, key, noise=noise)
                begun, joined = by.begin((start, {}, {})), finest // steps
                end = by.run(flow.system({}), begun, lambda _: None, jnp.int32(0), steps, key, joined)
                errors.append(jnp.mean((end.y[0]["W1"] - exact) ** 2))
            return jnp.stack(errors)

        return np.asarray(run(keys_from(self.seed, self.seeds)))

    @drawn(3.6, 2.8)
    def _drawn(self, figure: Figure, found: dict[str, np.ndarray]) -> None:
        panel = figure.subplots()
        fine = np.geomspace(self.steps[0] / 1.3, self.steps[-1] * 1.3, 100)
        for i, (solver, errors) in enumerate(found.items()):
            law = mean_square(solver, fine, -self.decay, self.strength**2)
            panel.plot(1 / fine, law, color=look(i)["color"])
            marked(panel, 1 / self.steps, errors.T, label=f"{solver}, strong order {ORDERS[solver]:g}", **look(i))
        panel.set(
            xscale="log", yscale="log", xlabel="step / time", ylabel="mean square error E (X$_N$ - X)$^2$ / W$_0^2$"
        )
        panel.set_xticks(1 / self.steps, [f"1/{n}" for n in self.steps])
        panel.xaxis.minorticks_off()
        panel.legend(title="lines: closed form")
