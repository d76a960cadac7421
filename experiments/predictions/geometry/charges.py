"""C3.1, C3.1b: what the flow of every rule conserves, in hidden layers and softmax readouts, and others do not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes

from dynamics.circuit import Circuit, Weights
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.curl.learning import log_bars
from experiments.predictions.drawing import legend_outside, plotted
from experiments.predictions.kit import all_close, discrete, drift_of, f64, keys_from, weight_flow, weights_after, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import exceeds
from rules.contract import AbstractRule
from rules.exponentiated import Exponentiated
from rules.feedback_alignment import FA
from rules.gradient import SGD
from rules.kolen_pollack import KP

RULES: dict[str, AbstractRule] = {"SGD": SGD(), "FA": FA(), "KP": KP()}
STEPS = 400  # of hidden layers
LOSSES: dict[str, tuple[AbstractRule, str]] = {
    "SGD": (SGD(), "softmax"),
    "FA": (FA(), "softmax"),
    "EG": (Exponentiated(), "softmax"),
    "squared loss": (SGD(), "squared"),
}
FLOWS = "SGD", "FA"
UPDATES = {"EG": ("EG", "sgd"), "Adam": ("SGD", "adam")}  # rule, optimiser
BREAKING = "EG", "squared loss"  # at rates that the fingerprints tell
FLOW_STEPS = 100  # of softmax readouts
Data = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]
SMALLEST = 1e-17  # of changes, for logarithms


def charges(w: Weights) -> Float[Array, "3 hidden hidden"]:
    """Of SGD, FA and KP, for a hidden linear layer: W2^T W2, V W2 + (V W2)^T and V V^T, less W1 W1^T each."""
    inside = w["W1"] @ w["W1"].T
    back = w["V2"] if "V2" in w else w["W2"].T  # which under SGD is what the error returns by
    mixed = back @ w["W2"]
    return jnp.stack([w["W2"].T @ w["W2"] - inside, mixed + mixed.T - inside, back @ back.T - inside])


class NoetherCharges(AbstractPrediction):
    """Matrix charges of a two-layer linear network under three rules, with and without weight decay."""

    number = "C3.1"
    title = "Gradient, feedback alignment and Kolen-Pollack conserve three different charges"
    source = """tanaka2021noether, symmetry and conservation; the charge of feedback alignment: lillicrap2016random,
        supplement; that of Kolen-Pollack, and the fingerprints, derived"""
    equation = """SGD: W2^T W2 - W1 W1^T; FA: V W2 + (V W2)^T - W1 W1^T; KP: V V^T - W1 W1^T; decay: Q(t) = Q(0) exp(-2
        t / tau_dec) for SGD and KP; d/dt (W2^T W2 - W1 W1^T) = (W2^T - V) C W1^T + transpose, C = <e x^T>"""
    claim = """Each rule conserves the matrix that its feedback makes of the weights, and breaks those of the others.
        Weight decay lets the charges of SGD and Kolen-Pollack die at twice its rate, exactly. How fast a rule breaks
        the gradient's charge says how far its feedback is from the transpose."""
    method = """The weight flow of random networks on random data by 400 steps of the fifth order; the largest change
        of a charge over its largest entry at the start. The fingerprint from the engine's drift at the start."""
    tolerance = """1e-8 where a charge is conserved, or decays exactly; log10 of the change above -2, in the mean over
        seeds at 99.9 %, where it is broken; 1e-12 for the fingerprint, which has no integration."""
    quick = {"seeds": 6, "inputs": 4, "hidden": 5}

    inputs: Size = 8
    hidden: Size = 10
    outputs: Size = 3
    samples: Size = 30
    time: Positive = 2.0  # in tau_plast
    decay: Positive = 0.4  # tau_plast / tau_dec
    seeds: Seeds = 16

    def measure(self) -> Finding:
        names = list(RULES)
        free, decayed, prints = (np.stack(found) for found in zip(*map(self._changes, names), strict=True))
        verdicts = []
        for i, rule in enumerate(names):
            quantity = "largest change of the charge"
            verdicts.append(all_close(f"{rule} conserves its own", quantity, 0.0, free[i, :, i], 1e-8))
        for i, rule in enumerate(names):
            others = [j for j in range(3) if j != i and not (rule == "SGD")]
            for j in others:  # under SGD V is W2^T, and all three are the same
                quantity = "log10 of the change of the charge"
                verdicts.append(exceeds(f"{rule} breaks that of {names[j]}", quantity, -2.0, np.log10(free[i, :, j])))
        for i in (0, 2):
            quantity = "largest deviation from Q(0) exp(-2 t / tau_dec)"
            verdicts.append(all_close(f"{names[i]}, with decay", quantity, 0.0, decayed[i, :, i], 1e-8))
        quantity = "largest deviation of dQ/dt from (W2^T - V) C W1^T + transpose"
        verdicts.append(all_close("fingerprint", quantity, 0.0, prints, 1e-12))
        return Finding(verdicts, self._drawn(free))

    def _changes(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Relative changes of the charges without decay, and from the law with it, (seeds, 3) each; deviations of the
        fingerprint, (seeds,)."""
        rng = np.random.default_rng(self.seed)
        draw = lambda *shape: f64(rng.standard_normal((self.seeds, *shape)))  # noqa: E731
        x, y = draw(self.samples, self.inputs), draw(self.samples, self.outputs)
        weights = {"W1": draw(self.hidden, self.inputs) / self.inputs**0.5}
        weights["W2"] = draw(self.outputs, self.hidden) / self.hidden**0.5
        if name != "SGD":
            weights["V2"] = draw(self.hidden, self.outputs) / self.hidden**0.5
        time, steps = self.time / STEPS, jnp.int32(STEPS)
        found = [_changed(RULES[name], x, y, weights, f64(time), f64(rate), steps) for rate in (0.0, self.decay)]
        return np.asarray(found[0][0]), np.asarray(found[1][0]), np.asarray(found[0][1])

    @plotted(5.4, 2.6)
    def _drawn(self, panel: Axes, free: np.ndarray) -> None:
        names = list(RULES)
        for i, rule in enumerate(names):
            values, bars = log_bars(list(np.maximum(free[i].T, 1e-17)))
            look = {"color": OKABE_ITO[i], "marker": "os^"[i], "linestyle": "", "capsize": 2}
            panel.errorbar(np.arange(3) + 0.15 * (i - 1), values, bars, label=f"flow of {rule}", **look)
        panel.axhline(1e-8, color="0.3", linestyle="--", label="conserved below")
        panel.set_xticks(range(3), ["W$_2^T$W$_2$ (SGD)", "V W$_2$ + transpose (FA)", "V V$^T$ (KP)"])
        panel.set(yscale="log", xlabel="charge, less W$_1$W$_1^T$", ylabel="relative change", xlim=(-0.5, 2.5))
        panel.legend(loc="center left", bbox_to_anchor=(1, 0.5))


@eqx.filter_jit
def _changed(
    rule: AbstractRule, x: Array, y: Array, weights: Weights, step: Array, rate: Array, count: Int[Array, ""]
) -> tuple[Float[Array, "seeds 3"], Float[Array, " seeds"]]:
    """The largest |Q(t) - Q(0) exp(-2 rate t)| over the largest |Q(0)|, and that of the fingerprint at the start."""

    def one(x: Array, y: Array, weights: Weights) -> tuple[Array, Array]:
        sizes = (x.shape[1], weights["W1"].shape[0], y.shape[1])
        circuit = wired(rule, sizes, activation="linear")
        flow = weight_flow(circuit, x, y, step, decay=1 / jnp.maximum(rate, 1e-300), integrator="dopri5")
        end = weights_after(flow, weights, count)
        before = charges(weights)
        shrunk = before * jnp.exp(-2 * rate * step * count.astype(step.dtype))
        moved = drift_of(flow, weights)
        still = {name: jnp.zeros_like(w) for name, w in weights.items()}
        slope = jax.jvp(charges, (weights,), ({**still, **moved},))[1][0]
        inner = weights.get("V2", weights["W2"].T)
        cross = (y - x @ (weights["W2"] @ weights["W1"]).T).T @ x / x.shape[0]
        print_ = (weights["W2"].T - inner) @ cross @ weights["W1"].T
        off = slope - (print_ + print_.T) + 2 * rate * before[0]
        size = jnp.abs(before).max((1, 2))
        return jnp.abs(charges(end) - shrunk).max((1, 2)) / size, jnp.abs(off).max() / jnp.abs(before[0]).max()

    return jax.vmap(one)(x, y, weights)


class SoftmaxCharge(AbstractPrediction):
    """1^T W_L of a classifier with one hidden layer: flows of two rules, updates of two others."""

    number = "C3.1b"
    title = "The shift of a softmax conserves the sum over classes, under more than gradients"
    source = """tanaka2021noether, symmetry and conservation, of which the shift of a softmax is the translation; the
        rules that keep it although they are no gradients, the charge of exponentiated gradient and the fingerprints
        derived"""
    equation = """softmax(z + s 1) = softmax(z), so 1^T (y - softmax(z)) = 0 and d/dt 1^T W_L = 0 for W_L' = <e h^T>,
        d/dt 1^T b_L = 0; with decay exp(-t / tau_dec); EG: d/dt sum_c W_cj = sum_c |W_cj| <e_c h_j>, and sum_c
        sign(W_cj) log |W_cj| is kept; squared loss: d/dt 1^T W_L = <1^T e h^T>"""
    claim = """Gradient flow keeps the sum of a softmax readout's weights over the classes, and that of its biases. So
        does feedback alignment, which is no gradient: the charge sees only how the readout learns, unlike the charges
        between layers. Weight decay lets it die at its own rate. What scales weights one by one breaks it:
        exponentiated gradient, which is a gradient in another metric and keeps the sum of its dual weights instead, and
        Adam. So does a squared loss, which has no such symmetry."""
    method = """Random networks on random data and labels. The weight flow of rules that keep the sum, by Euler's steps,
        without decay and with it; updates by single samples of EG and Adam; the engine's drift at the start, of EG and
        with a squared loss, against the fingerprints computed with NumPy. Changes over the largest weight at the
        start."""
    tolerance = """1e-12 where a charge is kept, since every step keeps linear ones, and the multiplicative update that
        of dual weights, and of (1 - h / tau_dec)^n in n steps of length h for the decay; log10 of the change above -2,
        in the mean over seeds at 99.9 %, where it is broken; 1e-12 for the fingerprints."""
    quick = {"seeds": 8}

    inputs: Size = 4
    hidden: Size = 5
    classes: Size = 3
    samples: Size = 20
    time: Positive = 2.0  # in tau_plast
    decay: Positive = 0.4  # tau_plast / tau_dec
    eta: Positive = 0.05  # of updates
    seeds: Seeds = 16

    def misfit(self) -> str | None:
        return "softmax-charge.classes must be at least 2" if self.classes < 2 else None

    def measure(self) -> Finding:
        data = self._data()
        flows = {name: self._flowed(name, data) for name in FLOWS}  # (rates, seeds, 2)
        steps = {name: self._updated(*how, data) for name, how in UPDATES.items()}  # (seeds, 2)
        slopes = {name: self._drifted(name, data) for name in BREAKING}
        quantity, broken = "largest change of a sum over classes, over the largest weight", "breaks the sum"
        verdicts = [all_close(f"{name} conserves", quantity, 0.0, flows[name][0, :, 0], 1e-12) for name in FLOWS]
        for name, each in steps.items():
            change = np.log10(np.maximum(each[:, 0], SMALLEST))
            verdicts.append(exceeds(f"{name} {broken}", f"log10 of the {quantity}", -2.0, change))
        rate = np.log10(np.abs(slopes["squared loss"]).max(1) / np.abs(data[2]["W2"]).max((1, 2)))
        name = "log10 of the largest |d/dt 1^T W_L| over the largest weight"
        verdicts.append(exceeds(f"squared loss {broken}", name, -2.0, rate))
        dual = "largest change of a sum of sign(W) log |W|, over the largest one"
        verdicts.append(all_close("EG conserves its own", dual, 0.0, steps["EG"][:, 1], 1e-12))
        decayed, quantity = np.stack([each[1, :, 0] for each in flows.values()]), "largest deviation from its decay"
        verdicts.append(all_close("decay", quantity, 0.0, decayed, 1e-12))
        prints = np.stack([slopes[name] - self.slopes(name, data) for name in BREAKING])
        quantity = "largest deviation of d/dt 1^T W_L at the start, EG and squared loss"
        verdicts.append(all_close("fingerprints", quantity, 0.0, prints, 1e-12))
        shown = {name: each[0] for name, each in flows.items()} | steps
        return Finding(verdicts, self._drawn({name: np.maximum(each, SMALLEST) for name, each in shown.items()}))

    def _data(self) -> Data:
        """Inputs, one-hot labels and weights, by seed."""
        rng = np.random.default_rng(self.seed)
        draw = lambda *shape: rng.standard_normal((self.seeds, *shape))  # noqa: E731
        x, labels = draw(self.samples, self.inputs), rng.integers(self.classes, size=(self.seeds, self.samples))
        weights = {"W1": draw(self.hidden, self.inputs) / self.inputs**0.5, "b1": 0.3 * draw(self.hidden, 1)}
        weights |= {"W2": draw(self.classes, self.hidden) / self.hidden**0.5, "b2": 0.3 * draw(self.classes, 1)}
        weights["V2"] = draw(self.hidden, self.classes) / self.hidden**0.5
        return x, np.eye(self.classes)[labels], weights

    def slopes(self, name: str, data: Data) -> np.ndarray:
        """d/dt 1^T W_L at the start by the laws, (seeds, hidden)."""
        x, y, w = data
        h = np.tanh(np.einsum("sni,shi->snh", x, w["W1"]) + w["b1"][:, None, :, 0])
        z = np.einsum("snh,sch->snc", h, w["W2"]) + w["b2"][:, None, :, 0]
        if name == "squared loss":
            return np.einsum("snc,snh->sh", y - z, h) / self.samples
        odds = np.exp(z)
        law = np.einsum("snc,snh->sch", y - odds / odds.sum(-1, keepdims=True), h) / self.samples
        return (np.abs(w["W2"]) * law).sum(1)  # the law of EG; the sum of the law itself is 0

    def _wired(self, name: str, data: Data) -> tuple[Circuit, Array, Array, Weights]:
        """The circuit of a rule, its samples and its weights, by seed."""
        (rule, loss), (x, y, weights) = LOSSES[name], data
        circuit = wired(rule, (self.inputs, self.hidden, self.classes), loss=loss, bias=True)
        names = {p.name for p in circuit.projections}
        return circuit, f64(x), f64(y), {name: f64(w) for name, w in weights.items() if name in names}

    def _flowed(self, name: str, data: Data) -> np.ndarray:
        """Changes of both charges by the flow without decay and with it, (2, seeds, 2)."""
        numbers = f64(self.time / FLOW_STEPS), f64([0.0, self.decay]), jnp.int32(FLOW_STEPS)
        return np.asarray(_flowed(*self._wired(name, data), *numbers))

    def _updated(self, name: str, kind: str, data: Data) -> np.ndarray:
        """The same by updates of single samples, (seeds, 2)."""
        numbers = keys_from(self.seed, self.seeds), f64(self.eta), jnp.int32(round(self.time / self.eta))
        return np.asarray(_stepped(*self._wired(name, data), *numbers, kind))

    def _drifted(self, name: str, data: Data) -> np.ndarray:
        """d/dt 1^T W_L at the start by the engine, (seeds, hidden)."""
        return np.asarray(_slopes(*self._wired(name, data)))

    @plotted(5.4, 2.6)
    def _drawn(self, panel: Axes, free: dict[str, np.ndarray]) -> None:
        labels = "sum of weights, 1$^T$W", "sum of dual weights, sign(W) log |W|"
        for i, label in enumerate(labels):
            values, bars = log_bars([each[:, i] for each in free.values()])
            look = {"color": OKABE_ITO[i], "marker": "os"[i], "linestyle": "", "capsize": 2}
            panel.errorbar(np.arange(len(free)) + 0.2 * (i - 0.5), values, bars, label=label, **look)
        panel.axhline(1e-8, color="0.3", linestyle="--", label="conserved below")
        panel.set_xticks(range(len(free)), list(free), fontsize="small")
        panel.set(yscale="log", ylabel="relative change", xlabel="how the network learns")
        legend_outside(panel, 2)


def sums(weights: Weights) -> tuple[Float[Array, " _sums"], Float[Array, " _hidden"]]:
    """The sums over classes of weights and of biases; those of dual weights."""
    w = weights["W2"]
    return jnp.append(w.sum(0), weights["b2"].sum()), (jnp.sign(w) * jnp.log(jnp.abs(w))).sum(0)


def _moved(before: Weights, after: Weights, factor: Array | float = 1.0) -> Float[Array, "2"]:
    """The largest change of either charge, over the largest weight and the largest charge; `factor` times the sum of
    weights would be none. Biases do not decay."""
    (old, dual), (new, now) = sums(before), sums(after)
    kept = jnp.append(jnp.full(old.size - 1, factor), 1.0)
    size = jnp.abs(before["W2"]).max(), jnp.abs(dual).max()
    return jnp.stack([jnp.abs(new - kept * old).max() / size[0], jnp.abs(now - dual).max() / size[1]])


@eqx.filter_jit
def _flowed(
    circuit: Circuit, x: Array, y: Array, weights: Weights, step: Array, rates: Array, count: Int[Array, ""]
) -> Float[Array, "rates seeds 2"]:
    """Changes by the flow with every rate of decay."""

    def one(x: Array, y: Array, weights: Weights, rate: Array) -> Array:
        flow = weight_flow(circuit, x, y, step, decay=1 / jnp.maximum(rate, 1e-300))
        end = weights_after(flow, weights, count)
        return _moved(weights, end, (1 - rate * step) ** count.astype(step.dtype))

    return jax.vmap(jax.vmap(one, (0, 0, 0, None)), (None, None, None, 0))(x, y, weights, rates)


@eqx.filter_jit
def _slopes(circuit: Circuit, x: Array, y: Array, weights: Weights) -> Float[Array, "seeds hidden"]:
    """d/dt 1^T W2 by the drift of the flow."""

    def one(x: Array, y: Array, weights: Weights) -> Array:
        flow = weight_flow(circuit, x, y, 1.0)
        return drift_of(flow, weights)["W2"].sum(0)

    return jax.vmap(one)(x, y, weights)


@eqx.filter_jit
def _stepped(
    circuit: Circuit, x: Array, y: Array, weights: Weights, keys: Array, eta: Array, count: Int[Array, ""], kind: str
) -> Float[Array, "seeds 2"]:
    """Changes by `count` updates of the optimiser called `kind`."""

    def one(x: Array, y: Array, weights: Weights, key: Array) -> Array:
        run = discrete(circuit, Stream(x, y, key), eta, optimiser=kind)
        return _moved(weights, weights_after(run, weights, count))

    return jax.vmap(one)(x, y, weights, keys)
