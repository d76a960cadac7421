"""Noise: stationary variances, strong orders of convergence, two calculi, and keys that depend on the step alone."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Circuit, Error, Given, Layer, Projection, TwoFactor
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs
from dynamics.flow import WeightFlow
from dynamics.integrators import Adaptive, FixedStep
from dynamics.integrators.terms import Moment
from dynamics.network import Network
from dynamics.noise import Noise, brownian_increments
from dynamics.stimulus import Stream
from rules import SGD, Oja
from tests.dynamics.systems import DelayedDecay, GeometricBrownian, advance, assert_resumes, coupled, show, two_layers
from tests.problems import clock, f64, random_problem, random_weights, timescales
from tests.unjudged import PlainSteps

MANY = 20_000


def within(samples, variance, errors=4.0):
    """Whether the variance of independent gaussian samples is `variance`, within some standard errors."""
    return abs(np.var(samples) / variance - 1) < errors * np.sqrt(2 / samples.size)


# Increments


def test_increments_are_white_with_variance_dt_and_leaves_are_independent(key):
    like = {name: jnp.zeros(MANY, jnp.float64) for name in ("a", "b")} | {"c": {"a": jnp.zeros(MANY, jnp.float64)}}
    draws = brownian_increments(key, like, f64(0.3))
    a, b, c = draws["a"], draws["b"], draws["c"]["a"]
    next_a = brownian_increments(jax.random.fold_in(key, 1), like, f64(0.3))["a"]
    assert within(a, 0.3)
    for other in (b, c, next_a):
        assert abs(np.corrcoef(a, other)[0, 1]) < 4 / np.sqrt(MANY)


# Many units with no input: every one is a realisation


def still_units(noise, dt=0.002, steps=30, decay=float("inf"), solver="euler", presentations=1):
    """The state of `MANY` output units and their synapses after some time, with neither stimulus nor target."""
    layers = (Layer("z0", 1, role="input", level=0), Layer("z1", MANY, role="output"))
    start = Given(jnp.ones((MANY, 1), jnp.float64))
    circuit = Circuit(layers, (Projection("W1", "z0", "activity", "z1", "forward", start, TwoFactor(Error())),))
    data = Stream(jnp.zeros((1, 1), jnp.float64), jnp.zeros((1, MANY), jnp.float64), jax.random.key(1))
    times = timescales(propagation=0.01, plasticity=1.0, decay=decay)
    run = Coupled(
        circuit,
        times,
        data,
        clock(dt * steps, 0.0, steps),
        noise=noise,
        key=jax.random.key(2),
        integrator=PlainSteps(solver),
    )
    return show(run, circuit.initial_weights(jax.random.key(0)), jnp.int32(0), presentations).state


@pytest.mark.parametrize(
    ("solver", "h"),
    [("euler", 2.0), ("euler", 0.05), ("heun", 1.0), ("tsit5", 0.5), ("dopri5", 2.0), ("milstein", 1.0)],
)
def test_activity_and_error_noise_have_their_stationary_deviation_at_any_step(solver, h):
    """h = dt / tau_prop, the time is at least eight time constants; errors here hear nothing of activities."""
    time = {"dt": 0.01 * h, "steps": max(int(8 / h), 4), "solver": solver}
    assert within(still_units(Noise(activity=f64(0.7)), **time).activity["z1"], 0.7**2)
    assert within(still_units(Noise(error=f64(0.4)), **time).error["z1"], 0.4**2)


def stationary_variance(solver, h):
    """Of an error that hears a noisy activity, by the linear map that one step is: P = A P A^T + B B^T."""
    layers = (Layer("z0", 1, role="input", level=0), Layer("z1", 1, role="output"))
    one = jnp.ones((1, 1), jnp.float64)
    circuit = Circuit(layers, (Projection("W1", "z0", "activity", "z1", "forward", Given(one), TwoFactor(Error())),))
    system = CoupledSystem(circuit, timescales(0.01), clock(0.01 * h), Delays(), Noise(activity=f64(1.0)), {})
    start = system.with_paths(system.initial_state({"W1": one}))
    moment = Moment(Inputs(f64([0.0]), f64([0.0]), f64(1.0)), None, jnp.int32(0), f64(0.0))

    def fast(state):
        return jnp.concatenate([state.activity["z1"], state.error["z1"], state.path["activity"]["z1"]])

    def step(vector):
        z, e, xi, draw = vector[:, None]
        state = eqx.tree_at(lambda s: (s.activity["z1"], s.error["z1"], s.path["activity"]["z1"]), start, (z, e, xi))
        increments = {"activity": {"z1": jnp.sqrt(system.dt) * draw}}
        return vector[:3] + fast(FixedStep(solver)._step(system, state, moment, increments))

    columns = np.asarray(jax.jit(jax.vmap(step))(jnp.eye(4, dtype=jnp.float64))).T  # of (A, B)
    a, b = columns[:, :3], columns[:, 3]
    covariance = np.linalg.solve(np.eye(9) - np.kron(a, a), np.outer(b, b).ravel()).reshape(3, 3)
    return covariance[1, 1]


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("tsit5", 2)])
def test_what_noise_drives_has_a_variance_of_at_least_this_order(solver, order):
    """e' = (-e - z)/tau driven by an Ornstein-Uhlenbeck z of variance 1 has the variance 1/2."""
    errors = [abs(stationary_variance(solver, h) - 0.5) for h in (0.1, 0.05)]
    assert errors[0] < 0.1 and np.log2(errors[0] / errors[1]) > order - 0.1


