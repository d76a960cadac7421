"""B5.1: a two-layer linear network goes from saddle to saddle; how long it stays is set by the data."""

from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import band, drawn, intervals, look, marked, wired
from experiments.predictions.linear.setting import crossing, flown, modes, orthonormal, product, stacked
from experiments.results.verdicts import between, exceeds, matches, stays_below
from rules import SGD

RATE = 6  # records in the time in which the fastest mode grows e-fold
Sizes = Annotated[tuple[Positive, ...], Field(min_length=3, max_length=7)]
Strengths = Annotated[tuple[Positive, ...], Field(min_length=2, max_length=6)]


class Course(NamedTuple):
    """Times, modes in units of their strength, squared singular values of [W1^T; W2], by (sizes, seeds, times, ..)."""

    times: np.ndarray
    modes: np.ndarray
    spectrum: np.ndarray


class SaddlePlateaus(AbstractPrediction):
    """The plateaus of a two-layer linear network from small random weights."""

    number = "B5.1"
    title = "Two linear layers learn one rank at a time, on plateaus that the data set"
    source = "zhang2025saddle, linear networks; times derived from the sigmoids of saxe2014exact"
    equation = """t_j = ln(1/a) / s_j + const; on plateau j: rank j, distance from the manifold M_j of rank j ~ a^(1 -
        s_(j+1)/s_j)"""
    claim = """From random weights of size a, mode j of the teacher is learned at a time (1/s_j) ln(1/a): plateaus
        lengthen with the logarithm of the initial size, and their lengths have ratios that the singular values alone
        set. In the middle of plateau j the network has rank j, and the closer it is to the invariant manifold of rank
        j, the smaller it was at the start."""
    method = """The weight flow of SGD by dopri5 on whitened inputs from the same random numbers at several sizes a.
        Times when modes are half learned; plateau j lasts from that of mode j to that of the next one; the distance
        from M_j is the share of |W1|^2 + |W2|^2 beyond the j largest singular values of [W1^T; W2]."""
    tolerance = """99.9 % intervals over seeds. Beyond it 2 % for the growth of times: modes are not quite decoupled
        before they are aligned. The power of the distance: 10 %, as the middle of a plateau is only half way to the
        limit."""
    quick = {"seeds": 6, "sizes": (1e-3, 1e-5, 1e-7)}

    inputs: Size = 5
    hidden: Size = 8
    outputs: Size = 5
    strengths: Strengths = (4.0, 2.0, 1.0, 0.5)
    sizes: Sizes = (1e-4, 1e-5, 1e-6, 1e-7)  # a
    seeds: Seeds = 12

    def misfit(self) -> str | None:
        if len(self.strengths) > min(self.inputs, self.hidden, self.outputs):
            return "there must be at most as many strengths as inputs, hidden neurons and outputs"
        if any(b > 0.7 * a for a, b in zip(self.strengths[:-1], self.strengths[1:], strict=True)):
            return "each strength must be at most 0.7 times the one before, or plateaus run together"
        if list(self.sizes) != sorted(set(self.sizes), reverse=True) or self.sizes[0] > 0.01:
            return "sizes must fall, from at most 0.01"

    def measure(self) -> Finding:
        course, s = self._course(), np.array(self.strengths)
        half = crossing(course.times, np.moveaxis(course.modes, -1, -2))  # (sizes, seeds, modes)
        logs = np.log(1 / np.array(self.sizes))
        slopes = np.moveaxis(np.polyfit(logs, half.reshape(len(logs), -1), 1)[0].reshape(half.shape[1:]), 0, -1)
        scaled = slopes * s[:, None]
        means, width = intervals(scaled)
        worst = int(np.argmax(np.abs(means - 1) - width))
        note = f"s = {s[worst]:g}, the mode that fits least"
        verdicts = [matches("logarithm", "s_j dt_j / d ln(1/a)", 1.0, scaled[worst], 0.02, note)]
        ranks, away = self._middles(course, half)  # (plateaus, sizes, seeds)
        for j in range(len(s) - 1):
            quantity = "sum of u_i / s_i in the middle of the plateau"
            verdicts.append(between(f"plateau {j + 1}", quantity, j + 0.9, j + 1.1, ranks[j, -1]))
        far = np.log10(away[:, -1]).max(0)
        verdicts.append(stays_below("near the manifold", "log10 of the largest distance from M_j", -3.0, far))
        powers = np.stack([np.polyfit(-logs, np.log(one), 1)[0] for one in away])  # (plateaus, seeds)
        expected = np.minimum(1 - s[1:] / s[:-1], s[:-1] / s[1:] - 1)
        quantity = "power of the distance in a / expected, mean of the plateaus"
        verdicts.append(matches("approach to the manifold", quantity, 1.0, (powers / expected[:, None]).mean(0), 0.1))
        growth = np.diff(half, axis=-1)[-1]  # lengths of plateaus at the smallest size: (seeds, plateaus)
        verdicts.append(exceeds("plateaus", "least length / 1/s_j of its mode", 1.0, (growth * s[1:]).min(-1)))
        return Finding(verdicts, self._drawn(course, half, away))

    def _course(self) -> Course:
        rng, k = np.random.default_rng(self.seed), len(self.strengths)
        left, right = orthonormal(rng, self.outputs, k), orthonormal(rng, self.inputs, k)
        starts = []
        for a in self.sizes:
            for seed in range(self.seed, self.seed + self.seeds):
                rng = np.random.default_rng([seed, 1])
                first, second = (self.hidden, self.inputs), (self.outputs, self.hidden)
                starts.append({"W1": a * rng.standard_normal(first), "W2": a * rng.standard_normal(second)})
        s = np.array(self.strengths)
        time = (np.log(1 / min(self.sizes)) + 3) / s[-1]
        records = int(np.ceil(time * s[0] * RATE))
        circuit = wired(SGD(), (self.inputs, self.hidden, self.outputs), activation="linear")
        found = flown(circuit, stacked(starts), left * s @ right.T, time, records, 2)
        shape = len(self.sizes), self.seeds, records + 1, -1
        u = modes(product(found, 2), left, right) / s
        q = np.concatenate([found["W1"].swapaxes(-1, -2), found["W2"]], -2)
        spectrum = np.linalg.svd(q, compute_uv=False) ** 2
        return Course(np.linspace(0, time, records + 1), u.reshape(shape), spectrum.reshape(shape))

    def _middles(self, course: Course, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In the middle of every plateau the learned parts in all, and the share of weights beyond its rank."""
        ranks, away = [], []
        for j in range(len(self.strengths) - 1):
            at = np.abs(course.times - half[..., j : j + 2].mean(-1)[..., None]).argmin(-1)[..., None, None]
            ranks.append(np.take_along_axis(course.modes, at, 2)[..., 0, :].sum(-1))
            spectrum = np.take_along_axis(course.spectrum, at, 2)[..., 0, :]
            away.append(spectrum[..., j + 1 :].sum(-1) / spectrum.sum(-1))
        return np.stack(ranks), np.stack(away)

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, course: Course, half: np.ndarray, away: np.ndarray) -> None:
        ranks, times, distance = figure.subplots(1, 3)
        for i, a in enumerate(self.sizes):
            band(ranks, course.times, course.modes[i].sum(-1).T, color=look(i)["color"], label=f"a = {a:.0e}")
        ranks.set(xlabel=r"time ($\tau_{plast}$)", ylabel=r"rank learned, $\Sigma_j u_j / s_j$")
        ranks.legend(fontsize=7, loc="lower right")
        logs = np.log(1 / np.array(self.sizes))
        for j, s in enumerate(self.strengths):
            theory = half[-1, :, j].mean() + (logs - logs[-1]) / s
            times.plot(logs, theory, color=look(j)["color"])
            marked(times, logs, half[:, :, j], label=f"s = {s:g}", **look(j))
        times.set(xlabel="ln(1/a)", ylabel=r"half-time ($\tau_{plast}$)")
        times.legend(title="lines: slope 1/s", fontsize=7)
        for j, (one, s, after) in enumerate(zip(away, self.strengths[:-1], self.strengths[1:], strict=True)):
            end = np.log(one[-1]).mean() + min(1 - after / s, s / after - 1) * (logs[-1] - logs)
            distance.semilogy(logs, np.exp(end), color=look(j)["color"])
            distance.semilogy(logs, np.exp(np.log(one).mean(-1)), linestyle="", label=f"plateau {j + 1}", **look(j))
        distance.set(xlabel="ln(1/a)", ylabel="distance from the manifold M$_j$")
        distance.legend(title="lines: expected power", fontsize=7)
