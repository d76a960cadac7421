"""Overrides of a spec's tables before they are checked: the [quick] table and the settings of the command line."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from dynamics.errors import PlasticodeError, printable, refused
from experiments.spec.paths import assign, check_path, covers, flattened, merged

SWEEP = "sweep."
MOST_PARTS = 100


def apply_overrides(table: Mapping[str, Any], settings: Mapping[str, Any], quick: bool = False) -> dict[str, Any]:
    """The tables of a spec after its overrides: [quick] where `quick` asks for it, then `settings`, paths to values.

    An override reaches every part that knows its path and does not set it itself: a part's own `set` is more special.
    The path "sweep.AXIS" replaces an axis: in a spec with parts, in those parts that sweep it. The tables come back
    without their `quick` tables.
    """
    table = copy.deepcopy(dict(table))
    common = flattened(table.pop("quick", {}), "quick")
    common = common if quick else {}
    if settings.get("sweep") == {}:
        raise refused("sweep", {}, "it would change nothing: sweep.AXIS = [...] replaces an axis")
    settings = flattened(settings, "settings")
    overrides = merged(common, settings)
    if not table.get("parts"):
        table["sweep"] = flattened(table.get("sweep", {}), "sweep", sweep=True)
        _refuse_ineffective(overrides, [table["sweep"]], [{}])
        _sweep_overridden(table["sweep"], overrides)
        for error in _assign_known(table, overrides).values():
            raise error
        return table
    found = _as_table(table["parts"], "parts")
    if len(found) > MOST_PARTS:
        raise PlasticodeError(f"the spec has {len(found)} parts: at most {MOST_PARTS} are allowed")
    parts = {name: _part_tables(name, part) for name, part in found.items()}
    _refuse_ineffective(overrides, [part["sweep"] for part in parts.values()], [part["set"] for part in parts.values()])
    errors = []
    for name, part in parts.items():
        own = part.pop("quick")
        own = own if quick else {}
        errors.append(_override_part(table, name, part, merged(common, own, settings), own))
    top = _assign_known(table, overrides)
    for path, error in top.items():
        if all(path in rejected for rejected in errors):
            raise error
    return table | {"parts": parts}


def _override_part(
    table: Mapping[str, Any], name: str, part: dict[str, Any], overrides: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, PlasticodeError]:
    """Change the part in place; returns the errors of the paths that its rule or task does not know."""
    swept = {
        path: value
        for path, value in overrides.items()
        if path in own or path.removeprefix(SWEEP) in part["sweep"] or not path.startswith(SWEEP)
    }
    _sweep_overridden(part["sweep"], swept)
    scratch = copy.deepcopy({key: value for key, value in table.items() if key != "parts"})
    scratch["sweep"] = part["sweep"]
    for error in _assign_known(scratch, part["set"], f"parts.{name}.set.").values():
        raise error
    rejected = _assign_known(scratch, overrides)
    for path in own:
        if path in rejected:
            raise rejected[path]
    special = [path for path in part["set"] if path not in own]
    accepted = {
        path: value
        for path, value in _fields(overrides).items()
        if path not in rejected and (path in own or not any(covers(known, path) for known in special))
    }
    part["set"] = merged(part["set"], accepted)
    return rejected


def _part_tables(name: str, part: Any) -> dict[str, Any]:
    """The part with its tables flattened, and present."""
    key = f"parts.{name}"
    part = _as_table(part, key)
    for item in ("set", "sweep", "quick"):
        part[item] = flattened(part.get(item, {}), f"{key}.{item}", sweep=item == "sweep")
    return part


def _assign_known(table: dict[str, Any], overrides: Mapping[str, Any], prefix: str = "") -> dict[str, PlasticodeError]:
    """Assign one after the other what the table knows; returns the errors of the other paths."""
    rejected = {}
    for path, value in _fields(overrides).items():
        try:
            check_path(path, table, prefix)
        except PlasticodeError as error:
            rejected[path] = error
        else:
            assign(table, path, value)
    return rejected


def _sweep_overridden(sweep: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Replace or add, in place, the axes that are overridden."""
    for path, value in overrides.items():
        if path.startswith(SWEEP):
            sweep[path.removeprefix(SWEEP)] = value


def _fields(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that are no axes of the sweep."""
    return {path: value for path, value in overrides.items() if not path.startswith(SWEEP)}


def _refuse_ineffective(
    overrides: Mapping[str, Any], sweeps: Sequence[Mapping[str, Any]], sets: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse what would change nothing: a value that every part sweeps or sets itself, an axis that no part has."""
    for path, value in overrides.items():
        axis = path.removeprefix(SWEEP)
        if path.startswith(SWEEP):
            if len(sweeps) > 1 and not any(axis in sweep for sweep in sweeps):
                axes = ", ".join(dict.fromkeys(printable(name) for sweep in sweeps for name in sweep))
                raise refused(path, value, f"no part sweeps '{printable(axis)}', the parts sweep {axes or 'nothing'}")
        elif sweeps and all(any(covers(name, path) for name in sweep) for sweep in sweeps):
            name = next(name for name in sweeps[0] if covers(name, path))
            raise refused(path, value, f"it is swept, so that only 'sweep.{printable(name)}' can be overridden")
        elif sweeps and all(
            any(covers(name, path) for name in [*sweep, *own]) for sweep, own in zip(sweeps, sets, strict=True)
        ):
            raise refused(path, value, "every part of the spec sweeps it or sets it itself")


def _as_table(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise refused(key, value, "it must be a table")
    return dict(value)
