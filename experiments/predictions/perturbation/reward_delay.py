"""A3.6: a linear layer in the coupled regime, whose noise meets a reward that is `delays` late."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.figure import Figure

from dynamics.coupled_run import CoupledProgress
from dynamics.integrators import Window
from dynamics.stimulus import Stream
from dynamics.theory import lagged_overlap
from experiments.predictions.continuous.closed_forms import traced_overlap
from experiments.predictions.contract import (
    AbstractPrediction,
    Finding,
    NonNegative,
    NonNegatives,
    Positive,
    Seeds,
    Size,
)
from experiments.predictions.drawing import against, drawn, look, marked
from experiments.predictions.kit import coupled, f64, jackknifed, keys_from, wired
from experiments.predictions.perturbation.setting import node, with_late_reward
from experiments.results.verdicts import Verdict, all_match, matches

RATE = 1e-7  # T / tau_plast: weights hardly change while their drive is measured
FILTERS = 3  # from the noise to the reward that its trace meets: neurons, their loss, the reward
EARLIER = 4  # presentations before the first that counts, and as many trace timescales


class Moments(NamedTuple):
    """Of the change of W in one presentation, in units of T / tau_plast: (delays, seeds) each.

    A: the part along W* - W, over |W* - W|^2. B: the square, over the same.
    """

    along: np.ndarray
    square: np.ndarray


class RewardDelay(AbstractPrediction):
    number = "A3.6"
    title = "A late reward: the overlap law holds, and what comes too late is noise"
    source = "bacvanski2025continuous, overlap law; its meaning for node perturbation (werfel2005learning): derived"
    equation = """A = max(0, 1 - d/T), B = A^2 (M + 2)(N + 2) + (d/T)^2 M N for d < T: per presentation E|W - W*|^2 is
        multiplied by 1 - 2 eta A + eta^2 B, so that tau_plast / T must exceed B / (2 A), and learning takes B / A^2
        presentations at best; behind a trace of the product A is its overlap with the reward"""
    claim = """A reward d late meets its own noise for T - d and that of the next presentation for d. So what is learned
        falls as the overlap law says, to nothing from T on, as with late errors; but the rest is not silent: it drives
        weights at random. There is a window of plasticity, from tau_plast / T = B / (2 A) to as many presentations as
        there are, times A. Its edges meet as d comes near T, since learning then takes (M + 2)(N + 2) + M N (d / (T -
        d))^2 presentations; a trace of the product opens it again beyond T."""
    method = """The coupled regime, by windows, from W = 0 with plasticity so slow that weights stay, on Gaussian inputs
        with a linear teacher; the change of W from each presentation to the next, means over presentations being one
        sample per seed."""
    tolerance = """99.9 % intervals over seeds, for all delays together. Theory has the three filters of tau_prop that
        the reward has passed, and that the stream repeats a sample now and then."""
    quick = {"seeds": 60, "delays": (0.0, 0.5, 1.5), "presentations": 25, "trace": 0.0}

    outputs: Size = 2
    inputs: Size = 3
    delays: NonNegatives = (0.0, 0.25, 0.5, 0.75, 1.25, 1.75)  # in T
    trace: NonNegative = 1.0  # in T; 0: none, and no claim about one
    propagation: Positive = 0.01  # in T
    samples: Size = 64
    session: Size = 200  # presentations, for the other end of the window in the figure
    presentations: Size = 40
    seeds: Seeds = 300

    def misfit(self) -> str | None:
        if self.propagation > 0.02 or max(self.delays) > 10:
            return "propagation must be at most 0.02 and delays at most 10"
        if sum(d < 0.9 for d in self.delays) < 2:
            return "two of delays at least must be below 0.9, where something is learned"

    def expected(self, delays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A and B without a trace; reward r_j weighs on presentation k by the time for which it arrives then."""
        m, n, tau = self.outputs, self.inputs, self.propagation
        own = lagged_overlap(delays, 1.0, 0, FILTERS, tau)
        late = delays + (FILTERS - 1) * tau  # of what an own reward has not: its noise meets it from the start
        weights = [np.maximum(0.0, 1 - np.abs(late - j)) for j in range(1, math.ceil(max(late)) + 1)]
        others = sum(w**2 for w in weights)
        return own, own**2 * (m + 2) * (n + 2) + others * m * (n + 2 / self.samples)

    def measure(self) -> Finding:
        plain, traced = self._simulated()
        delays = np.array(self.delays)
        a, b = self.expected(delays)
        along, square = "part of the drive along W* - W", "|drive|^2 / |W* - W|^2"
        verdicts = [
            all_match("overlap law", along, a, plain.along.T),
            all_match("noise", square, b, plain.square.T),
            self._longer(delays, plain),
        ]
        if traced is not None:
            behind = traced_overlap(delays, self.trace, FILTERS * self.propagation)
            verdicts.append(all_match("a trace rescues it", along, behind, traced.along.T, f"tau_e = {self.trace:g} T"))
        beyond = delays >= 1
        if beyond.any():
            quantity = f"{square} for d > T, where nothing is learned"
            verdicts.append(all_match("only noise is left", quantity, b[beyond], plain.square[beyond].T))
        return Finding(verdicts, self._drawn(plain, traced))

    def _longer(self, delays: np.ndarray, plain: Moments) -> Verdict:
        """By how much learning takes longer at the longest delay below 0.9 T than at the shortest."""
        learns = np.flatnonzero(delays < 0.9)
        first, last = learns[np.argmin(delays[learns])], learns[np.argmax(delays[learns])]

        def longer(kept: np.ndarray) -> float:
            times = [plain.square[i, kept].mean() / plain.along[i, kept].mean() ** 2 for i in (first, last)]
            return float(times[1] / times[0])

        a, b = self.expected(delays)
        expected = float(b[last] / a[last] ** 2 / (b[first] / a[first] ** 2))
        quantity = f"presentations that learning takes, d = {delays[last]:g} T over {delays[first]:g} T"
        return matches("learning takes longer", quantity, expected, jackknifed(longer, plain.along.shape[-1]))

    def _simulated(self) -> tuple[Moments, Moments | None]:
        """Without a trace, and with one if there is one."""
        m, n = self.outputs, self.inputs
        window = Window(nodes=14, parts=1, gaps=False, settling=10.0)
        history = (math.ceil(max(self.delays)) + 1) * window.nodes + 2

        def one(key: PRNGKeyArray, late: Array, trace: Array | None, earlier: int) -> tuple[Array, Array]:
            for_x, for_teacher, for_order = jax.random.split(key, 3)
            x = jax.random.normal(for_x, (self.samples, n), jnp.float64)
            teacher = jax.random.normal(for_teacher, (m, n), jnp.float64)
            circuit = with_late_reward(wired(node(), (n, m), activation="linear", gain=f64(0.0)), late)
            run = coupled(
                circuit, Stream(x, x @ teacher.T, for_order), self.propagation, 1 / RATE, 1.0, window.nodes,
                trace=trace, integrator=window, history=history,
            )  # fmt: skip

            def show(progress: CoupledProgress, k: Array) -> tuple:
                after = run.advance(progress, k, 1)
                return after, (run.weights(after)["W1"] - run.weights(progress)["W1"]) / RATE

            begun = run.advance(run.init(circuit.initial_weights(key)), jnp.int32(0), earlier)
            steps = earlier + jnp.arange(self.presentations, dtype=jnp.int32)
            drives = jax.lax.scan(show, begun, steps)[1]
            size = jnp.sum(teacher**2)
            return jnp.sum(drives.mean(0) * teacher) / size, jnp.sum(drives**2) / size / self.presentations

        keys, late = keys_from(self.seed, self.seeds), f64(self.delays)
        latest = math.ceil(max(self.delays)) + EARLIER
        over = jax.vmap(jax.vmap(one, (0, None, None, None)), (None, 0, None, None))
        run = jax.jit(over, static_argnums=3)
        plain = Moments(*map(np.asarray, run(keys, late, None, latest)))
        if not self.trace:
            return plain, None
        with_trace = latest + math.ceil(EARLIER * self.trace)
        return plain, Moments(*map(np.asarray, run(keys, late, f64(self.trace), with_trace)))

    @drawn(6.6, 2.7)
    def _drawn(self, figure: Figure, plain: Moments, traced: Moments | None) -> None:
        left, right = figure.subplots(1, 2)
        delays = np.array(self.delays)
        fine = np.linspace(0, max(delays) * 1.05, 300)
        a, b = self.expected(fine)
        against(left, 0, (fine, a), (delays, plain.along), "no trace")
        if traced is not None:
            left.plot(fine, traced_overlap(fine, self.trace, FILTERS * self.propagation), color=look(1)["color"])
            marked(left, delays, traced.along, **look(1), label=f"trace of {self.trace:g} T")
        left.axhline(0, color="0.6", linewidth=0.8)
        left.set(xlabel="delay d / T of the reward", ylabel="A: drive along W* - W")
        left.legend(title="lines: theory")
        learns, shown = a > 0.02, delays < 0.9
        low, high = b[learns] / (2 * a[learns]), self.session * a[learns]
        right.plot(fine[learns], low, color="0.3", label="B / (2 A)")
        right.plot(fine[learns], high, color="0.3", linestyle="--", label=f"A times {self.session} presentations")
        right.fill_between(fine[learns], low, high, where=high > low, color="0.9", linewidth=0)
        edges = plain.square.mean(-1) / (2 * plain.along.mean(-1))
        right.plot(delays[shown], edges[shown], linestyle="", **look(0), label="simulation")
        right.text(0.03, 0.62, "window of plasticity", transform=right.transAxes)
        right.set(xlabel="delay d / T of the reward", ylabel="tau_plast / T", yscale="log", ylim=(low.min() / 12, None))
        right.legend(loc="lower left")
