"""T2.7, T2.8: how fast the loss falls or grows near a solution, and what correlations of the inputs change of it."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.flow import FlowState
from experiments.predictions.contract import AbstractPrediction, Finding, Fractions, Positive, Seeds
from experiments.predictions.curl.learning import VARIANCE, Ratios, Units, curl_flow, divided, isotropic, teachers
from experiments.predictions.curl.matrices import (
    Inputs,
    error_matrix,
    hidden_units,
    most_inputs,
    solution_flow,
    teacher,
)
from experiments.predictions.drawing import drawn, marked, plotted
from experiments.predictions.kit import all_close, f64, records, weights_after
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import close
from rules.curl import Curl

SPAN = 12.0  # ln of the largest change of the loss: an error that grows is still small
RECORDS, STEPS = 24, 5  # records, and steps of tsit5 between two of them
START = 1e-7  # length of the error row
NUDGE = 1e-8  # the size of the error that a run starts with
Flips = Annotated[int, Field(strict=True, ge=-60, le=60)]
NUDGED_STEPS = 20  # of a run, each as long as the time of the fastest mode


class Runs(NamedTuple):
    """For one c, one row for each pair of fractions and teacher: pair, times (s), eigenvalues of A, and the losses.

    `slowest` starts along the eigenvector of the smallest eigenvalue; `mixed` in a random direction, whose squared
    parts along the eigenvectors are `parts`.
    """

    pair: np.ndarray
    times: np.ndarray
    eigenvalues: np.ndarray
    parts: np.ndarray
    slowest: np.ndarray
    mixed: np.ndarray

    @property
    def rates(self) -> np.ndarray:
        """d ln C / dt along each eigenvector, in 1/s."""
        return -2 * VARIANCE * self.eigenvalues

    @property
    def course(self) -> np.ndarray:
        """The loss of the mixed start: closed form."""
        return VARIANCE / 2 * np.einsum("rk,rtk->rt", self.parts, np.exp(self.times[..., None] * self.rates[:, None]))

    @property
    def slopes(self) -> np.ndarray:
        """d ln C / dt as measured along the slowest eigenvector, in 1/s."""
        return np.log(self.slowest[:, -1] / self.slowest[:, 0]) / self.times[:, -1]


class RelaxationRate(AbstractPrediction):
    """The slope of the logarithm of the loss near a solution against the smallest eigenvalue of A."""

    number = "T2.7"
    title = "The loss falls at the rate of the smallest eigenvalue"
    source = "ninou2025curl, linearisation at the solution manifold; the rate derived"
    equation = """C(t) = (sigma^2 / 2) sum_k (u_k . v(0))^2 exp(-2 sigma^2 lambda_k t / tau_plast), with the eigenvalues
        lambda_k and eigenvectors u_k of A = |W2|^2 D1 + W1^T D2 W1"""
    claim = """A linear student near its teacher loses its error v = W2 W1 - w_t at rates set by A; at the end by its
        smallest eigenvalue: 2 sigma^2 lambda_min / tau_plast. Where that is negative, the loss grows at that rate."""
    method = """The weight flow by tsit5 on isotropic inputs of variance 1/2, from a teacher whose W1 is changed so that
        v is 1e-7 long. Eigenvalues are those of each teacher's own A, computed with numpy. Along the slowest
        eigenvector: the slope of ln C, over the time in which the loss changes at most e^12-fold in any direction. In a
        random direction: the whole course."""
    tolerance = """1e-4 of the largest rate: nothing is random given the teacher, v changes A by 1e-7, and grows at most
        e^6-fold. For the course 1e-4 in ln C."""
    quick = {"seeds": 3, "units": 40, "ratios": (0.3, 1.0)}

    ratios: Ratios = (0.3, 0.5, 1.0)
    hidden_flips: Fractions = (0.0, 0.1, 0.0, 0.2)
    readout_flips: Fractions = (0.0, 0.0, 0.1, 0.2)
    units: Units = 60
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if len(self.hidden_flips) != len(self.readout_flips):
            return "hidden_flips and readout_flips must have the same length"

    def measure(self) -> Finding:
        groups = {c: self._runs(c) for c in self.ratios}
        verdicts = []
        for c, runs in groups.items():
            largest = np.abs(runs.rates).max(1)
            off = np.abs(runs.slopes - runs.rates[:, 0]) / largest
            quantity = "largest error of the slope of ln C, over the largest rate"
            verdicts.append(all_close(f"slowest rate at c = {c:g}", quantity, 0.0, off, 1e-4))
            off = np.abs(np.log(runs.mixed / runs.course))
            verdicts.append(all_close(f"course at c = {c:g}", "largest error of ln C", 0.0, off, 1e-4))
        slopes = np.concatenate([runs.slopes for runs in groups.values()])
        note = f"{int((slopes < 0).sum())} of {slopes.size} solutions are stable; at the others the loss grows."
        return Finding(verdicts, self._drawn(groups), [note])

    def _runs(self, c: float) -> Runs:
        inputs, hidden = divided(self.units, c)
        given, rows = teachers(self.seed, self.seeds, inputs, hidden), []
        for pair, (alpha_h, alpha_r) in enumerate(zip(self.hidden_flips, self.readout_flips, strict=True)):
            numbers = round(alpha_h * inputs), round(alpha_r * hidden)
            for i in range(self.seeds):
                w1, w2 = given.hidden[i], given.readout[i]
                values, vectors = np.linalg.eigh(error_matrix(w1, w2[0], *numbers))
                mixed = np.random.default_rng([self.seed, pair, i]).normal(size=inputs)
                errors = START * np.stack([vectors[:, 0], mixed / np.linalg.norm(mixed)])
                flips = numbers[0] / inputs, numbers[1] / hidden
                rows.append((pair, values, (vectors.T @ errors[1]) ** 2, w1, w2, flips, errors))
        pair, values, parts, w1, w2, flips, errors = (np.stack(column) for column in zip(*rows, strict=True))
        steps = SPAN / (2 * VARIANCE * np.abs(values).max(1)) / (RECORDS * STEPS)
        losses = np.asarray(_losses(*map(f64, (w1, w2, flips, errors, steps))))
        times = steps[:, None] * STEPS * np.arange(RECORDS + 1)
        return Runs(pair, times, values, parts, losses[:, 0], losses[:, 1])

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, groups: dict[float, Runs]) -> None:
        slope, course = figure.subplots(1, 2)
        smallest = [runs.eigenvalues[:, 0] for runs in groups.values()]
        ends = np.array([min(map(np.min, smallest)), max(map(np.max, smallest))])
        slope.plot(ends, -2 * VARIANCE * ends, color="0.3", label=r"theory: $-2\sigma^2\lambda_{min}$")
        slope.axvline(0, color="0.7", lw=0.6, zorder=0)
        for (c, runs), color, marker in zip(groups.items(), OKABE_ITO, MARKERS, strict=False):
            slope.plot(runs.eigenvalues[:, 0], runs.slopes, marker, color=color, mfc="none", label=f"c = {c:g}")
        slope.set(xlabel=r"smallest eigenvalue $\lambda_{min}$ of A", ylabel="slope of ln C (1/s)")
        slope.legend()
        runs = next(iter(groups.values()))
        for pair, color, marker in zip(range(len(self.hidden_flips)), OKABE_ITO, MARKERS, strict=False):
            row = int(np.flatnonzero(runs.pair == pair)[0])
            label = rf"$\alpha_h$ = {self.hidden_flips[pair]:g}, $\alpha_r$ = {self.readout_flips[pair]:g}"
            course.semilogy(runs.times[row], runs.course[row], color=color, lw=0.8)
            course.semilogy(runs.times[row], runs.mixed[row], marker, color=color, mfc="none", label=label)
        course.set(xlabel=r"time (s, $\tau_{plast}$ = 1 s)", ylabel="loss C", title=f"c = {next(iter(groups)):g}")
        course.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="lines: theory")


@jax.jit
@jax.vmap
def _losses(
    w1: Float[Array, "hidden inputs"],
    w2: Float[Array, "1 hidden"],
    flips: Float[Array, "2"],
    errors: Float[Array, "starts inputs"],
    step: Float[Array, ""],
) -> Float[Array, "starts records"]:
    """The loss at every record of a student that starts at each of `errors` from its teacher."""
    x = f64(isotropic(w1.shape[1]))
    goal = w2 @ w1
    flow = curl_flow(Curl(flips=flips), (w1.shape[1], w1.shape[0], 1), x, x @ goal.T, step)

    def loss(state: FlowState) -> Float[Array, ""]:
        return VARIANCE / 2 * jnp.sum((state.weights["W2"] @ state.weights["W1"] - goal) ** 2)

    def run(error: Float[Array, " inputs"]) -> Float[Array, " records"]:
        state = flow.init({"W1": w1 + w2.T * error[None], "W2": w2})  # |W2| = 1: W2 W1 is `error` off
        return records(flow, state, RECORDS, STEPS, loss, start=True)

    return jax.vmap(run)(errors)


class Nudged(NamedTuple):
    """Where every simulated student starts and its step, stacked; the rate expected, and whether that is a decay."""

    w1: np.ndarray  # (hidden, inputs) of each
    w2: np.ndarray  # (hidden,)
    flips: np.ndarray
    covariance: np.ndarray  # (inputs, inputs)
    direction: np.ndarray  # (inputs,)
    step: np.ndarray
    rate: np.ndarray
    stable: np.ndarray


class Covariance(AbstractPrediction):
    """Growth rates off the solution with white and with correlated inputs, against the fraction of flipped inputs."""

    number = "T2.8"
    title = "The stability boundary does not depend on the covariance of the inputs"
    source = "ninou2025curl, for white inputs; derived for any others by Sylvester's law of inertia"
    equation = """v' = -A Sigma v / tau_plast, and A Sigma is similar to Sigma^(1/2) A Sigma^(1/2), which has as many
        negative eigenvalues as A"""
    claim = """Whatever the covariance Sigma of the inputs (if none is redundant), the solution loses its stability with
        the very flip with which it does for white inputs; only the rates depend on Sigma."""
    method = """Unstable directions are counted in sampled matrices. Then weight flows of the engine are started beside
        the solution, along the direction that grows fastest or decays most slowly, with random Sigma whose variances
        are spread evenly on a logarithmic scale around 1; their rates are measured over 20 times the time of the
        fastest mode, with a few flips less or more than the last for which A is positive definite."""
    tolerance = """Counts and signs: none. Rates: 1e-5 / tau_plast, for the square of an error that grows from 1e-8 to
        less than 1e-6, and for the steps of the fifth-order method."""
    quick = {"seeds": 4, "beyond": (-2, 0, 1, 3)}

    inputs: Annotated[int, Field(strict=True, ge=5, le=60)] = 24
    ratio: Positive = 0.4  # c = inputs per hidden unit
    beyond: Annotated[tuple[Flips, ...], Field(min_length=1)] = (-4, -2, -1, 0, 1, 2, 4)  # the last stable flip
    fractions: Fractions = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)  # of flipped inputs of the sampled matrices
    spread: Annotated[float, Field(strict=True, ge=1, le=1000)] = 30.0  # the largest variance over the smallest
    matrix_inputs: Inputs = 100
    seeds: Seeds = 10

    def measure(self) -> Finding:
        different, counted = self._counts()
        runs = self._runs()
        measured = np.asarray(_rates(runs))
        wrong = int((np.sign(measured) != np.where(runs.stable, -1, 1)).sum())
        largest = "largest difference from -lambda_min(A Sigma) (1/s)"
        signs = f"rates of the wrong sign, of {measured.size} with white and correlated inputs"
        verdicts = [
            close("as many unstable directions", f"differences in {counted} sampled pairs", 0.0, float(different), 0.0),
            all_close("rates of the simulated flow", largest, 0.0, np.abs(measured - runs.rate), 1e-5),
            close("decay before the critical flip and growth with it", signs, 0.0, float(wrong), 0.0),
        ]
        grid = self.seeds, 2, len(self.beyond)
        return Finding(verdicts, self._drawn(measured.reshape(grid), runs.rate.reshape(grid)))

    def _covariance(self, rng: np.random.Generator, inputs: int) -> np.ndarray:
        rotation = np.linalg.qr(rng.normal(size=(inputs, inputs)))[0]
        variances = np.geomspace(self.spread**-0.5, self.spread**0.5, inputs)
        return (rotation * variances) @ rotation.T

    def _counts(self) -> tuple[int, int]:
        """How many sampled A and A Sigma differ in their numbers of negative eigenvalues, and how many were tried."""
        different, size = 0, self.matrix_inputs
        for seed in range(self.seeds):
            rng = np.random.default_rng([self.seed, seed])
            w1, w2 = teacher(rng, size, hidden_units(size, self.ratio))
            covariance = self._covariance(rng, size)
            for fraction in self.fractions:
                matrix = error_matrix(w1, w2, round(fraction * size), 0)
                white, correlated = np.linalg.eigvalsh(matrix), np.real(np.linalg.eigvals(matrix @ covariance))
                different += int((white < 0).sum() != (correlated < 0).sum())
        return different, self.seeds * len(self.fractions)

    def _runs(self) -> Nudged:
        """For each teacher, white and then correlated inputs; for each, `beyond` more flips than the last stable."""
        hidden, rows = hidden_units(self.inputs, self.ratio), []
        for seed in range(self.seeds):
            rng = np.random.default_rng([self.seed, seed, self.inputs])
            w1, w2 = teacher(rng, self.inputs, hidden)
            most = most_inputs(w1.T @ w1)
            for covariance in (np.eye(self.inputs), self._covariance(rng, self.inputs)):
                for n in (min(max(most + more, 0), self.inputs) for more in self.beyond):
                    rates, direction = _modes(error_matrix(w1, w2, n, 0), covariance)
                    step = 1 / np.abs(rates).max()
                    rows.append((w1, w2, float(n), covariance, direction, step, rates[0], n <= most))
        return Nudged(*(np.stack(column) for column in zip(*rows, strict=True)))

    @plotted(3.4, 2.5)
    def _drawn(self, panel: Axes, measured: np.ndarray, expected: np.ndarray) -> None:
        panel.axhline(0, color="0.8", linewidth=0.6)
        order = np.argsort(self.beyond, kind="stable")
        beyond = np.array(self.beyond)[order]
        for i, name in enumerate(("white inputs", "correlated inputs")):
            colour = OKABE_ITO[i]
            panel.plot(beyond, expected[:, i, order].mean(0), color=colour, linestyle=("-", "--")[i])
            marked(panel, beyond, measured[:, i, order].T, marker=MARKERS[i], color=colour, label=name)
        panel.axvline(0.5, color="0.8", linewidth=0.6)
        panel.plot([], [], color="0.2", label=r"$-\lambda_{\min}(A\Sigma)/\tau_{\mathrm{plast}}$")
        panel.set(xlabel="inputs flipped beyond the last stable number", ylabel="growth rate of the error (1/s)")
        panel.legend(loc="lower right")


def _modes(matrix: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rates of v' = -A Sigma v, the largest first, and its direction of length 1."""
    variances, axes = np.linalg.eigh(covariance)
    root, inverse = (axes * variances**0.5) @ axes.T, (axes * variances**-0.5) @ axes.T
    values, vectors = np.linalg.eigh(root @ matrix @ root)
    direction = inverse @ vectors[:, 0]
    return -values, direction / np.linalg.norm(direction)


@jax.jit
@jax.vmap
def _rates(run: Nudged) -> Float[Array, ""]:
    """The growth rate (1/s) of a small error along `direction`, made by the least change of weights that makes it."""
    w1, w2 = run.w1, run.w2
    flow, weights = solution_flow(w1, w2, run.flips, jnp.zeros(()), run.covariance, dt=run.step)
    line = w2 @ w1
    lift = NUDGE * jnp.linalg.solve(w1.T @ w1 + (w2 @ w2) * jnp.eye(line.shape[0]), run.direction)
    start = {"W1": weights["W1"] + jnp.outer(w2, lift), "W2": weights["W2"] + (w1 @ lift)[None]}
    end = weights_after(flow, start, NUDGED_STEPS)
    before, after = (jnp.linalg.norm((w["W2"] @ w["W1"])[0] - line) for w in (start, end))
    return jnp.log(after / before) / (NUDGED_STEPS * run.step)
