"""A2.9: how late the error of a predictive coding network may be before its inference rings for ever."""

import cmath
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes

from dynamics.circuit import Circuit
from dynamics.network import Network
from dynamics.overlap import waveforms
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Size
from experiments.predictions.energy.setting import network
from experiments.predictions.kit import all_close, coupled, f64, look, plotted
from rules.equilibrium_propagation import EquilibriumPropagation
from rules.predictive_coding import PredictiveCoding

SPAN = 100.0  # length of the presentation, in tau_prop
STILL = 1e100  # tau_plast / tau_prop: weights do not move, however much the error has grown
NUDGE, FEEDBACK = 0.2, 0.1  # of equilibrium propagation


class PCCriticalDelay(AbstractPrediction):
    """Growth of the error of a 1-1-1 network that infers with a late error, against its characteristic roots."""

    number = "A2.9"
    title = "Predictive coding rings where its error is later than a critical delay"
    source = "whittington2017approximation, for the inference; its stability with a late error is derived"
    equation = """(1 + s tau)^2 + w^2 exp(-s d) = 0, tau = tau_prop; stable for all d where w^2 < 1, else for d < d_c =
        tau (pi - 2 atan v) / v, v = sqrt(w^2 - 1)"""
    claim = """Inference is a loop from the error to the hidden activity and back to the prediction, of gain w^2. Where
        that is above 1 and the error arrives later than d_c, activities oscillate and grow, whatever the weights
        learn; below 1 no delay does harm. Equilibrium propagation with the same weights is safe at any of these
        delays, as its loop has the gain of the nudge, beta / (1 - gamma w^2) < 1 with its feedback gamma."""
    method = """One long presentation to a linear network whose weights do not move, by Heun's steps of tau_prop / 20;
        the rate at which the error leaves its fixed point, from its energy in windows of half periods, against the
        rightmost root."""
    tolerance = """0.005 / tau_prop for growth rates: Heun's error at these steps, and other roots that have not quite
        died out. 1 % for the critical delay, found by interpolation between the delays on both sides of it."""
    quick = {"delays": (0.8, 0.95, 1.05, 1.3)}

    strong: Positive = 1.6  # w, above 1
    weak: Positive = 0.8  # w, below 1
    delays: NonNegatives = (0.6, 0.8, 0.95, 1.05, 1.3, 2.0)  # in units of d_c of the strong network
    steps: Size = 20  # per tau_prop

    def misfit(self) -> str | None:
        if self.strong <= 1 or self.weak >= 1:
            return "strong must be above 1 and weak below it"
        if not any(0.8 <= d < 1 for d in self.delays) or not any(1 < d <= 1.2 for d in self.delays):
            return "delays must have one from 0.8 to 1 and one from 1 to 1.2, between which the critical one is found"
        if NUDGE / (1 - FEEDBACK * self.strong**2) >= 1 or FEEDBACK * self.strong**2 >= 1:
            most = math.sqrt((1 - NUDGE) / FEEDBACK)
            return f"strong must be below {most:.3g}, or the loop of equilibrium propagation has a gain above 1 as well"
        if min(self.delays) < 0.5 or self.latest() > SPAN / 10:
            return f"delays must be at least 0.5, and the largest at most {SPAN / 10:g} tau_prop"

    def critical(self) -> float:
        """d_c / tau_prop."""
        v = math.sqrt(self.strong**2 - 1)
        return (math.pi - 2 * math.atan(v)) / v

    def latest(self) -> float:
        return self.critical() * max(self.delays)

    def root(self, w: float, delay: float) -> complex:
        """The rightmost root, over 1 / tau_prop, of predictive coding: Newton from many starts."""
        found = []
        for start in (complex(a, b) for a in (-1.0, -0.3, 0.0, 0.3) for b in np.linspace(0.1, 4, 14)):
            s = start
            for _ in range(60):
                late = w**2 * cmath.exp(-s * delay)
                s -= ((1 + s) ** 2 + late) / (2 * (1 + s) - delay * late)
                if not abs(s) < 50:
                    break
            if abs(s) < 50 and abs((1 + s) ** 2 + w**2 * cmath.exp(-s * delay)) < 1e-10:
                found.append(complex(s.real, abs(s.imag)))
        return max(found, key=lambda s: s.real)

    def measure(self) -> Finding:
        delays = self.critical() * np.array(self.delays)
        roots = {w: [self.root(w, d) for d in delays] for w in (self.strong, self.weak)}
        errors = self._errors(PredictiveCoding().wire(self._net()), "W2", delays)
        rates = {w: np.array([self._rate(e, s) for e, s in zip(errors[w], roots[w], strict=True)]) for w in roots}
        verdicts, real = [], {w: np.real(roots[w]) for w in roots}
        for name, w in (("strong", self.strong), ("weak", self.weak)):
            off, quantity = rates[w] - real[w], f"largest error of the growth rate (1 / tau_prop), w = {w:g}"
            verdicts.append(all_close(f"growth of the {name} loop", quantity, 0.0, off, 0.005))
        below = max((d, i) for i, d in enumerate(self.delays) if d < 1)[1]
        above = min((d, i) for i, d in enumerate(self.delays) if d > 1)[1]
        low, high = rates[self.strong][[below, above]]
        crossing = self.delays[below] + (self.delays[above] - self.delays[below]) * low / (low - high)
        quantity = "delay at which the rate crosses 0, over d_c"
        verdicts.append(all_close("critical delay", quantity, 1.0, np.array([crossing]), 0.01))
        rule = EquilibriumPropagation(nudge=f64(NUDGE), feedback=f64(FEEDBACK))
        still = self._errors(rule.wire(self._net()), "W2'", delays[[-1]])[self.strong][0]
        left = np.ptp(still[-still.size // 4 :]) / np.ptp(still)
        quantity = f"what still moves of the nudged output, at d = {self.delays[-1]:g} d_c, w = {self.strong:g}"
        verdicts.append(all_close("equilibrium propagation settles", quantity, 0.0, np.array([left]), 1e-6))
        return Finding(verdicts, self._drawn(rates))

    def _net(self) -> Network:
        return network(1, (1,), 1, 1.0, activation="linear")

    def _errors(self, circuit: Circuit, term: str, delays: np.ndarray) -> dict[float, Float[np.ndarray, "delays time"]]:
        """The post-factor of a law at every step, by w; tau_prop = 1."""
        steps = math.ceil(SPAN * self.steps)
        history, stream = (
            math.ceil(self.latest() * self.steps) + 3,
            Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(0)),
        )
        start = circuit.initial_weights(jax.random.key(0)) | {"W1": f64([[1.0]])}

        def course(w: Array, delay: Array) -> Array:
            run = coupled(circuit, stream, 1.0, STILL, SPAN, steps, late=delay, history=history)
            return waveforms(run, run.init(start | {"W2": w[None, None]}), jnp.int32(0))[1].products[term].post[:, 0]

        weights = (self.strong, self.weak)
        over = jax.vmap(jax.vmap(course, (None, 0)), (0, None))
        return dict(zip(weights, np.asarray(jax.jit(over)(f64(weights), f64(delays))), strict=True))

    def _rate(self, error: Float[np.ndarray, " time"], root: complex) -> float:
        """Half the slope of log energy between two windows of up to four half periods each, about the fixed point."""
        period = 2 * math.pi / root.imag * self.steps
        moves = np.diff(error)  # knows no fixed point
        end = min(moves.size, round(24 / max(-root.real, 1e-9) * self.steps))  # before it has died out
        window = round(period / 2 * min(max(int(end / period), 1), 4))
        apart = max(end // 2 // window, 1) * window
        end = max(end, apart + window)
        early, late = (float(np.sum(moves[stop - window : stop] ** 2)) for stop in (end - apart, end))
        return 0.5 * math.log(late / early) / (apart / self.steps)

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, rates: dict[float, np.ndarray]) -> None:
        fine = np.linspace(min(self.delays), max(self.delays), 60)
        for i, (w, found) in enumerate(rates.items()):
            line = [self.root(w, d * self.critical()).real for d in fine]
            panel.plot(fine, line, color=look(i)["color"], lw=0.9)
            panel.plot(self.delays, found, linestyle="", label=rf"$w^2$ = {w**2:.3g}", **look(i))
        panel.axhline(0, color="0.7", lw=0.6)
        panel.axvline(1, color="0.7", lw=0.6)
        panel.set(xlabel=r"error delay $d / d_c$", ylabel=r"growth rate (1 / $\tau_{prop}$)")
        panel.legend(title="lines: rightmost root")
