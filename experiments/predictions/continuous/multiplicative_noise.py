"""T1.11: mean square of weights under multiplicative noise and decay, in both calculi."""

from typing import Annotated

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Size
from experiments.predictions.drawing import against, plotted
from experiments.predictions.kit import swept
from experiments.results.verdicts import matches
from experiments.spec.units import Time

CALCULI = {"ito": 1.0, "stratonovich": 2.0}  # the factor of s^2 in the growth of the mean square


class MultiplicativeNoise(AbstractPrediction):
    number = "T1.11"
    title = "Multiplicative synaptic noise, in the sense of Ito and of Stratonovich"
    source = "oksendal2003stochastic, chapter 5, geometric Brownian motion"
    equation = """dW = -W dt / tau_dec + s W dB:  <W^2> = W(0)^2 exp((c s^2 - 2 / tau_dec) t), c = 1 for Ito, 2 for
        Stratonovich"""
    claim = "Noise in proportion to a weight makes its mean square grow, by s^2 (Ito) or 2 s^2."
    method = "|W(t)|^2 / |W(0)|^2 of a matrix that does not learn, over independent seeds."
    tolerance = "The 99.9 % interval of the mean over seeds; the draws themselves are exact."
    quick = {"seeds": 40}

    amplitude: Positive = 0.6  # s, per root of a second
    decay: Duration = Time(10.0)
    presentations: Size = 20
    duration: Duration = Time(0.05)
    synapses: Size = 500
    seeds: Annotated[int, Field(strict=True, ge=5, le=10_000)] = 200

    def measure(self) -> Finding:
        runs = {calculus: self._run(calculus) for calculus in CALCULI}
        verdicts = []
        for calculus, data in runs.items():
            grown = _squares(data)[-1]
            expected = float(self._expected(calculus, data["time"].values)[-1])
            name = f"growth of the mean square ({calculus})"
            verdicts.append(matches(name, "<|W(t)|^2> / |W(0)|^2 at the end", expected, grown))
        return Finding(verdicts, self._drawn(runs))

    def _run(self, calculus: str) -> xr.Dataset:
        table = {
            "seed": self.seed,
            "task": {"name": "gaussian-regression", "inputs": self.synapses},
            "network": {"hidden": [], "bias": False},
            "stimulus": {"duration": str(self.duration), "presentations": self.presentations},
            "timescales": {"plasticity": "inf", "decay": str(self.decay), "propagation": "0.1 T"},
            "noise": {"synaptic_multiplicative": self.amplitude, "calculus": calculus},
            "integrator": {"dt": str(self.duration)},
            "record": {"points": min(5, self.presentations), "probes": ["weight_norm"]},
            "sweep": {"seeds": self.seeds},
        }
        return swept(table)

    def _expected(self, calculus: str, t: np.ndarray) -> np.ndarray:
        return np.exp((CALCULI[calculus] * self.amplitude**2 - 2 / self.decay.seconds(1.0)) * t)

    @plotted(3.4, 2.4)
    def _drawn(self, panel: Axes, runs: dict[str, xr.Dataset]) -> None:
        for i, (calculus, data) in enumerate(runs.items()):
            t = data["time"].values
            fine = np.linspace(0, t[-1], 100)
            against(panel, i, (fine, self._expected(calculus, fine)), (t, _squares(data)), calculus.capitalize())
        panel.plot([], [], color="0.3", label="closed form")
        panel.set(xlabel="time t (s)", ylabel="mean square weight\n(relative to the start)")
        panel.legend()


def _squares(data: xr.Dataset) -> np.ndarray:
    """|W(t)|^2 / |W(0)|^2, (records, seeds)."""
    norms = data["weight_norm"].sel(matrix="W1").transpose("record", "seed").values
    return (norms / norms[0]) ** 2
