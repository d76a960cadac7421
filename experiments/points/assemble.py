"""From the values of one point to the regime that runs it: the only place where spec fields meet dynamics objects."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from dynamics.circuit import Circuit
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.doubling import finer as finer_steps
from dynamics.errors import PlasticodeError, refused
from dynamics.flow import WeightFlow
from dynamics.integrators import Adaptive, FixedStep
from dynamics.network import Network
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from dynamics.window import Window
from dynamics.window_choice import refined as finer_windows
from experiments.points.windows import windows_for
from experiments.spec.grid import Group
from experiments.spec.spec import Spec
from experiments.tasks.contract import Data
from rules.registry import check_numbers, make_rule

Values = dict[str, Float[Array, "*layers"]]
MAX_STEPS, MAX_HISTORY = 1_000_000, 1_000_000
SHORT = 3000  # steps in a time constant of the weights: rounding then takes less than 1e-4 of their change in float32
MAX_NUMBERS = 250_000_000  # weights of one network, or past signals that its lags need: 1 GB each in float32


@dataclass(frozen=True)
class Plan:
    """What is static about a group of points: everything that its compiled program depends on.

    spec      the group's spec; its traced numbers are not looked at
    sizes     the network's layer sizes; `supervised` says whether the task gives targets
    steps     per period; chosen so that no point of the group steps by more than integrator.dt, or nodes of windows
    lags      which of delays.error, hop, input any point has
    history   the length of the ring buffer that the largest lag needs; 0 without constant lags
    decays    whether the weights of any point decay
    window    the window integrator, where the spec has it
    slow      whether the weights of any point change so little in a step that sums have to be compensated
    """

    spec: Spec
    sizes: tuple[int, ...]
    supervised: bool
    steps: int
    lags: frozenset[str]
    history: int
    decays: bool
    window: Window | None
    slow: bool


def plan(group: Group, data: Data) -> Plan:
    """The plan of a group on its task's data; values that cannot run together are told in a sentence."""
    spec, values = group.static, group.values
    outputs = data.train_targets.shape[1] if data.train_targets is not None else spec.network.outputs
    if outputs is None:
        raise PlasticodeError(
            f"network.outputs is missing: task '{spec.task.name}' gives no targets, so it must be given"
        )
    period = values["stimulus.duration"] + values["stimulus.gap"]
    dt = spec.integrator.dt.seconds(float(values["stimulus.duration"].min()))
    by_windows = spec.regime == "coupled" and spec.solver == "window"
    window = windows_for(spec, values, data.train_inputs) if by_windows else None
    shared = spec.noise.sampling or any(path.startswith("noise.synaptic") for path in values)
    steps = _steps(float(period.max()), dt, shared) if window is None else window.nodes * window.parts
    lags = {name: values[f"delays.{name}"] for name in ("error", "hop", "input")}
    lags = {name: lag for name, lag in lags.items() if np.any(lag > 0)}
    for path in values:
        if path.startswith("rule."):
            check_numbers(spec.rule.name, path.removeprefix("rule."), values[path])
    history = 0
    if spec.regime == "coupled":
        if lags and not spec.delays.stages:
            longest = max(float((lag * steps / period).max()) for lag in lags.values())
            history = math.ceil(longest) + 2
            if history > MAX_HISTORY:
                raise PlasticodeError(
                    f"delays need {history} past steps: at most {MAX_HISTORY} are allowed; raise integrator.dt"
                )
    slow = spec.dtype == "float32" and _slowest(values) * steps > SHORT * float(period.min())
    decays = bool(np.isfinite(values["timescales.decay"]).any())
    sizes = (data.train_inputs.shape[1], *spec.network.hidden, outputs)
    _check_memory(spec, sizes, max(history, spec.delays.stages))
    return Plan(spec, sizes, data.train_targets is not None, steps, frozenset(lags), history, decays, window, slow)


def refined(plan: Plan) -> Plan | None:
    """The plan to try next for points that have not reached the tolerance: with finer windows, or four times as many
    steps. None where there is none, or it would be too fine."""
    if plan.window is not None:
        window = finer_windows(plan.window)
        return None if window is None else dataclasses.replace(plan, window=window)
    fixed = plan.spec.regime != "discrete" and not plan.spec.integrator.adaptive
    number = finer_steps(plan.steps, plan.history) if fixed else None
    if number is None or number[1] * sum(plan.sizes) > MAX_NUMBERS:
        return None
    return dataclasses.replace(plan, steps=number[0], history=number[1], slow=plan.spec.dtype == "float32")


