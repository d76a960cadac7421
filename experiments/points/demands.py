"""What a spec and the points that share a program ask of their integrator."""

import numpy as np

from dynamics.integrators.contract import Demands, Settings
from experiments.spec.spec import Spec
from experiments.spec.tables import ON_SYNAPSES


def settings_of(spec: Spec, values: dict[str, np.ndarray]) -> Settings:
    """What the spec says of its integrator, for points with these `values`."""
    given = spec.integrator
    dt = given.dt.seconds(float(values["stimulus.duration"].min()))
    return Settings(given.tolerance, dt, given.rtol, given.atol, given.max_steps, spec.dtype)


def demands_of(spec: Spec, values: dict[str, np.ndarray], dt: float, strongest: float) -> Demands:
    """What points with these `values` demand, in steps of at most `dt`, shown inputs of at most this squared norm."""
    noises = [path for path in values if path.startswith("noise.")]
    return Demands(
        values["stimulus.duration"],
        values["stimulus.gap"],
        smallest(values["timescales.propagation"]),
        smallest(values["timescales.plasticity"]),
        smallest(values["timescales.decay"]),
        strongest,
        len(spec.network.hidden) + 1,
        dt if noises else None,
        spec.noise.sampling or any(path in ON_SYNAPSES for path in noises),
        _slowest(spec, values),
    )


def smallest(values: np.ndarray) -> np.ndarray:
    """One number per point, of numbers that may be given per layer."""
    return values if values.ndim == 1 else values.min(axis=1)


def _slowest(spec: Spec, values: dict[str, np.ndarray]) -> float:
    """The longest finite time constant of weights and slow variables, in seconds."""
    times = [path for path, number in spec.rule.numbers().items() if number.quantity.time]
    paths = [path for path in (*times, "timescales.plasticity", "timescales.decay") if path in values]
    times = np.concatenate([np.ravel(values[path]) for path in paths])
    return float(times[np.isfinite(times)].max(initial=0.0))
