#!/usr/bin/env bash
# jaxley 0.14.0 (with jax 0.10.2, from PyPI; seen 2026-12-01): synapses without a current change the time constant of a cell.
#
# The current of `TanhRateSynapse`, the library's synapse between rates, depends on the presynaptic voltage alone, and is 0 at rest. So a
# cell with any number of inputs that stay at rest should charge through its leak as it does without them. It charges the faster
# the more they are, as the default solver, backward Euler, takes the slope of a synapse's current from a step in both voltages
# at once: what belongs to the presynaptic cell counts as a negative conductance g of the postsynaptic one, whose capacitance becomes C - g dt.
# At the default step and strength 100 inputs make 6 ms of its 10 ms, 300 let it explode, and inhibitory ones slow it down. It
# goes with the step, but a step short enough for the cells is many times too long for the network, and nothing says so.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check jaxley==0.14.0 jax==0.10.2 jaxlib==0.10.2
cat > "$scratch/shown.py" <<'PY'
import jax
import jax.numpy as jnp
import jaxley as jx
import numpy as np
from jaxley.channels import Leak
from jaxley.connect import fully_connect
from jaxley.synapses import TanhRateSynapse

jax.config.update("jax_enable_x64", True)
REST, AFTER = -70.0, 10.0  # mV: of the leak, where a synapse has no current; ms: the leak's time constant


def charged(inputs, step, strength=1e-4):
    """mV above rest, after a time constant of a constant current into a cell with so many inputs that stay at rest."""
    net = jx.Network([jx.Cell()] * (1 + inputs))
    net.insert(Leak())
    if inputs:
        fully_connect(net.cell(list(range(1, 1 + inputs))), net.cell(0), TanhRateSynapse())
        net.set("TanhRateSynapse_gS", strength)
    net.cell(0).stimulate(jnp.full(round(AFTER / step), 1e-4), verbose=False)
    net.record("v", verbose=False)
    voltages = np.asarray(jx.integrate(net, delta_t=step))
    assert (voltages[1:] == REST).all(), "an input has left its rest, and may have a current"
    return voltages[0, -1] - REST


area = 2 * np.pi * 1.0 * 10.0 * 1e-8  # cm2, of a cylinder of radius 1 um and length 10 um
exact = 1e-4 * 1e-6 / (1e-4 * area) * (1 - np.exp(-1))  # nA, over S/cm2, in mV
print(f"closed form, whatever the number of inputs: {exact:.4f} mV")
for inputs, step, strength, low, high in (
    (0, 0.025, 1e-4, 0.999, 1.001),
    (100, 0.025, 1e-4, 1.25, 1.31),
    (100, 0.025, -1e-4, 0.79, 0.85),
    (300, 0.025, 1e-4, -np.inf, -100.0),
    (100, 0.0025, 1e-4, 1.02, 1.03),
    (300, 0.0025, 1e-4, 1.06, 1.09),
):
    found = charged(inputs, step, strength)
    print(f"{inputs} inputs of {strength:+} uS (default 0.0001), steps of {step} ms (default 0.025): {found:.4f} mV")
    assert low < found / exact < high, "this has changed"
PY
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" -W ignore "$scratch/shown.py"
