"""A5.4: SKA is a gradient in every layer, and in the network it is not."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from dynamics.circuit import Circuit, Weights
from dynamics.jacobian import curl_index, flat_flow, jacobian
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.kit import drawn, f64, look
from experiments.predictions.sgd.setting import sample_flow
from experiments.predictions.sgd.ska_setting import names, problem, sigmoids
from experiments.results.verdicts import close, exceeds


class Geometry(NamedTuple):
    """Of the field of one network: its Jacobian, in the order of `layer`, the layer of each weight."""

    jacobian: np.ndarray
    layer: np.ndarray


class SkaField(AbstractPrediction):
    """The Jacobian of SKA's weight flow, and each layer's field against the gradient of its entropy."""

    number = "A5.4"
    title = "SKA descends entropies layer by layer, and no loss in all"
    source = "mahi2025structured, layer-wise entropy reduction; the structure of the Jacobian derived"
    equation = """W_l' = -d/dW_l of the summed entropy of layer l: J_ll = J_ll^T, J_lm = 0 for m > l, J_lm != 0 = J_ml^T
        for m < l"""
    claim = """Each layer descends the entropy of its own units, so that its block of the Jacobian is symmetric; the
        layers before it, whose outputs are its inputs, move under it and do not listen to it: the whole field is no
        gradient in the Euclidean metric. The Jacobian is block-triangular with symmetric blocks, so that its
        eigenvalues are real in any metric: the layers make no rotation, only a chain."""
    method = """The Jacobian of the weight flow by automatic differentiation, at random weights, inputs uniform from 0
        to 1; gradients of the entropy, written out apart from the engine, by automatic differentiation."""
    tolerance = """1e-11 of the largest entry where something is symmetric or zero; 1e-6 of the largest for imaginary
        parts, as eigenvalues of what is no symmetric matrix lose half their digits; the curl index |J - J^T| / |J +
        J^T| exceeds 0.01 in the mean over seeds."""
    quick = {"seeds": 6, "layers": (4, 3), "inputs": 4}

    inputs: Size = 6
    layers: Sizes = (6, 5, 4)
    samples: Size = 20
    gain: Positive = 1.0
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if len(self.layers) < 2:
            return "ska-field.layers must be 2 or more: of one layer the whole field is a gradient"
        return None

    def measure(self) -> Finding:
        circuit = sigmoids((self.inputs, *self.layers), self.gain)
        found = [self._geometry(circuit, seed) for seed in range(self.seed, self.seed + self.seeds)]
        alone = self._geometry(sigmoids((self.inputs, self.layers[0]), self.gain), self.seed)
        curls = np.array([float(curl_index(f64(one.jacobian))) for one in found])
        quantity = "largest |J - J^T| in a layer's block over the largest entry"
        blocks, above = (max(part(one) for one in found) for part in (_asymmetry, _above))
        values = [np.linalg.eigvals(one.jacobian) for one in found]
        spin = max(float(np.abs(v.imag).max() / np.abs(v).max()) for v in values)
        slopes = max(self._slopes(circuit, seed) for seed in range(self.seed, self.seed + self.seeds))
        verdicts = [
            close("gradient in every layer", "largest deviation from the gradient of its entropy", 0.0, slopes, 1e-11),
            close("symmetric blocks", quantity, 0.0, blocks, 1e-11),
            close(
                "nothing from above", "largest entry of blocks J_lm, m > l, over the largest of all", 0.0, above, 0.0
            ),
            exceeds("no gradient in all", "curl index |J - J^T| / |J + J^T|", 0.01, curls),
            close(
                "one layer is a gradient",
                "curl index of one layer alone",
                0.0,
                float(curl_index(f64(alone.jacobian))),
                1e-11,
            ),
            close("no rotation", "largest imaginary part over the largest eigenvalue", 0.0, spin, 1e-6),
        ]
        return Finding(verdicts, self._drawn(found[0], values[0]))

    def _geometry(self, circuit: Circuit, seed: int) -> Geometry:
        sizes = self._sizes(circuit)
        x, weights = problem(seed, self.samples, sizes, self.gain)
        flow = sample_flow(circuit, x, None, 1.0, 1)
        field, vector = flat_flow(flow, flow.init(weights))
        layer = np.concatenate([np.full(weights[n].size, int(n[1:])) for n in sorted(weights)])
        order = np.argsort(layer, kind="stable")
        j = np.asarray(jax.jit(lambda v: jacobian(field, v))(vector))
        return Geometry(j[np.ix_(order, order)], layer[order])

    @staticmethod
    def _sizes(circuit: Circuit) -> tuple[int, ...]:
        return tuple(circuit.layer(name).size for name in ("z0", *names(circuit)))

    def _slopes(self, circuit: Circuit, seed: int) -> float:
        """How far the field is from minus the gradient of each layer's entropy."""
        x, weights = problem(seed, self.samples, self._sizes(circuit), self.gain)
        flow = sample_flow(circuit, x, None, 1.0, 1)
        drifts = flow.system({}).drift((weights, {}, {}), None, None)[0]  # pyright: ignore[reportArgumentType]
        far = 0.0
        for level in range(1, len(self.layers) + 1):
            own = {name: weights[name] for name in (f"W{level}", f"b{level}")}
            downhill = jax.grad(lambda own, level=level: -entropy(level, weights | own, weights, x))(own)
            far = max(far, *(float(jnp.abs(drifts[name] - downhill[name]).max()) for name in own))
        return far

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, one: Geometry, values: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        j = one.jacobian / np.abs(one.jacobian).max()
        image = left.imshow(np.sign(j) * np.abs(j) ** 0.5, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        for edge in np.flatnonzero(np.diff(one.layer)) + 0.5:
            left.axhline(edge, color="0.3", lw=0.6)
            left.axvline(edge, color="0.3", lw=0.6)
        left.set(xlabel="weight, layer by layer", ylabel="its drift", title="Jacobian")
        figure.colorbar(image, ax=left, label="signed root of |J|", shrink=0.8)
        blocks = [np.linalg.eigvalsh(one.jacobian[np.ix_(at, at)]) for at in _blocks(one)]
        expected = np.sort(np.concatenate(blocks))
        right.plot(expected, np.zeros(len(expected)), color=look(0)["color"], label="theory: those of the blocks, real")
        right.plot(np.real(values), np.imag(values), linestyle="", label="eigenvalues of J", **look(1))
        right.set(xlabel="real part (1 / tau_plast)", ylabel="imaginary part (1 / tau_plast)")
        right.set_ylim(-0.1 * np.abs(expected).max(), 0.1 * np.abs(expected).max())
        right.legend(loc="upper center")


def entropy(level: int, weights: Weights, fixed: Weights, x: Float[Array, "n i"]) -> Float[Array, ""]:
    """The mean over samples of a layer's summed entropy in bits, by its `weights`; those before it are `fixed`."""
    z = x
    for i in range(1, level + 1):
        w = weights if i == level else fixed
        z = jax.nn.sigmoid(z @ w[f"W{i}"].T + w[f"b{i}"].T)
    return -jnp.mean(jnp.sum(z * jnp.log2(z) + (1 - z) * jnp.log2(1 - z), axis=1))


def _blocks(one: Geometry) -> list[np.ndarray]:
    return [np.flatnonzero(one.layer == level) for level in np.unique(one.layer)]


def _asymmetry(one: Geometry) -> float:
    blocks = [one.jacobian[np.ix_(at, at)] for at in _blocks(one)]
    return max(float(np.abs(b - b.T).max()) for b in blocks) / float(np.abs(one.jacobian).max())


def _above(one: Geometry) -> float:
    above = one.layer[:, None] < one.layer[None]
    return float(np.abs(one.jacobian[above]).max() / np.abs(one.jacobian).max())
