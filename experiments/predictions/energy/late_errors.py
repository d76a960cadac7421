"""A2.8, A2.9: what a late error leaves of learning in networks that settle, and when their inference rings."""

import cmath
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.circuit import Circuit
from dynamics.network import Network
from dynamics.overlap import waveforms
from dynamics.stimulus import Stream
from dynamics.theory import overlap_law
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Size
from experiments.predictions.drawing import against, drawn, legend_outside, look, plotted
from experiments.predictions.energy.setting import network
from experiments.predictions.kit import all_close, coupled, f64, on_grid, weights_after
from rules.contract import AbstractRule
from rules.contrastive_hebbian import ContrastiveHebbian
from rules.equilibrium_propagation import EquilibriumPropagation
from rules.predictive_coding import PredictiveCoding

WEAK = 1e6  # tau_plast / T: weights hardly move
STEPS = 2  # per tau_prop
GAP = 1.5  # in units of T
FAMILIES = ("one-sided EP", "symmetric EP", "contrastive Hebbian", "predictive coding")
SPAN = 100.0  # length of the presentation, in tau_prop
STILL = 1e100  # tau_plast / tau_prop: weights do not move, however much the error has grown
NUDGE, FEEDBACK = 0.2, 0.1  # of equilibrium propagation


class Late(NamedTuple):
    """Of an error that feeds back on itself, c(t) = r - g c(t - d) from d to d + T: the integral of c / r from d to T,
    where the stimulus is on too, and that of (c / r)^2 over all of its time; both over T."""

    overlap: np.ndarray
    square: np.ndarray


def echoes(delays: np.ndarray, gain: float) -> Late:
    """Piecewise constant: r (1 - (-g)^k) / (1 + g) from k d to (k + 1) d; at d = 0 settled, r / (1 + g). T = 1."""
    overlap, square = np.zeros(len(delays)), np.zeros(len(delays))
    for i, d in enumerate(delays):
        if d == 0:
            overlap[i], square[i] = 1 / (1 + gain), 1 / (1 + gain) ** 2
            continue
        for k in range(1, math.floor((1 + d) / d) + 1):
            c = (1 - (-gain) ** k) / (1 + gain)
            overlap[i] += c * max(min((k + 1) * d, 1) - k * d, 0)
            square[i] += c**2 * max(min((k + 1) * d, 1 + d) - k * d, 0)
    return Late(overlap, square)


