"""What the predictions on SGD as a mode share: the chain of two weights, orders of convergence, updates of all samples.

Units: tau_plast is 1 s, so that a presentation lasts eta seconds, and a sample has the loss r^2 / 2.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from scipy.integrate import solve_ivp

from dynamics.circuit import Circuit, Weights
from experiments.predictions.kit import f64, wired
from rules import SGD


def chain() -> Circuit:
    """z = w u x of two weights, by gradient descent."""
    return wired(SGD(), (1, 1, 1), activation="linear")


def chain_weights(u: object, w: object) -> Weights:
    """The two weights as matrices."""
    return {"W1": f64(u).reshape(1, 1), "W2": f64(w).reshape(1, 1)}


def charge(weights: Weights) -> Float[Array, ""]:
    """C = u^2 - w^2."""
    return (weights["W1"] ** 2 - weights["W2"] ** 2)[0, 0]


def apart(one: Weights, other: Weights) -> Float[Array, ""]:
    """The distance between two sets of matrices."""
    return jnp.sqrt(sum((jnp.sum((one[name] - other[name]) ** 2) for name in other), jnp.zeros(())))


def balance(
    start: tuple[float, float], rate: float, spread: float, bottom: float, more: Callable, times: np.ndarray
) -> np.ndarray:
    """C over C at the `start` of two weights after so many updates, which the noise of labels decays at `rate` each.

    The weights fluctuate about the valley u w = `bottom`, which adds to the squared residual the part `more` of a =
    `spread` (u^2 + w^2), `spread` being eta times the mean square of <x^2> over batches. C changes slowly beside them.
    """
    first = start[0] ** 2 - start[1] ** 2

    def fall(_: float, log: np.ndarray) -> np.ndarray:
        a = spread * np.sqrt((first * np.exp(log)) ** 2 + 4 * bottom**2)
        return np.log1p(-rate * (1 + more(a)))

    return np.exp(solve_ivp(fall, (0, max(times[-1], 1)), [0.0], t_eval=times, rtol=1e-8).y[0])


def of_updates(a: np.ndarray) -> np.ndarray:
    """What fluctuations of w -> w (1 - a x) + noise, <x> = 1, add to the noise, by that of the noise."""
    return a / (2 - a)


def eta_axis(panel: Axes, etas: np.ndarray) -> None:
    """Logarithmic axes over eta, with a tick at each value."""
    panel.set(xscale="log", yscale="log", xlabel="eta = T / tau_plast")
    panel.set_xticks(etas, [f"{eta:.3g}" for eta in etas])
    panel.minorticks_off()
    panel.tick_params(axis="x", labelsize="small")
