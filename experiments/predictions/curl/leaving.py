"""T2.3, T2.4: beyond a fraction of flips training leaves the solution: for ever, or until it finds another one."""

from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Seeds
from experiments.predictions.curl.learning import Course, Ratios, Units, divided, log_bars, teachers, train
from experiments.predictions.curl.onsets import PERTURBATION, TOLERANCE, Onsets, judged, large_network_onset, search
from experiments.predictions.curl.theory import hidden_boundary, readout_boundary
from experiments.predictions.drawing import drawn, legend_outside, marked_across
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, stays_below
from experiments.spec.units import Time

UNSETTLED = 1e-10  # a run with a higher q goes on moving
STILL = 1e-33  # q of runs that stand still to the last digit
LOOKS = tuple(zip(OKABE_ITO, MARKERS, strict=True))
HIGH, LOW = 1e-3, 1e-6  # the loss of a student that has left its teacher, and of one that has found a solution
SMALLEST = 1e-12  # a last loss that is lower still counts as this one: it is a matter of time
Partial = Annotated[tuple[Annotated[float, Field(strict=True, ge=0.3, lt=1)], ...], Field(min_length=1)]


class OrderParameter(AbstractPrediction):
    """The order parameter q of training against the fraction of flipped inputs."""

    number = "T2.3"
    title = "Weights never settle beyond the hidden boundary"
    source = "ninou2025curl, fig. 3b; the place of the jump derived by free convolution"
    equation = """q = mean_w[Var_t w] / Var_w[mean_t w] jumps at alpha_h*, 1/c = min_s [s + (1 - alpha_h*) s / (s + 1) +
        alpha_h* s / (s - 1)]"""
    claim = """A linear student that starts a hair beside its teacher returns to it while the fraction of flipped inputs
        is below alpha_h*(c), c = inputs / hidden units; beyond it the student leaves and its weights move for ever."""
    method = """Full-batch steps of 0.1 tau_plast with the Frobenius norms restored after each, as published. q over the
        last tenth of the time. For every teacher the fewest flips at which the student leaves it, with a loss above
        1e-8, are found by bisection; q is compared on both sides of them."""
    tolerance = TOLERANCE + "0.06. At the jump q rises by more than 8 decades."
    quick = {"ratios": (0.4,), "units": 40, "seeds": 8, "time": Time(500.0)}

    ratios: Ratios = (0.3, 0.4, 0.5)
    units: Units = 100
    time: Duration = Time(1000.0)
    seeds: Seeds = 12

    def measure(self) -> Finding:
        scans = [search(self.seed, self.seeds, self.units, c, 0, self.time.value) for c in self.ratios]
        verdicts = []
        for scan in scans:
            limit = large_network_onset(self.seed, scan.c, 0)
            verdicts += judged(scan, hidden_boundary(scan.c), limit, 0.06)
        decades = np.concatenate([_decades(scan) for scan in scans])
        if decades.size:  # there are none where every number of flips is stable, or none is
            verdicts.append(exceeds("q jumps", "decades between the runs of a teacher before and after", 8.0, decades))
        settled = sum(int((scan.wander[scan.beyond] < UNSETTLED).sum()) for scan in scans)
        left = sum(int(scan.beyond.sum()) for scan in scans)
        notes = [
            f"{settled} of {left} runs that left their teacher settled at another solution, with q < {UNSETTLED:g}.",
            "In small networks the smallest eigenvalue lies above the edge of the spectrum, so that single teachers "
            "become unstable later than infinitely large ones. A q averaged over ten teachers, as published, jumps "
            "with the first of them, which is by chance close to the infinite boundary.",
        ]
        return Finding(verdicts, self._drawn(scans), notes)

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, scans: list[Onsets]) -> None:
        panels = figure.subplots(1, len(scans), sharey=True, squeeze=False)[0]
        for panel, scan in zip(panels, scans, strict=True):
            q = np.maximum(scan.wander, STILL).ravel()
            panel.semilogy(scan.fractions.ravel(), q, "o", color=OKABE_ITO[0], alpha=0.5, mew=0, label="runs")
            marked_across(panel, scan.located, 1e-12, marker="s", color=OKABE_ITO[1], label="mean jump")
            panel.axvline(scan.sampled.mean(), color="0.3", ls="--", label="theory, this size")
            panel.axvline(hidden_boundary(scan.c), color="0.3", label="theory, infinite size")
            panel.set(title=f"c = {scan.c:g}", xlabel=r"fraction of flipped inputs $\alpha_h$", xlim=(-0.03, 1.03))
        panels[0].set_ylabel("order parameter q")
        legend_outside(panels[0], 4)


