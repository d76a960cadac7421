"""Solvers on the coupled field: orders of convergence, adaptive steps, jumps of the stimulus, and what is refused."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.coupled import Coupled, CoupledSystem, Inputs
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.integrators import Adaptive, FixedStep
from dynamics.noise import Noise
from tests.dynamics.systems import advance, coupled, show, two_layers
from tests.problems import clock, distance, f64, random_weights, timescales

TIGHT = Adaptive(f64(1e-11), f64(1e-13), "dopri5")
PROBLEM = two_layers(bias=True)
TIMES = timescales(propagation=0.05, plasticity=0.2, decay=3.0)
WEIGHTS = random_weights(coupled(PROBLEM, clock()).circuit)


def presentation(dt):
    """The coupled field and its state at the start of a presentation; nothing jumps during it."""
    circuit = coupled(PROBLEM, clock()).circuit
    system = CoupledSystem(circuit, TIMES, clock(dt, 0.0, 1), Delays(), Noise(), {"V2": WEIGHTS["V2"]})
    return system, system.initial_state(WEIGHTS), Inputs(PROBLEM.inputs[0], PROBLEM.targets[0], f64(1.0))


@eqx.filter_jit
def fixed(solver, dt, count):
    system, start, inputs = presentation(dt)
    return advance(system, start, count, solver, inputs_at=lambda j: inputs).weights


@eqx.filter_jit
def adaptive(integrator, duration):
    system, start, inputs = presentation(duration)
    return integrator.run(system, start, inputs, f64(1.0)).weights


@pytest.fixture(scope="module")
def exact():
    return adaptive(TIGHT, f64(0.2))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("tsit5", 5), ("dopri5", 5)])
def test_order_of_convergence(solver, order, exact):
    errors = [distance(fixed(solver, f64(0.2 / n), jnp.int32(n)), exact) for n in (8, 16, 32)]
    assert errors[2] > 1e-12  # above the error of the reference
    assert np.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.15 if order < 3 else 0.7)


@pytest.mark.parametrize("name", ["heun", "tsit5"])
def test_adaptive_steps_keep_to_their_tolerance(name, exact):
    loose, tight = (distance(adaptive(Adaptive(f64(r), f64(r), name), f64(0.2)), exact) for r in (1e-4, 1e-8))
    assert 1e-9 < loose < 1e-3 and tight < 1e-7 and tight < loose / 100


GAPS = clock(0.1, 0.05, 12)  # the stimulus ends on step 8 exactly


def test_high_order_solvers_keep_their_order_over_the_jumps_of_the_stimulus():
    """A slope remembered from before a jump (first-same-as-last) would leave an error of first order."""
    reference = show(coupled(PROBLEM, GAPS, TIMES, integrator=TIGHT), WEIGHTS, jnp.int32(0), 3).state.weights
    errors = []
    for steps in (12, 24):
        time = clock(0.1, 0.05, steps)
        run = show(coupled(PROBLEM, time, TIMES, solver="tsit5"), WEIGHTS, jnp.int32(0), 3)
        errors.append(distance(run.state.weights, reference))
    assert errors[0] < 1e-6 and errors[0] / errors[1] > 2**4


def test_adaptive_steps_handle_a_gap_off_the_grid():
    """The stimulus ends inside a step: adaptive steps end there, and many small fixed steps come close."""
    one_step, many = clock(0.1, 0.037, 1), clock(0.1, 0.037, 2000)
    run = show(coupled(PROBLEM, one_step, TIMES, integrator=TIGHT), WEIGHTS, jnp.int32(0), 3).state
    fine = show(coupled(PROBLEM, many, TIMES, solver="heun"), WEIGHTS, jnp.int32(0), 3).state
    assert distance(run.weights, fine.weights) < 1e-6
    assert distance(run.activity, fine.activity) < 1e-4


def test_a_solve_that_fails_is_not_a_number():
    failed = adaptive(Adaptive(f64(1e-12), f64(1e-14), "heun", max_steps=4), f64(0.2))
    assert all(jnp.isnan(w).all() for w in failed.values())


def test_unknown_or_unfit_solvers_are_refused():
    with pytest.raises(PlasticodeError, match="integrator 'huen' is not known.*did you mean 'heun'"):
        FixedStep("huen")
    for name in ("euler", "milstein", "rk4"):
        with pytest.raises(PlasticodeError, match=f"integrator '{name}' has no error estimate.*dopri5, heun, tsit5"):
            Adaptive(name=name)
    assert isinstance(coupled(PROBLEM, clock()), Coupled)
