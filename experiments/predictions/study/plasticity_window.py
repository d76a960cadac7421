"""The main job: input and error must overlap in time, and plasticity must be slower than the stimulus.

Every expectation is computed from the spec that ran, with the closed forms of dynamics.theory. The claims are those of
bibtex bacvanski2025continuous (arXiv:2510.18808), or derived from its model.
"""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from dynamics.theory import lagged_overlap, overlap_law
from experiments.predictions.kit import jackknifed
from experiments.predictions.study import plasticity_figure
from experiments.predictions.study.window import Synapse, Window
from experiments.results.labels import STATUS, Results
from experiments.results.verdicts import SHOWN, Decision, Mean, StudyReport, Verdict, decided, in_range, mean_of
from experiments.spec.grid import Group, Sweep
from experiments.spec.spec import Spec

PAPER, DERIVED = "arXiv:2510.18808", "derived from the model of arXiv:2510.18808"
LINEAR_TOLERANCE, STAGES_TOLERANCE = 0.01, 0.02  # of the full strength: what the solver's step leaves over
CHANCE_TOLERANCE = 0.10  # 10 points of accuracy
LATE = 1.1  # delays of at least this many T are beyond the overlap, lags included
WINDOW_DROP = 0.05  # the window is where the accuracy is within 5 % of the best
PAPER_EDGES = (10.0, 100.0)  # "one to two orders of magnitude" above the stimulus
KERNEL_FACTOR = 2.0  # the criterion K T < tau_plast is about an exponential: its edge is sharp up to about this factor
RATE_TOLERANCE = 0.01
LEAST_SEEDS = 5  # with fewer, the interval of the window's edge spans more than a decade: no verdict beats a guess
LAST_QUARTER = 0.75


def study(spec: Spec, sweeps: Mapping[str, Sweep], results: Results) -> StudyReport:
    """Figure, verdicts and sentences for a finished plasticity-window run."""
    data = dict(results.datasets)
    duration = spec.stimulus.duration.seconds(1.0)
    bare, chains = synapses(data, sweeps)
    timescales = _along(sweeps["window"].groups[0], "timescales.plasticity") / duration
    finite = np.isfinite(timescales)
    timescales, data["window"] = timescales[finite], data["window"].isel(timescales_plasticity=finite)
    rules = [str(rule) for rule in data["window"]["rule"].values]
    windows = {rule: window_of(data["window"].sel(rule=rule), timescales) for rule in rules}
    kernels = {rule: tangent_kernel(data["window"].sel(rule=rule)) for rule in rules}
    seeds = data["window"].sizes["seed"]
    verdicts = [
        _largest_error("linear overlap law", PAPER, [bare], LINEAR_TOLERANCE),
        _largest_error("overlap with lag stages", DERIVED, chains, STAGES_TOLERANCE),
        *_late_errors(data["dense"], _along(sweeps["dense"].groups[0], "delays.error") / duration),
        *(_lower_edges(kernels, windows) if seeds >= LEAST_SEEDS else []),
        _alignment_rate(data["alignment"], sweeps["alignment"].groups[0]),
    ]
    delays = {name: _along(sweeps[name].groups[0], "delays.error") / duration for name in ("dense", "gaps")}
    figure = plasticity_figure.draw([bare, *chains], data, delays, timescales, windows, kernels, duration)
    notes = [_window_sentence(rule, window, duration) for rule, window in windows.items()]
    if seeds < LEAST_SEEDS:
        notes.append(
            f"The claims about the window's lower edge are not judged: with {seeds} seeds its 95 % interval is wider "
            f"than what they claim, and at least {LEAST_SEEDS} seeds are needed."
        )
    if not finite.all():
        notes.append("tau_plast = inf, where nothing is learned, is outside every window and left out.")
    diverged = int((data["window"]["status"] == STATUS.index("diverged")).sum())
    if diverged:
        notes.append(
            f"{diverged} of {data['window']['status'].size} points of the timescale sweep diverged; they lie outside "
            "the window, and the means in the figure leave them out."
        )
    return StudyReport(verdicts, {"plasticity-window": figure}, notes)


def _along(group: Group, path: str) -> np.ndarray:
    """The distinct values of a traced number over a group, in the order of its axis."""
    values = group.values[path]
    return values[np.sort(np.unique(values, return_index=True)[1])]


