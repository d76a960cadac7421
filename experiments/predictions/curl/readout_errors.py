"""T2.4: flipped readout units throw learning off the solution, and it finds another one."""

from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Seeds
from experiments.predictions.curl.learning import Course, Ratios, Units, divided, log_bars, teachers, train
from experiments.predictions.curl.onsets import PERTURBATION, TOLERANCE, Onsets, judged, large_network_onset, search
from experiments.predictions.curl.theory import readout_boundary
from experiments.predictions.kit import drawn, legend_outside
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, stays_below
from experiments.spec.units import Time

LOOKS = tuple(zip(OKABE_ITO, MARKERS, strict=True))
HIGH, LOW = 1e-3, 1e-6  # the loss of a student that has left its teacher, and of one that has found a solution
SMALLEST = 1e-12  # a last loss that is lower still counts as this one: it is a matter of time
Partial = Annotated[tuple[Annotated[float, Field(strict=True, ge=0.3, lt=1)], ...], Field(min_length=1)]


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
