"""B8: a network that groks: its test loss, exactly, and how long it falls after that of training."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.drawing import band, drawn, look, marked, ticked
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
from experiments.predictions.kit import intervals
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close, exceeds, matches, stays_below

TRAINED, TESTED = 0.05, 0.2  # of the loss at the start: learned, and generalised
Alphas = Annotated[tuple[Positive, ...], Field(min_length=3, max_length=6)]


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
        quantity, (rise, fall) = "ln of its peak over that after one step", np.log(peak / linear[:, [0, -1]].T)
        verdicts.append(exceeds("linear part rises", quantity, 0.5, rise))
        verdicts.append(exceeds("linear part falls", "ln of its peak over the end", 1.0, fall))
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


class GrokkingDelay(AbstractPrediction):
    """How much later than the training loss the test loss falls, against the scale alpha of the output."""

    number = "B8.2"
    title = "The lazier the network, the longer between learning and generalising"
    source = "kumar2024grokking, grokking as the transition from lazy to rich learning"
    equation = """f = (alpha/N) sum_i phi(w_i . x), phi(h) = h + (eps/2) h^2, y = (beta . x)^2 / 2, D < P < D^2; rate
        ~ 1 / alpha^2"""
    claim = """The ratio of the time when the test loss is below a fifth to that when the training loss is below a
        twentieth grows with alpha, which makes the network lazier. The test loss rises above its start before it
        falls. A network with strongly curved neurons and a large alpha memorises and never generalises: its first
        features already fit the samples."""
    method = """Full-batch gradient descent (Euler steps of the weight flow of SGD, fixed readout) of f - f0; the test
        loss by its exact parts; times by logarithmic interpolation. The ratios depend on the two thresholds, which
        are fixed; whole curves are drawn. A run that ends before counts as if it generalised at its end."""
    tolerance = """An order: the rank correlation of alpha and the geometric mean of the ratio over seeds at least 0.9;
        all else 99.9 % intervals over seeds."""
    quick = {"alphas": (0.5, 2.0, 5.0), "seeds": 40, "steps": 1000, "size": 16, "neurons": 16, "samples": 88}

    size: Annotated[int, Field(strict=True, ge=3, le=100)] = 20  # D
    neurons: Annotated[int, Field(strict=True, ge=3, le=500)] = 40  # N
    samples: Annotated[int, Field(strict=True, ge=5, le=5000)] = 120  # P
    alphas: Alphas = (0.5, 1.0, 2.0, 4.0, 8.0)
    eps: Positive = 0.1
    curved: Positive = 2.0  # eps of the network that never generalises, at the largest alpha
    step: Positive = 5.0  # of the rate N / alpha^2; a tenth of it for the curved one
    steps: Annotated[int, Field(strict=True, ge=100, le=100_000)] = 3000
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if not self.size < self.samples < self.size**2 or self.neurons < self.size:
            return "samples must lie between size and its square, and neurons must be at least size"
        if list(self.alphas) != sorted(set(self.alphas)):
            return "alphas must rise"

    def measure(self) -> Finding:
        marks = np.unique(np.geomspace(1, self.steps, 80).round().astype(int))

        def delay(train: np.ndarray, test: np.ndarray) -> float:
            """What has not fallen when the run ends counts as if it fell then: no delay is made longer."""
            ends = [fallen(marks, test, TESTED), fallen(marks, train, TRAINED)]
            return float(np.divide(*np.nan_to_num(ends, nan=float(marks[-1]))))

        train, test = self._losses(marks)  # (alphas and the curved one, seeds, times)
        ratios = np.array([list(map(delay, *pair)) for pair in zip(train[:-1], test[:-1], strict=True)])
        means = np.exp(np.log(ratios).mean(1))
        order = np.argsort(np.argsort(means))
        rank = float(np.corrcoef(order, np.arange(len(order)))[0, 1])  # alphas rise
        wide = np.log(ratios[-1] / ratios[0])
        frozen = test[-1][:, -1] / test[-1][:, np.abs(marks - marks[-1] / 2).argmin()]
        curved = f"eps = {self.curved:g}, alpha = {self.alphas[-1]:g}"
        verdicts = [
            close("delay grows with alpha", "rank correlation of alpha and the geometric mean delay", 1.0, rank, 0.1),
            exceeds("lazy against rich", "ln of the ratio of the delays at both ends", 0.0, wide),
            exceeds("test after training", "ln of the delay, largest alpha", 0.0, np.log(ratios[-1])),
            exceeds("bump", "largest test loss, of its start, largest alpha", 1.0, test[-2].max(-1)),
            stays_below(f"memorised, {curved}", "training loss at the end", TRAINED, train[-1][:, -1]),
            exceeds(f"does not generalise, {curved}", "test loss at the end", TESTED, test[-1][:, -1]),
            exceeds(f"nor will it, {curved}", "its test loss at the end / half way (in steps)", 0.8, frozen),
        ]
        said = ", ".join(f"{mean:.3g}" for mean in means)
        return Finding(verdicts, self._drawn(marks, train, test, ratios), [f"Geometric mean delays by alpha: {said}."])

    def _losses(self, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Training and test losses, of those at the start."""
        seeds = range(self.seed, self.seed + self.seeds)
        cases = [(alpha, self.eps, self.step) for alpha in self.alphas]
        cases.append((self.alphas[-1], self.curved, self.step / 10))
        shape = self.size, self.neurons, self.samples
        problems = [problem(seed, *shape, alpha, eps) for alpha, eps, _ in cases for seed in seeds]
        steps = [step for *_, step in cases for _ in seeds]
        train, test = [], []
        for given, w in zip(problems, descended(problems, steps, marks), strict=True):
            train.append(training_loss(given, w) / np.square(target(given, given.inputs)).mean())
            test.append(parts(given, w).loss / parts(given, given.start[None]).loss)
        trained, tested = (np.array(each).reshape(len(cases), self.seeds, -1) for each in (train, test))
        return trained, tested

    @drawn(7.0, 2.6)
    def _drawn(
        self, figure: Figure, marks: np.ndarray, train: np.ndarray, test: np.ndarray, ratios: np.ndarray
    ) -> None:
        left, right = figure.subplots(1, 2)
        for i, k in enumerate((0, len(self.alphas) - 1, len(self.alphas))):
            alpha, eps = [*self.alphas, self.alphas[-1]][k], self.curved if i == 2 else self.eps
            name = rf"$\alpha$ = {alpha:g}, $\epsilon$ = {eps:g}"
            band(left, marks, test[k].T, color=look(i)["color"], label=name)
            band(left, marks, train[k].T, color=look(i)["color"], linestyle="--")
        for level in (TRAINED, TESTED):
            left.axhline(level, color="0.6", linestyle=":")
        left.set(xscale="log", yscale="log", ylim=(1e-3, 3), xlabel="steps of gradient descent")
        left.set(ylabel="loss (of its start)", title="full: test, dashed: training")
        left.legend(loc="lower left", fontsize=7)
        right.axhline(1, color="0.3", linestyle="--", label="no delay")
        marked(right, self.alphas, ratios, label="simulation", **look(0))
        right.set(xscale="log", xlabel=r"scale of the output $\alpha$", ylabel="time of the test loss / of training")
        ticked(right, self.alphas, ".2g")
        right.legend()
