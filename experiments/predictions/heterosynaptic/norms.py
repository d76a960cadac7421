"""T3.4, T3.4b: weight norms at stationarity are set by the consistency scores of the layers, and by their signs."""

import contextlib
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import root_scalar

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.flow import samples_with_moments
from dynamics.instruments import drive, gradient, loss
from dynamics.regime import Slow
from dynamics.simulate import simulate
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import band, drawn, legend_outside, plotted, ticked
from experiments.predictions.heterosynaptic.training import consistency
from experiments.predictions.kit import all_close, f64, on_grid, rotations, weight_flow, wired
from experiments.report.figures import LINES, MARKERS, OKABE_ITO
from experiments.results.verdicts import close, stays_below
from rules.curl import Curl
from rules.heterosynaptic import Heterosynaptic

NAMES = ("W1", "W2", "W3")


def common_norm(scores: tuple[float, float, float], strength: float, decay: float) -> float:
    """c = |W_l|^2 / |phi_l| of one mode at its stable stationary state, in weight squared.

    `scores` are |phi_l|, `strength` s is the mode's input-output correlation for white inputs and `decay` tau_dec in
    units of tau_plast. Stationarity of any layer, W_l / tau_dec = |phi_l| (s - p) (product of the two other weights),
    is 1 / tau_dec = (s - p) a sqrt(c) with p = a c^1.5, a = sqrt(|phi_1 phi_2 phi_3|): its larger root.
    """
    a = float(np.sqrt(np.prod(scores)))

    def excess(c: float) -> float:
        return (strength - a * c**1.5) * a * np.sqrt(c) - 1 / decay

    peak, empty = (strength / (4 * a)) ** (2 / 3), (strength / a) ** (2 / 3)
    if excess(peak) <= 0:
        raise PlasticodeError(
            f"nothing can be learned with strength {strength} and consistency scores {list(scores)}: decay must be "
            f"above {decay / (1 + decay * excess(peak)):.3g} tau_plast"
        )
    return float(root_scalar(excess, bracket=(peak, empty), xtol=1e-14).root)


class _End(NamedTuple):
    """(scores, seeds, 3): squared norms and scores by layer; (scores, seeds): how many modes are learned."""

    squares: np.ndarray
    scores: np.ndarray
    modes: np.ndarray