def test_delayed_signals_contain_the_noise():
    """An error that hears the activity of one step ago: its ring of past signals has the noisy one."""
    problem, time = two_layers(bias=False), clock(0.1, 0.0, 10)
    run = coupled(
        problem, time, noise=Noise(activity=f64(0.5)), delays=Delays(error=f64(0.01)), history=4, key=jax.random.key(1)
    )
    progress = show(run, random_weights(run.circuit), jnp.int32(0), 3)
    rows = progress.memory.history.rows["z2", "activity"]
    assert jnp.abs(rows[:, None] - rows[None]).max() > 0.1 and jnp.abs(progress.state.path["activity"]["z2"]).min() > 0


def test_a_filtered_noise_excites_the_error():
    """e' = (-e - z)/tau driven by an OU z of variance s^2 has the variance s^2/2 (both time constants equal)."""
    state = still_units(Noise(activity=f64(0.7)), dt=0.0002, steps=400)
    assert within(state.error["z1"], 0.7**2 / 2, errors=5)
    assert abs(np.mean(state.error["z1"] * state.activity["z1"]) + 0.7**2 / 2) < 5 * 0.7**2 / np.sqrt(MANY)


def test_additive_synaptic_noise_diffuses_and_decay_confines_it():
    w = still_units(Noise(synaptic=f64(0.5)), steps=10, presentations=3).weights["W1"]
    assert within(w, 0.5**2 * 0.06) and abs(w.mean() - 1) < 4 * w.std() / np.sqrt(MANY)
    w = still_units(Noise(synaptic=f64(0.5)), decay=0.01, steps=60).weights["W1"]
    assert within(w, 0.5**2 * 0.01 / 2 / (1 - 0.2 / 2))  # OU again, by Euler with h = 0.2


@pytest.mark.parametrize(("solver", "calculus"), [("euler", "ito"), ("heun", "stratonovich")])
def test_multiplicative_synaptic_noise_keeps_the_mean_only_in_the_ito_sense(solver, calculus):
    """dW = s W dB for a time t. Ito: mean 1, variance e^{s^2 t} - 1. Stratonovich: log-mean 0, mean e^{s^2 t / 2}."""
    noise = Noise(synaptic_multiplicative=f64(4.0), calculus=calculus)
    w = np.ravel(still_units(noise, dt=0.001, steps=60, solver=solver).weights["W1"])
    variance = 16 * 0.06
    log_mean = -variance / 2 if calculus == "ito" else 0.0
    assert w.min() > 0
    assert abs(np.log(w).mean() - log_mean) < 4 * np.sqrt(variance / MANY) + 0.01  # Euler's bias: s^4 t dt / 4
    assert abs(w.mean() - np.exp(log_mean + variance / 2)) < 4 * w.std() / np.sqrt(MANY)


