"""T2.3: training leaves the solution, and never settles, beyond a fraction of flipped inputs."""

import numpy as np
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Seeds
from experiments.predictions.curl.learning import Ratios, Units
from experiments.predictions.curl.onsets import TOLERANCE, Onsets, judged, large_network_onset, search
from experiments.predictions.curl.theory import hidden_boundary
from experiments.predictions.kit import drawn, legend_outside, marked_across
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import exceeds
from experiments.spec.units import Time

UNSETTLED = 1e-10  # a run with a higher q goes on moving
SMALLEST = 1e-33  # q of runs that stand still to the last digit


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
            q = np.maximum(scan.wander, SMALLEST).ravel()
            panel.semilogy(scan.fractions.ravel(), q, "o", color=OKABE_ITO[0], alpha=0.5, mew=0, label="runs")
            marked_across(panel, scan.located, 1e-12, marker="s", color=OKABE_ITO[1], label="mean jump")
            panel.axvline(scan.sampled.mean(), color="0.3", ls="--", label="theory, this size")
            panel.axvline(hidden_boundary(scan.c), color="0.3", label="theory, infinite size")
            panel.set(title=f"c = {scan.c:g}", xlabel=r"fraction of flipped inputs $\alpha_h$", xlim=(-0.03, 1.03))
        panels[0].set_ylabel("order parameter q")
        legend_outside(panels[0], 4)


def _decades(scan: Onsets) -> np.ndarray:
    """For every teacher with runs on both sides of its onset: how much larger the mean of log10 q is beyond it."""
    log, beyond = np.log10(np.maximum(scan.wander, SMALLEST)), scan.beyond
    both = beyond.any(1) & (~beyond).any(1)
    pairs = zip(log[both], beyond[both], strict=True)
    return np.array([row[right].mean() - row[~right].mean() for row, right in pairs])
