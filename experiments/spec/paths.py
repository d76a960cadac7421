"""Dotted paths into a spec, such as "delays.error" or "timescales.plasticity.1": checking, assigning, flattening.

Everything here works on plain tables (what TOML decodes to), before or after pydantic has read them.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from dynamics.errors import PlasticodeError, printable, refused
from experiments.spec.tables import (
    DEFAULT_NAMES,
    TABLES,
    TRACED,
    Quantity,
    is_traced,
    named_table,
    rule_fields,
    rule_quantity,
    unknown_key,
)
from experiments.tasks.registry import task_class

PLAIN_KEYS = ("name", "description", "study", "regime", "seed", "dtype")
SWEPT_TABLES = ("linspace", "logspace")


def check_path(path: str, table: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `PlasticodeError`, with the nearest path, unless a spec like `table` has something at `path`.

    Parameters of rules and tasks are looked up in all of those that the table names or sweeps.
    """
    head, *rest = path.split(".")
    sections = [*TABLES, *DEFAULT_NAMES]
    everything = [*PLAIN_KEYS, *sections, *(f"{name}.{key}" for name in sections for key in keys_of(name, table))]
    if head not in sections and (head not in PLAIN_KEYS or rest):
        raise _unknown_path(path, [*PLAIN_KEYS, *sections], everything, prefix)
    if not rest:
        return
    key, *index = rest
    if key not in keys_of(head, table):
        raise _unknown_path(f"{head}.{key}", keys_of(head, table), everything, prefix)
    if not index:
        return
    if len(index) > 1 or not (index[0].isascii() and index[0].isdigit() and len(index[0]) < 10):
        raise PlasticodeError(
            f"spec path '{prefix}{printable(path)}' is not known: after {head}.{key} comes nothing, "
            "or the integer index of a layer"
        )
    if not _is_indexed(head, key, table):
        raise PlasticodeError(f"spec path '{prefix}{printable(path)}' is not known: {head}.{key} is not a list")


def keys_of(section: str, table: Mapping[str, Any]) -> list[str]:
    """The keys that a section of a spec like `table` may have."""
    if section == "rule":
        return ["name", *dict.fromkeys(key for name in names_in_use(table, "rule") for key in rule_fields(name))]
    if section == "task":
        return list(dict.fromkeys(key for name in names_in_use(table, "task") for key in task_class(name).model_fields))
    return list(TABLES[section].model_fields)


def names_in_use(table: Mapping[str, Any], section: Literal["rule", "task"]) -> list[str]:
    """The rules or tasks that a table sweeps, or else the one that it names."""
    sweep = table.get("sweep")
    swept = sweep if isinstance(sweep, Mapping) else {}
    default = DEFAULT_NAMES[section]
    names = swept.get(f"{section}.name")
    values = names if names is not None else swept.get(section, [table.get(section, default)])
    values = values if isinstance(values, list) else []
    found = [value.get("name", default) if isinstance(value, Mapping) else value for value in values]
    return [name for name in found if isinstance(name, str)] or [default]


def quantity_at(path: str, table: Mapping[str, Any]) -> Quantity | None:
    """What the traced number at a known path may be; None where the path is not a traced number."""
    head, *rest = path.split(".")
    if not rest:
        return None
    if head == "rule":
        defaults = [rule_fields(name).get(rest[0]) for name in names_in_use(table, "rule")]
        found = [rule_quantity(default) for default in defaults if is_traced(default)]
        if any(other != found[0] for other in found):
            raise PlasticodeError(f"{path} is a time of one swept rule and a plain number of another: sweep them apart")
        quantity = found[0] if found else None
    else:
        quantity = TRACED.get(f"{head}.{rest[0]}")
    if quantity is None or len(rest) == 1:
        return quantity
    return Quantity(quantity.time, quantity.zero, quantity.negative, quantity.infinite)


