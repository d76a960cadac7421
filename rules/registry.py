"""Rules by name: what a spec's [rule] table may say, and the rule that it means."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from dynamics.errors import PlasticodeError, unknown
from dynamics.plugins import imported, is_own
from rules.behavioural_timescale import BehaviouralTimescale
from rules.contract import AbstractRule
from rules.contrastive_hebbian import ContrastiveHebbian
from rules.curl import Curl
from rules.eprop import EProp
from rules.equilibrium_propagation import EquilibriumPropagation, OscillatingEP
from rules.exponentiated import Exponentiated
from rules.feedback_alignment import DFA, FA
from rules.gradient import SGD
from rules.hebbian import BCM, AntiHebbian, Hebbian, Oja
from rules.heterosynaptic import Heterosynaptic
from rules.knowledge_accumulation import SKA
from rules.kolen_pollack import KP
from rules.momentum import Momentum
from rules.node_perturbation import NodePerturbation
from rules.predictive_coding import PredictiveCoding
from rules.replicas import Replicas
from rules.stdp import STDP
from rules.three_factor import ThreeFactor
from rules.weight_mirror import WeightMirror
from rules.weight_perturbation import WeightPerturbation

RULES: dict[str, type[AbstractRule]] = {
    "anti-hebbian": AntiHebbian,
    "bcm": BCM,
    "behavioural-timescale": BehaviouralTimescale,
    "contrastive-hebbian": ContrastiveHebbian,
    "curl": Curl,
    "dfa": DFA,
    "e-prop": EProp,
    "equilibrium-propagation": EquilibriumPropagation,
    "exponentiated-gradient": Exponentiated,
    "fa": FA,
    "hebbian": Hebbian,
    "heterosynaptic": Heterosynaptic,
    "kp": KP,
    "momentum": Momentum,
    "node-perturbation": NodePerturbation,
    "oja": Oja,
    "oscillating-ep": OscillatingEP,
    "predictive-coding": PredictiveCoding,
    "replicas": Replicas,
    "sgd": SGD,
    "ska": SKA,
    "stdp": STDP,
    "three-factor": ThreeFactor,
    "weight-mirror": WeightMirror,
    "weight-perturbation": WeightPerturbation,
}


def rule_class(name: str) -> type[AbstractRule]:
    """The rule called `name`, or the class that "module:Class" names."""
    if not is_own(name):
        if name not in RULES:
            raise unknown("rule", name, RULES)
        return RULES[name]
    found = imported("rule", name, "a class")
    if not (isinstance(found, type) and issubclass(found, AbstractRule) and found is not AbstractRule):
        raise PlasticodeError(f"rule '{name}' is not a rule: the class must derive from plasticode.AbstractRule")
    return found


def _name_of(rule: AbstractRule) -> str:
    cls = type(rule)
    return next((name for name, known in RULES.items() if known is cls), f"{cls.__module__}:{cls.__name__}")


def rule_fields(name: str) -> dict[str, Any]:
    """The parameters of a rule and their defaults. Floats, and lists of them, are traced; all else is static."""
    cls, fields = rule_class(name), {}
    for field in dataclasses.fields(cls):
        default = field.default
        if field.name == "name":
            raise PlasticodeError(f"rule '{name}' cannot be used in a spec: its field 'name' must have another name")
        if default is dataclasses.MISSING:
            raise PlasticodeError(f"rule '{name}' cannot be used in a spec: its field '{field.name}' has no default")
        if isinstance(default, AbstractRule):
            fields[field.name] = _name_of(default)
        elif "converter" in field.metadata:
            fields[field.name] = np.asarray(default, float).tolist()
        elif isinstance(default, float):
            raise PlasticodeError(
                f"rule '{name}' cannot be used in a spec: its field '{field.name}' = {default} must be declared as "
                f"number({default}), so that it can be swept"
            )
        else:
            fields[field.name] = default
    return fields


def wrapped_rules(name: str) -> set[str]:
    """The parameters of a rule that are rules themselves."""
    return {field.name for field in dataclasses.fields(rule_class(name)) if isinstance(field.default, AbstractRule)}


def rule_times(name: str) -> set[str]:
    """The parameters of a rule that are times."""
    return {field.name for field in dataclasses.fields(rule_class(name)) if field.metadata.get("time")}


def check_numbers(name: str, key: str, values: np.ndarray) -> None:
    """Refuses values of a rule's number that lie outside the range that the rule declares for it. In the sentence `key`
    may come after those of the rules that wrap this one, as "credit.flips"."""
    field = next(field for field in dataclasses.fields(rule_class(name)) if field.name == key.rpartition(".")[2])
    low, high = field.metadata.get("range", (-np.inf, np.inf))
    for value in np.ravel(values):
        if not low <= value <= high:
            raise _refused(name, key, float(value), f"from {low:g} to {high:g}")


def make_rule(name: str, parameters: Mapping[str, Any]) -> AbstractRule:
    """The rule `name` with these parameters; a wrapped rule may be given by name or as a table with its `name`."""
    defaults, cls, values = rule_fields(name), rule_class(name), {}
    for key, value in parameters.items():
        if key not in defaults:
            raise unknown(f"parameter of rule '{name}'", key, defaults)
        field = next(f for f in dataclasses.fields(cls) if f.name == key)
        if isinstance(field.default, AbstractRule):
            values[key] = _wrapped(name, key, value)
        elif "converter" in field.metadata:
            values[key] = _number(name, key, value, single=getattr(field.type, "dim_str", None) == "")
        else:
            values[key] = _static(name, key, value, defaults[key])
    return cls(**values)


def _wrapped(rule: str, key: str, value: Any) -> AbstractRule:
    table = {"name": value} if isinstance(value, str) else value
    if not (isinstance(table, Mapping) and isinstance(table.get("name"), str)):
        raise _refused(rule, key, value, "a rule, by name or as a table with a name")
    return make_rule(table["name"], {k: v for k, v in table.items() if k != "name"})


def _number(rule: str, key: str, value: Any, single: bool) -> Array:
    """The array of a number, or of a list of one number per layer unless the field is a `single` number."""
    if single and isinstance(value, Array) and value.ndim > 0:
        raise PlasticodeError(f"rule.{key} is a list of {value.shape[0]} for rule '{rule}': it must be one number")
    items = value if isinstance(value, list | tuple) and not single else [value]
    if not all(isinstance(item, int | float | np.number | Array) and not isinstance(item, bool) for item in items):
        raise _refused(rule, key, value, "a number" if single else "a number or a list of one number per layer")
    return jnp.asarray(value)


def _static(rule: str, key: str, value: Any, default: Any) -> Any:
    if default is not None and type(value) is not type(default):
        raise _refused(rule, key, value, f"of type {type(default).__name__}")
    return value


def _refused(rule: str, key: str, value: Any, allowed: str) -> PlasticodeError:
    return PlasticodeError(f"rule.{key} = {value!r} is not allowed for rule '{rule}': it must be {allowed}")
