"""A4.5: steps in the multiplicative geometry never flip a sign, and Euler's steps flip as many as they must."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from matplotlib.figure import Figure
from scipy.special import ndtr

from dynamics.circuit import Weights
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from dynamics.instruments import loss
from dynamics.integrators import FixedStep, Window
from dynamics.noise import Noise
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
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
from experiments.predictions.kit import coupled, drawn, f64, keys_from, marked, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, all_match, close, exceeds, stays_below
from rules.exponentiated import Exponentiated
from rules.gradient import SGD

MANY = 0.1  # share of weights whose sign plain updates change


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
        times = Timescales(f64(1.0), f64(1.0), f64(1 / self.decay) if self.decay else None)
        noise = Noise(synaptic_multiplicative=f64(self.strength))

        @jax.jit
        @jax.vmap
        def run(key: Array) -> Array:
            flow = WeightFlow(circuit, times, x, y, Clock(f64(1.0), f64(0.0), steps), FixedStep(), key, noise=noise)
            end = flow.weights(flow.advance(flow.init(start), jnp.int32(0), 1))["W1"]
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
        end = jax.jit(lambda: run.weights(run.advance(run.init(start), jnp.int32(0), 20))["W1"])()
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
        time, clock = Timescales(f64(1.0), f64(1.0)), Clock(f64(self.rate), f64(0.0), 1)
        stream = Stream(f64(x), f64(y), jax.random.key(self.seed))
        before = jax.vmap(lambda w: loss(own, w, f64(x), f64(y)))(starts)
        ends, after = _updated(Discrete(own, time, stream, clock), starts, jnp.int32(self.presentations))
        others, _ = _updated(Discrete(plain, time, stream, clock), starts, jnp.int32(self.presentations))
        flips = float(sum((np.sign(ends[name]) != np.sign(w)).sum() for name, w in starts.items()))
        total = sum(w[0].size for w in starts.values())
        plainly = sum((np.sign(others[name]) != np.sign(w)).sum((1, 2)) for name, w in starts.items())
        ratios = np.asarray(after) / np.asarray(before)
        return [
            close("Dale's signs", "weights that have changed their sign", 0.0, flips, 0.0),
            exceeds("plain updates flip signs", "share of weights that have changed their sign", MANY, plainly / total),
            stays_below("learning without flips", "loss at the end over that at the start", 0.3, ratios),
        ]

    @drawn(3.6, 2.6)
    def _drawn(self, figure: Figure, shares: np.ndarray) -> None:
        panel = figure.subplots()
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
        end = run.weights(run.advance(run.init(weights), jnp.int32(0), count))
        return end, loss(run.circuit, end, stream.inputs, targets)

    return jax.vmap(one)(starts)
