"""T3.3, T3.8, T3.9: how well random wiring carries the gradient: dense, sparse, and in networks that learn."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import Circuit, Gaussian, Masked, Weights
from dynamics.instruments import alignment, drive, forward_matrices, gradient
from dynamics.simulate import simulate
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.drawing import legend_outside, look, marked, plotted, ticked
from experiments.predictions.heterosynaptic.training import QUICK, AbstractTraining, Stacked, consistency, teachers
from experiments.predictions.kit import all_close, f64, intervals, jackknifed, rotations, weight_flow, wired
from experiments.results.verdicts import close, exceeds, matches, stays_below
from rules.heterosynaptic import Heterosynaptic

Density = Annotated[float, Field(strict=True, gt=0, le=1)]


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
        ticked(panel, x)
        legend_outside(panel, 2, loc="upper left", columnspacing=1)


def mask_of(density: float, units: int, neurons: int, seed: int) -> np.ndarray:
    """Which of `neurons` each feedback unit hears, (units, neurons): independent draws, at least one per neuron."""
    rng = np.random.default_rng([seed, units, neurons])
    return (rng.random((units, neurons)) < density) | (np.arange(units)[:, None] == rng.integers(0, units, neurons))


def masked(circuit: Circuit, density: float, seed: int) -> Circuit:
    """The circuit with sparse gaussian wirings M, of as large an E[M^T M] as dense ones have."""

    def sparse(p):
        if p.name[0] != "M":
            return p
        mask = mask_of(density, *circuit.shape(p), seed)
        start = Gaussian(f64(1 / mask.mean() ** 0.5), fan="target")
        return dataclasses.replace(p, matrix=Masked(start, mask))

    return Circuit(circuit.layers, tuple(map(sparse, circuit.projections)))


def amorphous_law(mask: np.ndarray) -> float:
    """E tr B / sqrt(n E tr B^2) of B = M^T M with independent gaussian entries where `mask` (n_fb, n) has them.

    With c_i entries in column i, o_ij common to two columns and K in all: K / sqrt(n (sum c_i^2 + 2 K + sum o_ij)).
    """
    common = mask.T.astype(float) @ mask
    columns = np.diag(common)
    others = common.sum() - columns.sum()
    return float(columns.sum() / np.sqrt(len(columns) * ((columns**2).sum() + 2 * columns.sum() + others)))


class AmorphousWiring(AbstractPrediction):
    """One hop through sparse wiring, frozen, against its density."""

    number = "T3.8"
    title = "Sparse wiring carries the gradient as its number of contacts says"
    source = "ziyin2025heterosynaptic, fig. 2b (sparse random wiring); derived for gaussian entries under a mask"
    equation = """cos = K / sqrt(n (sum_i c_i^2 + 2 K + sum_{i != j} o_ij)): c_i contacts of neuron i, o_ij units
        that hear both i and j, K contacts in all; about 1 / sqrt(1 + n / n_fb + 3 (1 / p - 1) / n_fb) at density p"""
    claim = """A hop through n_fb feedback neurons that hear a share p of n neurons aligns the weight change with the
        gradient a little less than dense wiring of as many neurons: only contacts per neuron, p n_fb, count beside
        n / n_fb."""
    method = """V = W^T M^T with M under a mask, orthogonal W and orthogonal inputs and errors at zero output, so that
        the cosine of the weight change with -gradient is tr B / sqrt(n tr B^2) exactly, B = M^T M; and its law over
        many draws of the entries under one mask."""
    tolerance = """1e-9 for the engine's cosine of each wiring; 99.9 % intervals over seeds for the law, by jackknife of
        the ratio of means."""
    quick = {"densities": (0.1, 0.3, 1.0), "seeds": 30}

    neurons: Size = 20
    units: Size = 40
    densities: Annotated[tuple[Density, ...], Field(min_length=1)] = (0.05, 0.1, 0.2, 0.4, 1.0)
    seeds: Seeds = 60

    def measure(self) -> Finding:
        found = [self._hop(density) for density in self.densities]
        samples = [self._law(*moments) for _, moments in found]
        verdicts = [self._exact(*one, density) for one, density in zip(found, self.densities, strict=True)]
        for density, sample in zip(self.densities, samples, strict=True):
            expected = amorphous_law(mask_of(density, self.units, self.neurons, self.seed))
            verdicts.append(matches(f"law at density {density:g}", "cos(dW1, -gradient)", expected, sample))
        return Finding(verdicts, self._drawn(np.array(samples)))

    def _hop(self, density: float) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """By seed: the engine's cosine of W1, and tr B and tr B^2."""
        n = self.neurons
        rule = Heterosynaptic(feedback_scale=f64(1.0), feedback_units=self.units)
        circuit = masked(wired(rule, (n, n, n), activation="linear"), density, self.seed)
        x = f64(np.eye(n))

        def one(key: Array, rotated: Array) -> tuple[Array, Array, Array]:
            w2, y = rotated
            weights = circuit.initial_weights(key)
            wiring = circuit.matrices(weights)["M2"]
            weights |= {"W1": jnp.zeros_like(weights["W1"]), "W2": w2, "V2": w2.T @ wiring.T}
            b = wiring.T @ wiring
            return alignment(circuit, weights, {}, x, y)["W1"], jnp.trace(b), jnp.sum(b * b)

        keys = jax.random.split(jax.random.key(self.seed), self.seeds)
        both = f64(rotations(self.seed, (self.seeds, 2), n))
        cosine, trace, square = map(np.asarray, jax.jit(jax.vmap(one))(keys, both))
        return cosine, (trace, square)

    def _exact(self, cosine: np.ndarray, moments: tuple[np.ndarray, np.ndarray], density: float):
        off = cosine - moments[0] / np.sqrt(self.neurons * moments[1])
        return all_close(f"each wiring, density {density:g}", "cosine off tr B / sqrt(n tr B^2)", 0.0, off, 1e-9)

    def _law(self, trace: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Pseudo-values of the ratio of means."""
        return jackknifed(lambda i: trace[i].mean() / np.sqrt(self.neurons * square[i].mean()), self.seeds)

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, samples: np.ndarray) -> None:
        fine = np.geomspace(min(self.densities) / 1.3, 1.0, 100)
        n, units = self.neurons, self.units
        law = 1 / np.sqrt(1 + (n + 1) / units + 3 * (1 / fine - 1) / units)
        panel.plot(fine, law, color="0.3", label="average over masks")
        own = [amorphous_law(mask_of(density, units, n, self.seed)) for density in self.densities]
        panel.plot(self.densities, own, **look(1, linestyle="", mfc="none", label="law of the mask"))
        marked(panel, self.densities, samples, label="wirings", **look(0))
        panel.set(xlabel="density p of the wiring", ylabel="cos(dW, -gradient)", xscale="log", ylim=(0, 1))
        legend_outside(panel, 2)


class AmorphousLearning(AbstractTraining):
    """Networks whose feedback populations are wired sparsely and at random."""

    number = "T3.9"
    title = "Networks learn down the gradient through sparse, unordered wiring"
    source = "ziyin2025heterosynaptic, fig. 2b (sparse random wiring)"
    equation = "phi_l = <dW_l, grad_l> / |grad_l|^2 < 0 for all l; V_l stationary"
    claim = """With feedback populations that each hear a small share of their layer, every layer's learning signal
        comes to point down the gradient, feedback weights come to rest, and the loss falls."""
    method = """Tanh networks learn random teachers in the weight flow, wirings under masks; phi and cosines compare
        <m p^T> with the gradient by automatic differentiation. How fast V moves is |V'| tau_dec / |V|."""
    tolerance = """No network may have phi >= 0 in any layer at the end; means over networks at 99.9 %. A cosine above
        0.3, and V moving at the end at less than a tenth of its speed at the beginning."""
    quick = QUICK | {"seeds": 14, "records": 40}

    density: Density = 0.15
    cosine: Positive = 0.3

    def circuit(self) -> Circuit:
        """The networks of `AbstractTraining` with sparse wiring."""
        return masked(super().circuit(), self.density, self.seed)

    def measure(self) -> Finding:
        circuit = self.circuit()
        names, feedback = forward_matrices(circuit), [p.name for p in circuit.plastic if p.name[0] == "V"]

        def probe(w: Weights, x: Array, y: Array) -> dict[str, Array]:
            drives, downhill = drive(circuit, w, {}, x, y), gradient(circuit, w, x, y)
            speed = [jnp.linalg.norm(self.decay * drives[v] - w[v]) / jnp.linalg.norm(w[v]) for v in feedback]
            cosines = alignment(circuit, w, {}, x, y)
            return {
                "phi": jnp.stack([consistency(drives[name], downhill[name]) for name in names]),
                "cosine": jnp.stack([cosines[name] for name in names]),
                "speed": jnp.stack(speed),
            }

        (course,) = self.course(circuit, probe, [self.decay])
        phi, cosine, speed = (course.probes[name] for name in ("phi", "cosine", "speed"))
        uphill = int(np.sum(~(phi[:, -1] < 0)))
        verdicts = [
            close(
                "every layer of every network", f"layers with phi >= 0 among {phi[:, -1].size}", 0.0, float(uphill), 0.0
            )
        ]
        slower = (speed[:, -1] / speed[:, 0]).mean(1)
        verdicts.append(stays_below("feedback comes to rest", "speed of V, end over beginning", 0.1, slower))
        for i in range(len(self.hidden)):
            verdicts.append(stays_below(f"layer {i + 1} descends", "phi at the end", 0.0, phi[:, -1, i]))
            quantity = "cos(dW, -gradient) at the end"
            verdicts.append(exceeds(f"layer {i + 1} is aligned", quantity, self.cosine, cosine[:, -1, i]))
        return Finding(verdicts, self._drawn(course.times / self.decay, cosine))

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, x: np.ndarray, cosine: np.ndarray) -> None:
        for i in range(len(self.hidden)):
            means, half = intervals(cosine[:, :, i].T)
            style = look(i, marker="", label=f"layer {i + 1}")
            panel.plot(x, means, **style)
            panel.fill_between(x, means - half, means + half, color=style["color"], alpha=0.2, linewidth=0)
        panel.axhline(self.cosine, color="0.3", linestyle=":", linewidth=0.8)
        panel.set(xlabel="time (tau_dec)", ylabel="cos(dW, -gradient)", ylim=(-0.3, 1.05))
        panel.legend()
