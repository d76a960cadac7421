"""B6.1: errors of training and test of linear regression in high dimension, over the whole time of learning."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.generalisation.regression import (
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
from experiments.predictions.kit import drawn, intervals, look, marked
from experiments.results.verdicts import JUDGED, Verdict, exceeds, matches, mean_of

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
        return matches(
            f"{what}, alpha = {alpha:g}", f"{what} where it fits least", expected[k], samples[:, k], more, note
        )

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
            panel.set(
                xscale="log", xlabel=r"time ($\tau$)", ylabel=f"{name} error (variance of targets)", ylim=(0, None)
            )
        panels[1].legend(title="lines: theory, N to infinity")
