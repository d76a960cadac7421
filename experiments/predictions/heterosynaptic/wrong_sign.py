"""T3.4b: one layer whose learning signal has the wrong sign takes all the others down with it."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.flow import samples_with_moments
from dynamics.instruments import loss
from dynamics.regime import Slow
from dynamics.simulate import simulate
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import all_close, band, drawn, f64, weight_flow, wired
from experiments.report.figures import LINES, MARKERS, OKABE_ITO
from experiments.results.verdicts import close, stays_below
from rules.curl import Curl


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
        marks, probes = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(cases, keys)
        return _Course(np.asarray(marks[0, 0]) * self.step, np.asarray(probes["norms"]), np.asarray(probes["loss"]))

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