class EnergyDelayWindow(AbstractPrediction):
    """Weight changes of linear 1-1-1 networks whose output error is late, under four rules."""

    number = "A2.8"
    title = "Late errors: equilibrium propagation has the plasticity window, predictive coding echoes, and both a floor"
    source = "bacvanski2025continuous, overlap law; its form for networks that settle is derived"
    equation = """c(t) = r - g c(t-d) from d to d + T, A = int_d^T c dt / (r T), B = int c^2 dt / (r^2 T); EP: g = beta
        / (1 - gamma w^2), dW1 ~ A, dW2 ~ A + floor beta B; contrastive Hebbian: g = 0, A = 1 - d/T, floor gamma;
        predictive coding: g = w^2, floor w. As beta -> 0: S(d) / S(0) = max(0, 1 - d/T)"""
    claim = """With an output error that is d late, the first matrix of all four families learns in proportion to the
        overlap of stimulus and error, nothing from d = T on: linearly where settling does not feed back on the error
        (contrastive Hebbian; equilibrium propagation as beta -> 0), with echoes of gain w^2 under predictive coding,
        which makes the window wider: a late error has not yet been explained away. The second matrix keeps a floor at
        any delay, as the late error moves both of its ends: of order beta, gamma and 1; the symmetric nudge has none
        beyond T."""
    method = """Coupled runs of one presentation with a gap of 1.5 T, tau_plast = 1e6 T, delays.error = d; changes of
        both weights against the closed forms for quick neurons."""
    tolerance = """6 tau_prop / T of the change without delay: up to six filters in a row, each of which moves the
        edges of a box by tau_prop."""
    quick = {"delays": (0.0, 0.3, 0.7, 1.2), "propagation": 0.01}

    first: Positive = 0.8  # W1
    second: Positive = 0.9  # w = W2
    stimulus: Positive = 1.0
    target: Positive = 2.0
    beta: Positive = 0.2
    feedback: Positive = 0.3
    propagation: Positive = 0.005  # tau_prop / T
    delays: NonNegatives = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.1, 1.3)  # in units of T

    def misfit(self) -> str | None:
        if self.beta / (1 - self.feedback * self.second**2) >= 1 or self.feedback * self.second**2 >= 1:
            return (
                "beta, feedback and second must be so small that nudged networks settle: beta / (1 - gamma w^2) below 1"
            )
        if max(self.delays) > GAP - 20 * self.propagation:
            return f"delays must end 20 propagation before the gap of {GAP:g} T does"
        if 0.0 not in self.delays or max(self.delays) < 1:
            return "delays must contain 0, the change that all are compared with, and one of at least T"

    def measure(self) -> Finding:
        delays, room, start = np.array(self.delays), 6 * self.propagation, self.delays.index(0.0)
        expected, found = self.expected(delays), {name: self._measured(rule) for name, rule in self._rules().items()}
        both = "largest error of both weights' changes, over those at d = 0"
        verdicts = []
        for name in FAMILIES:
            off = (found[name] - expected[name]) / expected[name][:, start, None]
            verdicts.append(all_close(f"window of {name}", both, 0.0, off, room))
        even = found["symmetric EP"] / expected["symmetric EP"][:, start, None]
        quantity = "change of W2 at d >= T, over that at d = 0"
        verdicts.append(all_close("no floor with symmetric nudges", quantity, 0.0, even[1, delays >= 1], room))
        off = even[0] - overlap_law(delays, 1.0)
        quantity = "largest deviation of S(d)/S(0) of W1 from max(0, 1 - d/T)"
        verdicts.append(all_close("overlap law with symmetric nudges", quantity, 0.0, off, room + self.gain() ** 2))
        return Finding(verdicts, self._drawn(found, expected))

    def gain(self) -> float:
        """g of equilibrium propagation."""
        return self.beta / (1 - self.feedback * self.second**2)

    def expected(self, delays: np.ndarray) -> dict[str, Float[np.ndarray, "2 delays"]]:
        """tau_plast / T times the changes of W1 and W2, of each family."""
        w, x, gamma, forth = self.second, self.stimulus, self.feedback, self.first * self.stimulus
        settled = 1 / (1 - gamma * w**2)  # what recurrence makes of a signal
        r, z = self.target - w * forth * settled, forth * settled
        past, more, less = (echoes(delays, g) for g in (0.0, self.gain(), -self.gain()))
        hidden, outer = w * x * r * settled, r * (z + gamma * w * w * z) * settled
        floor = self.beta * gamma * w * (r * settled) ** 2
        coding, here = echoes(delays, w**2), self.target - w * forth
        mean = (more.overlap + less.overlap) / 2
        return {
            "one-sided EP": np.stack([hidden * more.overlap, outer * more.overlap + floor * more.square]),
            "symmetric EP": np.stack([hidden * mean, outer * mean + floor * (more.square - less.square) / 2]),
            "contrastive Hebbian": np.stack(
                [w * x * r * past.overlap, r * (z + gamma * w * w * z) * past.overlap + gamma * w * r**2 * past.square]
            ),
            "predictive coding": np.stack(
                [w * x * here * coding.overlap, here * forth * coding.overlap + w * here**2 * coding.square]
            ),
        }

    def _rules(self) -> dict[str, AbstractRule]:
        beta, gamma = f64(self.beta), f64(self.feedback)
        rules = (
            EquilibriumPropagation(beta, gamma),
            EquilibriumPropagation(beta, gamma, symmetric=True),
            ContrastiveHebbian(gamma),
            PredictiveCoding(),
        )
        return dict(zip(FAMILIES, rules, strict=True))

    def _measured(self, rule: AbstractRule) -> Float[np.ndarray, "2 delays"]:
        """As `expected`, from the weights after one presentation."""
        circuit = rule.wire(network(1, (1,), 1, 1.0, activation="linear"))
        steps = math.ceil((1 + GAP) * STEPS / self.propagation)
        latest = math.ceil(max(self.delays) / (1 + GAP) * steps) + 3
        stream = Stream(f64([[self.stimulus]]), f64([[self.target]]), jax.random.key(0))
        own = {"W1": f64([[self.first]]), "W2": f64([[self.second]])}
        weights = circuit.initial_weights(jax.random.key(0)) | own

        def learned(delay: Array) -> Array:
            run = coupled(circuit, stream, self.propagation, WEAK, 1.0, steps, GAP, late=delay, history=latest)
            after = weights_after(run, weights, 1)
            return WEAK * jnp.stack([(after[n] - own[n])[0, 0] for n in ("W1", "W2")])

        return np.asarray(jax.jit(jax.vmap(learned, out_axes=1))(f64(self.delays)))

    @drawn(7.0, 2.8)
    def _drawn(self, figure: Figure, found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
        fine, start = np.append(0, np.linspace(0.02, max(self.delays), 300)), self.delays.index(0.0)
        theory, panels = self.expected(fine), figure.subplots(1, 2, sharey=True)
        for row, panel in enumerate(panels):
            panel.plot(fine, overlap_law(fine, 1.0), color="0.75", lw=2.5, label="overlap law")
            for i, name in enumerate(FAMILIES):
                panel.plot(fine, theory[name][row] / theory[name][row, 0], color=look(i)["color"], lw=0.9)
                points = found[name][row] / expected[name][row, start]
                panel.plot(self.delays, points, linestyle="", label=name, **look(i))
            panel.set(xlabel="error delay d / T", title=f"matrix W{row + 1}")
        panels[0].set_ylabel("weight change S(d) / S(0)")
        legend_outside(panels[0], columns=5, loc="lower center")


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
        history = math.ceil(self.latest() * self.steps) + 3
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(0))
        start = circuit.initial_weights(jax.random.key(0)) | {"W1": f64([[1.0]])}

        def course(w: Array, delay: Array) -> Array:
            run = coupled(circuit, stream, 1.0, STILL, SPAN, steps, late=delay, history=history)
            return waveforms(run, run.init(start | {"W2": w[None, None]}), jnp.int32(0))[1].products[term].post[:, 0]

        weights = (self.strong, self.weak)
        return dict(zip(weights, on_grid(course, f64(weights), f64(delays)), strict=True))

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
            against(panel, i, (fine, line), (self.delays, found), rf"$w^2$ = {w**2:.3g}", lw=0.9)
        panel.axhline(0, color="0.7", lw=0.6)
        panel.axvline(1, color="0.7", lw=0.6)
        panel.set(xlabel=r"error delay $d / d_c$", ylabel=r"growth rate (1 / $\tau_{prop}$)")
        panel.legend(title="lines: rightmost root")
