"""B6: errors of linear regression in high dimension over the time of learning, and what data do not reach."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.generalisation.regression import (
    Draws,
    Sizes,
    best_time,
    draws,
    expected_test,
    expected_train,
    learned,
    padded,
    sizes_of,
    test_error,
    train_error,
)
from experiments.predictions.kit import all_close, intervals
from experiments.results.verdicts import JUDGED, Verdict, exceeds, matches, mean_of, stays_below

STEP = 0.2  # of dopri5, in tau: eigenvalues are at most about (1 + sqrt(alpha))^2
Alphas = Annotated[tuple[Annotated[float, Field(strict=True, ge=0.1, le=4)], ...], Field(min_length=1, max_length=5)]


class LearningCurves(AbstractPrediction):
    """Test and training error of linear regression by gradient flow against integrals over eigenvalues."""

    number = "B6.1"
    title = "Overtraining is worst where there are as many samples as weights"
    source = "advani2020high, the errors of linear regression in the limit of high dimension"
    equation = """E_g = int rho(l) [(sw^2 + s0^2) e^(-2lt) + (se^2/l)(1 - e^(-lt))^2] dl + (1 - alpha)+ (sw^2 + s0^2);
        E_t = int rho(l) e^(-2lt) [l (sw^2 + s0^2) + se^2] dl / alpha + (1 - 1/alpha)+ se^2, t in tau, alpha = P/N"""
    claim = """In high dimension the errors of test and training are these integrals at every time of learning. At
        alpha = 1 the test error, after its minimum, grows as the time goes on, most of all alpha: small eigenvalues,
        learned last, hold noise alone."""
    method = """The weight flow of SGD by dopri5 on draws of inputs, teacher, noise and start; errors at times in
        equal ratios. Judged at the time where the mean fits least."""
    tolerance = """99.9 % intervals over draws (of all times together), and for the finite N an allowance of 2/N of
        the error: the spectrum of one draw is that law up to 1/N, but at alpha = 1 at late times, where the smallest
        eigenvalue is 1/N^2: there only growth is claimed. Training errors are judged down to 1 % of the first."""
    quick = {"inputs": 50, "draws": 40, "longest": 30.0}

    inputs: Annotated[int, Field(strict=True, ge=10, le=1000)] = 100  # N
    alphas: Alphas = (0.5, 1.0, 2.0)
    snr: Positive = 5.0
    start: Positive = 0.1  # s0
    longest: Annotated[float, Field(strict=True, ge=5, le=1000)] = 100.0  # tau
    times: Annotated[int, Field(strict=True, ge=4, le=60)] = 12
    draws: Seeds = 100

    def misfit(self) -> str | None:
        if not any(abs(alpha - 1) > 0.2 for alpha in self.alphas):
            return "alphas must have one that is not near 1"

    def measure(self) -> Finding:
        sizes = sizes_of(self.snr, self.start)
        times, errors = self._errors()
        verdicts = []
        for i, alpha in enumerate(self.alphas):
            if abs(alpha - 1) > 0.2:
                verdicts.append(self._worst("E_g", alpha, expected_test(alpha, sizes, times), errors[0, i]))
                curve = expected_train(alpha, sizes, times)
                seen = curve > 0.01 * curve[0]
                verdicts.append(self._worst("E_t", alpha, curve[seen], errors[1, i][:, seen]))
            else:
                early = times <= 5
                curve = expected_test(alpha, sizes, times)
                verdicts.append(self._worst("early E_g", alpha, curve[early], errors[0, i][:, early]))
                best = int(np.argmin(errors[0, i].mean(0)))
                grown = errors[0, i][:, -1] - errors[0, i][:, best]
                predicted = float(curve[-1] - best_time(alpha, sizes, self.longest)[1])
                quantity = "growth of E_g after its minimum, at least half of what is expected"
                verdicts.append(exceeds(f"overtraining, alpha = {alpha:g}", quantity, predicted / 2, grown))
        if len(self.alphas) > 1 and 1.0 in self.alphas:
            best = [int(expected_test(alpha, sizes, times).argmin()) for alpha in self.alphas]
            grown = np.stack([each[:, -1] - each[:, k] for each, k in zip(errors[0], best, strict=True)])
            own, others = grown[self.alphas.index(1.0)], np.delete(grown, self.alphas.index(1.0), 0)
            quantity = f"growth of E_g up to t = {times[-1]:g}, alpha = 1, less the next largest"
            verdicts.append(exceeds("worst at alpha = 1", quantity, 0.0, own - others[others.mean(1).argmax()]))
        return Finding(verdicts, self._drawn(times, errors))

    def _worst(self, what: str, alpha: float, expected: np.ndarray, samples: np.ndarray) -> Verdict:
        """Agreement at all times, by the one that fits least: its interval is that of all together."""
        level = 1 - (1 - JUDGED) / expected.size
        means, half = intervals(samples.T, level)
        allowed = 2 / self.inputs * expected
        k = int(np.argmax(np.abs(means - expected) / (half + allowed)))
        more = float(half[k] - mean_of(samples[:, k], JUDGED).half + allowed[k])
        note = f"the worst of {expected.size} times; {allowed[k]:.2g} of it for the finite N"
        name, quantity = f"{what}, alpha = {alpha:g}", f"{what} where it fits least"
        return matches(name, quantity, expected[k], samples[:, k], more, note)

    def _errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (tau), and both errors: (E_g or E_t, alpha, draws, times)."""
        marks = np.unique(np.geomspace(1, self.longest / STEP, self.times).round().astype(int))
        marks = np.concatenate([[0], marks])
        most, seeds = max(self._samples(alpha) for alpha in self.alphas), range(self.seed, self.seed + self.draws)
        errors = []
        for alpha in self.alphas:
            samples = self._samples(alpha)
            given = padded(draws(seeds, self.inputs, samples, sizes_of(self.snr, self.start)), most)
            weights = learned(given, STEP, marks)
            errors.append((test_error(weights, given), train_error(weights, given, samples)))
        return marks * STEP, np.moveaxis(np.array(errors), 1, 0)

    def _samples(self, alpha: float) -> int:
        return max(1, round(alpha * self.inputs))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, times: np.ndarray, errors: np.ndarray) -> None:
        sizes, fine = sizes_of(self.snr, self.start), np.geomspace(times[1] / 2, times[-1] * 1.2, 200)
        theories = expected_test, expected_train
        panels, names = figure.subplots(1, 2), ("test", "training")
        for panel, theory, each, name in zip(panels, theories, errors, names, strict=True):
            for i, alpha in enumerate(self.alphas):
                panel.plot(fine, theory(alpha, sizes, fine), color=look(i)["color"])
                marked(panel, times[1:], each[i][:, 1:].T, label=rf"$\alpha$ = {alpha:g}", **look(i))
            panel.set(xscale="log", xlabel=r"time ($\tau$)", ylim=(0, None))
            panel.set_ylabel(f"{name} error (variance of targets)")
        panels[1].legend(title="lines: theory, N to infinity")


