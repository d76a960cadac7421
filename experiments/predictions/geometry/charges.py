"""C3.1: every rule has a charge of its own, which its flow conserves, and which tells it from others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.curl.learning import log_bars
from experiments.predictions.kit import all_close, drawn, f64, weight_flow, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import exceeds
from rules.contract import AbstractRule
from rules.feedback_alignment import FA
from rules.gradient import SGD
from rules.kolen_pollack import KP

RULES: dict[str, AbstractRule] = {"SGD": SGD(), "FA": FA(), "KP": KP()}
STEPS = 400


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

    @drawn(5.4, 2.6)
    def _drawn(self, figure: Figure, free: np.ndarray) -> None:
        panel, names = figure.subplots(), list(RULES)
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
        begun = flow.init(weights)
        end = flow.weights(flow.advance(begun, jnp.int32(0), count))
        before = charges(weights)
        shrunk = before * jnp.exp(-2 * rate * step * count.astype(step.dtype))
        moved = flow.system(begun.fixed).drift((begun.weights, begun.slow, begun.traces), None, None)[0]
        still = {name: jnp.zeros_like(w) for name, w in weights.items()}
        slope = jax.jvp(charges, (weights,), ({**still, **moved},))[1][0]
        inner = weights.get("V2", weights["W2"].T)
        cross = (y - x @ (weights["W2"] @ weights["W1"]).T).T @ x / x.shape[0]
        print_ = (weights["W2"].T - inner) @ cross @ weights["W1"].T
        off = slope - (print_ + print_.T) + 2 * rate * before[0]
        size = jnp.abs(before).max((1, 2))
        return jnp.abs(charges(end) - shrunk).max((1, 2)) / size, jnp.abs(off).max() / jnp.abs(before[0]).max()

    return jax.vmap(one)(x, y, weights)
