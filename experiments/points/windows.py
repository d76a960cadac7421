"""The windows of a group of points: what a spec and its values demand of them."""

import numpy as np

from dynamics.window import Window
from dynamics.window_choice import Demands, choose
from experiments.spec.spec import Spec


def windows_for(spec: Spec, values: dict[str, np.ndarray], inputs: np.ndarray) -> Window:
    """The windows for the points with these `values`, shown these `inputs`."""
    duration = values["stimulus.duration"]
    noisy = any(f"noise.{name}" in values for name in ("activity", "error", "synaptic", "synaptic_multiplicative"))
    demands = Demands(
        duration,
        values["stimulus.gap"],
        smallest(values["timescales.propagation"]),
        smallest(values["timescales.plasticity"]),
        smallest(values["timescales.decay"]),
        float(np.max(np.sum(np.square(inputs, dtype=float), axis=1))),
        spec.integrator.dt.seconds(float(duration.min())) if noisy else None,
    )
    return choose(Window(spec.integrator.tolerance), demands)


def smallest(values: np.ndarray) -> np.ndarray:
    """One number per point, of numbers that may be given per layer."""
    return values if values.ndim == 1 else values.min(axis=1)
