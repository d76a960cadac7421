"""T1.1: a synapse learns in proportion to the time for which its input and its error overlap."""

import numpy as np
from matplotlib.axes import Axes

from dynamics.theory import overlap_law
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, NonNegatives
from experiments.predictions.kit import all_close, plotted, swept
from experiments.report.figures import OKABE_ITO
from experiments.spec.units import Time

SYNAPSE = "experiments.predictions.study.single_synapse:SingleSynapse"


class OverlapLaw(AbstractPrediction):
    """Learning strength of one synapse against the delay of its error."""

    number = "T1.1"
    title = "Learning falls linearly with the delay of the error"
    source = "bacvanski2025continuous, abstract; derived from tau_plast dW/dt = e(t) x(t) for boxes"
    equation = "S(d) / S(0) = max(0, 1 - d / T)"
    claim = """Input and error are held for T, the error d later: the change of the weight is proportional to their
        overlap, and there is none from d = T on."""
    method = "|W| after one presentation followed by a long gap, starting from 0, against that at d = 0."
    tolerance = """1 % of the full strength: the propagation lag of T / 1000 rounds the corners by about 0.2 %, and the
        weight's own effect on the error is T / tau_plast = 1e-6."""
    quick = {"delays": (0.0, 0.5, 1.0, 1.2)}

    duration: Duration = Time(0.05)
    delays: NonNegatives = tuple(np.round(np.linspace(0, 1.3, 14), 10).tolist())  # in units of T

    def measure(self) -> Finding:
        changes = self._changes()
        delays = np.array(self.delays)
        expected, measured = overlap_law(delays, 1.0), changes[1:] / changes[0]
        quantity = "largest deviation of S(d)/S(0) from the closed form"
        verdict = all_close("linear overlap law", quantity, 0.0, np.abs(measured - expected), 0.01)
        return Finding([verdict], self._drawn(delays, measured))

    def _changes(self) -> np.ndarray:
        """|W| after the presentation: first at d = 0, then at every delay."""
        table = {
            "task": {"name": "gaussian-regression", "inputs": 1, "seed": self.seed},
            "network": {"hidden": [], "bias": False},
            "rule": SYNAPSE,
            "stimulus": {"duration": str(self.duration), "gap": "2 T", "presentations": 1},
            "timescales": {"plasticity": "1000000 T", "propagation": "0.001 T"},
            "record": {"points": 1, "probes": ["weight_norm"]},
            "sweep": {"delays.error": [f"{d} T" for d in (0.0, *self.delays)]},
        }
        return swept(table)["weight_norm"].isel(record=-1).sel(matrix="W1").values

    @plotted(3.4, 2.4)
    def _drawn(self, panel: Axes, delays: np.ndarray, measured: np.ndarray) -> None:
        fine = np.linspace(0, delays.max(), 200)
        panel.plot(fine, overlap_law(fine, 1.0), color="0.3", label="max(0, 1 - d/T)")
        panel.plot(delays, measured, "o", color=OKABE_ITO[0], label="simulation")
        panel.set(xlabel="error delay d (stimulus durations T)", ylabel="learning strength S(d) / S(0)")
        panel.legend()
