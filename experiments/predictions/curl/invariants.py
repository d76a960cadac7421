"""T2.5: how far the charges of hidden units drift, against the step of the integrator."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.instruments import charges
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Seeds, Size
from experiments.predictions.curl.learning import VARIANCE, curl_flow, log_bars
from experiments.predictions.drawing import legend_outside, plotted
from experiments.predictions.kit import f64
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import exceeds, matches, stays_below
from rules.contract import AbstractRule
from rules.curl import Curl
from rules.feedback_alignment import FA
from rules.gradient import SGD
from rules.kolen_pollack import KP

# Which rule brings the credit, and the activation of the hidden units.
KEEPING: dict[str, tuple[AbstractRule, str]] = {"linear": (SGD(), "linear"), "relu": (SGD(), "relu")}
BREAKING: dict[str, tuple[AbstractRule, str]] = {
    "tanh": (SGD(), "tanh"),
    "linear, FA": (FA(), "linear"),
    "linear, KP": (KP(), "linear"),
}
COARSEST = 20  # steps in the whole time, at first
Short = Annotated[float, Field(strict=True, gt=0, le=1)]


class Invariants(AbstractPrediction):
    number = "T2.5"
    title = "Every hidden unit keeps a charge"
    source = "ninou2025curl, the rule; its invariants derived"
    equation = "Q_i = sum_j d1_j W1_ij^2 - d2_i w2_i^2 = const for every hidden unit i"
    claim = """With the gradient's credit, whatever signs inputs and hidden units learn with, the flow of a linear or
        relu network keeps every Q_i; a tanh network does not, nor does random or learned feedback."""
    method = """Random networks, data and targets, a random half of both layers' signs opposite, no clamp. The drift,
        the largest |Q_i(end) - Q_i(start)|, is measured with Euler steps that are halved again and again: of order 1 in
        the step where Q is kept, extrapolated to no step by twice that of half the step less that of the whole."""
    tolerance = """Order: the 99.9 % interval of the mean over networks, and 0.01 for the next order at the finest
        steps. Drift without steps: below 1e-5 of the largest |Q_i| where it is kept; above 1e-3, in the mean of its
        logarithm, where it is not."""
    quick = {"seeds": 8, "halvings": 6}

    inputs: Size = 20
    hidden: Size = 15
    samples: Size = 60
    flipped_inputs: Fraction = 0.3
    flipped_units: Fraction = 0.4
    gain: Annotated[float, Field(strict=True, gt=0, le=2)] = 1.0  # of the weights at the start
    time: Short = 0.5  # in tau_plast: with flips in both layers, weights may run away soon after 1
    halvings: Annotated[int, Field(strict=True, ge=2, le=10)] = 7
    seeds: Seeds = 16

    def measure(self) -> Finding:
        kept = {name: self._drifts(*how) for name, how in KEEPING.items()}
        broken = {name: self._drifts(*how) for name, how in BREAKING.items()}
        orders = {name: np.log2(drifts[-2] / drifts[-1]) for name, drifts in kept.items()}
        verdicts = [
            matches(f"drift vanishes with the step, {name}", "order of the drift of Q in the step", 1.0, order, 0.01)
            for name, order in orders.items()
        ]
        kept_to, broken_to = ({name: abs(2 * d[-1] - d[-2]) for name, d in each.items()} for each in (kept, broken))
        quantity = "drift without steps, over the largest |Q|"
        verdicts += [stays_below(f"Q is kept, {name}", quantity, 1e-5, limit) for name, limit in kept_to.items()]
        verdicts += [
            exceeds(f"Q is not kept, {name}", f"log10 of the {quantity}", -3.0, np.log10(limit))
            for name, limit in broken_to.items()
        ]
        notes = []
        if not all(np.isfinite(drifts).all() for drifts in (kept | broken).values()):
            notes.append("The weights of some networks ran away: in a shorter time, or with fewer flips, they do not.")
        return Finding(verdicts, self._drawn(kept | broken), notes)

    def steps(self) -> np.ndarray:
        """How many steps the whole time is divided into, in each of the runs."""
        return COARSEST * 2 ** np.arange(self.halvings + 1)

    def _drifts(self, credit: AbstractRule, activation: str) -> np.ndarray:
        """The largest change of a charge over the largest charge, (steps, seeds)."""
        rule = Curl(credit, f64([self.flipped_inputs, self.flipped_units]))
        sizes = (self.inputs, self.hidden, 1)
        circuit = curl_flow(rule, sizes, jnp.zeros((1, self.inputs)), jnp.zeros((1, 1)), 1.0).circuit
        shapes = {p.name: circuit.shape(p) for p in circuit.projections if p.owner == p.name}
        drawn = []
        for seed in range(self.seeds):
            rng = np.random.default_rng([self.seed, seed])
            data = [rng.normal(0, VARIANCE**0.5, (self.samples, width)) for width in (self.inputs, 1)]
            weights = {name: self.gain / max(shape) ** 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}
            drawn.append((*data, weights))
        x, y, weights = jax.tree.map(lambda *each: f64(np.stack(each)), *drawn)
        time = f64(self.time)
        return np.stack([_drift(x, y, weights, rule, activation, time, jnp.int32(n)) for n in self.steps()])

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, drifts: dict[str, np.ndarray]) -> None:
        steps = self.time / self.steps()
        for (name, each), color, marker in zip(drifts.items(), OKABE_ITO, MARKERS, strict=False):
            values, bars = log_bars(list(each))
            panel.errorbar(steps, values, bars, fmt=marker, color=color, capsize=2, label=name)
            if name in KEEPING:
                panel.plot(steps, values[-1] * steps / steps[-1], color="0.3", lw=0.8, zorder=1)
        panel.plot([], [], color="0.3", lw=0.8, label="theory: order 1")
        panel.set(xscale="log", yscale="log", xlabel=r"step $\Delta t$ / $\tau_{plast}$")
        panel.set_ylabel(r"drift $\max_i|\Delta Q_i|$ / $\max_i|Q_i|$")
        legend_outside(panel, 3)


@eqx.filter_jit
def _drift(
    inputs: Float[Array, "seeds samples inputs"],
    targets: Float[Array, "seeds samples 1"],
    weights: dict[str, Float[Array, "seeds _targets _sources"]],
    rule: AbstractRule,
    activation: str,
    time: Float[Array, ""],
    steps: Int[Array, ""],
) -> Float[Array, " seeds"]:
    """The largest |Q(end) - Q(start)| over the largest |Q(start)| of every network; each matrix has a leading axis."""

    def one(x: Array, y: Array, weights: Weights) -> Float[Array, ""]:
        sizes = (x.shape[1], weights["W1"].shape[0], 1)
        flow = curl_flow(rule, sizes, x, y, time / steps.astype(time.dtype), "euler", activation=activation)
        before = charges(flow.circuit, weights)["z1"]
        end = flow.advance(flow.init(weights), jnp.int32(0), steps)
        after = charges(flow.circuit, flow.weights(end))["z1"]
        return jnp.abs(after - before).max() / jnp.abs(before).max()

    return jax.vmap(one)(inputs, targets, weights)
