"""T3.5: a heterosynaptic synapse has a sliding threshold, as BCM's, without any neuron keeping one."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from scipy.integrate import solve_ivp

from dynamics.circuit import Circuit, Weights
from dynamics.simulate import simulate
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Positives
from experiments.predictions.heterosynaptic.training import Stacked
from experiments.predictions.kit import all_close, coupled, f64, plotted, weight_flow, wired
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import close
from rules.heterosynaptic import Heterosynaptic

PROPAGATION, PRESENTATION, PLASTICITY = 0.002, 0.1, 4000.0  # seconds, far apart: what is between them is the theory


class SlidingThreshold(AbstractPrediction):
    """The change of one synapse against postsynaptic activity, after different experiences."""

    number = "T3.5"
    title = "Metaplasticity: the threshold between depression and potentiation slides with experience"
    source = "ziyin2025heterosynaptic, fig. 2a2; derived for signals that grow together"
    equation = "dW(h) = k h^2 - (tau_plast/tau_dec) W, k = g V / W, theta^2 = (W/k) tau_plast/tau_dec"
    claim = """Where the learning signal grows with postsynaptic activity h, as g h, a synapse changes by a parabola in
        h: depression below a threshold theta, potentiation above. Its curvature is proportional to the learned feedback
        weight V, so that theta slides with what was experienced."""
    method = """A chain of three linear neurons. Experience: the weight flow with input 1 and a target, one per history.
        Test: the coupled regime, for each h, with the target that makes the output error g h; the change in the second
        of two presentations, when activities have settled. A parabola is fitted."""
    tolerance = """1 % (of theta, of the range): Euler's steps of experience are a thousandth of tau_plast, weights
        change by 1e-4 in a test, and theory integrates the three equations of experience by itself."""

    experiences: Positives = (0.3, 0.6, 1.2)  # targets in the past
    duration: Positive = 4.0  # of experience, in units of tau_plast
    signal: Positive = 0.05  # g: the learning signal per activity in the test
    activities: NonNegatives = tuple(np.linspace(0, 4, 13).tolist())  # h in the test
    decay: Positive = 10.0  # tau_dec in units of tau_plast
    forward: Positive = 1.5  # the first weight before the experience
    feedback: Positive = 0.2  # the second weight and the feedback weight before it

    def misfit(self) -> str | None:
        if len(set(self.activities)) < 3:
            return "a parabola needs at least three different activities"

    def measure(self) -> Finding:
        rule = Heterosynaptic(feedback_scale=f64(1.0), wiring="identity")
        circuit = wired(rule, (1, 1, 1), activation="linear")
        changes = self._tested(circuit, self._experienced(circuit))
        theory = np.array([self._expected(target) for target in self.experiences])
        fits = np.array([np.polynomial.Polynomial.fit(self.activities, row, 2).convert(None).coef for row in changes])
        thresholds, expected = _thresholds(fits[:, 0], fits[:, 2]), _thresholds(theory[:, 0], theory[:, 1])
        verdicts = [
            close(f"after a target of {target:g}", "threshold theta (activity)", e, m, 0.01 * e)
            for target, e, m in zip(self.experiences, expected, thresholds, strict=True)
        ]
        h = np.array(self.activities)
        curves = theory[:, :1] + theory[:, 1:] * h**2
        quantity, off = "largest deviation from the closed form over its range", np.abs(changes - curves)
        verdicts.append(all_close("parabola", quantity, 0.0, off / np.abs(curves).max(), 0.01))
        return Finding(verdicts, self._drawn(changes, theory, expected))

    def _experienced(self, circuit: Circuit) -> Stacked:
        """The weights after each experience, stacked."""
        step = self.duration / max(1000, round(1000 * self.duration))

        def one(target: Array) -> Weights:
            flow = weight_flow(circuit, f64([[1.0]]), target[None, None], step, self.decay)
            start = {"W1": f64([[self.forward]]), "M2": f64([[1.0]])}
            start |= {name: f64([[self.feedback]]) for name in ("W2", "V2")}
            return simulate(flow, round(self.duration / step), lambda w, slow: w["W1"], 1, weights=start).weights

        return jax.jit(jax.vmap(one))(f64(self.experiences))

    def _tested(self, circuit: Circuit, weights: Stacked) -> np.ndarray:
        """(experiences, activities): the change of W1 in one presentation, in units of T / tau_plast."""
        times, steps = (PROPAGATION, PLASTICITY, PRESENTATION), round(10 * PRESENTATION / PROPAGATION)

        def one(weights: Weights, activity: Array) -> Array:
            x, y = activity / weights["W1"], (weights["W2"] + self.signal) * activity
            run = coupled(circuit, Stream(x, y, jax.random.key(0)), *times, steps, decay=self.decay * PLASTICITY)
            settled = run.advance(run.init(weights), jnp.asarray(0), 1)
            end = run.advance(settled, jnp.asarray(1), 1)
            change = run.weights(end)["W1"] - run.weights(settled)["W1"]
            return change[0, 0] * PLASTICITY / PRESENTATION

        return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))(weights, f64(self.activities)))

    def _expected(self, target: float) -> tuple[float, float]:
        """Offset -W tau_plast / tau_dec and curvature g V / W of dW(h), in T / tau_plast, after an experience."""

        def drift(_: float, y: np.ndarray) -> list[float]:
            w1, w2, v = y
            error = target - w2 * w1
            return [v * error - w1 / self.decay, error * w1 - w2 / self.decay, w1 * error - v / self.decay]

        start = [self.forward, self.feedback, self.feedback]
        w1, _, v = solve_ivp(drift, (0, self.duration), start, rtol=1e-10, atol=1e-12).y[:, -1]
        return -w1 / self.decay, self.signal * v / w1  # the input is h / W

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, changes: np.ndarray, theory: np.ndarray, thresholds: np.ndarray) -> None:
        fine = np.linspace(0, max(self.activities), 200)
        panel.axhline(0, color="0.6", linewidth=0.8)
        for i, target in enumerate(self.experiences):
            colour = OKABE_ITO[i % len(OKABE_ITO)]
            panel.plot(fine, theory[i, 0] + theory[i, 1] * fine**2, color=colour)
            panel.plot(self.activities, changes[i], MARKERS[i % 7], color=colour, label=f"after target {target:g}")
            panel.plot(thresholds[i], 0, "|", color=colour, markersize=14)
        panel.plot([], [], color="0.3", label="closed form")
        panel.set(xlabel="postsynaptic activity h", ylabel="dW / (T / tau_plast)")
        panel.legend()


def _thresholds(offsets: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Where offset + curvature h^2 = 0; NaN where it nowhere is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(-offsets / curvatures)
