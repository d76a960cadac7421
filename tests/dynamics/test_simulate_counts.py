"""Counts that `simulate` cannot run are refused in a sentence."""

import jax
import jax.numpy as jnp
import pytest

from dynamics import Clock, Coupled, Network, Stream, Timescales, Window, simulate
from dynamics.errors import PlasticodeError
from rules import FA


@pytest.mark.parametrize(("presentations", "records"), [(3, 0), (3, -1), (-1, 1)])
def test_counts_out_of_range_are_refused(presentations: int, records: int):
    stream = Stream(jnp.ones((2, 3)), jnp.ones((2, 2)), key=jax.random.key(0))
    clock = Clock(duration=0.05, gap=0.0, steps=1)
    circuit = FA().wire(Network(sizes=(3, 4, 2)))
    run = Coupled(circuit, Timescales(propagation=0.002, plasticity=0.5), stream, clock, integrator=Window())
    with pytest.raises(PlasticodeError, match=f"presentations = {presentations} and records = {records}"):
        simulate(run, presentations, lambda weights, slow: jnp.zeros(()), records=records)
