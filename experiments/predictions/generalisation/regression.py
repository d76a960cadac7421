"""Linear regression on Gaussian inputs: the flow of many draws, and the curves of large dimension (Advani & Saxe)."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dynamics.circuit import Circuit
from experiments.predictions.kit import f64, weight_flow, wired
from experiments.predictions.linear.setting import course, orthonormal
from rules import SGD

NODES = 2000  # of the quadrature over eigenvalues


class Draws(NamedTuple):
    """Of every draw the inputs (.., P, N), the teacher (.., N), the targets (.., P) and the start (.., N)."""

    inputs: np.ndarray
    teacher: np.ndarray
    targets: np.ndarray
    start: np.ndarray


class Sizes(NamedTuple):
    """Variances of a teacher's weight, of the start's, and of the noise of a target."""

    teacher: float
    start: float
    noise: float


def sizes_of(snr: float, start: float) -> Sizes:
    """A target of variance 1, SNR parts of which are signal; `start` is the standard deviation of initial weights."""
    return Sizes(snr / (1 + snr), start**2, 1 / (1 + snr))


def draws(seeds: Sequence[int], inputs: int, samples: int, sizes: Sizes) -> Draws:
    """x ~ N(0, I/N), y = w . x + noise: one draw for each seed.

    Teacher, start and noise have random directions (teacher and start orthogonal) and the lengths that they have on
    average: means over draws are those of normal numbers, which enter by their second moments, with less spread.
    """
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, samples])
        x = rng.standard_normal((samples, inputs)) / inputs**0.5
        frame, noise = orthonormal(rng, inputs, 2), rng.standard_normal(samples)
        teacher, start = ((inputs * size) ** 0.5 * d for size, d in zip(sizes[:2], frame.T, strict=True))
        noise *= (samples * sizes.noise) ** 0.5 / np.linalg.norm(noise)
        found.append((x, teacher, x @ teacher + noise, start))
    return Draws(*map(np.stack, zip(*found, strict=True)))


def padded(given: Draws, samples: int) -> Draws:
    """The draws with silent samples up to so many: they teach nothing, and all numbers of samples are one program."""
    more = samples - given.inputs.shape[-2]
    inputs, targets = (np.concatenate([a, np.zeros((len(a), more, *a.shape[2:]))], 1) for a in (given[0], given[2]))
    return given._replace(inputs=inputs, targets=targets)


@eqx.filter_jit
def _learned(circuit: Circuit, given: tuple, step: Array, counts: Array) -> Array:
    def one(x: Array, y: Array, start: Array) -> Array:
        # The flow averages over samples; the sum of squares of the paper has tau = tau_plast x samples = 1 s.
        flow = weight_flow(circuit, x, y[:, None], step, plasticity=1.0 / x.shape[0], integrator="dopri5")
        return course(flow, {"W1": start[None]}, counts)["W1"][:, 0]

    return jax.vmap(one)(*given)


def learned(given: Draws, step: float, marks: np.ndarray) -> np.ndarray:
    """The weights after so many steps of the flow tau w' = sum (y - w.x) x, tau = 1 s: (draws, marks, N)."""
    circuit = wired(SGD(), (given.inputs.shape[-1], 1))
    parts = tuple(map(f64, (given.inputs, given.targets, given.start)))
    return np.asarray(_learned(circuit, parts, f64(step), jnp.asarray(np.diff(marks, prepend=0), jnp.int32)))


def test_error(weights: np.ndarray, given: Draws) -> np.ndarray:
    """E_g = |w - teacher|^2 / N, of targets without noise: (draws, marks)."""
    return np.square(weights - given.teacher[:, None]).mean(-1)


def train_error(weights: np.ndarray, given: Draws, samples: int) -> np.ndarray:
    """E_t = |y - X w|^2 / P: (draws, marks)."""
    residual = given.targets[:, None] - np.einsum("spn,smn->smp", given.inputs, weights)
    return np.square(residual).sum(-1) / samples


def spectrum(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the Marchenko-Pastur law of X^T X, alpha = P/N: eigenvalues that are not 0, min(alpha, 1) in
    all.

    rho(l) = sqrt((l+ - l)(l - l-)) / (2 pi l), l+- = (sqrt(alpha) +- 1)^2, by l = centre + width cos(theta), where the
    integrand is smooth and periodic; at alpha = 1 the 1/l of the edge is met by the sine.
    """
    theta = (np.arange(NODES) + 0.5) * np.pi / NODES
    width = 2 * alpha**0.5
    values = 1 + alpha + width * np.cos(theta)
    return values, width**2 * np.sin(theta) ** 2 / (2 * np.pi * values) * np.pi / NODES


def expected_test(alpha: float, sizes: Sizes, times: np.ndarray) -> np.ndarray:
    """E_g(t), N -> infinity at P = alpha N."""
    values, shares = spectrum(alpha)
    kept = np.exp(-np.multiply.outer(times, values))
    learnt = (sizes.teacher + sizes.start) * kept**2 + sizes.noise / values * (1 - kept) ** 2
    return learnt @ shares + max(1 - alpha, 0) * (sizes.teacher + sizes.start)


def expected_train(alpha: float, sizes: Sizes, times: np.ndarray) -> np.ndarray:
    """E_t(t), N -> infinity at P = alpha N."""
    values, shares = spectrum(alpha)
    left = np.exp(-2 * np.multiply.outer(times, values)) * (values * (sizes.teacher + sizes.start) + sizes.noise)
    return left @ shares / alpha + max(1 - 1 / alpha, 0) * sizes.noise


def best_time(alpha: float, sizes: Sizes, longest: float) -> tuple[float, float]:
    """When E_g is least, up to a time, and how large it is then."""
    times = np.geomspace(1e-3, longest, 4000)
    curve = expected_test(alpha, sizes, times)
    return float(times[curve.argmin()]), float(curve.min())
