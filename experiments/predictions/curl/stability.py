"""T2.1, T2.10: what governs a linear student near its solution, and far from it: eigenvalues and Lyapunov exponents."""

import functools
import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.jacobian import eigenvalues, flat_flow, jacobian
from dynamics.lyapunov import flow_map, lyapunov_exponents
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Fractions, Positive, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.matrices import (
    Inputs,
    clamped_error_matrix,
    error_matrix,
    hidden_units,
    solution_flow,
    teacher,
    teachers,
)
from experiments.predictions.drawing import drawn, legend_outside, marked
from experiments.predictions.kit import all_close
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, matches

SMALL = (10, 20)  # inputs and hidden units of the network whose whole Jacobian is taken
BINS = 40
POINTS = 800  # at which the density is evaluated
NUDGE = 1e-6  # of every weight, off the solution
FLOOR = 1e-16  # of errors, before their logarithm
SETTLED = 30  # e-folds of the slowest mode in a run that is judged: an unstable one takes 14 to leave the solution


class Spectrum(AbstractPrediction):
    """The eigenvalues of A with flips among the inputs, among the hidden units, and among both."""

    number = "T2.1"
    title = "The spectrum at the solution is a free convolution"
    source = "ninou2025curl, fig. 2; density and edges of mixed flips derived by free convolution"
    equation = """v' = -A Sigma v / tau_plast, A = |W2|^2 D1 + W1^T D2 W1; G(x) = G_D1(x - R(G)), R(G) = [(1 - alpha_r)
        / (1 - G) - alpha_r / (1 + G)] / c, density -Im G / pi; lambda_min = max_s z(s), and so on from above"""
    claim = """At a solution the weight flow has the eigenvalues of -A Sigma / tau_plast and zeros along the solutions.
        In a large network with random weights those of A have a closed-form density between two closed-form edges."""
    method = """The whole Jacobian of the engine's weight flow of a small student with correlated inputs; then
        eigenvalues of A at random teachers, with Gaussian W1 of variance 1 / inputs and |W2| = 1."""
    tolerance = """Jacobian: rounding. Edges: the 99.9 % interval of the mean over teachers, and gamma / M, the order
        after the shift 1.2065 gamma M^(-2/3) of the law of Tracy and Widom, which is expected. Density: eigenvalues
        repel, so that their number below any point has a bias of order 1 and varies by less than log(M); the cumulative
        distributions may differ by (1 + log(M) / sqrt(seeds)) / M."""
    quick = {"inputs": 200, "seeds": 20}

    inputs: Inputs = 600
    ratio: Positive = 0.4  # c = inputs per hidden unit
    alpha_h: Fraction = 0.3
    alpha_r: Fraction = 0.2
    seeds: Seeds = 10

    def measure(self) -> Finding:
        hidden = hidden_units(self.inputs, self.ratio)
        verdicts, panels = self._jacobian(), []
        both = round(self.alpha_h * self.inputs), round(self.alpha_r * hidden)
        for name, flips in (("inputs", (both[0], 0)), ("hidden units", (0, both[1])), ("both", both)):
            drawn = teachers(self.seed, self.seeds, self.inputs, hidden)
            values = np.array([np.linalg.eigvalsh(error_matrix(w1, w2, *flips)) for w1, w2 in drawn])  # (seeds, inputs)
            shape = self.inputs / hidden, flips[0] / self.inputs, flips[1] / hidden
            density = _density(*shape)
            verdicts += self._compared(f"flipped {name}", values, shape, density)
            panels.append((name, values, density))
        return Finding(verdicts, self._drawn(panels))

    def _jacobian(self) -> list[Verdict]:
        """The non-zero eigenvalues of J = -B E are those of -E B = -A Sigma, E being the derivative of the error."""
        inputs, hidden = SMALL
        rng = np.random.default_rng(self.seed)
        w1, w2 = teacher(rng, inputs, hidden)
        flips = round(self.alpha_h * inputs), round(self.alpha_r * hidden)
        root = rng.normal(size=(inputs, inputs)) / inputs**0.5
        covariance = root @ root.T + 0.2 * np.eye(inputs)
        flow, weights = solution_flow(w1, w2, *flips, covariance)
        field, point = flat_flow(flow, flow.init(weights))
        values = eigenvalues(jacobian(field, point))
        expected = np.linalg.eigvals(-error_matrix(w1, w2, *flips) @ covariance)
        order = np.argsort(-np.abs(values), kind="stable")
        moving, still = np.sort(np.real(values[order[:inputs]])), np.abs(values[order[inputs:]])
        quantity = f"largest difference ({inputs} inputs, {hidden} units, {len(values)} weights)"
        off = np.abs(moving - np.sort(np.real(expected)))
        return [
            all_close("the Jacobian has the eigenvalues of -A Sigma", quantity, 0.0, off, 1e-8),
            all_close("all others are zero", "largest modulus of the others", 0.0, still, 1e-8),
        ]

    def _compared(
        self, name: str, values: np.ndarray, shape: tuple[float, float, float], density: tuple[np.ndarray, np.ndarray]
    ) -> list[Verdict]:
        (c, alpha_h, alpha_r), size = shape, self.inputs
        opposite = c, 1 - alpha_h, 1 - alpha_r  # of -A
        lower, upper = theory.expected_smallest(size, *shape), -theory.expected_smallest(size, *opposite)
        at, rho = density
        below = np.concatenate([[0.0], np.cumsum((rho[1:] + rho[:-1]) / 2 * np.diff(at))])
        below = below + sum(weight * (at >= where) for where, weight in theory.atoms(c, alpha_h).items())
        counted = np.searchsorted(np.sort(values.ravel()), at, side="right") / values.size
        allowed = (1 + np.log(size) / self.seeds**0.5) / size
        verdicts = []
        for side, which, sign, expected, found, parameters in (
            ("lower", "smallest", 1, lower, values[:, 0], shape),
            ("upper", "largest", -1, upper, values[:, -1], opposite),
        ):
            claim, quantity = f"{name}: {side} edge", f"{which} eigenvalue of A"
            allowance = theory.edge_scale(*parameters) / size + 1e-9
            note = f"infinitely large: {sign * theory.lambda_min(*parameters):.4f}"
            verdicts.append(matches(claim, quantity, expected, found, allowance, note, scale=upper - lower))
        quantity, off = "largest difference of cumulative distributions", np.abs(counted - below)
        return [*verdicts, all_close(f"{name}: density", quantity, 0.0, off, allowed)]

    @drawn(7.0, 2.3)
    def _drawn(self, figure: Figure, cases: list[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]]) -> None:
        top = 1.35 * max(rho.max() for *_, (_, rho) in cases)
        panels = figure.subplots(1, 3, sharey=True)
        for panel, (name, values, (at, rho)) in zip(panels, cases, strict=True):
            _histogram(panel, values)
            panel.plot(at, rho, color="0.2", label="closed form")
            panel.plot(at[[0, -1]], [0, 0], "|", color="0.2", markersize=9, markeredgewidth=1.5, label="edges")
            panel.set(title=f"flipped {name}", xlabel="eigenvalue of A", ylim=(-0.02 * top, top))
        panels[0].set_ylabel("density")
        panels[2].legend(loc="upper right")


