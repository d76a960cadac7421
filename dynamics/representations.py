"""What layers represent: settled activities of samples, their dimension and likeness; the rank of matrices.

All are dimensionless. Where there is nothing, no weight or no variance, they are 0, as a cosine with nothing is.
"""

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Weights
from dynamics.norms import norm, scaled
from dynamics.plasticity import Slow
from dynamics.samples import Rows, check_inputs, rows
from dynamics.settle import Outside, settle
from dynamics.spectra import singular_values

Activities = dict[str, Float[Array, "n _units"]]  # by layer


def activities(circuit: Circuit, weights: Weights, slow: Slow, inputs: Rows) -> Activities:
    """z_l of every layer that is not given, settled on each input: (samples, units).

    The fixed point of tau_prop z' = -z + f(a) with weights frozen and errors silent; NaN where there is none.
    """
    inputs = rows("inputs")(inputs)
    check_inputs(circuit, inputs)
    circuit.check_weights(weights)

    def one(x: Array) -> dict[str, Array]:
        moment = settle(circuit, weights, slow, Outside(x, None))
        layers = [layer for layer in moment.circuit.layers if not layer.given]
        return {layer.name: moment.value(layer, "activity") for layer in layers}

    return jax.vmap(one)(inputs)


def effective_rank(matrix: Float[Array, "m n"]) -> Float[Array, ""]:
    """exp(-sum_i p_i log p_i), p_i = s_i / sum_j s_j, of the singular values s of a matrix.

    Between 1 and min(m, n), which needs equal singular values; whatever the size of the matrix. (Roy & Vetterli 2007,
    https://ieeexplore.ieee.org/document/7098875)
    """
    s = singular_values(scaled(matrix))
    total = s.sum()
    p = s / jnp.where(total > 0, total, 1)
    entropy = -jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1)), 0))
    return jnp.where(total == 0, 0, jnp.exp(entropy))


def effective_ranks(circuit: Circuit, weights: Weights) -> dict[str, Float[Array, ""]]:
    """The `effective_rank` of every matrix, biases apart."""
    constant = {layer.name for layer in circuit.layers if layer.role == "constant"}
    names = [p.name for p in circuit.projections if p.name in weights and p.source not in constant]
    return {name: effective_rank(m) for name, m in circuit.matrices({name: weights[name] for name in names}).items()}


def participation_ratio(activity: Float[Array, "n units"]) -> Float[Array, ""]:
    """(tr C)^2 / tr C^2 = (sum_i c_i)^2 / sum_i c_i^2, c the eigenvalues of the covariance C over n samples.

    Between 1 and min(n - 1, units), which needs equal variance along so many directions. (Litwin-Kumar et al. 2017,
    doi:10.1016/j.neuron.2017.01.030)
    """
    x = _centred(activity)
    square = jnp.square(norm(_gram(x)))
    return jnp.square(jnp.sum(x * x)) / jnp.where(square > 0, square, 1)


def cka(x: Float[Array, "n _p"], y: Float[Array, "n _q"]) -> Float[Array, ""]:
    """Linear CKA |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of two layers' activities for the same n samples, means removed.

    Between 0 and 1; the same for rotated and for scaled activities. (Kornblith et al. 2019,
    doi:10.48550/arXiv.1905.00414)
    """
    x, y = _centred(x), _centred(y)
    sizes = norm(_gram(x)) * norm(_gram(y))
    return jnp.where(sizes > 0, jnp.square(norm(y.T @ x)) / jnp.where(sizes > 0, sizes, 1), 0)


def cka_between(activity: Activities) -> dict[str, Float[Array, ""]]:
    """The `cka` of every pair of layers, as "z1_z2"."""
    return {f"{a}_{b}": cka(activity[a], activity[b]) for a, b in itertools.combinations(activity, 2)}


def _centred(x: Float[Array, "n p"]) -> Float[Array, "n p"]:
    """Without its mean over samples, which is exact where all are the same, and of a size near 1."""
    x = scaled(x)
    x = scaled(x - x[:1])
    return scaled(x - x.mean(0, keepdims=True))


def _gram(x: Float[Array, "n p"]) -> Float[Array, "k k"]:
    """X^T X or X X^T, the smaller one, which have the same norm."""
    return x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
