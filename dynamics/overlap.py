"""Temporal overlap: how much of two signals coincides, measured on the waveforms that a plastic synapse sees."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import Weights
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.errors import PlasticodeError
from dynamics.integrators.fixed_step import FixedStep, Point
from dynamics.moment import Factors
from dynamics.noise import Noise
from dynamics.norms import norm, scaled
from dynamics.system import Look


def overlap(post: Float[Array, "time targets"], pre: Float[Array, "time sources"]) -> Float[Array, ""]:
    """S = |int m p^T dt| / sqrt(int |m|^2 dt  int |p|^2 dt) of two waveforms at equal steps (Frobenius norm).

    Between 0 and 1, which needs coinciding waveforms: two equal boxes, one d late, have max(0, 1 - |d|/T)
    (`theory.overlap_law`). 0 where a signal is silent. Dimensionless; the step cancels.
    """
    post, pre = scaled(post), scaled(pre)
    size = norm(post) * norm(pre)
    return norm(post.T @ pre) / jnp.where(size > 0, size, 1)


def temporal_overlap(run: Coupled, progress: CoupledProgress, k: Int[Array, ""]) -> dict[str, Float[Array, ""]]:
    """The overlap of m and p of every plastic projection during presentation k of a coupled run."""
    factors = waveforms(run, progress, k)[1]
    return {name: overlap(f.post, f.pre) for name, f in factors.products.items()}


def overlap_of_one(run: Coupled, weights: Weights) -> dict[str, Float[Array, ""]]:
    """As `temporal_overlap`, of a single presentation to a silent network with these `weights`, without noise, and with
    nothing after it until all that is late has come: S/S(0) = max(0, 1 - d/T) of an error that is d late, where signals
    follow at once (`theory.overlap_law`; bibtex: bacvanski2025continuous, doi:10.48550/arXiv.2510.18808). By term of a
    law; not of biases, whose presynaptic factor never ends. Dimensionless."""
    levels = 2 * max(layer.level for layer in run.circuit.layers)  # a signal is late by a lag on each, up and back
    more = 1 + levels * -(-run.history // run.clock.steps)
    gap = run.clock.gap + more * run.clock.period
    clock = dataclasses.replace(run.clock, gap=gap, steps=(1 + more) * run.clock.steps)
    alone = dataclasses.replace(run, noise=Noise(), key=None, clock=clock, batch=1)
    found = temporal_overlap(alone, alone.init(weights), jnp.int32(0))
    constant = {layer.name for layer in run.circuit.layers if layer.role == "constant"}
    return {
        term.name: found[term.name]
        for term in run.circuit.terms
        if term.name in found and term.of.source not in constant
    }


def waveforms(run: Coupled, progress: CoupledProgress, k: Int[Array, ""]) -> tuple[CoupledProgress, Factors]:
    """Shows presentation k; gives the progress after it, and m, p and r of every law at the start of each of its steps.

    The factors have a leading dimension of `clock.steps`. Raises PlasticodeError for a run with adaptive steps.
    """
    integrator, system, inputs_at = run.integrator, run.system(progress.fixed), run.inputs_at(k)
    if not isinstance(integrator, FixedStep):
        raise PlasticodeError("waveforms are recorded at fixed steps: integrator.name must be euler or heun, say")

    def step(at: Point, j: Int[Array, ""]) -> tuple:
        start, absolute = j.astype(run.clock.dt.dtype), k * run.clock.steps + j
        after = integrator.run(system, at, lambda i: inputs_at(start + i), absolute, 1, run.key)

        def past(name: Any, current: Array, lag: Array, stepwise: bool = False, side: Array | None = None) -> Array:
            assert after.history is not None  # where there are lags there is one, which has this step's signals now
            return after.history.at(name, absolute, jnp.zeros_like(start), lag / run.clock.dt, current, side)

        return after, system.factors(at.y, inputs_at(start), Look(jnp.zeros_like(start), past))

    steps = jnp.arange(run.clock.steps, dtype=jnp.int32)
    start = Point(progress.state, progress.memory.low, progress.memory.history)
    return run.advance(progress, k, 1), jax.lax.scan(step, start, steps)[1]
