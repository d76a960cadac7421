"""What there is, each with a sentence; a spec, rule or prediction in full; a spec's workload."""

import importlib
import inspect
import json
import tomllib
from collections.abc import Mapping, Sequence

from dynamics.errors import unknown
from dynamics.network import Network
from experiments.predictions import PREDICTIONS, plain, prediction_class
from experiments.predictions.references import REFERENCES
from experiments.report import pretty_bibtex
from experiments.runner import Job
from experiments.spec import Spec, built_in_specs, dump_toml, load_spec
from experiments.studies import STUDIES
from experiments.tables import TextTable
from experiments.tasks import TASKS
from experiments.toml_files import inline
from experiments.units import printable
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


def workload(spec: Spec, jobs: Mapping[str, Sequence[Job]]) -> TextTable:
    """What a spec would run, part by part: points, compiled programs, steps, and synapse updates as a measure."""
    rows = []
    for part, members in jobs.items():
        points = sum(job.group.size for job in members)
        steps = sorted({job.plan.steps for job in members})
        presentations = sorted({job.plan.spec.stimulus.presentations for job in members})
        updates = sum(job.work * _synapses(job) for job in members)
        cells = [points, len(members), _range(presentations), _range(steps), f"{updates:.2g}"]
        rows.append([part or spec.name, members[0].plan.spec.regime, *map(str, cells)])
    header = ["part", "regime", "points", "programs", "presentations", "steps each", "synapse updates"]
    return TextTable(f"{spec.name}: can be run", header, rows)


def _synapses(job: Job) -> int:
    sizes = job.plan.sizes
    return sum(before * after for before, after in zip(sizes[:-1], sizes[1:], strict=True))


def _range(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _sentence(documented: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]