def _decades(scan: Onsets) -> np.ndarray:
    """For every teacher with runs on both sides of its onset: how much larger the mean of log10 q is beyond it."""
    log, beyond = np.log10(np.maximum(scan.wander, STILL)), scan.beyond
    both = beyond.any(1) & (~beyond).any(1)
    pairs = zip(log[both], beyond[both], strict=True)
    return np.array([row[right].mean() - row[~right].mean() for row, right in pairs])


class Scan(NamedTuple):
    """For one c: the onsets, and what came of runs with fractions far beyond them."""

    onsets: Onsets
    far: dict[float, Course]


class ReadoutErrors(AbstractPrediction):
    """The highest and the last error of training against the fraction of flipped hidden units."""

    number = "T2.4"
    title = "Flipped readout units raise the error only for a while"
    source = "ninou2025curl, fig. 4; the place of the jump derived by free convolution"
    equation = """max_t C(t) jumps at alpha_r* = (1/2) max_t {1 - t - c (1 - t)^2 (1 + t) / t}, 0 < t < 1; C(end) is low
        for alpha_r < 1"""
    claim = """A linear student that starts a hair beside its teacher leaves it if more than a fraction alpha_r*(c) of
        its hidden units learn with the opposite sign, but ends at another solution unless all of them do."""
    method = """Full-batch steps of 0.1 tau_plast with the Frobenius norms restored after each, as published. For every
        teacher the fewest flips at which the loss ever exceeds 1e-8 are found by bisection; far beyond, the loss at the
        end is compared with the highest on the way."""
    tolerance = f"""{TOLERANCE}0.01. A student that has left has a loss above 1e-3, one that has found a solution below
        1e-6, in the mean of its logarithm; that of a random one is about 0.1."""
    quick = {"ratios": (1.0,), "units": 40, "seeds": 8, "fractions": (0.5,), "time": Time(500.0)}

    ratios: Ratios = (0.3, 1.0, 3.0)
    units: Units = 80
    time: Duration = Time(1000.0)
    fractions: Partial = (0.3, 0.5, 0.8)
    seeds: Seeds = 12

    def measure(self) -> Finding:
        scans = [self._scan(c) for c in self.ratios]
        return Finding([verdict for scan in scans for verdict in self._judged(scan)], self._drawn(scans))

    def _scan(self, c: float) -> Scan:
        found = search(self.seed, self.seeds, self.units, c, 1, self.time.value)
        given = teachers(self.seed, self.seeds, *divided(self.units, c))
        numbers = [min(round(fraction * found.size), found.size - 1) for fraction in self.fractions] + [found.size]
        far = {}
        for fraction in (n / found.size for n in numbers):
            flips = np.tile([0.0, fraction], (self.seeds, 1))
            far[fraction] = train(given, flips, PERTURBATION, self.time.value)
        return Scan(found, far)

    def _judged(self, scan: Scan) -> list[Verdict]:
        at, star = f"at c = {scan.onsets.c:g}", readout_boundary(scan.onsets.c)
        limit = large_network_onset(self.seed, scan.onsets.c, 1)
        some = [course for fraction, course in scan.far.items() if fraction < 1]
        peak = np.mean([np.log10(course.peak) for course in some], 0)  # one number per teacher
        final = np.mean([np.log10(np.maximum(course.final, SMALLEST)) for course in some], 0)
        last = np.log10(scan.far[1.0].final)
        return [
            *judged(scan.onsets, star, limit, 0.01),
            exceeds(f"the student leaves {at}", "log10 of the highest loss, far beyond", np.log10(HIGH), peak),
            stays_below(f"it finds a solution {at}", "log10 of the last loss, far beyond", np.log10(LOW), final),
            exceeds(f"unless all are flipped {at}", "log10 of the last loss, alpha_r = 1", np.log10(HIGH), last),
        ]

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, scans: list[Scan]) -> None:
        panels = figure.subplots(1, len(scans), sharey=True, squeeze=False)[0]
        for panel, (found, far) in zip(panels, scans, strict=True):
            look = {"color": OKABE_ITO[0], "alpha": 0.4, "mew": 0, "label": "highest, each run"}
            panel.semilogy(found.fractions.ravel(), found.peak.ravel(), ".", **look)
            for which, word, color, marker in (("peak", "highest", *LOOKS[0]), ("final", "last", *LOOKS[1])):
                values, bars = log_bars([getattr(course, which) for course in far.values()])
                look = {"fmt": marker, "color": color, "capsize": 2, "label": f"{word}, mean"}
                panel.errorbar(list(far), values, bars, **look)
            panel.axvline(found.sampled.mean(), color="0.3", ls="--", label="theory, this size")
            panel.axvline(readout_boundary(found.c), color="0.3", label="theory, infinite size")
            panel.set(title=f"c = {found.c:g}", xlabel=r"fraction of flipped units $\alpha_r$", xlim=(-0.03, 1.05))
        panels[0].set_ylabel("loss")
        legend_outside(panels[0], 5)
