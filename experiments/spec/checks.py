"""What no single key of a spec shows: whether its choices fit together."""

from collections.abc import Collection

from dynamics.errors import PlasticodeError, refused
from dynamics.integrators.adaptive import Adaptive
from dynamics.integrators.fixed_step import FixedStep
from dynamics.integrators.registry import fitting, integrator_named
from experiments.spec.inside import check_inside
from experiments.spec.probes import probe_named
from experiments.spec.rule_table import RULE_DELAY
from experiments.spec.spec import Spec
from experiments.spec.tables import MULTIPLIED, ON_SYNAPSES, TABLES, TRACED
from experiments.tasks.registry import of_kind

# A coupled program of FA on circles takes 43 s of a processor with 21 matrices; with 63, 28 s before it is compiled.
MOST_MATRICES = 64


def check(spec: Spec, swept: Collection[str] = ()) -> None:
    """Raise `PlasticodeError` where the choices of a spec contradict each other.

    `swept` lists paths of traced numbers that a sweep gives other values than the spec's.
    """
    _check_task(spec)
    _check_frames(spec, swept)
    _check_network(spec, swept)
    _check_integrator(spec, swept)
    _check_regime(spec, swept)
    check_inside(spec.record, spec.probes, spec.regime, spec.stimulus.presentations)
    if spec.record.points > spec.stimulus.presentations:
        raise refused(
            "record.points",
            spec.record.points,
            f"it must be 1 to stimulus.presentations = {spec.stimulus.presentations}",
        )


def _check_task(spec: Spec) -> None:
    task, kind = spec.task.name, spec.task.kind
    classifications = ", ".join(name for name in of_kind("classification") if name != task)
    for name, probe in ((name, probe_named(name)) for name in spec.probes):
        if probe.classes and kind != "classification":
            raise PlasticodeError(
                f"record.probes has '{name}', but the task '{task}' is no classification: "
                f"{name} is allowed with {classifications}"
            )
        if probe.supervised and kind == "unsupervised":
            raise PlasticodeError(f"record.probes has '{name}', which needs targets, but task '{task}' is unsupervised")
        if probe.stepped and not (spec.regime == "coupled" and isinstance(integrator_named(spec.solver), FixedStep)):
            raise PlasticodeError(
                f"record.probes has '{name}', which looks at the steps of coupled runs, but regime is '{spec.regime}' "
                f"and the integrator '{spec.solver}': it needs regime = 'coupled' and integrator.name = 'heun', say"
            )
        if probe.whole and not (spec.fit and spec.dtype == "float64"):
            told = f"dtype must be 'float64', and is '{spec.dtype}'"
            if not spec.fit:
                told = "there must be a table [fit], which says what is free and what is observed"
            raise PlasticodeError(f"record.probes has '{name}', the errors that a fit would have: {told}")
        if probe.settled and spec.task.in_frames:
            raise PlasticodeError(
                f"record.probes has '{name}', which lets single samples settle, but task '{task}' gives sequences, "
                "which a network answers in time: it must be left out"
            )
    if kind != "classification" and spec.network.loss == "softmax":
        raise PlasticodeError(
            f"network.loss = 'softmax' is not allowed with the task '{task}', whose targets are not one-hot: "
            f"it must be 'squared', or the task one of {classifications}"
        )
    if kind == "unsupervised" and spec.network.outputs is None:
        raise PlasticodeError(
            f"spec key 'network.outputs' is missing: the task '{task}' is unsupervised, so the number of outputs "
            "must be given"
        )
    if kind != "unsupervised" and spec.network.outputs is not None:
        raise refused("network.outputs", spec.network.outputs, f"the task '{task}' sets the number of outputs")


def _check_frames(spec: Spec, swept: Collection[str]) -> None:
    if spec.task.in_frames and (spec.stimulus.gap.value or "stimulus.gap" in swept):
        raise PlasticodeError(
            f"stimulus.gap is not allowed with the sequences of task '{spec.task.name}', whose frames follow each "
            "other at once: task.blank gives each sequence blank frames at its end"
        )


def _check_network(spec: Spec, swept: Collection[str]) -> None:
    layers, network = spec.network.layers, spec.network
    if network.weights is not None and (network.gain != 1 or "network.gain" in swept):
        raise refused("network.gain", network.gain, "network.weights gives the weights that the run starts from")
    for key, quantity in TRACED.items():
        value = spec.at(key)
        if isinstance(value, tuple):
            check_list(key, quantity.write(value), layers)
    skips = network.skips
    if layers + len(skips) > MOST_MATRICES:
        raise PlasticodeError(
            f"network.hidden and network.skips ask for {layers + len(skips)} matrices between layers: at most "
            f"{MOST_MATRICES} are allowed, since a program that is compiled grows with each"
        )
    for source, target in skips:
        if not source + 2 <= target <= layers:
            last = f"{layers}, the last layer"
            raise refused("network.skips", [source, target], f"the target must be source + 2 = {source + 2} to {last}")
    if len(set(skips)) != len(skips):
        raise refused("network.skips", [list(skip) for skip in skips], "each skip connection may be given once")


def check_list(key: str, values: list[object], layers: int) -> None:
    """Refuse a list that has not one value per layer."""
    if len(values) != layers:
        raise refused(key, values, f"a list must have one value for each of the {layers} layers (hidden and output)")


