"""What the predictions on deep linear networks share: whitened data, starts, flows of many starts, times of modes."""

import dataclasses
import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from scipy.special import hyp2f1

from dynamics.circuit import Circuit, Weights
from dynamics.flow import FlowState, WeightFlow
from experiments.predictions.kit import f64, weight_flow

Matrices = dict[str, np.ndarray]


def whitened(teacher: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs with <x x^T> = I, and the targets S x of the teacher S."""
    x = teacher.shape[1] ** 0.5 * np.eye(teacher.shape[1])
    return x, x @ teacher.T


def frozen(circuit: Circuit, names: tuple[str, ...]) -> Circuit:
    """The circuit with no law for some of its projections."""
    kept = [dataclasses.replace(p, law=()) if p.name in names else p for p in circuit.projections]
    return dataclasses.replace(circuit, projections=tuple(kept))


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A random matrix with orthonormal columns, uniformly distributed."""
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.sign(np.diag(r))


def stacked(starts: Sequence[Matrices]) -> Weights:
    """Starts one after another, along a leading axis."""
    return {name: f64(np.stack([start[name] for start in starts])) for name in starts[0]}


def course(flow: WeightFlow, start: Weights, counts: Int[Array, " _records"]) -> Weights:
    """The weights of a flow after so many steps each, one record after the other."""

    def go(progress: FlowState, count: Array) -> tuple[FlowState, Weights]:
        progress = flow.advance(progress, jnp.int32(0), count)
        return progress, flow.weights(progress)

    return jax.lax.scan(go, flow.init(start), counts)[1]


@eqx.filter_jit
def _flown(circuit: Circuit, starts: Weights, x: Array, y: Array, step: Array, counts: Array, name: str) -> Weights:
    flow = weight_flow(circuit, x, y, step, integrator=name)
    return jax.vmap(lambda start: course(flow, start, counts))(starts)


def flown(
    circuit: Circuit,
    starts: Weights,
    teacher: np.ndarray,
    time: float,
    records: int,
    count: int,
    integrator: str = "dopri5",
) -> Matrices:
    """The matrices along the weight flow on whitened inputs, tau_plast = 1 s: (starts, records + 1, rows, columns).

    `count` steps between two of the `records`, which divide `time` equally.
    """
    x, y = whitened(teacher)
    counts = jnp.full(records + 1, count, jnp.int32).at[0].set(0)
    found = _flown(circuit, starts, f64(x), f64(y), f64(time / records / count), counts, integrator)
    return {name: np.asarray(w) for name, w in found.items()}


def product(matrices: Matrices, depth: int) -> np.ndarray:
    """W_depth ... W_1, over all leading axes."""
    total = matrices["W1"]
    for i in range(2, depth + 1):
        total = matrices[f"W{i}"] @ total
    return total


def modes(total: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """u_j = l_j^T W r_j of a product: (..., modes)."""
    return np.einsum("ij,...ik,kj->...j", left, total, right)


def aligned(
    rng: np.random.Generator, left: np.ndarray, right: np.ndarray, hidden: int, sizes: Sequence[np.ndarray]
) -> Matrices:
    """Matrices W1 .. WL = R_l diag(a_l) R_{l-1}^T with the teacher's vectors at both ends; `sizes` are a_1 .. a_L."""
    inner = [orthonormal(rng, hidden, left.shape[1]) for _ in sizes[1:]]
    frames = [right, *inner, left]
    pairs = itertools.pairwise(frames)
    return {f"W{i}": after * a @ before.T for i, ((before, after), a) in enumerate(zip(pairs, sizes, strict=True), 1)}


def mode_time(
    start: np.ndarray | float, end: np.ndarray | float, strength: np.ndarray | float, depth: int
) -> np.ndarray:
    """How long a balanced mode of L layers, u' = L u^(2 - 2/L) (s - u), takes from `start` to `end` (tau_plast).

    With b = 2/L - 1: the integral of du / (L u^(1 - b) (s - u)) is u^b 2F1(1, b; 1 + b; u/s) / (L b s), and a logarithm
    at L = 2.
    """
    start, end, s = np.asarray(start, float), np.asarray(end, float), np.asarray(strength, float)
    if depth == 2:
        return np.asarray(np.log(end * (s - start) / (start * (s - end))) / (2 * s))
    b = 2 / depth - 1
    grown = end**b * hyp2f1(1, b, 1 + b, end / s) - start**b * hyp2f1(1, b, 1 + b, start / s)
    return np.asarray(grown / (depth * b * s))


def sigmoid(times: np.ndarray, start: float, strength: np.ndarray) -> np.ndarray:
    """u(t) = s / (1 + (s / u0 - 1) exp(-2 s t)) of a balanced mode of two layers: (times, modes)."""
    return strength / (1 + (strength / start - 1) * np.exp(-2 * np.multiply.outer(times, strength)))


def crossing(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """When shares (..., times) of a mode first reach one half; NaN where they never do.

    Between two records the logarithm of u / (1 - u), a line along a sigmoid, is taken for one.
    """
    above = values >= 0.5
    k = np.maximum(above.argmax(-1), 1)
    after, before = (np.take_along_axis(values, (k - i)[..., None], -1)[..., 0] for i in (0, 1))
    after, before = (np.log(v / (1 - v)) for v in np.clip((after, before), 1e-12, 1 - 1e-12))
    at = times[k] - (times[k] - times[k - 1]) * after / (after - before)
    return np.where(above.any(-1), at, np.nan)
