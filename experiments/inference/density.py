"""The posterior density of a fit as a function that JAX differentiates: what samplers ask for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.errors import PlasticodeError, refused
from experiments.inference import recordings
from experiments.inference.coordinates import Coordinate
from experiments.inference.model import Rows, model, sizes
from experiments.inference.simulation import Source, given
from experiments.inference.table import check_double, read_fit
from experiments.inference.verdicts import EDGE
from experiments.spec.loading import spec_of
from experiments.spec.spec import Spec

Vector = Float[Array, " free"]


@dataclass(frozen=True)
class LogDensity:
    """The logarithm of the density of the free numbers given a recording, up to a constant: a pure function.

    Of unbounded x, (free,): the numbers lie at the shares 1 / (1 + exp(-x)) of their ranges, which the density knows.
    Its gradient takes as long as one score of a fit, in forward mode; second derivatives there are none. Numbers
    without a prior are as probable everywhere in their range, on their scale.
    """

    free: tuple[Coordinate, ...]
    _log_likelihood: Callable[[Vector], Float[Array, ""]]

    def __call__(self, x: Vector) -> Float[Array, ""]:
        log_prior = jnp.zeros_like(x[0])
        places = jax.nn.sigmoid(x)
        for i, one in enumerate(self.free):
            if one.prior is not None:
                log_prior -= jnp.square(one.surprise(places[i])) / 2
        return self._log_likelihood(places) + log_prior + (jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x)).sum()

    def numbers(self, x: Float[Array | np.ndarray, "*draws free"]) -> dict[str, np.ndarray]:
        """The free numbers by path, of one x or of many; times in seconds."""
        places = np.asarray(jax.nn.sigmoid(jnp.asarray(x)))
        return {one.path: np.asarray(one.number(places[..., i])) for i, one in enumerate(self.free)}

    def at(self, numbers: Mapping[str, float]) -> Vector:
        """The x of free numbers by path, such as the estimates of a fit. The end of a range is infinitely far: a number
        there has the x of one a millionth of the range inside, where a sampler can begin."""
        places = jnp.clip(jnp.asarray([_place(one, numbers) for one in self.free]), EDGE, 1 - EDGE)
        return jnp.log(places) - jnp.log1p(-places)


def _place(one: Coordinate, numbers: Mapping[str, float]) -> float:
    """Where in its range a free number is; one that is not given, or lies outside, is refused."""
    number, slack = numbers.get(one.path), EDGE * (one.high - one.low)
    if number is None:
        raise PlasticodeError(f"'{one.path}' is missing: each of the free numbers must be given")
    if isinstance(number, str) or not one.low - slack <= number <= one.high + slack:
        raise refused(one.path, number, f"it must be a number in its range, from {one.low:g} to {one.high:g}")
    return one.place(min(max(number, one.low), one.high))


def log_density(spec: Spec | str | Path | Mapping[str, Any], data: Source | None = None) -> LogDensity:
    """The log density of a spec's free numbers given a recording, by default that of fit.data.

    Raises:
        PlasticodeError: the spec, its table or the recording cannot be used, told in one sentence.
    """
    made = spec_of(spec)
    check_double("a log density")
    table = read_fit(made)
    recording = given(made, table, data)
    of = model(made, table, recording)
    recordings.check_widths(recording, table, sizes(of))
    if of.initial is not None and of.initial.size:
        raise refused("fit.initial_weights", table.initial_weights, "a log density takes initial weights for known")
    rows = Rows(np.arange(recording.presentations, dtype=np.int32), recording.seen)

    @jax.custom_vjp
    def log_likelihood(places: Vector) -> Float[Array, ""]:
        return -of.scored(places, rows, of.data).loss

    def forward(places: Vector) -> tuple[Float[Array, ""], Vector]:
        said = of.scored(places, rows, of.data)
        return -said.loss, said.gradient

    log_likelihood.defvjp(forward, lambda gradient, along: (-along * gradient,))
    return LogDensity(of.free, log_likelihood)
