"""T2.10: the largest Lyapunov exponent and the remaining error with flips in either layer."""

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

from dynamics.jacobian import flat_flow
from dynamics.lyapunov import flow_map, lyapunov_exponents
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Fractions, Positive, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.matrices import clamped_error_matrix, hidden_units, solution_flow, teacher
from experiments.predictions.drawing import drawn, legend_outside, marked
from experiments.predictions.kit import all_close
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds

NUDGE = 1e-6  # of every weight, off the solution
FLOOR = 1e-16  # of errors, before their logarithm
SETTLED = 30  # e-folds of the slowest mode in a run that is judged: an unstable one takes 14 to leave the solution


class Found(NamedTuple):
    """Of every teacher (first axis) and fraction: expected rate of slowest mode, exponent, error over |w_t|."""

    rate: np.ndarray
    exponent: np.ndarray
    error: np.ndarray


class Lyapunov(AbstractPrediction):
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
