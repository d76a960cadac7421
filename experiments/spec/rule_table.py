"""The [rule] table: a learning rule, the rules that it wraps, and what their numbers may be."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import model_serializer, model_validator

from dynamics.errors import printable, refused
from dynamics.plugins import is_own
from experiments.machine.names import unknown_name
from experiments.spec.tables import AbstractTable, Quantity, named_table, unknown_key
from experiments.spec.units import Time
from rules import registry
from rules.registry import wrapped_rules

RULE_NUMBER = Quantity(time=False, zero=True, negative=True, per_layer=True)
RULE_TIME = Quantity(per_layer=True)
RULE_DELAY = Quantity(zero=True, per_layer=True)  # a time whose default is 0


class RuleNumber(NamedTuple):
    """A traced number of a rule: the name of the rule that has it, what it may be, and its value."""

    rule: str
    quantity: Quantity
    value: Any


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

    def tables(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The path and the table of the rule and of each that it wraps: "rule", "rule.credit", ..."""
        return _tables("rule", {"name": self.name} | self.parameters)

    @property
    def names(self) -> list[str]:
        """The rule and those that it wraps."""
        return [table["name"] for _, table in self.tables()]

    def numbers(self) -> dict[str, RuleNumber]:
        """The parameters that are traced numbers or times, or lists of them, by path; those of wrapped rules too."""
        found = {}
        for at, table in self.tables():
            for key, default in rule_fields(table["name"]).items():
                if is_traced(default):
                    value = table.get(key, default)
                    value = tuple(value) if isinstance(value, list) else value
                    found[f"{at}.{key}"] = RuleNumber(table["name"], rule_quantity(default), value)
        return found

    def filled(self, numbers: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters with these `numbers`, by path, in place of their own; those of wrapped rules too."""
        return _filled("rule", {"name": self.name} | self.parameters, numbers)


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


def wrapped_table(table: Mapping[str, Any], at: str, key: str) -> dict[str, Any]:
    """The table of the rule that the rule of `table`, at the path `at`, wraps as its parameter `key`."""
    return named_table(table.get(key, rule_fields(table["name"])[key]), f"{at}.{key}")


def _tables(at: str, table: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield at, table
    for key in sorted(wrapped_rules(table["name"])):
        yield from _tables(f"{at}.{key}", wrapped_table(table, at, key))


def _filled(at: str, table: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: numbers.get(f"{at}.{key}", value) for key, value in table.items() if key != "name"}
    result |= {key: numbers[f"{at}.{key}"] for key in rule_fields(table["name"]) if f"{at}.{key}" in numbers}
    for key in wrapped_rules(table["name"]):
        inner = wrapped_table(table, at, key)
        result[key] = {"name": inner["name"]} | _filled(f"{at}.{key}", inner, numbers)
    return result


def _rule(value: Any, at: str) -> dict[str, Any]:
    """The name and all parameters of the rule at the path `at`."""
    table = named_table(value, at)
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
    if wrapped:
        read = _rule(value, path)["parameters"]
        return {other: read.get(other, item) for other, item in value.items()} if isinstance(value, dict) else value
    if is_traced(default):
        try:
            return rule_quantity(default).read(value)
        except ValueError as error:
            raise refused(path, value, str(error)) from None
    value = tuple(value) if isinstance(value, list) else value
    if default is not None and type(value) is not type(default):
        raise refused(path, value, f"it must be of the same type as its default {default!r}")
    return value
