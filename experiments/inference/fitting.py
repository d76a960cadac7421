"""Fits a spec to a recording: the numbers that it leaves free, how certain they are, and whether the model fits."""

import functools
import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from experiments.inference import labelling, recordings
from experiments.inference.bends import bent, sides
from experiments.inference.comparison import Contest, contenders
from experiments.inference.conclusions import best_of, ends_of_interval, judged, starts_of
from experiments.inference.coordinates import Coordinate
from experiments.inference.initial import marginal, starts_in
from experiments.inference.model import model, sizes
from experiments.inference.recordings import Recording
from experiments.inference.scoring import End
from experiments.inference.searching import Descender, Scorer, Scores, Search, Seek, in_memory, rows_of
from experiments.inference.simulation import Source, recorded
from experiments.inference.table import Fit, read_fit
from experiments.inference.verdicts import (
    AS_WIDE,
    IDENTIFIED,
    MISFIT,
    NOT_IDENTIFIED,
    Certainty,
    Estimate,
    Misfit,
    Verdict,
    certainty,
    direction_text,
    is_known,
    sentences,
    verdicts,
)
from experiments.spec.loading import make_spec, spec_of
from experiments.spec.spec import Spec

STARTS, BEST, PROFILE, ENDS, VALLEYS = "starts", "best", "profile", "ends", "valleys"  # the searches of a fit
FORWARD = 200  # free numbers whose slopes are all carried along; of more the starts descend in reverse mode
PROFILED, PROFILE_POINTS, PROFILE_FAR = 3.5, 15, 2  # standard errors to both sides, points, those beyond at each side
SAME = 0.1  # log units: starts that end this close have come to the same


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
    weights         initial weights by map, and their standard errors, where they are free
    notes           what of the spec was not heeded
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
    weights: xr.Dataset | None = None
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all free numbers are identified, and the model is integrated as well as the spec asks for."""
        return not self.error and all(one.verdict == "identified" for one in self.estimates.values())

    def __str__(self) -> str:
        return "\n".join([*self.sentences, *self.notes])

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
    on_progress is called with how many scores are done, and about how many all are

    Raises:
        PlasticodeError: the spec, its table or the recording cannot be used, told in one sentence.
    """
    made = spec_of(spec)
    table = read_fit(made)
    seed = made.seed if seed is None else seed
    recording, truth = recorded(made, table, data, synthetic, seed)
    prepared = Prepared(made, table, recording, seed, truth)
    return prepared.fitted(in_memory(prepared.searches, on_progress))


