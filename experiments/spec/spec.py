"""The spec of an experiment: read from TOML, checked strictly, resolved, written back.

A spec is one TOML file (see experiments/specs for examples). `load_spec` reads it, applies overrides and checks it;
`experiments.spec.grid.expand` turns it into batches of points.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from dynamics.errors import PlasticodeError, printable, refused, unknown
from experiments.spec.axes import canonical_sweep, check_size, swept_paths
from experiments.spec.overrides import MOST_PARTS, apply_overrides
from experiments.spec.paths import assign, check_path, flattened
from experiments.spec.tables import (
    AbstractTable,
    Delays,
    Discrete,
    Integrator,
    Network,
    Noise,
    Record,
    Rule,
    Stimulus,
    Timescales,
    named_table,
    unknown_key,
)
from experiments.spec.toml_text import inline, parse_setting, read_toml, write_toml
from experiments.tasks.registry import TASKS, Task

SPECS = Path(__file__).parent.parent / "specs"
LONGEST_NAME = 200  # bytes; file systems allow 255, and suffixes come after
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
PartName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=64)]


class Part(AbstractTable):
    """[parts.NAME]: one of several sweeps of a spec; `set` maps dotted paths to this part's values."""

    set: dict[str, Any] = {}
    sweep: dict[str, Any] = {}
    quick: dict[str, Any] = Field(default={}, exclude=True)

    @field_validator("set", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return flattened(value, "set")


class Spec(AbstractTable):
    """An experiment, all defaults filled in. `make_spec` and `load_spec` build it; their errors are `PlasticodeError`.

    Times are `units.Time` (in seconds, or relative to `stimulus.duration`), standard deviations and gains are floats.
    """

    model_config = ConfigDict(validate_default=True)

    name: str = "experiment"
    description: str = ""
    study: str = ""
    regime: Literal["coupled", "flow", "discrete"] = "coupled"
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float32"
    task: Task = Field(default={"name": "digits"})  # pyright: ignore[reportAssignmentType] - validated to a task
    network: Network = Network()
    rule: Rule = Field(default="sgd")  # pyright: ignore[reportAssignmentType] - validated to a rule
    timescales: Timescales = Timescales()
    stimulus: Stimulus = Stimulus()
    delays: Delays = Delays()
    noise: Noise = Noise()
    integrator: Integrator = Integrator()
    discrete: Discrete = Discrete()
    record: Record = Record()
    sweep: dict[str, Any] = {}
    quick: dict[str, Any] = Field(default={}, exclude=True)
    part_table: dict[PartName, Part] = Field(default={}, alias="parts", max_length=MOST_PARTS)

    @field_validator("task", mode="before")
    @classmethod
    def _task_table(cls, value: Any) -> Any:
        return named_table(value, "task")

    @field_validator("name")
    @classmethod
    def _file_name(cls, value: str) -> str:
        if not value.isprintable() or not value.strip(". ") or "/" in value or "\\" in value:
            raise ValueError("it must be a text that can name a directory")
        if len(value.encode()) > LONGEST_NAME:
            raise ValueError(f"it must be a text that can name a directory, of at most {LONGEST_NAME} bytes")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> "Spec":
        from experiments.spec.checks import check  # here, because that module needs this one

        if self.part_table:
            if self.sweep:
                raise PlasticodeError("spec key 'sweep' is not allowed beside 'parts': each part has its own sweep")
            return self
        table = self.table()
        if self.sweep:
            canonical = canonical_sweep(table)
            self.sweep.clear()  # in place: this dictionary was made by pydantic and belongs to this spec alone
            self.sweep.update(canonical)
        traced, static = swept_paths(table)
        if not static:  # otherwise, what has to fit together is known for each point only, and checked there
            check(self, traced)
        if "rule" in self.sweep and self.rule != Rule.model_validate(self.rule.name):
            rule = inline(table["rule"])
            raise PlasticodeError(f"rule = {rule} is not allowed with sweep.rule, which replaces it: list it there")
        return self

    @property
    def probes(self) -> tuple[str, ...]:
        """What is recorded: `record.probes`; else the loss, the accuracy of a classification, norms without targets."""
        if self.record.probes is not None:
            return self.record.probes
        if self.task.kind == "unsupervised":
            return ("weight_norm",)
        return ("accuracy", "loss") if self.task.kind == "classification" else ("loss",)

    @property
    def solver(self) -> str:
        """The integrator: `integrator.name`; else tsit5 for adaptive steps; else the window integrator where it is at
        its best, for coupled runs without kinks in an activation; else heun, or euler for noise in the sense of Ito."""
        if self.integrator.name is not None:
            return self.integrator.name
        if self.integrator.adaptive:
            return "tsit5"
        kinked = "relu" in (self.network.activation, self.network.output_activation)
        if self.regime == "coupled" and not kinked:
            return "window"
        if self.regime == "discrete":  # which takes no steps
            return "euler"
        multiplied = self.noise.synaptic_multiplicative is not None or "noise.synaptic_multiplicative" in self.sweep
        return "euler" if self.noise.sampling or (multiplied and self.noise.calculus == "ito") else "heun"

    def at(self, path: str) -> Any:
        """The value at a path of two components, such as "delays.error"."""
        section, key = path.split(".")
        return getattr(getattr(self, section), key)

    def table(self) -> dict[str, Any]:
        """The spec as TOML would have it, from which `make_spec` makes an equal one."""
        return _without_none(self.model_dump(mode="json", by_alias=True))

    def parts(self) -> dict[str, "Spec"]:
        """The single-sweep specs of this spec, by part; a spec without parts is its own part, named ""."""
        if not self.part_table:
            return {"": self}
        return {name: self._part(name, part) for name, part in self.part_table.items()}

    def resolved(self) -> dict[str, Any]:
        """Everything that was decided, defaults included: nested tables that are valid JSON and valid TOML."""
        table = self.table()
        if not self.part_table:
            table["record"]["probes"] = list(self.probes)
        return {key: value for key, value in table.items() if value != {} or key not in ("sweep", "parts")}

    def hash(self) -> str:
        """The SHA-256 of all that can change a result: the resolved spec without its name and description."""
        content = {key: value for key, value in self.resolved().items() if key not in ("name", "description")}
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def _part(self, name: str, part: Part) -> "Spec":
        table = {key: value for key, value in self.table().items() if key != "parts"}
        try:
            for path, value in part.set.items():
                check_path(path, table, f"parts.{name}.set.")
                assign(table, path, value)
            return make_spec(table | {"sweep": part.sweep})
        except PlasticodeError as error:
            raise PlasticodeError(f"in part '{name}': {error}") from None


def make_spec(table: Mapping[str, Any]) -> Spec:
    """The spec of a table such as TOML decodes to; a mistake in it raises `PlasticodeError`."""
    try:
        spec = Spec.model_validate(dict(table))
    except ValidationError as error:
        raise explained(error) from None
    parts = spec.parts()  # so that a mistake in a part shows at once
    if len(parts) > 1:
        check_size([part.table() for part in parts.values()])
    return spec


def load_spec(source: str | Path, sets: Sequence[str] = (), quick: bool = False, seed: int | None = None) -> Spec:
    """Read a spec: a file, or the name of a built-in one.

    `quick` applies the spec's [quick] table, then `sets` ("path=value") and `seed` are applied, the last one winning.
    A path "sweep.AXIS" replaces an axis of the sweep. A mistake raises `PlasticodeError`.
    """
    path = find_spec(source)
    table = {"name": path.stem} | read_toml(path)
    from rules.registry import look_in  # here, because it imports jax

    look_in(path.parent)
    settings: dict[str, Any] = {}
    for text in sets:
        key, value = parse_setting(text)
        settings.pop(key, None)
        settings[key] = value
    if seed is not None:
        settings["seed"] = seed
    if not quick:
        apply_overrides(table, {}, quick=True)  # so that a wrong path in [quick] shows at once
    return make_spec(apply_overrides(table, settings, quick))


def find_spec(source: str | Path) -> Path:
    """The file of a spec, given by its path or, for a built-in one, by its name."""
    names = built_in_specs()
    if isinstance(source, str) and source in names:
        return names[source]
    path = Path(source)
    is_name = isinstance(source, str) and path.suffix != ".toml" and len(path.parts) == 1
    try:
        if is_name and not path.exists():
            raise unknown("spec", printable(str(source)), names)
    except ValueError as error:
        if isinstance(error, PlasticodeError):
            raise
        raise unknown("spec", printable(str(source)), names) from None
    except OSError:
        raise unknown("spec", printable(str(source)), names) from None
    return path


def built_in_specs() -> dict[str, Path]:
    """The files of the built-in specs, by name."""
    return {path.stem: path for path in sorted(SPECS.glob("*.toml"))}


def dump_toml(spec: Spec) -> str:
    """The resolved spec as TOML; loading it gives an equal spec."""
    return write_toml(spec.resolved())


def explained(error: ValidationError) -> PlasticodeError:
    """The first error of pydantic as one sentence that names the key, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, PlasticodeError):
        return cause
    location = [str(item) for item in first["loc"]]
    if location[0] == "task" and len(location) > 1 and location[1] in TASKS:
        del location[1]  # pydantic names the member of the union of tasks
    key, value = ".".join(location) or "spec", first["input"]
    if first["type"] == "extra_forbidden":
        allowed = _allowed_keys(first["loc"])
        return unknown("spec key", printable(key), allowed) if len(location) == 1 else unknown_key(key, allowed)
    if first["type"] == "missing":
        return PlasticodeError(f"spec key '{printable(key)}' is missing: it must be given")
    if first["type"] == "union_tag_invalid":
        return unknown("task", printable(str(first.get("ctx", {}).get("tag"))), TASKS)
    if first["type"] == "tuple_type":
        return refused(key, value, "it must be a list, such as [64, 64]")
    message = str(cause) if cause is not None else first["msg"].replace("Input should", "it should")
    return refused(key, value, message.replace("should be", "must be").replace("should have", "must have"))


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """The known keys of the table in which pydantic met an unknown one."""
    if len(location) == 1:
        model: Any = Spec
    elif location[0] == "task":
        model = TASKS[str(location[1])]
    else:
        model = Part if location[0] == "parts" else Spec.model_fields[str(location[0])].annotation
    return [field.alias or key for key, field in model.model_fields.items()]


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """TOML has no null: what is absent is left out."""
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
