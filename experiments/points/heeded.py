"""What a spec says and nothing heeds: refused, or told, as a user would take it for part of the result."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dynamics import wiring
from dynamics.circuit import Circuit, Gaussian, Given, Outer, Redrawn
from dynamics.errors import refused
from dynamics.integrators.registry import integrator_named
from dynamics.local import reads
from dynamics.plugins import is_own
from experiments.points.assemble import OWN, Plan, circuit_of
from experiments.spec.axes import swept_paths
from experiments.spec.paths import covers, phase_path
from experiments.spec.rule_table import rule_fields
from experiments.spec.spec import Spec
from experiments.spec.tables import Integrator, Quantity, Stimulus


class Heeded(NamedTuple):
    """What the circuit of a job heeds: `numbers` of its rule, by path; the run's eligibility traces; output errors."""

    numbers: frozenset[str]
    trace: bool
    errors: bool


NOTHING = Heeded(frozenset(), False, False)


def heeded(plan: Plan, point: dict[str, Any]) -> Heeded:
    """What the circuit of a plan heeds, by tracing it once at the numbers of a point; not how weights would be drawn
    where they are given."""
    wired: list[Circuit] = []
    drawn = (Gaussian, Given) if plan.spec.network.weights is not None else ()

    def leaves(point: dict[str, Any]) -> list[Any]:
        wired.append(circuit_of(plan, point))
        parts = jax.tree.leaves(wired[0], is_leaf=lambda part: isinstance(part, (Redrawn, *drawn)))
        counted = [part for part in parts if not isinstance(part, drawn)]
        return [leaf for leaf in jax.tree.leaves(counted) if isinstance(leaf, jax.Array)]

    program = jax.make_jaxpr(leaves)(point).jaxpr
    needed = {id(v) for v in program.outvars}
    for step in reversed(program.eqns):
        if any(id(v) in needed for v in step.outvars):
            needed |= {id(v) for v in step.invars}
    paths = [path for path, v in zip(sorted(point), program.invars, strict=True) if id(v) in needed]
    outer = [term.term for term in wired[0].terms if isinstance(term.term, Outer)]
    return Heeded(frozenset(paths), any(term.trace.timescale is None for term in outer), _reads_errors(wired[0]))


def _reads_errors(circuit: Circuit) -> bool:
    """Whether some factor reads an error of neurons, or what arrives at the port where errors do."""
    factors = wiring.factors(circuit.layers, circuit.projections)
    found = (reads(factor, circuit.plan.known[layer], what) for factor, layer, what in factors)
    return any("error" in (*read.values, *read.drives) or "modulatory" in read.inputs for read in found)


def check_trace(spec: Spec, values: dict[str, np.ndarray], known: Heeded) -> None:
    """Refuses the run's eligibility traces where no law of the rule has one."""
    if spec.regime == "coupled" and "timescales.trace" in values and not known.trace:
        told = f"it changes nothing with rule '{spec.rule.name}', as each of its laws has a trace of its own, or none"
        raise refused("timescales.trace", f"{values['timescales.trace'].min():g} s", told)


def check_numbers_count(part: Spec, statics: Sequence[Spec], known: Sequence[Heeded]) -> None:
    """Refuses a number of a rule that is given or swept, where nothing depends on it at any point of a part.

    `statics` are the specs of its groups, `known` what each heeds. Rules of the user's own are left alone: how they use
    their numbers only they know.
    """
    swept, counting = swept_paths(part.sweep)[0], frozenset().union(*(one.numbers for one in known))
    for path, number in ((path, number) for spec in statics for path, number in spec.rule.numbers().items()):
        axes = [axis for axis in swept if covers(path, phase_path(axis)[1])]
        default = rule_fields(number.rule)[path.rpartition(".")[2]]
        default = tuple(default) if isinstance(default, list) else default
        if path in counting or is_own(number.rule) or not (axes or number.value != default):
            continue
        raise refused(
            f"sweep.{axes[0]}" if axes else path,
            part.sweep[axes[0]].written if axes else Quantity.write(number.value),
            f"nothing depends on it with the other settings of rule '{number.rule}' and this network: `plasticode show "
            f"{number.rule}` tells when it counts",
        )


def unheeded_errors(spec: Spec, values: dict[str, np.ndarray], absent: Collection[str], known: Heeded) -> list[str]:
    """A sentence for each way in which errors are late or noisy, where the rule uses none."""
    if known.errors:
        return []
    keys = [key for key in ("delays.error", "noise.error") if key in values and key not in absent]
    return [f"{key} changes nothing with rule '{spec.rule.name}', which uses no error" for key in keys]


def unheeded_steps(spec: Spec, values: dict[str, np.ndarray], absent: Collection[str]) -> list[str]:
    """A sentence where `integrator.dt` is given and bounds nothing."""
    noisy = any(key.startswith("noise.") and key not in absent for key in values)
    steps = spec.regime != "discrete" and (noisy or integrator_named(spec.solver).explicit)
    if steps or spec.integrator.dt == Integrator.model_fields["dt"].default:
        return []
    if spec.regime == "discrete":
        return ["integrator.dt changes nothing with regime 'discrete', which takes no steps"]
    told = f"integrator '{spec.solver}' and no noise"
    return [f"integrator.dt changes nothing with {told}; integrator.tolerance says how precise windows are"]


def unheeded_spans(spec: Spec, values: Mapping[str, np.ndarray], data: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """A sentence for a duration and a gap that are given, where the task has those of every sample, in all phases."""
    found, rest = [], {"duration": "but for what T stands for", "gap": "here"}
    for path, name in OWN.items():
        key = path.partition(".")[2]
        given = (values[path] != Stimulus.model_fields[key].default.value).any()
        if given and all(name in arrays for arrays in data):
            found.append(f"{path} changes nothing {rest[key]}: task '{spec.task.name}' has the {key} of every sample")
    return found


def never_arrive(spec: Spec, values: dict[str, np.ndarray], absent: Collection[str]) -> list[str]:
    """A sentence for each constant lag that is, at some point, at least as long as the run."""
    if spec.delays.stages:
        return []
    lasts = spec.stimulus.presentations * (values["stimulus.duration"] + values["stimulus.gap"])
    keys = ("delays.error", "delays.hop", "delays.input")
    lags = {key: values[key] for key in keys if key in values and key not in absent}
    late = {key: np.flatnonzero(lag >= lasts) for key, lag in lags.items()}
    return [
        f"{key} = {lags[key][at[0]]:g} s is not shorter than the run, {lasts[at[0]]:g} s: nothing arrives"
        for key, at in late.items()
        if at.size
    ]
