"""T3.5, T3.5b: a heterosynaptic synapse has a sliding threshold, as BCM's, without any neuron keeping one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter
from scipy.integrate import solve_ivp

from dynamics.circuit import Circuit, Weights
from dynamics.instruments import predict
from dynamics.simulate import simulate
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import drawn, legend_outside, look, plotted
from experiments.predictions.heterosynaptic.training import Stacked, teachers
from experiments.predictions.kit import all_close, coupled, f64, on_grid, weight_flow, weights_after, wired
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import close, matches
from rules.heterosynaptic import Heterosynaptic

PROPAGATION, PRESENTATION, PLASTICITY = 0.002, 0.1, 4000.0  # seconds, far apart: what is between them is the theory


class SlidingThreshold(AbstractPrediction):
    """The change of one synapse against postsynaptic activity, after different experiences."""

    number = "T3.5"
    title = "Metaplasticity: the threshold between depression and potentiation slides with experience"
    source = "ziyin2025heterosynaptic, fig. 2a2; derived for signals that grow together"
    equation = "dW(h) = k h^2 - (tau_plast/tau_dec) W, k = g V / W, theta^2 = (W/k) tau_plast/tau_dec"
    claim = """Where the learning signal grows with postsynaptic activity h, as g h, a synapse changes by a parabola in
        h: depression below a threshold theta, potentiation above. Its curvature is proportional to the learned feedback
        weight V, so that theta slides with what was experienced."""
    method = """A chain of three linear neurons. Experience: the weight flow with input 1 and a target, one per history.
        Test: the coupled regime, for each h, with the target that makes the output error g h; the change in the second
        of two presentations, when activities have settled. A parabola is fitted."""
    tolerance = """1 % (of theta, of the range): Euler's steps of experience are a thousandth of tau_plast, weights
        change by 1e-4 in a test, and theory integrates the three equations of experience by itself."""

    experiences: Positives = (0.3, 0.6, 1.2)  # targets in the past
    duration: Positive = 4.0  # of experience, in units of tau_plast
    signal: Positive = 0.05  # g: the learning signal per activity in the test
    activities: NonNegatives = tuple(np.linspace(0, 4, 13).tolist())  # h in the test
    decay: Positive = 10.0  # tau_dec in units of tau_plast
    forward: Positive = 1.5  # the first weight before the experience
    feedback: Positive = 0.2  # the second weight and the feedback weight before it

    def misfit(self) -> str | None:
        if len(set(self.activities)) < 3:
            return "a parabola needs at least three different activities"

    def measure(self) -> Finding:
        rule = Heterosynaptic(feedback_scale=f64(1.0), wiring="identity")
        circuit = wired(rule, (1, 1, 1), activation="linear")
        changes = self._tested(circuit, self._experienced(circuit))
        theory = np.array([self._expected(target) for target in self.experiences])
        fits = np.array([np.polynomial.Polynomial.fit(self.activities, row, 2).convert(None).coef for row in changes])
        thresholds, expected = _thresholds(fits[:, 0], fits[:, 2]), _thresholds(theory[:, 0], theory[:, 1])
        verdicts = [
            close(f"after a target of {target:g}", "threshold theta (activity)", e, m, 0.01 * e)
            for target, e, m in zip(self.experiences, expected, thresholds, strict=True)
        ]
        h = np.array(self.activities)
        curves = theory[:, :1] + theory[:, 1:] * h**2
        quantity, off = "largest deviation from the closed form over its range", np.abs(changes - curves)
        verdicts.append(all_close("parabola", quantity, 0.0, off / np.abs(curves).max(), 0.01))
        return Finding(verdicts, self._drawn(changes, theory, expected))

    def _experienced(self, circuit: Circuit) -> Stacked:
        """The weights after each experience, stacked."""
        step = self.duration / max(1000, round(1000 * self.duration))

        def one(target: Array) -> Weights:
            flow = weight_flow(circuit, f64([[1.0]]), target[None, None], step, self.decay)
            start = {"W1": f64([[self.forward]]), "M2": f64([[1.0]])}
            start |= {name: f64([[self.feedback]]) for name in ("W2", "V2")}
            return simulate(flow, round(self.duration / step), lambda w, slow: w["W1"], 1, weights=start).weights

        return jax.jit(jax.vmap(one))(f64(self.experiences))

    def _tested(self, circuit: Circuit, weights: Stacked) -> np.ndarray:
        """(experiences, activities): the change of W1 in one presentation, in units of T / tau_plast."""
        times, steps = (PROPAGATION, PLASTICITY, PRESENTATION), round(10 * PRESENTATION / PROPAGATION)

        def one(weights: Weights, activity: Array) -> Array:
            x, y = activity / weights["W1"], (weights["W2"] + self.signal) * activity
            run = coupled(circuit, Stream(x, y, jax.random.key(0)), *times, steps, decay=self.decay * PLASTICITY)
            settled = run.advance(run.init(weights), jnp.asarray(0), 1)
            end = run.advance(settled, jnp.asarray(1), 1)
            change = run.weights(end)["W1"] - run.weights(settled)["W1"]
            return change[0, 0] * PLASTICITY / PRESENTATION

        return on_grid(one, weights, f64(self.activities))

    def _expected(self, target: float) -> tuple[float, float]:
        """Offset -W tau_plast / tau_dec and curvature g V / W of dW(h), in T / tau_plast, after an experience."""

        def drift(_: float, y: np.ndarray) -> list[float]:
            w1, w2, v = y
            error = target - w2 * w1
            return [v * error - w1 / self.decay, error * w1 - w2 / self.decay, w1 * error - v / self.decay]

        start = [self.forward, self.feedback, self.feedback]
        w1, _, v = solve_ivp(drift, (0, self.duration), start, rtol=1e-10, atol=1e-12).y[:, -1]
        return -w1 / self.decay, self.signal * v / w1  # the input is h / W

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, changes: np.ndarray, theory: np.ndarray, thresholds: np.ndarray) -> None:
        fine = np.linspace(0, max(self.activities), 200)
        panel.axhline(0, color="0.6", linewidth=0.8)
        for i, target in enumerate(self.experiences):
            colour = OKABE_ITO[i % len(OKABE_ITO)]
            panel.plot(fine, theory[i, 0] + theory[i, 1] * fine**2, color=colour)
            panel.plot(self.activities, changes[i], MARKERS[i % 7], color=colour, label=f"after target {target:g}")
            panel.plot(thresholds[i], 0, "|", color=colour, markersize=14)
        panel.plot([], [], color="0.3", label="closed form")
        panel.set(xlabel="postsynaptic activity h", ylabel="dW / (T / tau_plast)")
        panel.legend()


class _Probed(NamedTuple):
    """What tests found, by seed, history (before, trained, each experience) and neuron, and what theory says.

    `changes` (..., activities): dW of one synapse in units of T / tau_plast; `offset`, `curvature`: its closed form;
    `outgoing`: |w| of the neuron; `largest` (seeds, probed): the neurons with the largest |w| after training.
    """

    changes: np.ndarray
    offset: np.ndarray
    curvature: np.ndarray
    outgoing: np.ndarray
    largest: np.ndarray

    def of_largest(self, values: np.ndarray) -> np.ndarray:
        """(seeds, histories, probed): those of the neurons with the largest outgoing weights."""
        return np.take_along_axis(values, self.largest[:, None], axis=2)


class Metaplasticity(AbstractPrediction):
    """The change of one synapse of every neuron of a trained network against the neuron's own activity.

    The test of neuron i shows what it prefers, x = h W_i / |W_i|^2, so that its activity is h, and asks the output for
    more of what the neuron adds to it: an output error g h w_i / |w_i|, w_i = W2[:, i]. A synapse then changes by

        dW_ij = W_ij (k_i h^2 - tau_plast/tau_dec),    k_i = g V_i M w_i / (|W_i|^2 |w_i|)

    Learning makes V_i = (M w_i)^T. With relu neurons, e_i a_i = z_i V_i h at all times, so that |W_i|^2 - |V_i|^2 dies
    away as exp(-2 t/tau_dec): k_i becomes g / |w_i|, whatever the wiring M, and however fast V learns.
    """

    number = "T3.5b"
    title = "Metaplasticity in networks: learning gives every neuron a threshold, set by its outgoing weights"
    source = "ziyin2025heterosynaptic, fig. 2a2; thresholds inside a network are derived"
    equation = "dW(h) = k h^2 - (tau_plast/tau_dec) W; theta_i^2 = (|w_i|/g) tau_plast/tau_dec; theta ~ c^(1/4)"
    claim = """In a trained network, a synapse changes by a parabola in the activity h of its neuron, with a threshold
        between depression and potentiation. Feedback weights, and so k, are learned: before, half of the neurons have
        no threshold; after, all have, and it is set by the neuron's outgoing weights w_i alone. It slides: outputs
        that were c times as large in the past make it c^(1/4) times as high."""
    method = """Relu networks with randomly wired feedback learn random teachers in the weight flow. Experience: targets
        c z + e, z the outputs and e the errors after learning, of which weights times sqrt(c) are a stationary state.
        Test: one Euler step of the weight flow on one sample, per neuron and activity h, at its largest synapse after
        learning; a parabola is fitted. The law of outgoing weights is asked of the neurons with the largest ones."""
    tolerance = """Parabola, offset and threshold of each neuron: rounding, 1e-9. Law of outgoing weights: 1 %, for
        exp(-length) of the start, relative to what is learned. Share and slope: the 99.9 % interval over seeds."""
    quick = {"seeds": 10, "decay": 10.0, "length": 12.0}

    experiences: Positives = (0.5, 1.0, 2.0)  # c
    inputs: Size = 8
    neurons: Size = 12
    outputs: Size = 4
    samples: Size = 60
    units: Size = 6  # feedback neurons
    probed: Size = 4  # neurons of which the law is asked
    decay: Positive = 20.0  # tau_dec in units of tau_plast
    length: Positive = 15.0  # of training, and then of an experience, in units of tau_dec
    step: Positive = 0.1  # in units of tau_plast
    signal: Positive = 0.005  # g: the output error per activity in the test
    activities: NonNegatives = tuple(np.linspace(0, 4, 9).tolist())  # h in the test
    seeds: Seeds = 16

    def misfit(self) -> str | None:
        if len(set(self.activities)) < 3:
            return "a parabola needs at least three different activities"
        if len(set(self.experiences)) < 2:
            return "a slope needs at least two different experiences"
        if self.probed > self.neurons:
            return f"{self.probed} neurons cannot be probed of {self.neurons}"

    def measure(self) -> Finding:
        found = self._probed()
        theory = found.offset[..., None] + found.curvature[..., None] * np.square(self.activities)
        fits = np.polynomial.polynomial.polyfit(self.activities, found.changes.reshape(-1, len(self.activities)).T, 2)
        offset, curvature = (fits[i].reshape(found.offset.shape) for i in (0, 2))
        thresholds, expected = _thresholds(offset, curvature), _thresholds(found.offset, found.curvature)
        has = ~np.isnan(expected)
        settled = np.sqrt(found.outgoing / self.signal / self.decay)
        law = found.of_largest(thresholds / settled)[:, 1:]
        slopes = np.polyfit(np.log(self.experiences), found.of_largest(np.log(thresholds))[:, 2:].mean(2).T, 1)[0]
        off = np.abs(found.changes - theory).max(-1) / np.abs(theory).max(-1)
        ratio, lost, far = thresholds[has] / expected[has], np.isnan(law), "(the neuron farthest off)"
        verdicts = [
            all_close("parabola", f"deviation from the closed form over its range {far}", 0.0, off, 1e-9),
            all_close("offset", f"fitted over -W tau_plast/tau_dec {far}", 1.0, offset / found.offset, 1e-9),
            all_close("threshold", f"fitted over sqrt(W tau_plast/(k tau_dec)) {far}", 1.0, ratio, 1e-9),
            matches("before learning", "share of neurons with a threshold", 0.5, has[:, 0].mean(1)),
            close("after learning", f"neurons without a threshold, of {lost.size}", 0.0, float(lost.sum()), 0.0),
            all_close("set by outgoing weights", f"theta over sqrt(|w| tau_plast/(g tau_dec)) {far}", 1.0, law, 0.01),
            matches("it slides", "slope of ln theta in ln c", 0.25, slopes),
        ]
        return Finding(verdicts, self._drawn(found, thresholds, settled))

    def _probed(self) -> _Probed:
        rule = Heterosynaptic(feedback_scale=f64(1.0), feedback_units=self.units)
        circuit = wired(rule, (self.inputs, self.neurons, self.outputs), activation="relu")
        data = teachers(self.inputs, self.outputs, self.samples, range(self.seed, self.seed + self.seeds))

        def one(start: Weights, x: Array, y: Array) -> tuple[Stacked, Array, Array]:
            def after(c: Array) -> Stacked:
                """The weights after learning, and after an experience."""

                def learn(w: Weights, more: Array) -> tuple[Weights, Weights]:
                    end = self._learned(circuit, w, x, y + more * predict(circuit, w, x))
                    return end, end

                return jax.lax.scan(learn, start, jnp.stack([jnp.zeros_like(c), c - 1]))[1]

            ends = jax.vmap(after)(f64(self.experiences))
            every = jax.tree.map(lambda w, ws: jnp.concatenate([w[None], ws[:1, 0], ws[:, 1]]), start, ends)
            synapses = every["W1"][1].argmax(1)
            return every, synapses, jax.vmap(lambda w: self._tested(circuit, w, synapses))(every)

        w, synapses, changes = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(self._start(circuit), *data))
        at_synapse = np.take_along_axis(w["W1"], synapses[:, None, :, None], 3)[..., 0]
        incoming, outgoing = (w["W1"] ** 2).sum(3), np.sqrt((w["W2"] ** 2).sum(2))
        along = np.einsum("shif,shfo,shoi->shi", w["V2"], w["M2"], w["W2"])
        curvature = self.signal * at_synapse * along / (incoming * outgoing)
        largest = np.argsort(-outgoing[:, 1], axis=1)[:, : self.probed]
        return _Probed(changes, -at_synapse / self.decay, curvature, outgoing, largest)

    def _start(self, circuit: Circuit) -> Stacked:
        """Weights as the rule draws them, by NumPy: to compile as many generators takes longer than all else."""
        rng, start = np.random.default_rng(self.seed), {}
        for p in circuit.projections:
            targets, sources = circuit.shape(p)
            fan = sources if p.name[0] == "W" else targets
            start[p.name] = f64(rng.standard_normal((self.seeds, targets, sources)) / fan**0.5)
        return start

    def _learned(self, circuit: Circuit, start: Weights, x: Array, y: Array) -> Weights:
        """The weights after these samples."""
        flow = weight_flow(circuit, x, y, self.step, self.decay)
        presentations = max(1, round(self.length * self.decay / self.step))
        return simulate(flow, presentations, lambda w, slow: w["M2"].sum(), 1, weights=start).weights

    def _tested(self, circuit: Circuit, w: Weights, synapses: Array) -> Array:
        """(neurons, activities): the change of one synapse of each neuron, in units of T / tau_plast."""

        def one(i: Array, synapse: Array, h: Array) -> Array:
            into, out = w["W1"][i], w["W2"][:, i]
            x = (h * into / jnp.sum(into**2))[None]
            y = predict(circuit, w, x) + (self.signal * h * out / jnp.linalg.norm(out))[None]
            flow = weight_flow(circuit, x, y, 1.0, self.decay)
            after = weights_after(flow, w, 1)
            return (after["W1"][i] - into)[synapse]

        over = jax.vmap(jax.vmap(one, (None, None, 0)), (0, 0, None))
        return over(jnp.arange(self.neurons), synapses, f64(self.activities))

    @drawn(3.4, 5.0)
    def _drawn(self, figure: Figure, found: _Probed, thresholds: np.ndarray, settled: np.ndarray) -> None:
        top, bottom = figure.subplots(2, 1)
        labels = ["before learning", "after learning", *(f"then c = {c:g}" for c in self.experiences)]
        for i, label in enumerate(labels):
            self._family(top, i, found)
            style = look(i, linestyle="", markersize=3, label=label)
            bottom.plot(found.of_largest(settled)[:, i].ravel(), found.of_largest(thresholds)[:, i].ravel(), **style)
        fine = np.linspace(found.of_largest(settled).min(), settled.max(), 100)
        bottom.plot(fine, fine, color="0.3", label="closed form")
        top.axhline(0, color="0.6", linewidth=0.8)
        top.set(xlabel="postsynaptic activity h", ylabel="dW / (T / tau_plast)")
        bottom.set(xlabel="sqrt(|w| tau_plast / (g tau_dec)) (activity)", ylabel="threshold (activity)", yscale="log")
        bottom.yaxis.set_major_formatter(ScalarFormatter())
        bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bottom.yaxis.minorticks_off()
        legend_outside(bottom, 2, loc="upper left")

    def _family(self, panel: Axes, history: int, found: _Probed) -> None:
        """One synapse of the first network's largest neuron."""
        at, fine = (0, history, found.largest[0, 0]), np.linspace(0, max(self.activities), 100)
        panel.plot(fine, found.offset[at] + found.curvature[at] * fine**2, color=OKABE_ITO[history % len(OKABE_ITO)])
        panel.plot(self.activities, found.changes[at], **look(history, linestyle="", markersize=4))


def _thresholds(offsets: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Where offset + curvature h^2 = 0; NaN where it nowhere is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(-offsets / curvatures)
