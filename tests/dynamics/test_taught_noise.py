"""Synaptic noise on a weight that is taught: its stationary variance, and what windows say of how far it is off."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.integrators import Window
from dynamics.network import Network
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from rules import SGD
from tests.dynamics.windows import shown
from tests.problems import clock, f64, timescales

UNITS, NOISE, LENGTH = 20_000, 0.5, 0.05


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.01])
def test_the_variance_is_that_of_second_order_splitting_and_the_estimate_knows(rate):
    """W' = -lambda W + noise in windows of length H, `rate` = lambda H: half a kick before each and half after it give
    s^2 / (2 lambda) times lambda H coth(lambda H), which is 1 + (lambda H)^2 / 3 to second order."""
    slow, network = LENGTH / rate, Network((1, UNITS), "linear", bias=False, gain=f64(0.0))
    data = Stream(jnp.ones((1, 1)), jnp.zeros((1, UNITS)), jax.random.key(0))
    run = Coupled(
        SGD().wire(network),
        timescales(1e-5 * LENGTH, slow),
        data,
        clock(LENGTH),
        noise=Noise(synaptic=f64(NOISE)),
        integrator=Window(nodes=8, parts=1, gaps=False),
        key=jax.random.key(1),
    )
    count = int(2 / rate)  # from 0: what is missing of the stationary variance is exp(-4)
    progress = shown(run, run.circuit.initial_weights(jax.random.key(2)), count)
    w, off = np.ravel(progress.state.weights["W1"]), rate / np.tanh(rate) - 1
    expected = NOISE**2 * slow / 2 * (1 + off) * -np.expm1(-2 * rate * count)
    assert abs(np.var(w) / expected - 1) < 4 * np.sqrt(2 / UNITS)
    quality = run.quality(progress)
    assert bool(quality.converged) == (off < 1e-3) and off / 2 < float(quality.error)
