"""A2.3, A2.4: nudges in time: what is lost where weights are not much slower than neurons, or the nudge oscillates."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.integrators import FixedStep
from dynamics.network import Network
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn, look, ticked
from experiments.predictions.energy.setting import (
    angles,
    distances,
    drawn_from,
    flat,
    halved,
    network,
    samples,
    slopes,
)
from experiments.predictions.kit import (
    all_close,
    coupled,
    f64,
    keys_from,
    on_grid,
    order,
    records,
    weight_flow,
    weights_after,
)
from experiments.results.verdicts import close
from rules.equilibrium_propagation import EquilibriumPropagation, OscillatingEP

RECORDS = 16
STEPS = 2  # per tau_prop, at the smallest ratio
Nudges = Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=0.5)], ...], Field(min_length=1)]
SLOW = 1e9  # tau_plast in units of tau_prop: weights hardly move
HARMONICS = 40


class EPTimescales(AbstractPrediction):
    """Equilibrium propagation in continuous time, with neurons that lag behind the weights."""

    number = "A2.3"
    title = "Neurons that are not quick enough bias equilibrium propagation by tau_prop / tau_plast"
    source = "scellier2017equilibrium, section 4 (two timescales); the closed forms derived"
    equation = """one synapse, s the rate of its weight: s tau_plast (1 + s tau_prop) (1 + beta + s tau_prop) = -x^2,
        so that s = -(x^2 / ((1 + beta) tau_plast)) (1 + r x^2 (2 + beta) / (1 + beta)^2 + O(r^2)), r = tau_prop /
        tau_plast"""
    claim = """While neurons settle, weights go on learning from activities of a moment ago: a synapse learns faster by
        a relative bias proportional to r = tau_prop / tau_plast, as the roots of a cubic say, and a network of any
        kind ends O(r) away from where quick neurons would bring it."""
    method = """Coupled runs of one sample that stays on, by dopri5 at steps of at most tau_prop / 2: a linear synapse
        against the matrix exponential of its three equations, and a tanh network, at a quarter of the
        ratios, against its own weight flow."""
    tolerance = """1e-5 of the weight for the synapse, and 1e-4 of its rate: what dopri5 leaves at its steps. 0.1 for
        the slope of its bias and 0.15 for that of the network: the next order in r bends the line. For the size c of
        the bias, extrapolated from the two smallest ratios r and r', 20 c^2 r r' for the order after that and 2 %."""
    quick = {"seeds": 2, "ratios": (0.1, 0.05, 0.025)}

    stimulus: Positive = 0.8  # x of the synapse, whose target is 0 and weight 1
    beta: Positive = 0.5
    ratios: Positives = (0.1, 0.05, 0.025, 0.0125)  # tau_prop / tau_plast
    time: Positive = 4.0  # in units of tau_plast
    inputs: Size = 3
    hidden: Size = 4
    outputs: Size = 2
    gain: Positive = 0.6
    feedback: Positive = 0.5
    seeds: Seeds = 4

    def misfit(self) -> str | None:
        if self.ratios[0] * self.stimulus**2 > 0.2:
            return "ratios: the largest, times the stimulus squared, must be at most 0.2, or the weight rings"
        return halved(self.ratios, "ratios")

    def measure(self) -> Finding:
        found, apart = self._synapse(), self._network()
        exact = np.stack([self.exact(r) for r in self.ratios])
        off = np.abs(found - exact).max()
        verdicts = [all_close("course of a synapse", "largest error of w(t) / w(0)", 0.0, np.array([off]), 1e-5)]
        rates = np.log(found[:, -1] / found[:, -1 - RECORDS // 4]) / (self.time / 4)
        roots = np.array([self.rate(r) for r in self.ratios])
        quantity = "largest relative error of the late rate, against the slowest root of the cubic"
        verdicts.append(all_close("rate of a synapse", quantity, 0.0, rates / roots - 1, 1e-4))
        bias = rates / -(self.stimulus**2 / (1 + self.beta)) - 1
        slope = order(self.ratios[-2:], bias[-2:])
        verdicts.append(all_close("order of the bias", "slope of log bias against log r, smallest r", 1.0, slope, 0.1))
        first = self.stimulus**2 * (2 + self.beta) / (1 + self.beta) ** 2
        limit = 2 * bias[-1] / self.ratios[-1] - bias[-2] / self.ratios[-2]  # of order r^2 from the limit
        room = 20 * first**2 * self.ratios[-1] * self.ratios[-2] + 0.02 * first
        verdicts.append(close("size of the bias", "bias / r, extrapolated to r = 0", first, limit, room))
        quantity = "slope of log |W - W of the flow| against log r"
        verdicts.append(all_close("order in a network", quantity, 1.0, order(self._slower(), apart.T), 0.15))
        return Finding(verdicts, self._drawn(found, exact, bias, first, apart))

    def system(self, ratio: float) -> Float[np.ndarray, "3 3"]:
        """The equations of (z, z', w), free, nudged and the weight, in units of tau_plast."""
        x, b = self.stimulus, self.beta
        return np.array([[-1 / ratio, 0, x / ratio], [0, -(1 + b) / ratio, x / ratio], [-x / b, x / b, 0]])

    def exact(self, ratio: float) -> Float[np.ndarray, " records"]:
        """w(t) / w(0) from silent neurons."""
        values, vectors = np.linalg.eig(self.system(ratio))
        parts = np.linalg.solve(vectors, np.array([0, 0, 1.0]))
        times = np.linspace(0, self.time, RECORDS + 1)
        return np.real(vectors[2] * parts @ np.exp(np.outer(values, times)))

    def rate(self, ratio: float) -> float:
        """The slowest root, times tau_plast."""
        return float(np.real(np.linalg.eigvals(self.system(ratio))).max())

    def _courses(self, net: Network, weights: Weights, x: Array, y: Array, ratios: np.ndarray, count: int) -> Weights:
        """All weights at the first records, (ratios, records, ...)."""
        circuit = EquilibriumPropagation(nudge=f64(self.beta), feedback=f64(self.feedback)).wire(net)
        stream, span = Stream(x, y, jax.random.key(0)), self.time / RECORDS
        steps = int(np.ceil(span * STEPS / min(ratios)))

        def at(ratio: Array) -> Weights:
            run = coupled(circuit, stream, ratio, 1.0, span, steps, integrator=FixedStep("dopri5"))
            return records(run, run.init(weights), count, 1, run.weights)

        return jax.vmap(at)(f64(ratios))

    def _slower(self) -> np.ndarray:
        """Ratios for the network, where silence at the start and the lag afterwards nearly cancel at larger ones."""
        return np.array(self.ratios) / 4

    def _synapse(self) -> Float[np.ndarray, "ratios records"]:
        net, one = network(1, (), 1, 1.0), f64([[1.0]])
        ratios = np.array(self.ratios)
        run = jax.jit(lambda x: self._courses(net, {"W1": one}, x, 0 * one, ratios, RECORDS)["W1"][..., 0, 0])
        found = np.asarray(run(f64([[self.stimulus]])))
        return np.concatenate([np.ones((len(self.ratios), 1)), found], 1)

    def _network(self) -> Float[np.ndarray, "seeds ratios"]:
        """How far from the flow all weights are after about one tau_plast, over the way that they have come."""
        net, dt = network(self.inputs, (self.hidden,), self.outputs, self.gain), 1 / 40
        count = max(round(RECORDS / self.time), 1)
        span = count * self.time / RECORDS

        def one(key: Array) -> Array:
            circuit = EquilibriumPropagation(nudge=f64(self.beta), feedback=f64(self.feedback)).wire(net)
            weights, (x, y) = circuit.initial_weights(key), samples(key, net, 1)
            flow = weight_flow(circuit, x, y, span * dt, integrator="heun")
            ideal = weights_after(flow, weights, round(1 / dt))
            ends = jax.tree.map(lambda w: w[:, -1], self._courses(net, weights, x, y, self._slower(), count))
            off = sum(jnp.sum((ends[n] - ideal[n][None]) ** 2, axis=(1, 2)) for n in ideal)
            return jnp.sqrt(off / sum(jnp.sum((ideal[n] - weights[n]) ** 2) for n in ideal))

        return np.asarray(jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds)))

    @drawn(7.0, 2.5)
    def _drawn(
        self, figure: Figure, found: np.ndarray, exact: np.ndarray, bias: np.ndarray, first: float, apart: np.ndarray
    ) -> None:
        course, biases = figure.subplots(1, 2)
        times, ratios = np.linspace(0, self.time, RECORDS + 1), np.array(self.ratios)
        for i, ratio in enumerate(ratios[:3]):
            course.semilogy(times, exact[i], color=look(i)["color"], lw=0.8)
            course.semilogy(times, found[i], linestyle="", label=f"r = {ratio:g}", **look(i))
        course.set(xlabel=r"time ($\tau_{plast}$)", ylabel="weight w(t) / w(0)")
        course.legend(title="lines: theory")
        biases.loglog(ratios, first * ratios, color=look(0)["color"], lw=0.8)
        biases.loglog(ratios, bias, linestyle="", label="rate of a synapse", **look(0))
        middle = np.median(apart, 0)
        biases.loglog(ratios / 4, middle[-1] * ratios / ratios[-1], color=look(1)["color"], lw=0.8)
        biases.loglog(ratios / 4, middle, linestyle="", label="weights of a network", **look(1))
        biases.set(xlabel=r"r = $\tau_{prop} / \tau_{plast}$", ylabel="relative bias")
        biases.legend(title="lines: slope 1", loc="lower right")


