"""ST.2: a synapse that drives its neuron is always causal, so that STDP must depress more than it potentiates."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positives
from experiments.predictions.kit import HEUN, all_close, coupled, drawn, f64, look, wired
from experiments.predictions.traces.overlaps import filtered_overlap
from experiments.report.figures import LINES
from experiments.results.verdicts import close
from experiments.spec.units import Time
from rules import STDP

WEAK = 1e9  # tau_plast / T
STEPS = 40  # per tau_prop
WEIGHT = 0.7


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
