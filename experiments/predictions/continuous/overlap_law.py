"""T1.1, T1.2, T1.8: a synapse learns in proportion to the time for which its input and its error overlap."""

import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Error, Given, Layer, Projection, TwoFactor
from dynamics.coupled import Coupled
from dynamics.stimulus import Stream
from dynamics.theory import lagged_overlap, overlap_law
from experiments.predictions.continuous.closed_forms import traced_overlap
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, NonNegatives
from experiments.predictions.drawing import drawn, legend_outside, look, plotted
from experiments.predictions.kit import all_close, coupled, f64, swept, weights_after, wired
from experiments.predictions.study.single_synapse import SingleSynapse
from experiments.report.figures import LINES, OKABE_ITO
from experiments.results.verdicts import Verdict, close
from experiments.spec.units import Time

SYNAPSE = "experiments.predictions.study.single_synapse:SingleSynapse"
Lag = Annotated[float, Field(strict=True, ge=0.02, le=1)]
Stage = Annotated[int, Field(strict=True, ge=0, le=20)]
STEPS_PER_LAG = 20
WEAK = 1e6  # tau_plast / T: the weight's own effect on the error is its inverse
Delay = Annotated[float, Field(strict=True, ge=0, le=10)]
Trace = Annotated[float, Field(strict=True, ge=0.2, le=5)]


class OverlapLaw(AbstractPrediction):
    """Learning strength of one synapse against the delay of its error."""

    number = "T1.1"
    title = "Learning falls linearly with the delay of the error"
    source = "bacvanski2025continuous, abstract; derived from tau_plast dW/dt = e(t) x(t) for boxes"
    equation = "S(d) / S(0) = max(0, 1 - d / T)"
    claim = """Input and error are held for T, the error d later: the change of the weight is proportional to their
        overlap, and there is none from d = T on."""
    method = "|W| after one presentation followed by a long gap, starting from 0, against that at d = 0."
    tolerance = """1 % of the full strength: the propagation lag of T / 1000 rounds the corners by about 0.2 %, and the
        weight's own effect on the error is T / tau_plast = 1e-6."""
    quick = {"delays": (0.0, 0.5, 1.0, 1.2)}

    duration: Duration = Time(0.05)
    delays: NonNegatives = tuple(np.round(np.linspace(0, 1.3, 14), 10).tolist())  # in units of T

    def measure(self) -> Finding:
        changes = self._changes()
        delays = np.array(self.delays)
        expected, measured = overlap_law(delays, 1.0), changes[1:] / changes[0]
        quantity = "largest deviation of S(d)/S(0) from the closed form"
        verdict = all_close("linear overlap law", quantity, 0.0, np.abs(measured - expected), 0.01)
        return Finding([verdict], self._drawn(delays, measured))

    def _changes(self) -> np.ndarray:
        """|W| after the presentation: first at d = 0, then at every delay."""
        distinct, at = np.unique((0.0, *self.delays), return_inverse=True)  # an axis has each once
        table = {
            "task": {"name": "gaussian-regression", "inputs": 1, "seed": self.seed},
            "network": {"hidden": [], "bias": False},
            "rule": SYNAPSE,
            "stimulus": {"duration": str(self.duration), "gap": "2 T", "presentations": 1},
            "timescales": {"plasticity": "1000000 T", "propagation": "0.001 T"},
            "record": {"points": 1, "probes": ["weight_norm"]},
            "sweep": {"delays.error": [f"{d} T" for d in distinct]},
        }
        return swept(table)["weight_norm"].isel(record=-1).sel(matrix="W1").values[at]

    @plotted(3.4, 2.4)
    def _drawn(self, panel: Axes, delays: np.ndarray, measured: np.ndarray) -> None:
        fine = np.linspace(0, delays.max(), 200)
        panel.plot(fine, overlap_law(fine, 1.0), color="0.3", label="max(0, 1 - d/T)")
        panel.plot(delays, measured, "o", color=OKABE_ITO[0], label="simulation")
        panel.set(xlabel="error delay d (stimulus durations T)", ylabel="learning strength S(d) / S(0)")
        panel.legend()