class NormLaw(AbstractPrediction):
    """Weight norms of a linear network whose layers' consistency scores are set by their wiring."""

    number = "T3.4"
    title = "Dynamical consistency: squared weight norms share the ratio of the consistency scores"
    source = "ziyin2025heterosynaptic, dynamical consistency (fig. 1d); the law is derived"
    equation = "|W_l|^2 / |phi_l| = sum over modes of c for all l; tau_plast / tau_dec = (s - p) a sqrt(c)"
    claim = """Where each layer's learning signal is phi_l times the gradient, decay makes weights stationary with
        squared norms in the ratio of the phi_l. So all phi_l of a network that has learned have one sign."""
    method = """Linear networks of three matrices in the weight flow, white inputs and a target of equal singular
        values. A mode counts as learned if the network transmits an eighth of it (stationary ones: a quarter or
        nothing). Wirings M = sqrt(m) Q with random rotations Q make phi_3 = -1, phi_2 = -m_3, phi_1 = -m_2 m_3; V
        starts at random. Scores are measured against the gradient by automatic differentiation."""
    tolerance = """1 %: norms differ by exp(-2 t / tau_dec) of their start, scores by exp(-t / tau_dec), 0.03 % after 8
        tau_dec; stationary states of Euler's steps are those of the flow."""
    quick = {"first": (0.3, 3.0), "seeds": 3}

    first: Positives = (0.1, 0.3, 1.0, 3.0)  # |phi_1|
    second: Positive = 2.0  # |phi_2|
    strength: Positive = 2.0  # singular values of the target
    neurons: Size = 5  # of every layer
    decay: Positive = 30.0  # tau_dec in units of tau_plast
    length: Positive = 8.0  # of training, in units of tau_dec
    step: Positive = 0.02  # in units of tau_plast
    seeds: Seeds = 6

    def measure(self) -> Finding:
        scores = np.array([(first, self.second, 1.0) for first in self.first])
        common = np.array([common_norm(tuple(row), self.strength, self.decay) for row in scores])
        end = self._trained()
        learned = end.modes > 0
        counted = learned | ~learned.any(
            1, keepdims=True
        )  # where no seed has learned, nothing is left out, and all fails
        squares = end.squares / np.where(learned, end.modes, np.nan)[..., None]
        ratios = (squares / scores[:, None])[counted]
        spread, off = ratios.max(-1) / ratios.min(-1), "(the one farthest off)"
        value, wired_phi = f"|W_l|^2 / |phi_l| per learned mode over the closed form {off}", "that of the wiring"
        exact = (squares / (scores * common[:, None])[:, None])[counted]
        phi = (-end.scores / scores[:, None])[counted]
        verdicts = [
            all_close("|W_l|^2 / phi_l is common", "largest over smallest of the three layers", 1.0, spread, 0.01),
            all_close("its value", value, 1.0, exact, 0.01),
            all_close("the wiring sets the scores", f"measured phi over {wired_phi} {off}", 1.0, phi, 0.01),
        ]
        lost = int(self.neurons * end.modes.size - end.modes.sum())
        note = f"Of {self.neurons * end.modes.size} modes, {lost} decayed to zero before they were learned, in "
        note += f"{(~learned).sum()} of {learned.size} networks all of them: these are left out."
        return Finding(verdicts, self._drawn(squares), [note])

    def _trained(self) -> _End:
        n = self.neurons
        circuit = wired(Heterosynaptic(feedback_scale=f64(1.0)), (n, n, n, n), activation="linear")
        presentations = max(1, round(self.length * self.decay / self.step))

        def one(first: Array, key: Array, rotated: Array) -> tuple[Array, Array, Array]:
            q2, q3, u = rotated
            x, y = samples_with_moments(jnp.eye(n, dtype=u.dtype), self.strength * u, self.strength**2 * (u @ u.T))
            wiring = {"M2": jnp.sqrt(first / self.second) * q2, "M3": self.second**0.5 * q3}
            flow = weight_flow(circuit, x, y, self.step, self.decay)
            start = circuit.initial_weights(key) | wiring
            w = simulate(flow, presentations, lambda w, slow: w["W1"].sum(), 1, weights=start).weights
            drives, downhill = drive(circuit, w, {}, x, y), gradient(circuit, w, x, y)
            squares = jnp.stack([jnp.sum(w[name] ** 2) for name in NAMES])
            scores = jnp.stack([consistency(drives[name], downhill[name]) for name in NAMES])
            return squares, scores, jnp.sum(jnp.linalg.svd(w["W3"] @ w["W2"] @ w["W1"])[1] > self.strength / 8)

        keys = jax.random.split(jax.random.key(self.seed), self.seeds)
        rotated = f64(rotations(self.seed, (self.seeds, 3), n))
        found = jax.jit(jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, None)))(f64(self.first), keys, rotated)
        return _End(*map(np.asarray, found))

    @plotted(3.4, 2.9)
    def _drawn(self, panel: Axes, squares: np.ndarray) -> None:
        low, high = min(self.first), max(self.first)
        fine = np.geomspace(low / 1.3, high * 1.3, 100)
        learnable = []
        for row in ((float(first), self.second, 1.0) for first in fine):
            with contextlib.suppress(PlasticodeError):  # where the line leaves what can be learned
                learnable.append((row, common_norm(row, self.strength, self.decay)))
        known = np.ma.masked_invalid(squares)
        for i, name in enumerate(NAMES):
            line = [(row[0], row[i] * c) for row, c in learnable]
            panel.plot(*zip(*line, strict=True), color=OKABE_ITO[i])
            mean, spread = known[:, :, i].mean(1), known[:, :, i].std(1)
            panel.errorbar(self.first, mean, yerr=spread, fmt=MARKERS[i], color=OKABE_ITO[i], label=f"|{name}|^2")
        panel.plot([], [], color="0.3", label="closed form")
        panel.set(xlabel="|phi_1|", ylabel="squared weight norm per learned mode", xscale="log", yscale="log")
        ticked(panel, self.first)
        legend_outside(panel, 2, loc="upper left")


class _Course(NamedTuple):
    """By (case, seed): case 0 has consistent signs, case l the wrong one in layer l.

    `norms` (..., records, 3): |W_l|^2 / |phi_l|; `loss` (..., records), relative to that of an empty network.
    """

    times: np.ndarray
    norms: np.ndarray
    loss: np.ndarray


