"""T1.6: the decay of the mismatch between feedback and forward weights."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.instruments import feedback_mismatch
from dynamics.noise import Noise
from dynamics.simulate import simulate
from dynamics.stimulus import Stream
from experiments.predictions.contract import (
    AbstractPrediction,
    Duration,
    Finding,
    NonNegative,
    Positive,
    Seeds,
    Size,
    Sizes,
)
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, coupled, f64, wired
from experiments.report.figures import OKABE_ITO
from experiments.spec.units import Time
from rules import KP

RECORDS = 8
STEPS = 50  # per presentation
CASES = ("plain run", "late error and noise")


class KolenPollackRate(AbstractPrediction):
    number = "T1.6"
    title = "Kolen-Pollack feedback aligns at exactly 1 / tau_dec"
    source = "bacvanski2025continuous, the Kolen-Pollack limit; derived: W and the transpose of V have the same drive"
    equation = "|V - W^T|(t) = |V - W^T|(0) exp(-t / tau_dec)"
    claim = """The mismatch of every feedback matrix decays at the rate 1 / tau_dec and no other, independently of
        tau_plast, of late errors and of noise in the activity: both synapses see the same."""
    method = """The norm of V - W^T at eight times in coupled runs over tau_plast and seeds, plain and with a late error
        and noise; the rate is that between start and end."""
    tolerance = """Not random: twice the error of Heun steps, which decay at a rate lower by (dt / tau_dec)^2 / 6 of it,
        and 1e-9 for rounding."""
    quick = {"seeds": 3, "hidden": (8,), "plasticity": (3.0, 100.0), "lifetimes": 2.0}

    hidden: Sizes = (8, 6)
    inputs: Size = 4
    outputs: Size = 3
    duration: Duration = Time(0.05)
    propagation: Annotated[float, Field(strict=True, ge=0.05, le=1)] = 0.1  # in units of T, as all times that follow
    plasticity: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=7)] = (3.0, 10.0, 30.0, 100.0, 1000.0)
    decay: Annotated[float, Field(strict=True, ge=1)] = 50.0
    delay: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.3
    noise: NonNegative = 0.2
    feedback_scale: Positive = 2.0
    lifetimes: Annotated[float, Field(strict=True, ge=0.5, le=10)] = 3.0  # how many tau_dec a run lasts
    seeds: Seeds = 10

    def measure(self) -> Finding:
        times, ratios = self._mismatch()
        solver = (1 / STEPS / self.decay) ** 2 / 6
        rates = -np.log(ratios[..., -1, :]) / times[-1]
        verdicts = []
        for case, rate in zip(CASES, rates, strict=True):
            quantity = "rate x tau_dec farthest from 1, of all tau_plast, seeds and matrices"
            verdicts.append(all_close(f"rate of alignment, {case}", quantity, 1.0, rate, 2 * solver + 1e-9))
        fastest = min(self.plasticity)
        driven = (
            f"The fastest plasticity, tau_plast = {fastest:g} T, is {self.decay / fastest:.3g} times faster than the "
            "decay: the weights themselves change much faster than the mismatch."
        )
        return Finding(verdicts, self._drawn(times, ratios, rates, solver), [driven])

    def _mismatch(self) -> tuple[np.ndarray, np.ndarray]:
        """Times in tau_dec, and |V - W^T| against that at the start: (case, tau_plast, seed, time, matrix)."""
        circuit = wired(KP(f64(self.feedback_scale)), (self.inputs, *self.hidden, self.outputs), bias=True)
        duration, shown = self.duration.seconds(1.0), max(RECORDS, round(self.lifetimes * self.decay))

        def one(seed: jax.Array, plasticity: jax.Array, disturbed: jax.Array) -> jax.Array:
            for_x, for_y, for_w, order, for_noise = jax.random.split(jax.random.key(seed), 5)
            x = jax.random.normal(for_x, (20, self.inputs), jnp.float64)
            y = jax.random.normal(for_y, (20, self.outputs), jnp.float64)
            run = coupled(
                circuit, Stream(x, y, order), self.propagation * duration, plasticity, duration, STEPS,
                decay=self.decay * duration, late=disturbed * self.delay * duration,
                noise=Noise(activity=disturbed * self.noise), key=for_noise, history=int(self.delay * STEPS) + 3,
            )  # fmt: skip
            start = circuit.initial_weights(for_w)
            recorded = simulate(run, shown, lambda w, _: feedback_mismatch(circuit, w), RECORDS, start)
            return jnp.stack(list(recorded.probes.values()), -1)

        seeds = jnp.arange(self.seed, self.seed + self.seeds)
        over = jax.vmap(jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, None)), (None, None, 0))
        norms = np.asarray(jax.jit(over)(seeds, duration * f64(self.plasticity), f64((0.0, 1.0))))
        times = np.array([round(i * shown / RECORDS) for i in range(RECORDS + 1)]) / self.decay
        return times, norms / norms[..., :1, :]

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, times: np.ndarray, ratios: np.ndarray, rates: np.ndarray, solver: float) -> None:
        left, right = figure.subplots(1, 2)
        fine = np.linspace(0, times[-1], 50)
        left.semilogy(fine, np.exp(-fine), color="0.3", label=r"theory: $e^{-t/\tau_{dec}}$")
        means = ratios.mean((2, 4))
        for i, tau in enumerate(self.plasticity):
            rings = look(i, linestyle="none", fillstyle="none", markersize=9 - i)
            left.plot(times, means[0, i], label=rf"$\tau_{{plast}}$ = {tau:g} T", **rings)
        left.plot(times, means[1].mean(0), "k.", markersize=2, label="late error, noise")
        left.set(xlabel=r"time (decay times $\tau_{dec}$)", ylabel="mismatch (relative to start)")
        left.legend()
        right.axhline(0, color="0.3", label="theory")
        right.axhline(-solver * 1e8, color="0.3", linestyle=":", label="theory, Heun steps")
        for case, rate, marker, size in zip(CASES, rates, "os", (3, 7), strict=True):
            off = (rate - 1).reshape(len(self.plasticity), -1) * 1e8
            right.errorbar(
                self.plasticity, off.mean(1), np.abs(off - off.mean(1, keepdims=True)).max(1), fmt=marker,
                markersize=size, fillstyle="none", color=OKABE_ITO[marker == "s"], capsize=2, label=case,
            )  # fmt: skip
        right.set(xscale="log", xlabel=r"plasticity timescale $\tau_{plast}$ / T")
        right.set(ylabel=r"(rate $\times\ \tau_{dec}$ - 1) $\times\ 10^8$", ylim=(-1.5e8 * solver, 2e8 * solver))
        right.legend()
