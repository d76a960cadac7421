"""T2.9: with one flipped readout unit a tanh student learns faster than by gradient descent."""

import itertools
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Fractions, Positive, Seeds, Size
from experiments.predictions.curl.learning import log_bars
from experiments.predictions.curl.students import Protocol, Setting, arrivals, error_courses
from experiments.predictions.kit import drawn, legend_outside
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import exceeds, stays_below
from experiments.spec.units import Time

TEST = 1000  # samples for the test error
RECORD = 10  # steps between two looks at it
# Epochs of full-batch steps of 0.1 tau_plast to a test error of 1e-3, by flipped units of 10: read off fig. 5f.
PUBLISHED = {0: 4800, 1: 1550, 2: 1900, 3: 1800, 4: 3200, 5: 4200, 6: 4850, 7: 8200, 8: 7600, 9: 8300}


class FasterThanGradient(AbstractPrediction):
    """The time to a low test error against the number of flipped readout units."""

    number = "T2.9"
    title = "A few flipped readout units learn faster than the gradient"
    source = "ninou2025curl, fig. 5f (and 5c at 2000 samples)"
    equation = """tau_plast W1' = <delta1 x^T>, tau_plast W2' = <delta2 (D2 z)^T>, both tangent to |W| = const; D2 =
        diag(+-1), a fraction alpha_r of it -1"""
    claim = """A tanh student with large initial weights reaches a test error of 1e-3 sooner than by gradient descent if
        one of ten readout units is flipped, or a few, as published by a factor above two, and later from 0.7 on."""
    method = """Student and teacher are 100-10-1 networks with tanh units, as is the output; all rules take the same
        full-batch steps, after each of which the Frobenius norms are restored. They are ten times the published steps
        of 0.1 tau_plast, which changes the times with few flips by a few per cent. The error of the output is without
        the slope of its tanh, as published."""
    tolerance = """The 99.9 % interval of the mean over seeds of log10(time of gradient descent / time with flips). Who
        has not arrived by the end counts as arriving then, which makes the difference smaller, never larger."""
    quick = {"inputs": 40, "samples": 800, "few": (0.1,), "many": (1.0,), "seeds": 20, "time": Time(600.0)}

    inputs: Size = 100
    hidden: Size = 10
    samples: Size = 2000
    student_scale: Positive = 2.0
    teacher_scale: Positive = 1.0
    few: Fractions = (0.1, 0.3)
    many: Fractions = (0.7, 0.9)
    step: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0  # in tau_plast = 1 s
    time: Duration = Time(1000.0)
    threshold: Positive = 1e-3
    seeds: Seeds = 24

    def misfit(self) -> str | None:
        if any(n >= m for n, m in itertools.pairwise(self._flips() * self.hidden)):
            return "few and many must rise, from one hidden unit on and by one or more"

    def _flips(self) -> np.ndarray:
        """The fractions of flipped units, first that of gradient descent."""
        return np.round(np.array([0.0, *self.few, *self.many]) * self.hidden) / self.hidden

    def measure(self) -> Finding:
        flips = self._flips()
        errors = self._errors(flips)
        times = arrivals(errors, self.threshold, self._protocol)
        gains, quantity = np.log10(times[:, :1] / times), "log10(time of gradient descent / time with flips)"
        medians = np.median(times, 0)
        verdicts, notes = [], []
        for column in range(1, len(flips)):
            note = f"median time {medians[column]:g} s, of gradient descent {medians[0]:g} s"
            name, gain = f"alpha_r = {flips[column]:g}", gains[:, column]
            if column <= len(self.few):
                verdicts.append(exceeds(f"faster, {name}", quantity, 0.0, gain, note))
                verdicts.append(exceeds(f"more than twice as fast, {name}", quantity, float(np.log10(2)), gain, note))
            else:
                verdicts.append(stays_below(f"slower, {name}", quantity, 0.0, gain, note))
        curve = arrivals(errors.mean(0), self.threshold, self._protocol)
        notes.append(
            "The mean test error of all seeds, which slow ones dominate, arrives after "
            + ", ".join(f"{time:g} s (alpha_r = {flip:g})" for flip, time in zip(flips, curve, strict=True))
            + f"; {self.time.value:g} s is the end."
        )
        return Finding(verdicts, self._drawn(flips, errors, times, curve), notes)

    @property
    def _protocol(self) -> Protocol:
        sizes = self.inputs, self.hidden
        return Protocol(*sizes, "tanh", True, self.step, self.time.value, RECORD, TEST)

    def _errors(self, flips: np.ndarray) -> np.ndarray:
        """The test error of every seed and fraction at every record, (seeds, fractions, records)."""
        setting = Setting(self.samples, self.student_scale, self.teacher_scale)
        pairs = np.stack([np.zeros_like(flips), flips], 1)
        return error_courses(self._protocol, [setting], pairs, self.seed, self.seeds)[0]

    @drawn(7.0, 2.6)
    def _drawn(
        self, figure: Figure, flips: np.ndarray, errors: np.ndarray, times: np.ndarray, curve: np.ndarray
    ) -> None:
        course, arrival = figure.subplots(1, 2)
        at = (np.arange(errors.shape[-1]) + 1) * RECORD * self.step
        for flip, each, color in zip(flips, np.moveaxis(errors, 1, 0), OKABE_ITO, strict=False):
            label = "gradient descent" if flip == 0 else rf"$\alpha_r$ = {flip:g}"
            course.semilogy(at, each.mean(0), color=color, label=label)
        course.axhline(self.threshold, color="0.3", ls="--", lw=0.8)
        course.set(xlabel="time (s, $\\tau_{plast}$ = 1 s)", ylabel="test error, mean")
        legend_outside(course, len(flips), loc="upper left")
        values, bars = log_bars(list(times.T))
        look = {"fmt": MARKERS[0], "color": OKABE_ITO[0], "capsize": 2, "label": "each seed, log mean"}
        arrival.errorbar(flips, values, bars, **look)
        arrival.plot(flips, curve, MARKERS[2], color=OKABE_ITO[2], label="mean test error")
        arrival.axhline(values[0], color="0.3", ls="--", lw=0.8)
        if self._as_published():
            seconds = 0.1 * np.array(list(PUBLISHED.values()))
            where = np.array(list(PUBLISHED)) / 10
            arrival.plot(where, seconds, MARKERS[1], color=OKABE_ITO[1], mfc="none", label="same, published")
        arrival.set(yscale="log", xlabel=r"fraction of flipped units $\alpha_r$", ylabel="time to the error (s)")
        arrival.set_yticks([50, 100, 200, 500, 1000])
        arrival.yaxis.set_major_formatter(ScalarFormatter())
        arrival.yaxis.set_minor_formatter(NullFormatter())
        arrival.set_ylim(0.6 * values.min(), 2 * curve.max())
        arrival.legend(loc="upper left")

    def _as_published(self) -> bool:
        """Whether the parameters are those of the published figure."""
        names = ("inputs", "hidden", "samples", "student_scale", "teacher_scale", "threshold")
        return all(getattr(self, name) == type(self).model_fields[name].default for name in names)
