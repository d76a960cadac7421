"""T3.3: how well a random wiring carries the gradient follows from the size of the feedback population alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes

from dynamics.circuit import Circuit, Weights
from dynamics.instruments import alignment
from dynamics.simulate import simulate
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.heterosynaptic.training import Stacked, teachers
from experiments.predictions.kit import f64, legend_outside, look, marked, plotted, weight_flow, wired
from experiments.results.verdicts import exceeds, matches, stays_below
from rules.heterosynaptic import Heterosynaptic


def wiring_law(neurons: float | int | np.ndarray, units: float | int | np.ndarray) -> np.ndarray:
    """cos(learning signal, -gradient) = 1 / sqrt(1 + n / n_fb) of one hop through random wiring; dimensionless.

    With V = W^T M^T the signal is W^T B e, B = M^T M a Wishart matrix of mean I: <B^2> - I = (n + 1) / n_fb for white
    e, where the 1 is that of a finite size.
    """
    return np.asarray(1 / np.sqrt(1 + np.asarray(neurons, float) / np.asarray(units, float)))


class WiringLaw(AbstractPrediction):
    """Gradient alignment against the number of feedback neurons: frozen weights, and networks that learn."""

    number = "T3.3"
    title = "Alignment through random wiring is set by the size of the feedback population"
    source = "ziyin2025heterosynaptic, summary and fig. 2b; derived from V = W^T M^T for gaussian M"
    equation = "cos = 1 / sqrt(1 + n / n_fb)"
    claim = """One hop through n_fb randomly wired feedback neurons aligns the weight change with the gradient of the n
        neurons above it by 1 / sqrt(1 + n / n_fb) where weights are random and V = W^T M^T. Learning improves on it for
        a hop between hidden layers, whose error signals have no more dimensions than there are outputs. It does the
        opposite for a hop from the output whose errors fill all dimensions: what M transmits well is learned, and the
        other errors remain."""
    method = """The population is the first n_fb of the largest one, the others being silent. Frozen: random W, white
        random targets at zero output, V = W^T M^T. Learning: tanh networks and random teachers, from random V, with
        weight decay; the hop is from the last of two hidden layers (all else wired one to one), or from the output.
        Alignment is cos(<m p^T>, -gradient) of the first matrix."""
    tolerance = """Frozen: the half width of the 99.9 % interval over seeds, and the finite size, by which n + 1 + d
        stands for n: d is how far each seed's matrices are from white (trA trS / trAS - n, A = W W^T, S = <e x^T><x
        e^T>). Learning: the whole 99.9 % interval lies on the claimed side of the law."""
    quick = {"units": (10, 20, 40), "seeds": 12, "length": 4.0}

    neurons: Size = 20
    units: Sizes = (10, 20, 40, 80)
    inputs: Size = 20
    outputs: Size = 5  # of the network with two hidden layers
    samples: Size = 60
    decay: Positive = 30.0  # tau_dec in units of tau_plast
    length: Positive = 5.0  # of training, in units of tau_dec
    step: Positive = 0.2  # in units of tau_plast
    seeds: Seeds = 20

    def misfit(self) -> str | None:
        if len(set(self.units)) < len(self.units):
            return "the numbers of feedback neurons must differ from each other"

    def measure(self) -> Finding:
        frozen, finite = self._frozen()
        hidden, output = self._learned((self.neurons, self.outputs)), self._learned((self.neurons,))
        law, quantity = wiring_law(self.neurons, np.array(self.units)), "cos(dW1, -gradient)"
        verdicts = []
        for i, units in enumerate(self.units):
            name, note = f"frozen weights, n_fb = {units}", f"infinite size {law[i]:.4f}"
            verdicts.append(matches(name, quantity, finite[i], frozen[:, i], note=note))
        quantity = "cos(dW1, -gradient) less the law, mean over n_fb"
        verdicts.append(exceeds("hop between hidden layers, after learning", quantity, 0.0, (hidden - law).mean(1)))
        verdicts.append(stays_below("hop from the output, after learning", quantity, 0.0, (output - law).mean(1)))
        return Finding(verdicts, self._drawn(frozen, hidden, output))

    def _circuit(self, above: tuple[int, ...]) -> Circuit:
        """A network with `above` the layers above the first hidden one."""
        rule = Heterosynaptic(feedback_scale=f64(1.0), feedback_units=max(self.units))
        return wired(rule, (self.inputs, self.neurons, *above))

    def _wired(self, circuit: Circuit) -> Stacked:
        """Weights, stacked (seeds, units): M2 ~ N(0, 1 / units) to the first `units` feedback neurons.

        The other layers are wired one to one.
        """
        most = max(self.units)

        def one(key: Array, units: Array) -> Weights:
            weights = circuit.initial_weights(key)
            heard = (jnp.arange(most, dtype=jnp.float64) < units).astype(jnp.float64)[:, None]
            wiring = {"M2": weights["M2"] * heard * jnp.sqrt(most / units)}
            if "M3" in weights:
                wiring["M3"] = jnp.eye(*weights["M3"].shape, dtype=heard.dtype)
            return weights | wiring

        keys = jax.random.split(jax.random.key(self.seed), self.seeds)
        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(keys, f64(self.units))

    def _frozen(self) -> tuple[np.ndarray, np.ndarray]:
        """(seeds, units): the alignment of a silent network with settled feedback; (units,): the law of finite size."""
        circuit = self._circuit((self.neurons,))
        w = self._wired(circuit)
        w = w | {"W1": jnp.zeros_like(w["W1"]), "V2": jnp.swapaxes(w["M2"] @ w["W2"], -1, -2)}
        generator = np.random.default_rng(self.seed)
        x, y = (generator.standard_normal((self.seeds, self.samples, n)) for n in (self.inputs, self.neurons))
        signals, weights = np.einsum("sni,snj->sij", y, x), np.asarray(w["W2"][:, 0])
        ws = np.linalg.norm(weights.swapaxes(1, 2) @ signals, axis=(1, 2)) ** 2
        neurons = np.linalg.norm(weights, axis=(1, 2)) ** 2 * np.linalg.norm(signals, axis=(1, 2)) ** 2 / ws
        law = wiring_law(neurons[:, None] + 1, np.array(self.units)[None])
        return self._aligned(circuit, w, f64(x), f64(y)), law.mean(0)

    def _learned(self, above: tuple[int, ...]) -> np.ndarray:
        """(seeds, units): the alignment at the end of learning, with `above` the layers above the first hidden one."""
        circuit = self._circuit(above)
        x, y = teachers(self.inputs, above[-1], self.samples, range(self.seed, self.seed + self.seeds))
        presentations = max(1, round(self.length * self.decay / self.step))

        def one(start: Weights, x: Array, y: Array) -> Weights:
            flow = weight_flow(circuit, x, y, self.step, self.decay)
            return simulate(flow, presentations, lambda w, slow: w["M2"].sum(), 1, weights=start).weights

        learn = jax.jit(jax.vmap(jax.vmap(one, (0, None, None))))
        return self._aligned(circuit, learn(self._wired(circuit), x, y), x, y)

    def _aligned(self, circuit: Circuit, weights: Stacked, x: Array, y: Array) -> np.ndarray:
        """(seeds, units): the alignment of the first matrix."""
        over_units = jax.vmap(lambda w, x, y: alignment(circuit, w, {}, x, y)["W1"], (0, None, None))
        return np.asarray(jax.jit(jax.vmap(over_units))(weights, x, y))

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, frozen: np.ndarray, hidden: np.ndarray, output: np.ndarray) -> None:
        fine = np.geomspace(min(self.units) / 1.5, max(self.units) * 1.5, 200)
        panel.plot(fine / self.neurons, wiring_law(self.neurons, fine), color="0.3", label="1 / sqrt(1 + n / n_fb)")
        x = np.array(self.units) / self.neurons
        labels = ("frozen weights", "learned, hidden hop", "learned, output hop")
        for i, (samples, label) in enumerate(zip((frozen, hidden, output), labels, strict=True)):
            marked(panel, x, samples.T, label=label, **look(i))
        panel.set(xlabel="feedback neurons per neuron, n_fb / n", ylabel="cos(dW, -gradient)", xscale="log")
        panel.set_ylim(0, 1.05)
        panel.set_xticks(x, [f"{value:g}" for value in x])
        panel.minorticks_off()
        legend_outside(panel, 2, loc="upper left", columnspacing=1)
