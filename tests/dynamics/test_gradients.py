"""Derivatives of runs, in forward and reverse mode: central differences everywhere, one-sided slopes at corners."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import instruments, integrators
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.kinks import hats, share_on
from dynamics.noise import Noise
from dynamics.simulate import simulate
from rules import FA, KP
from tests.dynamics.systems import coupled, two_layers
from tests.problems import clock, discrete, f64, flow, random_weights, stream, timescales
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

PROBLEM = two_layers(bias=False)
CIRCUIT = FA(f64(1.0)).wire(PROBLEM.network)
WEIGHTS = random_weights(CIRCUIT)
STEPS = 70  # of 1 ms, where there is a gap
# A presentation of 50 + 20 ms. No sum of these times is a whole number of steps, or the time of another jump.
TIMES = {"duration": 0.05, "gap": 0.02, "propagation": 0.01, "plasticity": 0.5, "decay": 3.0, "trace": 0.02}
LAGS = {"error": 0.01237, "input": 0.00318, "own": 0.00193}
ROUND = {
    "nothing": {},
    "no-error-lag": {"error": 0.0},
    "error-lag-T": {"error": 0.05},
    "error-lag-of-a-period": {"error": 0.07},
    "an-own-lag-as-long-as-the-gap": {"own": 0.02},
    "input-lag-of-a-period": {"input": 0.07},
    "no-lag-of-its-own": {"own": 0.0},
    "no-gap": {"gap": 0.0},
    "no-gap-and-a-lag-of-T": {"gap": 0.0, "error": 0.05},
    "no-gap-and-a-late-input": {"gap": 0.0, "input": 0.05},
    "no-gap-and-no-lags": {"gap": 0.0, "error": 0.0, "input": 0.0, "own": 0.0},
}


def end(integrator, numbers, circuit=CIRCUIT, own="W1"):
    """A number that all weights after three presentations make up, as a function of the numbers of the run."""
    lag = lambda c: [p.lag for p in c.projections if p.name == own]  # noqa: E731
    weights, circuit = random_weights(circuit), eqx.tree_at(lag, circuit, [numbers["own"]], is_leaf=lambda x: x is None)
    times = timescales(*(numbers[name] for name in ("propagation", "plasticity", "decay", "trace")))
    steps = 1 if isinstance(integrator, Window) else STEPS
    time = clock(numbers["duration"], numbers["gap"], steps)
    delays = Delays(error=numbers["error"], hop=numbers.get("hop"), input=numbers["input"])
    run = Coupled(circuit, times, stream(PROBLEM), time, delays, integrator=integrator, history=2 * steps + 4)
    weights = run.weights(run.advance(run.init(weights), jnp.int32(0), 3))
    return sum(jnp.sum(jnp.sin(w + i)) for i, w in enumerate(weights.values()))


NAMES = tuple(TIMES | LAGS)
SMOOTH = ("propagation", "plasticity", "decay", "trace")  # no jump lies at a multiple of these
SIDES, MIDDLE = np.array([0, 1, 2, -1, -2]), np.array([0, 1, -1])


def step_of(name):
    """A small one, to whose second order slopes are."""
    return 1e-4 if name in ("plasticity", "decay") else 4e-7


@functools.cache
def derivatives(integrator):
    """By case, and by name: the values along it, the derivative in forward and in reverse mode. All points run at once,
    in two programs that are made of one trace."""

    @jax.jit
    def value(numbers):
        return end(integrator, dict(zip(NAMES, numbers, strict=True)))

    cases = np.array([[(TIMES | LAGS | case)[name] for name in NAMES] for case in ROUND.values()])
    sides = [MIDDLE if name in SMOOTH else SIDES for name in NAMES]
    axes = np.repeat(np.eye(len(NAMES)), [len(side) for side in sides], axis=0)
    moved = np.concatenate([step_of(name) * side for name, side in zip(NAMES, sides, strict=True)])
    points = cases[:, None] + moved[:, None] * axes
    along = jax.jit(jax.vmap(lambda at, axis: jax.jvp(value, (at,), (axis,))))
    found = along(f64(points.reshape(-1, len(NAMES))), f64(np.tile(axes, (len(cases), 1))))
    backwards = np.asarray(jax.jit(jax.vmap(jax.grad(value)))(f64(cases)))
    starts = np.cumsum([0, *(len(side) for side in sides[:-1])])  # the points themselves, before those on their sides
    values, slopes = (np.reshape(of, points.shape[:2]) for of in found)
    values = [np.split(row, starts[1:]) for row in values]
    return dict(zip(ROUND, zip(values, slopes[:, starts], backwards, strict=True), strict=True))


def slopes_along(at, step, is_zero):
    """The slopes on both sides (of a lag and a gap of 0: on the right), to second order in a small step."""
    if len(at) == len(MIDDLE):
        return ((at[1] - at[2]) / (2 * step),) * 2
    right, left = (float(-3 * at[0] + 4 * at[i] - at[i + 1]) / (2 * step) for i in (1, 3))
    return (right, right) if is_zero else (right, -left)


@pytest.mark.parametrize("case", ROUND)
@pytest.mark.parametrize(
    "integrator", [Window(nodes=10, parts=1, gaps=True, sweeps=6), FixedStep("heun")], ids=["window", "heun"]
)
def test_derivatives_at_round_numbers_lie_between_the_slopes_on_both_sides(integrator, case):
    numbers = {**TIMES, **LAGS, **ROUND[case]}
    for name, values, found, backwards in zip(NAMES, *derivatives(integrator)[case], strict=True):
        slopes = slopes_along(values, step_of(name), numbers[name] == 0)
        margin = 1e-5 * max(*map(abs, slopes), 0.01)
        assert min(slopes) - margin < found < max(slopes) + margin, name
        assert abs(backwards - found) < 1e-9 * max(1, abs(found)), name


@functools.cache
def lie(parts):
    """How windows lie in a presentation of 50 ms, as a function of the gap and of lags: when they start, what is on."""

    def laid(numbers):
        time = clock(0.05, numbers["gap"], 1)
        delays = Delays(error=numbers["error"], hop=numbers["hop"])
        window = Window(nodes=2, parts=parts, gaps=True)
        run = Coupled(CIRCUIT, timescales(0.01, 0.5), stream(PROBLEM), time, delays, integrator=window, history=9)
        layout = window.layout(run.system({}), None)
        return layout.start, layout.on

    return jax.jit(laid), jax.jit(jax.jacfwd(laid))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("error", [0.01237, 0.05])
@pytest.mark.parametrize("hop", [0.025, 0.05, 0.1])
def test_without_a_gap_windows_that_begin_at_once_move_as_soon_as_there_is_one(parts, error, hop):
    """Starts are piecewise linear in the gap, which grows, and in a lag, which shrinks where no other lag is round."""
    laid, slopes = lie(parts)
    numbers = {"gap": f64(0.0), "error": f64(error), "hop": f64(hop)}
    (start, on), moved = laid(numbers), slopes(numbers)[0]
    for name, h in [("gap", 1e-6), ("hop", -1e-6)] if error != 0.05 else [("gap", 1e-6)]:
        later = {**numbers, name: numbers[name] + h}
        start_later, on_later = laid(later)
        np.testing.assert_allclose(moved[name], (start_later - start) / h, atol=1e-8)
        length = np.diff(start_later, append=0.05 + later["gap"])[:, None]
        for signal, shown in on.items():
            np.testing.assert_allclose(shown * length, on_later[signal] * length, atol=1e-12)


def test_without_a_gap_and_with_hops_of_a_presentation_derivatives_are_those_of_the_side_with_a_gap():
    """A gap can only grow, and hops that are as long as a period are then shorter: to far less than windows are off."""
    numbers = {name: f64(x) for name, x in {**TIMES, **LAGS}.items()}
    circuit = KP(f64(1.0)).wire(PROBLEM.network)

    def of(x):
        return end(Window(nodes=8, sweeps=4), {**numbers, "gap": x[0], "hop": x[1]}, circuit, "W2")

    h = 4e-7
    moved = np.array([[0, 0], [1, 0], [2, 0], [0, 0], [0, -1], [0, -2]])
    axes = f64(np.repeat(np.eye(2), 3, axis=0))
    points = f64(np.array([0.0, 0.05]) + h * moved)
    at, slopes = jax.jit(jax.vmap(lambda x, axis: jax.jvp(of, (x,), (axis,))))(points, axes)
    gap, hop = ((-3 * at[i] + 4 * at[i + 1] - at[i + 2]) / (2 * h) for i in (0, 3))
    np.testing.assert_allclose(slopes[jnp.array([0, 3])], [gap, -hop], rtol=1e-6)


SIMULATED = {  # beside windows and steps without noise, whose derivatives are those above
    "milstein": lambda times: coupled(
        PROBLEM, clock(0.05, 0.02, 8), times, solver="milstein", noise=Noise(synaptic=f64(0.1)), key=jax.random.key(4)
    ),
    "discrete": lambda times: discrete(CIRCUIT, PROBLEM, times, clock(0.05, 0.02)),
    "flow": lambda times: flow(CIRCUIT, PROBLEM, times, clock(0.05, 0.02, 2)),
}


@pytest.mark.parametrize("regime", SIMULATED)
def test_both_modes_go_through_simulate(regime):
    """Also where records do not divide the presentations."""

    def loss(logarithms):
        run = SIMULATED[regime](timescales(0.02, jnp.exp(logarithms[0]), jnp.exp(logarithms[1])))
        probe = lambda weights, slow: instruments.loss(CIRCUIT, weights, PROBLEM.inputs, PROBLEM.targets)  # noqa: E731
        return simulate(run, 5, probe, records=2, weights=WEIGHTS).probes[-1]

    at, h = f64([-1.0, 0.5]), 1e-4
    points = at[None] + h * f64([[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]])
    values, reverse = jax.jit(jax.vmap(jax.value_and_grad(loss)))(points)
    expected = (values[:2] - values[2:4]) / (2 * h)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(loss))(at), expected, rtol=1e-6)
    np.testing.assert_allclose(reverse[4], expected, rtol=1e-6)


def test_reverse_mode_through_sweeps_by_tolerance_is_refused_in_a_sentence():
    times, window = timescales(0.02, 1.0), integrators.Window(nodes=4, parts=1, gaps=True, judged=False)
    run = Coupled(CIRCUIT, times, stream(PROBLEM), clock(0.05, 0.02), integrator=window)
    end = lambda weights: simulate(run, 2, lambda now, slow: jnp.sum(now["W1"]), weights=weights).probes[-1]  # noqa: E731
    with pytest.raises(
        RuntimeError, match=r"Window\(sweeps=None\) .*: give a number of sweeps, as in Window\(sweeps=6"
    ):
        jax.grad(end)(WEIGHTS)


def test_a_jump_on_the_border_of_a_step_belongs_to_both_steps():
    """The share of a step, summed over steps, moves as the end does: by 1, with and without rounding."""

    def shares(on, error):
        shown = jax.vmap(lambda j: share_on(j, f64([3.0 + error]), on, f64([0.5, 0.5])))
        return shown(jnp.arange(10, dtype=jnp.float64))

    for error in (0.0, 4e-15, -4e-15):
        moved = jax.jacfwd(shares)(f64([4.0 - error]), error)
        np.testing.assert_allclose(moved.ravel(), [0, 0, 0, 0, 0, 0, 0.5, 0.5, 0, 0])


@pytest.mark.parametrize(("side", "expected"), [(0.0, 1.0), (0.5, 3.0), (1.0, 5.0)])
@pytest.mark.parametrize("error", [0.0, 1e-15, -1e-15])
def test_a_whole_number_of_steps_ago_the_slope_is_that_of_the_side(side, expected, error):
    """Rows 9, 4, 3 of ages 0, 1, 2: at age 1 the slopes are 5 later and 1 earlier."""
    rows, age = f64([9.0, 4.0, 3.0]), f64([0.0, 1.0, 2.0])
    slope = jax.grad(lambda back: hats(back, f64(0.0), age, f64(side))[0] @ rows)(f64(-1.0 + error))
    np.testing.assert_allclose(slope, expected)
