"""T4.2: the sign of the overlap of SGD's and Hebb's updates in linear regression with parameter noise."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from matplotlib.figure import Figure
from scipy.optimize import curve_fit

from dynamics.errors import PlasticodeError
from dynamics.flow import batch_factors
from dynamics.moment import Factors
from dynamics.plasticity import weight_drifts
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn
from experiments.predictions.hebbian.setting import share_inside, student
from experiments.predictions.kit import f64, intervals, jackknifed, keys_from
from experiments.report.figures import OKABE_ITO
from experiments.report.places import edges
from experiments.results.verdicts import JUDGED, Verdict, close, matches, stays_below

RELAXATIONS = 8  # 1 / (step s): until the mean weights rest, and then as often as `averaged` says
SMALL = 0.5  # decays below this (in units of s) show the parabola


class HebbianPhaseDiagram(AbstractPrediction):
    number = "T4.2"
    title = "Hebbian and anti-Hebbian learning: decay against noise"
    source = """koplow2025emergence, noise theorem and phase diagram (fig. 4); the constants are derived for gaussian
        inputs"""
    equation = """A = E<g, H> = s^2 (d + 2) [gamma s / (s + gamma)^2 |w*|^2 - d sigma^2]; with sigma_c = |w*| / (2
        sqrt(d)) it is zero at (sigma / sigma_c)^2 = 4 (gamma/s) / (1 + gamma/s)^2"""
    claim = """Decay gamma makes the updates of gradient descent Hebbian (A > 0), noise sigma on the weights
        anti-Hebbian; the border is gamma ~ sigma^2 for weak decay. Alignment is largest at gamma = s, and beyond the
        noise sigma_c no decay makes learning Hebbian."""
    method = """Stochastic descent from w = 0: every step sees fresh inputs x ~ N(0, s I) through fresh weights w = v +
        eps, eps ~ N(0, sigma^2 I), and moves v. A is the mean of <g, H> per sample once v is stationary. The border at
        each decay is the root of a line in sigma^2 through all noise levels, weighted by their errors."""
    tolerance = """Means: 99.9 % intervals over seeds. Shares: 5 % of the cells; a sign is judged only where the
        predicted |A| exceeds the half width. The size of A is held against the closed form with the variance that a
        finite step adds to v."""
    quick = {"inputs": 8, "seeds": 5, "averaged": 20.0, "step": 0.05}

    inputs: Size = 32
    variance: Positive = 1.0  # s
    teacher_norm: Positive = 1.0  # |w*|
    gammas: Positives = (0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)  # in units of s
    noises: Positives = (0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3)  # in units of sigma_c
    step: Positive = 0.02  # s T / tau_plast
    batch: Size = 32
    averaged: Positive = 100.0  # relaxation times
    seeds: Seeds = 10

    def measure(self) -> Finding:
        self._check()
        cells = self._simulated() / (self.variance**2 * (self.inputs + 2) * self.teacher_norm**2 / 4)
        weights = 1 / cells.std(-1, ddof=1)
        zeros = jackknifed(lambda kept: self._zeros(cells[..., kept], weights), self.seeds)  # in sigma_c^2, by decay
        verdicts = [self._signs(cells), self._sizes(cells), self._slope(cells, weights), self._summit(cells)]
        quantity = "largest A over all decays at the strongest noise, in units of its maximum"
        verdicts.append(stays_below("no way back", quantity, 0.0, cells[:, -1].max(0)))
        return Finding(verdicts, self._drawn(cells, zeros))

    def expected(self, decays: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """A for an infinitesimal step, in units of its maximum s^2 (d + 2) |w*|^2 / 4: (gammas or `decays`, noises)."""
        g, noise = np.array(decays if len(decays) else self.gammas)[:, None], np.array(self.noises)[None]
        return 4 * g / (1 + g) ** 2 - noise**2

    def finite_step(self, decays: Sequence[float] | np.ndarray = ()) -> np.ndarray:
        """As `expected`, with the stationary variance V that the steps give v: A - s^2 (d + 2) V, exactly.

        V is where E|v|^2 is stationary under v' = (1 - eta gamma) v + eta C r, r = w* - v - eps, C = <x x^T> of a
        batch, E C^2 = s^2 (1 + (d + 1) / batch) I.
        """
        g, power = np.array(decays if len(decays) else self.gammas)[:, None], self.teacher_norm**2
        spread = np.array(self.noises)[None] ** 2 * power / 4  # d sigma^2
        mean, eta, kept = 1 / (1 + g), self.step, 1 - self.step * g
        square = 1 + (self.inputs + 1) / self.batch
        # |v|^2 = mean^2 power + V; <v, r> = (mean - mean^2) power - V; |r|^2 = (1 - mean)^2 power + V + spread
        source = kept**2 * mean**2 * power + 2 * eta * kept * (mean - mean**2) * power
        source = source + eta**2 * square * ((1 - mean) ** 2 * power + spread) - mean**2 * power
        excess = source / (1 - kept**2 + 2 * eta * kept - eta**2 * square)
        return self.expected(decays) - 4 * excess / power

    def _check(self) -> None:
        most = self.step * (1 + max(self.gammas)) + self.step * (self.inputs + 1) / self.batch
        if most >= 1:
            raise PlasticodeError(
                f"hebbian-phase-diagram.step = {self.step:g} is not allowed with these gammas, inputs and batch: step "
                f"times (1 + largest gamma + (inputs + 1) / batch) is {most:g} and must be below 1"
            )
        small = [g for g in self.gammas if g < SMALL]
        if list(self.noises) != sorted(set(self.noises)) or self.noises[0] >= 1 or self.noises[-1] <= 1:
            raise PlasticodeError(
                "hebbian-phase-diagram.noises is not allowed: it must increase from below 1 to above 1"
            )
        if list(self.gammas) != sorted(set(self.gammas)) or len(small) < 2 or len(self.gammas) < 4:
            raise PlasticodeError(f"hebbian-phase-diagram needs at least 4 increasing gammas, 2 of them below {SMALL}")

    def _simulated(self) -> np.ndarray:
        """A by (gammas, noises, seeds)."""
        circuit, s = student(self.inputs, 1), self.variance
        burn, count = round(RELAXATIONS / self.step), round(self.averaged / self.step)
        critical = self.teacher_norm / (2 * self.inputs**0.5)
        duration = self.step / s  # T, with tau_plast = 1 s

        def present(v: Array, eps: Array, x: Array, y: Array, gamma: Array) -> tuple[Array, Array]:
            """One step of one cell, and its mean of <g, H> = (m . h) |z|^2."""
            locals_, factors = batch_factors(circuit, {"W1": v + eps}, {}, x, y)
            f = factors["W1"]
            overlap = (f.post * locals_["z1"].preactivation).sum(-1) * jnp.square(f.pre).sum(-1)
            times = Timescales(f64(1.0), f64(1.0), 1 / gamma)
            return v + duration * weight_drifts(circuit, times, {"W1": v}, Factors(factors, {}))["W1"], overlap.mean()

        by_noise = jax.vmap(present, (0, 0, None, None, None))
        by_cell = jax.vmap(by_noise, (0, 0, None, None, 0))

        def one(key: PRNGKeyArray, gammas: Array, sigmas: Array) -> Array:
            for_teacher, for_steps = jax.random.split(key)
            drawn = jax.random.normal(for_teacher, (1, self.inputs), jnp.float64)
            teacher = self.teacher_norm * drawn / jnp.linalg.norm(drawn)
            shape = (gammas.size, sigmas.size, 1, self.inputs)

            def step(carry: tuple[Array, Array], k: Array) -> tuple:
                v, total = carry
                draws = jax.random.normal(
                    jax.random.fold_in(for_steps, k), (self.batch + gammas.size * sigmas.size, self.inputs), jnp.float64
                )
                x, eps = s**0.5 * draws[: self.batch], draws[self.batch :].reshape(shape)
                v, overlap = by_cell(v, sigmas[None, :, None, None] * eps, x, x @ teacher.T, gammas)
                return (v, total + jnp.where(k >= burn, overlap, 0)), None

            start = jnp.zeros(shape, jnp.float64), jnp.zeros(shape[:2], jnp.float64)
            return jax.lax.scan(step, start, jnp.arange(burn + count, dtype=jnp.int32))[0][1] / count

        run = jax.jit(jax.vmap(one, (0, None, None), -1))
        keys = keys_from(self.seed, self.seeds)
        return np.asarray(run(keys, f64(np.array(self.gammas) * s), f64(np.array(self.noises) * critical)))

    def _zeros(self, cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Where A vanishes, as (sigma / sigma_c)^2 by decay: the root of a weighted line through A(sigma^2)."""
        x = np.array(self.noises) ** 2
        lines = [np.polyfit(x, row.mean(-1), 1, w=w) for row, w in zip(cells, weights, strict=True)]
        return np.array([-at_zero / slope for slope, at_zero in lines])

    def _exponent(self, zeros: np.ndarray) -> float:
        """The slope of log [gamma / (1 + gamma/s)^2] against log sigma at the zeros of the small decays."""
        g = np.array(self.gammas)
        small = g < SMALL
        return float(np.polyfit(np.log(zeros[small]) / 2, np.log(g / (1 + g) ** 2)[small], 1)[0])

    def _signs(self, cells: np.ndarray) -> Verdict:
        means, half = intervals(cells, JUDGED)
        sure = np.abs(self.expected()) > half
        right = np.mean((np.sign(means) == np.sign(self.expected()))[sure])
        note = f"judged in {sure.sum()} of {sure.size} cells"
        return close("signs", "share of cells with the predicted sign of A", 1.0, float(right), 0.05, note)

    def _sizes(self, cells: np.ndarray) -> Verdict:
        off = np.abs(self.finite_step() - self.expected()).max()
        note = f"the finite step changes A by at most {off:.2g} of its maximum"
        quantity = "share of cells whose interval has the predicted A"
        return close("sizes", quantity, 1.0, share_inside(self.finite_step(), cells), 0.05, note)

    def _slope(self, cells: np.ndarray, weights: np.ndarray) -> Verdict:
        samples = jackknifed(lambda kept: self._exponent(self._zeros(cells[..., kept], weights)), self.seeds)
        shift = self._exponent(self._zeros(self.finite_step()[..., None], weights)) - 2
        note = f"the finite step shifts it by {shift:.2g}, which is allowed"
        quantity = "slope of log [gamma / (1 + gamma/s)^2] against log sigma on the border"
        return matches("border is a parabola", quantity, 2.0, samples, abs(shift), note)

    def _summit(self, cells: np.ndarray) -> Verdict:
        """Where A is largest: the centre of a sech^2, its shape over log gamma, fitted at the weakest noise."""
        u = np.log(self.gammas)

        def shape(u: np.ndarray, height: float, centre: float, base: float) -> np.ndarray:
            return height / np.cosh((u - centre) / 2) ** 2 + base

        fits = [curve_fit(shape, u, row, p0=(1.0, 0.0, 0.0))[0] for row in cells[:, 0].T]
        shift = curve_fit(shape, u, self.finite_step()[:, 0], p0=(1.0, 0.0, 0.0))[0][1]
        note = f"at the weakest noise; the finite step shifts it by {shift:.2g}, which is allowed"
        quantity = "log of gamma/s where A is largest"
        return matches("re-entrance", quantity, 0.0, [fit[1] for fit in fits], abs(shift), note, scale=1.0)

    @drawn(7.0, 2.8)
    def _drawn(self, figure: Figure, cells: np.ndarray, zeros: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        means = cells.mean(-1)
        g, noise = np.array(self.gammas), np.array(self.noises)
        fine = np.geomspace(g[0] / 1.5, g[-1] * 1.5, 300)
        cells_of = {"cmap": "PuOr", "vmin": -1, "vmax": 1, "alpha": 0.85}
        shown = left.pcolormesh(np.exp(edges(np.log(noise))), np.exp(edges(np.log(g))), means, **cells_of)
        figure.colorbar(shown, ax=left, label="A / largest A", extend="min")
        left.plot(2 * np.sqrt(fine) / (1 + fine), fine, color="black", label="theory: A = 0")
        found, half = intervals(zeros)
        at = np.sqrt(np.where(found > 0, found, np.nan))
        open_dots = {"color": OKABE_ITO[1], "marker": "o", "markeredgecolor": "white", "markersize": 5}
        left.errorbar(at, g, xerr=half / (2 * at), linestyle="", label="simulation", **open_dots)
        left.set(xscale="log", yscale="log", xlabel="noise sigma / sigma$_c$", ylabel="decay gamma / s")
        left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, columnspacing=1)
        lines = self.finite_step(fine)
        for i, row in enumerate(sorted({0, int(np.searchsorted(noise, 1)) - 1, len(noise) - 1})):
            against(right, i, (fine, lines[:, row]), (g, cells[:, row]), f"{noise[row]:g} sigma$_c$")
        right.axhline(0, color="0.7", linewidth=0.6)
        right.set(xscale="log", xlabel="decay gamma / s", ylabel="A / largest A (lines: theory)")
        right.set_ylim(top=right.get_ylim()[1] + 0.4)
        right.legend(loc="upper center", ncols=3, columnspacing=0.8, handletextpad=0.1)
