"""A4.1: one weight in closed form, and regressions of several against the network that they are equal to."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Error, Given, Layer, OneToOne, Projection, Shared, TwoFactor, Weights
from dynamics.flow import WeightFlow
from dynamics.jacobian import curl_index, eigenvalues, flat_flow, jacobian
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Size
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, discrete, f64, records, weight_flow, weights_after, wired
from experiments.results.verdicts import Verdict, close
from rules.exponentiated import Exponentiated

RECORDS = 40
STEPS = (50, 100, 200, 400)  # of the discrete updates, in the whole time


def logistic(t: np.ndarray, start: np.ndarray, rate: float, target: float) -> np.ndarray:
    """w(t) of w' = |w| rate (target - w); a weight on the wrong side of zero sees time run backwards."""
    return target / (1 + (target / start - 1) * np.exp(-np.sign(start) * rate * target * t))


def diagonal(inputs: int) -> Circuit:
    """z = sum_i v_i u_i x_i: two layers of one-to-one weights, the gradient as credit."""
    one = OneToOne(f64(1.0))
    layers = (
        Layer("x", inputs, role="input", level=0),
        Layer("h", inputs),
        Layer("s", inputs, level=2),
        Layer("y", 1, role="output", level=3),
    )
    law = TwoFactor(Error())
    ones = Given(jnp.ones((1, inputs), jnp.float64))
    wires = (
        Projection("U", "x", "activity", "h", "forward", one, law),
        Projection("V", "h", "activity", "s", "forward", one, law, level=2),
        Projection("A", "s", "activity", "y", "forward", ones, level=3),
        Projection("B", "y", "error", "s", "modulatory", Shared("A", transposed=True), level=3),
        Projection("C", "s", "error", "h", "modulatory", Shared("V", transposed=True), level=2),
    )
    return Circuit(layers, wires)


