"""Dotted paths into a spec, such as "delays.error" or "timescales.plasticity.1": checking, assigning, flattening.

Everything here works on plain tables (what TOML decodes to), before or after pydantic has read them.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from dynamics.errors import PlasticodeError, printable, refused
from experiments.spec.rule_table import is_traced, rule_fields, rule_quantity, wrapped_table
from experiments.spec.tables import DEFAULT_NAMES, TABLES, TRACED, Quantity, named_table, unknown_key
from experiments.tasks.registry import task_class
from rules.registry import wrapped_rules

PLAIN_KEYS = ("name", "description", "study", "regime", "seed", "dtype", "phases")
SWEPT_TABLES = ("linspace", "logspace")


def check_path(path: str, table: Mapping[str, Any], prefix: str = "") -> None:
    """Raise `PlasticodeError`, with the nearest path, unless a spec like `table` has something at `path`.

    Parameters of rules and tasks are looked up in all of those that the table names or sweeps, and so are those of the
    rules that rules wrap: "rule.credit.feedback_scale".
    """
    head, *rest = path.split(".")
    sections = [*TABLES, *DEFAULT_NAMES]
    if head == "phases" and rest:
        raise PlasticodeError(
            f"spec path '{prefix}{printable(path)}' is not known: phases are set as a whole, such as "
            "phases = [{ presentations = 100 }, { presentations = 50, set = { timescales.plasticity = '2 s' } }]"
        )
    if head not in sections and (head not in PLAIN_KEYS or rest):
        raise _unknown_path(path, [*PLAIN_KEYS, *sections], _everything(table), prefix)
    if not rest:
        return
    section, key, *index = _split(path, table)
    if key not in keys_of(section, table):
        raise _unknown_path(f"{section}.{key}", keys_of(section, table), _everything(table), prefix)
    if not index:
        return
    if len(index) > 1 or not (index[0].isascii() and index[0].isdigit() and len(index[0]) < 10):
        raise PlasticodeError(
            f"spec path '{prefix}{printable(path)}' is not known: after {section}.{key} comes nothing, "
            "or the integer index of a layer"
        )
    if not _is_indexed(section, key, table):
        raise PlasticodeError(f"spec path '{prefix}{printable(path)}' is not known: {section}.{key} is not a list")


def phase_path(path: str) -> tuple[str, str]:
    """The phase that an axis is about and the path in it, of "phases.NAME.PATH"; of others "" and the path itself."""
    head, _, rest = path.partition(".")
    if head != "phases" or not rest:
        return "", path
    name, _, inner = rest.partition(".")
    return name, inner


def keys_of(section: str, table: Mapping[str, Any]) -> list[str]:
    """The keys that a section of a spec like `table` may have; a rule that another wraps is a section too."""
    if section == "task":
        return list(dict.fromkeys(key for name in names_in_use(table, "task") for key in task_class(name).model_fields))
    if section in TABLES:
        return list(TABLES[section].model_fields)
    return ["name", *dict.fromkeys(key for name in names_in_use(table, section) for key in rule_fields(name))]


def names_in_use(table: Mapping[str, Any], section: str) -> list[str]:
    """The rules or tasks that a table sweeps at `section` ("rule", "rule.credit", "task"), or else those it names."""
    names = [value.get("name", DEFAULT_NAMES.get(section)) for value in _in_use(table, section)]
    default = [DEFAULT_NAMES[section]] if section in DEFAULT_NAMES else []
    return list(dict.fromkeys(name for name in names if isinstance(name, str))) or default


def _in_use(table: Mapping[str, Any], section: str) -> list[Mapping[str, Any]]:
    """The tables of those."""
    sweep = table.get("sweep")
    swept = sweep if isinstance(sweep, Mapping) else {}
    outer, _, key = section.rpartition(".")
    if section in swept:
        values = swept[section]
    elif outer:
        wrapping = [named_table(dict(one), outer) for one in _in_use(table, outer) if _wraps(one.get("name"), key)]
        values = [wrapped_table(one, outer, key) for one in wrapping]
    else:
        values = [table.get(section, DEFAULT_NAMES[section])]
    values = values if isinstance(values, list) else []
    tables = [value if isinstance(value, Mapping) else {"name": value} for value in values]
    names = swept.get(f"{section}.name", [])
    names = names if isinstance(names, list) else []
    return [next((one for one in tables if one.get("name") == name), {"name": name}) for name in names] or tables


def _split(path: str, table: Mapping[str, Any]) -> list[str]:
    """A path of two components or more as its section, a key there, and what comes after that."""
    section, *rest = path.split(".")
    while len(rest) > 1 and _is_rule(section) and any(_wraps(name, rest[0]) for name in names_in_use(table, section)):
        section, *rest = f"{section}.{rest[0]}", *rest[1:]
    return [section, *rest]


def _is_rule(section: str) -> bool:
    return section.partition(".")[0] == "rule"


def _wraps(name: Any, key: str) -> bool:
    """Whether a rule, by name, wraps another as its parameter `key`."""
    return isinstance(name, str) and key in rule_fields(name) and key in wrapped_rules(name)


def _everything(table: Mapping[str, Any]) -> list[str]:
    """All paths that there are, without indices."""
    found, pending = [*PLAIN_KEYS, *TABLES, *DEFAULT_NAMES], [*TABLES, *DEFAULT_NAMES]
    while pending:
        section = pending.pop(0)
        keys = keys_of(section, table)
        found += [f"{section}.{key}" for key in keys]
        if _is_rule(section):
            names = names_in_use(table, section)
            pending += [f"{section}.{key}" for key in keys if any(_wraps(name, key) for name in names)]
    return found


def quantity_at(path: str, table: Mapping[str, Any]) -> Quantity | None:
    """What the traced number at a known path may be; None where the path is not a traced number."""
    if "." not in path:
        return None
    section, key, *index = _split(path, table)
    if _is_rule(section):
        defaults = [rule_fields(name).get(key) for name in names_in_use(table, section)]
        found = [rule_quantity(default) for default in defaults if is_traced(default)]
        if any(other != found[0] for other in found):
            raise PlasticodeError(f"{path} is a time of one swept rule and a plain number of another: sweep them apart")
        quantity = found[0] if found else None
    else:
        quantity = TRACED.get(f"{section}.{key}")
    if quantity is None or not index:
        return quantity
    return Quantity(quantity.time, quantity.zero, quantity.negative, quantity.infinite)


def assign(table: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at a known `path` of `table`, in place.

    Another name for a rule or task drops the parameters of the former one.
    """
    head, *keys = path.split(".")
    table[head] = _assigned(table, head, table.get(head, {}), keys, value) if keys else value


