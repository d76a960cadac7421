"""Which points are alike: what their programs, and what tracing tells of them, follow from. No number is part of it."""

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import numpy as np

from dynamics.activations import activation
from dynamics.plugins import is_own
from experiments.points.assemble import Plan
from experiments.spec.probes import PROBES
from experiments.spec.spec import Spec
from experiments.spec.tables import TRACED
from rules.registry import rule_class

PACKAGES = "dynamics", "rules", "experiments"  # whose code does not change while a process runs
# What a program does not look at in a spec, or what is said better: of a rule all but its numbers, the plan's
# integrator and sizes. Whatever else a spec has counts.
_SAID_ELSEWHERE = ("name", "description", "study", "seed", "task", "integrator", "sweep", "phases", "rule")


def _left_out() -> dict[str, Any]:
    sections = {"stimulus": {"presentations"}, "record": {"points", "probes"}}
    sections["network"] = {"hidden", "activation", "output_activation"}
    for path in TRACED:
        section, key = path.split(".")
        sections.setdefault(section, set()).add(key)
    return {**dict.fromkeys(_SAID_ELSEWHERE, True), **sections}


_LEFT_OUT = _left_out()


def own_names(spec: Spec) -> list[str]:
    """The rules, probes and activations of a spec that are a user's own code, in no module of `PACKAGES`."""
    named = *spec.rule.names, *spec.probes, *spec.network.activations
    return [name for name in named if is_own(name) and name.partition(".")[0] not in PACKAGES]


def whole(plan: Plan, values: Mapping[str, np.ndarray], data: Mapping[str, np.ndarray]) -> Hashable:
    """What the states of points follow from, of whose `values` only the shapes count, and of their task's `data`."""
    activations = tuple(map(activation, plan.spec.network.activations))
    return wiring(plan, values, data), activations, plan.sizes, plan.steps, plan.history


def wiring(plan: Plan, values: Mapping[str, np.ndarray], data: Mapping[str, np.ndarray]) -> Hashable:
    """What records follow from, where all code is of this package: they do not depend on how wide hidden layers are, or
    on how an integrator cuts time, and of activations only on whether they have kinks."""
    spec, rule = plan.spec, plan.spec.rule
    leaves, integrator = jax.tree.flatten(plan.integrator)
    classes = tuple(map(rule_class, rule.names))
    smooth = tuple(activation(name).smooth for name in spec.network.activations)
    probes = tuple((name, PROBES[name].measure if name in PROBES else None) for name in spec.probes)
    return (
        spec.model_dump_json(exclude=_LEFT_OUT),
        repr(rule.filled(dict.fromkeys(rule.numbers(), 0.0))),
        (classes, smooth, probes),
        (integrator, *((np.shape(leaf), np.asarray(leaf).tobytes()) for leaf in leaves)),
        tuple((path, value.shape[1:]) for path, value in values.items()),
        tuple((name, array.shape) for name, array in data.items()),
        (plan.supervised, plan.frames, plan.interpolation, plan.absent, plan.sizes[0], len(plan.sizes), plan.sizes[-1]),
        (jax.config.values["jax_enable_x64"], jax.config.values["jax_default_matmul_precision"]),
    )
