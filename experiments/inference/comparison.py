"""Which rule explains a recording: each is fitted to all but a fold of it, and judged by what was left out."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError, refused, unknown
from dynamics.information import Scored
from experiments.inference import labelling
from experiments.inference.conclusions import best_of, misfits
from experiments.inference.coordinates import Coordinate
from experiments.inference.folds import UNSEEN, Difference, blocks, difference
from experiments.inference.initial import spent, starts_in
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.model import Arrays, Model, Places, Rows, model, sizes
from experiments.inference.recordings import Recording, check_widths, unsaid
from experiments.inference.scoring import End
from experiments.inference.searching import Scorer, Scores, Search, Seek, in_memory
from experiments.inference.simulation import Source, recorded
from experiments.inference.table import Fit, read_fit
from experiments.inference.verdicts import Misfit, end_at
from experiments.spec.loading import make_spec, spec_of
from experiments.spec.spec import Spec

EXPLAINED, UNDECIDED, NONE = "explained-by", "undecided", "none"


class Parts(NamedTuple):
    """What was observed, by name, (presentations, data); which presentations fits leave out, (1 + folds,
    presentations): the first none, the next those of fold 0. Arrays of NumPy or JAX."""

    seen: dict[str, Any]
    left_out: Any


@dataclass(frozen=True)
class Contender:
    """A rule that may explain a recording: the model with it, and the programs that score it.

    missing  numbers of fit.free that it does not have
    scores   of places (batch, free + 1) whose last number says what is left out, of `Parts`
    told     of places, for each presentation: the log-likelihood, and residuals by name; the integrator's error
    """

    name: str
    made: Model
    missing: tuple[str, ...]
    scores: Scores
    told: Callable[..., tuple]


class FoldScorer(Scorer):
    """Scores places of a rule, each with a last number, which stays: nothing is left out at 0, fold k at
    (k + 1) / folds."""

    @property
    def coordinates(self) -> int:
        """How many numbers a place has."""
        return self.made.coordinates + 1

    def prior(self, places: np.ndarray) -> Scored:
        """What the priors say of places."""
        loss, gradient, information = self.made.prior(places[:, :-1])
        more = np.pad(gradient, ((0, 0), (0, 1))), np.pad(information, ((0, 0), (0, 1), (0, 1)))
        return Scored(loss, *more)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Explanation:
    """How well a rule explains a recording: the free numbers that fit all of it, and tests of what is left; the
    log-likelihood of each presentation by fits that did not have it (0 where nothing was observed); the integrator's
    error, relative to the change of the weights, if it is above its tolerance."""

    rule: str
    free: tuple[Coordinate, ...]
    missing: tuple[str, ...]
    estimates: dict[str, float]
    misfit: dict[str, Misfit]
    held_out: np.ndarray
    error: float

    @property
    def log_likelihood(self) -> float:
        """Of all that was left out in turn; minus infinity where the rule has none."""
        total = float(self.held_out.sum())
        return total if np.isfinite(total) else -np.inf

    @property
    def ends(self) -> list[str]:
        """The numbers whose estimates are at an end of their range."""
        return [one.path for one in self.free if end_at(one.place(self.estimates[one.path]))]

    @property
    def wrong(self) -> list[str]:
        """The observations whose residuals are not those of the model."""
        return [name for name, test in self.misfit.items() if test.found]


@dataclass(frozen=True)
class Compared:
    """Rules that were asked to explain a recording, the best first; how far each is behind that; the block of each
    presentation (its fold is block mod folds), -1 where nothing was observed; what was taken for granted."""

    rules: tuple[Explanation, ...]
    behind: tuple[Difference, ...]
    block: np.ndarray
    folds: int
    notes: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[str, ...]:
        """The rules that the recording does not rule out."""
        return tuple(one.rule for one, at in zip(self.rules, self.behind, strict=True) if not at.is_out)

    @property
    def kind(self) -> str:
        """`explained-by`, `undecided`, or `none` where the residuals of all that are left are not those of the rule."""
        if all(one.wrong for one in self.rules if one.rule in self.left):
            return NONE
        return EXPLAINED if len(self.left) == 1 else UNDECIDED

    @property
    def verdict(self) -> str:
        """In a line: "explained-by: fa", "undecided: fa, kp", "none"."""
        return NONE if self.kind == NONE else f"{self.kind}: {', '.join(self.left)}"

    @property
    def ok(self) -> bool:
        """Whether one rule explains the recording, and all are integrated as well as the spec asks for."""
        return self.kind == EXPLAINED and not any(one.error for one in self.rules)

    def __str__(self) -> str:
        return "\n".join([*self.sentences, *self.notes])

    @property
    def sentences(self) -> list[str]:
        """What may be said of it, as in a paper."""
        pairs = list(zip(self.rules, self.behind, strict=True))
        out = [f"{one.rule} (by {_reach(at)})" for one, at in pairs if at.is_out]
        near = [f"{one.rule} is behind by {_reach(at)}" for one, at in pairs[1:] if not at.is_out]
        best = self.rules[0]
        if not self.left:
            told = ["None of the rules gives a finite likelihood to what was left out of its fit."]
        elif self.kind == NONE:
            wrong = ", ".join(best.wrong)
            told = [f"None of the rules explains the recording: residuals of {wrong} are not those of {best.rule}."]
        elif self.kind == EXPLAINED:
            told = [f"Of these rules {best.rule} alone explains the recording."]
        else:
            told = [f"The recording does not tell between {', '.join(self.left)}: {'; '.join(near)}."]
        if out:
            told.append(f"Ruled out, in log units of what was left out of the fit: {', '.join(out)}.")
        for one in self.rules:
            if one.missing:
                told.append(f"{one.rule} has no {', '.join(one.missing)}, and is fitted without.")
            if one.ends:
                ends = " and ".join(one.ends)
                told.append(f"With {one.rule} the likelihood still grows at an end of the range of {ends}.")
            if one.error:
                told.append(f"The integrator's error with {one.rule} is {one.error:.2g} of the weights' change.")
        return told

    @property
    def data(self) -> xr.Dataset:
        """All of it by rule: held-out log-likelihoods, differences to the best, estimates, z-scores of the tests."""
        names, paths = [one.rule for one in self.rules], list(dict.fromkeys(p for r in self.rules for p in r.estimates))
        tests = [[[np.nan if z is None else z for z in t] for t in one.misfit.values()] for one in self.rules]
        numbers = [[one.estimates.get(path, np.nan) for path in paths] for one in self.rules]
        found = xr.Dataset(
            {
                "held_out": (("rule", "presentation"), np.stack([one.held_out for one in self.rules])),
                "block": ("presentation", self.block),
                "fold": ("presentation", np.where(self.block == UNSEEN, UNSEEN, self.block % self.folds)),
                "behind": (("rule", "bound"), np.array(self.behind)),
                "estimate": (("rule", "free"), np.array(numbers)),
                "misfit": (("rule", "observation", "test"), np.array(tests)),
            },
            {
                "rule": names,
                "bound": ["difference", "low", "high"],
                "free": paths,
                "observation": list(self.rules[0].misfit),
                "test": list(Misfit._fields),
            },
        )
        free = [one for rule in self.rules for one in rule.free]
        return labelling.rules(found, free).assign_attrs(verdict=self.verdict)


def _reach(at: Difference) -> str:
    return f"{at.behind:.4g}, 95 % interval {at.low:.4g} to {at.high:.4g}"


def which_rule(
    spec: Spec | str | Path | dict[str, Any],
    data: Source | None = None,
    *,
    rules: Sequence[str | dict[str, Any]] = (),
    folds: int | None = None,
    synthetic: bool = False,
    seed: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Compared:
    """Compares rules by how well each explains a recording: `explained-by` one, `undecided` between some, or `none`.

    rules   names or tables such as a spec's `rule`, "module:Class" for one's own; by default fit.rules of the spec
    folds   into how many parts observations are divided, each of which is left out in turn; by default fit.folds

    Everything else is as in `fit`; a recording that is `synthetic` is made by the spec's own rule.

    Raises:
        PlasticodeError: the spec, its table, a rule or the recording cannot be used, told in one sentence.
    """
    made = spec_of(spec)
    if isinstance(rules, str):
        raise refused("rules", rules, "it must be a list of rules")
    table = dict(made.fit) | ({"rules": list(rules)} if rules else {}) | ({} if folds is None else {"folds": folds})
    made = made.model_copy(update={"fit": table})
    found = read_fit(made)
    seed = made.seed if seed is None else seed
    of_own = own_numbers(made, found)[0] if synthetic else found
    recording, _ = recorded(made, of_own, data, synthetic, seed)
    contest = Contest(contenders(made, found, recording), found, recording, seed)
    found = contest.compared(in_memory(contest.searches, on_progress))
    samples = len(contest.rules[0].made.data["train_inputs"])
    return found if synthetic else dataclasses.replace(found, notes=tuple(unsaid(recording, made, samples)))


def contenders(spec: Spec, table: Fit, recording: Recording | None = None) -> list[Contender]:
    """The rules of a table, each with those of the free numbers that it has."""
    if len(table.rules) < 2:
        raise refused("fit.rules", list(table.rules), "it must name the rules to compare, two or more")
    with_rule = [_with_rule(spec, one) for one in table.rules]
    names = [one.rule.name for one in with_rule]
    if len(set(names)) < len(names):
        raise refused("fit.rules", names, "each rule must be named once")
    there = dict.fromkeys(path for one in with_rule for path in one.rule.numbers())
    for path in table.free:
        if path.startswith("rule.") and not _has(there, path):
            raise unknown("path in fit.free, of any of fit.rules,", path, there)
    of_each = _for_each(with_rule, table, recording)
    return [_contender(one, table, own) for one, own in zip(with_rule, of_each, strict=True)]


def _for_each(specs: Sequence[Spec], table: Fit, recording: Recording | None) -> list[Recording | None]:
    """The recording for each rule, without those initial weights that only others have a map for, such as feedback."""
    if recording is None or not recording.start:
        return [recording] * len(specs)
    made = [model(one, own_numbers(one, table)[0]) for one in specs]
    maps = [set(jax.eval_shape(lambda data, of=of: of.regime({}, data)[1], of.data)) for of in made]
    known = set().union(*maps)
    starts = [{n: w for n, w in recording.start.items() if n in own or n not in known} for own in maps]
    return [recording._replace(start=start) for start in starts]


def _with_rule(spec: Spec, rule: str | dict[str, Any]) -> Spec:
    """The spec with another rule; its own, by name, with the numbers that it has."""
    values = spec.values() | {"sweep": spec.table()["sweep"]}
    try:
        return make_spec(values if rule == spec.rule.name else values | {"rule": rule})
    except PlasticodeError as error:
        raise PlasticodeError(f"in fit.rules: {error}") from None


def _has(numbers: dict[str, Any], path: str) -> bool:
    """Whether a path is among those of the numbers of rules, or an item of one."""
    return path in numbers or path.rpartition(".")[0] in numbers


def own_numbers(spec: Spec, table: Fit) -> tuple[Fit, tuple[str, ...]]:
    """The table with those of the free numbers that the spec's rule has, and the others."""
    name, numbers = spec.rule.name, spec.rule.numbers()
    missing = tuple(path for path in table.free if path.startswith("rule.") and not _has(numbers, path))
    free = {path: one for path, one in table.free.items() if path not in missing}
    if not free:
        raise refused("fit.rules", name, "this rule has none of the numbers of fit.free: there must be one")
    return table.model_copy(update={"free": free, "profile": ()}), missing


