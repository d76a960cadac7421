"""The spec of an experiment: everything that one TOML file says (see experiments/specs), defaults filled in.

`experiments.spec.loading` makes one, checked; `experiments.spec.grid.expand` turns it into batches of points.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializeAsAny, field_serializer, field_validator

from dynamics.activations import activation
from dynamics.errors import refused
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.integrators.registry import integrator_named
from dynamics.plugins import modules_of
from experiments.spec.axes import written
from experiments.spec.overrides import MOST_PARTS
from experiments.spec.paths import flattened, phase_path
from experiments.spec.probes import FISHER, PROBES
from experiments.spec.rule_table import Rule
from experiments.spec.tables import (
    MULTIPLIED,
    AbstractTable,
    Count,
    Delays,
    Discrete,
    Flow,
    Integrator,
    Network,
    Noise,
    Record,
    Stimulus,
    Timescales,
    named_table,
    unknown_key,
)
from experiments.spec.toml_text import write_toml
from experiments.tasks.contract import AbstractTask
from experiments.tasks.registry import make_task, task_class

DEFAULT_SOLVERS = ("window", "heun", "euler")  # the first one that suits, or the last: checks then tell what does not
LONGEST_NAME = 200  # bytes; file systems allow 255, and suffixes come after
PartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]
MOST_PHASES = 100


class Part(AbstractTable):
    """[parts.NAME]: one of several sweeps of a spec; `set` maps dotted paths to this part's values."""

    set: dict[str, Any] = {}
    """Dotted paths, and the values of this part."""
    sweep: dict[str, Any] = {}
    """Its own axes."""
    quick: dict[str, Any] = Field(default={}, exclude=True)
    """What `--quick` sets in it."""

    @field_validator("set", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return flattened(value, "set")


class Phase(AbstractTable):
    """[[phases]]: a stage of a run, of so many presentations; `set` maps dotted paths to its own values."""

    name: PartName | None = None
    """What results call it; by default its number from 0."""
    presentations: Count
    """How many it has."""
    set: dict[str, Any] = {}
    """Dotted paths, and its own values."""

    @field_validator("set", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return flattened(value, "phases.set")

    def named(self, number: int) -> str:
        """What results call the phase with this number."""
        return str(number) if self.name is None else self.name


class Spec(AbstractTable):
    """An experiment, all defaults filled in. `loading.make_spec` and `loading.load_spec` build it.

    Times are `units.Time` (in seconds, or relative to `stimulus.duration`), standard deviations and gains are floats.
    The axes of `sweep` are `axes.Values`, except in a spec with parts.
    """

    model_config = ConfigDict(validate_default=True)

    name: str = "experiment"
    """What the run and its folder are called; of a file, its name."""
    description: str = ""
    """A sentence for reports and `plasticode list`."""
    study: str = ""
    """A built-in analysis that ends in verdicts."""
    regime: Literal["coupled", "flow", "discrete"] = "coupled"
    """Coupled equations of activities, errors and weights; the flow of weights alone; or discrete updates."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0
    """Of the start, of noise and of the order of samples."""
    dtype: Literal["float32", "float64"] = "float32"
    """Of all numbers of the run."""
    task: SerializeAsAny[AbstractTask] = Field(default="digits")  # pyright: ignore[reportAssignmentType] - is validated
    """The data: a name, or a table with a name and the [keys of that task](tasks.md)."""
    network: Network = Network()
    rule: Rule = Field(default="sgd", title="learning rule")  # pyright: ignore[reportAssignmentType] - is validated
    """A name, or a table with a name and the [keys of that rule](rules.md)."""
    timescales: Timescales = Timescales()
    stimulus: Stimulus = Stimulus()
    delays: Delays = Delays()
    noise: Noise = Noise()
    integrator: Integrator = Integrator()
    discrete: Discrete = Discrete()
    flow: Flow = Flow()
    record: Record = Record()
    phases: Annotated[tuple[Phase, ...], Field(max_length=MOST_PHASES)] = ()
    """Stages of one run, `[[phases]]`."""
    sweep: dict[str, Any] = {}
    """Axes by dotted paths: lists, `linspace`, `logspace`; `seeds`; `zip`."""
    quick: dict[str, Any] = Field(default={}, exclude=True)
    """Dotted paths, and what `--quick` sets."""
    fit: dict[str, Any] = Field(default={}, exclude=True)  # what experiments.inference.table reads
    """What a recording is asked: [fit](fit.md)."""
    part_table: dict[PartName, Part] = Field(default={}, alias="parts", max_length=MOST_PARTS)
    """Several sweeps in one spec, `[parts.NAME]`."""
    _parts: dict[str, "Spec"] = PrivateAttr(default={})  # made once, by `make_spec`
    _phases: tuple["Spec", ...] = PrivateAttr(default=())  # too

    @field_validator("task", mode="before")
    @classmethod
    def _task(cls, value: Any) -> AbstractTask:
        table = named_table(value, "task")
        name = table.pop("name")
        if not isinstance(name, str):
            raise refused("task.name", name, 'it must be the name of a task, or "module:Class"')
        allowed = list(task_class(name).model_fields)
        for key in table:
            if key not in allowed:
                raise unknown_key(f"task.{key}", allowed)
        return make_task(name, table)

    @field_validator("phases")
    @classmethod
    def _distinct(cls, value: tuple[Phase, ...]) -> tuple[Phase, ...]:
        names = [phase.named(number) for number, phase in enumerate(value)]
        if len(set(names)) < len(names):
            raise ValueError("phases must have different names; without one, a phase is called by its number from 0")
        return value

    @field_validator("name")
    @classmethod
    def _file_name(cls, value: str) -> str:
        if not value.isprintable() or not value.strip(". ") or "/" in value or "\\" in value:
            raise ValueError("it must be a text that can name a directory")
        if len(value.encode()) > LONGEST_NAME:
            raise ValueError(f"it must be a text that can name a directory, of at most {LONGEST_NAME} bytes")
        return value

    @property
    def probes(self) -> tuple[str, ...]:
        """What is recorded: `record.probes`, else those that are the standard for this kind of task."""
        if self.record.probes is not None:
            return self.record.probes
        return tuple(name for name, probe in PROBES.items() if self.task.kind in probe.standard)

    @property
    def heeds_fit(self) -> bool:
        """Whether its runs heed the table [fit]."""
        return any(FISHER in part.probes for part in self.parts().values())

    @property
    def solver(self) -> str:
        """The integrator: `integrator.name`; else tsit5 for adaptive steps; else the window integrator where it is at
        its best, for coupled runs without kinks in an activation; else heun, or euler for noise in the sense of Ito."""
        if self.integrator.name is not None:
            return self.integrator.name
        if self.integrator.adaptive:
            return "tsit5"
        if self.regime == "discrete":  # which takes no steps
            return "euler"
        return next((name for name in DEFAULT_SOLVERS if self._suits(integrator_named(name))), DEFAULT_SOLVERS[-1])

    def _suits(self, integrator: AbstractIntegrator) -> bool:
        """Whether an integrator is at its best here."""
        smooth = all(activation(name).smooth for name in self.network.activations)
        swept = {phase_path(path)[1] for path in self.sweep}
        multiplied = any(self.at(key) is not None or key in swept for key in MULTIPLIED)
        if self.regime == "flow" and not (integrator.flows and (integrator.sampling or not self.noise.sampling)):
            return False
        return (integrator.kinks or smooth) and (not multiplied or self.noise.calculus in integrator.calculi)

    @property
    def modules(self) -> set[str]:
        """The modules of a user's own code that it names: of its rules, task, probes and activations."""
        return modules_of([self.task.name, *self.rule.names, *self.probes, *self.network.activations])

    def at(self, path: str) -> Any:
        """The value at a path of two components, such as "delays.error"."""
        section, key = path.split(".")
        return getattr(getattr(self, section), key)

    @field_serializer("sweep")
    def _written(self, sweep: dict[str, Any]) -> dict[str, Any]:
        return written(sweep)

    def values(self) -> dict[str, Any]:
        """Tables like those of `table`, with values as they were read; without sweep and parts."""
        known = {key: value for key, value in self if key not in ("sweep", "quick", "part_table")}
        tables = {key: dict(value) if isinstance(value, BaseModel) else value for key, value in known.items()}
        return tables | {"rule": {"name": self.rule.name} | self.rule.parameters}

    def table(self) -> dict[str, Any]:
        """The spec as TOML would have it, from which `make_spec` makes an equal one."""
        table = _without_none(self.model_dump(mode="json", by_alias=True))
        return table | ({"fit": self.fit} if self.heeds_fit else {})

    def parts(self) -> dict[str, "Spec"]:
        """The single-sweep specs of this spec, by part; a spec without parts is its own part, named ""."""
        return self._parts or {"": self}

    def stages(self) -> tuple["Spec", ...]:
        """The specs of the phases of this spec without parts, or else the spec itself."""
        return self._phases or (self,)

    def stage_presentations(self) -> list[int]:
        """The presentations of each of those."""
        return [phase.presentations for phase in self.phases] or [self.stimulus.presentations]

    def resolved(self) -> dict[str, Any]:
        """Everything that was decided, defaults included: nested tables that are valid JSON and valid TOML."""
        table = self.table()
        if not self.part_table:
            table["record"]["probes"] = list(self.probes)
        if not self.record.inside:
            table["record"] = {key: value for key, value in table["record"].items() if not key.startswith("inside")}
        return {key: value for key, value in table.items() if value or key not in ("sweep", "parts", "phases")}

    def hash(self) -> str:
        """The SHA-256 of all that can change a result: the resolved spec without its name and description."""
        content = {key: value for key, value in self.resolved().items() if key not in ("name", "description")}
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def dump_toml(spec: Spec) -> str:
    """The resolved spec as TOML; loading it gives an equal spec."""
    return write_toml(spec.resolved() | ({"fit": spec.fit} if spec.fit else {}))


def _without_none(value: Any) -> Any:
    """TOML has no null: what is absent from a table is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
