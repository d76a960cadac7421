"""What the predictions on heterosynaptic learning share: networks that learn random teachers, and measurements."""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.flow import WeightFlow
from dynamics.network import Network
from dynamics.simulate import simulate
from dynamics.stimulus import Clock
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Positive, Size, Sizes
from experiments.results.verdicts import mean_of
from experiments.tasks.gaussian import TeacherStudent
from rules.heterosynaptic import Heterosynaptic

Replicates = Annotated[int, Field(strict=True, ge=2, le=1000)]  # one seed has no interval
Probe = Callable[[Weights, Array, Array], dict[str, Array]]
Stacked = dict[str, Array]  # the matrices of several networks, in front of whose sizes there are other dimensions
INSTANT = 1e-3  # a propagation timescale, which the weight flow does not use


class Course(NamedTuple):
    """What training recorded: `times` in tau_plast, shape (records + 1,), and probes (seeds, records + 1, ...)."""

    times: np.ndarray
    probes: dict[str, np.ndarray]


class AbstractTraining(AbstractPrediction):
    """Trains one network per seed: its own teacher, data, initial weights and wiring.

    units      feedback neurons of each layer, randomly wired to it
    decay      tau_dec in units of tau_plast
    length     of training, in units of tau_dec
    step       of Euler's method, in units of tau_plast
    """

    inputs: Size = 20
    hidden: Sizes = (40, 40)
    outputs: Size = 5
    samples: Size = 100
    units: Size = 40
    decay: Positive = 50.0
    length: Positive = 6.0
    step: Positive = 0.1
    records: Size = 150
    seeds: Replicates = 12

    def circuit(self) -> Circuit:
        """A tanh network whose layers are randomly wired to feedback populations."""
        network = Network((self.inputs, *self.hidden, self.outputs), bias=False, gain=f64(1.0))
        return Heterosynaptic(feedback_scale=f64(1.0), feedback_units=self.units).wire(network)

    def initial(self, circuit: Circuit) -> Stacked:
        """The weights at the start, stacked by seed."""
        return jax.vmap(circuit.initial_weights)(jax.random.split(jax.random.key(self.seed), self.seeds))

    def data(self) -> tuple[Array, Array]:
        """Inputs and targets, stacked by seed."""
        return teachers(self.inputs, self.outputs, self.samples, range(self.seed, self.seed + self.seeds))

    def course(self, circuit: Circuit, weights: Stacked, probe: Probe, decays: Sequence[float]) -> list[Course]:
        """The course of training from `weights` with each of some decay timescales; one program for all of them."""
        presentations = max(1, round(self.length * self.decay / self.step))

        def one(decay: Array, weights: Weights, x: Array, y: Array) -> tuple[Array, dict[str, Array]]:
            flow = WeightFlow(circuit, times(1.0, decay), x, y, Clock(f64(self.step), f64(0.0), 1))
            records = min(self.records, presentations)
            found = simulate(flow, presentations, lambda w, slow: probe(w, x, y), records, weights=weights)
            return found.presentations, found.probes

        over_seeds = jax.vmap(one, in_axes=(None, 0, 0, 0))
        marks, probes = jax.jit(jax.vmap(over_seeds, in_axes=(0, None, None, None)))(f64(decays), weights, *self.data())
        shown = np.asarray(marks[0, 0]) * self.step
        return [Course(shown, {k: np.asarray(v[i]) for k, v in probes.items()}) for i in range(len(decays))]


def teachers(inputs: int, outputs: int, samples: int, seeds: range) -> tuple[Array, Array]:
    """Inputs and targets of as many random teachers as there are seeds, stacked."""
    tasks = [TeacherStudent(inputs=inputs, outputs=outputs, samples=samples, seed=seed).load() for seed in seeds]
    targets = [task.train_targets for task in tasks if task.train_targets is not None]
    return f64(np.stack([task.train_inputs for task in tasks])), f64(np.stack(targets))


def f64(value: object) -> Array:
    """A float64 array."""
    return jnp.asarray(value, jnp.float64)


def times(plasticity: object, decay: object) -> Timescales:
    """The time constants of a weight flow."""
    return Timescales(f64(INSTANT), f64(plasticity), f64(decay))


def consistency(drive: Array, gradient: Array) -> Array:
    """phi = <drive, gradient> / |gradient|^2: how much of the gradient a matrix's learning signal has; < 0 descends."""
    return jnp.sum(drive * gradient) / jnp.sum(gradient * gradient)


def last_crossing(times: np.ndarray, series: np.ndarray, level: float) -> float:
    """From when on `series` stays at `level` or above, by linear interpolation; NaN where it ends below it."""
    below = np.flatnonzero(~(series >= level))
    if not below.size:
        return float(times[0])
    i = int(below[-1])
    if i + 1 == len(times):
        return float("nan")
    return float(times[i] + (times[i + 1] - times[i]) * (level - series[i]) / (series[i + 1] - series[i]))


def band(panel: Axes, x: np.ndarray, samples: np.ndarray, colour: str, label: str, line: object = "-") -> None:
    """The mean over seeds, samples (seeds, times), as a line with its 95 % interval as a band."""
    means = [mean_of(column) for column in samples.T]
    mean, half = np.array([m.value for m in means]), np.array([m.half for m in means])
    panel.plot(x, mean, color=colour, linestyle=line, label=label)  # pyright: ignore[reportArgumentType]
    panel.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
