"""The tables of a spec, one pydantic model each, and what each of their numbers may be."""

import functools
import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model, field_validator
from pydantic_core import CoreSchema, core_schema

from dynamics.activations import ACTIVATIONS, activation
from dynamics.errors import PlasticodeError, printable, refused, unknown
from dynamics.integrators.registry import INTEGRATORS
from dynamics.noise import KINDS, AbstractSynapticNoise, Fluctuation
from dynamics.plugins import is_own
from experiments.machine.names import one_of
from experiments.spec.probes import PROBES, check_variables, probe_named
from experiments.spec.units import Time, read_number, read_time

Width = Annotated[int, Field(strict=True, gt=0, le=100_000)]
Count = Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)]
Index = Annotated[int, Field(strict=True, ge=0)]
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


PerLayer = Time | tuple[Time, ...]
Lag = Annotated[Time, Quantity(zero=True, absent=0.0, coupled=True)]
NoiseLevel = Annotated[float | None, Quantity(time=False, zero=True, optional=True, coupled=True)]


class AbstractTable(BaseModel):
    """What all tables share: fixed once read, and no key but the known ones. The text below a key is for docs/."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Network(AbstractTable):
    """[network]: a fully connected network; the task gives its input size and, unless unsupervised, its output size."""

    hidden: Annotated[tuple[Width, ...], Field(max_length=100)] = (64,)
    """Neurons of each hidden layer, from the input on; [] has none."""
    outputs: Width | None = None
    """Neurons of the output layer, where the task has no targets that say it."""
    activation: Activation = "tanh"
    """f of the hidden layers."""
    output_activation: Activation = "linear"
    """f of the output layer."""
    loss: Literal["squared", "softmax"] = "squared"
    """What the output error descends: half the squared error, or the cross-entropy of a softmax."""
    bias: Flag = True
    """Whether every layer has biases that learn."""
    gain: Annotated[float, Quantity(time=False, zero=True)] = Field(default=1.0, title="gain of the initial weights")
    """Initial weights are normal, of this standard deviation over the root of their number of sources."""
    weights: Annotated[str, Field(min_length=1, max_length=4000)] | None = Field(default=None, title="first weights")
    """A file with maps by name (W1, b1, ...), or "DIR#12", a point of a run that has saved its own; else drawn."""
    skips: Annotated[tuple[tuple[Index, Index], ...], Field(max_length=100)] = ()
    """Pairs of layers [from, to], counted from 0 (the input), that further matrices connect."""

    @property
    def layers(self) -> int:
        """The number of layers of neurons, without the input."""
        return len(self.hidden) + 1

    @property
    def activations(self) -> tuple[str, str]:
        """Those of the hidden layers and of the output layer."""
        return self.activation, self.output_activation


class Timescales(AbstractTable):
    """[timescales]: time constants, each one time or one per layer."""

    propagation: Annotated[PerLayer, Quantity(per_layer=True, coupled=True)] = Field(
        default=Time(0.002), title="propagation timescale"
    )
    """tau_prop of activities and errors."""
    plasticity: Annotated[PerLayer, Quantity(per_layer=True, infinite=True)] = Field(
        default=Time(1.5), title="plasticity timescale"
    )
    """tau_plast: weights move by (post times pre) / tau_plast; inf freezes them."""
    decay: Annotated[PerLayer, Quantity(per_layer=True, infinite=True, absent=math.inf)] = Field(
        default=Time(math.inf), title="decay timescale"
    )
    """tau_dec of weights; inf: they do not decay."""
    trace: Annotated[PerLayer | None, Quantity(per_layer=True, optional=True, coupled=True)] = Field(
        default=None, title="trace timescale"
    )
    """Of the eligibility trace of presynaptic factors; without it there is none."""


class Stimulus(AbstractTable):
    """[stimulus]: each presentation lasts `duration` (the unit T) and is followed by a blank `gap`.

    Of sequences each frame is a presentation, and the order is that of sequences.

    `batch` samples are shown side by side, each to a copy of the network; the copies share weights and slow variables,
    which move by the mean of their drives. `presentations` counts how often that happens.
    """

    duration: Annotated[Time, Quantity(relative=False)] = Field(default=Time(0.05), title="stimulus duration")
    """T, how long a sample is shown."""
    gap: Annotated[Time, Quantity(zero=True)] = Field(default=Time(0.0), title="gap between stimuli")
    """Blank time after each."""
    presentations: Count = 1500
    """How many are shown, over the whole run."""
    order: Literal["random", "shuffled", "sequential"] = "random"
    """With replacement, in shuffled epochs, or as the data have them."""
    batch: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1
    """Samples that are shown side by side."""


class Delays(AbstractTable):
    """[delays]: constant lags; `stages` = 0 for a sharp lag, m > 0 for a gamma-distributed one of m stages."""

    error: Lag = Field(default=Time(0.0), title="error delay")
    """By which the output error reaches the error units late."""
    hop: Lag = Field(default=Time(0.0), title="transmission delay per layer")
    """Of every projection."""
    input: Lag = Field(default=Time(0.0), title="input delay")
    """Of the input, before the first layer."""
    stages: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """0: sharp lags; m: gamma-distributed ones of m stages."""


def _amplitude(kind: Fluctuation | AbstractSynapticNoise) -> str:
    """What the amplitude of a kind of noise is."""
    if isinstance(kind, Fluctuation):
        return f"The stationary standard deviation that noise gives the {kind.variable} of every neuron."
    of = inspect.getdoc(kind) or ""
    return f"s of dW = (..) dt + s g(W) dB, per square root of a second, {of.partition('.')[0]}."


def _levels() -> type[AbstractTable]:
    """The amplitudes of all kinds of noise that there are, as a table."""
    titles = {name: f"{' '.join(reversed(name.split('_')))} noise" for name in KINDS}  # an adjective comes first
    fields: dict[str, Any] = {
        name: (NoiseLevel, Field(default=None, title=title, description=_amplitude(KINDS[name])))
        for name, title in titles.items()
    }
    return create_model("AbstractLevels", __base__=AbstractTable, **fields)


class Noise(_levels()):
    """[noise]: amplitudes; an absent one adds no noise. `sampling` makes a weight flow the Ito SDE of its samples."""

    calculus: Literal["ito", "stratonovich"] = "ito"
    """In whose sense multiplicative noise of weights is meant."""
    sampling: Flag = False
    """Whether a flow has the noise of updates by `stimulus.batch` samples."""


class Integrator(AbstractTable):
    """[integrator]: the solver (by default `Spec.solver` chooses), and `dt`, the largest step it may take.

    Estimates of the error of the weights' change are held against `tolerance`. The window integrator has nothing but
    that, except that along noise `dt` bounds the distance of its nodes; steps that miss it are made finer. Adaptive
    steps keep to `rtol` and `atol`, and give up after `max_steps` in a presentation.
    """

    name: Solver | None = None
    """The solver; by default `window` where it is at its best, else steps."""
    dt: Annotated[Time, Quantity()] = Time(0.001)
    """The largest step; with `window`, the largest distance of nodes along noise."""
    tolerance: Tolerance = 1e-3
    """Relative error of the weights' change that a run must meet."""
    adaptive: Flag = False
    """Whether steps adapt to `rtol` and `atol`."""
    rtol: Tolerance = 1e-6
    """Relative tolerance of an adaptive step."""
    atol: Tolerance = 1e-8
    """Absolute tolerance of an adaptive step."""
    max_steps: Count = 4096
    """Adaptive steps in a presentation, after which it is given up."""


