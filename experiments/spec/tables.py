"""The tables of a spec, one pydantic model each, and what each of their numbers may be."""

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from dynamics.activations import ACTIVATIONS, activation
from dynamics.errors import PlasticodeError, printable, refused, unknown
from dynamics.integrators.registry import INTEGRATORS
from dynamics.noise import KINDS, AbstractSynapticNoise
from dynamics.plugins import is_own
from experiments.machine.names import one_of, unknown_name
from experiments.spec.probes import PROBES, check_variables, probe_named
from experiments.spec.units import Time, read_number, read_time
from rules import registry
from rules.registry import rule_times, wrapped_rules

Width = Annotated[int, Field(strict=True, gt=0, le=100_000)]
Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)]
Records = Annotated[int, Field(strict=True, gt=0, le=100_000)]
Index = Annotated[int, Field(strict=True, ge=0)]
Stages = Annotated[int, Field(strict=True, ge=0, le=1000)]
Flag = Annotated[bool, Field(strict=True)]
Tolerance = Annotated[float, Field(strict=True, gt=0, lt=1)]


def _named(known: Collection[str], look_up: Callable[[str], Any] | None, inner: str, name: str) -> str:
    """A name that is `known`, or a user's own, which is then looked up (with None there are no such); for `inner` see
    `names.hint`."""
    if look_up is None or not is_own(name):
        return one_of(name, known, inner)
    look_up(name)
    return name


Activation = Annotated[str, AfterValidator(functools.partial(_named, ACTIVATIONS, activation, "activation"))]
Probe = Annotated[str, AfterValidator(functools.partial(_named, PROBES, probe_named, "function"))]
Solver = Annotated[str, AfterValidator(functools.partial(_named, INTEGRATORS, None, ""))]

LARGEST = 1e30  # of a number; with its inverse well inside the range of float32


@dataclass(frozen=True)
class Quantity:
    """What a number of a spec may be; as pydantic metadata it reads, checks and writes that number.

    A quantity is a time, read as `units.Time`, or dimensionless, read as float. `per_layer` allows a list as well, one
    value per layer. A list of no value, NaN, and infinity unless `infinite` is set, are always refused.

    `absent` is the number that stands for nothing: where no point has another, the run has none. `coupled`: only the
    coupled regime heeds it.
    """

    time: bool = True
    zero: bool = False
    negative: bool = False
    infinite: bool = False
    per_layer: bool = False
    relative: bool = True
    optional: bool = False
    absent: float | None = None
    coupled: bool = False

    def read(self, value: Any) -> Any:
        """A Time or float, or a tuple of them for a list; the `ValueError` of anything else says what is allowed."""
        if value is None and self.optional:
            return None
        if isinstance(value, list | tuple) and self.per_layer:
            if not value:
                raise ValueError("a list must have one value per layer")
            return tuple(self.read_one(item) for item in value)
        return self.read_one(value)

    def read_one(self, value: Any) -> Time | float:
        """As `read`, without lists."""
        if not self.time:
            number = read_number(value)
            self.check(number)
            return number
        time = read_time(value)
        self.check(time.value, time.unit == "T")
        if time.unit == "T" and not self.relative:
            raise ValueError("T stands for this very duration, so it must be in seconds, ms, min, ...")
        return time

    def check(self, number: float, relative: bool = False) -> None:
        """Raise `ValueError` where the number is out of range; of a `relative` one only the sign is known to matter."""
        noun = "a time" if self.time else "the number"
        if math.isnan(number) or (math.isinf(number) and not self.infinite):
            raise ValueError(f"{noun} must be finite")
        if not self.negative and (number < 0 or (number == 0 and not self.zero)):
            raise ValueError(f"{noun} must be {'zero or ' if self.zero else ''}positive")
        if not relative and number != 0 and not math.isinf(number) and not 1 / LARGEST <= abs(number) <= LARGEST:
            raise ValueError(f"{noun} must be at least {1 / LARGEST:g} and at most {LARGEST:g} in size, or zero")

    @staticmethod
    def write(value: Any) -> Any:
        """Numbers, alone or in lists and tables, as JSON and TOML have them: texts for times, floats otherwise."""
        if isinstance(value, tuple):
            return [Quantity.write(item) for item in value]
        if isinstance(value, Mapping):
            return {key: Quantity.write(item) for key, item in value.items()}
        return str(value) if isinstance(value, Time) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        writer = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(self.read, serialization=writer)


RULE_NUMBER = Quantity(time=False, zero=True, negative=True, per_layer=True)
RULE_TIME = Quantity(per_layer=True)
RULE_DELAY = Quantity(zero=True, per_layer=True)  # a time whose default is 0
PerLayer = Time | tuple[Time, ...]
Lag = Annotated[Time, Quantity(zero=True, absent=0.0, coupled=True)]
NoiseLevel = Annotated[float | None, Quantity(time=False, zero=True, optional=True, coupled=True)]


