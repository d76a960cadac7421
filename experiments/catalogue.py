"""What there is, each with a sentence; a spec, rule or prediction in full."""

import importlib
import inspect
import json
import tomllib

from dynamics.errors import printable, unknown
from dynamics.network import Network
from experiments.predictions import PREDICTIONS, plain, prediction_class
from experiments.predictions.references import REFERENCES
from experiments.predictions.study import STUDIES
from experiments.report.report import pretty_bibtex
from experiments.spec.loading import built_in_specs, load_spec
from experiments.spec.spec import dump_toml
from experiments.spec.toml_text import inline
from experiments.tasks.registry import TASKS
from rules.registry import RULES, make_rule, rule_class

EXAMPLE = Network((4, 3, 3, 2))  # small enough for its circuit to be read, deep enough for FA and DFA to differ


def contents() -> dict[str, dict[str, str]]:
    """By kind, the names of all specs, studies, rules and tasks, each with one sentence."""
    described = {
        name: tomllib.loads(path.read_text(encoding="utf-8")).get("description", "")
        for name, path in built_in_specs().items()
    }
    return {
        "Specs": described,
        "Studies": {name: _sentence(importlib.import_module(module)) for name, module in STUDIES.items()},
        "Predictions": {name: prediction_class(name).title for name in PREDICTIONS},
        "Rules": {name: _sentence(rule) for name, rule in RULES.items()},
        "Tasks": {name: _sentence(task) for name, task in TASKS.items()},
    }


def described(name: str) -> str:
    """A spec, by name or file, with all defaults as TOML; a rule: docstring, circuit, reference; or a prediction."""
    if name in built_in_specs() or name.endswith(".toml"):
        return dump_toml(load_spec(name)).rstrip()
    if name in PREDICTIONS:
        return _prediction(name)
    if name not in RULES and ":" not in name:
        raise unknown("spec, rule or prediction", printable(name), [*built_in_specs(), *RULES, *PREDICTIONS])
    circuit = make_rule(name, {}).wire(EXAMPLE)
    sizes = "-".join(map(str, EXAMPLE.sizes))
    local = "local" if circuit.is_local else "not local: a matrix is read by two projections"
    sections = (
        inspect.getdoc(rule_class(name)) or name,
        f"Its circuit on a {sizes} network ({local}):\n{circuit.describe()}",
        pretty_bibtex(rule_class(name).reference),
    )
    return "\n\n".join(sections)


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
