"""A5.3: the knowledge a of a single unit that one input is shown to, and of directions of many inputs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from scipy.optimize import brentq

from dynamics.circuit import Weights
from dynamics.discrete import DiscreteState
from dynamics.integrators import Window
from dynamics.settle import Outside
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Size
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, coupled, discrete, f64, records, weight_flow, weights_after
from experiments.predictions.sgd.ska_setting import sigmoids
from experiments.results.verdicts import close
from experiments.spec.units import Time
from rules.knowledge_accumulation import repeated

SMALL = 0.05  # below which knowledge is small
SUBSTEPS = 20


class SkaGrowth(AbstractPrediction):
    number = "A5.3"
    title = "Small knowledge grows at a rate of its own"
    source = "mahi2025structured, the rule; its growth rates derived"
    equation = """tau_plast a' = (|x|^2 + 1) a sigma'(a) / ln 2: a grows at (|x|^2 + 1) / (4 ln 2 tau_plast) while it
        is small; of many inputs, the part of the weights along an eigenvector of <x x^T>, the bias included, at
        lambda / (4 ln 2 tau_plast); published updates multiply it by r, r^2 - (1 + c/2) r + c/4 = 0, c = eta (|x|^2
        + 1) / ln 2"""
    claim = """A unit that knows nothing is an unstable fixed point: its knowledge grows at a rate that its input sets,
        which is a time that does not depend on eta, and drives it to 0 or 1, whichever side it began on. With many
        inputs the largest principal component, about the origin, grows first."""
    method = """One unit, one input: the weight flow against the exact solution by quadrature; the coupled regime by
        windows; updates as published. Many inputs: the flow from small weights along each eigenvector."""
    tolerance = """2 % of rates while |a| < 0.05, in which a sigma'(a) differs from a / 4 by 0.1 %; 1e-4 of a for the
        flow's whole course. Coupled, 0.2 %: the expected rate knows tau_prop."""
    quick = {"inputs": 4}

    inputs: Size = 10
    samples: Size = 30
    length: Positive = 1.5  # |x| of the single input
    eta: Positive = 0.05
    propagation: Duration = Time(0.02)
    plasticity: Duration = Time(1.0)
    start: Positive = 1e-3  # a

    def misfit(self) -> str | None:
        if not self.start < SMALL / 4:
            return f"ska-growth.start must be below {SMALL / 4:g}, so that there is growth while a is small"
        if self.propagation.value > 0.1 * self.plasticity.value / self.rate:
            return "ska-growth.propagation must be at most a tenth of plasticity over the growth rate"

    @property
    def rate(self) -> float:
        """Growth per tau_plast."""
        return (self.length**2 + 1) / (4 * np.log(2))

    def coupled_rate(self) -> float:
        """As `rate` with a finite tau_prop: z - u adds (a / 4) l / (1 + l)^2, l = rate tau_prop / tau_plast."""
        lag = self.propagation.value / self.plasticity.value
        root = brentq(lambda r: r - self.rate * (1 + r * lag / (1 + r * lag) ** 2), self.rate / 2, 4 * self.rate)
        return float(np.asarray(root))

    def published_rate(self) -> float:
        """The factor of an update as published."""
        c = 4 * self.eta * self.rate
        return ((1 + c / 2) + np.sqrt(1 + c**2 / 4)) / 2

    def measure(self) -> Finding:
        times, a = self._flow()
        exact = self.exact(times)
        small = a < SMALL
        rate = np.polyfit(times[small], np.log(a[small]), 1)[0]
        factors = self._published()
        slope, measured = self._coupled(), self._directions()
        verdicts = [
            close("rate of the flow", "growth per tau_plast", self.rate, rate, 0.02 * self.rate),
            close(
                "course of the flow", "largest deviation of a from the exact one, relative", 0.0, _far(a, exact), 1e-4
            ),
            close("rate, coupled", "growth per tau_plast", self.coupled_rate(), slope, 2e-3 * self.coupled_rate()),
            all_close(
                "factor of an update", "growth over that of the root", 1.0, factors / self.published_rate(), 2e-3
            ),
            all_close("directions", "growth over lambda / (4 ln 2)", 1.0, measured[1] / measured[0], 0.02),
            close("either side ends", "least distance of the activities at the end from 1/2", 0.5, self._ends(), 0.05),
        ]
        return Finding(verdicts, self._drawn(times, a, measured))

    def exact(self, times: np.ndarray) -> np.ndarray:
        """a by the flow: the integral of da / (a sigma'(a)) is 4 rate t, by the trapezoidal rule in log a."""
        grid = np.linspace(np.log(self.start), np.log(60.0), 20_001)
        inverse = 2 + 2 * np.cosh(np.exp(grid))  # 1 / sigma'
        passed = np.concatenate([[0], np.cumsum((inverse[1:] + inverse[:-1]) / 2 * np.diff(grid))])
        return np.exp(np.interp(times, passed / (4 * self.rate), grid))

    def _unit(self) -> tuple[Array, Array, dict]:
        """The input, and weights at the start whose knowledge of it is `start`."""
        x = np.full((1, self.inputs), self.length / self.inputs**0.5)
        share = self.start / (self.length**2 + 1)
        return f64(x), jnp.zeros((1, 1)), {"W1": f64(share * x), "b1": f64([[share]])}

    def _flow(self) -> tuple[np.ndarray, np.ndarray]:
        """Times in tau_plast, and a."""
        x, _, weights = self._unit()
        span = (np.log(SMALL / self.start) + 12) / self.rate
        flow = weight_flow(sigmoids((self.inputs, 1)), x, None, span / 200, integrator="heun", parts=SUBSTEPS)
        count = 200

        a = jax.jit(lambda w: records(flow, flow.init(w), count, 1, lambda s: _knowledge(flow.weights(s), x)))(weights)
        return np.linspace(0, span, count + 1), np.concatenate([[self.start], a])

    def _published(self) -> np.ndarray:
        """Growth of a in each update as published, once the first ones are past."""
        x, _, weights = self._unit()
        circuit = repeated(sigmoids((self.inputs, 1)), f64(self.eta))
        run = discrete(circuit, Stream(x, None, jax.random.key(0)), self.eta)
        count = max(4, int(np.log(SMALL / self.start) / np.log(self.published_rate())))

        def record(state: DiscreteState, _: None) -> tuple:
            state = run.update(state, Outside(x[0], jnp.zeros(1)))
            return state, _knowledge(run.weights(state), x)

        begun = run.init(weights)._replace(slow={"z1": {"before": jax.nn.sigmoid(f64([self.start]))}})
        a = np.asarray(jax.jit(lambda s: jax.lax.scan(record, s, None, count)[1])(begun))
        return (a[1:] / a[:-1])[count // 2 :]

    def _coupled(self) -> float:
        """Growth per tau_plast in the coupled regime, from one presentation to the next, once signals are settled."""
        x, _, weights = self._unit()
        tau, span = self.plasticity.value, 0.5 * self.plasticity.value / self.rate
        run = coupled(
            sigmoids((self.inputs, 1)), Stream(x, None, jax.random.key(0)), self.propagation.value, tau, span, 16,
            integrator=Window(nodes=16, parts=1, gaps=False),
        )  # fmt: skip
        start = run.init(
            weights
        )  # from silence units would get a kick of the size of tau_prop: begin with them at rest
        start = eqx.tree_at(lambda s: s.state.fast, start, jax.tree.map(lambda z: z + 0.5, start.state.fast))

        a = np.asarray(jax.jit(lambda s: records(run, s, 4, 1, lambda s: _knowledge(run.weights(s), x)))(start))
        return float(np.log(a[-1] / a[1]) / (2 * span / tau))

    def _directions(self) -> np.ndarray:
        """Growth expected and measured, along each eigenvector of <x x^T> with the bias: (2, directions)."""
        x = np.random.default_rng(self.seed).uniform(size=(self.samples, self.inputs))
        with_bias = np.concatenate([x, np.ones((self.samples, 1))], axis=1)
        values, vectors = np.linalg.eigh(with_bias.T @ with_bias / self.samples)
        values = values / (4 * np.log(2))
        flow = weight_flow(
            sigmoids((self.inputs, len(values))), f64(x), None, 0.1 / values[-1], integrator="heun", parts=SUBSTEPS
        )
        rows = 1e-3 * vectors.T  # each unit begins along one of them
        weights = {"W1": f64(rows[:, :-1]), "b1": f64(rows[:, -1:])}
        end = jax.jit(lambda w: weights_after(flow, w, 10))(weights)
        after = np.concatenate([end["W1"], end["b1"]], axis=1)
        return np.array([values, np.log((after * rows).sum(1) / 1e-6) * values[-1]])

    def _ends(self) -> float:
        """The least distance from 1/2 of two units that began on either side."""
        x, _, weights = self._unit()
        circuit, both = sigmoids((self.inputs, 2)), {n: jnp.concatenate([w, -w]) for n, w in weights.items()}
        flow = weight_flow(circuit, x, None, 1 / self.rate, integrator="heun", parts=SUBSTEPS)
        end = jax.jit(lambda w: weights_after(flow, w, 60))(both)
        z = 1 / (1 + np.exp(-(end["W1"] @ x[0] + end["b1"][:, 0])))
        return float(np.min([z[0] - 0.5, 0.5 - z[1]]))

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, times: np.ndarray, a: np.ndarray, directions: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(times[::8], a[::8], linestyle="", label="weight flow", **look(0))
        left.plot(times, self.exact(times), color=look(0)["color"], label="theory")
        left.plot(times, self.start * np.exp(self.rate * times), "--", color="0.3", lw=0.8, label="small a")
        left.set(yscale="log", ylim=(self.start / 2, 30), xlabel="t / tau_plast", ylabel="knowledge a")
        left.legend()
        right.plot(directions[0], directions[1], linestyle="", label="weight flow", **look(1))
        right.plot(directions[0], directions[0], color=look(1)["color"], label="theory")
        right.set(xscale="log", yscale="log", xlabel="lambda / (4 ln 2)", ylabel="growth per tau_plast")
        right.legend()


def _far(values: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(values / expected - 1).max())


def _knowledge(weights: Weights, x: Array) -> Array:
    """a of the first unit, under the first sample."""
    return (weights["W1"] @ x[0] + weights["b1"][:, 0])[0]