def assign(table: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at a known `path` of `table`, in place.

    Another name for a rule or task drops the parameters of the former one.
    """
    head, *rest = path.split(".")
    if not rest:
        table[head] = value
        return
    if head in DEFAULT_NAMES:
        section = named_table(table.get(head, {}), head)
        if rest == ["name"] and section["name"] != value:
            section = {}
    else:
        section = table.get(head, {})
    if not isinstance(section, dict):
        raise refused(head, section, "it must be a table")
    key, *index = rest
    section = dict(section)
    section[key] = _with_item(table, section, path, value) if index else value
    table[head] = section


def flattened(table: Any, key: str, sweep: bool = False) -> dict[str, Any]:
    """Nested tables as one of dotted paths: `delays = {error = 1}` and `"delays.error" = 1` mean the same.

    The table of a rule or task is one value; in a sweep (`sweep`), so is `{linspace = ...}`.
    """
    if not isinstance(table, Mapping):
        raise refused(key, table, "it must be a table of dotted paths")
    flat: dict[str, Any] = {}
    pending = list(table.items())[::-1]
    while pending:
        path, value = pending.pop()
        if isinstance(value, Mapping) and _is_section(path, value, sweep):
            pending.extend((f"{path}.{name}", item) for name, item in list(value.items())[::-1])
        elif path in flat:
            raise PlasticodeError(f"{key} has '{printable(path)}' twice: once is allowed")
        else:
            flat[path] = value
    return flat


def merged(first: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides applied one after the other: a later path replaces itself and all that lies inside it."""
    result = dict(first)
    for other in others:
        for path, value in other.items():
            for old in [old for old in result if covers(path, old)]:
                del result[old]
            result[path] = value
    return result


def covers(path: str, other: str) -> bool:
    """Whether `other` is `path` or lies inside it."""
    return other == path or other.startswith(f"{path}.")


def _is_section(path: str, value: Mapping[str, Any], sweep: bool) -> bool:
    if sweep:
        is_axis = len(value) > 0 and all(name in SWEPT_TABLES for name in value)
        return not is_axis and "." not in path and (path in TABLES or path in DEFAULT_NAMES)
    in_sweep = path.startswith("sweep.") and not any(name in SWEPT_TABLES for name in value)
    return path in TABLES or path == "sweep" or (in_sweep and path.count(".") == 1)


def _is_indexed(head: str, key: str, table: Mapping[str, Any]) -> bool:
    """Whether elements of this value have paths of their own."""
    quantity = quantity_at(f"{head}.{key}", table)
    if quantity is not None:
        return quantity.per_layer
    return isinstance(_current(table, head, key), list | tuple)


def _current(table: Mapping[str, Any], head: str, key: str) -> Any:
    """The value in the table, or else the default, as TOML would have it."""
    section = table.get(head)
    if isinstance(section, Mapping) and key in section:
        return section[key]
    if head == "rule":
        default = next((fields[key] for fields in map(rule_fields, names_in_use(table, "rule")) if key in fields), None)
    elif head == "task":
        models = [task_class(name) for name in names_in_use(table, "task")]
        default = next((model.model_fields[key].default for model in models if key in model.model_fields), None)
    else:
        default = Quantity.write(TABLES[head].model_fields[key].default)
    default = Quantity.write(tuple(default) if isinstance(default, list) else default)
    return default


def _with_item(table: Mapping[str, Any], section: Mapping[str, Any], path: str, value: Any) -> list[Any]:
    """The list at `path` with one item replaced; a number stands for a list of equal ones, one per layer."""
    head, key, index = path.split(".")
    current = _current({**table, head: section}, head, key)
    if not isinstance(current, list | tuple):
        hidden = _current(table, "network", "hidden")
        current = [current] * (len(hidden) + 1 if isinstance(hidden, list | tuple) else 1)
    if int(index) >= len(current):
        raise refused(path, value, f"{head}.{key} has {len(current)} values, counted from 0")
    return [*current[: int(index)], value, *current[int(index) + 1 :]]


def _unknown_path(path: str, allowed: list[str], everything: Iterable[str], prefix: str) -> PlasticodeError:
    """As `tables.unknown_key`; where the key exists in another table, or no key is near, it looks in the whole spec."""
    sentence, _, hint = str(unknown_key(prefix + path, allowed)).partition("; did you mean ")
    leaf = path.rpartition(".")[2]
    near = [known for known in everything if known.endswith(f".{leaf}")]
    if not near and not hint:
        near = difflib.get_close_matches(path, list(everything), n=1, cutoff=0.4)
    hint = f"'{near[0]}'?" if near else hint
    return PlasticodeError(f"{sentence}; did you mean {hint}" if hint else sentence)
