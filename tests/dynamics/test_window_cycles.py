"""Circuits with cycles by windows: what is wrong in the state lives on, and the estimate must know."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dynamics.circuit import Activity, Circuit, Gaussian, Given, Layer, Projection, TwoFactor
from dynamics.coupled import Coupled
from dynamics.integrators import Window
from dynamics.integrators.window_choice import refined
from dynamics.stimulus import Clock, Stream
from tests.problems import f64, timescales

TAU, PLASTICITY = 0.02, 5.0
RING = np.array([[0.0, -0.9, 0.3], [0.9, 0.0, -0.4], [-0.2, 0.5, 0.1]])  # recurrent weights: damped
TURN = np.array([[1.0, -2.0], [2.0, 1.0]])  # z' = (-z + TURN z) / tau turns forever
STATIC = np.random.default_rng(0).normal(size=(4, 3))


def circuit(recurrent: np.ndarray) -> Circuit:
    """A linear layer with fixed recurrent weights and fixed inputs, and a plastic Hebbian readout of one unit."""
    n = recurrent.shape[0]
    layers = (Layer("z0", n, role="input", level=0), Layer("z1", n, level=1), Layer("z2", 1, level=2))
    hebbian = TwoFactor(Activity())
    return Circuit(
        layers,
        (
            Projection("W1", "z0", "activity", "z1", "forward", Given(jnp.eye(n, dtype=jnp.float64)), level=1),
            Projection("R1", "z1", "activity", "z1", "forward", Given(f64(recurrent)), level=1),
            Projection("W2", "z1", "activity", "z2", "forward", Gaussian(f64(1.0)), hebbian, level=2),
        ),
    )


def run_of(recurrent: np.ndarray, inputs: np.ndarray, duration: float, window: Window) -> Coupled:
    data = Stream(f64(inputs), None, jax.random.key(3))
    times = timescales(propagation=TAU, plasticity=PLASTICITY)
    return Coupled(circuit(recurrent), times, data, Clock(f64(duration), f64(0.0), 1), integrator=window)


def exact(run: Coupled, recurrent: np.ndarray, start: np.ndarray, duration: float, presentations: int):
    """The readout after some presentations, and the distance it has moved, by an independent Runge-Kutta solver."""
    n = recurrent.shape[0]
    y, distance = np.concatenate([np.zeros(n + 1), start.ravel()]), 0.0
    for k in range(presentations):
        x = np.asarray(run.stream.inputs[run.stream.index(jnp.int32(k))])

        def field(t, y, x=x):
            z, out, w = y[:n], y[n], y[n + 1 :]
            return np.concatenate([(-z + recurrent @ z + x) / TAU, [(-out + w @ z) / TAU], out * z / PLASTICITY])

        before, y = y, solve_ivp(field, (0, duration), y, method="DOP853", rtol=1e-11, atol=1e-13).y[:, -1]
        distance += np.linalg.norm((y - before)[n + 1 :])
    return y[n + 1 :], distance


def judged(recurrent: np.ndarray, inputs: np.ndarray, duration: float, window: Window, presentations: int):
    """The true error relative to the distance that the weights have moved, and what the run says of it."""
    run = run_of(recurrent, inputs, duration, window)
    weights = run.circuit.initial_weights(jax.random.key(1))
    progress = jax.jit(lambda w: run.advance(run.init(w), jnp.int32(0), jnp.int32(presentations)))(weights)
    end, distance = exact(run, recurrent, np.asarray(weights["W2"]), duration, presentations)
    error = np.linalg.norm(np.ravel(run.weights(progress)["W2"]) - end) / distance
    return error, run.quality(progress)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_a_recurrent_layer_is_right_or_marked(tolerance):
    """T = 25 tau_prop in four windows: sweeps that stop as in feedforward circuits leave five times the tolerance."""
    window = Window(tolerance=tolerance, nodes=14, parts=4, gaps=False)
    error, told = judged(RING, STATIC[:, :3], 25 * TAU, window, 6)
    assert error < 2 * tolerance or not told.converged
    assert error < 2 * told.error + 1e-9
    finer = refined(window)
    assert finer is not None
    error, told = judged(RING, STATIC[:, :3], 25 * TAU, finer, 6)
    assert told.converged and error < 2 * tolerance


@pytest.mark.parametrize("parts", [1, 4])
def test_an_oscillator_that_nothing_damps_is_right_or_marked(parts):
    """One period per presentation, and what a window gets wrong in the state stays in all later ones."""
    period = np.pi * TAU  # 2 pi tau / 2
    window = Window(tolerance=1e-3, nodes=12, parts=parts, gaps=False)
    error, told = judged(TURN, STATIC[:, :2], period, window, 24)
    assert error < 2e-3 or not told.converged
    assert error < 2 * told.error + 1e-9
    finer = refined(window)
    assert finer is not None
    error, told = judged(TURN, STATIC[:, :2], period, finer, 24)
    assert told.converged and error < 2e-3 and error < 2 * told.error + 1e-9