def _check_integrator(spec: Spec, swept: Collection[str]) -> None:
    name, calculus, adaptive = spec.solver, spec.noise.calculus, spec.integrator.adaptive
    integrator = integrator_named(name)
    if adaptive and not integrator.adaptive:
        why = "estimates no error" if integrator.explicit else "has a tolerance of its own"
        raise PlasticodeError(
            f"integrator.adaptive = true is not allowed with integrator.name = '{name}', which {why}: "
            f"it must be one of {', '.join(fitting(lambda one: one.adaptive))}"
        )
    noisy, delayed = (_given([k for k in TRACED if k.startswith(at)], spec, swept) for at in ("noise.", "delays."))
    able = Adaptive if adaptive else type(integrator)
    for keys, takes, kind in ((delayed, able.delays, "delays"), (noisy, able.noise, "noise")):
        if keys and not takes:
            what = "integrator.adaptive = true" if adaptive else f"integrator.name = '{name}'"
            who = "adaptive integration" if adaptive else "it"
            raise PlasticodeError(f"{what} is not allowed with {keys[0]}: {who} knows no {kind}")
    if integrator.for_noise and calculus not in integrator.calculi:
        raise PlasticodeError(
            f"integrator.name = '{name}' is not allowed with noise.calculus = '{calculus}': it must be "
            f"{' or '.join(repr(one) for one in integrator.calculi)}"
        )
    multiplied = [key for key in noisy if key in MULTIPLIED]
    if multiplied and calculus not in integrator.calculi:
        fit = fitting(lambda one: calculus in one.calculi)
        raise PlasticodeError(
            f"integrator.name = '{name}' is not allowed with {multiplied[0]} and noise.calculus = "
            f"'{calculus}', as it converges to the {' or '.join(integrator.calculi)} solution: it must be one of "
            f"{', '.join(fit)}"
        )


def _check_regime(spec: Spec, swept: Collection[str]) -> None:
    """Refuse what only another regime would heed."""
    integrator = integrator_named(spec.solver)
    if spec.noise.sampling and (spec.regime != "flow" or not integrator.sampling):
        what = f"regime '{spec.regime}' and integrator '{spec.solver}'"
        fit = "' or '".join(fitting(lambda one: one.sampling))
        raise refused("noise.sampling", True, f"it needs regime 'flow' and integrator '{fit}', but there are {what}")
    if spec.noise.sampling and spec.noise.calculus != "ito":
        told = "with noise.sampling, which is in the sense of Ito, it must be 'ito'"
        raise refused("noise.calculus", spec.noise.calculus, told)
    _check_unheeded(spec, swept)
    if spec.regime == "coupled":
        return
    if not integrator.flows:
        steps = ", ".join(fitting(lambda one: one.flows))
        raise refused("integrator.name", spec.solver, f"regime '{spec.regime}' has steps: it must be one of {steps}")
    heeded = ON_SYNAPSES if spec.regime == "flow" else ()
    given = _given([key for key, quantity in TRACED.items() if quantity.coupled and key not in heeded], spec, swept)
    given += ["integrator.adaptive"] if spec.integrator.adaptive else []
    if given:
        raise PlasticodeError(
            f"{given[0]} is not allowed with regime = '{spec.regime}', which has settled activities and errors: only "
            "the coupled regime has delays, traces, adaptive steps and this noise"
        )


def _check_unheeded(spec: Spec, swept: Collection[str]) -> None:
    """Refuse settings that only another regime, or another setting beside them, would heed."""
    of_batches = spec.noise.sampling or spec.flow.entropic
    lags = _given([key for key in TRACED if key.startswith("delays.")], spec, swept)
    lags += [path for path, number in spec.rule.numbers().items() if number.quantity == RULE_DELAY]
    adaptive, regime = spec.integrator.adaptive, f"but there is regime '{spec.regime}'"
    for key, heeded, needed in (
        ("flow.entropic", spec.regime == "flow", f"regime 'flow', {regime}"),
        (
            "stimulus.order",
            spec.regime != "flow",
            "regime 'coupled' or 'discrete', as a flow shows all samples at once",
        ),
        ("stimulus.batch", spec.regime != "flow" or of_batches, "noise.sampling or flow.entropic in a flow"),
        ("discrete.optimiser", spec.regime == "discrete", f"regime 'discrete', {regime}"),
        ("delays.stages", bool(lags), "a lag: delays.error, delays.hop or delays.input"),
        ("record.samples", "activities" in spec.probes, "the probe activities in record.probes"),
        ("integrator.rtol", adaptive, "integrator.adaptive = true"),
        ("integrator.atol", adaptive, "integrator.adaptive = true"),
        ("integrator.max_steps", adaptive, "integrator.adaptive = true"),
    ):
        section, name = key.split(".")
        if not heeded and spec.at(key) != TABLES[section].model_fields[name].default:
            raise refused(key, spec.at(key), f"it needs {needed}")


def _given(keys: list[str], spec: Spec, swept: Collection[str]) -> list[str]:
    """Those of the traced numbers at `keys` that stand for something here, and paths to them that are swept."""
    given = []
    for key in keys:
        quantity, value = TRACED[key], spec.at(key)
        if quantity.absent is not None:
            known = getattr(value, "value", value) != quantity.absent
        else:
            known = quantity.optional and value is not None
        given += [key] if known else [path for path in swept if path == key or path.startswith(f"{key}.")][:1]
    return given
