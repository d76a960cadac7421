"""Solvers on the coupled field: orders of convergence, adaptive steps, jumps of the stimulus, and what is refused."""

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.field import CoupledSystem, Inputs
from dynamics.integrators import Adaptive, FixedStep
from dynamics.integrators.solvers import SOLVERS, solver_named
from dynamics.noise import Noise
from tests.dynamics.systems import advance, coupled, show, two_layers
from tests.problems import clock, distance, f64, random_weights, timescales

TIGHT = Adaptive(f64(1e-11), f64(1e-13), "dopri5")
PROBLEM = two_layers(bias=False)
TIMES = timescales(propagation=0.05, plasticity=0.2, decay=3.0)
WEIGHTS = random_weights(coupled(PROBLEM, clock(steps=10)).circuit)


def presentation(dt):
    """The coupled field and its state at the start of a presentation; nothing jumps during it."""
    circuit = coupled(PROBLEM, clock(steps=10)).circuit
    system = CoupledSystem(circuit, TIMES, clock(dt, 0.0, 1), Delays(), Noise(), {"V2": WEIGHTS["V2"]})
    return system, system.initial_state(WEIGHTS), Inputs(PROBLEM.inputs[0], PROBLEM.targets[0], f64(1.0))


@eqx.filter_jit
def fixed(solver, dt, count):
    system, start, inputs = presentation(dt)
    return advance(system, start, count, solver, inputs_at=lambda j: inputs).weights


@eqx.filter_jit
def adaptive(integrator, duration):
    system, start, inputs = presentation(duration)
    end, arrived = integrator.run(system, start, inputs, f64(1.0))
    return end.weights, arrived


@pytest.fixture(scope="module")
def exact():
    weights, arrived = adaptive(TIGHT, f64(0.2))
    assert arrived
    return weights


@pytest.mark.parametrize(
    ("solver", "steps", "low", "high"),
    [
        ("euler", 128, 0.9, 1.1),
        ("heun", 128, 1.9, 2.1),
        ("tsit5", 16, 4.5, 7),
        ("dopri5", 16, 4.5, 7),
    ],
)
def test_order_of_convergence(solver, steps, low, high, exact):
    errors = [distance(fixed(solver, f64(0.2 / n), jnp.int32(n)), exact) for n in (steps, 2 * steps)]
    assert low < np.log2(errors[0] / errors[1]) < high


@pytest.mark.parametrize(("name", "tolerance"), [("heun", 1e-6), ("tsit5", 1e-9)])
def test_adaptive_steps_keep_to_their_tolerance_or_give_no_number(name, tolerance, exact):
    def solution(rtol):
        return adaptive(Adaptive(f64(rtol), f64(rtol), name), f64(0.2))

    fine, coarse = solution(tolerance), solution(1e-4)
    assert fine[1] and coarse[1]
    assert distance(fine[0], exact) < 10 * tolerance < 10 * distance(coarse[0], exact) < 1e-2
    out_of_steps, arrived = solution(1e-30)
    assert not arrived and all(jnp.isnan(w).all() for name, w in out_of_steps.items())


@pytest.mark.parametrize(
    ("solver", "steps", "tolerance"),
    [("tsit5", 24, 1e-6), ("heun", 2000, 1e-4)],  # the stimulus ends on a step, or inside one
)
def test_fixed_steps_pass_over_the_jumps_of_the_stimulus(solver, steps, tolerance, with_gaps):
    """A slope remembered from before a jump (first-same-as-last) would leave an error of first order.

    A step with a jump inside gets the mean of the stimulus: first order, as f(mean) is not the mean of f.
    """
    run = show(coupled(PROBLEM, clock(0.1, 0.05, steps), TIMES, solver=solver), WEIGHTS, jnp.int32(0), 3)
    assert distance(run.state.weights, with_gaps.weights) < tolerance
    assert distance(run.state.weights, {name: WEIGHTS[name] for name in run.state.weights}) > 0.1


@pytest.fixture(scope="module")
def with_gaps():
    """Three presentations with gaps by adaptive steps, which end where the stimulus ends."""
    return show(coupled(PROBLEM, clock(0.1, 0.05, 1), TIMES, integrator=TIGHT), WEIGHTS, jnp.int32(0), 3).state


def test_unknown_or_unfit_solvers_are_refused():
    with pytest.raises(PlasticodeError, match="integrator 'huen' is not known.*did you mean 'heun'"):
        FixedStep("huen")
    for name in ("euler", "milstein", "rk4"):
        with pytest.raises(PlasticodeError, match=f"integrator '{name}' has no error estimate.*dopri5, heun, tsit5"):
            Adaptive(name=name)
    assert isinstance(coupled(PROBLEM, clock(steps=10)), Coupled)


@pytest.mark.parametrize("name", SOLVERS)
def test_what_is_declared_of_a_solver_is_what_diffrax_says(name):
    solver, made = SOLVERS[name], solver_named(name)
    bases = {"ito": diffrax.AbstractItoSolver, "stratonovich": diffrax.AbstractStratonovichSolver}
    assert not isinstance(made, bases["stratonovich" if solver.calculus == "ito" else "ito"])
    assert isinstance(made, bases[solver.calculus]) or name in ("tsit5", "dopri5")  # of which diffrax says nothing
    assert solver.adaptive == isinstance(made, diffrax.AbstractAdaptiveSolver)
