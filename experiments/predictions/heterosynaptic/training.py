"""What the predictions on heterosynaptic learning share: networks that learn random teachers, and measurements."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynamics.circuit import Circuit, Weights
from dynamics.simulate import simulate
from experiments.predictions.contract import AbstractPrediction, Positive, Seeds, Size, Sizes
from experiments.predictions.kit import f64, weight_flow, wired
from experiments.tasks.gaussian import TeacherStudent
from rules.heterosynaptic import Heterosynaptic

Probe = Callable[[Weights, Array, Array], dict[str, Array]]
Stacked = dict[str, Array]  # the matrices of several networks, in front of whose sizes there are other dimensions
QUICK = {"inputs": 10, "hidden": (20, 20), "samples": 60, "step": 0.2, "units": 20}


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
    seeds: Seeds = 12

    def circuit(self) -> Circuit:
        """A tanh network whose layers are randomly wired to feedback populations."""
        rule = Heterosynaptic(feedback_scale=f64(1.0), feedback_units=self.units)
        return wired(rule, (self.inputs, *self.hidden, self.outputs))

    def course(self, circuit: Circuit, probe: Probe, decays: Sequence[float]) -> list[Course]:
        """The course of training with each of some decay timescales; one program for all of them."""
        weights = jax.vmap(circuit.initial_weights)(jax.random.split(jax.random.key(self.seed), self.seeds))
        data = teachers(self.inputs, self.outputs, self.samples, range(self.seed, self.seed + self.seeds))
        presentations = max(1, round(self.length * self.decay / self.step))

        def one(decay: Array, weights: Weights, x: Array, y: Array) -> tuple[Array, dict[str, Array]]:
            flow = weight_flow(circuit, x, y, self.step, decay)
            records = min(self.records, presentations)
            found = simulate(flow, presentations, lambda w, slow: probe(w, x, y), records, weights=weights)
            return found.presentations, found.probes

        over_seeds = jax.vmap(one, in_axes=(None, 0, 0, 0))
        marks, probes = jax.jit(jax.vmap(over_seeds, in_axes=(0, None, None, None)))(f64(decays), weights, *data)
        shown = np.asarray(marks[0, 0]) * self.step
        return [Course(shown, {k: np.asarray(v[i]) for k, v in probes.items()}) for i in range(len(decays))]


def teachers(inputs: int, outputs: int, samples: int, seeds: range) -> tuple[Array, Array]:
    """Inputs and targets of as many random teachers as there are seeds, stacked."""
    tasks = [TeacherStudent(inputs=inputs, outputs=outputs, samples=samples, seed=seed).load() for seed in seeds]
    targets = [task.train_targets for task in tasks if task.train_targets is not None]
    return f64(np.stack([task.train_inputs for task in tasks])), f64(np.stack(targets))


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