def _contender(spec: Spec, table: Fit, recording: Recording | None) -> Contender:
    name = spec.rule.name
    own, missing = own_numbers(spec, table)
    try:
        made = model(spec, own, recording)
        if recording is not None:
            check_widths(recording, table, sizes(made))
    except PlasticodeError as error:
        raise PlasticodeError(f"with the rule '{name}': {error}") from None
    scores = Scores(functools.partial(_scored, made), made, max(table.starts, table.folds))
    told = jax.jit(jax.vmap(functools.partial(_told, made), in_axes=(0, None, None)))
    return Contender(name, made, missing, scores, told)


def _scored(made: Model, place: Places, parts: Parts, data: Arrays) -> Scored:
    """What the observations that are not left out say of a place, without priors."""
    left_out = parts.left_out[jnp.rint(place[-1] * (len(parts.left_out) - 1)).astype(int)]
    rest = {name: jnp.where(left_out[:, None], jnp.nan, values) for name, values in parts.seen.items()}
    said = made.scored(place[:-1], Rows(jnp.arange(len(left_out), dtype=jnp.int32), rest), data)
    return Scored(said.loss, jnp.pad(said.gradient, (0, 1)), jnp.pad(said.information, (0, 1)))


def _told(made: Model, place: Places, seen: dict[str, Any], data: Arrays) -> tuple:
    """The log-likelihood of each presentation; residuals and the variances of their squares by name; the integrator's
    error, if it is too large."""
    presentations = len(next(iter(seen.values())))
    etas, quality = made.predicted(place, presentations, data)
    total, residuals = jnp.zeros(presentations), {}
    for one in made.observe:
        kind, there = LIKELIHOODS[one.noise], ~jnp.isnan(seen[one.name])
        y = jnp.where(there, seen[one.name], 0)
        total -= jax.vmap(kind.loss)(etas[one.name], y, there)
        residuals[one.name] = jax.vmap(kind.residuals)(etas[one.name], y, there)
    error = jnp.zeros(()) if quality is None else jnp.where(quality.converged, 0, quality.error)
    return total, residuals, error