class FrozenSubspace(AbstractPrediction):
    """Directions without data, the time to stop, and the role of the initial weights, in linear regression."""

    number = "B6.2"
    title = "Weights that no sample reaches never move, and large initial weights cannot be unlearned"
    source = "advani2020high, frozen subspace, early stopping and the dependence on initial weights"
    equation = """P0 w(t) = P0 w(0), P0 the projection on the kernel of X; E_g(infinity) >= (1 - alpha)(sw^2 + s0^2);
        E_g depends on teacher and start by sw^2 + s0^2 alone"""
    claim = """With fewer samples than weights a subspace is frozen: its weights stay as they were to rounding, and
        their error, (1 - alpha)(sw^2 + s0^2) on average, remains. Stopping at the time where the law has its minimum
        is as good as the best time in hindsight; noisier targets call for an earlier stop. Only sw^2 + s0^2 matters:
        a teacher and a start that change places have the same errors."""
    method = """The weight flow of SGD by dopri5 on draws of Gaussian data; projections by the singular vectors of
        each X. The test error at the predicted time against its minimum over times of each draw."""
    tolerance = """1e-12 of |w| in the frozen subspace: rounding. 99.9 % intervals over draws; 2/N for the finite N.
        Stopping at the predicted time may cost 5 % of the error, the spread of best times over draws."""
    quick = {"inputs": 50, "draws": 30, "longest": 20.0}

    inputs: Annotated[int, Field(strict=True, ge=10, le=1000)] = 100  # N
    few: Annotated[float, Field(strict=True, ge=0.1, le=0.9)] = 0.5  # alpha with a frozen subspace
    stopped: Annotated[float, Field(strict=True, ge=0.1, le=4)] = 1.0  # alpha of early stopping
    snr: Positive = 5.0
    noisy: Positive = 1.0  # SNR of noisier targets
    start: Positive = 0.5  # s0
    longest: Annotated[float, Field(strict=True, ge=5, le=1000)] = 50.0  # tau
    times: Annotated[int, Field(strict=True, ge=8, le=100)] = 30
    draws: Seeds = 60

    def misfit(self) -> str | None:
        if self.noisy >= self.snr:
            return "noisy must be below snr"

    def measure(self) -> Finding:
        own = sizes_of(self.snr, self.start)
        swapped = Sizes(own.start, own.teacher, own.noise)
        cases = {"few": (self.few, own), "swapped": (self.few, swapped), "stop": (self.stopped, own)}
        cases["noisy"] = self.stopped, sizes_of(self.noisy, self.start)
        runs = {name: self._run(*case) for name, case in cases.items()}
        times, errors = runs["few"][0], {name: run[2] for name, run in runs.items()}
        moved, floor = self._frozen(*runs["few"][1])
        verdicts = [all_close("frozen subspace", "largest move, over |w|", 0.0, moved, 1e-12)]
        left = (1 - self.few) * (own.teacher + own.start)
        verdicts.append(matches("floor", "error of the frozen subspace", left, floor, 2 / self.inputs * left))
        late = errors["few"][:, -1]
        predicted = float(expected_test(self.few, own, times)[-1])
        allowed = 2 / self.inputs * predicted
        verdicts.append(matches("test error at the end", "E_g, few samples", predicted, late, allowed))
        change = errors["swapped"] - errors["few"]
        k = int(np.argmax(np.abs(change.mean(0)) / (change.std(0) + 1e-12)))
        quantity = "E_g with teacher and start swapped, less E_g, where it fits least"
        scale = 0.2 * float(errors["few"][:, k].mean())
        verdicts.append(matches("sw^2 + s0^2 alone", quantity, 0.0, change[:, k], 1e-12, scale=scale))
        at, _ = best_time(self.stopped, own, self.longest)
        stop = np.abs(times - at).argmin()
        cost = errors["stop"][:, stop] / errors["stop"].min(1) - 1
        verdicts.append(stays_below("early stopping", "cost of stopping at the predicted time", 0.05, cost))
        best = [np.log(times[1:][errors[name][:, 1:].argmin(1)]) for name in ("stop", "noisy")]
        quantity = "ln of the best time, less that of noisier targets"
        verdicts.append(exceeds("noise calls for an earlier stop", quantity, 0.0, best[0] - best[1]))
        return Finding(verdicts, self._drawn(times, runs))

    def _run(self, alpha: float, sizes: Sizes) -> tuple[np.ndarray, tuple[Draws, np.ndarray], np.ndarray]:
        """Times, the draws with their weights, and E_g (draws, times)."""
        marks = np.unique(np.geomspace(1, self.longest / STEP, self.times).round().astype(int))
        marks = np.concatenate([[0], marks])
        samples, most = (max(1, round(each * self.inputs)) for each in (alpha, max(self.few, self.stopped)))
        given = padded(draws(range(self.seed, self.seed + self.draws), self.inputs, samples, sizes), most)
        weights = learned(given, STEP, marks)
        return marks * STEP, (given, weights), test_error(weights, given)

    def _frozen(self, given: Draws, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By draw, the largest move of weights in the kernel of X over |w|, and the error that remains there."""
        moved, floor = [], []
        for x, teacher, course in zip(given.inputs, given.teacher, weights, strict=True):
            _, values, right = np.linalg.svd(x)
            rank = int((values > 1e-9 * values[0]).sum())
            kernel = right[rank:]
            moved.append(np.abs((course - course[:1]) @ kernel.T).max() / np.linalg.norm(course[0]))
            floor.append(np.square(kernel @ (course[-1] - teacher)).sum() / self.inputs)
        return np.array(moved), np.array(floor)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, times: np.ndarray, runs: dict) -> None:
        left, right = figure.subplots(1, 2)
        own, fine = sizes_of(self.snr, self.start), np.geomspace(times[1], times[-1], 200)
        left.plot(fine, expected_test(self.few, own, fine), color="0.3", label="theory")
        floor = (1 - self.few) * (own.teacher + own.start)
        left.axhline(floor, color="0.3", linestyle="--", label="frozen part")
        for i, (name, label) in enumerate((("few", "as it is"), ("swapped", "teacher and start swapped"))):
            shown = slice(1 + 2 * i, None, 4)
            marked(left, times[shown], runs[name][2][:, shown].T, label=label, **look(i))
        left.set(title=rf"$\alpha$ = {self.few:g}", ylim=(0, None))
        for i, (name, snr) in enumerate((("stop", self.snr), ("noisy", self.noisy))):
            sizes = sizes_of(snr, self.start)
            right.plot(fine, expected_test(self.stopped, sizes, fine), color=look(i)["color"])
            marked(right, times[1::3], runs[name][2][:, 1::3].T, label=f"SNR {snr:g}", **look(i))
            right.axvline(best_time(self.stopped, sizes, self.longest)[0], color=look(i)["color"], linestyle=":")
        right.set(title=rf"$\alpha$ = {self.stopped:g}; dotted: predicted time to stop", ylim=(0, None))
        for panel in (left, right):
            panel.set(xscale="log", xlabel=r"time ($\tau$)", ylabel="test error (variance of targets)")
            panel.legend()
