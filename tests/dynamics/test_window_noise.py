"""Noise in the window integrator: exact covariances, strong and weak orders, both calculi, keys, other integrators.

Orders in the length H of a window, where tau_prop is resolved: strong 1 for what is filtered from or integrated over
noisy activities (the mean-square error is computed from covariances, nothing is sampled), weak 2 for the mean of a
Hebbian weight; activities themselves are exact at the nodes. Additive and multiplicative synaptic noise alone are exact
however long a window is; multiplicative noise beside a drift of the weights is split from it: weak order 1.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dynamics.circuit import AbstractFactor, Activity, Circuit, Error, Given, Layer, Projection, TwoFactor
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs
from dynamics.integrators.collocation import integration, leak, nodes, ornstein_uhlenbeck
from dynamics.integrators.window_solver import Context, WindowSolver, filters_of
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from tests.dynamics.systems import assert_resumes, coupled, show, two_layers
from tests.problems import clock, distance, f64, random_weights, timescales
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

MANY, SEEDS, TAU = 20_000, 2000, 0.01


def within(samples, variance, errors=4.0):
    """Whether the variance of independent gaussian samples is `variance`, within some standard errors."""
    return abs(np.var(samples) / variance - 1) < errors * np.sqrt(2 / samples.size)


def close(samples, mean, errors=4.0):
    """Whether the mean of independent samples is `mean`, within some standard errors."""
    return abs(np.mean(samples) - mean) < errors * np.std(samples) / np.sqrt(samples.size)


# Many independent units, each a realisation


class One(AbstractFactor):
    """m = 1: with a constant stimulus of 1, W' = 1 / tau_plast."""

    def __call__(self, local):
        return jnp.ones_like(local.activity)


def units(noise, duration, decay=None, window=None, drift=False) -> Coupled:
    """`MANY` output units with a synapse each; neither stimulus nor target, or, with `drift`, W' = 1."""
    layers = (Layer("z0", 1, role="input", level=0), Layer("z1", MANY, role="output"))
    law = TwoFactor(One() if drift else Error())
    start = Given(jnp.ones((MANY, 1), jnp.float64))
    circuit = Circuit(layers, (Projection("W1", "z0", "activity", "z1", "forward", start, law),))
    stimulus = jnp.full((1, 1), float(drift), jnp.float64)
    data = Stream(stimulus, jnp.zeros((1, MANY), jnp.float64), jax.random.key(1))
    times = timescales(propagation=TAU, plasticity=1.0, decay=decay)
    window = window or Window(nodes=8, parts=1, gaps=False)
    return Coupled(circuit, times, data, clock(duration), noise=noise, key=jax.random.key(2), integrator=window)


def start_of(run: Coupled) -> CoupledProgress:
    return run.init(run.circuit.initial_weights(jax.random.key(0)))


def after(run: Coupled, presentations: int) -> CoupledProgress:
    return show(run, None, jnp.int32(0), jnp.int32(presentations), start_of(run))


@pytest.mark.parametrize(
    ("variable", "ratio", "parts", "presentations"),  # windows from tau / 20 to 60 tau
    [
        ("activity", 0.05, 1, 20),
        ("activity", 1.0, 1, 1),
        ("activity", 60.0, 1, 3),
        ("error", 0.1, 3, 12),
        ("error", 4.0, 3, 2),
        ("error", 60.0, 3, 3),
    ],
)
def test_activities_and_errors_have_the_covariance_of_ornstein_uhlenbeck_across_windows(
    variable, ratio, parts, presentations
):
    """From 0: variance s^2 (1 - exp(-2 t / tau)), and exp(-T / tau) as much with the value T later."""
    window = Window(nodes=8, parts=parts, gaps=False)
    amplitude: dict[str, Any] = {variable: f64(0.7)}
    run = units(Noise(**amplitude), ratio * TAU, window=window)
    then = after(run, presentations)
    later = show(run, None, jnp.int32(presentations), jnp.int32(1), then)
    x, y = (getattr(progress.state, variable)["z1"] for progress in (then, later))
    variance = 0.49 * -np.expm1(-2 * ratio * presentations)
    assert within(x, variance) and close(x, 0)
    assert close(x * y, variance * np.exp(-ratio))


