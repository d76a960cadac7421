"""T2.7: how fast the loss falls, or grows, near a solution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from dynamics.flow import FlowState
from experiments.predictions.contract import AbstractPrediction, Finding, Fractions, Seeds
from experiments.predictions.curl.learning import VARIANCE, Ratios, Units, curl_flow, divided, isotropic, teachers
from experiments.predictions.curl.matrices import error_matrix
from experiments.predictions.kit import all_close, drawn, f64
from experiments.report.figures import MARKERS, OKABE_ITO
from rules.curl import Curl

SPAN = 12.0  # ln of the largest change of the loss: an error that grows is still small
RECORDS, STEPS = 24, 5  # records, and steps of tsit5 between two of them
START = 1e-7  # length of the error row


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

    def block(state: FlowState, _: None) -> tuple[FlowState, Float[Array, ""]]:
        state = flow.advance(state, jnp.int32(0), STEPS)
        return state, loss(state)

    def run(error: Float[Array, " inputs"]) -> Float[Array, " records"]:
        state = flow.init({"W1": w1 + w2.T * error[None], "W2": w2})  # |W2| = 1: W2 W1 is `error` off
        return jnp.concatenate([loss(state)[None], jax.lax.scan(block, state, None, length=RECORDS)[1]])

    return jax.vmap(run)(errors)
