"""Specs from text: read, overridden, checked. `make_spec` is the only door; its errors are `PlasticodeError`."""

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from dynamics.errors import PlasticodeError, printable, refused, unknown
from dynamics.plugins import look_in
from experiments.machine.names import hint, unknown_name
from experiments.spec.axes import check_size, read_sweep, swept_paths
from experiments.spec.checks import check
from experiments.spec.overrides import apply_overrides
from experiments.spec.paths import assign, check_path, phase_path
from experiments.spec.phases import check_free, lags_of, late_phases, phase_specs
from experiments.spec.rule_table import Rule
from experiments.spec.spec import Part, Phase, Spec
from experiments.spec.tables import unknown_key
from experiments.spec.toml_text import inline, parse_setting, read_toml

SPECS = Path(__file__).parent.parent / "specs"


def make_spec(table: Mapping[str, Any], beside: Collection[str] = ()) -> Spec:
    """The spec of a table such as TOML decodes to; a mistake in it raises `PlasticodeError`.

    Values that were read before (`Spec.values`) are taken as they are. `beside` lists paths of traced numbers to which
    the whole that it is a part of gives other values: a sweep over it, or other phases.
    """
    try:
        spec = Spec.model_validate(dict(table))
    except ValidationError as error:
        raise explained(error) from None
    if not spec.part_table:
        return _swept(spec, beside)
    if spec.sweep:
        raise PlasticodeError("spec key 'sweep' is not allowed beside 'parts': each part has its own sweep")
    spec = _lasting(spec) if spec.phases else spec
    spec._parts = _parts(spec)
    if len(spec.part_table) > 1:
        check_size(part.sweep for part in spec.parts().values())
    return spec


def _swept(spec: Spec, beside: Collection[str]) -> Spec:
    """A spec without parts: its sweep read, and all checked that does not differ from point to point."""
    if spec.sweep:
        spec = spec.model_copy(update={"sweep": read_sweep({**spec.values(), "sweep": spec.sweep})})
    traced, static = swept_paths(spec.sweep)
    if spec.phases:
        spec = _lasting(spec)
        check_free(spec.phases, [*traced, *static])
    if not static:  # otherwise, what has to fit together is known for each point only, and checked there
        known = [*beside, *(phase_path(path)[1] for path in traced), *late_phases(spec.phases)]
        check(spec, known)
        if spec.phases:
            spec._phases = phase_specs(spec, functools.partial(make_spec, beside=lags_of(spec, known)))
    if "rule" in spec.sweep and spec.rule != Rule.model_validate(spec.rule.name):
        rule = inline(spec.table()["rule"])
        raise PlasticodeError(f"rule = {rule} is not allowed with sweep.rule, which replaces it: list it there")
    return spec


def _lasting(spec: Spec) -> Spec:
    """The spec with the presentations of its phases."""
    shown, given = sum(spec.stage_presentations()), spec.stimulus.presentations
    for number, phase in enumerate(spec.phases):
        if phase.presentations < spec.record.points:
            told = f"each phase is recorded record.points = {spec.record.points} times"
            raise refused(f"phases.{phase.named(number)}.presentations", phase.presentations, told)
    if given != shown and "presentations" in spec.stimulus.model_fields_set:
        raise refused("stimulus.presentations", given, f"the phases have {shown} in all, so it must be left out")
    return spec.model_copy(update={"stimulus": spec.stimulus.model_copy(update={"presentations": shown})})


def _parts(spec: Spec) -> dict[str, Spec]:
    """The single-sweep specs of all parts."""
    base, parts = spec.values(), {}
    for name, part in spec.part_table.items():
        table = dict(base)
        if "phases" in part.set:  # which say how long the part is
            table["stimulus"] = {key: value for key, value in base["stimulus"].items() if key != "presentations"}
        try:
            for path, value in part.set.items():
                check_path(path, table, f"parts.{name}.set.")
                assign(table, path, value)
            parts[name] = make_spec(table | {"sweep": part.sweep})
        except PlasticodeError as error:
            raise PlasticodeError(f"in part '{name}': {error}") from None
    return parts


def load_spec(source: str | Path, sets: Sequence[str] = (), quick: bool = False, seed: int | None = None) -> Spec:
    """Read a spec: a file, or the name of a built-in one.

    `quick` applies the spec's [quick] table, then `sets` ("path=value") and `seed` are applied, the last one winning.
    A path "sweep.AXIS" replaces an axis of the sweep. A mistake raises `PlasticodeError`.
    """
    settings: dict[str, Any] = {}
    for text in sets:
        key, value = parse_setting(text)
        settings.pop(key, None)
        settings[key] = value
    if seed is not None:
        settings["seed"] = seed
    return spec_of(source, settings, quick)