def test_activity_and_error_noise_are_independent_and_so_are_units():
    state = after(units(Noise(activity=f64(1.0), error=f64(0.5)), TAU), 8).state
    z, e = state.activity["z1"], state.error["z1"]
    assert within(z, 1.0)
    assert within(e, 0.25 + 1 / 2)  # its own noise, and e' = (-e - z) / tau
    assert close(z * e, -1 / 2) and close(z[1:] * z[:-1], 0)


@pytest.mark.parametrize(("ratio", "tolerance"), [(0.05, 1e-14), (1.0, 1e-9), (5.0, 1e-4), (1e4, 1e-4)])
def test_covariances_inside_a_window_are_exact_where_the_nodes_resolve_what_is_left_of_its_start(ratio, tolerance):
    """E xi_i xi_j = exp(-|t_i - t_j|/tau). What is fresh is exact in every window; the start decays by collocation."""
    c, fresh = nodes(8), np.asarray(ornstein_uhlenbeck(f64(ratio), 8))
    fading = 1 - np.asarray(leak(f64(ratio), 8).matrix).sum(1)
    exact = np.exp(-np.abs(c[:, None] - c) * ratio)
    start = np.exp(-c * ratio)
    np.testing.assert_allclose(fresh @ fresh.T, exact - np.outer(start, start), atol=1e-14)
    np.testing.assert_allclose(fresh @ fresh.T + np.outer(fading, fading), exact, atol=tolerance)


# Synaptic noise


@pytest.mark.parametrize(("parts", "presentations"), [(1, 1), (3, 4)])
def test_additive_synaptic_noise_has_its_exact_variance(parts, presentations):
    window, t = Window(nodes=4, parts=parts, gaps=False), 0.02 * presentations
    w = after(units(Noise(synaptic=f64(0.5)), 0.02, window=window), presentations).state.weights["W1"]
    assert within(w, 0.25 * t) and close(w, 1)


@pytest.mark.parametrize("presentations", [1, 2, 30])
@pytest.mark.parametrize("decay", [0.01, 0.2])
def test_decay_confines_additive_synaptic_noise_to_its_stationary_variance(presentations, decay):
    """Variance s^2 (tau_dec / 2) (1 - exp(-2 t / tau_dec)), mean exp(-t / tau_dec), in windows of 2 or 0.1 tau_dec."""
    t = 0.02 * presentations
    w = after(units(Noise(synaptic=f64(0.5)), 0.02, decay=decay), presentations).state.weights["W1"]
    assert within(w, 0.25 * decay / 2 * -np.expm1(-2 * t / decay)) and close(w, np.exp(-t / decay))


@pytest.mark.parametrize(("calculus", "parts", "presentations"), [("ito", 1, 1), ("ito", 2, 3), ("stratonovich", 1, 1)])
def test_multiplicative_synaptic_noise_is_lognormal_in_both_calculi(calculus, parts, presentations):
    """Ito: E W = W0. Stratonovich: E W = W0 exp(s^2 t / 2). In both log W is normal of variance s^2 t."""
    t, window = 0.06, Window(nodes=4, parts=parts, gaps=False)
    noise = Noise(synaptic_multiplicative=f64(4.0), calculus=calculus)
    w = np.ravel(after(units(noise, t / presentations, window=window), presentations).state.weights["W1"])
    log_mean = -16 * t / 2 if calculus == "ito" else 0.0
    assert w.min() > 0 and within(np.log(w), 16 * t)
    assert close(np.log(w), log_mean) and close(w, np.exp(log_mean + 16 * t / 2))


def test_decay_and_multiplicative_noise_commute():
    w = after(units(Noise(synaptic_multiplicative=f64(2.0)), 0.05, decay=0.1), 3).state.weights["W1"]
    assert close(w, np.exp(-1.5)) and within(np.log(w), 4 * 0.15)


def test_multiplicative_noise_beside_a_drift_has_weak_order_two():
    """dW = dt + s W dB (Ito), a = s^2: (E W^2)' = 2 (1 + t) + a E W^2; half of the noise before and half after a window
    leave an error ~ H^2."""
    a, t = 1.0, 1.0
    exact = np.exp(a * t) * (1 + 2 / a + 2 / a**2) - 2 * (1 + t) / a - 2 / a**2
    # One window: W = (m + 1) m' with m, m' of mean 1 and E m^2 = exp(a t / 2).
    half = np.exp(a * t / 2)
    assert (half + 3) * half == pytest.approx(exact, abs=0.1)
    errors = []
    for parts in (1, 2):
        h, square, mean = t / parts, 1.0, 1.0
        for _ in range(parts):
            m = np.exp(a * h / 2)
            square, mean = m * (m * square + 2 * h * mean + h**2), mean + h
        errors.append(square - exact)
        window = Window(nodes=3, parts=parts, gaps=False)
        w = after(units(Noise(synaptic_multiplicative=f64(a**0.5)), t, window=window, drift=True), 1)
        w = w.state.weights["W1"]
        assert close(w, 2) and close(w**2, square)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.2)


