"""3.9: neurons whose time constant depends on their input, under inputs that are held and jump."""

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
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Size
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, coupled, f64
from experiments.predictions.limits.delayed import records
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close

SAMPLES, INPUTS = 6, 3
TIGHT: Any = 1e-11, 1e-13
INTEGRATORS: dict[str, tuple[Any, int]] = {  # and steps per presentation
    "window": (Window(nodes=14, parts=1, gaps=False, tolerance=1e-11), 14),
    "dopri5": (FixedStep("dopri5"), 32),
    "adaptive": (Adaptive(rtol=TIGHT[0], atol=TIGHT[1], name="dopri5"), 1),
}
Leak = Annotated[float, Field(strict=True, ge=0.01, le=5)]


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
