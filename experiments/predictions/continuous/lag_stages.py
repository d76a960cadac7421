"""T1.2: filters before the synapse and on the error's way blur the overlap law, in closed form."""

import itertools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Error, Given, Layer, Projection, TwoFactor
from dynamics.stimulus import Stream
from dynamics.theory import lagged_overlap
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, NonNegatives
from experiments.predictions.kit import all_close, coupled, drawn, f64, legend_outside, look
from experiments.report.figures import LINES
from experiments.spec.units import Time

Lag = Annotated[float, Field(strict=True, ge=0.02, le=1)]
Stage = Annotated[int, Field(strict=True, ge=0, le=20)]
STEPS_PER_LAG = 20
WEAK = 1e6  # tau_plast / T: the weight's own effect on the error is its inverse


class LagStages(AbstractPrediction):
    """Learning strength of a synapse whose signals have passed chains of first-order filters."""

    number = "T1.2"
    title = "Filters on the way to a synapse blur the overlap law"
    source = "bacvanski2025continuous, model of first-order neurons; derived: V - U is a gamma race"
    equation = "S(d) / S(0) = E[max(0, 1 - |D| / T)], D = d + V - U, U ~ Gamma(k, tau_prop), V ~ Gamma(m, tau_prop)"
    claim = """Where the presynaptic signal has passed k neurons and the error m, the overlap law holds on average over
        the random delay that the filters stand for, whatever k, m, the explicit delay and tau_prop."""
    method = """One presentation in a long gap, weak plasticity; one circuit has a synapse between every stage of a
        presynaptic chain and every stage of an error chain, so that one run measures every (k, m)."""
    tolerance = """2e-4 of the full strength: ten times the error of Heun steps of tau_prop / 20, which is about (dt /
        tau_prop)^2 / 100 (2e-5); the weight's own effect on the error is T / tau_plast = 1e-6."""
    quick = {"delays": (0.0, 0.6, 1.2), "propagation": (0.1,)}

    duration: Duration = Time(0.05)
    propagation: Annotated[tuple[Lag, ...], Field(min_length=1, max_length=7)] = (0.05, 0.1, 0.2)  # tau_prop / T
    pre_stages: Annotated[tuple[Stage, ...], Field(min_length=1)] = (0, 1, 3, 6)
    error_stages: Annotated[tuple[Annotated[Stage, Field(ge=1)], ...], Field(min_length=1)] = (1, 3, 6, 12)
    delays: NonNegatives = tuple(np.linspace(0, 1.4, 8).tolist())  # in units of T

    def measure(self) -> Finding:
        measured, expected = self._measured(), self._expected(np.array(self.delays))
        off, axes = np.abs(measured - expected), (self.propagation, self.delays, self.pre_stages, self.error_stages)
        worst = np.unravel_index(off.argmax(), off.shape)
        tau, d, k, m = (axis[i] for axis, i in zip(axes, worst, strict=True))
        name, note = "overlap law with stages of lag", f"at tau_prop = {tau:g} T, d = {d:g} T, k = {k}, m = {m}"
        quantity = f"largest deviation of S/S0 from the closed form, of {off.size} combinations of tau_prop, d, k and m"
        verdict = all_close(name, quantity, 0.0, off, 2e-4, note)
        return Finding([verdict], self._drawn(measured))

    def _expected(self, delays: np.ndarray) -> np.ndarray:
        """S/S0 by (tau_prop, delay, pre_stages, error_stages)."""
        tau, d = np.array(self.propagation)[:, None], delays[None]
        pairs = itertools.product(self.pre_stages, self.error_stages)
        each = np.stack([lagged_overlap(d, 1.0, k, m, tau) for k, m in pairs], -1)
        return each.reshape(*each.shape[:-1], len(self.pre_stages), len(self.error_stages))

    def _measured(self) -> np.ndarray:
        """As `_expected`, from the weights after one presentation."""
        duration = self.duration.seconds(1.0)
        k, m = max(self.pre_stages), max(self.error_stages)
        circuit = ladder(k, m)
        slowest = max(self.propagation)
        gap = slowest * (k + 8 * math.sqrt(k + 1) + 12)  # in T: what is left of the presynaptic signal is < 1e-5
        steps = math.ceil((1 + gap) * STEPS_PER_LAG / min(self.propagation))
        latest = math.ceil(max(self.delays) / (1 + gap) * steps) + 3
        stream = Stream(jnp.ones((1, 1), jnp.float64), jnp.ones((1, 1), jnp.float64), jax.random.key(0))
        weights = circuit.initial_weights(jax.random.key(0))

        def learned(tau: jax.Array, delay: jax.Array) -> jax.Array:
            span = WEAK * duration, duration, steps, gap * duration
            run = coupled(circuit, stream, tau, *span, late=delay, history=latest)
            after = run.weights(run.advance(run.init(weights), jnp.int32(0), 1))
            return WEAK * jnp.block([[after["W00"], after["W01"]], [after["W10"], after["W11"]]])

        over = jax.vmap(jax.vmap(learned, (None, 0)), (0, None))
        taus, delays = duration * f64(self.propagation), duration * f64(self.delays)
        every = np.asarray(jax.jit(over)(taus, delays))  # (tau, delay, error stages from 1, pre stages from 0)
        chosen = every[:, :, np.array(self.error_stages) - 1][..., np.array(self.pre_stages)]
        return chosen.swapaxes(-1, -2)

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, measured: np.ndarray) -> None:
        """One panel per tau_prop: curves of the least and the most lagged pairs of chains, and one in between."""
        last = len(self.pre_stages) - 1, len(self.error_stages) - 1
        pairs = sorted({(0, 0), (0, last[1]), (last[0], 0), last, (0, last[1] // 2)})
        fine = np.linspace(0, max(*self.delays, 0.1), 150)
        theory = self._expected(fine)
        count = len(self.propagation)
        figure.set_size_inches(3.4 if count == 1 else 7.0, 2.5)
        panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
        for panel, tau, lines, points in zip(panels, self.propagation, theory, measured, strict=True):
            for n, (i, j) in enumerate(pairs):
                panel.plot(fine, lines[:, i, j], color=look(n)["color"], linestyle=LINES[n], linewidth=1)
                name = f"k = {self.pre_stages[i]}, m = {self.error_stages[j]}"
                panel.plot(self.delays, points[:, i, j], linestyle="", label=name, **look(n))
            panel.set(xlabel="error delay d / T", title=rf"$\tau_{{prop}}$ = {tau:g} T", ylim=(-0.03, 1.03))
        panels[0].set_ylabel("learning strength S / S(0)")
        legend_outside(panels[0], loc="right upper", title="lines: theory\npoints: simulation")


def ladder(pre_stages: int, error_stages: int) -> Circuit:
    """Chains of neurons that relay a stimulus and an error, with a plastic synapse between every two of their stages.

    The matrices W00, W01, W10, W11 together have shape (error_stages, pre_stages + 1): row i sits on the error of
    stage i + 1, column j learns from the stimulus after j stages. A chain is one layer, each neuron of which drives
    the next one.
    """
    relays = {"r": pre_stages, "q": error_stages - 1}
    head, tail = {}, {}
    for name, size in relays.items():
        head[name] = Given(f64(np.eye(max(size, 1), 1)))
        tail[name] = Given(f64(np.eye(max(size, 1), k=-1)))
    layers = (Layer("z0", 1, role="input"), Layer("z1", 1, role="output"))
    layers += tuple(Layer(name, max(size, 1)) for name, size in relays.items())
    chains = (
        Projection("R1", "z0", "activity", "r", "forward", head["r"]),
        Projection("R2", "r", "activity", "r", "forward", tail["r"]),
        Projection("Q1", "z1", "error", "q", "modulatory", head["q"]),
        Projection("Q2", "q", "error", "q", "modulatory", tail["q"]),
    )
    sizes = {layer.name: layer.size for layer in layers}

    def synapse(name: str, source: str, target: str) -> Projection:
        start = Given(jnp.zeros((sizes[target], sizes[source]), jnp.float64))
        return Projection(name, source, "activity", target, "forward", start, TwoFactor(Error()))

    pairs = [(i, j, s, t) for i, t in enumerate(("z1", "q")) for j, s in enumerate(("z0", "r"))]
    return Circuit(layers, (*chains, *(synapse(f"W{i}{j}", s, t) for i, j, s, t in pairs)))