class LagStages(AbstractPrediction):
    """Learning strength of a synapse whose signals have passed chains of first-order filters."""

    number = "T1.2"
    title = "Filters on the way to a synapse blur the overlap law"
    source = "bacvanski2025continuous, model of first-order neurons; derived: V - U is a gamma race"
    equation = "S(d) / S(0) = E[max(0, 1 - |D| / T)], D = d + V - U, U ~ Gamma(k, tau_prop), V ~ Gamma(m, tau_prop)"
    claim = """Where the presynaptic signal has passed k neurons and the error m, the overlap law holds on average over
        the random delay that the filters stand for, whatever k, m, the explicit delay and tau_prop."""
    method = """One presentation in a long gap, weak plasticity; one circuit has a synapse between every stage of a
        presynaptic chain and every stage of an error chain, so that one run measures every (k, m)."""
    tolerance = """2e-4 of the full strength: ten times the error of Heun steps of tau_prop / 20, which is about (dt /
        tau_prop)^2 / 100 (2e-5); the weight's own effect on the error is T / tau_plast = 1e-6."""
    quick = {"delays": (0.0, 0.6, 1.2), "propagation": (0.1,)}

    duration: Duration = Time(0.05)
    propagation: Annotated[tuple[Lag, ...], Field(min_length=1, max_length=7)] = (0.05, 0.1, 0.2)  # tau_prop / T
    pre_stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (0, 1, 3, 6)
    error_stages: Annotated[tuple[Annotated[Stage, Field(ge=1)], ...], Field(min_length=1)] = (1, 3, 6, 12)
    delays: NonNegatives = tuple(np.linspace(0, 1.4, 8).tolist())  # in units of T

    def measure(self) -> Finding:
        measured, expected = self._measured(), self._expected(np.array(self.delays))
        off, axes = np.abs(measured - expected), (self.propagation, self.delays, self.pre_stages, self.error_stages)
        worst = np.unravel_index(off.argmax(), off.shape)
        tau, d, k, m = (axis[i] for axis, i in zip(axes, worst, strict=True))
        name, note = "overlap law with stages of lag", f"at tau_prop = {tau:g} T, d = {d:g} T, k = {k}, m = {m}"
        quantity = f"largest deviation of S/S0 from the closed form, of {off.size} combinations of tau_prop, d, k and m"
        verdict = all_close(name, quantity, 0.0, off, 2e-4, note)
        return Finding([verdict], self._drawn(measured))

    def _expected(self, delays: np.ndarray) -> np.ndarray:
        """S/S0 by (tau_prop, delay, pre_stages, error_stages)."""
        tau, d = np.array(self.propagation)[:, None], delays[None]
        pairs = itertools.product(self.pre_stages, self.error_stages)
        each = np.stack([lagged_overlap(d, 1.0, k, m, tau) for k, m in pairs], -1)
        return each.reshape(*each.shape[:-1], len(self.pre_stages), len(self.error_stages))

    def _measured(self) -> np.ndarray:
        """As `_expected`, from the weights after one presentation."""
        duration = self.duration.seconds(1.0)
        k, m = max(self.pre_stages), max(self.error_stages)
        circuit = ladder(k, m)
        slowest = max(self.propagation)
        gap = slowest * (k + 8 * math.sqrt(k + 1) + 12)  # in T: what is left of the presynaptic signal is < 1e-5
        steps = math.ceil((1 + gap) * STEPS_PER_LAG / min(self.propagation))
        latest = math.ceil(max(self.delays) / (1 + gap) * steps) + 3
        stream = Stream(jnp.ones((1, 1), jnp.float64), jnp.ones((1, 1), jnp.float64), jax.random.key(0))
        weights = circuit.initial_weights(jax.random.key(0))

        def learned(tau: jax.Array, delay: jax.Array) -> jax.Array:
            span = WEAK * duration, duration, steps, gap * duration
            run = coupled(circuit, stream, tau, *span, late=delay, history=latest)
            after = weights_after(run, weights, 1)
            return WEAK * jnp.block([[after["W00"], after["W01"]], [after["W10"], after["W11"]]])

        over = jax.vmap(jax.vmap(learned, (None, 0)), (0, None))
        taus, delays = duration * f64(self.propagation), duration * f64(self.delays)
        every = np.asarray(jax.jit(over)(taus, delays))  # (tau, delay, error stages from 1, pre stages from 0)
        chosen = every[:, :, np.array(self.error_stages) - 1][..., np.array(self.pre_stages)]
        return chosen.swapaxes(-1, -2)

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, measured: np.ndarray) -> None:
        """One panel per tau_prop: curves of the least and the most lagged pairs of chains, and one in between."""
        last = len(self.pre_stages) - 1, len(self.error_stages) - 1
        pairs = sorted({(0, 0), (0, last[1]), (last[0], 0), last, (0, last[1] // 2)})
        fine = np.linspace(0, max(*self.delays, 0.1), 150)
        theory = self._expected(fine)
        count = len(self.propagation)
        figure.set_size_inches(3.4 if count == 1 else 7.0, 2.5)
        panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        for panel, tau, lines, points in zip(panels, self.propagation, theory, measured, strict=True):
            for n, (i, j) in enumerate(pairs):
                panel.plot(fine, lines[:, i, j], color=look(n)["color"], linestyle=LINES[n], linewidth=1)
                name = f"k = {self.pre_stages[i]}, m = {self.error_stages[j]}"
                panel.plot(self.delays, points[:, i, j], linestyle="", label=name, **look(n))
            panel.set(xlabel="error delay d / T", title=rf"$\tau_{{prop}}$ = {tau:g} T", ylim=(-0.03, 1.03))
        panels[0].set_ylabel("learning strength S / S(0)")
        legend_outside(panels[0], loc="right upper", title="lines: theory\npoints: simulation")


def ladder(pre_stages: int, error_stages: int) -> Circuit:
    """Chains of neurons that relay a stimulus and an error, with a plastic synapse between every two of their stages.

    The matrices W00, W01, W10, W11 together have shape (error_stages, pre_stages + 1): row i sits on the error of
    stage i + 1, column j learns from the stimulus after j stages. A chain is one layer, each neuron of which drives
    the next one.
    """
    relays = {"r": pre_stages, "q": error_stages - 1}
    head, tail = {}, {}
    for name, size in relays.items():
        head[name] = Given(f64(np.eye(max(size, 1), 1)))
        tail[name] = Given(f64(np.eye(max(size, 1), k=-1)))
    layers = (Layer("z0", 1, role="input"), Layer("z1", 1, role="output"))
    layers += tuple(Layer(name, max(size, 1)) for name, size in relays.items())
    chains = (
        Projection("R1", "z0", "activity", "r", "forward", head["r"]),
        Projection("R2", "r", "activity", "r", "forward", tail["r"]),
        Projection("Q1", "z1", "error", "q", "modulatory", head["q"]),
        Projection("Q2", "q", "error", "q", "modulatory", tail["q"]),
    )
    sizes = {layer.name: layer.size for layer in layers}

    def synapse(name: str, source: str, target: str) -> Projection:
        start = Given(jnp.zeros((sizes[target], sizes[source]), jnp.float64))
        return Projection(name, source, "activity", target, "forward", start, TwoFactor(Error()))

    pairs = [(i, j, s, t) for i, t in enumerate(("z1", "q")) for j, s in enumerate(("z0", "r"))]
    return Circuit(layers, (*chains, *(synapse(f"W{i}{j}", s, t) for i, j, s, t in pairs)))


class TraceRescue(AbstractPrediction):
    """Learning strength against the delay of the error, with and without an eligibility trace."""

    number = "T1.8"
    title = "An eligibility trace rescues learning beyond the stimulus"
    source = "bacvanski2025continuous, abstract: seconds-scale eligibility traces; derived for a trace of unit gain"
    equation = """S(d) = tau_e (exp(T/tau_e) - 1) (1 - exp(-T/tau_e)) exp(-d/tau_e) for d >= T, where tau_e p' = -p + x;
        the factor 1 / (1 + tau_prop/tau_e) is that of the error's own filter"""
    claim = """Behind a trace, learning falls exponentially with the delay, with time constant tau_e, where without one
        there is none from d = T on; a synapse with a trace learns from errors as late as that, at the rate S(d)."""
    method = """|W| after one presentation in a long gap, weak plasticity; the slope of log S against d; and the weight
        after many presentations with faster plasticity, late errors and gaps that outlast the traces."""
    tolerance = """Strength: 1e-4 T, five times the error of Heun steps of tau_prop / 20 at jumps; T / tau_plast = 1e-6.
        Slope: twice that, relative to the strength at the latest delay, over the range of delays. Learned weight: 1e-4,
        by the same error. What must be zero: 1e-6, what is left of the error in the filter at the end of a gap."""
    quick = {"delays": (0.5, 1.0, 1.5, 2.0), "traces": (0.5, 1.0)}

    duration: Duration = Time(0.05)
    propagation: Annotated[float, Field(strict=True, ge=0.01, le=0.2)] = 0.05  # in units of T, as all that follow
    traces: Annotated[tuple[Trace, ...], Field(min_length=1, max_length=6)] = (0.5, 1.0, 2.0)
    delays: Annotated[tuple[Delay, ...], Field(min_length=1)] = tuple(np.linspace(0, 3, 13).tolist())
    late: Annotated[float, Field(strict=True, ge=1, le=10)] = 1.5
    plasticity: Annotated[float, Field(strict=True, ge=10)] = 20.0
    presentations: Annotated[int, Field(strict=True, gt=0, le=1000)] = 60

    def measure(self) -> Finding:
        delays = np.array(self.delays)
        strengths, without = self._strengths()
        expected = np.stack([traced_overlap(delays, trace, self.propagation) for trace in self.traces])
        plain = lagged_overlap(delays, 1.0, 0, 1, self.propagation)
        law, plain_law = "the closed form, of all traces and delays", "the overlap law with one stage of lag"
        off = "largest deviation of S / T from"
        verdicts = [
            all_close("strength behind a trace", f"{off} {law}", 0.0, np.abs(strengths - expected), 1e-4),
            all_close("strength without a trace", f"{off} {plain_law}", 0.0, np.abs(without - plain), 1e-4),
        ]
        beyond = delays >= 1
        if beyond.any():
            name, most = "nothing beyond T without a trace", np.abs(without[beyond])
            verdicts.append(all_close(name, "largest S / T for d >= T", 0.0, most, 1e-6))
        if np.unique(delays[beyond]).size > 1:
            pairs = zip(strengths, self.traces, strict=True)
            verdicts += [self._slope(delays[beyond], values[beyond], trace) for values, trace in pairs]
        learned, alone = self._learned()
        name, quantity = "weight learned from late errors", "W against that of full learning"
        verdicts += [
            close(f"{name}, tau_e = {trace:g} T", quantity, self._recursion(trace), weight, 1e-4)
            for weight, trace in zip(learned, self.traces, strict=True)
        ]
        verdicts.append(close(f"{name}, without a trace", quantity, 0.0, float(alone), 1e-6))
        return Finding(verdicts, self._drawn(strengths, without, plain))

    def _slope(self, delays: np.ndarray, strengths: np.ndarray, trace: float) -> Verdict:
        slope = np.polyfit(delays, np.log(np.maximum(strengths, 1e-300)), 1)[0] * trace
        weakest = float(traced_overlap(delays, trace, self.propagation).min())
        tolerance = 2e-4 / weakest / np.ptp(delays) * trace
        name, quantity = f"exponential decay, tau_e = {trace:g} T", "slope of log S against d, times tau_e"
        return close(name, quantity, -1.0, slope, tolerance)

    def _run(self, gap: float, late: jax.Array, trace: jax.Array | None, plasticity: float, latest: float) -> Coupled:
        """A synapse whose input and target are 1, held for T; gap, plasticity and the latest delay in T."""
        duration = self.duration.seconds(1.0)
        steps = math.ceil((1 + gap) * STEPS_PER_LAG / self.propagation)
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(self.seed))
        circuit, history = wired(SingleSynapse(), (1, 1)), math.ceil(latest / (1 + gap) * steps) + 3
        times = self.propagation * duration, plasticity * duration, duration
        more = {"gap": gap * duration, "trace": trace, "late": late, "history": history}
        return coupled(circuit, stream, *times, steps, **more)

    def _strengths(self) -> tuple[np.ndarray, np.ndarray]:
        """S / T by (trace, delay), and without a trace by delay."""
        duration, latest = self.duration.seconds(1.0), max(self.delays)

        def strength(late: jax.Array, trace: jax.Array | None) -> jax.Array:
            return WEAK * self._weight(self._run(latest + 15 * self.propagation, late, trace, WEAK, latest), 1)

        late, traces = duration * f64(self.delays), duration * f64(self.traces)
        traced = jax.jit(jax.vmap(jax.vmap(strength, (0, None)), (None, 0)))(late, traces)
        return np.asarray(traced), np.asarray(jax.jit(jax.vmap(lambda d: strength(d, None)))(late))

    def _learned(self) -> tuple[np.ndarray, np.ndarray]:
        """The weight after all presentations, for every trace, and without one."""
        duration = self.duration.seconds(1.0)
        late = f64(self.late * duration)

        def weight(trace: jax.Array | None) -> jax.Array:
            return self._weight(self._run(self._gap, late, trace, self.plasticity, self.late), self.presentations)

        traced = jax.jit(jax.vmap(weight))(duration * f64(self.traces))
        return np.asarray(traced), np.asarray(jax.jit(lambda: weight(None))())

    @staticmethod
    def _weight(run: Coupled, presentations: int) -> jax.Array:
        start = {"W1": jnp.zeros((1, 1), jnp.float64)}
        return weights_after(run, start, presentations)["W1"][0, 0]

    @property
    def _gap(self) -> float:
        return self.late + 15 * self.propagation

    def _recursion(self, trace: float) -> float:
        """W after all presentations: W += (S y - S' W x) / tau_plast, every error being later than its stimulus.

        The prediction needs tau_prop to rise and is compared while the target is on, so its S' is a little smaller than
        S. Traces of earlier presentations have decayed with their age and add up.
        """
        target = float(traced_overlap(self.late, trace, self.propagation))
        both = 1 / trace + 1 / self.propagation
        risen = 1 - (-np.expm1(-both) / both) / (-np.expm1(-1 / trace) * trace)
        weight, age = 0.0, np.exp(-(1 + self._gap) / trace)
        for n in range(self.presentations):
            traces = (1 - age ** (n + 1)) / (1 - age)
            weight += traces * target * (1 - risen * weight) / self.plasticity
        return weight

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, strengths: np.ndarray, without: np.ndarray, plain: np.ndarray) -> None:
        fine = np.linspace(0, max(*self.delays, 1.0), 300)
        lines = [traced_overlap(fine, trace, self.propagation) for trace in self.traces]
        lines.append(lagged_overlap(fine, 1.0, 0, 1, self.propagation))
        names = [rf"$\tau_e$ = {trace:g} T" for trace in self.traces] + ["no trace"]
        for i, (line, points, name) in enumerate(zip(lines, [*strengths, without], names, strict=True)):
            panel.plot(fine, np.where(line > 1e-4, line, np.nan), color=look(i)["color"], linestyle=LINES[i])
            shown = np.where(points > 1e-4, points, np.nan)
            panel.plot(self.delays, shown, linestyle="", label=name, **look(i))
        panel.axvline(1.0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(yscale="log", xlabel="error delay d (stimulus durations T)", ylabel="learning strength S / T")
        lowest = min(float(line.min()) for line in lines[:-1])
        panel.set_ylim(bottom=min(1e-3, lowest / 2))
        legend_outside(panel, 2, title="lines: theory, points: simulation")
