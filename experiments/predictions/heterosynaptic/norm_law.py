"""T3.4: at stationarity, squared weight norms are in the ratio of the layers' consistency scores."""

import contextlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from scipy.optimize import root_scalar

from dynamics.errors import PlasticodeError
from dynamics.flow import samples_with_moments
from dynamics.instruments import drive, gradient
from dynamics.simulate import simulate
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.heterosynaptic.training import consistency
from experiments.predictions.kit import all_close, f64, legend_outside, plotted, rotations, weight_flow, wired
from experiments.report.figures import MARKERS, OKABE_ITO
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
        panel.set_xticks(self.first, [f"{first:g}" for first in self.first])
        panel.set_xticks([], minor=True)
        legend_outside(panel, 2, loc="upper left")