def synapses(data: dict[str, xr.Dataset], sweeps: Mapping[str, Sweep]) -> tuple[Synapse, list[Synapse]]:
    """The bare synapse, and those with lag stages. Weights are |W| after one presentation, starting from 0.

    S0, the change at full overlap, is that of the bare synapse where its signals overlap most, divided by the overlap
    there; it is carried over to other tau_plast by 1/tau_plast.
    """
    bare_group = sweeps["synapse"].groups[0]
    bare = _changes(data["synapse"])
    duration, delays = bare_group.values["stimulus.duration"], bare_group.values["delays.error"]
    expected = overlap_law(delays, duration)
    most = int(expected.argmax())
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing overlaps, or nothing came to its end
        full = bare[most] / expected[most]
    whole = full * bare_group.values["timescales.plasticity"][most]
    first = Synapse(delays, bare / full, expected, (0, 0))
    rest, changes = [], _changes(data["lags"]).reshape(-1)
    offset = 0
    for group in sweeps["lags"].groups:
        measured = changes[offset : offset + group.size] * group.values["timescales.plasticity"] / whole
        offset += group.size
        stages = group.static.rule.parameters
        pre, error = int(stages["pre_stages"]), int(stages["error_stages"])
        delays, duration, tau = (
            group.values[path] for path in ("delays.error", "stimulus.duration", "timescales.propagation")
        )
        expected = lagged_overlap(delays, duration, pre, error, tau)
        rest.append(Synapse(delays, measured, expected, (pre, error)))
    return first, rest


def _changes(data: xr.Dataset) -> np.ndarray:
    return data["weight_norm"].isel(record=-1).sel(matrix="W1").values.astype(float)


def _largest_error(name: str, source: str, curves: list[Synapse], tolerance: float) -> Verdict:
    error = max(float(np.abs(curve.measured - curve.expected).max()) for curve in curves)
    quantity = "largest deviation of S(d)/S(0) from the closed form"
    return Verdict(name, source, quantity, 0.0, error, tolerance, decided(error <= tolerance))


def accuracies(data: xr.Dataset) -> np.ndarray:
    """Test accuracies (seeds, points) of one rule, means over the records of the last quarter; diverged points are NaN.

    With fast plasticity the accuracy swings with the last few samples: one record is a noisy measure of it.
    """
    shown = data["presentation"].values
    final = data["accuracy"].isel(record=np.flatnonzero(shown >= LAST_QUARTER * shown[-1])).mean("record")
    return final.where(data["status"] == STATUS.index("ok")).transpose("seed", ...).values.astype(float)


def _late_errors(data: xr.Dataset, delays: np.ndarray) -> list[Verdict]:
    """Without overlap nothing is learned: accuracy at delays beyond the stimulus, the highest, against chance."""
    verdicts = []
    chance = 1 / float(data.attrs["outputs"])
    quantity = f"test accuracy at delays of at least {LATE:g} T in a dense stream"
    for rule in data["rule"].values:
        late = accuracies(data.sel(rule=rule))[:, delays >= LATE - 1e-9].T
        means = [mean_of(seeds[np.isfinite(seeds)]) for seeds in late if np.isfinite(seeds).any()]
        highest = max(means, key=lambda mean: mean.value, default=Mean(np.nan, np.nan, 0))
        outcome, why = in_range(highest, chance - CHANCE_TOLERANCE, chance + CHANCE_TOLERANCE, SHOWN)
        note = f"95 % interval over seeds \u00b1 {highest.half:.2g}" if np.isfinite(highest.half) else ""
        note = "; ".join(filter(None, (note, why)))
        name = f"no overlap, no learning ({rule})"
        verdicts.append(Verdict(name, PAPER, quantity, chance, highest.value, CHANCE_TOLERANCE, outcome, note))
    return verdicts


def window_of(data: xr.Dataset, timescales: np.ndarray) -> Window:
    """Where the accuracy, averaged over seeds, is within 5 % of its best; edges interpolated in log tau_plast.

    The interval of the lower edge is that of the jackknife over seeds, in log tau_plast, with Student's t.
    """
    curves, x = np.nan_to_num(accuracies(data), nan=0.0), np.log(timescales)
    (lower, upper), n, half = _edges(curves.mean(axis=0), x), len(curves), np.nan
    if n > 1:
        half = mean_of(jackknifed(lambda kept: _edges(curves[kept].mean(axis=0), x)[0], n)).half
    interval = float(np.exp(lower - half)), float(np.exp(lower + half))
    bounds = bool(lower == x[0]), bool(upper == x[-1])
    return Window(float(np.exp(lower)), float(np.exp(upper)), interval, *bounds, n)


