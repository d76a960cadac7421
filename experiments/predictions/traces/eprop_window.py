"""EP.2: e-prop has a window in the delay of its learning signal: that of its two traces."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.integrators import FixedStep, Window
from dynamics.stimulus import Stream
from dynamics.theory import overlap_law
from experiments.predictions.contract import AbstractPrediction, Finding
from experiments.predictions.kit import HEUN, all_close, coupled, f64, legend_outside, look, plotted, wired
from experiments.predictions.traces.overlaps import filtered_overlap
from experiments.report.figures import LINES
from experiments.results.verdicts import Verdict, close
from rules import EProp

WEAK = 1e9  # tau_plast / T
STEPS = 40  # per tau_prop
Delay = Annotated[float, Field(strict=True, ge=0, le=6)]
Trace = Annotated[float, Field(strict=True, ge=0.05, le=2)]


class EPropWindow(AbstractPrediction):
    """What one presentation does to an input weight of a linear e-prop network, against the delay of the error."""

    number = "EP.2"
    title = "e-prop learns best from a learning signal that is as late as its traces"
    source = "bellec2020solution, on traces of neuron and readout; the window is derived from the overlap law"
    equation = """S(d) = E max(0, T - |d - U|), U the sum of two exponential times of mean tau, those of the traces
        F[z] and F[f' F[z]]; tau << T: the overlap law max(0, T - d)"""
    claim = """Traces as short as tau_prop tolerate a learning signal that is late by less than T. Longer ones let
        later signals teach, beyond T too, and the best signal is then one that comes late."""
    method = """The input weight of a chain of two linear neurons with random feedback, after one presentation in a
        long gap; W2 = 0, so that the error is the target, and weak plasticity. By windows and by steps."""
    tolerance = """Strength: 1e-4 T, by Heun steps of tau_prop / 40 and windows of 16 nodes; equal time constants are
        split by 1e-3 in the closed form. Best delay: the spacing of the delays. The overlap law: 2 tau, by which
        traces are late."""
    quick = {"delays": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0), "traces": (0.05, 0.5)}

    propagation: Annotated[float, Field(strict=True, ge=0.02, le=0.1)] = 0.05  # in units of T, as all that follow
    traces: Annotated[tuple[Trace, ...], Field(min_length=2, max_length=6)] = (0.05, 0.25, 0.5, 1.0)
    delays: Annotated[tuple[Delay, ...], Field(min_length=4)] = tuple(np.linspace(0, 3, 25).tolist())

    def misfit(self) -> str | None:
        d = np.array(self.delays)
        if list(d) != sorted(set(d)) or d[0] != 0 or d[-1] <= 1:
            return "delays must rise from 0 to above 1"
        return None if list(self.traces) == sorted(set(self.traces)) else "traces must rise"

    def measure(self) -> Finding:
        expected = np.stack([self.expected(trace) for trace in self.traces])
        windows = self._strengths(Window(nodes=16, parts=1, gaps=True, settling=12.0), 16)
        steps = self._strengths(HEUN, math.ceil((1 + self._gap) * STEPS / self.propagation))
        quantity = "largest deviation of S / T from the closed form, of all traces and delays"
        verdicts = [
            all_close(f"strength by {name}", quantity, 0.0, np.abs(found - expected), 1e-4)
            for name, found in (("windows", windows), ("steps", steps))
        ]
        verdicts += [self._best(*row) for row in zip(windows, expected, self.traces, strict=True)]
        off, d = windows[0] - overlap_law(np.array(self.delays), 1.0), np.array(self.delays)
        quantity = "largest deviation of S / T from the overlap law max(0, 1 - d / T)"
        name = f"the overlap law of short traces, tau = {self.traces[0]:g} T"
        verdicts.append(all_close(name, quantity, 0.0, np.abs(off), 2 * self.traces[0] + 1e-4))
        beyond = windows[:, d > 1].sum(axis=1) / windows.sum(axis=1)
        quantity = "least increase of the share of learning with d > T, from trace to trace"
        least = float(np.diff(beyond).min())
        said = float(np.diff(expected[:, d > 1].sum(axis=1) / expected.sum(axis=1)).min())
        verdicts.append(close("longer traces reach beyond T", quantity, said, least, min(1e-3, said)))
        return Finding(verdicts, self._drawn(windows))

    def expected(self, trace: float, delays: np.ndarray | None = None) -> np.ndarray:
        """S / T at each delay."""
        return filtered_overlap(self.delays if delays is None else delays, 1.0, [trace, trace], [])

    @property
    def _gap(self) -> float:
        return max(self.delays) + 1

    def _strengths(self, by: FixedStep | Window, steps: int) -> np.ndarray:
        """The same, simulated, by (trace, delay)."""
        stream = Stream(f64([[1.0]]), f64([[1.0]]), jax.random.key(self.seed))
        history = math.ceil(max(self.delays) / (1 + self._gap) * steps) + 3

        def strength(late: Array, trace: Array) -> Array:
            circuit = wired(EProp(trace=trace, recurrent_scale=f64(0.0)), (1, 1, 1), activation="linear")
            run = coupled(
                circuit, stream, self.propagation, WEAK, 1.0, steps, self._gap, late=late, history=history,
                integrator=by,
            )  # fmt: skip
            start = circuit.initial_weights(jax.random.key(self.seed))
            start |= {name: jnp.zeros_like(start[name]) for name in ("W1", "W2")}
            moved = run.weights(run.advance(run.init(start), jnp.int32(0), 1))["W1"][0, 0]
            return WEAK * moved / start["B1"][0, 0]

        each = jax.vmap(jax.vmap(strength, (0, None)), (None, 0))
        return np.asarray(jax.jit(each)(f64(self.delays), f64(self.traces)))

    def _best(self, found: np.ndarray, expected: np.ndarray, trace: float) -> Verdict:
        fine = np.linspace(0, self.delays[-1], 4001)
        best = float(fine[self.expected(trace, fine).argmax()])
        spacing = float(np.diff(self.delays).max())
        name, quantity = f"best delay, tau = {trace:g} T", "d / T where S is largest"
        return close(name, quantity, best, float(self.delays[int(found.argmax())]), spacing)

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, strengths: np.ndarray) -> None:
        fine = np.linspace(0, self.delays[-1], 200)
        for i, (points, trace) in enumerate(zip(strengths, self.traces, strict=True)):
            panel.plot(fine, self.expected(trace, fine), color=look(i)["color"], linestyle=LINES[i % len(LINES)])
            panel.plot(self.delays, points, linestyle="", label=rf"$\tau$ = {trace:g} T", **look(i))
        panel.axvline(1.0, color="0.7", linewidth=0.6, zorder=0)
        panel.set(xlabel="delay of the error d (stimulus durations T)", ylabel="learning strength S / T")
        legend_outside(panel, 2, title="lines: theory, points: simulation")
