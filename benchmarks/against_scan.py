"""Honesty benchmark: the engine's fixed-step coupled simulation against a hand-written `lax.scan` of the same network.

    python benchmarks/against_scan.py [--configurations 8] [--presentations 200] [--repeats 9]

Both integrate feedback alignment on a 64-64-10 tanh network by Euler steps, one configuration per plasticity timescale,
in one process and alternating, on one device. The final weights must agree; the ratio of the median times is printed.
The scan is written as a user would: plain arrays, nothing generic.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from dynamics import Clock, Coupled, Network, Stream, Timescales
from rules import FA

STEPS, T, TAU_PROP = 50, 0.05, 0.002


def problem(key: Array) -> tuple[Array, Array]:
    """Random inputs in [0, 1] and one-hot targets, the shapes of the digits."""
    inputs = jax.random.uniform(key, (1400, 64), jnp.float32)
    return inputs, jax.nn.one_hot(jnp.arange(1400) % 10, 10, dtype=jnp.float32)


def engine(inputs: Array, targets: Array, key: Array, presentations: int) -> tuple[Callable, Callable]:
    """(start, run) of the engine: `start(tau)` gives a state, `run(state, tau)` the final weights."""

    def coupled(tau: Array) -> Coupled:
        number = functools.partial(jnp.asarray, dtype=jnp.float32)
        network = Network((64, 64, 10), bias=False, gain=number(1.0))
        timescales = Timescales(number(TAU_PROP), tau, number(jnp.inf))
        clock = Clock(number(T), number(0.0), STEPS)
        return Coupled(FA(number(1.0)).wire(network), timescales, Stream(inputs, targets, key), clock)

    def start(tau: Array):
        run = coupled(tau)
        return run.init(run.circuit.initial_weights(key))

    def run(state, tau: Array) -> dict[str, Array]:
        regime = coupled(tau)
        return regime.weights(regime.advance(state, jnp.int32(0), presentations))

    return start, run


def hand_written(inputs: Array, targets: Array, key: Array, presentations: int) -> Callable:
    """The same simulation as one `lax.scan` over steps inside one over presentations."""
    dt = jnp.float32(T / STEPS)

    def run(weights: dict[str, Array], tau: Array) -> dict[str, Array]:
        v = weights["V2"]

        def step(carry, _, x, y):
            w1, w2, z1, z2, e1, e2 = carry
            a1, a2 = w1 @ x, w2 @ z1
            d1 = (1 - jnp.tanh(a1) ** 2) * (v @ e2)
            new = (
                w1 + jnp.outer(dt / tau * e1, x),
                w2 + jnp.outer(dt / tau * e2, z1),
                z1 + dt / TAU_PROP * (jnp.tanh(a1) - z1),
                z2 + dt / TAU_PROP * (a2 - z2),
                e1 + dt / TAU_PROP * (d1 - e1),
                e2 + dt / TAU_PROP * (y - z2 - e2),
            )
            return new, None

        def present(carry, k):
            i = jax.random.bits(jax.random.fold_in(key, k), (), jnp.uint32) % jnp.uint32(inputs.shape[0])
            return jax.lax.scan(functools.partial(step, x=inputs[i], y=targets[i]), carry, None, length=STEPS)[0], None

        hidden, output = jnp.zeros(64, jnp.float32), jnp.zeros(10, jnp.float32)
        carry = (weights["W1"], weights["W2"], hidden, output, hidden, output)
        carry, _ = jax.lax.scan(present, carry, jnp.arange(presentations, dtype=jnp.int32))
        return {"W1": carry[0], "W2": carry[1]}

    return run


def measure(configurations: int = 8, presentations: int = 200, repeats: int = 9) -> dict[str, float]:
    """Median seconds of both, their ratio, compile seconds, and the largest relative difference of final weights."""
    key = jax.random.key(0)
    inputs, targets = problem(key)
    taus = jnp.linspace(1, 5, configurations, dtype=jnp.float32)
    start, run = engine(inputs, targets, key, presentations)
    scan = hand_written(inputs, targets, key, presentations)
    state = jax.jit(jax.vmap(start))(taus)
    weights = {**state.fixed, **state.state.weights}
    began = time.perf_counter()
    ours = jax.jit(jax.vmap(run)).lower(state, taus).compile()
    compile_ours = time.perf_counter() - began
    began = time.perf_counter()
    theirs = jax.jit(jax.vmap(scan)).lower(weights, taus).compile()
    compile_theirs = time.perf_counter() - began
    end, reference = ours(state, taus), theirs(weights, taus)
    norm = jnp.linalg.norm
    differences = [norm(end[n] - reference[n]) / norm(reference[n] - weights[n]) for n in reference]
    times: dict[str, list[float]] = {"engine": [], "scan": []}
    for _ in range(repeats):
        for name, call in (("engine", lambda: ours(state, taus)), ("scan", lambda: theirs(weights, taus))):
            began = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - began)
    engine_s, scan_s = (statistics.median(times[name]) for name in ("engine", "scan"))
    return {
        "engine_seconds": engine_s,
        "scan_seconds": scan_s,
        "ratio": engine_s / scan_s,
        "engine_compile_seconds": compile_ours,
        "scan_compile_seconds": compile_theirs,
        "largest_relative_difference": float(max(differences)),
        "microseconds_per_step": engine_s / (configurations * presentations * STEPS) * 1e6,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=8)
    parser.add_argument("--presentations", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=9)
    for name, value in measure(**vars(parser.parse_args())).items():
        print(f"{name:>30}  {value:.4g}")


if __name__ == "__main__":
    main()
