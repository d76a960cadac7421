"""T4.1, T4.6: at rest weight decay makes the mean update of any rule Hebbian, and noise takes a fixed part of that."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.flow import FlowState, batch_factors
from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked, plotted
from experiments.predictions.hebbian.setting import RandomSignal, averaged, balance, share_inside
from experiments.predictions.kit import all_close, coupled, discrete, f64, keys_from, records, weight_flow, wired
from experiments.results.verdicts import Verdict, close, matches
from experiments.spec.units import Time
from rules.contract import AbstractRule
from rules.feedback_alignment import DFA
from rules.gradient import SGD
from rules.kolen_pollack import KP

RULES: dict[str, AbstractRule] = {"SGD": SGD(), "DFA": DFA(), "KP": KP(), "random signal": RandomSignal()}
LAYERS = ("W1", "W2")
RECORDS, DECAY_TIMES = 20, 20  # how long a flow runs, in tau_dec, and how often it is looked at
ADAM_STEP, ADAM_WINDOW = 0.01, 25  # T / tau_plast, and for how many tau_dec the updates of Adam are averaged
TOLERANCE = 0.01
NOISY: dict[str, AbstractRule] = {"DFA": DFA(), "random signal": RandomSignal()}
RELAXATIONS = 6  # tau_dec before anything is averaged
RECORDS_EVERY = 20  # presentations
POWER = 4.0  # tr(C), about: the squared norm of an input


class HebbianStationary(AbstractPrediction):
    """The balance of learning signal and decay in a two-layer tanh network under four rules, and Adam."""

    number = "T4.1"
    title = "At rest, every rule with weight decay is Hebbian"
    source = "koplow2025emergence, weak form of the theorem: E[g] = gamma W at stationarity"
    equation = "<E g, E H>_F = gamma E|h|^2,  h = W z, H = h z^T, gamma = tau_plast / tau_dec"
    claim = """Where the weights rest, the mean update of a rule has a positive overlap with the Hebbian update, of
        exactly the size of the decay: for gradient descent, feedback alignment, Kolen-Pollack, a signal from an
        unrelated random network, and Adam."""
    method = """The weight flow of a tanh network on a teacher's data for 20 tau_dec; E g, E H and E|h|^2 of both
        matrices from the engine's factors. Adam: discrete updates, one presentation each; its step (without the decay)
        and the weights are averaged over 25 tau_dec."""
    tolerance = """1 %: the decay alone leaves exp(-20) of the start, but flat directions of the loss relax more slowly,
        and at gamma = 0.03 leave about 0.2 %. Adam never rests: the 99.9 % interval over seeds."""
    quick = {"gammas": (0.1, 0.3), "seeds": 3}

    inputs: Size = 8
    hidden: Size = 12
    outputs: Size = 4
    samples: Size = 32
    gammas: Positives = (0.01, 0.03, 0.1, 0.3)
    seeds: Seeds = 10

    def measure(self) -> Finding:
        flows = {name: self._flows(rule) for name, rule in RULES.items()}
        adam = self._adam(max(self.gammas))
        ratios = adam[:, :, 0] / adam[:, :, 1]
        for name, each in flows.items():
            self._check_alive(name, each[..., 1])
        quantity = "largest deviation of <E g, E H> / (gamma E|h|^2) from 1"
        verdicts = [
            all_close(f"balance under {name}", quantity, 0.0, _deviation(records[..., -1, :]), TOLERANCE)
            for name, records in flows.items()
        ]
        quantity = "<E g, E H> / (gamma E|h|^2), mean of both layers"
        verdicts.append(matches("Adam's steps", quantity, 1.0, ratios.mean(1)))
        return Finding(verdicts, self._drawn(flows, adam))

    def _check_alive(self, rule: str, decays: np.ndarray) -> None:
        """Refuses a decay under which weights vanish: then there is nothing left to compare. `decays`: gamma E|h|^2."""
        for gamma, course in zip(self.gammas, decays, strict=True):
            if not (course[..., -1] > 1e-6 * course[..., 0]).all():
                raise PlasticodeError(
                    f"hebbian-stationary.gammas has {gamma:g}: it must be smaller, as this decay leaves no weights "
                    f"under {rule}"
                )

    def _data(self) -> tuple[Float[Array, "seeds n i"], Float[Array, "seeds n o"]]:
        """Inputs, and the outputs of random tanh networks, scaled to a variance of about 2."""

        def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
            rng = np.random.default_rng(seed)
            x = rng.standard_normal((self.samples, self.inputs))
            first = rng.standard_normal((self.inputs, self.hidden)) / self.inputs**0.5
            second = rng.standard_normal((self.hidden, self.outputs)) / self.hidden**0.5
            return x, 2 * np.tanh(x @ first) @ second

        x, y = zip(*map(draw, range(self.seed, self.seed + self.seeds)), strict=True)
        return f64(np.stack(x)), f64(np.stack(y))

    def _flows(self, rule: AbstractRule) -> np.ndarray:
        """<E g, E H> and gamma E|h|^2: (gammas, seeds, layers, records, 2)."""
        circuit = wired(rule, (self.inputs, self.hidden, self.outputs))
        # Of tau_plast = 1 s: the data's largest eigenvalue, and the fastest decay.
        dt = 0.4 / ((1 + (self.inputs / self.samples) ** 0.5) ** 2 + max(self.gammas))

        def one(weights: Weights, x: Array, y: Array, gamma: Array, count: Array) -> Array:
            flow = weight_flow(circuit, x, y, dt, 1 / gamma)

            def look(progress: FlowState) -> Array:
                drives, hebbs, powers = balance(circuit, flow.weights(progress), x, y)
                return jnp.stack([jnp.stack([jnp.sum(drives[n] * hebbs[n]), gamma * powers[n]]) for n in LAYERS])

            return jnp.moveaxis(records(flow, flow.init(weights), RECORDS, count, look), 0, 1)

        run = jax.jit(jax.vmap(one, (0, 0, 0, None, None)))
        starts = jax.vmap(circuit.initial_weights)(keys_from(self.seed, self.seeds)), *self._data()
        counts = [max(1, round(DECAY_TIMES / (gamma * dt * RECORDS))) for gamma in self.gammas]
        return np.stack([run(*starts, f64(g), jnp.int32(n)) for g, n in zip(self.gammas, counts, strict=True)])

    def _adam(self, gamma: float) -> np.ndarray:
        """<E step, E H> and gamma E|h|^2 at the mean weights: (seeds, layers, 2)."""
        circuit = wired(SGD(), (self.inputs, self.hidden, self.outputs))
        count = round(ADAM_WINDOW / (gamma * ADAM_STEP))

        def one(key: PRNGKeyArray, weights: Weights, x: Array, y: Array) -> Array:
            run = discrete(circuit, Stream(x, y, key), ADAM_STEP, 1 / gamma, optimiser="adam")

            def window(state: Any, first: Array) -> tuple:
                """The weights before and after a window, and their mean over it."""

                def step(carry: tuple, k: Array) -> tuple:
                    now, total = carry
                    return (run.advance(now, k, 1), jax.tree.map(jnp.add, total, now.weights)), None

                still = jax.tree.map(jnp.zeros_like, state.weights)
                (end, total), _ = jax.lax.scan(step, (state, still), first + jnp.arange(count, dtype=jnp.int32))
                return end, (state.weights, end.weights, jax.tree.map(lambda w: w / count, total))

            _, windows = jax.lax.scan(window, run.init(weights), jnp.asarray([0, count], jnp.int32))
            before, after, mean = jax.tree.map(lambda w: w[-1], windows)
            # What Adam adds on average: all change but the decay, per unit of the learning rate.
            steps = {n: (after[n] - before[n]) / (count * ADAM_STEP) + gamma * mean[n] for n in LAYERS}
            _, hebbs, powers = balance(circuit, mean, x, y)
            return jnp.stack([jnp.stack([jnp.sum(steps[n] * hebbs[n]), gamma * powers[n]]) for n in LAYERS])

        keys = keys_from(self.seed, self.seeds)
        return np.asarray(jax.jit(jax.vmap(one))(keys, jax.vmap(circuit.initial_weights)(keys), *self._data()))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, flows: dict[str, np.ndarray], adam: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        everything = [*(records[..., -1, :].reshape(-1, 2) for records in flows.values()), adam.reshape(-1, 2)]
        powers = np.concatenate(everything)[:, 1]
        ends = np.array([powers.min() / 1.5, powers.max() * 1.5])
        left.plot(ends, ends, color="0.3", label="theory: equal")
        for i, (name, sides) in enumerate(zip([*flows, "Adam"], everything, strict=True)):
            left.plot(sides[:, 1], sides[:, 0], linestyle="", label=name, fillstyle="none", **look(i))
        left.set(xscale="log", yscale="log", xlabel="decay: gamma E|h|$^2$", ylabel="alignment: <E g, E H>")
        left.legend()
        gamma, times = len(self.gammas) // 2, np.arange(1, RECORDS + 1) * DECAY_TIMES / RECORDS
        for i, each in enumerate(flows.values()):
            right.plot(times, _deviation(each[gamma]).max((0, 1)), **look(i))
        right.axhline(TOLERANCE, color="0.3", linestyle="--", label="tolerance")
        right.set(yscale="log", xlabel="time (decay times tau_dec)", ylabel="largest relative deviation")
        right.set_title(f"gamma = {self.gammas[gamma]:g}")
        right.legend()


def _deviation(sides: np.ndarray) -> np.ndarray:
    """|<E g, E H> / (gamma E|h|^2) - 1|."""
    return np.abs(sides[..., 0] / sides[..., 1] - 1)


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
        lost = {name: self._simulated(rule, x, y) for name, rule in NOISY.items()}
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
