"""B5: linear networks go from saddle to saddle: how long they stay is set by the data, the starts, or the noise."""

from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure
from pydantic import Field
from scipy.special import ndtri

from dynamics.circuit import Circuit
from dynamics.noise import Noise
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, band, drawn, look, marked, ticked
from experiments.predictions.kit import all_close, f64, intervals, keys_from, on_grid, records, weight_flow, wired
from experiments.predictions.linear.setting import (
    aligned,
    crossing,
    flown,
    mode_time,
    modes,
    orthonormal,
    product,
    stacked,
)
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, between, close, exceeds, matches, stays_below
from rules import SGD

RATE = 6  # records in the time in which the fastest mode grows e-fold
Sizes = Annotated[tuple[Positive, ...], Field(min_length=3, max_length=7)]
Strengths = Annotated[tuple[Positive, ...], Field(min_length=2, max_length=6)]
RECORDS_PER = 12  # records in the time in which a mode relaxes at the end
Starts = Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=0.3)], ...], Field(min_length=3, max_length=8)]
Depths = Annotated[tuple[Annotated[int, Field(strict=True, ge=2, le=5)], ...], Field(min_length=1, max_length=4)]
PER, FAST = 4, 10  # Heun steps between two records, and records in 1/s
NODES = 100_000  # of the quadrature over normal numbers: many, for the logarithm where the start is cancelled


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
            against(times, j, (logs, theory), (logs, half[:, :, j]), f"s = {s:g}")
        times.set(xlabel="ln(1/a)", ylabel=r"half-time ($\tau_{plast}$)")
        times.legend(title="lines: slope 1/s", fontsize=7)
        for j, (one, s, after) in enumerate(zip(away, self.strengths[:-1], self.strengths[1:], strict=True)):
            end = np.log(one[-1]).mean() + min(1 - after / s, s / after - 1) * (logs[-1] - logs)
            distance.semilogy(logs, np.exp(end), color=look(j)["color"])
            distance.semilogy(logs, np.exp(np.log(one).mean(-1)), linestyle="", label=f"plateau {j + 1}", **look(j))
        distance.set(xlabel="ln(1/a)", ylabel="distance from the manifold M$_j$")
        distance.legend(title="lines: expected power", fontsize=7)


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
        ticked(law, self.starts, ".2g")
        law.legend(title="lines: theory", fontsize=7)


class PlateauNoise(AbstractPrediction):
    """The mean time that a two-layer chain of one neuron each spends at the saddle, against its noise."""

    number = "B5.3"
    title = "Synaptic noise shortens the first plateau: its size takes the place of the initial one"
    source = "zhang2025saddle, plateaus from small weights; the law with noise derived"
    equation = """t = E (1/2s) ln[(s - X^2/2) / (X^2/2)], X ~ N(2^(1/2) a, sigma^2 / (2 s)): the growing direction w1
        + w2 starts at a and is stirred by sigma dB; about (1/s) ln(1 / max(a, sigma))"""
    claim = """A chain of two synapses that start at a leaves its saddle after (1/s) ln(1/a). With synaptic noise
        sigma it leaves after the mean of the same logarithm over a normal number of variance a^2 + sigma^2 / (4 s):
        noise below 2 s^(1/2) a changes nothing, and above it each factor e of noise saves 1/s."""
    method = """The weight flow of SGD with additive synaptic noise, in Heun steps of 1/(40 s) (additive noise is the
        same in both calculi); the time when w2 w1 first is s/2, against the mean by quadrature."""
    tolerance = """99.9 % intervals over seeds, and 0.5 % of the time: the step, and the noise on the way up, of order
        sigma^2."""
    quick = {"seeds": 200, "noises": (1e-6, 1e-4, 1e-2)}

    strength: Positive = 1.0  # s
    start: Positive = 1e-4  # a
    noises: Positives = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # sigma
    seeds: Seeds = 1000

    def misfit(self) -> str | None:
        if max(self.noises) > 0.05 * self.strength or self.start > 0.05 * self.strength**0.5:
            return (
                "noises must be at most 0.05 strength, and start at most 0.05 of its root: the plateau has to be long"
            )
        if list(self.noises) != sorted(set(self.noises)) or len(self.noises) < 3:
            return "there must be 3 noises or more, which rise"

    def measure(self) -> Finding:
        half = self._measured()  # (noises, seeds)
        expected, verdicts = self.expected(np.array(self.noises)), []
        for sigma, one, mean in zip(self.noises, half, expected, strict=True):
            quantity = "mean half-time in tau_plast"
            verdicts.append(matches(f"sigma = {sigma:g}", quantity, float(mean), one, 0.005 * float(mean)))
        saved = (half[-1] - half[0]) * self.strength
        bound = 0.5 * self.strength * float(expected[-1] - expected[0])
        verdicts.append(stays_below("noise shortens", "s (t with most noise - t with least)", bound, saved))
        return Finding(verdicts, self._drawn(half))

    def expected(self, noises: np.ndarray) -> np.ndarray:
        """The mean time until w2 w1 = s/2."""
        nodes, s = ndtri((np.arange(NODES) + 0.5) / NODES), self.strength
        x = 2**0.5 * self.start + np.multiply.outer(noises / (2 * s) ** 0.5, nodes)
        u = np.maximum(x**2 / 2, 1e-300)
        return np.log(np.maximum(s - u, 0.5 * s) / u).mean(-1) / (2 * s)

    def _measured(self) -> np.ndarray:
        circuit, s = wired(SGD(), (1, 1, 1), activation="linear"), self.strength
        scale = np.hypot(self.start, min(self.noises) / (4 * s) ** 0.5)
        time = float(np.log(s**0.5 / scale) + 7) / s  # a start near 0 takes longer: one in a thousand by 7
        count = int(np.ceil(time * s * FAST))
        start = {"W1": f64([[self.start]]), "W2": f64([[self.start]])}

        def one(key: PRNGKeyArray, sigma: Array) -> Array:
            step, more = time / count / PER, {"noise": Noise(synaptic=sigma), "key": key}
            flow = weight_flow(circuit, f64([[1.0]]), f64([[s]]), step, integrator="heun", **more)
            product = lambda now: (now.weights["W2"] @ now.weights["W1"])[0, 0]  # noqa: E731
            return records(flow, flow.init(start), count, PER, product, start=True)

        u = on_grid(lambda sigma, key: one(key, sigma), f64(self.noises), keys_from(self.seed, self.seeds))
        return crossing(np.linspace(0, time, count + 1), u / s)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, half: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.geomspace(min(self.noises) / 3, max(self.noises) * 2, 200)
        left.semilogx(fine, self.expected(fine), color="0.3", label="theory")
        limits = np.log(self.strength**0.5 / self.start) / self.strength
        left.axhline(limits, color="0.6", linestyle=":", label="no noise: (1/s) ln(1/a)")
        marked(left, self.noises, half, label="simulation", **look(1))
        left.set(xlabel=r"synaptic noise $\sigma$ (per root of $\tau_{plast}$)", ylabel=r"half-time ($\tau_{plast}$)")
        left.legend()
        bins = np.linspace(half.min(), np.quantile(half, 0.999), 40)
        for i, (sigma, one) in enumerate(zip(self.noises, half, strict=True)):
            if i in (0, len(self.noises) // 2, len(self.noises) - 1):
                right.hist(one, bins, histtype="step", color=OKABE_ITO[i], density=True, label=rf"$\sigma$ = {sigma:g}")
        right.set(xlabel=r"half-time ($\tau_{plast}$)", ylabel=r"share per $\tau_{plast}$", yscale="log")
        right.legend()
