"""The figure of a phase boundary against the ratio c of inputs to hidden units: closed forms, and sampled matrices."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.report.figures import OKABE_ITO, style
from experiments.results.verdicts import mean_of

Boundary = Callable[[float], float]


def draw(
    inputs: int, fine: np.ndarray, infinite: Boundary, finite: Boundary, sampled: dict[float, np.ndarray]
) -> tuple[Figure, Axes]:
    """Both boundaries at the ratios `fine`, the stable side shaded, and samples by ratio with their 95 % intervals."""
    with style():
        figure = Figure((3.4, 2.6), layout="constrained")
        panel = figure.subplots()
        closed = [infinite(c) for c in fine]
        panel.plot(fine, closed, color="0.2", label="infinitely large")
        panel.plot(fine, [finite(c) for c in fine], "--", color="0.5", label=f"{inputs} inputs")
        panel.fill_between(fine, closed, 0, color=OKABE_ITO[2], alpha=0.12, linewidth=0)
        means = [mean_of(samples) for samples in sampled.values()]
        values, halves = [m.value for m in means], [m.half for m in means]
        look = {"fmt": "o", "color": OKABE_ITO[0], "capsize": 2}
        panel.errorbar(list(sampled), values, halves, label="sampled, 95 % interval", **look)
        panel.set_xlabel("inputs per hidden unit c")
        panel.legend(loc="upper right")
    return figure, panel
