"""What late errors teach: each stimulus with its own error, and with those of others that arrive while it is on."""

import jax
import jax.numpy as jnp
import numpy as np

from dynamics.simulate import simulate
from dynamics.stimulus import Stream
from dynamics.theory import lagged_overlap
from experiments.predictions.kit import coupled, f64, wired
from rules import SGD

INPUTS, OUTPUTS, SAMPLES, SHOWN = 6, 4, 16, 6
STEPS_PER_LAG = 8
WEAK = 1e6  # tau_plast / T: the weight's own effect on the error is its inverse


def weight_changes(
    seed: int, delay: float, gaps: tuple[float, ...], propagation: float
) -> tuple[np.ndarray, np.ndarray]:
    """tau_plast W / T after `SHOWN` presentations from W = 0, and its closed form: each (gaps, OUTPUTS, INPUTS).

    One linear layer, gaussian inputs and independent gaussian targets. Times in units of T. Closed form: the sum over
    presentations k and j of lagged_overlap(d - j (T + g), T, 0, 1, tau_prop) y_k x_(k+j)^T, one error unit being the
    only filter.
    """
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((SAMPLES, INPUTS)), rng.standard_normal((SAMPLES, OUTPUTS))
    stream = Stream(f64(x), f64(y), jax.random.key(seed))
    circuit = wired(SGD(), (INPUTS, OUTPUTS), gain=f64(0.0))
    steps = round((1 + max(gaps)) / propagation * STEPS_PER_LAG)
    longest = int(np.ceil(delay / (1 + min(gaps)) * steps)) + 3

    def run(gap: jax.Array) -> jax.Array:
        regime = coupled(circuit, stream, propagation, WEAK, 1.0, steps, gap, late=f64(delay), history=longest)
        return WEAK * simulate(regime, SHOWN, lambda w, s: (), 1, key=jax.random.key(0)).weights["W1"]

    measured = np.asarray(jax.vmap(run)(f64(gaps)))
    order = np.asarray(jax.vmap(stream.index)(jnp.arange(SHOWN, dtype=jnp.int32)))
    expected = [_closed_form(x[order], y[order], delay, gap, propagation) for gap in gaps]
    return measured, np.stack(expected)


def _closed_form(x: np.ndarray, y: np.ndarray, delay: float, gap: float, propagation: float) -> np.ndarray:
    ahead = np.arange(SHOWN)[None, :] - np.arange(SHOWN)[:, None]  # j, for error k (rows) and stimulus k + j (columns)
    overlap = lagged_overlap(delay - ahead * (1 + gap), 1.0, 0, 1, propagation)
    return y.T @ overlap @ x