# Scalar equations


@eqx.filter_jit
def stationary(system):
    start = system.start(jnp.zeros(10_000, jnp.float64))
    return advance(system, start, 1000, "heun", history=42, key=jax.random.key(4))[0]


@pytest.mark.parametrize("lag", [0.5, 1.0])
def test_delayed_noise_has_its_stationary_variance(lag):
    """dw = -lam w(t - lag) dt + sigma dB: sigma^2 (1 + sin(lam lag)) / (2 lam cos(lam lag))."""
    rate, sigma = 1.0, 0.8
    system = DelayedDecay(f64(rate), f64(lag), f64(0.025), f64(sigma))
    exact = sigma**2 * (1 + np.sin(rate * lag)) / (2 * rate * np.cos(rate * lag))
    assert within(stationary(system), exact, errors=3.0)


@pytest.mark.parametrize(("solver", "order"), [("euler", 0.5), ("milstein", 1.0)])
def test_strong_order_on_geometric_brownian_motion(solver, order):
    """The mean distance at time 1 from x exp((growth - sigma^2/2) + sigma B), B the sum of the very increments used."""
    growth, sigma = 0.5, 0.8

    def distances(key, steps):
        system = GeometricBrownian(f64(growth), f64(sigma), f64(1 / steps))
        x = jnp.ones(1, jnp.float64)
        end = advance(system, x, steps, solver, key=key)
        keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(steps))
        path = jax.vmap(lambda k: brownian_increments(k, x, system.dt))(keys).sum(0)
        return jnp.abs(end - jnp.exp(growth - sigma**2 / 2 + sigma * path))[0]

    keys = jax.random.split(jax.random.key(7), 4000)
    errors = [jax.jit(jax.vmap(lambda key, n=n: distances(key, n)))(keys).mean() for n in (8, 128)]
    assert np.log2(errors[0] / errors[1]) / 4 == pytest.approx(order, abs=0.08)


# Ito or Stratonovich


def balance_ratio(solver, key):
    """C/C0 of C = u^2 - w^2 after eta nu^2 t = 2, for the sampling noise of l = (u w - y)^2/2 with labels y = +-nu."""
    nu, duration, plasticity, steps = 0.5, 1.0, 10.0, 32
    network = Network((1, 1, 1), activation="linear", bias=False, gain=f64(1.0))
    ones, labels = jnp.ones((2, 1), jnp.float64), f64([[nu], [-nu]])
    time, times = clock(duration, 0.0, steps), timescales(plasticity=plasticity)
    flow = WeightFlow(SGD().wire(network), times, ones, labels, time, key=key, sampling_noise=True)
    start = flow.init({"W1": f64([[2.0]]), "W2": f64([[0.5]])})[:3]
    count = int(2 / (nu * duration / plasticity) ** 2) * steps  # by itself the flow has the rate (eta nu)^2 / T
    integrator = FixedStep(solver)  # past the check of WeightFlow, which refuses a Stratonovich solver
    end = integrator.run(flow.system({}), integrator.begin(start), lambda j: None, jnp.int32(0), count, key).y[0]
    return (end["W1"] ** 2 - end["W2"] ** 2)[0, 0] / (2.0**2 - 0.5**2)


def test_sampling_noise_is_ito():
    """Ito: C decays as exp(-eta^2 nu^2 t/T), exp(-2) here. A Stratonovich solver conserves C: another physics."""
    keys = jax.random.split(jax.random.key(3), 16)
    ito = jax.jit(jax.vmap(lambda key: balance_ratio("euler", key)))(keys)
    assert abs(ito.mean() / np.exp(-2) - 1) < 0.03
    stratonovich = jax.jit(jax.vmap(lambda key: balance_ratio("heun", key)))(keys)
    assert np.abs(stratonovich - 1).max() < 1e-2


