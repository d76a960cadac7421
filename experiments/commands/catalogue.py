"""What there is, each with a sentence; a spec, rule, prediction, task or probe in full."""

import dataclasses
import importlib
import inspect
import json
import tomllib
from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticUndefined

from dynamics.errors import printable, refused
from dynamics.network import Network
from dynamics.plugins import is_own
from experiments.machine.names import unknown_of_many
from experiments.predictions import PREDICTIONS, plain, prediction_class
from experiments.predictions.references import REFERENCES
from experiments.predictions.study import STUDIES
from experiments.report.report import pretty_bibtex
from experiments.spec.loading import built_in_specs, load_spec
from experiments.spec.probes import PROBES
from experiments.spec.rule_table import rule_fields
from experiments.spec.spec import dump_toml
from experiments.spec.toml_text import inline
from experiments.spec.units import Time
from experiments.tasks.registry import TASKS, task_class
from rules.registry import RULES, make_rule, rule_class

EXAMPLE = Network((4, 3, 3, 2))  # small enough for its circuit to be read, deep enough for FA and DFA to differ


def contents() -> dict[str, dict[str, str]]:
    """By kind, the names of all specs, studies, rules, probes and tasks, each with one sentence."""
    described = {
        name: tomllib.loads(path.read_text(encoding="utf-8")).get("description", "")
        for name, path in built_in_specs().items()
    }
    return {
        "Specs": described,
        "Studies": {name: _sentence(importlib.import_module(module)) for name, module in STUDIES.items()},
        "Predictions": {name: prediction_class(name).title for name in PREDICTIONS},
        "Rules": {name: _sentence(rule) for name, rule in RULES.items()},
        "Probes": {name: probe.long_name for name, probe in PROBES.items()},
        "Tasks": {name: _sentence(task) for name, task in TASKS.items()},
    }


def described(name: str, sets: Sequence[str] = ()) -> str:
    """A spec, by name or file, with `sets` and all defaults; a rule: docstring, circuit, reference; a prediction; a
    task."""
    if name in built_in_specs() or name.endswith(".toml"):
        return dump_toml(load_spec(name, sets)).rstrip()
    if sets:
        raise refused("--set", sets[0], f"it changes a spec, and '{printable(name)}' is none")
    if name in PREDICTIONS:
        return _prediction(name)
    if name in TASKS:
        return _task(name)
    if name in PROBES:
        return _probe(name)
    if name not in RULES and not is_own(name):
        known = [*built_in_specs(), *RULES, *PREDICTIONS, *TASKS, *PROBES]
        raise unknown_of_many("spec, rule, prediction, task or probe", name, known, "plasticode list", "Class")
    return _rule(name)


def _rule(name: str) -> str:
    """A rule's docstring, its parameters with their defaults, its circuit on a small network, and its reference."""
    rule = make_rule(name, {})
    units = getattr(rule, "activation", EXAMPLE.activation)  # those that it needs, if it needs some
    circuit = rule.wire(dataclasses.replace(EXAMPLE, activation=units, output_activation=units))
    fields = {"name": name} | {key: str(v) if isinstance(v, Time) else v for key, v in rule_fields(name).items()}
    table = "\n".join(f"{key} = {inline(plain(value))}" for key, value in fields.items())
    sizes = "-".join(map(str, EXAMPLE.sizes))
    local = "local" if circuit.is_local else "not local: a matrix is read by two projections"
    sections = (
        inspect.getdoc(rule_class(name)) or name,
        f"[rule]\n{table}",
        f"Its circuit on a {sizes} network ({local}):\n{circuit.describe()}",
        pretty_bibtex(rule_class(name).reference),
    )
    return "\n\n".join(sections)


def _task(name: str) -> str:
    """What a task says of itself, and its fields with what each may be; one without a default must be given."""
    cls = task_class(name)
    lines, schemas = [f"name = {inline(name)}"], cls.model_json_schema()["properties"]
    for key, field in cls.model_fields.items():
        default, allowed = field.get_default(call_default_factory=True), _allowed(schemas[key])
        if key != "name" and default is None:
            lines.append(f"# {key} may be given: {allowed}")
        elif key != "name":
            given = "# must be given: " if default is PydanticUndefined else f"{inline(default)}  # "
            lines.append(f"{key} = {given}{allowed}")
    return "\n".join([inspect.getdoc(cls) or name, "", "# All numbers are dimensionless.", "[task]", *lines])


def _allowed(schema: dict[str, Any]) -> str:
    """What a value with this JSON schema may be, in a few words."""
    if "enum" in schema:
        return " or ".join(map(inline, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_allowed(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"a list, each {_allowed(schema.get('items', {}))}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]:g}" for key, word in words.items() if key in schema]
    kinds = {"boolean": "true or false", "string": "a text", "integer": "an integer", "number": "a number"}
    return kinds.get(schema.get("type", ""), "any") + ", " * bool(limits) + " and ".join(limits)


def _probe(name: str) -> str:
    """What a probe is called in results, and what its instrument says."""
    probe = PROBES[name]
    over = "".join(f", {'units of the layer' if dim == 'units' else dim}" for dim in probe.arrays)
    where = f"\n\nIn results: {name}_z1, {name}_z2, ... (axes, record{over})" if probe.by_layer else ""
    return f"{probe.long_name}, in {probe.units}\n\n{inspect.getdoc(probe.of) or ''}{where}"


def _prediction(name: str) -> str:
    """What a prediction says and how it is measured; its parameters as TOML."""
    cls = prediction_class(name)
    fields = json.loads(cls().model_dump_json()).items()
    parameters = "\n".join(f"{key} = {inline(plain(value))}" for key, value in fields if value is not None)
    sections = (
        f"{cls.number} {cls.title}\n\n{cls.claim}",
        f"Equation   {cls.equation}\nMeasured   {cls.method}\nTolerance  {cls.tolerance}\nSource     {cls.source}",
        f"[{name}]\n{parameters}",
        *(pretty_bibtex(entry) for key, entry in REFERENCES.items() if key in cls.source),
    )
    return "\n\n".join(sections)


def _sentence(documented: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]
