"""The [fit] table of a spec: what is free and between which ends, what was observed, and by how much noise."""

import difflib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

import jax
from pydantic import Field, ValidationError, field_validator

from dynamics.errors import PlasticodeError, printable, refused, unknown
from experiments.inference.likelihoods import LIKELIHOODS
from experiments.machine.names import hint
from experiments.spec.loading import explained, first_of
from experiments.spec.probes import PROBES
from experiments.spec.spec import Spec
from experiments.spec.tables import AbstractTable, Index, Quantity, unknown_key
from experiments.spec.units import Time

SPACED = ("linspace", "logspace")  # axes that fit.sweep does not have
ALIKE = 0.75  # a misspelt key, by difflib's measure
Kind = Literal["gaussian", "bernoulli", "categorical", "poisson"]
Positive = Annotated[float, Field(gt=0, le=1e30)]


class Free(AbstractTable):
    """A free number: its `range`, its `scale` ("log" by default where the range is positive and the number cannot be
    negative), and perhaps a `prior`, the centre and the standard deviation (that of the natural logarithm on a "log"
    scale) of a normal distribution."""

    range: Annotated[tuple[Any, ...], Field(min_length=2, max_length=2)]
    scale: Literal["log", "linear"] | None = None
    prior: Annotated[tuple[Any, ...], Field(min_length=2, max_length=2)] | None = None