class AbstractTable(BaseModel):
    """What all tables share: fixed once read, and no key but the known ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Network(AbstractTable):
    """[network]: a fully connected network; the task gives its input size and, unless unsupervised, its output size."""

    hidden: Annotated[tuple[Width, ...], Field(max_length=100)] = (64,)
    outputs: Width | None = None
    activation: Activation = "tanh"
    output_activation: Activation = "linear"
    loss: Literal["squared", "softmax"] = "squared"
    bias: Flag = True
    gain: Annotated[float, Quantity(time=False, zero=True)] = Field(default=1.0, title="gain of the initial weights")
    skips: Annotated[tuple[tuple[Index, Index], ...], Field(max_length=100)] = ()

    @property
    def layers(self) -> int:
        """The number of layers of neurons, without the input."""
        return len(self.hidden) + 1


class Timescales(AbstractTable):
    """[timescales]: time constants, each one time or one per layer."""

    propagation: Annotated[PerLayer, Quantity(per_layer=True, coupled=True)] = Field(
        default=Time(0.002), title="propagation timescale"
    )
    plasticity: Annotated[PerLayer, Quantity(per_layer=True, infinite=True)] = Field(
        default=Time(1.5), title="plasticity timescale"
    )
    decay: Annotated[PerLayer, Quantity(per_layer=True, infinite=True, absent=math.inf)] = Field(
        default=Time(math.inf), title="decay timescale"
    )
    trace: Annotated[PerLayer | None, Quantity(per_layer=True, optional=True, coupled=True)] = Field(
        default=None, title="trace timescale"
    )


class Stimulus(AbstractTable):
    """[stimulus]: each presentation lasts `duration` (the unit T) and is followed by a blank `gap`."""

    duration: Annotated[Time, Quantity(relative=False)] = Field(default=Time(0.05), title="stimulus duration")
    gap: Annotated[Time, Quantity(zero=True)] = Field(default=Time(0.0), title="gap between stimuli")
    presentations: Count = 1500


class Delays(AbstractTable):
    """[delays]: constant lags; `stages` = 0 for a sharp lag, m > 0 for a gamma-distributed one of m stages."""

    error: Lag = Field(default=Time(0.0), title="error delay")
    hop: Lag = Field(default=Time(0.0), title="transmission delay per layer")
    input: Lag = Field(default=Time(0.0), title="input delay")
    stages: Stages = 0


def _levels() -> type[AbstractTable]:
    """The amplitudes of all kinds of noise that there are, as a table."""
    titles = {name: f"{' '.join(reversed(name.split('_')))} noise" for name in KINDS}  # an adjective comes first
    fields: dict[str, Any] = {name: (NoiseLevel, Field(default=None, title=title)) for name, title in titles.items()}
    return create_model("AbstractLevels", __base__=AbstractTable, **fields)


class Noise(_levels()):
    """[noise]: amplitudes; an absent one adds no noise. `sampling` makes a weight flow the Ito SDE of its samples."""

    calculus: Literal["ito", "stratonovich"] = "ito"
    sampling: Flag = False


class Integrator(AbstractTable):
    """[integrator]: the solver (by default `Spec.solver` chooses), and `dt`, the largest step it may take.

    Estimates of the error of the weights' change are held against `tolerance`. The window integrator has nothing but
    that, except that along noise `dt` bounds the distance of its nodes; steps that miss it are made finer. Adaptive
    steps keep to `rtol` and `atol`, and give up after `max_steps` in a presentation.
    """

    name: Solver | None = None
    dt: Annotated[Time, Quantity()] = Time(0.001)
    tolerance: Tolerance = 1e-3
    adaptive: Flag = False
    rtol: Tolerance = 1e-6
    atol: Tolerance = 1e-8
    max_steps: Count = 4096


class Discrete(AbstractTable):
    """[discrete]: the optimiser of the discrete regime, and how many samples an update takes the mean over."""

    optimiser: Literal["sgd", "adam"] = "sgd"
    batch: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1


class Flow(AbstractTable):
    """[flow]: `entropic` makes a weight flow the one that updates follow to second order; it and `noise.sampling` are
    those of updates by `batch` samples each."""

    entropic: Flag = False
    batch: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1


class Record(AbstractTable):
    """[record]: which probes are recorded, at how many evenly spaced times.

    Without `probes`, the loss is recorded, and the accuracy where the task is a classification: see `Spec.probes`.
    """

    points: Records = 10
    probes: Annotated[tuple[Probe, ...], Field(min_length=1)] | None = None

    @field_validator("probes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        check_variables(value or ())
        return value


class Rule(AbstractTable):
    """[rule]: a learning rule by name, and all of its parameters: those of the table, the rule's defaults otherwise.

    `rule = "fa"` is short for a table with only a name. A rule of the user's own is named "module:Class".
    """

    name: str
    parameters: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _from_table(cls, value: Any) -> Any:
        return _rule(value, "rule")

    @model_serializer
    def _to_table(self) -> dict[str, Any]:
        return {"name": self.name} | {
            key: Quantity.write(value) for key, value in self.parameters.items() if value is not None
        }

    def traced(self) -> list[str]:
        """The parameters that are traced numbers or times, or lists of them."""
        return [key for key, default in rule_fields(self.name).items() if is_traced(default)]

    def in_seconds(self, duration: Any) -> dict[str, Any]:
        """The parameters with every time, those of wrapped rules included, in seconds where a stimulus lasts `duration`
        (which may be traced)."""
        return _in_seconds(self.name, self.parameters, duration)


DEFAULT_NAMES = {"rule": "sgd", "task": "digits"}
TABLES: dict[str, type[BaseModel]] = {
    "network": Network,
    "timescales": Timescales,
    "stimulus": Stimulus,
    "delays": Delays,
    "noise": Noise,
    "integrator": Integrator,
    "discrete": Discrete,
    "flow": Flow,
    "record": Record,
}
ON_SYNAPSES = tuple(f"noise.{name}" for name, kind in KINDS.items() if isinstance(kind, AbstractSynapticNoise))
MULTIPLIED = tuple(f"noise.{name}" for name, kind in KINDS.items() if kind.multiplied)  # with a calculus
TRACED: dict[str, Quantity] = {
    f"{name}.{key}": item
    for name in ("network", "timescales", "stimulus", "delays", "noise")
    for key, field in TABLES[name].model_fields.items()
    for item in field.metadata
    if isinstance(item, Quantity)
}


def rule_fields(name: str) -> dict[str, object]:
    """The parameters of a rule and their default values; a rule that does not exist raises `PlasticodeError`."""
    if printable(name, 200) != name:
        raise refused("rule", name, 'it must be the name of a rule, or "module:Class"')
    if name not in registry.RULES and not is_own(name):
        raise unknown_name("rule", name, registry.RULES, "Class")
    fields = registry.rule_fields(name)
    return fields | {key: RULE_DELAY.read(fields[key]) for key in registry.rule_times(name)}


def is_traced(default: object) -> bool:
    """Whether a rule parameter with this default is a traced number: a float, a time, or a list of them."""
    if isinstance(default, list | tuple):
        return all(isinstance(item, float | Time) for item in default)
    return isinstance(default, float | Time)


def rule_quantity(default: object) -> Quantity:
    """What a traced parameter of a rule with this default may be."""
    first = default[0] if isinstance(default, list | tuple) and default else default
    if not isinstance(first, Time):
        return RULE_NUMBER
    return RULE_TIME if first.value else RULE_DELAY


def _in_seconds(name: str, parameters: Mapping[str, Any], duration: Any) -> dict[str, Any]:
    times, wrapped, result = rule_times(name), wrapped_rules(name), dict(parameters)
    for key, value in parameters.items():
        if key in times:
            items = value if isinstance(value, tuple) else (value,)
            seconds = [item.value * duration if item.unit == "T" else item.value for item in items]
            result[key] = seconds if isinstance(value, tuple) else seconds[0]
        elif key in wrapped and isinstance(value, Mapping):
            inner = {other: item for other, item in value.items() if other != "name"}
            result[key] = {"name": value["name"]} | _in_seconds(value["name"], inner, duration)
    return result


def named_table(value: Any, key: str) -> dict[str, Any]:
    """A copy of the table of a rule or task, which a text alone abbreviates; it has a name."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict):
        raise refused(key, value, "it must be a name or a table with a name")
    return {"name": DEFAULT_NAMES[key]} | value