class Discrete(AbstractTable):
    """[discrete]: the optimiser of the discrete regime."""

    optimiser: Literal["sgd", "adam"] = "sgd"
    """What makes steps of updates."""


class Flow(AbstractTable):
    """[flow]: `entropic` makes a weight flow the one that updates follow to second order; it and `noise.sampling` are
    those of updates by `stimulus.batch` samples each."""

    entropic: Flag = False
    """Whether a flow is corrected to follow updates to second order."""


class Record(AbstractTable):
    """[record]: which probes are recorded, at how many evenly spaced times, and what is seen inside presentations."""

    points: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 10
    """Records, evenly spaced, beside that of the start."""
    probes: Annotated[tuple[Probe, ...], Field(min_length=1)] | None = None
    """What is measured at each: names of probes, or `module:function`; by default what suits the task."""
    weights: Literal["end", "records"] | None = None
    """When all maps are saved, once or with each record; without it never."""
    samples: Annotated[tuple[Index, ...], Field(min_length=1, max_length=1000)] | None = None
    """Test samples, counted from 0, that the probe `activities` is of; by default the first ten."""
    inside: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """What is seen inside presentations, by name: [see the dynamics](see-the-dynamics.md)."""
    inside_presentations: Annotated[tuple[Index, ...], Field(max_length=100_000)] = ()
    """Inside which, counted from 0 over the whole run."""
    inside_times: Annotated[int, Field(strict=True, ge=2, le=100_000)] = 101
    """Times, evenly spaced from the start of a presentation to the end of its gap."""
    inside_neurons: dict[str, Annotated[tuple[Index, ...], Field(min_length=1, max_length=100_000)]] = {}
    """Neurons that are seen of a layer, where not all are: { z1 = [0, 3] }."""

    @field_validator("probes")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        check_variables(value or ())
        return value


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


def named_table(value: Any, key: str) -> dict[str, Any]:
    """A copy of the table of a rule or task, which a text alone abbreviates; it has a name, which a rule inside another
    (at `key` = "rule.credit") must be given."""
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, dict) or (key not in DEFAULT_NAMES and "name" not in value):
        raise refused(key, value, "it must be a name or a table with a name")
    return ({"name": DEFAULT_NAMES[key]} if key in DEFAULT_NAMES else {}) | value


def unknown_key(path: str, allowed: list[str]) -> PlasticodeError:
    """The error for a path whose last component is none of the `allowed` keys of its table; another may have it."""
    leaf = printable(path.rpartition(".")[2])
    sentence = str(unknown("spec key", leaf, allowed))
    elsewhere = [f"{section}.{leaf}" for section, table in TABLES.items() if leaf in table.model_fields]
    if elsewhere and "; did you mean" not in sentence:
        sentence += f"; did you mean '{elsewhere[0]}'?"
    return PlasticodeError(sentence.replace(f"'{leaf}'", f"'{printable(path)}'", 1))
