"""What the predictions on emergent Hebbian learning share: a rule without a purpose, regression problems, markers.

Notation of the paper (bibtex: koplow2025emergence): a layer h = W z, its learning signal g = m p^T, the Hebbian update
H = h z^T, and gamma = tau_plast / tau_dec, the weight decay.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes

from dynamics.circuit import Circuit, Error, Gaussian, Projection, TwoFactor, Weights
from dynamics.flow import WeightFlow, batch_factors, samples_with_moments
from dynamics.instruments import forward_matrices
from dynamics.network import Network
from dynamics.plasticity import mean_drive
from dynamics.stimulus import Clock
from dynamics.timescales import Timescales
from experiments.results.verdicts import JUDGED, SHOWN, mean_of
from rules.contract import AbstractRule
from rules.gradient import SGD


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

    reference: ClassVar[str] = (
        "@article{koplow2025emergence, title={Emergence of Hebbian Dynamics in Regularized Non-Local Learners}, "
        "author={Koplow, David and Poggio, Tomaso and Ziyin, Liu}, journal={arXiv:2505.18069}, year={2025}}"
    )

    def wire(self, network: Network) -> Circuit:
        one = jnp.ones((), network.gain.dtype)
        learner = replace(network, supervised=False)  # its own output is compared with nothing
        teacher = tuple(replace(layer, name=f"q{layer.name[1:]}") for layer in network.layers() if not layer.clamped)
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


def f64(value: Any) -> Array:
    """An array in double precision, as all of a prediction is."""
    return jnp.asarray(value, jnp.float64)


def keys_from(seed: int, count: int) -> Key[Array, " count"]:
    """The keys of `count` seeds, the first of which is `seed`."""
    return jax.vmap(jax.random.key)(jnp.arange(seed, seed + count))


def student(inputs: int, outputs: int) -> Circuit:
    """Linear regression z = W x by gradient descent, without biases."""
    return SGD().wire(Network((inputs, outputs), bias=False, gain=f64(1.0)))


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
    clock = Clock(dt, f64(0.0), 1)
    flow = WeightFlow(circuit, Timescales(f64(1.0), f64(1.0), 1 / gamma), inputs, targets, clock)
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


def pseudovalues(statistic: Callable[[np.ndarray], Any], samples: np.ndarray) -> np.ndarray:
    """The jackknife's pseudo-values of a statistic of `samples`, whose last axis is seeds; they end in that axis.

    Their mean is the statistic less its bias of order 1 / n, and they serve as n independent samples of it.
    """
    n = samples.shape[-1]
    without = np.stack([statistic(np.delete(samples, i, -1)) for i in range(n)], -1)
    return n * np.asarray(statistic(samples))[..., None] - (n - 1) * without


def intervals(samples: np.ndarray, level: float = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Means over the last axis, seeds, and the half widths of their intervals at `level`."""
    each = [mean_of(row, level) for row in samples.reshape(-1, samples.shape[-1])]
    shape = samples.shape[:-1]
    return np.reshape([one.value for one in each], shape), np.reshape([one.half for one in each], shape)


def share_inside(expected: np.ndarray, samples: np.ndarray, allowance: np.ndarray | float = 0.0) -> float:
    """The share of cells whose interval, widened by `allowance`, has what is expected; the last axis is seeds.

    The intervals are so wide that all of them together are right at 99.9 %.
    """
    means, half = intervals(samples, 1 - (1 - JUDGED) / expected.size)
    return float(np.mean(np.abs(means - expected) <= half + allowance))


def marked(panel: Axes, x: Sequence[float | int] | np.ndarray, samples: np.ndarray, **look: Any) -> None:
    """Draw means over the last axis, seeds, as markers with their 95 % intervals."""
    means, half = intervals(samples)
    panel.errorbar(x, means, np.nan_to_num(half), linestyle="", elinewidth=0.8, capsize=1.5, **look)
