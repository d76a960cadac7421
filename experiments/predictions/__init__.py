"""Predictions of the literature: one module each, by name. `plasticode reproduce` measures them."""

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import experiments.machine.drawing  # noqa: F401 - before matplotlib
from dynamics.errors import PlasticodeError
from experiments.machine.names import unknown_of_many
from experiments.predictions.continuous import CONTINUOUS
from experiments.predictions.curl import CURL
from experiments.predictions.energy import ENERGY
from experiments.predictions.generalisation import GENERALISATION
from experiments.predictions.geometry import GEOMETRY
from experiments.predictions.hebbian import HEBBIAN
from experiments.predictions.heterosynaptic import HETEROSYNAPTIC
from experiments.predictions.limits import LIMITS
from experiments.predictions.linear import LINEAR
from experiments.predictions.perturbation import PERTURBATION
from experiments.predictions.sgd import SGD_MODES
from experiments.predictions.traces import TRACES

if TYPE_CHECKING:
    from experiments.predictions.contract import AbstractPrediction

# name -> "module:Class"; modules are imported when asked for, since most of them need jax.
PREDICTIONS: dict[str, str] = {
    **CONTINUOUS,
    **CURL,
    **HETEROSYNAPTIC,
    **HEBBIAN,
    **ENERGY,
    **PERTURBATION,
    **GEOMETRY,
    **TRACES,
    **SGD_MODES,
    **LINEAR,
    **GENERALISATION,
    **LIMITS,
}


def prediction_class(name: str) -> "type[AbstractPrediction]":
    """The prediction called `name`; one that does not exist raises `PlasticodeError`."""
    if name not in PREDICTIONS:
        raise unknown_of_many("prediction", name, PREDICTIONS, "plasticode reproduce --list")
    module, _, cls = PREDICTIONS[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), cls)


def configured(
    names: Sequence[str], settings: Mapping[str, Any], quick: bool = False, seed: int | None = None
) -> "dict[str, AbstractPrediction]":
    """The predictions called `names` (all where there are none), with their parameters.

    A setting "NAME.parameter" reaches one of them; "parameter" alone is enough where only one is chosen. What reaches
    none of them raises `PlasticodeError`, as does a parameter that does not exist or has a wrong value.
    """
    chosen: dict[str, type[AbstractPrediction]] = {name: prediction_class(name) for name in names or PREDICTIONS}
    own: dict[str, dict[str, Any]] = {name: {} if seed is None else {"seed": seed} for name in chosen}
    for path, value in settings.items():
        name, dot, key = path.partition(".")
        if not dot and len(chosen) == 1:
            name, key = next(iter(chosen)), path
        if name not in chosen:
            if name in PREDICTIONS:
                raise PlasticodeError(f"the setting '{path}' reaches nothing: '{name}' is not among those to run")
            if not dot:
                raise PlasticodeError(
                    f"the setting '{path}' is not allowed: with several predictions it must name one, as in "
                    f"{next(iter(chosen))}.{path}"
                )
            raise unknown_of_many("prediction", name, chosen, "plasticode reproduce --list")
        own[name][key] = value
    return {name: cls.configured(name, own[name], quick) for name, cls in chosen.items()}


def plain(value: Any) -> Any:
    """A parameter's value for JSON and TOML, which know no infinity in common."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value
