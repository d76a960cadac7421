"""What the predictions on emergent Hebbian learning share: a rule without a purpose, regression problems, statistics.

Notation of the paper (bibtex: koplow2025emergence): a layer h = W z, its learning signal g = m p^T, the Hebbian update
H = h z^T, and gamma = tau_plast / tau_dec, the weight decay.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Error, Gaussian, Projection, TwoFactor, Weights
from dynamics.coupled import Coupled
from dynamics.flow import batch_factors, samples_with_moments
from dynamics.instruments import forward_matrices
from dynamics.network import Network
from dynamics.plasticity import mean_drive
from experiments.predictions.kit import intervals, weight_flow, wired
from experiments.predictions.references import REFERENCES
from experiments.results.verdicts import JUDGED, Verdict, exceeds
from rules import SGD
from rules.contract import AbstractRule


class RandomSignal(AbstractRule):
    """A learning signal that knows nothing of the network that it teaches: the error of a fixed random network.

    Equation        tau_plast W_l' = e_l z_{l-1}^T - (tau_plast/tau_dec) W_l,  tau_prop e_l' = -e_l + f'(a_l) * (B_l q)
                    q = y - (output of a random network of the same sizes that never learns)
    Discrete limit  W_l += eta e_l z_{l-1}^T, eta = T/tau_plast
    Locality        local
    Shapes          B_l (n_l, n_L) ~ N(0, 1 / n_l), the random network's R_l ~ N(0, 1 / n_{l-1}); tau_plast in seconds
    Errors          needs a target: an unsupervised task is refused
    Reference       bibtex: koplow2025emergence (arXiv:2505.18069)
    """

    reference: ClassVar[str] = REFERENCES["koplow2025emergence"]

    def wire(self, network: Network) -> Circuit:
        one = jnp.ones((), network.gain.dtype)
        learner = replace(network, supervised=False)  # its own output is compared with nothing
        teacher = tuple(replace(layer, name=f"q{layer.name[1:]}") for layer in network.layers() if not layer.given)
        names = ["z0", *(layer.name for layer in teacher)]
        random = tuple(
            Projection(f"R{i}", s, "activity", t, "forward", Gaussian(one), level=i)
            for i, (s, t) in enumerate(zip(names[:-1], names[1:], strict=True), 1)
        )
        credit = tuple(
            Projection(f"B{i}", names[-1], "error", f"z{i}", "modulatory", Gaussian(one, fan="target"), level=i)
            for i in range(1, network.depth + 1)
        )
        return Circuit(learner.layers() + teacher, learner.forward(TwoFactor(Error())) + random + credit)


def stationary_flow(
    circuit: Circuit, covariance: Float[Array, "i i"], teacher: Float[Array, "o i"], gamma: Float[Array, ""]
) -> Weights:
    """Where the weight flow of linear regression y = W* x, <x x^T> = `covariance`, comes to rest under decay `gamma`.

    On samples with exactly these moments, from W = 0, for 40 relaxation times of the slowest input.
    """
    rates = jnp.linalg.eigvalsh(covariance) + gamma  # per tau_plast, which is 1 s
    dt, steps = 0.5 / rates[-1], 40 * rates[-1] / (0.5 * rates[0])
    cross = teacher @ covariance
    inputs, targets = samples_with_moments(covariance, cross, cross @ teacher.T)
    flow = weight_flow(circuit, inputs, targets, dt, 1 / gamma)
    progress = flow.init({"W1": jnp.zeros_like(teacher)})
    return flow.weights(flow.advance(progress, jnp.int32(0), jnp.ceil(steps).astype(jnp.int32)))


def balance(
    circuit: Circuit, weights: Weights, inputs: Float[Array, "n i"], targets: Float[Array, "n o"]
) -> tuple[Weights, Weights, dict[str, Float[Array, ""]]]:
    """E[g], E[H] and E|h|^2 of every plastic forward matrix over a batch, from the engine's factors."""
    locals_, factors = batch_factors(circuit, weights, {}, inputs, targets)
    names = forward_matrices(circuit)
    h = {name: locals_[circuit.projection(name).target].preactivation for name in names}
    hebb = {name: a.T @ factors[name].pre / a.shape[0] for name, a in h.items()}
    drives = {name: mean_drive(factors[name]) for name in names}
    return drives, hebb, {name: jnp.square(a).sum(-1).mean() for name, a in h.items()}


def student(inputs: int, outputs: int) -> Circuit:
    """Linear regression z = W x by gradient descent, without biases."""
    return wired(SGD(), (inputs, outputs))


def averaged(
    run: Coupled, start: Weights, burn: int, count: int, every: int, sides: Callable[[Weights], Array]
) -> Float[Array, "2"]:
    """The means of both sides of a balance at `count` records, one each `every` presentations, after `burn` records."""

    def record(carry: tuple, k: Array) -> tuple:
        progress = run.advance(carry[0], k * every, every)
        return (progress, carry[1] + jnp.where(k >= burn, sides(run.weights(progress)), 0)), None

    empty = run.init(start), jnp.zeros(2, jnp.float64)
    return jax.lax.scan(record, empty, jnp.arange(burn + count, dtype=jnp.int32))[0][1] / count


def rises(name: str, quantity: str, samples: np.ndarray, axis: int = 0) -> Verdict:
    """Whether means over seeds increase all along an axis; judged where that is least certain."""
    steps = np.diff(samples, axis=axis).reshape(-1, samples.shape[-1])
    means, half = intervals(steps)
    return exceeds(name, quantity, 0.0, steps[np.argmin(means / half)])


def share_inside(expected: np.ndarray, samples: np.ndarray, allowance: np.ndarray | float = 0.0) -> float:
    """The share of cells whose interval, widened by `allowance`, has what is expected; the last axis is seeds.

    The intervals are so wide that all of them together are right at 99.9 %.
    """
    means, half = intervals(samples, 1 - (1 - JUDGED) / expected.size)
    return float(np.mean(np.abs(means - expected) <= half + allowance))
