#!/usr/bin/env bash
# pyrates 1.2.3 (with numpy 2.4.6, scipy 1.17.1, from PyPI; seen 2026-12-01): the delay of an edge depends on the solver.
#
# An edge between rate units has a `delay`, and `run` a `solver`: its guides use "euler", take "heun" for a second stage, and offer "scipy"
# for adaptive steps, with delays too. One expects the same delay of each. Euler's is right. With Heun every delay is half as long,
# however short the steps: the vector field itself moves the buffer of past values on (`_add_edge_buffer` in ir/circuit.py), and Heun
# asks for it twice a step. With "scipy" delays are right, but a delay of exactly 1, in whatever unit, is none: there a 1 counts as "one
# step". And before the start, Euler and Heun read 0, "scipy" the initial value. So x' = -2 x(t - 1), which must oscillate and
# grow, as 2 > pi / 2, does so with Euler, dies out with Heun, and decays without any oscillation with "scipy". Finer steps confirm each.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check pyrates==1.2.3 numpy==2.4.6 scipy==1.17.1
cat > "$scratch/shown.py" <<'PY'
import math

import numpy as np
from pyrates import CircuitTemplate, NodeTemplate, OperatorTemplate


def solved(solver, delay, rate=1.0, until=3.0, step=0.01):
    """Times and values of x' = -rate x(t - delay) from 1: a unit that inhibits itself through an edge with a delay."""
    unit = OperatorTemplate(
        name="unit", path=None, equations=["x' = -x_in"], variables={"x": "output(1.0)", "x_in": "input(0.0)"}
    )
    node = NodeTemplate(name="node", path=None, operators=[unit])
    edge = ("a/unit/x", "a/unit/x_in", None, {"weight": rate, "delay": delay})
    circuit = CircuitTemplate(name="circuit", path=None, nodes={"a": node}, edges=[edge])
    how = {"simulation_time": until, "step_size": step, "sampling_step_size": step, "float_precision": "float64"}
    found = circuit.run(solver=solver, outputs={"x": "a/unit/x"}, verbose=False, **how)["x"]
    return np.asarray(found.index), found.values


def exact(times, delay, before):
    """The same with rate 1 by the method of steps, where x was `before`, which is 0 or 1, until the start."""
    if delay == 0:
        return np.exp(-times)
    terms = range(1, 2 + math.floor(times[-1] / delay))
    ages = [(k, times - (k - before) * delay) for k in terms]
    return 1 + sum((-1) ** k * np.maximum(age, 0) ** k / math.factorial(k) for k, age in ages)


for solver, before, share in (("euler", 0, 1.0), ("heun", 0, 0.5), ("scipy", 1, 1.0)):
    for delay in (0.5, 1.0, 2.0):
        for step in (0.01, 0.001):
            times, x = solved(solver, delay, step=step)
            candidates = (0.0, delay / 2, delay)
            errors = [max(abs(x - exact(times, candidate, before))) for candidate in candidates]
            found, error = candidates[np.argmin(errors)], min(errors)
            told = f"off the exact x by {error:.4f} at most, of a delay of {delay} by {errors[-1]:.4f}"
            print(f"{solver}, delay {delay}, steps of {step}: that of a delay of {found}, {told}")
            expected = 0.0 if (solver, delay) == ("scipy", 1.0) else share * delay
            assert found == expected and error < step, "this has changed"

for solver, delay, low, high in (
    ("euler", 1.0, 2.0, 20.0),
    ("heun", 1.0, 0.0, 0.1),
    ("heun", 2.0, 2.0, 20.0),
    ("scipy", 1.0, 0.0, 1e-3),
    ("scipy", 1.001, 2.0, 20.0),
):
    times, x = solved(solver, delay, rate=2.0, until=12.0)
    late = max(abs(x[times > 8]))
    print(f"x' = -2 x(t - {delay}), {solver}: from x = 1 to {late:.5f} at most, after a time of 8")
    assert low < late < high, "this has changed"
PY
cd "$scratch" && venv/bin/python -W ignore shown.py
