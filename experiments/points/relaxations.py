"""Steps that are too long for what relaxes: explicit steps of more than twice a time constant are unstable."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dynamics.errors import PlasticodeError
from experiments.points.assemble import Plan, circuit_of
from experiments.points.demands import smallest

Slow = Callable[[dict[str, np.ndarray]], dict[str, Any]]  # from the numbers of all points, see `slow_timescales`


def check_relaxations(plan: Plan, values: dict[str, np.ndarray], slow: Slow) -> None:
    """Refuses a group of points in one of which something relaxes faster than its steps allow: weights that decay, a
    slow variable of its rule and, in a coupled run, neurons, traces and the stages of lags.

    Windows and adaptive steps have no such limit. `slow` is `slow_timescales(plan)`, or that of a plan wired alike.
    """
    spec = plan.spec
    period = values["stimulus.duration"] + values["stimulus.gap"]
    if spec.regime == "discrete":
        step, what = period, "stimulus.duration + stimulus.gap"
    elif spec.regime == "coupled" and not plan.integrator.explicit:
        return
    else:
        step, what = period / plan.steps, "integrator.dt"
    numbers = slow({path: value.astype(spec.dtype) for path, value in values.items()})
    taus, m = {_path(plan, name): np.asarray(tau, np.float64) for name, tau in numbers.items()}, spec.delays.stages
    for name in ("propagation", "trace", "decay") if spec.regime == "coupled" else ("decay",):
        if f"timescales.{name}" in values:
            taus[f"timescales.{name}"] = smallest(values[f"timescales.{name}"])
    lags = [path for path in sorted(values) if path.startswith("delays.") and path not in plan.absent]
    for path in lags if m else ():
        taus[f"{path} / delays.stages"] = np.where(values[path] > 0, values[path] / m, np.inf)
    for path, tau in taus.items():
        worst = int(np.argmax(step / tau))
        if step[worst] > 2 * tau[worst] * (1 + 1e-6):
            each = ", one per presentation," if spec.regime == "discrete" else ""
            raise PlasticodeError(
                f"{what} = {step[worst]:g} s is not allowed with {path} = {tau[worst]:g} s: explicit steps{each} are "
                f"unstable above twice that, and it must be at most {tau[worst]:g} s to be accurate"
            )


def slow_timescales(plan: Plan) -> Slow:
    """What computes the time constants of the slow variables of the rule at every point, by the variables' names; in
    coupled runs those of fast ones too, which settle elsewhere."""
    fast_too = plan.spec.regime == "coupled"

    def taus(point: dict[str, Any]) -> dict[str, Any]:
        found = [v for layer in circuit_of(plan, point).layers for v in layer.variables if v.slow or fast_too]
        return {v.name: v.timescale.min() for v in found if v.timescale is not None}

    return jax.jit(jax.vmap(taus))


def _path(plan: Plan, variable: str) -> str:
    key = f"{variable}_timescale"
    return f"rule.{key}" if key in plan.spec.rule.parameters else f"the time constant of '{variable}'"