Source = Spec | Mapping[str, Any] | str | Path


def spec_of(source: Source, settings: Mapping[str, Any] = MappingProxyType({}), quick: bool = False) -> Spec:
    """A spec of a file, the name of a built-in one, a table such as TOML decodes to, or a spec, with `settings`, from
    paths to values; as `load_spec` otherwise. Arrays of NumPy stand for lists."""
    if isinstance(source, Spec):
        if quick:
            raise PlasticodeError("quick is not allowed with a spec that was made before: load_spec(..., quick=True)")
        if not settings:
            return source
        table = source.table()
        if source.phases:  # which say how many there are
            del table["stimulus"]["presentations"]
    elif isinstance(source, Mapping):
        table = _plain(source)
    elif isinstance(source, str | Path):
        path = find_spec(source)
        table = {"name": path.stem} | read_toml(path)
        look_in(path.parent)
    else:
        kind = type(source).__name__
        raise PlasticodeError(f"a spec must be a Spec, a dict, a path or a name: {kind} is not allowed")
    if not quick:
        apply_overrides(table, {}, quick=True)  # so that a wrong path in [quick] shows at once
    return make_spec(apply_overrides(table, _plain(settings), quick))


def _plain(value: Any) -> Any:
    """Tables, lists and numbers of Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def find_spec(source: str | Path) -> Path:
    """The file of a spec, given by its path or, for a built-in one, by its name."""
    names = built_in_specs()
    if isinstance(source, str) and source in names:
        return names[source]
    path = Path(source)
    is_name = isinstance(source, str) and path.suffix != ".toml" and len(path.parts) == 1
    try:
        missing = is_name and not path.exists()
    except (OSError, ValueError):  # a name that no file can have
        missing = True
    if missing:
        raise unknown_name("spec", str(source), names)
    return path


def built_in_specs() -> dict[str, Path]:
    """The files of the built-in specs, by name."""
    return {path.stem: path for path in sorted(SPECS.glob("*.toml"))}


_LIMITS = {
    "string_pattern_mismatch": "it must be letters, digits, hyphens and underscores",
    "too_long": "at most {max_length} items are allowed",
    "too_short": "it must have items, {min_length} or more",
}


def explained(error: ValidationError) -> PlasticodeError:
    """The first error of pydantic as one sentence that names the key, the value and what is allowed."""
    first = first_of(error)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, PlasticodeError):
        return cause
    location = [str(item) for item in first["loc"]]
    key, value = ".".join(location) or "spec", first["input"]
    if first["type"] == "extra_forbidden" and location[0] != "task":  # whose tables inside tables nobody knows
        allowed = _allowed_keys(first["loc"])
        return unknown("spec key", printable(key), allowed) if len(location) == 1 else unknown_key(key, allowed)
    if first["type"] == "missing":
        return PlasticodeError(f"spec key '{printable(key)}' is missing: it must be given")
    if location[0] == "phases" and first["type"] in ("tuple_type", "model_type", "model_attributes_type"):
        return refused(key, value, "it must be a table [[phases]] for each, with name, presentations and set")
    if first["type"] == "tuple_type":
        example = f'["{printable(value)}"]' if isinstance(value, str) else "[64, 64]"
        return refused(key, value, f"it must be a list, such as {example}")
    if first["type"] in _LIMITS:
        return refused(key, value, _LIMITS[first["type"]].format(**first.get("ctx", {})))
    message = str(cause) if cause is not None else first["msg"].replace("Input should", "it should")
    if first["type"] == "literal_error":
        message += hint(value, re.findall("'([^']*)'", first.get("ctx", {})["expected"]))
    return refused(key, value, message.replace("should be", "must be").replace("should have", "must have"))


def first_of(error: ValidationError) -> Any:
    """The error to tell of: the first, but for a key that is missing where one beside it is misspelt."""
    first, *others = error.errors(include_url=False)
    if first["type"] != "missing":
        return first
    beside = (one for one in others if one["type"] == "extra_forbidden" and one["loc"][:-1] == first["loc"][:-1])
    return next(beside, first)


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """The known keys of the table in which pydantic met an unknown one."""
    if len(location) == 1:
        model: Any = Spec
    else:
        inner = {"parts": Part, "phases": Phase}.get(str(location[0]))
        model = inner or Spec.model_fields[str(location[0])].annotation
    return [field.alias or key for key, field in model.model_fields.items()]
