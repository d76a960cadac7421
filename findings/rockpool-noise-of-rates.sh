#!/usr/bin/env bash
# rockpool 3.1.0 (with torch 2.13.0, numpy 2.4.6, from PyPI; seen 2026-12-01): noise of rate units that goes away with the step.
#
# `noise_std` of `RateTorch` is said to be the standard deviation of the noise after 1 s, added to the state: sigma of a Wiener process,
# so that a unit without input has a stationary standard deviation of sigma sqrt(tau / 2), as spiking units of the same library,
# `LIFTorch`, have. Rate units have dt / tau times as much, a twentieth at the default step and time constant, and a tenth of that at a
# tenth of the step: noise of size sqrt(dt) is added to the input, which a step then multiplies by dt / tau (`forward` in
# nn/modules/torch/rate_torch.py). `Rate`, in NumPy, is alike. Refining the step, with which one checks convergence, turns the noise
# off. And in `RateTorch` all trials of a batch have the same noise, to the last bit: the mean of a hundred trials is as
# noisy as one, and what noise makes of a network looks reproducible. `Rate` and `LIFTorch` draw it for each trial.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check rockpool==3.1.0 torch==2.13.0 numpy==2.4.6
cat > "$scratch/shown.py" <<'PY'
import numpy as np
import torch
from rockpool.nn.modules import LIFTorch, Rate, RateTorch

SIGMA, TAU, UNITS, TRIALS = 0.1, 0.02, 400, 5


def at_end(module, name, times):
    """The state of that name of every trial and unit, after so many steps without input."""
    none = torch.zeros(TRIALS, times, UNITS)
    with torch.no_grad():
        _, _, seen = module(none.numpy() if isinstance(module, Rate) else none, record=True)
    return np.asarray(seen[name])[:, -1]


torch.manual_seed(0)
np.random.seed(0)
stationary = SIGMA * (TAU / 2) ** 0.5
for step in (1e-3, 1e-4):
    lif = {"tau_mem": TAU, "tau_syn": TAU, "threshold": 1e6}
    for module, name, share, together in (
        (LIFTorch(UNITS, noise_std=SIGMA, dt=step, **lif), "vmem", 1.0, False),
        (Rate(UNITS, noise_std=SIGMA, dt=step, tau=TAU), "x", step / TAU, False),
        (RateTorch(UNITS, noise_std=SIGMA, dt=step, tau=TAU), "x", step / TAU, True),
    ):
        x = at_end(module, name, round(8 * TAU / step))
        spread, mean_spread = x.std(), x.mean(0).std()
        print(f"{type(module).__name__}, steps of {1000 * step:g} ms: standard deviation {spread:.6f}", end=" ")
        print(f"(exact {stationary:.6f}); of the mean of {TRIALS} trials, {mean_spread / spread:.2f} of that")
        assert abs(spread / stationary / share - 1) < 0.1, "this has changed"
        assert bool((x == x[0]).all()) == together, "this has changed"
        assert together == (mean_spread / spread > 0.9) and (together or mean_spread / spread < 0.6), "this has changed"
PY
"$scratch/venv/bin/python" -W ignore "$scratch/shown.py"
