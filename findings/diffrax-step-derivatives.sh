#!/usr/bin/env bash
# diffrax 0.7.2 (with jax 0.10.2, equinox 0.13.8, from PyPI; seen 2026-11-29): which derivatives go through `solver.step`.
#
# Who writes a loop of their own around `solver.step` (delays, inputs that jump) expects an explicit Runge-Kutta step to be
# an ordinary differentiable function. It is not: by default its loop over the stages knows derivatives in reverse mode only,
# so that `jax.jvp`, `jax.jacfwd` and Hessians raise a TypeError about custom_vjp, which names nothing of diffrax. With
# `scan_kind="lax"` it is the other way round, and only `scan_kind="bounded"` knows both. Euler, which has one stage, has no
# such loop: a program tested with Euler breaks when the solver becomes Heun.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check diffrax==0.7.2 jax==0.10.2 jaxlib==0.10.2 equinox==0.13.8
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" - <<'PY'
import diffrax
import jax
import jax.numpy as jnp


def after_one_step(rate, solver):
    """y' = -rate y from 1, one step of 0.1."""
    term, y = diffrax.ODETerm(lambda t, y, args: -args * y), jnp.asarray(1.0)
    state = solver.init(term, 0.0, 0.1, y, rate)
    return solver.step(term, 0.0, 0.1, y, rate, state, made_jump=False)[0]


def works(derivative):
    try:
        derivative()
    except (TypeError, ValueError) as error:
        print(f"    {type(error).__name__}: {str(error).splitlines()[0]}")
        return False
    return True


expected = {
    "Euler()": (diffrax.Euler(), True, True),
    "Heun()": (diffrax.Heun(), False, True),
    'Heun(scan_kind="lax")': (diffrax.Heun(scan_kind="lax"), True, False),
    'Heun(scan_kind="bounded")': (diffrax.Heun(scan_kind="bounded"), True, True),
}
for name, (solver, forward, reverse) in expected.items():
    found = (
        works(lambda: jax.jvp(lambda rate: after_one_step(rate, solver), (2.0,), (1.0,))),
        works(lambda: jax.grad(after_one_step)(2.0, solver)),
    )
    print(f"{name}: forward {found[0]}, reverse {found[1]}")
    assert found == (forward, reverse), "this has changed"
PY
