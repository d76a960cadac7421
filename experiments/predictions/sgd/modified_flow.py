"""A1.1: distances between updates and flows at a given time, against eta."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.discrete import DiscreteState
from dynamics.settle import Outside
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import drawn, legend_outside, look
from experiments.predictions.kit import all_close, discrete, f64, keys_from, order, weight_flow, weights_after, wired
from experiments.predictions.sgd.setting import apart, eta_axis
from experiments.results.verdicts import Verdict
from rules import SGD

Samples = Annotated[int, Field(strict=True, ge=2, le=100)]
FLOWS = ("flow", "modified, all samples", "modified, single samples")
SUBSTEPS = 16  # of a flow in each presentation: its own error is that much smaller, squared


class ModifiedFlow(AbstractPrediction):
    number = "A1.1"
    title = "Updates follow a modified flow to second order"
    source = """ziyin2025neural, the entropic loss; orders derived: the step of a batch is the flow of its own modified
        loss, so that the mean over batches counts"""
    equation = """theta' = -grad phi, phi = L + (eta / 4) E_B |grad L_B|^2: distance O(eta^2) from updates by batches B,
        O(eta) without the term"""
    claim = """Gradient descent on all samples departs from the gradient flow with order 1 in eta, and from the flow
        of phi = L + (eta / 4) |grad L|^2 with order 2. Samples shown one by one follow that of their own batches of
        one, in which the variance of gradients adds to |grad L|^2; the flow for whole batches is wrong for them, to
        order 1."""
    method = """Tanh networks with random weights and data. Updates by all samples, and by single samples in the order 1
        .. n, n .. 1, whose steps have no commutator to second order, so that nothing is random. Flows in 16 Heun steps
        per update. Slopes of log distance over log eta by least squares."""
    tolerance = "Orders 1 +- 0.1 and 2 +- 0.15 in every network: higher orders of eta at the largest eta."
    quick = {"seeds": 2, "etas": (0.05, 0.025, 0.0125)}

    inputs: Size = 3
    hidden: Size = 4
    outputs: Size = 2
    samples: Samples = 3
    etas: Positives = (0.05, 0.025, 0.0125, 0.00625)
    time: Positive = 1.8  # in tau_plast
    seeds: Seeds = 4

    def misfit(self) -> str | None:
        rounds = self.time / (2 * self.samples * np.array(self.etas))
        if len(self.etas) < 2 or np.abs(rounds - rounds.round()).max() > 1e-6 or rounds.min() < 0.5:
            return "modified-flow needs 2 etas or more, and time must be a multiple of 2 samples eta for each"

    def measure(self) -> Finding:
        distances = self._simulated()  # updates, flows: (etas, seeds) each
        cases = {
            "all samples, flow": (0, 0, 1.0),
            "all samples, modified flow": (0, 1, 2.0),
            "single samples, flow": (1, 0, 1.0),
            "single samples, modified flow": (1, 2, 2.0),
            "single samples, modified flow of all": (1, 1, 1.0),
        }
        verdicts = [self._order(name, distances[:, :, i, j], slope) for name, (i, j, slope) in cases.items()]
        notes = [
            "Samples that are drawn, not gone through, have noise as well, to which the difference of the two modified "
            "flows belongs: it is what noise in the sense of Stratonovich drifts less than that of Ito."
        ]
        return Finding(verdicts, self._drawn(distances), notes)

    def _order(self, name: str, distances: np.ndarray, expected: float) -> Verdict:
        quantity, found = "order of the distance in eta", order(self.etas, distances)
        return all_close(name, quantity, expected, found, 0.1 if expected == 1 else 0.15)

    def _simulated(self) -> np.ndarray:
        """Distances by (etas, seeds, updates, flows)."""
        circuit = wired(SGD(), (self.inputs, self.hidden, self.outputs))

        def one(key: Array, eta: Array, rounds: Array) -> Array:
            for_x, for_y, for_w = jax.random.split(key, 3)
            x = jax.random.normal(for_x, (self.samples, self.inputs), jnp.float64)
            y = jax.random.normal(for_y, (self.samples, self.outputs), jnp.float64)
            weights, count = circuit.initial_weights(for_w), 2 * self.samples * rounds
            single = discrete(circuit, Stream(x, y, key), eta)

            def round_trip(_: Array, state: DiscreteState) -> DiscreteState:
                there_and_back = jnp.concatenate([jnp.arange(self.samples), jnp.arange(self.samples)[::-1]])
                one = lambda s, i: (single.update(s, Outside(x[i], y[i])), None)  # noqa: E731
                return jax.lax.scan(one, state, there_and_back)[0]

            every = weight_flow(circuit, x, y, eta)
            ends: list[Weights] = [weights_after(every, weights, count)]
            ends.append(single.weights(jax.lax.fori_loop(0, rounds, round_trip, single.init(weights))))

            def limit(batch: Array | None) -> Weights:
                kinds = {} if batch is None else {"entropic": True, "batch": batch}
                flow = weight_flow(circuit, x, y, eta, integrator="heun", parts=SUBSTEPS, **kinds)
                return weights_after(flow, weights, count)

            modified = jax.vmap(limit)(f64([np.inf, 1.0]))
            limits = [limit(None), *(jax.tree.map(lambda w, i=i: w[i], modified) for i in (0, 1))]
            return jnp.stack([jnp.stack([apart(end, flow) for flow in limits]) for end in ends])

        run = jax.jit(jax.vmap(one, (0, None, None)))
        keys = keys_from(self.seed, self.seeds)
        rounds = [round(self.time / (2 * self.samples * eta)) for eta in self.etas]
        return np.stack([run(keys, f64(eta), jnp.int32(n)) for eta, n in zip(self.etas, rounds, strict=True)])

    @drawn(6.4, 3.1)
    def _drawn(self, figure: Figure, distances: np.ndarray) -> None:
        panels, etas = figure.subplots(1, 2, sharey=True), np.array(self.etas)
        for panel, title, shown, right in zip(panels, ("all samples", "single samples"), (0, 1), (1, 2), strict=True):
            for i, name in enumerate(FLOWS):
                slope, line = 2 if i == right else 1, look(i, fillstyle="none" if i == 0 else "full")
                mean = distances[-1, :, shown, i].mean() * (etas / etas[-1]) ** slope
                panel.plot(etas, distances[:, :, shown, i], linestyle="", **line)
                panel.plot(etas, mean, color=line["color"], linestyle="-" if slope == 2 else "--")
                panel.plot([], [], linestyle="", label=name, **line)
            eta_axis(panel, etas)
            panel.set_title(f"updates by {title}")
        for style, label in (("--", "theory: order 1"), ("-", "theory: order 2")):
            panels[0].plot([], [], style, color="0.3", label=label)
        panels[0].set_ylabel("distance from the flow")
        legend_outside(panels[0], 3, "lower center", title="distance from")
