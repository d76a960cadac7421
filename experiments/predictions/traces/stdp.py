"""ST: STDP of rates: order is learned by the kernel's Fourier transform, and a synapse that drives is causal."""

import math
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Layer, Wave
from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Positives
from experiments.predictions.drawing import drawn, legend_outside, look
from experiments.predictions.kit import HEUN, all_close, coupled, f64, wired
from experiments.predictions.traces.overlaps import filtered_overlap
from experiments.report.figures import LINES
from experiments.results.verdicts import close
from experiments.spec.units import Time
from rules import STDP

WEAK = 1e9  # tau_plast / period
SETTLING = 25  # of the longest trace, before a period is looked at
Phases = Annotated[tuple[float, ...], Field(min_length=4)]
STEPS = 40  # per tau_prop
WEIGHT = 0.7


class Cosine(eqx.Module):
    """cos(2 pi t / period - phase), of one neuron."""

    period: Float[Array, ""]
    phase: Float[Array, ""]

    def __call__(self, t: Float[Array, ""]) -> Float[Array, "1"]:
        return jnp.cos(2 * jnp.pi * t / self.period - self.phase)[None]


class STDPPhase(AbstractPrediction):
    """The drift of a synapse between two rates of one frequency, against the lag of the postsynaptic one."""

    number = "ST.1"
    title = "STDP of rates learns the order of two signals, by the Fourier transform of its kernel"
    source = "kempter1999hebbian, on correlations and the learning window; the drift is derived for two exponentials"
    equation = """tau_plast <W'> = Re[exp(-i phi) (A+ / (1 - i w tau+) - A- / (1 + i w tau-))] / 2, phi the lag of the
        postsynaptic rate; for A+ = A- and tau+ = tau-: A w tau sin(phi) / (1 + w^2 tau^2)"""
    claim = """A kernel of two equal sides of opposite sign learns order alone: nothing in phase, sin(phi) out of it,
        most where the period is 2 pi tau. Sides of unequal times cancel in phase where A- / A+ = (1 + w^2 tau-^2) / (1
        + w^2 tau+^2)."""
    method = """The rule's own synapse between two layers that are given cosines, over one period after the traces have
        settled; weak plasticity. By windows and by steps."""
    tolerance = """1e-6 of A+ by windows of 24 nodes, twice a period, and by steps of the fifth order, 400 per period;
        traces settle to exp(-25) first."""
    quick = {"phases": (-2.0, -1.0, 0.0, 1.0, 2.0), "frequencies": (0.3, 1.0, 3.0)}

    potentiation_time: Duration = Time(0.02)
    depression_time: Duration = Time(0.04)
    potentiation: Positive = 1.0
    depression: Positive = 0.8
    frequencies: Positives = (0.1, 0.3, 1.0, 3.0, 10.0)  # w tau+
    phases: Phases = tuple(np.linspace(-np.pi, np.pi, 13).tolist())

    def misfit(self) -> str | None:
        order = sorted(set(self.frequencies))
        inside = len(order) >= 3 and order == list(self.frequencies) and 1.0 in order[1:-1]
        return None if inside else "frequencies must increase, with 1 among them and others on both sides"

    def measure(self) -> Finding:
        windows, steps = self._drifts(Window(nodes=24, parts=2, gaps=False), 24), self._drifts(FixedStep("dopri5"), 400)
        quantity = "largest deviation of the drift from the closed form, over A+"
        pairs, (plus, minus) = self._pairs, self._areas
        expected = np.stack([self.expected(*each) for each in zip(plus, minus, *pairs, strict=True)])
        verdicts = [
            all_close(f"drift by {name}", quantity, 0.0, np.abs(found - expected) / self.potentiation, 1e-6)
            for name, found in (("windows", windows), ("steps", steps))
        ]
        phi, w = np.array(self.phases), np.array(self.frequencies)
        general, equal, balanced = windows / self.potentiation
        law = w[:, None] / (1 + w[:, None] ** 2) * np.sin(phi)
        quantity = "largest deviation of the drift from w tau sin(phi) / (1 + w^2 tau^2), equal sides"
        verdicts.append(all_close("order alone", quantity, 0.0, np.abs(equal - law), 1e-6))
        best = float(w[np.abs(equal).max(axis=1).argmax()])
        verdicts.append(close("best frequency", "w tau where equal sides learn most", 1.0, best, 0.0))
        still = np.abs(np.interp(0.0, phi, balanced[len(w) // 2]))
        quantity = "drift in phase, over A+, at w tau+ = " + f"{w[len(w) // 2]:g}, A- as said"
        verdicts.append(close("balance in phase", quantity, 0.0, float(still), 1e-6 + self._coarse(phi)))
        return Finding(verdicts, self._drawn(general * self.potentiation, equal * self.potentiation))

    @property
    def _pairs(self) -> tuple[list[float], list[float]]:
        """tau+ and tau- of the kernels: as set, of equal sides, and of sides in balance in phase."""
        plus, minus = self.potentiation_time.value, self.depression_time.value
        return [plus] * 3, [minus, plus, minus]

    @property
    def _areas(self) -> tuple[list[float], list[float]]:
        w = self.frequencies[len(self.frequencies) // 2]
        ratio = self.depression_time.value / self.potentiation_time.value
        balance = self.potentiation * (1 + (w * ratio) ** 2) / (1 + w**2)
        return [self.potentiation] * 3, [self.depression, self.potentiation, balance]

    def _coarse(self, phi: np.ndarray) -> float:
        """What linear interpolation at phase 0 may add: nothing where 0 is among the phases."""
        return 0.0 if 0.0 in phi else 1.0 * float(np.diff(phi).max()) ** 2 / 8

    def expected(self, plus: float, minus: float, plus_time: float, minus_time: float) -> np.ndarray:
        """The drift by (frequency, phase)."""
        w = np.array(self.frequencies)[:, None] / self.potentiation_time.value
        kernel = plus / (1 - 1j * w * plus_time) - minus / (1 + 1j * w * minus_time)
        return 0.5 * (np.exp(-1j * np.array(self.phases)) * kernel).real

    @staticmethod
    def circuit(rule: STDP, period: Array, phase: Array) -> Circuit:
        """The rule's synapse between two layers that are given cosines."""
        circuit = wired(rule, (1, 1), supervised=False)
        waves = {"z0": f64(0.0), "z1": phase}
        layers = [Layer(z, 1, source=Wave(Cosine(period, lag)), level=int(z[1])) for z, lag in waves.items()]
        return Circuit(tuple(layers), circuit.projections)

    def _drifts(self, by: FixedStep | Window, steps: int) -> np.ndarray:
        """The drift by (kernel, frequency, phase)."""
        stream, longest = Stream(f64([[0.0]]), None, jax.random.key(0)), max(*self._pairs[0], *self._pairs[1])

        def drift(phase: Array, frequency: Array, kernel: Array) -> Array:
            plus, minus, plus_time, minus_time = kernel
            period = 2 * jnp.pi * self.potentiation_time.value / frequency
            circuit = self.circuit(STDP(plus, minus, plus_time, minus_time), period, phase)
            run = coupled(circuit, stream, period, WEAK * period, period, steps, integrator=by)
            settled = jnp.ceil(SETTLING * longest / period).astype(jnp.int32)
            start = run.advance(run.init({"W1": jnp.zeros((1, 1), jnp.float64)}), jnp.int32(0), settled)
            end = run.advance(start, settled, 1)
            before, after = (run.weights(at)["W1"][0, 0] for at in (start, end))
            return WEAK * (after - before)

        each = jax.vmap(jax.vmap(jax.vmap(drift, (0, None, None)), (None, 0, None)), (None, None, 0))
        kernels = f64(np.array([*self._areas, *self._pairs]).T)
        return np.asarray(jax.jit(each)(f64(self.phases), f64(self.frequencies), kernels))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, general: np.ndarray, equal: np.ndarray) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        fine = self.model_copy(update={"phases": tuple(np.linspace(-np.pi, np.pi, 200).tolist())})
        plus, minus, (first, second) = self.potentiation, self.depression, self._pairs
        titles = f"A$_-$/A$_+$ = {minus / plus:g}, $\\tau_-$/$\\tau_+$ = {second[0] / first[0]:g}", "equal sides"
        kernels = (plus, minus, first[0], second[0]), (plus, plus, first[1], second[1])
        for panel, points, kernel, title in zip((left, right), (general, equal), kernels, titles, strict=True):
            lines = fine.expected(*kernel)
            for i, w in enumerate(self.frequencies):
                panel.plot(fine.phases, lines[i], color=look(i)["color"], linestyle=LINES[i % len(LINES)])
                panel.plot(self.phases, points[i], linestyle="", label=rf"$\omega\tau_+$ = {w:g}", **look(i))
            panel.axhline(0, color="0.7", linewidth=0.6, zorder=0)
            panel.set(xlabel=r"lag of the postsynaptic rate $\varphi$ (rad)", title=title)
        left.set_ylabel(r"drift $\tau_{plast}\langle W'\rangle$")
        legend_outside(left, loc="right", title="lines: theory")


class STDPChain(AbstractPrediction):
    """What presentations do to a synapse whose neuron it alone drives."""

    number = "ST.2"
    title = "Equal areas of potentiation and depression grow every synapse that drives its neuron"
    source = "kempter1999hebbian, on the part of the drift that is due to the synapse itself; derived for filters"
    equation = """tau_plast dW = W x^2 (A+ S+ - A- S-) per presentation, S+ = E max(0, T - |V - U+|), S- = E max(0, T -
        V - U-): V of mean tau_prop, U of means tau+ and tau-; no drift at A- / A+ = S+ / S-"""
    claim = """A neuron follows its inputs by tau_prop, which potentiates: areas in balance grow. The ratio A- / A+
        that holds weights still is above 1, and tends to 1 as 1 / T for stimuli that are long against all else."""
    method = """The rule's linear 1-1 network without a target, one presentation in a gap that outlasts the traces;
        weak plasticity; stimuli of several lengths. The ratio: the root of a line through the drifts."""
    tolerance = """2e-4 of S+, by Heun steps of tau_prop / 40 and windows of 16 nodes; the ratio: the same. Exponent:
        twice (tau_prop + tau-) / T, the next order."""
    quick = {"lengths": (0.1, 0.4, 0.8)}

    propagation: Duration = Time(0.01)
    potentiation_time: Duration = Time(0.02)
    depression_time: Duration = Time(0.04)
    lengths: Positives = (0.05, 0.1, 0.2, 0.4, 0.8)  # of stimuli, in seconds
    ratios: Annotated[Positives, Field(min_length=2)] = (0.5, 1.0, 1.5, 2.0)  # A- / A+

    def misfit(self) -> str | None:
        longest = 2 * (self.propagation.value + self.potentiation_time.value + self.depression_time.value)
        rising = all(list(x) == sorted(set(x)) for x in (self.lengths, self.ratios)) and len(self.lengths) > 1
        if not rising or sorted(self.lengths)[-2] < longest:
            return f"lengths and ratios must rise, the last two lengths above {longest:g} s"
        return None if 1.0 in self.ratios else "ratios must have 1 among them"

    def measure(self) -> Finding:
        plus, minus = self.sides()
        expected = plus[:, None] - np.array(self.ratios) * minus[:, None]
        windows = self._drifts(Window(nodes=16, parts=1, gaps=True, settling=12.0))
        quantity = "largest deviation of the drift from the closed form, over A+ S+"
        verdicts = [
            all_close(f"drift by {name}", quantity, 0.0, np.abs(found - expected) / plus[:, None], 2e-4)
            for name, found in (("windows", windows), ("steps", self._drifts(HEUN)))
        ]
        lines = [np.polyfit(self.ratios, row, 1) for row in windows]
        still = np.array([-at_zero / slope for slope, at_zero in lines])
        quantity = "A- / A+ without a drift over S+ / S-"
        verdicts.append(all_close("ratio that holds weights still", quantity, 1.0, still * minus / plus, 2e-4))
        grown = windows[:, self.ratios.index(1.0)] / plus
        quantity = "least drift of equal areas, over A+ S+"
        least = int(grown.argmin())
        said = float((plus - minus)[least] / plus[least])
        verdicts.append(close("equal areas grow", quantity, said, float(grown[least]), min(2e-4, said / 2)))
        slope = math.log((still[-1] - 1) / (still[-2] - 1)) / math.log(self.lengths[-1] / self.lengths[-2])
        quantity = "exponent of A- / A+ - 1 in T, between the two longest stimuli"
        late = (self.propagation.value + self.depression_time.value) / self.lengths[-2]
        verdicts.append(close("towards 1 as 1 / T", quantity, -1.0, slope, 2 * late))
        return Finding(verdicts, self._drawn(windows / plus[:, None], still))

    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """S+ and S- in seconds by length."""
        prop, plus, minus = self.propagation.value, self.potentiation_time.value, self.depression_time.value
        both = [(filtered_overlap(0.0, t, [plus], [prop]), filtered_overlap(0.0, t, [], [prop, minus])) for t in
                self.lengths]  # fmt: skip
        return np.array([one for one, _ in both]), np.array([other for _, other in both])

    def _drifts(self, by: FixedStep | Window) -> np.ndarray:
        """tau_plast dW / (W A+) by (length, ratio), simulated."""
        traces = f64(self.potentiation_time.value), f64(self.depression_time.value)
        gap = 15 * (self.propagation.value + max(float(trace) for trace in traces))
        period = self.lengths[-1] + gap
        steps = 16 if isinstance(by, Window) else math.ceil(period / self.propagation.value * STEPS)
        stream = Stream(f64([[1.0]]), None, jax.random.key(self.seed))

        def drift(ratio: Array, length: Array) -> Array:
            circuit = wired(STDP(f64(1.0), ratio, *traces), (1, 1), supervised=False)
            run = coupled(
                circuit, stream, self.propagation.value, WEAK, length, steps, period - length, integrator=by
            )  # fmt: skip
            end = run.advance(run.init({"W1": jnp.full((1, 1), f64(WEIGHT))}), jnp.int32(0), 1)
            return WEAK * (run.weights(end)["W1"][0, 0] / WEIGHT - 1)

        each = jax.vmap(jax.vmap(drift, (0, None)), (None, 0))
        return np.asarray(jax.jit(each)(f64(self.ratios), f64(self.lengths)))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, drifts: np.ndarray, still: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        plus, minus = self.sides()
        fine = np.linspace(self.ratios[0], self.ratios[-1], 50)
        for i, length in enumerate(self.lengths):
            left.plot(fine, 1 - fine * minus[i] / plus[i], color=look(i)["color"], linestyle=LINES[i % len(LINES)])
            left.plot(self.ratios, drifts[i], linestyle="", label=f"T = {1000 * length:g} ms", **look(i))
        left.axhline(0, color="0.7", linewidth=0.6, zorder=0)
        left.set(xlabel="depression A$_-$ / A$_+$", ylabel="drift over W A$_+$ S$_+$")
        left.legend(title="lines: theory")
        long = np.geomspace(self.lengths[0], self.lengths[-1], 100)
        one, other = self.model_copy(update={"lengths": tuple(long)}).sides()
        right.plot(long, one / other - 1, color=look(0)["color"], label="theory")
        right.plot(self.lengths, still - 1, linestyle="", label="simulation", **look(0))
        right.set(xscale="log", yscale="log", xlabel="length of the stimulus T (s)")
        right.set_ylabel("A$_-$ / A$_+$ without a drift, less 1")
        right.legend()