def _slowest(values: dict[str, np.ndarray]) -> float:
    """The longest finite time constant of weights and slow variables, in seconds."""
    paths = [p for p in values if p in ("timescales.plasticity", "timescales.decay") or p.endswith("_timescale")]
    times = np.concatenate([np.ravel(values[path]) for path in paths])
    return float(times[np.isfinite(times)].max(initial=0.0))


def _steps(period: float, dt: float, even: bool) -> int:
    """Steps per presentation; `even` where a twin shares the noise of each two (dynamics.doubling)."""
    steps = period / dt * (1 - 1e-9) if dt > 0 else math.inf
    if steps > MAX_STEPS:
        raise PlasticodeError(
            f"integrator.dt = {dt:g} s gives {steps:.7g} steps per presentation: at most {MAX_STEPS} are allowed"
        )
    number = max(math.ceil(steps), 1)
    return number + number % 2 if even else number


def _check_memory(spec: Spec, sizes: tuple[int, ...], past: int) -> None:
    """Refuses networks that no machine holds, by the sizes of their matrices, and the signals that lags remember."""
    pairs = [*zip(sizes[:-1], sizes[1:], strict=True), *((sizes[a], sizes[b]) for a, b in spec.network.skips)]
    weights = sum(before * after for before, after in pairs)
    if weights > MAX_NUMBERS:
        widths = list(spec.network.hidden)
        raise refused("network.hidden", widths, f"it gives {weights} weights, and at most {MAX_NUMBERS} are allowed")
    if past * sum(sizes) > MAX_NUMBERS:
        raise PlasticodeError(
            f"delays need {past} past values of each of {sum(sizes)} neurons: at most {MAX_NUMBERS} numbers are "
            "allowed; raise integrator.dt, or use fewer delays.stages or smaller network.hidden"
        )


def network_of(plan: Plan, values: Values) -> Network:
    """The network of one point."""
    table = plan.spec.network
    return Network(
        plan.sizes,
        table.activation,
        table.output_activation,
        table.loss,
        table.bias,
        table.skips,
        plan.supervised,
        values["network.gain"],
    )


def circuit_of(plan: Plan, values: Values) -> Circuit:
    """What the rule of one point wires."""
    table, dtype = plan.spec.rule, values["network.gain"].dtype
    traced = {path.split(".")[1]: value for path, value in values.items() if path.startswith("rule.")}
    rule = make_rule(table.name, table.in_seconds(values["stimulus.duration"]) | traced)
    rule = jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, rule)
    return rule.wire(network_of(plan, values))


def build(plan: Plan, values: Values, seed: Integer[Array, ""], data: dict[str, Array]) -> tuple[AbstractRegime, Array]:
    """The regime of one point, and the key that its weights are drawn from. `values` may be traced.

    One seed gives three independent keys: initial weights, order of the presentations, noise.
    """
    spec, dtype = plan.spec, values["network.gain"].dtype
    circuit = circuit_of(plan, values)
    timescales = Timescales(
        values["timescales.propagation"],
        values["timescales.plasticity"],
        values["timescales.decay"] if plan.decays else None,
        values.get("timescales.trace"),
    )
    clock = Clock(values["stimulus.duration"], values["stimulus.gap"], plan.steps)
    weights_key, order_key, noise_key = jax.random.split(jax.random.key(seed), 3)
    stream = Stream(data["train_inputs"], data.get("train_targets"), order_key)
    if spec.regime == "flow":
        solver = FixedStep(spec.solver, spec.integrator.tolerance, plan.slow)
        x, y, sampling = stream.inputs, stream.targets, spec.noise.sampling
        return WeightFlow(circuit, timescales, x, y, clock, solver, noise_key, sampling), weights_key
    if spec.regime == "discrete":
        return Discrete(circuit, timescales, stream, clock, spec.discrete.optimiser), weights_key
    lags: dict[str, Any] = {name: values[f"delays.{name}"] for name in plan.lags}
    coupled = Coupled(
        circuit,
        timescales,
        stream,
        clock,
        Delays(**lags, stages=spec.delays.stages),
        Noise(
            values.get("noise.activity"),
            values.get("noise.error"),
            values.get("noise.synaptic"),
            values.get("noise.synaptic_multiplicative"),
            spec.noise.calculus,
        ),
        _integrator(plan, dtype),
        noise_key,
        plan.history,
    )
    return coupled, weights_key


def _integrator(plan: Plan, dtype: jnp.dtype) -> FixedStep | Adaptive | Window:
    if plan.window is not None:
        return plan.window
    settings, name = plan.spec.integrator, plan.spec.solver
    if not settings.adaptive:
        return FixedStep(name, settings.tolerance, plan.slow)
    rtol, atol = jnp.asarray(settings.rtol, dtype), jnp.asarray(settings.atol, dtype)
    return Adaptive(rtol, atol, name, settings.max_steps, settings.tolerance)
