"""3.7, 3.9: the engine where the numbers are known: Lyapunov exponents, and liquid time constants."""

from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import AbstractFactor, Circuit, Gaussian, Layer, Local, Projection, Variable
from dynamics.integrators import FixedStep, Window
from dynamics.integrators.adaptive import Adaptive
from dynamics.jacobian import flat_flow
from dynamics.lyapunov import flow_map, lyapunov_exponents
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Positive, Seeds, Size
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import all_close, coupled, f64, keys_from, records, weight_flow, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close, matches
from rules.curl import Curl

LORENZ_DT, LINEAR_DT = 0.01, 0.05  # s
SETTLED = 20.0  # s, before anything is averaged
SEEN = 1500  # updates of the map that are thrown away
SAMPLES, INPUTS = 6, 3
TIGHT: Any = 1e-11, 1e-13
INTEGRATORS: dict[str, tuple[Any, int]] = {  # and steps per presentation
    "window": (Window(nodes=14, parts=1, gaps=False, tolerance=1e-11), 14),
    "dopri5": (FixedStep("dopri5"), 32),
    "adaptive": (Adaptive(rtol=TIGHT[0], atol=TIGHT[1], name="dopri5"), 1),
}
Leak = Annotated[float, Field(strict=True, ge=0.01, le=5)]


class LyapunovKnown(AbstractPrediction):
    """Benettin's method on a curl-descent student, whose exponents are real parts of eigenvalues, and on classics."""

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


class Liquid(AbstractFactor):
    """x - (w + f(I)) x + A f(I), or x + (w + f(I)) (A - x) where `to_end`: what tau x' = -x + this makes of x, with tau
    = 1 s."""

    leak: Array
    end: Float[Array, " size"]
    to_end: bool = eqx.field(static=True)

    def __call__(self, local: Local) -> Float[Array, " size"]:
        x, gate = local.activity, local.f(local.preactivation)
        if self.to_end:
            return x + (self.leak + gate) * (self.end - x)
        return x - (self.leak + gate) * x + gate * self.end


