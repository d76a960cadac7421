"""From the values of one point to the regime that runs it: the only place where spec fields meet dynamics objects."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from dynamics.circuit import Circuit
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.errors import PlasticodeError, refused
from dynamics.flow import WeightFlow
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.integrators.registry import integrator_named
from dynamics.network import Network
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.points.data import arrays_of
from experiments.points.demands import demands_of, settings_of
from experiments.spec.grid import Group
from experiments.spec.probes import TIMED_ALIKE
from experiments.spec.rule_table import RULE_DELAY
from experiments.spec.spec import Spec
from experiments.spec.tables import TRACED
from experiments.tasks.contract import Data
from rules.registry import check_numbers, make_rule, rule_times

Values = dict[str, Float[Array, "*layers"]]
OWN = {"stimulus.duration": "durations", "stimulus.gap": "gaps"}  # arrays of a task, in place of these numbers
MAX_HISTORY = 1_000_000
MAX_NUMBERS = 250_000_000  # weights of one network, or past signals that its lags need: 1 GB each in float32


@dataclass(frozen=True)
class Plan:
    """What is static about a group of points: everything that its compiled program depends on.

    spec        the group's spec; its traced numbers are not looked at
    sizes       the network's layer sizes; `supervised` says whether the task gives targets
    frames      of a sequence of the task; 1 where its samples are single. `interpolation`: how inputs go from one to
                the next
    steps       per period; chosen so that no point of the group steps by more than integrator.dt, or nodes of windows
    history     the length of the ring buffer that the largest lag needs; 0 without constant lags
    absent      the paths of traced numbers that stand for nothing at every point, such as a lag of 0
    integrator  of a coupled run or a weight flow; its numbers are cast to the dtype of the points
    """

    spec: Spec
    sizes: tuple[int, ...]
    supervised: bool
    frames: int
    interpolation: str
    steps: int
    history: int
    absent: frozenset[str]
    integrator: AbstractIntegrator

    @property
    def label(self) -> str:
        """What tells it from finer ones."""
        return self.integrator.label(self.steps)

    @property
    def dense(self) -> bool:
        """Whether its program spends its time in products of matrices."""
        return self.spec.regime == "coupled" and self.integrator.dense


def plan(group: Group, data: Data, *later: Data) -> Plan:
    """The plan of a group on its task's data; values that cannot run together are told in a sentence.

    `later` are the data of its second and later phases, which nodes and steps have to suit too.
    """
    every = (data, *(later or (data,) * len(group.later)))
    spec, values = group.static, longest(group.stages, [arrays_of(one) for one in every])
    outputs = data.train_targets.shape[1] if data.train_targets is not None else spec.network.outputs
    if outputs is None:
        raise PlasticodeError(
            f"network.outputs is missing: task '{spec.task.name}' gives no targets, so it must be given"
        )
    if data.interpolation != "held" and spec.regime != "coupled":
        raise PlasticodeError(
            f"task '{spec.task.name}' gives inputs that move while a frame is shown (interpolation = "
            f"'{data.interpolation}'), and with regime = '{spec.regime}' nothing moves there: regime must be 'coupled'"
        )
    period = values["stimulus.duration"] + values["stimulus.gap"]
    settings = settings_of(spec, values)
    demands = demands_of(spec, values, settings.dt, max(one.strongest for one in every))
    integrator, steps = integrator_named(spec.solver, spec.integrator.adaptive).planned(settings, demands)
    absent = {path: quantity.absent for path, quantity in TRACED.items() if quantity.absent is not None}
    absent = frozenset(path for path, nothing in absent.items() if (values[path] == nothing).all())
    lags = {path: lag for path, lag in values.items() if path.startswith("delays.") and path not in absent}
    for path, number in spec.rule.numbers().items():
        check_numbers(number.rule, path.removeprefix("rule."), values[path])
    history = 0
    if spec.regime == "coupled" and lags and not spec.delays.stages:
        history = _past(max(float((lag * steps / period).max()) for lag in lags.values()), steps, integrator)
    sizes = (data.train_inputs.shape[1], *spec.network.hidden, outputs)
    _check_memory(spec, sizes, max(history, spec.delays.stages) * spec.stimulus.batch)
    shown = data.train_targets is not None, data.frames, data.interpolation
    return Plan(spec, sizes, *shown, steps, history, absent, integrator)


def longest(
    stages: Sequence[Mapping[str, np.ndarray]], data: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """The values of all points in the first phase, then in the second, and so on, with the longest duration and gap of
    samples that have their own; `data` has the arrays of each phase."""
    found = []
    for values, arrays in zip(stages, data, strict=True):
        own = {path: np.full_like(values[path], arrays[of].max()) for path, of in OWN.items() if of in arrays}
        found.append({**values, **own})
    return {path: np.concatenate([values[path] for values in found]) for path in stages[0]}


def _past(late: float, steps: int, integrator: AbstractIntegrator) -> int:
    """The length of the ring buffer that a lag of so many steps needs.

    Windows remember whole presentations anyway, one or more: all lags of so many have one program.
    """
    past = math.ceil(late)
    history = (past if integrator.explicit else max(-(-past // steps), 1) * steps) + 2
    if history > MAX_HISTORY:
        raise PlasticodeError(
            f"delays need {history} past steps: at most {MAX_HISTORY} are allowed; raise integrator.dt"
        )
    return history


Lags = Callable[[dict[str, Any]], list[Array]]  # from the numbers of all points


def lags_of(plan: Plan) -> Lags:
    """What computes the lags that the rule of a plan itself gives to its projections, such as a delay of its reward, at
    every point."""

    def lags(point: Values) -> list[Array]:
        return [p.lag for p in circuit_of(plan, point).projections if p.lag is not None]

    return jax.vmap(lags)


def remembering(plan: Plan, values: Mapping[str, np.ndarray], lags: Lags) -> Plan:
    """The plan with as long a past as those lags need at any of the points; `lags` is `lags_of(plan)`, or that of a
    plan wired alike."""
    spec = plan.spec
    if spec.regime != "coupled" or spec.delays.stages or not any(map(rule_times, spec.rule.names)):
        return plan
    found = lags({path: value.astype(spec.dtype) for path, value in values.items()})
    if not found:
        return plan
    period = values["stimulus.duration"] + values["stimulus.gap"]
    longest = max(float((lag * plan.steps / period).max()) for lag in map(np.asarray, found))
    history = max(plan.history, _past(longest, plan.steps, plan.integrator))
    _check_memory(spec, plan.sizes, history * spec.stimulus.batch)
    return dataclasses.replace(plan, history=history)


def refined(plan: Plan) -> Plan | None:
    """The plan to try next for points that have not reached the tolerance: with finer windows, or four times as many
    steps. None where there is none, or it would be too fine."""
    if plan.spec.regime == "discrete":
        return None
    finer = plan.integrator.finer(plan.steps, plan.history, np.dtype(plan.spec.dtype))
    if finer is None or finer.history * plan.spec.stimulus.batch * sum(plan.sizes) > MAX_NUMBERS:
        return None
    return dataclasses.replace(plan, integrator=finer.integrator, steps=finer.steps, history=finer.history)


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
            "allowed; raise integrator.dt, or use fewer delays.stages, a smaller stimulus.batch or network.hidden"
        )


def _numbers(plan: Plan, values: Values, section: str) -> dict[str, Any]:
    """The traced numbers of a section of a spec that stand for something, by name: what they are in the engine too."""
    paths = [path for path in TRACED if path.startswith(f"{section}.") and path in values and path not in plan.absent]
    return {path.removeprefix(f"{section}."): values[path] for path in paths}


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
        **_numbers(plan, values, "network"),
    )


def circuit_of(plan: Plan, values: Values) -> Circuit:
    """What the rule of one point wires."""
    table, dtype = plan.spec.rule, values["network.gain"].dtype
    rule = make_rule(table.name, table.filled(values))

    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(jnp.result_type(leaf), jnp.floating) else leaf

    circuit = jax.tree.map(cast, rule).wire(network_of(plan, values))
    return jax.tree.map(lambda leaf: cast(leaf) if isinstance(leaf, jax.Array) else leaf, circuit)


def check_timed(plan: Plan) -> None:
    """Refuses what looks at presentations as if all lasted equally long."""
    spec, unequal = plan.spec, set(TIMED_ALIKE) & set(plan.spec.probes)
    if plan.history:
        late = {path: spec.at(path) for path in TRACED if path.startswith("delays.") and path not in plan.absent}
        late |= {path: number.value for path, number in spec.rule.numbers().items() if number.quantity == RULE_DELAY}
        path, lag = next(iter(late.items()))
        told = (
            "presentations of this task last differently, each as long as its file says, and constant lags look back "
            "over several: delays.stages must be 1 or more, for gamma-distributed lags, or all rows of the file be "
            "equally long, such as one for each time of which all durations and gaps are multiples"
        )
        raise refused(path, str(lag), told)
    for key, value, allowed in (
        ("regime", spec.regime, spec.regime != "flow"),
        ("stimulus.batch", spec.stimulus.batch, spec.stimulus.batch == 1),
        ("record.inside", list(spec.record.inside), not spec.record.inside),
        ("record.probes", sorted(unequal), not unequal),
    ):
        if not allowed:
            raise refused(key, value, "presentations of this task last differently, each as long as its file says")


def build(plan: Plan, values: Values, seed: Integer[Array, ""], data: dict[str, Array]) -> tuple[AbstractRegime, Array]:
    """The regime of one point, and the key that its weights are drawn from. `values` may be traced.

    One seed gives three independent keys: initial weights, order of the presentations, noise.
    """
    spec, dtype = plan.spec, values["network.gain"].dtype
    circuit = circuit_of(plan, values)
    timescales = Timescales(**_numbers(plan, values, "timescales"))
    clock = Clock(**_numbers(plan, values, "stimulus"), steps=plan.steps)
    weights_key, order_key, noise_key = jax.random.split(jax.random.key(seed), 3)
    samples, told = (data["train_inputs"], data.get("train_targets")), data.get("train_told")
    order = order_key, spec.stimulus.order, plan.frames
    recorded: dict[str, Any] = {name: data.get(name) for name in ("shown", "durations", "gaps")}
    stream = Stream(*samples, *order, told, data.get("first"), **recorded, interpolation=plan.interpolation)
    noise = Noise(**_numbers(plan, values, "noise"), calculus=spec.noise.calculus)
    if spec.regime == "flow":
        x, y, steps = stream.inputs, stream.targets, cast(Any, plan.integrator)
        batch, kind = jnp.asarray(spec.stimulus.batch, dtype), (spec.noise.sampling, noise, spec.flow.entropic)
        return WeightFlow(circuit, timescales, x, y, clock, steps, noise_key, *kind, batch, told), weights_key
    if spec.regime == "discrete":
        return Discrete(circuit, timescales, stream, clock, spec.discrete.optimiser, spec.stimulus.batch), weights_key
    coupled = Coupled(
        circuit,
        timescales,
        stream,
        clock,
        Delays(**_numbers(plan, values, "delays"), stages=spec.delays.stages),
        noise,
        jax.tree.map(lambda number: number.astype(dtype), plan.integrator),
        noise_key,
        plan.history,
        spec.stimulus.batch,
    )
    return coupled, weights_key