# Orders along noisy activities: the response to every normal number that the integrator draws

S, MOST, DURATION, SLOW = 4, 16, 0.03, 1e6
COLUMNS = 1 + S * MOST


def response_circuit() -> Circuit:
    """z1 (noisy) -> z2 through a Hebbian identity, and a Hebbian bias on z1: they learn int z2 z1 and int z1."""
    layers = (
        Layer("z0", 1, role="input", level=0),
        Layer("one", 1, role="constant", level=0),
        Layer("z1", COLUMNS),
        Layer("z2", COLUMNS, level=2),
    )
    law, nothing = TwoFactor(Activity()), Given(jnp.zeros((COLUMNS, 1), jnp.float64))
    return Circuit(
        layers,
        (
            Projection("W1", "z0", "activity", "z1", "forward", nothing),
            Projection("b1", "one", "activity", "z1", "forward", nothing, law),
            Projection("W2", "z1", "activity", "z2", "forward", Given(jnp.eye(COLUMNS, dtype=jnp.float64)), law),
        ),
    )


@eqx.filter_jit
def solved(system, y, length, noise):
    """The window from state y: its end, and z1 at its nodes."""
    context = Context(filters_of(system, length, S), {}, {}, {("z1", "activity"): noise}, f64(np.zeros(S)))
    nothing = jnp.zeros(1, jnp.float64)
    window, end = WindowSolver(S, 1e-9).solve(system, y, Inputs(nothing, nothing, f64(0.0)), context)
    return window.end(end.waves), end.waves.value["z1", "activity"]


def response(parts: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], float]:
    """Unit j answers to normal number j alone (0: the stationary start), so that covariances are products over units.

    Gives the times of all nodes, z1 at them, the answers of int z1 and of the final z2, and E int z1 z2.
    """
    circuit, h = response_circuit(), DURATION / parts
    system = CoupledSystem(
        circuit, timescales(TAU, SLOW), clock(DURATION), Delays(), Noise(), {"W1": jnp.zeros((COLUMNS, 1), jnp.float64)}
    )
    weights = circuit.initial_weights(jax.random.key(0))
    y = system.initial_state(weights)
    y = eqx.tree_at(lambda y: y.activity["z1"], y, y.activity["z1"].at[0].set(1.0))
    z1 = [y.activity["z1"][None]]
    for k in range(parts):
        path = jnp.zeros((S, COLUMNS), jnp.float64).at[:, 1 + S * k : 1 + S * (k + 1)]
        y, wave = solved(system, y, f64(h), path.set(ornstein_uhlenbeck(f64(h / TAU), S)))
        z1.append(wave)
    times = np.concatenate([[0.0], (np.arange(parts)[:, None] * h + h * nodes(S)).ravel()])
    answers = {"integral": np.ravel(y.weights["b1"]) * SLOW, "filtered": np.asarray(y.activity["z2"])}
    learned = float(jnp.trace(y.weights["W2"] - weights["W2"])) * SLOW
    return times, np.concatenate(z1), answers, learned


@pytest.fixture(scope="module")
def responses():
    return {parts: response(parts) for parts in (2, 4, 8, 16)}


def mean_square_error(quantity: str, response: tuple) -> float:
    """E (X - X_H)^2, X_H being what the integrator makes of the very path xi whose values at the nodes it draws.

    X is int xi dt, or z2(T) = int exp(-(T - t)/tau) xi dt / tau; both variances and E X xi(t) are closed forms.
    """
    t, z1, answers, _ = response
    size = len(t)
    a, big = answers[quantity][:size], DURATION / TAU
    assert not answers[quantity][size:].any()
    u, left = t / TAU, (DURATION - t) / TAU
    if quantity == "integral":
        covariance = TAU * (2 - np.exp(-u) - np.exp(-left))
        variance = 2 * TAU**2 * (big - 1 + np.exp(-big))
    else:
        covariance = (np.exp(-left) - np.exp(-big - u)) / 2 + left * np.exp(-left)
        variance = 1 / 2 - np.exp(-2 * big) * (1 / 2 + big)
    of_values = np.linalg.solve(z1[:, :size].T, a)  # X_H as a combination of the values at the nodes
    return a @ a - 2 * of_values @ covariance + variance


