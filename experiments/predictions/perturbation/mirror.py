"""A3.5: a weight mirror below a layer whose weights are right, so that nothing but the feedback changes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.figure import Figure

from dynamics.discrete import Discrete, DiscreteState
from dynamics.network import Network
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import f64, keys_from
from experiments.predictions.perturbation.setting import updating
from experiments.results.verdicts import all_match
from rules import WeightMirror

RECORDS = 8
RELAXATIONS = 8  # of the mean, 1 / (eta decay) steps each


class MirrorAlignment(AbstractPrediction):
    number = "A3.5"
    title = "A weight mirror: feedback relaxes to the transpose, its decay sets the scale"
    source = "akrout2019deep, for the rule and its mean; exact course, scale and fluctuations: derived"
    equation = """V <- V + eta (x m^T - d V), m = f(W x), x ~ N(0, s^2) in n dimensions: E V = (1 - q) (s^2 <f'> / d)
        W^T + q V_0, q = (1 - eta d)^k; linear units: E|V - E V|^2 = eta s^4 (n + 1) |W|^2 (1 - q^2) / (d (2 - eta
        d))"""
    claim = """Feedback relaxes exponentially to W^T, at the rate of its own decay d, which also sets its scale s^2 / d;
        relu units, which half of the noise passes, make that half. It never rests: its fluctuations grow to |V - E V|^2
        = eta d (n + 1) / (2 - eta d) of |E V|^2, so that the feedback of a wider layer has to learn more slowly. An
        error r that goes back through it moves the layer below by that part and scale of the gradient."""
    method = """Discrete updates of the rule in networks of two layers. Targets are what the network says, so that its
        error is 0 and W stays. V - q V_0 along W^T and its square, at eight times, one sample per seed, for each decay,
        of linear units and, along W^T, of relu units; at the end |V - W^T s^2 / d|^2. At each time one update aside,
        with a random error r of the output: what it changes in W_1, without the part of V_0, along W^T r x^T."""
    tolerance = "99.9 % intervals over seeds, for all times and decays together; no other."
    quick = {"seeds": 150}

    hidden: Size = 6  # n
    outputs: Size = 4
    noise: Positive = 1.5  # s
    decays: Positives = (0.5, 2.0)  # d
    rate: Positive = 0.01  # eta d, the same for all decays
    seeds: Seeds = 800

    def misfit(self) -> str | None:
        if self.rate >= 0.5:
            return "rate must be below 0.5: feedback has to relax in more than a few steps"

    @property
    def steps(self) -> np.ndarray:
        """k at the records."""
        last = RELAXATIONS / self.rate
        return np.unique(np.round(last * np.linspace(0, 1, RECORDS + 1)[1:] ** 2).astype(int))

    def scale(self, slope: float) -> np.ndarray:
        """s^2 <f'> / d of each decay."""
        return self.noise**2 * slope / np.array(self.decays)

    def kept(self, steps: np.ndarray) -> np.ndarray:
        """q after so many steps."""
        return (1 - self.rate) ** steps

    def wandering(self, steps: np.ndarray) -> np.ndarray:
        """E|V - E V|^2 / |W s^2 / d|^2 of linear units, given V_0."""
        return self.rate * (self.hidden + 1) / (2 - self.rate) * (1 - self.kept(steps) ** 2)

    def measure(self) -> Finding:
        linear, relu = self._simulated("linear"), self._simulated("relu")
        q, along, square = self.kept(self.steps), linear[..., 0], linear[..., 1]
        expected = np.broadcast_to((1 - q) ** 2 + self.wandering(self.steps), square.shape[:2])
        ends = np.moveaxis(along[:, -1] * self.scale(1.0)[:, None], 0, -1)
        off = linear[:, -1, :, 2]
        law = float(self.wandering(self.steps[-1:])[0])
        one, half = np.broadcast_to(1 - q, along.shape[:2]), np.broadcast_to((1 - q) / 2, along.shape[:2])
        carried = np.moveaxis(linear[..., 3], 2, 0)
        quantity = "<V - q V_0, W^T> d / (s^2 |W|^2)"
        verdicts = [
            all_match("exponential course", quantity, one, np.moveaxis(along, 2, 0)),
            all_match("relu units mirror half", quantity, half, np.moveaxis(relu[..., 0], 2, 0)),
            all_match("decay sets the scale", "<V, W^T> / |W|^2 at the end", (1 - q[-1]) * self.scale(1.0), ends),
            all_match(
                "course with fluctuations", "|V - q V_0|^2 d^2 / (s^4 |W|^2)", expected, np.moveaxis(square, 2, 0)
            ),
            all_match(
                "fluctuations", "|V - s^2 W^T / d|^2 d^2 / (s^4 |W|^2) at the end", np.full(len(off), law), off.T
            ),
            all_match("carries errors", "<W_1' - q V_0 r x^T, W^T r x^T> d / (s^2 |W^T r x^T|^2)", one, carried),
        ]
        wander = square - 2 * (1 - q)[:, None] * along + ((1 - q) ** 2)[:, None]
        return Finding(verdicts, self._drawn(along, relu[..., 0], wander))

    def _simulated(self, activation: str) -> np.ndarray:
        """(decays, times, seeds, 4): V - q V_0 along W^T, its square; |V - s^2 W^T / d|^2; what an error moves in W_1,
        without the part of V_0, along what it would by W^T. In units of s^2 W / d."""
        m, n = self.outputs, self.hidden
        network = Network((2, n, m), "linear", activation, bias=False, gain=f64(1.0))
        gaps = np.diff(self.steps, prepend=0)

        def one(key: PRNGKeyArray, decay: Array) -> Array:
            circuit = WeightMirror(f64(self.noise), decay, f64(1.0)).wire(network)
            weights, x = circuit.initial_weights(key), f64([[0.3, -0.8]])
            unit = self.noise**2 / decay * weights["W2"].T
            out = weights["W2"] @ weights["W1"] @ x[0]
            y = jnp.maximum(out, 0) if activation == "relu" else out
            times, clock = Timescales(f64(1.0), decay / self.rate), Clock(f64(1.0), f64(0.0), 1)
            run = Discrete(circuit, times, Stream(x, y[None], key), clock)
            error, wrong = jax.random.normal(jax.random.fold_in(key, 1), (m,), jnp.float64), updating(circuit, 1.0)
            ideal = jnp.outer(unit @ error, x[0])

            def record(progress: DiscreteState, span: tuple[Array, Array]) -> tuple:
                progress = run.advance(progress, span[0], span[1] - span[0])
                v, left = run.weights(progress)["V2"], (1 - self.rate) ** span[1].astype(jnp.float64)
                learnt = v - left * weights["V2"]
                moved = wrong(run.weights(progress), x[0], y + error, key)["W1"] - weights["W1"]
                carried = jnp.sum((moved - jnp.outer(left * weights["V2"] @ error, x[0])) * ideal)
                parts = jnp.sum(learnt * unit), jnp.sum(learnt**2), jnp.sum((v - unit) ** 2)
                return progress, jnp.stack([*(jnp.stack(parts) / jnp.sum(unit**2)), carried / jnp.sum(ideal**2)])

            ends = jnp.asarray(np.cumsum(gaps), jnp.int32)
            starts = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
            return jax.lax.scan(record, run.init(weights), (starts, ends))[1]

        run = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))
        return np.moveaxis(np.asarray(run(keys_from(self.seed, self.seeds), f64(self.decays))), 1, 2)

    @drawn(6.6, 2.7)
    def _drawn(self, figure: Figure, along: np.ndarray, relu: np.ndarray, wander: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.linspace(0, self.steps[-1], 200)
        for i, (samples, slope) in enumerate(((along, 1.0), (relu, 0.5))):
            left.plot(fine, slope * (1 - self.kept(fine)), color=look(i)["color"])
            marked(left, self.steps, samples.mean(0), **look(i), label=f"{('linear', 'relu')[i]} units")
        left.set(xlabel="updates", ylabel="part of V along W$^T$, d / s$^2$")
        left.legend(title="lines: theory")
        right.plot(fine, self.wandering(fine), color="0.3", label="theory")
        marked(right, self.steps, wander.mean(0), **look(0), label="linear units")
        right.set(xlabel="updates", ylabel="|V - E V|$^2$ d$^2$ / (s$^4$ |W|$^2$)", ylim=(0, None))
        right.legend(loc="lower right")
