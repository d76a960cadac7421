"""Rules by name: what a spec's [rule] table may say, and the rule that it means."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from dynamics.errors import PlasticodeError, unknown
from rules.contract import AbstractRule
from rules.curl import Curl
from rules.feedback_alignment import DFA, FA
from rules.gradient import SGD
from rules.hebbian import BCM, AntiHebbian, Hebbian, Oja
from rules.heterosynaptic import Heterosynaptic
from rules.kolen_pollack import KP

RULES: dict[str, type[AbstractRule]] = {
    "anti-hebbian": AntiHebbian,
    "bcm": BCM,
    "curl": Curl,
    "dfa": DFA,
    "fa": FA,
    "hebbian": Hebbian,
    "heterosynaptic": Heterosynaptic,
    "kp": KP,
    "oja": Oja,
    "sgd": SGD,
}


def rule_class(name: str) -> type[AbstractRule]:
    """The rule called `name`, or the class that "module:Class" names. This is the one place where a spec names code."""
    if ":" not in name:
        if name not in RULES:
            raise unknown("rule", name, RULES)
        return RULES[name]
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, ValueError) as error:
        raise PlasticodeError(f"rule '{name}' cannot be imported: it must name a module and a class ({error})") from None
    except AttributeError:
        raise PlasticodeError(f"rule '{name}' does not exist: module '{module_name}' has no '{class_name}'") from None
    if not (isinstance(found, type) and issubclass(found, AbstractRule)):
        raise PlasticodeError(f"rule '{name}' is not a rule: the class must derive from rules.contract.AbstractRule")
    return found


def _name_of(rule: AbstractRule) -> str:
    return next((name for name, cls in RULES.items() if cls is type(rule)), f"{type(rule).__module__}:{type(rule).__name__}")


def rule_fields(name: str) -> dict[str, Any]:
    """The parameters of a rule and their defaults. Floats, and lists of them, are traced; all else is static."""
    cls, fields = rule_class(name), {}
    for field in dataclasses.fields(cls):
        default = field.default
        if default is dataclasses.MISSING:
            raise PlasticodeError(f"rule '{name}' cannot be used in a spec: its field '{field.name}' has no default")
        if isinstance(default, AbstractRule):
            fields[field.name] = _name_of(default)
        elif "converter" in field.metadata:
            fields[field.name] = np.asarray(default, float).tolist()
        else:
            fields[field.name] = default
    return fields


def make_rule(name: str, parameters: Mapping[str, Any]) -> AbstractRule:
    """The rule `name` with these parameters; a wrapped rule may be given by name or as a table with its `name`."""
    defaults, cls, values = rule_fields(name), rule_class(name), {}
    for key, value in parameters.items():
        if key not in defaults:
            raise unknown(f"parameter of rule '{name}'", key, defaults)
        field = next(f for f in dataclasses.fields(cls) if f.name == key)
        if isinstance(field.default, AbstractRule):
            table = {"name": value} if isinstance(value, str) else dict(value)
            values[key] = make_rule(table.pop("name"), table)
        elif "converter" in field.metadata:
            values[key] = jnp.asarray(value)
        else:
            values[key] = _static(name, key, value, defaults[key])
    return cls(**values)


def _static(rule: str, key: str, value: Any, default: Any) -> Any:
    if default is not None and type(value) is not type(default):
        raise PlasticodeError(
            f"rule.{key} = {value!r} is not allowed for rule '{rule}': it must be of type {type(default).__name__}"
        )
    return value
