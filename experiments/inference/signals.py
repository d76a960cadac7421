"""What of a run an observation may name, and when it may be seen."""

import math
import re

import numpy as np

from dynamics.coupled import Coupled
from dynamics.errors import refused
from dynamics.inside import known
from dynamics.instruments import output_layer
from dynamics.regime import AbstractRegime
from experiments.inference.table import Observation


def signals(regime: AbstractRegime) -> dict[str, int]:
    """The names of what settles, and how many numbers each has."""
    circuit = regime.circuit
    named = {layer.name: layer.size for layer in circuit.layers if layer.role != "constant"}
    errors = {_error(layer.name): layer.size for layer in circuit.layers if "error" in circuit.variables(layer)}
    return named | errors | {"output": circuit.layer(output_layer(circuit)).size}


def _error(layer: str) -> str:
    """What the errors of a layer are called: "e1", those of "z1"."""
    return f"e{layer[1:]}" if re.fullmatch(r"z[0-9]+", layer) else f"{layer}.error"


def signal(regime: AbstractRegime, name: str) -> tuple[str, str]:
    """The layer and the variable that a name of `signals` stands for."""
    if name == "output":
        return output_layer(regime.circuit), "activity"
    of_errors = {_error(layer.name): layer.name for layer in regime.circuit.layers}
    return (of_errors[name], "error") if name in of_errors else (name, "activity")


def check_times(observe: tuple[Observation, ...], duration: np.ndarray, period: np.ndarray) -> None:
    """Refuse times beyond the end of a presentation, and those whose order differs between points."""
    every = sorted({time for one in observe for time in one.times or ()}, key=lambda t: t.seconds(duration.min()))
    seconds = np.array([[time.seconds(t) for time in every] for t in duration]).reshape(len(duration), -1)
    for number, time in enumerate(every):
        if (seconds[:, number] > period * (1 + 1e-12)).any():
            at = next(i for i, one in enumerate(observe) if time in (one.times or ()))
            told = (
                f"a presentation ends at {1e3 * period.min():.4g} ms; a time in T, such as '0.9 T', goes with durations"
            )
            raise refused(f"fit.observe.{at}.times", str(time), told)
    if (np.diff(seconds, axis=1) < 0).any():
        raise refused("fit.observe times", list(map(str, every)), "their order must be the same at all durations")


def timed(regime: Coupled) -> dict[str, int]:
    """The names of what can be seen inside a presentation, and how many numbers each has."""
    circuit, views = regime.circuit, known(regime.system({}))
    sizes = {name: math.prod(circuit.layer(layer).size for layer in view.layers) for name, view in views.items()}
    return sizes | {"output": circuit.layer(output_layer(circuit)).size}
