"""What follows from where starts have ended: intervals, the model beside the data, tests of what is left."""

from typing import Any

import jax
import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError
from experiments.inference import labelling
from experiments.inference.coordinates import OBSERVE
from experiments.inference.initial import spent
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.model import Model
from experiments.inference.recordings import Recording
from experiments.inference.scoring import End
from experiments.inference.verdicts import FALLEN, NORMAL, Misfit, misfit


def ends_of_interval(place: float, error: float, profile: xr.Dataset | None, best: float) -> tuple[float, float]:
    """The ends of the interval: the outermost places where the profile has fallen by so much, infinite where it has not
    at an end of the range, or so many standard errors away."""
    if profile is None:
        return place - NORMAL * error, place + NORMAL * error
    lost = np.nan_to_num(profile["loss"].values - best, nan=np.inf)
    at, fallen = profile["place"].values, np.sqrt(lost.clip(0)) - np.sqrt(FALLEN)  # roots: straight of a parabola
    return _outermost(at, fallen, place, -1), _outermost(at, fallen, place, 1)


def _outermost(at: np.ndarray, fallen: np.ndarray, place: float, side: int) -> float:
    """The outermost place to one side of another, -1 or 1, at which what is below 0 comes to it: beyond a second valley
    too."""
    beyond = np.flatnonzero(side * (at - place) > 0)
    beyond = beyond[np.argsort(side * at[beyond])]
    x, y = np.append(place, at[beyond]), np.append(-np.sqrt(FALLEN), fallen[beyond])
    last = np.flatnonzero(y < 0)[-1]
    return side * np.inf if last == len(x) - 1 else float(np.interp(0, y[last : last + 2], x[last : last + 2]))


def best_of(ends: list[End], of: str = "the fit") -> End:
    """The best of where the starts have ended; refused where none has a likelihood."""
    best = min(ends, key=lambda end: end.loss)
    if not np.isfinite(best.loss):
        raise PlasticodeError(f"no start of {of} has a finite likelihood: fit.free must allow runs that do not diverge")
    return best


def starts_of(made: Model, ends: list[End]) -> xr.Dataset:
    """Where every start began and ended."""
    dims = ("start", "free")

    def numbers(places: list[np.ndarray]) -> np.ndarray:
        return np.array([[float(one.number(at[i])) for i, one in enumerate(made.free)] for at in places])

    found = xr.Dataset(
        {
            "began": (dims, numbers([end.start for end in ends])),
            "ended": (dims, numbers([end.place for end in ends])),
            "loss": ("start", [end.loss for end in ends]),
            "scores": ("start", [end.scores for end in ends]),
            "converged": ("start", [end.converged for end in ends]),
        },
        {"free": [one.path for one in made.free]},
    )
    return labelling.starts(found, made.free)


def judged(made: Model, recording: Recording, best: End) -> tuple[xr.Dataset, dict[str, Misfit], float]:
    """What the model says beside the data, tests of what is left, the integrator's estimate of its own error."""
    etas, quality = jax.jit(made.predicted, static_argnums=1)(best.place, recording.presentations, made.data)
    variables, rest = {}, {}
    for one in made.observe:
        kind, y = LIKELIHOODS[one.noise], recording.seen[one.name]
        seen = ~np.isnan(y)
        tested = jax.jit(jax.vmap(kind.residuals))(etas[one.name], np.nan_to_num(y), seen)
        residuals, variances = map(np.asarray, tested)
        residuals = np.where(seen, residuals, np.nan)
        rest[one.name] = residuals, variances
        dims = ("presentation", f"{one.name}_number")
        variables |= {f"{one.name}_data": (dims, y), f"{one.name}_residual": (dims, residuals)}
        variables |= {f"{one.name}_{n}": (_dims(one.name, n, e), np.asarray(e)) for n, e in etas[one.name].items()}
    error = 0.0 if quality is None or quality.converged else float(quality.error)
    predicted = labelling.predicted(xr.Dataset(variables), made.observe)
    return predicted, misfits(made, rest, spent(best.information, len(made.free))), error


def misfits(made: Model, residuals: dict[str, tuple[np.ndarray, np.ndarray]], used: float) -> dict[str, Misfit]:
    """Tests of the residuals of each observation (NaN where nothing was seen), by name, given with the variances of
    their squares; `used` is how many numbers the data have determined."""
    free, tests = {one.path for one in made.free}, {}
    count = {name: (~np.isnan(rest)).sum() for name, (rest, _) in residuals.items()}
    for one in made.observe:
        has_free_size = one.noise == "gaussian" and f"{OBSERVE}.{one.name}.sd" in free
        share = round(used * count[one.name] / sum(count.values()))
        tests[one.name] = misfit(*residuals[one.name], has_free_size, share)
    return tests


def _dims(name: str, parameter: str, eta: Any) -> tuple[str, ...]:
    if eta.ndim == 1:
        return ("presentation",)
    return ("presentation", f"{name}_choice" if parameter == "logits" else f"{name}_number")
