"""What a fit may claim: which numbers the data determine, and whether the model fits them at all.

Identifiability is read off the eigenvalues of the information, never off its inverse: with numbers scaled so that each
alone has information 1, an eigenvalue of nearly 0 is a direction in which the data say nothing, and every number with a
share in it has no finite interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from experiments.inference.coordinates import Coordinate
from experiments.inference.scoring import End
from experiments.results.text_tables import seconds_text

NORMAL = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
# Eigenvalues of the scaled information below this are 0: two numbers with a correlation of 1 - 1e-9. Rounding leaves
# 1e-15 of an exact degeneracy.
NULL, SHARE = 1e-9, 0.01
AS_WIDE = "its 95 % interval is as wide as its range"
WIDEST = 0.5  # half an interval that is as wide as the range: nothing was learned
MOST_PRIOR = 0.5  # of the standard deviation of the prior: with a larger error, it is the prior that speaks
TIED = 0.7  # a correlation of errors from which on numbers are told to be known together only
FALLEN = float(stats.chi2.ppf(0.95, 1)) / 2  # what the log-likelihood loses to the ends of a profile's interval
SIGNIFICANT = 3.2905  # 99.9 % of a normal distribution
SAME_LOSS = 2.0  # log units, within which another optimum is as good
APART = 5.0  # standard errors
EDGE = 1e-6  # of a range
IDENTIFIED, AT_BOUND, NOT_IDENTIFIED = "identified", "at-bound", "not-identified"
MISFIT, DISAGREE = "misfit", "starts-disagree"


class Certainty(NamedTuple):
    """Standard errors in the box (infinite where there is none), the correlation of the errors (NaN there), the
    directions in the box about which the data say nothing, eigenvalues of the scaled information."""

    errors: np.ndarray
    correlation: np.ndarray
    null: list[np.ndarray]
    eigenvalues: np.ndarray


def certainty(information: np.ndarray) -> Certainty:
    """What the information says of the errors of the numbers; NaN of a run that is not finite."""
    if not np.isfinite(information).all():
        unknown = np.full(information.shape, np.nan)
        return Certainty(unknown[0], unknown, [], unknown[0])
    scale = np.sqrt(np.clip(np.diag(information), 0, None))
    silent = scale == 0
    scale = np.where(silent, 1, scale)
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    null = values < NULL
    shares = vectors / scale[:, None]
    covariance = (shares[:, ~null] / values[~null]) @ shares[:, ~null].T
    lost = (np.abs(vectors[:, null]) > SHARE).any(axis=1) | silent
    errors = np.where(lost, np.inf, np.sqrt(np.diag(covariance)))
    with np.errstate(invalid="ignore"):
        correlation = np.where(np.isfinite(np.outer(errors, errors)), covariance / np.outer(errors, errors), np.nan)
    return Certainty(errors, correlation, [shares[:, i] for i in np.flatnonzero(null)], values)


class Misfit(NamedTuple):
    """Tests of one observation, each a normal number if the model is right: of the size of residuals (None where it is
    free) and of their correlation from one presentation to the next."""

    size: float | None
    memory: float | None

    @property
    def found(self) -> bool:
        return any(z is not None and not abs(z) < SIGNIFICANT for z in self)


def misfit(residuals: np.ndarray, variances: np.ndarray, has_free_size: bool, free: int) -> Misfit:
    """Tests of residuals, (presentations, data), NaN where nothing was seen; `variances` are those of their squares."""
    seen = ~np.isnan(residuals)
    excess = np.nansum(residuals**2) - seen.sum() + free
    size = None if has_free_size else float(excess / np.sqrt(max(variances[seen].sum(), 1e-300)))
    pairs = residuals[1:] * residuals[:-1]
    counted = ~np.isnan(pairs)
    squares = (np.nan_to_num(residuals[1:]) ** 2 * np.nan_to_num(residuals[:-1]) ** 2)[counted].sum()
    memory = float(pairs[counted].sum() / np.sqrt(squares)) if squares > 0 else None
    return Misfit(size, memory)


@dataclass(frozen=True)
class Verdict:
    """What may be claimed of a free number, and why not more."""

    verdict: str
    why: str


def verdicts(
    free: Sequence[Coordinate], best: End, ends: Sequence[End], known: Certainty, tests: dict[str, Misfit]
) -> list[Verdict]:
    """The verdict on each free number: the first that holds of `not-identified`, `at-bound`, `starts-disagree`,
    `misfit`, `identified`."""
    rivals = [end for end in ends if end.converged and end.loss < best.loss + SAME_LOSS]
    wrong = [name for name, test in tests.items() if test.found]
    found = []
    for i, one in enumerate(free):
        error = known.errors[i]
        far = [end for end in rivals if abs(end.place[i] - best.place[i]) > APART * error]
        if not is_known(one, error):
            found.append(Verdict(NOT_IDENTIFIED, _unknown(free, i, known)))
        elif end := end_at(best.place[i]):
            found.append(Verdict(AT_BOUND, f"the likelihood still grows at the {end} end of the range"))
        elif far:
            other, less = float(one.number(far[0].place[i])), far[0].loss - best.loss
            told = f"{number_text(one, other)} fits nearly as well, by {less:.2g} log units"
            found.append(Verdict(DISAGREE, told))
        elif wrong:
            told = f"the residuals of {', '.join(wrong)} are not those of the model: the interval is too narrow"
            found.append(Verdict(MISFIT, told))
        else:
            found.append(Verdict(IDENTIFIED, ""))
    return found


def is_known(one: Coordinate, error: float) -> bool:
    """Whether data say where in its range a number is, and not for the most part its prior."""
    is_prior = one.prior is not None and bool(error * one.width > MOST_PRIOR * one.prior[1])
    return bool(NORMAL * error < WIDEST) and not is_prior


def _unknown(free: Sequence[Coordinate], i: int, known: Certainty) -> str:
    if known.null:  # the smallest change of number i that the data do not see, and of what must go with it
        span = np.linalg.qr(np.array(known.null).T)[0]
        direction = span @ span[i]
        if abs(direction[i]) > SHARE * np.abs(direction).max() > 0:
            return f"the data stay the same when {direction_text(free, direction)}"
    too_wide = not NORMAL * known.errors[i] < WIDEST
    why = AS_WIDE if too_wide else "what is known of it is for the most its prior"
    ties = np.nan_to_num(known.correlation[i])
    ties[i] = 0
    other = int(np.abs(ties).argmax())
    if abs(ties[other]) < TIED:
        return why
    return f"{why}; its error is tied to that of {free[other].path} (correlation {ties[other]:.2f})"


def end_at(place: float) -> str:
    """Which end of its range a place is at: "lower", "upper" or neither, ""."""
    return "lower" if place <= EDGE else "upper" if place >= 1 - EDGE else ""


def direction_text(free: Sequence[Coordinate], direction: np.ndarray) -> str:
    """A direction in the box in words: by what factors, or by how much, numbers change together."""
    shares = direction / direction[np.abs(direction).argmax()]
    shares = np.where(np.abs(shares) > SHARE, shares, 0)  # without what is next to nothing
    shares = shares * np.array([one.width for one in free])
    logs = [abs(share) for one, share in zip(free, shares, strict=True) if one.is_log and share]
    most = max(abs(share) / one.width for one, share in zip(free, shares, strict=True))
    unit = np.log(2) / max(logs) if logs else 0.1 / most
    first = shares[np.flatnonzero(shares)[0]]
    told = []
    for one, share in zip(free, shares * unit * np.sign(first), strict=True):
        if share and one.is_log:
            told.append(f"{one.path} is multiplied by {np.exp(share):.3g}")
        elif share:
            told.append(f"{one.path} changes by {share:+.3g}{' s' if one.is_time else ''}")
    return " and ".join(told)


def number_text(one: Coordinate, value: float) -> str:
    """A number with its unit."""
    if not one.is_time or not np.isfinite(value):
        return f"{value:.4g}"
    return seconds_text(value)


@dataclass(frozen=True)
class Estimate:
    """A free number: its value, the ends of its 95 % interval (those of its range at most), the verdict, and why no
    more can be claimed; `truth` where the recording was simulated. Times are in seconds."""

    path: str
    value: float
    low: float
    high: float
    verdict: str
    why: str
    truth: float | None = None


def sentences(estimates: Sequence[Estimate], free: Sequence[Coordinate], tests: Mapping[str, Misfit]) -> list[str]:
    """What may be said of a fit, as in a paper: a sentence for each free number, and for each test that failed."""
    told = []
    for one, of in zip(estimates, free, strict=True):
        low, high = number_text(of, one.low), number_text(of, one.high)
        value = f"{one.path} = {number_text(of, one.value)}, 95 % interval {low} to {high}"
        if one.verdict in (IDENTIFIED, MISFIT):
            told.append(f"{value}, but {one.why}." if one.why else f"{value}.")
        else:
            told.append(f"{one.path} is {one.verdict}: {one.why}.")
    for name, test in tests.items():
        for what, z in (
            ("larger or smaller than", test.size),
            ("more alike from one presentation to the next than", test.memory),
        ):
            if z is not None and not abs(z) < SIGNIFICANT:
                told.append(f"Residuals of {name} are {what} the model allows ({z:+.1f} standard deviations).")
    return told
