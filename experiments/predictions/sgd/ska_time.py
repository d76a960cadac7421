"""A5.2: what is invariant where eta times the number of updates is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from dynamics.network import Network
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Size, Sizes
from experiments.predictions.kit import all_close, drawn, f64, look, order
from experiments.predictions.sgd.setting import apart, eta_axis, sample_flow, whole_batch
from experiments.predictions.sgd.ska_setting import Run, accumulated, compared, problem, shannon, sigmoids
from experiments.results.verdicts import close
from rules import Oja

SUBSTEPS = 16  # of the flow in an update


class Distances(NamedTuple):
    """From the flow, by eta: of the weights under SKA and Oja's rule, and of H / eta under SKA at half the time."""

    ska: np.ndarray
    oja: np.ndarray
    rates: np.ndarray


class SkaTimeInvariance(AbstractPrediction):
    """Distances of updates from the flow at a given time eta K, for SKA and for a rule that claims no such time."""

    number = "A5.2"
    title = "SKA's time invariance is Euler consistency"
    source = "mahi2025structured, the characteristic time eta K; the order derived"
    equation = "|W_eta(K) - W(t = eta K)| = O(eta); H(k) = O(eta), H(k) / eta -> -(1/ln 2) sum a z'"
    claim = """Runs of the same eta K end at the same weights, up to order eta, and so do those of any rule that a
        smooth field drives, Oja's here: the invariance is that of Euler's method, weaker than it sounds, and no time of
        the network follows from it. The entropy of an update is itself proportional to eta; what is invariant is H /
        eta. A time that is one is the growth rate of small knowledge (ska-growth)."""
    method = """Published updates of a batch in the discrete regime against the weight flow from the same weights, on
        inputs uniform from 0 to 1; updates of Oja's rule by all samples against its flow. Slopes of logarithms over log
        eta."""
    tolerance = "Orders 1 +- 0.15: higher orders of eta at the largest."
    quick = {"layers": (8, 6), "inputs": 10, "samples": 20, "etas": (0.05, 0.025, 0.0125)}

    inputs: Size = 50
    layers: Sizes = (24, 12, 8)
    samples: Size = 50
    etas: Positives = (0.02, 0.01, 0.005)
    time: Positive = 1.0  # in tau_plast

    def misfit(self) -> str | None:
        counts = self.time / (2 * np.array(self.etas))
        if len(self.etas) < 2 or np.abs(counts - counts.round()).max() > 1e-6 or counts.min() < 0.5:
            return "ska-time-invariance needs 2 etas or more, and a time that is an even multiple of each"
        return None

    def measure(self) -> Finding:
        sizes, etas = (self.inputs, *self.layers), np.array(self.etas)
        x, weights = problem(self.seed, self.samples, sizes)
        runs, flow = compared(sigmoids(sizes), x, weights, etas, self.time)
        per_update = np.array([self._middle(run) for run in runs])
        ska = np.array([apart(run.weights, flow.weights) for run in runs])
        rates = np.abs(per_update / etas - self._rate(flow, etas[-1]))
        oja = np.array([self._oja(x - x.mean(0, keepdims=True), eta) for eta in etas])
        found = Distances(ska, oja, rates)
        quantity = "order of the distance of the weights from the flow"
        verdicts = [
            all_close("SKA", quantity, 1.0, order(etas, ska), 0.15),
            all_close("Oja's rule", quantity, 1.0, order(etas, oja), 0.15),
            all_close("H of an update", "order of H(k) in eta at half the time", 1.0, order(etas, per_update), 0.15),
            all_close("H / eta", "order of the distance of H / eta from the flow", 1.0, order(etas, rates), 0.15),
        ]
        ratio = float(per_update[0] / per_update[-1])
        quantity = "H(k) at the largest over that at the smallest eta, of the same eta K"
        verdicts.append(close("H is not invariant", quantity, etas[0] / etas[-1], ratio, 0.2 * etas[0] / etas[-1]))
        return Finding(verdicts, self._drawn(found))

    @staticmethod
    def _middle(run: Run) -> float:
        """The size of H of all layers, as the mean of the two updates around half the time."""
        entropies = np.sum([accumulated(z) for z in run.activities.values()], axis=0)
        half = len(entropies) // 2
        return float(np.abs(entropies[half - 1 : half + 1].mean()))

    @staticmethod
    def _rate(flow: Run, step: float) -> float:
        """The rate of the entropy of all layers along the flow at half the time, by a central difference."""
        entropies = np.sum([shannon(z) for z in flow.activities.values()], axis=0)
        half = len(entropies) // 2
        return float(np.abs(entropies[half + 1] - entropies[half - 1]) / (2 * step))

    def _oja(self, x: Array, eta: float) -> float:
        """How far updates of Oja's rule end from its flow."""
        network = Network((self.inputs, 2), activation="linear", bias=False, supervised=False, gain=f64(0.5))
        circuit, count = Oja().wire(network), jnp.int32(round(self.time / eta))
        weights = circuit.initial_weights(jax.random.key(self.seed))

        def ends(weights: dict, eta: Array, count: Array) -> Array:
            runs = whole_batch(circuit, x, None, eta), sample_flow(circuit, x, None, eta, SUBSTEPS)
            after = [run.weights(run.advance(run.init(weights), jnp.int32(0), count)) for run in runs]
            return apart(*after)

        return float(jax.jit(ends)(weights, f64(eta), count))

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, found: Distances) -> None:
        left, right = figure.subplots(1, 2)
        etas = np.array(self.etas)
        for i, (panel, values, label) in enumerate(
            ((left, found.ska, "SKA"), (left, found.oja, "Oja's rule"), (right, found.rates, "H / eta of SKA"))
        ):
            panel.plot(etas, values, linestyle="", label=label, **look(i))
            panel.plot(etas, values[-1] * etas / etas[-1], color=look(i)["color"])
        left.set_ylabel("distance of the weights from the flow")
        right.set_ylabel("distance of H / eta from the flow (bits)")
        for panel in (left, right):
            panel.plot([], [], color="0.3", label="theory: order 1")
            eta_axis(panel, etas)
            panel.legend()
