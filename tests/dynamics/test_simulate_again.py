"""`simulate` once more: what is compiled again, and stages that go on with the state of the one before."""

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics import Delays, Discrete, FixedStep, Window, simulate
from dynamics.coupled import Coupled
from dynamics.errors import PlasticodeError
from dynamics.kept import Kept, forget
from rules import FA, SGD
from tests.compilations import compilations
from tests.dynamics.windows import SMALL
from tests.problems import clock, discrete, f64, random_weights, stream, timescales

CIRCUIT = FA().wire(SMALL.network)
WEIGHTS = random_weights(CIRCUIT)
PROGRAMS = sys.modules["dynamics.simulate"]._PROGRAMS  # the package has the function under this name
SCALE = 1.0


def updates(plasticity: Any, circuit=CIRCUIT) -> Discrete:
    return discrete(circuit, SMALL, timescales(plasticity=plasticity), clock(0.1))


def probe(weights, slow):
    return SCALE * sum(jnp.sum(jnp.sin(w)) for w in weights.values())


def ended(regime, presentations: Any = 4, of=probe, **options):
    return simulate(regime, presentations, of, records=2, weights=WEIGHTS, **options)


# What is compiled


def test_numbers_compile_nothing_and_count():
    ended(updates(1.0))
    before = compilations()
    again = ended(updates(2.0))
    assert compilations() == before
    forget()
    fresh = ended(updates(2.0))
    assert compilations() > before
    np.testing.assert_array_equal(again.probes, fresh.probes)
    assert again.probes[-1] != ended(updates(1.0)).probes[-1]


def test_what_a_name_in_a_probe_stands_for_now_counts(monkeypatch):
    first = ended(updates(1.0))
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    np.testing.assert_allclose(ended(updates(1.0)).probes, 2 * first.probes)


def test_other_programs_are_other_programs():
    one, two = ended(updates(1.0)), ended(updates(1.0, SGD().wire(SMALL.network)))
    assert one.probes[-1] != two.probes[-1]
    assert ended(updates(1.0), 7).presentations.tolist() == [0, 4, 7]
    assert ended(updates(1.0), 4, lambda weights, slow: jnp.zeros(())).probes.tolist() == [0, 0, 0]


def test_what_a_traced_probe_reads_is_not_kept():
    def last(scale):
        return ended(updates(1.0), of=lambda weights, slow: scale * probe(weights, slow)).probes[-1]

    ended(updates(1.0))
    kept = len(PROGRAMS._made)
    slope, value = jax.jit(jax.grad(last))(f64(3.0)), last(f64(1.0))
    np.testing.assert_allclose(slope, value)
    assert len(PROGRAMS._made) == kept + 1  # of the last call alone, which was not traced


def test_a_probe_that_cannot_be_told_from_others_runs():
    class Sum(eqx.Module):
        scale: jax.Array

        def __call__(self, weights, slow):
            return self.scale * probe(weights, slow)

    np.testing.assert_allclose(ended(updates(1.0), of=Sum(f64(2.0))).probes, 2 * ended(updates(1.0)).probes)


def test_what_was_used_longest_ago_is_let_go():
    kept = Kept(2)
    assert [kept.made(key, lambda key=key: key.upper()) for key in "abac"] == ["A", "B", "A", "C"]
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ("A", None, "C")
    forget()
    assert kept.get("a") is None


# Stages


def late(plasticity=0.5, error=0.02, **options) -> Coupled:
    known = {
        "time": clock(0.1, 0.0, 20),
        "by": FixedStep(tolerance=0.1),
        "propagation": 0.02,
        "stream": stream(SMALL),
    } | options
    times = timescales(known["propagation"], plasticity)
    return Coupled(
        CIRCUIT, times, known["stream"], known["time"], Delays(f64(error)), integrator=known["by"], history=12
    )


def test_stages_without_a_change_are_one_run():
    """Samples, states, the past and estimates go on, to the last bit."""
    for regime in (updates(1.0), late()):
        two, one = ended((regime, regime), (4, 2)), ended(regime, 6)
        assert two.presentations.tolist() == [0, 2, 4, 5, 6]
        assert two.probes[jnp.array([0, 2, 4])].tolist() != [float(two.probes[0])] * 3
        np.testing.assert_array_equal(two.probes[-1], one.probes[-1])
        np.testing.assert_array_equal(two.error_estimate, one.error_estimate)
        jax.tree.map(np.testing.assert_array_equal, two.weights, one.weights)


def test_each_stage_has_its_own_numbers():
    frozen = ended((updates(1.0), updates(jnp.inf), updates(2.0)), (4, 4, 4))
    assert len(frozen.probes) == 7 and frozen.probes[2] == frozen.probes[4] != frozen.probes[6]
    np.testing.assert_array_equal(frozen.probes[:3], ended(updates(1.0)).probes)
    before = compilations()
    ended((updates(2.0), updates(3.0), updates(jnp.inf)), (4, 4, 4))
    assert compilations() == before


def test_derivatives_go_through_stages():
    def last(plasticity):
        return ended((updates(1.0), updates(plasticity)), (4, 3)).probes[-1]

    h = 1e-5
    expected = (last(f64(2.0 + h)) - last(f64(2.0 - h))) / (2 * h)
    np.testing.assert_allclose(jax.jit(jax.grad(last))(f64(2.0)), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(last))(f64([2.0, 3.0])), [last(f64(2.0)), last(f64(3.0))])


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (updates(1.0), late(), "stage 1 (counted from 0) cannot go on with the state of the one before"),
        (late(), late(time=clock(0.2, 0.0, 20)), "stage 1 (counted from 0) has another clock than the one before, and"),
        (late(), late(stream=stream(SMALL, 4)), "has another stream than the one before, and constant lags remember"),
        (late(by=Window()), late(by=Window(), error=0.03), "has another lags than the one before"),
        (late(by=Window()), late(by=Window(), propagation=0.03), "has another timescales.propagation than the one"),
    ],
)
def test_stages_that_do_not_fit_are_refused(first, second, told):
    with pytest.raises(PlasticodeError) as refused:
        ended((first, second), (2, 2))
    assert told in str(refused.value)


def test_stages_need_presentations_each():
    with pytest.raises(PlasticodeError, match="got 2 regimes and presentations for 1"):
        ended((updates(1.0), updates(2.0)), 4)
