"""Steps that are too long for what relaxes: explicit steps of twice a time constant or more are unstable."""

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
    slow variable or slow trace of its rule and, in a coupled run, neurons, all traces and the stages of lags.

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
    m, known = spec.delays.stages, {name: np.asarray(tau, np.float64) for name, tau in numbers.items()}
    taus = {_path(plan, values, name, tau): tau for name, tau in known.items()}
    for name in ("propagation", "trace", "decay") if spec.regime == "coupled" else ("decay",):
        if f"timescales.{name}" in values:
            taus[f"timescales.{name}"] = smallest(values[f"timescales.{name}"])
    lags = [path for path in sorted(values) if path.startswith("delays.") and path not in plan.absent]
    for path in lags if m else ():
        taus[f"{path} / delays.stages"] = np.where(values[path] > 0, values[path] / m, np.inf)
    for path, tau in taus.items():
        worst = int(np.argmax(step / tau))
        if step[worst] >= 2 * tau[worst] * (1 - 1e-6):
            each = ", one per presentation," if spec.regime == "discrete" else ""
            raise PlasticodeError(
                f"{what} = {step[worst]:g} s is not allowed with {path} = {tau[worst]:g} s: explicit steps{each} are "
                f"unstable from twice that on, and it must be at most {tau[worst]:g} s to be accurate"
            )


def slow_timescales(plan: Plan) -> Slow:
    """What computes the time constants of the slow variables and traces of the rule at every point, by what a sentence
    calls them; in coupled runs those of fast ones too, which settle elsewhere."""
    fast_too = plan.spec.regime == "coupled"

    def taus(point: dict[str, Any]) -> dict[str, Any]:
        circuit = circuit_of(plan, point)
        found = [(f"'{v.name}'", v) for layer in circuit.layers for v in layer.variables]
        found += [(f"the trace of the term '{t.name}'", t.trace) for t in circuit.terms if t.trace is not None]
        return {what: x.timescale.min() for what, x in found if x.timescale is not None and (x.slow or fast_too)}

    return jax.vmap(taus)


def _path(plan: Plan, values: dict[str, np.ndarray], what: str, tau: np.ndarray) -> str:
    """The path of the time of the rule that is this time constant at every point; else what it is the time constant
    of."""
    times = [path for path, number in plan.spec.rule.numbers().items() if number.quantity.time]
    equal = [path for path in times if np.allclose(smallest(values[path]), tau, rtol=1e-6, atol=0)]
    return equal[0] if equal else f"the time constant of {what}"
