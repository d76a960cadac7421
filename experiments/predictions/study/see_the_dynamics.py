"""Inside a presentation: a synapse learns while its input and its error overlap in time.

Everything is expected from the spec that ran: the weight is the integral of the product of the two signals over
tau_plast, and ends where the closed form of bibtex bacvanski2025continuous (arXiv:2510.18808) has it.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dynamics.theory import lagged_overlap
from experiments.report.figures import OKABE_ITO, style
from experiments.results.labels import Results
from experiments.results.verdicts import StudyReport, Verdict, decided
from experiments.spec.grid import Sweep
from experiments.spec.spec import Spec

PAPER, DERIVED = "arXiv:2510.18808", "derived from the model of arXiv:2510.18808"
TOLERANCE = 0.005  # of the largest change
BLUE, ORANGE, GREEN, PINK = OKABE_ITO[:4]


def study(spec: Spec, sweeps: Mapping[str, Sweep], results: Results) -> StudyReport:
    """Figure and verdicts of a finished run: one synapse, one presentation, some delays of the error."""
    (sweep,) = sweeps.values()
    data, values = results.datasets[""].isel(inside_presentation=0).load(), _values(sweep)
    pre, error, weight = (data[name].values.reshape(len(values["delays.error"]), -1) for name in ("r1", "e1", "W1"))
    seconds, tau = data["inside_time"].values, values["timescales.plasticity"][:, None]
    product = pre * error
    grown = np.concatenate([0 * product[:, :1], np.cumsum((product[:, 1:] + product[:, :-1]) / 2, 1)], 1)
    grown *= (seconds[1] - seconds[0]) / tau
    learned = weight - weight[:, :1]
    whole = values["stimulus.duration"] / values["timescales.plasticity"]  # of signals that are one as long as shown
    duration, propagation = values["stimulus.duration"], values["timescales.propagation"]
    expected = lagged_overlap(values["delays.error"], duration, 1, 1, propagation)
    coarse = float(((seconds[1] - seconds[0]) / propagation.min()) ** 2) / 4  # what is left out between the times
    verdicts = [
        _within("the weight is the integral of the product", DERIVED, grown, learned, TOLERANCE + coarse),
        _within("what is learned is the overlap", PAPER, expected, learned[:, -1] / whole, TOLERANCE),
    ]
    shown = {"input": data["z0"].values.reshape(len(pre), -1), "activity": pre, "error": error, "product": product}
    figure = draw(1000 * seconds, shown | {"weight": learned / whole[:, None]}, values, expected)
    return StudyReport(verdicts, {spec.study: figure}, [])


def _values(sweep: Sweep) -> dict[str, np.ndarray]:
    (group,) = sweep.groups
    return group.values


def _within(name: str, source: str, expected: np.ndarray, measured: np.ndarray, tolerance: float) -> Verdict:
    """That the largest difference, relative to the largest value, is within the tolerance."""
    error = float(np.abs(measured - expected).max() / np.abs(expected).max())
    quantity = "largest deviation, relative to the largest value"
    return Verdict(name, source, quantity, 0.0, error, tolerance, decided(error <= tolerance))


def draw(
    time: np.ndarray,
    signals: Mapping[str, np.ndarray],
    values: Mapping[str, np.ndarray],
    overlap: np.ndarray,
) -> Figure:
    """A column for each delay: input and activity, error, their product, and the weight; `time` is in milliseconds, and
    weights in units of what full `overlap` would teach, which is what the closed form expects."""
    lags, duration = 1000 * values["delays.error"], 1000 * values["stimulus.duration"]
    with style():
        figure = Figure((7.2, 4.9), layout="constrained")
        rows = figure.subplots(4, len(lags), sharex=True, sharey="row", squeeze=False)
        for column, panels in enumerate(rows.T):
            _column(panels, time, {name: signal[column] for name, signal in signals.items()}, overlap[column])
            for panel in panels:
                panel.axvspan(0, duration[column], color="0.93", linewidth=0, zorder=0)
            lag = lags[column]
            panels[0].set_title("error in time" if lag == 0 else f"error {lag:g} ms late")
            panels[2].text(0.97, 0.86, f"overlap {overlap[column]:.0%}", transform=panels[2].transAxes, ha="right")
            panels[3].set_xlabel("time in the presentation (ms)")
        names = ("input $x$,\nactivity $z$", "error $e$", "product $e\\,z$", "weight change\n($T/\\tau_{plast}$)")
        for panel, name, letter in zip(rows[:, 0], names, "abcd", strict=True):
            panel.set_ylabel(name)
            panel.text(-0.02, 1.05, letter, transform=panel.transAxes, ha="right", fontweight="bold")
        rows[3, 0].set(ylim=(-0.05, 1.05), yticks=(0, 0.5, 1))
        figure.align_ylabels(rows[:, 0])
    return figure


def _column(panels: np.ndarray, time: np.ndarray, signals: Mapping[str, np.ndarray], overlap: float) -> None:
    first, second, third, last = panels
    first.plot(time, signals["input"], color="0.45", linewidth=1, linestyle="--", label="input", drawstyle="steps-post")
    first.plot(time, signals["activity"], color=BLUE, label="activity")
    second.plot(time, signals["error"], color=ORANGE)
    third.fill_between(time, signals["product"], color=GREEN, alpha=0.45, linewidth=0)
    third.plot(time, signals["product"], color=GREEN)
    last.plot(time, signals["weight"], color="black", label="weight")
    last.plot(time[-1], overlap, "o", color=PINK, markerfacecolor="none", clip_on=False, label="closed form")
    if panels[0].get_subplotspec().is_first_col():
        first.legend(loc="upper right", borderaxespad=0.1)
    if panels[0].get_subplotspec().is_last_col():
        last.legend(loc="upper right", borderaxespad=0.1)