@pytest.mark.parametrize("quantity", ["integral", "filtered"])
def test_what_is_made_of_a_noisy_activity_has_strong_order_one(quantity, responses):
    errors = [np.sqrt(mean_square_error(quantity, responses[parts])) for parts in (2, 4, 8, 16)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 1) < 0.1).all()


def test_the_mean_of_a_hebbian_weight_has_weak_order_two(responses):
    """z2' = (z1 - z2)/tau from z2 = 0: E z1 z2 = (1 - exp(-2 t/tau))/2."""
    exact = DURATION / 2 + TAU / 4 * np.expm1(-2 * DURATION / TAU)
    errors = [abs(responses[parts][3] - exact) / exact for parts in (2, 4, 8, 16)]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert errors[0] < 0.1 and (np.abs(orders - 2) < 0.3).all()


def test_the_quadrature_of_a_window_has_the_mean_square_error_of_its_order():
    """E (int xi - H sum b_i xi_i)^2 over a window grows as H^3: over all windows, rms error ~ H."""
    b, c = integration(6)[-1], nodes(6)
    errors = []
    for ratio in (0.1, 0.05):
        fresh, start = np.asarray(ornstein_uhlenbeck(f64(ratio), 6)), np.exp(-c * ratio)
        values = fresh @ fresh.T + np.outer(start, start)
        with_integral = (2 - np.exp(-c * ratio) - np.exp(-(1 - c) * ratio)) / ratio
        errors.append(b @ values @ b - 2 * b @ with_integral + 2 * (ratio - 1 + np.exp(-ratio)) / ratio**2)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(1, abs=0.05)  # relative to H^2: H^3 in all


# Against other integrators, and against means in closed form


@eqx.filter_jit
def ends(run: Coupled, weights, keys, presentations):
    """The plastic weights of one run per noise key."""

    def end(key):
        keyed = eqx.tree_at(lambda run: run.key, run, key)
        return keyed.advance(keyed.init(weights), jnp.int32(0), presentations).state.weights

    return jax.vmap(end)(keys)


def pair(noise: Noise, plasticity=1e3, steps=1, integrator=None) -> Coupled:
    """One noisy unit before another, a Hebbian synapse between them: int z1 z2 is what it learns."""
    layers = (Layer("z0", 1, role="input", level=0), Layer("z1", 1), Layer("z2", 1, level=2))
    ones, law = Given(jnp.ones((1, 1), jnp.float64)), TwoFactor(Activity())
    circuit = Circuit(
        layers,
        (
            Projection("W1", "z0", "activity", "z1", "forward", ones),
            Projection("W2", "z1", "activity", "z2", "forward", ones, law),
        ),
    )
    data = Stream(jnp.zeros((1, 1), jnp.float64), None, jax.random.key(1))
    integrator, key = integrator or Window(nodes=6, parts=2, gaps=False), jax.random.key(0)
    time = clock(5 * TAU, 0.0, steps)
    return Coupled(circuit, timescales(TAU, plasticity), data, time, noise=noise, integrator=integrator, key=key)


def test_the_mean_hebbian_weight_over_many_runs_is_the_closed_form():
    """Both units are noisy and start at 0; z2's own noise adds nothing to E z1 z2 = (1 - exp(-2u))/2 - u exp(-2u)."""
    run, s, big = pair(Noise(activity=f64(0.8))), 0.8, 5.0
    w = ends(run, random_weights(run.circuit), jax.random.split(jax.random.key(6), 8000), jnp.int32(1))["W2"]
    fading = np.exp(-2 * big)
    exact = TAU * (big / 2 - (1 - fading) / 4 - (1 / 4 - fading * (big / 2 + 1 / 4)))
    assert close((np.ravel(w) - 1) * 1e3, s**2 * exact)


