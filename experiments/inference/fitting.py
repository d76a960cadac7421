"""Fits a spec to a recording: the numbers that it leaves free, how certain they are, and whether the model fits."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError
from dynamics.information import Scored
from experiments.inference import recordings
from experiments.inference.coordinates import OBSERVE, Coordinate
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.model import Model, Rows, model, sizes
from experiments.inference.recordings import Recording
from experiments.inference.scoring import End, ascend, spread
from experiments.inference.table import Fit, read_fit
from experiments.inference.verdicts import (
    NORMAL,
    Certainty,
    Estimate,
    Misfit,
    Verdict,
    certainty,
    misfit,
    sentences,
    threshold,
    verdicts,
)
from experiments.spec.loading import spec_of
from experiments.spec.spec import Spec

BATCH = 16  # places that one call of the program scores
PROFILED, PROFILE_POINTS = 3.5, 15  # standard errors to both sides, and points
SAME = 0.1  # log units: starts that end this close have come to the same
Source = str | Path | Mapping[str, Any] | xr.Dataset


@dataclass(frozen=True)
class Fitted:
    """What a fit has found.

    estimates       by path
    correlation     of the errors, (free, free), on the scales of the fit; NaN where there is no finite error
    log_likelihood  at the estimates, with the priors
    misfit          of each observation, how far residuals are from those of the model, in standard deviations
    starts          (start, free) where every start ended, its loss, whether it converged
    reached         how many of the starts came to the estimates
    predicted       of each observation, what the model says and the data, by presentation
    profiles        by path, the negative log-likelihood with the number held `at` values around its estimate
    free, known     the ranges, and what the information says of the errors
    error           of the integrator, relative to the change of the weights, if it is above its tolerance; else 0
    """

    estimates: dict[str, Estimate]
    correlation: np.ndarray
    log_likelihood: float
    misfit: dict[str, Misfit]
    starts: xr.Dataset
    reached: int
    predicted: xr.Dataset
    profiles: dict[str, xr.Dataset]
    free: tuple[Coordinate, ...]
    known: Certainty
    error: float

    @property
    def ok(self) -> bool:
        """Whether all free numbers are identified, and the model is integrated as well as the spec asks for."""
        return not self.error and all(one.verdict == "identified" for one in self.estimates.values())

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """What may be said of it, as in a paper."""
        told = sentences(list(self.estimates.values()), self.free, self.misfit)
        if self.error:
            cure = "a larger integrator.tolerance accepts it, a smaller integrator.dt may reduce it"
            told.append(f"The integrator's error here is {self.error:.2g} of the weights' change: {cure}.")
        return told


def fit(
    spec: Spec | str | Path | Mapping[str, Any],
    data: Source | None = None,
    *,
    synthetic: bool = False,
    seed: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """Fits the free numbers of a spec's table [fit] to a recording.

    spec       as `load_spec` and `make_spec` take it, with a table [fit]
    data       a file, a dataset or arrays by name, (presentations, ...) each; by default the file fit.data
    synthetic  fit a recording that the spec itself, with its own numbers as the truth, makes: what to expect of real
               ones. `seed` (by default the spec's) draws its noise and the starts

    Raises:
        PlasticodeError: the spec, its table or the recording cannot be used, told in one sentence.
    """
    made = spec_of(spec)
    if not jax.config.values["jax_enable_x64"]:
        raise PlasticodeError("a fit computes in float64: call plasticode.configure('float64') first")
    table = read_fit(made)
    seed = made.seed if seed is None else seed
    if synthetic:
        if data is not None:
            raise PlasticodeError("fit got both data and synthetic: a recording is either given or simulated")
        recording, truth = simulated(made, table, seed)
        return fitted(made, table, recording, seed, truth, on_progress)
    source = table.data if data is None else data
    if source is None:
        raise PlasticodeError("fit.data is missing: it must name the recording; synthetic (--synthetic) makes one")
    return fitted(made, table, recordings.read(source, table, made.task), seed, None, on_progress)


def simulated(spec: Spec, table: Fit, seed: int) -> tuple[Recording, np.ndarray]:
    """A recording that the spec makes with its own numbers, and their places in the ranges."""
    return simulator(spec, table)(seed)


def simulator(spec: Spec, table: Fit) -> Callable[[int], tuple[Recording, np.ndarray]]:
    """What makes such recordings, one for each seed of their noise; one program for all."""
    made = model(spec, table)
    truth = truth_of(made)
    presentations = spec.stimulus.presentations
    etas, _ = jax.jit(made.predicted, static_argnums=1)(truth, presentations, made.data)

    def draw(seed: int) -> tuple[Recording, np.ndarray]:
        seen = {}
        for number, one in enumerate(made.observe):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), presentations)
            values = np.array(jax.vmap(LIKELIHOODS[one.noise].draw)(keys, etas[one.name]))
            values[np.arange(presentations) % one.every != 0] = np.nan
            seen[one.name] = values
        return Recording(presentations, seen, None), truth

    return draw


def truth_of(made: Model) -> np.ndarray:
    """The places of the spec's own numbers in the ranges."""
    for one in made.free:
        if one.value is None or not one.low <= one.value <= one.high:
            key = one.path if one.path.split(".")[0] != OBSERVE else f"the number of '{one.path}'"
            told = "has no value" if one.value is None else f"= {one.value:g} is outside of its range"
            raise PlasticodeError(f"{key} {told}: what is simulated needs one from {one.low:g} to {one.high:g}")
    return np.array([one.place(one.value) for one in made.free if one.value is not None])


def fitted(
    spec: Spec,
    table: Fit,
    recording: Recording,
    seed: int,
    truth: np.ndarray | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Fitted:
    """The fit of a recording that was read, or simulated."""
    made = model(spec, table, recording)
    recordings.check_widths(recording, table, sizes(made))
    batch = min(BATCH, table.starts)
    score = scorer(made, recording)
    total = table.starts
    tell = (lambda done: on_progress(done, total)) if on_progress else (lambda done: None)
    ends = ascend(score, spread(table.starts, len(made.free), seed), batch, tell=tell)
    best = _best(ends)
    known = certainty(best.information)
    profiles = _profiles(made, table, score, best, known, batch)
    return _concluded(made, recording, ends, known, profiles, truth)


def _best(ends: list[End]) -> End:
    best = min(ends, key=lambda end: end.loss)
    if not np.isfinite(best.loss):
        raise PlasticodeError(
            "no start of the fit has a finite likelihood: fit.free must allow runs that do not diverge"
        )
    return best


def scorer(made: Model, recording: Recording) -> Callable[[np.ndarray], Scored]:
    """What scores places, (batch, free), priors included: one compiled program."""
    rows = Rows(np.arange(recording.presentations, dtype=np.int32), recording.seen)
    program = jax.jit(jax.vmap(made.scored, in_axes=(0, None, None)))
    data = made.data

    def score(places: np.ndarray) -> Scored:
        said = jax.tree.map(np.asarray, program(places, rows, data))
        return jax.tree.map(np.add, said, made.prior(places))

    return score


def _concluded(
    made: Model,
    recording: Recording,
    ends: list[End],
    known: Certainty,
    profiles: dict[str, xr.Dataset],
    truth: np.ndarray | None,
) -> Fitted:
    """What the ends of all starts come to."""
    best = _best(ends)
    predicted, tests, error = judged(made, recording, best.place)
    said = verdicts(made.free, best, ends, known, tests)
    estimates = {}
    for i, one in enumerate(made.free):
        interval = _ends(best.place[i], known.errors[i], profiles.get(one.path), best.loss)
        estimates[one.path] = _estimate(one, best.place[i], interval, said[i], None if truth is None else truth[i])
    reached = sum(end.loss < best.loss + SAME for end in ends)
    starts = _starts(made, ends)
    found = estimates, known.correlation, -best.loss, tests, starts, reached, predicted, profiles
    return Fitted(*found, made.free, known, error)


def _estimate(
    one: Coordinate, place: float, ends: tuple[float, float], verdict: Verdict, truth: float | None
) -> Estimate:
    low, high = (float(one.number(min(max(end, 0), 1))) for end in ends)
    at = None if truth is None else float(one.number(truth))
    return Estimate(one.path, float(one.number(place)), low, high, verdict.verdict, verdict.why, at)


def _profiles(
    made: Model, table: Fit, score: Callable[[np.ndarray], Scored], best: End, known: Certainty, batch: int
) -> dict[str, xr.Dataset]:
    """How well the model fits with each of the numbers of fit.profile held at places around its estimate, or over its
    whole range where it has no error; all others follow."""
    found = {}
    for path in table.profile:
        i = [one.path for one in made.free].index(path)
        reach = PROFILED * known.errors[i] if np.isfinite(known.errors[i]) else 1.0
        ends = max(best.place[i] - reach, 0), min(best.place[i] + reach, 1)
        places = np.linspace(*ends, PROFILE_POINTS)
        starts = np.tile(best.place, (PROFILE_POINTS, 1))
        starts[:, i] = places
        held = np.zeros(starts.shape, bool)
        held[:, i] = True
        losses = [end.loss for end in ascend(score, starts, batch, held)]
        numbers = [float(made.free[i].number(place)) for place in places]
        found[path] = xr.Dataset({"loss": ("at", losses), "place": ("at", places)}, {"at": numbers})
    return found


def _ends(place: float, error: float, profile: xr.Dataset | None, best: float) -> tuple[float, float]:
    """The ends of the interval: where the profile has fallen by so much, or so many standard errors away."""
    if profile is None:
        return place - NORMAL * error, place + NORMAL * error
    at, fallen = profile["place"].values, profile["loss"].values - best - threshold()
    ends = []
    for side in (at <= place, at >= place):
        x, y = at[side], fallen[side]
        order = np.argsort(y)
        ends.append(float(np.interp(0, y[order], x[order])) if y.max(initial=-1) > 0 else np.inf)
    return (-np.inf if np.isinf(ends[0]) else ends[0]), ends[1]


def _starts(made: Model, ends: list[End]) -> xr.Dataset:
    """Where every start began and ended."""
    dims = ("start", "free")

    def numbers(places: list[np.ndarray]) -> np.ndarray:
        return np.array([[float(one.number(x)) for one, x in zip(made.free, at, strict=True)] for at in places])

    return xr.Dataset(
        {
            "began": (dims, numbers([end.start for end in ends])),
            "ended": (dims, numbers([end.place for end in ends])),
            "loss": ("start", [end.loss for end in ends]),
            "scores": ("start", [end.scores for end in ends]),
            "converged": ("start", [end.converged for end in ends]),
        },
        {"free": [one.path for one in made.free]},
    )


def judged(made: Model, recording: Recording, place: np.ndarray) -> tuple[xr.Dataset, dict[str, Misfit], float]:
    """What the model says beside the data, tests of what is left, the integrator's estimate of its own error."""
    etas, quality = jax.jit(made.predicted, static_argnums=1)(place, recording.presentations, made.data)
    variables, tests = {}, {}
    free = {one.path for one in made.free}
    for one in made.observe:
        kind, y = LIKELIHOODS[one.noise], recording.seen[one.name]
        seen = ~np.isnan(y)
        residuals, variances = map(
            np.asarray, jax.jit(jax.vmap(functools.partial(_residuals, kind)))(etas[one.name], np.nan_to_num(y), seen)
        )
        residuals = np.where(seen, residuals, np.nan)
        has_free_size = one.noise == "gaussian" and f"{OBSERVE}.{one.name}.sd" in free
        share = round(len(made.free) * seen.sum() / sum((~np.isnan(v)).sum() for v in recording.seen.values()))
        tests[one.name] = misfit(residuals, variances, has_free_size, share)
        dims = ("presentation", f"{one.name}_number")
        variables |= {f"{one.name}_data": (dims, y), f"{one.name}_residual": (dims, residuals)}
        variables |= {f"{one.name}_{n}": (_dims(one.name, n, e), np.asarray(e)) for n, e in etas[one.name].items()}
    error = 0.0 if quality is None or quality.converged else float(quality.error)
    return xr.Dataset(variables), tests, error


def _residuals(kind: Any, eta: Any, y: Any, seen: Any) -> Any:
    return kind.residuals(eta, y, seen)


def _dims(name: str, parameter: str, eta: Any) -> tuple[str, ...]:
    if eta.ndim == 1:
        return ("presentation",)
    return ("presentation", f"{name}_choice" if parameter == "logits" else f"{name}_number")