class WrongSign(AbstractPrediction):
    """Linear networks in which the learning signal of one layer climbs the gradient that the others descend."""

    number = "T3.4b"
    title = "Mixed signs of the consistency score learn nothing: all weights decay"
    source = "ziyin2025heterosynaptic, dynamical consistency (fig. 1d); the conservation law is derived"
    equation = "phi_l < 0 < phi_k: |W_l|^2/|phi_l| + |W_k|^2/|phi_k| = const exp(-2 t / tau_dec), so both vanish"
    claim = """Where the learning signal of one layer is of the wrong sign, there is no stationary state but zero: all
        layers decay, whichever layer it is, and the network ends up knowing nothing. With consistent signs it
        learns."""
    method = """Linear networks of three matrices in the weight flow, phi_l by per-layer plasticity timescales and its
        sign by the law's (curl descent with all presynaptic neurons of a layer flipped), against equal signs."""
    tolerance = """1 % of the sum of norms, for Heun's steps, whose error is of order step^2; so every norm at the end
        is at most exp(-2 length) of those at the start. The loss at the end is that of an empty network to 1 %."""
    quick = {"seeds": 4}

    first: Positive = 0.4  # |phi_1|; the others are 1
    strength: Positive = 2.0  # singular values of the target
    neurons: Size = 5  # of every layer
    gain: Positive = 0.7  # of the initial weights
    decay: Positive = 30.0  # tau_dec in units of tau_plast
    length: Positive = 4.0  # of training, in units of tau_dec
    step: Positive = 0.03  # in units of tau_plast
    seeds: Seeds = 10

    def measure(self) -> Finding:
        course = self._course()
        decayed = np.exp(-2 * course.times / self.decay)
        pairs = itertools.permutations(range(3), 2)  # of layers, the first of which has the wrong sign
        sums = np.stack([course.norms[wrong + 1][..., [wrong, right]].sum(-1) for wrong, right in pairs])
        deviation = np.abs(sums / (sums[..., :1] * decayed) - 1)
        end = (course.norms[1:, :, -1].max(-1) / course.norms[1:, :, 0].sum(-1)).max()
        idle = course.loss[1:, :, -1]
        quantity = "loss at the end over that of an empty network"
        verdicts = [
            all_close("norms of unlike layers", "largest relative deviation of their sum", 0.0, deviation, 0.01),
            close("all layers decay", "largest norm at the end over all at the start", 0.0, end, 1.01 * decayed[-1]),
            all_close("nothing is learned", quantity, 1.0, idle, 0.01),
            stays_below("consistent signs learn", quantity, 0.5, course.loss[0, :, -1]),
        ]
        return Finding(verdicts, self._drawn(course))

    def _course(self) -> _Course:
        n, records = self.neurons, 60
        presentations = max(records, round(self.length * self.decay / self.step))
        scores = f64((self.first, 1.0, 1.0))

        def one(flips: Array, key: Array) -> tuple[Array, dict[str, Array]]:
            for_target, for_weights = jax.random.split(key)
            u = jax.random.orthogonal(for_target, n, dtype=jnp.float64)
            x, y = samples_with_moments(jnp.eye(n, dtype=u.dtype), self.strength * u, self.strength**2 * (u @ u.T))
            circuit = wired(Curl(flips=flips), (n, n, n, n), activation="linear", gain=f64(self.gain))
            flow = weight_flow(circuit, x, y, self.step, self.decay, 1 / scores, "heun")

            def probe(w: Weights, slow: Slow) -> dict[str, Array]:
                squares = jnp.stack([jnp.sum(w[name] ** 2) for name in ("W1", "W2", "W3")])
                return {"norms": squares / scores, "loss": loss(circuit, w, x, y) / (0.5 * jnp.sum(y * y, 1).mean())}

            found = simulate(flow, presentations, probe, records, key=for_weights)
            return found.presentations, found.probes

        cases = jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3)]).astype(jnp.float64)
        keys = jax.random.split(jax.random.key(self.seed), self.seeds)
        marks, probes = on_grid(one, cases, keys)
        return _Course(marks[0, 0] * self.step, probes["norms"], probes["loss"])

    @drawn(3.4, 3.8)
    def _drawn(self, figure: Figure, course: _Course) -> None:
        x = course.times / self.decay
        top, bottom = figure.subplots(2, 1, sharex=True)
        top.plot(x, np.exp(-2 * x), color="0.3", label="exp(-2 t / tau_dec)")
        for case, label in enumerate(("consistent", "layer 1 wrong", "layer 2 wrong", "layer 3 wrong")):
            colour, mark = OKABE_ITO[case], MARKERS[case]
            shown = slice(2 * case, None, 10)
            if case:
                wrong, right = case - 1, case % 3
                both = course.norms[case][..., wrong] + course.norms[case][..., right]
                top.plot(x[shown], (both / both[:, :1]).mean(0)[shown], mark, color=colour, label=label)
            band(bottom, x, course.loss[case].T, color=colour, label=label, linestyle=LINES[case])
        top.set(ylabel="summed norms / start", yscale="log")
        bottom.set(xlabel="time (tau_dec)", ylabel="loss / empty network", ylim=(0, None))
        top.legend()
        bottom.legend(loc="center right")