def _density(c: float, alpha_h: float, alpha_r: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues from edge to edge, dense at the edges where the density has roots, and the density there."""
    low, high = theory.lambda_min(c, alpha_h, alpha_r), theory.lambda_max(c, alpha_h, alpha_r)
    at = low + (high - low) * np.sin(np.linspace(0, np.pi / 2, POINTS)) ** 2
    for atom in theory.atoms(c, alpha_h):
        at = at[np.abs(at - atom) > 1e-6 * (high - low)]
    return at, theory.density(at, c, alpha_h, alpha_r)


def _histogram(panel: Axes, values: np.ndarray) -> None:
    """Means over teachers with their 95 % intervals."""
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    counts = np.array([np.histogram(row, edges)[0] for row in values]) / (values.shape[1] * (edges[1] - edges[0]))
    error = 1.96 * counts.std(0, ddof=1) / len(values) ** 0.5
    middle = (edges[1:] + edges[:-1]) / 2
    panel.errorbar(middle, counts.mean(0), error, fmt="o", markersize=2.5, color=OKABE_ITO[0], label="sampled")


class Found(NamedTuple):
    """Of every teacher (first axis) and fraction: expected rate of slowest mode, exponent, error over |w_t|."""

    rate: np.ndarray
    exponent: np.ndarray
    error: np.ndarray


class Lyapunov(AbstractPrediction):
    """The largest Lyapunov exponent and the remaining error with flips in either layer."""

    number = "T2.10"
    title = "Flipped inputs make learning chaotic, flipped hidden units do not"
    source = "ninou2025curl, fig. 3b, which measures fluctuations; the exponents are of this protocol"
    equation = """stable solution: exponent 0, that of motion along the solutions; chaos: above 2 ln 2 / t, which a
        separation that grows as t^2 has between t and 2 t"""
    claim = """While the solution is stable, perturbed weights return to zero error with exponent 0. Flipped hidden
        units beyond their boundary only make them find another solution. With flipped inputs well beyond theirs, the
        error stays and, with about as many hidden units as inputs, neighbouring weights separate exponentially (in
        expansive networks, c = 0.4, learning fails too, but the exponent was found to be 0)."""
    method = """The engine's clamped weight flow (tau_plast = 1 s, white inputs) from 1e-6 beside a random teacher: the
        error after a time t, and the largest exponent by Benettin's method between t and 2 t, its tangent vector being
        carried along from the start. The eigenvalues of the clamped A decide whether a solution is stable, and runs
        whose slowest mode, stable or not, is slower than 30 / t are not judged."""
    tolerance = """Exponent 0: 1e-4 / s, since what decays has decayed by exp(-30) at least, and what grows has had half
        of the time to settle again. Learned: error below 1e-6. Chaos: the 99.9 % interval over teachers lies above 2 ln
        2 / t."""
    quick = {"flipped_inputs": (0.0, 0.5, 1.0), "flipped_units": (0.4,), "seeds": 8}

    inputs: Annotated[int, Field(strict=True, ge=4, le=40)] = 10
    ratio: Annotated[float, Field(strict=True, ge=0.2, le=4)] = 1.0  # c = inputs per hidden unit
    flipped_inputs: Fractions = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    flipped_units: Fractions = (0.0, 0.2, 0.5)
    deep: Fraction = 0.5  # flipped inputs from which on chaos is claimed, if the solution is unstable
    span: Positive = 300.0  # t (s)
    seeds: Seeds = 10

    def measure(self) -> Finding:
        flipped, units = self._found()
        verdicts = self._settled(flipped, units)
        deep = [column for column, alpha in enumerate(self.flipped_inputs) if alpha >= self.deep]
        unstable = flipped.rate[:, deep] > self._margin
        if unstable.any():
            verdicts += self._chaotic(flipped.exponent[:, deep], flipped.error[:, deep], unstable)
        return Finding(verdicts, self._drawn(flipped, units), self._notes(flipped))

    def _settled(self, flipped: Found, units: Found) -> list[Verdict]:
        """Exponents and errors of stable solutions, and of any fraction of flipped hidden units."""
        verdicts = []
        stable = flipped.rate < -self._margin, units.rate < -self._margin
        beyond = np.zeros_like(stable[0]), units.rate > self._margin
        for name, chosen in (("stable solution", stable), ("flipped units beyond the boundary", beyond)):
            pairs = list(zip((flipped, units), chosen, strict=True))
            exponents = np.concatenate([one.exponent[where] for one, where in pairs])
            errors = np.concatenate([one.error[where] for one, where in pairs])
            if exponents.size == 0:
                continue
            size = f"of {exponents.size} runs"
            farthest, largest = f"exponent farthest from 0 {size} (1/s)", f"largest error {size} over |w_t|"
            verdicts.append(all_close(f"{name}: no chaos", farthest, 0.0, exponents, 1e-4))
            verdicts.append(all_close(f"{name}: learned", largest, 0.0, errors, 1e-6))
        return verdicts

    def _chaotic(self, exponents: np.ndarray, errors: np.ndarray, unstable: np.ndarray) -> list[Verdict]:
        """Claims about flipped inputs well beyond the boundary: one sample for every teacher that is unstable there."""
        per_teacher = [
            (row[where].mean(), np.log10(np.maximum(left[where], FLOOR)).mean())
            for row, left, where in zip(exponents, errors, unstable, strict=True)
            if where.any()
        ]
        samples, logs = np.array(per_teacher).T
        name, above = f"flipped inputs from {self.deep:g} on", (exponents[unstable] > self._bound).mean()
        return [
            exceeds(f"{name}: chaos", "largest exponent (1/s)", self._bound, samples, f"{above:.0%} of runs above"),
            exceeds(f"{name}: not learned", "log10 of the error over |w_t|", -1.0, logs),
        ]

    def _notes(self, flipped: Found) -> list[str]:
        """What is found between the boundary and where chaos is claimed."""
        between = [column for column, alpha in enumerate(self.flipped_inputs) if 0 < alpha < self.deep]
        chosen = flipped.rate[:, between] > self._margin
        if not chosen.any():
            return []
        exponents, errors = flipped.exponent[:, between][chosen], flipped.error[:, between][chosen]
        return [
            f"Below alpha_h = {self.deep:g}, {(errors > 0.1).mean():.0%} of {errors.size} runs with an unstable "
            f"solution end with an error above 0.1 |w_t|, and {(exponents > self._bound).mean():.0%} have an exponent "
            "above what algebraic growth gives: learning can fail without chaos."
        ]

    @property
    def _margin(self) -> float:
        return SETTLED / self.span

    @property
    def _bound(self) -> float:
        return 2 * math.log(2) / self.span

    def _found(self) -> tuple[Found, Found]:
        """Simulates every teacher with every fraction of flipped inputs and of flipped hidden units."""
        hidden, starts, rates = hidden_units(self.inputs, self.ratio), [], []
        flips = [(round(fraction * self.inputs), 0) for fraction in self.flipped_inputs]
        flips += [(0, round(fraction * hidden)) for fraction in self.flipped_units]
        for seed in range(self.seeds):
            rng = np.random.default_rng([self.seed, seed])
            w1, w2 = teacher(rng, self.inputs, hidden)
            nudged = w1 + NUDGE * rng.normal(size=w1.shape)
            for pair in flips:
                rates.append(-np.linalg.eigvals(clamped_error_matrix(w1, w2, *pair)).real.min())
                starts.append((w1, w2, nudged, np.array(pair, float)))
        dt = 2 / (hidden + 1)  # s; no mode is faster than |W1|^2 + |W2|^2, and RK4 is stable up to 2.8 of its time
        keys = jax.random.split(jax.random.key(self.seed), len(starts))
        arrays = [jnp.asarray(np.stack(column)) for column in zip(*starts, strict=True)]
        results = _run(*arrays, keys, jnp.full(len(starts), dt), math.ceil(self.span / dt))
        tables = [np.asarray(values).reshape(self.seeds, len(flips)) for values in (rates, *results)]
        between = len(self.flipped_inputs)
        return Found(*(table[:, :between] for table in tables)), Found(*(table[:, between:] for table in tables))

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, flipped: Found, units: Found) -> None:
        left, right = figure.subplots(1, 2)
        ratio = self.inputs / hidden_units(self.inputs, self.ratio)
        limits = theory.hidden_boundary(ratio), theory.readout_boundary(ratio)
        fractions = self.flipped_inputs, self.flipped_units
        for i, (name, one) in enumerate((("inputs", flipped), ("units", units))):
            _points(left, fractions[i], one.exponent, i, f"flipped {name}")
            _points(right, fractions[i], np.log10(np.maximum(one.error, FLOOR)), i)
            for panel in (left, right):
                label = f"boundary, {name}" if panel is left else None
                panel.axvline(limits[i], color=OKABE_ITO[i], linestyle=":", linewidth=1, label=label)
        left.axhline(0, color="0.2", linewidth=0.8, label="stable: exponent 0")
        left.axhline(self._bound, color="0.5", linestyle="--", linewidth=0.8, label="separation as $t^2$")
        top = max(2 * self._bound, float(flipped.exponent.max()))
        left.set(ylabel="largest Lyapunov exponent (1/s)", ylim=(-0.15 * top, 1.1 * top))
        right.set_ylabel(r"$\log_{10}$ of the error over $|w_t|$")
        for panel in (left, right):
            panel.set(xlabel="fraction of flipped neurons", xlim=(-0.05, 1.05))
        legend_outside(left, loc="right upper")


def _points(panel: Axes, fractions: tuple[float, ...], values: np.ndarray, i: int, label: str | None = None) -> None:
    """Single runs faint, their means over teachers with 95 % intervals."""
    order = np.argsort(fractions, kind="stable")
    at, values = np.array(fractions)[order], values[:, order]
    panel.plot(np.tile(at, len(values)), values.ravel(), ".", color=OKABE_ITO[i], alpha=0.35, markersize=2)
    look = {"marker": MARKERS[i], "linestyle": "-", "color": OKABE_ITO[i], "linewidth": 0.6}
    marked(panel, at, values.T, label=label, **look)


@functools.partial(jax.jit, static_argnums=6)
def _run(
    w1: Float[Array, "runs hidden inputs"],
    w2: Float[Array, "runs hidden"],
    nudged: Float[Array, "runs hidden inputs"],
    flips: Float[Array, "runs layers"],
    key: Array,
    dt: Float[Array, " runs"],
    steps: int,
) -> tuple[Float[Array, " runs"], Float[Array, " runs"]]:
    """The largest exponent (1/s) of the clamped flow over the second `steps` steps, and the error over |w_t| before."""

    def one(w1: Array, w2: Array, nudged: Array, flips: Array, key: Array, dt: Array) -> tuple[Array, Array]:
        flow, _ = solution_flow(w1, w2, flips[0], flips[1], clamp=True)
        field, point = flat_flow(flow, flow.init({"W1": nudged, "W2": w2[None]}))
        step, line = flow_map(field, dt), w2 @ w1
        later = jax.lax.fori_loop(0, steps, lambda _, y: step(y), point)
        exponent = lyapunov_exponents(step, point, dt, steps, 1, key, transient=steps)[0]
        reached = later[w1.size :] @ later[: w1.size].reshape(w1.shape)
        return exponent, jnp.linalg.norm(reached - line) / jnp.linalg.norm(line)

    return jax.vmap(one)(w1, w2, nudged, flips, key, dt)
