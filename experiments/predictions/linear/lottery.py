"""B5.2: in deeper linear networks the initial sizes, not the data, set how long a saddle is sat on."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit
from experiments.predictions.contract import AbstractPrediction, Finding, Positive
from experiments.predictions.kit import all_close, drawn, look, wired
from experiments.predictions.linear.setting import (
    aligned,
    crossing,
    flown,
    mode_time,
    modes,
    orthonormal,
    product,
    stacked,
    ticks,
)
from experiments.results.verdicts import Verdict, close
from rules import SGD

RECORDS_PER = 12  # records in the time in which a mode relaxes at the end
Starts = Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=0.3)], ...], Field(min_length=3, max_length=8)]
Depths = Annotated[tuple[Annotated[int, Field(strict=True, ge=2, le=5)], ...], Field(min_length=1, max_length=4)]


class SaddleLottery(AbstractPrediction):
    """When modes of the same strength appear that differ in nothing but the size they start with."""

    number = "B5.2"
    title = "With more than two layers the largest start wins: times follow a power law of the initial size"
    source = "zhang2025saddle, initialisation-induced plateaus; closed form derived"
    equation = """a' = s a^(L-1) near the saddle: t = (1/s) ln(1/a) + const for L = 2, t = a^-(L-2) / ((L-2) s) for L
        > 2; the whole time to s/2 by the integral of du / (L u^(2 - 2/L) (s - u))"""
    claim = """Where all singular values are equal, two layers learn all modes at nearly one time, whatever the modes
        start with, and three or more layers learn them one by one, the largest start first: escape times are as far
        apart as 1/a (three layers) or 1/a^2 (four)."""
    method = """The weight flow of SGD by dopri5 on whitened inputs, from balanced aligned starts whose modes have
        different sizes a per layer; the time when each is half learned against the closed form, and how far apart it
        is for the two smallest starts, from which the way from the saddle to s/2 drops out, against the law."""
    tolerance = """1e-3 of each time for reading it between records. The law near the saddle is the integral of da / (s
        a^(L-1)): with s - a^L in place of s times are further apart, by at most a^L / (s - a^L) of the larger start."""
    quick = {"depths": (2, 3), "starts": (0.05, 0.1, 0.2)}

    depths: Depths = (2, 3, 4)
    starts: Starts = (0.03, 0.06, 0.1, 0.15, 0.2)  # a of every mode, per layer
    strength: Positive = 1.0  # s
    extra: Annotated[int, Field(strict=True, ge=0, le=50)] = 2  # neurons beyond the number of modes

    def misfit(self) -> str | None:
        if list(self.starts) != sorted(set(self.starts)):
            return "starts must rise"
        if self.strength < 2 * max(self.starts) ** min(self.depths) * 2:
            return "strength must be at least four times what the largest start makes of a mode"

    def measure(self) -> Finding:
        runs = {depth: self._run(depth) for depth in self.depths}
        half = {depth: crossing(times, u.T / self.strength) for depth, (times, u) in runs.items()}
        verdicts = []
        for depth in self.depths:
            off = half[depth] / self.expected(depth) - 1
            verdicts.append(all_close(f"times, {depth} layers", "largest relative error", 0.0, off, 1e-3))
        verdicts += [self._law(depth, half[depth]) for depth in self.depths]
        return Finding(verdicts, self._drawn(runs, half))

    def expected(self, depth: int) -> np.ndarray:
        """The time until each mode is half learned."""
        return mode_time(np.array(self.starts) ** depth, self.strength / 2, self.strength, depth)

    def _law(self, depth: int, half: np.ndarray) -> Verdict:
        """How far apart the two smallest starts escape, over ln(1/a) / s or a^-(L-2) / ((L-2) s)."""
        small, large = self.starts[:2]
        if depth == 2:
            name, quantity, apart = "logarithm, 2 layers", "s dt / d ln(1/a)", np.log(large / small)
        else:
            name, quantity = f"power law, {depth} layers", f"(L - 2) s dt / d a^-{depth - 2}"
            apart = (small ** (2.0 - depth) - large ** (2.0 - depth)) / (depth - 2)
        late, soon = half[:2]
        tolerance = large**depth / (self.strength - large**depth) + 1e-3 * self.strength * (late + soon) / apart
        return close(name, quantity, 1.0, float(self.strength * (late - soon) / apart), float(tolerance))

    def _run(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Times, and the modes (times, modes)."""
        k, s = len(self.starts), self.strength
        rng = np.random.default_rng([self.seed, depth])
        left, right = orthonormal(rng, k + 1, k), orthonormal(rng, k + 1, k)
        start = aligned(rng, left, right, k + self.extra, [np.array(self.starts)] * depth)
        rate = depth * s ** (2 - 2 / depth)
        time = float(self.expected(depth).max()) + 4 / rate
        records = int(np.ceil(time * rate * RECORDS_PER / 4))
        found = flown(self._circuit(depth), stacked([start]), s * left @ right.T, time, records, 2)
        return np.linspace(0, time, records + 1), modes(product(found, depth)[0], left, right)

    def _circuit(self, depth: int) -> Circuit:
        k = len(self.starts)
        return wired(SGD(), (k + 1, *[k + self.extra] * (depth - 1), k + 1), activation="linear")

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, runs: dict, half: dict[int, np.ndarray]) -> None:
        *losses, law = figure.subplots(1, 3)
        for panel, depth in zip(losses, (min(runs), max(runs)), strict=True):
            times, u = runs[depth]
            loss = ((1 - u / self.strength) ** 2).mean(1)
            panel.plot(times, loss, color="0.3")
            panel.plot(half[depth], np.interp(half[depth], times, loss), linestyle="", **look(1))
            panel.set(xlabel=r"time ($\tau_{plast}$)", ylabel="loss (of its start)", title=f"{depth} layers")
        fine = np.geomspace(self.starts[0] / 1.5, self.starts[-1], 50)
        for i, depth in enumerate(self.depths):
            theory = mode_time(fine**depth, self.strength / 2, self.strength, depth)
            law.loglog(fine, theory, color=look(i)["color"])
            law.loglog(self.starts, half[depth], linestyle="", label=f"{depth} layers", **look(i))
        law.set(xlabel="start a of the mode", ylabel=r"half-time ($\tau_{plast}$)")
        ticks(law, self.starts)
        law.legend(title="lines: theory", fontsize=7)
