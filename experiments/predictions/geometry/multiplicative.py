"""A4.3 to A4.5: multiplicative noise: log-normal weights, the strong orders of its schemes, and signs that stay."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from scipy.special import ndtr
from scipy.stats import kstest, norm

from dynamics.circuit import Weights
from dynamics.discrete import Discrete
from dynamics.instruments import loss
from dynamics.integrators import FixedStep, Window
from dynamics.noise import Noise, brownian_increments
from dynamics.stimulus import Stream
from experiments.predictions.contract import (
    AbstractPrediction,
    Finding,
    Fraction,
    NonNegative,
    Positive,
    Seeds,
    Size,
    Sizes,
)
from experiments.predictions.drawing import against, drawn, look, marked, plotted
from experiments.predictions.kit import coupled, discrete, f64, keys_from, weight_flow, weights_after, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, all_match, close, exceeds, matches, stays_below
from rules.exponentiated import Exponentiated
from rules.gradient import SGD

PARTS = 16  # windows, or presentations, in the whole time
CALCULI = ("ito", "stratonovich")
ORDERS = {"euler": 0.5, "milstein": 1.0}
MANY = 0.1  # share of weights whose sign plain updates change


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
            return weights_after(one, start, jnp.int32(PARTS))["W1"].ravel()

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
        noise, by = Noise(synaptic_multiplicative=f64(self.strength)), FixedStep(solver)
        decay = 1 / self.decay if self.decay else None
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
                flow = weight_flow(circuit, x, y, 1.0, decay, 1.0, solver, steps, key=key, noise=noise)
                begun, joined = by.begin((start, {}, {})), finest // steps
                end = by.run(flow.system({}), begun, lambda _: None, jnp.int32(0), steps, key, joined)
                errors.append(jnp.mean((end.y[0]["W1"] - exact) ** 2))
            return jnp.stack(errors)

        return np.asarray(run(keys_from(self.seed, self.seeds)))

    @plotted(3.6, 2.8)
    def _drawn(self, panel: Axes, found: dict[str, np.ndarray]) -> None:
        fine = np.geomspace(self.steps[0] / 1.3, self.steps[-1] * 1.3, 100)
        for i, (solver, errors) in enumerate(found.items()):
            law = mean_square(solver, fine, -self.decay, self.strength**2)
            against(panel, i, (1 / fine, law), (1 / self.steps, errors.T), f"{solver}, strong order {ORDERS[solver]:g}")
        panel.set(xscale="log", yscale="log", xlabel="step / time")
        panel.set_ylabel("mean square error E (X$_N$ - X)$^2$ / W$_0^2$")
        panel.set_xticks(1 / self.steps, [f"1/{n}" for n in self.steps])
        panel.xaxis.minorticks_off()
        panel.legend(title="lines: closed form")


def flipped_share(steps: np.ndarray, strength: float, decay: float) -> np.ndarray:
    """The share of weights on the wrong side of zero after `steps` Euler steps in the time 1.

    A step multiplies by 1 - decay h + s B, negative with probability p = Phi(-(1 - decay h) / (s sqrt h)); N of them
    leave an odd number of changes with probability (1 - (1 - 2 p)^N) / 2.
    """
    h = 1 / np.asarray(steps, float)
    p = ndtr(-(1 - decay * h) / (strength * np.sqrt(h)))
    return -np.expm1(steps * np.log1p(-2 * p)) / 2


class ExponentiatedSigns(AbstractPrediction):
    """Signs under noise, in steps and in windows; and a network that learns under Dale's law in large updates."""

    number = "A4.5"
    title = "Multiplicative steps keep every sign"
    source = "kivinen1997exponentiated, the update; with noise shetty2025dale; the share of flips derived"
    equation = "P(flipped) = (1 - (1 - 2 p)^N) / 2, p = Phi(-(1 - h / tau_dec) / (s sqrt(h)))"
    claim = """Geometric Brownian motion never changes its sign. N Euler steps of it flip a share of the weights that
        depends on the step alone; windows, which multiply by an exponential, flip none. Exponentiated updates learn a
        task without a single flip, so that every neuron keeps the sign of all its weights, where plain ones of the
        same size flip many."""
    method = """Noise and decay alone by Euler's steps and by windows; then discrete updates of a two-layer network on
        the data of a random teacher, from weights with Dale's signs, under both rules."""
    tolerance = "99.9 % intervals over seeds for shares that are random; none for a count of flips that must be zero."
    quick = {"seeds": 10, "presentations": 600}

    strength: Positive = 0.8  # s, per root of the time
    decay: NonNegative = 0.3  # time over tau_dec
    steps: Sizes = (1, 2, 4, 8)
    weights: Size = 500
    rate: Positive = 0.1  # eta = T / tau_plast of the updates
    excitatory: Fraction = 0.7
    inputs: Size = 8
    hidden: Size = 20
    presentations: Size = 3000
    seeds: Seeds = 20

    def measure(self) -> Finding:
        shares = np.stack([self._euler(n) for n in self.steps], 1)
        expected = flipped_share(np.array(self.steps), self.strength, self.decay)
        quantity = "share of weights that have changed their sign, at every step"
        verdicts = [all_match("Euler's steps", quantity, expected, shares), self._windows()]
        verdicts += self._learning()
        return Finding(verdicts, self._drawn(shares))

    def _still(self) -> tuple[Array, Array, Weights]:
        """No input, no target, and weights of one."""
        x, y = jnp.zeros((1, 1), jnp.float64), jnp.zeros((1, self.weights), jnp.float64)
        return x, y, {"W1": jnp.ones((self.weights, 1), jnp.float64)}

    def _euler(self, steps: int) -> np.ndarray:
        """The share of negative weights at the end, (seeds,)."""
        (x, y, start), circuit = self._still(), wired(Exponentiated(), (1, self.weights))
        noise, decay = Noise(synaptic_multiplicative=f64(self.strength)), 1 / self.decay if self.decay else None

        @jax.jit
        @jax.vmap
        def run(key: Array) -> Array:
            flow = weight_flow(circuit, x, y, 1.0, decay, parts=steps, key=key, noise=noise)
            end = weights_after(flow, start, 1)["W1"]
            return jnp.mean((end < 0).astype(end.dtype))

        return np.asarray(run(keys_from(self.seed, self.seeds)))

    def _windows(self) -> Verdict:
        """Twenty presentations, each of the whole time."""
        (x, y, start), circuit = self._still(), wired(Exponentiated(), (1, self.weights))
        window, noise = Window(nodes=2, parts=1, gaps=False), Noise(synaptic_multiplicative=f64(self.strength))
        decay = 1 / self.decay if self.decay else None
        key = jax.random.key(self.seed)
        run = coupled(
            circuit, Stream(x, y, key), 1e-3, 1.0, 1.0, 2, decay=decay, noise=noise, integrator=window, key=key
        )
        end = jax.jit(lambda: weights_after(run, start, 20)["W1"])()
        return close("windows", "weights that have changed their sign", 0.0, float((end <= 0).sum()), 0.0)

    def _learning(self) -> list[Verdict]:
        rule = Exponentiated(dale=True, excitatory=f64(self.excitatory))
        sizes = (self.inputs, self.hidden, 2)
        own, plain = wired(rule, sizes), wired(SGD(), sizes)
        rng = np.random.default_rng(self.seed)
        x = rng.uniform(0, 1, (64, self.inputs))
        teacher = rng.standard_normal((self.inputs, 2))
        y = np.tanh((x - 0.5) @ teacher)
        starts = jax.vmap(own.initial_weights)(keys_from(self.seed, self.seeds))
        stream = Stream(f64(x), f64(y), jax.random.key(self.seed))
        before = jax.vmap(lambda w: loss(own, w, f64(x), f64(y)))(starts)
        ends, after = _updated(discrete(own, stream, self.rate), starts, jnp.int32(self.presentations))
        others, _ = _updated(discrete(plain, stream, self.rate), starts, jnp.int32(self.presentations))
        flips = float(sum((np.sign(ends[name]) != np.sign(w)).sum() for name, w in starts.items()))
        total = sum(w[0].size for w in starts.values())
        plainly = sum((np.sign(others[name]) != np.sign(w)).sum((1, 2)) for name, w in starts.items())
        ratios = np.asarray(after) / np.asarray(before)
        return [
            close("Dale's signs", "weights that have changed their sign", 0.0, flips, 0.0),
            exceeds("plain updates flip signs", "share of weights that have changed their sign", MANY, plainly / total),
            stays_below("learning without flips", "loss at the end over that at the start", 0.3, ratios),
        ]

    @plotted(3.6, 2.6)
    def _drawn(self, panel: Axes, shares: np.ndarray) -> None:
        fine = np.geomspace(min(self.steps), max(self.steps), 100)
        panel.plot(1 / fine, flipped_share(fine, self.strength, self.decay), color="0.3", label="closed form")
        label, steps = "Euler's steps", 1 / np.array(self.steps)
        marked(panel, steps, shares.T, color=OKABE_ITO[0], marker="o", label=label)
        panel.plot([1.0], [0.0], color=OKABE_ITO[1], marker="s", linestyle="", label="windows")
        panel.set(xscale="log", xlabel="step / time", ylabel="share of weights with a flipped sign")
        panel.set_xticks(steps, [f"1/{n}" for n in self.steps])
        panel.xaxis.minorticks_off()
        panel.legend()


@eqx.filter_jit
def _updated(run: Discrete, starts: Weights, count: Int[Array, ""]) -> tuple[Weights, Array]:
    """The weights after so many updates, and their loss; starts and ends by seed."""

    stream, targets = run.stream, run.stream.targets
    assert targets is not None

    def one(weights: Weights) -> tuple[Weights, Array]:
        end = weights_after(run, weights, count)
        return end, loss(run.circuit, end, stream.inputs, targets)

    return jax.vmap(one)(starts)