class LTCSolver(AbstractPrediction):
    """Neurons whose time constant depends on their input, under inputs that are held and jump."""

    number = "3.9"
    title = "Liquid time constants: exact for held inputs, and not within the published bound"
    source = "hasani2022closed, eq. 1 and its approximation; exact between jumps"
    equation = """x' = -(w + f(I)) x + A f(I): x -> x_inf + (x - x_inf) exp(-(w + f) t), x_inf = A f / (w + f);
        published: x ~ (x0 - A) exp(-(w + f(I(t))) t) f(-I(t)) + A within |x0 - A| exp(-w t)"""
    claim = """Between jumps of the input the equation is solved by an exponential, which every integrator must give.
        The published approximation is said to be within |x0 - A| exp(-w t). For the equation as it is quoted that
        fails: it relaxes to x_inf, not to A, and so is farther from A than the bound as soon as that is small. It
        holds for x' = (w + f(I)) (A - x)."""
    method = """Neurons with a variable of their own in the coupled regime, without learning; samples in random order,
        held for a duration each, without gaps. Solutions, and the bound, at the end of every presentation."""
    tolerance = """Solutions: 1e-8, that of the solvers' own tolerances or steps. The bound must hold at all times and
        neurons: that claim is expected to fail, at exactly the share of times that the exact solution gives."""
    quick = {"integrators": ("window", "dopri5"), "leaks": (0.8,)}

    leaks: Annotated[tuple[Leak, ...], Field(min_length=1, max_length=6)] = (0.2, 0.8)  # w (1/s)
    duration: Positive = 0.5  # s
    presentations: Annotated[int, Field(strict=True, ge=2, le=60)] = 16
    neurons: Size = 24
    integrators: Annotated[tuple[Literal["window", "dopri5", "adaptive"], ...], Field(min_length=1)] = (
        "window", "dopri5", "adaptive"
    )  # fmt: skip

    def measure(self) -> Finding:
        gates = self._gates()
        exact = {to_end: np.stack([self.exact(gates, w, to_end) for w in self.leaks]) for to_end in (False, True)}
        quantity, verdicts = "largest deviation of x from the closed form, over |A|", []
        every = {name: self._measured(name, to_end=False) for name in self.integrators}
        for name, found in every.items():
            verdicts.append(all_close(f"exact, {name}", quantity, 0.0, found - exact[False], 1e-8))
        found = every[self.integrators[0]]
        variant = self._measured(self.integrators[0], to_end=True)
        off, of_exact, of_variant = (self._beyond(x, gates) for x in (found, exact[False], variant))
        share, expected, other = ((each > 0).mean() for each in (off, of_exact, of_variant))
        each = ", ".join(f"{(one > 0).mean():.0%} at w = {w:g} / s" for one, w in zip(off, self.leaks, strict=True))
        note = f"{each}; the equation relaxes to A f / (w + f), which is not A, while the bound goes to 0"
        what = "share of times and neurons beyond the bound"
        verdicts += [
            close("published bound, as quoted", what, 0.0, share, 0.0, note),
            close("published bound, how often it fails", f"{what}, against the exact", expected, share, 1e-3),
            close("published bound, for (w + f) (A - x)", what, 0.0, other, 0.0),
        ]
        return Finding(verdicts, self._drawn(found, exact, gates))

    @property
    def _ends(self) -> np.ndarray:
        """A of every neuron: between 0.5 and 1.5, of both signs."""
        rng = np.random.default_rng([self.seed, 1])
        return rng.choice([-1.0, 1.0], self.neurons) * rng.uniform(0.5, 1.5, self.neurons)

    def _circuit(self, leak: Array, to_end: bool) -> Circuit:
        own = Variable("activity", Liquid(leak, f64(self._ends), to_end))
        layers = Layer("z0", INPUTS, role="input", level=0), Layer("x", self.neurons, "sigmoid", variables=(own,))
        return Circuit(layers, (Projection("M", "z0", "activity", "x", "forward", Gaussian(f64(2.0))),))

    def _stream(self) -> Stream:
        inputs = np.random.default_rng([self.seed, 2]).standard_normal((SAMPLES, INPUTS))
        return Stream(f64(inputs), None, jax.random.key(self.seed))

    def _gates(self) -> np.ndarray:
        """f(I) in every presentation: (presentations, neurons)."""
        stream, matrix = self._stream(), self._circuit(f64(1.0), False).initial_weights(jax.random.key(self.seed))["M"]
        shown = np.asarray(jax.vmap(stream.index)(jnp.arange(self.presentations, dtype=jnp.int32)))
        return 1 / (1 + np.exp(-np.asarray(stream.inputs)[shown] @ np.asarray(matrix).T))

    def exact(self, gates: np.ndarray, leak: float, to_end: bool = False) -> np.ndarray:
        """x at the end of every presentation, from 0: (presentations, neurons)."""
        x, found = np.zeros(gates.shape[1]), []
        for f in gates:
            rest = self._ends if to_end else self._ends * f / (leak + f)
            x = rest + (x - rest) * np.exp(-(leak + f) * self.duration)
            found.append(x)
        return np.array(found)

    def _beyond(self, x: np.ndarray, gates: np.ndarray) -> np.ndarray:
        """How far x (leaks, presentations, neurons) is from the published approximation, less the bound."""
        t = self.duration * np.arange(1, len(gates) + 1)[:, None]
        leak, end = np.array(self.leaks)[:, None, None], self._ends
        approximate = -end * np.exp(-(leak + gates) * t) * (1 - gates) + end  # f(-I) = 1 - f(I), x0 = 0
        return np.abs(x - approximate) - np.abs(end) * np.exp(-leak * t)

    def _measured(self, name: str, to_end: bool) -> np.ndarray:
        """x at the end of every presentation: (leaks, presentations, neurons)."""
        (integrator, steps), stream = INTEGRATORS[name], self._stream()

        def one(leak: Array) -> Array:
            circuit = self._circuit(leak, to_end)
            run = coupled(circuit, stream, 1.0, 1.0, self.duration, steps, integrator=integrator)
            start = run.init(circuit.initial_weights(jax.random.key(self.seed)))
            return records(run, start, self.presentations, 1, lambda progress: progress.state.activity["x"])

        return np.asarray(jax.jit(jax.vmap(one))(f64(self.leaks)))

    @drawn(7.0, 2.4)
    def _drawn(self, figure: Figure, found: np.ndarray, exact: dict[bool, np.ndarray], gates: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        t, end = self.duration * np.arange(1, self.presentations + 1), self._ends
        for i in range(min(3, self.neurons)):
            left.plot(t, exact[False][-1][:, i] / end[i], color=OKABE_ITO[i], linewidth=1)
            left.plot(t, found[-1][:, i] / end[i], linestyle="", label=f"neuron {i + 1}", **look(i))
        left.axhline(1, color="0.5", linestyle=":", label="A")
        left.set(xlabel="time (s)", ylabel="x / A", ylim=(0, 1.05), title=f"w = {self.leaks[-1]:g} / s; lines: exact")
        left.legend()
        leak = self.leaks[-1]
        approximate = -end * np.exp(-(leak + gates) * t[:, None]) * (1 - gates) + end
        names = "equation as quoted", "(w + f) (A - x)"
        for i, (name, x) in enumerate(zip(names, (exact[False][-1], exact[True][-1]), strict=True)):
            right.plot(t, (np.abs(x - approximate) / np.abs(end)).max(1), label=name, **look(i))
        right.plot(t, np.exp(-leak * t), color="0.3", linestyle="--", label="published bound")
        right.set(xlabel="time (s)", ylabel="largest error of the approximation / |A|", yscale="log")
        right.legend()
