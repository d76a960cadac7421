"""The price of continuous time compares a correct discrete update with windows that are as accurate as they say."""

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import engine, price
from benchmarks.devices import ALL, JaxProgram
from benchmarks.workloads import T, Workload
from dynamics import Clock, Discrete, Network, Stream, Timescales
from rules import FA

TINY = Workload("A", (6, 5, 4, 3), 16, plasticity=(0.3, 0.6), reference_presentations=2, reference_steps=1000)


def test_the_yardstick_is_the_discrete_regime():
    """Six updates of four configurations by hand-written code, and by the engine's discrete regime."""
    problem = TINY.small_problem()
    ends = JaxProgram(problem, price.discrete, ALL, static=True).run(0, 6)
    number = functools.partial(jnp.asarray, dtype=jnp.float32)
    for i, (tau, seed) in enumerate(zip(problem.taus, problem.seeds, strict=True)):
        run = Discrete(
            FA(number(1.0)).wire(Network(TINY.sizes, bias=False, gain=number(1.0))),
            Timescales(number(1e-3), number(tau)),
            Stream(problem.inputs, problem.targets, jax.random.key(seed)),
            Clock(number(T), number(0.0), 1),
        )
        start = {f"W{level}": number(w[i]) for level, w in enumerate(problem.weights, 1)}
        start |= {f"V{level}": number(v[i]) for level, v in enumerate(problem.feedback, 2)}
        weights = run.weights(run.advance(run.init(start), jnp.int32(0), 6))
        for level, end in enumerate(ends, 1):
            np.testing.assert_allclose(end[i], weights[f"W{level}"], rtol=2e-6, atol=2e-7)


def test_configurations_are_blocks_of_neighbours():
    assert price.timed_problem(TINY, 16).seeds.tolist() == list(range(16))
    many = price.timed_problem(Workload("C", (3, 2), 64), 16).seeds.tolist()
    assert many == [*range(8), *range(56, 64)]
    assert price.timed_problem(Workload("D", (3, 2), 1), 1).seeds.tolist() == [0]


def test_prices_and_errors(monkeypatch):
    """A tiny network, one round: the first setting that meets the error is taken, windows cost more than one update."""
    monkeypatch.setattr(engine, "SHAPES", (2.1, 9.4, 12.6))
    tiny = replace(TINY, sizes=(4, 3, 2), configurations=8, reference_configurations=8)  # as many as are timed
    result = price.priced(tiny, configurations=8, presentations=60, rounds=1)
    assert result["median"]["setting"] == "9 nodes, 4 sweeps"
    assert result["median"]["error"] <= price.ERROR
    assert result["tolerance"]["worst_error"] <= price.ERROR
    assert result["median"]["ratio"] > 1
    assert result["tolerance"]["microseconds"] > result["discrete"]["microseconds"] > 0
    page = price.markdown(json.loads(json.dumps({"A": result})))
    assert "nodes" in page and "tolerance" in page and f"{result['median']['ratio']:.1f}x" in page


def test_unknown_workloads_are_refused(capsys):
    with pytest.raises(SystemExit):
        price.parse(["--workloads", "A,Z"])
    assert "Z: allowed are A, B, C, D" in capsys.readouterr().err