def test_weights_are_distributed_as_with_short_euler_steps():
    """A two-sample Kolmogorov-Smirnov test of a Hebbian weight that feeds back on what it learns from."""
    noise, draws = Noise(activity=f64(0.8), synaptic=f64(0.3), synaptic_multiplicative=f64(0.5)), []
    for i, (steps, integrator) in enumerate([(200, FixedStep("euler")), (1, Window(nodes=8, parts=2, gaps=False))]):
        run = pair(noise, 0.05, steps, integrator)
        keys = jax.random.split(jax.random.key(20 + i), SEEDS)
        draws.append(np.ravel(ends(run, random_weights(run.circuit), keys, jnp.int32(2))["W2"]))
    euler, window = draws
    assert stats.skew(euler) > 0.3  # far from the normal law that noise alone would give
    found: Any = stats.ks_2samp(euler, window)
    assert found.pvalue > 1e-3
    assert abs(euler.mean() - window.mean()) < 4 * np.sqrt((euler.var() + window.var()) / SEEDS)


# Keys


def test_a_run_in_two_pieces_is_the_run_in_one():
    """Bit for bit, with every kind of noise, delays and a gap; and the noise of other presentations is another."""
    noise = Noise(activity=f64(0.1), error=f64(0.1), synaptic=f64(0.1), synaptic_multiplicative=f64(0.1))
    options = {"history": 5, "key": jax.random.key(5), "integrator": Window(nodes=5, parts=2)}
    delays = Delays(error=f64(0.21), hop=f64(0.01), input=f64(0.15))
    run = coupled(two_layers(bias=False), clock(0.1, 0.03, 1), noise=noise, delays=delays, **options)
    assert_resumes(run)


def test_a_batch_of_keys_and_amplitudes_is_its_runs_one_by_one():
    def end(key, s):
        noise = Noise(activity=s, synaptic=s, synaptic_multiplicative=s)
        run = eqx.tree_at(lambda run: run.key, pair(noise), key)
        return run.advance(start, jnp.int32(0), jnp.int32(3)).state.weights

    still = pair(Noise())
    start = still.init(random_weights(still.circuit))
    keys, s = jax.random.split(jax.random.key(8), 3), f64([0.1, 0.2, 0.3])
    batch, alone = jax.jit(jax.vmap(end))(keys, s), jax.jit(end)
    for i in range(3):
        assert distance({n: w[i] for n, w in batch.items()}, alone(keys[i], s[i])) < 1e-12
    assert distance(alone(keys[0], s[0]), alone(keys[1], s[0])) > 1e-3


def test_draws_depend_on_nothing_but_the_key_and_the_window():
    """Not on the weights, the amplitudes of other noise, or how far the run is otherwise."""
    run = units(Noise(activity=f64(0.7)), TAU)
    z = after(run, 2).state.activity["z1"]
    other = eqx.tree_at(lambda p: p.state.weights["W1"], start_of(run), 3 * jnp.ones((MANY, 1), jnp.float64))
    np.testing.assert_array_equal(show(run, None, jnp.int32(0), jnp.int32(2), other).state.activity["z1"], z)
    both = units(Noise(activity=f64(0.7), synaptic=f64(0.2)), TAU)
    np.testing.assert_array_equal(after(both, 2).state.activity["z1"], z)
    rekeyed = eqx.tree_at(lambda run: run.key, run, jax.random.key(3))
    assert abs(np.corrcoef(after(rekeyed, 2).state.activity["z1"], z)[0, 1]) < 4 / np.sqrt(MANY)


def test_additive_and_multiplicative_draws_are_independent():
    """dW = s W dB + s' dB' from 1: E W = 1 and E W^2 = (1 + s'^2 / s^2) exp(s^2 t) - s'^2 / s^2. Draws that were the
    same would add 2 s s' t to the variance."""
    one = after(units(Noise(synaptic=f64(0.5)), 0.02), 1).state.weights["W1"]
    other = after(units(Noise(synaptic_multiplicative=f64(0.5)), 0.02), 1).state.weights["W1"]
    both = after(units(Noise(synaptic=f64(0.5), synaptic_multiplicative=f64(0.5)), 0.02), 1).state.weights["W1"]
    assert close(both, 1) and within(both, 2 * np.expm1(0.25 * 0.02))
    assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 4 / np.sqrt(MANY)


@pytest.mark.parametrize("noise", [Noise(activity=f64(1.0)), Noise(synaptic=f64(1.0))])
def test_noise_without_a_key_is_refused(noise):
    run = eqx.tree_at(lambda run: run.key, pair(noise), None)
    with pytest.raises(PlasticodeError, match="give it key"):
        run.advance(run.init(random_weights(run.circuit)), jnp.int32(0), 1)
