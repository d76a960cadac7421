#!/usr/bin/env bash
# ngclearn 3.2.1 (with ngcsimlib 3.1.1, jax 0.10.2, from PyPI; seen 2026-11-30): `HebbianSynapse` in time.
#
# Its `evolve(dt)` stands beside those of cells, which integrate tau dz/dt, and its help gives dW/dt = eta * pre * post. One expects a
# weight between two neurons at 1 to grow by eta * t, whatever the step. It falls: the default optimiser descends on the Hebbian
# product (`sign_value=-1` lets it grow), and `dt` is read by nothing, so that half of the step learns twice as fast. `BCMSynapse`,
# in the same folder and with the same signature, does multiply by dt / tau_w. A network tuned at 1 ms and refined to 0.25 ms
# to check convergence learns four times as fast with one and as before with the other.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check ngclearn==3.2.1 ngcsimlib==3.1.1 jax==0.10.2 jaxlib==0.10.2
cat > "$scratch/shown.py" <<'PY'
import jax.numpy as jnp
from ngclearn import Context, MethodProcess
from ngclearn.components import BCMSynapse, HebbianSynapse
from ngclearn.utils.distribution_generator import DistributionGenerator

ONE = jnp.ones((1, 1))


def after_100_ms(name, make, step):
    """The weight from 0, when both neurons have been at 1 for 100 ms, in steps of so many ms."""
    with Context(name):
        synapse = make(DistributionGenerator.constant(0.0))
        learning = MethodProcess("learning") >> synapse.evolve
    synapse.pre.set(ONE)
    synapse.post.set(ONE)
    for k in range(round(100 / step)):
        learning.run(t=k * step, dt=step)
    return float(synapse.weights.get()[0, 0])


def hebbian(zero):
    return HebbianSynapse("w", (1, 1), eta=1e-3, w_bound=0.0, weight_init=zero)


def bcm(zero):
    # A threshold that stays at 1/2: y (y - 1/2) / (1/2) = 1, as fast as the other at tau_w = 1000 ms.
    return BCMSynapse("w", (1, 1), tau_w=1e3, tau_theta=1e9, theta0=0.5, weight_init=zero)


print(HebbianSynapse.help()["dynamics"])
found = {}
for make in (hebbian, bcm):
    for step in (1.0, 0.5, 0.25):
        found[make, step] = after_100_ms(f"{make.__name__}{int(100 * step)}", make, step)
        print(f"{make.__name__}, steps of {step} ms: {found[make, step]:+.4f}")
for step in (1.0, 0.5, 0.25):
    assert abs(found[hebbian, step] + 0.1 / step) < 1e-3, "this has changed"
    assert abs(found[bcm, step] - 0.1) < 1e-3, "this has changed"
PY
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" -W ignore "$scratch/shown.py"
