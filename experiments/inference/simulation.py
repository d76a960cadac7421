"""The recording that a fit is asked to explain: read, or made by the spec itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

from dynamics.errors import PlasticodeError, refused
from experiments.inference import recordings
from experiments.inference.initial import FREE, KNOWN, spec_weights
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.inference.model import model, truth_of
from experiments.inference.recordings import Recording
from experiments.inference.table import Fit, check_double
from experiments.spec.axes import LARGEST_SEED
from experiments.spec.spec import Spec

Source = str | Path | Mapping[str, Any] | xr.Dataset


def recorded(
    spec: Spec, table: Fit, data: Source | None, synthetic: bool, seed: int
) -> tuple[Recording, np.ndarray | None]:
    """The recording that is asked for, and the places of the truth in the ranges where it is `synthetic`."""
    check_double("a fit")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise refused("seed", seed, f"it must be a whole number from 0 to {LARGEST_SEED}")
    if not synthetic:
        return given(spec, table, data), None
    if data is not None:
        both = "data and synthetic (--data and --synthetic)"
        raise PlasticodeError(f"{both} are not allowed together: a recording is either given or simulated")
    return simulated(spec, table, seed)


def given(spec: Spec, table: Fit, data: Source | None) -> Recording:
    """The recording of `data`, or else of the file that the table names."""
    source = table.data if data is None else data
    if source is None:
        needed = "it, or data (--data), must be the recording; synthetic (--synthetic) makes one"
        raise PlasticodeError(f"fit.data is missing: {needed}")
    return recordings.read(source, table, spec.task)


def simulated(spec: Spec, table: Fit, seed: int) -> tuple[Recording, np.ndarray]:
    """A recording that the spec makes with its own numbers, and their places in the ranges."""
    return simulator(spec, table)(seed)


def simulator(spec: Spec, table: Fit) -> Callable[[int], tuple[Recording, np.ndarray]]:
    """What makes such recordings, one for each seed of their noise; one program for all."""
    made = model(spec, table)
    truth = truth_of(made)
    presentations = spec.stimulus.presentations
    over = made.over(presentations)
    etas, _ = jax.jit(made.predicted, static_argnums=1)(truth, presentations, made.data)

    start = spec_weights(made) if table.initial_weights not in (KNOWN, FREE) else {}

    def draw(seed: int) -> tuple[Recording, np.ndarray]:
        seen = {}
        for number, one in enumerate(made.observe):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), number), presentations)
            values = np.array(jax.vmap(LIKELIHOODS[one.noise].draw)(keys, etas[one.name]))
            values[np.arange(presentations) % one.every != 0] = np.nan
            values[over[one.name]] = np.nan
            seen[one.name] = values
        return Recording(presentations, seen, None, start=start), truth

    return draw