class EPOscillating(AbstractPrediction):
    """Updates of a network whose nudge is a sine of time, at several amplitudes and frequencies."""

    number = "A2.4"
    title = "An oscillating nudge measures the gradient without phases"
    source = "laborieux2022holomorphic, section 3 (there with a complex nudge); closed forms of the real one derived"
    equation = """W' = (2/b) <sin(omega t) z z^T>, nudge b sin(omega t): -dLoss/dW + O(b^2) where omega tau_prop -> 0;
        one linear synapse: W' / (x r) = (2 / b^2) ((1 - b^2)^(-1/2) - 1) there, and 1 / (1 + (omega tau_prop)^2) for
        small b"""
    claim = """The correlation of Hebbian products with a nudge that oscillates is the gradient, up to the second order
        of its amplitude b (odd orders average out over a period), and of omega tau_prop, by which neurons are late."""
    method = """Coupled runs by dopri5, tau_plast = 1e9 tau_prop, whose presentations are one period long, after
        transients. One synapse against Fourier series of its periodic state (harmonic balance); tanh networks at omega
        tau_prop = 0.01 against automatic differentiation through their fixed point."""
    tolerance = """1e-4 for harmonic balance: dopri5 at its steps; 3 (omega tau_prop)^2 for the closed form of slow
        nudges, as neurons relax at rates down to 1 - b. 0.1 for the slope in omega tau_prop and 0.2 for that in b:
        next orders bend the line. 1 - cosine below 1e-4 at the smallest b."""
    quick = {"seeds": 2, "amplitudes": (0.4, 0.1), "frequencies": (0.05, 0.1, 0.2, 1.0)}

    amplitudes: Nudges = (0.5, 0.3, 0.1)
    frequencies: Positives = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # omega tau_prop
    nudges: Nudges = (0.2, 0.1, 0.05)  # of the networks
    inputs: Size = 3
    hidden: Size = 4
    outputs: Size = 2
    gain: Positive = 0.6
    feedback: Positive = 0.5
    seeds: Seeds = 4

    def misfit(self) -> str | None:
        if min(self.frequencies) < 0.02 or len(self.frequencies) < 3 or sorted(self.frequencies) != [*self.frequencies]:
            return "frequencies must be at least three, rising, from 0.02 on"
        if self.amplitudes[-1] > 0.2:
            return "amplitudes must end with one of at most 0.2, for which the order in the frequency is claimed"
        return halved(self.nudges, "nudges")

    def measure(self) -> Finding:
        found, exact = self._synapse(), self.balanced()
        verdicts = [all_close("one synapse", "largest error of W' / (x r), any b", 0.0, found - exact, 1e-4)]
        still, slowest = self.slow(), self.frequencies[0]
        quantity = f"largest error of the closed form at omega tau_prop = {slowest:g}"
        verdicts.append(all_close("slow nudges", quantity, 0.0, found[:, 0] / still - 1, 3 * slowest**2))
        late = 1 - found[-1:, :3] / still[-1]
        quantity = f"slope of log lost part against log omega tau_prop, b = {self.amplitudes[-1]:g}"
        verdicts.append(all_close("order in frequency", quantity, 2.0, order(self.frequencies[:3], late.T), 0.1))
        updates, truth = self._networks()
        errors = distances(updates, truth)
        quantity = "slope of log |W' + dLoss/dW| against log b"
        verdicts.append(all_close("order in b, network", quantity, 2.0, order(self.nudges, errors.T), 0.2))
        quantity = f"1 - cosine with the gradient at b = {self.nudges[-1]:g}"
        verdicts.append(all_close("direction, network", quantity, 0.0, angles(updates, truth)[:, -1], 1e-4))
        return Finding(verdicts, self._drawn(found, errors))

    def slow(self) -> Float[np.ndarray, " amplitudes"]:
        """W' / (x r) where neurons follow at once."""
        b = np.array(self.amplitudes)
        return 2 / b**2 * (1 / np.sqrt(1 - b**2) - 1)

    def balanced(self, frequencies: np.ndarray | None = None) -> Float[np.ndarray, "amplitudes frequencies"]:
        """W' / (x r) from tau z' = -(1 + b s) z + b s, s = sin(omega t): the output less W x, over r."""
        omegas = np.array(self.frequencies) if frequencies is None else frequencies
        k, found = np.arange(-HARMONICS, HARMONICS + 1), np.zeros((len(self.amplitudes), len(omegas)))
        for i, b in enumerate(self.amplitudes):
            for j, omega in enumerate(omegas):
                shift = b / 2j * (np.eye(len(k), k=-1) - np.eye(len(k), k=1))
                given = b / 2j * ((k == 1).astype(complex) - (k == -1))
                c = np.linalg.solve(np.diag(1 + 1j * k * omega) + shift, given)
                found[i, j] = 2 / b * ((c[k == -1] - c[k == 1]) / 2j).real[0]
        return found

    def _measured(
        self, net: Network, weights: Weights, x: Array, y: Array, b: Array, omega: Array, shown: int, steps: int
    ) -> Weights:
        """tau_plast W' over the last of so many presentations of a period each; tau_prop = 1."""
        period = 2 * jnp.pi / omega
        circuit = OscillatingEP(nudge=b, feedback=f64(self.feedback), period=period).wire(net)
        by = FixedStep("dopri5")
        run = coupled(circuit, Stream(x, y, jax.random.key(0)), 1.0, SLOW, period, steps, integrator=by)
        before = run.advance(run.init(circuit.initial_weights(jax.random.key(0)) | weights), jnp.int32(0), shown)
        after = run.advance(before, jnp.int32(shown), 1)
        return {n: SLOW / period * (run.weights(after)[n] - run.weights(before)[n]) for n in weights}

    def _synapse(self) -> Float[np.ndarray, "amplitudes frequencies"]:
        net, x, y, w = network(1, (), 1, 1.0), 0.7, 1.2, 0.5
        steps = int(np.ceil(2 * np.pi / self.frequencies[0]))

        def one(b: Array, omega: Array) -> Array:
            found = self._measured(net, {"W1": f64([[w]])}, f64([[x]]), f64([[y]]), b, omega, 20, max(steps, 60))
            return found["W1"][0, 0] / (x * (y - w * x))

        return on_grid(one, f64(self.amplitudes), f64(self.frequencies))

    def _networks(self) -> tuple[np.ndarray, np.ndarray]:
        """Updates (seeds, nudges, n) and the gradient (seeds, n)."""
        net, keys = network(self.inputs, (self.hidden,), self.outputs, self.gain), keys_from(self.seed, self.seeds)
        free = EquilibriumPropagation(feedback=f64(self.feedback)).wire(net)

        def one(key: Array) -> Weights:
            weights, x, y = drawn_from(key, free, net, 1)
            return jax.vmap(lambda b: self._measured(net, weights, x, y, b, f64(0.01), 1, 500))(f64(self.nudges))

        return flat(jax.jit(jax.vmap(one))(keys), 2), flat(slopes(free, net, keys, 1), 1)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, found: np.ndarray, errors: np.ndarray) -> None:
        lag, size = figure.subplots(1, 2)
        fine = np.geomspace(self.frequencies[0], self.frequencies[-1], 60)
        theory, omegas = self.balanced(fine), np.array(self.frequencies)
        for i, b in enumerate(self.amplitudes):
            against(lag, i, (fine, theory[i]), (omegas, found[i]), f"b = {b:g}", lw=0.8)
        lag.set(xscale="log", xlabel=r"$\omega\,\tau_{prop}$", ylabel="W' / gradient, one synapse", ylim=(0, None))
        lag.legend(title="lines: theory")
        middle, b = np.median(errors, 0), np.array(self.nudges)
        size.loglog(b, middle[-1] * (b / b[-1]) ** 2, color="0.3", lw=0.8, label="slope 2")
        size.loglog(b, middle, linestyle="", label="tanh networks", **look(0))
        size.set(xlabel="amplitude b of the nudge", ylabel="relative error of the update")
        ticked(size, self.nudges)
        size.legend()