def _assigned(table: Mapping[str, Any], at: str, section: Any, keys: list[str], value: Any) -> dict[str, Any]:
    """The section at the path `at`, in a copy, with `value` at the path `keys` inside."""
    if at.partition(".")[0] in DEFAULT_NAMES:
        section = named_table(section, at)
        if keys == ["name"] and section["name"] != value:
            return {"name": value}
    if not isinstance(section, dict):
        raise refused(at, section, "it must be a table")
    key, *rest = keys
    if rest and _is_rule(at) and _wraps(section["name"], key):
        value = _assigned(table, f"{at}.{key}", wrapped_table(section, at, key), rest, value)
    elif rest and rest[-1].isdigit():
        value = _with_item(table, at, section, key, rest[-1], value)
    elif rest:  # the key of a rule that another of the swept rules wraps: not known here, as will be told
        value = {".".join(rest): value}
    return {**section, key: value}


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
        head = path.partition(".")[0]
        return not is_axis and (path in TABLES or path in DEFAULT_NAMES or head in ("rule", "phases"))
    in_sweep = path.startswith("sweep.") and not any(name in SWEPT_TABLES for name in value)
    inner = path.startswith(("sweep.rule.", "sweep.phases."))
    return path in TABLES or path == "sweep" or (in_sweep and (path.count(".") == 1 or inner))


def _is_indexed(section: str, key: str, table: Mapping[str, Any]) -> bool:
    """Whether elements of this value have paths of their own."""
    quantity = quantity_at(f"{section}.{key}", table)
    if quantity is not None:
        return quantity.per_layer
    if section not in TABLES:
        return any(isinstance(_current(table, section, one, key), list | tuple) for one in _in_use(table, section))
    return isinstance(_current(table, section, table.get(section), key), list | tuple)


def _current(table: Mapping[str, Any], at: str, section: Any, key: str) -> Any:
    """The value in the section at the path `at`, or else the default, as TOML would have it."""
    if isinstance(section, Mapping) and key in section:
        return section[key]
    if at == "task":
        models = [task_class(name) for name in names_in_use(table, "task")]
        default = next((model.model_fields[key].default for model in models if key in model.model_fields), None)
    elif at in TABLES:
        default = Quantity.write(TABLES[at].model_fields[key].default)
    else:
        default = next((fields[key] for fields in map(rule_fields, names_in_use(table, at)) if key in fields), None)
    return Quantity.write(tuple(default) if isinstance(default, list) else default)


def _with_item(table: Mapping[str, Any], at: str, section: Any, key: str, index: str, value: Any) -> list[Any]:
    """The list at a key with one item replaced; a number stands for a list of equal ones, one per layer."""
    current = _current(table, at, section, key)
    if not isinstance(current, list | tuple):
        hidden = _current(table, "network", table.get("network"), "hidden")
        current = [current] * (len(hidden) + 1 if isinstance(hidden, list | tuple) else 1)
    if int(index) >= len(current):
        raise refused(f"{at}.{key}.{index}", value, f"{at}.{key} has {len(current)} values, counted from 0")
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