class Prepared:
    """A fit that is ready to search: its model, the recording, and how many starts its searches have."""

    def __init__(self, spec: Spec, table: Fit, recording: Recording, seed: int, truth: np.ndarray | None = None):
        self.spec, self.table, self.recording, self.seed, self.truth = spec, table, recording, seed, truth
        self.made = model(spec, table, recording)
        recordings.check_widths(recording, table, sizes(self.made))
        self.is_large = self.made.coordinates > FORWARD
        self.read_off = [i for i, one in enumerate(self.made.free) if one.path not in table.profile]
        self.searches = {STARTS: table.starts, BEST: 1, PROFILE: PROFILE_POINTS * len(table.profile)}
        self.searches |= dict.fromkeys((ENDS, VALLEYS), 2 * len(self.read_off))  # at most
        self.score = Scorer(self.made, Scores(self.made.scored, self.made, table.starts), rows_of(recording))

    @functools.cached_property
    def contest(self) -> Contest | None:
        """The comparison of the rules that fit.rules names, if it does."""
        if not self.table.rules:
            return None
        rules = contenders(self.spec, self.table, self.recording)
        return Contest(rules, self.table, self.recording, self.seed)

    @functools.cached_property
    def descender(self) -> Descender:
        """What moves starts of many free numbers, before the best is scored."""
        return Descender(self.made, self.recording, self.table.starts)

    def way(self, part: str) -> Scorer | Descender:
        """How the starts of a search move."""
        if part not in self.searches and self.contest is not None:
            return self.contest.way(part)
        return self.descender if part == STARTS and self.is_large else self.score

    def fitted(self, seek: Seek) -> Fitted:
        """What comes of it, where `seek` gives the ends of all starts of a search."""
        made = self.made
        begun = starts_in(made, self.table.starts, self.seed)
        held = np.zeros(begun.shape, bool)
        (ends,) = seek(Search(STARTS, self.way(STARTS), begun, held))
        best = best_of(ends)
        if self.is_large or not best.converged:  # what is known of the numbers there; further
            i = next(i for i, end in enumerate(ends) if end is best)
            ((polished,),) = seek(Search(BEST, self.score, best.place[None], held[:1]))
            best = ends[i] = polished._replace(start=best.start, scores=best.scores + polished.scores)
        known = certainty(marginal(best.information, len(made.free)))
        profiles = self._profiles(seek, best, known) if self.table.profile else {}
        return self._concluded(ends, known, profiles, self._bends(seek, best, known), self._notes(best))

    def _concluded(
        self,
        ends: list[End],
        known: Certainty,
        profiles: dict[str, xr.Dataset],
        bends: dict[int, str],
        notes: list[str],
    ) -> Fitted:
        """What the ends of all starts come to."""
        made, best = self.made, best_of(ends)
        predicted, tests, error = judged(made, self.recording, best)
        said = verdicts(made.free, best, ends, known, tests)
        estimates = {}
        for i, one in enumerate(made.free):
            interval = ends_of_interval(best.place[i], known.errors[i], profiles.get(one.path), best.loss)
            if interval[0] <= 0 and interval[1] >= 1:  # as a profile may find where the errors are small
                said[i] = Verdict(NOT_IDENTIFIED, said[i].why or AS_WIDE)
            if i in bends and said[i].verdict in (IDENTIFIED, MISFIT):
                said[i] = Verdict(said[i].verdict, ", and ".join(filter(None, (said[i].why, bends[i]))))
            truth = None if self.truth is None else self.truth[i]
            estimates[one.path] = _estimate(one, best.place[i], interval, said[i], truth)
        reached = sum(end.loss < best.loss + SAME for end in ends)
        weights = made.initial.found(best) if made.initial and made.initial.size else None
        found = estimates, known.correlation, -best.loss, tests, starts_of(made, ends), reached, predicted, profiles
        notes = [*notes, *_missed(profiles, best.loss), *_cut(estimates, made.free, profiles)]
        return Fitted(*found, made.free, known, error, weights, tuple(notes))

    def blind(self) -> list[str]:
        """What no data of this kind can tell apart: directions of no information at the middle of all ranges."""
        if self.is_large:
            return []
        middle = np.full((self.score.batch, self.made.coordinates), 0.5)
        information = np.asarray(self.score(middle).information[0])
        if not np.isfinite(information).all():
            return []
        known = certainty(marginal(information, len(self.made.free)))
        return [direction_text(self.made.free, direction) for direction in known.null]

    def _notes(self, best: End) -> list[str]:
        """What of the spec was not heeded, and whether the search has come to its end."""
        notes, given, shown = [], self.spec.stimulus.presentations, self.recording.presentations
        if not best.converged:
            told = f"the best start is not at its end after {best.scores} scores: estimates may move on"
            notes.append(f"Take a larger fit.starts, or fewer free numbers: {told}.")
        if given != shown and "presentations" in self.spec.stimulus.model_fields_set:
            told = f"stimulus.presentations = {given} is for what is simulated"
            notes.append(f"All {shown} presentations of the recording were fitted: {told}.")
        if self.spec.dtype == "float32" and "dtype" in self.spec.model_fields_set:
            notes.append("The fit was computed in float64: small eigenvalues in float32 are those of rounding.")
        return notes + self.unsaid

    @property
    def unsaid(self) -> list[str]:
        """What is taken for granted of a recording that was not simulated."""
        samples = len(self.made.data["train_inputs"])
        return [] if self.truth is not None else recordings.unsaid(self.recording, self.spec, samples)

    def packed(self, search: Search) -> bytes:
        """What a worker needs to go on from starts."""
        of = self.recording
        plain = of._replace(shown=dict(of.shown), start=dict(of.start), shapes=dict(of.shapes))
        own = self.spec.table(), self.table.model_dump(mode="json", exclude_none=True), plain, self.seed
        return pickle.dumps((pickle.dumps(own), search.part, search.start, search.held))

    @classmethod
    @functools.lru_cache(maxsize=1)  # all searches of a fit share its programs
    def unpacked(cls, content: bytes) -> "Prepared":
        """The inverse, without the starts."""
        spec, table, recording, seed = pickle.loads(content)
        return cls(make_spec(spec), Fit.model_validate(table), recording, seed)

    def _bends(self, seek: Seek, best: End, known: Certainty) -> dict[int, str]:
        """What is wrong with intervals that are read off the curvature, by number: by one score of their ends, and
        where that leaves it open all other numbers go on from there."""
        looked_at = [i for i in self.read_off if is_known(self.made.free[i], known.errors[i])]
        if not looked_at:
            return {}
        places = sides(best, known.errors, looked_at)
        (ends,) = seek(Search(ENDS, self.score, places, np.ones(places.shape, bool)))
        told, left = bent(best, known.errors, looked_at, ends)
        if left:
            held = np.arange(places.shape[1]) == np.repeat(looked_at, 2)[left, None]
            (followed,) = seek(Search(VALLEYS, self.score, places[left], held))
            moved = dict(zip(left, followed, strict=True))
            told, _ = bent(best, known.errors, looked_at, [moved.get(row, end) for row, end in enumerate(ends)])
        return told

    def _profiles(self, seek: Seek, best: End, known: Certainty) -> dict[str, xr.Dataset]:
        """How well the model fits with each of the numbers of fit.profile held at places around its estimate, and at
        a few up to the ends of its range, for the errors say little where a valley bends; all others follow."""
        free, places = [one.path for one in self.made.free], {}
        begun = np.tile(best.place, (self.searches[PROFILE], 1))
        held = np.zeros(begun.shape, bool)
        for number, path in enumerate(self.table.profile):
            rows, i = slice(number * PROFILE_POINTS, (number + 1) * PROFILE_POINTS), free.index(path)
            reach = PROFILED * known.errors[i] if np.isfinite(known.errors[i]) else 1.0
            low, high = max(best.place[i] - reach, 0), min(best.place[i] + reach, 1)
            near = np.linspace(low, high, PROFILE_POINTS - 2 * PROFILE_FAR)
            below, above = (np.linspace(a, b, PROFILE_FAR, endpoint=False) for a, b in ((0, near[0]), (1, near[-1])))
            places[path] = np.concatenate([below, near, above[::-1]])
            begun[rows, i], held[rows, i] = places[path], True
        (ends,) = seek(Search(PROFILE, self.score, begun, held))
        losses = iter([end.loss for end in ends])
        found = {}
        for path, at in places.items():
            numbers = [float(self.made.free[free.index(path)].number(place)) for place in at]
            variables = {"loss": ("at", [next(losses) for _ in at]), "place": ("at", at)}
            found[path] = labelling.profile(xr.Dataset(variables, {"at": numbers}), self.made.free[free.index(path)])
        return found


