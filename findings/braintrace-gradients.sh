#!/usr/bin/env bash
# braintrace 0.2.6 (with brainstate 0.5.4, jax 0.10.2, from PyPI; seen 2026-11-30): gradients of online learning that do not learn.
#
# `learner.etrace_grad` reads as "all gradients, online". With the default `vjp_method="single-step"` the linear readout, the
# library's own layer in a network as its docstrings build it, gets a gradient of exactly 0 from D_RTRL and from EProp, although
# dL/dW of a readout is an outer product that needs no trace. Nothing warns: the loss falls a little, as the recurrent weights learn,
# and the readout stays as it was drawn ("multi-step" gives it its gradient). And EProp with `feedback="random"`
# divides the learning signal by its norm: a hundredth of the error gives the same gradient, so that learning goes on at full
# speed at the target and never settles. Random feedback as published is linear in the error. Who compares rules by these
# gradients compares something else.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check braintrace==0.2.6 brainstate==0.5.4 brainevent==0.2.1 brainunit==0.5.2 \
    braintools==0.3.0 brainpy==2.8.2 brainpy.state==0.1.0 jax==0.10.2 jaxlib==0.10.2
cat > "$scratch/shown.py" <<'PY'
import brainstate
import braintrace
import jax
import jax.numpy as jnp
import numpy as np

INPUTS = jnp.asarray(np.random.default_rng(0).standard_normal((10, 2)), jnp.float32)


class Network(brainstate.nn.Module):
    """Two inputs, four recurrent units and a linear readout, all of braintrace."""

    def __init__(self):
        super().__init__()
        brainstate.random.seed(0)
        self.cell = braintrace.nn.ValinaRNNCell(2, 4, activation="tanh")
        self.out = braintrace.nn.Linear(4, 1)

    def update(self, x):
        return self.out(self.cell(x))


def norms(rule, error, options):
    """Norms of the gradients of recurrent weights and readout, where the output misses its target by the same at every step."""
    learner = braintrace.compile(Network(), rule, INPUTS[0], **options)

    def loss(x):
        y = learner(x)
        return 0.5 * jnp.sum((y - jax.lax.stop_gradient(y - error)) ** 2)

    found = learner.etrace_grad(INPUTS, step_fn=loss)
    return [float(np.hypot.reduce([float(jnp.linalg.norm(leaf)) for leaf in jax.tree.leaves(found[key])])) for key in found]


RANDOM = {"feedback": "random", "random_feedback_key": jax.random.key(1)}
for name, rule, options, readout_learns, follows_error in (
    ("D_RTRL", braintrace.D_RTRL, {}, False, True),
    ('D_RTRL, vjp_method="multi-step"', braintrace.D_RTRL, {"vjp_method": "multi-step"}, True, True),
    ("EProp", braintrace.EProp, {}, False, True),
    ('EProp, feedback="random"', braintrace.EProp, RANDOM, False, False),
):
    large, small = norms(rule, 1.0, options), norms(rule, 0.01, options)
    for error, (recurrent, readout) in ((1.0, large), (0.01, small)):
        print(f"{name}: error {error}: gradient of recurrent weights {recurrent:.4f}, of the readout {readout:.4f}")
    assert (large[1] > 0) == readout_learns, "this has changed"
    assert np.isclose(large[0] / small[0], 100.0 if follows_error else 1.0, rtol=1e-3), "this has changed"
PY
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" -W ignore "$scratch/shown.py"
