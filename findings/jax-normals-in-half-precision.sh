#!/usr/bin/env bash
# jax 0.10.2 (with jaxlib 0.10.2, from PyPI; seen 2026-12-01): normal numbers drawn in half precision have a mean.
#
# One expects of `jax.random.normal(key, shape, jnp.bfloat16)` standard normal numbers, rounded. They are not rounded, but made of uniform
# numbers with the few bits of the type, each at the left end of its bin: of 128 values in all, none of which is above 2.52, where 0.6 % should
# be, and with a mean of -0.012 (float16: -0.002). Numbers drawn in float32 and rounded have none. In a simulation the mean is a
# force: it moves the stationary mean of an Ornstein-Uhlenbeck process by sqrt(2 / step) times as much, half a standard deviation at
# steps of a thousandth of its time constant, and finer steps, with which one checks convergence, make it worse. That the
# state is kept in float32 does not help; to draw in float32 does.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat > "$scratch/shown.py" <<'PY'
import functools

import jax
import jax.numpy as jnp
import numpy as np

COUNT, REPLICAS = 2**23, 4096


def rounded(key, shape):
    return jax.random.normal(key, shape, jnp.float32).astype(jnp.bfloat16)


def half(key, shape):
    return jax.random.normal(key, shape, jnp.float16)


def brain(key, shape):
    return jax.random.normal(key, shape, jnp.bfloat16)


@functools.partial(jax.jit, static_argnums=(0, 1))
def stationary(draw, steps):
    """The mean of x at 5 time constants from 0, in float32: dx = -x dt + sqrt(2) dW, whose stationary variance is 1."""
    size = 5 / steps

    def step(x, key):
        return x - size * x + jnp.sqrt(2 * size) * draw(key, (REPLICAS,)).astype(jnp.float32), None

    return jax.lax.scan(step, jnp.zeros(REPLICAS), jax.random.split(jax.random.key(1), steps))[0].mean()


for name, draw, mean, values in (
    ("float32, rounded to bfloat16", rounded, 0.0, None),
    ("float16", half, -0.0019, 1024),
    ("bfloat16", brain, -0.0117, 128),
):
    z = np.asarray(draw(jax.random.key(0), (COUNT,))).astype(np.float64)
    found = np.unique(z)
    values_told = f"{len(found)} values from {found[0]:.3f} to {found[-1]:.3f}"
    print(f"{name}: mean {z.mean():+.5f} +- {COUNT**-0.5:.5f}, {values_told}")
    assert abs(z.mean() - mean) < 6 * COUNT**-0.5 and values in (None, len(found)), "this has changed"
    moved = {5 / steps: float(stationary(draw, steps)) for steps in (50, 500, 5000)}
    told = ", ".join(f"{x:+.3f} at steps of {size:g}" for size, x in moved.items())
    print(f"  Ornstein-Uhlenbeck, stationary mean in standard deviations (+- {REPLICAS**-0.5:.3f}): {told}")
    assert all(abs(x - mean * (2 / size) ** 0.5) < 6 * REPLICAS**-0.5 for size, x in moved.items()), "this has changed"
PY
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" "$scratch/shown.py"
