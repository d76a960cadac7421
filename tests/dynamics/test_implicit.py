"""Sweeps that take the output layer's own plasticity along: the same limit, reached in fewer of them."""

import jax
import pytest

from dynamics.integrators import waveforms
from dynamics.integrators.implicit import taught
from tests.dynamics.windows import GAP, moved_apart, shown, windowed
from tests.problems import ENGINE_RULES, random_problem, timescales, wired

DEEP = random_problem((3, 4, 4, 2), activation="tanh", bias=False, samples=4)
FAST = timescales(propagation=0.02, plasticity=0.1)


def ends(rule, alone, monkeypatch, problem=DEEP, times=FAST, **settings):
    """The weights at the start and after three presentations; `alone`: by sweeps that take nothing along."""
    jax.clear_caches()  # programs do not know of what is patched
    if alone:
        monkeypatch.setattr(waveforms, "taught", lambda learning: ())
    circuit = wired(ENGINE_RULES[rule], problem.network)
    weights = circuit.initial_weights(jax.random.key(1))
    run = windowed(circuit, problem, times, **settings)
    end = run.weights(shown(run, weights, 3))
    monkeypatch.undo()
    return weights, end


@pytest.mark.parametrize(
    ("rule", "more"),
    [
        ("fa", {}),
        ("sgd", {"gap": GAP}),
        ("kp", {"lags": {"hop": 0.013, "error": 0.03}}),
    ],
)
def test_the_limit_of_the_sweeps_is_the_same(rule, more, monkeypatch):
    """With shared matrices, feedback that learns, late signals; of what fades nothing is taken along (see below)."""
    (start, plain), (_, along) = (ends(rule, alone, monkeypatch, tolerance=1e-11, **more) for alone in (True, False))
    assert moved_apart(start, along, plain) < 1e-9


def test_a_sweep_of_the_output_layer_alone_is_worth_two(monkeypatch):
    """In a network of one layer nothing but its own plasticity is left: two sweeps are four of the others, exactly."""
    one = random_problem((3, 2), bias=False, samples=4)
    start, four = ends("fa", True, monkeypatch, one, sweeps=4)
    _, two = ends("fa", False, monkeypatch, one, sweeps=2)
    _, fewer = ends("fa", True, monkeypatch, one, sweeps=2)
    assert moved_apart(start, two, four) < 1e-12 < 1e-4 < moved_apart(start, fewer, four)


def test_what_fades_is_not_taken_along(monkeypatch):
    """Rows that fade with what is learnt, and decay, change what a sweep says of a matrix until its end."""
    found = {}
    monkeypatch.setattr(waveforms, "taught", lambda learning: found.setdefault(len(found), taught(learning)))
    for rule, times in (("fa", FAST), ("oja", FAST), ("fa", timescales(propagation=0.02, plasticity=0.1, decay=3.0))):
        found.clear()
        circuit = wired(ENGINE_RULES[rule], DEEP.network)
        run = windowed(circuit, DEEP, times)
        jax.eval_shape(lambda w, run=run: shown(run, w, 1).state.weights, circuit.initial_weights(jax.random.key(1)))
        kinds = {tuple(nodes) for nodes in found.values()}
        taken = rule == "fa" and times.decay is None
        assert kinds == {(("z3", "activity"), ("z3", "error")) if taken else ()}
