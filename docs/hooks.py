"""What the site makes of the code itself: the keys of specs, rules and tasks, and where public names are defined."""

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import plasticode
from experiments.commands.catalogue import described
from experiments.inference.table import Fit, Free, Observation
from experiments.predictions import PREDICTIONS, plain, prediction_class
from experiments.spec.probes import PROBES
from experiments.spec.rule_table import Rule, is_traced, rule_fields, rule_quantity
from experiments.spec.spec import Part, Phase, Spec
from experiments.spec.tables import TABLES, Quantity
from experiments.spec.toml_text import inline
from experiments.spec.units import Time
from experiments.tasks.contract import AbstractTask
from experiments.tasks.registry import TASKS
from rules.registry import RULES, rule_class, wrapped_rules

NAMED = re.compile(r"^::: plasticode\.(\w+)$", re.MULTILINE)
TOLD = {Any: "number or text", int: "whole number", float: "number", bool: "true or false", str: "text"}
SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called for every page: `<!-- made: NAME -->` becomes what is made of the code."""
    markdown = NAMED.sub(lambda found: _place(found[1]), markdown)
    return re.sub(r"<!-- made: (\w+) -->", lambda found: MADE[found[1]](), markdown)


def _place(name: str) -> str:
    """Where mkdocstrings finds a public name, under the name that users type."""
    value = getattr(plasticode, name)
    at = value.__name__ if isinstance(value, types.ModuleType) else f"{value.__module__}.{value.__qualname__}"
    return f"::: {at}\n    options:\n      heading: plasticode.{name}\n      toc_label: {name}"


def _table(*rows: tuple[str, ...]) -> str:
    head, *others = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *others])


def _code(value: Any) -> str:
    """A default as a spec would have it."""
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, Time):
        value = str(value)
    return "" if value is None else f"`{inline(plain(value))}`"


def _words(annotation: Any, metadata: list[Any]) -> str:
    """The type of a key in words, with the bounds of its numbers."""
    quantity = _quantity(metadata)
    if quantity is not None:
        return _allowed(quantity)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0], [part for item in inner[1:] for part in getattr(item, "metadata", [item])])
    if origin is Literal:
        return " or ".join(f"`{inline(item)}`" for item in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(item, metadata) for item in inner if item is not type(None))
    if origin in (tuple, list):
        return f"list of: {_words(inner[0], [])}" if origin is list or ... in inner else "pair of whole numbers"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "name or table" if annotation in (AbstractTask, Rule) else "table"
    return _names(metadata) or TOLD[annotation] + ",".join(_bounds(metadata))


def _quantity(metadata: list[Any]) -> Quantity | None:
    return next((item for item in metadata if isinstance(item, Quantity)), None)


def _names(metadata: list[Any]) -> str:
    """The names among which a text must be, where there is a list of them."""
    for item in metadata:
        checked = getattr(item, "func", None)
        if isinstance(checked, functools.partial) and len(checked.args) == 3:
            known, look_up, inner = checked.args
            return ", ".join(f"`{name}`" for name in known) + (f" or `module:{inner}`" if look_up else "")
    return ""


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for item in metadata:
        for key, sign in SIGNS.items():
            limit = getattr(item, key, None)
            if limit is not None:
                power = isinstance(limit, int) and limit > 2**30 and limit.bit_count() == 1
                yield f" {sign} " + (f"2^{limit.bit_length() - 1}" if power else f"{limit:g}")


def _allowed(quantity: Quantity, low: float = -math.inf, high: float = math.inf) -> str:
    """What a number of a spec may be; one of a rule has bounds of its own."""
    sign = "" if quantity.negative else " >= 0" if quantity.zero else " > 0"
    sign = f" >= {low:g}" if low > 0 or (quantity.negative and low == 0) or -math.inf < low < 0 else sign
    most = f", <= {high:g}" if high < math.inf else " or inf" if quantity.infinite else ""
    several = "; one, or a list with one per layer" if quantity.per_layer else ""
    return f"{'time' if quantity.time else 'number'}{sign}{most}{several}"


def _unit(quantity: Quantity | None) -> str:
    """In which units a time may be written; a number of a spec has none."""
    if quantity is None or not quantity.time:
        return ""
    return "s, ms, min, ... or T" if quantity.relative else "s, ms, min, ..."


def lines(model: type[BaseModel]) -> dict[str, str]:
    """The text below each key of a table. It is read here, as pydantic would read it at every import."""
    (known,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(known, ast.ClassDef)
    found = {key: field.description for key, field in model.model_fields.items() if field.description}
    for key, text in itertools.pairwise(known.body):
        if isinstance(key, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            found[ast.unparse(key.target)] = str(text.value.value)
    return found


def _fields(model: type[BaseModel], *left_out: str) -> list[tuple[str, str, str, str, str]]:
    """Of each key of a table: key, type, default, unit, and its line."""
    rows, texts = [], lines(model)
    for key, field in model.model_fields.items():
        quantity = _quantity(field.metadata)
        default = field.get_default(call_default_factory=True)
        if field.alias or key not in left_out:
            told = _words(field.annotation, field.metadata), _code(default), _unit(quantity)
            rows.append((f"`{field.alias or key}`", *told, texts.get(key, "")))
    return rows


def keys() -> str:
    """All keys of a spec, a section for each table."""
    head = ("key", "type", "default", "unit", "what it is")
    top = _fields(Spec, *TABLES)
    text = ["## Outside of tables", _table(head, *top)]
    for title, model in {**TABLES, "[phases]": Phase, "parts.NAME": Part}.items():
        said = (inspect.getdoc(model) or "").partition(": ")[2]
        text += [f"## [{title}]", f"{said[:1].upper()}{said[1:]}", _table(head, *_fields(model))]
    for title, model in {"[fit]": Fit, "An entry of fit.free": Free, "An entry of fit.observe": Observation}.items():
        rows = [row[:3] for row in _fields(model)]
        text += [f"## {title}", f"```text\n{inspect.getdoc(model)}\n```", _table(head[:3], *rows)]
    return "\n\n".join(text)


def rules() -> str:
    """All rules: a table of their parameters, and what `plasticode show` says."""
    text = []
    for name in RULES:
        ranges = {field.name: field.metadata.get("range", ()) for field in dataclasses.fields(rule_class(name))}
        rows = []
        for key, default in rule_fields(name).items():
            quantity = rule_quantity(default) if is_traced(default) else None
            told = _allowed(quantity, *ranges[key]) if quantity else TOLD.get(type(default), "list")
            told = "rule" if key in wrapped_rules(name) else told
            rows.append((f"`rule.{key}`", told, _code(default), _unit(quantity)))
        table = [_table(("key", "type", "default", "unit"), *rows)] if rows else []
        text += [f"## {name}", *table, f"```text\n{described(name)}\n```"]
    return "\n\n".join(text)


def tasks() -> str:
    """All tasks: what they say of themselves, and their keys."""
    text = []
    for name, task in TASKS.items():
        rows = [row[:3] for row in _fields(task, "name")]
        table = [_table(("key of `task`", "type", "default"), *rows)] if rows else []
        text += [f"## {name}", inspect.getdoc(task) or "", *table]
    return "\n\n".join(text)


def probes() -> str:
    """All probes: what they are called, and their units."""
    rows = [(f"`{name}`", probe.long_name, probe.units) for name, probe in PROBES.items()]
    return _table(("probe", "what it is", "unit"), *rows)


def predictions() -> str:
    """All predictions: title, equation and source."""
    text = []
    for name in PREDICTIONS:
        known = prediction_class(name)
        text.append(f"**{name}**: {known.title}\n\n```text\n{known.equation}\n```\n\n{known.source}")
    return "\n\n".join(text)


MADE = {made.__name__: made for made in (keys, rules, tasks, probes, predictions)}
