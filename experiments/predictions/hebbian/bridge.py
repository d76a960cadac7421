"""T4.5: a linear neuron with noisy synapses in the coupled regime: activities, errors and weights evolve together."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn, marked
from experiments.predictions.hebbian.setting import averaged, balance, share_inside, student
from experiments.predictions.kit import coupled, f64, intervals, keys_from
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, close, exceeds, matches
from experiments.spec.units import Time

RELAXATIONS = 10  # of the weights, tau_plast / s each, before anything is averaged
RECORDS_EVERY = 10  # presentations
TOLERANCE = 1e-6  # of windows: means over thousands of presentations resolve 1e-4


class Moments(NamedTuple):
    """What theory says: A = <g, H>, gamma E|h|^2, both by (decays, noises)."""

    overlap: np.ndarray
    decay: np.ndarray


class HebbianBridge(AbstractPrediction):
    number = "T4.5"
    title = "In continuous time, tau_plast / tau_dec decides whether plasticity is Hebbian"
    source = """koplow2025emergence, noise theorem, for the continuous-time model of bacvanski2025continuous; derived:
        weights with synaptic noise are Ornstein-Uhlenbeck processes of variance tau_plast sigma^2 / (2 (s + gamma))"""
    equation = """A = <g, H> = s^2 |w*|^2 (1 - u) (u - k), u = gamma / (s + gamma), gamma = tau_plast / tau_dec, k = d
        tau_plast sigma^2 / (2 s |w*|^2)"""
    claim = """With dW = (g / tau_plast - W / tau_dec) dt + sigma dB the drive of plasticity is Hebbian where tau_plast
        / tau_dec exceeds s k / (1 - k), about d tau_plast sigma^2 / (2 |w*|^2), and anti-Hebbian below; without noise
        <g, H> = gamma E|h|^2."""
    method = """The coupled regime, by windows, on a stream of orthogonal inputs with <x x^T> = s I. Every 10
        presentations the settled drive and Hebbian update over all inputs at the weights of that moment; means over
        time. The flip is the root of a line in u through A / (1 - u)."""
    tolerance = """99.9 % intervals over seeds. Allowed beyond them where the law for T << tau_plast is judged: its
        difference from the exact moments of the weights at the ends of presentations, of order d T / tau_plast."""
    quick = {"seeds": 5, "averaged": 150.0, "noises": (0.05, 0.2)}

    inputs: Size = 8
    variance: Positive = 1.0  # s
    teacher_norm: Positive = 1.0  # |w*|
    gammas: Positives = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # tau_plast / tau_dec in units of s
    noises: Positives = (0.03, 0.1, 0.25)  # k
    duration: Duration = Time(0.05)
    propagation: Duration = Time(0.0001)
    plasticity: Duration = Time(10.0)
    averaged: Positive = 800.0  # relaxation times
    seeds: Seeds = 10

    def measure(self) -> Finding:
        self._check()
        overlap, decay = self._simulated()
        exact = self.exact(self.gammas, self.levels)
        verdicts = [self._limit(overlap[:, 0] / decay[:, 0])]
        quantity = "share of (gamma, k) whose interval has the predicted A"
        verdicts.append(close("alignment", quantity, 1.0, share_inside(exact.overlap, overlap), 0.0))
        verdicts.append(self._growth(overlap))
        verdicts += [self._flip(overlap[:, i], i) for i in range(1, len(self.levels))]
        return Finding(verdicts, self._drawn(overlap))

    @property
    def levels(self) -> np.ndarray:
        """The noise levels k, the first of which is no noise."""
        return np.array([0.0, *self.noises])

    @property
    def shares(self) -> np.ndarray:
        """u = gamma / (s + gamma)."""
        return np.array(self.gammas) / (1 + np.array(self.gammas))

    def exact(self, gammas: Sequence[float] | np.ndarray, levels: Sequence[float] | np.ndarray) -> Moments:
        """A and gamma E|h|^2 for any T / tau_plast, in units of s^2 |w*|^2: (gammas, levels).

        One presentation shows one of the d axes: its weight relaxes to the target at d s / tau_plast + 1 / tau_dec,
        the others decay, and all diffuse. So mean and mean square of a weight obey linear recursions. Propagation
        delays the target by one stage and the prediction by two, and so shortens their action by as many tau_prop.
        """
        s, d = self.variance, self.inputs
        span, tau = self.duration.value, self.plasticity.value
        lag = self.propagation.value / span
        gamma = s * np.array(gammas)[:, None]
        target = self.teacher_norm / d**0.5  # of every weight, by symmetry
        power = 2 * np.array(levels)[None] * s * self.teacher_norm**2 / (d * tau)  # sigma^2
        idle = gamma / tau
        taught = d * s * (1 - 2 * lag) / tau + idle
        keep, keep_idle = np.exp(-taught * span), np.exp(-idle * span)
        pull = d * s * (1 - lag) / tau * target * (1 - keep) / taught
        diffused, diffused_idle = (power * (1 - k**2) / (2 * r) for k, r in ((keep, taught), (keep_idle, idle)))
        mean = pull / d / (1 - keep / d - (1 - 1 / d) * keep_idle)
        source = (2 * keep * pull * mean + pull**2 + diffused) / d + (1 - 1 / d) * diffused_idle
        square = source / (1 - keep**2 / d - (1 - 1 / d) * keep_idle**2)
        scale = d / self.teacher_norm**2
        return Moments(scale * (target * mean - square), scale * gamma / s * square)

    def _check(self) -> None:
        span = self.duration.value
        if self.propagation.value > span / 20 or span * self.inputs > self.plasticity.value:
            raise PlasticodeError(
                "hebbian-bridge needs propagation of at most duration / 20, so that signals settle, and plasticity of "
                f"at least inputs x duration = {span * self.inputs:g} s"
            )
        if list(self.gammas) != sorted(set(self.gammas)) or len(self.gammas) < 3:
            raise PlasticodeError("hebbian-bridge needs 3 gammas or more, in increasing order")
        if max(self.noises) >= 1:
            raise PlasticodeError("hebbian-bridge.noises must be below 1: from 1 on no decay makes plasticity Hebbian")

    def _simulated(self) -> tuple[np.ndarray, np.ndarray]:
        """A and gamma E|h|^2 in units of s^2 |w*|^2: (gammas, levels, seeds) each."""
        circuit, d, s = student(self.inputs, 1), self.inputs, self.variance
        axes = f64(np.sqrt(d * s) * np.concatenate([np.eye(d), -np.eye(d)]))
        targets = axes @ f64(np.full((d, 1), self.teacher_norm / d**0.5))
        tau, window = self.plasticity.value, Window(nodes=6, parts=1, gaps=False, tolerance=TOLERANCE)
        relaxation = self.plasticity.value / (s * self.duration.value * RECORDS_EVERY)  # in records
        burn, count = round(RELAXATIONS * relaxation), max(1, round(self.averaged * relaxation))

        def one(key: PRNGKeyArray, gamma: Array, sigma: Array) -> Array:
            for_order, for_noise = jax.random.split(key)
            run = coupled(
                circuit, Stream(axes, targets, for_order), self.propagation.value, tau, self.duration.value,
                window.nodes, decay=tau / gamma, noise=Noise(synaptic=sigma), integrator=window, key=for_noise,
            )  # fmt: skip

            def sides(weights: Weights) -> Array:
                drives, hebbs, powers = balance(circuit, weights, axes, targets)
                return jnp.stack([jnp.sum(drives["W1"] * hebbs["W1"]), gamma * powers["W1"]])

            return averaged(run, {"W1": jnp.zeros((1, d), jnp.float64)}, burn, count, RECORDS_EVERY, sides)

        run = jax.jit(jax.vmap(jax.vmap(jax.vmap(one, (0, None, None)), (None, None, 0)), (None, 0, None)))
        sigmas = np.sqrt(2 * self.levels * s * self.teacher_norm**2 / (d * self.plasticity.value))
        sides = np.asarray(run(keys_from(self.seed, self.seeds), f64(s * np.array(self.gammas)), f64(sigmas)))
        sides = np.moveaxis(sides, -1, 0) / (s**2 * self.teacher_norm**2)
        return sides[0], sides[1]

    def _limit(self, ratios: np.ndarray) -> Verdict:
        """Without noise: the ratio where it is furthest from 1, relative to its interval."""
        exact = self.exact(self.gammas, self.levels)
        shift = np.abs(exact.overlap / exact.decay - 1)[:, 0]
        means, half = intervals(ratios)
        row = int(np.argmax((np.abs(means - 1) - shift) / half))
        note = f"at gamma = {self.gammas[row]:g} s, where it fits least; presentations of finite length shift it by "
        note += f"{shift[row]:.2g}, which is allowed"
        return matches("no noise", "<g, H> / (gamma E|h|^2)", 1.0, ratios[row], shift[row], note)

    def _growth(self, overlap: np.ndarray) -> Verdict:
        """Whether A rises with gamma at every noise, as far as u < (1 + k) / 2; judged where it is least certain."""
        rising = (self.shares[1:, None] < (1 + self.levels[None]) / 2).nonzero()
        steps = np.diff(overlap, axis=0)[rising]
        means, half = intervals(steps)
        quantity = "least increase of A / (s^2 |w*|^2) from one gamma to the next"
        return exceeds("grows with tau_plast / tau_dec", quantity, 0.0, steps[np.argmin(means / half)])

    def _roots(self, overlap: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """gamma / s where A changes its sign, by seed, from A / (1 - u) = u - k at all decays: (gammas, seeds).

        The decays are weighted by the `spread` of A over seeds.
        """
        u = self.shares
        lines = [np.polyfit(u, row / (1 - u), 1, w=(1 - u) / spread) for row in overlap.T]
        roots = np.array([-at_zero / slope for slope, at_zero in lines])
        return roots / (1 - roots)

    def _flip(self, overlap: np.ndarray, level: int) -> Verdict:
        k, spread = self.levels[level], overlap.std(-1, ddof=1)
        expected = k / (1 - k)
        exact = self.exact(self.gammas, [k]).overlap
        shift = abs(float(self._roots(exact, spread)[0]) - expected)
        note = f"presentations of finite length shift it by {shift:.2g}, which is allowed"
        quantity = "tau_plast / tau_dec, in units of s, where <g, H> changes its sign"
        return matches(f"flip at noise k = {k:g}", quantity, expected, self._roots(overlap, spread), shift, note)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, overlap: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        gammas = np.array(self.gammas)
        fine = np.geomspace(gammas[0] / 1.5, gammas[-1] * 1.5, 300)
        lines = self.exact(fine, self.levels).overlap
        for i, k in enumerate(self.levels):
            against(left, i, (fine, lines[:, i]), (gammas, overlap[:, i]), f"k = {k:g}")
        left.axhline(0, color="0.7", linewidth=0.6)
        left.set(xscale="log", xlabel="tau_plast / (s tau_dec)", ylabel="<g, H> / (s$^2$ |w*|$^2$)")
        left.legend(title="lines: theory")
        noise = np.linspace(0, min(1.2 * max(self.noises), 0.95), 30)
        law = noise / (1 - noise)
        trials = np.geomspace(1e-4, 2 * law[-1], 2000)
        flips = [trials[np.argmax(row > 0)] for row in self.exact(trials, noise[1:]).overlap.T]
        right.plot(noise, law, color="0.3", label="theory, T << tau_plast")
        label = f"theory, T = tau_plast / {self.plasticity.value / self.duration.value:g}"
        right.plot(noise[1:], flips, color="0.3", linestyle="--", label=label)
        noisy = [overlap[:, i] for i in range(1, len(self.levels))]
        roots = np.stack([self._roots(one, one.std(-1, ddof=1)) for one in noisy])
        marked(right, self.noises, roots, color=OKABE_ITO[1], marker="o", label="simulation")
        right.set(xlabel="noise k = d tau_plast sigma$^2$ / (2 s |w*|$^2$)", ylabel="flip: tau_plast / (s tau_dec)")
        right.text(0.95, 0.1, "anti-Hebbian", transform=right.transAxes, ha="right")
        right.text(0.05, 0.45, "Hebbian", transform=right.transAxes)
        right.legend()
