"""T2.9, T2.11 to T2.15: when flipped readout units learn faster than the gradient."""

import dataclasses
import itertools
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from pydantic import Field

from experiments.predictions.contract import (
    AbstractPrediction,
    Duration,
    Finding,
    Fractions,
    Positive,
    Positives,
    Seeds,
    Size,
    Sizes,
)
from experiments.predictions.curl.learning import log_bars
from experiments.predictions.curl.students import Protocol, Setting, arrivals, error_courses
from experiments.predictions.drawing import drawn, legend_outside, plotted, ticked
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, stays_below
from experiments.spec.units import Time

LARGE_TEST = 1000  # samples for the test error, against the number of flips
RECORD = 10  # steps between two looks at it
# Epochs of full-batch steps of 0.1 tau_plast to a test error of 1e-3, by flipped units of 10: read off fig. 5f.
PUBLISHED = {0: 4800, 1: 1550, 2: 1900, 3: 1800, 4: 3200, 5: 4200, 6: 4850, 7: 8200, 8: 7600, 9: 8300}
# In tau_plast = 1 s. A step is stable where VARIANCE step |W2|^2 < 2, and |W2|^2 is about a third of the squared scale.
Step = Annotated[float, Field(strict=True, gt=0, le=1)]
TEST = 400  # the same along other axes
GAIN = "log10(time of gradient descent / time with one flipped unit)"
EQUATION = """tau_plast W1' = <delta1 x^T>, tau_plast W2' = <delta2 (D2 z)^T>, D2 = diag(-1, 1, ..., 1)"""
METHOD = """Student and teacher have the same sizes and units; both rules take the same full-batch steps, larger than
    the published ones of 0.1 tau_plast. Time to the threshold of the test error, by seed. The error of the output is
    without the slope of its unit, as published"""
TOLERANCE = """The 99.9 % interval of the mean over seeds of log10(time of gradient descent / time with a flip). Who has
    not arrived by the end counts as arriving then, which makes the difference smaller, never larger; that nothing is
    gained is judged only where half of the seeds of gradient descent arrive."""


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
        return Protocol(*sizes, "tanh", True, self.step, self.time.value, RECORD, LARGE_TEST)

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


class AbstractAdvantage(AbstractPrediction):
    """Times to a low test error by gradient descent and with one flipped readout unit, along one axis of settings."""

    equation = EQUATION
    method = METHOD + "; the norms of both matrices are restored after every step."
    tolerance = TOLERANCE

    inputs: Size = 60
    hidden: Size = 10
    step: Step = 1.0
    time: Duration = Time(1000.0)
    every: Size = 2  # steps between two looks
    threshold: Positive = 1e-3
    activation: Literal["linear", "relu", "tanh"] = "tanh"
    clamp: bool = True
    seeds: Seeds = 14

    @abstractmethod
    def settings(self) -> list[Setting]:
        """The settings along the axis."""

    @abstractmethod
    def judged(self, gains: np.ndarray, times: np.ndarray, errors: np.ndarray) -> list[Verdict]:
        """Verdicts on the gains (settings, seeds), times and last errors (settings, seeds, rules)."""

    def along(self) -> tuple[str, np.ndarray]:
        """What the axis is called, and its values."""
        names = {"samples": "samples", "student": "scale of the student's weights", "teacher": "scale of the teacher's"}
        columns = {name: np.array([getattr(s, name) for s in self.settings()], float) for name in names}
        name = max(columns, key=lambda name: len(set(columns[name])))
        return names[name], columns[name]

    def measure(self) -> Finding:
        sizes = self.inputs, self.hidden
        protocol = Protocol(*sizes, self.activation, self.clamp, self.step, self.time.value, self.every, TEST)
        flips = np.array([[0.0, 0.0], [0.0, 1 / self.hidden]])
        errors = error_courses(protocol, self.settings(), flips, self.seed, self.seeds)
        times = arrivals(errors, self.threshold, protocol)
        verdicts = self.judged(np.log10(times[..., 0] / times[..., 1]), times, errors[..., -1])
        medians = ", ".join(
            f"{value:g}: {row[0]:g} and {row[1]:g} s"
            for value, row in zip(self.along()[1], np.median(times, 1), strict=True)
        )
        notes = [f"Median times by gradient descent and with one flip, by {self.along()[0]}: {medians}."]
        return Finding(verdicts, self._drawn(times), notes)

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, times: np.ndarray) -> None:
        name, values = self.along()
        for i, label in enumerate(("gradient descent", "one flipped unit")):
            centre, bars = log_bars(list(times[..., i]))
            look = {"fmt": MARKERS[i] + "-", "color": OKABE_ITO[i], "capsize": 2, "label": label}
            panel.errorbar(values, centre, bars, **look)
        panel.axhline(self.time.value, color="0.3", ls="--", lw=0.8, label="the end")
        panel.set(xlabel=name, xscale="log", yscale="log", ylabel=f"time to a test error of {self.threshold:g} (s)")
        ticked(panel, values)
        panel.minorticks_off()
        panel.legend()


