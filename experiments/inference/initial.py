"""Initial weights that are not those of the spec: free ones, each with a normal prior, or those that a recording has.

A free weight is a coordinate as any free number is: from 0 to 1 through so many standard deviations of its prior.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError, printable
from experiments.inference import labelling
from experiments.inference.recordings import Recording
from experiments.inference.scoring import End, spread
from experiments.inference.table import Fit
from experiments.machine.names import hint

KNOWN, FREE = "known", "free"
WIDTH = 12.0  # standard deviations of the prior that a coordinate runs through: no bound is ever met
DRAWN = 20_000  # draws of weights of a map, over all of its weights, that its prior follows from
FEWEST_DRAWS = 8
MOST = 5000  # free weights
Weights = Mapping[str, Any]


@dataclass(frozen=True)
class Initial:
    """Initial `weights` by map, of which the `entries` with these numbers (of the flattened map) are free, with the
    mean and the standard deviation of each map's prior."""

    weights: dict[str, np.ndarray]
    entries: dict[str, np.ndarray]
    prior: dict[str, tuple[float, float]]

    @property
    def size(self) -> int:
        """How many are free."""
        return sum(map(len, self.entries.values()))

    def at(self, places: Any) -> dict[str, Any]:
        """All weights, by map, at the places of those that are free."""
        found, first = {name: jnp.asarray(array) for name, array in self.weights.items()}, 0
        for name, entries in self.entries.items():
            mean, sd = self.prior[name]
            free = mean + sd * WIDTH * (places[first : first + len(entries)] - 0.5)
            found[name] = found[name].ravel().at[entries].set(free).reshape(found[name].shape)
            first += len(entries)
        return found

    def places(self) -> np.ndarray:
        """The places of the `weights` themselves."""
        found = []
        for name, entries in self.entries.items():
            mean, sd = self.prior[name]
            found.append((self.weights[name].ravel()[entries] - mean) / (sd * WIDTH) + 0.5)
        return np.concatenate([np.zeros(0), *found])

    def begun(self, starts: int, seed: int) -> np.ndarray:
        """Where starts begin, (starts, free): at the weights of the spec, all others at draws of the prior."""
        drawn = 0.5 + np.random.default_rng(seed).normal(size=(starts, self.size)) / WIDTH
        drawn[0] = self.places()
        return np.clip(drawn, 0, 1)

    def found(self, end: End) -> xr.Dataset:
        """The free weights where a start has ended, and their standard errors; NaN are those that are not free."""
        errors = np.sqrt(np.diag(np.linalg.pinv(end.information, hermitian=True)))[-self.size :]
        variables, first = {}, 0
        for name, entries in self.entries.items():
            mean, sd = self.prior[name]
            dims = [f"{name}_{axis}" for axis in range(self.weights[name].ndim)]
            rows = slice(first, first + len(entries))
            numbers = (mean + sd * WIDTH * (end.place[-self.size :][rows] - 0.5), sd * WIDTH * errors[rows])
            for key, values in zip((name, f"{name}_error"), numbers, strict=True):
                whole = np.full(self.weights[name].size, np.nan)
                whole[entries] = values
                variables[key] = (dims, whole.reshape(self.weights[name].shape))
            first += len(entries)
        return labelling.weights(xr.Dataset(variables))


def starts_in(made: Any, starts: int, seed: int) -> np.ndarray:
    """Where the starts of a fit of a model begin, (starts, free), free weights among them."""
    begun = spread(starts, len(made.free), seed)
    return np.concatenate([begun, made.initial.begun(starts, seed)], axis=1) if made.initial else begun


def initial_of(made: Any, table: Fit, recording: Recording | None) -> Initial | None:
    """What fit.initial_weights asks for, of a model without; what is simulated begins with the weights of the spec."""
    asked = table.initial_weights
    if asked == KNOWN or (asked != FREE and recording is None):
        return None
    weights = spec_weights(made)
    if asked != FREE:
        return of_recording(weights, recording.start if recording else {}, asked)
    return drawn_freely(weights, lambda key: made.regime({}, made.data)[0].circuit.initial_weights(key))


def spec_weights(made: Any) -> dict[str, np.ndarray]:
    """The initial weights of the spec of a model."""
    return jax.device_get(jax.jit(lambda data: made.regime({}, data)[1])(made.data))


def drawn_freely(weights: Weights, draw: Any) -> Initial:
    """All weights that the init draws are free: `draw(key)` draws them. The prior of a map is normal, with the mean and
    the standard deviation of many draws; what the init does not draw, such as biases of 0, stays as it is."""
    size = sum(np.size(array) for array in weights.values())
    count = max(DRAWN // max(size, 1), FEWEST_DRAWS)
    draws = jax.device_get(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), count)))
    entries, prior = {}, {}
    for name, array in draws.items():
        flat = np.asarray(array, float).reshape(count, -1)
        there = np.flatnonzero((flat != flat[0]).any(axis=0))
        if len(there):
            entries[name], prior[name] = there, (float(flat[:, there].mean()), float(flat[:, there].std()))
    if not entries:
        raise PlasticodeError("fit.initial_weights = 'free' is not allowed here: the rule draws no initial weights")
    found = Initial({name: np.asarray(array, float) for name, array in weights.items()}, entries, prior)
    if found.size > MOST:
        raise PlasticodeError(
            f"fit.initial_weights = 'free' makes {found.size} weights free: at most {MOST} are allowed, as what is "
            "known of each beside all others is a matrix"
        )
    return found


def of_recording(weights: Weights, found: Mapping[str, np.ndarray], prefix: str) -> Initial:
    """The weights that a recording has, by map; maps that it does not have stay those of the spec."""
    if not found:
        there = ", ".join(f"{prefix}_{name}" for name in weights)
        raise PlasticodeError(
            f"the recording has no weights for fit.initial_weights = '{printable(prefix)}': it is 'known', 'free', "
            f"or what their names begin with, here those of {there}{hint(prefix, (KNOWN, FREE))}"
        )
    own = {name: np.asarray(array, float) for name, array in weights.items()}
    for name, values in found.items():
        has = f"the recording has '{printable(f'{prefix}_{name}')}'"
        if name not in own:
            there = ", ".join(f"{prefix}_{one}" for one in own)
            why = f"and the rule's network has no such map: weights must be {there}{hint(name, list(own))}"
            raise PlasticodeError(f"{has}, {why}")
        if values.shape != own[name].shape:
            raise PlasticodeError(
                f"{has} of shape {list(values.shape)}: it must be {list(own[name].shape)}, targets first"
            )
        if not np.isfinite(values).all():
            raise PlasticodeError(
                f"the recording has NaN or infinite values in '{printable(f'{prefix}_{name}')}': all initial weights "
                "must be finite; where they are not known, initial_weights = 'free'"
            )
    return Initial(own | dict(found), {}, {})


def marginal(information: np.ndarray, numbers: int) -> np.ndarray:
    """The information about the first so many numbers, whatever the others are (which have priors)."""
    a, b, c = information[:numbers, :numbers], information[:numbers, numbers:], information[numbers:, numbers:]
    return a - b @ np.linalg.solve(c, b.T) if c.size else a


def spent(information: np.ndarray, numbers: int) -> float:
    """How many numbers data have determined: the first so many, and of the others as much as their priors did not."""
    if len(information) == numbers:
        return numbers
    left = np.diag(np.linalg.pinv(information, hermitian=True))[numbers:] * WIDTH**2
    return numbers + float((1 - left).sum())
