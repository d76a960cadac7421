"""B1.1: the singular modes of a deep linear network learn one by one, each along a curve in closed form."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.kit import all_close, drawn, intervals, look, order, wired
from experiments.predictions.linear.setting import (
    Matrices,
    aligned,
    crossing,
    flown,
    mode_time,
    modes,
    orthonormal,
    product,
    sigmoid,
    stacked,
    ticks,
)
from experiments.results.verdicts import Verdict, close, matches
from rules import SGD

RECORDS, LEARNED = 80, 0.99  # a run lasts until the weakest mode is learned so far
FINE = 0.1  # step of dopri5 in units of the fastest relaxation
COARSE = (4, 8, 16, 32)  # Euler steps between two records
Depths = Annotated[tuple[Annotated[int, Field(strict=True, ge=2, le=8)], ...], Field(min_length=1)]


class ModeSigmoids(AbstractPrediction):
    """Mode strengths of deep linear networks against their closed forms, from aligned and from random starts."""

    number = "B1.1"
    title = "Singular modes of a deep linear network learn along sigmoids"
    source = """saxe2014exact, equations for balanced, decoupled starts; for L layers integrated by a hypergeometric
        function"""
    equation = """u(t) = s / (1 + (s/u0 - 1) exp(-2 s t)) for two layers; u' = L u^(2 - 2/L) (s - u) for L, that is t
        = [F(u) - F(u0)] / (L b s), F(u) = u^b 2F1(1, b; 1 + b; u/s), b = 2/L - 1"""
    claim = """On whitened inputs every singular mode of the teacher is learned on its own, from a balanced aligned
        start exactly as the closed form says. Gradient descent in steps eta is off by O(eta). From small random
        weights of size a a mode appears after a time that grows by 1/s for every factor e by which a is smaller."""
    method = """The weight flow of SGD by dopri5; by Euler steps, which are gradient descent. Modes are l_j^T W_L ...
        W_1 r_j. Random starts: the same random numbers at two sizes a; the time at which a mode is half learned."""
    tolerance = """1e-6 of s for two layers, 1e-6 of the time for more: what dopri5 leaves in steps of a tenth of the
        fastest relaxation. Order: 0.1. Random starts are aligned by growth itself, and modes are not quite decoupled
        while they do: 1 % beyond the 99.9 % interval."""
    quick = {"depths": (2, 3), "strengths": (4.0, 2.5, 1.5), "seeds": 4}

    inputs: Size = 5
    hidden: Size = 6
    outputs: Size = 4
    strengths: Positives = (4.0, 2.5, 1.5, 0.6)
    start: Positive = 1e-3  # u0
    depths: Depths = (2, 3, 4)
    sizes: Annotated[tuple[Positive, Positive], Field()] = (1e-4, 1e-7)  # a
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if len(self.strengths) > min(self.inputs, self.hidden, self.outputs):
            return "there must be at most as many strengths as inputs, hidden neurons and outputs"
        if self.start > 0.1 * min(self.strengths):
            return "start must be at most a tenth of the weakest strength, or there is no sigmoid to see"

    def measure(self) -> Finding:
        two, slopes = self._two_layers()
        runs = {depth: two if depth == 2 else self._aligned(depth) for depth in self.depths}
        verdicts = []
        for depth, (times, u) in runs.items():
            verdicts.append(self._exact(depth, times, u))
        errors = self._descent()
        slope = float(order(1 / np.array(COARSE), errors))
        verdicts.append(close("gradient descent", "order in eta of the largest error of a mode", 1.0, slope, 0.1))
        means, half = intervals(slopes)
        worst = int(np.argmax(np.abs(means - 1) - half))
        note = f"s = {self.strengths[worst]:g}, the mode that fits least"
        quantity = "s x (growth of the half-time per ln(1/a))"
        verdicts.append(matches("random starts", quantity, 1.0, slopes[worst], 0.01, note))
        return Finding(verdicts, self._drawn(runs, errors))

    def _exact(self, depth: int, times: np.ndarray, u: np.ndarray) -> Verdict:
        s = np.array(self.strengths)
        if depth == 2:
            off = np.abs(u - sigmoid(times, self.start, s)) / s
            return all_close("two layers", "largest error of u / s", 0.0, off, 1e-6)
        inside = (u > 1.01 * self.start) & (u < LEARNED * s)
        predicted = mode_time(self.start, np.where(inside, u, s / 2), s, depth)
        off = np.where(inside, predicted - times[:, None], 0) / times[-1]
        return all_close(f"{depth} layers", "largest error of t(u) / time of the run", 0.0, off, 1e-6)

    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's singular vectors, left and right."""
        rng, k = np.random.default_rng(self.seed), len(self.strengths)
        return orthonormal(rng, self.outputs, k), orthonormal(rng, self.inputs, k)

    def _span(self, depth: int) -> tuple[float, int]:
        """How long a run lasts, and the steps of dopri5 between two records."""
        weakest, strongest = min(self.strengths), max(self.strengths)
        time = float(mode_time(self.start, LEARNED * weakest, weakest, depth))
        rate = depth * strongest ** (2 - 2 / depth)
        return time, int(np.ceil(time * rate / (FINE * RECORDS)))

    def _aligned(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Times, and the modes (records, modes) from a balanced aligned start."""
        left, right = self._frames()
        time, count = self._span(depth)
        found = flown(
            self._circuit(depth), stacked([self._start(depth)]), left * self.strengths @ right.T, time, RECORDS, count
        )
        return np.linspace(0, time, RECORDS + 1), modes(product(found, depth)[0], left, right)

    def _start(self, depth: int) -> Matrices:
        """A balanced aligned start, every mode at u0."""
        size = np.full(len(self.strengths), self.start ** (1 / depth))
        return aligned(np.random.default_rng([self.seed, depth]), *self._frames(), self.hidden, [size] * depth)

    def _circuit(self, depth: int) -> Circuit:
        return wired(SGD(), (self.inputs, *[self.hidden] * (depth - 1), self.outputs), activation="linear")

    def _descent(self) -> np.ndarray:
        """The largest error of a mode of two layers in u / s, for so many Euler steps between records."""
        left, right = self._frames()
        start, s = stacked([self._start(2)]), np.array(self.strengths)
        time, teacher = float(mode_time(self.start, 0.9 * s[0], s[0], 2)), left * s @ right.T
        exact, errors = sigmoid(np.linspace(0, time, RECORDS + 1), self.start, s), []
        for count in COARSE:
            found = flown(self._circuit(2), start, teacher, time, RECORDS, count, "euler")
            errors.append(np.abs(modes(product(found, 2)[0], left, right) - exact).max())
        return np.array(errors)

    def _two_layers(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Of two layers the aligned run, and s_j dt_j / dln(1/a) of random starts, (modes, seeds): one program."""
        left, right = self._frames()
        s = np.array(self.strengths)
        starts = [self._start(2)]
        for seed in range(self.seed, self.seed + self.seeds):
            rng = np.random.default_rng([seed, 1])
            first = rng.standard_normal((self.hidden, self.inputs))
            second = rng.standard_normal((self.outputs, self.hidden))
            starts += [{"W1": a * first, "W2": a * second} for a in self.sizes]
        time = (np.log(1 / min(self.sizes)) + 4) / min(s)  # the start's own part along a mode may be small
        records = int(np.ceil(time * max(s) * 4))
        found = flown(self._circuit(2), stacked(starts), left * s @ right.T, time, records, 5)
        u, times = modes(product(found, 2), left, right), np.linspace(0, time, records + 1)
        half = crossing(times, np.moveaxis(u[1:] / s, 1, -1)).reshape(self.seeds, 2, -1)
        shown = slice(0, int(np.searchsorted(times, self._span(2)[0])) + 1, max(1, records // (3 * RECORDS)))
        slopes = (s * (half[:, 1] - half[:, 0]) / np.log(self.sizes[0] / self.sizes[1])).T
        return (times[shown], u[0, shown]), slopes

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, runs: dict, errors: np.ndarray) -> None:
        curves, deeper, descent = figure.subplots(1, 3)
        for panel, depth in ((curves, min(runs)), (deeper, max(runs))):
            times, u = runs[depth]
            for j, s in enumerate(self.strengths):
                fine = self.start + (LEARNED * s - self.start) * np.linspace(0, 1, 400) ** 3
                shown = times[u[:, j] < LEARNED * s].size
                panel.plot(mode_time(self.start, fine, s, depth), fine, color=look(j)["color"])
                every = max(1, times.size // 27)
                panel.plot(times[:shown:every], u[:shown:every, j], linestyle="", label=f"s = {s:g}", **look(j))
            panel.set(xlabel=r"time ($\tau_{plast}$)", ylabel="mode strength u", title=f"{depth} layers")
        curves.legend(title="lines: theory", loc="center right", fontsize=7)
        steps = 1 / np.array(COARSE)
        descent.loglog(steps, errors[0] * steps / steps[0], color="0.3", label="theory: slope 1")
        descent.loglog(steps, errors, linestyle="", label="simulation", **look(0))
        descent.set(xlabel=r"step $\eta$ (records)", ylabel="largest error of u", title="gradient descent")
        ticks(descent, list(steps))
        descent.legend()
