"""A2.4: a nudge that oscillates needs no phases; what its size and its frequency cost."""

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
from experiments.predictions.energy.setting import angles, distances, drawn_from, flat, halved, network, slopes, ticked
from experiments.predictions.kit import all_close, coupled, drawn, f64, keys_from, look, order
from rules.equilibrium_propagation import EquilibriumPropagation, OscillatingEP

Nudges = Annotated[tuple[Annotated[float, Field(strict=True, gt=0, le=0.5)], ...], Field(min_length=1)]
SLOW = 1e9  # tau_plast in units of tau_prop: weights hardly move
HARMONICS = 40


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

        over = jax.vmap(jax.vmap(one, (None, 0)), (0, None))
        return np.asarray(jax.jit(over)(f64(self.amplitudes), f64(self.frequencies)))

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
            lag.plot(fine, theory[i], color=look(i)["color"], lw=0.8)
            lag.plot(omegas, found[i], linestyle="", label=f"b = {b:g}", **look(i))
        lag.set(xscale="log", xlabel=r"$\omega\,\tau_{prop}$", ylabel="W' / gradient, one synapse", ylim=(0, None))
        lag.legend(title="lines: theory")
        middle, b = np.median(errors, 0), np.array(self.nudges)
        size.loglog(b, middle[-1] * (b / b[-1]) ** 2, color="0.3", lw=0.8, label="slope 2")
        size.loglog(b, middle, linestyle="", label="tanh networks", **look(0))
        size.set(xlabel="amplitude b of the nudge", ylabel="relative error of the update")
        ticked(size, self.nudges)
        size.legend()
