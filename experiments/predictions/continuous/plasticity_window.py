"""T1.5b: plasticity must be slower than the stimulus by the tangent kernel, and fast enough to learn in time."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from experiments.figures import looks, style
from experiments.predictions.continuous.accuracies import (
    NAMES,
    AbstractDigitsPrediction,
    Chance,
    Rules,
    between,
    chance_line,
    chance_of,
    final_accuracies,
    in_t,
    jackknifed,
    legend_above,
    marked,
    overlaps,
)
from experiments.predictions.contract import Finding, Positive, Size
from experiments.predictions.simulations import swept
from experiments.studies.plasticity_window import (
    KERNEL_FACTOR,
    PAPER_EDGES,
    WINDOW_DROP,
    Window,
    accuracies,
    tangent_kernel,
    window_of,
)
from experiments.tasks import Digits
from experiments.verdicts import Verdict, exceeds, matches

FLOW_STEPS = 20  # steps of the weight flow per tau_plast: enough for tangent kernels up to 40
FLOW_TIME = 16  # tau_plast that the weight flow lasts: beyond the edge on digits, which is reached at about 10


class Measured(NamedTuple):
    """Of one rule: the stream's results, the window, jackknife pseudo-values of its log edges, and of log K.

    `flow` (seeds, times) are accuracies of the weight flow; `limit` are pseudo-values of the log upper edge by it.
    """

    data: xr.Dataset
    window: Window
    lower: np.ndarray
    upper: np.ndarray
    kernel: np.ndarray
    flow: np.ndarray
    limit: np.ndarray


class PlasticityWindow(AbstractDigitsPrediction):
    """Accuracy against tau_plast, rule by rule."""

    number: ClassVar[str] = "T1.5b"
    title: ClassVar[str] = "The plasticity window: slower than the stimulus by K, faster than the session by lambda"
    source: ClassVar[str] = "bacvanski2025continuous, abstract (one to two orders of magnitude); both edges are derived"
    equation: ClassVar[str] = (
        "K < tau_plast / T < N lambda;  K = -e . de / |e|^2, how fast a presentation removes its own error;  1 / lambda: "
        "the time, in tau_plast, in which the weight flow reaches the accuracy of the edge"
    )
    claim: ClassVar[str] = (
        "The window begins at the tangent kernel, one to two orders of magnitude above the stimulus, and spans a decade "
        "or more. It ends where N presentations are too few: there learning is the weight flow, and accuracy depends "
        "on N T / tau_plast alone."
    )
    method: ClassVar[str] = (
        f"Digits; the window is where the accuracy, averaged over seeds, is within {WINDOW_DROP:.0%} of its best; "
        "jackknife over seeds. K at the best tau_plast, a median over samples. The weight flow averages over all samples "
        "and has no lags, but the overlap that they leave."
    )
    tolerance: ClassVar[str] = (
        "99.9 % intervals over seeds. Lower edge: within a factor of 2 of K, as a criterion about an exponential has no "
        "sharp edge. Upper edge: the next order of the flow limit, K T / tau_plast."
    )
    quick: ClassVar[Mapping[str, Any]] = {"steps": 9, "presentations": 1500}

    rules: Rules = ("fa",)
    presentations: Size = 3000
    shortest: Positive = 1.0  # tau_plast in units of T
    longest: Positive = 10_000.0
    steps: Annotated[int, Field(strict=True, ge=5, le=50)] = 13

    @model_validator(mode="after")
    def _sweeps(self) -> Self:
        if self.longest < 100 * self.shortest:
            raise ValueError("longest must be at least 100 times shortest: the window spans a decade or more")
        return self

    def measure(self) -> Finding:
        chance, found = chance_of(Digits(seed=self.seed)), {rule: self._measured(rule) for rule in self.rules}
        verdicts = [verdict for rule, one in found.items() for verdict in self._verdicts(NAMES[rule], one)]
        return Finding(verdicts, self._drawn(found, chance), [self._sentence(NAMES[r], m) for r, m in found.items()])

    @property
    def timescales(self) -> np.ndarray:
        """tau_plast / T."""
        return np.geomspace(self.shortest, self.longest, self.steps)

    def _measured(self, rule: str) -> Measured:
        points = {"timescales.plasticity": [in_t(tau) for tau in self.timescales]}
        data = self.trained(rule, points, record={"points": 1, "probes": ["accuracy", "tangent_kernel"]})
        flow = self._flow(rule)

        def pseudo(statistic: Callable[[xr.Dataset, Window, np.ndarray], float]) -> np.ndarray:
            def of(seeds: np.ndarray) -> float:
                some = data.isel(seed=seeds)
                return statistic(some, window_of(some, self.timescales), flow[seeds].mean(axis=0))

            return jackknifed(of, self.seeds)

        return Measured(
            data,
            window_of(data, self.timescales),
            pseudo(lambda _, window, __: np.nan if window.lower_is_bound else float(np.log(window.lower))),
            pseudo(lambda _, window, __: np.nan if window.upper_is_bound else float(np.log(window.upper))),
            pseudo(lambda some, _, __: float(np.log(tangent_kernel(some)))),
            flow,
            pseudo(lambda some, _, curve: float(np.log(self.presentations / reached(curve, edge_level(some))))),
        )

    def _flow(self, rule: str) -> np.ndarray:
        """Accuracies (seeds, times) of the weight flow from the same weights, over `FLOW_TIME` tau_plast.

        Each layer is slowed to the overlap that the lags leave it.
        """
        strengths = overlaps(rule, self.layers, 0.0, self.propagation)
        table = {
            "regime": "flow",
            "rule": rule,
            "seed": self.seed,
            "dtype": "float32",
            "task": {"name": "digits", "seed": self.seed},
            "network": {"hidden": list(self.hidden), "bias": False},
            "stimulus": {"duration": str(self.duration), "presentations": FLOW_STEPS * FLOW_TIME},
            "timescales": {"plasticity": [in_t(FLOW_STEPS / s) for s in strengths]},
            "integrator": {"name": "euler", "dt": "1 T"},
            "record": {"points": 5 * FLOW_TIME, "probes": ["accuracy"]},
            "sweep": {"seeds": self.seeds},
        }
        return swept(table)["accuracy"].transpose("seed", "record").values.astype(float)

    def _verdicts(self, name: str, found: Measured) -> list[Verdict]:
        _, window, lower, upper, kernel, _, limit = found
        factor, low, high = np.log(KERNEL_FACTOR), *np.log(PAPER_EDGES)
        at = f"lower edge at {window.lower:.3g} T, K = {np.exp(kernel.mean()):.3g}"
        decades = (upper - lower) / np.log(10)
        correction = float(np.exp(kernel.mean() - upper.mean()))
        note = f"upper edge at {window.upper:.3g} T, by the weight flow {np.exp(limit.mean()):.3g} T"
        return [
            between(f"the window begins at the tangent kernel ({name})", "log of the lower edge over K T", -factor,
                    factor, lower - kernel, at),
            between(f"one to two orders of magnitude above T ({name})", "log of the lower edge over T", low, high,
                    lower, at),
            exceeds(f"the window spans a decade ({name})", "log10 of its upper over its lower edge", 1.0, decades),
            matches(f"it ends where the weight flow ends in time ({name})", "log of the upper edge over N lambda T", 0.0,
                    upper - limit, correction, note),
        ]  # fmt: skip

    def _sentence(self, name: str, found: Measured) -> str:
        low, high = (edge * self.duration.seconds(1.0) for edge in (found.window.lower, found.window.upper))
        return (
            f"{name}: the window is {low:.2g} s to {high:.2g} s after {self.presentations} stimuli of {self.duration}; "
            f"N lambda = {np.exp(found.limit.mean()):.3g}, lambda = {np.exp(found.limit.mean()) / self.presentations:.2g}."
        )

    def _drawn(self, found: dict[str, Measured], chance: Chance) -> Figure:
        with style():
            figure = Figure((3.4, 2.8), layout="constrained")
            panel = figure.subplots()
            for i, ((rule, one), look) in enumerate(zip(found.items(), looks(len(found), marks=True), strict=True)):
                accuracy, height = final_accuracies(one.data, chance.level), 1.0 + 0.04 * i
                times = np.linspace(0, FLOW_TIME, one.flow.shape[1])[1:]
                panel.plot(self.presentations / times, one.flow[:, 1:].mean(axis=0), color=look["color"], linewidth=1)
                marked(panel, self.timescales, accuracy, look, NAMES[rule])
                panel.plot([one.window.lower, one.window.upper], [height] * 2, color=look["color"], linewidth=2.5)
                panel.plot(np.exp(one.kernel.mean()), height, "|", color="black", markersize=6)
            panel.plot([], [], color="0.3", linewidth=1, label="weight flow")
            panel.plot([], [], "|", color="black", label="K")
            panel.plot([], [], color="0.3", linewidth=2.5, label="window")
            chance_line(panel, chance.level)
            panel.set(xscale="log", xlabel="plasticity time constant (stimulus durations T)", ylim=(0, 1.03 + 0.04 * i))
            panel.set_xlim(self.shortest / 1.3, self.longest * 1.3)
            panel.set_ylabel("test accuracy")
            legend_above(figure, panel, 4)
        return figure


def edge_level(data: xr.Dataset) -> float:
    """The accuracy that bounds the window."""
    return (1 - WINDOW_DROP) * float(np.nan_to_num(accuracies(data)).mean(axis=0).max())


def reached(curve: np.ndarray, level: float) -> float:
    """The time, of `FLOW_TIME`, at which a curve first reaches a level (linear between records); NaN if never."""
    above = np.flatnonzero(curve >= level)
    if not above.size or above[0] == 0:
        return np.nan
    i = int(above[0])
    step = FLOW_TIME / (len(curve) - 1)
    return step * (i - 1 + (level - curve[i - 1]) / (curve[i] - curve[i - 1]))
