"""T4.6: synaptic noise takes a fixed amount from the Hebbian alignment of every rule."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.flow import batch_factors
from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.hebbian.setting import RandomSignal, averaged, balance, share_inside
from experiments.predictions.kit import coupled, f64, keys_from, look, marked, plotted, wired
from experiments.results.verdicts import Verdict, close, matches
from experiments.spec.units import Time
from rules.contract import AbstractRule
from rules.feedback_alignment import DFA

RULES: dict[str, AbstractRule] = {"DFA": DFA(), "random signal": RandomSignal()}
RELAXATIONS = 6  # tau_dec before anything is averaged
RECORDS_EVERY = 20  # presentations
POWER = 4.0  # tr(C), about: the squared norm of an input


class HebbianSynapticNoise(AbstractPrediction):
    """The balance of signal, decay and noise in the first layer of a tanh network in the coupled regime."""

    number = "T4.6"
    title = "Synaptic noise takes the same amount of Hebbian alignment from every rule"
    source = """koplow2025emergence, weak form with noise; derived for the model of bacvanski2025continuous: Ito's
        formula for tr(W C W^T) / 2, which is stationary"""
    equation = "<g, H> = gamma E|h|^2 - tau_plast sigma^2 n tr(C) / 2,  C = <x x^T>, n postsynaptic neurons"
    claim = """In a first layer with synaptic noise, dW = (g / tau_plast - W / tau_dec) dt + sigma dB, the learning
        signal of any rule must undo what the noise adds, be it feedback alignment or the error of an unrelated network:
        its overlap with the Hebbian update falls below gamma E|h|^2 by an amount that depends on no weight and no
        rule."""
    method = """A tanh network in the coupled regime, by windows. Every 20 presentations settled signals and Hebbian
        updates of the first layer over all samples, at the weights of that moment; means over time. The loss gamma
        E|h|^2 - <g, H> is corrected for the order of presentations, which adds (T / 2 tau_plast) E tr(g C g^T)."""
    tolerance = """The 99.9 % interval over seeds, and T tr(C) / tau_plast of gamma E|h|^2: by about that share a
        sample's own error falls while it is shown. Propagation is nearly instantaneous: the error of a sample meets the
        next one for a few tau_prop, which adds 1 % at 0.1 ms."""
    quick = {"inputs": 8, "hidden": 16, "noises": (1.0,), "seeds": 6, "averaged": 6.0, "plasticity": "5 s"}

    inputs: Size = 16
    hidden: Size = 32
    outputs: Size = 4
    samples: Size = 32
    gamma: Positive = 0.2  # tau_plast / tau_dec
    noises: Positives = (0.3, 1.0, 3.0)  # tau_plast sigma^2 n / (2 gamma)
    duration: Duration = Time(0.05)
    propagation: Duration = Time(0.000005)
    plasticity: Duration = Time(20.0)
    averaged: Positive = 12.0  # tau_dec
    seeds: Seeds = 10

    def measure(self) -> Finding:
        self._check()
        x, y = self._data()
        lost = {name: self._simulated(rule, x, y) for name, rule in RULES.items()}
        share = self.duration.value / self.plasticity.value * float(jnp.square(x).sum(-1).mean())
        allowed = {name: share * decay.mean(-1) for name, (_, decay) in lost.items()}
        verdicts = [self._judged(name, sides[0], allowed[name]) for name, sides in lost.items()]
        found, widened = np.stack([sides[0] for sides in lost.values()]), np.stack(list(allowed.values()))
        inside = share_inside(np.broadcast_to(self.levels, widened.shape), found, widened)
        quantity = "share of (rule, noise) whose interval has the predicted loss"
        verdicts.append(close("loss at every noise, and without", quantity, 1.0, inside, 0.0))
        return Finding(verdicts, self._drawn({name: sides[0] for name, sides in lost.items()}))

    @property
    def levels(self) -> np.ndarray:
        """What the law takes from <g, H>, in units of gamma tr(C); the first is no noise."""
        return np.array([0.0, *self.noises])

    def _check(self) -> None:
        if self.propagation.value > self.duration.value / 1e3 or self.duration.value * 20 > self.plasticity.value:
            raise PlasticodeError(
                "hebbian-synaptic-noise needs propagation of at most duration / 1000, so that signals settle, and "
                f"plasticity of at least 20 durations = {self.duration.value * 20:g} s"
            )

    def _data(self) -> tuple[Array, Array]:
        """Inputs, and the outputs of a random tanh network, scaled to a variance of about 2."""
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.samples, self.inputs)) * POWER**0.5 / self.inputs**0.5
        first = rng.standard_normal((self.inputs, self.hidden)) / POWER**0.5
        second = rng.standard_normal((self.hidden, self.outputs)) / self.hidden**0.5
        return f64(x), f64(2 * np.tanh(x @ first) @ second)

    def _simulated(self, rule: AbstractRule, x: Array, y: Array) -> tuple[np.ndarray, np.ndarray]:
        """The loss of alignment and gamma E|h|^2, both in units of gamma tr(C): (levels, seeds)."""
        circuit = wired(rule, (self.inputs, self.hidden, self.outputs))
        tau, window = self.plasticity.value, Window(nodes=2, parts=1, gaps=False, sweeps=2)
        covariance = x.T @ x / self.samples
        decay_time = tau / (self.gamma * self.duration.value * RECORDS_EVERY)  # in records
        burn, count = round(RELAXATIONS * decay_time), max(1, round(self.averaged * decay_time))

        def sides(weights: Weights) -> Array:
            drives, hebbs, powers = balance(circuit, weights, x, y)
            f = batch_factors(circuit, weights, {}, x, y)[1]["W1"]
            spread = jnp.mean(jnp.square(f.post).sum(-1) * ((f.pre @ covariance) * f.pre).sum(-1))
            overlap = jnp.sum(drives["W1"] * hebbs["W1"]) + self.duration.value / (2 * tau) * spread
            return jnp.stack([self.gamma * powers["W1"] - overlap, self.gamma * powers["W1"]])

        def one(key: PRNGKeyArray, weights: Weights, sigma: Array) -> Array:
            for_order, for_noise = jax.random.split(key)
            run = coupled(
                circuit, Stream(x, y, for_order), self.propagation.value, tau, self.duration.value, window.nodes,
                decay=tau / self.gamma, noise=Noise(synaptic=sigma), integrator=window, key=for_noise,
            )  # fmt: skip
            return averaged(run, weights, burn, count, RECORDS_EVERY, sides)

        run = jax.jit(jax.vmap(jax.vmap(one, (0, 0, None)), (None, None, 0)))
        keys = keys_from(self.seed, self.seeds)
        sigmas = np.sqrt(2 * self.levels * self.gamma / (tau * self.hidden))
        means = np.asarray(run(keys, jax.vmap(circuit.initial_weights)(keys), f64(sigmas)))
        means = means / (self.gamma * float(jnp.trace(covariance)))
        return means[..., 0], means[..., 1]

    def _judged(self, rule: str, lost: np.ndarray, allowed: np.ndarray) -> Verdict:
        """Whether the strongest noise takes what the law says."""
        note = f"finite presentations may shift it by {allowed[-1]:.2g}"
        quantity = "(gamma E|h|^2 - <g, H>) / (gamma tr C) at the strongest noise"
        return matches(f"loss under {rule}", quantity, float(self.levels[-1]), lost[-1], float(allowed[-1]), note)

    @plotted(3.4, 3.0)
    def _drawn(self, panel: Axes, lost: dict[str, np.ndarray]) -> None:
        ends = [0, 1.05 * self.levels.max()]
        panel.plot(ends, ends, color="0.3", label="theory, any rule")
        for i, (name, samples) in enumerate(lost.items()):
            marked(panel, self.levels, samples, **look(i), fillstyle="none", markersize=5, label=name)
        panel.set_xlabel("noise tau_plast sigma$^2$ n / (2 gamma)")
        panel.set_ylabel("(gamma E|h|$^2$ - <g, H>) / (gamma tr C)")
        panel.legend()
