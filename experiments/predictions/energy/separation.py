"""A2.3: what is lost where weights are not much slower than neurons."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.integrators import FixedStep
from dynamics.network import Network
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.energy.setting import halved, network, samples
from experiments.predictions.kit import all_close, coupled, drawn, f64, keys_from, look, order, weight_flow
from rules.equilibrium_propagation import EquilibriumPropagation

RECORDS = 16
STEPS = 2  # per tau_prop, at the smallest ratio


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
        if halved(self.ratios, "ratios"):
            return halved(self.ratios, "ratios")
        if self.ratios[0] * self.stimulus**2 > 0.2:
            return "ratios: the largest, times the stimulus squared, must be at most 0.2, or the weight rings"

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
        verdicts.append(
            all_close("size of the bias", "bias / r, extrapolated to r = 0", first, np.array([limit]), room)
        )
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

            def block(progress: object, k: Array) -> tuple[object, Weights]:
                after = run.advance(progress, k, 1)  # type: ignore[arg-type]
                return after, run.weights(after)

            return jax.lax.scan(block, run.init(weights), jnp.arange(count, dtype=jnp.int32))[1]

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
        records = max(round(RECORDS / self.time), 1)
        span = records * self.time / RECORDS

        def one(key: Array) -> Array:
            circuit = EquilibriumPropagation(nudge=f64(self.beta), feedback=f64(self.feedback)).wire(net)
            weights, (x, y) = circuit.initial_weights(key), samples(key, net, 1)
            flow = weight_flow(circuit, x, y, span * dt, integrator="heun")
            ideal = flow.advance(flow.init(weights), jnp.int32(0), round(1 / dt)).weights
            ends = jax.tree.map(lambda w: w[:, -1], self._courses(net, weights, x, y, self._slower(), records))
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
