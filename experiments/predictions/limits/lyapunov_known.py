"""3.7: Benettin's method on a curl-descent student, whose exponents are real parts of eigenvalues, and on classics."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.jacobian import flat_flow
from dynamics.lyapunov import flow_map, lyapunov_exponents
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Positive, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import all_close, f64, keys_from, weight_flow, wired
from experiments.results.verdicts import matches
from rules.curl import Curl

LORENZ_DT, LINEAR_DT = 0.01, 0.05  # s
SETTLED = 20.0  # s, before anything is averaged
SEEN = 1500  # updates of the map that are thrown away


class LyapunovKnown(AbstractPrediction):
    number = "3.7"
    title = "Lyapunov exponents are found where they are known"
    source = """benettin1980lyapunov, for the method; linear flows: real parts of eigenvalues; Lorenz: sum -(sigma + 1
        + beta), one exponent 0; x' = 4 x (1 - x): ln 2"""
    equation = """W' = (S - W C) D: exponents Re eig(-C D), each once per output; Lorenz: l1 > 0, l2 = 0, l1 + l2 + l3
        = -(sigma + 1 + beta); logistic map: ln 2"""
    claim = """The exponents of a linear student, also with flipped inputs that make its field rotate, are the real
        parts of the eigenvalues of its error matrix. The Lorenz flow has a positive exponent, one that is zero, and a
        sum that is its constant divergence; the logistic map at 4 has ln 2."""
    method = """The engine's weight flow of a student with some inputs flipped, as a flat field, and the two textbook
        systems, by QR of a frame at each step, Runge-Kutta steps of the fourth order for flows. One sample per
        seed."""
    tolerance = """Linear: 1 / t, what turns of the frame leave of an average over t. Sum: 1e-4 of it, as the volume
        of one step is that of the divergence up to dt^4. Zero and ln 2: 99.9 % intervals over seeds, and 1 / t beside
        0."""
    quick = {"time": 60.0, "seeds": 6, "updates": 2000}

    inputs: Size = 4
    outputs: Size = 2
    flips: Fraction = 0.5
    sigma: Positive = 10.0
    rho: Annotated[float, Field(strict=True, ge=25, le=40)] = 28.0
    beta: Positive = 8 / 3
    time: Annotated[float, Field(strict=True, ge=20, le=5000)] = 400.0  # s, of the average
    updates: Annotated[int, Field(strict=True, ge=500, le=1_000_000)] = 20_000
    seeds: Seeds = 10

    def measure(self) -> Finding:
        keys = keys_from(self.seed, self.seeds)
        linear, expected = self._linear(keys)
        lorenz = np.asarray(self._lorenz(keys))
        logistic = np.asarray(self._logistic(keys))
        total, named = -(self.sigma + 1 + self.beta), "sum of the Lorenz exponents over -(sigma + 1 + beta)"
        off = "largest deviation from Re eig(-C D) (1/s), of all seeds"
        verdicts = [
            all_close("linear learning", off, 0.0, linear - expected, 1 / self.time),
            all_close("volumes", named, 1.0, lorenz.sum(1) / total, 1e-4),
            matches("along the orbit", "second Lorenz exponent (1/s)", 0.0, lorenz[:, 1], 1 / self.time, scale=0.1),
            matches("chaos of a map", "exponent of the logistic map", float(np.log(2)), logistic),
        ]
        if (self.sigma, self.rho, self.beta) == (10.0, 28.0, 8 / 3):
            name = "largest Lorenz exponent (1/s), known to four digits"
            verdicts.append(matches("chaos of a flow", name, 0.9056, lorenz[:, 0]))
        return Finding(verdicts, self._drawn(linear, expected, lorenz))

    def _linear(self, keys: Array) -> tuple[np.ndarray, np.ndarray]:
        """Exponents of the student and what is expected, both sorted: (seeds, inputs * outputs)."""
        circuit = wired(Curl(flips=f64(self.flips)), (self.inputs, self.outputs))
        count = self.inputs * self.outputs

        def one(key: Array) -> tuple[Array, Array]:
            for_x, for_y, for_frame = jax.random.split(key, 3)
            x = jax.random.normal(for_x, (3 * self.inputs, self.inputs), jnp.float64)
            y = jax.random.normal(for_y, (len(x), self.outputs), jnp.float64)
            flow = weight_flow(circuit, x, y, 1.0)
            field, point = flat_flow(flow, flow.init(circuit.initial_weights(key)))
            # The field is affine. Its linear part has the same exponents, and at 0 it never overflows.
            step = flow_map(lambda v: jax.jvp(field, (point,), (v,))[1], f64(LINEAR_DT))
            steps, first = round(self.time / LINEAR_DT), round(SETTLED / LINEAR_DT)
            dt = f64(LINEAR_DT)
            return lyapunov_exponents(step, 0 * point, dt, steps, count, for_frame, first), x.T @ x / len(x)

        found, moments = jax.jit(jax.vmap(one))(keys)
        flipped = int(np.floor(self.flips * self.inputs + 0.5))
        sign = np.where(np.arange(self.inputs) < flipped, -1.0, 1.0)
        values = -np.linalg.eigvals(np.asarray(moments) * sign).real
        expected = np.sort(np.repeat(values, self.outputs, axis=1), axis=1)[:, ::-1]
        return np.sort(np.asarray(found), axis=1)[:, ::-1], expected

    def _lorenz(self, keys: Array) -> Float[Array, "seeds 3"]:
        def field(v: Float[Array, "3"]) -> Float[Array, "3"]:
            x, y, z = v
            return jnp.stack([self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z])

        def one(key: Array) -> Array:
            start, dt = jax.random.normal(key, (3,), jnp.float64), f64(LORENZ_DT)
            steps, first = round(self.time / LORENZ_DT), round(SETTLED / LORENZ_DT)
            return lyapunov_exponents(flow_map(field, dt), start, dt, steps, 3, key, first)

        return jax.jit(jax.vmap(one))(keys)

    def _logistic(self, keys: Array) -> Float[Array, " seeds"]:
        def one(key: Array) -> Array:
            start = jax.random.uniform(key, (1,), jnp.float64, 0.05, 0.95)
            step = lambda x: 4 * x * (1 - x)  # noqa: E731  the map itself
            return lyapunov_exponents(step, start, f64(1.0), self.updates, 1, key, SEEN)[0]

        return jax.jit(jax.vmap(one))(keys)

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, linear: np.ndarray, expected: np.ndarray, lorenz: np.ndarray) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        ends = np.array([expected.min(), expected.max()])
        left.plot(ends, ends, color="0.3", label="theory")
        left.plot(expected.ravel(), linear.ravel(), "o", color=look(0)["color"], label="all seeds", alpha=0.6)
        left.set(xlabel="real part of an eigenvalue of $-CD$ (1/s)", ylabel="exponent (1/s)", title="linear student")
        left.legend()
        total = -(self.sigma + 1 + self.beta)
        for i, known in enumerate((0.9056, 0.0, total - 0.9056)):
            right.plot([i - 0.3, i + 0.3], [known, known], color="0.3", label="known" if i == 0 else None)
        marked(right, range(3), lorenz.T, **look(1), label="measured")
        right.set(xlabel="number of the exponent", ylabel="exponent (1/s)", title="Lorenz", xticks=range(3))
        right.set_xticklabels(["1", "2", "3"])
        right.legend()