def _edges(accuracy: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """The ends of the contiguous range around the best accuracy that stays within 5 % of it."""
    best = int(accuracy.argmax())
    level = (1 - WINDOW_DROP) * accuracy[best]

    def crossing(inside: int, outside: int) -> float:
        share = (accuracy[inside] - level) / (accuracy[inside] - accuracy[outside])
        return float(x[inside] + share * (x[outside] - x[inside]))

    low = high = best
    while low > 0 and accuracy[low - 1] >= level:
        low -= 1
    while high < len(x) - 1 and accuracy[high + 1] >= level:
        high += 1
    return (
        crossing(low, low - 1) if low > 0 else float(x[0]),
        crossing(high, high + 1) if high < len(x) - 1 else float(x[-1]),
    )


def tangent_kernel(data: xr.Dataset) -> float:
    """K of the network trained at its best timescale: median over samples, mean over seeds."""
    final = accuracies(data)
    best = int(np.nan_to_num(final, nan=0.0).mean(axis=0).argmax())
    kernels = data["tangent_kernel"].isel(record=-1).transpose("seed", ...).values
    return float(kernels[:, best].mean())


def _lower_edges(kernels: dict[str, float], windows: dict[str, Window]) -> list[Verdict]:
    verdicts = []
    for rule, window in windows.items():
        kernel = kernels[rule]
        low, high = window.interval
        note = f"95 % interval over {window.seeds} seeds {low:.3g} to {high:.3g}" if np.isfinite(low) else ""
        factor, paper = KERNEL_FACTOR, f"{PAPER_EDGES[0]:g} to {PAPER_EDGES[1]:g}"
        around = kernel / factor, kernel * factor
        for claim, source, expected, tolerance, bounds in (
            ("lower edge is the tangent kernel", DERIVED, kernel, f"a factor of {factor:g}", around),
            ("one to two orders of magnitude", PAPER, paper, "none", PAPER_EDGES),
        ):
            outcome, why = _edge_in(window, *bounds)
            said = "; ".join(filter(None, (note, why)))
            name, quantity = f"{claim} ({rule})", "lower edge of the window, tau_plast / T"
            verdicts.append(Verdict(name, source, quantity, expected, window.lower, tolerance, outcome, said))
    return verdicts


def _edge_in(window: Window, low: float, high: float) -> tuple[Decision, str]:
    """Whether the lower edge lies between two bounds: its whole interval does, in log tau_plast as it was made.

    An edge at the beginning of the sweep may lie anywhere below it.
    """
    if window.lower_is_bound:
        said = "the sweep ends before the window does, so this is only a bound"
        if window.lower < low:
            return "failed", said
        return "undecided", f"{said}: undecided until the sweep begins earlier"
    edge = float(np.log(window.lower))
    mean = Mean(edge, float(np.log(window.interval[1])) - edge, window.seeds)
    return in_range(mean, float(np.log(low)), float(np.log(high)), SHOWN)


def _alignment_rate(data: xr.Dataset, group: Group) -> Verdict:
    """|V - W^T| of Kolen-Pollack decays at 1/tau_dec: the slope of its logarithm, fitted over all records and seeds."""
    seconds = data["time"].values
    mismatch = data["feedback_mismatch"].isel(matrix=0).transpose("record", ...).values.reshape(len(seconds), -1)
    expected, rate = float(1 / group.values["timescales.decay"][0]), np.nan
    if (np.isfinite(mismatch) & (mismatch > 0)).all():
        rate = -float(np.polyfit(seconds, np.log(mismatch.astype(float)), 1)[0].mean())
    passed = abs(rate - expected) <= RATE_TOLERANCE * expected
    quantity = "decay rate of |V - W^T|, per second"
    said = f"{RATE_TOLERANCE:.0%}"
    return Verdict("Kolen-Pollack alignment", DERIVED, quantity, expected, rate, said, decided(bool(passed)))


def _window_sentence(rule: str, window: Window, duration: float) -> str:
    low, high = window.lower * duration, window.upper * duration
    text = f"{rule}: accuracy is within {WINDOW_DROP:.0%} of its best from {window.lower:.3g} T to "
    text += f"{window.upper:.3g} T, the plasticity window; "
    text += f"that is {low:.3g} s to {high:.3g} s for stimuli of {duration * 1000:g} ms"
    ends = [name for name, bound in (("lower", window.lower_is_bound), ("upper", window.upper_is_bound)) if bound]
    return text + (f" (its {' and '.join(ends)} end is that of the sweep)." if ends else ".")
