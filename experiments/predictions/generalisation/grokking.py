"""B8.1: the test loss of a network that groks, exactly, by what it has learned of its task."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.generalisation.quadratic import (
    Parts,
    Problem,
    descended,
    fallen,
    output,
    parts,
    problem,
    target,
    training_loss,
)
from experiments.predictions.kit import band, drawn, intervals, look
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import exceeds, matches

TRAINED, TESTED = 0.05, 0.2  # of the loss at the start: learned, and generalised


class GrokkingLoss(AbstractPrediction):
    """The parts of the test loss of a quadratic network, against fresh samples, along its learning."""

    number = "B8.1"
    title = "The test loss of a quadratic network is what it lacks of power, of alignment, and of silence"
    source = "kumar2024grokking, the decomposition of the test loss; for the centred network derived"
    equation = """E (f - f0 - y)^2 = (|beta|^2 / D - alpha eps Tr dM / D)^2 / 4 + |alpha eps dM - beta beta^T|^2 / (2
        D^2) + alpha^2 |dw|^2 / D, dM the change of mean w w^T, dw that of mean w"""
    claim = """At any moment the test loss is the sum of three parts: power, misalignment of the features, and a
        linear part that the task does not have. The lazy network memorises with the linear part, which rises first
        and falls as features align; misalignment goes later than the training loss."""
    method = """Full-batch gradient descent (Euler steps of the weight flow of SGD, fixed readout) of f - f0; at
        several times the mean of (f - f0 - y)^2 over fresh samples against the sum; times by logarithmic
        interpolation."""
    tolerance = (
        """Exact: 99.9 % intervals over seeds, each with samples of its own; all times together, by the worst."""
    )
    quick = {"seeds": 10, "size": 12, "neurons": 24, "samples": 72, "steps": 1500, "fresh": 20_000, "looks": 4}

    size: Annotated[int, Field(strict=True, ge=3, le=100)] = 20  # D
    neurons: Annotated[int, Field(strict=True, ge=3, le=500)] = 40  # N
    samples: Annotated[int, Field(strict=True, ge=5, le=5000)] = 120  # P, between D and D^2
    alpha: Positive = 4.0
    eps: Positive = 0.1
    step: Positive = 5.0  # of the rate N / alpha^2
    steps: Annotated[int, Field(strict=True, ge=100, le=100_000)] = 4000
    fresh: Annotated[int, Field(strict=True, ge=100, le=200_000)] = 20_000
    looks: Annotated[int, Field(strict=True, ge=2, le=30)] = 10
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if not self.size < self.samples < self.size**2:
            return "samples must lie between size and its square: else nothing is learned late"
        if self.neurons < self.size:
            return "neurons must be at least size, or features cannot align"

    def measure(self) -> Finding:
        marks = np.unique(np.geomspace(1, self.steps, 60).round().astype(int))
        problems = [problem(s, self.size, self.neurons, self.samples, self.alpha, self.eps) for s in self._all]
        weights = descended(problems, [self.step] * self.seeds, marks)
        exact = [parts(given, w) for given, w in zip(problems, weights, strict=True)]
        start = np.array([parts(given, given.start[None]).loss[0] for given in problems])
        looks = np.linspace(0, len(marks) - 1, self.looks).round().astype(int)
        off = np.stack([self._fresh(*each, looks) for each in zip(self._all, problems, weights, exact, strict=True)], 1)
        means, half = intervals(off, 1 - 0.001 / self.looks)
        k = int(np.argmax(np.abs(means) / half))
        more = float(half[k] - intervals(off, 0.999)[1][k])
        note = f"the worst of {self.looks} times, by single seeds up to {np.abs(off).max():.2g}"
        verdicts = [matches("decomposition", "test loss / sum of parts - 1", 0.0, off[k], more, note, scale=0.2)]
        linear = np.stack([one.linear for one in exact]) / start[:, None]
        power, misaligned = (np.stack([each[i] for each in exact]) / start[:, None] for i in (0, 1))
        peak = linear.max(1)
        verdicts.append(
            exceeds("linear part rises", "ln of its peak over that after one step", 0.5, np.log(peak / linear[:, 0]))
        )
        verdicts.append(exceeds("linear part falls", "ln of its peak over the end", 1.0, np.log(peak / linear[:, -1])))
        late = [self._late(marks, *each) for each in zip(problems, weights, power, misaligned, strict=True)]
        quantity = "ln of the time when misalignment is a fifth, less that of the training loss"
        verdicts.append(exceeds("misalignment falls late", quantity, 0.0, np.array(late)))
        return Finding(verdicts, self._drawn(marks, problems, weights, power, misaligned, linear, start))

    @property
    def _all(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def _fresh(self, seed: int, given: Problem, w: np.ndarray, exact: Parts, looks: np.ndarray) -> np.ndarray:
        """Of every look the loss of fresh samples over the exact one, less 1."""
        rng, found = np.random.default_rng([seed, 3]), []
        for k in looks:
            x = rng.standard_normal((self.fresh, self.size)) / self.size**0.5
            off = output(given, w[k], x) - output(given, given.start, x) - target(given, x)
            found.append(np.square(off).mean() / exact.loss[k] - 1)
        return np.array(found)

    def _late(
        self, marks: np.ndarray, given: Problem, w: np.ndarray, power: np.ndarray, misaligned: np.ndarray
    ) -> float:
        trained = fallen(marks, training_loss(given, w), TESTED * np.square(target(given, given.inputs)).mean())
        return float(np.log(fallen(marks, misaligned / (2 / 3), TESTED) / trained))

    @drawn(7.0, 2.6)
    def _drawn(
        self, figure: Figure, marks: np.ndarray, problems: list[Problem], weights: np.ndarray, power: np.ndarray,
        misaligned: np.ndarray, linear: np.ndarray, start: np.ndarray,
    ) -> None:  # fmt: skip
        left, right = figure.subplots(1, 2)
        whole = power + misaligned + linear
        band(left, marks, whole.T, color="0.3", label="test: theory")
        trained = []
        for given, w in zip(problems, weights, strict=True):
            trained.append(training_loss(given, w) / np.square(target(given, given.inputs)).mean())
        band(left, marks, np.array(trained).T, color=OKABE_ITO[0], label="training")
        rng = np.random.default_rng(self.seed)
        x, given = rng.standard_normal((20_000, self.size)) / self.size**0.5, problems[0]
        y, first = target(given, x), output(given, given.start, x)
        tested = [np.square(output(given, w, x) - first - y).mean() for w in weights[0, ::6]]
        left.plot(marks[::6], whole[0, ::6], color="0.6", linewidth=0.8, label="test: theory, one seed")
        left.plot(marks[::6], np.array(tested) / start[0], linestyle="", label="fresh samples, one seed", **look(1))
        for i, (each, name) in enumerate(((power, "power"), (misaligned, "misalignment"), (linear, "linear"))):
            band(right, marks, each.T, color=OKABE_ITO[i], label=name)
        for panel in (left, right):
            panel.set(xscale="log", xlabel="steps of gradient descent", ylabel="loss (of the test loss at the start)")
            panel.legend()