class SampleSize(AbstractAdvantage):
    """The advantage against the number of samples."""

    number = "T2.11"
    title = "The flip helps at every number of samples that suffices to learn"
    source = "ninou2025curl, fig. 5c (tanh)"
    claim = """From 600 samples on (for 100 inputs) a tanh student with one of ten readout units flipped arrives sooner
        than by gradient descent, by a factor of about four; with fewer than 300 neither arrives."""
    quick = {"inputs": 30, "samples": (360,), "few": 60, "time": Time(600.0), "seeds": 16}

    samples: Sizes = (480, 720, 1200)
    few: Size = 120
    student_scale: Positive = 2.0

    def settings(self) -> list[Setting]:
        return [Setting(n, self.student_scale, 1.0) for n in (self.few, *self.samples)]

    def judged(self, gains: np.ndarray, times: np.ndarray, errors: np.ndarray) -> list[Verdict]:
        quantity = "log10 of the lower of both test errors at the end"
        lower = np.log10(errors[0].min(-1))
        few = exceeds(f"{self.few} samples are too few", quantity, float(np.log10(self.threshold)), lower)
        pairs = zip(self.samples, gains[1:], strict=True)
        return [few, *(exceeds(f"faster with {n} samples", GAIN, 0.0, gain) for n, gain in pairs)]


class AbstractScales(AbstractAdvantage):
    """The same along scales of the weights of `whose`; a flip helps at the small ones, or else at the large ones."""

    whose: ClassVar[str]
    small_gain: ClassVar[bool]

    inputs: Size = 30
    samples: Size = 3000
    small: Positives
    large: Positives
    factor: Positive = 1.5  # a gain that would count

    @property
    def scales(self) -> tuple[float, ...]:
        """Small ones and large ones."""
        return *self.small, *self.large

    def judged(self, gains: np.ndarray, times: np.ndarray, errors: np.ndarray) -> list[Verdict]:
        verdicts = []
        for i, (scale, gain, time) in enumerate(zip(self.scales, gains, times, strict=True)):
            if (i < len(self.small)) == self.small_gain:
                verdicts.append(exceeds(f"faster{self.whose} {scale:g}", GAIN, 0.0, gain))
            else:
                verdicts.append(self.no_gain(f"no gain of {self.factor:g}{self.whose} {scale:g}", gain, time))
        return verdicts

    def no_gain(self, name: str, gain: np.ndarray, times: np.ndarray) -> Verdict:
        """Whether a flip gains less than the factor; undecided where most seeds of gradient descent never arrive: then
        the end of the run hides every gain."""
        verdict = stays_below(name, GAIN, float(np.log10(self.factor)), gain)
        if np.median(times[:, 0]) < self.time.value:
            return verdict
        said = "undecided: half of the seeds of gradient descent or more have not arrived by the end"
        return dataclasses.replace(verdict, outcome="undecided", note=said)


class StudentScale(AbstractScales):
    """The advantage against the scale of the student's initial weights."""

    number = "T2.12"
    title = "The flip helps a student that starts with large weights only"
    source = "ninou2025curl, fig. 5d (tanh)"
    claim = """Where the initial weights of the student are those of its teacher or smaller, one flipped readout unit
        gains nothing; where they are 1.5 times as large or more, it does."""
    quick = {"samples": 1000, "small": (0.7,), "large": (2.0,), "time": Time(400.0), "seeds": 12}

    whose, small_gain = " at scale", False

    small: Positives = (0.7, 1.0)
    large: Positives = (2.0, 3.0)
    step: Step = 0.5
    every: Size = 4
    teacher_scale: Positive = 1.0

    def settings(self) -> list[Setting]:
        return [Setting(self.samples, scale, self.teacher_scale) for scale in self.scales]


class TeacherScale(AbstractScales):
    """The advantage against the scale of the teacher's weights."""

    number = "T2.13"
    title = "The flip helps where the student's weights are larger than its teacher's"
    source = "ninou2025curl, fig. 5e (tanh)"
    claim = """A student of weights twice as large as usual gains by a flip where the teacher's scale is 1.1 or less,
        and not where it is 1.25 or more."""
    quick = {"samples": 1000, "small": (0.5,), "large": (1.3,), "time": Time(600.0), "seeds": 12}

    whose, small_gain = ", teacher of scale", True

    small: Positives = (0.5, 1.0)
    large: Positives = (1.3, 1.6)
    student_scale: Positive = 2.0

    def settings(self) -> list[Setting]:
        return [Setting(self.samples, self.student_scale, scale) for scale in self.scales]


class ReluStudents(StudentScale):
    """The advantage of relu students against the scale of their weights."""

    number = "T2.14"
    title = "Relu students with large weights gain by a flip too"
    source = "ninou2025curl, fig. 10 (relu), whose numbers are not known here"
    claim = """The figure repeats those of tanh students with relu units; read as the same claim, a student with large
        initial weights gains by one flipped readout unit."""
    quick = {**StudentScale.quick, "time": Time(600.0)}

    activation: Literal["linear", "relu", "tanh"] = "relu"


class FreeNorms(StudentScale):
    """The advantage where no norm is held."""

    number = "T2.15"
    title = "The flip helps students of free norms as well"
    source = "ninou2025curl, fig. 11 (no clamp)"
    method = METHOD + ". Norms are free."

    claim = """Without the clamp of norms a student with large initial weights gains by one flipped readout unit too."""
    quick = {"samples": 600, "large": (3.0,), "step": 0.5, "every": 4, "time": Time(300.0), "seeds": 8}

    samples: Size = 1500
    small: Positives = (1.0,)
    large: Positives = (3.0, 4.0)
    step: Step = 0.25
    time: Duration = Time(600.0)
    every: Size = 8
    clamp: bool = False
    seeds: Seeds = 12