def _missed(profiles: Mapping[str, xr.Dataset], best: float) -> list[str]:
    """Of which profiles a point is better than the best start has become."""
    more = {path: best - float(np.nanmin(one["loss"].values)) for path, one in profiles.items()}
    told = "fits better than the estimates, by"
    return [
        f"A point of the profile of {path} {told} {by:.2g} log units: take a larger fit.starts."
        for path, by in more.items()
        if by > SAME
    ]


def _cut(estimates: Mapping[str, Estimate], free: Sequence[Coordinate], followed: Collection[str]) -> list[str]:
    """Which intervals end where their range does: errors are read off the curvature at the estimate, and a likelihood
    that bends on the way may reach further at the other end, which profiles have followed."""
    cut = [
        one.path
        for one in free
        if (told := estimates[one.path]).verdict == IDENTIFIED and (told.low <= one.low or told.high >= one.high)
    ]
    more = "the profile that fit.profile asks for follows it further"
    how = {path: "no other number was looked at" if path in followed else more for path in cut}
    return [f"The interval of {path} is cut by its range: {why}." for path, why in how.items()]


def _estimate(
    one: Coordinate, place: float, ends: tuple[float, float], verdict: Verdict, truth: float | None
) -> Estimate:
    low, high = (float(one.number(min(max(end, 0), 1))) for end in ends)
    at = None if truth is None else float(one.number(truth))
    return Estimate(one.path, float(one.number(place)), low, high, verdict.verdict, verdict.why, at)