class Contest:
    """Rules that are asked to explain a recording: fitted to all of it, and from there to all but each of the folds."""

    def __init__(self, rules: Sequence[Contender], table: Fit, recording: Recording, seed: int):
        self.rules, self.table, self.recording, self.seed = rules, table, recording, seed
        observed = np.any([~np.isnan(values).all(axis=1) for values in recording.seen.values()], axis=0)
        self.block = blocks(observed, table.folds)
        self.fold = np.where(self.block == UNSEEN, UNSEEN, self.block % table.folds)
        every = np.arange(table.folds)[:, None]
        self.parts = Parts(recording.seen, np.concatenate([np.zeros((1, len(observed)), bool), self.fold == every]))
        sizes = {"starts": table.starts, "folds": table.folds}
        self.searches = {f"rule{i}-{what}": size for i in range(len(rules)) for what, size in sizes.items()}

    def way(self, part: str) -> FoldScorer:
        """How the starts of a search move."""
        one = self.rules[list(self.searches).index(part) // 2]
        return FoldScorer(one.made, one.scores, self.parts)

    def compared(self, seek: Seek) -> Compared:
        """The rules, by how well each foretells what was left out of its fits, where `seek` gives the ends of all
        starts of searches."""
        folds, parts = self.table.folds, list(self.searches)
        begun = [starts_in(one.made, self.table.starts, self.seed) for one in self.rules]
        every = seek(*(self._search(part, at, np.zeros(len(at))) for part, at in zip(parts[::2], begun, strict=True)))
        best = [best_of(e, f"the fit with the rule '{one.name}'") for one, e in zip(self.rules, every, strict=True)]
        again = [np.tile(end.place[:-1], (folds, 1)) for end in best]
        which = np.arange(1, folds + 1)
        left = seek(*(self._search(part, at, which) for part, at in zip(parts[1::2], again, strict=True)))
        found = [self._explanation(*of) for of in zip(self.rules, best, left, strict=True)]
        found.sort(key=lambda one: -one.log_likelihood)
        behind = tuple(difference(found[0].held_out, one.held_out, self.block) for one in found)
        return Compared(tuple(found), behind, self.block, folds)

    def _search(self, part: str, start: np.ndarray, which: np.ndarray) -> Search:
        """From starts, of which each leaves out what `which` says."""
        places = np.column_stack([start, which / self.table.folds])
        held = np.zeros(places.shape, bool)
        held[:, -1] = True
        return Search(part, self.way(part), places, held)

    def _explanation(self, of: Contender, best: End, parts: list[End]) -> Explanation:
        """What the fits of a rule come to: to the whole recording, and to all but each of the folds."""
        made, seen, fold = of.made, self.recording.seen, self.fold
        places = np.stack([end.place[:-1] for end in (best, *parts)])
        likelihoods, residuals, errors = jax.tree.map(np.asarray, of.told(places, seen, made.data))
        held_out = np.where(fold == UNSEEN, 0, likelihoods[fold + 1, np.arange(len(fold))])
        estimates = {one.path: float(one.number(best.place[i])) for i, one in enumerate(made.free)}
        used = spent(best.information[:-1, :-1], len(made.free))
        of_all = {
            name: (np.where(np.isnan(seen[name]), np.nan, rest[0]), variances[0])
            for name, (rest, variances) in residuals.items()
        }
        tests = misfits(made, of_all, used)
        return Explanation(of.name, made.free, of.missing, estimates, tests, held_out, float(errors[0]))