def test_sampling_noise_has_the_covariance_of_the_updates_of_single_samples():
    """Over one period: the covariance of eta (m p^T - r W) over the samples (Oja has the row decay)."""
    problem = random_problem((3, 2), activation="linear", bias=False, supervised=False, samples=5)
    circuit, time = Oja().wire(problem.network), clock(0.2, 0.3, 7)
    flow = WeightFlow(
        circuit, timescales(plasticity=4.0), problem.inputs, None, time, key=jax.random.key(0), sampling_noise=True
    )
    state = flow.init(random_weights(circuit))
    system, w = flow.system({}), state.weights["W1"]
    still = jax.tree.map(jnp.zeros_like, state[:3])
    amplitude = jax.jit(lambda y: system.amplitude(y))(state[:3])
    kicks = jax.vmap(lambda dB: system.kick(amplitude, dB, still)[0]["W1"])(jnp.eye(5, dtype=jnp.float64))
    z = problem.inputs @ w.T
    updates = 0.2 / 4.0 * np.asarray(z[:, :, None] * problem.inputs[:, None, :] - (z**2)[:, :, None] * w[None])
    centred = (updates - updates.mean(0)).reshape(5, -1)
    kicks = np.asarray(kicks).reshape(5, -1)
    np.testing.assert_allclose(kicks.T @ kicks * 0.5, centred.T @ centred / 5, atol=1e-14)  # per period of 0.5 s


# Keys


def test_a_run_in_two_pieces_is_the_run_in_one():
    """Bit for bit, with every kind of noise, delays and a gap."""
    problem = two_layers(bias=True)
    noise = Noise(activity=f64(0.1), error=f64(0.1), synaptic=f64(0.1), synaptic_multiplicative=f64(0.1))
    delays = Delays(error=f64(0.03), hop=f64(0.005), input=f64(0.15))
    options = {"delays": delays, "history": 12, "key": jax.random.key(5), "integrator": FixedStep()}
    run = coupled(problem, clock(0.1, 0.03, 8), noise=noise, **options)
    assert_resumes(run)


# What is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"solver": "heun", "noise": Noise(synaptic_multiplicative=f64(1.0))}, "one of euler, milstein"),
        (
            {"solver": "milstein", "noise": Noise(synaptic_multiplicative=f64(1.0), calculus="stratonovich")},
            "'milstein' integrates multiplicative noise in the ito sense.*one of dopri5, heun, tsit5",
        ),
        ({"integrator": Adaptive(), "noise": Noise(activity=f64(1.0))}, "no delays and no noise"),
    ],
)
def test_noise_that_a_solver_cannot_integrate_is_refused(options, match):
    with pytest.raises(PlasticodeError, match=match):
        coupled(two_layers(), clock(0.1, 0.0, 10), **options)


def test_an_unknown_calculus_and_noise_without_a_key_are_refused():
    with pytest.raises((PlasticodeError, TypeError), match="calculus"):
        Noise(calculus="itto")  # pyright: ignore[reportArgumentType] - so a type checker knows, too
    with pytest.raises(PlasticodeError, match="give it key"):
        run = coupled(two_layers(), clock(0.1, 0.0, 10), noise=Noise(activity=f64(1.0)))
        run.advance(run.init(random_weights(run.circuit)), jnp.int32(0), 1)
    with pytest.raises(PlasticodeError, match="'milstein' is for noise, but there is none"):
        run = coupled(two_layers(), clock(0.1, 0.0, 10), solver="milstein")
        run.advance(run.init(random_weights(run.circuit)), jnp.int32(0), 1)


def test_a_weight_flow_refuses_a_stratonovich_solver_for_sampling_noise():
    problem = two_layers()
    with pytest.raises(PlasticodeError, match="'heun' cannot integrate sampling noise"):
        WeightFlow(
            SGD().wire(problem.network),
            timescales(),
            problem.inputs,
            problem.targets,
            clock(),
            FixedStep("heun"),
            sampling_noise=True,
        )