class Observation(AbstractTable):
    """What was seen of a run in each presentation: as it begins, or at `times` from its start.

    of            activities of a layer ("z1"; "output") or its errors ("e1"), settled for the sample that is shown; a
                  matrix ("W1"), its weights flattened; a probe ("loss")
    times         of a coupled run: when, and `of` is then any name of [record] inside, such as "a1" or "m1"
    neurons       which ones of the numbers, counted from 0; by default all
    data          the variable of the recording that has it; by default what it is of
    every         only one presentation in so many is observed, in what is simulated or designed; data have NaN
    noise         how the data differ from it:
                    gaussian     by a normal error of standard deviation `sd`
                    bernoulli    0 or 1, 1 with probability 1 / (1 + exp(-x / `temperature`)), each neuron by itself
                    categorical  the number of the chosen neuron, by softmax(x / `temperature`)
                    poisson      counts of mean `rate` exp(`gain` x)
    """

    of: str
    data: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] | None = None
    times: Annotated[tuple[Annotated[Time, Quantity(zero=True)], ...], Field(min_length=1)] | None = None
    neurons: Annotated[tuple[Index, ...], Field(min_length=1)] | None = None
    every: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] = 1
    noise: Kind = "gaussian"
    sd: Positive | None = None
    temperature: Positive | None = None
    rate: Positive | None = None
    gain: Positive | None = None

    @field_validator("neurons", "times")
    @classmethod
    def _once(cls, value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("each must be listed once")
        return value

    @property
    def is_probe(self) -> bool:
        """Whether it is of a probe, which looks at a network between presentations."""
        own = ":" in self.of or (self.of in PROBES and not PROBES[self.of].whole)
        return own and self.times is None

    @property
    def name(self) -> str:
        """What data, figures and paths of free numbers call it."""
        return self.data or self.of

    def number(self, name: str) -> float | None:
        """One of the numbers of its noise, which has a default; None where it must be given."""
        given = getattr(self, name)
        return LIKELIHOODS[self.noise].numbers[name] if given is None else given


class Fit(AbstractTable):
    """[fit]: what `plasticode fit` does with a spec.

    data      a file of the recording; None for a fit that simulates its own
    free      the free numbers by path: those of the spec, and "observe.NAME.sd" (temperature, rate, gain) of
              what is observed
    starts    how many points of the ranges, drawn evenly, the fit starts from
    profile   paths of free numbers whose intervals are to follow the likelihood itself
    rules     names or tables of rules that are to be compared: which of them explains the recording
    folds     into how many parts what was observed is divided for that, each of which is left out in turn
    initial_weights
              "known": those of the spec; "free": their init is the prior; else what the names of those variables of the
              recording begin with that have them: of "start" start_W1, start_W2, ...
    sweep     of a design: axes of what is observed, such as "observe.0.every" = [1, 5]
    truths    of a design: errors are means over so many truths, drawn by priors; 1: those of the spec alone
    """

    data: str | None = None
    free: dict[str, Free]
    observe: Annotated[tuple[Observation, ...], Field(min_length=1)]
    starts: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 16
    profile: tuple[str, ...] = ()
    rules: tuple[str | dict[str, Any], ...] = ()
    folds: Annotated[int, Field(strict=True, ge=2, le=100)] = 5
    initial_weights: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] = "known"
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    truths: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1

    @field_validator("free", mode="before")
    @classmethod
    def _ranges(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not value:
            raise ValueError('it must be a table of ranges, such as {"timescales.plasticity" = ["0.1 s", "50 s"]}')
        flat = _flat(value, Free.model_fields)
        return {path: {"range": one} if isinstance(one, list | tuple) else one for path, one in flat}

    @field_validator("sweep", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        return dict(_flat(value, SPACED)) if isinstance(value, Mapping) else value

    def chosen(self, settings: Mapping[str, Any]) -> "Fit":
        """The table with other values at paths such as "observe.0.neurons"."""
        table = self.model_dump(mode="json", exclude_none=True)
        for path, value in settings.items():
            _, number, key = path.split(".")
            table["observe"][int(number)][key] = value
        return _validated(table) if settings else self


def _flat(table: Mapping[str, Any], own: Collection[str], before: str = "") -> list[tuple[str, Any]]:
    """Entries by dotted path: TOML makes tables of paths that are not quoted. A table is an entry itself where a key in
    it is one of its `own`, or nearly: what is misspelt is no path."""
    found = []
    for key, value in table.items():
        path = f"{before}{key}"
        is_table = isinstance(value, Mapping) and value
        if is_table and not any(difflib.get_close_matches(str(one).lower(), own, cutoff=ALIKE) for one in value):
            found += _flat(value, own, f"{path}.")
        else:
            found.append((path, value))
    return found


def check_double(what: str) -> None:
    """Refuses what needs float64 where JAX has none."""
    if not jax.config.values["jax_enable_x64"]:
        raise PlasticodeError(f"{what} computes in float64: call plasticode.configure('float64') first")


def read_fit(spec: Spec) -> Fit:
    """The [fit] table of a spec, and whether the spec is one that can be fitted."""
    if not spec.fit:
        what = "it must say what is free, and what was observed"
        raise PlasticodeError(f"the spec '{printable(spec.name)}' has no table [fit]: {what}")
    fit = _validated(spec.fit)
    for key, value in (("parts", spec.part_table), ("phases", spec.phases)):
        if value:
            raise PlasticodeError(f"spec key '{key}' is not allowed in a fit: the recording is one sequence")
    names = [one.name for one in fit.observe]
    for number, one in enumerate(fit.observe):
        if names.count(one.name) > 1:
            raise refused(f"fit.observe.{number}.data", one.name, "all that is observed must have different names")
        allowed = LIKELIHOODS[one.noise].numbers
        for key in ("sd", "temperature", "rate", "gain"):
            if key not in allowed and getattr(one, key) is not None:
                why = f"noise = '{one.noise}' has {' and '.join(allowed)} only"
                raise refused(f"fit.observe.{number}.{key}", getattr(one, key), why)
    for path in fit.profile:
        if path not in fit.free:
            allowed = f"it must be one of the free numbers, {', '.join(fit.free)}{hint(path, fit.free)}"
            raise refused("fit.profile", path, allowed)
    for path, values in fit.sweep.items():
        head, _, rest = path.partition(".")
        number, _, key = rest.partition(".")
        numbers = [str(i) for i in range(len(fit.observe))]
        if head != "observe" or number not in numbers or key not in Observation.model_fields:
            allowed = ", ".join(f"observe.{number}.{key}" for number in numbers for key in Observation.model_fields)
            raise unknown("path in fit.sweep", printable(path), allowed.split(", "))
        if len({str(value) for value in values}) < len(values):
            raise refused(f"fit.sweep.{path}", values, "each value must be listed once")
        if f"observe.{names[int(number)]}.{key}" in fit.free:
            raise PlasticodeError(f"'{path}' of fit.sweep is free and swept at once: it must be either")
        for value in values:
            fit.chosen({path: value})
    return fit


def _validated(table: Mapping[str, Any]) -> Fit:
    try:
        return Fit.model_validate(table)
    except ValidationError as error:
        raise _explained(error) from None


_SHAPES = {
    "observe": 'a list of tables, such as [{ of = "z1", sd = 0.1 }]',
    "free": 'a range, such as ["0.1 s", "50 s"], or a table with a range',
    "sweep": 'a list of values for each path, such as {"observe.0.every" = [1, 5]}',
}


def _explained(error: ValidationError) -> PlasticodeError:
    """As `explained`, of keys of [fit]."""
    first = first_of(error)
    at = [str(item) for item in first["loc"]]
    shape = _SHAPES.get(at[0]) if len(at) <= 2 or at[0] == "free" else None
    if shape and first["type"] in ("tuple_type", "list_type", "dict_type", "model_type", "model_attributes_type"):
        return refused(f"fit.{'.'.join(at)}", first["input"], f"it must be {shape}")
    if first["type"] == "extra_forbidden":
        model: Any = {"free": Free, "observe": Observation}.get(at[0], Fit) if len(at) > 1 else Fit
        return unknown_key(f"fit.{'.'.join(at)}", list(model.model_fields))
    sentence = str(explained(error))
    key = ".".join(at)
    return PlasticodeError(sentence.replace(printable(key), f"fit.{printable(key)}", 1) if key else sentence)
