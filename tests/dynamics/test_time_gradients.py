"""Derivatives with respect to times, against computations that share nothing with the engine."""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.network import Network
from dynamics.stimulus import Clock, Stream
from rules import KP, SGD
from tests.dynamics.exact import order_of
from tests.dynamics.method_of_steps import learned
from tests.dynamics.systems import two_layers
from tests.problems import clock, f64, random_weights, stream, timescales
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

NUMBERS = {"duration": 0.05, "propagation": 0.01, "plasticity": 0.3, "lag": 0.05}
NEAR, FAR = 2e-6, 1e-3  # gaps in seconds


def test_the_gap_that_begins_at_hops_of_a_presentation_has_the_slope_of_the_method_of_steps():
    """It changes much within a millisecond, a tenth of tau_prop: a difference quotient of such a gap is far off."""
    problem = two_layers(bias=False)
    circuit = KP(f64(1.0)).wire(problem.network)
    start, data = random_weights(circuit), stream(problem)
    shown = order_of(data, 4)

    def score(weights):
        return sum((weights[name] ** 3).sum() for name in ("W1", "W2", "V2"))

    def exact(gap):
        inputs, targets = (np.asarray(rows)[shown] for rows in (problem.inputs, problem.targets))
        return score(learned(start, inputs, targets, NUMBERS | {"gap": gap}))

    def by_windows(gap):
        times = timescales(NUMBERS["propagation"], NUMBERS["plasticity"])
        lags, windows = Delays(hop=f64(NUMBERS["lag"])), Window(nodes=16, sweeps=8)
        run = Coupled(circuit, times, data, clock(NUMBERS["duration"], gap), lags, integrator=windows, history=3)
        return score(run.weights(run.advance(run.init(start), jnp.int32(0), 4)))

    at = np.array([exact(gap) for gap in (0.0, NEAR, 2 * NEAR, FAR)])
    slope, quotient = (-3 * at[0] + 4 * at[1] - at[2]) / (2 * NEAR), (at[3] - at[0]) / FAR
    value, found = jax.jit(lambda gap: jax.jvp(by_windows, (gap,), (jnp.ones_like(gap),)))(f64(0.0))
    np.testing.assert_allclose(value, at[0], rtol=1e-10)
    np.testing.assert_allclose(found, slope, rtol=2e-6)
    assert abs(quotient - slope) > 0.1 * abs(slope)


def test_by_steps_a_jump_inside_a_step_moves_what_the_mean_of_the_step_makes_of_it():
    """One unit, tau z' = tanh(a x) - z, x = 1 for the time D of a period P: dz(P)/dD = tanh(a) exp(-(P - D)/tau)/tau.

    Steps that see the mean theta of x in the step where it ends add dt tanh(theta a) there. So they find
    a tanh'(theta a) instead of tanh(a), however short they are; the mean of that over theta is tanh(a).
    """
    a, steps, period = 1.7, 32, 0.1
    network = Network((1, 1), output_activation="tanh", bias=False, gain=f64(1.0))
    data = Stream(jnp.ones((1, 1), jnp.float64), jnp.zeros((1, 1), jnp.float64), jax.random.key(0))

    def activity(duration, tau):
        time = Clock(duration, period - duration, steps)
        run = Coupled(SGD().wire(network), timescales(tau, 1e12), data, time, integrator=FixedStep("heun"))
        shown = run.advance(run.init({"W1": jnp.full((1, 1), a, jnp.float64)}), jnp.int32(0), 1)
        return shown.state.fast["activity"]["z1"][0]

    theta, tau = (np.arange(64)[None] + 0.5) / 64, period * np.array([[1.0], [10.0], [100.0]])
    duration = period * (24 + theta) / steps
    slope = jax.jit(jnp.vectorize(lambda d, tau: jax.jvp(lambda d: activity(d, tau), (d,), (jnp.ones_like(d),))[1]))
    found = np.asarray(slope(f64(duration), f64(tau))) * tau * np.exp((period - duration) / tau)
    for row, dt in zip(found, period / steps / tau[:, 0], strict=True):
        np.testing.assert_allclose(row, a / np.cosh(theta[0] * a) ** 2, rtol=dt)
        np.testing.assert_allclose(row.mean(), np.tanh(a), rtol=dt)
