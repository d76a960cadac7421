"""A5.1, A5.2, A5.4: SKA: what its entropies add up to, what of its time is invariant, and where it is a gradient."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from dynamics.circuit import Circuit, Weights
from dynamics.jacobian import curl_index, flat_flow, jacobian
from dynamics.network import Network
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, drift_of, f64, order, weight_flow, weights_after
from experiments.predictions.sgd.setting import apart, eta_axis
from experiments.predictions.sgd.ska_setting import (
    Run,
    accumulated,
    compared,
    knowledge,
    names,
    problem,
    shannon,
    sigmoids,
)
from experiments.results.verdicts import close, exceeds
from rules import Oja

SUBSTEPS = 16  # of the flow in an update


class SkaEntropy(AbstractPrediction):
    """The sum of H(k) over updates against the change of Shannon entropy, layer by layer."""

    number = "A5.1"
    title = "SKA's entropy is Shannon's"
    source = "mahi2025structured, the entropy of a layer; the identity and its gap derived"
    equation = """sum_k H(k) = -(1/ln 2) sum a(k) dz(k) -> sum over units and samples of Hb(z_end) - Hb(z_0), in bits,
        with the gap -(eta / (2 ln 2)) integral of sigma'(a) a'^2 dt"""
    claim = """The entropy that SKA accumulates is a Riemann sum of d Hb = -(1/ln 2) a dz: in the limit of small eta it
        knows the ends alone and not the path, and is the change of the Shannon entropy of the units. The gap is of
        order 1 in eta, by a factor that the flow predicts."""
    method = """Published updates of a batch (its samples as positions of convolutions), in the discrete regime, and the
        weight flow, from the same weights, on inputs uniform from 0 to 1, in two networks. The slope of the logarithm
        of the gap, and gap / eta extrapolated from the two finest eta, against the integral along the flow."""
    tolerance = """Order 1 +- 0.1 in every layer; factors within 2 %; the extrapolated sum within 1e-3 of the change of
        entropy along the flow, whose own end differs by order eta^2."""
    quick = {"layers": (8, 6), "others": (5,), "inputs": 10, "samples": 20, "etas": (0.05, 0.025, 0.0125)}

    inputs: Size = 50
    layers: Sizes = (24, 12, 8)
    others: Sizes = (20, 20)  # of the second network
    samples: Size = 50
    etas: Positives = (0.02, 0.01, 0.005)
    time: Positive = 1.0  # in tau_plast

    def misfit(self) -> str | None:
        if len(self.etas) < 2 or list(self.etas) != sorted(set(self.etas), reverse=True):
            return "ska-entropy.etas must be 2 or more, in decreasing order"
        if self.etas[0] > self.time / 2:
            return "ska-entropy.etas must be at most half the time"

    def measure(self) -> Finding:
        verdicts, shown = [], {}
        for hidden in (self.layers, self.others):
            sizes = (self.inputs, *hidden)
            name, circuit = "-".join(map(str, sizes)), sigmoids(sizes)
            runs, flow = compared(circuit, *problem(self.seed, self.samples, sizes), np.array(self.etas), self.time)
            gaps = np.array([[self.gap(run, layer) for layer in names(circuit)] for run in runs])
            etas = self.time / np.rint(self.time / np.array(self.etas))
            quantity = "order of the gap in eta"
            verdicts.append(all_close(f"gap, {name}", quantity, 1.0, order(etas, np.abs(gaps)), 0.1))
            factor = np.array([self.factor(flow, layer) for layer in names(circuit)])
            fine = _limit(etas, gaps / etas[:, None])
            verdicts.append(all_close(f"factor, {name}", "gap / eta over its expectation", 1.0, fine / factor, 0.02))
            verdicts.append(self._ends(name, etas, runs, flow))
            shown[name] = etas, gaps, factor
        return Finding(verdicts, self._drawn(shown))

    @staticmethod
    def gap(run: Run, layer: str) -> float:
        """What the sum has beyond the change of entropy, in bits."""
        z = run.activities[layer]
        return float(accumulated(z).sum() - shannon(z[-1]) + shannon(z[0]))

    def factor(self, flow: Run, layer: str) -> float:
        """gap / eta for small eta, from the flow."""
        z = flow.activities[layer]
        step = self.time / (len(z) - 1)
        return float(-(np.diff(knowledge(z), axis=0) * np.diff(z, axis=0)).sum() / step / (2 * np.log(2)))

    def _ends(self, name: str, etas: np.ndarray, runs: list[Run], flow: Run) -> object:
        """Sums, extrapolated to eta = 0, over the change of entropy along the flow."""
        layers = list(flow.activities)
        sums = np.array([[accumulated(run.activities[layer]).sum() for layer in layers] for run in runs[-3:]])
        limit = _limit(etas[-3:], sums)
        changes = [np.diff(shannon(flow.activities[layer][[0, -1]]))[0] for layer in layers]
        quantity = "extrapolated sum of H over the change of Shannon entropy"
        return all_close(f"limit, {name}", quantity, 1.0, limit / changes, 1e-3)

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, shown: dict) -> None:
        panels = figure.subplots(1, 2)
        for panel, (name, (etas, gaps, factor)) in zip(panels, shown.items(), strict=True):
            for i, (gap, line) in enumerate(zip(gaps.T, factor, strict=True)):
                panel.plot(etas, -gap, linestyle="", label=f"layer {i + 1}", **look(i))
                panel.plot(etas, -line * etas, color=look(i)["color"])
            panel.plot([], [], color="0.3", label="theory")
            eta_axis(panel, etas)
            panel.set_title(name)
            panel.legend()
        panels[0].set_ylabel("change of entropy - sum of H (bits)")


def _limit(etas: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at eta = 0, by the polynomial through all of them."""
    weights = [np.prod([b / (b - a) for b in etas if b != a]) for a in etas]
    return np.tensordot(weights, values, (0, 0))


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
            fine = weight_flow(circuit, x, None, eta, integrator="heun", parts=SUBSTEPS)
            return apart(*(weights_after(run, weights, count) for run in (weight_flow(circuit, x, None, eta), fine)))

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
        flow = weight_flow(circuit, x, None, 1.0)
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
        flow = weight_flow(circuit, x, None, 1.0)
        drifts = drift_of(flow, weights)
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