class ExponentiatedLogistic(AbstractPrediction):
    number = "A4.1"
    title = "Exponentiated gradient is a logistic, and a network two layers deep"
    source = """kivinen1997exponentiated, the update; derived: its flow, and the change of variables w = u^2 which
        makes it the gradient flow of a diagonal network"""
    equation = (
        """w' = |w| lambda (w* - w): w(t) = w* / (1 + (w*/w0 - 1) exp(-lambda w* t)); u' = -(1/4) dL/du for w = u^2"""
    )
    claim = """A weight with the sign of its target follows a logistic, one with the other sign decays to zero and
        stays on its side. Regression by exponentiated gradient is that of a network of two one-to-one layers, at twice
        their tau_plast. Its field has a curl, but none in the metric 1/w, and nothing turns at its fixed point."""
    method = """The weight flow of one weight by 5th-order steps against the logistic at 40 times, and in discrete
        updates of halved size. Random regressions whose teachers are positive, in both wirings. The Jacobian of the
        flow by automatic differentiation."""
    tolerance = """1e-6, relative to the target, for steps of the fifth order; for the order of updates 0.05, the next
        term at the finest of them; 1e-9 for what is exact at one point."""
    quick = {"starts": (0.01, 0.3, -0.5), "inputs": 3}

    rate: Positive = 1.3  # lambda
    target: Positive = 1.5  # w*
    starts: Annotated[tuple[float, ...], Field(min_length=1)] = (0.01, 0.1, 0.5, 3.0, -0.5)  # w0 / w*
    time: Positive = 8.0  # in 1 / (lambda w*)
    inputs: Size = 5
    samples: Size = 12
    scales: Positives = (0.05, 0.3, 1.0)  # of the weights at the start of a regression

    def misfit(self) -> str | None:
        return "starts must not have 0, from which nothing moves" if 0 in self.starts else None

    def measure(self) -> Finding:
        times = np.linspace(0, self.time, RECORDS + 1) / (self.rate * self.target)
        start = self.target * np.array(self.starts)
        theory = logistic(times[:, None], start, self.rate, self.target)
        found = self._course(start)
        error = np.abs(found - theory).max(0) / self.target
        right, wrong = start > 0, start < 0
        quantity = "largest |w - w(t)| / w*"
        verdicts = [all_close("logistic", quantity, 0.0, error[right], 1e-6)] if right.any() else []
        if wrong.any():
            verdicts.append(all_close("wrong side of zero", quantity, 0.0, error[wrong], 1e-6))
            crossed = float((found[:, wrong] >= 0).sum())
            verdicts.append(close("no sign flips", "weights that crossed zero", 0.0, crossed, 0.0))
        off = self._updates(start, theory[-1])
        order = np.log2(off[-2] / off[-1])
        verdicts.append(all_close("updates", "order of the error of discrete updates in eta", 1.0, order, 0.05))
        verdicts += self._regressions()
        return Finding(verdicts, self._drawn(times, found, off))

    def _one(self, step: object, integrator: str = "dopri5") -> WeightFlow:
        x, y = f64([[self.rate**0.5]]), f64([[self.rate**0.5 * self.target]])
        return weight_flow(wired(Exponentiated(), (1, 1)), x, y, step, integrator=integrator)

    def _course(self, start: np.ndarray) -> np.ndarray:
        """The weight at every record: (records, starts)."""
        flow = self._one(self.time / (self.rate * self.target) / (RECORDS * 20))
        return np.asarray(_recorded(flow, {"W1": f64(start)[:, None, None]}, jnp.int32(20))["W1"])[:, :, 0, 0]

    def _updates(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """How far the end of discrete updates is from that of the flow, (steps, starts)."""
        flow, key = self._one(1.0), jax.random.key(0)

        @jax.jit
        def run(w: Array, size: Array, count: Array) -> Array:
            updates = discrete(flow.circuit, Stream(flow.inputs, flow.targets, key), size)
            one = lambda w: weights_after(updates, {"W1": w}, count)["W1"]  # noqa: E731
            return jax.vmap(one)(w)[:, 0, 0]

        time = self.time / (self.rate * self.target) / 4  # before everything has come to rest
        exact = logistic(np.array([time]), start, self.rate, self.target)
        ends = [run(f64(start)[:, None, None], f64(time / n), jnp.int32(n)) for n in STEPS]
        return np.abs(np.stack(ends) - exact)

    def _regressions(self) -> list[Verdict]:
        """Both wirings from the same starts, and the Jacobian of one at a random point and at its fixed point."""
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.samples, self.inputs))
        teacher = self.target * rng.uniform(0.2, 1.0, self.inputs)
        y = (x @ teacher)[:, None]
        start = np.array(self.scales)[:, None] * rng.uniform(0.5, 1.5, (len(self.scales), self.inputs))
        largest = np.linalg.eigvalsh(x.T @ x / self.samples)[-1] * max(self.target, start.max())
        step = 0.05 / largest
        single = weight_flow(wired(Exponentiated(), (self.inputs, 1)), f64(x), f64(y), step, integrator="dopri5")
        double = weight_flow(diagonal(self.inputs), f64(x), f64(y), step, plasticity=2.0, integrator="dopri5")
        root, one = f64(np.sqrt(start)), jnp.ones((len(start), 1, self.inputs), jnp.float64)
        ends = _recorded(double, {"U": root, "V": root, "A": one}, jnp.int32(10))
        deep = np.asarray(ends["U"] * ends["V"])
        flat = np.asarray(_recorded(single, {"W1": f64(start)[:, None]}, jnp.int32(10))["W1"])[:, :, 0]
        said = "largest |w - u v| / w*"
        found = [all_close("two one-to-one layers", said, 0.0, np.abs(flat - deep) / self.target, 1e-6)]
        field, _ = flat_flow(single, single.init({"W1": f64(start[:1])}))
        at = start[-1]
        metric, matrix = np.diag(1 / at), np.asarray(jacobian(field, f64(at)))
        force = np.asarray(field(f64(at))) / at  # in the metric the drift of the metric itself counts too
        inside = metric @ (matrix - np.diag(force))
        rest = eigenvalues(jacobian(field, f64(teacher)))
        euclidean = float(curl_index(f64(matrix)))
        note = f"the Euclidean one is {euclidean:.2g}"
        found.append(close("no curl in the metric 1/w", "curl index", 0.0, float(curl_index(f64(inside))), 1e-9, note))
        turning = float(np.abs(np.imag(rest)).max() / np.abs(rest).max())
        found.append(close("nothing turns", "largest |Im| of an eigenvalue at rest", 0.0, turning, 1e-9))
        return found

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, times: np.ndarray, found: np.ndarray, off: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        scale, start = self.rate * self.target, self.target * np.array(self.starts)
        fine = np.linspace(0, times[-1], 300)
        for i in range(len(start)):
            theory = logistic(fine, start[i : i + 1], self.rate, self.target) / self.target
            left.plot(scale * fine, theory, color=look(i)["color"])
            label = f"w$_0$ = {self.starts[i]:g} w*"
            left.plot(scale * times[::2], found[::2, i] / self.target, linestyle="", label=label, **look(i))
            right.plot(1 / np.array(STEPS), off[:, i] / self.target, linestyle="", **look(i))
            right.plot(1 / np.array(STEPS), off[-1, i] * STEPS[-1] / np.array(STEPS) / self.target, color="0.6", lw=0.8)
        left.set(xlabel="time (1 / ($\\lambda$ w*))", ylabel="weight w / w*")
        left.legend(title="lines: logistic", loc="center right")
        right.set(xscale="log", yscale="log", xlabel="step of updates / time", ylabel="error of updates / w*")
        right.set_xticks([1 / n for n in STEPS], [f"1/{n}" for n in STEPS])
        right.minorticks_off()
        right.set_title("lines: order 1")


@eqx.filter_jit
def _recorded(flow: WeightFlow, start: Weights, count: Int[Array, ""]) -> Weights:
    """The maps at `RECORDS` + 1 times, `count` presentations between them: (records, starts, ...)."""

    one = lambda w: records(flow, flow.init(w), RECORDS, count, lambda state: state.weights, start=True)  # noqa: E731
    return jax.vmap(one, out_axes=1)(start)