def unknown_key(path: str, allowed: list[str]) -> PlasticodeError:
    """The error for a path whose last component is none of the `allowed` keys of its table."""
    leaf = printable(path.rpartition(".")[2])
    sentence = str(unknown("spec key", leaf, allowed))
    return PlasticodeError(sentence.replace(f"'{leaf}'", f"'{printable(path)}'", 1))


def _rule(value: Any, at: str) -> dict[str, Any]:
    """The name and all parameters of the rule at the path `at`."""
    table = named_table(value, "rule")
    name = table.pop("name")
    if not isinstance(name, str):
        raise refused(f"{at}.name", name, 'it must be the name of a rule, or "module:Class"')
    fields = rule_fields(name)
    for key in table:
        if key not in fields:
            raise unknown_key(f"{at}.{key}", ["name", *fields])
    wrapped = wrapped_rules(name)
    parameters = {key: _parameter(f"{at}.{key}", table, fields[key], key in wrapped) for key in fields}
    return {"name": name, "parameters": parameters}


def _parameter(path: str, table: dict[str, Any], default: object, wrapped: bool) -> Any:
    """The value of a rule's parameter: its default, or one of the same type; a `wrapped` rule by name or as a table."""
    key = path.rpartition(".")[2]
    value = table.get(key, default)
    if isinstance(default, list | tuple):
        default = tuple(default)
    if key not in table or (default == () and value == []):
        return default
    if is_traced(default):
        try:
            return rule_quantity(default).read(value)
        except ValueError as error:
            raise refused(path, value, str(error)) from None
    value = tuple(value) if isinstance(value, list) else value
    if wrapped and (isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("name"), str))):
        read = _rule(value, path)["parameters"]
        return {other: read.get(other, item) for other, item in value.items()} if isinstance(value, dict) else value
    if default is not None and type(value) is not type(default):
        raise refused(path, value, f"it must be of the same type as its default {default!r}")
    return value
