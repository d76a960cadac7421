#!/usr/bin/env bash
# reservoirpy 0.4.2 (with numpy 2.4.6, scipy 1.17.1, from PyPI; seen 2026-12-01): plastic reservoirs learn while they stand still.
#
# `LocalPlasticityReservoir.fit(x)` is said to apply a local rule to the recurrent weights at each step of a series x. One expects the
# reservoir to run through the series meanwhile, as `IPReservoir`, beside it, does. It does not: each step starts from the state before the
# first (`fit` in nodes/local_plasticity_reservoir.py throws away what a step returns). A fresh reservoir is at 0, so "hebbian",
# "anti-hebbian" and "bcm" leave the weights as they were drawn, to the last bit, whatever the input, "oja" shrinks and "anti-oja" grows
# each row as a whole, and with `synapse_normalization=True`, as in the help's example, what looks learned is the drawn matrix with its
# rows normalised. One that has run before learns an outer product with its one last state. Nothing warns, and no learning
# rate or number of epochs helps; what does is to call `step` and apply the rule to `state["internal"]` oneself.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check reservoirpy==0.4.2 numpy==2.4.6 scipy==1.17.1
cat > "$scratch/shown.py" <<'PY'
import numpy as np
from reservoirpy.nodes import LocalPlasticityReservoir

UNITS, ETA = 20, 1e-3
rng = np.random.default_rng(0)
DRAWN = 0.5 * rng.standard_normal((UNITS, UNITS)) / UNITS**0.5
IN, BIAS = 0.3 * rng.standard_normal((UNITS, 2)), np.zeros(UNITS)
SERIES = rng.standard_normal((500, 2))
RULES = {
    "hebbian": lambda w, x, y: np.outer(y, x),
    "anti-hebbian": lambda w, x, y: -np.outer(y, x),
    "bcm": lambda w, x, y: np.outer(y * y, x),
    "oja": lambda w, x, y: np.outer(y, x) - (y * y)[:, None] * w,
    "anti-oja": lambda w, x, y: (y * y)[:, None] * w - np.outer(y, x),
}


def node(rule, **options):
    return LocalPlasticityReservoir(local_rule=rule, eta=ETA, W=DRAWN.copy(), Win=IN, bias=BIAS, **options)


def learned(rule, running):
    """The weights by the help's equations, where the state runs on, or where it stays at 0."""
    w, x = DRAWN.copy(), np.zeros(UNITS)
    for u in SERIES:
        y = w @ np.tanh(x) + IN @ u + BIAS
        w += ETA * RULES[rule](w, x, y)
        x = y if running else x
    return w


def change(w):
    return np.linalg.norm(w - DRAWN) / np.linalg.norm(DRAWN)


for rule in RULES:
    fitted = node(rule).fit(SERIES)
    right = learned(rule, running=True)
    print(f"{rule}: the weights change by {change(fitted.W):.1%}, by the help's equations by {change(right):.1%}")
    assert change(right) > 0.02 and not fitted.state["out"].any(), "this has changed"
    assert np.allclose(fitted.W, learned(rule, running=False), rtol=1e-12), "this has changed"
    if "oja" in rule:
        rows = fitted.W / DRAWN
        print(f"  each row is its drawn one, times {rows[:, 0].min():.2f} to {rows[:, 0].max():.2f}")
        assert np.allclose(rows, rows[:, :1], rtol=1e-9), "this has changed"
    else:
        assert (fitted.W == DRAWN).all(), "this has changed"

normalised = DRAWN / np.linalg.norm(DRAWN, axis=1, keepdims=True)
for series in (SERIES, 3 * SERIES[::-1]):
    fitted = node("hebbian", synapse_normalization=True, epochs=5).fit(series)
    off = abs(fitted.W - normalised).max()
    print(f"hebbian, normalised, 5 epochs: off the drawn weights, normalised, by {off:.0e}")
    assert np.allclose(fitted.W, normalised, rtol=1e-12), "this has changed"

warm = node("hebbian")
warm.run(SERIES)
last = warm.state["internal"].copy()
found = np.linalg.svd(warm.fit(SERIES).W - DRAWN)
right = np.linalg.svd(learned("hebbian", running=True) - DRAWN)
second, second_right = found.S[1] / found.S[0], right.S[1] / right.S[0]
print("hebbian after a run: the second singular value of the change of weights, of the first:", end=" ")
print(f"{second:.0e}, by the help's equations {second_right:.2f}")
assert second < 1e-9 and second_right > 0.1, "this has changed"
assert np.isclose(abs(found.Vh[0] @ last), np.linalg.norm(last)), "this has changed"
PY
"$scratch/venv/bin/python" -W ignore "$scratch/shown.py"
