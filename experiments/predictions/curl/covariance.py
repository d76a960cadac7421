"""T2.8: correlations among the inputs change how fast a linear student leaves the solution, never whether."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, Fractions, Positive, Seeds
from experiments.predictions.curl.matrices import (
    Inputs,
    error_matrix,
    hidden_units,
    most_inputs,
    solution_flow,
    teacher,
)
from experiments.predictions.kit import all_close, marked, plotted
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import close

NUDGE = 1e-8  # the size of the error that a run starts with
Flips = Annotated[int, Field(strict=True, ge=-60, le=60)]
STEPS = 20  # of a run, each as long as the time of the fastest mode


class Runs(NamedTuple):
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

    def _runs(self) -> Runs:
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
        return Runs(*(np.stack(column) for column in zip(*rows, strict=True)))

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
def _rates(run: Runs) -> Float[Array, ""]:
    """The growth rate (1/s) of a small error along `direction`, made by the least change of weights that makes it."""
    w1, w2 = run.w1, run.w2
    flow, weights = solution_flow(w1, w2, run.flips, jnp.zeros(()), run.covariance, dt=run.step)
    line = w2 @ w1
    lift = NUDGE * jnp.linalg.solve(w1.T @ w1 + (w2 @ w2) * jnp.eye(line.shape[0]), run.direction)
    start = {"W1": weights["W1"] + jnp.outer(w2, lift), "W2": weights["W2"] + (w1 @ lift)[None]}
    end = flow.weights(flow.advance(flow.init(start), jnp.int32(0), STEPS))
    before, after = (jnp.linalg.norm((w["W2"] @ w["W1"])[0] - line) for w in (start, end))
    return jnp.log(after / before) / (STEPS * run.step)
